//! Faults of our own: a part of the worker that panics. It is counted and logged, without what it worked on, and starts
//! again; whoever has something to give back does so.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_service::telemetry;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::lifecycle::part::Part;
use crate::metrics::Metrics;

/// The pause before a part that panicked starts again. It doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The work panicked, which is counted and logged by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Does the work; a panic of it ends here.
///
/// # Errors
/// [`Panicked`]. What the work held is dropped by then; what it shares with others must be whole at each moment, as it
/// is behind our locks.
pub(crate) async fn caught<T>(
    metrics: &Metrics,
    part: Part,
    work: impl Future<Output = T>,
) -> Result<T, Panicked> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|panic| report(metrics, part, panic))
}

/// Does the work of a part of the worker until it returns, from its beginning after each panic, unless the worker ends.
pub(crate) async fn restarting<F: Future<Output = ()>>(
    metrics: Arc<Metrics>,
    part: Part,
    ends: CancellationToken,
    work: impl FnMut() -> F,
) {
    restarting_after(PAUSE, metrics, part, ends, work).await;
}

async fn restarting_after<F: Future<Output = ()>>(
    first_pause: Duration,
    metrics: Arc<Metrics>,
    part: Part,
    ends: CancellationToken,
    mut work: impl FnMut() -> F,
) {
    let mut pause = first_pause;
    loop {
        let began = Instant::now();
        if caught(&metrics, part, work()).await.is_ok() {
            return;
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = first_pause;
        }
        if ends
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn report(metrics: &Metrics, part: Part, panic: Box<dyn Any + Send>) -> Panicked {
    let part = part.as_str();
    metrics.panics.with_label_values(&[part]).inc();
    // A text that was made for the occasion may have something of the inputs in it.
    let text = telemetry::literal(&*panic);
    error!(
        part,
        panic = text,
        "a fault of this worker: a part of it panicked"
    );
    if !panic.is::<String>() && !panic.is::<&str>() {
        // Whatever a crew has thrown may panic once more when it is dropped. It is small, and this is rare.
        std::mem::forget(panic);
    }
    Panicked
}

#[cfg(test)]
mod tests {
    use crewfleet_service::metrics::MetricsRegistry;

    use super::*;

    /// Panics when it is dropped, too.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    fn metrics() -> Arc<Metrics> {
        Metrics::register(&mut MetricsRegistry::new().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_part_that_panics_starts_again_until_it_returns() {
        let metrics = metrics();
        let mut times = 0;
        let work = || {
            times += 1;
            let time = times;
            async move {
                match time {
                    1 => panic!("as ordered"),
                    2 => panic!("of {time}"),
                    3 => std::panic::panic_any(Bomb),
                    _ => {}
                }
            }
        };
        let ends = CancellationToken::new();
        restarting_after(Duration::ZERO, Arc::clone(&metrics), Part::Heartbeat, ends, work).await;
        assert_eq!(times, 4);
        let of = |part: Part| metrics.panics.with_label_values(&[part.as_str()]).get();
        assert_eq!((of(Part::Heartbeat), of(Part::Consumer)), (3, 0));
    }

    #[tokio::test]
    async fn a_part_that_panics_starts_no_more_when_the_worker_ends() {
        let ends = CancellationToken::new();
        ends.cancel();
        let mut times = 0;
        let work = || {
            times += 1;
            async { panic!("as ordered") }
        };
        restarting(metrics(), Part::Memory, ends, work).await;
        assert_eq!(times, 1);
    }
}
