//! Cancels kickoffs that end with their readers (`on_disconnect=cancel`), once these have gone.

use std::time::Duration;

use crewfleet_protocol::KickoffId;
use crewfleet_protocol::event::event_type;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, info};

use crate::followers::MAX;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::store::row::Kickoff;

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for them every second. Runs until it is dropped.
pub(crate) async fn look_out(gateway: &Gateway) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // First the news, then those of before: nothing can fall between.
        let mut news = gateway
            .store
            .subscribers
            .of_events(|stored| stored.event.event_type == event_type::WATCHED);
        if learn(gateway, &mut ticks).await.is_err() {
            continue;
        }
        loop {
            tokio::select! {
                event = news.next() => match event {
                    Ok(stored) => gateway.followers.watch(&stored.event),
                    // Too many came at once: they are in the store.
                    Err(_) => break,
                },
                _ = ticks.tick() => judge(gateway).await,
            }
        }
    }
}

/// Learns of those that were watched before, once the streams are read.
async fn learn(gateway: &Gateway, ticks: &mut Interval) -> Result<(), ()> {
    loop {
        ticks.tick().await;
        if gateway.store.is_current().is_err() {
            continue;
        }
        let events = gateway.store.queries.watched(MAX).await;
        let events =
            events.map_err(|error| debug!(%error, "which kickoffs end with their readers is not known"))?;
        for placed in events {
            gateway.followers.watch(&placed.event);
        }
        return Ok(());
    }
}

/// Cancels those whose readers have gone.
async fn judge(gateway: &Gateway) {
    let followers = &gateway.followers;
    for id in followers.abandoned() {
        // Somebody may have come back while others were cancelled.
        let Some(redrive) = followers.abandoned_run(&id) else {
            continue;
        };
        match cancel(gateway, &id, redrive).await {
            Ok(()) => followers.forget(&id),
            // RabbitMQ may be away, or the store behind: then it is not known either who has come back.
            Err(error) => {
                let (error, _) = error.told();
                debug!(
                    kickoff_id = id,
                    error, "its readers have gone; cancelling it later"
                );
                return;
            }
        }
    }
}

async fn cancel(gateway: &Gateway, id: &str, redrive: u32) -> Result<(), ApiError> {
    let Ok(id) = KickoffId::parse(id) else {
        return Ok(());
    };
    let kickoff = gateway.find(&id).await?;
    let is_meant =
        |kickoff: &Kickoff| kickoff.standing.redrive == redrive && !kickoff.standing.state.is_over();
    let Some(kickoff) = kickoff.filter(is_meant) else {
        return Ok(());
    };
    gateway.cancel(&kickoff).await?;
    let crew = &kickoff.crew;
    info!(target: "audit", action = "cancel", kickoff_id = %id, crew, "its readers have gone (on_disconnect=cancel)");
    Ok(())
}
