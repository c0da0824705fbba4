//! `POST /v1/kickoffs/bulk`: cancel or retry all that a filter takes, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use crewfleet_protocol::KickoffId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::actions::again;
use super::body;
use super::many::{self, Outcome};
use super::no_query::NoQuery;
use super::problem::{Refusal, Refusals};
use super::search::restrict;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::idempotency;
use crate::http::identity::Identity;
use crate::store::filter::{Cursor, Filter};
use crate::store::row::{Kickoff, millis};
use crate::store::state::State as Status;
use crate::tokens::Scope;

/// Kickoffs of one call, at most, and unless the caller says otherwise.
const LARGEST: usize = 1_000;
/// So far they are counted.
const COUNTED: u64 = 10_000;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Cancel those that wait or run.
    Cancel,
    /// Start those once more that have ended, as new ones.
    Retry,
}

/// What to do to which kickoffs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    action: Action,
    filter: BulkFilter,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
    /// So many by this call: 1 to 1000, and 1000 unless you say otherwise.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// So many a second at most: 0.1 to 1000.
    #[schema(minimum = 0.1, maximum = 1000)]
    rate_per_s: Option<f64>,
    /// Go on where another call ended: its `next_cursor`.
    cursor: Option<String>,
}

/// Which kickoffs. All that is named must hold, and something must be named.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BulkFilter {
    /// Of these crews.
    #[schema(example = json!(["marketing"]))]
    crew: Vec<String>,
    /// In one of these states. To cancel: `queued`, `running`, `unknown`, and these unless you name some. To retry: `failed`,
    /// `timed_out`, `expired`, `rejected` unless you name some, and `succeeded` and `cancelled` if you do.
    status: Vec<Status>,
    /// Created at this moment or later (RFC 3339).
    since: Option<DateTime<Utc>>,
    /// Created before this moment (RFC 3339).
    until: Option<DateTime<Utc>>,
    /// That this worker has, or had last.
    worker: Option<String>,
    /// Whose error has this fingerprint.
    error: Option<String>,
    /// With these values in `meta`: keys of `[gateway.store] meta_keys`, and `batch`.
    #[schema(example = json!({"batch": "monday"}))]
    meta: BTreeMap<String, String>,
}

/// What was done, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkAnswer {
    /// How many kickoffs the filter takes, from the cursor on. They are counted up to 10,000.
    matched: u64,
    /// Whether there are more than `matched`.
    matched_at_least: bool,
    /// How many were cancelled or started once more by this call, or by an earlier one with its cursor.
    done: u64,
    /// Those that cannot be.
    failed: Vec<BulkFailure>,
    /// How many are left, as far as they are counted: send the call again, with `cursor` as `next_cursor` says.
    remaining: u64,
    /// Where the next call goes on; `null` where nothing is left. A call that is repeated with the same cursor starts nothing
    /// twice.
    next_cursor: Option<String>,
    /// Why this call went no further, where that was not its limit or its time.
    detail: Option<String>,
}

/// A kickoff to which it could not be done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkFailure {
    kickoff_id: String,
    /// Why.
    detail: String,
}

