//! Every code block of every page is run or checked, or it is listed here with the reason why not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crewfleet_tests::certificates::Authority;
use crewfleet_tests::crews::{binary, checkout};
use serde_json::Value;

use super::commands;
use super::page::{Block, Page};
use super::readme::OVER_HTTP;

/// Page, language, and who runs or checks such blocks there.
const ELSEWHERE: [(&str, &str, &str); 12] = [
    ("README.md", "python", "documents::readme runs it"),
    ("producer/PUBLISHERS.md", "python", "publishers runs it"),
    ("producer/SINKS.md", "python", "sinks::webhook runs it"),
    (
        "producer/SINKS.md",
        "toml",
        "a test of producer/sinks loads it: it has no crew, so a worker would not",
    ),
    (
        "producer/python/README.md",
        "python",
        "producer/python/tests/test_documents.py runs it",
    ),
    (
        "producer/python/FROM_ONE_PROCESS.md",
        "python",
        "producer/python/tests/test_documents.py runs the second one",
    ),
    ("producer/PUBLISHERS.md", "javascript", "publishers runs it"),
    (
        "deploy/README.md",
        "ini",
        "tests/systemd-run.sh starts a unit with such a drop-in",
    ),
    (
        "deploy/README.md",
        "dockerfile",
        "not checked: it needs a crew's project and a registry",
    ),
    (
        "deploy/helm/crewfleet/README.md",
        "yaml",
        "tests/helm renders such values, and validates the pod",
    ),
    (".github/CONTRIBUTING.md", "text", "a drawing"),
    (
        "README.md",
        "rust",
        "the_program_in_rust_is_the_documented_one, below",
    ),
];

#[test]
fn every_snippet_is_run_or_checked() {
    let mut wrong = vec![];
    let mut listed = vec![false; ELSEWHERE.len()];
    for page in Page::all() {
        for block in page.blocks() {
            let place = page.place(block.line);
            let is = |(path, language, _): &(&str, &str, &str)| {
                page.path == Path::new(path) && block.language == *language
            };
            if let Some(index) = ELSEWHERE.iter().position(is) {
                listed[index] = true;
            } else if let Err(error) = check(&block) {
                wrong.push(format!("{place}: {error}"));
            } else if block.text.contains("curl ")
                && !OVER_HTTP.iter().any(|path| page.path == Path::new(path))
            {
                wrong.push(format!("{place}: documents::readme does not make this call"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (rule, used) in ELSEWHERE.iter().zip(listed) {
        assert!(used, "there is no such snippet any more: {rule:?}");
    }
}

fn check(block: &Block) -> Result<(), String> {
    match block.language.as_str() {
        "sh" => shell(&block.text),
        "toml" => configuration(&block.text),
        "json" => serde_json::from_str::<Value>(&block.text)
            .map(drop)
            .map_err(|e| e.to_string()),
        "" => Err("say the language behind the fence".into()),
        other => Err(format!(
            "{other} is neither run nor listed in documents::snippets"
        )),
    }
}

fn shell(text: &str) -> Result<(), String> {
    let text = text.replace("\\\n", " ");
    // A loop is what stands in it.
    let commands = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with('#') && !line.starts_with("for ") && *line != "done"
    });
    let mut commands = commands.peekable();
    commands.peek().ok_or("no command")?;
    commands.try_for_each(|command| commands::check(command).map_err(|error| format!("{command}: {error}")))
}

/// Whether a worker takes the configuration. It is asked by a worker that looks for another one's health, which is not
/// there: 1. A configuration that is refused is 2.
fn configuration(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let of = |path: &str| folder.path().join(path);
    fs::create_dir(of("src")).unwrap();
    symlink(checkout().join("deploy"), of("deploy")).unwrap();
    for environment in [".venv", ".crewfleet/python"] {
        fs::create_dir_all(of(environment).join("bin")).unwrap();
        symlink("/bin/true", of(environment).join("bin/python")).unwrap();
    }
    // The certificates of a machine that has them.
    let authority = Authority::new("documents");
    let client = authority.client("producer");
    for (from, to) in [
        (authority.file(), "ca.pem"),
        (client.certificate, "producer.pem"),
        (client.key, "producer-key.pem"),
    ] {
        fs::create_dir_all(of("tls")).unwrap();
        fs::copy(from, of("tls").join(to)).unwrap();
    }
    let text = text.replace("/etc/crewfleet", folder.path().to_str().unwrap());
    // The reference, whose keys a test of the worker loads, names a project that no machine has.
    let file = of("crewfleet.toml");
    fs::write(&file, text).unwrap();
    let asked = Command::new(binary("crewfleet-worker"))
        .arg("--config")
        .arg(&file)
        .arg("healthcheck")
        // Port 1 of the loopback interface is nobody's.
        .env("CREWFLEET__WORKER__ADMIN_ADDR", "127.0.0.1:1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    let taken = asked.status.code() == Some(1) && said.contains("does not answer");
    taken.then_some(()).ok_or_else(|| said.into_owned())
}

/// The README shows what the client library's documentation begins with, which `cargo test --doc` compiles.
#[test]
fn the_program_in_rust_is_the_documented_one() {
    let readme = Page::at(Path::new("README.md"));
    let block = readme
        .blocks()
        .into_iter()
        .find(|block| block.language == "rust")
        .unwrap();
    let library = checkout().join("producer/client/src/lib.rs");
    let source = fs::read_to_string(&library).unwrap();
    let documented: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .collect();
    for line in block.text.lines() {
        assert!(
            documented.contains(&line),
            "{} has no line {line}",
            library.display()
        );
    }
}
