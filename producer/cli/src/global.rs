//! What all commands take.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(next_help_heading = "Global options")]
/// What all commands take.
pub(crate) struct Global {
    /// Configuration file; without it crewfleet.toml in the working directory, where there is one
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Broker, as amqp://USER:PASSWORD@HOST:5672/%2f; other users of this machine can see arguments, so for a
    /// secret rather use CREWFLEET__BROKER__URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) broker_url: Option<String>,
    /// What every exchange and queue name starts with
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}