/// Cancel or retry all kickoffs that a filter takes, the newest first.
///
/// A call ends within 40 s; for what is left, send it again with `cursor`. An `Idempotency-Key` makes the first call one that
/// you may repeat, too: what it has started once more is not started again.
#[utoipa::path(
    post, path = "/v1/kickoffs/bulk", tag = "kickoffs", operation_id = "bulkKickoffs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Names this sweep over the kickoffs. At most 255 characters.")),
    request_body = Bulk,
    responses((status = 200, body = BulkAnswer, description = "What was done, or would be."), Refusals),
)]
pub(crate) async fn bulk(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    _: NoQuery,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<BulkAnswer>, Refusal> {
    identity.act("bulk", Scope::Operate)?;
    let end = Instant::now() + many::BEGINNING;
    let form = "{\"action\": \"cancel\", \"filter\": {\"crew\": [\"marketing\"]}}";
    let bulk: Bulk = body::read(&gateway, &identity, request, form).await?;
    let (action, limit) = (bulk.action, bulk.limit.unwrap_or(LARGEST));
    identity.act(action.audited(), Scope::Operate)?;
    if !(1..=LARGEST).contains(&limit) {
        return Err(ApiError::validation(format!("limit = {limit}: it must be 1 to {LARGEST}")).into());
    }
    many::check_rate(bulk.rate_per_s)?;
    let place = Place::read(bulk.cursor.as_deref(), &headers)?;
    let filter = bulk.filter.read(&gateway, &identity, action)?;
    let queries = &gateway.store.queries;
    let matched = queries
        .count_behind(filter.clone(), place.behind, COUNTED + 1)
        .await?;
    let mut answer = BulkAnswer {
        matched: matched.min(COUNTED),
        matched_at_least: matched > COUNTED,
        done: 0,
        failed: Vec::new(),
        remaining: matched.min(COUNTED),
        next_cursor: None,
        detail: None,
    };
    if bulk.dry_run {
        return Ok(Json(answer));
    }
    let mut found = queries.list(filter, place.behind, limit + 1).await?;
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let mut outcome = many::each(found.len(), bulk.rate_per_s, end, async |number| {
        let kickoff = found.get(number).ok_or_else(gone)?;
        match action {
            Action::Cancel => gateway.cancel(kickoff).await,
            Action::Retry => retried(&gateway, &identity, kickoff, &place.sweep).await,
        }
    })
    .await;
    answer.detail = outcome.detail()?;
    let Outcome {
        done, failed, left, ..
    } = outcome;
    answer.done = done;
    // What there are fewer of than were counted has changed meanwhile.
    answer.remaining = answer.remaining.saturating_sub(done + failed.len() as u64);
    answer.next_cursor = match left.first() {
        // Behind the last one before which nothing is left.
        Some(first) => {
            let before = first.checked_sub(1).and_then(|number| found.get(number));
            Some(place.written(before.and_then(Cursor::behind).or(place.behind)))
        }
        None if is_last => None,
        None => found.last().map(|last| place.written(Cursor::behind(last))),
    };
    let failures = failed.into_iter().filter_map(|(number, detail)| {
        Some(BulkFailure {
            kickoff_id: found.get(number)?.id.clone(),
            detail,
        })
    });
    answer.failed = failures.collect();
    Ok(Json(answer))
}

/// Once more, and once in a sweep.
async fn retried(
    gateway: &Gateway,
    identity: &Identity,
    kickoff: &Kickoff,
    sweep: &str,
) -> Result<(), ApiError> {
    let order = again(gateway, identity, kickoff, None).await?;
    let mut digest = Sha256::new();
    digest.update(sweep);
    digest.update([0]);
    digest.update(&kickoff.id);
    let id = format!("retry-{}", &hex::encode(digest.finalize())[..40]);
    let id = KickoffId::parse(&id).map_err(|e| ApiError::validation(e.to_string()))?;
    gateway.take(order.under(id)?.named()).await.map(drop)
}

fn gone() -> ApiError {
    ApiError::validation("It is gone")
}

impl Action {
    fn audited(self) -> &'static str {
        match self {
            Self::Cancel => "bulk cancel",
            Self::Retry => "bulk retry",
        }
    }

    fn takes(self, status: Status) -> bool {
        match self {
            Self::Cancel => !status.is_over(),
            Self::Retry => status.is_over(),
        }
    }

    /// What it is done to unless the caller says otherwise.
    fn usual(self) -> Vec<Status> {
        match self {
            Self::Cancel => vec![Status::Queued, Status::Running, Status::Unknown],
            Self::Retry => vec![
                Status::Failed,
                Status::TimedOut,
                Status::Expired,
                Status::Rejected,
            ],
        }
    }
}

