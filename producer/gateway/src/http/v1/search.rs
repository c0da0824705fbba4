//! What a list is filtered by, as it stands in a query.

use chrono::{DateTime, Utc};
use utoipa::IntoParams;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::store::filter::{Cursor, Filter};
use crate::store::row::millis;
use crate::store::state::State;
use crewfleet_protocol::{CrewName, KickoffId};

/// Items of a page, unless the caller says otherwise, and at most.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

/// What a list is filtered by. All that is named must hold. Besides, `meta.KEY=VALUE` for each key of `[gateway.store]
/// meta_keys`.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is there for the document; read() takes the pairs")]
pub(crate) struct Query {
    /// Kickoffs of these crews: names, separated by commas.
    #[param(pattern = "^([a-z0-9_-]{1,64}(,[a-z0-9_-]{1,64})*)?$")]
    crew: Option<String>,
    /// Kickoffs in these states, separated by commas: `queued`, `running`, `succeeded`, `failed`, `timed_out`, `cancelled`,
    /// `expired`, `rejected`, `unknown`.
    #[param(
        pattern = "^((queued|running|succeeded|failed|timed_out|cancelled|expired|rejected|unknown)(,|$))*$"
    )]
    status: Option<String>,
    /// Created at this moment or later (RFC 3339).
    since: Option<DateTime<Utc>>,
    /// Created before this moment (RFC 3339).
    until: Option<DateTime<Utc>>,
    /// Kickoffs that this worker has, or had last.
    worker: Option<String>,
    /// Kickoffs whose error has this fingerprint.
    error: Option<String>,
    /// Kickoffs of the chain that the kickoff with this id begins; it is among them.
    #[param(pattern = "^([A-Za-z0-9_-]{1,128})?$")]
    chain: Option<String>,
    /// Kickoffs whose inputs or result have all these words: among the 10,000 newest that do. It needs `[gateway.store]
    /// full_text`. Inputs are searched of what came over HTTP, and of each text the first 64 KiB.
    q: Option<String>,
    /// Where the page begins: the `next_cursor` of the page before it.
    #[param(pattern = "^([0-9a-f]{1,15}-[0-9a-f]{1,15})?$")]
    cursor: Option<String>,
    /// How many items a page has: 50 unless you say otherwise, at most 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A query that was read.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) filter: Filter,
    pub(crate) behind: Option<Cursor>,
    pub(crate) limit: usize,
}

impl Search {
    /// Reads the pairs of a query, for what this caller may see.
    ///
    /// # Errors
    /// [`ApiError`]: a name that is none of these, a value that is none.
    pub(crate) fn read(
        gateway: &Gateway,
        identity: &Identity,
        pairs: &[(String, String)],
    ) -> Result<Self, ApiError> {
        let (mut filter, mut behind, mut limit) = (Filter::default(), None, PAGE);
        // A name without a value, as forms send it, asks for nothing.
        let asks = |(name, value): &&(String, String)| {
            !value.is_empty() || ["since", "until", "limit"].contains(&&**name)
        };
        for (name, value) in pairs.iter().filter(asks) {
            let refused = |why: String| ApiError::validation(format!("{name}={value:?}: {why}"));
            match &**name {
                "crew" => filter.crews = crews(value).map_err(refused)?,
                "status" => filter.states = states(value).map_err(refused)?,
                "since" => filter.since = Some(time(value).map_err(refused)?),
                "until" => filter.until = Some(time(value).map_err(refused)?),
                "worker" => filter.worker = Some(value.clone()),
                "error" => filter.fingerprint = Some(value.clone()),
                "chain" => {
                    let id = KickoffId::parse(value).map_err(|e| refused(e.to_string()))?;
                    filter.chain = Some(id.to_string());
                }
                "q" if !gateway.indexes.full_text => {
                    return Err(refused(
                        "words are not searched here; set [gateway.store] full_text".into(),
                    ));
                }
                "q" => filter.text = Some(value.clone()).filter(|text| !text.trim().is_empty()),
                "cursor" => {
                    let cursor = Cursor::read(value);
                    let why = "it is no cursor; send the next_cursor of the page before";
                    behind = Some(cursor.ok_or_else(|| refused(why.into()))?);
                }
                "limit" => {
                    let read = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    limit = read.ok_or_else(|| refused(format!("it must be 1 to {LARGEST_PAGE}")))?;
                }
                _ => {
                    let key = name
                        .strip_prefix("meta.")
                        .filter(|key| gateway.searches_meta(key));
                    let key = key.ok_or_else(|| refused(unknown(gateway)))?;
                    filter.meta.push((key.to_owned(), value.clone()));
                }
            }
        }
        restrict(identity, &mut filter)?;
        Ok(Self {
            filter,
            behind,
            limit,
        })
    }
}

/// What this caller may see: kickoffs of its crews and of its tenant.
pub(crate) fn restrict(identity: &Identity, filter: &mut Filter) -> Result<(), ApiError> {
    for crew in &filter.crews {
        let name = CrewName::parse(crew).map_err(|e| ApiError::validation(e.to_string()))?;
        identity.reach(&name)?;
    }
    if filter.crews.is_empty()
        && let Some(crews) = identity.crews()
    {
        filter.crews = crews.to_vec();
    }
    if let Some(tenant) = identity.tenant() {
        filter.meta.push(("tenant".to_owned(), tenant.to_owned()));
    }
    Ok(())
}

fn unknown(gateway: &Gateway) -> String {
    let keys: Vec<_> = gateway
        .indexes
        .meta_keys
        .iter()
        .map(|key| format!("meta.{key}"))
        .collect();
    format!(
        "nothing is searched by this name; there are crew, status, since, until, worker, error, chain, q, cursor, limit, {} \
         ([gateway.store] meta_keys)",
        keys.join(", ")
    )
}

fn crews(value: &str) -> Result<Vec<String>, String> {
    let crew = |name: &str| {
        CrewName::parse(name)
            .map(|crew| crew.to_string())
            .map_err(|e| e.to_string())
    };
    value.split(',').map(crew).collect()
}

fn states(value: &str) -> Result<Vec<State>, String> {
    let state = |name: &str| {
        name.parse::<State>()
            .map_err(|_| format!("{name:?} is no status; there are {}", State::names()))
    };
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(state)
        .collect()
}

fn time(value: &str) -> Result<i64, String> {
    DateTime::parse_from_rfc3339(value)
        .map(|time| millis(time.to_utc()))
        .map_err(|e| format!("it is no moment as in 2026-11-30T12:00:00Z: {e}"))
}
