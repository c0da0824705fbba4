//! Tails the stream `kickoff.control` from its beginning: one mechanism for commands given while this worker
//! runs, and for those given while no worker did. No kickoff is started before the commands are known.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::delivery::StreamOffset;
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{BrokerError, ConsumeOptions, Consumer, Delivery, Link, PublishError};
use crewfleet_protocol::{About, Command, Control, KickoffId};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::coordination::broadcast::Broadcast;
use crate::coordination::commands::is_outdated;
use crate::execution::stop::StopReason;
use crate::intake::registry::{ClaimAnswer, PeerStatement};
use crate::state::WorkerState;

/// How many commands the broker may send ahead.
const PREFETCH: u16 = 200;
/// For how long nothing may come while the marker has not come back: a stream of many commands takes its time.
const MARKER_LIMIT: Duration = Duration::from_secs(60);
/// The same before the first of what follows what was read already. A stream that was deleted and made again hands out
/// nothing below the place that is asked for, and so no marker.
const FOLLOWING_LIMIT: Duration = Duration::from_secs(10);
const NOT_ON: &str = "the control stream does not go on where it was; reading it from its beginning";

/// What was read last. Reading goes on behind it, in the stream's own order, so that nothing is read twice, and nothing is
/// missed.
struct Position {
    place: u64,
    message_id: Option<String>,
}

/// How the first message of a tail follows what was read last.
enum Follows {
    /// It is that message.
    Same,
    /// It is one behind it.
    Next,
    /// The stream was deleted and made again: all that is in it is new.
    Recreated,
}

impl Position {
    fn of(delivery: &Delivery) -> Self {
        Self {
            place: delivery.stream_offset.unwrap_or_default(),
            message_id: delivery.properties.message_id().map(str::to_owned),
        }
    }

    fn follows(&self, next: &Self) -> Follows {
        match next.place.cmp(&self.place) {
            Ordering::Equal if next.message_id == self.message_id => Follows::Same,
            Ordering::Greater => Follows::Next,
            _ => Follows::Recreated,
        }
    }
}

/// Why a tail ended, where the link is not to blame.
#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the marker in the control stream is not published: {0}")]
    Marker(PublishError),
    /// What is read by now is read: the next tail goes on behind it.
    #[error("the marker in the control stream does not come back within {} s", .0.as_secs())]
    Overdue(Duration),
}

/// Tails until the worker ends.
pub(crate) async fn run(worker: Arc<WorkerState>) {
    let (mut last, mut retrying) = (None, Retrying::default());
    loop {
        let link = worker.broker.connected().await;
        if let Err(error) = tail(&worker, &link, &mut last, &mut retrying).await {
            let reason = error.to_string();
            match retrying.failed(&reason) {
                true => warn!(
                    error = reason,
                    "the control stream is not being read, so no kickoff is started; trying again"
                ),
                false => debug!(error = reason, "the control stream is still not being read"),
            }
            worker
                .lifecycle
                .set_trouble(Some(format!("the control stream is not being read: {reason}")));
            // It may be gone: then it is made again.
            worker.broker.forget_declared().await;
        }
        worker.fleet.control_synced.close();
        let _ = tokio::time::timeout(retrying.pause(), link.ended()).await;
    }
}

