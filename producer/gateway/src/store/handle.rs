//! The store as a whole: the file, the one who writes, those who read, and the streams.

use std::path::Path;
use std::sync::Arc;

use crewfleet_amqp::Broker;
use crewfleet_protocol::Names;
use crewfleet_protocol::topology::Topology;
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::database::{Database, StoreError};
use super::followers::{self, Follower, Progress};
use super::meta_index;
use super::news::{Mark, Stream};
use super::projection::Indexes;
use super::queries::Queries;
use super::recent::Recent;
use super::retention::Retention;
use super::subscribers::Subscribers;
use super::window::Window;
use super::writer::{Size, Writer};

/// What the gateway knows of kickoffs.
pub(crate) struct Store {
    pub(crate) queries: Queries,
    pub(crate) writer: Writer,
    pub(crate) subscribers: Arc<Subscribers>,
    pub(crate) size: Arc<Size>,
    marks: Marks,
    history: Arc<Progress>,
    results: Arc<Progress>,
    requests: Arc<Progress>,
    batches: Arc<Progress>,
}

/// Where the streams were read to.
#[derive(Clone, Copy)]
struct Marks {
    history: Option<Mark>,
    results: Option<Mark>,
    requests: Option<Mark>,
    batches: Option<Mark>,
}

/// How many messages of each stream are on their way to us at most.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) events: Window,
    pub(crate) replies: Window,
    pub(crate) requests: Window,
}

/// How the streams are made.
pub(crate) struct StreamTopology {
    pub(crate) history: Topology,
    /// `None` where nobody keeps replies.
    pub(crate) results: Option<Topology>,
    pub(crate) requests: Topology,
    pub(crate) batches: Topology,
}

impl Store {
    /// Opens the file, or makes it. SQLite has `memory` bytes for what is at hand, and news that are on their way as much
    /// again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn open(
        file: &Path,
        memory: u64,
        indexes: Indexes,
        retention: Retention,
        names: &Names,
    ) -> Result<Self, StoreError> {
        let mut database = Database::open(file, memory, indexes.full_text)?;
        let unusable = |cause: rusqlite::Error| StoreError::Unusable {
            file: file.to_owned(),
            cause: cause.to_string(),
            hint: "",
        };
        meta_index::fill(&mut database.writing, &indexes.meta_keys).map_err(unusable)?;
        let marks = Marks::read(&database.writing).map_err(unusable)?;
        let (subscribers, size) = (Arc::<Subscribers>::default(), Arc::<Size>::default());
        let (of_subscribers, of_size) = (Arc::clone(&subscribers), Arc::clone(&size));
        let recent = Arc::<Recent>::default();
        let of_recent = Arc::clone(&recent);
        let (writer, readers) = Writer::start(
            database,
            memory,
            indexes,
            retention,
            of_subscribers,
            of_size,
            of_recent,
        )?;
        Ok(Self {
            queries: Queries::new(readers, recent),
            writer,
            subscribers,
            size,
            marks,
            history: Progress::new(&names.history()),
            results: Progress::new(&names.results()),
            requests: Progress::new(&names.http_requests()),
            batches: Progress::new(&names.batches()),
        })
    }

    /// Reads the streams until `stop`.
    pub(crate) fn follow(
        &self,
        broker: &Broker,
        names: &Names,
        topology: StreamTopology,
        windows: Windows,
        stop: &CancellationToken,
    ) {
        let follower = |stream, name, topology, is_ours, window, progress: &Arc<Progress>| Follower {
            stream,
            name,
            broker: broker.clone(),
            writer: self.writer.clone(),
            window,
            topology,
            is_ours,
            progress: Arc::clone(progress),
        };
        let StreamTopology {
            history,
            results,
            requests,
            batches,
        } = topology;
        let history = follower(
            Stream::History,
            names.history(),
            Some(history),
            true,
            windows.events,
            &self.history,
        );
        // Workers make it; it is made here only where somebody has deleted it.
        let results = follower(
            Stream::Results,
            names.results(),
            results,
            false,
            windows.replies,
            &self.results,
        );
        let requests = follower(
            Stream::Requests,
            names.http_requests(),
            Some(requests),
            true,
            windows.requests,
            &self.requests,
        );
        let batches = follower(
            Stream::Batches,
            names.batches(),
            Some(batches),
            true,
            // They come seldom, and a constant in one may be as large as a request.
            windows.requests,
            &self.batches,
        );
        let (marks, results_read, writer) = (self.marks, Arc::clone(&self.results), self.writer.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            tokio::join!(
                history.follow(marks.history),
                results.follow(marks.results),
                requests.follow(marks.requests),
                batches.follow(marks.batches),
                followers::give_up_replies(&results_read, &writer)
            );
        }));
    }

    /// Whether all streams are read to their ends, so that what is not known is not there.
    pub(crate) fn is_current(&self) -> Result<(), String> {
        if let Some(trouble) = self.size.trouble() {
            return Err(format!(
                "the store cannot be written ({trouble}); look at the disk of [gateway.store] file"
            ));
        }
        for stream in [&self.history, &self.results, &self.requests, &self.batches] {
            stream.get()?;
        }
        Ok(())
    }
}

impl Marks {
    fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut find = db.prepare("SELECT place, hash FROM stream WHERE name = ? AND place >= 0")?;
        let mut of = |stream: Stream| {
            let mut found = find.query_map([stream.as_str()], |row| {
                Ok(Mark {
                    place: row.get::<_, i64>(0)?.cast_unsigned(),
                    hash: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })?;
            found.next().transpose()
        };
        Ok(Self {
            history: of(Stream::History)?,
            results: of(Stream::Results)?,
            requests: of(Stream::Requests)?,
            batches: of(Stream::Batches)?,
        })
    }
}
