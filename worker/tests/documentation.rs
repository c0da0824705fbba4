//! The configuration reference is what the worker reads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crewfleet_worker::config::WorkerConfig;

#[test]
fn every_key_of_the_reference_is_read() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/CONFIGURATION.md");
    let text = fs::read_to_string(reference).unwrap();
    let block = text
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    // Keys that are shown commented out, for their default is "none", count too; but for files that would be read.
    let names_a_file = |key: &str| {
        key.split(' ')
            .next()
            .is_some_and(|name| name.ends_with("_file") || name == "inputs_schema")
    };
    let uncommented: String = block
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if !names_a_file(key) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let project = tempfile::tempdir().unwrap();
    let uncommented = uncommented.replace("/srv/marketing", project.path().to_str().unwrap());
    fs::write(file.path(), uncommented).unwrap();
    let loaded =
        crewfleet_worker::config::load(Some(file.path()), &[], false).expect("the reference is accepted");
    assert_eq!(loaded.config.crews.len(), 3);
    assert_eq!(loaded.config.worker.max_in_flight, Some(32));
    assert_eq!(loaded.config.broker.client_name.as_deref(), Some("shop"));
    // What it says of the address holds for the default, too.
    let admin_addr = WorkerConfig::default().admin_addr;
    assert_eq!(loaded.config.worker.admin_addr, admin_addr);
    assert!(admin_addr.parse::<SocketAddr>().unwrap().ip().is_loopback());
    let marketing = &loaded.config.crews["marketing"];
    assert_eq!(marketing.working_dir.as_deref(), Some(project.path()));
    assert!(marketing.dotenv && !marketing.verbose_output);
    let retry = loaded.config.crews["marketing"].retry();
    assert_eq!(retry.retry_on, ["FlakyError", "my_tools.*"]);
}
