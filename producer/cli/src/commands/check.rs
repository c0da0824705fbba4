//! `crewfleet check`

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use clap::Args;

use crate::dev::workers;
use crate::exit::Exit;
use crate::global::Global;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write an array with an object for each crew
    #[arg(long)]
    json: bool,
}

/// The worker looks: it is what builds crews. It takes this process's place.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let program = workers::program()?;
    let mut command = Command::new(&program);
    command.arg("check");
    if let Some(config) = &global.config {
        command.arg("--config").arg(config);
    }
    if arguments.json {
        command.arg("--json");
    }
    Err(command.exec()).with_context(|| format!("{} does not start", program.display()))
}
