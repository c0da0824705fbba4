//! Reading the queues of dead letters, without taking anything away.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::browse::{Browse, Browsing};
use crewfleet_amqp::{BrokerError, Delivery, Link};
use crewfleet_protocol::KickoffId;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::access::DeadLetters;
use super::error::DeadLetterError;
use super::groups::{Group, Groups};
use super::letter::{Letter, WholeLetter};
use super::owner::Owner;
use super::selection::Selection;
use crate::error::ClientError;

/// What a look at one queue met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrowsedQueue {
    /// The queue.
    pub queue: String,
    /// Its crew, or its sink; `None` for the queue of what no crew's queue takes.
    pub crew: Option<Owner>,
    /// How many letters were seen; `None`: there is no such queue.
    pub letters: Option<u64>,
    /// How many consumers of somebody else's there were (a shovel, a script): what they hold was not seen.
    pub others: u32,
    /// How many letters went to such consumers in between.
    pub missed: u32,
    /// How many letters were not looked at, since that would have taken more than it [may](super::Looking).
    pub unseen: u32,
}

/// Dead letters in groups.
#[derive(Debug, Clone)]
pub struct Listing {
    /// By crew, reason and fingerprint.
    pub groups: Vec<Group>,
    /// Where we looked.
    pub queues: Vec<BrowsedQueue>,
}

impl DeadLetters {
    /// The letters of these crews and sinks, and of no crew's queue, in groups.
    ///
    /// # Errors
    /// [`DeadLetterError`]; [`ClientError::NotDeclared`] when none of the queues exists, [`ClientError::NoSuchCrew`]
    /// when the selection names a crew that has neither a queue nor a letter.
    pub async fn list(&self, crews: &[Owner], selection: &Selection) -> Result<Listing, DeadLetterError> {
        let mut groups = Groups::default();
        let each = |letter: Letter, delivery: Delivery| {
            if selection.selects_delivery(&letter, &delivery.body) {
                groups.add(&letter);
            }
        };
        let queues = self.read_all(crews, each).await?;
        let groups = groups.into_sorted();
        self.check_named(selection, &queues, &groups)?;
        Ok(Listing { groups, queues })
    }

