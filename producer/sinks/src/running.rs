//! All sinks of one process: started together, ended together.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::{Broker, BrokerConfig, Problem};
use crewfleet_protocol::topology::{SinkSource, Topology};
use crewfleet_protocol::{Names, SinkName};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::SinksConfig;
use crate::config::spec::{Spec, Specs, Target, Webhooks};
use crate::error::SinksError;
use crate::kinds::amqp::AmqpTarget;
use crate::kinds::file::FileTarget;
use crate::kinds::orders::Orders;
use crate::kinds::webhook::WebhookTarget;
use crate::kinds::{Batch, Each, Kind};
use crate::metrics::SinkMetrics;
use crate::settle::Settling;
use crate::sink::{Sink, Standing, batch, each};
use crate::webhook::client::WebhookClient;
use crate::webhook::hosts::Hosts;
use crate::webhook::resolver::System;

/// How long what is under way may take to end.
const ENDING: Duration = Duration::from_secs(15);

/// All sinks of this process, as they run.
pub struct Running {
    sinks: Vec<Arc<Sink>>,
    tasks: TaskTracker,
    declares: Declares,
    stop: CancellationToken,
    /// Of sinks that publish elsewhere.
    brokers: Vec<Broker>,
}

/// What sinks are made of.
pub(crate) struct Parts<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) config: &'a BrokerConfig,
    pub(crate) names: &'a Names,
    pub(crate) webhooks: &'a Webhooks,
    pub(crate) client: Arc<WebhookClient>,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(
        broker: &'a Broker,
        config: &'a BrokerConfig,
        names: &'a Names,
        webhooks: &'a Webhooks,
        metrics: &SinkMetrics,
    ) -> Result<Self, SinksError> {
        let hosts = Hosts::new(webhooks.hosts, metrics.circuits_open.clone());
        let client = WebhookClient::new(webhooks.guard.clone(), Arc::new(System), hosts, webhooks.calls);
        Ok(Self {
            broker,
            config,
            names,
            webhooks,
            client: Arc::new(client.map_err(SinksError::Http)?),
        })
    }

    /// What a sink hands on to; with the broker, where that is another than ours.
    pub(crate) fn kind(&self, spec: &Spec) -> Result<(Kind, Option<Broker>), SinksError> {
        let each = |each: Box<dyn Each>| Kind::Each(each);
        let batch = |batch: Box<dyn Batch>| Kind::Batch(batch);
        let (names, format) = (self.names.clone(), spec.format);
        Ok(match &spec.target {
            Target::Webhook {
                url,
                signer,
                authentication,
            } => {
                let target = WebhookTarget {
                    client: Arc::clone(&self.client),
                    names,
                    format,
                    max_body: self.webhooks.max_body,
                    url: url.clone(),
                    signer: signer.clone(),
                    authentication: authentication.clone(),
                };
                (each(Box::new(target)), None)
            }
            Target::File { path, rotation } => {
                let target = FileTarget::new(names, format, path.clone(), *rotation);
                (batch(Box::new(target)), None)
            }
            Target::Amqp {
                broker,
                exchange,
                routing_key,
            } => {
                let other = broker
                    .as_ref()
                    .map(|config| Broker::start(config, &format!("crewfleet-sink-{}", spec.name)));
                let other = other.transpose()?;
                let target = AmqpTarget {
                    // What another team's broker refuses takes nothing of ours along.
                    publisher: other.as_ref().unwrap_or(self.broker).publisher().apart(),
                    names,
                    format,
                    exchange: exchange.clone(),
                    routing_key: routing_key.clone(),
                };
                (each(Box::new(target)), other)
            }
            #[cfg(feature = "postgres")]
            Target::Postgres(postgres) => {
                let (name, has_events) = (spec.name.as_str(), spec.filter.on.has_events());
                let target = crate::kinds::postgres::PostgresTarget::new(name, postgres, has_events)?;
                (batch(Box::new(target)), None)
            }
        })
    }
}

/// What a process of sinks declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declares {
    /// What workers do, too, so that it need not wait for one.
    All,
    /// The queues of its sinks alone. What these are bound to, and the queue of the webhooks that kickoffs ask for, a worker
    /// declares.
    Own,
}

/// What is declared for a sink.
pub(crate) fn topology(
    config: &BrokerConfig,
    names: &Names,
    sink: &SinkName,
    sources: &[SinkSource],
    declares: Declares,
) -> Topology {
    let mut topology = match declares {
        Declares::All => Topology::of(names, &[], config.results()),
        Declares::Own => Topology::default(),
    };
    if *sink != SinkName::webhooks() {
        topology.add(Topology::sink(names, sink, sources, None));
    }
    topology.with_streams(config.streams)
}

