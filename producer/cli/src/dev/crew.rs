//! Which crew `crewfleet dev` serves, and the workers' configuration file.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use crewfleet_amqp::BrokerConfig;
use crewfleet_protocol::CrewName;
use crewfleet_service::interpreter::default_interpreter;
use serde_json::{Value, json};

use super::folder::{self, EXAMPLE, Folder};
use super::project::{self, Project};

/// The example crew's inputs, where none are given.
const EXAMPLE_INPUTS: [(&str, &str); 2] = [
    (
        "BUSINESS_DETAILS",
        "A family bakery in Lisbon with three shops and no online sales so far",
    ),
    (
        "PRODUCT_DESCRIPTION",
        "A sourdough subscription, delivered weekly by bicycle",
    ),
];

/// How long a Ctrl-C lets a kickoff finish, in seconds; what still runs then is requeued, and runs at the next start.
const DRAIN_GRACE_S: u32 = 5;
const CANCEL_GRACE_S: u32 = 2;
/// Names the interpreter where no option does.
const PYTHON_VARIABLE: &str = "CREWFLEET_PYTHON";
/// The name of the workers' configuration file.
pub(crate) const CONFIG: &str = "worker.toml";
/// The most characters in the name of a crew.
const MAX_NAME: usize = 64;

/// The crew, and the Python that runs it.
pub(crate) struct Crew {
    pub(crate) name: CrewName,
    pub(crate) python: PathBuf,
    pub(crate) named_by: NamedBy,
    target: String,
    path: PathBuf,
    example: bool,
}

/// Where the user has named interpreter and target: errors name the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedBy {
    pub(crate) python: &'static str,
    pub(crate) target: &'static str,
}

/// A crew of one's own, as arguments.
#[derive(Args)]
pub(crate) struct OwnCrew {
    /// Your own crew: package.module:Name, a Python file, crew.jsonc, flow.yaml or a project's folder [default: the
    /// project in the working directory, if its pyproject.toml has [tool.crewai]; else the example crew]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// The folder that holds the target's package [default: src if there is one, else the working directory]
    #[arg(long, value_name = "FOLDER", requires = "target")]
    path: Option<PathBuf>,
    /// The Python to run it with [default: CREWFLEET_PYTHON, else the project's .venv, else .crewfleet/python, else
    /// that of the virtual environment, else python3]
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
}

impl Crew {
    /// The crew of `--target` and `--path`, else of the project in the working directory, else the example. What a
    /// target may look like is the workers' business.
    ///
    /// # Errors
    /// When there is no such folder, or no example.
    pub(crate) fn choose(given: &OwnCrew) -> anyhow::Result<Self> {
        let (target, path, python) = (
            given.target.as_deref(),
            given.path.as_deref(),
            given.python.as_deref(),
        );
        let working = std::env::current_dir().context("the working directory cannot be told")?;
        let target_named_by = match target {
            Some(_) => "--target",
            None => "the project",
        };
        let (name, target) = match target {
            Some(target) => (name_of(target, &working)?, target.to_owned()),
            None => match Project::in_folder(&working)? {
                Some(project) => (
                    folder_name(&project.name())?,
                    project.folder().to_string_lossy().into_owned(),
                ),
                None => return Self::example(python),
            },
        };
        let (python, named_by) = choose_python(python, project::python(&working))?;
        Ok(Self {
            name,
            python,
            named_by: NamedBy {
                python: named_by,
                target: target_named_by,
            },
            target,
            path: choose_path(path)?,
            example: false,
        })
    }

    fn example(python: Option<&Path>) -> anyhow::Result<Self> {
        let Some(checkout) = folder::checkout() else {
            bail!(
                "there is no pyproject.toml with [tool.crewai] here, and the example crew ({EXAMPLE}) is not found. Run this in \
                 your project's folder, name a crew of your own (crewfleet dev --target package.module:MyCrew --path src), or \
                 run it in a checkout of crewfleet for the example"
            );
        };
        let (python, named_by) = choose_python(python, None)?;
        Ok(Self {
            name: CrewName::parse("marketing")?,
            python,
            named_by: NamedBy {
                python: named_by,
                target: "the project",
            },
            target: "marketing.crew:MarketingCrew".to_owned(),
            path: checkout.join(EXAMPLE),
            example: true,
        })
    }

