//! The Prometheus registry, and the metrics of the broker's link. A metric is defined once, where it is
//! counted; its names all start with [`PREFIX`].

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder};

/// What every metric's name starts with.
pub const PREFIX: &str = "crewfleet";

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry whose metrics carry [`PREFIX`], with the process's own metrics (unprefixed, as is usual) on it.
///
/// # Errors
/// When the process's metrics cannot be registered.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    Ok(registry)
}

/// Options of a metric with the prefix.
pub fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

/// Options of a histogram with the prefix.
pub fn histogram_opts(name: &str, help: &str, buckets: Vec<f64>) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(buckets)
}

/// All metrics in Prometheus's text format.
///
/// # Errors
/// When a metric cannot be encoded.
pub fn render(registry: &Registry) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

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
            "Time from publishing a message to its confirm, repeats included",
            buckets,
        );
        let returned = opts(
            "publishes_returned_total",
            "Mandatory messages that no queue took",
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

    /// Shows them on `registry`.
    ///
    /// # Errors
    /// When a name is taken already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.connected.clone()))?;
        registry.register(Box::new(self.blocked.clone()))?;
        registry.register(Box::new(self.confirm_duration.clone()))?;
        registry.register(Box::new(self.returned.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_s_metrics_are_valid_and_show_from_the_start() {
        let registry = registry().unwrap();
        BrokerMetrics::new().register(&registry).unwrap();
        let text = String::from_utf8(render(&registry).unwrap()).unwrap();
        for name in [
            "broker_connected",
            "broker_blocked",
            "publish_confirm_duration_seconds",
            "publishes_returned_total",
        ] {
            assert!(text.contains(&format!("crewfleet_{name}")), "{name}");
        }
    }
}
