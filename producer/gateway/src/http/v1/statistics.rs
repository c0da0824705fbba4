//! `GET /v1/stats`, `GET /v1/spend` and `GET /v1/counts`: how the fleet does, what it costs, how many kickoffs there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as Pairs, State};
use chrono::{DateTime, Utc};
use crewfleet_protocol::CrewName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Refusal, Refusals};
use super::search::{Query, Search};
use super::spending::{Spending, Totals, spending};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::store::row::{millis, moment};
use crate::store::statistics::{COUNTED, CrewTally, Span};
use crate::tokens::Scope;

/// A window of time that ends now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) enum Window {
    /// Five minutes, in steps of 10 s.
    #[default]
    #[serde(rename = "5m")]
    FiveMinutes,
    /// A quarter of an hour, in steps of 10 s.
    #[serde(rename = "15m")]
    QuarterHour,
    /// An hour, in minutes.
    #[serde(rename = "1h")]
    Hour,
    /// A day, in hours.
    #[serde(rename = "24h")]
    Day,
    /// A week, in steps of 6 h.
    #[serde(rename = "7d")]
    Week,
    /// Thirty days.
    #[serde(rename = "30d")]
    Month,
}

impl Window {
    /// The length of its steps (ms), and how many it has.
    fn steps(self) -> (i64, usize) {
        match self {
            Self::FiveMinutes => (10_000, 30),
            Self::QuarterHour => (10_000, 90),
            Self::Hour => (60_000, 60),
            Self::Day => (3_600_000, 24),
            Self::Week => (6 * 3_600_000, 28),
            Self::Month => (24 * 3_600_000, 30),
        }
    }

    pub(super) fn span(self, now: i64) -> Span {
        let (step, points) = self.steps();
        Span::until(now, step, points)
    }
}

/// Which window.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Of {
    /// How long the window is that ends now: 5 minutes unless you say otherwise.
    #[serde(default)]
    #[param(inline)]
    window: Window,
}

/// How the crews do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// When the window begins.
    since: DateTime<Utc>,
    /// How long each interval of the series is, in seconds.
    step_s: i64,
    /// The crews of which kickoffs ended in the window, by name.
    crews: Vec<CrewStats>,
    /// Who paused or resumed crews, and drained workers, at this gateway.
    steered: Vec<SteeredView>,
}

/// How a crew does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CrewStats {
    /// The crew.
    #[schema(example = "marketing")]
    crew: String,
    /// How many ended in which state.
    #[schema(value_type = BTreeMap<String, u64>)]
    states: BTreeMap<&'static str, u64>,
    /// Half of them ran so long at most, in milliseconds, within a tenth; `null` where none ran.
    p50_ms: Option<i64>,
    /// 95 of 100 ran so long at most.
    p95_ms: Option<i64>,
    /// The share of those that did not succeed among those that were not cancelled; `null` where there are none.
    failure_share: Option<f64>,
    /// Tokens that were spent.
    tokens: i64,
    /// The same in a minute, on average.
    tokens_per_minute: f64,
    /// How many ended in each interval, the oldest first.
    ended: Vec<u64>,
    /// Those among them that did not succeed and were not cancelled.
    failed: Vec<u64>,
    /// Tokens that were spent in each.
    tokens_series: Vec<i64>,
}

/// What somebody did to a crew or a worker last.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Steered)]
pub(crate) struct SteeredView {
    /// `crew` or `worker`.
    kind: String,
    /// Which.
    name: String,
    /// `pause`, `resume` or `drain`.
    action: String,
    /// The name of the token that did it.
    token: String,
    /// When.
    at: DateTime<Utc>,
}

