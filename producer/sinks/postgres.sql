-- The tables of sinks of kind "postgres". `crewfleet sinks ddl` prints this file. Run it as the tables' owner; the sink
-- itself needs no more than:
--   GRANT INSERT, SELECT ON crewfleet_kickoffs, crewfleet_events TO …;
-- You may add columns that are NULL or have a default, indexes, partitions and triggers. Names of tables are those of
-- [sinks.<name>] table and events_table.

-- One row a run: the first terminal reply of each redrive. The one that counts is that of the highest redrive.
CREATE TABLE IF NOT EXISTS crewfleet_kickoffs (
    kickoff_id   text        NOT NULL,
    redrive      bigint      NOT NULL,
    crew         text        NOT NULL,
    status       text        NOT NULL,
    attempt      bigint      NOT NULL,
    executions   bigint,
    worker       text        NOT NULL,
    requested_at timestamptz,
    started_at   timestamptz,
    finished_at  timestamptz NOT NULL,
    total_tokens bigint,
    result       jsonb,
    error        jsonb,
    meta         jsonb,
    received_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kickoff_id, redrive)
);
CREATE INDEX IF NOT EXISTS crewfleet_kickoffs_finished ON crewfleet_kickoffs (crew, finished_at);

-- One row an event, where the sink's `on` names types of events.
CREATE TABLE IF NOT EXISTS crewfleet_events (
    event_id    text        NOT NULL PRIMARY KEY,
    kickoff_id  text        NOT NULL,
    redrive     bigint      NOT NULL,
    attempt     bigint      NOT NULL,
    sequence    bigint      NOT NULL,
    crew        text        NOT NULL,
    type        text        NOT NULL,
    time        timestamptz NOT NULL,
    data        jsonb,
    meta        jsonb,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS crewfleet_events_kickoff ON crewfleet_events (kickoff_id, redrive, attempt, sequence);
