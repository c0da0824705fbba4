//! Asking the gateways what they show at the end, when all is settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use crewfleet_protocol::{KickoffId, Reply};
use crewfleet_tests::http;
use futures_util::{StreamExt, future::join_all, stream};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use super::{
    batch,
    gateway::{GATEWAYS, Gateways},
    producer::seen,
    shown::{BatchShown, EventShown, Filtered, Look, Shown, Survey},
    workload::{FORKED, PROGRAM, SWIFT},
};

/// How long a gateway may take to show the end of each kickoff that has one. It has 15 s for a reply whose end it has
/// heard of, from when it reads the streams again, and looks each 5 s; the rest is for a busy machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// How many kickoffs a gateway is asked for at once.
const AT_ONCE: usize = 4;
/// Of so many kickoffs one is asked of every gateway, each other one of one gateway alone. All have all in their lists.
const ASKED_OF_ALL: usize = 8;
/// The largest page of the list, and one that is none of the sizes that are usual.
const LARGEST_PAGE: usize = 200;
const ODD_PAGE: usize = 37;
/// The largest page of events.
const EVENTS: usize = 1_000;
/// All states of kickoffs that have ended, but for `succeeded`.
const ENDED_BADLY: [&str; 5] = ["failed", "timed_out", "cancelled", "expired", "rejected"];

/// The file of what was shown.
const FILE: &str = "survey.json";

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<serde_json::Value>,
}

struct Surveyor<'a> {
    client: reqwest::Client,
    url: String,
    token: &'a str,
}

/// Asks all gateways, once they show that these have ended, or have had the time for it.
pub(crate) async fn take(
    gateways: &Gateways,
    answered: &BTreeSet<String>,
    folder: &Path,
) -> anyhow::Result<Vec<Survey>> {
    let token = std::fs::read_to_string(gateways.token_file())?;
    let token = token.trim();
    let answered: &Vec<&str> = &answered.iter().map(String::as_str).collect();
    let surveys = gateways.iter().enumerate().map(|(place, gateway)| async move {
        let is_own = |number: &usize| number.is_multiple_of(ASKED_OF_ALL) || number % GATEWAYS == place;
        let own = (0..answered.len()).filter(is_own).map(|number| answered[number]);
        let surveyor = Surveyor {
            client: http::client(),
            url: gateway.url(),
            token,
        };
        Survey {
            gateway: gateway.name().to_owned(),
            ..surveyor.survey(answered, own.collect()).await
        }
    });
    let surveys = join_all(surveys).await;
    std::fs::write(folder.join(FILE), serde_json::to_vec(&surveys)?)?;
    Ok(surveys)
}

impl Surveyor<'_> {
    async fn survey(&self, answered: &[&str], own: Vec<&str>) -> Survey {
        let mut survey = Survey::default();
        match self.settled(answered).await {
            Ok(listed) => survey.listed = listed,
            Err(answer) => survey.unanswered.push(answer),
        }
        let filters: [(&[&str], &[&str], usize); 5] = [
            (&[SWIFT], &[], LARGEST_PAGE),
            (&[FORKED, PROGRAM], &[], ODD_PAGE),
            (&[], &["succeeded"], LARGEST_PAGE),
            (&[], &ENDED_BADLY, ODD_PAGE),
            (&[SWIFT, FORKED], &["succeeded", "failed"], LARGEST_PAGE),
        ];
        for (crews, states, size) in filters {
            let query = format!("crew={}&status={}", crews.join(","), states.join(","));
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            match self.list(&query, size).await {
                Ok(found) => survey.filtered.push(Filtered {
                    crews: owned(crews),
                    states: owned(states),
                    ids: found.into_iter().map(|shown| shown.kickoff_id).collect(),
                }),
                Err(answer) => survey.unanswered.push(answer),
            }
        }
        let looks = stream::iter(own).map(|id| async move { (id.to_owned(), self.look(id).await) });
        let looks: BTreeMap<String, Look> = looks.buffer_unordered(AT_ONCE).collect().await;
        survey.looks = looks;
        match self.ok::<serde_json::Value>(&batch::path()).await {
            Ok(view) => survey.batch = BatchShown::shown(&view),
            Err(answer) => survey.unanswered.push(answer),
        }
        for never in [KickoffId::generate().to_string(), "key-never".to_owned()] {
            match self.get(&path_of(&never)).await {
                Ok((status, _)) => survey.never.push((never, status)),
                Err(answer) => survey.unanswered.push(answer),
            }
        }
        survey
    }

    /// The whole list: once the gateway knows all, and so what is not there; once all in it have ended, and it has all
    /// of these.
    async fn settled(&self, answered: &[&str]) -> Result<Vec<Shown>, String> {
        let deadline = Instant::now() + SHOWN_WITHIN;
        loop {
            let listed = self.list("", LARGEST_PAGE).await;
            let is_settled = listed.as_ref().is_ok_and(|listed| {
                let ids: BTreeSet<&str> = listed.iter().map(|shown| shown.kickoff_id.as_str()).collect();
                let is_over =
                    |shown: &Shown| shown.status == "succeeded" || ENDED_BADLY.contains(&&*shown.status);
                listed.iter().all(is_over) && answered.iter().all(|id| ids.contains(id))
            });
            let knows_all = async || {
                let never = path_of("key-never");
                matches!(self.get(&never).await, Ok((404, _)))
            };
            if is_settled && knows_all().await || Instant::now() > deadline {
                return listed;
            }
            sleep(LOOK).await;
        }
    }

    async fn list(&self, query: &str, size: usize) -> Result<Vec<Shown>, String> {
        let path = format!("/v1/kickoffs?{query}&limit={size}");
        self.pages(&path, "cursor").await
    }

    async fn look(&self, id: &str) -> Look {
        let path = path_of(id);
        let result = self.ok::<Reply>(&format!("{path}/result")).await;
        Look {
            shown: self.ok(&path).await,
            result: result.map(|reply| seen(&reply)),
            events: self.events(&path).await,
        }
    }

    async fn events(&self, path: &str) -> Result<Vec<EventShown>, String> {
        self.pages(&format!("{path}/events?limit={EVENTS}"), "after")
            .await
    }

    /// All pages; the next one begins where this parameter says.
    async fn pages<T: DeserializeOwned>(&self, path: &str, parameter: &str) -> Result<Vec<T>, String> {
        let (mut all, mut cursors) = (Vec::new(), BTreeSet::new());
        let mut page: Page<T> = self.ok(path).await?;
        loop {
            all.append(&mut page.items);
            let Some(cursor) = page.next_cursor else {
                return Ok(all);
            };
            let cursor = cursor.as_str().map_or(cursor.to_string(), str::to_owned);
            let next = format!("{path}&{parameter}={cursor}");
            if !cursors.insert(cursor) {
                return Err(format!("{path} comes back to a page"));
            }
            page = self.ok(&next).await?;
        }
    }

    /// What is there, or the answer that says why not.
    async fn ok<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let (status, text) = self.get(path).await?;
        let parsed = match status {
            200 => serde_json::from_str(&text).ok(),
            _ => None,
        };
        parsed.ok_or_else(|| format!("GET {path} answers {status}: {text}"))
    }

    async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let failed = |error: reqwest::Error| format!("GET {path}: {error}");
        let request = self
            .client
            .get(format!("{}{path}", self.url))
            .bearer_auth(self.token)
            .timeout(SHOWN_WITHIN);
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.map_err(failed)?))
    }
}

fn path_of(id: &str) -> String {
    format!("/v1/kickoffs/{id}")
}
