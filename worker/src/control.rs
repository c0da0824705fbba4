//! Tails the stream `kickoff.control` from its beginning: one mechanism for commands given while this worker
//! runs, and for those given while no worker did. No kickoff is started before the commands are known.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::delivery::StreamOffset;
use crewfleet_shared::amqp::topology::Topology;
use crewfleet_shared::amqp::{BrokerError, ConsumeOptions, Link, Message, Names, Properties, PublishError};
use crewfleet_shared::kickoff::{About, Command, Control, KickoffId, message_type};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::commands::is_outdated;
use crate::in_flight::{Known, Told};
use crate::runner::StopReason;
use crate::state::WorkerState;

/// How many commands the broker may send ahead.
const PREFETCH: u16 = 200;
/// The pause before a tail that failed is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an answer to another worker, or a marker, is tried to be published.
const PUBLISH_LIMIT: Duration = Duration::from_secs(20);
/// After a reconnection the tail begins so much before what it read last: the times are those of several machines.
const OVERLAP_S: i64 = 300;

/// The link on which every command that was given before it came about is known.
#[derive(Default)]
pub struct CaughtUp(watch::Sender<Option<Arc<Link>>>);

impl CaughtUp {
    /// Waits for a link on which nothing is left to read.
    pub async fn wait(&self) -> Arc<Link> {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(link) = receiver
                .borrow_and_update()
                .clone()
                .filter(|link| !link.is_over())
            {
                return link;
            }
            if receiver.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Tails until the worker ends.
pub async fn run(worker: Arc<WorkerState>) {
    let mut last = None;
    loop {
        let link = worker.broker.connected().await;
        if let Err(error) = tail(&worker, &link, &mut last).await {
            warn!(%error, "the control stream is not being read, so no kickoff is started; trying again");
        }
        worker.caught_up.0.send_replace(None);
        let _ = tokio::time::timeout(PAUSE, link.ended()).await;
    }
}

async fn tail(
    worker: &Arc<WorkerState>,
    link: &Arc<Link>,
    last: &mut Option<DateTime<Utc>>,
) -> Result<(), BrokerError> {
    // Without the crews' queues: what is wrong with one of them is told where that crew is consumed.
    let common = Topology::of(&worker.names, &[], worker.broker_config.results());
    link.declare(&common).await?;
    let from = last.and_then(|last| u64::try_from(last.timestamp() - OVERLAP_S).ok());
    let options = ConsumeOptions {
        tag: format!("{}.control", worker.id),
        prefetch: PREFETCH,
        stream_offset: Some(from.map_or(StreamOffset::First, StreamOffset::At)),
    };
    let mut consumer = link.consume(&worker.names.control(), &options).await?;
    let marker = Control::new(Command::Marker {
        worker: worker.id.clone(),
    });
    let marked = publish(worker, &marker);
    tokio::pin!(marked);
    let mut published = false;
    loop {
        // Only what is safe to give up half-way: a delivery that has come must not be dropped.
        let delivery = tokio::select! {
            next = consumer.next() => next.transpose()?,
            () = link.ended() => None,
            sent = &mut marked, if !published => {
                published = true;
                if let Err(error) = sent {
                    warn!(%error, "the marker in the control stream is not published; trying again");
                    return Ok(());
                }
                continue;
            }
        };
        let Some(delivery) = delivery else {
            return Ok(());
        };
        delivery.ack().await;
        match serde_json::from_slice::<Control>(&delivery.body) {
            Ok(control) if control.id == marker.id => {
                worker.caught_up.0.send_replace(Some(Arc::clone(link)));
            }
            Ok(control) => {
                *last = (*last).max(Some(control.time.min(Utc::now())));
                obey(worker, control);
            }
            // Another version's command, or nobody's: not ours to judge.
            Err(error) => debug!(%error, "a control message that this worker does not know"),
        }
    }
}

fn obey(worker: &Arc<WorkerState>, control: Control) {
    if is_outdated(control.time) {
        return;
    }
    match control.command {
        Command::Cancel { kickoff_id } => cancel(worker, kickoff_id, control.time),
        Command::Pause { crew } => set_paused(worker, &crew, true, control.time),
        Command::Resume { crew } => set_paused(worker, &crew, false, control.time),
        Command::Drain { worker: id } => {
            // A worker of the same name that was told to drain before is another one.
            if id == worker.id && control.time >= worker.started_at {
                info!("told to drain");
                worker.told_to_drain.cancel();
            }
        }
        Command::Marker { .. } => {}
        Command::Mine(about) => {
            if about.worker != worker.id {
                worker.in_flight.told(&about, &Told::Mine(about.worker.clone()));
            }
            worker
                .commands
                .forgive(about.kickoff_id, about.redrive, control.time);
        }
        Command::Whose(about) | Command::Settled(about) | Command::Released(about)
            if about.worker == worker.id => {}
        Command::Whose(about) => answer(worker, about),
        Command::Settled(about) => worker.in_flight.told(&about, &Told::Settled),
        Command::Released(about) => worker.in_flight.told(&about, &Told::Released),
    }
}

fn cancel(worker: &WorkerState, kickoff_id: String, at: DateTime<Utc>) {
    // First remembered, then looked for: a kickoff that enters in between meets one or the other.
    worker.commands.cancel(kickoff_id.clone(), at);
    if let Ok(id) = KickoffId::parse(&kickoff_id)
        && worker.in_flight.stop(&id, at, StopReason::Cancelled)
    {
        info!(kickoff_id, "cancelling");
    }
}

fn set_paused(worker: &WorkerState, crew: &str, paused: bool, at: DateTime<Utc>) {
    if let Some(crew) = worker.crews.iter().find(|served| served.name.as_str() == crew)
        && crew.pause.set(paused, at)
    {
        info!(crew = %crew.name, paused, "told to pause or resume");
    }
}

/// Answers a worker that asks whose a kickoff is, if it is ours.
fn answer(worker: &Arc<WorkerState>, about: About) {
    let Some(known) = worker.in_flight.asked(&about, &worker.id) else {
        return;
    };
    info!(
        kickoff_id = about.kickoff_id,
        asker = about.worker,
        ?known,
        "another worker asks for it"
    );
    let about = About {
        worker: worker.id.clone(),
        ..about
    };
    say(
        worker,
        match known {
            Known::Mine => Command::Mine(about),
            Known::Settled => Command::Settled(about),
        },
    );
}

/// Tells the fleet, without waiting for it. What is lost makes another worker wait longer, or run a kickoff again.
pub fn say(worker: &Arc<WorkerState>, command: Command) {
    let worker = Arc::clone(worker);
    tokio::spawn(async move {
        if let Err(error) = publish(&worker, &Control::new(command)).await {
            warn!(%error, "a message to the other workers is lost");
        }
    });
}

/// Publishes to the control stream.
///
/// # Errors
/// [`PublishError`] when the stream does not have it within 20 s.
pub async fn publish(worker: &WorkerState, control: &Control) -> Result<(), PublishError> {
    worker
        .publisher
        .publish(&message(&worker.names, control), PUBLISH_LIMIT)
        .await
}

fn message(names: &Names, control: &Control) -> Message {
    Message {
        exchange: names.control(),
        routing_key: String::new(),
        properties: Properties::json(message_type::CONTROL).with_message_id(&control.id),
        // The contract's types have string keys only, which is all that can fail.
        body: serde_json::to_vec(control).unwrap_or_default(),
        mandatory: true,
    }
}
