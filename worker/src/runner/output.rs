//! What a crew prints: to the log, line by line, with its kickoff's id, and as `log` events. Both are read at
//! terminals, so escapes are left out, and a progress bar, which writes over itself, is its last state.

use crewfleet_protocol::event::event_type;
use crewfleet_service::harmless::harmless;
use serde_json::json;
use tracing::info;

use crate::execution::events::EventSink;

/// A longer line is cut; what follows up to its end is dropped.
const MAX_LINE: usize = 16 * 1024;
/// After so many bytes of one stream the rest is dropped, and said so once: a crew that prints without end must
/// not fill the log.
const MAX_BYTES: usize = 1024 * 1024;

/// Cuts one stream of a kickoff's output into lines. A codec of tokio-util keeps a progress bar whole until its line feed
/// comes, and drops a line that is too long instead of cutting it.
pub(crate) struct Lines {
    stream: &'static str,
    events: Option<EventSink>,
    pending: Vec<u8>,
    /// A carriage return came: what follows, but for a line feed, writes over `pending`.
    returned: bool,
    bytes: usize,
    limit: usize,
    #[cfg(test)]
    seen: Vec<String>,
}

impl Lines {
    /// Output of a process that lives as long as its worker: it belongs to no kickoff, and there is no total to cut at.
    pub(crate) fn endless(stream: &'static str) -> Self {
        Self {
            limit: usize::MAX,
            ..Self::new(stream, None)
        }
    }

    /// Output of `stream` (`stdout` or `stderr`); without a sink it belongs to no kickoff, and is only logged.
    pub(crate) fn new(stream: &'static str, events: Option<EventSink>) -> Self {
        Self {
            stream,
            events,
            pending: Vec::new(),
            returned: false,
            bytes: 0,
            limit: MAX_BYTES,
            #[cfg(test)]
            seen: Vec::new(),
        }
    }

    /// Takes what was read.
    pub(crate) fn push(&mut self, mut data: &[u8]) {
        if self.bytes > self.limit {
            return;
        }
        self.bytes = self.bytes.saturating_add(data.len());
        while let Some(end) = data.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            self.extend(&data[..end]);
            if data[end] == b'\n' {
                self.flush();
            } else {
                self.returned = true;
            }
            data = &data[end + 1..];
        }
        self.extend(data);
        if self.bytes > self.limit {
            self.finish();
            self.line(&format!(
                "[the crew printed more than {MAX_BYTES} bytes; the rest is dropped]"
            ));
        }
    }

    /// Ends the last line, which may lack its line feed.
    pub(crate) fn finish(&mut self) {
        if !self.pending.is_empty() {
            self.flush();
        }
    }

    fn extend(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if std::mem::take(&mut self.returned) {
            self.pending.clear();
        }
        let room = MAX_LINE.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(&data[..data.len().min(room)]);
    }

    fn flush(&mut self) {
        self.returned = false;
        let pending = std::mem::take(&mut self.pending);
        self.line(&harmless(&pending));
    }

    fn line(&mut self, line: &str) {
        #[cfg(test)]
        self.seen.push(line.to_owned());
        info!(target: "crew", stream = self.stream, "{line}");
        if let Some(events) = &self.events {
            events.emit(event_type::LOG, &json!({"stream": self.stream, "line": line}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that these reads make.
    fn lines(reads: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new("stdout", None);
        for read in reads {
            lines.push(read);
        }
        lines.finish();
        lines.seen
    }

    #[test]
    fn a_line_that_spans_reads_is_one() {
        assert_eq!(lines(&[b"one t", b"wo\nthr", b"ee"]), ["one two", "three"]);
        assert_eq!(
            lines(&[
                "gr\u{fc}n".as_bytes().split_at(3).0,
                "gr\u{fc}n".as_bytes().split_at(3).1
            ]),
            ["gr\u{fc}n"]
        );
        assert_eq!(lines(&[b"\x1b[3", b"1mred\x1b[0m\n"]), ["red"]);
    }

    #[test]
    fn a_progress_bar_is_its_last_state() {
        assert_eq!(
            lines(&[b"\r 0%|   |", b"\r50%|#  |\r100%|###|\n", b"done\r\n"]),
            ["100%|###|", "done"]
        );
        assert_eq!(lines(&[b"loading\r", b"\nnext\r\n"]), ["loading", "next"]);
        assert_eq!(lines(&[b"last state\r"]), ["last state"]);
        // However often it writes, it takes no more room than one line.
        let bar = b"\r".iter().chain(&[b'#'; 1000]).copied().collect::<Vec<u8>>();
        let shown = lines(&[&bar.repeat(100), b"\rend\n"]);
        assert_eq!(shown, ["end"]);
    }

    #[test]
    fn too_much_is_cut_and_said_once() {
        let shown = lines(&[&[b'x'; MAX_BYTES], b"\nmore\n", b"more\n"]);
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown[2].contains("the rest is dropped"));
    }
}
