//! What follows from an outcome: a reply and a dead letter ([`settle`]), another [`attempt`] ([`retry`]), or a requeue.
//! [`messages`] makes what is published for it.

pub(crate) mod attempt;
mod messages;
pub(crate) mod retry;
pub(crate) mod settle;
