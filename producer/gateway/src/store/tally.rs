//! What ended, and which tokens were spent, counted as it is heard: what statistics are made of, whatever the number of
//! kickoffs.

use std::collections::HashMap;
use std::sync::LazyLock;

use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Event, Reply};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::row::{Kickoff, millis};
use super::state::State;

/// Lengths of the intervals (ms), and for how long those of each are kept. Each is made of whole ones of the first.
pub(crate) const STEPS: [(i64, i64); 5] = [
    (10_000, 20 * MINUTE),
    (MINUTE, 180 * MINUTE),
    (60 * MINUTE, 9 * DAY),
    (6 * 60 * MINUTE, 65 * DAY),
    (DAY, 400 * DAY),
];
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// The bucket of what never ran.
const NEVER: i64 = -1;
/// An event with tokens.
const CALL: &str = "llm_call_completed";
/// Models with longer names share one, and so do those of a kickoff beyond so many.
const LONGEST_MODEL: usize = 128;
const MODELS: i64 = 32;

/// The least duration (ms) of each bucket, as `tally_bound` has them: four to a doubling.
pub(crate) static BOUNDS: LazyLock<Vec<i64>> = LazyLock::new(|| {
    let bound = |number: i32| (10.0 * 2_f64.powf(f64::from(number) / 4.0)).round() as i64;
    std::iter::once(0).chain((0..100).map(bound)).collect()
});

/// Who ended how: the tenant, the shortest interval, the crew, the state, and how long it ran.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ended {
    tenant: String,
    time: i64,
    crew: String,
    status: i64,
    bucket: i64,
}

/// Whose tokens, and in which of the shortest intervals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Spender {
    time: i64,
    crew: String,
    tenant: String,
    model: String,
}

#[derive(Debug, Default, Clone, Copy)]
struct Spend {
    tokens: i64,
    calls: i64,
    failed: i64,
    retried: i64,
    cancelled: i64,
}

/// Why tokens were spent in vain.
#[derive(Debug, Clone, Copy)]
enum Waste {
    Failed,
    Retried,
    Cancelled,
}

impl Waste {
    /// Of a kickoff that ended so.
    fn of(state: State) -> Option<Self> {
        match state {
            State::Succeeded => None,
            State::Cancelled => Some(Self::Cancelled),
            _ => Some(Self::Failed),
        }
    }
}

/// What a transaction adds.
#[derive(Debug, Default)]
pub(super) struct Tally {
    ended: HashMap<Ended, i64>,
    spend: HashMap<Spender, Spend>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    model: Option<String>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    total_tokens: u64,
}

impl Tally {
    /// An event of a kickoff, as it is after it.
    pub(super) fn event(
        &mut self,
        db: &Connection,
        number: i64,
        kickoff: &Kickoff,
        event: &Event,
    ) -> rusqlite::Result<()> {
        match event.event_type.as_str() {
            CALL => self.call(db, number, kickoff, event),
            event_type::RETRYING => {
                let run = (event.redrive, i64::from(event.attempt));
                self.waste(db, number, kickoff, run, Waste::Retried, millis(event.time))
            }
            _ => Ok(()),
        }
    }

