//! Cancels kickoffs that nobody follows any more, where their followers have said so (`on_disconnect=cancel`).

use std::time::Duration;

use crewfleet_protocol::KickoffId;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for them every second. Runs until it is dropped.
pub(crate) async fn look_out(gateway: &Gateway) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let followers = &gateway.followers;
        let since = match (followers.hears(), heard) {
            (true, Some(since)) => since,
            (true, None) => {
                followers.heard_again();
                Instant::now()
            }
            (false, _) => {
                heard = None;
                continue;
            }
        };
        heard = Some(since);
        for id in followers.abandoned(since) {
            match cancel(gateway, &id).await {
                Ok(()) => followers.forget(&id),
                // RabbitMQ may be away, or the store behind.
                Err(error) => {
                    let (error, _) = error.told();
                    debug!(
                        kickoff_id = id,
                        error, "nobody follows it any more; cancelling it later"
                    );
                }
            }
        }
    }
}

async fn cancel(gateway: &Gateway, id: &str) -> Result<(), ApiError> {
    let Ok(id) = KickoffId::parse(id) else {
        return Ok(());
    };
    let Some(kickoff) = gateway
        .find(&id)
        .await?
        .filter(|kickoff| !kickoff.standing.state.is_over())
    else {
        return Ok(());
    };
    gateway.cancel(&kickoff).await?;
    let crew = &kickoff.crew;
    info!(target: "audit", action = "cancel", kickoff_id = %id, crew, "nobody follows it any more (on_disconnect=cancel)");
    Ok(())
}
