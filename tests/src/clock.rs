//! Processes whose clock is wrong: `libfaketime`, which `tests/test-env.sh` fetches, has them believe in another time of
//! day. Their monotonic clock stays right, as it does on a machine whose time is set.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::crews;

/// Names the library, where it is not one of the places that are looked at.
const LIBRARY_VARIABLE: &str = "CREWFLEET_FAKETIME";
/// How far a wrong clock is from the right one, in seconds.
const APART_S: u64 = 3_600;

/// What a process believes the time to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// As it is.
    Right,
    /// An hour later.
    Ahead,
    /// An hour earlier.
    Behind,
}

impl Clock {
    /// A wrong one.
    pub fn wrong(draw: usize) -> Self {
        match draw % 2 {
            0 => Self::Ahead,
            _ => Self::Behind,
        }
    }

    /// What the id of a worker with this clock ends with: its replies tell times by it.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Right => "",
            Self::Ahead => "-ahead",
            Self::Behind => "-behind",
        }
    }

    /// The clock of the worker with this id.
    pub fn of_worker(id: &str) -> Self {
        [Self::Ahead, Self::Behind]
            .into_iter()
            .find(|clock| id.ends_with(clock.suffix()))
            .unwrap_or(Self::Right)
    }

    /// A time of day that was told by this clock, in nanoseconds, as it was.
    pub fn corrected(self, told: u64) -> u64 {
        let apart = APART_S * 1_000_000_000;
        match self {
            Self::Right => told,
            Self::Ahead => told.saturating_sub(apart),
            Self::Behind => told.saturating_add(apart),
        }
    }

    /// Has a process that is to be started go by this clock, and all that it starts.
    pub fn set(self, command: &mut Command) {
        let offset = match self {
            Self::Right => return,
            Self::Ahead => format!("+{APART_S}"),
            Self::Behind => format!("-{APART_S}"),
        };
        let library = library().expect("faults of clocks are scheduled only where there is the library");
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME", offset)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            // A killed process would leave it behind.
            .env("FAKETIME_DISABLE_SHM", "1");
    }
}

/// `libfaketimeMT.so.1`: where `CREWFLEET_FAKETIME` says, or as `tests/test-env.sh` or Debian's package have put it.
pub fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(LIBRARY_VARIABLE) {
        return Some(PathBuf::from(named)).filter(|library| library.exists());
    }
    let tools = crews::checkout().join(".crewfleet/tools/libfaketime");
    let roots = [tools, PathBuf::from("/")];
    roots.iter().find_map(|root| below(root))
}

fn below(root: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(root.join("usr/lib")).ok()?.flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}
