//! Commands to the workers, over the stream `kickoff.control` that each of them reads from its beginning: so a
//! command reaches those that run now, and those that start within the next 24 hours.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Command, CrewName, Event, KickoffId, Reply, ReplyChain, Status};
use serde_json::Value;
use tokio::time::timeout;

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::events::EventStream;
use crate::handle::KickoffHandle;
use crate::status::{KickoffStatus, Stage};

/// How long a cancellation is watched: a little more than the grace a worker gives a crew by default (5 s).
pub const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// How long it is watched where no worker has the kickoff: it may just be on its way to one.
const QUEUED_PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a kickoff after it was cancelled.
#[derive(Debug, Clone)]
pub enum Cancellation {
    /// It is cancelled, now or by an earlier command. `started_at` of the reply tells whether it had begun.
    Cancelled(Box<Reply>),
    /// It has ended otherwise: it was too late.
    Finished(Box<Reply>),
    /// It has ended otherwise, and the chain that it began goes on: what came of the kickoff that the chain is at.
    InChain {
        /// That kickoff.
        kickoff_id: KickoffId,
        /// What came of it.
        cancellation: Box<Cancellation>,
    },
    /// A worker runs it and is stopping it; its reply has not come yet.
    Cancelling {
        /// The worker, where it says so.
        worker: Option<String>,
    },
    /// The command is kept for 24 hours and takes effect when a worker reaches the kickoff. A worker knew it: it is on its
    /// way, or waits for a retry.
    Accepted,
    /// As [`Self::Accepted`], but nobody knows it yet: it may wait in a queue, or no worker could be asked. This tells.
    Unseen(Box<KickoffStatus>),
    /// As [`Self::Accepted`], but nobody knows of such a kickoff: who was asked, this tells.
    Unknown(Box<KickoffStatus>),
}

/// A cancellation that is being put together. Awaiting it looks whether the kickoff has ended, sends the command, and
/// watches for a while what comes of it:
///
/// ```no_run
/// # use crewfleet::{Cancellation, ClientError, KickoffClient, KickoffId};
/// # async fn example(client: &KickoffClient, id: &KickoffId) -> Result<(), ClientError> {
/// if let Cancellation::Finished(reply) = client.cancel(id).await? {
///     println!("too late: {}", reply.status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "the command is sent when it is awaited"]
pub struct Cancel {
    client: KickoffClient,
    kickoff_id: KickoffId,
    patience: Option<Duration>,
    redriven: bool,
    crews: Vec<CrewName>,
}

impl KickoffClient {
    /// Stops a kickoff wherever it is: in a queue, running, or waiting for a retry. [`Cancel`] says how.
    pub fn cancel(&self, kickoff_id: &KickoffId) -> Cancel {
        Cancel {
            client: self.clone(),
            kickoff_id: kickoff_id.clone(),
            patience: None,
            redriven: false,
            crews: Vec::new(),
        }
    }

    /// Has all workers start no kickoff of this crew until [`Self::resume`]; those that run go on. Workers that start
    /// later obey it, too, as long as there is one at least once a day. Returns when the broker has the command.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`] for what is no crew's name, [`ClientError::NotDeclared`] where no worker ever
    /// ran, [`ClientError::Command`].
    pub async fn pause(&self, crew: &str) -> Result<(), ClientError> {
        let crew = crew_name(crew)?;
        self.command(Command::Pause { crew, renews: None }).await
    }

    /// Has all workers start kickoffs of this crew again. Returns when the broker has the command.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn resume(&self, crew: &str) -> Result<(), ClientError> {
        let crew = crew_name(crew)?;
        self.command(Command::Resume { crew }).await
    }

    /// Has the worker of this id take no more kickoffs, finish what it runs within its grace, hand on the rest, and
    /// end. Returns when the broker has the command; whether there is such a worker, [`Self::workers`] tells.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn drain(&self, worker: &str) -> Result<(), ClientError> {
        let worker = worker.to_owned();
        self.command(Command::Drain { worker }).await
    }
}

impl Cancel {
    /// Watches for so long what comes of it, instead of [`CANCEL_PATIENCE`] where a worker has it, and for a moment only
    /// where none has.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Looks for it in the queues of these crews, too, beside those that workers serve.
    pub fn among(mut self, crews: &[CrewName]) -> Self {
        self.crews = crews.to_vec();
        self
    }

    /// The kickoff was redriven: a reply that it has already does not mean that it has ended.
    pub fn redriven(mut self) -> Self {
        self.redriven = true;
        self
    }

