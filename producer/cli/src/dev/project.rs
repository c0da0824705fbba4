//! The project in the working directory, where that is one of CrewAI's.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

const PYPROJECT: &str = "pyproject.toml";
const VENV_PYTHON: &str = ".venv/bin/python";

/// A folder whose `pyproject.toml` has `[tool.crewai]`. Which crew or flow that means is the workers' business.
pub(crate) struct Project {
    folder: PathBuf,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Pyproject {
    project: Option<Named>,
    tool: Option<Tool>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    crewai: Option<toml::Table>,
}

impl Project {
    /// The project in `folder`, which is absolute; `None` where there is none.
    ///
    /// # Errors
    /// When its `pyproject.toml` cannot be read.
    pub(crate) fn in_folder(folder: &Path) -> anyhow::Result<Option<Self>> {
        let file = folder.join(PYPROJECT);
        if !file.is_file() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let read: Pyproject = toml::from_str(&text)
            .with_context(|| format!("{} is no pyproject.toml; correct it", file.display()))?;
        let is_crewais = read.tool.and_then(|tool| tool.crewai).is_some();
        let name = read.project.and_then(|project| project.name);
        Ok(is_crewais.then(|| Self {
            folder: folder.to_owned(),
            name,
        }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the project calls itself, else the name of its folder.
    pub(crate) fn name(&self) -> String {
        let folder = self.folder.file_name().map(|name| name.to_string_lossy());
        self.name
            .clone()
            .unwrap_or_else(|| folder.unwrap_or_default().into_owned())
    }
}

/// The Python of the virtual environment in `folder`, which `uv sync` and `crewai install` make.
pub(crate) fn python(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(VENV_PYTHON)).filter(|python| python.exists())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_what_crewai_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Project::in_folder(dir.path()).unwrap().is_none());
        for (text, expected) in [
            ("[project]\nname = \"other\"\n", None),
            ("[tool.ruff]\nline-length = 100\n", None),
            (
                "[project]\nname = \"My-Crew\"\n[tool.crewai]\ntype = \"crew\"\n",
                Some("My-Crew"),
            ),
        ] {
            std::fs::write(dir.path().join(PYPROJECT), text).unwrap();
            let project = Project::in_folder(dir.path()).unwrap();
            assert_eq!(
                project.map(|project| project.name()).as_deref(),
                expected,
                "{text}"
            );
        }
        std::fs::write(dir.path().join(PYPROJECT), "[tool.crewai\n").unwrap();
        let error = Project::in_folder(dir.path()).err().unwrap();
        assert!(format!("{error:#}").contains("pyproject.toml"), "{error:#}");
    }
}
