//! What this worker has, for whoever asks.

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_protocol::held::MAX_HELD;
use crewfleet_protocol::{HeldKickoff, HeldState, KickoffId, KickoffsAsked};

use super::RunRegistry;
use super::state::{ActiveRun, Unsettled, lock};
use crate::intake::completed::Completion;
use crate::intake::run_key::RunKey;

impl<R: Unsettled> RunRegistry<R> {
    /// The kickoffs that are asked for, those first that were requested first, and how many there is no room for. One that
    /// has ended is told of only where it is asked for by its id.
    pub(crate) fn held(&self, asked: &KickoffsAsked) -> (Vec<HeldKickoff>, u64) {
        let mut found = match &asked.kickoff_id {
            Some(id) => KickoffId::parse(id).map_or_else(|_| Vec::new(), |id| self.held_of(&id)),
            None => self.all_held(),
        };
        let wanted = |held: &HeldKickoff| {
            let crew = asked.crew.as_deref();
            crew.is_none_or(|crew| held.crew.as_deref().is_none_or(|of| of == crew))
        };
        found.retain(wanted);
        found.sort_by_key(|held| held.requested_at);
        let left_out = found.len().saturating_sub(MAX_HELD);
        found.truncate(MAX_HELD);
        (found, left_out as u64)
    }

    fn all_held(&self) -> Vec<HeldKickoff> {
        let state = lock(&self.state);
        state.running.iter().map(present).collect()
    }

    fn held_of(&self, id: &KickoffId) -> Vec<HeldKickoff> {
        let keys = RunKey::all_of(id);
        let state = lock(&self.state);
        let running = state.running.range(keys.clone()).map(present);
        let mut found: Vec<_> = running.collect();
        state.completed.any(keys, |key, ended| {
            found.push(past(key, ended));
            false
        });
        found
    }
}

fn present<R>((key, running): (&RunKey, &ActiveRun<R>)) -> HeldKickoff {
    let state = match running.started {
        None => HeldState::Waiting,
        Some(_) if running.stop.initialized() => HeldState::Stopping,
        Some(_) => HeldState::Running,
    };
    HeldKickoff {
        kickoff_id: key.kickoff_id.to_string(),
        crew: Some(running.crew.to_string()),
        state,
        attempt: Some(running.attempt),
        redrive: key.redrive,
        requested_at: running.requested_at,
        started_at: running.started.map(|started| ago(started.elapsed())),
        body_hash: key.body_hash(),
        chain: running.place.clone(),
    }
}

fn ago(elapsed: std::time::Duration) -> DateTime<Utc> {
    Utc::now() - TimeDelta::from_std(elapsed).unwrap_or_default()
}

fn past(key: &RunKey, ended: &Completion) -> HeldKickoff {
    let (state, attempt) = match ended {
        Completion::Replied(_) => (HeldState::Ended, None),
        Completion::Retried { attempt } => (HeldState::Retrying, Some(*attempt)),
    };
    HeldKickoff {
        kickoff_id: key.kickoff_id.to_string(),
        crew: None,
        state,
        attempt,
        redrive: key.redrive,
        requested_at: None,
        started_at: None,
        body_hash: key.body_hash(),
        chain: None,
    }
}
