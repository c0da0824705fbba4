//! Running dead letters again: the request goes back to its crew's queue under the same id with the next redrive, and
//! only when the broker has confirmed that does the dead letter leave its queue. What a sink gave up goes back to the sink's
//! queue, by the exchange that its later attempts return to.
//!
//! Between the two a redrive may be interrupted. Then the letter is still there, and another redrive sends a copy with
//! the same id, redrive and body, by which a worker knows it. A letter that somebody was given before may be such a
//! one, so its request is marked (`x-kickoff-possible-duplicate`): a worker asks the others for it first, which costs
//! it `redelivery_hold_s` at most. Browsing marks too, since a queue does not tell looking from redriving; that is
//! rather too often than once too seldom.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crewfleet_amqp::{Delivery, Message, PublishError};
use crewfleet_protocol::{CrewName, Names, header};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::access::DeadLetters;
use super::error::DeadLetterError;
use super::letter::Letter;
use super::plan::{Plan, Planned, Step};

/// How long a publish is repeated while the broker is away, or refuses since a queue is full.
const PUBLISH_LIMIT: Duration = Duration::from_secs(30);

/// What only a dead letter, or an attempt before it, has to say.
const NOT_REDRIVEN: [&str; 13] = [
    header::REASON,
    header::ERROR,
    header::FINGERPRINT,
    header::DEAD_AT,
    header::ATTEMPT,
    header::NOT_BEFORE,
    header::DELAY_LEFT,
    header::DEFERRED,
    header::RETURNED,
    header::WORKER_FAULTS,
    header::NOT_ALONE,
    header::EXECUTIONS,
    header::POSSIBLE_DUPLICATE,
];

/// How to redrive.
#[derive(Debug, Clone)]
pub struct RedriveOptions {
    /// So many requests a second at most; `None`: as fast as the broker confirms. What is not above 0 is no limit.
    pub rate: Option<f64>,
    /// A letter that was redriven so often already is kept.
    pub max_redrives: u32,
    /// Redrive it all the same.
    pub force: bool,
}

impl Default for RedriveOptions {
    fn default() -> Self {
        Self {
            rate: None,
            max_redrives: 5,
            force: false,
        }
    }
}

/// What a redrive would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Kickoffs that would run again.
    pub redriven: u64,
    /// Letters that would be kept, since they were redriven too often.
    pub guarded: u64,
    /// Letters of kickoffs that another letter stands for: they would only be removed.
    pub copies: u64,
}

/// What a redrive did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// Requests that are in their crews' queues again.
    pub redriven: u64,
    /// Letters of kickoffs that another letter stands for: removed, and not run a second time.
    pub copies: u64,
    /// Letters that are kept, since they were redriven too often.
    pub guarded: u64,
    /// Letters that are kept, since their requests were refused.
    pub undone: Vec<Undone>,
    /// Letters that somebody else took away meanwhile.
    pub gone: u64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

/// A letter that could not be redriven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The kickoff's id, or `-`.
    pub kickoff_id: String,
    /// Its crew, or `sinks.NAME`.
    pub crew: String,
    /// Why.
    pub problem: String,
}

impl RedriveOptions {
    fn guards(&self, redrive: u32) -> bool {
        !self.force && redrive >= self.max_redrives
    }
}

impl Plan {
    /// What [`DeadLetters::redrive`] would do with this plan.
    pub fn forecast(&self, options: &RedriveOptions) -> Forecast {
        let mut runs = HashSet::new();
        let mut forecast = Forecast {
            redriven: 0,
            guarded: 0,
            copies: 0,
        };
        for planned in self.parts.iter().flat_map(|part| part.letters.values()) {
            if options.guards(planned.redrive) {
                forecast.guarded += planned.copies;
            } else if self.is_superseded(&planned.marks, planned.redrive) {
                forecast.copies += planned.copies;
            } else if let Some(run) = planned.marks.run {
                let first = u64::from(runs.insert(run));
                forecast.redriven += first;
                forecast.copies += planned.copies - first;
            } else {
                forecast.redriven += planned.copies;
            }
        }
        forecast
    }
}

impl DeadLetters {
    /// Runs the planned letters again. Of the letters of one kickoff only the latest is run. `progress` is told how
    /// many letters are done with, of how many.
    ///
    /// # Errors
    /// [`DeadLetterError`] when the broker is gone or holds back its answers; what was redriven by then runs, the rest
    /// is as before. A request that alone is refused is no error, but [`RedriveReport::undone`].
    pub async fn redrive(
        &self,
        mut plan: Plan,
        options: &RedriveOptions,
        stop: &CancellationToken,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<RedriveReport, DeadLetterError> {
        let guarded = plan.without(|planned| options.guards(planned.redrive));
        let mut parts = std::mem::take(&mut plan.parts);
        let total = parts.iter().flat_map(|part| part.letters.values());
        let total = total.map(|planned| planned.copies).sum();
        let mut run = Run {
            letters: self,
            plan: &plan,
            asks: total <= ASKED_FOR,
            pace: Pace::of(options.rate),
            published: HashSet::new(),
            no_such_crew: BTreeSet::new(),
            sinks: BTreeSet::new(),
            report: RedriveReport {
                guarded,
                ..RedriveReport::default()
            },
        };
        let mut done = 0;
        for part in &mut parts {
            let mut step = async |planned: &Planned, letter: Letter, delivery: &Delivery| {
                let step = run.redrive(planned, letter, delivery, stop).await;
                done += 1;
                progress(done, total);
                step
            };
            let gone = self.walk(part, stop, &mut step).await?;
            run.report.gone += gone;
        }
        let left = parts.iter().any(|part| !part.letters.is_empty());
        run.report.interrupted |= stop.is_cancelled() && left;
        Ok(run.report)
    }
}

/// A redrive under way.
struct Run<'a> {
    letters: &'a DeadLetters,
    plan: &'a Plan,
    /// Whether the workers are asked for each.
    asks: bool,
    pace: Pace,
    published: HashSet<u64>,
    /// Crews and sinks that have no queue …
    no_such_crew: BTreeSet<String>,
    /// … and sinks that have one.
    sinks: BTreeSet<String>,
    report: RedriveReport,
}

