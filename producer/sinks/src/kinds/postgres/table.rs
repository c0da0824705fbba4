//! The tables: what is inserted, and whether they are as they must be. `postgres.sql` makes them.

use deadpool_postgres::Client;
use serde_json::value::RawValue;
use tokio_postgres::types::Json;

use super::json;
use super::said::told;

/// A table, as far as it is ours.
pub(super) struct Table {
    name: String,
    columns: &'static [(&'static str, &'static str)],
    /// The columns by which a row is known again.
    key: &'static [&'static str],
    insert: String,
}

const REPLIES: &[(&str, &str)] = &[
    ("kickoff_id", "text"),
    ("redrive", "bigint"),
    ("crew", "text"),
    ("status", "text"),
    ("attempt", "bigint"),
    ("executions", "bigint"),
    ("worker", "text"),
    ("requested_at", "timestamp with time zone"),
    ("started_at", "timestamp with time zone"),
    ("finished_at", "timestamp with time zone"),
    ("total_tokens", "bigint"),
    ("result", "jsonb"),
    ("error", "jsonb"),
    ("meta", "jsonb"),
];

const EVENTS: &[(&str, &str)] = &[
    ("event_id", "text"),
    ("kickoff_id", "text"),
    ("redrive", "bigint"),
    ("attempt", "bigint"),
    ("sequence", "bigint"),
    ("crew", "text"),
    ("type", "text"),
    ("time", "timestamp with time zone"),
    ("data", "jsonb"),
    ("meta", "jsonb"),
];

/// A row: the id of an item, and its body.
pub(super) struct Row {
    id: String,
    body: Box<RawValue>,
}

impl Row {
    /// # Errors
    /// Why it can be none.
    pub(super) fn new(id: &str, body: &[u8]) -> Result<Self, String> {
        let body = serde_json::from_slice(&json::without_zeros(body)).map_err(|_| "its body is no JSON")?;
        Ok(Self {
            id: id.to_owned(),
            body,
        })
    }
}

impl Table {
    /// The table of replies.
    pub(super) fn replies(name: &str) -> Self {
        Self::new(name, REPLIES, &["kickoff_id", "redrive"])
    }

    /// The table of events.
    pub(super) fn events(name: &str) -> Self {
        Self::new(name, EVENTS, &["event_id"])
    }

    fn new(name: &str, columns: &'static [(&str, &str)], key: &'static [&str]) -> Self {
        // PostgreSQL takes the bodies apart, so that one statement with two parameters inserts any number of rows.
        let value = |(column, kind): &(&str, &str)| match (*column, *kind) {
            ("event_id", _) => "id".to_owned(),
            ("redrive", _) => "coalesce((body->>'redrive')::bigint, 0)".to_owned(),
            ("total_tokens", _) => "(body#>>'{result,usage,total_tokens}')::bigint".to_owned(),
            (column, "jsonb") => format!("nullif(body->'{column}', 'null'::jsonb)"),
            (column, kind) => format!("(body->>'{column}')::{kind}"),
        };
        let names: Vec<_> = columns.iter().map(|(column, _)| *column).collect();
        let values: Vec<_> = columns.iter().map(value).collect();
        let insert = format!(
            "INSERT INTO {name} ({}) SELECT {} FROM unnest($1::text[], $2::jsonb[]) AS came (id, body) \
             ON CONFLICT ({}) DO NOTHING",
            names.join(", "),
            values.join(", "),
            key.join(", "),
        );
        Self {
            name: name.to_owned(),
            columns,
            key,
            insert,
        }
    }

    /// Inserts rows, all or none. One that is there already stays as it is: the first terminal reply of a run counts.
    pub(super) async fn insert(&self, client: &Client, rows: &[Row]) -> Result<(), tokio_postgres::Error> {
        let statement = client.prepare_cached(&self.insert).await?;
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let bodies: Vec<_> = rows.iter().map(|row| Json(&*row.body)).collect();
        client.execute(&statement, &[&ids, &bodies]).await.map(drop)
    }

