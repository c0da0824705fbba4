//! The way of one delivery: from a crew's queue to its ack.
//!
//! | file | what it holds |
//! |---|---|
//! | [`consumer`] | deliveries of a crew's queue, each in a task of its own |
//! | [`pipeline`] | one delivery: decode → admit → execute → settle → ack |
//! | [`admission`] | whether a kickoff may start, and when |
//! | [`asked`] | the webhooks that it asks for |
//! | [`room`], [`places`] | what it holds of the worker's limits while it runs |
//! | [`registry`], [`run_key`] | the kickoffs that run in this process |
//! | [`completed`] | those that have ended here lately |
//! | [`unacked`], [`faults`] | what a task has to settle, also after a panic of ours |

pub(crate) mod admission;
mod asked;
pub(crate) mod completed;
pub(crate) mod consumer;
mod faults;
pub(crate) mod pipeline;
pub(crate) mod places;
pub(crate) mod registry;
pub(crate) mod room;
pub(crate) mod run_key;
pub(crate) mod unacked;