    fn call(
        &mut self,
        db: &Connection,
        number: i64,
        kickoff: &Kickoff,
        event: &Event,
    ) -> rusqlite::Result<()> {
        let call = serde_json::from_str::<Call>(event.data.get()).ok();
        let Some((model, tokens)) = call.and_then(|call| Some((call.model, call.usage?.total_tokens))) else {
            return Ok(());
        };
        let tokens = i64::try_from(tokens).unwrap_or(0);
        let mut model = model
            .filter(|model| model.len() <= LONGEST_MODEL)
            .unwrap_or_default();
        let time = millis(event.time);
        let mut known = db.prepare_cached(
            "SELECT count(*), coalesce(sum(model = ?), 0) FROM spent WHERE kickoff = ? AND redrive = ? AND attempt = ?",
        )?;
        let (models, is_known): (i64, bool) = known
            .query_row(params![model, number, event.redrive, event.attempt], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)? > 0))
            })?;
        if models >= MODELS && !is_known {
            model = String::new();
        }
        // A reply that came before has told of it, but not which model it was.
        if kickoff.standing.state.is_over() && !model.is_empty() {
            self.untold(db, number, kickoff, event, tokens)?;
        }
        add_spent(
            db,
            number,
            (event.redrive, i64::from(event.attempt)),
            &model,
            tokens,
            1,
        )?;
        let spend = self.of(kickoff, &model, time);
        spend.tokens += tokens;
        spend.calls += 1;
        let state = kickoff.standing.state;
        let is_earlier =
            event.redrive == kickoff.standing.redrive && event.attempt < kickoff.standing.attempt;
        let waste = match (is_earlier, state.is_over()) {
            (true, _) => Some(Waste::Retried),
            (false, true) if event.redrive == kickoff.standing.redrive => Waste::of(state),
            _ => None,
        };
        if let Some(waste) = waste {
            let run = (event.redrive, i64::from(event.attempt));
            self.waste(db, number, kickoff, run, waste, time)?;
        }
        Ok(())
    }

    /// Takes tokens off what a reply told without a model.
    fn untold(
        &mut self,
        db: &Connection,
        number: i64,
        kickoff: &Kickoff,
        event: &Event,
        tokens: i64,
    ) -> rusqlite::Result<()> {
        let key = params![number, event.redrive, event.attempt];
        let mut find = db.prepare_cached(
            "SELECT tokens FROM spent WHERE kickoff = ? AND redrive = ? AND attempt = ? AND model = ''",
        )?;
        let left: Option<i64> = find.query_row(key, |row| row.get(0)).optional()?;
        let taken = left.unwrap_or(0).min(tokens);
        if taken > 0 {
            let mut take = db.prepare_cached(
                "UPDATE spent SET tokens = tokens - ?4 WHERE kickoff = ?1 AND redrive = ?2 AND attempt = ?3 AND model = ''",
            )?;
            take.execute(params![number, event.redrive, event.attempt, taken])?;
            let time = kickoff.finished.unwrap_or_else(|| millis(event.time));
            self.of(kickoff, "", time).tokens -= taken;
        }
        Ok(())
    }

    /// The reply of a kickoff that counts, and the kickoff as it is after it.
    pub(super) fn reply(
        &mut self,
        db: &Connection,
        number: i64,
        kickoff: &Kickoff,
        reply: &Reply,
    ) -> rusqlite::Result<()> {
        let (state, time) = (kickoff.standing.state, millis(reply.finished_at));
        self.ended(kickoff, state, time);
        let run = (reply.redrive, i64::from(reply.attempt));
        if let Some(waste) = Waste::of(state) {
            self.waste(db, number, kickoff, run, waste, time)?;
        }
        let Some(told) = kickoff.tokens else {
            return Ok(());
        };
        let mut find = db.prepare_cached(
            "SELECT coalesce(sum(tokens), 0) FROM spent WHERE kickoff = ? AND redrive = ? AND attempt = ?",
        )?;
        let known: i64 = find.query_row(params![number, run.0, run.1], |row| row.get(0))?;
        let rest = told - known;
        if rest > 0 {
            add_spent(db, number, run, "", rest, 0)?;
            self.of(kickoff, "", time).tokens += rest;
        }
        Ok(())
    }

    fn ended(&mut self, kickoff: &Kickoff, state: State, time: i64) {
        let bucket = match (kickoff.started, kickoff.finished) {
            (Some(started), Some(finished)) => bucket(finished - started),
            _ => NEVER,
        };
        let tenant = kickoff.tenant().unwrap_or_default();
        let mut count = |tenant: String| {
            let ended = Ended {
                tenant,
                time: begin(time, STEPS[0].0),
                crew: kickoff.crew.clone(),
                status: state.code(),
                bucket,
            };
            *self.ended.entry(ended).or_default() += 1;
        };
        if !tenant.is_empty() {
            count(tenant);
        }
        count(String::new());
    }

    /// What an attempt has spent, and those before it, was in vain.
    fn waste(
        &mut self,
        db: &Connection,
        number: i64,
        kickoff: &Kickoff,
        (redrive, attempt): (u32, i64),
        waste: Waste,
        time: i64,
    ) -> rusqlite::Result<()> {
        let mut find = db.prepare_cached(
            "SELECT model, tokens - wasted FROM spent WHERE kickoff = ? AND redrive = ? AND attempt <= ? AND tokens > wasted",
        )?;
        let found = find.query_map(params![number, redrive, attempt], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
        if found.is_empty() {
            return Ok(());
        }
        let mut mark = db.prepare_cached(
            "UPDATE spent SET wasted = tokens WHERE kickoff = ? AND redrive = ? AND attempt <= ?",
        )?;
        mark.execute(params![number, redrive, attempt])?;
        for (model, tokens) in found {
            let spend = self.of(kickoff, &model, time);
            match waste {
                Waste::Failed => spend.failed += tokens,
                Waste::Retried => spend.retried += tokens,
                Waste::Cancelled => spend.cancelled += tokens,
            }
        }
        Ok(())
    }

    fn of(&mut self, kickoff: &Kickoff, model: &str, time: i64) -> &mut Spend {
        let spender = Spender {
            time: begin(time, STEPS[0].0),
            crew: kickoff.crew.clone(),
            tenant: kickoff.tenant().unwrap_or_default(),
            model: model.to_owned(),
        };
        self.spend.entry(spender).or_default()
    }

    /// Writes what was counted, once for each length of intervals.
    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if self.ended.is_empty() && self.spend.is_empty() {
            return Ok(());
        }
        let mut count = db.prepare_cached(
            "INSERT INTO tally VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )?;
        for (ended, number) in self.ended.drain() {
            for (step, _) in STEPS {
                let time = begin(ended.time, step);
                count.execute(params![
                    step,
                    ended.tenant,
                    time,
                    ended.crew,
                    ended.status,
                    ended.bucket,
                    number
                ])?;
            }
        }
        let mut add = db.prepare_cached(
            "INSERT INTO spend VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens, \
             calls = calls + excluded.calls, failed = failed + excluded.failed, retried = retried + excluded.retried, \
             cancelled = cancelled + excluded.cancelled",
        )?;
        for (of, spend) in self.spend.drain() {
            for (step, _) in STEPS {
                let time = begin(of.time, step);
                let Spend {
                    tokens,
                    calls,
                    failed,
                    retried,
                    cancelled,
                } = spend;
                add.execute(params![
                    step, time, of.crew, of.tenant, of.model, tokens, calls, failed, retried, cancelled
                ])?;
            }
        }
        Ok(())
    }
}

