//! What a worker counts. The table in `deploy/monitoring/METRICS.md` is made of these definitions; tests compare it
//! with them and with a live scrape.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crewfleet_protocol::topology::Reason;
use crewfleet_protocol::webhooks::WebhookKind;
use crewfleet_protocol::{CrewName, Status};
use crewfleet_service::metrics::{MetricsRegistry, histogram_opts, opts};
use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    exponential_buckets,
};
use strum::VariantArray;

use crate::execution::outcome::RequeueReason;
use crate::lifecycle::part::Part;

/// The worker's metrics.
pub(crate) struct Metrics {
    /// Deliveries taken from a request queue.
    pub(crate) received: IntCounterVec,
    /// Terminal replies, by status.
    pub(crate) completed: IntCounterVec,
    /// Further attempts, by what happened to the one before.
    pub(crate) retries: IntCounterVec,
    /// Copies in the dead letters, by reason.
    pub(crate) dead_lettered: IntCounterVec,
    /// Requests that lack an input.
    pub(crate) missing_inputs: IntCounterVec,
    /// Deliveries that had been delivered before.
    pub(crate) redelivered: IntCounterVec,
    /// From the start of an attempt to its outcome.
    pub(crate) duration: HistogramVec,
    /// From the request's publication to the start of its first attempt.
    pub(crate) queue_wait: HistogramVec,
    /// Kickoffs that run now.
    pub(crate) in_flight: IntGaugeVec,
    /// How many may run at once.
    pub(crate) slots: IntGaugeVec,
    /// Model tokens, by model and type.
    pub(crate) tokens: IntCounterVec,
    /// The largest resident memory of an ended crew process.
    pub(crate) child_peak_rss: HistogramVec,
    /// CPU time of ended crew processes.
    pub(crate) child_cpu: CounterVec,
    /// Crew hosts, by state.
    pub(crate) hosts: IntGaugeVec,
    consumers: IntGaugeVec,
    held: IntGaugeVec,
    received_bytes: IntCounterVec,
    /// Whether a crew waits for room.
    pub(crate) waits_for_room: IntGaugeVec,
    /// For how long the kickoff that started first has run.
    pub(crate) oldest: Gauge,
    /// Attempts put back unfinished.
    pub(crate) requeued: IntCounterVec,
    /// Events that did not go out.
    pub(crate) events_lost: IntCounter,
    /// Calls of webhooks that were ordered.
    pub(crate) webhook_orders: IntCounterVec,
    /// Panics of the worker's own code, by part.
    pub(crate) panics: IntCounterVec,
    /// Kickoffs settled after their connection was gone.
    pub(crate) acks_lost: IntCounter,
    /// The time limit of a crew's attempts.
    pub(crate) time_limit: GaugeVec,
    /// Whether a crew is paused.
    pub(crate) paused: IntGaugeVec,
    /// Whether `/readyz` says so.
    pub(crate) ready: IntGauge,
    /// How many bytes of kickoffs' files are kept.
    pub(crate) kept_files: IntGauge,
    /// Starts of crew hosts, by outcome.
    pub(crate) host_starts: IntCounterVec,
    /// Crew processes that did not end in time after their answer.
    pub(crate) exits_cut: IntCounterVec,
    /// The models that have series of their own.
    models: Mutex<HashSet<String>>,
}

/// So many models have series of their own.
const MODELS: usize = 64;

