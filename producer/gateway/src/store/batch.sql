-- Batches that have an end, by the news of them.
CREATE TABLE batch (
    id TEXT PRIMARY KEY,
    -- JSON.
    spec TEXT NOT NULL,
    -- Whether no more items come, and how many were refused.
    closed INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0,
    -- JSON, and when it was heard by our clock (ms).
    stopped TEXT,
    stopped_heard INTEGER,
    -- JSON.
    ended TEXT,
    -- When there was news of it last, by our clock (ms).
    heard INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX batch_open ON batch (id) WHERE ended IS NULL;
CREATE INDEX batch_by_time ON batch (heard);