async fn tail(
    worker: &Arc<WorkerState>,
    link: &Arc<Link>,
    last: &mut Option<Position>,
    retrying: &mut Retrying,
) -> Result<(), TailError> {
    // Without the crews' queues: what is wrong with one of them is told where that crew is consumed.
    worker.broker.declare(link).await?;
    let from = last.as_ref().map(|last| last.place);
    let mut first = from.is_some();
    let mut consumer = match worker.broker.has_streams() {
        true => consume(worker, link, from).await?,
        false => consume_own(worker, link).await?,
    };
    let marker = Control::new(Command::Marker {
        worker: worker.id.clone(),
    });
    let marked = worker.fleet.broadcast.record(&marker);
    let limit = from.map_or(MARKER_LIMIT, |_| FOLLOWING_LIMIT);
    let overdue = tokio::time::sleep(limit);
    tokio::pin!(marked, overdue);
    let (mut published, mut read) = (false, false);
    loop {
        // Only what is safe to give up half-way: a delivery that has come must not be dropped.
        let delivery = tokio::select! {
            next = consumer.next() => next.transpose()?,
            () = link.ended() => None,
            sent = &mut marked, if !published => {
                published = true;
                sent.map_err(TailError::Marker)?;
                continue;
            }
            () = &mut overdue, if !read => {
                if !first {
                    return Err(TailError::Overdue(limit));
                }
                info!("{NOT_ON}");
                *last = None;
                return Ok(());
            }
        };
        let Some(delivery) = delivery else {
            return Ok(());
        };
        delivery.ack().await;
        if !read {
            overdue.as_mut().reset(Instant::now() + MARKER_LIMIT);
        }
        let now = Position::of(&delivery);
        if std::mem::take(&mut first)
            && let Some(known) = last.as_ref()
        {
            match known.follows(&now) {
                Follows::Same => continue,
                Follows::Next => {}
                Follows::Recreated => {
                    info!("{NOT_ON}");
                    *last = None;
                    return Ok(());
                }
            }
        }
        *last = worker.broker.has_streams().then_some(now);
        match serde_json::from_slice::<Control>(&delivery.body) {
            Ok(control) if control.id == marker.id => {
                if from.is_none() {
                    log_pauses(worker);
                }
                read = true;
                if retrying.works() {
                    info!("the control stream is being read again");
                }
                worker.lifecycle.set_trouble(None);
                worker.fleet.control_synced.open(link);
            }
            Ok(control) => {
                apply(worker, control, from.is_some() || read);
            }
            // Another version's command, or nobody's: not ours to judge.
            Err(error) => debug!(%error, "a control message that this worker does not know"),
        }
    }
}

async fn consume(worker: &WorkerState, link: &Link, from: Option<u64>) -> Result<Consumer, BrokerError> {
    let options = ConsumeOptions {
        tag: format!("{}.control", worker.id),
        prefetch: PREFETCH,
        stream_offset: Some(from.map_or(StreamOffset::First, StreamOffset::Place)),
    };
    let consumer = link.consume(&worker.broker.names.control(), &options).await?;
    streams_are_up(worker, link).await?;
    Ok(consumer)
}

/// On a broker without streams commands come by a queue of this connection's own: those that are given from now on.
async fn consume_own(worker: &WorkerState, link: &Arc<Link>) -> Result<Consumer, BrokerError> {
    let client = worker.broker.config.client_id(&worker.id);
    let queue = worker.broker.names.client_queue(&format!("{client}.control"));
    let bindings = [(worker.broker.names.control(), String::new())];
    let own = link.consume_ephemeral(&queue, &bindings, PREFETCH).await?;
    Ok(own.into_consumer())
}

/// A stream that a node has not brought up yet after its restart takes messages, confirms and loses them (RabbitMQ
/// 3.10, seen within 40 ms of the first connection). One that can be consumed is up.
async fn streams_are_up(worker: &WorkerState, link: &Link) -> Result<(), BrokerError> {
    if worker.broker.config.results().max_age_s == 0 {
        return Ok(());
    }
    let options = ConsumeOptions {
        tag: format!("{}.results", worker.id),
        prefetch: 1,
        stream_offset: Some(StreamOffset::Next),
    };
    let consumer = link.consume(&worker.broker.names.results(), &options).await?;
    consumer.cancel().await
}

/// `live`: it was given just now, and not before this worker was there.
fn apply(worker: &Arc<WorkerState>, control: Control, live: bool) {
    if is_outdated(control.time) {
        return;
    }
    match control.command {
        Command::Cancel {
            kickoff_id,
            redrive,
            crew,
        } => cancel(worker, kickoff_id, redrive, crew, control.time, live),
        Command::Pause { crew, renews } => {
            let pauses = &worker.fleet.pauses;
            if pauses.pause(&crew, &control.id, renews.as_deref(), control.time) {
                set_paused(worker, &crew, true, live);
            }
        }
        Command::Resume { crew } => {
            worker.fleet.pauses.resume(&crew);
            set_paused(worker, &crew, false, live);
        }
        Command::Drain { worker: id } => {
            // A worker of the same name that was told to drain before is another one.
            if id == worker.id && control.time >= worker.started_at {
                info!("told to drain");
                worker.lifecycle.drain_requested.cancel();
            }
        }
        Command::Whose(about) => {
            if about.worker != worker.id && worker.fleet.commands.is_new(&control.id) {
                answer(worker, about, Broadcast::announce);
            }
        }
        statement @ (Command::Mine(_) | Command::Settled(_) | Command::Released(_)) => {
            hear(worker, statement, &control.id, control.time);
        }
        Command::Started(about) => {
            if worker.fleet.commands.is_new(&control.id) {
                let commands = &worker.fleet.commands;
                commands.started(about.kickoff_id, about.redrive, control.time);
            }
        }
        Command::Marker { .. } => {}
    }
}

