//! The kickoffs of a campaign, made from its seed.

use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::follow::{self, Follow};

/// The crew in Rust, within the worker's process.
pub(crate) const SWIFT: &str = "swift";
/// The crew in Python: each kickoff in a forked child.
pub(crate) const FORKED: &str = "forked";
/// The crew that is a program.
pub(crate) const PROGRAM: &str = "program";
/// A crew that gets no kickoffs but those that show whether its queue works.
pub(crate) const IDLE: &str = "idle";

/// The crew of a batch's rows, of which no run is written down: they are many.
pub(crate) const ROWS: &str = "rows";
/// Who publishes them.
pub(crate) const BATCHER: &str = "batch";

/// Who publishes the probes.
pub(crate) const PROBER: &str = "p0";

/// A crew in Python of one worker alone, which gets no kickoffs but those that wait until it can be built.
pub(crate) const LATE: &str = "late";

/// How often a kickoff is tried in all, and how often when its process dies. In the crews' configuration.
pub(crate) const MAX_ATTEMPTS: u32 = 3;
/// See [`MAX_ATTEMPTS`].
pub(crate) const MAX_CRASHES: u32 = 2;
/// How many workers may die with a kickoff: what crews have by default.
pub(crate) const CRASH_LIMIT: u32 = 3;

/// Callers of the native API come in bursts, with this time between them: a gateway that is killed in one has calls
/// under way.
pub(crate) const BURSTS: Duration = Duration::from_secs(2);

/// One kickoff, before it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// Counts the kickoffs of a campaign.
    pub number: u64,
    /// Its crew.
    pub crew: String,
    /// When it is to be sent, in milliseconds from the campaign's start.
    pub at_ms: u64,
    /// What the crew gets.
    pub order: Order,
    /// Its own time limit.
    pub timeout_s: Option<f64>,
    /// How long after it is sent its deadline is.
    pub deadline_ms: Option<u64>,
    /// How long after it is confirmed it is cancelled.
    pub cancel_after_ms: Option<u64>,
    /// What follows it.
    #[serde(default)]
    pub follow: Follow,
}

/// The inputs of a kickoff: what its crew is to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Unlike any other's; the crew returns it.
    pub nonce: String,
    /// How long each attempt takes.
    pub work_ms: u64,
    /// How each attempt ends; the last one counts for all further ones, so that attempts of one number end alike.
    pub acts: Vec<Act>,
    /// The payloads of the steps that may follow, in their order; the crew returns them, and steps get them from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// What it is told of the batch that it follows; the crew returns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Value>,
    /// What the items of that came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Value>,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// With a result.
    Succeed,
    /// With a failure that another attempt may mend.
    FailForNow,
    /// With a failure for good.
    Fail,
    /// The crew's process dies; in Rust it panics.
    Crash,
    /// Never, until the time limit.
    Hang,
}

impl Planned {
    /// The same for a caller of AMP's API, who gives neither a time limit, nor a deadline, nor steps.
    pub(crate) fn over_amp(mut self) -> Self {
        (self.timeout_s, self.deadline_ms) = (None, None);
        (self.follow.steps, self.order.steps) = (Vec::new(), Vec::new());
        if self.order.acts == [Act::Hang] {
            self.order.acts = vec![Act::Succeed];
        }
        self
    }

    /// The same in a burst with others.
    pub(crate) fn in_bursts(mut self) -> Self {
        let apart = u64::try_from(BURSTS.as_millis()).expect("seconds");
        self.at_ms -= self.at_ms % apart;
        self
    }
}

impl Order {
    /// How an attempt ends, counted from 1.
    pub(crate) fn act(&self, attempt: u32) -> Act {
        let place = (attempt.max(1) as usize - 1).min(self.acts.len() - 1);
        self.acts[place]
    }

    /// How long an attempt takes.
    pub(crate) fn work(&self) -> Duration {
        Duration::from_millis(self.work_ms)
    }
}

/// Makes the kickoffs of a seed, in the order of their times, spread over `span`. Something follows those of crews whose
/// workers are all of this version: in a fleet that is `mixed` these are not all.
pub(crate) fn kickoffs(seed: u64, count: u64, span: Duration, is_mixed: bool) -> Vec<Planned> {
    let mut random = Rng::with_seed(seed);
    let mut of_follow = Rng::with_seed(seed.rotate_left(32));
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    (0..count)
        .map(|number| {
            let at_ms = number * span_ms / count.max(1);
            let mut planned = planned(&mut random, seed, number, at_ms);
            follow::add(&mut of_follow, &mut planned, is_mixed);
            planned
        })
        .collect()
}

fn planned(random: &mut Rng, seed: u64, number: u64, at_ms: u64) -> Planned {
    // Each fourth, whatever the seed: a fifth at least has to run there, and some are cancelled or expire before.
    let crew = match random.u32(0..100) {
        _ if number.is_multiple_of(4) => FORKED,
        0..4 => PROGRAM,
        _ => SWIFT,
    };
    let is_long = random.f64() < if crew == FORKED { 0.15 } else { 0.05 };
    let mut planned = Planned {
        number,
        crew: crew.to_owned(),
        at_ms,
        order: Order {
            nonce: format!("{seed:x}-{number}-{:016x}", random.u64(..)),
            work_ms: if is_long {
                random.u64(1_000..4_000)
            } else {
                random.u64(5..300)
            },
            acts: vec![Act::Succeed],
            ..Order::default()
        },
        timeout_s: None,
        deadline_ms: None,
        cancel_after_ms: None,
        follow: Follow::default(),
    };
    match random.u32(0..1000) {
        0..60 => planned.order.acts = vec![Act::FailForNow, Act::Succeed],
        60..75 => planned.order.acts = vec![Act::FailForNow, Act::FailForNow, Act::Succeed],
        75..85 => planned.order.acts = vec![Act::FailForNow],
        85..125 => planned.order.acts = vec![Act::Fail],
        125..145 => planned.order.acts = vec![Act::Crash, Act::Succeed],
        145..150 => planned.order.acts = vec![Act::Crash],
        150..165 => {
            planned.order.acts = vec![Act::Hang];
            planned.timeout_s = Some(1.0);
        }
        165..190 => {
            planned.order.work_ms = random.u64(500..4_000);
            planned.cancel_after_ms = Some(random.u64(0..3_000));
        }
        190..205 => planned.deadline_ms = Some(random.u64(50..3_000)),
        _ => {}
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_kickoffs_each_time_and_a_quarter_is_forked() {
        let span = Duration::from_secs(60);
        let kickoffs = kickoffs(7, 2_000, span, false);
        assert_eq!(kickoffs, super::kickoffs(7, 2_000, span, false));
        assert_ne!(kickoffs, super::kickoffs(8, 2_000, span, false));
        let forked = kickoffs.iter().filter(|kickoff| kickoff.crew == FORKED).count();
        assert_eq!(forked, 500);
        let mut nonces: Vec<&str> = kickoffs.iter().map(|k| k.order.nonce.as_str()).collect();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), 2_000);
    }

    #[test]
    fn the_last_act_counts_for_all_further_attempts() {
        let order = Order {
            nonce: "n".to_owned(),
            work_ms: 1,
            acts: vec![Act::FailForNow, Act::Succeed],
            ..Order::default()
        };
        assert_eq!(
            [1, 2, 3].map(|attempt| order.act(attempt)),
            [Act::FailForNow, Act::Succeed, Act::Succeed]
        );
    }
}
