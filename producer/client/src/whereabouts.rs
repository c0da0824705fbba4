//! Asking what is known of kickoffs: the workers, the replies that are kept, and the queues.

use std::collections::BTreeSet;
use std::time::Duration;

use crewfleet_protocol::topology::RETRY_TIERS;
use crewfleet_protocol::{Answer, Answered, CrewName, HeldState, KickoffId, KickoffsAsked, Question, Reply};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::handle::KickoffHandle;
use crate::status::{KickoffAt, KickoffStatus, Kickoffs, NONE_ANSWERS, QueueCount, Stage};
use crate::survey::Surveyed;

/// How long the replies that are kept are searched.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// How long they are searched before something is sent.
const GLANCE: Duration = Duration::from_secs(1);

const CANNOT_ASK: &str = "the workers cannot be asked";

/// How often is asked again for a kickoff that nobody knows of, or that may wait in a queue.
const ASKED_AGAIN: Duration = Duration::from_secs(20);

impl KickoffClient {
    /// What is known of a kickoff. `crews` are looked for it beside those that living workers serve.
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub async fn status(&self, id: &KickoffId, crews: &[CrewName]) -> Result<KickoffStatus, ClientError> {
        let mut handle = self.look_back_for(id);
        let mut status = self.whereabouts(&mut handle, crews).await?;
        if status.stage == Stage::Unknown {
            // It may have been on its way from its queue to a worker.
            status = self.whereabouts(&mut handle, crews).await?;
        }
        Ok(status)
    }

