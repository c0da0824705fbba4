//! What the link to the broker counts, and how a metric is named.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

/// What every metric's name starts with.
pub const PREFIX: &str = "crewfleet";

/// What the link to the broker counts.
#[derive(Clone)]
pub struct BrokerMetrics {
    /// 1 while both connections are open.
    pub connected: IntGauge,
    /// 1 while the broker blocks us.
    pub blocked: IntGauge,
    /// From publish to confirm, repeats in doubt included.
    pub confirm_duration: Histogram,
    /// Mandatory messages that no queue took.
    pub returned: IntCounter,
}

impl BrokerMetrics {
    // The names and buckets are literals that the library accepts; a unit test makes them all.
    #[allow(clippy::expect_used, clippy::new_without_default)]
    /// Metrics that are not registered yet.
    pub fn new() -> Self {
        let gauge = |name, help| IntGauge::with_opts(opts(name, help)).expect("a valid name");
        let buckets = prometheus::exponential_buckets(0.0005, 2.0, 15).expect("valid buckets");
        let duration = histogram_opts(
            "publish_confirm_duration_seconds",
            "from publishing a message to its confirm, repeats included",
            buckets,
        );
        let returned = opts(
            "publishes_returned_total",
            "mandatory messages that no queue took",
        );
        Self {
            connected: gauge("broker_connected", "1 while connected to RabbitMQ"),
            blocked: gauge(
                "broker_blocked",
                "1 while RabbitMQ blocks the connection (memory or disk alarm)",
            ),
            confirm_duration: Histogram::with_opts(duration).expect("a valid name"),
            returned: IntCounter::with_opts(returned).expect("a valid name"),
        }
    }
}

/// Options of a metric with the prefix.
pub fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

/// Options of a histogram with the prefix.
pub fn histogram_opts(name: &str, help: &str, buckets: Vec<f64>) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(buckets)
}
