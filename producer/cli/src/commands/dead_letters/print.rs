//! Dead letters for people.

use chrono::{DateTime, Utc};
use crewfleet::dead_letters::{Group, WholeLetter};
use crewfleet_protocol::header;
use serde_json::Value;

use crate::format::{age, table};

/// More of an error would make the table unreadable; `show` has all of it.
const ERROR_CHARS: usize = 100;

/// One line a group, with ages from `now`.
pub(super) fn listing(groups: &[Group], now: DateTime<Utc>) -> String {
    let heads = [
        "CREW",
        "REASON",
        "FINGERPRINT",
        "COUNT",
        "OLDEST",
        "NEWEST",
        "REDRIVES",
        "EXAMPLE",
        "ERROR",
    ];
    let mut rows = Vec::new();
    for group in groups {
        rows.push([
            group.crew.clone(),
            group.reason.clone(),
            group.fingerprint.clone().unwrap_or_else(|| "-".into()),
            group.count.to_string(),
            age(group.oldest, now),
            age(group.newest, now),
            group.redrives.to_string(),
            group.example.as_ref().map_or("-".into(), ToString::to_string),
            one_line(group.error.as_deref().unwrap_or("-")),
        ]);
    }
    table(heads, &rows)
}

/// Everything of one letter.
pub(super) fn whole(whole: &WholeLetter) -> String {
    let letter = &whole.letter;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut lines = vec![
        format!("kickoff      {}", letter.id()),
        format!("crew         {}", letter.crew),
        format!("queue        {}", letter.queue),
        format!("reason       {}", letter.reason),
        format!("error        {}", or_none(&letter.error)),
        format!("fingerprint  {}", or_none(&letter.fingerprint)),
        format!("attempt      {}", letter.attempt),
        format!("redrive      {}", letter.redrive),
        format!(
            "dead since   {}",
            letter.dead_at.map_or("-".into(), |at| at.to_rfc3339())
        ),
    ];
    let mut headers = Value::Null;
    for (name, value) in whole.properties.as_object().into_iter().flatten() {
        if name == "headers" {
            headers = value.clone();
        } else {
            lines.push(format!("property     {name} = {value}"));
        }
    }
    for (name, value) in headers.as_object().into_iter().flatten() {
        let remark = match name.as_str() {
            header::DELIVERY_COUNT => " (looks at it are counted, too)",
            _ => "",
        };
        lines.push(format!("header       {name} = {value}{remark}"));
    }
    lines.push(format!("request      {} bytes", whole.bytes));
    match (&whole.request, &whole.text) {
        (Some(request), _) => lines.push(request.get().to_owned()),
        (None, text) => lines.push(text.clone().unwrap_or_default()),
    }
    lines.join("\n")
}

fn one_line(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(ERROR_CHARS).collect();
    if short.len() < error.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_groups() {
        let at = |text: &str| Some(text.parse().unwrap());
        let group = Group {
            crew: "echo".into(),
            reason: "failed".into(),
            fingerprint: Some("00ff".into()),
            count: 12,
            oldest: at("2026-11-20T09:00:00Z"),
            newest: at("2026-11-22T09:59:18Z"),
            redrives: 1,
            error: Some("failed: first\nsecond".into()),
            example: Some("k-1".parse().unwrap()),
        };
        let bare = Group {
            reason: "expired".into(),
            fingerprint: None,
            oldest: None,
            newest: at("2026-11-22T09:00:00Z"),
            error: None,
            example: None,
            ..group.clone()
        };
        assert_eq!(
            listing(&[group, bare], "2026-11-22T10:00:00Z".parse().unwrap()),
            "CREW  REASON   FINGERPRINT  COUNT  OLDEST  NEWEST  REDRIVES  EXAMPLE  ERROR\n\
             echo  failed   00ff         12     2d      42s     1         k-1      failed: first…\n\
             echo  expired  -            12     -       1h      1         -        -"
        );
    }
}
