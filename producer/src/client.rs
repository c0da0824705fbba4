//! The client: connect once, kick off from anywhere in the program.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crewfleet_amqp::traces::{self, Span};
use crewfleet_amqp::uri::Endpoint;
use crewfleet_amqp::{
    Broker, BrokerConfig, BrokerError, Inbox, Message, PublishError, Publisher, reply_code,
};
use crewfleet_protocol::{CrewName, Event, KickoffId, Names, Reply, topology};
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::error::ClientError;
use crate::events::{EventStream, Events};
use crate::handle::KickoffHandle;
use crate::history;
use crate::looking_back::LookingBack;
use crate::questions::Questions;
use crate::replies::Replies;
use crate::request::Kickoff;

/// How long a publish is repeated while the broker is away, hangs, or refuses since a queue is full.
const PUBLISH_LIMIT: Duration = Duration::from_secs(30);

/// How often a crew without workers is told of.
const UNSERVED_INTERVAL: Duration = Duration::from_secs(60);

/// Kicks off crews and awaits their replies, over two connections and one durable reply queue. Cheap to clone.
///
/// The reply queue is made with the first kickoff. It outlives lost connections; [`Self::close`] deletes it, and
/// without that the broker does, an hour after the client is gone.
#[derive(Clone)]
pub struct KickoffClient {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    publisher: Publisher,
    names: Names,
    max_request_bytes: usize,
    publish_limit: Duration,
    id: String,
    client_name: Option<String>,
    reply_key: String,
    replies: Arc<Replies>,
    reply_queue: OnceCell<Arc<Inbox>>,
    events: Arc<Events>,
    event_queue: OnceCell<Arc<Inbox>>,
    questions: OnceLock<Arc<Questions>>,
    /// When we last looked whether a crew has workers.
    looked_at: Mutex<HashMap<CrewName, Instant>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl KickoffClient {
    /// Connects. `name` is shown in the broker's list of connections.
    ///
    /// # Errors
    /// [`ClientError::Connect`] within `connect_timeout_s`.
    pub async fn connect(config: &BrokerConfig, name: &str) -> Result<Self, ClientError> {
        Self::connect_as(config, name, KickoffId::generate().as_str(), PUBLISH_LIMIT).await
    }

    /// Connects as a client whose id, and so whose reply queue, is the same in every run of it.
    pub(crate) async fn connect_as(
        config: &BrokerConfig,
        name: &str,
        id: &str,
        publish_limit: Duration,
    ) -> Result<Self, ClientError> {
        let broker = Broker::connect(config, name).await?;
        let id = config.client_id(id);
        let names = Names::new(&config.namespace);
        let stop = CancellationToken::new();
        Ok(Self {
            inner: Arc::new(Inner {
                publisher: broker.publisher(),
                replies: Arc::new(Replies::new(broker.clone(), names.clone())),
                broker,
                names,
                max_request_bytes: config.max_request_bytes,
                publish_limit,
                // The dot keeps it apart from every kickoff_id.
                reply_key: format!("client.{id}"),
                client_name: config.client_name.clone(),
                id,
                reply_queue: OnceCell::new(),
                events: Arc::default(),
                event_queue: OnceCell::new(),
                questions: OnceLock::new(),
                looked_at: Mutex::default(),
                _stop_on_drop: stop.clone().drop_guard(),
                stop,
            }),
        })
    }

    /// A kickoff of `crew`; awaiting it sends it. `inputs` is anything that is written as a JSON object; a
    /// [`RawValue`](serde_json::value::RawValue) is sent byte for byte.
    pub fn kickoff(&self, crew: &str, inputs: &(impl Serialize + ?Sized)) -> Kickoff {
        Kickoff::new(self.clone(), crew, inputs)
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
        Ok(self.looking_back(handle))
    }

    /// As [`Self::attach`], for replies that are there only: it needs no queue.
    pub(crate) fn look_back_for(&self, id: &KickoffId) -> KickoffHandle {
        self.looking_back(KickoffHandle::new(self.clone(), id))
    }

    fn looking_back(&self, handle: KickoffHandle) -> KickoffHandle {
        let (broker, names) = (self.inner.broker.clone(), self.inner.names.clone());
        let (from, replies) = (handle.id().created_at(), Arc::clone(&self.inner.replies));
        handle.looking_back(LookingBack::start(broker, names, from, replies))
    }

    /// As [`Self::attach`], for replies that come from now on only.
    pub(crate) async fn attach_from_now(&self, id: &KickoffId) -> Result<KickoffHandle, ClientError> {
        let handle = KickoffHandle::new(self.clone(), id);
        let exchange = self.names().replies();
        let bound = self
            .reply_queue()
            .await?
            .bind(exchange.clone(), id.to_string())
            .await
            .map_err(|e| self.not_declared(e, exchange))?;
        Ok(handle.attached(bound))
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
        let inner = &self.inner;
        let open = async || {
            let queue = topology::event_queue(self.own_queue("events"));
            let events = Arc::clone(&inner.events);
            Inbox::open(inner.broker.clone(), queue, vec![], events, &inner.stop).await
        };
        let inbox = inner.event_queue.get_or_try_init(open).await?;
        let exchange = inner.names.events();
        let bound = inbox
            .bind(exchange.clone(), format!("{id}.#"))
            .await
            .map_err(|e| self.not_declared(e, exchange))?;
        Ok(inner.events.follow(id.as_str(), bound))
    }

    /// The events of a kickoff so far, as a gateway's stream `kickoff.history` keeps them; `None` where no gateway ever
    /// ran, or this user may not read its stream.
    ///
    /// # Errors
    /// [`ClientError::Broker`].
    pub async fn past_events(&self, id: &KickoffId) -> Result<Option<Vec<Event>>, ClientError> {
        let inner = &self.inner;
        Ok(history::look_back(&inner.broker, &inner.names, id).await?)
    }

    /// Deletes the client's queues and closes its connections. What still runs goes on; its replies can be had
    /// with [`Self::attach`] later.
    pub async fn close(self) {
        self.inner.stop.cancel();
        for queue in [&self.inner.reply_queue, &self.inner.event_queue] {
            if let Some(inbox) = queue.get() {
                inbox.delete().await;
            }
        }
        self.inner.broker.close().await;
    }

    /// Closes the connections and leaves the reply queue, which goes on collecting for an hour.
    #[cfg(feature = "cli")]
    pub(crate) async fn leave(self) {
        self.inner.stop.cancel();
        self.inner.broker.close().await;
    }

    /// Whether there is a connection to the broker at present; where there is none, another one comes about.
    pub fn is_connected(&self) -> bool {
        self.broker().link().is_some()
    }

    /// Where the broker is, without its password.
    pub fn endpoint(&self) -> &Endpoint {
        self.broker().endpoint()
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    pub(crate) fn publisher(&self) -> (&Publisher, Duration) {
        (&self.inner.publisher, self.inner.publish_limit)
    }

    /// One more queue of this client's own.
    pub(crate) fn own_queue(&self, what: &str) -> String {
        self.names().client_queue(&format!("{}.{what}", self.inner.id))
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }

    pub(crate) fn max_request_bytes(&self) -> usize {
        self.inner.max_request_bytes
    }

    pub(crate) fn reply_key(&self) -> &str {
        &self.inner.reply_key
    }

    /// What asks the workers; its queue is made with the first question.
    pub(crate) fn questions(&self) -> &Arc<Questions> {
        let inner = &self.inner;
        inner.questions.get_or_init(|| {
            let binding = (inner.names.answers(), inner.reply_key.clone());
            Questions::listen(
                inner.broker.clone(),
                self.own_queue("answers"),
                binding,
                inner.stop.clone(),
            )
        })
    }

    pub(crate) fn replies(&self) -> &Arc<Replies> {
        &self.inner.replies
    }

    /// Makes sure of the reply queue before a kickoff of `crew` is sent.
    pub(crate) async fn open_replies(&self, crew: &CrewName) -> Result<(), ClientError> {
        match self.reply_queue().await {
            Err(ClientError::NotDeclared { .. }) => Err(self.no_such_crew(crew)),
            opened => opened.map(drop),
        }
    }

    async fn reply_queue(&self) -> Result<&Arc<Inbox>, ClientError> {
        let inner = &self.inner;
        let open = async || {
            let bindings = vec![(inner.names.replies(), inner.reply_key.clone())];
            let queue = topology::client_queue(inner.names.client_queue(&inner.id));
            let replies = Arc::clone(&inner.replies);
            Inbox::open(inner.broker.clone(), queue, bindings, replies, &inner.stop)
                .await
                .map_err(|e| self.not_declared(e, inner.names.replies()))
        };
        inner.reply_queue.get_or_try_init(open).await
    }

    pub(crate) async fn publish(
        &self,
        crew: &CrewName,
        kickoff_id: &KickoffId,
        mut message: Message,
    ) -> Result<(), ClientError> {
        let inner = &self.inner;
        let span = traces::publish(&Span::around(), inner.broker.endpoint(), &mut message);
        let published = inner.publisher.publish(message, inner.publish_limit).await;
        if let Err(error) = &published {
            span.fail(error.kind());
        }
        span.end(None);
        match published {
            Ok(()) => {}
            Err(PublishError::Unroutable { .. }) => return Err(self.no_such_crew(crew)),
            Err(PublishError::Broker(e)) if e.code() == Some(reply_code::NOT_FOUND) => {
                return Err(self.no_such_crew(crew));
            }
            Err(cause) => {
                return Err(ClientError::Publish {
                    kickoff_id: kickoff_id.clone(),
                    cause,
                });
            }
        }
        self.warn_if_unserved(crew).await;
        Ok(())
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

    /// A queue without consumers is no error: workers may come. But somebody may be waiting for nothing.
    async fn warn_if_unserved(&self, crew: &CrewName) {
        {
            let mut looked_at = self
                .inner
                .looked_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let recently = |at: &Instant| now.duration_since(*at) < UNSERVED_INTERVAL;
            if looked_at.get(crew).is_some_and(recently) {
                return;
            }
            looked_at.insert(crew.clone(), now);
        }
        let Some(link) = self.broker().link() else {
            return;
        };
        let queue = self.names().request_queue(crew);
        match link.queue_state(&queue).await {
            Ok(Some(state)) if state.consumers == 0 => warn!(
                %crew,
                queue,
                waiting = state.messages,
                "no worker takes kickoffs of this crew at present; they wait until one comes, or has room"
            ),
            Ok(_) => {}
            Err(error) => debug!(queue, %error, "cannot see whether the crew has workers"),
        }
    }

    fn no_such_crew(&self, crew: &CrewName) -> ClientError {
        ClientError::NoSuchCrew {
            crew: crew.to_string(),
            exchange: self.names().requests(),
            broker: self.broker().endpoint().to_string(),
        }
    }

    pub(crate) fn not_declared(&self, error: BrokerError, exchange: String) -> ClientError {
        match error.is_missing() {
            true => ClientError::NotDeclared {
                exchange,
                broker: self.broker().endpoint().to_string(),
            },
            false if is_about_own_name(&error) => ClientError::OwnName {
                cause: error,
                client_name: self.inner.client_name.clone(),
            },
            false => ClientError::Broker(error),
        }
    }
}

/// Whether it is the name of a queue or a key of our own that the broker refuses.
fn is_about_own_name(error: &BrokerError) -> bool {
    match error {
        BrokerError::Failed {
            cause,
            code: Some(reply_code::ACCESS_REFUSED),
            ..
        } => cause.contains(".clients.") || cause.contains("topic 'client."),
        _ => false,
    }
}
