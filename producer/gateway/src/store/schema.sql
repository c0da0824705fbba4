-- How far the streams are read. What was read is written in the same transaction, so the two never disagree.
CREATE TABLE stream (
    name TEXT PRIMARY KEY,
    -- The message read last: where it stood, and a hash of its body, by which it is known again.
    place INTEGER NOT NULL,
    hash INTEGER NOT NULL,
    -- What is older than this moment (ms) may have left the stream before it was read. NULL: nothing did.
    known_since INTEGER
) WITHOUT ROWID;

CREATE TABLE kickoff (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    crew TEXT NOT NULL,
    status INTEGER NOT NULL,
    -- 0: it waits; 1: a worker has begun; 2: its crew has done something.
    progress INTEGER NOT NULL,
    -- A worker said that it has ended so, at this moment by our clock (ms); its reply is not here yet.
    ending INTEGER,
    ending_heard INTEGER,
    -- By this it is ordered: the moment in its id, else that of the first news of it (ms).
    created INTEGER NOT NULL,
    -- When there was news of it last, by our clock (ms): for so long after that it is kept.
    heard INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    attempt INTEGER NOT NULL,
    redrive INTEGER NOT NULL,
    worker TEXT,
    error_kind TEXT,
    error_message TEXT,
    fingerprint TEXT,
    tokens INTEGER,
    meta TEXT
);
CREATE INDEX kickoff_by_time ON kickoff (created, number);
CREATE INDEX kickoff_by_crew ON kickoff (crew, created, number);
CREATE INDEX kickoff_by_status ON kickoff (status, created, number);
CREATE INDEX kickoff_by_crew_and_status ON kickoff (crew, status, created, number);
CREATE INDEX kickoff_by_worker ON kickoff (worker, created, number) WHERE worker IS NOT NULL;
CREATE INDEX kickoff_by_fingerprint ON kickoff (fingerprint, created, number) WHERE fingerprint IS NOT NULL;
CREATE INDEX kickoff_ending ON kickoff (ending_heard) WHERE ending IS NOT NULL;

-- Those keys of `meta` that are searched by.
CREATE TABLE meta (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created INTEGER NOT NULL,
    kickoff INTEGER NOT NULL,
    PRIMARY KEY (key, value, created, kickoff)
) WITHOUT ROWID;
CREATE INDEX meta_of_kickoff ON meta (kickoff);

-- By their places in the stream of events.
CREATE TABLE event (
    place INTEGER PRIMARY KEY,
    kickoff INTEGER NOT NULL,
    type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    redrive INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    -- By the clock of its worker, and by ours (ms).
    time INTEGER NOT NULL,
    heard INTEGER NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX event_of_kickoff ON event (kickoff, place);
CREATE INDEX event_task ON event (kickoff, place) WHERE type = 'task_completed';

CREATE TABLE reply (
    kickoff INTEGER PRIMARY KEY,
    redrive INTEGER NOT NULL,
    -- By our clock (ms).
    heard INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX reply_by_time ON reply (heard);

-- The requests that came over HTTP, by kickoff id: they are here before anything else is.
CREATE TABLE request (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    crew TEXT NOT NULL,
    time INTEGER NOT NULL,
    body_hash TEXT NOT NULL,
    -- Which message it was: of two who take a request under one id at once, the first in the stream publishes it.
    claim TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    body BLOB NOT NULL
);

-- How much there is of each kind.
CREATE TABLE kept (
    kind TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO kept VALUES ('kickoff', 0, 0), ('event', 0, 0), ('reply', 0, 0), ('request', 0, 0);
