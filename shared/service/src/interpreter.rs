//! The Python that runs crews where none is named.

use std::path::{Path, PathBuf};

/// Where nothing says better: what the `PATH` has.
const OF_THE_PATH: &str = "python3";

/// What marks a virtual environment's folder (PEP 405), and a Conda environment's.
const MARKS: [&str; 2] = ["pyvenv.cfg", "conda-meta"];

/// The interpreter of the environment that this program runs in: the virtual environment that is activated, or else the
/// one that the program is installed in, as `pip install crewfleet` does it. Outside of any, `python3`, which is looked
/// up in `PATH`.
pub fn default_interpreter() -> PathBuf {
    in_environment().unwrap_or_else(|| OF_THE_PATH.into())
}

/// As [`default_interpreter`]; `None` outside of any environment.
pub fn in_environment() -> Option<PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty());
    // A link of /usr/local/bin to an environment's program is followed: crewai is where that was installed.
    let program = std::env::current_exe()
        .and_then(|program| program.canonicalize())
        .ok();
    choose(active.map(PathBuf::from).as_deref(), program.as_deref())
}

fn choose(active: Option<&Path>, program: Option<&Path>) -> Option<PathBuf> {
    let of_program = program.and_then(|program| program.parent()?.parent());
    let of_program = of_program.filter(|folder| MARKS.iter().any(|mark| folder.join(mark).exists()));
    [active, of_program]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("bin/python"))
        .find(|python| python.exists())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_activated_environment_comes_before_the_program_s() {
        let dir = tempfile::tempdir().unwrap();
        let environment = |name: &str| {
            let bin = dir.path().join(name).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::write(bin.join("python"), "").unwrap();
            dir.path().join(name)
        };
        let (active, own, system) = (environment("active"), environment("own"), environment("usr"));
        std::fs::write(own.join("pyvenv.cfg"), "").unwrap();
        let python = |folder: &Path| Some(folder.join("bin/python"));
        let program = |folder: &Path| folder.join("bin/crewfleet-worker");

        assert_eq!(choose(Some(&active), Some(&program(&own))), python(&active));
        assert_eq!(choose(None, Some(&program(&own))), python(&own));
        // /usr/bin is no environment, though a Python is beside the program.
        assert_eq!(choose(None, Some(&program(&system))), None);
        // One that was deleted, and is activated in this shell still.
        let gone = dir.path().join("gone");
        assert_eq!(choose(Some(&gone), Some(&program(&own))), python(&own));
        assert_eq!(choose(Some(&gone), None), None);
    }
}
