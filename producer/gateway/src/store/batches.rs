//! Batches that have an end: what was told of them, and how far their items are.

use std::collections::BTreeMap;

use crewfleet_protocol::batch::{BatchChange, BatchClosed, BatchEnded, BatchNews, BatchSpec, BatchStopped};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::de::DeserializeOwned;

use super::queries::{Queries, QueryError};
use super::row::{Kickoff, meta_text};
use super::state::State;
use crate::meta_keys::{BATCH, TENANT};

/// A batch that has an end.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) id: String,
    pub(crate) spec: BatchSpec,
    /// When it was begun, by the clock of whoever did; not after we heard of it (ms).
    pub(crate) opened: i64,
    /// No more items come.
    pub(crate) is_closed: bool,
    /// Items of which there is no kickoff.
    pub(crate) refused: u64,
    pub(crate) stopped: Option<BatchStopped>,
    /// When that was heard (ms).
    pub(crate) stopped_heard: Option<i64>,
    pub(crate) ended: Option<BatchEnded>,
}

/// How far the items of a batch are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) states: BTreeMap<&'static str, u64>,
    /// Those that there are kickoffs of.
    pub(crate) taken: u64,
    /// Those among them that have not ended.
    pub(crate) open: u64,
    /// Those that have ended, and were neither successful nor cancelled.
    pub(crate) failed: u64,
    /// What all took, where their crew says.
    pub(crate) tokens: Option<i64>,
    /// When there was news of one last (ms).
    pub(crate) heard: i64,
}

impl Count {
    pub(crate) fn of(&self, state: State) -> u64 {
        self.states.get(state.as_str()).copied().unwrap_or_default()
    }
}

/// An item of a batch.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) index: u64,
    pub(crate) kickoff_id: String,
    pub(crate) state: State,
    pub(crate) redrive: u32,
    /// The kind and the message of its error.
    pub(crate) error: Option<(String, String)>,
    /// Whether its reply is kept.
    pub(crate) has_reply: bool,
    /// Its reply as it came, where it was asked for.
    pub(crate) reply: Option<Vec<u8>>,
}

/// The batch that a kickoff with this id may be an item of.
pub(super) fn of_item(id: &str) -> Option<&str> {
    let (batch, number) = id.rsplit_once('-')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(batch)
}

/// Takes in what is told of a batch.
pub(super) fn apply(db: &Connection, news: &BatchNews, now: i64) -> rusqlite::Result<()> {
    let id = &news.batch;
    match &news.change {
        BatchChange::Opened(spec) => db
            .prepare_cached("INSERT OR IGNORE INTO batch (id, spec, opened, heard) VALUES (?, ?, ?, ?)")?
            .execute(params![
                id,
                text(spec),
                news.time.timestamp_millis().min(now),
                now
            ])?,
        BatchChange::Closed(BatchClosed { refused }) => db
            .prepare_cached("UPDATE batch SET closed = 1, refused = ?, heard = ? WHERE id = ?")?
            .execute(params![refused.cast_signed(), now, id])?,
        BatchChange::Stopped(stopped) => db
            .prepare_cached(
                "UPDATE batch SET stopped = ?, stopped_heard = ?, heard = ? WHERE id = ? AND stopped IS NULL",
            )?
            .execute(params![text(stopped), now, now, id])?,
        BatchChange::Ended(ended) => db
            .prepare_cached("UPDATE batch SET ended = ?, heard = ? WHERE id = ? AND ended IS NULL")?
            .execute(params![text(ended), now, id])?,
    };
    Ok(())
}

/// What came as JSON can be written as such.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn json<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

impl Batch {
    const COLUMNS: &str = "id, spec, opened, closed, refused, stopped, stopped_heard, ended";

