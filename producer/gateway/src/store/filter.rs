//! Which kickoffs are asked for, as SQL.

use rusqlite::types::Value;

use super::row::Kickoff;
use super::state::State;

/// Texts that hold the words which are searched for: so many of the newest are looked at.
const MATCHES: usize = 10_000;

/// Which kickoffs are asked for: those that all of it holds for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of these crews; of all where there is none.
    pub(crate) crews: Vec<String>,
    /// In one of these states; in any where there is none.
    pub(crate) states: Vec<State>,
    /// Not before this moment (ms) …
    pub(crate) since: Option<i64>,
    /// … and before this one.
    pub(crate) until: Option<i64>,
    pub(crate) worker: Option<String>,
    pub(crate) fingerprint: Option<String>,
    /// In this chain.
    pub(crate) chain: Option<String>,
    /// Keys of `meta`, and what they are.
    pub(crate) meta: Vec<(String, String)>,
    /// Words that stand in the inputs or in the result.
    pub(crate) text: Option<String>,
}

/// Behind which kickoff a page begins, in the order newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) created: i64,
    pub(crate) number: i64,
}

impl Cursor {
    pub(crate) fn behind(kickoff: &Kickoff) -> Option<Self> {
        Some(Self {
            created: kickoff.created,
            number: kickoff.number?,
        })
    }

    /// As callers carry it.
    pub(crate) fn written(self) -> String {
        format!("{:x}-{:x}", self.created, self.number)
    }

    /// `None` where it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (created, number) = text.split_once('-')?;
        let parse = |text| i64::from_str_radix(text, 16).ok();
        Some(Self {
            created: parse(created)?,
            number: parse(number)?,
        })
    }
}

/// A query for kickoffs, from `FROM` on.
#[derive(Debug)]
pub(super) struct Search {
    from: &'static str,
    /// What it is ordered by: columns of an index that begins with what is searched by.
    created: &'static str,
    number: &'static str,
    sql: Vec<String>,
    pub(super) values: Vec<Value>,
}

impl Search {
    fn add(&mut self, sql: impl Into<String>, value: impl Into<Value>) {
        self.sql.push(sql.into());
        self.values.push(value.into());
    }

    fn meta(&mut self, sql: &str, (key, value): &(String, String)) {
        self.sql.push(sql.to_owned());
        self.values.extend([key.clone().into(), value.clone().into()]);
    }

    /// Of those behind this one alone.
    pub(super) fn behind(&mut self, cursor: Cursor) {
        self.sql
            .push(format!("({}, {}) < (?, ?)", self.created, self.number));
        self.values.extend([cursor.created.into(), cursor.number.into()]);
    }

    /// `FROM … WHERE …`.
    pub(super) fn sql(&self) -> String {
        let conditions = match self.sql.is_empty() {
            true => "1".to_owned(),
            false => self.sql.join(" AND "),
        };
        format!("FROM {} WHERE {conditions}", self.from)
    }

    /// `ORDER BY …`: the newest first.
    pub(super) fn order(&self) -> String {
        format!("ORDER BY {} DESC, {} DESC", self.created, self.number)
    }
}

impl Filter {
    /// One search of each crew and state: what stands in an index in the order that is asked for is read in it.
    pub(super) fn searches(&self) -> Vec<Search> {
        let crews: Vec<_> = match self.crews.is_empty() {
            true => vec![None],
            false => self.crews.iter().map(Some).collect(),
        };
        let states: Vec<_> = match self.states.is_empty() {
            true => vec![None],
            false => self.states.iter().map(Some).collect(),
        };
        let pairs = crews
            .iter()
            .flat_map(|crew| states.iter().map(move |state| (*crew, *state)));
        pairs.map(|(crew, state)| self.search(crew, state)).collect()
    }

