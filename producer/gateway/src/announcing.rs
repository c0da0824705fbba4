//! Has the other gateways know: that this one took a kickoff, and that one ends with its readers.
//!
//! That it took a kickoff it goes on to tell until the broker has it, or the streams tell of the kickoff otherwise. What a
//! gateway had not told when it was killed it finds in its store when it starts again. An event that is told twice changes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::{Message, PublishError};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::gateway::Gateway;
use crate::own_event::event;
use crate::store::row::Kickoff;
use crate::unannounced::Announcement;

/// How long the other gateways' being told may hold up an answer.
pub(crate) const ANNOUNCING: Duration = Duration::from_secs(1);
/// How long the broker has where nobody waits.
const TELLING: Duration = Duration::from_secs(10);
/// The pause after a kickoff that could not be told; it doubles with each, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So many kickoffs of an earlier life are told at a start.
const REMEMBERED: usize = 10_000;
/// How often it is looked then whether the streams are read.
const LOOKING: Duration = Duration::from_secs(1);

impl Gateway {
    /// Publishes an event of the present run of a kickoff; returns when the broker has it.
    ///
    /// # Errors
    /// [`PublishError`], after [`ANNOUNCING`] at the latest.
    pub(crate) async fn announce(
        &self,
        kickoff: &Kickoff,
        event_type: &str,
        data: &impl Serialize,
    ) -> Result<(), PublishError> {
        let event = event(self.client.names(), kickoff, event_type, data, Utc::now());
        self.tell(&Arc::new(event), ANNOUNCING).await
    }

    /// Publishes an event as it is, within `limit`.
    ///
    /// # Errors
    /// [`PublishError`].
    pub(crate) async fn tell(&self, event: &Arc<Message>, limit: Duration) -> Result<(), PublishError> {
        let (publisher, _) = self.client.publisher();
        publisher.publish(Arc::clone(event), limit).await
    }
}

/// Tells of the kickoffs that are not announced. Runs until it is dropped.
pub(crate) async fn look_out(gateway: &Gateway) {
    tokio::join!(remember(gateway), tell_all(gateway));
}

/// Finds those of an earlier life, once the streams are read.
async fn remember(gateway: &Gateway) {
    let (of, names) = (&gateway.unannounced, gateway.client.names());
    let mut ticks = interval(LOOKING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if gateway.store.is_current().is_err() {
            continue;
        }
        let (since, before) = of.earlier();
        match gateway.store.queries.untold(since, before, REMEMBERED).await {
            Ok(untold) => {
                if !untold.is_empty() {
                    info!(
                        kickoffs = untold.len(),
                        "kickoffs that this gateway took before it was started are announced"
                    );
                }
                for kickoff in &untold {
                    of.remember(names, kickoff);
                }
                return;
            }
            Err(error) => debug!(%error, "which kickoffs are not announced is not known"),
        }
    }
}

async fn tell_all(gateway: &Gateway) {
    let of = &gateway.unannounced;
    let mut pause = PAUSE;
    loop {
        let next = of.next().await;
        // The broker may have it all the same; then it is read by then.
        sleep_until(next.since + PAUSE).await;
        let id = &next.kickoff_id;
        if Instant::now() >= next.until {
            warn!(kickoff_id = %id, "other gateways do not know of this kickoff until a worker has it");
            continue;
        }
        match announce_again(gateway, &next).await {
            Ok(()) => pause = PAUSE,
            Err(error) => {
                debug!(kickoff_id = %id, error, "it is announced later");
                of.put_back(next);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Tells of one, unless the streams do.
async fn announce_again(gateway: &Gateway, announcement: &Announcement) -> Result<(), String> {
    // It may have ended in what is not read yet.
    gateway.store.is_current()?;
    let told = gateway.store.queries.is_told(&announcement.kickoff_id).await;
    if told.map_err(|error| error.to_string())? == Some(true) {
        return Ok(());
    }
    let told = gateway.tell(&announcement.event, TELLING).await;
    told.map_err(|error| error.to_string())
}
