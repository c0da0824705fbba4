//! A caller of the gateways' native API: kicks off its part of the plan under keys, asks the other gateway where one
//! does not answer, and writes down all that it is told. It may be killed at any moment, and so may the gateways.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crewfleet_protocol::Reply;
use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    journal::{self, Journal, Nanos, now},
    keyed::{self, ANSWERED_WITHIN, Keyed, KeyedLine, Strange},
    producer::seen,
    producers::{NATIVE, PRODUCERS, Part},
    records::ReplySeen,
    workload::Planned,
};

mod answer;
mod turn;

use answer::{Answer, Api};
use turn::Turn;

/// How many kickoffs are waited for at once, at most.
const WINDOW: usize = 64;
/// How many are asked for again at once, when all have ended.
const AT_ONCE: usize = 8;
/// The pause before something is asked again. It is shorter than a gateway asks for: more is asked while it recovers.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a call for a result waits, in seconds.
const WAIT_S: u64 = 5;

/// What a caller is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NativeArguments {
    /// The base URL of each gateway.
    #[arg(long)]
    pub gateway: Vec<String>,
    /// The file with the token.
    #[arg(long)]
    pub token_file: PathBuf,
    /// Where those are told that ask for it.
    #[arg(long)]
    pub hook: String,
    /// What it has to do.
    #[command(flatten)]
    pub part: Part,
}

struct Caller {
    api: Api,
    journal: Journal,
    window: Semaphore,
    epoch: Nanos,
    hook: String,
}

/// What is done with a key that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The same is sent again at once …
    Repeat,
    /// … or when all kickoffs have ended.
    RepeatLater,
    /// Another body is sent at once …
    Other,
    /// … or when all kickoffs have ended.
    OtherLater,
}

/// Kicks off what is not accepted yet, and asks until all have ended.
pub(crate) async fn run(arguments: &NativeArguments) -> anyhow::Result<()> {
    let token = std::fs::read_to_string(&arguments.token_file)?;
    let plan: Vec<Planned> = journal::read(&arguments.part.plan)?;
    let by_number: BTreeMap<u64, Planned> = plan.iter().map(|one| (one.number, one.clone())).collect();
    let mut earlier = keyed::read(NATIVE, &by_number, journal::read(&arguments.part.history)?);
    let caller = Arc::new(Caller {
        api: Api::new(&arguments.gateway, token.trim()),
        journal: Journal::open(&arguments.part.history)?,
        window: Semaphore::new(WINDOW),
        epoch: arguments.part.epoch,
        hook: arguments.hook.clone(),
    });
    let mut kickoffs = JoinSet::new();
    for planned in plan {
        let (caller, earlier) = (Arc::clone(&caller), earlier.remove(&planned.number));
        kickoffs.spawn(async move {
            caller.see_through(&planned, earlier).await;
            planned
        });
    }
    let mut ended = Vec::new();
    while let Some(planned) = kickoffs.join_next().await {
        ended.push(planned?);
    }
    // Most gateways have been killed since, and some have lost their files.
    let again = stream::iter(&ended).for_each_concurrent(AT_ONCE, |planned| caller.ask_again(planned));
    again.await;
    Ok(())
}

/// Counts this caller's own kickoffs: of so many in a row, each producer has one.
fn index(planned: &Planned) -> u64 {
    planned.number / PRODUCERS as u64
}

fn then(planned: &Planned) -> Then {
    match index(planned) % 4 {
        0 => Then::Repeat,
        1 => Then::RepeatLater,
        2 => Then::Other,
        _ => Then::OtherLater,
    }
}

impl Caller {
    fn turn(&self, planned: &Planned) -> Turn {
        let of = self.api.gateways();
        let place = usize::try_from(index(planned) / 4).unwrap_or_default() % of;
        let silent = BTreeSet::new();
        Turn { place, of, silent }
    }

