//! What a process writes.

use std::io::{BufRead, BufReader, Read};
use std::thread;

use tokio::{sync::watch, time::timeout};

use crate::PATIENCE;

/// Lines that a process writes, kept from the first to the last.
#[derive(Debug)]
pub struct Lines {
    name: String,
    state: watch::Receiver<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub(super) fn read(name: String, from: impl Read + Send + 'static) -> Self {
        let (sender, state) = watch::channel(State::default());
        thread::spawn(move || {
            let mut reader = BufReader::with_capacity(64 * 1024, from);
            let (mut line, mut lines) = (Vec::new(), Vec::new());
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
                line.clear();
                // What came together is told together.
                if !reader.buffer().contains(&b'\n') {
                    sender.send_modify(|state| state.lines.append(&mut lines));
                }
            }
            sender.send_modify(|state| state.ended = true);
        });
        Self { name, state }
    }

    /// All lines so far.
    pub fn so_far(&self) -> Vec<String> {
        self.state.borrow().lines.clone()
    }

    /// Waits for the first line, written before or after this call, of which `matches` makes something.
    pub async fn first<T>(&self, what: &str, mut matches: impl FnMut(&str) -> Option<T>) -> T {
        let mut state = self.state.clone();
        let mut seen = 0;
        let search = async {
            loop {
                {
                    let now = state.borrow_and_update();
                    if let Some(found) = now.lines[seen..].iter().find_map(|line| matches(line)) {
                        return Some(found);
                    }
                    seen = now.lines.len();
                    if now.ended {
                        return None;
                    }
                }
                state.changed().await.ok()?;
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{what} never came: the output has ended.\n{}", self.tail()),
            Err(_) => panic!("{what} does not come.\n{}", self.tail()),
        }
    }

    /// The last 50 lines under a heading, for a message.
    pub fn tail(&self) -> String {
        let lines = self.so_far();
        let tail = &lines[lines.len().saturating_sub(50)..];
        format!(
            "{}, last {} of {} lines:\n{}",
            self.name,
            tail.len(),
            lines.len(),
            tail.join("\n")
        )
    }

    pub(super) async fn end(&self) {
        let mut state = self.state.clone();
        // A grandchild that holds the pipe would keep it open for ever.
        if timeout(PATIENCE, state.wait_for(|state| state.ended))
            .await
            .is_err()
        {
            panic!("{} is kept open by somebody", self.name);
        }
    }
}