    async fn send(self) -> Result<Cancellation, ClientError> {
        let Self {
            client, kickoff_id, ..
        } = &self;
        // Both are bound before anything is sent, so no answer can be missed.
        let handle = async {
            match self.redriven {
                true => client.attach_from_now(kickoff_id).await,
                false => client.attach(kickoff_id).await,
            }
        };
        let (events, mut handle) = tokio::try_join!(client.events(kickoff_id), handle)?;
        let status = client.whereabouts(&mut handle, &self.crews).await?;
        if let Some(reply) = status.reply {
            return Box::pin(self.chain_of(reply)).await;
        }
        handle.cancel().await?;
        self.watched(handle, events, status).await
    }

    /// It has ended. A chain that it began may go on, and is cancelled by its id.
    async fn chain_of(&self, first: Reply) -> Result<Cancellation, ClientError> {
        let client = &self.client;
        let Some((live, crew)) = self.live_in_chain(&first).await? else {
            return Ok(Cancellation::of(first));
        };
        // It may wait for a worker in a queue that nobody looks at else.
        let mut crews = self.crews.clone();
        crews.extend(crew);
        let (events, mut handle) = tokio::try_join!(client.events(&live), client.attach_from_now(&live))?;
        let status = client.whereabouts(&mut handle, &crews).await?;
        let cancel = Command::Cancel {
            kickoff_id: self.kickoff_id.to_string(),
            redrive: None,
            crew: Some(first.crew.clone()),
        };
        client.command(cancel).await?;
        let cancellation = self.watched(handle, events, status).await?;
        Ok(Cancellation::InChain {
            kickoff_id: live,
            cancellation: Box::new(cancellation),
        })
    }

    /// The kickoff that the chain is at, and its crew; `None` where it is over, or was begun by another kickoff than this one.
    async fn live_in_chain(
        &self,
        first: &Reply,
    ) -> Result<Option<(KickoffId, Option<CrewName>)>, ClientError> {
        let begins = |chain: &ReplyChain| chain.place.id == first.kickoff_id;
        if !first.chain.as_ref().is_some_and(begins) {
            return Ok(None);
        }
        let mut last = first.clone();
        loop {
            let Some(mut next) = self.client.next_of(&last).await? else {
                return Ok(None);
            };
            next.looked_back().await;
            if !next.is_answered() {
                let next_step = last.chain.as_ref().and_then(|chain| chain.next.as_ref());
                let crew = next_step.and_then(|step| CrewName::parse(&step.crew).ok());
                return Ok(Some((next.id().clone(), crew)));
            }
            last = next.reply().await?;
        }
    }

    async fn watched(
        &self,
        handle: KickoffHandle,
        events: EventStream,
        status: KickoffStatus,
    ) -> Result<Cancellation, ClientError> {
        let patience = self.patience.unwrap_or(match status.stage {
            Stage::Running | Stage::Stopping | Stage::Waiting => CANCEL_PATIENCE,
            _ => QUEUED_PATIENCE,
        });
        Ok(match watch(handle, events, status.redrive(), patience).await? {
            Cancellation::Accepted if status.stage == Stage::Unknown => {
                Cancellation::Unknown(Box::new(status))
            }
            Cancellation::Accepted if status.stage == Stage::Unseen => Cancellation::Unseen(Box::new(status)),
            watched => watched,
        })
    }
}

impl IntoFuture for Cancel {
    type Output = Result<Cancellation, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, [`ClientError::Command`], [`ClientError::Broker`],
    /// [`ClientError::UnreadableReply`].
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Cancellation {
    /// What came of the kickoff that it ended at: of the one that a chain is at, where the first had ended.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::InChain { cancellation, .. } => cancellation.innermost(),
            other => other,
        }
    }

    fn of(reply: Reply) -> Self {
        match reply.status {
            Status::Cancelled => Self::Cancelled(Box::new(reply)),
            _ => Self::Finished(Box::new(reply)),
        }
    }
}

async fn watch(
    mut handle: KickoffHandle,
    mut events: EventStream,
    redrive: u32,
    patience: Duration,
) -> Result<Cancellation, ClientError> {
    let mut seen = Cancellation::Accepted;
    let ended = async {
        loop {
            let event = tokio::select! {
                biased;
                reply = handle.reply_since(redrive) => return reply,
                event = events.next() => event,
            };
            match event {
                Some(event) if event.event_type == event_type::CANCELLING => {
                    seen = Cancellation::Cancelling {
                        worker: worker_of(&event),
                    };
                }
                Some(_) => {}
                None => return handle.reply_since(redrive).await,
            }
        }
    };
    match timeout(patience, ended).await {
        Ok(reply) => reply.map(Cancellation::of),
        Err(_) => Ok(seen),
    }
}

/// The worker that an event names.
fn worker_of(event: &Event) -> Option<String> {
    let data: Value = serde_json::from_str(event.data.get()).ok()?;
    Some(data.get("worker")?.as_str()?.to_owned())
}

fn crew_name(crew: &str) -> Result<String, ClientError> {
    let name = CrewName::parse(crew).map_err(|e| ClientError::InvalidInput(e.to_string()))?;
    Ok(name.to_string())
}
