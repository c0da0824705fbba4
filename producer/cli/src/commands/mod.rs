//! A file a command.

pub(crate) mod batches;
pub(crate) mod cancel;
mod chains;
pub(crate) mod check;
pub(crate) mod control;
pub(crate) mod crews;
pub(crate) mod dead_letters;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod for_each;
pub(crate) mod gateway;
pub(crate) mod healthcheck;
pub(crate) mod kickoff;
pub(crate) mod kickoffs;
pub(crate) mod manual;
pub(crate) mod run;
pub(crate) mod sinks;
pub(crate) mod status;
mod steps;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod topology;
pub(crate) mod wait;
pub(crate) mod workers;