    /// `None` where another version has written what cannot be read.
    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let Some(spec) = json(row.get(1)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: row.get(0)?,
            spec,
            opened: row.get(2)?,
            is_closed: row.get(3)?,
            refused: row.get::<_, i64>(4)?.cast_unsigned(),
            stopped: json(row.get(5)?),
            stopped_heard: row.get(6)?,
            ended: json(row.get(7)?),
        }))
    }

    /// Its items, as SQL from `FROM` on: of its crew and tenant, with a number that it could have given.
    fn items(&self) -> (String, Vec<Value>) {
        let mut sql = "FROM meta CROSS JOIN kickoff ON kickoff.number = meta.kickoff \
             WHERE meta.key = ? AND meta.value = ? AND kickoff.crew = ? AND kickoff.id > ? AND kickoff.id < ? \
             AND substr(kickoff.id, ?) NOT GLOB '*[^0-9]*' AND substr(kickoff.id, ?) NOT GLOB '0?*'"
            .to_owned();
        // What begins with the id and a hyphen: `.` comes next.
        let (first, end) = (format!("{}-", self.id), format!("{}.", self.id));
        let number = Value::from(self.id.len() as i64 + 2);
        let mut values = vec![
            Value::from(BATCH.to_owned()),
            self.id.clone().into(),
            self.spec.crew.to_string().into(),
            first.into(),
            end.into(),
            number.clone(),
            number,
        ];
        if let Some(tenant) = self.tenant() {
            sql.push_str(
                " AND EXISTS (SELECT 1 FROM meta AS m WHERE m.kickoff = kickoff.number AND m.key = ? AND m.value = ?)",
            );
            values.extend([TENANT.to_owned().into(), tenant.into()]);
        }
        (sql, values)
    }

    /// The tenant whose it is, where it has one.
    pub(crate) fn tenant(&self) -> Option<String> {
        let meta: serde_json::Value = serde_json::from_str(self.spec.meta.as_deref()?.get()).ok()?;
        meta.get(TENANT).and_then(meta_text)
    }

    /// Whether who has this tenant, and these crews, may know of it. `None`: of all.
    pub(crate) fn is_for(&self, tenant: Option<&str>, crews: Option<&[String]>) -> bool {
        tenant.is_none_or(|own| self.tenant().as_deref() == Some(own))
            && crews.is_none_or(|crews| crews.iter().any(|crew| crew == self.spec.crew.as_str()))
    }

    /// Whether a kickoff that has the id of an item is one.
    pub(crate) fn has(&self, kickoff: &Kickoff) -> bool {
        let meta = kickoff.meta.as_deref();
        let meta: serde_json::Value = meta
            .and_then(|meta| serde_json::from_str(meta).ok())
            .unwrap_or_default();
        kickoff.crew == self.spec.crew.as_str()
            && meta.get(BATCH).and_then(meta_text).as_deref() == Some(self.id.as_str())
            && self
                .tenant()
                .is_none_or(|tenant| kickoff.tenant() == Some(tenant))
    }
}

impl Queries {
    /// The batches with an end that were begun before this one, those that were begun last first.
    pub(crate) async fn ending_batches(
        &self,
        before: Option<(i64, String)>,
        limit: usize,
    ) -> Result<Vec<Batch>, QueryError> {
        let (opened, id) = before.unwrap_or((i64::MAX, String::new()));
        self.ask(move |db| {
            let sql = format!(
                "SELECT {} FROM batch WHERE (opened, id) < (?, ?) ORDER BY opened DESC, id DESC LIMIT ?",
                Batch::COLUMNS
            );
            let mut find = db.prepare_cached(&sql)?;
            let found = find.query_map(params![opened, id, limit as i64], Batch::read)?;
            let found: Vec<_> = found.collect::<Result<_, _>>()?;
            Ok(found.into_iter().flatten().collect())
        })
        .await
    }

    /// A batch that has an end.
    pub(crate) async fn ending_batch(&self, id: &str) -> Result<Option<Batch>, QueryError> {
        let id = id.to_owned();
        self.ask(move |db| {
            let sql = format!("SELECT {} FROM batch WHERE id = ?", Batch::COLUMNS);
            let found = db.prepare_cached(&sql)?.query_row([id], Batch::read).optional();
            Ok(found?.flatten())
        })
        .await
    }

