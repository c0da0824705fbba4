//! A producer: publishes its part of the plan with the client library, and writes down all that it sees. It may be
//! killed at any moment; started again, it goes on from what it wrote down.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use crewfleet::{ClientError, KickoffClient, KickoffHandle, KickoffId, Reply, Webhooks};
use crewfleet_service::telemetry;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    follow::Follow,
    journal::{self, Journal, Nanos, now},
    producers::{self, Part},
    records::{ProducerLine, ReplySeen, corrected},
    site::broker_config,
    workload::{Act, Order, PROBER, Planned},
};

/// How many kickoffs wait for their replies at once, at most: one that is started again attaches to all of them.
const WINDOW: usize = 64;
/// The pause before something that the broker refused is tried again.
const PAUSE: Duration = Duration::from_millis(300);

/// What a producer is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ProducerArguments {
    /// The broker, or a proxy before it.
    #[arg(long)]
    pub url: String,
    /// Where those are told that ask for it.
    #[arg(long)]
    pub hook: String,
    /// What it has to do.
    #[command(flatten)]
    pub part: Part,
}

struct Producer {
    client: KickoffClient,
    journal: Journal,
    window: Semaphore,
    epoch: Nanos,
    hook: String,
}

/// What it knows of a kickoff from an earlier life.
struct Sent {
    id: KickoffId,
    is_confirmed: bool,
}

/// Publishes what is not published yet, and waits for all replies.
pub(crate) async fn run(arguments: &ProducerArguments) -> anyhow::Result<()> {
    let _logging = telemetry::init("warn,lapin=error");
    let plan: Vec<Planned> = journal::read(&arguments.part.plan)?;
    let (mut sent, answered) = earlier_lives(journal::read(&arguments.part.history)?)?;
    let producer = Arc::new(Producer {
        client: connect(&arguments.url).await,
        journal: Journal::open(&arguments.part.history)?,
        window: Semaphore::new(WINDOW),
        epoch: arguments.part.epoch,
        hook: arguments.hook.clone(),
    });
    let mut kickoffs = JoinSet::new();
    for planned in plan {
        if answered.contains(&planned.number) {
            continue;
        }
        let (producer, sent) = (Arc::clone(&producer), sent.remove(&planned.number));
        kickoffs.spawn(async move { producer.see_through(&planned, sent).await });
    }
    while let Some(ended) = kickoffs.join_next().await {
        ended?;
    }
    let producer = Arc::into_inner(producer).expect("all tasks have ended");
    producer.client.close().await;
    Ok(())
}

/// What was sent and not answered up to the end of its chain, and what was answered, by number.
fn earlier_lives(lines: Vec<ProducerLine>) -> anyhow::Result<(BTreeMap<u64, Sent>, BTreeSet<u64>)> {
    let mut numbers = BTreeMap::new();
    let mut sent = BTreeMap::new();
    let mut answered = BTreeSet::new();
    for line in lines {
        match line {
            ProducerLine::Publishing { number, id, .. } => {
                numbers.insert(id.clone(), number);
                let id = KickoffId::parse(&id)?;
                sent.insert(
                    number,
                    Sent {
                        id,
                        is_confirmed: false,
                    },
                );
            }
            ProducerLine::Confirmed { id, .. } => {
                if let Some(sent) = sent.get_mut(&numbers[&id]) {
                    sent.is_confirmed = true;
                }
            }
            ProducerLine::Replied { reply, .. } | ProducerLine::Followed { reply, .. } => {
                let chain = reply.chain.as_ref();
                let first = chain.map_or(&reply.id, |chain| &chain.place.id);
                if chain.is_none_or(|chain| chain.next.is_none()) {
                    sent.remove(&numbers[first]);
                    answered.insert(numbers[first]);
                }
            }
            ProducerLine::Refused { .. } | ProducerLine::Cancelling { .. } => {}
        }
    }
    Ok((sent, answered))
}

