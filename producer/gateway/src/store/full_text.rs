//! The words of inputs and results, where that is switched on.

use crewfleet_protocol::{KickoffRequest, Reply};
use rusqlite::{Connection, params};

/// So much of a text is searched, in bytes.
const LONGEST: usize = 64 * 1024;

/// Makes the index, or takes it away. It holds what comes from then on.
pub(super) fn switch(db: &Connection, on: bool) -> rusqlite::Result<()> {
    db.execute_batch(match on {
        true => include_str!("full_text.sql"),
        false => {
            "DROP TRIGGER IF EXISTS text_of_reply; DROP TRIGGER IF EXISTS text_of_request; \
             DROP TRIGGER IF EXISTS text_of_kickoff; DROP TABLE IF EXISTS text"
        }
    })
}

/// The words of a kickoff's inputs.
pub(super) fn add_inputs(db: &Connection, kickoff: i64, body: &[u8]) -> rusqlite::Result<()> {
    // A gateway wrote it.
    match serde_json::from_slice::<KickoffRequest>(body) {
        Ok(request) => add(db, kickoff * 2, request.inputs.get()),
        Err(_) => Ok(()),
    }
}

/// The words of its result, or of why it has none; those of a reply before it go.
pub(super) fn add_result(db: &Connection, kickoff: i64, reply: &Reply) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM text WHERE rowid = ?")?
        .execute([kickoff * 2 + 1])?;
    let raw = reply.result.as_ref().map(|result| &result.raw);
    let text = raw.or_else(|| reply.error.as_ref().map(|error| &error.message));
    text.map_or(Ok(()), |text| add(db, kickoff * 2 + 1, text))
}

fn add(db: &Connection, row: i64, text: &str) -> rusqlite::Result<()> {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    let mut add = db.prepare_cached("INSERT INTO text (rowid, body) VALUES (?, ?)")?;
    add.execute(params![row, text])?;
    Ok(())
}