    fn search(&self, crew: Option<&String>, state: Option<&State>) -> Search {
        let (first, others) = match self.meta.split_first() {
            Some((first, others)) => (Some(first), others),
            None => (None, &[][..]),
        };
        let mut search = match first {
            // CROSS JOIN: in this order, whatever the planner thinks.
            Some(_) => Search {
                from: "meta CROSS JOIN kickoff ON kickoff.number = meta.kickoff",
                created: "meta.created",
                number: "meta.kickoff",
                sql: Vec::new(),
                values: Vec::new(),
            },
            None => Search {
                from: "kickoff",
                created: "kickoff.created",
                number: "kickoff.number",
                sql: Vec::new(),
                values: Vec::new(),
            },
        };
        if let Some(first) = first {
            search.meta("meta.key = ? AND meta.value = ?", first);
        }
        for one in others {
            search.meta(
                "EXISTS (SELECT 1 FROM meta AS m WHERE m.kickoff = kickoff.number AND m.key = ? AND m.value = ?)",
                one,
            );
        }
        if let Some(since) = self.since {
            search.add(format!("{} >= ?", search.created), since);
        }
        if let Some(until) = self.until {
            search.add(format!("{} < ?", search.created), until);
        }
        // Few have the same fingerprint, or are in one chain: a plus keeps SQLite from the index of the others, which it takes for as good (with a
        // million kickoffs it took half a second where now it takes two milliseconds).
        let plus = match self.fingerprint.is_some() || self.chain.is_some() {
            true => "+",
            false => "",
        };
        if let Some(crew) = crew {
            search.add(format!("{plus}kickoff.crew = ?"), crew.clone());
        }
        if let Some(state) = state {
            search.add(format!("{plus}kickoff.status = ?"), state.code());
        }
        if let Some(worker) = &self.worker {
            search.add(format!("{plus}kickoff.worker = ?"), worker.clone());
        }
        if let Some(fingerprint) = &self.fingerprint {
            search.add("kickoff.fingerprint = ?", fingerprint.clone());
        }
        if let Some(chain) = &self.chain {
            search.add("kickoff.chain_id = ?", chain.clone());
        }
        if let Some(text) = &self.text {
            search.add(
                format!(
                    "kickoff.number IN (SELECT rowid / 2 FROM text WHERE text MATCH ? ORDER BY rowid DESC LIMIT {MATCHES})"
                ),
                quoted(text),
            );
        }
        search
    }

    /// Whether it asks for nothing but crews.
    pub(crate) fn is_by_crew_alone(&self) -> bool {
        let crews = self.crews.clone();
        *self
            == Self {
                crews,
                ..Self::default()
            }
    }

    /// Whether it asks for nothing but crews and a time.
    pub(super) fn is_by_crew_and_time_alone(&self) -> bool {
        let (since, until) = (None, None);
        Self {
            since,
            until,
            ..self.clone()
        }
        .is_by_crew_alone()
    }

    /// The same, in this state alone.
    pub(super) fn in_state(&self, state: State) -> Self {
        Self {
            states: vec![state],
            ..self.clone()
        }
    }

    /// Whether it takes this kickoff, as far as that is known without its text.
    pub(crate) fn takes(&self, kickoff: &Kickoff) -> bool {
        let has = |of: &Option<String>, value: Option<&str>| of.as_deref().is_none_or(|of| Some(of) == value);
        let meta = || {
            serde_json::from_str::<serde_json::Value>(kickoff.meta.as_deref().unwrap_or("null"))
                .unwrap_or_default()
        };
        (self.crews.is_empty() || self.crews.contains(&kickoff.crew))
            && (self.states.is_empty() || self.states.contains(&kickoff.standing.state))
            && self.since.is_none_or(|since| kickoff.created >= since)
            && self.until.is_none_or(|until| kickoff.created < until)
            && has(&self.worker, kickoff.worker.as_deref())
            && has(
                &self.fingerprint,
                kickoff.error.as_ref().map(|error| &*error.fingerprint),
            )
            && has(&self.chain, kickoff.chain.as_ref().map(|chain| &*chain.place.id))
            && (self.meta.is_empty() || {
                let meta = meta();
                self.meta
                    .iter()
                    .all(|(key, value)| super::row::meta_text(&meta[key]).as_ref() == Some(value))
            })
    }
}

/// Each word of a text as a word to find: what FTS5 has of a language of its own means nothing here.
fn quoted(text: &str) -> String {
    let words = text
        .split_whitespace()
        .map(|word| format!("\"{}\"", word.replace('"', "\"\"")));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor {
            created: 1_764_500_000_123,
            number: 7,
        };
        assert_eq!(Cursor::read(&cursor.written()), Some(cursor));
        for other in ["", "1", "1-", "-1", "g-1", "1-1-1"] {
            assert_eq!(Cursor::read(other), None, "{other}");
        }
    }

    #[test]
    fn words_mean_themselves() {
        assert_eq!(quoted(r#"rye OR "bread" *"#), r#""rye" "OR" """bread""" "*""#);
    }
}