    /// From the call to the end, as far as an earlier life has not come.
    async fn see_through(&self, planned: &Planned, earlier: Option<Keyed>) {
        let due = self.epoch + planned.at_ms * 1_000_000;
        sleep(Duration::from_nanos(due.saturating_sub(now()))).await;
        let _permit = self.window.acquire().await.expect("the window stays open");
        let mut turn = self.turn(planned);
        let is_accepted = earlier.as_ref().is_some_and(|keyed| keyed.accepted().is_some());
        if !is_accepted && !self.begin(planned, &mut turn).await {
            return;
        }
        if earlier.is_some_and(|keyed| !keyed.told.is_empty()) {
            return;
        }
        if let then @ (Then::Repeat | Then::Other) = then(planned) {
            turn.next();
            let is_other = then == Then::Other;
            self.send_until_answered(planned, &mut turn, is_other, false)
                .await;
        }
        if let Some(after) = planned.cancel_after_ms {
            sleep(Duration::from_millis(after)).await;
            self.cancel(planned, &mut turn).await;
        }
        let mut reply = self.wait(planned, &keyed::id(planned), &mut turn).await;
        let number = planned.number;
        self.journal.write(&KeyedLine::Told {
            t: now(),
            number,
            reply: reply.clone(),
        });
        while let Some(next) = reply.chain.and_then(|chain| chain.next) {
            reply = self.wait(planned, &next.kickoff_id, &mut turn).await;
            self.journal.write(&KeyedLine::Followed {
                t: now(),
                number,
                reply: reply.clone(),
            });
        }
        // Whoever was killed meanwhile comes to know it.
        for place in std::mem::take(&mut turn.silent) {
            self.is_known_to(planned, place).await;
        }
    }

    /// Sends it until it is taken; some are sent to two gateways at the same moment. Returns whether it is taken.
    async fn begin(&self, planned: &Planned, turn: &mut Turn) -> bool {
        if !index(planned).is_multiple_of(5) {
            return self.send_until_answered(planned, turn, false, true).await;
        }
        let mut beside = self.turn(planned);
        beside.next();
        let (first, second) = tokio::join!(
            self.send_until_answered(planned, turn, false, true),
            self.send_until_answered(planned, &mut beside, false, false)
        );
        turn.silent.append(&mut beside.silent);
        first && second
    }

    /// Keys stand for what they stood for.
    async fn ask_again(&self, planned: &Planned) {
        if let then @ (Then::RepeatLater | Then::OtherLater) = then(planned) {
            let mut turn = self.turn(planned);
            let is_other = then == Then::OtherLater;
            self.send_until_answered(planned, &mut turn, is_other, false)
                .await;
        }
    }

