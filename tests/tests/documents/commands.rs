//! The commands of blocks and spans: the program takes the arguments, the script and the test exist.
//!
//! A command that is also run says where; one that only runs elsewhere (as root, in a cluster) says why. A command that
//! no rule below knows fails the test, and so does a rule that knows no command.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use crewfleet_tests::crews::{binary, checkout};
use serde_json::Value;

use super::page::Page;

/// What a command begins with, and why it is not run here.
const NOT_RUN: [(&str, &str); 14] = [
    (
        "deploy/install-rabbitmq.sh",
        "run by tests/run.sh before the checks",
    ),
    ("deploy/python-env.sh", "run by tests/run.sh before the checks"),
    ("tests/test-env.sh", "run by tests/run.sh before the checks"),
    ("tests/deploy.sh", "the check deploy"),
    ("tests/helm.sh", "part of the check deploy"),
    ("tests/bench.sh", "run by `tests/run.sh --full`"),
    ("python ", "run by the check python or home"),
    ("cd tests/", "run by the check python"),
    ("install ", "needs root; tests/systemd-run.sh installs the same"),
    (
        "systemctl ",
        "needs systemd; tests/systemd-run.sh starts the same units",
    ),
    (
        "docker build ",
        "needs Docker; tests/images.sh builds the same targets",
    ),
    ("kubectl ", "needs a cluster; tests/helm validates the manifests"),
    (
        "helm install ",
        "needs a cluster; tests/helm.sh renders the chart",
    ),
    (
        "rabbitmqctl ",
        "acts on a production broker; tests of permissions, doctor and the campaign do the same",
    ),
];

/// Runs nothing: it splits a line into its words as a shell does.
fn words(line: &str) -> Result<Vec<String>, String> {
    if line.contains("$(") || line.contains(['`', ';', '|', '&']) {
        return Err("more than one command".into());
    }
    // A placeholder as in `<release>` is no redirection.
    let line = line.replace(['<', '>'], "_");
    let split = Command::new("bash")
        .args(["-c", &format!("printf '%s\\n' {line}")])
        .output()
        .unwrap();
    let text = String::from_utf8(split.stdout).unwrap();
    Ok(text.lines().map(ToOwned::to_owned).collect())
}

/// Whether the program takes these arguments: what it does not know it refuses before it comes to `--help`.
fn takes(program: &str, arguments: &[String]) -> Result<(), String> {
    let ran = Command::new(binary(program))
        .args(arguments)
        .arg("--help")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    ran.status
        .success()
        .then_some(())
        .ok_or_else(|| said.lines().take(1).collect())
}

/// Whether the packages and targets of a cargo command exist.
fn cargo(arguments: &[String]) -> Result<(), String> {
    let metadata = Command::new("cargo")
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(checkout())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let targets = packages
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap());
    let targets: HashSet<(&str, &str)> = targets
        .map(|target| {
            (
                target["kind"][0].as_str().unwrap(),
                target["name"].as_str().unwrap(),
            )
        })
        .collect();
    for (option, value) in arguments.iter().zip(arguments.iter().skip(1)) {
        let known = match option.as_str() {
            "-p" => packages.iter().any(|package| package["name"] == value.as_str()),
            "--test" | "--bin" | "--example" => targets.contains(&(&option[2..], value)),
            _ => true,
        };
        known
            .then_some(())
            .ok_or_else(|| format!("there is no {option} {value}"))?;
    }
    // A subject of the end-to-end tests.
    if let Some(subject) = arguments.last().and_then(|filter| filter.strip_suffix("::")) {
        let file = |end: &str| checkout().join(format!("tests/tests/{subject}{end}")).exists();
        (file(".rs") || file("/mod.rs"))
            .then_some(())
            .ok_or_else(|| format!("there is no subject {subject}"))?;
    }
    Ok(())
}

