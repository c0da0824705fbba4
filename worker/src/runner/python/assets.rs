//! The Python side, carried in the worker's binary and written to its folder at the start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

macro_rules! python {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../python/", $name)))),*]
    };
}

/// Every file of `worker/python` but its tests; a unit test compares this list with the folder. `include_dir` and
/// `rust-embed` make such a list, but cargo builds nothing again for a file that is new, so the worker would lack it.
const FILES: &[(&str, &str)] = python![
    "main.py",
    "crewfleet_host/__init__.py",
    "crewfleet_host/after_import.py",
    "crewfleet_host/callbacks.py",
    "crewfleet_host/cancel.py",
    "crewfleet_host/chain.py",
    "crewfleet_host/child.py",
    "crewfleet_host/context_defaults.py",
    "crewfleet_host/crewai_setup.py",
    "crewfleet_host/descriptors.py",
    "crewfleet_host/ending.py",
    "crewfleet_host/environment.py",
    "crewfleet_host/errors.py",
    "crewfleet_host/event_bus.py",
    "crewfleet_host/events.py",
    "crewfleet_host/features.py",
    "crewfleet_host/files.py",
    "crewfleet_host/prewarm.py",
    "crewfleet_host/frames.py",
    "crewfleet_host/guard.py",
    "crewfleet_host/host.py",
    "crewfleet_host/human_input.py",
    "crewfleet_host/input_files.py",
    "crewfleet_host/inputs.py",
    "crewfleet_host/inspection.py",
    "crewfleet_host/isolation.py",
    "crewfleet_host/jsonable.py",
    "crewfleet_host/kickoff.py",
    "crewfleet_host/links.py",
    "crewfleet_host/locks.py",
    "crewfleet_host/mappings.py",
    "crewfleet_host/mounts.py",
    "crewfleet_host/names.py",
    "crewfleet_host/spawner.py",
    "crewfleet_host/optional.py",
    "crewfleet_host/probe.py",
    "crewfleet_host/process.py",
    "crewfleet_host/project.py",
    "crewfleet_host/providers.py",
    "crewfleet_host/renewal.py",
    "crewfleet_host/result.py",
    "crewfleet_host/settings.py",
    "crewfleet_host/sharing.py",
    "crewfleet_host/signals.py",
    "crewfleet_host/spawned.py",
    "crewfleet_host/storage.py",
    "crewfleet_host/target.py",
    "crewfleet_host/targets/__init__.py",
    "crewfleet_host/targets/agents.py",
    "crewfleet_host/targets/crewai_types.py",
    "crewfleet_host/targets/definitions.py",
    "crewfleet_host/targets/entry_points.py",
    "crewfleet_host/targets/find.py",
    "crewfleet_host/targets/folder.py",
    "crewfleet_host/targets/nearest.py",
    "crewfleet_host/targets/objects.py",
    "crewfleet_host/targets/parameters.py",
    "crewfleet_host/targets/source.py",
    "crewfleet_host/threads.py",
    "crewfleet_host/tls.py",
    "crewfleet_host/tracebacks.py",
    "crewfleet_host/tracing.py",
    "crewfleet_host/transient.py",
    "crewfleet_host/usage.py",
    "crewfleet_host/webhooks.py",
    "crewfleet_host/workdir.py",
    "crewfleet_host/workplace.py",
    "crewfleet_host/fork_server.py",
];

/// Writes them below `dir` and returns the path of `main.py`.
pub(super) fn unpack(dir: &Path) -> io::Result<PathBuf> {
    let root = dir.join("python");
    for (name, text) in FILES {
        let file = root.join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    Ok(root.join("main.py"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_python_file_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut on_disk = Vec::new();
        let mut folders = vec!["crewfleet_host".to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
                if path.is_dir() && !name.ends_with("__pycache__") {
                    folders.push(name);
                } else if path.extension().is_some_and(|e| e == "py") {
                    on_disk.push(name);
                }
            }
        }
        on_disk.push("main.py".into());
        on_disk.sort();
        let mut carried: Vec<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        carried.sort();
        assert_eq!(carried, on_disk);
    }
}
