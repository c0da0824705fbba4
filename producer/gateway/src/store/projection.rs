//! What the messages of the streams make of the store: applied in one transaction with the places at which they stood.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crewfleet_protocol::{ChainPlace, Event, Reply};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::news::{Mark, News, Request, Stored, Stream};
use super::recent::{Recent, ReplyNews, Written};
use super::row::{Kickoff, begun, millis};
use super::state::{Progress, State};
use super::tally::Tally;
use super::{batches, full_text, meta_index, steering};

/// What is searched by, besides what each kickoff has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indexes {
    /// Keys of `meta`.
    pub(crate) meta_keys: Vec<String>,
    /// The words of inputs and results.
    pub(crate) full_text: bool,
}

/// What a transaction changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The kickoffs of which there is news.
    pub(super) ids: BTreeSet<String>,
    /// Those among them that have ended.
    pub(super) ended: BTreeSet<String>,
    /// The events that came, in their order.
    pub(super) events: Vec<Stored>,
    /// What is written of kickoffs by now.
    pub(super) written: Vec<Written>,
    /// Rows were changed that are not among it.
    pub(super) others: bool,
    /// The batches of which there is news.
    pub(super) batches: BTreeSet<String>,
}

/// One transaction's worth of news.
pub(super) struct Projection<'db> {
    db: &'db Connection,
    indexes: &'db Indexes,
    /// As the file was before this transaction.
    recent: &'db Recent,
    /// By our clock, in milliseconds.
    now: i64,
    /// Those that have changed, with what they were indexed by.
    kickoffs: HashMap<String, Kickoff>,
    replies: HashMap<String, ReplyNews>,
    marks: HashMap<Stream, Mark>,
    kept: HashMap<&'static str, (i64, i64)>,
    tally: Tally,
    changes: Changes,
}

impl<'db> Projection<'db> {
    pub(super) fn new(db: &'db Connection, indexes: &'db Indexes, recent: &'db Recent, now: i64) -> Self {
        Self {
            db,
            indexes,
            recent,
            now,
            kickoffs: HashMap::new(),
            replies: HashMap::new(),
            marks: HashMap::new(),
            kept: HashMap::new(),
            tally: Tally::default(),
            changes: Changes::default(),
        }
    }

    pub(super) fn apply(&mut self, news: &News) -> rusqlite::Result<()> {
        match news {
            News::Event { mark, event, meta } => {
                self.marks.insert(Stream::History, *mark);
                self.event(mark.place, event, meta.as_deref())
            }
            News::Reply {
                mark,
                id,
                reply,
                body,
            } => {
                self.marks.insert(Stream::Results, *mark);
                self.reply(id, reply, body)
            }
            News::Request(mark, request) => {
                self.marks.insert(Stream::Requests, *mark);
                self.request(request)
            }
            News::Batch(mark, news) => {
                self.marks.insert(Stream::Batches, *mark);
                self.changes.batches.insert(news.batch.clone());
                // Whoever tells it waits until it is here.
                self.changes.ids.insert(news.batch.clone());
                batches::apply(self.db, news, self.now)
            }
            News::Passed(stream, mark) => {
                self.marks.insert(*stream, *mark);
                Ok(())
            }
            News::Taken {
                id,
                crew,
                meta,
                chain,
            } => self.begun(id, crew, meta.as_deref(), chain.clone()),
            News::ReadTo(Stream::Results, moment) => self.give_up_replies(*moment),
            News::ReadTo(..) => Ok(()),
            News::Steered(steered) => steering::write(self.db, steered),
            News::Missed(stream, moment) => self.missed(*stream, *moment),
            News::Replaced(stream) => self.replaced(*stream),
        }
    }

    /// Writes what is left to write, before the transaction is committed.
    pub(super) fn finish(mut self) -> rusqlite::Result<Changes> {
        self.flush()?;
        self.tally.flush(self.db)?;
        for (stream, mark) in &self.marks {
            let mut set = self.db.prepare_cached(
                "INSERT INTO stream (name, place, hash) VALUES (?, ?, ?) \
                 ON CONFLICT (name) DO UPDATE SET place = excluded.place, hash = excluded.hash",
            )?;
            set.execute(params![
                stream.as_str(),
                mark.place.cast_signed(),
                mark.hash.cast_signed()
            ])?;
        }
        for (kind, (count, bytes)) in &self.kept {
            let mut add = self
                .db
                .prepare_cached("UPDATE kept SET count = count + ?, bytes = bytes + ? WHERE kind = ?")?;
            add.execute(params![count, bytes, kind])?;
        }
        Ok(self.changes)
    }

    /// A kickoff is there, whether or not a worker has begun with it.
    fn begun(
        &mut self,
        id: &str,
        crew: &str,
        meta: Option<&str>,
        chain: Option<ChainPlace>,
    ) -> rusqlite::Result<()> {
        let kickoff = self.kickoff(id, crew)?;
        if kickoff.chain.is_none() {
            kickoff.chain = chain.map(begun);
        }
        if kickoff.meta.is_none() {
            kickoff.meta = meta.map(str::to_owned);
        }
        Ok(())
    }

