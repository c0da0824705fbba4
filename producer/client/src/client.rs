//! The client: connect once, kick off from anywhere in the program.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::uri::Endpoint;
use crewfleet_amqp::{Broker, BrokerConfig, Publisher};
use crewfleet_protocol::{Command, CrewName, Event, KickoffId, Names, Reply};
use serde::Serialize;

use crate::connection::Connection;
use crate::error::ClientError;
use crate::event_history;
use crate::events::EventStream;
use crate::following::Follow;
use crate::handle::KickoffHandle;
use crate::listening::Listening;
use crate::options::ClientOptions;
use crate::request::Kickoff;

/// Kicks off crews and awaits their replies, over two connections and one durable reply queue. Cheap to clone.
///
/// The reply queue is made with the first kickoff. It outlives lost connections; [`Self::close`] deletes it, and
/// without that the broker does, an hour after the client is gone.
#[derive(Clone)]
pub struct KickoffClient {
    connection: Arc<Connection>,
}

impl KickoffClient {
    /// Connects. `name` is shown in the broker's list of connections.
    ///
    /// # Errors
    /// [`ClientError::Connect`] within `connect_timeout_s`.
    pub async fn connect(config: &BrokerConfig, name: &str) -> Result<Self, ClientError> {
        Self::connect_with(config, name, ClientOptions::default()).await
    }

