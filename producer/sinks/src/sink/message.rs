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
        let (tries, came) = (taken.rest.tries, taken.came());
        let (tries, pause, outcome) = match verdict {
            Verdict::Delivered => {
                self.ack(&taken.rest.receipt, Outcome::Delivered).await;
                return;
            }
            // It goes back to the queue, as all that this sink holds.
            Verdict::Gone if self.filter.is_some() => return self.disable(),
            Verdict::Gone => return self.ack(&taken.rest.receipt, Outcome::Dropped).await,
            // Whoever asks for it waits, and asks again.
            Verdict::Away { .. } => return,
            Verdict::Never { why } => {
                self.bury(
                    &came,
                    &taken.rest.receipt,
                    tries,
                    DeadReason::Refused,
                    &why,
                    Some(&taken.handed.item),
                )
                .await;
                return;
            }
            Verdict::Again { why, after } => match schedule::pause(tries.attempt, after, fastrand::f64()) {
                Some(pause) => {
                    let (attempt, id) = (tries.attempt, taken.handed.item.id());
                    debug!(sink = %self.name, id, attempt, why, pause_s = pause.as_secs(), "not handed on; comes again");
                    let tries = Tries {
                        attempt: attempt + 1,
                        deferred: 0,
                    };
                    (tries, pause, Outcome::Again)
                }
                None => {
                    let why = format!("given up after {} attempts: {why}", tries.attempt);
                    self.bury(
                        &came,
                        &taken.rest.receipt,
                        tries,
                        DeadReason::GaveUp,
                        &why,
                        Some(&taken.handed.item),
                    )
                    .await;
                    return;
                }
            },
            Verdict::Deferred { after } => {
                if tries.deferred >= schedule::DEFERRALS
                    && age(&taken.rest.properties).is_some_and(|age| age >= schedule::LIFETIME)
                {
                    let why = "given up: for days its host has not answered, or has had no place";
                    self.bury(
                        &came,
                        &taken.rest.receipt,
                        tries,
                        DeadReason::GaveUp,
                        why,
                        Some(&taken.handed.item),
                    )
                    .await;
                    return;
                }
                let deferred = tries.deferred.saturating_add(1);
                let pause = schedule::deferral(tries.deferred, after, fastrand::f64());
                (Tries { deferred, ..tries }, pause, Outcome::Deferred)
            }
        };
        if self.settling.later(&came, tries, pause).await {
            self.ack(&taken.rest.receipt, outcome).await;
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