/// Takes what a peer states of a kickoff, by the stream or directly. Other commands state nothing.
fn hear(worker: &WorkerState, statement: Command, id: &str, at: DateTime<Utc>) {
    match statement {
        Command::Mine(about) => {
            peer_stated(worker, &about, &PeerStatement::Claimed(about.worker.clone()));
            excuse(worker, about, id, at);
        }
        Command::Settled(about) => peer_stated(worker, &about, &PeerStatement::Settled),
        Command::Released(about) => {
            peer_stated(worker, &about, &PeerStatement::Released);
            excuse(worker, about, id, at);
        }
        _ => {}
    }
}

/// One delivery came back without a crash: counted once, however often it is stated.
fn excuse(worker: &WorkerState, about: About, id: &str, at: DateTime<Utc>) {
    let statement = about.question.as_deref().unwrap_or(id);
    if worker.fleet.commands.is_new(statement) {
        worker.fleet.commands.excuse(about.kickoff_id, about.redrive, at);
    }
}

/// What this worker says itself is no news to it.
fn peer_stated(worker: &WorkerState, about: &About, statement: &PeerStatement) {
    if about.worker != worker.id {
        worker.runs.peer_stated(about, statement);
    }
}

fn cancel(
    worker: &WorkerState,
    kickoff_id: String,
    redrive: Option<u32>,
    crew: Option<String>,
    at: DateTime<Utc>,
    live: bool,
) {
    // First remembered, then looked for: a kickoff that enters in between meets one or the other.
    let commands = &worker.fleet.commands;
    commands.cancel(kickoff_id.clone(), redrive, crew.clone(), at);
    // What runs when the command comes is meant, whatever the clocks say.
    let before = (!live).then_some(at);
    if let Ok(id) = KickoffId::parse(&kickoff_id)
        && worker
            .runs
            .stop(&id, redrive, crew.as_deref(), before, StopReason::Cancelled)
    {
        info!(kickoff_id, "cancelling");
    }
}

fn set_paused(worker: &WorkerState, crew: &str, paused: bool, live: bool) {
    if let Some(crew) = worker.crews.iter().find(|served| served.name.as_str() == crew)
        && crew.pause.set(paused)
    {
        // Of a day of commands before this worker's start, only what came of them is worth a line.
        if live {
            info!(crew = %crew.name, paused, "told to pause or resume");
        }
        worker.lifecycle.heartbeat_due.notify_one();
    }
}

/// What is left of the pauses that were commanded before this worker was there.
fn log_pauses(worker: &WorkerState) {
    for crew in worker.crews.iter().filter(|crew| crew.pause.is_paused()) {
        info!(crew = %crew.name, "paused by an earlier command");
    }
}

/// Applies a message that another worker sent to the workers that live now, and no stream keeps.
pub(crate) fn apply_talk(worker: &WorkerState, control: Control) {
    match control.command {
        Command::Whose(about) => {
            if about.worker == worker.id {
                return;
            }
            // That its delivery came back without a death is for the fleet to know later, too; that it is asked again
            // is not.
            let asked = about
                .question
                .as_deref()
                .map(|question| format!("{question} asked"));
            let first = asked.is_none_or(|asked| worker.fleet.commands.is_new(&asked));
            answer(
                worker,
                about,
                if first {
                    Broadcast::announce
                } else {
                    Broadcast::notify
                },
            );
        }
        // Commands are read from the stream alone, in its order; statements are taken wherever they come from.
        other => hear(worker, other, &control.id, control.time),
    }
}

/// Answers a worker that queries who owns a kickoff, where this worker knows.
fn answer(worker: &WorkerState, about: About, send: fn(&Broadcast, Command)) {
    let Some(known) = worker.runs.answer_claim(&about, &worker.id) else {
        return;
    };
    let answer = match known {
        ClaimAnswer::Claimed => "mine",
        ClaimAnswer::Settled => "settled",
    };
    info!(
        kickoff_id = about.kickoff_id,
        asker = about.worker,
        answer,
        "another worker queried a kickoff"
    );
    let about = About {
        worker: worker.id.clone(),
        ..about
    };
    let answer = match known {
        ClaimAnswer::Claimed => Command::Mine(about),
        ClaimAnswer::Settled => Command::Settled(about),
    };
    send(&worker.fleet.broadcast, answer);
}
