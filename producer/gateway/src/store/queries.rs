//! What is asked of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use crewfleet_protocol::Event;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::value::RawValue;

use super::filter::{Cursor, Filter};
use super::news::{Request, Stream};
pub(crate) use super::readers::QueryError;
use super::readers::Readers;
use super::recent::Recent;
use super::row::{COLUMNS, Kickoff, moment};
use super::state::State;

/// So many of the last events of a kickoff are told at once by AMP's API.
const LAST_EVENTS: usize = 20;
/// So many types of events are counted apart; crews name types, too.
const TYPES: usize = 64;

/// What asks.
#[derive(Clone)]
pub(crate) struct Queries {
    readers: Readers,
    recent: Arc<Recent>,
}

/// An event and its place in the stream.
#[derive(Debug, Clone)]
pub(crate) struct PlacedEvent {
    pub(crate) place: u64,
    pub(crate) event: Event,
}

/// One kickoff with what AMP's status call tells.
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) kickoff: Kickoff,
    /// The reply as it came, where it is kept.
    pub(crate) reply: Option<Vec<u8>>,
    /// The last ones, in the order they came.
    pub(crate) events: Vec<Event>,
    /// How many there are, by type.
    pub(crate) counts: BTreeMap<String, u64>,
    /// The last task that its present run has completed.
    pub(crate) last_task: Option<Event>,
}

impl Queries {
    pub(super) fn new(readers: Readers, recent: Arc<Recent>) -> Self {
        Self { readers, recent }
    }

    /// One kickoff.
    pub(crate) async fn kickoff(&self, id: &str) -> Result<Option<Kickoff>, QueryError> {
        if let Some(kickoff) = self.recent.kickoff(id) {
            return Ok(Some(kickoff));
        }
        let id = id.to_owned();
        self.ask(move |db| Kickoff::find(db, &id)).await
    }

    /// One kickoff with its reply, and its last events.
    pub(crate) async fn details(&self, id: &str) -> Result<Option<Details>, QueryError> {
        let id = id.to_owned();
        self.ask(move |db| details(db, &id)).await
    }

    /// The reply of a kickoff, as it came.
    pub(crate) async fn reply(&self, id: &str) -> Result<Option<Vec<u8>>, QueryError> {
        if let Some(reply) = self.recent.reply(id) {
            return Ok(Some(reply.to_vec()));
        }
        let id = id.to_owned();
        self.ask(move |db| {
            let mut find = db.prepare_cached(
                "SELECT body FROM reply WHERE kickoff = (SELECT number FROM kickoff WHERE id = ?)",
            )?;
            find.query_row([id], |row| row.get(0)).optional()
        })
        .await
    }

    /// The request of a kickoff that came over HTTP.
    pub(crate) async fn request(&self, id: &str) -> Result<Option<Request>, QueryError> {
        let id = id.to_owned();
        self.ask(move |db| {
            let mut find =
                db.prepare_cached("SELECT id, crew, time, body_hash, claim, body FROM request WHERE id = ?")?;
            let request = find.query_row([id], |row| {
                Ok(Request {
                    id: row.get(0)?,
                    crew: row.get(1)?,
                    time: row.get(2)?,
                    body_hash: row.get(3)?,
                    claim: row.get(4)?,
                    body: row.get(5)?,
                })
            });
            request.optional()
        })
        .await
    }

