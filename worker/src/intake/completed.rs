//! What this process has finished lately: replies, and attempts that were handed on to the next.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::intake::run_key::RunKey;

/// How many kickoffs are remembered. What comes again does so soon: what was unacked when a connection was lost, or
/// what a producer in doubt has published twice. More would only make a long-lived worker larger.
const MEMORY_COUNT: usize = 5_000;
/// How many bytes of replies are remembered.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// How a kickoff went out of this process.
#[derive(Debug, Clone)]
pub(crate) enum Completion {
    /// It was answered, with this body.
    Replied(Arc<[u8]>),
    /// The attempt that follows this one is in a retry tier, confirmed.
    Retried {
        /// The attempt that ended here.
        attempt: u32,
    },
}

impl Completion {
    /// Whether a delivery of this attempt (of an unknown one: `None`) has nothing left to do.
    pub(crate) fn settles(&self, attempt: Option<u32>) -> bool {
        match self {
            Self::Replied(_) => true,
            Self::Retried { attempt: ended } => attempt.is_some_and(|attempt| attempt <= *ended),
        }
    }
}

/// A bounded memory; the oldest goes first. It is no `lru` or `moka` cache, since those find one key, and [`Self::any`]
/// looks at all keys of an id: they would stand beside the ordered map, not in its place.
#[derive(Default)]
pub(crate) struct CompletedRuns {
    ended: BTreeMap<Arc<RunKey>, Completion>,
    order: VecDeque<Arc<RunKey>>,
    bytes: usize,
}

impl CompletedRuns {
    /// What is known of a kickoff.
    pub(crate) fn get(&self, key: &RunKey) -> Option<&Completion> {
        self.ended.get(key)
    }

    /// Whether any of these has ended here in such a way.
    pub(crate) fn any(
        &self,
        keys: RangeInclusive<RunKey>,
        mut matches: impl FnMut(&RunKey, &Completion) -> bool,
    ) -> bool {
        self.ended
            .range::<RunKey, _>(keys)
            .any(|(key, ended)| matches(key, ended))
    }

    /// Remembers how a kickoff ended. What is too large is not worth what it would push out.
    pub(crate) fn remember(&mut self, key: RunKey, ended: Completion) {
        if size(&ended) > MEMORY_BYTES / 4 {
            return;
        }
        self.bytes += size(&ended);
        let key = Arc::new(key);
        if let Some(previous) = self.ended.insert(Arc::clone(&key), ended) {
            self.bytes -= size(&previous);
        } else {
            self.order.push_back(key);
        }
        while self.bytes > MEMORY_BYTES || self.order.len() > MEMORY_COUNT {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.bytes -= self.ended.remove(&oldest).as_ref().map_or(0, size);
        }
    }
}

fn size(ended: &Completion) -> usize {
    match ended {
        Completion::Replied(reply) => reply.len(),
        Completion::Retried { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use crewfleet_amqp::Properties;
    use crewfleet_protocol::{CrewName, decode};

    use super::*;

    fn key(id: usize) -> RunKey {
        let properties = Properties::default().with_correlation_id(&format!("k{id}"));
        let (body, crew) = (br#"{"inputs": {}}"#, CrewName::parse("c").unwrap());
        RunKey::new(&decode(body, &properties, &crew, 100).unwrap(), body)
    }

    #[test]
    fn the_oldest_goes_first_by_count_and_by_bytes() {
        let answered = |bytes: usize| Completion::Replied(vec![0; bytes].into());
        let mut memory = CompletedRuns::default();
        for id in 0..MEMORY_COUNT + 1 {
            memory.remember(key(id), answered(1));
        }
        assert!(memory.get(&key(0)).is_none() && memory.get(&key(1)).is_some());
        for id in 0..4 {
            memory.remember(key(id), answered(MEMORY_BYTES / 4));
        }
        // The small ones, one of which has grown, are gone; four quarters fit.
        assert_eq!((memory.ended.len(), memory.order.len()), (4, 4));
        assert_eq!(memory.bytes, MEMORY_BYTES);
        memory.remember(key(9), answered(MEMORY_BYTES / 4 + 1));
        assert!(memory.get(&key(9)).is_none() && memory.get(&key(0)).is_some());
        memory.remember(key(9), Completion::Retried { attempt: 1 });
        assert!(memory.get(&key(9)).is_some());
    }
}
