-- The keys of `meta` by which all kickoffs that are kept are found.
CREATE TABLE meta_key (key TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO meta_key SELECT DISTINCT key FROM meta;
