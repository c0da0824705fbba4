//! When something is tried again that could not be handed on: over hours, since whoever takes it may be down for a night.

use std::time::Duration;

/// How often it is tried.
pub(crate) const ATTEMPTS: u32 = 12;
/// What is put off again and again is given up when it is as old.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// … and was put off as often, which takes half a day: a replay, and what waited for a sink, are old when they come.
pub(crate) const DEFERRALS: u32 = 300;

/// The pause after the first attempt, the second, …; then always the last one.
const PAUSES_S: [u64; 5] = [5, 30, 120, 600, 3600];
/// By so much a pause may be longer, so that what failed together does not come back together.
const JITTER: f64 = 0.5;

/// The pause after this attempt; `None` after the last. `random` is from 0 to 1.
pub(crate) fn pause(attempt: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
    if attempt >= ATTEMPTS {
        return None;
    }
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = PAUSES_S[PAUSES_S.len() - 1];
    let pause = Duration::from_secs(PAUSES_S.get(place).copied().unwrap_or(last));
    Some(jittered(pause, random).max(asked.unwrap_or_default()))
}

/// The pause of what is put off, for the `times`th time. It becomes longer: thousands may wait for one slow receiver, and
/// each comes through the broker.
pub(crate) fn deferral(times: u32, after: Duration, random: f64) -> Duration {
    let pause = match times {
        0..3 => 5,
        3..10 => 30,
        _ => 120,
    };
    jittered(Duration::from_secs(pause).max(after), random)
}

fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_hour_and_end_after_a_working_day_s_length() {
        let pauses: Vec<_> = (1..=ATTEMPTS)
            .map(|attempt| pause(attempt, None, 0.0).map(|pause| pause.as_secs()))
            .collect();
        let hours = [Some(3600); 7];
        assert_eq!(pauses[..4], [Some(5), Some(30), Some(120), Some(600)]);
        assert_eq!(pauses[4..11], hours);
        assert_eq!(pauses[11], None);
        assert_eq!(pause(2, None, 1.0), Some(Duration::from_secs(45)));
        assert_eq!(
            pause(1, Some(Duration::from_secs(90)), 1.0),
            Some(Duration::from_secs(90))
        );
    }

    #[test]
    fn what_is_put_off_often_comes_less_often() {
        let after = |times| deferral(times, Duration::from_secs(5), 0.0).as_secs();
        assert_eq!([after(0), after(3), after(10)], [5, 30, 120]);
        assert_eq!(
            deferral(0, Duration::from_secs(300), 0.0),
            Duration::from_secs(300)
        );
    }
}
