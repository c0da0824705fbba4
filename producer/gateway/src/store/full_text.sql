-- The words of inputs (at twice the kickoff's number) and of results (one behind). The texts themselves are kept once, where
-- they came; so what goes there goes here.
CREATE VIRTUAL TABLE IF NOT EXISTS text USING fts5 (body, content = '', contentless_delete = 1);

CREATE TRIGGER IF NOT EXISTS text_of_reply AFTER DELETE ON reply BEGIN
    DELETE FROM text WHERE rowid = old.kickoff * 2 + 1;
END;
CREATE TRIGGER IF NOT EXISTS text_of_request AFTER DELETE ON request BEGIN
    DELETE FROM text WHERE rowid = (SELECT number * 2 FROM kickoff WHERE id = old.id);
END;
CREATE TRIGGER IF NOT EXISTS text_of_kickoff AFTER DELETE ON kickoff BEGIN
    DELETE FROM text WHERE rowid IN (old.number * 2, old.number * 2 + 1);
END;
