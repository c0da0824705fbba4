//! What is counted of a crew's hosts and children.

use std::sync::Arc;

use tokio::sync::watch;

use super::CrewHost;
use crate::runner::python::frames::RunStats;
use crate::runner::python::spawner::End;

impl CrewHost {
    /// Counts the model tokens of a kickoff.
    pub(in crate::runner::python) fn count_tokens(&self, stats: &RunStats) {
        for (model, tokens) in &stats.tokens_by_model {
            let (metrics, crew) = (&self.pythons.0.metrics, self.crew.as_str());
            metrics.count_tokens(crew, model, "prompt", tokens.prompt);
            metrics.count_tokens(crew, model, "completion", tokens.completion);
        }
    }

    pub(super) fn exits_cut(&self) -> prometheus::IntCounter {
        let cut = &self.pythons.0.metrics.exits_cut;
        cut.with_label_values(&[self.crew.as_str()])
    }

    /// Makes the crew's series visible before there is anything to count.
    pub(super) fn show_metrics(&self) {
        let (metrics, labels) = (&self.pythons.0.metrics, [self.crew.as_str()]);
        metrics.child_peak_rss.with_label_values(&labels);
        metrics.child_cpu.with_label_values(&labels);
        for state in ["starting", "ready"] {
            self.gauge(state).set(0);
        }
        for outcome in ["ready", "failed"] {
            self.starts(outcome);
        }
        self.exits_cut();
    }

    pub(super) fn starts(&self, outcome: &str) -> prometheus::IntCounter {
        let starts = &self.pythons.0.metrics.host_starts;
        starts.with_label_values(&[self.crew.as_str(), outcome])
    }

    pub(super) fn gauge(&self, state: &str) -> prometheus::IntGauge {
        self.pythons
            .0
            .metrics
            .hosts
            .with_label_values(&[self.crew.as_str(), state])
    }
}

/// Counts what a child used, once it has ended, and removes what it had beside its kickoffs' folders.
pub(super) async fn count_end(crew: Arc<CrewHost>, pid: i32, mut end: watch::Receiver<Option<End>>) {
    let ended = end.wait_for(Option::is_some).await.map(|end| end.clone());
    if let Ok(Some(End::Exited(exited))) = ended {
        let metrics = &crew.pythons.0.metrics;
        let labels = [crew.crew.as_str()];
        metrics
            .child_peak_rss
            .with_label_values(&labels)
            .observe(exited.max_rss_bytes as f64);
        metrics
            .child_cpu
            .with_label_values(&labels)
            .inc_by(exited.cpu_s.max(0.0));
    }
    crew.scratch().remove(pid).await;
}
