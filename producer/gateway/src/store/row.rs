//! One kickoff as a row of the store.

use chrono::{DateTime, Utc};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{ChainPlace, Event, KickoffId, Reply, ReplyChain, fingerprint};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde_json::Value;
use serde_json::value::RawValue;

use super::state::{Ending, Progress, Standing, State};

/// So much of an error is kept beside the reply, in characters: a list shows no more.
const LONGEST_ERROR: usize = 500;

/// One kickoff. All moments are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kickoff {
    /// Its row; `None` until it is written.
    pub(crate) number: Option<i64>,
    pub(crate) id: String,
    pub(crate) crew: String,
    pub(crate) standing: Standing,
    pub(crate) created: i64,
    /// When there was news of it last, by our clock.
    pub(crate) heard: i64,
    pub(crate) started: Option<i64>,
    pub(crate) finished: Option<i64>,
    pub(crate) worker: Option<String>,
    pub(crate) error: Option<ErrorLine>,
    /// All that its model calls took, in tokens, where its crew says.
    pub(crate) tokens: Option<i64>,
    /// JSON.
    pub(crate) meta: Option<String>,
    /// Where it stands in a chain, and what follows it.
    pub(crate) chain: Option<ReplyChain>,
}

/// Why it did not succeed, in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorLine {
    pub(crate) kind: String,
    pub(crate) message: String,
    /// Equal for errors that differ only in digits and quoted values.
    pub(crate) fingerprint: String,
}

/// The columns in the order in which [`Kickoff::read`] takes them.
pub(super) const COLUMNS: &str = "number, id, crew, status, progress, ending, ending_heard, kickoff.created, started, \
                                  finished, attempt, redrive, worker, error_kind, error_message, fingerprint, tokens, meta, kickoff.heard, chain";

impl Kickoff {
    /// One of which nothing was known until `heard`.
    pub(crate) fn new(id: &str, crew: &str, heard: i64) -> Self {
        let named = KickoffId::parse(id).ok().and_then(|id| id.created_at());
        Self {
            number: None,
            id: id.to_owned(),
            crew: crew.to_owned(),
            standing: Standing::default(),
            // A clock ahead puts nothing before what is still to come.
            created: named.map_or(heard, |named| millis(named).min(heard)),
            heard,
            started: None,
            finished: None,
            worker: None,
            error: None,
            tokens: None,
            meta: None,
            chain: None,
        }
    }

    /// Takes in an event and its `meta`, heard at `now`.
    pub(super) fn see(&mut self, event: &Event, meta: Option<&RawValue>, now: i64) {
        if self.meta.is_none() {
            self.meta = meta.and_then(written);
        }
        if self.chain.is_none() {
            self.chain = event.chain.clone().map(begun);
        }
        let redrive = self.standing.redrive;
        if !self.standing.see(event, now) {
            return;
        }
        if self.standing.redrive > redrive {
            (self.finished, self.error, self.tokens) = (None, None, None);
            self.chain = self.chain.take().map(|chain| begun(chain.place));
        }
        if event.event_type == event_type::STARTED && !self.standing.state.is_over() {
            self.started = Some(millis(event.time));
            self.worker = worker_of(event).or(self.worker.take());
        }
    }

    /// Takes in a reply; returns whether it is the one that counts.
    pub(super) fn end(&mut self, reply: &Reply) -> bool {
        if self.meta.is_none() {
            self.meta = reply.meta.as_deref().and_then(written);
        }
        let mut standing = self.standing;
        if standing.state.is_over() && self.finished.is_none() {
            // Its end is known by an event alone. This reply was given up too early: the broker was slow to send it.
            standing.state = State::Running;
        }
        if !standing.end(reply.status.into(), reply.redrive, reply.attempt) {
            return false;
        }
        self.standing = standing;
        self.chain = reply.chain.clone().or(self.chain.take());
        self.started = reply.started_at.map(millis).or(self.started);
        self.finished = Some(millis(reply.finished_at));
        self.worker = Some(reply.worker.clone());
        self.error = reply.error.as_ref().map(|error| ErrorLine {
            kind: error.kind.clone(),
            message: error.message.chars().take(LONGEST_ERROR).collect(),
            fingerprint: fingerprint::of(&error.to_string()),
        });
        let usage = reply.result.as_ref().and_then(|result| result.usage);
        self.tokens = usage.and_then(|usage| i64::try_from(usage.total_tokens).ok());
        true
    }

    /// The tenant whose it is, where it has one.
    pub(crate) fn tenant(&self) -> Option<String> {
        let meta: Value = serde_json::from_str(self.meta.as_deref()?).ok()?;
        meta.get("tenant").and_then(meta_text)
    }