/// The broker may be away when a producer starts.
async fn connect(url: &str) -> KickoffClient {
    let config = broker_config(url);
    loop {
        match KickoffClient::connect(&config, "campaign-producer").await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

impl Producer {
    /// From the publish to the reply, and to those of the steps that follow.
    async fn see_through(&self, planned: &Planned, sent: Option<Sent>) {
        let due = self.epoch + planned.at_ms * 1_000_000;
        tokio::time::sleep(Duration::from_nanos(due.saturating_sub(now()))).await;
        let _permit = self.window.acquire().await.expect("the window stays open");
        let mut handle = match sent {
            Some(Sent {
                id,
                is_confirmed: true,
            }) => self.attach(&id).await,
            Some(Sent {
                id,
                is_confirmed: false,
            }) => self.publish(planned, id).await,
            None => self.publish(planned, KickoffId::generate()).await,
        };
        if let Some(after) = planned.cancel_after_ms {
            tokio::time::sleep(Duration::from_millis(after)).await;
            self.cancel(&handle).await;
        }
        let mut reply = answer(&mut handle).await;
        self.journal.write(&ProducerLine::Replied {
            t: now(),
            reply: seen(&reply),
        });
        while let Some(mut next) = self.next_of(&reply).await {
            reply = answer(&mut next).await;
            self.journal.write(&ProducerLine::Followed {
                t: now(),
                reply: seen(&reply),
            });
        }
    }

    async fn next_of(&self, reply: &Reply) -> Option<KickoffHandle> {
        loop {
            match self.client.next_of(reply).await {
                Ok(next) => return next,
                Err(ClientError::NotDeclared { exchange, .. }) => panic!("{exchange} is gone"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Publishes under one id until the broker has it.
    async fn publish(&self, planned: &Planned, id: KickoffId) -> KickoffHandle {
        let name = id.to_string();
        loop {
            self.journal.write(&ProducerLine::Publishing {
                t: now(),
                number: planned.number,
                id: name.clone(),
            });
            let mut kickoff = self.client.kickoff(&planned.crew, &planned.order).id(id.clone());
            if let Some(seconds) = planned.timeout_s {
                kickoff = kickoff.timeout_s(seconds);
            }
            if let Some(after) = planned.deadline_ms {
                // From its planned moment, so that a second publish has the same body.
                let at = self.epoch / 1_000_000 + planned.at_ms + after;
                kickoff = kickoff.deadline(
                    chrono::DateTime::from_timestamp_millis(i64::try_from(at).expect("a time"))
                        .expect("a time"),
                );
            }
            for step in planned.follow.then() {
                kickoff = kickoff.then(step);
            }
            if planned.follow.webhook {
                let crew = Some(self.hook.parse().expect("a URL of ours"));
                kickoff = kickoff.webhooks(&Webhooks {
                    crew,
                    ..Webhooks::default()
                });
            }
            match kickoff.await {
                Ok(handle) => {
                    self.journal
                        .write(&ProducerLine::Confirmed { t: now(), id: name });
                    return handle;
                }
                Err(error) => self.journal.write(&ProducerLine::Refused {
                    t: now(),
                    id: name.clone(),
                    error: error.to_string(),
                }),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attach(&self, id: &KickoffId) -> KickoffHandle {
        loop {
            match self.client.attach(id).await {
                Ok(handle) => return handle,
                Err(ClientError::NotDeclared { exchange, .. }) => panic!("{exchange} is gone"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn cancel(&self, handle: &KickoffHandle) {
        let id = handle.id().to_string();
        self.journal.write(&ProducerLine::Cancelling { t: now(), id });
        while handle.cancel().await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn answer(handle: &mut KickoffHandle) -> Reply {
    handle.reply().await.unwrap_or_else(|error| panic!("{error}"))
}

/// One kickoff more: answered when the crew's queue is there, and somebody serves it.
pub(crate) async fn probe(url: &str, folder: &Path, crew: &str) -> anyhow::Result<()> {
    let (plan, history) = producers::files(folder, PROBER);
    let number = now();
    let planned = Planned {
        number,
        crew: crew.to_owned(),
        at_ms: 0,
        order: Order {
            nonce: format!("probe-{number}"),
            work_ms: 1,
            acts: vec![Act::Succeed],
            ..Order::default()
        },
        timeout_s: None,
        deadline_ms: None,
        cancel_after_ms: None,
        follow: Follow::default(),
    };
    Journal::open(&plan)?.write(&planned);
    let producer = Producer {
        client: connect(url).await,
        journal: Journal::open(&history)?,
        window: Semaphore::new(1),
        epoch: now(),
        hook: String::new(),
    };
    producer.see_through(&planned, None).await;
    producer.client.close().await;
    Ok(())
}

/// What the checker looks at, with times as they were.
pub(crate) fn seen(reply: &Reply) -> ReplySeen {
    let nanos =
        |at: chrono::DateTime<chrono::Utc>| u64::try_from(at.timestamp_nanos_opt().unwrap_or(0)).unwrap_or(0);
    let json = reply.result.as_ref().and_then(|result| result.json.as_deref());
    let value: Option<Value> = json.and_then(|json| serde_json::from_str(json.get()).ok());
    corrected(ReplySeen {
        id: reply.kickoff_id.clone(),
        crew: reply.crew.clone(),
        status: reply.status.to_string(),
        error: reply.error.as_ref().map(|error| error.kind.clone()),
        attempt: reply.attempt,
        redrive: reply.redrive,
        worker: reply.worker.clone(),
        nonce: value
            .as_ref()
            .and_then(|value| Some(value.get("nonce")?.as_str()?.to_owned())),
        told: value
            .and_then(|mut value| Some(value.get_mut("told")?.take()))
            .filter(|told| !told.is_null()),
        started: reply.started_at.map(nanos),
        finished: nanos(reply.finished_at),
        chain: reply.chain.clone(),
    })
}