    /// Sends it until it is taken, or refused for good. Returns whether it is taken.
    async fn send_until_answered(
        &self,
        planned: &Planned,
        turn: &mut Turn,
        is_other: bool,
        is_first: bool,
    ) -> bool {
        let number = planned.number;
        let body = self.body(planned, is_other);
        loop {
            let call = fastrand::u64(..);
            self.journal.write(&KeyedLine::Sending {
                t: now(),
                number,
                call,
                gateway: turn.place,
                is_other,
            });
            let key = keyed::key(planned);
            let answer = self
                .api
                .call(Method::POST, turn.place, "/v1/kickoffs", Some((&key, &body)))
                .await;
            let t = now();
            match answer {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    let kickoff: Value = serde_json::from_str(&answer.text).unwrap_or_default();
                    let id = kickoff["kickoff_id"].as_str().unwrap_or("none").to_owned();
                    self.journal.write(&match is_first {
                        true => KeyedLine::Accepted { t, number, call, id },
                        false => KeyedLine::Repeated { t, number, call, id },
                    });
                    return true;
                }
                Ok(answer) if answer.status == StatusCode::CONFLICT => {
                    self.journal.write(&KeyedLine::Conflict { t, number, call });
                    return false;
                }
                Ok(answer) => {
                    let refusal = answer.refusal();
                    self.journal.write(&KeyedLine::Refused {
                        t,
                        number,
                        call,
                        refusal,
                    });
                    turn.next();
                }
                Err(why) => {
                    self.journal.write(&KeyedLine::Unheard { t, number, call, why });
                    turn.was_silent();
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn body(&self, planned: &Planned, is_other: bool) -> Value {
        let order = match is_other {
            true => keyed::other(&planned.order),
            false => planned.order.clone(),
        };
        let mut body = json!({ "crew": planned.crew, "inputs": order });
        if planned.follow.webhook {
            body["crewWebhookUrl"] = json!(self.hook);
        }
        if !planned.follow.steps.is_empty() {
            body["then"] = json!(planned.follow.then());
        }
        if let Some(seconds) = planned.timeout_s {
            body["timeout_s"] = json!(seconds);
        }
        if let Some(after) = planned.deadline_ms {
            // From its planned moment, so that it is the same each time.
            let at = self.epoch / 1_000_000 + planned.at_ms + after;
            let at = chrono::DateTime::from_timestamp_millis(i64::try_from(at).expect("a time"));
            body["deadline"] = json!(at.expect("a time"));
        }
        body
    }

    /// Cancels it, unless it has ended.
    async fn cancel(&self, planned: &Planned, turn: &mut Turn) {
        let number = planned.number;
        self.journal.write(&KeyedLine::Cancelling { t: now(), number });
        let path = format!("/v1/kickoffs/{}/cancel", keyed::id(planned));
        let is_fine = |status| [StatusCode::ACCEPTED, StatusCode::CONFLICT].contains(&status);
        while self
            .ask(Method::POST, planned, turn, &path, 0, is_fine)
            .await
            .is_none()
        {}
    }

    /// Asks until it, or a step that follows it, has ended.
    async fn wait(&self, planned: &Planned, id: &str, turn: &mut Turn) -> ReplySeen {
        // Some are polled.
        let wait = if index(planned).is_multiple_of(3) {
            0
        } else {
            WAIT_S
        };
        let path = format!("/v1/kickoffs/{id}/result?wait={wait}");
        let is_fine = |status| [StatusCode::OK, StatusCode::ACCEPTED].contains(&status);
        loop {
            let answer = self.ask(Method::GET, planned, turn, &path, wait, is_fine).await;
            match answer {
                Some(answer) if answer.status == StatusCode::OK => {
                    let reply: Reply = serde_json::from_str(&answer.text).expect("a reply");
                    return seen(&reply);
                }
                Some(_) if wait == 0 => sleep(PAUSE).await,
                _ => {}
            }
        }
    }

    /// Asks this gateway until it knows the kickoff.
    async fn is_known_to(&self, planned: &Planned, place: usize) {
        let path = format!("/v1/kickoffs/{}", keyed::id(planned));
        let is_fine = |status| status == StatusCode::OK;
        loop {
            let mut turn = Turn {
                place,
                ..self.turn(planned)
            };
            let answer = self.ask(Method::GET, planned, &mut turn, &path, 0, is_fine).await;
            if answer.is_some() {
                return;
            }
        }
    }

    /// One call about an accepted kickoff. `None` after a pause where the answer is not as it should be, and the next
    /// gateway is to be asked.
    async fn ask(
        &self,
        method: Method,
        planned: &Planned,
        turn: &mut Turn,
        path: &str,
        wait_s: u64,
        is_fine: impl Fn(StatusCode) -> bool,
    ) -> Option<Answer> {
        let call = format!("{method} {path} of g{}", turn.place + 1);
        let began = Instant::now();
        let answer = self.api.call(method, turn.place, path, None).await;
        let took = began.elapsed().saturating_sub(Duration::from_secs(wait_s));
        let refusal = answer.as_ref().ok().map(Answer::refusal);
        let refusal = refusal.filter(|_| answer.as_ref().is_ok_and(|answer| !is_fine(answer.status)));
        let is_fine = answer.is_ok() && refusal.is_none();
        if refusal.is_some() || took > ANSWERED_WITHIN {
            let strange = Strange {
                t: now(),
                call,
                took: Nanos::try_from(took.as_nanos()).unwrap_or(Nanos::MAX),
                refusal,
            };
            let number = planned.number;
            self.journal.write(&KeyedLine::Strange { number, strange });
        }
        match &answer {
            Ok(_) if is_fine => return answer.ok(),
            Ok(_) => turn.next(),
            Err(_) => turn.was_silent(),
        }
        sleep(PAUSE).await;
        None
    }
}
