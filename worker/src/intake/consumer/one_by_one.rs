//! Taking one kickoff at a time, each when there is room for it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crewfleet_amqp::BrokerError;
use crewfleet_amqp::pull::Puller;
use tokio::sync::OnceCell;

use super::{Intake, IntakeEnd};
use crate::crews::crew::Crew;

/// The pause before a queue that was empty is asked again, while the worker has no room. It doubles each time, up to
/// the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Intake {
    /// Waits for room, takes a kickoff, and again; until the intake closes, or a consumer does better.
    pub(super) async fn one_by_one(&self, puller: &OnceCell<Puller>) -> Result<IntakeEnd, BrokerError> {
        let Self {
            worker, crew, link, ..
        } = self;
        let queue = worker.broker.names.request_queue(&crew.name);
        let puller = puller.get_or_try_init(|| link.pull(&queue)).await?;
        let _waits = WaitsForRoom::full(crew);
        self.set_consuming();
        let many = worker.limits.admission.limit(crew).div_ceil(2);
        let mut pause = PAUSE;
        loop {
            if worker.runs.awaiting_redelivery(&crew.name) > 0 {
                return Ok(IntakeEnd::Changed);
            }
            let room = tokio::select! {
                room = worker.limits.admission.room(crew) => room,
                () = self.closes() => return Ok(IntakeEnd::Closed),
                () = link.ended() => return Err(BrokerError::Disconnected { action: "take kickoffs".into() }),
            };
            let taken = puller.take().await?;
            let found = taken.is_some();
            match taken {
                Some(delivery) => {
                    self.dispatch(delivery, Some(Box::new(room)), None);
                    pause = PAUSE;
                }
                None => drop(room),
            }
            let free = worker.limits.admission.free(crew);
            if free >= many || !found && free > 0 {
                return Ok(IntakeEnd::Changed);
            }
            if !found {
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
                    () = self.closes() => return Ok(IntakeEnd::Closed),
                    () = link.ended() => {}
                }
            }
        }
    }
}

/// What heartbeats and metrics say meanwhile.
struct WaitsForRoom<'a>(&'a Crew);

impl<'a> WaitsForRoom<'a> {
    fn full(crew: &'a Crew) -> Self {
        crew.waits_for_room.store(true, Ordering::Relaxed);
        Self(crew)
    }
}

impl Drop for WaitsForRoom<'_> {
    fn drop(&mut self) {
        self.0.waits_for_room.store(false, Ordering::Relaxed);
    }
}
