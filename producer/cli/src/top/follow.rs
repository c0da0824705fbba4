//! Following one kickoff: where it is, what happens, how it ends.

use std::time::Duration;

use crewfleet::{ClientError, KickoffClient, KickoffId, Reply};
use crewfleet_protocol::CrewName;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::news::{News, OfKickoff};

/// How often is asked where it is.
const AGAIN: Duration = Duration::from_secs(3);

/// How long nobody knows of it before the wait for its reply begins anew.
const UNKNOWN: Duration = Duration::from_secs(60);

/// Who is asked, about which kickoff, and who is told.
#[derive(Clone)]
pub(crate) struct Follow {
    pub(crate) client: KickoffClient,
    pub(crate) crews: Vec<CrewName>,
    pub(crate) id: KickoffId,
    pub(crate) news: mpsc::Sender<News>,
}

impl Follow {
    /// Tells all of it, until the kickoff has ended and its last event came.
    pub(crate) async fn run(self) {
        let replied = async {
            tokio::select! {
                () = self.asking() => {}
                () = self.reply() => {}
            }
        };
        tokio::join!(self.events(), replied);
    }

    async fn events(&self) {
        let mut events = loop {
            match self.client.events(&self.id).await {
                Ok(events) => break events,
                Err(error) => self.failed(&error).await,
            }
        };
        // What happens from now on is heard, so nothing falls between.
        if let Ok(Some(past)) = self.client.past_events(&self.id).await {
            self.tell(OfKickoff::Past(past)).await;
        }
        while let Some(event) = events.next().await {
            self.tell(OfKickoff::Event(Box::new(event))).await;
        }
    }

    async fn reply(&self) {
        loop {
            match self.reply_of_now().await {
                Ok(Some(reply)) => return self.tell(OfKickoff::Reply(Box::new(reply))).await,
                // Nobody knows of it, which its status tells.
                Ok(None) => {}
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// Its reply; not the one from before it was redriven.
    async fn reply_of_now(&self) -> Result<Option<Reply>, ClientError> {
        let mut handle = self.client.attach(&self.id).await?;
        let reply = handle.reply_unless_unknown(&self.crews, UNKNOWN, |_| {});
        Ok(reply.await?.ok())
    }

    /// It ends never: its reply does that.
    async fn asking(&self) {
        loop {
            self.client.broker().connected().await;
            match self.client.status(&self.id, &self.crews).await {
                Ok(status) => self.tell(OfKickoff::Status(Box::new(status))).await,
                // A lost connection is told elsewhere.
                Err(ClientError::Broker(error)) if !error.is_refusal() => {}
                Err(error) => self.failed(&error).await,
            }
            sleep(AGAIN).await;
        }
    }

    async fn failed(&self, error: &ClientError) {
        self.tell(OfKickoff::Problem(error.to_string())).await;
        sleep(AGAIN).await;
    }

    async fn tell(&self, news: OfKickoff) {
        // Nobody listens any more: it ends.
        let _ = self.news.send(News::Of(self.id.clone(), news)).await;
    }
}
