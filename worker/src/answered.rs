//! What this process has finished lately: replies, and attempts that were handed on to the next.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crewfleet_shared::amqp::Message;

use crate::in_flight::RunKey;

/// How many bytes are remembered.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// What an entry takes beside its body.
const ENTRY_BYTES: usize = 1024;

/// How a kickoff went out of this process.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It was answered, with this.
    Answered(Arc<Message>),
    /// The attempt that follows this one is in a retry tier, confirmed.
    HandedOn {
        /// The attempt that ended here.
        attempt: u32,
    },
}

impl Ended {
    /// Whether a delivery of this attempt (of an unknown one: `None`) has nothing left to do.
    pub fn settles(&self, attempt: Option<u32>) -> bool {
        match self {
            Self::Answered(_) => true,
            Self::HandedOn { attempt: ended } => attempt.is_some_and(|attempt| attempt <= *ended),
        }
    }
}

/// A bounded memory; the oldest goes first.
#[derive(Default)]
pub struct Answered {
    ended: BTreeMap<RunKey, Ended>,
    order: VecDeque<RunKey>,
    bytes: usize,
}

impl Answered {
    /// What is known of a kickoff.
    pub fn get(&self, key: &RunKey) -> Option<&Ended> {
        self.ended.get(key)
    }

    /// Whether any of these has ended here in such a way.
    pub fn any(
        &self,
        keys: RangeInclusive<RunKey>,
        mut matches: impl FnMut(&RunKey, &Ended) -> bool,
    ) -> bool {
        self.ended.range(keys).any(|(key, ended)| matches(key, ended))
    }

    /// Remembers how a kickoff ended. What is too large is not worth what it would push out.
    pub fn remember(&mut self, key: RunKey, ended: Ended) {
        if size(&ended) > MEMORY_BYTES / 4 {
            return;
        }
        self.bytes += size(&ended);
        if let Some(previous) = self.ended.insert(key.clone(), ended) {
            self.bytes -= size(&previous);
        } else {
            self.order.push_back(key);
        }
        while self.bytes > MEMORY_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.bytes -= self.ended.remove(&oldest).as_ref().map_or(0, size);
        }
    }
}

fn size(ended: &Ended) -> usize {
    ENTRY_BYTES
        + match ended {
            Ended::Answered(reply) => reply.body.len(),
            Ended::HandedOn { .. } => 0,
        }
}
