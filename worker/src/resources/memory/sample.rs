//! How much memory each process holds: its proportional size where that was measured, and what it may have grown by
//! since.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::resources::processes::pids;

/// No kickoff starts, and idle hosts end, above this share of the limit.
pub(super) const FULL: f64 = 0.85;

/// How long an exact measurement holds.
const SAMPLE_AGE: Duration = Duration::from_secs(2);
/// A process that has grown by this part of the limit is measured again.
const GROWTH: u64 = 256;

/// The last exact measurement of a process.
pub(super) struct Sample {
    /// Its proportional size, in bytes.
    share: u64,
    /// Its resident size at that time, in bytes.
    resident: u64,
    /// What it had faulted in by that time, in bytes.
    faulted: u64,
    at: Instant,
}

/// Proportional sizes, together and by leader, in bytes: close to it below [`FULL`] of `limit`, exact above.
pub(super) fn shares(
    processes: &[Process],
    samples: &mut HashMap<i32, Sample>,
    limit: u64,
    measure: impl Fn(i32) -> Option<u64>,
) -> (u64, HashMap<i32, u64>) {
    let (used, by_leader) = sampled(processes, samples, limit / GROWTH, &measure);
    if (used as f64) < limit as f64 * FULL {
        return (used, by_leader);
    }
    // Nobody waits, or is killed, for what somebody else has given back since it was measured.
    samples.clear();
    sampled(processes, samples, 0, &measure)
}

/// Measures what is new, what may have grown by more than `growth` bytes, and what was measured long ago. Of the others
/// the last sample counts, and what they may have grown by since.
///
/// A process that ends leaves its part of shared pages to those that share them; that is seen with their next samples.
fn sampled(
    processes: &[Process],
    samples: &mut HashMap<i32, Sample>,
    growth: u64,
    measure: impl Fn(i32) -> Option<u64>,
) -> (u64, HashMap<i32, u64>) {
    let (mut used, mut by_leader) = (0, HashMap::new());
    let mut held = std::mem::take(samples);
    for process in processes {
        let sample = held
            .remove(&process.pid)
            .filter(|sample| sample.grown(process) <= growth && sample.at.elapsed() <= SAMPLE_AGE)
            .unwrap_or_else(|| Sample {
                share: measure(process.pid).unwrap_or(process.resident),
                resident: process.resident,
                faulted: process.faulted,
                at: Instant::now(),
            });
        let share = sample.share + sample.grown(process);
        used += share;
        *by_leader.entry(process.leader).or_default() += share;
        samples.insert(process.pid, sample);
    }
    (used, by_leader)
}

impl Sample {
    /// The most that the process can have got for itself since. Where it writes to a page that it shares, its
    /// resident size stays as it was: that shows as a page fault only.
    fn grown(&self, process: &Process) -> u64 {
        let resident = process.resident.saturating_sub(self.resident);
        resident.max(process.faulted.saturating_sub(self.faulted))
    }
}

/// What the kernel tells of a process at little cost.
pub(super) struct Process {
    pid: i32,
    leader: i32,
    pub(super) resident: u64,
    /// Pages that were mapped at its minor faults, in bytes; copies of shared pages are among them.
    faulted: u64,
}

/// The tracked processes and all members of their sessions and groups: a child leads both.
pub(super) fn processes_of<L>(leaders: &HashMap<i32, L>) -> Vec<Process> {
    // 4 KiB on most machines; 16 or 64 KiB on some of arm64.
    let page = procfs::page_size();
    let read = |pid: i32| {
        // pid (comm) state ppid pgrp session … minflt and rss are the 10th and 24th fields; comm is the process's own choice: any
        // bytes, spaces and parentheses among them.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let after_comm = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = str::from_utf8(&stat[after_comm..]).ok()?.split_ascii_whitespace();
        let group = fields.nth(2)?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // All others of the machine end here.
        let leader = [pid, group, session]
            .into_iter()
            .find(|leader| leaders.contains_key(leader))?;
        let faults: u64 = fields.nth(3)?.parse().ok()?;
        let pages: u64 = fields.nth(13)?.parse().ok()?;
        Some(Process {
            pid,
            leader,
            resident: pages * page,
            faulted: faults * page,
        })
    };
    pids().filter_map(read).collect()
}

/// Proportional set size, in bytes.
pub(super) fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    const MIB: u64 = 1024 * 1024;
    const LIMIT: u64 = 1024 * MIB;

    fn process(pid: i32, resident: u64, faulted: u64) -> Process {
        Process {
            pid,
            leader: pid,
            resident,
            faulted,
        }
    }

    #[test]
    fn what_was_given_back_kills_nobody() {
        let mut samples = HashMap::new();
        let before = [process(1, 600 * MIB, 0), process(2, 100 * MIB, 0)];
        let sizes = |pid| Some(if pid == 1 { 600 * MIB } else { 100 * MIB });
        assert_eq!(shares(&before, &mut samples, LIMIT, sizes).0, 700 * MIB);
        let after = [process(1, 100 * MIB, 0), process(2, 450 * MIB, 0)];
        let sizes = |pid| Some(if pid == 1 { 100 * MIB } else { 450 * MIB });
        let (used, by_leader) = shares(&after, &mut samples, LIMIT, sizes);
        assert_eq!(used, 550 * MIB);
        assert_eq!(by_leader, HashMap::from([(1, 100 * MIB), (2, 450 * MIB)]));
    }

    #[test]
    fn growth_counts_before_it_is_measured_again() {
        let mut samples = HashMap::new();
        let measured = std::cell::Cell::new(0);
        let sizes = |_| {
            measured.set(measured.get() + 1);
            Some(100 * MIB)
        };
        let mut used = |process: Process| shares(&[process], &mut samples, LIMIT, sizes).0;
        assert_eq!((used(process(1, 300 * MIB, 0)), measured.get()), (100 * MIB, 1));
        assert_eq!((used(process(1, 302 * MIB, MIB)), measured.get()), (102 * MIB, 1));
        // Copies of shared pages: resident as before.
        assert_eq!(
            (used(process(1, 300 * MIB, 3 * MIB)), measured.get()),
            (103 * MIB, 1)
        );
        assert_eq!(
            (used(process(1, 300 * MIB, 5 * MIB)), measured.get()),
            (100 * MIB, 2)
        );
    }

    #[test]
    fn a_process_counts_whatever_it_calls_itself() {
        let script = r"printf '\377) (' > /proc/$$/comm; echo named; read -r end";
        let mut shell = Command::new("sh");
        let shell = shell
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut named = shell.spawn().unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(named.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        assert_eq!(said, "named\n");
        let pid = i32::try_from(named.id()).unwrap();
        let found = processes_of(&HashMap::from([(pid, ())]));
        named.kill().unwrap();
        named.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].resident > 0);
    }
}