    /// What the workers have of kickoffs, of one crew or of all, and how much waits. `crews` are counted beside those that
    /// living workers serve.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn kickoffs(
        &self,
        crew: Option<&CrewName>,
        crews: &[CrewName],
    ) -> Result<Kickoffs, ClientError> {
        let asked = KickoffsAsked {
            kickoff_id: None,
            crew: crew.map(ToString::to_string),
        };
        let mut doubts = Vec::new();
        let surveyed = self.ask_all(asked, |_| false, &mut doubts).await?;
        let left_out = surveyed.answers.iter().map(|answer| match &answer.answer {
            Answered::Kickoffs { left_out, .. } => *left_out,
            _ => 0,
        });
        let left_out = left_out.sum();
        let counted = match crew {
            Some(crew) => BTreeSet::from([crew.clone()]),
            None => served(&surveyed, crews),
        };
        let queues = self.count(&counted).await?;
        let mut paused = paused(&surveyed);
        paused.retain(|name| crew.is_none_or(|crew| crew.as_str() == name));
        let mut kickoffs = held(surveyed);
        kickoffs.sort_by_key(|at| at.kickoff.requested_at);
        Ok(Kickoffs {
            kickoffs,
            left_out,
            queues,
            paused,
            doubts,
        })
    }

    /// What is known of the kickoff of a handle, which looks for its reply itself.
    pub(crate) async fn whereabouts(
        &self,
        handle: &mut KickoffHandle,
        crews: &[CrewName],
    ) -> Result<KickoffStatus, ClientError> {
        let id = handle.id().clone();
        let mut doubts = Vec::new();
        let asked = KickoffsAsked {
            kickoff_id: Some(id.to_string()),
            crew: None,
        };
        let is_enough = |answer: &Answer| match &answer.answer {
            Answered::Kickoffs { kickoffs, .. } => kickoffs.iter().any(|kickoff| kickoff.state.is_present()),
            _ => false,
        };
        let surveyed = self.ask_all(asked, is_enough, &mut doubts).await?;
        let served = served(&surveyed, crews);
        let heard = !surveyed.heard.is_empty();
        let paused = paused(&surveyed);
        let workers = held(surveyed);
        let mut status = KickoffStatus {
            kickoff_id: id,
            stage: Stage::Unseen,
            workers,
            reply: None,
            queues: Vec::new(),
            paused,
            doubts,
        };
        // What became of it before it was redriven is not what is asked about.
        let redrive = status.redrive();
        status.workers.retain(|at| at.kickoff.redrive == redrive);
        // A worker has it for a moment longer than it takes its reply to come here.
        if !handle.is_answered_since(redrive) {
            let present = status.workers.iter().map(|at| at.kickoff.state);
            // Of two that have it, the one that runs it.
            if let Some(state) = present.filter(|state| state.is_present()).max() {
                status.stage = Stage::of(state);
                return Ok(status);
            }
            if timeout(LOOK_LIMIT, handle.looked_back()).await.is_err() {
                status.doubts.push(format!(
                    "the replies that are kept could not be read to their end within {} s",
                    LOOK_LIMIT.as_secs()
                ));
            }
        }
        if handle.is_answered_since(redrive) {
            status.reply = Some(handle.reply().await?);
            status.stage = Stage::Ended;
        } else if let Some(at) = status.workers.first() {
            status.stage = Stage::of(at.kickoff.state);
        } else {
            status.queues = self.count(&served).await?;
            let may_wait = status.queues.iter().any(QueueCount::may_hold_one);
            if heard && status.doubts.is_empty() && !may_wait {
                status.stage = Stage::Unknown;
            }
        }
        Ok(status)
    }

    /// The hash of the request of a kickoff, by whoever has it or has answered it, and who that is.
    pub(crate) async fn body_hash_of(
        &self,
        id: &KickoffId,
        crew: &CrewName,
    ) -> Result<Option<(String, String)>, ClientError> {
        let mut nothing = self.await_own(id);
        let status = self.whereabouts(&mut nothing, std::slice::from_ref(crew)).await?;
        // One that has ended and whose reply is gone is known to one worker alone.
        let by_worker = status
            .workers
            .into_iter()
            .find(|at| at.kickoff.state != HeldState::Ended);
        if let Some(at) = by_worker {
            return Ok(Some((at.kickoff.body_hash, format!("worker {}", at.worker))));
        }
        let mut handle = self.look_back_for(id);
        // Who may not ask the workers may not read the replies of others either.
        let cannot_ask = status.doubts.iter().any(|doubt| doubt.starts_with(CANNOT_ASK));
        if cannot_ask || timeout(GLANCE, handle.looked_back()).await.is_err() || !handle.is_answered() {
            return Ok(None);
        }
        let reply = handle.reply().await?;
        let known_by = format!("the reply of worker {}", reply.worker);
        Ok(reply.body_hash.map(|hash| (hash, known_by)))
    }

    /// Whether a later redrive of a kickoff than this one may be under way, or have run already: for all that the workers and
    /// the queues tell.
    pub(crate) async fn may_be_redriven(
        &self,
        id: &KickoffId,
        crew: &CrewName,
        redrive: u32,
    ) -> Result<bool, ClientError> {
        let mut doubts = Vec::new();
        let asked = KickoffsAsked {
            kickoff_id: Some(id.to_string()),
            crew: None,
        };
        let surveyed = self.ask_all(asked, |_| false, &mut doubts).await?;
        let counts = self.count(&BTreeSet::from([crew.clone()])).await?;
        let is_later = |at: &KickoffAt| at.kickoff.redrive > redrive || at.kickoff.state.is_present();
        Ok(!doubts.is_empty()
            || counts.iter().any(|queue| queue.waiting != Some(0))
            || held(surveyed).iter().any(is_later))
    }

    /// Asks all workers; why some cannot tell is one of the doubts.
    async fn ask_all(
        &self,
        asked: KickoffsAsked,
        enough: impl Fn(&Answer) -> bool,
        doubts: &mut Vec<String>,
    ) -> Result<Surveyed, ClientError> {
        let surveyed = match self.survey(Question::Kickoffs(asked), &enough).await {
            Err(error @ ClientError::OwnName { .. }) => {
                doubts.push(format!("{CANNOT_ASK}: {error}"));
                return Ok(Surveyed::default());
            }
            Err(ClientError::Broker(error)) if error.is_refusal() => {
                doubts.push(format!("{CANNOT_ASK}: {error}"));
                return Ok(Surveyed::default());
            }
            surveyed => surveyed?,
        };
        if surveyed.heard.is_empty() && surveyed.answers.is_empty() {
            doubts.push(NONE_ANSWERS.to_owned());
        }
        if !surveyed.answers.iter().any(&enough) {
            for worker in surveyed.silent() {
                doubts.push(format!(
                    "worker {} (version {}) is running and did not answer, as earlier versions don't: what it has is not known",
                    worker.worker, worker.version
                ));
            }
        }
        Ok(surveyed)
    }

    /// How much waits in the queues of these crews, and for a retry.
    async fn count(&self, crews: &BTreeSet<CrewName>) -> Result<Vec<QueueCount>, ClientError> {
        let link = self.broker().connected().await;
        let names = self.names();
        let of_crews = crews
            .iter()
            .map(|crew| (names.request_queue(crew), Some(crew.clone())));
        let tiers = RETRY_TIERS.iter().map(|(tier, _)| (names.retry(tier), None));
        let counts = of_crews.chain(tiers).map(async |(queue, crew)| {
            let state = link.queue_state(&queue).await;
            let is_silent = state.is_err();
            let state = state.ok().flatten();
            QueueCount {
                is_silent,
                queue,
                crew,
                waiting: state.map(|state| state.messages),
                consumers: state.map(|state| state.consumers),
            }
        });
        Ok(join_all(counts).await)
    }
}

