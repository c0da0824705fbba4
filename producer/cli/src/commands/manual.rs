//! `crewfleet completions SHELL`, `crewfleet man --output DIR`

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::Exit;
use crate::output::say;

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct Pages {
    /// The folder that they go to; it is made if it is missing
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn completions(arguments: &Completions, mut command: Command) -> Exit {
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut std::io::stdout());
    Exit::Succeeded
}

pub(crate) fn pages(arguments: &Pages, command: Command) -> anyhow::Result<Exit> {
    let folder = &arguments.output;
    let place = || folder.display().to_string();
    std::fs::create_dir_all(folder).with_context(place)?;
    clap_mangen::generate_to(command, folder).with_context(place)?;
    say(&format!(
        "written to {}; read one with man -l {}/crewfleet.1",
        place(),
        place()
    ));
    Ok(Exit::Succeeded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("man1");
        pages(
            &Pages {
                output: output.clone(),
            },
            crate::arguments::Cli::command(),
        )
        .unwrap();
        for page in [
            "crewfleet.1",
            "crewfleet-kickoff.1",
            "crewfleet-dead-letters-redrive.1",
        ] {
            let text = std::fs::read_to_string(output.join(page)).unwrap();
            assert!(text.contains(".TH"), "{page}");
        }
    }
}
