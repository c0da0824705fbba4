//! Our side of a spawner: a fork server or a host, which starts processes for us and reports how each ended.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{Instrument, Span, warn};

use super::channel::{Frame, Receiver, Sender};
use super::frames::{Exited, Settings, Start, StartFailed, Started};
use crate::lifecycle::tasks::Tasks;
use crate::resources::process_handle::ProcessHandle;

/// How long a spawner may take to fork.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How a process ended, as far as anybody can tell.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Its spawner reaped it.
    Exited(Exited),
    /// Its spawner is gone, and with it the process.
    Lost,
}

/// A process that a spawner has started.
pub(super) struct ManagedProcess {
    /// The process, which leads a session and group of its own. What it leaves behind, its spawner kills.
    pub(super) handle: ProcessHandle,
    /// Holds its end once it has ended.
    pub(super) end: watch::Receiver<Option<End>>,
}

/// A connected spawner.
pub(super) struct Spawner {
    sender: Sender,
    waiting: Arc<Mutex<Waiting>>,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    over: bool,
    starts: HashMap<u64, oneshot::Sender<Result<ProcessHandle, String>>>,
    ends: HashMap<u64, watch::Sender<Option<End>>>,
}

impl Spawner {
    /// Reads the channel from now on. Frames of other kinds go to `others`, which closes when the spawner is gone.
    pub(super) fn attach(
        sender: Sender,
        receiver: Receiver,
        others: mpsc::UnboundedSender<Frame>,
        watching: &Tasks,
    ) -> Self {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        watching.start(read(receiver, Arc::clone(&waiting), others).instrument(Span::none()));
        Self {
            sender,
            waiting,
            next_id: AtomicU64::new(1),
        }
    }

    /// An id that no other frame of this spawner has.
    pub(super) fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a frame of another kind.
    pub(super) async fn send(&self, frame: &impl serde::Serialize) -> io::Result<()> {
        self.sender.send(frame).await
    }

    /// Whether it can start nothing any more.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.waiting).over
    }

    /// Starts a process that inherits `fds`.
    pub(super) async fn start(
        &self,
        role: &'static str,
        crew: &str,
        settings: &Settings,
        fds: Vec<OwnedFd>,
    ) -> Result<ManagedProcess, String> {
        let id = self.id();
        let (started, wait) = oneshot::channel();
        let (sender, end) = watch::channel(None);
        {
            let mut waiting = lock(&self.waiting);
            if waiting.over {
                return Err(format!("the process that starts every {role} is gone"));
            }
            waiting.starts.insert(id, started);
            waiting.ends.insert(id, sender);
        }
        let frame = Start {
            kind: "start",
            id,
            role,
            crew,
            settings,
        };
        let sent = self.sender.send_with(&frame, &fds).await;
        drop(fds);
        if let Err(error) = sent {
            let mut waiting = lock(&self.waiting);
            waiting.starts.remove(&id);
            waiting.ends.remove(&id);
            return Err(format!("cannot start a {role}: {error}"));
        }
        match timeout(START_TIMEOUT, wait).await {
            Ok(Ok(Ok(handle))) => Ok(ManagedProcess { handle, end }),
            Ok(Ok(Err(message))) => Err(message),
            Ok(Err(_)) => Err(format!("the process that starts every {role} ended")),
            Err(_) => Err(format!("a {role} was not started within {START_TIMEOUT:?}")),
        }
    }
}

async fn read(mut receiver: Receiver, waiting: Arc<Mutex<Waiting>>, others: mpsc::UnboundedSender<Frame>) {
    while let Some(frame) = receiver.next().await {
        let handled = frame.and_then(|frame| handle(frame, &waiting, &others));
        if let Err(error) = handled {
            warn!(%error, "a crew host violated the protocol; giving it up");
            break;
        }
    }
    let mut waiting = lock(&waiting);
    waiting.over = true;
    waiting.starts.clear();
    for (_, end) in waiting.ends.drain() {
        end.send_replace(Some(End::Lost));
    }
}

fn handle(frame: Frame, waiting: &Mutex<Waiting>, others: &mpsc::UnboundedSender<Frame>) -> io::Result<()> {
    match frame.kind.as_str() {
        "started" => {
            let Started { id, pid, start_ticks } = frame.parse()?;
            let handle = ProcessHandle::of_another(pid, start_ticks);
            if let Some(start) = lock(waiting).starts.remove(&id) {
                // Where whoever asked has given up, or gets none, the process ends when its channel closes.
                let _ = start
                    .send(handle.map_err(|e| format!("a process that has started cannot be watched: {e}")));
            }
        }
        "start_failed" => {
            let StartFailed { id, message } = frame.parse()?;
            let mut waiting = lock(waiting);
            waiting.ends.remove(&id);
            if let Some(start) = waiting.starts.remove(&id) {
                let _ = start.send(Err(message));
            }
        }
        "exited" => {
            let exited: Exited = frame.parse()?;
            if let Some(end) = lock(waiting).ends.remove(&exited.id) {
                end.send_replace(Some(End::Exited(exited)));
            }
        }
        _ => {
            // Nobody listens any more: the owner is being dropped.
            let _ = others.send(frame);
        }
    }
    Ok(())
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
