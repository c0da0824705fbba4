//! The kinds of sink.
//!
//! | file | what it holds |
//! |---|---|
//! | [`webhook`] | a URL that is called |
//! | [`orders`] | the calls that kickoffs ask for |
//! | [`amqp`] | an exchange |
//! | [`file`] | a file of JSON lines |
//! | [`postgres`] | tables |

pub(crate) mod amqp;
pub(crate) mod file;
pub(crate) mod orders;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod webhook;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::item::Item;
use crate::verdict::Verdict;

/// What is handed on: an item, and its body as it came.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) item: Item,
    pub(crate) body: Bytes,
}

/// Takes messages one by one, many at once.
pub(crate) trait Each: Send + Sync + 'static {
    /// Hands one on.
    fn deliver<'a>(&'a self, handed: &'a Handed) -> BoxFuture<'a, Verdict>;
}

/// Takes messages together, one after the other.
pub(crate) trait Batch: Send + Sync + 'static {
    /// Makes ready to take any: waits for what others hold, looks whether all is there.
    ///
    /// # Errors
    /// Why it can take none at present.
    fn prepare(&mut self) -> BoxFuture<'_, Result<(), String>>;

    /// Hands them on: a verdict for each, or why all of them wait.
    ///
    /// # Errors
    /// Why it takes none at present. None of them counts as handed on.
    fn deliver<'a>(&'a mut self, handed: &'a [Handed]) -> BoxFuture<'a, Result<Vec<Verdict>, String>>;
}

/// How a sink takes its messages.
pub(crate) enum Kind {
    Each(Box<dyn Each>),
    Batch(Box<dyn Batch>),
}
