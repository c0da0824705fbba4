//! The supervisor with links that a test ends.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use super::*;
use crate::link_readiness::{LinkReadiness, Passing};

/// What happens, in order.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    fn tell(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn so_far(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct FakeLink {
    number: usize,
    end: CancellationToken,
    story: Story,
    closed: CancellationToken,
}

impl Supervised for FakeLink {
    async fn ended(&self) {
        self.end.cancelled().await;
    }

    async fn close(&self) {
        self.story.tell(format!("{} is closed", self.number));
        self.closed.cancel();
    }
}

impl Passing for FakeLink {
    fn is_over(&self) -> bool {
        self.end.is_cancelled()
    }
}

fn link(number: usize, story: &Story) -> Arc<FakeLink> {
    Arc::new(FakeLink {
        number,
        end: CancellationToken::new(),
        story: story.clone(),
        closed: CancellationToken::new(),
    })
}

struct Scene {
    story: Story,
    shown: watch::Receiver<Option<Arc<FakeLink>>>,
    stop: CancellationToken,
    supervising: tokio::task::JoinHandle<()>,
}

/// Supervises links of which some attempts fail.
fn supervised(failures: usize) -> Scene {
    let (story, stop) = (Story::default(), CancellationToken::new());
    let (sender, shown) = watch::channel(None);
    let attempts = Mutex::new(0);
    let telling = story.clone();
    let connect = async move || {
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        telling.tell(format!("attempt {attempts}"));
        match *attempts > failures {
            true => Ok(link(*attempts, &telling)),
            false => Err("refused"),
        }
    };
    let supervising = tokio::spawn(supervise(connect, BrokerMetrics::new(), sender, stop.clone()));
    Scene {
        story,
        shown,
        stop,
        supervising,
    }
}

impl Scene {
    async fn next_link(&mut self) -> Arc<FakeLink> {
        let shown = self.shown.wait_for(Option::is_some).await.unwrap();
        shown.clone().unwrap()
    }

    /// Ends the link that is shown, and waits until it is no longer.
    async fn lose(&mut self, link: &FakeLink) {
        link.end.cancel();
        let other =
            |shown: &Option<Arc<FakeLink>>| shown.as_ref().is_none_or(|shown| shown.number != link.number);
        self.shown.wait_for(other).await.unwrap();
    }
}

#[tokio::test]
async fn a_link_that_is_over_is_closed_and_another_takes_its_place() {
    let mut scene = supervised(0);
    let first = scene.next_link().await;
    scene.lose(&first).await;
    let second = scene.next_link().await;
    first.closed.cancelled().await;
    assert_eq!((first.number, second.number), (1, 2));
    let closed = scene
        .story
        .so_far()
        .into_iter()
        .filter(|what| what.contains("closed"));
    assert_eq!(closed.collect::<Vec<_>>(), ["1 is closed"]);
}

#[tokio::test]
async fn an_attempt_that_fails_is_made_again() {
    let mut scene = supervised(2);
    assert_eq!(scene.next_link().await.number, 3);
    assert_eq!(scene.story.so_far(), ["attempt 1", "attempt 2", "attempt 3"]);
}

#[tokio::test]
async fn after_the_stop_a_link_that_ends_is_its_stopper_s_to_close() {
    let mut scene = supervised(0);
    let link = scene.next_link().await;
    scene.stop.cancel();
    link.end.cancel();
    scene.supervising.await.unwrap();
    assert_eq!(scene.story.so_far(), ["attempt 1"], "no close, and no other link");
}

#[test]
fn pauses_are_short_at_first_and_bounded_then() {
    let pauses: Vec<_> = delays().take(100).collect();
    let (short, long) = pauses.split_at(60);
    let least = Duration::from_millis(100);
    assert!(
        short
            .iter()
            .all(|pause| (least..=2 * Duration::from_millis(250)).contains(pause)),
        "{short:?}"
    );
    assert!(
        long.iter().all(|pause| (least..=2 * LONGEST).contains(pause)),
        "{long:?}"
    );
    let wait: Duration = short.iter().sum();
    assert!(
        (Duration::from_secs(12)..Duration::from_secs(31)).contains(&wait),
        "{wait:?}"
    );
}

#[tokio::test]
async fn whoever_waits_for_a_link_that_is_ready_gets_none_that_is_over() {
    let readiness = LinkReadiness::<FakeLink>::default();
    let story = Story::default();
    let (first, second) = (link(1, &story), link(2, &story));
    readiness.open(&first);
    assert_eq!(readiness.wait().await.number, 1);
    // It is over before anybody has closed it here.
    first.end.cancel();
    let opening = async {
        tokio::task::yield_now().await;
        readiness.open(&second);
    };
    let (waited, ()) = tokio::join!(readiness.wait(), opening);
    assert_eq!(waited.number, 2);
    readiness.close();
    assert!(futures_util::poll!(std::pin::pin!(readiness.wait())).is_pending());
}
