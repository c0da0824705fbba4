//! The Prometheus registry, and the metrics of the broker's link. A metric is defined once, where it is
//! counted; its names all start with [`PREFIX`]. What is defined is listed by [`Book::table`].

use prometheus::core::{Atomic, Collector, GenericCounter, GenericCounterVec, GenericGauge, GenericGaugeVec};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Opts, Registry, TextEncoder,
};

use crate::telemetry;

/// What every metric's name starts with.
pub const PREFIX: &str = "crewfleet";

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry, with a list of what was put on it.
pub struct Book {
    registry: Registry,
    families: Vec<Family>,
}

struct Family {
    name: String,
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// What can be put into a [`Book`].
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

impl Book {
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

    /// Puts them into `book`.
    ///
    /// # Errors
    /// When a name is taken already.
    pub fn register(&self, book: &mut Book) -> prometheus::Result<()> {
        book.add(self.connected.clone())?;
        book.add(self.blocked.clone())?;
        book.add(self.confirm_duration.clone())?;
        book.add(self.returned.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_s_metrics_are_valid_and_show_from_the_start() {
        let mut book = Book::new().unwrap();
        BrokerMetrics::new().register(&mut book).unwrap();
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