    /// What is served, as a target.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Whether it is the example crew.
    pub(crate) fn is_example(&self) -> bool {
        self.example
    }

    /// As arguments of `--input`: what to kick it off with when nothing is given.
    pub(crate) fn own_inputs(&self) -> Vec<String> {
        let inputs = EXAMPLE_INPUTS.iter().filter(|_| self.example);
        inputs.map(|(name, text)| format!("{name}={text}")).collect()
    }

    /// Writes the configuration of the workers, and returns the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn configure(&self, folder: &Folder, broker: &BrokerConfig) -> anyhow::Result<PathBuf> {
        let file = folder.join(CONFIG);
        let text = self.configuration(folder, broker)?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// The configuration of a worker, as TOML. The broker's URL is not in it, since that may hold a password.
    ///
    /// # Errors
    /// When a folder that it names cannot be made.
    pub(crate) fn configuration(&self, folder: &Folder, broker: &BrokerConfig) -> anyhow::Result<String> {
        Ok(format!(
            "# Written by `crewfleet` at each start. The broker's URL comes by CREWFLEET__BROKER__URL.\n\
             [broker]\n\
             namespace = {namespace}\n\
             heartbeat_s = {heartbeat_s}\n\
             connect_timeout_s = {connect_timeout_s}\n\
             max_request_bytes = {max_request_bytes}\n\
             max_reply_bytes = {max_reply_bytes}\n\
             consumer_timeout_s = {consumer_timeout_s}\n\
             results_max_age_s = {results_max_age_s}\n\
             results_max_bytes = {results_max_bytes}\n\n\
             [worker]\n\
             admin_addr = \"127.0.0.1:0\"\n\
             data_dir = {data_dir}\n\
             drain_grace_s = {DRAIN_GRACE_S}\n\
             cancel_grace_s = {CANCEL_GRACE_S}\n\n\
             [crews.{name}]\n\
             runner = \"python\"\n\
             python = {python}\n\
             target = {target}\n\
             path = [{path}]\n\
             env = {{ {env} }}\n",
            // JSON's strings are TOML's too.
            namespace = json!(broker.namespace),
            heartbeat_s = broker.heartbeat_s,
            connect_timeout_s = broker.connect_timeout_s,
            max_request_bytes = broker.max_request_bytes,
            max_reply_bytes = broker.max_reply_bytes,
            consumer_timeout_s = broker.consumer_timeout_s,
            results_max_age_s = broker.results_max_age_s,
            results_max_bytes = broker.results_max_bytes,
            data_dir = json!(folder.join("data")),
            name = self.name,
            python = json!(self.python),
            target = json!(self.target),
            path = json!(self.path),
            env = self.environment(folder)?.join(", "),
        ))
    }

    /// What Python is told so that it writes into our folder only.
    fn environment(&self, folder: &Folder) -> anyhow::Result<Vec<String>> {
        let mut environment = vec![setting("PYTHONDONTWRITEBYTECODE", "1")];
        if self.example {
            // Importing CrewAI makes folders in the home. An own crew has its owner's home, and what is in it.
            environment.push(setting("HOME", folder.make("home")?.to_string_lossy()));
            if let (None, Some(home)) = (std::env::var_os("PYTHONUSERBASE"), std::env::var_os("HOME")) {
                // CrewAI may be installed there.
                let base = Path::new(&home).join(".local");
                environment.push(setting("PYTHONUSERBASE", base.to_string_lossy()));
            }
        }
        Ok(environment)
    }
}

/// A line of TOML.
fn setting(name: &str, value: impl Into<Value>) -> String {
    format!("{name} = {}", value.into())
}