    /// The batches that have not ended.
    pub(crate) async fn open_batches(&self) -> Result<Vec<String>, QueryError> {
        self.ask(|db| {
            let mut find = db.prepare_cached("SELECT id FROM batch WHERE ended IS NULL")?;
            let ids = find.query_map([], |row| row.get(0))?;
            ids.collect()
        })
        .await
    }

    /// How far its items are.
    pub(crate) async fn count_items(&self, batch: &Batch) -> Result<Count, QueryError> {
        let (from, values) = batch.items();
        self.ask(move |db| {
            let sql =
                format!("SELECT status, count(*), sum(tokens), max(kickoff.heard) {from} GROUP BY status");
            let mut find = db.prepare_cached(&sql)?;
            let mut rows = find.query(params_from_iter(values))?;
            let mut count = Count::default();
            while let Some(row) = rows.next()? {
                let state = State::of_code(row.get(0)?).unwrap_or(State::Unknown);
                let items = row.get::<_, i64>(1)?.cast_unsigned();
                let tokens: Option<i64> = row.get(2)?;
                *count.states.entry(state.as_str()).or_default() += items;
                count.taken += items;
                match state {
                    State::Succeeded | State::Cancelled => {}
                    state if state.is_over() => count.failed += items,
                    _ => count.open += items,
                }
                count.tokens = match (count.tokens, tokens) {
                    (Some(before), Some(more)) => Some(before.saturating_add(more)),
                    (before, more) => before.or(more),
                };
                count.heard = count.heard.max(row.get(3)?);
            }
            Ok(count)
        })
        .await
    }

    /// Those of its items that have not ended: id and redrive.
    pub(crate) async fn open_items(&self, batch: &Batch) -> Result<Vec<(String, u32)>, QueryError> {
        let (from, mut values) = batch.items();
        self.ask(move |db| {
            let mut find = db.prepare_cached(&format!(
                "SELECT kickoff.id, redrive {from} AND status IN (?, ?, ?)"
            ))?;
            values.extend(
                [State::Queued, State::Running, State::Unknown].map(|state| Value::from(state.code())),
            );
            let items = find.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
            items.collect()
        })
        .await
    }

    /// Its items by their numbers; with their replies, where all of these weigh `most` bytes or less.
    pub(crate) async fn items(&self, batch: &Batch, most: u64) -> Result<Vec<Item>, QueryError> {
        let (from, values) = batch.items();
        let number = batch.id.len() + 1;
        self.ask(move |db| {
            let mut weigh = db.prepare_cached(&format!(
                "SELECT total((SELECT bytes FROM reply WHERE reply.kickoff = kickoff.number)) {from}"
            ))?;
            let weight: f64 = weigh.query_row(params_from_iter(&values), |row| row.get(0))?;
            let body = match weight <= most as f64 {
                true => "body",
                false => "NULL",
            };
            let mut find = db.prepare_cached(&format!(
                "SELECT kickoff.id, status, kickoff.redrive, error_kind, error_message, \
                 EXISTS (SELECT 1 FROM reply WHERE reply.kickoff = kickoff.number), \
                 (SELECT {body} FROM reply WHERE reply.kickoff = kickoff.number) {from}"
            ))?;
            let items = find.query_map(params_from_iter(values), |row| {
                let kickoff_id: String = row.get(0)?;
                let (kind, message): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
                Ok(Item {
                    index: kickoff_id
                        .get(number..)
                        .and_then(|n| n.parse().ok())
                        .unwrap_or_default(),
                    kickoff_id,
                    state: State::of_code(row.get(1)?).unwrap_or(State::Unknown),
                    redrive: row.get(2)?,
                    error: kind.map(|kind| (kind, message.unwrap_or_default())),
                    has_reply: row.get(5)?,
                    reply: row.get(6)?,
                })
            })?;
            let mut items = items.collect::<rusqlite::Result<Vec<_>>>()?;
            items.sort_unstable_by_key(|item| item.index);
            Ok(items)
        })
        .await
    }
}
