//! What a worker would make of its crews: each is imported and built as at a worker's start, and nothing is served.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::sync::Arc;

use crewfleet_protocol::InputsSchema;
use crewfleet_service::config::Loaded;
use serde::Serialize;

use super::Workshop;
use crate::config::FileConfig;
use crate::crews;
use crate::error::WorkerError;
use crate::runner::Runner;

/// A crew of the configuration, as a worker would have it.
#[derive(Debug, Serialize)]
pub struct CheckedCrew {
    /// Its name.
    pub crew: String,
    /// `python`, `command` or `builtin`.
    pub runner: String,
    /// Why it cannot be built, with the key of the configuration; `null` when it can.
    pub trouble: Option<String>,
    /// The names of the inputs that it asks for; `null` where it does not say, as with the next one.
    pub inputs: Option<Vec<String>>,
    /// Those that a request must have.
    pub required_inputs: Option<Vec<String>>,
    /// The JSON Schema of them, as it is configured or as the crew tells it; `null` where there is none.
    pub inputs_schema: Option<InputsSchema>,
    /// `fork` or `spawn`; `null` where kickoffs start in one way only.
    pub isolation: Option<String>,
    /// Why, in sentences.
    pub isolation_reasons: Vec<String>,
    /// The folder that kickoffs stand in.
    pub working_dir: Option<String>,
    /// How they see it: `overlay` or `links`.
    pub files: Option<String>,
    /// The interpreter.
    pub python: Option<PathBuf>,
    /// Its version.
    pub python_version: Option<String>,
    /// That of CrewAI, where it is there.
    pub crewai: Option<String>,
    /// What is otherwise than where the crew runs by itself, in sentences.
    pub notes: Vec<String>,
}

/// Builds each crew of a configuration as a worker does at its start. It needs no broker, and no folder of a worker's.
///
/// # Errors
/// [`WorkerError`] where that cannot even begin. What is wrong with a crew is in its entry.
pub async fn check(mut config: Loaded<FileConfig>) -> Result<Vec<CheckedCrew>, WorkerError> {
    // The folder of a worker that runs here is its own.
    let folder = tempfile::tempdir().map_err(WorkerError::DataDir)?;
    config.config.worker.data_dir = Some(folder.path().join("data"));
    // Interpreters that wait for kickoffs would wait in vain.
    for crew in config.config.crews.values_mut() {
        crew.concurrency = 1;
    }
    let workshop = Workshop::open(&config.config, "check")?;
    let made = crews::make(&config.config, &workshop.pythons, &workshop.memory).await;
    let (mut checked, mut runners) = (Vec::new(), Vec::new());
    for (name, of_crew, made) in made? {
        let kind = of_crew.runner.as_str().to_owned();
        checked.push(match made {
            Ok(runner) => {
                runners.push(Arc::clone(&runner));
                let mut usable = CheckedCrew::usable(name.to_string(), kind, runner.as_ref());
                if let Some(configured) = of_crew.inputs_schema() {
                    usable.inputs_schema = Some(configured.clone());
                }
                usable
            }
            Err(unbuilt) => CheckedCrew::unusable(
                name.to_string(),
                kind,
                &config.invalid(unbuilt.problem).to_string(),
            ),
        });
    }
    workshop.close(&runners).await;
    Ok(checked)
}

impl Display for CheckedCrew {
    /// A line for each thing that there is to tell.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(trouble) = &self.trouble {
            return writeln!(
                f,
                "{}: cannot be built\n  {}",
                self.crew,
                trouble.replace('\n', "\n  ")
            );
        }
        writeln!(f, "{}: usable\n  runner       {}", self.crew, self.runner)?;
        let mut line = |name: &str, value: Option<String>| match value {
            Some(value) => writeln!(f, "  {name:<12} {value}"),
            None => Ok(()),
        };
        let names = |names: &Vec<String>| {
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        };
        line("inputs", self.inputs.as_ref().map(names))?;
        line("required", self.required_inputs.as_ref().map(names))?;
        let schema = self.inputs_schema.as_ref().map(|schema| schema.json().len());
        line(
            "schema",
            schema.map(|bytes| format!("{bytes} bytes of JSON Schema; --json has it")),
        )?;
        let why = self.isolation_reasons.join("; ");
        let why = if why.is_empty() { why } else { format!(": {why}") };
        line(
            "isolation",
            self.isolation
                .as_ref()
                .map(|isolation| format!("{isolation}{why}")),
        )?;
        let way = self
            .files
            .as_ref()
            .map(|way| format!(" ({way})"))
            .unwrap_or_default();
        line(
            "working dir",
            self.working_dir.as_ref().map(|folder| format!("{folder}{way}")),
        )?;
        let version = self.python_version.as_deref().unwrap_or_default();
        line(
            "python",
            self.python
                .as_ref()
                .map(|python| format!("{} ({version})", python.display())),
        )?;
        line("crewai", self.crewai.clone())?;
        self.notes
            .iter()
            .try_for_each(|note| line("note", Some(note.clone())))
    }
}

impl CheckedCrew {
    fn usable(crew: String, kind: String, runner: &dyn Runner) -> Self {
        let (hosting, environment) = (runner.hosting(), runner.environment());
        Self {
            crew,
            runner: kind,
            trouble: None,
            inputs: runner.inputs(),
            required_inputs: runner.required_inputs(),
            inputs_schema: runner.inputs_schema(),
            isolation: hosting.isolation,
            isolation_reasons: hosting.isolation_reasons,
            working_dir: hosting.working_dir,
            files: hosting.files,
            python: environment.python,
            python_version: environment.python_version,
            crewai: environment.crewai,
            notes: environment.notes,
        }
    }

    fn unusable(crew: String, kind: String, trouble: &str) -> Self {
        Self {
            crew,
            runner: kind,
            trouble: Some(trouble.to_owned()),
            inputs: None,
            required_inputs: None,
            inputs_schema: None,
            isolation: None,
            isolation_reasons: Vec::new(),
            working_dir: None,
            files: None,
            python: None,
            python_version: None,
            crewai: None,
            notes: Vec::new(),
        }
    }
}
