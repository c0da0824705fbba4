//! Kickoffs through a fleet while faults hit it, and a check of what became of each: see `crewfleet_tests::campaign`.
//!
//! ```text
//! cargo run -p crewfleet-tests --bin campaign -- --kickoffs 600 --seed 7 --faults all
//! cargo run -p crewfleet-tests --bin campaign -- --kickoffs 50 --faults worker_sigkill --fault-count 3
//! ```

use std::process::ExitCode;

use clap::Parser;
use crewfleet_tests::campaign::{
    caller, crew, gateway,
    options::{Arguments, Role},
    producer, run,
};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Worker { config }) => crew::worker(&config).await?,
        Some(Role::Crew) => crew::program()?,
        Some(Role::Producer(arguments)) => producer::run(&arguments).await?,
        Some(Role::Caller(arguments)) => caller::run(&arguments).await?,
        Some(Role::Gateway(arguments)) => gateway::run(&arguments).await?,
        None if !run::run(&arguments.options).await? => return Ok(ExitCode::FAILURE),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}