    /// Each of the selected letters, the last that died first, without their requests.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn letters(
        &self,
        crews: &[Owner],
        selection: &Selection,
    ) -> Result<(Vec<Letter>, Vec<BrowsedQueue>), DeadLetterError> {
        let (mut letters, mut groups) = (Vec::new(), Groups::default());
        let each = |letter: Letter, delivery: Delivery| {
            if selection.selects_delivery(&letter, &delivery.body) {
                groups.add(&letter);
                letters.push(letter);
            }
        };
        let queues = self.read_all(crews, each).await?;
        self.check_named(selection, &queues, &groups.into_sorted())?;
        letters.sort_by_key(|letter| Reverse(letter.order()));
        Ok((letters, queues))
    }

    /// The letters of a kickoff: several, where it was redriven while an earlier letter was kept.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn show(
        &self,
        crews: &[Owner],
        id: &KickoffId,
    ) -> Result<(Vec<WholeLetter>, Vec<BrowsedQueue>), DeadLetterError> {
        let selection = Selection {
            kickoff_id: Some(id.clone()),
            ..Selection::default()
        };
        self.show_selected(crews, &selection).await
    }

    /// The selected letters with their requests. All of them are in memory: select one kickoff's.
    ///
    /// # Errors
    /// As [`Self::list`], but for crews that there are not.
    pub async fn show_selected(
        &self,
        crews: &[Owner],
        selection: &Selection,
    ) -> Result<(Vec<WholeLetter>, Vec<BrowsedQueue>), DeadLetterError> {
        let mut found = Vec::new();
        let each = |letter: Letter, delivery: Delivery| {
            if selection.selects_delivery(&letter, &delivery.body) {
                found.push(WholeLetter::read(letter, delivery));
            }
        };
        let queues = self.read_all(crews, each).await?;
        Ok((found, queues))
    }

    /// A crew that is named, and has neither a queue nor a letter elsewhere, is a mistake in its name.
    pub(super) fn check_named(
        &self,
        selection: &Selection,
        queues: &[BrowsedQueue],
        groups: &[Group],
    ) -> Result<(), DeadLetterError> {
        let has_queue = |crew: &Owner| {
            let queue = crew.dead_letter_queue(self.client.names());
            queues
                .iter()
                .any(|browse| browse.queue == queue && browse.letters.is_some())
        };
        let has_letter = |crew: &Owner| groups.iter().any(|group| group.crew == crew.to_string());
        let mut named = selection.crews.iter();
        match named.find(|crew| !has_queue(crew) && !has_letter(crew)) {
            Some(crew) => Err(DeadLetterError::Client(ClientError::NoSuchCrew {
                crew: crew.to_string(),
                exchange: self.client.names().dead_letters(),
                broker: self.client.broker().endpoint().to_string(),
            })),
            None => Ok(()),
        }
    }

    /// Shows every letter to `each`, queue by queue.
    pub(super) async fn read_all(
        &self,
        crews: &[Owner],
        mut each: impl FnMut(Letter, Delivery),
    ) -> Result<Vec<BrowsedQueue>, DeadLetterError> {
        let names = self.client.names();
        let of_crews = crews
            .iter()
            .map(|crew| (crew.dead_letter_queue(names), Some(crew)));
        let mut wanted: Vec<_> = of_crews.collect();
        // A crew may have the very name of the other queue.
        if wanted.iter().all(|(queue, _)| *queue != names.unroutable()) {
            wanted.push((names.unroutable(), None));
        }
        wanted.sort();
        wanted.dedup();
        let (mut looks, mut left) = (Vec::new(), self.looking.letters);
        let end = Instant::now() + self.looking.time;
        for (queue, crew) in wanted {
            let browse = self.read(&queue, left, end, &mut each).await?;
            left = left.saturating_sub(browse.letters.unwrap_or(0));
            looks.push(BrowsedQueue {
                crew: crew.cloned(),
                ..browse
            });
        }
        if looks.iter().all(|browse| browse.letters.is_none()) {
            return Err(DeadLetterError::Client(ClientError::NotDeclared {
                exchange: names.dead_letters(),
                broker: self.client.broker().endpoint().to_string(),
            }));
        }
        Ok(looks)
    }

    async fn read(
        &self,
        queue: &str,
        most: u64,
        end: Instant,
        each: &mut impl FnMut(Letter, Delivery),
    ) -> Result<BrowsedQueue, DeadLetterError> {
        let not_looked_at = |letters, unseen| BrowsedQueue {
            queue: queue.to_owned(),
            crew: None,
            letters,
            others: 0,
            missed: 0,
            unseen,
        };
        if most == 0 || Instant::now() >= end {
            let state = self.connected().await?.queue_state(queue).await?;
            let unseen = state.as_ref().map_or(0, |state| state.messages);
            return Ok(not_looked_at(state.map(|_| 0), unseen));
        }
        let Some(mut browse) = self.browse(queue, self.looking.window).await? else {
            return Ok(not_looked_at(None, 0));
        };
        let mut letters = 0;
        while letters < most {
            let Ok(next) = timeout_at(end, browse.next()).await else {
                break;
            };
            let Some(delivery) = next? else {
                break;
            };
            letters += 1;
            each(Letter::read(&delivery, queue), delivery);
        }
        let seen = BrowsedQueue {
            queue: queue.to_owned(),
            crew: None,
            letters: Some(letters),
            others: browse.others(),
            missed: browse.missed(),
            unseen: browse.left(),
        };
        browse.close().await?;
        Ok(seen)
    }

    /// Begins a browse, after waiting a little for one that somebody else has begun; `None`: no such queue.
    pub(super) async fn browse(
        &self,
        queue: &str,
        window: u16,
    ) -> Result<Option<Box<Browse>>, DeadLetterError> {
        // A client's own queue, for whoever grants permissions by prefix.
        let lock = self.client.names().client_queue(&format!("looking-at.{queue}"));
        let end = Instant::now() + self.looking.patience;
        loop {
            match self.connected().await?.browse(queue, &lock, window).await? {
                Browsing::At(browse) => return Ok(Some(browse)),
                Browsing::NoQueue => return Ok(None),
                Browsing::Busy if Instant::now() < end => sleep(Duration::from_millis(200)).await,
                Browsing::Busy => {
                    return Err(DeadLetterError::Busy {
                        queue: queue.to_owned(),
                    });
                }
            }
        }
    }

    async fn connected(&self) -> Result<Arc<Link>, BrokerError> {
        let connected = timeout(self.looking.patience, self.client.broker().connected());
        connected.await.map_err(|_| BrokerError::Disconnected {
            action: "look at dead letters".into(),
        })
    }
}
