//! Checks the protocol exhaustively, and that each deliberate bug in it is found.
#![allow(clippy::expect_used)]

mod bugs;
mod names;
mod scenarios;
