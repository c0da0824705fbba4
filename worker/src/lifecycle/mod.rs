//! The life of a worker, from its start to its end.
//!
//! | file | what it holds |
//! |---|---|
//! | [`service`] | one life: everything starts in order, serves, and ends |
//! | [`tasks`] | groups of tasks: start, stop, wait |
//! | [`parts`], [`part`] | the parts that run beside the kickoffs |
//! | [`panics`] | what happens when one of them panics |
//! | [`readiness`] | what is said of it: `/readyz`, systemd, the log |
//! | [`drain`] | letting what runs finish |

mod drain;
pub(crate) mod panics;
pub(crate) mod part;
mod parts;
mod readiness;
pub(crate) mod service;
pub(crate) mod tasks;