impl Metrics {
    /// Makes them, and puts them into `book`.
    ///
    /// # Errors
    /// When a name is taken already.
    pub(crate) fn register(book: &mut MetricsRegistry) -> prometheus::Result<Arc<Self>> {
        // 5 ms to 3 h: from an echo to a long research crew.
        let seconds = || exponential_buckets(0.005, 2.5, 17);
        let bytes = exponential_buckets(16_777_216.0, 2.0, 12)?;
        let counter = |name, help, labels: &[&str]| IntCounterVec::new(opts(name, help), labels);
        let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(opts(name, help), labels);
        let histogram =
            |name, help, buckets| HistogramVec::new(histogram_opts(name, help, buckets), &["crew"]);
        let metrics = Self {
            received: book.add(counter(
                "kickoffs_received_total",
                "kickoff requests taken from the queue",
                &["crew"],
            )?)?,
            completed: book.add(counter(
                "kickoffs_completed_total",
                "terminal replies",
                &["crew", "status"],
            )?)?,
            retries: book.add(counter(
                "kickoff_retries_total",
                "attempts put into a retry tier, by what happened to the one before: `failed`, `crashed`, `timed_out`",
                &["crew", "reason"],
            )?)?,
            dead_lettered: book.add(counter(
                "kickoffs_dead_lettered_total",
                "copies put into the dead letters",
                &["crew", "reason"],
            )?)?,
            missing_inputs: book.add(counter(
                "kickoffs_missing_inputs_total",
                "requests that were rejected since they lack an input, of which their callers were told",
                &["crew"],
            )?)?,
            redelivered: book.add(counter(
                "kickoffs_redelivered_total",
                "deliveries that were not the first",
                &["crew"],
            )?)?,
            requeued: book.add(counter(
                "kickoffs_requeued_total",
                "attempts put back unfinished; `not_due`: a retry between two tiers of its delay",
                &["crew", "reason"],
            )?)?,
            events_lost: book.add(IntCounter::with_opts(opts(
                "events_lost_total",
                "events of kickoffs that did not go out: too many waited for the broker, the connection was lost, or they had no JSON",
            ))?)?,
            webhook_orders: book.add(counter(
                "webhook_orders_total",
                "calls that kickoffs asked for, ordered and confirmed: `task`, `step`, `crew`, `events`",
                &["crew", "kind"],
            )?)?,
            panics: book.add(counter(
                "worker_panics_total",
                "faults of the worker's own code: a part that panicked; what it had is put back, and it is started again",
                &["part"],
            )?)?,
            acks_lost: book.add(IntCounter::with_opts(opts(
                "acks_lost_total",
                "kickoffs that were settled when their connection was gone: RabbitMQ delivers them again, and they are recognised",
            ))?)?,
            duration: book.add(histogram(
                "kickoff_duration_seconds",
                "from the start of an attempt to its outcome",
                seconds()?,
            )?)?,
            queue_wait: book.add(histogram(
                "kickoff_queue_wait_seconds",
                "from publication to the start, of requests that start for the first time",
                seconds()?,
            )?)?,
            in_flight: book.add(gauge("kickoffs_in_flight", "kickoffs that run now", &["crew"])?)?,
            oldest: book.add(Gauge::with_opts(opts(
                "oldest_in_flight_seconds",
                "for how long the kickoff that started first has run",
            ))?)?,
            slots: book.add(gauge("worker_slots", "how many may run at once", &["crew"])?)?,
            time_limit: book.add(GaugeVec::new(
                opts("crew_time_limit_seconds", "`timeout_s`: no attempt may run longer"),
                &["crew"],
            )?)?,
            paused: book.add(gauge("crew_paused", "1 while nothing of the crew is started", &["crew"])?)?,
            held: book.add(gauge(
                "kickoffs_held",
                "deliveries that this worker holds unsettled: kickoffs that run, and those that wait for something",
                &["crew"],
            )?)?,
            received_bytes: book.add(counter(
                "kickoffs_received_bytes_total",
                "the bodies of the kickoff requests taken from the queue",
                &["crew"],
            )?)?,
            consumers: book.add(gauge("consumers", "running consumers: 1 or 0", &["crew"])?)?,
            waits_for_room: book.add(gauge(
                "crew_waits_for_room",
                "1 while the worker takes none of the crew's kickoffs before it has room (`max_in_flight`, `memory_limit`)",
                &["crew"],
            )?)?,
            ready: book.add(IntGauge::with_opts(opts(
                "worker_ready",
                "1 while `/readyz` answers 200",
            ))?)?,
            kept_files: book.add(IntGauge::with_opts(opts(
                "kept_files_bytes",
                "files of kickoffs that are kept in the worker's `data_dir`, those of other workers there too",
            ))?)?,
            tokens: book.add(counter(
                "crew_tokens_total",
                "model tokens; models beyond the first 64 count as `other`",
                &["crew", "model", "type"],
            )?)?,
            hosts: book.add(gauge(
                "crew_hosts",
                "crew hosts: `starting`, `ready`",
                &["crew", "state"],
            )?)?,
            host_starts: book.add(counter(
                "crew_host_starts_total",
                "starts of crew hosts: `ready`, `failed`",
                &["crew", "outcome"],
            )?)?,
            exits_cut: book.add(counter(
                "crew_exits_cut_total",
                "crew processes cut short after their answer: threads or exit handlers took longer than exit_grace_s",
                &["crew"],
            )?)?,
            child_peak_rss: book.add(histogram(
                "crew_child_peak_rss_bytes",
                "largest resident memory of an ended crew process",
                bytes,
            )?)?,
            child_cpu: book.add(CounterVec::new(
                opts("crew_child_cpu_seconds_total", "CPU time of ended crew processes"),
                &["crew"],
            )?)?,
            models: Mutex::default(),
        };
        for part in Part::VARIANTS {
            metrics.panics.with_label_values(&[part.as_str()]);
        }
        Ok(Arc::new(metrics))
    }

