//! The retry tiers: queues that hold what is sent to them, all for the same time.

use std::time::Duration;

/// The retry tiers: name and delay in milliseconds.
pub const RETRY_TIERS: [(&str, i64); 5] = [
    ("5s", 5_000),
    ("30s", 30_000),
    ("2m", 120_000),
    ("10m", 600_000),
    ("1h", 3_600_000),
];

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// As in `kickoff.retry.<name>`.
    pub name: &'static str,
    /// For how long.
    pub delay: Duration,
}

impl Tier {
    /// The tier for a message that is due in `remaining`: the largest that fits, else the smallest. Repeated until it is
    /// due, any delay comes out within one smallest tier, and never early.
    pub fn for_delay(remaining: Duration) -> Self {
        let tiers = RETRY_TIERS.map(|(name, delay_ms)| Self {
            name,
            delay: Duration::from_millis(delay_ms.unsigned_abs()),
        });
        let [smallest, ..] = tiers;
        let fits = tiers.into_iter().rev().find(|tier| tier.delay <= remaining);
        fits.unwrap_or(smallest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_tier_that_fits() {
        let of = |seconds: u64| Tier::for_delay(Duration::from_secs(seconds)).name;
        assert_eq!(
            [of(0), of(5), of(29), of(30), of(700), of(86_400)],
            ["5s", "5s", "5s", "30s", "10m", "1h"]
        );
    }
}
