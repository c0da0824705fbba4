//! The `crewfleet` command.

mod cli;
mod dev;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A batch makes and reads messages by the thousand.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
