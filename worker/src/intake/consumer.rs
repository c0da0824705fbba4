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
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::crews::crew::Crew;
use crate::intake::pipeline;
use crate::intake::places::Counted;
use crate::intake::room::Room;
use crate::state::WorkerState;

/// The pause before a consumer that failed is started again on the same link. It doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

mod one_by_one;
mod subscribed;

/// Why no more is taken in one way, without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
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
    kickoffs: TaskTracker,
}

/// Consumes until the worker drains; then takes no further deliveries and returns. What was started goes on in
/// `kickoffs`.
pub(crate) async fn run(worker: Arc<WorkerState>, crew: Arc<Crew>, kickoffs: TaskTracker) {
    if worker
        .draining
        .run_until_cancelled(crew.runner.usable())
        .await
        .is_none()
    {
        return;
    }
    let mut pause = PAUSE;
    while !worker.draining.is_cancelled() {
        let link = tokio::select! {
            link = intake_opens(&worker, &crew) => link,
            () = worker.draining.cancelled() => return,
        };
        let intake = Intake {
            worker: Arc::clone(&worker),
            crew: Arc::clone(&crew),
            link: Arc::clone(&link),
            kickoffs: kickoffs.clone(),
        };
        let over = intake.take().await;
        if crew.is_consuming() {
            pause = PAUSE;
        }
        crew.set_consuming(false);
        match over {
            Ok(Over::Closed) => {
                info!(crew = %crew.name, "not consuming");
                continue;
            }
            _ if worker.draining.is_cancelled() => return,
            Ok(_) => warn!(crew = %crew.name, "RabbitMQ ended the consumer; starting it again"),
            // A link that was lost is told where it was lost, and the next one is the end of it.
            Err(_) if link.is_over() => continue,
            Err(error) => {
                let told = crew.set_trouble(Some(error.to_string()));
                if told {
                    warn!(crew = %crew.name, %error, "the crew is not served; trying again");
                    worker.news.notify_one();
                }
            }
        }
        worker.forget_declared().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
            () = link.ended() => {}
            () = worker.draining.cancelled() => {}
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
        let link = worker.caught_up.wait().await;
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
    /// Takes deliveries on this link until the intake closes.
    async fn take(&self) -> Result<Over, BrokerError> {
        let _ends_link = EndsLink(self);
        let Self {
            worker, crew, link, ..
        } = self;
        worker.declare_crew(link, crew).await?;
        let puller = OnceCell::new();
        let over = self.in_turns(&puller).await;
        if let Some(puller) = puller.get() {
            puller.retire(link).await;
        }
        over
    }

    async fn in_turns(&self, puller: &OnceCell<Puller>) -> Result<Over, BrokerError> {
        loop {
            let over = match self.wanted() {
                0 => self.one_by_one(puller).await?,
                free => self.subscribed(free).await?,
            };
            if over != Over::Changed {
                return Ok(over);
            }
        }
    }

    /// How many deliveries it may be sent: those that can start, and those that come again for runs that go on here,
    /// which take no room of their own.
    fn wanted(&self) -> usize {
        let Self { worker, crew, .. } = self;
        worker.admission.free(crew) + worker.in_flight.lost(&crew.name)
    }

    /// Deliveries can arrive now: what was in the way before is over.
    fn set_consuming(&self) {
        let Self { worker, crew, .. } = self;
        if crew.set_trouble(None) {
            worker.news.notify_one();
        }
        if crew.set_consuming(true) {
            info!(crew = %crew.name, runner = crew.runner_name, concurrency = crew.options.concurrency, "consuming");
        }
    }

    /// Hands a delivery to the pipeline, with the room that is held for it. `counted` goes with its receipt.
    fn hand_on(&self, delivery: Delivery, room: Option<Box<Room>>, counted: Option<Counted>) {
        let (worker, crew) = (Arc::clone(&self.worker), Arc::clone(&self.crew));
        let held = worker.metrics.hold(&crew.name, delivery.body.len());
        let delivery = delivery.carrying((held, counted));
        self.kickoffs
            .spawn(pipeline::process(worker, crew, delivery, room));
    }

    /// Completes when nothing more may be taken.
    async fn closes(&self) {
        tokio::select! {
            () = self.crew.pause.becomes(true) => {}
            () = self.link.becomes_blocked(true) => {}
            () = self.worker.draining.cancelled() => {}
        }
    }
}
