//! Counting what lives.

/// Is counted by a gauge as long as it lives.
pub(super) struct GaugeGuard(prometheus::IntGauge);

impl GaugeGuard {
    pub(super) fn of(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
