-- The chain that a kickoff is in, and its place in it as JSON.
ALTER TABLE kickoff ADD COLUMN chain_id TEXT;
ALTER TABLE kickoff ADD COLUMN chain TEXT;
CREATE INDEX kickoff_by_chain ON kickoff (chain_id, created, number) WHERE chain_id IS NOT NULL;