impl BulkFilter {
    fn read(self, gateway: &Gateway, identity: &Identity, action: Action) -> Result<Filter, ApiError> {
        let names_time = self.since.is_some() || self.until.is_some();
        let names_more = self.worker.is_some() || self.error.is_some() || !self.meta.is_empty();
        if self.crew.is_empty() && self.status.is_empty() && !names_time && !names_more {
            return Err(ApiError::validation(
                "filter names nothing, and would take all kickoffs: name crew, status, since, until, worker, error or meta",
            ));
        }
        if let Some(other) = self.status.iter().find(|status| !action.takes(**status)) {
            return Err(ApiError::validation(format!(
                "filter.status has \"{}\": a kickoff that is so cannot be {}",
                other.as_str(),
                match action {
                    Action::Cancel => "cancelled",
                    Action::Retry => "started once more; cancel it first",
                }
            )));
        }
        if let Some(key) = self.meta.keys().find(|key| !gateway.searches_meta(key)) {
            return Err(ApiError::validation(format!(
                "filter.meta has {key:?}: nothing is searched by this key; there are {} ([gateway.store] meta_keys)",
                gateway.indexes.meta_keys.join(", ")
            )));
        }
        let mut filter = Filter {
            crews: self.crew,
            states: match self.status.is_empty() {
                true => action.usual(),
                false => self.status,
            },
            since: self.since.map(millis),
            until: self.until.map(millis),
            worker: self.worker,
            fingerprint: self.error,
            chain: None,
            meta: self.meta.into_iter().collect(),
            text: None,
        };
        // One that is named twice would be found twice.
        filter.crews.sort_unstable();
        filter.crews.dedup();
        filter.states.sort_unstable_by_key(|state| *state as u8);
        filter.states.dedup();
        restrict(identity, &mut filter)?;
        Ok(filter)
    }
}

/// How far a sweep over the kickoffs is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The name of the sweep: by it a call that is repeated knows what was done.
    sweep: String,
    behind: Option<Cursor>,
}

impl Place {
    fn read(cursor: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        let key = idempotency::key(headers)?;
        let Some(cursor) = cursor else {
            let sweep = match key {
                Some(key) => hex::encode(Sha256::digest(key))[..32].to_owned(),
                None => Uuid::now_v7().simple().to_string(),
            };
            return Ok(Self { sweep, behind: None });
        };
        let read = || {
            let (sweep, behind) = cursor.split_once('.')?;
            let is_name = sweep.len() == 32 && sweep.bytes().all(|byte| byte.is_ascii_hexdigit());
            let behind = match behind {
                "" => None,
                behind => Some(Cursor::read(behind)?),
            };
            is_name.then(|| Self {
                sweep: sweep.to_owned(),
                behind,
            })
        };
        read().ok_or_else(|| {
            let why = "it is no cursor; send the next_cursor of the call before";
            ApiError::validation(format!("cursor = \"{cursor}\": {why}"))
        })
    }

    fn written(&self, behind: Option<Cursor>) -> String {
        format!(
            "{}.{}",
            self.sweep,
            behind.map(Cursor::written).unwrap_or_default()
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_sweep_goes_on_under_its_name_and_a_key_names_it_always_alike() {
        let mut headers = HeaderMap::new();
        let fresh = Place::read(None, &headers).unwrap();
        assert_ne!(fresh, Place::read(None, &headers).unwrap());
        headers.insert("idempotency-key", HeaderValue::from_static("monday"));
        let place = Place::read(None, &headers).unwrap();
        assert_eq!(place, Place::read(None, &headers).unwrap());
        let behind = Some(Cursor {
            created: 1_764_500_000_123,
            number: 7,
        });
        for behind in [None, behind] {
            let next = Place::read(Some(&place.written(behind)), &HeaderMap::new()).unwrap();
            assert_eq!((&next.sweep, next.behind), (&place.sweep, behind));
        }
        for other in [
            "",
            ".",
            "1-1",
            &format!("{}.1", place.sweep),
            &format!("x{}.1-1", &place.sweep[1..]),
        ] {
            assert!(Place::read(Some(other), &HeaderMap::new()).is_err(), "{other}");
        }
    }

    #[test]
    fn what_is_done_to_all_is_done_to_none_that_it_cannot_be_done_to() {
        for action in [Action::Cancel, Action::Retry] {
            assert!(action.usual().into_iter().all(|status| action.takes(status)));
        }
        assert!(!Action::Retry.usual().contains(&Status::Succeeded));
    }
}
