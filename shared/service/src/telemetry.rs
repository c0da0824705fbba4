//! Structured logs on stderr: for people on a terminal, JSON lines otherwise.
//!
//! Every line of a kickoff is written inside a span with the fields `kickoff_id` and `crew`; in JSON they stand
//! at the top level, so that one `jq 'select(.kickoff_id == "…")'` shows a kickoff's whole story.

mod json_line;
mod lines;
mod panics;

use std::io::IsTerminal;

use json_line::JsonLine;
pub(crate) use lines::LOST;
use lines::Lines;
pub use panics::literal;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Switches logging on. `default` is the filter when `RUST_LOG` says nothing, as in `info` or `crewfleet=debug`.
///
/// A second call changes nothing: whoever embeds a worker may have logging of their own.
///
/// In JSON, lines are written by a thread of their own, and wait some milliseconds for others, warnings and errors
/// excepted. Where nobody reads them they are lost, and counted: nothing waits for a reader. What is returned waits until
/// they are written when it is dropped; [`flush`] does so before the process ends in another way.
#[must_use = "the last lines are written when it is dropped"]
pub fn init(default: &str) -> Logging {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let registry = tracing_subscriber::registry().with(filter);
    let already_set = if std::io::stderr().is_terminal() {
        // Whoever stops a terminal wants the program to stop, too.
        registry
            .with(fmt::layer().with_writer(std::io::stderr).with_target(false))
            .try_init()
    } else {
        let lines = Lines::start().map(BoxMakeWriter::new).unwrap_or_else(|error| {
            eprintln!("the log's thread does not start, so each line waits for its reader: {error}");
            BoxMakeWriter::new(std::io::stderr)
        });
        let json = fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_writer(lines);
        registry.with(json).try_init()
    };
    if already_set.is_ok() {
        panics::log();
    }
    Logging(())
}

/// Waits until all lines are written; for two seconds where nobody reads them.
pub fn flush() {
    lines::flush();
}

/// Logging that is switched on; see [`init`].
#[derive(Debug)]
pub struct Logging(());

impl Drop for Logging {
    fn drop(&mut self) {
        flush();
    }
}
