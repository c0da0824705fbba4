//! The one who writes: a thread that takes what has come by now into one transaction, and then tells who waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use rusqlite::{Connection, TransactionBehavior};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{error, warn};

use super::database::{self, Database, StoreError};
use super::news::News;
use super::projection::{Changes, Indexes, Projection};
use super::readers::Readers;
use super::recent::Recent;
use super::retention::{Retained, Retention};
use super::subscribers::Subscribers;

/// News that wait to be written, and those of one transaction.
const QUEUE: usize = 4096;
const BATCH: usize = 2048;
/// What the news that wait may weigh in all is counted in such units, in bytes.
const UNIT: usize = 1024;
/// What a message weighs beside its body, in bytes.
const OVERHEAD: usize = 512;
/// How often what is too old, or too much, is let go.
const TIDYING: Duration = Duration::from_secs(10);
/// How often SQLite looks again what its indexes hold, by which it chooses one.
const OPTIMIZING: Duration = Duration::from_secs(60 * 60);
/// From the beginning of a transaction to that of the next one: what comes meanwhile is written together, so that many
/// kickoffs a second are few transactions. Who comes to an idle store waits for nothing.
const PACE: Duration = Duration::from_millis(4);
/// The pause after a transaction that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// News on their way to the writer.
struct Work {
    news: News,
    /// Room in memory, until it is written.
    _room: Option<OwnedSemaphorePermit>,
    /// Told when it is written.
    written: Option<oneshot::Sender<()>>,
}

/// What those who have news hold.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Work>,
    room: Arc<Semaphore>,
    /// In [`UNIT`]s.
    largest: u32,
}

/// The store takes nothing more: it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store of the gateway ends")]
pub(crate) struct Ended;

/// How much the store holds, and what keeps it from being written.
#[derive(Debug, Default)]
pub(crate) struct Size {
    trouble: Mutex<Option<String>>,
    pub(crate) kickoffs: AtomicU64,
    /// Of events, replies and requests.
    pub(crate) bytes: AtomicU64,
}

impl Size {
    /// What keeps the store from being written at present.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Writer {
    /// Starts to write, with room for news of `memory` bytes. The thread ends when nobody holds the writer any more.
    ///
    /// # Errors
    /// [`StoreError`], when no thread can be started.
    pub(super) fn start(
        database: Database,
        memory: u64,
        indexes: Indexes,
        retention: Retention,
        subscribers: Arc<Subscribers>,
        size: Arc<Size>,
        recent: Arc<Recent>,
    ) -> Result<(Self, Readers), StoreError> {
        let (queue, news) = mpsc::channel(QUEUE);
        let units = u32::try_from(memory / UNIT as u64).unwrap_or(u32::MAX).max(1);
        let Database {
            writing,
            readers,
            lock,
        } = database;
        let mut thread = Thread {
            db: writing,
            indexes,
            retention,
            subscribers,
            size,
            recent,
            runtime: Handle::current(),
        };
        let file = thread.db.path().unwrap_or_default().into();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // Until the last one is written.
                let _lock = lock;
                thread.run(news);
            })
            .map_err(|cause| StoreError::Io { file, cause })?;
        let writer = Self {
            queue,
            room: Arc::new(Semaphore::new(units as usize)),
            largest: units,
        };
        Ok((writer, readers))
    }

    /// Hands over a message of so many bytes, when there is room for it.
    pub(crate) async fn send(&self, news: News, bytes: usize) -> Result<(), Ended> {
        let units = u32::try_from((bytes + OVERHEAD).div_ceil(UNIT)).unwrap_or(u32::MAX);
        // The largest of all has all the room.
        let room = Arc::clone(&self.room)
            .acquire_many_owned(units.min(self.largest))
            .await;
        let room = Some(room.map_err(|_| Ended)?);
        self.queue
            .send(Work {
                news,
                _room: room,
                written: None,
            })
            .await
            .map_err(|_| Ended)
    }

    /// Hands over something that is not from a stream, and waits until it is written, and all that came before it.
    pub(crate) async fn write(&self, news: News) -> Result<(), Ended> {
        let (written, is_written) = oneshot::channel();
        let work = Work {
            news,
            _room: None,
            written: Some(written),
        };
        self.queue.send(work).await.map_err(|_| Ended)?;
        is_written.await.map_err(|_| Ended)
    }
}

