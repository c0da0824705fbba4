//! What the store is told: by the streams, and by the gateway itself.

use std::fmt;
use std::sync::Arc;

use crewfleet_protocol::{BatchNews, ChainPlace, Event, Reply};
use serde_json::value::RawValue;

/// The streams that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    /// Events.
    History,
    /// Replies.
    Results,
    /// The requests that gateways took.
    Requests,
    /// What is to follow batches.
    Batches,
}

impl Stream {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Results => "results",
            Self::Requests => "http-requests",
            Self::Batches => "batches",
        }
    }
}

/// Where a message stands in its stream, and what makes it this one: the times in messages are those of several machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) place: u64,
    pub(crate) hash: u64,
}

/// Something that the store is told.
#[derive(Debug)]
pub(crate) enum News {
    /// An event, at its mark in the history; its `meta` is apart, since it is the caller's own.
    Event {
        mark: Mark,
        event: Arc<Event>,
        meta: Option<Box<RawValue>>,
    },
    /// A reply to a kickoff, and its bytes.
    Reply {
        mark: Mark,
        id: String,
        reply: Arc<Reply>,
        body: Vec<u8>,
    },
    /// A request that some gateway takes under this id.
    Request(Mark, Request),
    /// Something of a batch.
    Batch(Mark, BatchNews),
    /// A message that cannot be read, or is for nobody: it is passed.
    Passed(Stream, Mark),
    /// This gateway has published a kickoff.
    Taken {
        id: String,
        crew: String,
        meta: Option<String>,
        chain: Option<ChainPlace>,
    },
    /// Somebody paused, resumed or drained something here.
    Steered(Steered),
    /// The stream was read up to what it held at this moment (ms): what was published before is known.
    ReadTo(Stream, i64),
    /// What was older than this moment (ms) had left the stream before it was read.
    Missed(Stream, i64),
    /// It is another stream than the one that was read, and is read from its beginning.
    Replaced(Stream),
}

/// What somebody did to a crew or a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Steered {
    /// `crew` or `worker`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// `pause`, `resume` or `drain`.
    pub(crate) action: String,
    /// The name of the token that did it.
    pub(crate) token: String,
    /// When (ms).
    pub(crate) time: i64,
}

/// A request that came over HTTP. Its debug form has nothing of the body, which may hold secrets.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) crew: String,
    /// When it was taken (ms).
    pub(crate) time: i64,
    /// The protocol's hash of the body.
    pub(crate) body_hash: String,
    /// The id of the message by which it was taken.
    pub(crate) claim: String,
    /// The body of the request as it is published.
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut request = f.debug_struct("Request");
        request
            .field("id", &self.id)
            .field("crew", &self.crew)
            .finish_non_exhaustive()
    }
}

/// An event as it was stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) place: u64,
    /// Without its `meta`.
    pub(crate) event: Arc<Event>,
}
