//! Checks the protocol exhaustively, and that each deliberate bug in it is found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unused_crate_dependencies
)]

mod bugs;
mod names;
mod scenarios;
