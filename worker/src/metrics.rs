//! What a worker counts. The table in `deploy/monitoring/METRICS.md` is compared with a live scrape by a test.

use std::sync::Arc;

use crewfleet_shared::amqp::topology::Reason;
use crewfleet_shared::kickoff::{CrewName, Status};
use crewfleet_shared::metrics::{histogram_opts, opts};
use prometheus::{
    CounterVec, Gauge, HistogramVec, IntCounterVec, IntGaugeVec, Registry, core::Collector,
    exponential_buckets,
};

/// The worker's metrics.
pub struct Metrics {
    /// Deliveries taken from a request queue.
    pub received: IntCounterVec,
    /// Terminal replies, by status.
    pub completed: IntCounterVec,
    /// Further attempts, by what happened to the one before.
    pub retries: IntCounterVec,
    /// Copies in the dead letters, by reason.
    pub dead_lettered: IntCounterVec,
    /// Deliveries that had been delivered before.
    pub redelivered: IntCounterVec,
    /// From the start of an attempt to its outcome.
    pub duration: HistogramVec,
    /// From the request's publication to its start.
    pub queue_wait: HistogramVec,
    /// Kickoffs that run now.
    pub in_flight: IntGaugeVec,
    /// How many may run at once.
    pub slots: IntGaugeVec,
    /// Model tokens, by model and type.
    pub tokens: IntCounterVec,
    /// The largest resident memory of an ended crew process.
    pub child_peak_rss: HistogramVec,
    /// CPU time of ended crew processes.
    pub child_cpu: CounterVec,
    /// Crew hosts, by state.
    pub hosts: IntGaugeVec,
    /// Running consumers.
    pub consumers: IntGaugeVec,
    /// The age of the kickoff that runs longest.
    pub oldest: Gauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is taken on `registry` already.
    pub fn register(registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let counter = |name, help, labels: &[&str]| {
            let metric = IntCounterVec::new(opts(name, help), labels)?;
            add(registry, metric)
        };
        let gauge = |name, help, labels: &[&str]| {
            let metric = IntGaugeVec::new(opts(name, help), labels)?;
            add(registry, metric)
        };
        let histogram = |name, help, buckets| {
            let metric = HistogramVec::new(histogram_opts(name, help, buckets), &["crew"])?;
            add(registry, metric)
        };
        // 5 ms to 3 h: from an echo to a long research crew.
        let seconds = || exponential_buckets(0.005, 2.5, 17);
        let metrics = Self {
            received: counter(
                "kickoffs_received_total",
                "Kickoff requests taken from the queue",
                &["crew"],
            )?,
            completed: counter(
                "kickoffs_completed_total",
                "Terminal replies",
                &["crew", "status"],
            )?,
            retries: counter(
                "kickoff_retries_total",
                "Attempts put into a retry tier, by what happened to the one before",
                &["crew", "reason"],
            )?,
            dead_lettered: counter(
                "kickoffs_dead_lettered_total",
                "Copies put into the dead letters",
                &["crew", "reason"],
            )?,
            redelivered: counter(
                "kickoffs_redelivered_total",
                "Deliveries that were not the first",
                &["crew"],
            )?,
            duration: histogram(
                "kickoff_duration_seconds",
                "From the start of an attempt to its outcome",
                seconds()?,
            )?,
            queue_wait: histogram(
                "kickoff_queue_wait_seconds",
                "From publication to the start",
                seconds()?,
            )?,
            in_flight: gauge("kickoffs_in_flight", "Kickoffs that run now", &["crew"])?,
            slots: gauge("worker_slots", "How many kickoffs may run at once", &["crew"])?,
            tokens: counter(
                "crew_tokens_total",
                "Model tokens, by model and type",
                &["crew", "model", "type"],
            )?,
            child_peak_rss: histogram(
                "crew_child_peak_rss_bytes",
                "Largest resident memory of an ended crew process",
                exponential_buckets(16_777_216.0, 2.0, 12)?,
            )?,
            child_cpu: add(
                registry,
                CounterVec::new(
                    opts("crew_child_cpu_seconds_total", "CPU time of ended crew processes"),
                    &["crew"],
                )?,
            )?,
            hosts: gauge("crew_hosts", "Crew hosts, by state", &["crew", "state"])?,
            consumers: gauge("consumers", "Running consumers", &["crew"])?,
            oldest: add(
                registry,
                Gauge::with_opts(opts(
                    "oldest_in_flight_seconds",
                    "Age of the kickoff that runs longest",
                ))?,
            )?,
        };
        let build = opts("build_info", "1, with the version as a label")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        add(registry, Gauge::with_opts(build)?)?.set(1.0);
        Ok(Arc::new(metrics))
    }

    /// Makes a crew's series visible before anything happened, so that rates and alerts have a zero to start from.
    pub fn show(&self, crew: &CrewName, slots: u16) {
        let crew = crew.as_str();
        for counter in [&self.received, &self.redelivered] {
            counter.with_label_values(&[crew]);
        }
        for status in Status::ALL {
            self.completed.with_label_values(&[crew, status.as_str()]);
        }
        for reason in [Reason::Failed, Reason::Crashed, Reason::TimedOut] {
            self.retries.with_label_values(&[crew, reason.as_str()]);
        }
        for reason in Reason::ALL {
            self.dead_lettered.with_label_values(&[crew, reason.as_str()]);
        }
        for histogram in [&self.duration, &self.queue_wait] {
            histogram.with_label_values(&[crew]);
        }
        for gauge in [&self.in_flight, &self.consumers] {
            gauge.with_label_values(&[crew]);
        }
        self.slots.with_label_values(&[crew]).set(slots.into());
    }
}

fn add<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