    /// As [`Self::connect`], with options.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(
        config: &BrokerConfig,
        name: &str,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let broker = Broker::connect(config, name).await?;
        Ok(Self::of(broker, config, options))
    }

    /// Keeps connecting until it succeeds: for a service that may start before its broker. Until then all is as while a
    /// connection is lost.
    ///
    /// # Errors
    /// [`ClientError::Connect`] for a URL that is none.
    pub fn start(config: &BrokerConfig, name: &str, options: ClientOptions) -> Result<Self, ClientError> {
        let broker = Broker::start(config, name)?;
        Ok(Self::of(broker, config, options))
    }

    fn of(broker: Broker, config: &BrokerConfig, options: ClientOptions) -> Self {
        let id = options.id.unwrap_or_else(|| KickoffId::generate().to_string());
        Self {
            connection: Connection::over(broker, config, &id, options.publish_timeout),
        }
    }

    /// Another client over the same connections.
    pub(crate) fn over(connection: &Arc<Connection>) -> Self {
        Self {
            connection: Arc::clone(connection),
        }
    }

    /// A kickoff of `crew`; awaiting it sends it. `inputs` is anything that is written as a JSON object; a
    /// [`RawValue`](serde_json::value::RawValue) is sent byte for byte.
    pub fn kickoff(&self, crew: &str, inputs: &(impl Serialize + ?Sized)) -> Kickoff {
        Kickoff::new(Arc::clone(&self.connection), crew, inputs)
    }

    /// Waits for a kickoff that somebody else sent, or this program in another life. A reply that was given
    /// already is found in the results stream, as long as that keeps it; of several (a redrive) the first one
    /// of the highest redrive that is there, unless a new one comes meanwhile.
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub async fn attach(&self, id: &KickoffId) -> Result<KickoffHandle, ClientError> {
        // First the binding, then the look back: nothing can fall between.
        let handle = self.attach_from_now(id).await?;
        Ok(handle.looking_back(self.connection.look_back(id)))
    }

    /// As [`Self::attach`], for replies that come from now on only.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub async fn attach_from_now(&self, id: &KickoffId) -> Result<KickoffHandle, ClientError> {
        let handle = self.await_own(id);
        let exchange = self.names().replies();
        let bound = self
            .connection
            .reply_queue()
            .await?
            .bind(exchange.clone(), id.to_string())
            .await
            .map_err(|e| self.connection.not_declared(e, exchange))?;
        Ok(handle.attached(bound))
    }

    /// As [`Self::attach`], for replies that are there only: it needs no queue.
    pub(crate) fn look_back_for(&self, id: &KickoffId) -> KickoffHandle {
        self.await_own(id).looking_back(self.connection.look_back(id))
    }

    /// Waits for a kickoff that a client of the same [id](ClientOptions::id) sent: its reply comes to the reply queue of
    /// both, once [`Self::open_reply_queue`] has opened that. Nothing that is kept is looked through.
    pub fn await_own(&self, id: &KickoffId) -> KickoffHandle {
        KickoffHandle::new(Arc::clone(&self.connection), id)
    }

    /// Opens the reply queue, as the first kickoff does by itself. Replies that lie in it go to the handles that there are.
    ///
    /// # Errors
    /// [`ClientError::NoSuchCrew`] where no worker ever ran, so none that serves `crew` did; and [`ClientError::Broker`].
    pub async fn open_reply_queue(&self, crew: &CrewName) -> Result<(), ClientError> {
        self.connection.open_replies(crew).await
    }

    /// Hands the replies that the results stream keeps since `from`, else all that it keeps, to the handles of this client.
    /// Returns at the end that the stream has now; lost connections are waited out.
    pub async fn replay_replies(&self, from: Option<DateTime<Utc>>) {
        self.connection.replay_replies(from).await;
    }

    /// Waits for the reply of a kickoff that somebody else sent: [`Self::attach`], then
    /// [`KickoffHandle::reply`].
    ///
    /// # Errors
    /// As these two.
    pub async fn wait_for(&self, id: &KickoffId) -> Result<Reply, ClientError> {
        self.attach(id).await?.reply().await
    }

    /// The reply of a kickoff, if it has one by now; as [`Self::attach`] finds it.
    ///
    /// # Errors
    /// As [`Self::attach`], and [`ClientError::UnreadableReply`].
    pub async fn find_reply(&self, id: &KickoffId) -> Result<Option<Reply>, ClientError> {
        let mut handle = self.look_back_for(id);
        handle.looked_back().await;
        if !handle.is_answered() {
            handle.looked_at_all().await;
        }
        match handle.is_answered() {
            true => handle.reply().await.map(Some),
            false => Ok(None),
        }
    }

    /// The events of a kickoff, from now on.
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub async fn events(&self, id: &KickoffId) -> Result<EventStream, ClientError> {
        self.connection.events(id).await
    }

    /// Has the fleet know that somebody follows this kickoff, until what is returned is dropped: its worker sends what models
    /// say as they say it.
    pub fn follow(&self, id: &str) -> Follow {
        self.connection.follow(id)
    }

    /// Hands what followers tell, [`Query`](crewfleet_protocol::Query) each, to `receiver` as long as what is returned lives.
    /// From now on this client tells every five seconds, also where it follows nothing: who hears that hears all others.
    pub fn hear_followers(&self, receiver: Arc<impl Receive>) -> Listening {
        self.connection.hear_followers(receiver)
    }

    /// Under which name this client follows.
    pub fn follower(&self) -> &str {
        self.connection.follower()
    }

    /// The events of a kickoff so far, as a gateway's stream `kickoff.history` keeps them; `None` where no gateway ever
    /// ran, or this user may not read its stream.
    ///
    /// # Errors
    /// [`ClientError::Broker`].
    pub async fn past_events(&self, id: &KickoffId) -> Result<Option<Vec<Event>>, ClientError> {
        Ok(event_history::look_back(self.broker(), self.names(), id).await?)
    }

    /// Whether a worker that serves this crew has ever been there: its queue is. We may not be allowed to see it.
    ///
    /// # Errors
    /// [`ClientError::Broker`].
    pub async fn has_queue(&self, crew: &CrewName) -> Result<bool, ClientError> {
        let link = self.broker().connected().await;
        let queue = self.names().request_queue(crew);
        Ok(link.queue_state(&queue).await?.is_some())
    }

    /// Publishes a command to the workers. Returns when the broker has it.
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, [`ClientError::Command`].
    pub async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.connection.command(command).await
    }

    /// Deletes the client's queues and closes its connections. What still runs goes on; its replies can be had
    /// with [`Self::attach`] later.
    pub async fn close(self) {
        self.connection.close(true).await;
    }

    /// Closes the connections and leaves the reply queue, which goes on collecting for an hour: for a client that comes back
    /// with the same [id](ClientOptions::id).
    pub async fn leave(self) {
        self.connection.close(false).await;
    }

    /// Whether there is a connection to the broker at present; where there is none, another one comes about.
    pub fn is_connected(&self) -> bool {
        self.broker().link().is_some()
    }

    /// Where the broker is, without its password.
    pub fn endpoint(&self) -> &Endpoint {
        self.broker().endpoint()
    }

    /// The link to the broker, for what else is to be done over it.
    pub fn broker(&self) -> &Broker {
        &self.connection.broker
    }

    /// What this client publishes by, and how long it repeats a publish.
    pub fn publisher(&self) -> (&Publisher, Duration) {
        (&self.connection.publisher, self.connection.publish_timeout)
    }

    /// The names of exchanges and queues in this namespace.
    pub fn names(&self) -> &Names {
        &self.connection.names
    }

    /// Under which key replies come to this client's reply queue.
    pub fn reply_key(&self) -> &str {
        &self.connection.reply_key
    }

    /// The name of one more queue of this client's own, which begins as its reply queue's does.
    pub fn own_queue(&self, what: &str) -> String {
        self.connection.own_queue(what)
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}
