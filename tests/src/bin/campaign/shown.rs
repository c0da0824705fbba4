//! What the gateways show at the end, as values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::records::ReplySeen;

/// All that one gateway shows.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Survey {
    /// Its name.
    pub gateway: String,
    /// The whole list, page by page.
    pub listed: Vec<Shown>,
    /// What filters take of it.
    pub filtered: Vec<Filtered>,
    /// What it shows of each kickoff that it was asked for.
    pub looks: BTreeMap<String, Look>,
    /// How it shows the batch with an end.
    pub batch: Option<BatchShown>,
    /// What it answers for ids that never were: the id, and the status.
    pub never: Vec<(String, u16)>,
    /// What it did not answer.
    pub unanswered: Vec<String>,
}

/// A kickoff as a gateway shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Its id.
    pub kickoff_id: String,
    /// Its crew.
    pub crew: String,
    /// `succeeded`, …
    pub status: String,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub redrive: u32,
    /// The worker that had it last.
    pub worker: Option<String>,
    /// Why it did not succeed.
    pub error: Option<ErrorShown>,
}

/// An error as a gateway shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorShown {
    /// Its kind.
    pub kind: String,
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BatchShown {
    /// How many items it has.
    pub total: Option<u64>,
    /// How many ended how.
    pub by_status: BTreeMap<String, u64>,
    /// What followed, and succeeded.
    pub callback: Option<String>,
}

impl BatchShown {
    /// As a gateway shows it.
    pub(crate) fn shown(view: &Value) -> Option<Self> {
        let callback = &view["callback"];
        let id = callback["kickoff_id"].as_str();
        Some(Self {
            callback: id
                .filter(|_| callback["status"] == "succeeded")
                .map(str::to_owned),
            ..Self::counted(view)?
        })
    }

    /// As what follows was told.
    pub(crate) fn told(batch: &Value, callback: &str) -> Option<Self> {
        Some(Self {
            callback: Some(callback.to_owned()),
            ..Self::counted(batch)?
        })
    }

    fn counted(batch: &Value) -> Option<Self> {
        let by_status = batch["by_status"].as_object()?;
        let by_status = by_status
            .iter()
            .map(|(status, count)| Some((status.clone(), count.as_u64()?)));
        Some(Self {
            total: batch["total"].as_u64(),
            by_status: by_status.collect::<Option<_>>()?,
            callback: None,
        })
    }
}

/// What a filter took: each kickoff of one of these crews and of one of these states, where any are named.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Filtered {
    /// The crews.
    pub crews: Vec<String>,
    /// The states.
    pub states: Vec<String>,
    /// The ids, page by page.
    pub ids: Vec<String>,
}

impl Filtered {
    /// Whether it is to take this one.
    pub(crate) fn takes(&self, shown: &Shown) -> bool {
        (self.crews.is_empty() || self.crews.contains(&shown.crew))
            && (self.states.is_empty() || self.states.contains(&shown.status))
    }
}

/// What a gateway shows of one kickoff. `Err` is what it answered instead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Look {
    /// The kickoff.
    pub shown: Result<Shown, String>,
    /// Its result.
    pub result: Result<ReplySeen, String>,
    /// Its events, in their order.
    pub events: Result<Vec<EventShown>, String>,
}

/// An event as a gateway shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventShown {
    /// Its place in the stream.
    pub id: u64,
    /// The kickoff.
    pub kickoff_id: String,
    /// Its crew.
    pub crew: String,
    /// `kickoff_started`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub redrive: u32,
    /// What it says.
    pub data: serde_json::Value,
}

impl EventShown {
    /// How the kickoff ended, where it says so.
    pub(crate) fn end(&self) -> Option<&str> {
        (self.kind == "kickoff_finished").then(|| self.data["status"].as_str().unwrap_or("none"))
    }
}
