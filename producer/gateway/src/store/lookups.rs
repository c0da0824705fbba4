//! Replies that memory had no room for, looked up in the results stream. Whoever does not want to wait for it finds the
//! reply at the next call.
//!
//! A stream has no index, so it is read: first from about the moment at which a kickoff was named or ended, and where
//! that finds nothing, as a whole. Clocks may be wrong and a broker slow, so that only the whole stream tells that a
//! reply is not there. What that takes is bounded: of each kind there is one reading at a time, for all that are asked
//! for; a token may ask for so many, and what was not found is not looked for again for a while. Of a stream with many
//! replies a reading takes long, and callers are told to ask again. A store of one's own would have the index.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Broker, BrokerError, Link};
use crewfleet_protocol::{KickoffId, Reply};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::executions::Executions;
use crewfleet::StreamReader;
use crewfleet::received_reply::{id_of, read};
use crewfleet::stream_reader::since;

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

/// What is to be looked up.
pub(crate) struct Lookups {
    state: Mutex<State>,
    near: Notify,
    far: Notify,
}

/// How much of the stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// What followed a moment.
    Near,
    /// All.
    Far,
}

#[derive(Default)]
struct State {
    asked: HashMap<String, Asked>,
    absent: HashMap<String, Instant>,
}

struct Asked {
    token: String,
    /// The moment from which on it is looked for; `None`: all that is kept is looked through.
    at: Option<DateTime<Utc>>,
    waiting: Vec<oneshot::Sender<Option<Arc<Reply>>>>,
}

/// Where replies are read, and what for.
pub(crate) struct Source {
    pub(crate) broker: Broker,
    pub(crate) stream: String,
    pub(crate) near: Share,
    pub(crate) far: Share,
    pub(crate) executions: Arc<Executions>,
}

/// What a reading may take of memory.
pub(crate) struct Share {
    /// How many replies may be on their way to us.
    pub(crate) prefetch: u16,
    /// How many bytes of what was found may be held until the reading is over.
    pub(crate) room: usize,
}

/// Why a reply could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// Others are being looked up already, for this caller or for all.
    #[error("Many replies are being looked up in the results stream already; ask again later")]
    TooMany,
    /// It goes on, and whoever asks again gets what it found.
    #[error("The reply is being looked up in the results stream; ask again in a moment")]
    TakesLonger,
}

