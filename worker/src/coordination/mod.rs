//! What a worker reads from the fleet, and what it publishes to it.
//!
//! | file | what it holds |
//! |---|---|
//! | [`control`] | the control stream, read from its beginning on |
//! | [`commands`] | what was read there: cancels, crashes, starts |
//! | [`pause`], [`pauses`], [`renewal`] | paused crews, and pauses that are published again before the stream forgets them |
//! | [`broadcast`] | messages to the other workers |
//! | [`ownership`], [`peers`] | which worker runs a redelivered kickoff |
//! | [`queries`] | questions that any client may ask of a worker |
//! | [`heartbeat`] | the worker's heartbeat |

pub(crate) mod broadcast;
pub(crate) mod commands;
pub(crate) mod control;
pub(crate) mod heartbeat;
pub(crate) mod ownership;
pub(crate) mod pause;
pub(crate) mod pauses;
pub(crate) mod peers;
pub(crate) mod queries;
pub(crate) mod renewal;
