//! What went wrong in a crew, for people: what and where, and the lines of the traceback in the crew's own files.

use crewfleet::{Reply, Status};
use serde::Deserialize;

/// How much of a traceback is shown.
const LINES: usize = 15;
const BEGIN: &str = "Traceback (most recent call last):";
/// What the path of a library's file has in it.
const LIBRARIES: [&str; 4] = [
    "/site-packages/",
    "/dist-packages/",
    "/lib/python3",
    "/crewfleet_host/",
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    exception: Option<String>,
    place: Option<String>,
    traceback: Option<String>,
}

/// Why a kickoff did not succeed, as in `ValueError: my model went away (src/poet/crew.py, line 10)`; then its
/// traceback, where that is the crew's doing. `None` where it succeeded.
pub(super) fn told(reply: &Reply) -> Option<(String, Option<String>)> {
    let error = reply.error.as_ref()?;
    let detail = error.detail.as_ref().map(|detail| detail.get());
    let detail: Detail = detail
        .and_then(|detail| serde_json::from_str(detail).ok())
        .unwrap_or_default();
    let headline = match &detail.exception {
        Some(class) if error.kind == "exception" => {
            // The message of an exception without a text is the name of its class.
            let bare = class.rsplit('.').next() == Some(error.message.as_str());
            match bare {
                true => class.clone(),
                false => format!("{class}: {}", error.message),
            }
        }
        // An error of the kind `timed_out` says what the status says.
        _ if error.kind == reply.status.as_str() => error.message.clone(),
        _ => error.to_string(),
    };
    let headline = match &detail.place {
        Some(place) => with_place(&headline, place),
        None => headline,
    };
    // What was rejected is none of the crew's doing: a traceback would be ours.
    let traceback = detail.traceback.filter(|_| reply.status != Status::Rejected);
    Some((headline, traceback))
}

/// Behind the first line: what follows it may be long.
fn with_place(text: &str, place: &str) -> String {
    match text.split_once('\n') {
        Some((first, rest)) => format!("{first} ({place})\n{rest}"),
        None => format!("{text} ({place})"),
    }
}

/// The last lines of a traceback that concern the crew's own files: its frames there, and what was raised below them.
/// Empty where there are none.
pub(crate) fn excerpt(traceback: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for part in traceback.split(BEGIN).skip(1) {
        let (mut own, mut in_own) = (Vec::new(), false);
        for line in part.lines().filter(|line| !is_marks(line)) {
            if let Some(frame) = line.strip_prefix("  File \"") {
                in_own = is_own(frame);
            } else if !line.is_empty() && !line.starts_with(' ') {
                // The first line of what was raised ends the frames.
                if !own.is_empty() {
                    own.push(line);
                }
                break;
            }
            if in_own {
                own.push(line);
            }
        }
        // What is raised again and again has the same frames in each part.
        if !lines.ends_with(&own) {
            lines.append(&mut own);
        }
    }
    lines.split_off(lines.len().saturating_sub(LINES))
}

/// A text that ends in a traceback, with the excerpt of that instead; whether something is left out.
pub(crate) fn shortened(text: &str) -> (String, bool) {
    let Some((before, _)) = text.split_once(BEGIN) else {
        return (text.to_owned(), false);
    };
    let traceback = &text[before.len()..];
    let shown = excerpt(traceback);
    let mut lines = vec![before.trim_end()];
    lines.extend(&shown);
    // The line that says that this is one is no loss.
    let all = traceback.lines().filter(|line| !is_marks(line)).count() - 1;
    (lines.join("\n"), shown.len() < all)
}

/// `^^^^` below a line of code.
fn is_marks(line: &str) -> bool {
    let marks = line.trim_start();
    !marks.is_empty() && marks.chars().all(|c| matches!(c, '^' | '~' | ' '))
}

fn is_own(frame: &str) -> bool {
    let file = frame.split('"').next().unwrap_or_default();
    !file.starts_with('<') && !LIBRARIES.iter().any(|library| file.contains(library))
}

/// That its crew was started more often than it was tried, where it was.
pub(crate) fn repeated(reply: &Reply) -> Option<String> {
    let executions = reply
        .executions
        .filter(|executions| *executions > reply.attempt)?;
    Some(format!(
        "its crew was started {executions} times in {}: a worker died with it, or handed it on while it ran",
        match reply.attempt {
            1 => "one attempt".to_owned(),
            attempts => format!("{attempts} attempts"),
        }
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TRACEBACK: &str = r#"Traceback (most recent call last):
  File "/p/.venv/lib/python3.12/site-packages/httpx/client.py", line 5, in send
    raise ConnectError()
httpx.ConnectError: refused

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/p/.venv/lib/python3.12/site-packages/crewai/crew.py", line 700, in kickoff
    result = self.run()
             ^^^^^^^^^^
  File "/p/src/poet/crew.py", line 10, in call
    raise ValueError("my model went away")
ValueError: my model went away
and more of it
"#;

    fn reply(error: &str) -> Reply {
        serde_json::from_str(&format!(
            r#"{{"schema": "kickoff.reply.v1", "kickoff_id": "a", "crew": "poet", "status": "failed", "attempt": 1, "redrive": 0,
                "worker": "w", "result": null, "error": {error}, "started_at": null,
                "finished_at": "2026-11-22T10:00:01Z", "meta": null}}"#
        ))
        .unwrap()
    }

    #[test]
    fn the_headline_names_class_and_place() {
        let headline = |error: &str| told(&reply(error)).unwrap().0;
        let place = r#""place": "src/poet/crew.py, line 10""#;
        assert_eq!(
            headline(&format!(
                r#"{{"kind": "exception", "message": "no\nmore", "retryable": false, "detail": {{"exception": "ValueError", {place}}}}}"#
            )),
            "ValueError: no (src/poet/crew.py, line 10)\nmore"
        );
        assert_eq!(
            headline(
                r#"{"kind": "exception", "message": "Gone", "retryable": false, "detail": {"exception": "poet.Gone"}}"#
            ),
            "poet.Gone"
        );
        // A worker of an earlier version, or a crew that is no Python.
        assert_eq!(
            headline(r#"{"kind": "exception", "message": "no", "retryable": false, "detail": null}"#),
            "exception: no"
        );
        assert_eq!(
            headline(
                r#"{"kind": "crashed", "message": "signal 9", "retryable": true, "detail": {"signal": 9}}"#
            ),
            "crashed: signal 9"
        );
    }

    #[test]
    fn of_a_traceback_the_crew_s_own_lines_are_shown() {
        let shown = [
            "  File \"/p/src/poet/crew.py\", line 10, in call",
            "    raise ValueError(\"my model went away\")",
            "ValueError: my model went away",
        ];
        assert_eq!(excerpt(TRACEBACK), shown);
        let (text, is_less) = shortened(&format!("cannot be used\n{TRACEBACK}"));
        assert_eq!(
            (text, is_less),
            (format!("cannot be used\n{}", shown.join("\n")), true)
        );
        assert_eq!(shortened("no such folder"), ("no such folder".to_owned(), false));
        let again = format!("{TRACEBACK}{}", &TRACEBACK[TRACEBACK.rfind(BEGIN).unwrap()..]);
        assert_eq!(excerpt(&again), shown);
        let deep = "  File \"/p/a.py\", line 1, in f\n    f()\n".repeat(100);
        assert_eq!(
            excerpt(&format!("{BEGIN}\n{deep}RecursionError: x\n")).len(),
            LINES
        );
        assert!(excerpt("ValueError: no traceback").is_empty());
    }
}
