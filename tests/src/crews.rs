//! The programs under test, and the configuration of the example crews.

use std::path::{Path, PathBuf};

use serde_json::json;

/// Names the worker of an earlier version.
pub const OLD_WORKER_VARIABLE: &str = "CREWFLEET_OLD_WORKER";

/// The folder of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the checkout")
}

/// A binary of the workspace: from the folder that `CREWFLEET_BIN_DIR` names, else from where this test was built.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("CREWFLEET_BIN_DIR").map_or_else(build_dir, PathBuf::from);
    let binary = dir.join(name);
    assert!(
        binary.exists(),
        "{} is not built: run `cargo build` first, or `tests/run.sh` for everything",
        binary.display()
    );
    binary
}

/// The `crewfleet-worker` of an earlier version, for tests of fleets whose workers differ: `CREWFLEET_OLD_WORKER`, which
/// `tests/run.sh` sets to what `tests/old-worker.sh` builds. `None` where there is none.
pub fn old_worker() -> Option<PathBuf> {
    let worker = PathBuf::from(std::env::var_os(OLD_WORKER_VARIABLE).filter(|path| !path.is_empty())?);
    assert!(
        worker.exists(),
        "{OLD_WORKER_VARIABLE}: {} is not there: name a crewfleet-worker, or run `tests/old-worker.sh`, which builds one",
        worker.display()
    );
    // Workers run in folders of their own.
    Some(worker.canonicalize().expect("the path of a file that is there"))
}

/// The Python interpreter with CrewAI: `CREWFLEET_PYTHON`, else that of `deploy/python-env.sh`.
pub fn venv_python() -> PathBuf {
    let python = std::env::var_os("CREWFLEET_PYTHON")
        .map_or_else(|| checkout().join(".crewfleet/python/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is missing: run `deploy/python-env.sh`, which makes it",
        python.display()
    );
    python
}

/// A Python interpreter without CrewAI: that of `tests/test-env.sh`, which has the publishers' and the traces' packages.
pub fn plain_python() -> PathBuf {
    let python = checkout().join(".crewfleet/test-python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `tests/test-env.sh`, which makes it",
        python.display()
    );
    python
}

/// The folder of the packages that crews of the tests import beside CrewAI: `CREWFLEET_CREW_PACKAGES`, else that of
/// `tests/test-env.sh`.
pub fn crew_packages() -> PathBuf {
    let folder = std::env::var_os("CREWFLEET_CREW_PACKAGES")
        .map_or_else(|| checkout().join(".crewfleet/test-crew-packages"), PathBuf::from);
    assert!(
        folder.join("psycopg").exists(),
        "{} is missing: run `tests/test-env.sh`, which makes it",
        folder.display()
    );
    folder
}

/// A part of what `tests/test-env.sh` makes.
pub fn test_environment(part: &str) -> PathBuf {
    let path = checkout().join(".crewfleet").join(part);
    assert!(
        path.exists(),
        "{} is missing: run `tests/test-env.sh`, which makes it",
        path.display()
    );
    path
}

/// The section of the example crew, which runs so many kickoffs at once.
pub fn marketing_crew_toml(concurrency: u32) -> String {
    let path = checkout().join("deploy/examples/marketing/src");
    python_crew_toml("marketing", "marketing.crew:MarketingCrew", &path, concurrency)
}

/// The section of a crew of the worker's own, without its heading: `echo`, `sleep` or `fail`.
pub fn builtin_crew_toml(target: &str, concurrency: u32) -> String {
    format!("runner = \"builtin\"\ntarget = \"{target}\"\nconcurrency = {concurrency}\n")
}

/// The section of any Python crew whose package is in the folder `path`.
pub fn python_crew_toml(name: &str, target: &str, path: &Path, concurrency: u32) -> String {
    crew_toml(&venv_python(), name, target, path, concurrency)
}

/// The same for a target that needs no CrewAI: its interpreter has none, so a worker pays no import of it, which is most
/// of what starting a Python worker costs.
pub fn plain_crew_toml(name: &str, target: &str, path: &Path, concurrency: u32) -> String {
    crew_toml(&plain_python(), name, target, path, concurrency)
}

fn crew_toml(python: &Path, name: &str, target: &str, path: &Path, concurrency: u32) -> String {
    // JSON's strings are TOML's too.
    let (python, target, path) = (json!(python), json!(target), json!([path]));
    format!(
        "[crews.{name}]\nrunner = \"python\"\npython = {python}\ntarget = {target}\npath = {path}\n\
         concurrency = {concurrency}\n"
    )
}

fn build_dir() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    // target/<profile>/deps/<test>, or target/<profile>/<binary>
    let folder = program.parent().expect("a folder");
    match folder.ends_with("deps") {
        true => folder.parent().expect("the profile's folder").to_owned(),
        false => folder.to_owned(),
    }
}