    fn event(&mut self, place: u64, event: &Arc<Event>, meta: Option<&RawValue>) -> rusqlite::Result<()> {
        let now = self.now;
        let kickoff = self.kickoff(&event.kickoff_id, &event.crew)?;
        kickoff.see(event, meta, now);
        let number = self.number(&event.kickoff_id)?;
        let mut add = self.db.prepare_cached(
            "INSERT OR IGNORE INTO event (place, kickoff, type, attempt, redrive, sequence, time, heard, data) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let data = event.data.get();
        let added = add.execute(params![
            place.cast_signed(),
            number,
            event.event_type,
            event.attempt,
            event.redrive,
            event.sequence.cast_signed(),
            millis(event.time),
            now,
            data
        ])?;
        if added > 0 {
            let bytes = data.len() + event.event_type.len();
            self.keep("event", 1, bytes);
            if let Some(kickoff) = self.kickoffs.get(&event.kickoff_id) {
                self.tally.event(self.db, number, kickoff, event)?;
            }
            let event = Arc::clone(event);
            self.changes.events.push(Stored { place, event });
        }
        Ok(())
    }

    fn reply(&mut self, id: &str, reply: &Reply, body: &[u8]) -> rusqlite::Result<()> {
        let kickoff = self.kickoff(id, &reply.crew)?;
        if !kickoff.end(reply) {
            return Ok(());
        }
        let meta = kickoff.meta.clone();
        self.changes.ended.insert(id.to_owned());
        // Who reads which kickoff follows asks for it at once: its request was there before this reply.
        let chain = reply.chain.as_ref();
        if let Some((chain, next)) = chain.and_then(|chain| Some((chain, chain.next.as_ref()?))) {
            let place = ChainPlace {
                id: chain.place.id.clone(),
                parent: Some(id.to_owned()),
                step: next.step,
            };
            self.begun(&next.kickoff_id, &next.crew, meta.as_deref(), Some(place))?;
        }
        let number = self.number(id)?;
        let mut find = self
            .db
            .prepare_cached("SELECT bytes FROM reply WHERE kickoff = ?")?;
        let before: Option<i64> = find.query_row([number], |row| row.get(0)).optional()?;
        if let Some(kickoff) = self.kickoffs.get(id) {
            self.tally.reply(self.db, number, kickoff, reply)?;
        }
        if let Some(bytes) = before {
            let kept = self.kept.entry("reply").or_default();
            *kept = (kept.0 - 1, kept.1 - bytes);
        }
        let mut put = self.db.prepare_cached(
            "INSERT OR REPLACE INTO reply (kickoff, redrive, heard, bytes, body) VALUES (?, ?, ?, ?, ?)",
        )?;
        let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
        put.execute(params![number, reply.redrive, self.now, bytes, body])?;
        self.keep("reply", 1, body.len());
        self.replies.insert(id.to_owned(), ReplyNews::of(body));
        if self.indexes.full_text {
            full_text::add_result(self.db, number, reply)?;
        }
        Ok(())
    }

    fn request(&mut self, request: &Request) -> rusqlite::Result<()> {
        // Of two under one id the first counts.
        let mut add = self.db.prepare_cached(
            "INSERT OR IGNORE INTO request (id, crew, time, body_hash, claim, bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?;
        let bytes = i64::try_from(request.body.len()).unwrap_or(i64::MAX);
        let added = add.execute(params![
            request.id,
            request.crew,
            request.time,
            request.body_hash,
            request.claim,
            bytes,
            request.body
        ])?;
        if added > 0 {
            self.keep("request", 1, request.body.len());
            let known = match self.kickoffs.get(&request.id) {
                Some(kickoff) => kickoff.number,
                None => self.find(&request.id)?.and_then(|kickoff| kickoff.number),
            };
            if let Some(number) = known.filter(|_| self.indexes.full_text) {
                full_text::add_inputs(self.db, number, &request.body)?;
            }
        }
        self.changes.ids.insert(request.id.clone());
        Ok(())
    }

    /// Those that ended by their events before this moment have no reply any more: it was published before the event.
    fn give_up_replies(&mut self, moment: i64) -> rusqlite::Result<()> {
        self.flush()?;
        let mut find = self
            .db
            .prepare_cached("SELECT id FROM kickoff WHERE ending IS NOT NULL AND ending_heard < ?")?;
        let ids = find
            .query_map([moment], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        self.changes.others = true;
        self.changes.ids.extend(ids.iter().cloned());
        self.changes.ended.extend(ids);
        let mut settle = self.db.prepare_cached(
            "UPDATE kickoff SET status = ending, ending = NULL, ending_heard = NULL \
             WHERE ending IS NOT NULL AND ending_heard < ?",
        )?;
        settle.execute([moment])?;
        Ok(())
    }

    /// What waited or ran may have ended in what was missed. Its reply, or its next event, tells.
    fn missed(&mut self, stream: Stream, moment: i64) -> rusqlite::Result<()> {
        self.flush()?;
        self.changes.others = true;
        self.db.execute(
            "INSERT INTO stream (name, place, hash, known_since) VALUES (?, -1, 0, ?) \
             ON CONFLICT (name) DO UPDATE SET known_since = excluded.known_since",
            params![stream.as_str(), moment],
        )?;
        if stream == Stream::History {
            self.lose_track()?;
        }
        Ok(())
    }

    fn replaced(&mut self, stream: Stream) -> rusqlite::Result<()> {
        self.flush()?;
        self.changes.others = true;
        self.marks.remove(&stream);
        self.db.execute(
            "UPDATE stream SET place = -1, hash = 0, known_since = ? WHERE name = ?",
            params![self.now, stream.as_str()],
        )?;
        if stream == Stream::History {
            self.lose_track()?;
            // Their places are those of the stream that is gone.
            self.db.execute("DELETE FROM event", [])?;
            self.db
                .execute("UPDATE kept SET count = 0, bytes = 0 WHERE kind = 'event'", [])?;
            self.kept.remove("event");
        }
        Ok(())
    }

    fn lose_track(&self) -> rusqlite::Result<()> {
        let lose = format!(
            "UPDATE kickoff SET status = {}, progress = {} WHERE status IN ({}, {}) AND ending IS NULL",
            State::Unknown.code(),
            Progress::Waiting as i64,
            State::Queued.code(),
            State::Running.code()
        );
        self.db.execute(&lose, [])?;
        Ok(())
    }

    /// A kickoff that changes.
    fn kickoff(&mut self, id: &str, crew: &str) -> rusqlite::Result<&mut Kickoff> {
        if !self.kickoffs.contains_key(id) {
            let known = self.find(id)?;
            let mut kickoff = known.unwrap_or_else(|| Kickoff::new(id, crew, self.now));
            kickoff.heard = self.now;
            self.kickoffs.insert(id.to_owned(), kickoff);
            self.changes.ids.insert(id.to_owned());
        }
        // It is there by now.
        Ok(self
            .kickoffs
            .entry(id.to_owned())
            .or_insert_with(|| Kickoff::new(id, crew, self.now)))
    }

    /// One as the file has it by now.
    fn find(&self, id: &str) -> rusqlite::Result<Option<Kickoff>> {
        let is_fresh = self.changes.written.is_empty() && !self.changes.others;
        match self.recent.kickoff(id).filter(|_| is_fresh) {
            Some(known) => Ok(Some(known)),
            None => Kickoff::find(self.db, id),
        }
    }

    /// The number of its row, which is written if it is not there yet.
    fn number(&mut self, id: &str) -> rusqlite::Result<i64> {
        let db = self.db;
        let Some(kickoff) = self.kickoffs.get_mut(id) else {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        };
        match kickoff.number {
            Some(number) => Ok(number),
            None => {
                let number = kickoff.write(db)?;
                kickoff.number = Some(number);
                let meta = kickoff.meta.clone();
                let created = kickoff.created;
                self.keep("kickoff", 1, 0);
                if self.indexes.full_text {
                    let mut find = db.prepare_cached("SELECT body FROM request WHERE id = ?")?;
                    let body: Option<Vec<u8>> = find.query_row([id], |row| row.get(0)).optional()?;
                    body.map_or(Ok(()), |body| full_text::add_inputs(db, number, &body))?;
                }
                if let Some(meta) = meta {
                    meta_index::add(self.db, &self.indexes.meta_keys, number, created, &meta)?;
                }
                Ok(number)
            }
        }
    }

    /// Writes the kickoffs that have changed.
    fn flush(&mut self) -> rusqlite::Result<()> {
        let ids: Vec<String> = self.kickoffs.keys().cloned().collect();
        for id in ids {
            let is_new = self
                .kickoffs
                .get(&id)
                .is_some_and(|kickoff| kickoff.number.is_none());
            let number = self.number(&id)?;
            let Some(kickoff) = self.kickoffs.remove(&id) else {
                continue;
            };
            if !is_new {
                kickoff.write(self.db)?;
                if let Some(meta) = &kickoff.meta {
                    meta_index::add(self.db, &self.indexes.meta_keys, number, kickoff.created, meta)?;
                }
            }
            let reply = self.replies.remove(&id).unwrap_or_default();
            self.changes.written.push(Written { kickoff, reply });
        }
        Ok(())
    }

    fn keep(&mut self, kind: &'static str, count: i64, bytes: usize) {
        let kept = self.kept.entry(kind).or_default();
        kept.0 += count;
        kept.1 += i64::try_from(bytes).unwrap_or(i64::MAX);
    }
}
