//! The selected letters, as they were at one moment, and the walk over them.
//!
//! A redrive or a purge first reads all that is there, and then acts on that and nothing else: a letter that comes
//! meanwhile (a redriven kickoff that failed again at once) is not in the plan, so every run ends.

use std::collections::HashMap;

use crewfleet_amqp::browse::Browse;
use crewfleet_amqp::{BrokerError, Delivery, reply_code};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::access::DeadLetters;
use super::error::DeadLetterError;
use super::groups::{Group, Groups};
use super::letter::{Letter, Marks};
use super::owner::Owner;
use super::queues::BrowsedQueue;
use super::selection::Selection;

/// How many messages are on their way to us at once. What waits for its turn here waits with its body.
const ACTING: u16 = 200;

/// How often in a row a walk may lose its connection before it got anywhere.
const LOSSES: u32 = 5;

/// The selected letters.
#[derive(Debug)]
pub struct Plan {
    /// The letters in groups.
    pub groups: Vec<Group>,
    /// Where we looked.
    pub queues: Vec<BrowsedQueue>,
    pub(super) parts: Vec<Part>,
    /// For each kickoff the highest redrive that is among the letters, selected or not.
    pub(super) latest: HashMap<u64, u32>,
}

/// The selected letters of one queue.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) queue: String,
    pub(super) letters: HashMap<u64, Planned>,
}

/// One selected letter, or several that nothing tells apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) redrive: u32,
    pub(super) marks: Marks,
    pub(super) copies: u64,
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It leaves the queue.
    Settle,
    /// It stays.
    Keep,
}

impl Plan {
    /// How many letters.
    pub fn letters(&self) -> u64 {
        self.parts.iter().map(Part::letters).sum()
    }

    /// Takes letters out of the plan, and says how many.
    pub(super) fn without(&mut self, unwanted: impl Fn(&Planned) -> bool) -> u64 {
        let before = self.letters();
        for part in &mut self.parts {
            part.letters.retain(|_, planned| !unwanted(planned));
        }
        before - self.letters()
    }

    /// Whether a kickoff has been redriven already and died again: then this letter is what an interrupted redrive
    /// left behind, and the later letter tells the rest.
    pub(super) fn is_superseded(&self, marks: &Marks, redrive: u32) -> bool {
        let latest = marks.kickoff.and_then(|kickoff| self.latest.get(&kickoff));
        latest.is_some_and(|latest| *latest > redrive)
    }
}

impl Part {
    fn letters(&self) -> u64 {
        self.letters.values().map(|planned| planned.copies).sum()
    }

    /// One of the planned letters is done with.
    fn done(&mut self, identity: u64) {
        if let Some(planned) = self.letters.get_mut(&identity) {
            planned.copies -= 1;
            if planned.copies == 0 {
                self.letters.remove(&identity);
            }
        }
    }
}

impl DeadLetters {
    /// Reads which letters are selected now, for [`Self::redrive`] or [`Self::purge`]. Takes some 100 bytes of memory
    /// a letter.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn plan(&self, crews: &[Owner], selection: &Selection) -> Result<Plan, DeadLetterError> {
        let (mut groups, mut parts, mut latest) = (Groups::default(), Vec::<Part>::new(), HashMap::new());
        let each = |letter: Letter, delivery: Delivery| {
            let marks = letter.marks;
            if let Some(kickoff) = marks.kickoff {
                let latest = latest.entry(kickoff).or_insert(letter.redrive);
                *latest = letter.redrive.max(*latest);
            }
            if !selection.selects_delivery(&letter, &delivery.body) {
                return;
            }
            groups.add(&letter);
            if parts.last().is_none_or(|part| part.queue != letter.queue) {
                parts.push(Part {
                    queue: letter.queue.clone(),
                    letters: HashMap::new(),
                });
            }
            if let Some(part) = parts.last_mut() {
                let planned = part.letters.entry(marks.identity).or_insert(Planned {
                    redrive: letter.redrive,
                    marks,
                    copies: 0,
                });
                planned.copies += 1;
            }
        };
        let queues = self.read_all(crews, each).await?;
        let groups = groups.into_sorted();
        self.check_named(selection, &queues, &groups)?;
        Ok(Plan {
            groups,
            queues,
            parts,
            latest,
        })
    }

    /// Walks over the planned letters of a queue, until all are done with or `stop`. Where the connection is lost, or
    /// the broker's consumer timeout passes, what is left is walked over again. Returns how many of them are no longer
    /// in the queue, though nobody here took them out.
    ///
    /// A letter may be given to `step` twice: when it could not be settled the first time.
    pub(super) async fn walk(
        &self,
        part: &mut Part,
        stop: &CancellationToken,
        step: &mut impl AsyncFnMut(&Planned, Letter, &Delivery) -> Result<Step, DeadLetterError>,
    ) -> Result<u64, DeadLetterError> {
        let mut losses = 0;
        while !part.letters.is_empty() && !stop.is_cancelled() {
            let before = part.letters();
            let walked = match self.browse(&part.queue, ACTING.min(self.looking.window)).await {
                Ok(Some(mut browse)) => {
                    let walked = pass(&mut browse, part, stop, step).await;
                    // Also after an error: what was settled by then is to be out.
                    let closed = browse.close().await;
                    walked.and(closed.map_err(DeadLetterError::from))
                }
                Ok(None) => break,
                Err(error) => Err(error),
            };
            let got_on = part.letters() < before;
            losses = if got_on { 0 } else { losses + 1 };
            match walked {
                Ok(()) if got_on => {}
                Ok(()) => break,
                Err(DeadLetterError::Broker(error)) if may_go_on(&error) && losses < LOSSES => {
                    warn!(queue = part.queue, %error, "what is left of the dead letters is read again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(if stop.is_cancelled() { 0 } else { part.letters() })
    }
}

async fn pass(
    browse: &mut Browse,
    part: &mut Part,
    stop: &CancellationToken,
    step: &mut impl AsyncFnMut(&Planned, Letter, &Delivery) -> Result<Step, DeadLetterError>,
) -> Result<(), DeadLetterError> {
    while !part.letters.is_empty() {
        let Some(next) = stop.run_until_cancelled(browse.next()).await else {
            return Ok(());
        };
        let Some(delivery) = next? else {
            return Ok(());
        };
        let letter = Letter::read(&delivery, &part.queue);
        let identity = letter.marks.identity;
        let Some(planned) = part.letters.get(&identity).copied() else {
            continue;
        };
        if step(&planned, letter, &delivery).await? == Step::Settle && !browse.settle(&delivery).await {
            let action = format!("take a dead letter off queue {:?}", part.queue);
            return Err(BrokerError::Disconnected { action }.into());
        }
        part.done(identity);
    }
    Ok(())
}

/// Whether a new look may succeed where this one ended: after a lost connection, also one that an operator has closed,
/// or the consumer timeout.
fn may_go_on(error: &BrokerError) -> bool {
    error
        .code()
        .is_none_or(|code| [reply_code::PRECONDITION_FAILED, reply_code::CONNECTION_FORCED].contains(&code))
}
