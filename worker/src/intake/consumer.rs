//! Deliveries of one crew: taken while the worker lives and the crew's intake is open, each handed to the pipeline in a
//! task of its own.
//!
//! A worker takes what it can start, so that nothing waits here while another worker idles. With room for the crew it
//! [`subscribed`]; without, it ends the consumer, and takes one kickoff at a time as room comes ([`one_by_one`]), until
//! the queue is empty or there is much room again. Crews that share a worker's room get it in turns.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::pull::Puller;
use crewfleet_amqp::{BrokerError, Delivery, Link};
use tokio::sync::OnceCell;
use tracing::{info, warn};

use crate::crews::crew::Crew;
use crate::intake::pipeline;
use crate::intake::places::Counted;
use crate::intake::room::Room;
use crate::lifecycle::tasks::Tasks;
use crate::state::WorkerState;

/// The pause before a consumer that failed is started again on the same link. It doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

mod one_by_one;
mod subscribed;

/// Why no more is taken in one way, without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntakeEnd {
    /// RabbitMQ ended the consumer: its queue is gone, most likely.
    Ended,
    /// The intake was closed: a pause, a blocked connection, the worker drains.
    Closed,
    /// There is more room than before, or less.
    Changed,
}

/// Where deliveries come from, and where they go.
struct Intake {
    worker: Arc<WorkerState>,
    crew: Arc<Crew>,
    link: Arc<Link>,
    kickoffs: Tasks,
}

/// Consumes until the worker drains; then takes no further deliveries and returns. What was started goes on in
/// `kickoffs`.
pub(crate) async fn run(worker: Arc<WorkerState>, crew: Arc<Crew>, kickoffs: Tasks) {
    let draining = worker.lifecycle.draining.clone();
    if draining.run_until_cancelled(crew.runner.usable()).await.is_none() {
        return;
    }
    let mut pause = PAUSE;
    while let Some(link) = draining.run_until_cancelled(intake_opens(&worker, &crew)).await {
        let intake = Intake {
            worker: Arc::clone(&worker),
            crew: Arc::clone(&crew),
            link,
            kickoffs: kickoffs.clone(),
        };
        let ended = intake.take().await;
        if crew.is_consuming() {
            pause = PAUSE;
        }
        crew.set_consuming(false);
        if draining.is_cancelled() || intake.may_open_at_once(ended) {
            continue;
        }
        worker.broker.forget_declared().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
            () = intake.link.ended() => {}
            () = draining.cancelled() => {}
        }
    }
}

/// Should a panic end the consumer, its link ends, too: what RabbitMQ has sent, and nobody took, goes back to the queue.
struct EndsLink<'a>(&'a Intake);

impl Drop for EndsLink<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.crew.set_consuming(false);
            self.0.link.give_up();
        }
    }
}

/// Waits until kickoffs of the crew may start: all commands are known, nobody has paused it, the broker takes replies.
async fn intake_opens(worker: &WorkerState, crew: &Crew) -> Arc<Link> {
    loop {
        crew.pause.becomes(false).await;
        let link = worker.fleet.control_synced.wait().await;
        if link.is_blocked() {
            tokio::select! {
                () = link.becomes_blocked(false) => {}
                () = link.ended() => {}
            }
        } else if !crew.pause.is_paused() {
            return link;
        }
    }
}

impl Intake {
    /// Whether the intake may open again without a pause. Tells what is in the way, where it is the crew's own.
    fn may_open_at_once(&self, ended: Result<IntakeEnd, BrokerError>) -> bool {
        let Self {
            worker, crew, link, ..
        } = self;
        match ended {
            Ok(IntakeEnd::Closed) => {
                info!(crew = %crew.name, "not consuming");
                return true;
            }
            Ok(_) => warn!(crew = %crew.name, "RabbitMQ ended the consumer; starting it again"),
            // A link that was lost is told where it was lost, and the next one is the end of it.
            Err(_) if link.is_over() => return true,
            Err(error) => {
                if crew.set_trouble(Some(error.to_string())) {
                    warn!(crew = %crew.name, %error, "the crew is not served; trying again");
                    worker.lifecycle.heartbeat_due.notify_one();
                }
            }
        }
        false
    }

    /// Takes deliveries on this link until the intake closes.
    async fn take(&self) -> Result<IntakeEnd, BrokerError> {
        let _ends_link = EndsLink(self);
        let Self {
            worker, crew, link, ..
        } = self;
        worker.broker.declare_crew(link, crew).await?;
        let puller = OnceCell::new();
        let over = self.in_turns(&puller).await;
        if let Some(puller) = puller.get() {
            puller.retire(link).await;
        }
        over
    }

    async fn in_turns(&self, puller: &OnceCell<Puller>) -> Result<IntakeEnd, BrokerError> {
        loop {
            let over = match self.wanted() {
                0 => self.one_by_one(puller).await?,
                free => self.subscribed(free).await?,
            };
            if over != IntakeEnd::Changed {
                return Ok(over);
            }
        }
    }

    /// How many deliveries it may be sent: those that can start, and those that come again for runs that go on here,
    /// which take no room of their own.
    fn wanted(&self) -> usize {
        let Self { worker, crew, .. } = self;
        worker.limits.admission.free(crew) + worker.runs.awaiting_redelivery(&crew.name)
    }

    /// Deliveries can arrive now: what was in the way before is over.
    fn set_consuming(&self) {
        let Self { worker, crew, .. } = self;
        if crew.set_trouble(None) {
            worker.lifecycle.heartbeat_due.notify_one();
        }
        if crew.set_consuming(true) {
            info!(crew = %crew.name, runner = crew.runner_name, concurrency = crew.options.concurrency, "consuming");
        }
    }

    /// Hands a delivery to the pipeline, with the room that is held for it. `counted` goes with its receipt.
    fn dispatch(&self, delivery: Delivery, room: Option<Box<Room>>, counted: Option<Counted>) {
        let (worker, crew) = (Arc::clone(&self.worker), Arc::clone(&self.crew));
        let held = worker.telemetry.metrics.hold(&crew.name, delivery.body.len());
        let delivery = delivery.carrying((held, counted));
        self.kickoffs
            .start(pipeline::process(worker, crew, delivery, room));
    }

    /// Completes when nothing more may be taken.
    async fn closes(&self) {
        tokio::select! {
            () = self.crew.pause.becomes(true) => {}
            () = self.link.becomes_blocked(true) => {}
            () = self.worker.lifecycle.draining.cancelled() => {}
        }
    }
}
