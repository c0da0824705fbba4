//! `crewfleet token list`

use chrono::{DateTime, SecondsFormat, Utc};
use crewfleet_gateway::tokens::{Token, TokensFile, UsesFile, in_words};
use serde::Serialize;

use crate::format::{Format, age, table};
use crate::output::say;

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    token: Token,
    last_used_at: Option<DateTime<Utc>>,
    expired: bool,
}

/// Prints all tokens, and when each was used last.
pub(super) fn print(file: &TokensFile, uses: &UsesFile, format: &Format) -> anyhow::Result<()> {
    let tokens = file.read_existing()?;
    let last = uses.read().unwrap_or_else(|error| {
        // Nothing hangs on it.
        let file = uses.path().display();
        say(&format!(
            "warning: when tokens were used last is not known: {file}: {error}"
        ));
        Default::default()
    });
    let now = Utc::now();
    let listed: Vec<_> = tokens
        .into_iter()
        .map(|token| Listed {
            last_used_at: last.of(&token),
            expired: token.has_expired(now),
            token: Token {
                scopes: Some(token.scopes().to_vec()),
                ..token
            },
        })
        .collect();
    format.print(&listed, || (!listed.is_empty()).then(|| lines(&listed, now)))
}

fn lines(listed: &[Listed], now: DateTime<Utc>) -> String {
    let heads = [
        "NAME", "CREATED", "USED", "EXPIRES", "SCOPES", "TENANT", "RATE", "AT ONCE", "CREWS",
    ];
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |Listed {
                   token,
                   last_used_at,
                   expired,
               }: &Listed| {
        let ago = |at| format!("{} ago", age(Some(at), now));
        [
            token.name.clone(),
            ago(token.created_at),
            or_none(last_used_at.map(ago)),
            match expired {
                true => "expired".to_owned(),
                false => or_none(token.expires_at.map(|at| at.format("%F %R").to_string())),
            },
            in_words(token.scopes()),
            or_none(token.tenant.clone()),
            or_none(rate(token)),
            or_none(token.max_concurrent.map(|most| most.to_string())),
            crews(token),
        ]
    };
    table(heads, &listed.iter().map(row).collect::<Vec<_>>())
}

/// What a token that was just made is good for.
pub(super) fn good_for(token: &Token) -> String {
    let mut parts = vec![format!("{} of {}", in_words(token.scopes()), crews(token))];
    parts.extend(token.tenant.as_ref().map(|tenant| format!("tenant {tenant:?}")));
    parts.extend(rate(token));
    parts.extend(token.max_concurrent.map(|most| format!("{most} calls at once")));
    let until = |at: DateTime<Utc>| format!("until {}", at.to_rfc3339_opts(SecondsFormat::Secs, true));
    parts.extend(token.expires_at.map(until));
    parts.join("; ")
}

fn rate(token: &Token) -> Option<String> {
    let rate = token.rate_per_s?;
    Some(format!("{rate}/s, burst {}", token.burst()))
}

fn crews(token: &Token) -> String {
    let crews = token.crews.as_ref();
    crews.map_or_else(|| "all crews".to_owned(), |crews| crews.join(", "))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use crewfleet_gateway::tokens::Scope;

    use super::*;

    #[test]
    fn a_line_has_what_a_token_is_good_for_and_its_last_use() {
        let at = DateTime::UNIX_EPOCH;
        let restricted = Token {
            created_at: at,
            crews: Some(vec!["a".into(), "b".into()]),
            scopes: Some(vec![Scope::Kickoff, Scope::Read]),
            tenant: Some("acme".into()),
            rate_per_s: Some(0.5),
            max_concurrent: Some(3),
            expires_at: Some(at + TimeDelta::days(400)),
            ..Token::named("ci")
        };
        assert_eq!(
            good_for(&restricted),
            "kickoff, read of a, b; tenant \"acme\"; 0.5/s, burst 1; 3 calls at once; until 1971-02-05T00:00:00Z"
        );
        let old = Token {
            created_at: at,
            ..Token::named("shop")
        };
        let listed = [
            Listed {
                token: restricted,
                last_used_at: Some(at + TimeDelta::days(3)),
                expired: false,
            },
            Listed {
                token: old,
                last_used_at: None,
                expired: true,
            },
        ];
        let lines = lines(&listed, at + TimeDelta::days(5));
        let expected = "\
NAME  CREATED  USED    EXPIRES           SCOPES                  TENANT  RATE            AT ONCE  CREWS
ci    5d ago   2d ago  1971-02-05 00:00  kickoff, read           acme    0.5/s, burst 1  3        a, b
shop  5d ago   -       expired           kickoff, read, operate  -       -               -        all crews";
        assert_eq!(lines, expected);
    }
}