/// `pkg.crew:MyCrew` is known as `pkg`; a path by the last folder in it that is more than `src`, else by its file.
fn name_of(target: &str, working: &Path) -> anyhow::Result<CrewName> {
    let place = Path::new(target.split(':').next().unwrap_or_default());
    let is_path =
        target.contains('/') || matches!(target, "." | "..") || place.extension().is_some_and(is_file_s);
    if !is_path {
        let package = target.split(['.', ':']).next().unwrap_or_default();
        let name = package.to_lowercase();
        return CrewName::parse(&name)
            .with_context(|| format!("--target {target}: {package:?} cannot name a crew"));
    }
    let place = working.join(place);
    let folder = if place.is_dir() {
        Some(place.as_path())
    } else {
        place.parent()
    };
    let folder = folder.and_then(|folder| folder.canonicalize().ok());
    let named = folder
        .as_deref()
        .and_then(Path::file_name)
        .filter(|name| *name != "src");
    let named = named.or_else(|| place.file_stem()).unwrap_or_default();
    folder_name(&named.to_string_lossy())
}

fn is_file_s(extension: &OsStr) -> bool {
    ["py", "json", "jsonc", "yaml", "yml"]
        .iter()
        .any(|known| extension == *known)
}

/// The name of a project or folder as that of a crew.
fn folder_name(name: &str) -> anyhow::Result<CrewName> {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let text: String = name.to_lowercase().chars().map(allowed).take(MAX_NAME).collect();
    CrewName::parse(&text).with_context(|| format!("{name:?} cannot name a crew; use --target"))
}

fn choose_path(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let usual = if Path::new("src").is_dir() { "src" } else { "." };
    let path = given.unwrap_or(Path::new(usual));
    if !path.is_dir() {
        bail!(
            "--path {}: no such folder; name the folder that holds the target's package, most often src",
            path.display()
        );
    }
    absolute(path)
}

/// `--python`, `CREWFLEET_PYTHON`, the project's own, that of `deploy/python-env.sh`, or the worker's default, in this
/// order. With what names it.
fn choose_python(given: Option<&Path>, own: Option<PathBuf>) -> anyhow::Result<(PathBuf, &'static str)> {
    let variable = std::env::var_os(PYTHON_VARIABLE).filter(|value| !value.is_empty());
    let named = match (given, variable) {
        (Some(python), _) => Some((python.to_owned(), "--python")),
        (None, Some(python)) => Some((PathBuf::from(python), PYTHON_VARIABLE)),
        (None, None) => None,
    };
    if let Some((python, named_by)) = named {
        // A bare name is looked up in PATH.
        let is_path = python.components().count() > 1;
        let python = if is_path { absolute(&python)? } else { python };
        return Ok((python, named_by));
    }
    let python = match own {
        Some(own) => own,
        None => {
            let checkout = folder::checkout().map(|checkout| checkout.join(".crewfleet"));
            let made = [Some(folder::home()?), checkout].into_iter().flatten();
            let mut made = made.map(|home| home.join("python/bin/python"));
            made.find(|python| python.exists())
                .unwrap_or_else(default_interpreter)
        }
    };
    Ok((python, "the Python"))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    // Links stay: the python of a virtual environment is one.
    std::path::absolute(path).with_context(|| format!("{}: not a path", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_crew_is_known_by_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("My Project");
        std::fs::create_dir_all(project.join("src/pkg")).unwrap();
        let name = |target: &str| name_of(target, &project);
        for (target, expected) in [
            ("pkg.crew:MyCrew", "pkg"),
            ("Crew:MyCrew", "crew"),
            ("my_crew.a.b:C", "my_crew"),
            ("my_crew.crew", "my_crew"),
            (".", "my_project"),
            ("src/pkg", "pkg"),
            ("src/pkg/crew.py:MyCrew", "pkg"),
            ("src/flow.yaml", "flow"),
            ("crew.jsonc", "my_project"),
        ] {
            assert_eq!(name(target).unwrap().as_str(), expected, "{target}");
        }
        let error = name("\u{e9}t\u{e9}.crew:C").unwrap_err();
        assert!(format!("{error:#}").contains("cannot name a crew"), "{error:#}");
    }
}
