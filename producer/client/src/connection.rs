//! What a client, its kickoffs and its handles share: the link to the broker, the client's own queues, and who waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::traces::{self, Span};
use crewfleet_amqp::{
    Broker, BrokerConfig, BrokerError, Message, PublishError, Publisher, Subscription, reply_code,
};
use crewfleet_protocol::query::FOLLOW_KEY;
use crewfleet_protocol::{Command, Control, CrewName, KickoffId, Names, topology};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::error::ClientError;
use crate::events::{EventStream, Events};
use crate::following::{Follow, Follows};
use crate::listening::Listening;
use crate::looking_back::LookingBack;
use crate::questions::Questions;
use crate::replies::Replies;
use crate::reply_history;

/// How often a crew without workers is told of.
const UNSERVED_INTERVAL: Duration = Duration::from_secs(60);

/// The connections of one client. They close when [`Self::close`] is called, or when the last owner is gone.
pub(crate) struct Connection {
    pub(crate) broker: Broker,
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
    pub(crate) max_request_bytes: usize,
    /// How long a publish is repeated.
    pub(crate) publish_timeout: Duration,
    /// What replies to this client are routed by.
    pub(crate) reply_key: String,
    pub(crate) replies: Arc<Replies>,
    id: String,
    client_name: Option<String>,
    reply_queue: OnceCell<Arc<Subscription>>,
    events: Arc<Events>,
    event_queue: OnceCell<Arc<Subscription>>,
    questions: OnceLock<Arc<Questions>>,
    follows: OnceLock<Follows>,
    /// When we last looked whether a crew has workers.
    looked_at: Mutex<HashMap<CrewName, Instant>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Connection {
    /// The client of this id, over this broker.
    pub(crate) fn over(
        broker: Broker,
        config: &BrokerConfig,
        id: &str,
        publish_timeout: Duration,
    ) -> Arc<Self> {
        let id = config.client_id(id);
        let names = Names::new(&config.namespace);
        let stop = CancellationToken::new();
        Arc::new(Self {
            publisher: broker.publisher(),
            replies: Arc::new(Replies::new(broker.clone(), names.clone())),
            broker,
            names,
            max_request_bytes: config.max_request_bytes,
            publish_timeout,
            // The dot keeps it apart from every kickoff_id.
            reply_key: format!("client.{id}"),
            client_name: config.client_name.clone(),
            id,
            reply_queue: OnceCell::new(),
            events: Arc::default(),
            event_queue: OnceCell::new(),
            questions: OnceLock::new(),
            follows: OnceLock::new(),
            looked_at: Mutex::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Closes the connections, after deleting the client's queues if asked to.
    pub(crate) async fn close(&self, delete_queues: bool) {
        if let Some(follows) = self.follows.get() {
            follows.close().await;
        }
        self.stop.cancel();
        for queue in [&self.reply_queue, &self.event_queue] {
            if let Some(subscription) = queue.get().filter(|_| delete_queues) {
                subscription.delete().await;
            }
        }
        self.broker.close().await;
    }

    /// One more queue of this client's own.
    pub(crate) fn own_queue(&self, what: &str) -> String {
        self.names.client_queue(&format!("{}.{what}", self.id))
    }

    /// Makes sure of the reply queue before a kickoff of `crew` is sent.
    pub(crate) async fn open_replies(&self, crew: &CrewName) -> Result<(), ClientError> {
        match self.reply_queue().await {
            Err(ClientError::NotDeclared { .. }) => Err(self.no_such_crew(crew)),
            opened => opened.map(drop),
        }
    }

    /// The reply queue, made with the first call.
    pub(crate) async fn reply_queue(&self) -> Result<&Arc<Subscription>, ClientError> {
        let open = async || {
            let bindings = vec![(self.names.replies(), self.reply_key.clone())];
            let queue = topology::client_queue(self.names.client_queue(&self.id));
            let replies = Arc::clone(&self.replies);
            Subscription::open(self.broker.clone(), queue, bindings, replies, &self.stop)
                .await
                .map_err(|e| self.not_declared(e, self.names.replies()))
        };
        self.reply_queue.get_or_try_init(open).await
    }

    /// The events of a kickoff, from now on.
    pub(crate) async fn events(&self, id: &KickoffId) -> Result<EventStream, ClientError> {
        let open = async || {
            let queue = topology::event_queue(self.own_queue("events"));
            let events = Arc::clone(&self.events);
            Subscription::open(self.broker.clone(), queue, vec![], events, &self.stop).await
        };
        let subscription = self.event_queue.get_or_try_init(open).await?;
        let exchange = self.names.events();
        let bound = subscription
            .bind(exchange.clone(), format!("{id}.#"))
            .await
            .map_err(|e| self.not_declared(e, exchange))?;
        // Bound before: the first words that a worker sends come here.
        let follow = self.follow(id.as_str());
        Ok(self.events.follow(id.as_str(), bound, follow))
    }

    /// Has the fleet know that somebody follows a kickoff.
    pub(crate) fn follow(&self, id: &str) -> Follow {
        self.follows().follow(id)
    }

    fn follows(&self) -> &Follows {
        self.follows.get_or_init(|| {
            let (publisher, names) = (self.publisher.clone(), self.names.clone());
            Follows::start(publisher, names, self.id.clone(), &self.stop)
        })
    }

    /// Under which name it follows.
    pub(crate) fn follower(&self) -> &str {
        &self.id
    }

    /// Hands what followers tell to `receiver`, this client among them.
    pub(crate) fn hear_followers(&self, receiver: Arc<impl Receive>) -> Listening {
        self.follows().always_tell();
        let queue = self.own_queue("followers");
        let bindings = vec![(self.names.queries(), FOLLOW_KEY.to_owned())];
        Listening::start(self.broker.clone(), queue, bindings, receiver, &self.stop)
    }

    /// What asks the workers; its queue is made with the first question.
    pub(crate) fn questions(&self) -> &Arc<Questions> {
        self.questions.get_or_init(|| {
            let binding = (self.names.answers(), self.reply_key.clone());
            let queue = self.own_queue("answers");
            Questions::listen(self.broker.clone(), queue, binding, self.stop.clone())
        })
    }

    /// Begins to look for a reply of this kickoff that is kept in the results stream.
    pub(crate) fn look_back(&self, id: &KickoffId) -> LookingBack {
        self.look_back_since(id.created_at())
    }

    /// Begins to look for replies that are kept there since a moment; all of them, where there is none.
    pub(crate) fn look_back_since(&self, from: Option<DateTime<Utc>>) -> LookingBack {
        let (broker, names) = (self.broker.clone(), self.names.clone());
        LookingBack::start(broker, names, from, Arc::clone(&self.replies))
    }

    /// Hands the replies that the stream keeps since `from` to whoever waits for them here.
    pub(crate) async fn replay_replies(&self, from: Option<DateTime<Utc>>) {
        reply_history::look_back(&self.broker, &self.names, from, self.replies.as_ref()).await;
    }

    /// Publishes a command to the workers.
    pub(crate) async fn command(&self, command: Command) -> Result<(), ClientError> {
        let message = Message::from(Control::new(command).message(&self.names));
        match self.publisher.publish(message, self.publish_timeout).await {
            Ok(()) => Ok(()),
            Err(PublishError::Broker(e)) if e.code() == Some(reply_code::NOT_FOUND) => {
                Err(self.not_declared(e, self.names.control()))
            }
            Err(cause) => Err(ClientError::Command { cause }),
        }
    }

    /// Publishes a kickoff request.
    pub(crate) async fn publish(
        &self,
        crew: &CrewName,
        kickoff_id: &KickoffId,
        mut message: Message,
    ) -> Result<(), ClientError> {
        let span = traces::publish(&Span::around(), self.broker.endpoint(), &mut message);
        let published = self.publisher.publish(message, self.publish_timeout).await;
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

    /// A queue without consumers is no error: workers may come. But somebody may be waiting for nothing.
    async fn warn_if_unserved(&self, crew: &CrewName) {
        {
            let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let recently = |at: &Instant| now.duration_since(*at) < UNSERVED_INTERVAL;
            if looked_at.get(crew).is_some_and(recently) {
                return;
            }
            looked_at.insert(crew.clone(), now);
        }
        let Some(link) = self.broker.link() else {
            return;
        };
        let queue = self.names.request_queue(crew);
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

    /// The error for a crew that no queue takes kickoffs of.
    pub(crate) fn no_such_crew(&self, crew: &CrewName) -> ClientError {
        ClientError::NoSuchCrew {
            crew: crew.to_string(),
            exchange: self.names.requests(),
            broker: self.broker.endpoint().to_string(),
        }
    }

    /// What an error about an exchange of the fleet's, or about a queue of our own, means to a user.
    pub(crate) fn not_declared(&self, error: BrokerError, exchange: String) -> ClientError {
        match error.is_missing() {
            true => ClientError::NotDeclared {
                exchange,
                broker: self.broker.endpoint().to_string(),
            },
            false if is_about_own_name(&error) => ClientError::OwnName {
                cause: error,
                client_name: self.client_name.clone(),
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
