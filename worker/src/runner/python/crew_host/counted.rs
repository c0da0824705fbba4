//! Counting what lives.

/// Is counted by a gauge as long as it lives.
pub(super) struct Counted(prometheus::IntGauge);

impl Counted {
    pub(super) fn of(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