impl Lookups {
    /// Looks up what is asked for, until `stop`.
    pub(crate) fn run(source: Source, stop: CancellationToken) -> Arc<Self> {
        let lookups = Arc::new(Self::new());
        let looking = Arc::clone(&lookups);
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            // What takes long holds up nothing else.
            tokio::join!(
                looking.look(&source, Reach::Near),
                looking.look(&source, Reach::Far)
            );
        }));
        lookups
    }

    fn new() -> Self {
        Self {
            state: Mutex::default(),
            near: Notify::new(),
            far: Notify::new(),
        }
    }

    /// The reply of a kickoff, which was named, or ended, about `at`.
    pub(crate) async fn find(
        &self,
        id: &KickoffId,
        at: Option<DateTime<Utc>>,
        token: &str,
    ) -> Result<Option<Arc<Reply>>, LookupError> {
        let answer = match self.ask(id.as_str(), token, at)? {
            Some(answer) => answer,
            None => return Ok(None),
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(found)) => Ok(found),
            _ => Err(LookupError::TakesLonger),
        }
    }

    fn ask(
        &self,
        id: &str,
        token: &str,
        at: Option<DateTime<Utc>>,
    ) -> Result<Option<oneshot::Receiver<Option<Arc<Reply>>>>, LookupError> {
        let mut state = self.state();
        state.absent.retain(|_, since| since.elapsed() < ABSENT);
        if state.absent.contains_key(id) {
            return Ok(None);
        }
        if !state.asked.contains_key(id) {
            let of_token = state.asked.values().filter(|asked| asked.token == token).count();
            if of_token >= OF_TOKEN || state.asked.len() >= ALL {
                return Err(LookupError::TooMany);
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
        self.news(asked.reach()).notify_one();
        Ok(Some(receiver))
    }

    async fn look(&self, source: &Source, reach: Reach) {
        let mut retrying = Retrying::default();
        loop {
            let Some((ids, from)) = self.next(reach) else {
                self.news(reach).notified().await;
                continue;
            };
            let link = source.broker.connected().await;
            match source.read(&link, &ids, from).await {
                Ok(found) => {
                    retrying.works();
                    self.tell(&ids, found, &source.executions);
                }
                Err(error) => {
                    if retrying.failed(&error) {
                        warn!(stream = source.stream, %error, "replies cannot be looked up; trying again");
                    }
                    let _ = timeout(retrying.pause(), link.ended()).await;
                }
            }
        }
    }

    fn news(&self, reach: Reach) -> &Notify {
        match reach {
            Reach::Near => &self.near,
            Reach::Far => &self.far,
        }
    }

    /// What to look up next, and from which moment on.
    fn next(&self, reach: Reach) -> Option<(HashSet<String>, Option<DateTime<Utc>>)> {
        let state = self.state();
        let asked = state.asked.iter().filter(|(_, asked)| asked.reach() == reach);
        let mut asked: Vec<_> = asked.map(|(id, asked)| (asked.at, id)).collect();
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
            if reply.is_none() && !found.of_all {
                // Perhaps it stands elsewhere.
                if let Some(asked) = state.asked.get_mut(id) {
                    asked.at = None;
                    self.far.notify_one();
                }
                continue;
            }
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

impl Asked {
    fn reach(&self) -> Reach {
        match self.at {
            Some(_) => Reach::Near,
            None => Reach::Far,
        }
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
    /// The whole stream was read.
    of_all: bool,
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
        link: &Arc<Link>,
        ids: &HashSet<String>,
        from: Option<DateTime<Utc>>,
    ) -> Result<Found, BrokerError> {
        let share = if from.is_some() { &self.near } else { &self.far };
        let mut found = Found {
            of_all: from.is_none(),
            ..Found::default()
        };
        let mut reading = StreamReader::start(link, &self.stream, since(from), share.prefetch).await?;
        while let Some(delivery) = reading.next().await? {
            // Nothing stands before the first.
            found.of_all |= delivery.stream_offset == Some(0);
            let id = id_of(&delivery);
            if !ids.contains(id) {
                continue;
            }
            match read(&delivery.body) {
                Ok(reply) => found.keep(id, reply, delivery.body.len(), share.room),
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

    use super::*;
    use crate::store::execution::tests::reply;

    #[tokio::test]
    async fn one_token_has_its_share_and_one_reading_answers_all() {
        let (lookups, at) = (Lookups::new(), Some(Utc::now()));
        let mut greedy: Vec<_> = (0..OF_TOKEN)
            .map(|number| lookups.ask(&number.to_string(), "greedy", at).unwrap().unwrap())
            .collect();
        assert!(matches!(
            lookups.ask("more", "greedy", at),
            Err(LookupError::TooMany)
        ));
        // The same once more is no more, and others have their own.
        let again = lookups.ask("0", "greedy", at).unwrap().unwrap();
        let other = lookups.ask("other", "modest", at).unwrap().unwrap();
        let (ids, _) = lookups.next(Reach::Near).unwrap();
        assert_eq!(ids.len(), OF_TOKEN + 1);
        let executions = Executions::new(ByteSize::mib(1));
        let mut found = Found {
            of_all: true,
            ..Found::default()
        };
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
        assert_eq!(
            lookups.next(Reach::Near).unwrap().0,
            HashSet::from(["1".to_owned()])
        );
    }

    #[tokio::test]
    async fn only_the_whole_stream_tells_that_a_reply_is_not_there() {
        let (lookups, executions) = (Lookups::new(), Executions::new(ByteSize::mib(1)));
        let of_all = Found {
            of_all: true,
            ..Found::default()
        };
        let mut waiting = lookups.ask("a", "t", Some(Utc::now())).unwrap().unwrap();
        let (ids, from) = lookups.next(Reach::Near).unwrap();
        assert!(from.is_some() && lookups.next(Reach::Far).is_none());
        // Where its moment says it is not: that is another machine's.
        lookups.tell(&ids, Found::default(), &executions);
        assert!(waiting.try_recv().is_err() && lookups.next(Reach::Near).is_none());
        lookups.far.notified().await;
        let (ids, from) = lookups.next(Reach::Far).unwrap();
        assert_eq!((ids.len(), from), (1, None));
        lookups.tell(&ids, of_all, &executions);
        assert!(waiting.await.unwrap().is_none());
        assert!(lookups.ask("a", "t", None).unwrap().is_none());
        // One that nobody knows the time of, too.
        let found = lookups.ask("b", "t", None).unwrap().unwrap();
        let (ids, _) = lookups.next(Reach::Far).unwrap();
        let mut there = Found::default();
        there.keep("b", reply("b", "succeeded", 0), 10, 100);
        lookups.tell(&ids, there, &executions);
        assert!(found.await.unwrap().is_some());
    }
}