/// Whether `tests/run.sh` has these checks.
fn checks(arguments: &[String]) -> Result<(), String> {
    let script = fs::read_to_string(checkout().join("tests/run.sh")).unwrap();
    let lists = script.lines().filter_map(|line| {
        let list = ["all=(", "full=(", "others=("]
            .iter()
            .find_map(|name| line.strip_prefix(name))?;
        list.strip_suffix(')')
    });
    let known: HashSet<&str> = lists
        .flat_map(str::split_whitespace)
        .chain(["quick", "--full", "--rabbitmq", "4"])
        .collect();
    match arguments
        .iter()
        .find(|argument| !known.contains(argument.as_str()))
    {
        Some(argument) => Err(format!("tests/run.sh knows no {argument}")),
        None => Ok(()),
    }
}

/// A word with something in the place of what the reader is to fill in: `CREW`, `[CREW]`, `CREW...`.
fn filled_in(word: &str) -> String {
    let word = word.replace(['[', ']', '…'], "").replace("...", "");
    match word.chars().all(|c| c.is_ascii_uppercase()) {
        true => word.to_lowercase(),
        false => word,
    }
}

/// Whether a command can be what it is.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(command: &str) -> Result<(), String> {
    // What follows is for the reader.
    let mut command = command.split(" #").next().unwrap_or_default().trim();
    // TOKEN=$(crewfleet token …)
    if let Some((_, inner)) = command.split_once("=$(") {
        command = inner.strip_suffix(')').ok_or("no end of $(")?;
    }
    // documents::snippets lets only those pages have one whose calls are made.
    if command.contains("curl ") {
        return Ok(());
    }
    if let Some(known) = NOT_RUN.iter().find(|(start, _)| command.starts_with(start)) {
        let script = known.0.trim_end();
        let missing = script.ends_with(".sh") && !checkout().join(script).exists();
        return if missing {
            Err(format!("there is no {script}"))
        } else {
            Ok(())
        };
    }
    let mut words = words(command)?;
    // Variables before a command, or alone.
    let variable = |word: &String| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    words.retain(|word| word != "export");
    let variables = words.iter().take_while(|word| variable(word)).count();
    words.drain(..variables);
    let Some((program, arguments)) = words.split_first() else {
        return if variables > 0 {
            Ok(())
        } else {
            Err("nothing".into())
        };
    };
    let filled = arguments.iter().map(|word| filled_in(word));
    let plain: Vec<String> = filled.filter(|word| !word.is_empty()).collect();
    match program.as_str() {
        "crewfleet" | "crewfleet-worker" => takes(program, &plain),
        // It hands its arguments on. The check `quickstart` runs it with the very same ones.
        "deploy/quickstart.sh" => {
            let run = fs::read_to_string(checkout().join("tests/run.sh")).unwrap();
            let with = arguments.join(" ");
            run.contains(&with)
                .then_some(())
                .ok_or_else(|| format!("the check quickstart does not run it with {with}"))?;
            takes("crewfleet", &[vec!["dev".to_owned()], plain].concat())
        }
        "tests/run.sh" => checks(&plain),
        "cargo" => cargo(&plain),
        other => Err(format!(
            "documents::commands knows no {other}: teach it, or list it with a reason"
        )),
    }
}

/// Whether a span is a command. A name alone is none.
pub(crate) fn is_command(span: &str) -> bool {
    let starts = [
        "crewfleet ",
        "crewfleet-worker ",
        "cargo ",
        "tests/run.sh ",
        "deploy/quickstart.sh ",
    ];
    let is_script = span.ends_with(".sh") && (span.starts_with("tests/") || span.starts_with("deploy/"));
    (starts.iter().any(|start| span.starts_with(start)) && !span.contains('|')) || is_script
}

#[test]
fn every_command_between_backticks_is_one() {
    let mut wrong = vec![];
    let mut seen = HashSet::new();
    for page in Page::all() {
        for (line, span) in page.spans().into_iter().filter(|(_, span)| is_command(span)) {
            if let Err(error) = check(&span) {
                wrong.push(format!("{}: {span}: {error}", page.place(line)));
            }
            seen.insert(span);
        }
    }
    assert!(seen.len() > 50, "only {} commands", seen.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_is_of_use() {
    let pages = Page::all();
    for (start, _) in NOT_RUN {
        assert!(
            pages.iter().any(|page| page.text.contains(start)),
            "no page has a command that begins with {start}"
        );
    }
}
