//! Asking the broker: tasks that send news, and wait while RabbitMQ is away.

use std::time::Duration;

use crewfleet::{ClientError, KickoffClient, KickoffId};
use crewfleet_protocol::CrewName;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::command::Command;
use super::news::News;
use crate::commands::cancel;

/// How long the workers have to tell what they have: they are given up on when the link is lost meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before something is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// How often workers are asked whether they obey, and how many times.
const ASK_AGAIN: (Duration, u32) = (Duration::from_millis(400), 25);

/// A worker that is not found so often has ended.
const GONE: u32 = 2;

/// Who is asked, about what, and who is told.
#[derive(Clone)]
pub(crate) struct Refresh {
    pub(crate) client: KickoffClient,
    /// The crews of the configuration: their queues are counted, too.
    pub(crate) crews: Vec<CrewName>,
    pub(crate) news: mpsc::Sender<News>,
}

impl Refresh {
    /// Tells when RabbitMQ is away, and when it is back.
    pub(crate) async fn connection(self) {
        loop {
            let link = self.client.broker().connected().await;
            self.tell(News::Connected(true)).await;
            self.client.ask_for_heartbeats().await;
            link.ended().await;
            self.tell(News::Connected(false)).await;
        }
    }

    /// Tells all heartbeats.
    pub(crate) async fn heartbeats(self) {
        let mut heartbeats = loop {
            match self.client.heartbeats().await {
                Ok(heartbeats) => break heartbeats,
                Err(error) => self.problem(&error).await,
            }
            sleep(PAUSE).await;
        };
        self.client.ask_for_heartbeats().await;
        // It goes on listening by itself after a lost connection.
        while let Some(heartbeat) = heartbeats.next().await {
            self.tell(News::Heartbeat(Box::new(heartbeat))).await;
        }
    }

    /// Tells what the workers have and what waits, again and again, with a pause that may change.
    pub(crate) async fn kickoffs(self, mut pause: watch::Receiver<Duration>) {
        loop {
            self.client.broker().connected().await;
            match timeout(PATIENCE, self.client.kickoffs(None, &self.crews)).await {
                Ok(Ok(known)) => self.tell(News::Kickoffs(Box::new(known))).await,
                Ok(Err(error)) => self.problem(&error).await,
                Err(_) => {
                    let text = format!("RabbitMQ has not answered for {} s", PATIENCE.as_secs());
                    self.tell(News::Problem(text)).await;
                }
            }
            let wait = *pause.borrow_and_update();
            // A view that wants them more often wants them now.
            let _ = timeout(wait, pause.changed()).await;
        }
    }

    /// Does what a person has confirmed. Until RabbitMQ has the command, it keeps `unsent`.
    pub(crate) async fn perform(self, command: Command, unsent: TaskTrackerToken) {
        let sent = match &command {
            Command::Pause(crew) => self.client.pause(crew).await,
            Command::Resume(crew) => self.client.resume(crew).await,
            Command::Drain(worker) => self.client.drain(worker).await,
            Command::Cancel { id, is_redriven } => return self.cancel(id, *is_redriven).await,
        };
        if let Err(error) = sent {
            return self.outcome(error.to_string(), true).await;
        }
        drop(unsent);
        self.tell(News::Sent(command.clone())).await;
        let mut gone = 0;
        for _ in 0..ASK_AGAIN.1 {
            match &command {
                Command::Drain(worker) => match self.client.ask_for_heartbeat_of(worker).await {
                    Some(false) => gone += 1,
                    _ => gone = 0,
                },
                _ => drop(self.client.ask_for_heartbeats().await),
            }
            if let (Command::Drain(worker), GONE) = (&command, gone) {
                return self.tell(News::Gone(worker.clone())).await;
            }
            sleep(ASK_AGAIN.0).await;
        }
    }

    async fn cancel(&self, id: &str, is_redriven: bool) {
        let id = match KickoffId::parse(id) {
            Ok(id) => id,
            Err(error) => return self.outcome(error.to_string(), true).await,
        };
        let mut cancel = self.client.cancel(&id).among(&self.crews);
        if is_redriven {
            cancel = cancel.redriven();
        }
        match cancel.await {
            Ok(cancellation) => self.outcome(cancel::words(&id, &cancellation), false).await,
            Err(error) => self.outcome(error.to_string(), true).await,
        }
    }

    async fn problem(&self, error: &ClientError) {
        self.tell(News::Problem(error.to_string())).await;
    }

    async fn outcome(&self, text: String, is_bad: bool) {
        self.tell(News::Outcome { text, is_bad }).await;
    }

    async fn tell(&self, news: News) {
        // Nobody listens any more: it ends.
        let _ = self.news.send(news).await;
    }
}
