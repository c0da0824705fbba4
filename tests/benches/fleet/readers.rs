//! A thousand who follow events over HTTP: nearly all of them a kickoff of their own each, that takes its time, and then the
//! next; a few all that happens to a crew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    calls::{Caller, Events},
    cycle::CREW,
};

/// Streams that are open all the time.
pub(crate) const STREAMS: usize = 1000;
/// So many of them tell all that happens to the crew that is measured: each of its kickoffs has three events.
pub(crate) const OF_CREW: usize = 4;
/// The crew of the others' kickoffs, and how long one takes, in seconds.
pub(crate) const SLEEPING: &str = "sleep";
pub(crate) const SLEEP_S: f64 = 60.0;

/// So long a kickoff of theirs is tried, and after such pauses.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// All of them, the last one of the crew's apart: it may be slow.
pub(crate) struct Readers {
    reading: JoinSet<anyhow::Result<()>>,
    events: Arc<AtomicU64>,
    caller: Arc<Caller>,
}

/// The last one of the crew's: it ends when this is dropped.
pub(crate) enum Last {
    Reads {
        _task: JoinSet<anyhow::Result<()>>,
    },
    /// What it was sent lies in the buffers of the kernel and of the gateway.
    ReadsNothing {
        _events: Events,
    },
}

impl Readers {
    /// Returns once all streams have begun.
    pub(crate) async fn begin(caller: Arc<Caller>) -> anyhow::Result<Self> {
        let mut readers = Self {
            reading: JoinSet::new(),
            events: Arc::default(),
            caller,
        };
        for _ in 0..STREAMS - OF_CREW {
            // So that they don't end, and begin again, all at once.
            let stream = begin_own(&readers.caller, SLEEP_S * fastrand::f64().max(0.1)).await?;
            let (caller, events) = (Arc::clone(&readers.caller), Arc::clone(&readers.events));
            readers.reading.spawn(async move {
                let mut stream = stream;
                loop {
                    let read = stream.read_to_end().await?;
                    events.fetch_add(read as u64, Ordering::Relaxed);
                    stream = begin_own(&caller, SLEEP_S).await?;
                }
            });
        }
        for _ in 0..OF_CREW - 1 {
            let stream = readers.caller.follow(&of_crew()).await?;
            let events = Arc::clone(&readers.events);
            readers.reading.spawn(read_on(stream, events));
        }
        Ok(readers)
    }

    pub(crate) async fn last(&self, reads: bool) -> anyhow::Result<Last> {
        if !reads {
            let _events = self.caller.follow_and_not_read(&of_crew()).await?;
            return Ok(Last::ReadsNothing { _events });
        }
        let (stream, events) = (self.caller.follow(&of_crew()).await?, Arc::clone(&self.events));
        let mut _task = JoinSet::new();
        _task.spawn(read_on(stream, events));
        Ok(Last::Reads { _task })
    }

    /// How many events they have read in all.
    ///
    /// # Errors
    /// Where one of them could not go on.
    pub(crate) fn read(&mut self) -> anyhow::Result<u64> {
        if let Some(ended) = self.reading.try_join_next() {
            ended??;
            bail!("a reader ends");
        }
        Ok(self.events.load(Ordering::Relaxed))
    }
}

async fn begin_own(caller: &Caller, seconds: f64) -> anyhow::Result<Events> {
    let body = format!(r#"{{"crew": "{SLEEPING}", "inputs": {{"seconds": {seconds:.3}}}}}"#);
    let begin = Instant::now();
    let id = loop {
        match caller.kickoff(body.as_bytes()).await {
            // A gateway that has too much to do says so.
            Err(_) if begin.elapsed() < PATIENCE => sleep(PAUSE).await,
            started => break started?,
        }
    };
    caller.follow(&format!("/v1/kickoffs/{id}/events")).await
}

async fn read_on(mut stream: Events, events: Arc<AtomicU64>) -> anyhow::Result<()> {
    loop {
        events.fetch_add(stream.read().await? as u64, Ordering::Relaxed);
    }
}

fn of_crew() -> String {
    format!("/v1/events?crew={CREW}")
}
