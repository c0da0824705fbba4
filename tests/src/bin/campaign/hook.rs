//! The receiver of the campaign's webhooks: it fails half of the time, and at times hangs.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crewfleet_tests::receiver::{Answer, Call, Receiver};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::journal::{Journal, Nanos, now};

/// The file of the calls.
pub(crate) const FILE: &str = "hook.jsonl";
/// So many failures in a row at most: a host with ten is left alone for half a minute, by design.
const IN_A_ROW: u32 = 6;
/// So often one call fails at most: a third failure would put it off for minutes.
const OF_ONE: u32 = 2;
/// What says "later", and "broken".
const FAILURES: [u16; 4] = [500, 502, 503, 429];

/// A call of a webhook, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hooked {
    /// When.
    pub t: Nanos,
    /// The `webhook-id`.
    pub id: String,
    /// The kickoff that has ended.
    pub kickoff: String,
    /// The status; `None`: never anything.
    pub status: Option<u16>,
}

impl Hooked {
    /// Whether the receiver has taken it.
    pub(crate) fn is_taken(&self) -> bool {
        self.status == Some(200)
    }
}

/// The receiver, and until when it lets a call fail twice.
pub(crate) struct Hook {
    receiver: Receiver,
    patient_until: Arc<AtomicU64>,
}

struct Mood {
    random: Rng,
    in_a_row: u32,
    failed: BTreeMap<String, u32>,
}

impl Hook {
    /// Starts it.
    pub(crate) async fn start(seed: u64, folder: &Path) -> anyhow::Result<Self> {
        let journal = Journal::open(&folder.join(FILE))?;
        let patient_until = Arc::new(AtomicU64::new(0));
        let until = Arc::clone(&patient_until);
        let mood = Mutex::new(Mood {
            random: Rng::with_seed(seed),
            in_a_row: 0,
            failed: BTreeMap::new(),
        });
        let rule = move |call: &Call, _before: usize| {
            let is_patient = now() < until.load(Ordering::Relaxed);
            let answer = mood
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .answer(call.id(), is_patient);
            journal.write(&Hooked {
                t: now(),
                id: call.id().to_owned(),
                kickoff: call.json()["kickoff_id"].as_str().unwrap_or("none").to_owned(),
                status: match answer {
                    Answer::Status(status) => Some(status),
                    _ => None,
                },
            });
            answer
        };
        Ok(Self {
            receiver: Receiver::start(rule).await,
            patient_until,
        })
    }

    /// A call that has failed once may fail again until then: what comes of it is tried half a minute later.
    pub(crate) fn be_patient_until(&self, until: Nanos) {
        self.patient_until.store(until, Ordering::Relaxed);
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn addr(&self) -> String {
        self.receiver.addr()
    }

    /// What is to be called.
    pub(crate) fn url(&self) -> String {
        self.receiver.url("ended")
    }
}

impl Mood {
    fn answer(&mut self, id: &str, is_patient: bool) -> Answer {
        let failed = self.failed.entry(id.to_owned()).or_default();
        let may_fail = *failed < if is_patient { OF_ONE } else { 1 };
        if !may_fail || self.in_a_row == IN_A_ROW || self.random.bool() {
            self.in_a_row = 0;
            return Answer::Status(200);
        }
        *failed += 1;
        self.in_a_row += 1;
        match self.random.usize(0..10) {
            0 => Answer::Hang,
            _ => Answer::Status(FAILURES[self.random.usize(0..FAILURES.len())]),
        }
    }
}
