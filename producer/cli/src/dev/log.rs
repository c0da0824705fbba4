//! A worker's log lines, for people.

use serde_json::{Map, Value};

/// Longer lines are cut; the log file has all of it.
const WIDTH: usize = 240;

/// What a line of a worker's log says to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The crew can be built; the inputs that a kickoff must have, where it says so.
    Usable(Option<Vec<String>>),
    /// The worker takes kickoffs; its admin address.
    Ready(String),
    /// The crew cannot be built; why, in full.
    Unbuilt(String),
    /// A kickoff has ended, and did not succeed.
    Finished { kickoff_id: String, told: String },
    /// An attempt at one has failed, and another follows.
    Failed(String),
    /// A warning or an error: its message and details, shortened.
    Warning(String),
    /// One about the broker, or what the worker reads from it all the time.
    OfConnection(String, String),
    /// No log line: what the program writes when it ends in an error.
    Plain(String),
    /// Anything else.
    Other,
}

impl Line {
    pub(super) fn parse(line: &str) -> Self {
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
            return Self::Plain(line.to_owned());
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("level"), text("message")) {
            ("INFO", "crew is usable") => {
                let names = fields.get("required_inputs").and_then(Value::as_str);
                let names = names.map(|names| names.split(", ").filter(|name| !name.is_empty()));
                Self::Usable(names.map(|names| names.map(str::to_owned).collect()))
            }
            ("INFO", "ready") => Self::Ready(text("admin_addr").to_owned()),
            ("WARN", "the crew cannot be built; it is tried again") => {
                Self::Unbuilt(text("error").to_owned())
            }
            ("WARN", "kickoff finished") => Self::Finished {
                kickoff_id: text("kickoff_id").to_owned(),
                told: shorten(&format!(
                    "kickoff {} {}: {}",
                    text("kickoff_id"),
                    text("status").replace('_', " "),
                    first_line(text("error"))
                )),
            },
            ("WARN", "the attempt failed; another follows") => Self::Failed(shorten(&format!(
                "kickoff {}: an attempt failed, and the next follows in {} s: {}",
                text("kickoff_id"),
                fields
                    .get("delay_s")
                    .and_then(Value::as_f64)
                    .unwrap_or_default()
                    .round(),
                first_line(text("error"))
            ))),
            ("WARN" | "ERROR", message) => {
                let detailed = shorten(&format!("{message}{}", details(&fields)));
                let of_connection = [
                    "crewfleet_amqp",
                    "crewfleet_worker::coordination::control",
                    "crewfleet_worker::coordination::queries",
                ];
                match of_connection
                    .iter()
                    .any(|target| text("target").starts_with(target))
                {
                    true => Self::OfConnection(message.to_owned(), detailed),
                    false => Self::Warning(detailed),
                }
            }
            _ => Self::Other,
        }
    }
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

fn details(fields: &Map<String, Value>) -> String {
    let told = ["time", "level", "target", "message"];
    let rest = fields.iter().filter(|(name, _)| !told.contains(&name.as_str()));
    let detail = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Of a traceback the last line says what happened.
        let value = value
            .trim_end()
            .lines()
            .next_back()
            .unwrap_or_default()
            .to_owned();
        format!(" {name}={value}")
    };
    rest.map(detail).collect()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_people() {
        let ready =
            r#"{"time":"t","level":"INFO","message":"ready","admin_addr":"127.0.0.1:5","worker":"w"}"#;
        assert_eq!(Line::parse(ready), Line::Ready("127.0.0.1:5".into()));
        let usable =
            |more: &str| Line::parse(&format!(r#"{{"level":"INFO","message":"crew is usable"{more}}}"#));
        assert_eq!(usable(""), Line::Usable(None));
        assert_eq!(usable(r#","required_inputs":"""#), Line::Usable(Some(Vec::new())));
        assert_eq!(
            usable(r#","required_inputs":"A, B""#),
            Line::Usable(Some(vec!["A".into(), "B".into()]))
        );
        let warning = r#"{"level":"WARN","target":"t","message":"no import","error":"Traceback:\n  x\nImportError: y\n","n":1}"#;
        assert_eq!(
            Line::parse(warning),
            Line::Warning("no import error=ImportError: y n=1".into())
        );
        let failed = r#"{"level":"WARN","message":"kickoff finished","kickoff_id":"bad3","status":"timed_out","error_kind":"timed_out","error":"it took\nlong"}"#;
        assert_eq!(
            Line::parse(failed),
            Line::Finished {
                kickoff_id: "bad3".into(),
                told: "kickoff bad3 timed out: it took".into()
            }
        );
        let retried = r#"{"level":"WARN","message":"the attempt failed; another follows","kickoff_id":"a","delay_s":30.0,"error":"no"}"#;
        assert_eq!(
            Line::parse(retried),
            Line::Failed("kickoff a: an attempt failed, and the next follows in 30 s: no".into())
        );
        let finished =
            r#"{"level":"INFO","message":"kickoff finished","kickoff_id":"a","status":"succeeded"}"#;
        assert_eq!(Line::parse(finished), Line::Other);
        let connection = r#"{"level":"WARN","target":"crewfleet_amqp::link","message":"lost"}"#;
        assert_eq!(
            Line::parse(connection),
            Line::OfConnection("lost".into(), "lost".into())
        );
        let unbuilt = r#"{"level":"WARN","message":"the crew cannot be built; it is tried again","crew":"c","error":"a\nb"}"#;
        assert_eq!(Line::parse(unbuilt), Line::Unbuilt("a\nb".into()));
        assert_eq!(Line::parse(r#"{"level":"INFO","message":"x"}"#), Line::Other);
        assert_eq!(Line::parse("error: x"), Line::Plain("error: x".into()));
        assert_eq!(shorten(&"\u{e9}".repeat(WIDTH + 1)).chars().count(), WIDTH + 4);
    }
}