impl KickoffHandle {
    /// Waits for the reply as [`Self::reply`] does, and asks meanwhile who has the kickoff, until somebody does. When it has
    /// been nowhere for as long as `patience` ([`KickoffStatus::is_nowhere`]), what is known is returned instead. `told` gets
    /// it whenever it has changed. While a worker has the kickoff redriven, the reply from before is none.
    ///
    /// # Errors
    /// As [`Self::reply`] and [`KickoffClient::status`].
    pub async fn reply_unless_unknown(
        &mut self,
        crews: &[CrewName],
        patience: Duration,
        mut told: impl FnMut(&KickoffStatus),
    ) -> Result<Result<Reply, Box<KickoffStatus>>, ClientError> {
        // Its binding is older than the look, so it misses nothing.
        let client = KickoffClient::over(self.connection());
        let (mut unknown_since, mut last) = (None, None);
        loop {
            // A reply that comes meanwhile is found there, too.
            let status = match client.whereabouts(self, crews).await {
                // While the broker is away nobody can be asked; the reply comes once it is back.
                Err(ClientError::Broker(error)) if !error.is_refusal() => {
                    unknown_since = None;
                    if let Ok(reply) = timeout(ASKED_AGAIN, self.reply()).await {
                        return reply.map(Ok);
                    }
                    continue;
                }
                status => status?,
            };
            if let Some(reply) = status.reply {
                return Ok(Ok(reply));
            }
            let now = Some((status.stage, status.is_nowhere()));
            if last != now {
                told(&status);
                last = now;
            }
            let again = match status.stage {
                Stage::Unknown | Stage::Unseen if status.is_nowhere() => {
                    let since = *unknown_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= patience {
                        return Ok(Err(Box::new(status)));
                    }
                    (since + patience).min(Instant::now() + ASKED_AGAIN)
                }
                Stage::Unseen => Instant::now() + ASKED_AGAIN,
                // From now on its reply tells the rest.
                _ => return self.reply_since(status.redrive()).await.map(Ok),
            };
            if !status.is_nowhere() {
                unknown_since = None;
            }
            if let Ok(reply) = timeout_at(again, self.reply()).await {
                return reply.map(Ok);
            }
        }
    }
}

/// What the workers said that they have.
fn held(surveyed: Surveyed) -> Vec<KickoffAt> {
    let each = surveyed.answers.into_iter().flat_map(|answer| {
        let kickoffs = match answer.answer {
            Answered::Kickoffs { kickoffs, .. } => kickoffs,
            _ => Vec::new(),
        };
        let worker = answer.worker;
        kickoffs.into_iter().map(move |kickoff| KickoffAt {
            worker: worker.clone(),
            kickoff,
        })
    });
    each.collect()
}

/// The crews that some living worker says to be paused.
fn paused(surveyed: &Surveyed) -> Vec<String> {
    let crews = surveyed.heard.values().flat_map(|worker| &worker.crews);
    let paused: BTreeSet<_> = crews
        .filter(|crew| crew.paused)
        .map(|crew| crew.name.clone())
        .collect();
    paused.into_iter().collect()
}

/// The crews that living workers serve, and these.
fn served(surveyed: &Surveyed, crews: &[CrewName]) -> BTreeSet<CrewName> {
    let heard = surveyed.heard.values().flat_map(|worker| &worker.crews);
    let heard = heard.filter_map(|crew| CrewName::parse(&crew.name).ok());
    heard.chain(crews.iter().cloned()).collect()
}
