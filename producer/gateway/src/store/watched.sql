-- Events that say that a kickoff ends with its readers.
CREATE INDEX event_watched ON event (kickoff) WHERE type = 'kickoff_watched';
