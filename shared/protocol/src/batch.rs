//! Batches that have an end: what is to follow when the last item has ended, and what is done when items fail.
//!
//! Gateways and clients publish it to the exchange `kickoff.batches`. Gateways read it from the stream behind that.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{Body, sealed};
use super::{CrewName, Step};

/// What becomes of a batch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BatchNews {
    /// Its id. Its items are kickoffs `<batch>-<number>` with `meta.batch`.
    pub batch: String,
    /// When this was said.
    pub time: DateTime<Utc>,
    /// What it is.
    pub change: BatchChange,
}

impl sealed::Sealed for BatchNews {}
impl Body for BatchNews {}

/// A change of a batch. Of several of one kind the first one counts, but for `closed`: there the last one does.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchChange {
    /// It begins.
    Opened(BatchSpec),
    /// No more items come.
    Closed(BatchClosed),
    /// So many items failed that the others are cancelled.
    Stopped(BatchStopped),
    /// All of its items have ended, and what follows was started.
    Ended(BatchEnded),
}

/// What a batch is. Its debug form has no inputs, and no `meta`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct BatchSpec {
    /// The crew of its items.
    pub crew: CrewName,
    /// How many it has.
    pub items: u64,
    /// What follows when all have ended; `null`: nothing.
    pub then: Option<Step>,
    /// What is done when items fail.
    #[serde(default)]
    pub on_item_failure: OnItemFailure,
    /// Under which key its reply goes to whoever opened the batch; absent where nobody waits for it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The `meta` of what follows.
    #[schemars(with = "Option<serde_json::Value>")]
    pub meta: Option<Box<RawValue>>,
}

impl fmt::Debug for BatchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut spec = f.debug_struct("BatchSpec");
        spec.field("crew", &self.crew)
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}

/// That no more items come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchClosed {
    /// How many items were refused: there is no kickoff of them.
    pub refused: u64,
}

/// That a batch is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchStopped {
    /// Which gateway does it. Others do if it does not.
    pub by: String,
    /// Why, for people.
    pub why: String,
}

/// That a batch has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchEnded {
    /// The kickoff that follows; `null` where nothing was to follow, or could.
    pub kickoff_id: Option<String>,
    /// Why what was to follow does not; `null` where nothing is wrong.
    pub problem: Option<String>,
}

/// What is done when items of a batch fail. Those that were cancelled have not failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnItemFailure {
    /// The others go on.
    #[default]
    Continue,
    /// With the first that fails the others are cancelled.
    FailFast,
    /// When so many have failed the others are cancelled.
    Threshold(Threshold),
}

/// How many items must fail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// So many: 1 or more.
    Failed(u64),
    /// This part of all: above 0, and 1 at most.
    Fraction(f64),
}

impl OnItemFailure {
    /// Refuses numbers that cannot be meant.
    ///
    /// # Errors
    /// Which one, and what to do.
    pub fn check(self) -> Result<Self, String> {
        match self {
            Self::Threshold(Threshold::Failed(0)) => {
                Err("on_item_failure.threshold.failed is 0; it must be 1 or more".to_owned())
            }
            Self::Threshold(Threshold::Fraction(part)) if !(part > 0.0 && part <= 1.0) => Err(format!(
                "on_item_failure.threshold.fraction is {part}; it must be above 0, and 1 at most"
            )),
            sound => Ok(sound),
        }
    }

    /// How many of `items` must fail, so that the others are cancelled; `None`: they never are.
    pub fn limit(self, items: u64) -> Option<u64> {
        match self {
            Self::Continue => None,
            Self::FailFast => Some(1),
            Self::Threshold(Threshold::Failed(failed)) => Some(failed),
            Self::Threshold(Threshold::Fraction(part)) => {
                // A batch has fewer items than a float counts exactly.
                Some(((items as f64 * part).ceil() as u64).max(1))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_when_items_fail_has_one_form_in_json() {
        for (text, items, limit) in [
            ("\"continue\"", 10, None),
            ("\"fail_fast\"", 10, Some(1)),
            ("{\"threshold\":{\"failed\":3}}", 10, Some(3)),
            ("{\"threshold\":{\"fraction\":0.1}}", 25, Some(3)),
            ("{\"threshold\":{\"fraction\":0.1}}", 2, Some(1)),
        ] {
            let read: OnItemFailure = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
            assert_eq!(read.check().unwrap().limit(items), limit, "{text}");
        }
        for text in [
            "{\"threshold\":{\"failed\":0}}",
            "{\"threshold\":{\"fraction\":1.5}}",
        ] {
            let read: OnItemFailure = serde_json::from_str(text).unwrap();
            assert!(read.check().is_err(), "{text}");
        }
    }

    #[test]
    fn a_batch_keeps_its_meta_byte_for_byte() {
        let text = r#"{"batch":"b","time":"2026-11-30T10:00:00Z","change":{"opened":{"crew":"echo","items":2,"then":null,"on_item_failure":"continue","meta":{"a": 1.50}}}}"#;
        let news: BatchNews = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(news.body()).unwrap(), text);
        assert!(!format!("{news:?}").contains("1.50"));
    }
}
