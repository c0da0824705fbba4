//! What is written where.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;
use crewfleet_producer::{KickoffId, Reply, Status};
use serde::Serialize;
use serde_json::Value;

use super::exit::Exit;

/// Writes a line to stdout. A reader that has gone away (`| head -1`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// Says something to the person at stderr. Without a stderr there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "crewfleet: {text}");
}

/// As JSON, in one line.
pub(crate) fn one_line(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(value).context("cannot write JSON")?;
    // A crew's own JSON may be laid out over lines; outside of strings, where JSON has none, they are space.
    Ok(text.replace(['\n', '\r'], " "))
}

/// As in `1 file`, `2 files`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// A worker in a sentence, by its id.
pub(crate) fn worker(id: &str) -> String {
    match id.starts_with("worker") {
        true => id.to_owned(),
        false => format!("worker {id}"),
    }
}

/// A status in a sentence.
pub(crate) fn in_words(status: Status) -> String {
    status.as_str().replace('_', " ")
}

/// Prints the result of a kickoff to stdout, what went wrong to stderr, and gives the exit code.
pub(crate) fn reply(reply: &Reply, json: bool) -> anyhow::Result<Exit> {
    if let Some(error) = &reply.error {
        // An error of the kind `timed_out` says what the status says.
        let told = match error.kind == reply.status.as_str() {
            true => error.message.clone(),
            false => error.to_string(),
        };
        say(&format!(
            "kickoff {} {}: {told}",
            reply.kickoff_id,
            in_words(reply.status)
        ));
        let detail: Option<Value> = error
            .detail
            .as_ref()
            .and_then(|d| serde_json::from_str(d.get()).ok());
        // What was rejected is none of the crew's doing: a traceback would be ours.
        let detail = detail.filter(|_| reply.status != Status::Rejected);
        if let Some(traceback) = detail.as_ref().and_then(|d| d.get("traceback")?.as_str()) {
            let _ = writeln!(std::io::stderr(), "{}", traceback.trim_end());
        }
    }
    if let Some(repeated) = super::status::repeated(reply) {
        say(&format!("kickoff {}: {repeated}", reply.kickoff_id));
    }
    if json {
        print(&one_line(reply)?)?;
    } else if let Some(result) = &reply.result {
        print(&result.raw)?;
    }
    Ok(reply.status.into())
}

/// Says that a kickoff goes on without us, and how to come back to it.
pub(crate) fn gave_up(id: &KickoffId, why: impl Display) -> Exit {
    say(&format!(
        "{why}; kickoff {id} goes on. Its reply: crewfleet wait {id}"
    ));
    Exit::GaveUp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_statuses_are_words() {
        assert_eq!(
            (counted(1, "file"), counted(0, "byte")),
            ("1 file".into(), "0 bytes".into())
        );
        assert_eq!(
            (worker("worker-1"), worker("w-1")),
            ("worker-1".into(), "worker w-1".into())
        );
        assert_eq!(in_words(Status::TimedOut), "timed out");
    }
}