impl Run<'_> {
    async fn redrive(
        &mut self,
        planned: &Planned,
        letter: Letter,
        delivery: &Delivery,
        stop: &CancellationToken,
    ) -> Result<Step, DeadLetterError> {
        let ran = letter.marks.run.is_some_and(|run| self.published.contains(&run));
        if ran || self.plan.is_superseded(&letter.marks, letter.redrive) {
            self.report.copies += 1;
            return Ok(Step::Settle);
        }
        let is_sink = letter.is_sinks();
        if is_sink {
            self.look_for_sink(&letter.crew).await?;
        }
        if self.no_such_crew.contains(&letter.crew) {
            return Ok(self.undone(letter, no_such(is_sink)));
        }
        if stop.run_until_cancelled(self.pace.turn()).await.is_none() {
            self.report.interrupted = true;
            return Ok(Step::Keep);
        }
        let mut message = again(&letter, delivery, self.letters.client.names());
        // Somebody was given the letter before: a browse, or a redrive that was interrupted after it had published.
        if planned.marks.delivered_before && !is_sink && self.may_be_redriven(&letter).await {
            message = message.possible_duplicate();
        }
        let publisher = self.letters.client.broker().publisher();
        match publisher.publish(message, PUBLISH_LIMIT).await {
            Ok(()) => {
                self.published.extend(letter.marks.run);
                self.report.redriven += 1;
                Ok(Step::Settle)
            }
            Err(PublishError::Unroutable { .. }) => {
                self.no_such_crew.insert(letter.crew.clone());
                Ok(self.undone(letter, no_such(is_sink)))
            }
            Err(cause @ PublishError::InDoubt { .. }) => Err(DeadLetterError::InDoubt {
                kickoff_id: letter.id().to_owned(),
                cause,
            }),
            Err(refused) => Ok(self.undone(letter, refused.to_string())),
        }
    }

    /// Looks once whether a sink has a queue: what comes back from a tier for one that has none is taken by the dead letters
    /// of nobody.
    async fn look_for_sink(&mut self, key: &str) -> Result<(), DeadLetterError> {
        if self.sinks.contains(key) || self.no_such_crew.contains(key) {
            return Ok(());
        }
        let client = &self.letters.client;
        let queue = format!("{}.{key}", client.names().namespace());
        let there = client.broker().connected().await.queue_state(&queue).await?;
        let known = match there {
            Some(_) => &mut self.sinks,
            None => &mut self.no_such_crew,
        };
        known.insert(key.to_owned());
        Ok(())
    }

    /// Whether the next redrive may have been published already. A copy that says so waits at its worker until the others
    /// have been asked for the first, so where we can know it is not marked.
    async fn may_be_redriven(&self, letter: &Letter) -> bool {
        let crew = CrewName::parse(&letter.crew);
        let (true, Some(id), Ok(crew)) = (self.asks, &letter.kickoff_id, crew) else {
            return true;
        };
        let asked = self
            .letters
            .client
            .may_be_redriven(id, &crew, letter.redrive)
            .await;
        asked.unwrap_or(true)
    }

    fn undone(&mut self, letter: Letter, problem: String) -> Step {
        self.report.undone.push(Undone {
            kickoff_id: letter.id().to_owned(),
            crew: letter.crew,
            problem,
        });
        Step::Keep
    }
}

/// For so few letters the workers are asked whether they have them already; that takes some second for each.
const ASKED_FOR: u64 = 3;

const NO_SUCH_CREW: &str = "no such crew: no queue takes its requests. Start a worker that serves it; if its workers start \
later, run `crewfleet topology declare`";

const NO_SUCH_SINK: &str = "no such sink: it has no queue. Run it: `crewfleet sinks`, or `crewfleet topology declare` with \
its configuration";

fn no_such(is_sink: bool) -> String {
    match is_sink {
        true => NO_SUCH_SINK,
        false => NO_SUCH_CREW,
    }
    .to_owned()
}

/// The message as it came. A request is the next redrive; what a sink gave up is the same as ever, to whom it is handed on.
/// It is new as of now: a cancel that was given before does not mean it, and the days that it may wait begin anew.
fn again(letter: &Letter, delivery: &Delivery, names: &Names) -> Message {
    let properties = NOT_REDRIVEN
        .iter()
        .fold(delivery.properties.for_republish(), |properties, name| {
            properties.without_header(name)
        })
        .with_timestamp_now();
    let is_sink = letter.is_sinks();
    let properties = match is_sink {
        true => properties,
        false => properties.with_header_u32(header::REDRIVE, letter.redrive.saturating_add(1)),
    };
    Message {
        exchange: match is_sink {
            true => names.due(),
            false => names.requests(),
        },
        routing_key: letter.crew.clone(),
        properties,
        body: delivery.body.clone(),
        mandatory: true,
    }
}

/// Lets pass so many a second.
struct Pace(Option<Interval>);

impl Pace {
    fn of(rate: Option<f64>) -> Self {
        let period = rate.filter(|rate| *rate > 0.0);
        let period = period.and_then(|rate| Duration::try_from_secs_f64(rate.recip()).ok());
        Self(period.filter(|period| !period.is_zero()).map(|period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn turn(&mut self) {
        if let Some(interval) = &mut self.0 {
            interval.tick().await;
        }
    }
}
