//! All that is known and chosen, and what news and actions make of it. It asks nobody and draws nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet::status::{KickoffAt, QueueCount};
use crewfleet::{KickoffId, Kickoffs};
use crewfleet_protocol::fleet::HEARTBEAT_INTERVAL;

use super::command::Command;
use super::cursor::Cursor;
use super::fleet::{Crew, Fleet};
use super::kickoff::Followed;
use super::news::News;

/// How long workers have to show that they obey: each speaks twice.
const PATIENCE: Duration = HEARTBEAT_INTERVAL
    .saturating_mul(2)
    .saturating_add(Duration::from_secs(1));

/// What is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// Workers and crews.
    #[default]
    Fleet,
    /// What the workers have.
    Kickoffs,
    /// One kickoff.
    Kickoff,
}

/// What keys mean at present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They choose and command.
    #[default]
    Choosing,
    /// They are letters of the filter.
    Typing,
    /// They answer whether this is to be sent.
    Asking(Command),
}

/// Which list of the fleet the cursor is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Panel {
    /// The workers.
    #[default]
    Workers,
    /// The crews.
    Crews,
}

/// What is told in the status line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// In a sentence.
    pub(crate) text: String,
    /// It went wrong.
    pub(crate) is_bad: bool,
}

/// All that is known and chosen.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) view: View,
    pub(crate) mode: Mode,
    pub(crate) panel: Panel,
    pub(crate) fleet: Fleet,
    /// As the workers said when they were asked last.
    pub(crate) known: Option<Kickoffs>,
    pub(crate) followed: Option<Followed>,
    pub(crate) filter: String,
    pub(crate) told: Option<Told>,
    /// There is no connection to RabbitMQ.
    pub(crate) is_away: bool,
    /// Why it is not known what the workers have.
    pub(crate) problem: Option<String>,
    pub(crate) worker_cursor: Cursor,
    pub(crate) crew_cursor: Cursor,
    pub(crate) kickoff_cursor: Cursor,
    /// A command that heartbeats have not confirmed yet, and since when RabbitMQ has it.
    unconfirmed: Option<(Command, DateTime<Utc>)>,
}

impl Model {
    /// Nothing is known yet, but why RabbitMQ is away, where it is.
    pub(crate) fn new(why_away: Option<String>) -> Self {
        Self {
            is_away: why_away.is_some(),
            problem: why_away,
            ..Self::default()
        }
    }

    /// What news make of it.
    pub(crate) fn hear(&mut self, news: News, now: DateTime<Utc>) {
        match news {
            News::Connected(is_connected) => {
                if is_connected {
                    self.fleet.hear_all(now);
                    self.problem = None;
                }
                self.is_away = !is_connected;
            }
            News::Heartbeat(heartbeat) => {
                self.problem = None;
                self.fleet.hear(*heartbeat, now);
                self.confirm();
            }
            News::Gone(worker) => {
                self.fleet.remove(&worker);
                let drained = Command::Drain(worker);
                if self
                    .unconfirmed
                    .take_if(|(command, _)| *command == drained)
                    .is_some()
                {
                    self.tell(drained.gone(), false);
                }
            }
            News::Kickoffs(mut known) => {
                // What says no moment is shown last.
                known.kickoffs.sort_by_key(|at| {
                    let requested_at = at.kickoff.requested_at;
                    (
                        requested_at.is_none(),
                        requested_at,
                        at.kickoff.kickoff_id.clone(),
                    )
                });
                self.problem = None;
                self.known = Some(*known);
            }
            News::Problem(problem) => self.problem = Some(problem),
            News::Sent(command) => {
                self.tell(command.sent(), false);
                self.unconfirmed = Some((command, now));
                // Where no worker serves the crew, none confirms it.
                self.confirm();
            }
            News::Outcome { text, is_bad } => self.tell(text, is_bad),
            News::Of(id, news) => {
                if let Some(followed) = self.followed.as_mut().filter(|followed| followed.id == id) {
                    followed.hear(news);
                }
            }
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: DateTime<Utc>) {
        if self.is_away {
            return;
        }
        self.fleet.forget_silent(now);
        let is_late = |since: DateTime<Utc>| (now - since).to_std().is_ok_and(|time| time > PATIENCE);
        if let Some((command, _)) = self.unconfirmed.take_if(|(_, since)| is_late(*since)) {
            self.tell(command.not_confirmed(&self.fleet), true);
        }
    }

    /// Says it in the status line.
    pub(crate) fn tell(&mut self, text: String, is_bad: bool) {
        self.told = Some(Told { text, is_bad });
    }

    /// How much waits in which queue.
    pub(crate) fn queues(&self) -> &[QueueCount] {
        self.known.as_ref().map_or(&[], |known| &known.queues)
    }

    /// The crews.
    pub(crate) fn crews(&self) -> Vec<Crew> {
        self.fleet.crews(self.queues())
    }

    /// What the workers have, as far as the filter lets it through; those first that were requested first.
    pub(crate) fn kickoffs(&self) -> Vec<&KickoffAt> {
        let filter = self.filter.to_lowercase();
        let all = self.known.iter().flat_map(|known| &known.kickoffs);
        all.filter(|at| {
            let crew = at.kickoff.crew.as_deref().unwrap_or_default();
            let fields = [
                at.kickoff.kickoff_id.as_str(),
                crew,
                at.kickoff.state.as_str(),
                at.worker.as_str(),
            ];
            fields.iter().any(|field| field.to_lowercase().contains(&filter))
        })
        .collect()
    }

    /// By which the rows of the workers are known.
    pub(crate) fn worker_keys(&self) -> Vec<String> {
        let workers = self.fleet.workers();
        workers.map(|seen| seen.heartbeat.worker.clone()).collect()
    }

    /// By which the rows of the crews are known.
    pub(crate) fn crew_keys(&self) -> Vec<String> {
        self.crews().into_iter().map(|crew| crew.name).collect()
    }

    /// By which the rows of the kickoffs are known. Several workers may know of one.
    pub(crate) fn kickoff_keys(&self) -> Vec<String> {
        let key = |at: &KickoffAt| format!("{}\n{}", at.kickoff.kickoff_id, at.worker);
        self.kickoffs().into_iter().map(key).collect()
    }

    /// The kickoff that is chosen in the list.
    pub(crate) fn chosen_kickoff(&self) -> Option<&KickoffAt> {
        let at = self.kickoff_cursor.index(&self.kickoff_keys())?;
        self.kickoffs().get(at).copied()
    }

    /// The kickoff that is followed.
    pub(crate) fn follows(&self) -> Option<&KickoffId> {
        self.followed.as_ref().map(|followed| &followed.id)
    }

    /// Keeps the cursors where they are, when rows come and go.
    pub(crate) fn settle(&mut self) {
        let (workers, crews, kickoffs) = (self.worker_keys(), self.crew_keys(), self.kickoff_keys());
        self.worker_cursor.settle(&workers);
        self.crew_cursor.settle(&crews);
        self.kickoff_cursor.settle(&kickoffs);
    }

    fn confirm(&mut self) {
        let Some(done) = self
            .unconfirmed
            .as_ref()
            .and_then(|(command, _)| command.done(&self.fleet))
        else {
            return;
        };
        self.unconfirmed = None;
        self.tell(done, false);
    }
}
