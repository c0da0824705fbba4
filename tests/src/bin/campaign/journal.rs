//! Lines that survive a SIGKILL of their writer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::{Serialize, de::DeserializeOwned};

/// Nanoseconds since 1970, by one clock that all processes of a campaign share, also those whose own clock is wrong.
pub(crate) type Nanos = u64;

/// What the campaign tells its processes: what is to be added to the machine's monotonic clock.
pub(crate) const CLOCK_VARIABLE: &str = "CAMPAIGN_CLOCK";

/// Now: by the monotonic clock, which is right where a process is made to believe in another time of day.
pub(crate) fn now() -> Nanos {
    clock_base() + monotonic()
}

/// See [`CLOCK_VARIABLE`].
pub(crate) fn clock_base() -> Nanos {
    static BASE: OnceLock<Nanos> = OnceLock::new();
    let told = || std::env::var(CLOCK_VARIABLE).ok()?.parse().ok();
    let of_this_process = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, nanos).saturating_sub(monotonic())
    };
    *BASE.get_or_init(|| told().unwrap_or_else(of_this_process))
}

fn monotonic() -> Nanos {
    let clock = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is a monotonic clock");
    nanos(Duration::from(clock))
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds from one moment to a later one; 0 where it is none.
pub(crate) fn seconds(from: Nanos, to: Nanos) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// Appends one JSON object a line, each with one `write`: several processes may share the file, and the kernel has a
/// line as soon as this returns. It is not synced: no fault of a campaign takes the machine down.
#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    /// Opens the file, and makes it if it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).open(path).map(Self)
    }

    /// Appends a line.
    pub(crate) fn write(&self, record: &impl Serialize) {
        let mut line = serde_json::to_vec(record).expect("a record is JSON");
        line.push(b'\n');
        (&self.0).write_all(&line).expect("the journal can be written");
    }
}

/// All records of a journal; none where there is no file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(
        text.is_empty() || text.ends_with('\n'),
        "{} ends in the middle of a line",
        path.display()
    );
    let parsed = text.lines().map(|line| {
        serde_json::from_str(line).with_context(|| format!("{} has the line {line}", path.display()))
    });
    parsed.collect()
}
