//! Asking one worker, or all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crewfleet_amqp::{Message, PublishError};
use crewfleet_protocol::{Answer, Heartbeat, Query, Question};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::KickoffClient;
use crate::error::ClientError;
use crate::fleet::{ASKED, Heartbeats};

/// After so long without an answer others are asked, and then the first one again.
const ROUND: Duration = Duration::from_secs(2);
/// How long a worker that lives has to answer, when all are asked: one of an earlier version never does.
const ANSWERED: Duration = Duration::from_secs(2);
/// How many answers to one question are kept until they are read: one a worker.
const ANSWERS: usize = 10_000;

/// What the workers answered to a question to all of them.
#[derive(Debug, Default)]
pub(crate) struct Surveyed {
    /// Of each worker that answered.
    pub(crate) answers: Vec<Answer>,
    /// The workers that were heard, by their ids.
    pub(crate) heard: BTreeMap<String, Heartbeat>,
}

impl Surveyed {
    /// The workers that live and did not answer.
    pub(crate) fn silent(&self) -> impl Iterator<Item = &Heartbeat> {
        let has_answered = |worker: &str| self.answers.iter().any(|answer| answer.worker == worker);
        self.heard
            .values()
            .filter(move |heartbeat| !has_answered(&heartbeat.worker))
    }
}

impl KickoffClient {
    /// Asks this worker, and others when it does not answer; waits for the first answer within `patience`. `None` when
    /// none comes.
    pub(crate) async fn ask(
        &self,
        worker: &str,
        question: Question,
        patience: Duration,
    ) -> Result<Option<Answer>, ClientError> {
        let (questions, end) = (self.connection().questions(), Instant::now() + patience);
        let mut query = Query::new(Some(worker), question);
        let mut answers = questions.expect(&query.id, 1);
        while Instant::now() < end {
            if !questions
                .hears(end)
                .await
                .map_err(|e| self.connection().not_declared(e, self.names().answers()))?
            {
                break;
            }
            let round = end.min(Instant::now() + ROUND);
            let message = Message::from(query.message(self.names(), &self.connection().reply_key));
            let (publisher, _) = self.publisher();
            let limit = round.saturating_duration_since(Instant::now());
            let asked_by_name = query.worker.is_some();
            // In turns: it may come back.
            query.worker = (!asked_by_name).then(|| worker.to_owned());
            match publisher.publish(message, limit).await {
                // It is not there: others at once.
                Err(PublishError::Unroutable { .. }) if asked_by_name => continue,
                Err(PublishError::Broker(error)) => {
                    return Err(self.connection().not_declared(error, self.names().queries()));
                }
                // Where no worker listens, or the broker is away, that may pass.
                _ => {}
            }
            if let Ok(answered) = timeout_at(round, answers.next()).await {
                return Ok(answered);
            }
        }
        Ok(None)
    }

    /// Asks all workers, until `enough` says that no other answer is needed; else until each worker that lives has
    /// answered. That takes [`ASKED`], or, where one that lives does not answer, [`ANSWERED`].
    ///
    /// # Errors
    /// [`ClientError::NotDeclared`] where no worker ever ran, and [`ClientError::Broker`].
    pub(crate) async fn survey(
        &self,
        question: Question,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<Surveyed, ClientError> {
        let questions = self.connection().questions();
        let mut heartbeats = self.heartbeats().await?;
        let hears = questions.hears(Instant::now() + ANSWERED).await;
        let found = match hears {
            Ok(_) => self.surveyed(question, enough, &mut heartbeats).await,
            Err(error) => Err(self.connection().not_declared(error, self.names().answers())),
        };
        heartbeats.close().await;
        found
    }

    async fn surveyed(
        &self,
        question: Question,
        enough: impl Fn(&Answer) -> bool,
        heartbeats: &mut Heartbeats,
    ) -> Result<Surveyed, ClientError> {
        let query = Query::new(None, question);
        let mut answers = self.connection().questions().expect(&query.id, ANSWERS);
        let start = Instant::now();
        let mut surveyed = Surveyed::default();
        let (publisher, _) = self.publisher();
        let asked = publisher.publish(
            Message::from(query.message(self.names(), &self.connection().reply_key)),
            ASKED,
        );
        let (asked, _) = tokio::join!(asked, self.ask_for_heartbeats());
        match asked {
            // No worker that could answer is there.
            Err(PublishError::Unroutable { .. }) => return Ok(surveyed),
            Err(PublishError::Broker(error)) => {
                return Err(self.connection().not_declared(error, self.names().queries()));
            }
            _ => {}
        }
        loop {
            let end = match surveyed.silent().next() {
                None => start + ASKED,
                Some(_) => start + ANSWERED,
            };
            tokio::select! {
                biased;
                Some(answer) = answers.next() => {
                    let enough = enough(&answer);
                    surveyed.answers.push(answer);
                    if enough {
                        return Ok(surveyed);
                    }
                }
                Some(heartbeat) = heartbeats.next() => {
                    surveyed.heard.insert(heartbeat.worker.clone(), heartbeat);
                }
                () = sleep_until(end) => return Ok(surveyed),
            }
        }
    }
}