struct Thread {
    db: Connection,
    indexes: Indexes,
    retention: Retention,
    subscribers: Arc<Subscribers>,
    size: Arc<Size>,
    recent: Arc<Recent>,
    runtime: Handle,
}

impl Thread {
    fn run(&mut self, mut news: mpsc::Receiver<Work>) {
        let (mut tidied, mut optimized, mut began) = (Instant::now(), Instant::now(), Instant::now());
        self.measure();
        loop {
            let first = self
                .runtime
                .block_on(async { tokio::time::timeout(TIDYING, news.recv()).await });
            match first {
                Ok(None) => return,
                Ok(Some(first)) => {
                    std::thread::sleep(PACE.saturating_sub(began.elapsed()));
                    began = Instant::now();
                    let mut batch = vec![first];
                    while batch.len() < BATCH
                        && let Ok(next) = news.try_recv()
                    {
                        batch.push(next);
                    }
                    self.write(batch);
                }
                Err(_) => {}
            }
            if tidied.elapsed() >= TIDYING {
                // While there is much to let go, what comes is written in between.
                let retained = self.tidy();
                if retained != Retained::Some {
                    tidied = Instant::now();
                }
                if retained != Retained::Nothing {
                    self.recent.clear();
                }
                self.measure();
            }
            if optimized.elapsed() >= OPTIMIZING {
                optimized = Instant::now();
                database::optimize(&self.db)
                    .unwrap_or_else(|cause| warn!(%cause, "the store is not measured"));
            }
        }
    }

    /// Writes all of it, however long that takes: what came from a stream is not sent again.
    fn write(&mut self, batch: Vec<Work>) {
        let (mut news, mut others) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for work in batch {
            news.push(work.news);
            others.push((work._room, work.written));
        }
        let mut failed = false;
        let changes = loop {
            match self.transaction(&news) {
                Ok(changes) => break changes,
                Err(cause) => {
                    if !std::mem::replace(&mut failed, true) {
                        error!(%cause, "the gateway's store cannot be written; trying again");
                        self.size.set_trouble(Some(cause.to_string()));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        };
        if failed {
            warn!("the gateway's store is written again");
            self.size.set_trouble(None);
        }
        self.measure();
        self.tell(changes);
        for (room, written) in others {
            drop(room);
            if let Some(written) = written {
                // Whoever gave up waiting knows why.
                let _ = written.send(());
            }
        }
    }

    /// Who is told of it finds it, so that it is kept at hand first.
    fn tell(&self, mut changes: Changes) {
        if changes.others {
            self.recent.clear();
        } else {
            self.recent.put(std::mem::take(&mut changes.written));
        }
        self.subscribers.tell(changes);
    }

    fn transaction(&mut self, news: &[News]) -> rusqlite::Result<Changes> {
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut projection = Projection::new(
            &transaction,
            &self.indexes,
            &self.recent,
            Utc::now().timestamp_millis(),
        );
        for one in news {
            projection.apply(one)?;
        }
        let changes = projection.finish()?;
        transaction.commit()?;
        Ok(changes)
    }

    fn tidy(&mut self) -> Retained {
        let tidied = self.retention.apply(&mut self.db, Utc::now().timestamp_millis());
        tidied.unwrap_or_else(|cause| {
            warn!(%cause, "what is too old cannot be let go; trying again");
            Retained::All
        })
    }

    fn measure(&self) {
        let measured = self
            .db
            .prepare_cached("SELECT sum(count) FILTER (WHERE kind = 'kickoff'), sum(bytes) FROM kept");
        let measured = measured.and_then(|mut measure| {
            measure.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        });
        if let Ok((kickoffs, bytes)) = measured {
            self.size
                .kickoffs
                .store(kickoffs.cast_unsigned(), Ordering::Relaxed);
            self.size.bytes.store(bytes.cast_unsigned(), Ordering::Relaxed);
        }
    }
}