    /// The newest kickoffs that a filter takes, behind a cursor: so many at most.
    pub(crate) async fn list(
        &self,
        filter: Filter,
        behind: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Kickoff>, QueryError> {
        self.ask(move |db| list(db, &filter, behind, limit)).await
    }

    /// Whether the event is here that says that this redrive of a kickoff has ended.
    pub(crate) async fn has_last_event(&self, id: &str, redrive: u32) -> Result<bool, QueryError> {
        let id = id.to_owned();
        self.ask(move |db| {
            let mut find = db.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM event WHERE kickoff = (SELECT number FROM kickoff WHERE id = ?) \
                 AND type = 'kickoff_finished' AND redrive = ?)",
            )?;
            find.query_row(params![id, redrive], |row| row.get(0))
        })
        .await
    }

    /// The events of a kickoff behind a place, so many at most.
    pub(crate) async fn events_of(
        &self,
        id: &str,
        behind: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PlacedEvent>, QueryError> {
        let id = id.to_owned();
        let behind = behind.map_or(-1, u64::cast_signed);
        self.ask(move |db| {
            let mut find = db.prepare_cached(&format!(
                "SELECT {EVENT} FROM event JOIN kickoff ON kickoff.number = event.kickoff \
                 WHERE event.kickoff = (SELECT number FROM kickoff WHERE id = ?) AND place > ? ORDER BY place LIMIT ?"
            ))?;
            let events = find.query_map(params![id, behind, limit as i64], placed)?;
            events.collect()
        })
        .await
    }

    /// All events behind a place, in the order of the stream: so many at most.
    pub(crate) async fn events_behind(
        &self,
        place: i64,
        limit: usize,
    ) -> Result<Vec<PlacedEvent>, QueryError> {
        self.ask(move |db| {
            let mut find = db.prepare_cached(&format!(
                "SELECT {EVENT} FROM event JOIN kickoff ON kickoff.number = event.kickoff \
                 WHERE place > ? ORDER BY place LIMIT ?"
            ))?;
            let events = find.query_map(params![place, limit as i64], placed)?;
            events.collect()
        })
        .await
    }

    /// The events that say that a kickoff ends with its readers, of those that have not ended; so many at most.
    pub(crate) async fn watched(&self, limit: usize) -> Result<Vec<PlacedEvent>, QueryError> {
        self.ask(move |db| {
            let mut find = db.prepare_cached(&format!(
                "SELECT {EVENT} FROM event INDEXED BY event_watched JOIN kickoff ON kickoff.number = event.kickoff \
                 WHERE type = 'kickoff_watched' AND event.redrive = kickoff.redrive AND kickoff.status IN (?, ?, ?) LIMIT ?"
            ))?;
            let [queued, running, unknown] = [State::Queued, State::Running, State::Unknown].map(State::code);
            let events = find.query_map(params![queued, running, unknown, limit as i64], placed)?;
            events.collect()
        })
        .await
    }

    /// The first and the last place of the events that are kept.
    pub(crate) async fn places(&self) -> Result<Option<(u64, u64)>, QueryError> {
        self.ask(|db| {
            let bounds: (Option<i64>, Option<i64>) =
                db.query_row("SELECT min(place), max(place) FROM event", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            Ok(bounds
                .0
                .zip(bounds.1)
                .map(|(first, last)| (first.cast_unsigned(), last.cast_unsigned())))
        })
        .await
    }

    /// The moment before which kickoffs may be gone or were missed, if there is one: of one that began before it, nothing
    /// can be said where nothing is known.
    pub(crate) async fn known_since(&self) -> Result<Option<DateTime<Utc>>, QueryError> {
        self.ask(|db| {
            let since: Option<i64> = db.query_row(
                "SELECT max(known_since) FROM stream WHERE name IN ('history', 'results')",
                [],
                |row| row.get(0),
            )?;
            Ok(since.map(moment))
        })
        .await
    }

    /// The moment (ms) before which news of batches may have been missed, if there is one.
    pub(crate) async fn batches_known_since(&self) -> Result<Option<i64>, QueryError> {
        self.ask(|db| {
            let since = "SELECT known_since FROM stream WHERE name = ?";
            let since = db.query_row(since, [Stream::Batches.as_str()], |row| row.get(0));
            Ok(since.optional()?.flatten())
        })
        .await
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.readers.read(ask).await
    }
}

/// The columns of an event in the order in which [`event`] takes them.
const EVENT: &str = "place, id, crew, event.attempt, event.redrive, sequence, time, type, data";

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let data: String = row.get(8)?;
    Ok(Event {
        kickoff_id: row.get(1)?,
        crew: row.get(2)?,
        attempt: row.get(3)?,
        redrive: row.get(4)?,
        sequence: row.get::<_, i64>(5)?.cast_unsigned(),
        time: moment(row.get(6)?),
        event_type: row.get(7)?,
        // It was JSON when it was written.
        data: RawValue::from_string(data).unwrap_or_default(),
        meta: None,
        chain: None,
    })
}

fn placed(row: &Row<'_>) -> rusqlite::Result<PlacedEvent> {
    Ok(PlacedEvent {
        place: row.get::<_, i64>(0)?.cast_unsigned(),
        event: event(row)?,
    })
}

fn details(db: &Connection, id: &str) -> rusqlite::Result<Option<Details>> {
    let Some(kickoff) = Kickoff::find(db, id)? else {
        return Ok(None);
    };
    let number = kickoff.number;
    let reply = db
        .prepare_cached("SELECT body FROM reply WHERE kickoff = ?")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let mut events: Vec<Event> = db
        .prepare_cached(&format!(
            "SELECT {EVENT} FROM event JOIN kickoff ON kickoff.number = event.kickoff \
             WHERE event.kickoff = ? ORDER BY place DESC LIMIT {LAST_EVENTS}"
        ))?
        .query_map([number], event)?
        .collect::<rusqlite::Result<_>>()?;
    events.reverse();
    let counts = db
        .prepare_cached(&format!(
            "SELECT type, count(*) FROM event WHERE kickoff = ? GROUP BY type ORDER BY min(place) LIMIT {TYPES}"
        ))?
        .query_map([number], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?
        .collect::<rusqlite::Result<_>>()?;
    let last_task = db
        .prepare_cached(&format!(
            "SELECT {EVENT} FROM event JOIN kickoff ON kickoff.number = event.kickoff \
             WHERE event.kickoff = ? AND type = 'task_completed' AND event.redrive = ? ORDER BY place DESC LIMIT 1"
        ))?
        .query_row(params![number, kickoff.standing.redrive], event)
        .optional()?;
    Ok(Some(Details {
        kickoff,
        reply,
        events,
        counts,
        last_task,
    }))
}

fn list(
    db: &Connection,
    filter: &Filter,
    behind: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<Vec<Kickoff>> {
    let mut found = Vec::new();
    for mut search in filter.searches() {
        if let Some(cursor) = behind {
            search.behind(cursor);
        }
        let sql = format!("SELECT {COLUMNS} {} {} LIMIT ?", search.sql(), search.order());
        search.values.push(Value::from(limit as i64));
        let mut find = db.prepare_cached(&sql)?;
        let kickoffs = find.query_map(params_from_iter(search.values), Kickoff::read)?;
        found.extend(kickoffs.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    found.sort_unstable_by_key(|kickoff| std::cmp::Reverse((kickoff.created, kickoff.number)));
    found.truncate(limit);
    Ok(found)
}
