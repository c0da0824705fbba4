-- When a batch was begun, by the clock of whoever did; not after we heard of it (ms).
ALTER TABLE batch ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
UPDATE batch SET opened = heard;
CREATE INDEX batch_by_opening ON batch (opened, id);
