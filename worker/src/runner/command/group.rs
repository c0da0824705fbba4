//! The processes of one program: its group, and whatever left it.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::runtime::Handle;

use crate::processes;

/// Killed for certain when this is dropped.
pub(super) struct ProcessGroup {
    leader: Option<Pid>,
    run_id: String,
}

impl ProcessGroup {
    /// The group that `child` leads; all its processes carry `run_id` in their environment.
    pub(super) fn new(child: &Child, run_id: String) -> Self {
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Self { leader, run_id }
    }

    /// The leader's process id.
    pub(super) fn leader(&self) -> i32 {
        self.leader.map_or(0, Pid::as_raw)
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Kills the group.
    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Kills the group and what left it, and waits until that is done.
    pub(super) async fn kill_all(&self) {
        self.kill();
        let run_id = self.run_id.clone();
        // The thread cannot panic, and the runtime outlives the kickoffs.
        let _ = tokio::task::spawn_blocking(move || processes::kill_marked(&run_id)).await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // Nobody is left in the group: then there is nothing to do.
            let _ = killpg(leader, signal);
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
