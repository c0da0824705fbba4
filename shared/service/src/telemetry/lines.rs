//! Lines for stderr, written together, by a thread of their own.
//!
//! Together: a call of the kernel for each line, and whoever reads it woken by each, cost a busy worker more than the
//! kickoffs that the lines tell of. By a thread of their own: whoever reads stderr may stop reading, and must not hold up
//! the async runtime.
//!
//! `tracing-appender` 0.2.5 has such a thread, but waits for no further line. Measured with 3,000 lines a second for 10 s,
//! its writer behind a `BufWriter`: 730 ms of CPU here and 410 ms in the reader, which is woken 20,000 times. This takes
//! 370 ms and 120 ms, and wakes the reader 950 times. Besides, its bound counts lines, not bytes, and it flushes only when
//! its guard is dropped.

use std::io::{self, Write};
use std::mem::take;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crewfleet_amqp::metrics::opts;
use prometheus::IntCounter;
use tracing::{Level, Metadata, warn};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others.
const WAIT: Duration = Duration::from_millis(10);
/// So many bytes wait for nothing.
const ENOUGH: usize = 64 * 1024;
/// What may wait for a reader that does not read. Further lines are lost, and counted.
const MOST: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for such a reader.
const LAST: Duration = Duration::from_secs(2);

/// Lines of this process that were lost.
pub(crate) static LOST: LazyLock<IntCounter> = LazyLock::new(|| {
    let text = "lines of the log that were lost: whoever reads stderr did not keep up";
    #[allow(clippy::expect_used)]
    IntCounter::with_opts(opts("log_lines_lost_total", text)).expect("its name is a valid one")
});

static QUEUE: Queue = Queue::new();

/// Makes writers of single lines.
pub(super) struct Lines(&'static Queue);

/// Writes one line.
pub(super) struct Line {
    queue: &'static Queue,
    /// Warnings and errors do not wait: they may be the last that is heard of this process.
    urgent: bool,
}

/// What waits for the thread that writes it.
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
    written: Condvar,
}

struct Waiting {
    lines: Vec<u8>,
    /// They do not wait for others.
    urgent: bool,
    /// The thread has taken lines and not yet written them.
    writing: bool,
    lost: u64,
}

impl Lines {
    /// Starts the thread that writes them.
    ///
    /// # Errors
    /// When the system allows no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let write = || loop {
            QUEUE.write_to(&mut io::stderr());
        };
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self(&QUEUE))
    }
}

/// Waits until what was logged is written; not for ever.
pub(super) fn flush() {
    QUEUE.flush(LAST);
}

impl Queue {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: Vec::new(),
                urgent: false,
                writing: false,
                lost: 0,
            }),
            more: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Takes a line, or loses it; never blocks for longer than another line takes.
    fn push(&self, line: &[u8], urgent: bool) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > MOST {
            waiting.lost += 1;
            LOST.inc();
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        let hurry = !waiting.urgent && (urgent || waiting.lines.len() >= ENOUGH);
        waiting.urgent |= hurry;
        if first || hurry {
            self.more.notify_one();
        }
    }

    /// Waits for lines and writes them.
    fn write_to(&self, out: &mut impl Write) {
        let none = |waiting: &mut Waiting| waiting.lines.is_empty();
        let waiting = self
            .more
            .wait_while(self.lock(), none)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = self
            .more
            .wait_timeout_while(waiting, WAIT, |waiting| !waiting.urgent)
            .unwrap_or_else(PoisonError::into_inner);
        let (lines, lost) = (take(&mut waiting.lines), take(&mut waiting.lost));
        (waiting.urgent, waiting.writing) = (false, true);
        drop(waiting);
        // Where stderr is gone there is nobody to tell.
        let _ = out.write_all(&lines);
        if lost > 0 {
            warn!(
                lost,
                "lines of the log are lost: whoever reads stderr does not keep up"
            );
        }
        self.lock().writing = false;
        self.written.notify_all();
    }

    /// Waits until all lines are written, or `limit` is over.
    fn flush(&self, limit: Duration) {
        let mut waiting = self.lock();
        waiting.urgent = true;
        self.more.notify_one();
        let unwritten = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        drop(self.written.wait_timeout_while(waiting, limit, unwritten));
    }

    /// Bytes that every holder leaves whole, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            queue: self.0,
            urgent: true,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        Line {
            queue: self.0,
            urgent: *meta.level() <= Level::WARN,
        }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Stderr, whose reader reads when it is told to.
    struct Reader {
        asked: Sender<()>,
        read: Receiver<()>,
        text: Vec<u8>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(()).map_err(io::Error::other)?;
            self.read.recv().map_err(io::Error::other)?;
            self.text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_does_not_read_the_log_holds_nobody_up() {
        let queue = Queue::new();
        let ((asked, is_asked), (reads, read)) = (channel(), channel());
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let before = LOST.get();
        let text = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut reader = Reader {
                    asked,
                    read,
                    text: Vec::new(),
                };
                queue.write_to(&mut reader);
                queue.write_to(&mut reader);
                reader.text
            });
            queue.push(b"first\n", true);
            is_asked.recv().unwrap();
            // Nobody reads; a thread of the runtime that waited here would wait for ever.
            for _ in 0..MOST / line.len() + 3 {
                queue.push(&line, true);
            }
            queue.flush(Duration::from_millis(1));
            for _ in 0..2 {
                reads.send(()).unwrap();
            }
            queue.flush(Duration::from_secs(60));
            writer.join().unwrap()
        });
        assert!(text.starts_with(b"first\nxxx") && text.ends_with(&line));
        assert_eq!(text.len(), b"first\n".len() + MOST);
        assert_eq!(LOST.get() - before, 3);
    }
}