    /// Looks whether it is as it must be.
    ///
    /// # Errors
    /// The first difference, and what to do.
    pub(super) async fn check(&self, client: &Client) -> Result<(), String> {
        let told = |error: tokio_postgres::Error| told(&error);
        let rows = client.query(COLUMNS, &[&self.name]).await.map_err(told)?;
        let found: Vec<Column> = rows
            .iter()
            .map(|row| Column {
                name: row.get(0),
                kind: row.get(1),
                is_required: row.get(2),
            })
            .collect();
        let keys = client.query(KEYS, &[&self.name]).await.map_err(told)?;
        let keys: Vec<Vec<String>> = keys.iter().map(|row| row.get(0)).collect();
        self.compare(&found, &keys)
    }

    fn compare(&self, found: &[Column], keys: &[Vec<String>]) -> Result<(), String> {
        const FIX: &str = "`crewfleet sinks ddl` prints what it must be";
        let Self {
            name, columns, key, ..
        } = self;
        if found.is_empty() {
            return Err(format!(
                "there is no table {name}, or it is hidden from this user; {FIX}"
            ));
        }
        for (column, kind) in *columns {
            match found.iter().find(|found| found.name == *column) {
                None => return Err(format!("table {name} has no column {column} ({kind}); {FIX}")),
                Some(found) if found.kind != *kind => {
                    return Err(format!(
                        "column {column} of table {name} is {}, and must be {kind}; {FIX}",
                        found.kind
                    ));
                }
                Some(_) => {}
            }
        }
        let is_ours = |column: &Column| columns.iter().any(|(name, _)| *name == column.name);
        if let Some(foreign) = found.iter().find(|column| column.is_required && !is_ours(column)) {
            let foreign = &foreign.name;
            return Err(format!(
                "column {foreign} of table {name} is NOT NULL and has no default, so that nothing could be inserted: give it one"
            ));
        }
        let mut wanted: Vec<&str> = key.to_vec();
        wanted.sort_unstable();
        match keys.iter().any(|columns| *columns == wanted) {
            true => Ok(()),
            false => Err(format!(
                "table {name} has no primary key or unique index on ({}); {FIX}",
                key.join(", ")
            )),
        }
    }
}

struct Column {
    name: String,
    kind: String,
    /// It has no default.
    is_required: bool,
}

/// Each column with its type, and whether a row must say it.
const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, atttypmod), \
     attnotnull AND NOT atthasdef AND attidentity = '' \
     FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";

/// The columns of each unique index of all rows.
const KEYS: &str = "SELECT array_agg(attname::text ORDER BY attname::text COLLATE \"C\") FROM pg_index \
     JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) \
     WHERE indrelid = to_regclass($1) AND indisunique AND indpred IS NULL AND indexprs IS NULL GROUP BY indexrelid";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(table: &Table) -> Vec<Column> {
        let column = |(name, kind): &(&str, &str)| Column {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            is_required: *name == "kickoff_id",
        };
        table.columns.iter().map(column).collect()
    }

    #[test]
    fn a_table_that_differs_is_told_with_its_difference() {
        let table = Table::replies("t");
        let key = vec![vec!["kickoff_id".to_owned(), "redrive".to_owned()]];
        assert_eq!(table.compare(&found(&table), &key), Ok(()));
        let told = |change: fn(&mut Vec<Column>), keys: &[Vec<String>]| {
            let mut columns = found(&table);
            change(&mut columns);
            table.compare(&columns, keys).unwrap_err()
        };
        let foreign = |columns: &mut Vec<Column>| {
            columns.push(Column {
                name: "mine".into(),
                kind: "text".into(),
                is_required: true,
            });
        };
        for (told, part) in [
            (told(Vec::clear, &key), "no table t"),
            (
                told(|columns| drop(columns.remove(3)), &key),
                "no column status (text)",
            ),
            (
                told(|columns| columns[1].kind = "integer".into(), &key),
                "redrive of table t is integer, and must be bigint",
            ),
            (told(foreign, &key), "column mine"),
            (
                told(|_| {}, &[vec!["kickoff_id".into()]]),
                "(kickoff_id, redrive)",
            ),
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}
