//! Replies that memory had no room for, looked up in the results stream: one reading at a time, for all that are asked
//! for. Whoever does not want to wait for it finds the reply at the next call.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::{Broker, BrokerError, Link};
use crewfleet_shared::kickoff::{KickoffId, Reply};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::executions::Executions;
use super::problem::Problem;
use crate::reading::Reading;
use crate::replies::{id_of, read};
use crate::results::since;

/// How long a call waits.
const PATIENCE: Duration = Duration::from_secs(4);
/// One reading is for so many at most: what it finds must find room.
const AT_ONCE: usize = 32;
/// So many may be asked for: in all …
const ALL: usize = 256;
/// … and by the callers of one token.
const OF_TOKEN: usize = 16;
/// So long a reply that was not found is not looked for again.
const ABSENT: Duration = Duration::from_secs(60);
/// The pause before a stream that could not be read is read again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be looked up.
pub(super) struct Lookups {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    asked: HashMap<String, Asked>,
    absent: HashMap<String, Instant>,
}

struct Asked {
    token: String,
    /// When its id was made.
    at: DateTime<Utc>,
    waiting: Vec<oneshot::Sender<Option<Arc<Reply>>>>,
}

/// Where replies are read, and what for.
pub(super) struct Source {
    pub(super) broker: Broker,
    pub(super) stream: String,
    /// How many may be on their way to us.
    pub(super) prefetch: u16,
    /// How many bytes of what was found may be held until the reading is over.
    pub(super) room: usize,
    pub(super) executions: Arc<Executions>,
}

impl Lookups {
    /// Looks up what is asked for, until `stop`.
    pub(super) fn run(source: Source, stop: CancellationToken) -> Arc<Self> {
        let lookups = Arc::new(Self {
            state: Mutex::default(),
            news: Notify::new(),
        });
        let looking = Arc::clone(&lookups);
        tokio::spawn(stop.run_until_cancelled_owned(async move { looking.look(&source).await }));
        lookups
    }

