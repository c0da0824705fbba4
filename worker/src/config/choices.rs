//! The keys of a crew that choose among words.

use serde::Deserialize;

/// How a crew is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerKind {
    /// A CrewAI crew, in a process of its own.
    Python,
    /// Any program.
    Command,
    /// Rust, in this process.
    Builtin,
}

impl RunnerKind {
    /// Its name in configuration and heartbeats.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Command => "command",
            Self::Builtin => "builtin",
        }
    }
}

/// How Python children come to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Forked from a host that has imported the crew.
    #[default]
    Fork,
    /// A fresh interpreter, where forking is not safe.
    Spawn,
}

/// How a kickoff sees the project without changing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkingDirWay {
    /// An overlay where the kernel allows it, else links.
    #[default]
    Auto,
    /// An overlay on the project's own path; the crew is refused where the kernel allows none.
    Overlay,
    /// A folder with copies of small files and links to the rest.
    Links,
}

impl WorkingDirWay {
    /// Its name in configuration and frames.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Overlay => "overlay",
            Self::Links => "links",
        }
    }
}

/// Where CrewAI keeps its memory and databases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// In the kickoff's own folder: no kickoff sees another's memory.
    #[default]
    Kickoff,
    /// In one folder of the crew.
    Shared,
}

/// What to do with a kickoff that another worker may have started already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRedelivery {
    /// Run it again: at least once.
    #[default]
    Run,
    /// Fail it: at most once, for crews with costly side effects.
    Fail,
}

/// What an input that the crew's texts ask for, and that is missing, means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputsCheck {
    /// The kickoff is rejected, naming it.
    #[default]
    Strict,
    /// The braces may be meant: a name that is missing stays in the text as it is.
    Lenient,
}

impl InputsCheck {
    /// Its name in configuration and frames.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lenient => "lenient",
        }
    }
}
