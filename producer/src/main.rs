//! The `crewfleet` command.

mod cli;
mod dev;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
