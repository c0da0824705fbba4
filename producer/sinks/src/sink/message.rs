//! One message on its way through a sink.

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use crewfleet_amqp::{Delivery, Properties, Receipt};
use prometheus::IntGauge;
use tracing::{debug, warn};

use super::Sink;
use crate::item::Item;
use crate::kinds::Handed;
use crate::metrics::Outcome;
use crate::schedule;
use crate::settle::{self, Came, DeadReason, Tries};
use crate::verdict::Verdict;

/// A message that a sink has taken.
pub(super) struct Taken {
    pub(super) handed: Handed,
    rest: Rest,
}

/// What it takes to settle it.
pub(super) struct Rest {
    receipt: Receipt,
    properties: Properties,
    tries: Tries,
    _held: Held,
}

impl Rest {
    /// Whether it can still be settled.
    pub(super) fn is_live(&self) -> bool {
        self.receipt.is_live()
    }

    /// The message again.
    pub(super) fn with(self, handed: Handed) -> Taken {
        Taken { handed, rest: self }
    }
}

/// What follows from a verdict.
enum Follows {
    Nothing,
    Ack(Outcome),
    /// It comes back after a pause.
    Later(Tries, Duration, Outcome),
    DeadLetter(DeadReason, String),
}

/// Counts it for as long as it is held.
struct Held(IntGauge);

impl Held {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Taken {
    /// What is handed on, and what it takes to settle it.
    pub(super) fn split(self) -> (Handed, Rest) {
        (self.handed, self.rest)
    }

    /// Whether it can still be settled.
    pub(super) fn is_live(&self) -> bool {
        self.rest.is_live()
    }

    fn came(&self) -> Came<'_> {
        Came {
            properties: &self.rest.properties,
            body: &self.handed.body,
        }
    }
}

impl Sink {
    /// Reads a delivery; `None` for one that is settled by that: it is not due, not for this sink, or nothing at all.
    pub(super) async fn take(&self, delivery: Delivery) -> Option<Taken> {
        let Delivery { receipt, message } = delivery;
        // One that was buffered when its channel closed is delivered again.
        if !receipt.is_live() {
            return None;
        }
        let held = Held::new(self.metrics.held.with_label_values(&[self.name.as_str()]));
        let tries = Tries::of(&message.properties);
        let came = Came {
            properties: &message.properties,
            body: &message.body,
        };
        if let Some(left) = settle::not_due(&message.properties) {
            if self.settling.later(&came, tries, left).await {
                receipt.ack().await;
            }
            return None;
        }
        let item = match Item::read(&message) {
            Ok(item) if self.wants(&item) => item,
            Ok(_) => {
                receipt.ack().await;
                self.count(Outcome::Filtered);
                return None;
            }
            Err(why) => {
                self.bury(&came, &receipt, tries, DeadReason::Unreadable, &why, None)
                    .await;
                return None;
            }
        };
        if tries.attempt == 1
            && tries.deferred == 0
            && let Some(age) = age(&message.properties)
        {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            self.metrics
                .lag
                .with_label_values(&[self.name.as_str()])
                .set(seconds);
        }
        let message = *message;
        Some(Taken {
            handed: Handed {
                item,
                body: Bytes::from(message.body),
            },
            rest: Rest {
                receipt,
                properties: message.properties,
                tries,
                _held: held,
            },
        })
    }

    /// Does what the verdict says.
    pub(super) async fn settle(&self, taken: Taken, verdict: Verdict) {
        // It is delivered again: a copy would be one too many.
        if !taken.is_live() {
            return;
        }
        let came = taken.came();
        let Rest { receipt, tries, .. } = &taken.rest;
        match self.follows(&taken, verdict) {
            Follows::Nothing => {}
            Follows::Ack(outcome) => self.ack(receipt, outcome).await,
            Follows::DeadLetter(reason, why) => {
                let item = Some(&taken.handed.item);
                self.bury(&came, receipt, *tries, reason, &why, item).await;
            }
            Follows::Later(tries, pause, outcome) => {
                if self.settling.later(&came, tries, pause).await {
                    self.ack(receipt, outcome).await;
                }
            }
        }
    }

    fn follows(&self, taken: &Taken, verdict: Verdict) -> Follows {
        let Rest {
            properties, tries, ..
        } = &taken.rest;
        match verdict {
            Verdict::Delivered => Follows::Ack(Outcome::Delivered),
            Verdict::Gone if self.filter.is_some() => {
                self.disable();
                // It goes back to the queue, as all that this sink holds.
                Follows::Nothing
            }
            Verdict::Gone => Follows::Ack(Outcome::Dropped),
            // Whoever asks for it waits, and asks again.
            Verdict::Away { .. } => Follows::Nothing,
            Verdict::Never { why } => Follows::DeadLetter(DeadReason::Refused, why),
            Verdict::Again { why, after } => {
                let attempt = tries.attempt;
                let Some(pause) = schedule::pause(attempt, after, fastrand::f64()) else {
                    let why = format!("given up after {attempt} attempts: {why}");
                    return Follows::DeadLetter(DeadReason::GaveUp, why);
                };
                let id = taken.handed.item.id();
                debug!(sink = %self.name, id, attempt, why, pause_s = pause.as_secs(), "not handed on; comes again");
                let tries = Tries {
                    attempt: attempt + 1,
                    deferred: 0,
                };
                Follows::Later(tries, pause, Outcome::Again)
            }
            Verdict::Deferred { .. }
                if tries.deferred >= schedule::DEFERRALS
                    && age(properties).is_some_and(|age| age >= schedule::LIFETIME) =>
            {
                let why = "given up: for days its host has not answered, or has had no place";
                Follows::DeadLetter(DeadReason::GaveUp, why.to_owned())
            }
            Verdict::Deferred { after } => {
                let pause = schedule::deferral(tries.deferred, after, fastrand::f64());
                let deferred = tries.deferred.saturating_add(1);
                Follows::Later(Tries { deferred, ..*tries }, pause, Outcome::Deferred)
            }
        }
    }

    async fn ack(&self, receipt: &Receipt, outcome: Outcome) {
        receipt.ack().await;
        self.count(outcome);
    }

    fn count(&self, outcome: Outcome) {
        self.metrics.count(self.name.as_str(), outcome);
    }

    /// Puts a message to the dead letters.
    async fn bury(
        &self,
        came: &Came<'_>,
        receipt: &Receipt,
        tries: Tries,
        reason: DeadReason,
        why: &str,
        item: Option<&Item>,
    ) {
        let (kickoff_id, id) = (item.map(Item::kickoff_id), item.map(Item::id));
        warn!(sink = %self.name, kickoff_id, id, reason = reason.as_str(), why, "not handed on: it goes to the sink's dead letters");
        if self.settling.dead_letter(came, tries, reason, why).await {
            self.ack(receipt, Outcome::Dead).await;
        }
    }
}

/// How long ago it was published first.
fn age(properties: &Properties) -> Option<Duration> {
    (Utc::now() - properties.timestamp()?).to_std().ok()
}
