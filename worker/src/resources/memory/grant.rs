//! How much memory there is for this process.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use procfs::{Current, Meminfo};

/// Where Linux shows control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the machine has, or what a control group at or above this process's own grants (a container's limit, systemd's
/// `MemoryMax=`), in bytes.
pub(super) fn available() -> u64 {
    let machine = Meminfo::current().ok().map(|memory| memory.mem_total);
    let groups = Process::myself().and_then(|process| process.cgroups());
    let granted = groups.ok().into_iter().flatten().filter_map(|group| {
        // Version 2 has one hierarchy; version 1 one for each controller, below a folder of its name.
        let (root, file) = match group.controllers.iter().any(|name| name == "memory") {
            true => (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes"),
            false if group.hierarchy == 0 => (PathBuf::from(CGROUPS), "memory.max"),
            false => return None,
        };
        least(&root, &group.pathname, file)
    });
    machine.into_iter().chain(granted).min().unwrap_or(u64::MAX / 16)
}

/// The least that the group and those above it grant. Without a limit a file says `max`, or a very large number.
fn least(root: &Path, group: &str, file: &str) -> Option<u64> {
    let own = root.join(group.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_above_may_grant_less() {
        let root = tempfile::tempdir().expect("a folder");
        let own = root.path().join("system.slice/crewfleet.service");
        fs::create_dir_all(&own).expect("folders");
        for (folder, limit) in [
            (root.path(), "max"),
            (&root.path().join("system.slice"), "1000"),
            (&own, "2000"),
        ] {
            fs::write(folder.join("memory.max"), format!("{limit}\n")).expect("a file");
        }
        let least = |group| least(root.path(), group, "memory.max");
        assert_eq!(least("/system.slice/crewfleet.service"), Some(1000));
        assert_eq!(least("/"), None);
        // A container that shows only its own part of the tree names a group that is not there.
        assert_eq!(least("/system.slice/gone"), Some(1000));
    }

    #[test]
    fn there_is_some() {
        assert!(available() > 1 << 20);
    }
}
