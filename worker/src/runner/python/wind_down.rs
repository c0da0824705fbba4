//! What a child does between its answer and its end: the crew's threads are joined, its exit handlers run. The reply
//! does not wait for it.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::child::Child;
use super::frames::{Bare, ChildEnded};
use super::pipes::lines;
use crate::runner::KickoffContext;
use crate::runner::output::Lines;

/// What a child may take to say that its time is over, and how it ended, beyond that time.
const MARGIN: Duration = Duration::from_secs(3);

impl Child {
    /// After an answer: waits while the child joins the crew's threads and runs its exit handlers, for `grace` and a
    /// little more. Returns what had to be cut. A child that is [`usable`](Self::usable) afterwards may take another
    /// kickoff.
    pub(super) async fn wind_down(&mut self, context: &KickoffContext, grace: Duration) -> Vec<String> {
        let (mut out, mut err) = lines(context);
        let ended = timeout(grace + MARGIN, self.child_ended(&mut out, &mut err)).await;
        self.stdout.drain(&mut out);
        self.stderr.drain(&mut err);
        out.finish();
        err.finish();
        let ChildEnded {
            cut,
            reusable,
            threads_left,
            killed_descendants,
        } = ended.unwrap_or_else(|_| ChildEnded {
            cut: vec!["the child's whole end: it did not answer any more".into()],
            ..ChildEnded::default()
        });
        if threads_left > 0 || killed_descendants > 0 {
            debug!(
                threads_left,
                killed_descendants, "the kickoff left something running"
            );
        }
        self.usable = reusable;
        if !reusable {
            self.ended().await;
        }
        cut
    }

    /// The frame "ended"; a child that dies instead has cut nothing that anybody could name.
    async fn child_ended(&mut self, out: &mut Lines, err: &mut Lines) -> ChildEnded {
        loop {
            tokio::select! {
                frame = self.receiver.next() => match frame {
                    Some(Ok(frame)) if frame.kind == "ended" => return frame.parse().unwrap_or_default(),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return ChildEnded::default(),
                },
                () = self.stdout.read_into(out) => {}
                () = self.stderr.read_into(err) => {}
            }
        }
    }

    /// Tells an idle child to end as after its last kickoff.
    pub(super) async fn dismiss(&mut self) {
        self.usable = false;
        // It may be dead already.
        let _ = self.sender.send(&Bare { kind: "end" }).await;
    }

    /// Whether it has run a kickoff whose exit handlers have not run yet.
    pub(super) fn has_served(&self) -> bool {
        self.served > 0
    }
}
