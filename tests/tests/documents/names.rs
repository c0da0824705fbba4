//! Metrics, configuration keys and variables that pages name.

use std::path::Path;

use crewfleet_tests::prometheus::is_documented;

use super::page::Page;

#[test]
fn every_metric_exists() {
    let mut unknown = vec![];
    for page in Page::all() {
        for (line, span) in page.spans() {
            let is_metric = span.starts_with("crewfleet_")
                && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                // The prefix of them all.
                && span != "crewfleet_";
            if is_metric && !is_documented(&span) {
                unknown.push(format!("{}: {span}", page.place(line)));
            }
        }
    }
    assert!(unknown.is_empty(), "not in METRICS.md: {unknown:#?}");
}

/// `[section] key` and `CREWFLEET__SECTION__KEY` are in the reference, which is loaded by a test of the worker.
#[test]
fn every_configuration_key_exists() {
    let reference = Page::at(Path::new("deploy/CONFIGURATION.md"));
    let block = reference
        .blocks()
        .into_iter()
        .find(|block| block.language == "toml")
        .unwrap()
        .text;
    // Keys whose default is "none" are commented out.
    let uncommented: String = block
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let keys: toml::Table = uncommented.parse().unwrap();
    let has = |section: &str, key: &str| {
        keys[section]
            .as_table()
            .is_some_and(|keys| keys.contains_key(key))
    };
    let mut unknown = vec![];
    let mut seen = 0;
    for page in Page::all() {
        for (line, span) in page.spans() {
            let named = ["broker", "worker", "gateway", "webhooks"]
                .iter()
                .find_map(|section| {
                    let in_brackets = format!("[{section}] ");
                    let in_capitals = format!("CREWFLEET__{}__", section.to_uppercase());
                    let key = span
                        .strip_prefix(&in_brackets)
                        .or_else(|| span.strip_prefix(&in_capitals))?;
                    let end = key.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
                    Some((section, key[..end.unwrap_or(key.len())].to_lowercase()))
                });
            if let Some((section, key)) = named {
                seen += 1;
                if !has(section, &key) {
                    unknown.push(format!("{}: {span}", page.place(line)));
                }
            }
        }
    }
    assert!(seen > 10, "only {seen} keys are named");
    assert!(unknown.is_empty(), "not in CONFIGURATION.md: {unknown:#?}");
}
