//! What the section of a program must say.

use std::path::PathBuf;

use crewfleet_amqp::Problem;

use super::CrewConfig;

impl CrewConfig {
    /// The program runs in the kickoff's own folder, so its path must not depend on ours.
    pub(super) fn find_program(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let program = PathBuf::from(&self.command[0]);
        let found = if self.command[0].contains('/') {
            std::path::absolute(&program).ok().filter(|path| path.is_file())
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .map(|dir| dir.join(&program))
                .find(|path| path.is_file())
        };
        let Some(found) = found.and_then(|path| path.into_os_string().into_string().ok()) else {
            let problem = "is no program (relative paths start at the configuration file's folder, plain names are looked up in PATH)";
            return Err(Problem::new(
                key("command"),
                format!("{:?}", self.command[0]),
                problem,
            ));
        };
        self.command[0] = found;
        Ok(())
    }
}