fn add_spent(
    db: &Connection,
    number: i64,
    (redrive, attempt): (u32, i64),
    model: &str,
    tokens: i64,
    calls: i64,
) -> rusqlite::Result<()> {
    let mut add = db.prepare_cached(
        "INSERT INTO spent (kickoff, redrive, attempt, model, tokens, calls) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens, calls = calls + excluded.calls",
    )?;
    add.execute(params![number, redrive, attempt, model, tokens, calls])?;
    Ok(())
}

/// The bucket of a duration (ms).
pub(super) fn bucket(duration: i64) -> i64 {
    BOUNDS.partition_point(|bound| *bound <= duration.max(0)) as i64 - 1
}

/// When the interval begins in which a moment is.
pub(crate) fn begin(time: i64, step: i64) -> i64 {
    time.div_euclid(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_that_begins_before_it() {
        assert_eq!((bucket(-5), bucket(0), bucket(9), bucket(10)), (0, 0, 0, 1));
        assert_eq!(bucket(i64::MAX), 100);
        assert_eq!(begin(-1, 10), -10);
    }

    #[test]
    fn each_interval_is_made_of_whole_ones_of_the_shortest() {
        assert!(STEPS.iter().all(|(step, _)| step % STEPS[0].0 == 0));
    }
}
