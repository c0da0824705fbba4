//! What an attempt has told, and is not confirmed yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_protocol::webhooks::{
    Authentication, OrderIds, Ordinal, WebhookKind, WebhookOrder, WebhookUrl,
};
use crewfleet_protocol::{CrewName, KickoffId, Reply, Webhooks};
use prometheus::IntCounter;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::joined::{Group, Joined};
use super::payload::Whose;

/// With so many bytes of orders that are not confirmed, the crew's process is not heard any further.
const FULL_BYTES: usize = 8 * 1024 * 1024;
/// What cannot be made to wait, a crew in Rust for one, may go beyond that; from here on its events are lost.
const MOST_BYTES: usize = 4 * FULL_BYTES;

/// Of which attempt the calls tell.
pub(crate) struct Place<'a> {
    pub(crate) kickoff_id: &'a KickoffId,
    pub(crate) crew: &'a CrewName,
    pub(crate) redrive: u32,
    pub(crate) attempt: u32,
    pub(crate) meta: Option<&'a RawValue>,
    /// The first characters of the SHA-256 of what makes it this kickoff.
    pub(crate) body_hash: &'a str,
}

/// What an attempt has told those whom the request names.
pub(crate) struct Collected {
    pub(super) asked: Webhooks,
    pub(super) whose: Whose,
    crew: CrewName,
    redrive: u32,
    attempt: u32,
    ids: OrderIds,
    lost: IntCounter,
    state: Mutex<State>,
    /// There is something to publish.
    told: Notify,
    /// Something was confirmed.
    freed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<WebhookOrder>,
    /// Of the orders that are ready, or on their way.
    bytes: usize,
    joined: Joined,
    tasks: u64,
    steps: u64,
    events: u64,
    /// Nothing more is told of what happens.
    closed: bool,
    /// The end is told.
    ended: bool,
    /// How long the crew's process was not heard.
    waited: Duration,
}

impl Collected {
    pub(crate) fn new(asked: Webhooks, place: &Place<'_>, lost: IntCounter) -> Self {
        Self {
            asked,
            whose: Whose {
                kickoff_id: place.kickoff_id.clone(),
                meta: place.meta.map(ToOwned::to_owned),
            },
            crew: place.crew.clone(),
            redrive: place.redrive,
            attempt: place.attempt,
            ids: OrderIds::new(place.kickoff_id, place.redrive, place.body_hash),
            lost,
            state: Mutex::default(),
            told: Notify::new(),
            freed: Notify::new(),
        }
    }

    /// A task, or a step, was done.
    pub(super) fn done(&self, kind: WebhookKind, url: &WebhookUrl, body: Option<Box<RawValue>>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let count = match kind {
            WebhookKind::Task => &mut state.tasks,
            _ => &mut state.steps,
        };
        *count += 1;
        let ordinal = self.nth(*count);
        self.order(&mut state, kind, ordinal, url, None, body);
    }

    /// The kickoff has ended as `reply` says. Told once.
    pub(super) fn ended(&self, reply: Reply) {
        let mut state = self.state();
        state.ended = true;
        if let Some(url) = &self.asked.crew {
            let body = self.whose.ended(reply);
            self.order(&mut state, WebhookKind::Crew, Ordinal::Only, url, None, body);
        }
    }

    /// Whether its end is told.
    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// An event happened, which is told if anybody asked for its type.
    pub(super) fn event(&self, event_type: &str, time: DateTime<Utc>, data: &RawValue) {
        let Some(asked) = self.asked.events.as_ref() else {
            return;
        };
        let mut state = self.state();
        if state.closed || !asked.events.iter().any(|name| name == event_type) {
            return;
        }
        if state.bytes + state.joined.bytes() >= MOST_BYTES {
            self.lost.inc();
            return;
        }
        state.events += 1;
        let place = state.events;
        let id = self.ids.of_event(self.attempt, place);
        let Some(event) = self.whose.event(&id, event_type, time, data) else {
            return;
        };
        if asked.realtime {
            let body = self.whose.events(&[event]);
            let authentication = asked.authentication.as_ref();
            return self.order(
                &mut state,
                WebhookKind::Events,
                self.nth(place),
                &asked.url,
                authentication,
                body,
            );
        }
        for group in state.joined.push(event, place).into_iter().flatten() {
            self.order_events(&mut state, &group);
        }
        // For the time that they wait.
        self.told.notify_one();
    }

    /// Those that wait for others go out.
    pub(super) fn join(&self) {
        let mut state = self.state();
        if let Some(group) = state.joined.take() {
            self.order_events(&mut state, &group);
        }
    }

    /// Nothing more is told of what happens.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    /// The next order that is to be published.
    pub(super) fn next(&self) -> Option<WebhookOrder> {
        self.state().ready.pop_front()
    }

    /// An order with a body of so many bytes is confirmed.
    pub(super) fn confirmed(&self, bytes: usize) {
        self.state().bytes -= bytes;
        self.freed.notify_waiters();
    }

    /// When the events that wait for others are to go out.
    pub(super) fn due(&self) -> Option<Instant> {
        self.state().joined.due()
    }

    /// Completes once something new is told.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.state();
        state.bytes + state.joined.bytes() >= FULL_BYTES
    }

    /// Completes once there is room, and counts how long that took.
    pub(super) async fn room(&self) {
        let _waiting = Waiting {
            collected: self,
            since: Instant::now(),
        };
        loop {
            let freed = self.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// How long the crew's process was not heard, since there was no room.
    pub(super) fn waited(&self) -> Duration {
        self.state().waited
    }

    fn nth(&self, number: u64) -> Ordinal {
        Ordinal::Of {
            attempt: self.attempt,
            number,
        }
    }

    fn order_events(&self, state: &mut State, group: &Group) {
        let Some(asked) = self.asked.events.as_ref() else {
            return;
        };
        let ordinal = Ordinal::Span {
            attempt: self.attempt,
            first: group.first,
            last: group.last,
        };
        let body = self.whose.events(&group.events);
        let authentication = asked.authentication.as_ref();
        self.order(
            state,
            WebhookKind::Events,
            ordinal,
            &asked.url,
            authentication,
            body,
        );
    }

    fn order(
        &self,
        state: &mut State,
        kind: WebhookKind,
        ordinal: Ordinal,
        url: &WebhookUrl,
        authentication: Option<&Authentication>,
        body: Option<Box<RawValue>>,
    ) {
        // It is made of JSON.
        let Some(body) = body else { return };
        state.bytes += body.get().len();
        state.ready.push_back(WebhookOrder {
            id: self.ids.of(kind, ordinal),
            kickoff_id: self.whose.kickoff_id.to_string(),
            crew: self.crew.to_string(),
            redrive: self.redrive,
            kind,
            url: url.clone(),
            authentication: authentication.cloned(),
            body,
        });
        self.told.notify_one();
    }

    /// The lock guards plain data that every holder leaves whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the time until it is dropped.
struct Waiting<'a> {
    collected: &'a Collected,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.collected.state();
        if state.waited.is_zero() {
            warn!(
                limit_bytes = FULL_BYTES,
                "RabbitMQ does not take the kickoff's webhooks as fast as they come: its crew waits, and its time limit runs on"
            );
        }
        state.waited += self.since.elapsed();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
