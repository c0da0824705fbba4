//! A process, by a descriptor that means this one for ever (pidfd_open(2)). A number may be another process's as soon as
//! somebody has awaited the end of the first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use procfs::ProcError;
use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};

/// A process that was ours when this was made. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ProcessHandle {
    pid: i32,
    /// `None`: it has ended, and has no number any more.
    fd: Option<Arc<OwnedFd>>,
}

impl ProcessHandle {
    /// Of a child of this process that nobody has awaited.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn of_child(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
        let fd = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self {
            pid,
            fd: Some(Arc::new(fd)),
        })
    }

    /// Of a process that another one has started at `start_ticks`, as the kernel counts, and may have awaited since.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn of_another(pid: i32, start_ticks: u64) -> io::Result<Self> {
        let gone = Self { pid, fd: None };
        let handle = match Self::of_child(pid) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(gone),
            handle => handle?,
        };
        // Read after the descriptor was made: what has the number now had it then.
        Ok(match start_ticks_of(pid)? == Some(start_ticks) {
            true => handle,
            false => gone,
        })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it SIGKILL; returns whether it was there.
    pub(crate) fn kill(&self) -> bool {
        let sent = self.fd.as_ref().map(|fd| pidfd_send_signal(fd, Signal::KILL));
        sent.is_some_and(|sent| sent.is_ok())
    }

    /// Waits for the end of a child of this process, and leaves it to be awaited: until then its number is its own.
    ///
    /// # Errors
    /// When it is no child of this process, or was awaited already.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        let fd = self.fd.as_ref().ok_or(Errno::CHILD)?;
        // Before the first look, so that nothing is missed in between. tokio's AsyncFd takes only unsafe code's word.
        let mut ends = signal(SignalKind::child())?;
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while waitid(Id::PIDFd(fd.as_fd()), look)? == WaitStatus::StillAlive {
            ends.recv().await;
        }
        Ok(())
    }
}

/// When a process started; `None` when there is none of this number.
fn start_ticks_of(pid: i32) -> io::Result<Option<u64>> {
    match Process::new(pid).and_then(|process| process.stat()) {
        Ok(stat) => Ok(Some(stat.starttime)),
        Err(ProcError::NotFound(_)) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Kills a process when it is dropped, unless it is disarmed before. What the process leaves behind, its spawner kills.
pub(crate) struct KillOnDrop(Option<ProcessHandle>);

impl KillOnDrop {
    pub(crate) fn new(process: &ProcessHandle) -> Self {
        Self(Some(process.clone()))
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn waiting() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        child.id().try_into().unwrap()
    }

    #[tokio::test]
    async fn an_end_is_seen_and_leaves_the_number_as_it_is() {
        let mut child = waiting();
        let handle = ProcessHandle::of_child(pid(&child)).unwrap();
        assert!(handle.kill());
        handle.ended().await.unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        assert!(stat.contains(") Z "), "nobody has awaited it: {stat}");
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!handle.kill(), "there is nobody left");
    }

    #[test]
    fn another_process_of_the_number_is_let_be() {
        let mut child = waiting();
        let ticks = start_ticks_of(pid(&child)).unwrap().unwrap();
        // As if the one that was meant had ended, and its number were this one's now.
        assert!(!ProcessHandle::of_another(pid(&child), ticks - 1).unwrap().kill());
        assert!(child.try_wait().unwrap().is_none());
        assert!(ProcessHandle::of_another(pid(&child), ticks).unwrap().kill());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!ProcessHandle::of_another(pid(&child), ticks).unwrap().kill());
    }
}
