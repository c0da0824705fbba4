//! One kickoff after it was sent.

use std::sync::Arc;

use crewfleet_amqp::subscription::Bound;
use crewfleet_protocol::{Command, KickoffId, Reply};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::events::EventStream;
use crate::looking_back::LookingBack;
use crate::replies::Waiter;

/// Waits for a kickoff's reply from the moment it is made; dropping it ends the waiting, not the kickoff.
/// It keeps its client connected.
pub struct KickoffHandle {
    connection: Arc<Connection>,
    waiter: Waiter,
    events: Option<EventStream>,
    /// For a kickoff that somebody else sent: its own key …
    _bound: Option<Bound>,
    /// … and the look at what came before.
    looking_back: Option<LookingBack>,
    /// For what may follow one that was sent from here: its replies come here, too, and may come before we have read that it
    /// follows. On a broker without streams nobody else keeps them.
    _steps: Vec<Waiter>,
}

impl KickoffHandle {
    pub(crate) fn new(connection: Arc<Connection>, id: &KickoffId) -> Self {
        Self {
            waiter: connection.replies.wait(id),
            connection,
            events: None,
            _bound: None,
            looking_back: None,
            _steps: Vec::new(),
        }
    }

    /// Followed by at most so many others, whose replies are kept for as long as this handle is.
    pub(crate) fn followed_by(mut self, steps: usize) -> Self {
        let mut last = self.id().clone();
        for step in (1..).take(steps) {
            last = KickoffId::of_step(last.as_str(), step);
            self._steps.push(self.connection.replies.wait(&last));
        }
        self
    }

    pub(crate) fn attached(mut self, bound: Bound) -> Self {
        self._bound = Some(bound);
        self
    }

    pub(crate) fn looking_back(mut self, looking_back: LookingBack) -> Self {
        self.looking_back = Some(looking_back);
        self
    }

    /// Waits until the look at what came before is over: [`Self::reply`] then has what there was, as far as the moment in
    /// the kickoff's id is right. Cancel-safe.
    pub(crate) async fn looked_back(&self) {
        if let Some(looking) = &self.looking_back {
            looking.near().await;
        }
    }

    /// Has all that the results stream keeps looked through, and waits until that is done. Cancel-safe.
    pub(crate) async fn looked_at_all(&mut self) {
        if let Some(looking) = &mut self.looking_back {
            looking.everything().await;
            self.looking_back = None;
        }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The kickoff's id.
    pub fn id(&self) -> &KickoffId {
        self.waiter.id()
    }

    /// Waits for the terminal reply, for as long as it takes; put a `tokio::time::timeout` around it to give
    /// up earlier. Cancel-safe, and it may be called again. A kickoff that did not succeed is a reply, too.
    ///
    /// # Errors
    /// [`ClientError::UnreadableReply`].
    pub async fn reply(&mut self) -> Result<Reply, ClientError> {
        self.reply_since(0).await
    }

    /// As [`Self::reply`], of this redrive or a later one.
    pub(crate) async fn reply_since(&mut self, redrive: u32) -> Result<Reply, ClientError> {
        Ok(self.waiter.reply_since(redrive).await?.as_ref().clone())
    }

    /// The events of the kickoff: from the first one on when it was sent
    /// [`with_events`](crate::Kickoff::with_events), else (and at a second call) from now on.
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] and [`ClientError::Broker`].
    pub async fn events(&mut self) -> Result<EventStream, ClientError> {
        match self.events.take() {
            Some(events) => Ok(events),
            None => self.connection.events(self.waiter.id()).await,
        }
    }

    /// Asks whatever worker has the kickoff, or will have it, to stop it; [`Self::reply`] then tells what came of it:
    /// `cancelled`, unless it had ended before. Returns when the broker has the command.
    ///
    /// # Errors
    /// As [`KickoffClient::pause`](crate::KickoffClient::pause).
    pub async fn cancel(&self) -> Result<(), ClientError> {
        let kickoff_id = self.id().to_string();
        // What was sent from here is no redriven one.
        let redrive = self._bound.is_none().then_some(0);
        let cancel = Command::Cancel {
            kickoff_id,
            redrive,
            crew: None,
        };
        self.connection.command(cancel).await
    }

    pub(crate) async fn follow(&mut self) -> Result<(), ClientError> {
        self.events = Some(self.connection.events(self.waiter.id()).await?);
        Ok(())
    }

    /// Whether the reply is here: [`Self::reply`] returns at once then.
    pub fn is_answered(&self) -> bool {
        self.is_answered_since(0)
    }

    /// Whether the reply of this redrive, or of a later one, is here.
    pub(crate) fn is_answered_since(&self, redrive: u32) -> bool {
        self.waiter.is_answered_since(redrive)
    }
}