    /// From a row with [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state = |code: i64| State::of_code(code).unwrap_or(State::Unknown);
        let (ending, heard): (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
        let kind: Option<String> = row.get(13)?;
        let (message, fingerprint): (Option<String>, Option<String>) = (row.get(14)?, row.get(15)?);
        Ok(Self {
            number: row.get(0)?,
            id: row.get(1)?,
            crew: row.get(2)?,
            standing: Standing {
                state: state(row.get(3)?),
                progress: match row.get(4)? {
                    0 => Progress::Waiting,
                    1 => Progress::Started,
                    _ => Progress::Busy,
                },
                ending: ending.zip(heard).map(|(code, heard)| Ending {
                    state: state(code),
                    heard,
                }),
                redrive: row.get(11)?,
                attempt: row.get(10)?,
            },
            created: row.get(7)?,
            started: row.get(8)?,
            finished: row.get(9)?,
            worker: row.get(12)?,
            error: kind.map(|kind| ErrorLine {
                kind,
                message: message.unwrap_or_default(),
                fingerprint: fingerprint.unwrap_or_default(),
            }),
            tokens: row.get(16)?,
            meta: row.get(17)?,
            heard: row.get(18)?,
            chain: row
                .get::<_, Option<String>>(19)?
                .and_then(|chain| serde_json::from_str(&chain).ok()),
        })
    }

    /// The kickoff with this id.
    pub(super) fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<Self>> {
        let mut find = db.prepare_cached(&format!("SELECT {COLUMNS} FROM kickoff WHERE id = ?"))?;
        find.query_row([id], Self::read).optional()
    }

    /// Writes it, and returns the number of its row.
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<i64> {
        let standing = &self.standing;
        let (state, progress) = (standing.state.code(), standing.progress as i64);
        let (ending, ending_heard) = (
            standing.ending.map(|ending| ending.state.code()),
            standing.ending.map(|ending| ending.heard),
        );
        let error = self.error.as_ref();
        let (kind, message, fingerprint) = (
            error.map(|error| &error.kind),
            error.map(|error| &error.message),
            error.map(|error| &error.fingerprint),
        );
        let changing = named_params! {
            ":status": state,
            ":progress": progress,
            ":ending": ending,
            ":ending_heard": ending_heard,
            ":heard": self.heard,
            ":started": self.started,
            ":finished": self.finished,
            ":attempt": standing.attempt,
            ":redrive": standing.redrive,
            ":worker": self.worker,
            ":error_kind": kind,
            ":error_message": message,
            ":fingerprint": fingerprint,
            ":tokens": self.tokens,
            ":meta": self.meta,
            ":chain_id": self.chain.as_ref().map(|chain| &chain.place.id),
            ":chain": self.chain.as_ref().and_then(|chain| serde_json::to_string(chain).ok()),
        };
        match self.number {
            None => {
                let lasting = named_params! {":id": self.id, ":crew": self.crew, ":created": self.created};
                db.prepare_cached(INSERT)?
                    .execute(&[changing, lasting].concat()[..])?;
                Ok(db.last_insert_rowid())
            }
            Some(number) => {
                let row = named_params! {":number": number};
                db.prepare_cached(UPDATE)?
                    .execute(&[changing, row].concat()[..])?;
                Ok(number)
            }
        }
    }
}

const INSERT: &str = "INSERT INTO kickoff (id, crew, status, progress, ending, ending_heard, created, heard, started, finished, \
     attempt, redrive, worker, error_kind, error_message, fingerprint, tokens, meta, chain_id, chain) VALUES (:id, :crew, :status, :progress, \
     :ending, :ending_heard, :created, :heard, :started, :finished, :attempt, :redrive, :worker, :error_kind, :error_message, \
     :fingerprint, :tokens, :meta, :chain_id, :chain)";
/// What lasts is not among it: SQLite writes the entry of a row anew in each index of a column that is set. An upsert would
/// look its row up in every index.
const UPDATE: &str = "UPDATE kickoff SET status = :status, progress = :progress, ending = :ending, \
     ending_heard = :ending_heard, heard = :heard, started = :started, finished = :finished, attempt = :attempt, \
     redrive = :redrive, worker = :worker, error_kind = :error_kind, error_message = :error_message, \
     fingerprint = :fingerprint, tokens = :tokens, meta = :meta, chain_id = :chain_id, chain = :chain WHERE number = :number";

/// Milliseconds since 1970.
pub(crate) fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

/// The moment that so many milliseconds are; what is none is 1970.
pub(crate) fn moment(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// The place of a kickoff that has not ended.
pub(crate) fn begun(place: ChainPlace) -> ReplyChain {
    ReplyChain {
        place,
        next: None,
        left_out: 0,
        problem: None,
    }
}

fn written(meta: &RawValue) -> Option<String> {
    (meta.get() != "null").then(|| meta.get().to_owned())
}

/// What is searched by of a value of `meta`: a text, a number or a truth.
pub(super) fn meta_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The worker that `kickoff_started` names.
fn worker_of(event: &Event) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Started {
        worker: String,
    }
    let started: Started = serde_json::from_str(event.data.get()).ok()?;
    Some(started.worker)
}
