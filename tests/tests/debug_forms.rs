//! Rust's debug forms (`Some("x")`, `CrewName("x")`) are for us: no message and no log line has them.
//!
//! `{name:?}` of a string only quotes it, and of a [`std::time::Duration`] reads as `1.5s`. A test cannot see types, so
//! the expressions of these types are listed here, and nothing else may be written so.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Expressions that are strings or, quoted alike, paths.
const STRINGS: &[&str] = &[
    "argument",
    "batch",
    "binding.key",
    "binding.name",
    "body",
    "content_type",
    "crew",
    "crew.as_str()",
    "death.queue",
    "earlier",
    "encoding",
    "exchange",
    "exchange.name",
    "file.path",
    "first",
    "frame.kind",
    "heading",
    "id",
    "key",
    "kind",
    "known",
    "lock",
    "message_type::REQUEST",
    "name",
    "named",
    "other",
    "package",
    "part.queue",
    "path",
    "pattern",
    "property",
    "queue",
    "queue.name",
    "routing_key",
    "runner",
    "self.argv[0]",
    "self.command[0]",
    "self.namespace",
    "self.queue",
    "self.queue.name",
    "start",
    "stream",
    "target",
    "tenant",
    "uri.vhost",
    "user",
    "value",
    "wanted",
    "worker",
    // The names of the gateway's tokens, in its errors.
    "0",
    // Parameters of SQL, as in `?1`.
    "1",
    "2",
    "3",
];

/// Expressions that are durations.
const DURATIONS: &[&str] = &[
    "after",
    "limit",
    "timeout",
    "CHECK_TIMEOUT",
    "CHECK_TIMEOUT * 2",
    "COMMAND_TIMEOUT",
    "HELLO_TIMEOUT",
    "READY_TIMEOUT",
    "START_TIMEOUT",
];

#[test]
fn messages_have_no_debug_forms() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (line, what) in debug_forms(of_the_product(&text)) {
            if !STRINGS.contains(&what.as_str()) && !DURATIONS.contains(&what.as_str()) {
                wrong.push(format!("{}:{line}: {what}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "write these for people: {wrong:#?}");
}

#[test]
fn a_debug_form_is_found_however_it_is_written() {
    let found = |text: &str| -> Vec<String> { debug_forms(text).into_iter().map(|(_, what)| what).collect() };
    assert_eq!(found("format!(\"{kind:?} and {other:#?}\")"), ["kind", "other"]);
    assert_eq!(
        found("format!(\n    \"{} is no {:?}, {}\",\n    f(a, b),\n    crew.kind(1, 2),\n    c\n)"),
        ["crew.kind(1, 2)"]
    );
    assert_eq!(found("info!(?error, \"x\")"), ["error"]);
    assert_eq!(found("warn!(crew = ?self.crew, \"x\")"), ["self.crew"]);
    assert_eq!(found("/// `{0:?}` of it"), [""; 0]);
    assert_eq!(found("let known = f(a)?; match x? { _ => {} }"), [""; 0]);
}

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = [
        "producer/cli/src",
        "producer/client/src",
        "producer/gateway/src",
        "shared/amqp/src",
        "shared/node/src",
        "shared/protocol/src",
        "shared/service/src",
        "worker/src",
    ]
    .map(|folder| root.join(folder));
    let files = folders
        .iter()
        .flat_map(WalkDir::new)
        .map(|entry| entry.unwrap().into_path());
    let sources: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|is| is == "rs") && !file.ends_with("tests.rs"))
        .collect();
    assert!(sources.len() > 100, "{}", sources.len());
    sources
}

/// Without the tests at its end.
fn of_the_product(text: &str) -> &str {
    let tests = text
        .find("#[cfg(test)]\nmod tests {")
        .or_else(|| text.find("#[cfg(test)]\n#[allow"));
    &text[..tests.unwrap_or(text.len())]
}

/// What is written in its debug form, with its line.
fn debug_forms(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('?') {
        let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let line = text[..at].matches('\n').count() + 1;
        let before = text[..at].trim_end_matches('#');
        if text[at..].starts_with("?}") && before.ends_with(':') {
            let open = before.rfind('{').unwrap_or_default();
            let what = match &before[open + 1..before.len() - 1] {
                "" => positional(text, open),
                named => named.to_owned(),
            };
            found.push((line, what));
        } else if let Some(field) = field(text, at) {
            found.push((line, field));
        }
    }
    found
}

/// As in `?error` or `error = ?self.error` of a log line: a `?` before an expression, and not behind one.
fn field(text: &str, at: usize) -> Option<String> {
    let before = text[..at].trim_end();
    let begins = before.ends_with(['(', ',', '=']) && !before.ends_with("r(") && !text[..at].ends_with('"');
    let what: String = text[at + 1..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || "_.".contains(*c))
        .collect();
    (begins && !what.is_empty()).then_some(what)
}

/// The argument of a `{:?}` that is at `open` in a format string.
fn positional(text: &str, open: usize) -> String {
    let begin = text[..open].rfind("!(").expect("a format string is a macro's");
    let quote = begin + text[begin..open].find('"').expect("the format string");
    let end = open
        + text[open..]
            .match_indices('"')
            .find(|(i, _)| !text[..open + i].ends_with('\\'))
            .unwrap()
            .0;
    let nth = text[quote..open]
        .match_indices('{')
        .filter(|(i, _)| text[quote + i + 1..].starts_with(['}', ':']))
        .count();
    arguments(&text[end + 1..])
        .into_iter()
        .nth(nth)
        .unwrap_or_default()
}

/// What stands between the commas until the parenthesis closes.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut arguments) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().unwrap().push(c);
    }
    // Before the first comma is nothing but the end of the format string.
    arguments
        .iter()
        .skip(1)
        .map(|argument| argument.trim().to_owned())
        .collect()
}
