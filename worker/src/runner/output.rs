//! What a crew prints: to the log, line by line, with its kickoff's id, and as `log` events.

use crewfleet_shared::kickoff::event::event_type;
use serde_json::json;
use tracing::info;

use crate::events::EventSink;

/// A longer line is cut; what follows up to its end is dropped.
const MAX_LINE: usize = 16 * 1024;
/// After so many bytes of one stream the rest is dropped, and said so once: a crew that prints without end must
/// not fill the log.
const MAX_BYTES: usize = 1024 * 1024;

/// Cuts one stream of a kickoff's output into lines.
pub(crate) struct Lines {
    stream: &'static str,
    events: Option<EventSink>,
    pending: Vec<u8>,
    bytes: usize,
}

impl Lines {
    /// Output of `stream` (`stdout` or `stderr`); without a sink it belongs to no kickoff, and is only logged.
    pub(crate) fn new(stream: &'static str, events: Option<EventSink>) -> Self {
        Self {
            stream,
            events,
            pending: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes what was read.
    pub(crate) fn push(&mut self, mut data: &[u8]) {
        if self.bytes > MAX_BYTES {
            return;
        }
        self.bytes += data.len();
        while let Some(end) = data.iter().position(|b| *b == b'\n') {
            self.extend(&data[..end]);
            self.flush();
            data = &data[end + 1..];
        }
        self.extend(data);
        if self.bytes > MAX_BYTES {
            self.flush();
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
        let room = MAX_LINE.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(&data[..data.len().min(room)]);
    }

    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.line(String::from_utf8_lossy(&pending).trim_end_matches('\r'));
    }

    fn line(&self, line: &str) {
        info!(target: "crew", stream = self.stream, "{line}");
        if let Some(events) = &self.events {
            events.emit(event_type::LOG, &json!({"stream": self.stream, "line": line}));
        }
    }
}