    /// Counts model tokens. What models are called comes from crews, so that only so many names are kept.
    pub(crate) fn count_tokens(&self, crew: &str, model: &str, token_type: &str, count: u64) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let known = models.contains(model) || (models.len() < MODELS && models.insert(model.to_owned()));
        drop(models);
        let model = if known { model } else { "other" };
        self.tokens
            .with_label_values(&[crew, model, token_type])
            .inc_by(count);
    }

    /// A consumer of the crew runs, until this is dropped.
    pub(crate) fn consuming(&self, crew: &CrewName) -> ConsumingGuard {
        ConsumingGuard::of(&self.consumers, crew)
    }

    /// A delivery of the crew's queue is held, until what is returned is dropped.
    pub(crate) fn hold(&self, crew: &CrewName, bytes: usize) -> HeldGuard {
        let labels = &[crew.as_str()];
        self.received_bytes.with_label_values(labels).inc_by(bytes as u64);
        let gauge = self.held.with_label_values(labels);
        gauge.inc();
        HeldGuard(gauge)
    }

    /// A delivery came from the crew's queue.
    pub(crate) fn count_delivery(&self, crew: &CrewName, redelivered: bool) {
        let labels = &[crew.as_str()];
        self.received.with_label_values(labels).inc();
        if redelivered {
            self.redelivered.with_label_values(labels).inc();
        }
    }

    /// A kickoff of the crew starts for the first time, after so long in its queue.
    pub(crate) fn observe_queue_wait(&self, crew: &CrewName, wait: Duration) {
        let of_crew = self.queue_wait.with_label_values(&[crew.as_str()]);
        of_crew.observe(wait.as_secs_f64());
    }

    /// How many deliveries of the crew's queue are held.
    pub(crate) fn held(&self, crew: &CrewName) -> u32 {
        let held = self.held.with_label_values(&[crew.as_str()]).get();
        u32::try_from(held).unwrap_or(0)
    }

    /// Makes a crew's series visible before anything happened, so that rates and alerts have a zero to start from.
    pub(crate) fn show(&self, crew: &CrewName, slots: u16, time_limit: Duration) {
        let crew = crew.as_str();
        for counter in [
            &self.received,
            &self.received_bytes,
            &self.redelivered,
            &self.missing_inputs,
        ] {
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
        for kind in WebhookKind::ALL {
            self.webhook_orders.with_label_values(&[crew, kind.as_str()]);
        }
        for reason in RequeueReason::VARIANTS {
            self.requeued.with_label_values(&[crew, reason.as_str()]);
        }
        for histogram in [&self.duration, &self.queue_wait] {
            histogram.with_label_values(&[crew]);
        }
        for gauge in [
            &self.in_flight,
            &self.held,
            &self.consumers,
            &self.waits_for_room,
            &self.paused,
        ] {
            gauge.with_label_values(&[crew]);
        }
        self.slots.with_label_values(&[crew]).set(slots.into());
        self.time_limit
            .with_label_values(&[crew])
            .set(time_limit.as_secs_f64());
    }
}

/// A gauge that is 1 until this is dropped.
pub(crate) struct ConsumingGuard(IntGauge);

impl ConsumingGuard {
    fn of(gauges: &IntGaugeVec, crew: &CrewName) -> Self {
        let gauge = gauges.with_label_values(&[crew.as_str()]);
        gauge.set(1);
        Self(gauge)
    }
}

impl Drop for ConsumingGuard {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// One of the deliveries that are held, until this is dropped.
pub(crate) struct HeldGuard(IntGauge);

impl Drop for HeldGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crewfleet_amqp::metrics::BrokerMetrics;

    use super::*;

    /// After a wanted change: `UPDATE_METRICS=1 cargo test -p crewfleet-worker --lib metrics`.
    #[test]
    fn the_table_is_that_of_the_definitions() {
        let mut book = MetricsRegistry::new().unwrap();
        Metrics::register(&mut book).unwrap();
        book.add_broker(&BrokerMetrics::new()).unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring/METRICS.md");
        assert!(book.is_table_of(&file, "# Metrics").unwrap(), "it differs");
    }

    #[test]
    fn models_beyond_what_is_kept_count_as_other() {
        let metrics = Metrics::register(&mut MetricsRegistry::new().unwrap()).unwrap();
        for number in 0..MODELS + 2 {
            metrics.count_tokens("a", &format!("model-{number}"), "prompt", 1);
        }
        metrics.count_tokens("a", "model-0", "prompt", 1);
        let of = |model| metrics.tokens.with_label_values(&["a", model, "prompt"]).get();
        assert_eq!((of("model-0"), of("other")), (2, 2));
    }
}