/// What the sinks of a configuration need beside what all workers do.
///
/// # Errors
/// The first [`Problem`] of the configuration.
pub fn topology_of_all(config: &SinksConfig, names: &Names) -> Result<Topology, Problem> {
    let mut topology = Topology::default();
    for spec in config.resolve()?.sinks {
        topology.add(Topology::sink(
            names,
            &spec.name,
            &spec.filter.on.sources(names),
            None,
        ));
    }
    Ok(topology)
}

impl Running {
    /// Starts all sinks, and the one for the webhooks that kickoffs ask for.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn start(
        broker: &Broker,
        config: &BrokerConfig,
        sinks: &SinksConfig,
        metrics: &SinkMetrics,
        declares: Declares,
        stop: &CancellationToken,
    ) -> Result<Self, SinksError> {
        let Specs { webhooks, sinks } = sinks.resolve()?;
        let names = Names::new(&config.namespace);
        let parts = Parts::new(broker, config, &names, &webhooks, metrics)?;
        let mut running = Self {
            sinks: Vec::new(),
            tasks: TaskTracker::new(),
            declares,
            stop: stop.child_token(),
            brokers: Vec::new(),
        };
        let mut kinds = Vec::new();
        for spec in &sinks {
            let (kind, other) = parts.kind(spec)?;
            running.brokers.extend(other);
            kinds.push((running.sink(&parts, metrics, Some(spec)), kind));
        }
        if !webhooks.signer.signs() {
            warn!(
                "[webhooks] secret is not set: the webhooks that kickoffs ask for are called without a signature"
            );
        }
        let orders: Box<dyn Each> = Box::new(Orders::new(Arc::clone(&parts.client), webhooks.signer.clone()));
        kinds.push((running.sink(&parts, metrics, None), Kind::Each(orders)));
        // Not before all of them can be: nothing runs of a configuration that cannot.
        for (sink, kind) in kinds {
            running.sinks.push(Arc::clone(&sink));
            match kind {
                Kind::Each(target) => drop(running.tasks.spawn(each::run(sink, target))),
                Kind::Batch(target) => drop(running.tasks.spawn(batch::run(sink, target))),
            }
        }
        running.tasks.close();
        Ok(running)
    }

    /// A sink; without a spec, that of the webhooks that kickoffs ask for.
    fn sink(&self, parts: &Parts<'_>, metrics: &SinkMetrics, spec: Option<&Spec>) -> Arc<Sink> {
        let Parts {
            broker,
            config,
            names,
            webhooks,
            ..
        } = *parts;
        let name = spec.map_or_else(SinkName::webhooks, |spec| spec.name.clone());
        let sources = spec.map(|spec| spec.filter.on.sources(names)).unwrap_or_default();
        metrics.show(name.as_str());
        let topology = Arc::new(topology(config, names, &name, &sources, self.declares));
        Arc::new(Sink {
            filter: spec.map(|spec| spec.filter.clone()),
            prefetch: spec.map_or(webhooks.prefetch, |spec| spec.prefetch),
            queue: names.sink_queue(&name),
            topology: Arc::clone(&topology),
            broker: broker.clone(),
            settling: Settling {
                publisher: broker.publisher(),
                broker: broker.clone(),
                names: names.clone(),
                sink: name.clone(),
                topology,
                ends: self.stop.clone(),
            },
            metrics: metrics.clone(),
            standing: Standing::new(&self.stop),
            name,
        })
    }

    /// Whether messages come to all of them.
    ///
    /// # Errors
    /// Why not, of the first that gets none.
    pub fn ready(&self) -> Result<(), String> {
        for sink in &self.sinks {
            sink.standing
                .consuming()
                .map_err(|why| format!("sink {}: {why}", sink.name))?;
        }
        Ok(())
    }

    /// The names of all, for people.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.sinks.iter().map(|sink| sink.name.as_str()).collect();
        names.join(", ")
    }

    /// Ends all: what is under way may end, within seconds; the rest comes again.
    pub async fn end(&self) {
        self.stop.cancel();
        if timeout(ENDING, self.tasks.wait()).await.is_err() {
            warn!("a sink does not end; what it holds comes again");
        }
        for broker in &self.brokers {
            broker.close().await;
        }
    }
}
