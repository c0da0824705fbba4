//! What follows from an outcome: a reply and a dead letter, another attempt, or a requeue.
//!
//! | file | what it holds |
//! |---|---|
//! | [`ended`] | an attempt that has ended: which of these follows |
//! | [`retry`] | whether another attempt follows, and when |
//! | [`settle`] | publishing it |
//! | [`reply`] | the reply on its way to its requester |
//! | [`until_confirmed`] | publishing until the broker has it |
//! | [`messages`], [`attempt`] | the messages, and what they say of an attempt |

pub(crate) mod attempt;
pub(crate) mod ended;
mod messages;
pub(crate) mod reply;
pub(crate) mod retry;
pub(crate) mod settle;
pub(crate) mod until_confirmed;
