//! Lines for stderr, written together: a call of the kernel for each, and whoever reads it woken by each, cost a busy
//! worker more than the kickoffs that the lines tell of.

use std::io::{self, Write};
use std::mem::take;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others.
const WAIT: Duration = Duration::from_millis(10);
/// So many bytes wait for nothing.
const ENOUGH: usize = 64 * 1024;

static WAITING: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static MORE: Condvar = Condvar::new();

/// Makes writers of single lines.
pub(super) struct Lines(());

/// Writes one line.
pub(super) struct Line {
    /// Warnings and errors do not wait: they may be the last that is heard of this process.
    urgent: bool,
}

impl Lines {
    /// Starts the thread that writes them.
    pub(super) fn start() -> Self {
        static THREAD: OnceLock<()> = OnceLock::new();
        THREAD.get_or_init(|| {
            let started = thread::Builder::new().name("log".to_owned()).spawn(write_on);
            if let Err(error) = started {
                // Lines go out with the next warning, or once they are many.
                eprintln!("the log's thread does not start: {error}");
            }
        });
        Self(())
    }
}

/// Writes what waits, now.
pub(super) fn flush() {
    // Whoever takes lines has stderr first, which keeps them in order.
    let mut stderr = io::stderr().lock();
    let lines = take(&mut *lock());
    // Where stderr is gone there is nobody to tell.
    let _ = stderr.write_all(&lines);
}

fn write_on() {
    loop {
        let waiting = MORE.wait_while(lock(), |waiting| waiting.is_empty());
        drop(waiting);
        thread::sleep(WAIT);
        flush();
    }
}

/// Bytes that every holder leaves whole, so a poisoned lock is as good as any.
fn lock() -> MutexGuard<'static, Vec<u8>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { urgent: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        Line {
            urgent: *meta.level() <= Level::WARN,
        }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = lock();
        if waiting.is_empty() {
            MORE.notify_one();
        }
        waiting.extend_from_slice(line);
        let enough = waiting.len() >= ENOUGH;
        drop(waiting);
        if self.urgent || enough {
            flush();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
