//! What follows from an outcome: a reply and a dead letter, another attempt, or a requeue.
//!
//! | file | what it holds |
//! |---|---|
//! | [`ended`] | an attempt that has ended: which of these follows |
//! | [`retry`] | whether another attempt follows, and when |
//! | [`settle`] | publishing it, until the broker confirms |
//! | [`messages`], [`attempt`] | the messages, and what they say of an attempt |

pub(crate) mod attempt;
pub(crate) mod ended;
mod messages;
pub(crate) mod retry;
pub(crate) mod settle;
