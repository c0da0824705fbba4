//! What is written where.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;
use crewfleet::{KickoffId, Reply, Status};
use crewfleet_protocol::KickoffResult;
use crewfleet_service::harmless::harmless;
use crewfleet_service::told;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure;

/// How many files are named when a kickoff has ended.
const MOST_FILES: usize = 5;

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
    told::one_line(value).context("cannot write JSON")
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
    let id = &reply.kickoff_id;
    let more = More {
        traceback: format!("crewfleet wait {id} -o json"),
        files: Some(format!("crewfleet files {id}")),
    };
    reply_with(reply, json, &more)
}

/// Where there is more of a reply than is printed.
pub(crate) struct More {
    /// What prints the whole traceback.
    pub(crate) traceback: String,
    /// What gets the files, unless they are here.
    pub(crate) files: Option<String>,
}

/// As [`reply`].
pub(crate) fn reply_with(reply: &Reply, json: bool, more: &More) -> anyhow::Result<Exit> {
    let id = &reply.kickoff_id;
    if let Some((headline, traceback)) = failure::told(reply) {
        say(&format!("kickoff {id} {}: {headline}", in_words(reply.status)));
        if let Some(traceback) = traceback {
            for line in failure::excerpt(&traceback) {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            if !json {
                say(&format!("the whole traceback: {}", more.traceback));
            }
        }
    }
    if let Some(repeated) = failure::repeated(reply) {
        say(&format!("kickoff {}: {repeated}", reply.kickoff_id));
    }
    if json {
        print(&one_line(reply)?)?;
    } else if let Some(result) = &reply.result {
        print(&result.raw)?;
        if let Some(files) = files(result) {
            let how = more.files.as_ref().map(|how| format!(" ({how})"));
            say(&(files + &how.unwrap_or_default()));
        }
    }
    Ok(reply.status.into())
}

/// The files that a kickoff left, as in `2 files: poem.md, notes.txt`; `None` where there are none.
fn files(result: &KickoffResult) -> Option<String> {
    let left_out = result.files_left_out.as_ref().map_or(0, |files| files.count);
    let count = result.files.len() as u64 + left_out;
    let paths = result.files.iter().take(MOST_FILES);
    let mut paths: Vec<_> = paths.map(|file| harmless(file.path.as_bytes())).collect();
    if count > paths.len() as u64 {
        paths.push("…".to_owned());
    }
    (count > 0).then(|| format!("{}: {}", counted(count, "file"), paths.join(", ")))
}

/// Says that a kickoff goes on without us, and how to come back to it.
pub(crate) fn gave_up(id: &KickoffId, why: impl Display) -> Exit {
    say(&format!(
        "{why}; kickoff {id} goes on. Its reply: crewfleet wait {id}"
    ));
    Exit::GaveUp
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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

    #[test]
    fn files_are_counted_and_named() {
        let result = |count: usize, left_out: u64| {
            let files = (0..count)
                .map(|n| format!(r#"{{"path": "{n}.md", "bytes": 1, "sha256": ""}}"#))
                .collect::<Vec<_>>();
            let left_out = format!(r#"{{"count": {left_out}, "bytes": 1, "first": "x"}}"#);
            let text = format!(
                r#"{{"raw": "", "files": [{}], "files_left_out": {left_out}}}"#,
                files.join(",")
            );
            files_of(&text)
        };
        fn files_of(text: &str) -> Option<String> {
            files(&serde_json::from_str(text).unwrap())
        }
        assert_eq!(files_of(r#"{"raw": ""}"#), None);
        assert_eq!(result(1, 0).unwrap(), "1 file: 0.md");
        assert_eq!(result(2, 0).unwrap(), "2 files: 0.md, 1.md");
        assert_eq!(result(6, 3).unwrap(), "9 files: 0.md, 1.md, 2.md, 3.md, 4.md, …");
    }
}
