//! What sinks count.

use std::time::Duration;

use crewfleet_service::metrics::{MetricsRegistry, histogram_opts, opts};
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

/// What sinks count.
#[derive(Clone)]
pub struct SinkMetrics {
    pub(crate) deliveries: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) held: IntGaugeVec,
    pub(crate) lag: IntGaugeVec,
    pub(crate) away: IntGaugeVec,
    pub(crate) disabled: IntGaugeVec,
    pub(crate) circuits_open: IntGauge,
}

/// What came of a message (label `outcome`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is where it belongs.
    Delivered,
    /// It was tried, and comes again.
    Again,
    /// It was not tried, and comes again.
    Deferred,
    /// It is in the dead letters.
    Dead,
    /// The sink is not for it.
    Filtered,
    /// Its receiver said 410 to another call of its kickoff.
    Dropped,
}

impl Outcome {
    /// Every outcome, for metrics that show them all from the start.
    const ALL: [Self; 6] = [
        Self::Delivered,
        Self::Again,
        Self::Deferred,
        Self::Dead,
        Self::Filtered,
        Self::Dropped,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Again => "again",
            Self::Deferred => "deferred",
            Self::Dead => "dead",
            Self::Filtered => "filtered",
            Self::Dropped => "dropped",
        }
    }
}

impl SinkMetrics {
    /// Puts them on a registry.
    ///
    /// # Errors
    /// When a name is taken already.
    pub fn register(book: &mut MetricsRegistry) -> prometheus::Result<Self> {
        let gauge = |name, help| IntGaugeVec::new(opts(name, help), &["sink"]);
        let outcomes =
            "messages of a sink, by what came of them: delivered, again, deferred, dead, filtered, dropped";
        let buckets = prometheus::exponential_buckets(0.002, 2.5, 12)?;
        let duration = histogram_opts(
            "sink_delivery_duration_seconds",
            "how long it took to hand a message on, or to fail",
            buckets,
        );
        Ok(Self {
            deliveries: book.add(IntCounterVec::new(
                opts("sink_deliveries_total", outcomes),
                &["sink", "outcome"],
            )?)?,
            duration: book.add(HistogramVec::new(duration, &["sink"])?)?,
            held: book.add(gauge(
                "sink_held",
                "messages that a sink has taken, and not settled yet",
            )?)?,
            lag: book.add(gauge(
                "sink_lag_seconds",
                "age of the message that a sink took last, of those that it had not tried before",
            )?)?,
            away: book.add(gauge(
                "sink_away",
                "1 while what a sink hands on to is away, so that messages wait",
            )?)?,
            disabled: book.add(gauge(
                "sink_disabled",
                "1 when a webhook has answered 410, so that its sink takes nothing until it is started again",
            )?)?,
            circuits_open: book.add(IntGauge::with_opts(opts(
                "webhook_circuits_open",
                "hosts of webhooks that are left alone for a while, since they do not answer",
            ))?)?,
        })
    }

    /// Shows a sink from the start.
    pub(crate) fn show(&self, sink: &str) {
        for outcome in Outcome::ALL {
            self.deliveries.with_label_values(&[sink, outcome.as_str()]);
        }
        for gauge in [&self.held, &self.lag, &self.away, &self.disabled] {
            gauge.with_label_values(&[sink]);
        }
        self.duration.with_label_values(&[sink]);
    }

    pub(crate) fn count(&self, sink: &str, outcome: Outcome) {
        self.deliveries.with_label_values(&[sink, outcome.as_str()]).inc();
    }

    pub(crate) fn took(&self, sink: &str, duration: Duration) {
        self.duration
            .with_label_values(&[sink])
            .observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use crewfleet_amqp::metrics::BrokerMetrics;

    use super::*;

    /// After a wanted change: `UPDATE_METRICS=1 cargo test -p crewfleet-sinks --lib metrics`.
    #[test]
    fn the_table_is_that_of_the_definitions() {
        let mut book = MetricsRegistry::new().unwrap();
        SinkMetrics::register(&mut book).unwrap();
        book.add_broker(&BrokerMetrics::new()).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring/METRICS.md");
        assert!(book.is_table_of(&file, "## Sinks").unwrap(), "it differs");
    }
}
