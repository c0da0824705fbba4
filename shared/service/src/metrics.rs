//! The Prometheus registry, and the metrics of the broker's link. A metric is defined once, where it is
//! counted; its names all start with [`PREFIX`]. What is defined is listed by [`MetricsRegistry::table`].

use prometheus::core::{Atomic, Collector, GenericCounter, GenericCounterVec, GenericGauge, GenericGaugeVec};
use prometheus::{Encoder, Histogram, HistogramVec, IntGauge, Registry, TextEncoder};

use crewfleet_amqp::metrics::BrokerMetrics;
pub use crewfleet_amqp::metrics::{PREFIX, histogram_opts, opts};

use crate::telemetry;

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry, with a list of what was put on it.
pub struct MetricsRegistry {
    registry: Registry,
    families: Vec<Family>,
}

struct Family {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// What can be put into a [`MetricsRegistry`].
pub trait Metric: Collector + Clone + 'static {
    /// Its type in Prometheus's text format.
    const KIND: &'static str;
}

impl<P: Atomic + 'static> Metric for GenericCounter<P> {
    const KIND: &'static str = "counter";
}

impl<P: Atomic + 'static> Metric for GenericCounterVec<P> {
    const KIND: &'static str = "counter";
}

impl<P: Atomic + 'static> Metric for GenericGauge<P> {
    const KIND: &'static str = "gauge";
}

impl<P: Atomic + 'static> Metric for GenericGaugeVec<P> {
    const KIND: &'static str = "gauge";
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";
}

impl Metric for HistogramVec {
    const KIND: &'static str = "histogram";
}

impl MetricsRegistry {
    /// A registry with `build_info` and the log's lost lines on it, and with the process's own metrics, which have no
    /// prefix, as is usual, and are in no list.
    ///
    /// # Errors
    /// When the process's metrics cannot be registered.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let families = Vec::new();
        let mut book = Self { registry, families };
        let build = opts("build_info", "1").const_label("version", env!("CARGO_PKG_VERSION"));
        book.add(IntGauge::with_opts(build)?)?.set(1);
        book.add(telemetry::LOST.clone())?;
        Ok(book)
    }

    /// Puts on it what a broker's connections count.
    ///
    /// # Errors
    /// When a name is taken already.
    pub fn add_broker(&mut self, metrics: &BrokerMetrics) -> prometheus::Result<()> {
        self.add(metrics.connected.clone())?;
        self.add(metrics.blocked.clone())?;
        self.add(metrics.confirm_duration.clone())?;
        self.add(metrics.returned.clone())?;
        Ok(())
    }

    /// Puts a metric on it.
    ///
    /// # Errors
    /// When its name is taken already.
    pub fn add<M: Metric>(&mut self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        for desc in metric.desc() {
            let constant = desc.const_label_pairs.iter().map(|pair| pair.name().to_owned());
            self.families.push(Family {
                name: desc.fq_name.clone(),
                kind: M::KIND,
                labels: desc.variable_labels.iter().cloned().chain(constant).collect(),
                help: desc.help.clone(),
            });
        }
        Ok(metric)
    }

    /// A table in Markdown of all that was put on it, in that order.
    pub fn table(&self) -> String {
        let mut table = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
        for Family {
            name,
            kind,
            labels,
            help,
        } in &self.families
        {
            let labels = labels.join(", ");
            table.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
        }
        table
    }

    /// For tests: whether the table below `heading` in a Markdown file is [`Self::table`]. With `UPDATE_METRICS` in the
    /// environment it is made so.
    ///
    /// # Errors
    /// When the file cannot be read or written, or has no such table.
    pub fn is_table_of(&self, file: &std::path::Path, heading: &str) -> std::io::Result<bool> {
        let text = std::fs::read_to_string(file)?;
        let find = |from: usize, what: &str| text[from..].find(what).map(|at| from + at);
        let begin = find(0, heading).and_then(|at| find(at, "| name |"));
        let end = begin.and_then(|at| find(at, "\n\n")).map(|at| at + 1);
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(std::io::Error::other(format!("no table below {heading:?}")));
        };
        if std::env::var_os("UPDATE_METRICS").is_some() {
            let updated = [&text[..begin], &self.table(), &text[end..]].concat();
            std::fs::write(file, updated)?;
            return Ok(true);
        }
        Ok(text[begin..end] == self.table())
    }

    /// The registry, for whoever shows it.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_s_metrics_are_valid_and_show_from_the_start() {
        let mut book = MetricsRegistry::new().unwrap();
        book.add_broker(&BrokerMetrics::new()).unwrap();
        let text = String::from_utf8(render(book.registry()).unwrap()).unwrap();
        for name in [
            "broker_connected",
            "broker_blocked",
            "publish_confirm_duration_seconds",
            "publishes_returned_total",
        ] {
            assert!(text.contains(&format!("crewfleet_{name}")), "{name}");
            assert!(
                book.table().contains(&format!("| `crewfleet_{name}` |")),
                "{name}"
            );
        }
    }
}
