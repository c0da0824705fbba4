//! What a process uses.

use std::{fs, time::Duration};

use anyhow::Context;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    },
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// The CPU time of a process so far: of all its threads, also of those that have ended, not of its children.
pub(crate) fn cpu(pid: Pid) -> anyhow::Result<Duration> {
    let time = clock_getcpuclockid(pid)
        .and_then(clock_gettime)
        .with_context(|| format!("the CPU clock of process {pid}"))?;
    Ok(Duration::from(time))
}

/// The CPU time of a process and of those of its descendants that ended and were waited for; `None` once it is gone. In
/// hundredths of a second, as `/proc` tells it.
pub(crate) fn with_ended_children(pid: Pid) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, and ends with the last bracket. Then: state, 10 others, utime, stime, cutime, cstime.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(4);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// The memory that a process has at present, in bytes.
pub(crate) fn resident(pid: Pid) -> anyhow::Result<u64> {
    memory(pid, "VmRSS")
}

/// The most that it has had.
pub(crate) fn most_resident(pid: Pid) -> anyhow::Result<u64> {
    memory(pid, "VmHWM")
}

fn memory(pid: Pid, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("process {pid} has no {field}"))?;
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? * 1024)
}

/// The CPU time of this process's own children that have ended.
pub(crate) fn ended_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
    let of = |time: nix::sys::time::TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    of(usage.user_time()) + of(usage.system_time())
}
