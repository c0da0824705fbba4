//! The processes of one program: its group, and whatever left it.

use std::io;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::runtime::Handle;

use crate::resources::process_handle::ProcessHandle;
use crate::resources::processes;

/// Killed for certain when this is dropped.
///
/// Its number is the leader's, and may be that of strangers once the leader's end is awaited and no other process is in
/// the group: nothing is signalled from then on.
pub(super) struct ProcessGroup {
    /// Dropped after the group is killed, for it may then be awaited by the runtime.
    child: Child,
    leader: ProcessHandle,
    awaited: bool,
    run_id: String,
}

impl ProcessGroup {
    /// The group that `child` leads; all its processes carry `run_id` in their environment.
    ///
    /// # Errors
    /// When there are no descriptors left; then `child` is killed.
    pub(super) fn new(child: Child, run_id: String) -> io::Result<Self> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let leader = ProcessHandle::of_child(pid.unwrap_or_default())?;
        Ok(Self {
            child,
            leader,
            awaited: false,
            run_id,
        })
    }

    /// Its pipes are taken from it.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process that leads it.
    pub(super) fn leader(&self) -> &ProcessHandle {
        &self.leader
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Kills the group.
    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Kills the group and what left it, and awaits the leader's end.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let run_id = self.run_id.clone();
        // The thread cannot panic, and the runtime outlives the kickoffs.
        let _ = tokio::task::spawn_blocking(move || processes::kill_marked(&run_id)).await;
        self.awaited = true;
        self.child.wait().await
    }

    fn signal(&self, signal: Signal) {
        if !self.awaited {
            // Nobody is left in the group: then there is nothing to do.
            let _ = killpg(Pid::from_raw(self.leader.pid()), signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        if let Ok(runtime) = Handle::try_current() {
            let run_id = std::mem::take(&mut self.run_id);
            runtime.spawn_blocking(move || processes::kill_marked(&run_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use tokio::io::AsyncReadExt;
    use tokio::process::Command;

    use super::*;

    fn group(script: &str) -> ProcessGroup {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        ProcessGroup::new(command.spawn().unwrap(), "run".into()).unwrap()
    }

    #[tokio::test]
    async fn what_a_leader_leaves_in_its_group_is_killed_while_the_number_is_the_leader_s() {
        let mut group = group("cat <&0 & exit 3");
        let mut stdout = group.child().stdout.take().unwrap();
        group.leader().ended().await.unwrap();
        assert_eq!(group.end().await.unwrap().code(), Some(3));
        // Nobody holds the pipe any more.
        assert_eq!(stdout.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_group_whose_number_is_free_again_is_signalled_no_more() {
        let mut ended = group("exit 0");
        assert!(ended.end().await.is_ok());
        let mut stranger = group("read line");
        // As if the stranger had got the number.
        ended.leader = stranger.leader().clone();
        ended.kill();
        ended.terminate();
        drop(ended);
        let stdin = stranger.child().stdin.take();
        drop(stdin);
        stranger.leader().ended().await.unwrap();
        let status = stranger.child().wait().await.unwrap();
        assert_eq!((status.signal(), status.code()), (None, Some(1)));
    }
}
