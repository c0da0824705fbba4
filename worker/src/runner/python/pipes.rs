//! A child's stdout and stderr, as they come to us.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::runner::KickoffContext;
use crate::runner::output::Lines;

/// How much is read of what a kickoff left in a pipe after its answer: twice what a pipe holds. A thread that it left
/// behind may write for ever.
const MAX_LEFT: usize = 128 * 1024;

/// Our end of one of the child's output streams.
pub(super) struct Output {
    pipe: Option<pipe::Receiver>,
    buffer: Vec<u8>,
}

impl Output {
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (sender, receiver) = pipe::pipe()?;
        Ok((
            Self {
                pipe: Some(receiver),
                buffer: vec![0; 16 * 1024],
            },
            sender.into_blocking_fd()?,
        ))
    }

    /// Reads what is there, waiting for some; at its end it waits for ever, since the channel says the rest.
    pub(super) async fn read_into(&mut self, lines: &mut Lines) {
        let Some(pipe) = &mut self.pipe else {
            return std::future::pending().await;
        };
        match pipe.read(&mut self.buffer).await {
            Ok(read @ 1..) => lines.push(&self.buffer[..read]),
            _ => self.pipe = None,
        }
    }

    /// Reads what is there, without waiting.
    pub(super) fn drain(&mut self, lines: &mut Lines) {
        let mut left = 0;
        while let Some(pipe) = self.pipe.as_ref().filter(|_| left < MAX_LEFT) {
            match pipe.try_read(&mut self.buffer) {
                Ok(read @ 1..) => {
                    lines.push(&self.buffer[..read]);
                    left += read;
                }
                _ => return,
            }
        }
    }
}

/// What the crew prints, on both streams.
pub(super) fn lines(context: &KickoffContext) -> (Lines, Lines) {
    let events = || Some(context.events.clone());
    (Lines::new("stdout", events()), Lines::new("stderr", events()))
}
