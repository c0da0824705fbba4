//! What a Python crew's section must say.

use crewfleet_amqp::Problem;

use super::CrewConfig;

impl CrewConfig {
    pub(super) fn check_python(&mut self, key: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        if self.target.is_none() {
            let problem = "runner = \"python\" needs a target, as in target = \"package.crew:MyCrew\"";
            return Err(Problem::new(key("target"), "none", problem));
        }
        for folder in &mut self.path {
            let absolute = std::path::absolute(&*folder).ok().filter(|p| p.is_dir());
            let Some(absolute) = absolute else {
                let problem = "is not a folder (relative paths start at that of the configuration file)";
                return Err(Problem::new(key("path"), folder.display(), problem));
            };
            *folder = absolute;
        }
        if let Some(folder) = &mut self.working_dir {
            let absolute = std::path::absolute(&*folder).ok().filter(|p| p.is_dir());
            let Some(absolute) = absolute else {
                let problem =
                    "is not a folder; name the project's, which has pyproject.toml, or leave the key out";
                return Err(Problem::new(key("working_dir"), folder.display(), problem));
            };
            *folder = absolute;
        }
        self.refuse_others(key, &[("command", !self.command.is_empty())])
    }
}