    /// The reply of a kickoff: there only by an id that has its time in it, since all that is kept would have to be
    /// read for another.
    pub(super) async fn find(&self, id: &KickoffId, token: &str) -> Result<Option<Arc<Reply>>, Problem> {
        let Some(at) = id.created_at() else {
            return Ok(None);
        };
        let answer = match self.ask(id.as_str(), token, at)? {
            Some(answer) => answer,
            None => return Ok(None),
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(found)) => Ok(found),
            _ => Err(Problem::unavailable(
                "The reply is being looked up in the results stream; ask again in a moment",
            )),
        }
    }

    fn ask(
        &self,
        id: &str,
        token: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<oneshot::Receiver<Option<Arc<Reply>>>>, Problem> {
        let mut state = self.state();
        state.absent.retain(|_, since| since.elapsed() < ABSENT);
        if state.absent.contains_key(id) {
            return Ok(None);
        }
        if !state.asked.contains_key(id) {
            let of_token = state.asked.values().filter(|asked| asked.token == token).count();
            if of_token >= OF_TOKEN || state.asked.len() >= ALL {
                return Err(Problem::TooMany(
                    "Many replies are being looked up in the results stream already; ask again later".into(),
                ));
            }
        }
        let (sender, receiver) = oneshot::channel();
        let asked = state.asked.entry(id.to_owned()).or_insert_with(|| Asked {
            token: token.to_owned(),
            at,
            waiting: Vec::new(),
        });
        // Who asks again and again waits once.
        asked.waiting.retain(|waiting| !waiting.is_closed());
        asked.waiting.push(sender);
        self.news.notify_one();
        Ok(Some(receiver))
    }

    async fn look(&self, source: &Source) {
        loop {
            let Some((ids, from)) = self.next() else {
                self.news.notified().await;
                continue;
            };
            let link = source.broker.connected().await;
            match source.read(&link, &ids, from).await {
                Ok(found) => self.tell(&ids, found, &source.executions),
                Err(error) => {
                    warn!(stream = source.stream, %error, "replies cannot be looked up; trying again");
                    let _ = timeout(PAUSE, link.ended()).await;
                }
            }
        }
    }

    /// What to look up next, and from which moment on.
    fn next(&self) -> Option<(HashSet<String>, DateTime<Utc>)> {
        let state = self.state();
        let mut asked: Vec<_> = state.asked.iter().map(|(id, asked)| (asked.at, id)).collect();
        // Those that are close together: the reading begins with the oldest.
        asked.sort_unstable();
        let (from, _) = *asked.first()?;
        let ids = asked.into_iter().take(AT_ONCE).map(|(_, id)| id.clone());
        Some((ids.collect(), from))
    }

    fn tell(&self, ids: &HashSet<String>, mut found: Found, executions: &Executions) {
        for id in ids {
            let reply = found.replies.remove(id);
            if let Some((reply, bytes)) = &reply {
                executions.end(id, reply, *bytes);
            } else if found.left_out.contains(id) {
                continue;
            }
            let mut state = self.state();
            if reply.is_none() {
                state.absent.insert(id.clone(), Instant::now());
            }
            let asked = state.asked.remove(id);
            drop(state);
            for waiting in asked.into_iter().flat_map(|asked| asked.waiting) {
                // Who waited may have given up.
                let _ = waiting.send(reply.as_ref().map(|(reply, _)| Arc::clone(reply)));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reading has found.
#[derive(Default)]
struct Found {
    /// The best of each, and how many bytes it has.
    replies: HashMap<String, (Arc<Reply>, usize)>,
    bytes: usize,
    /// Those that are there, and that there was no room for: the next reading has them.
    left_out: HashSet<String>,
}

impl Found {
    fn keep(&mut self, id: &str, reply: Arc<Reply>, bytes: usize, room: usize) {
        if let Some((best, of_best)) = self.replies.get(id) {
            if best.redrive >= reply.redrive {
                return;
            }
            self.bytes -= of_best;
            self.replies.remove(id);
        }
        // One there always is room for.
        if !self.replies.is_empty() && self.bytes + bytes > room {
            self.left_out.insert(id.to_owned());
            return;
        }
        self.left_out.remove(id);
        self.bytes += bytes;
        self.replies.insert(id.to_owned(), (reply, bytes));
    }
}

impl Source {
    /// Reads the stream from a moment on to the end that it has now.
    async fn read(
        &self,
        link: &Link,
        ids: &HashSet<String>,
        from: DateTime<Utc>,
    ) -> Result<Found, BrokerError> {
        let mut found = Found::default();
        let mut reading = Reading::start(link, &self.stream, since(Some(from)), self.prefetch).await?;
        while let Some(delivery) = reading.next().await? {
            let id = id_of(&delivery);
            if !ids.contains(id) {
                continue;
            }
            match read(&delivery.body) {
                Ok(reply) => found.keep(id, reply, delivery.body.len(), self.room),
                Err(error) => warn!(kickoff_id = id, error, "a reply that cannot be read"),
            }
        }
        reading.close().await;
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytesize::ByteSize;

    use super::super::execution::tests::reply;
    use super::*;

    fn lookups() -> Lookups {
        Lookups {
            state: Mutex::default(),
            news: Notify::new(),
        }
    }

    #[tokio::test]
    async fn one_token_has_its_share_and_one_reading_answers_all() {
        let (lookups, at) = (lookups(), Utc::now());
        let mut greedy: Vec<_> = (0..OF_TOKEN)
            .map(|number| lookups.ask(&number.to_string(), "greedy", at).unwrap().unwrap())
            .collect();
        assert!(matches!(
            lookups.ask("more", "greedy", at),
            Err(Problem::TooMany(_))
        ));
        // The same once more is no more, and others have their own.
        let again = lookups.ask("0", "greedy", at).unwrap().unwrap();
        let other = lookups.ask("other", "modest", at).unwrap().unwrap();
        let (ids, _) = lookups.next().unwrap();
        assert_eq!(ids.len(), OF_TOKEN + 1);
        let executions = Executions::new(ByteSize::mib(1));
        let mut found = Found::default();
        found.keep("0", reply("0", "failed", 0), 10, 100);
        found.keep("0", reply("0", "succeeded", 1), 10, 100);
        found.keep("1", reply("1", "failed", 0), 100, 100);
        lookups.tell(&ids, found, &executions);
        assert_eq!(again.await.unwrap().unwrap().redrive, 1);
        assert!(other.await.unwrap().is_none());
        assert!(greedy.remove(2).await.unwrap().is_none());
        assert!(executions.reply("0").is_some());
        // What is not there is not looked for at each call; what there was no room for is.
        assert!(lookups.ask("2", "modest", at).unwrap().is_none());
        assert_eq!(lookups.next().unwrap().0, HashSet::from(["1".to_owned()]));
    }
}