/// Get how the crews do: what ended, how long it took, which share failed, what it cost.
///
/// It is counted as kickoffs end, so that the answer takes as long whatever the number of kickoffs.
#[utoipa::path(
    get, path = "/v1/stats", tag = "statistics", operation_id = "getStats", params(Of),
    responses((status = 200, body = Stats, description = "The crews."), Refusals),
)]
pub(crate) async fn stats(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    of: Result<Pairs<Of>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Stats>, Refusal> {
    identity.require(Scope::Read)?;
    let Pairs(Of { window }) = of.map_err(|e| ApiError::validation(e.body_text()))?;
    let now = millis(Utc::now());
    let span = window.span(now);
    let tenant = identity.tenant().map(str::to_owned);
    let tallies = gateway.store.queries.tallies(span, tenant).await?;
    let steered = gateway.store.queries.steering().await?;
    let allows = |crew: &str| CrewName::parse(crew).is_ok_and(|crew| identity.allows(&crew));
    let minutes = (now - span.since).max(1) as f64 / 60_000.0;
    Ok(Json(Stats {
        since: moment(span.since),
        step_s: span.step / 1_000,
        crews: tallies
            .into_iter()
            .filter(|(crew, _)| allows(crew))
            .map(|(crew, tally)| stats_of(crew, tally, minutes))
            .collect(),
        steered: steered
            .into_iter()
            .filter(|one| one.kind != "crew" || allows(&one.name))
            .map(|one| SteeredView {
                kind: one.kind,
                name: one.name,
                action: one.action,
                token: one.token,
                at: moment(one.time),
            })
            .collect(),
    }))
}

fn stats_of(crew: String, tally: CrewTally, minutes: f64) -> CrewStats {
    let tokens: i64 = tally.tokens.iter().sum();
    let (ended, failed): (u64, u64) = (tally.ended.iter().sum(), tally.failed.iter().sum());
    let counted = ended - tally.states.get("cancelled").copied().unwrap_or(0);
    CrewStats {
        crew,
        p50_ms: tally.quantile(0.5),
        p95_ms: tally.quantile(0.95),
        failure_share: (counted > 0).then(|| failed as f64 / counted as f64),
        tokens,
        tokens_per_minute: tokens as f64 / minutes,
        states: tally.states,
        ended: tally.ended,
        failed: tally.failed,
        tokens_series: tally.tokens,
    }
}

/// How many kickoffs a filter takes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Counts {
    /// How many are in which state.
    #[schema(value_type = BTreeMap<String, u64>)]
    states: BTreeMap<&'static str, u64>,
    /// So far it was counted: each state where the filter is of crews and a time alone, else the newest in all.
    limit: u64,
    /// Whether there are more than were counted.
    at_least: bool,
}

/// Count the kickoffs that a filter takes, by state.
#[utoipa::path(
    get, path = "/v1/counts", tag = "statistics", operation_id = "countKickoffs", params(Query),
    responses((status = 200, body = Counts, description = "The counts."), Refusals),
)]
pub(crate) async fn counts(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Json<Counts>, Refusal> {
    identity.require(Scope::Read)?;
    let search = Search::read(&gateway, &identity, &pairs)?;
    let (states, at_least) = gateway.store.queries.by_state(search.filter).await?;
    Ok(Json(Counts {
        states,
        limit: COUNTED,
        at_least,
    }))
}

/// What was spent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Spent {
    /// When the window begins.
    since: DateTime<Utc>,
    /// How long each interval of the series is, in seconds.
    step_s: i64,
    /// In the window.
    now: Totals,
    /// In the window before it, which is as long.
    before: Totals,
    #[serde(flatten)]
    by: Spending,
}

/// Get what was spent in tokens: by crew, model and tenant, with what was spent in vain.
///
/// It is counted as models are called, where the crews' events tell; else when the reply tells, of no model then.
#[utoipa::path(
    get, path = "/v1/spend", tag = "statistics", operation_id = "getSpend", params(Of),
    responses((status = 200, body = Spent, description = "The tokens."), Refusals),
)]
pub(crate) async fn spend(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    of: Result<Pairs<Of>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Spent>, Refusal> {
    identity.require(Scope::Read)?;
    let Pairs(Of { window }) = of.map_err(|e| ApiError::validation(e.body_text()))?;
    let span = window.span(millis(Utc::now()));
    let before = span.since - span.step * span.points as i64;
    let tenant = identity.tenant().map(str::to_owned);
    let mut rows = gateway.store.queries.spend(span.step, before, tenant).await?;
    rows.retain(|row| CrewName::parse(&row.crew).is_ok_and(|crew| identity.allows(&crew)));
    let (now, was, by) = spending(&rows, span);
    Ok(Json(Spent {
        since: moment(span.since),
        step_s: span.step / 1_000,
        now,
        before: was,
        by,
    }))
}
