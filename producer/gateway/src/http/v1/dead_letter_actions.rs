//! `POST /v1/dead-letters/redrive` and `…/purge`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use crewfleet::dead_letters::{Plan, PurgeReport, RedriveOptions, RedriveReport, Selection};
use crewfleet_protocol::KickoffId;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::body;
use super::dead_letter_view::{GroupView, Looked};
use super::dead_letters::{Look, refused};
use super::many;
use super::no_query::NoQuery;
use super::problem::{Refusal, Refusals};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::tokens::Scope;

/// After so long it goes no further …
const WORKING: Duration = Duration::from_secs(33);
/// … and after so long the call is answered, whatever RabbitMQ still owes.
const ANSWERING: Duration = Duration::from_secs(39);
/// Letters that could not be redriven are told one by one, so many at most.
const TOLD: usize = 1_000;

/// Which dead letters to run again. All that is named must hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redrive {
    /// Letters of this crew. Of a sink: `sinks.NAME`, for a token that is good for all crews.
    #[schema(example = "marketing")]
    crew: Option<String>,
    /// Letters of this kickoff.
    kickoff_id: Option<String>,
    /// Letters with this reason.
    #[schema(example = "failed")]
    reason: Option<String>,
    /// Letters whose error has this fingerprint.
    fingerprint: Option<String>,
    /// All that your token may see, where nothing else is named.
    #[serde(default)]
    all: bool,
    /// Run so many a second at most: 0.1 to 1000. As fast as RabbitMQ confirms, unless you say otherwise.
    #[schema(minimum = 0.1, maximum = 1000)]
    rate_per_s: Option<f64>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Which dead letters to throw away. All that is named must hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purge {
    /// Letters of this crew. Of a sink: `sinks.NAME`, for a token that is good for all crews.
    #[schema(example = "marketing")]
    crew: Option<String>,
    /// Letters of this kickoff.
    kickoff_id: Option<String>,
    /// Letters with this reason.
    #[schema(example = "failed")]
    reason: Option<String>,
    /// Letters whose error has this fingerprint.
    fingerprint: Option<String>,
    /// All that your token may see, where nothing else is named.
    #[serde(default)]
    all: bool,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What a redrive did, or would do.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct RedriveAnswer {
    /// Whether nothing was done yet: the numbers are what would be.
    dry_run: bool,
    /// Requests that are in their crews' queues again.
    redriven: u64,
    /// Letters that were only removed, since another one stands for the same kickoff.
    copies: u64,
    /// Letters that are kept, since they were redriven 5 times already and died each time. `crewfleet dead-letters redrive
    /// --force` redrives them.
    guarded: u64,
    /// Letters that are kept, since their requests were refused: the first 1000 of them.
    failed: Vec<NotRedriven>,
    /// Letters that somebody else took away meanwhile.
    gone: u64,
    /// Letters that there was no time for: call again.
    remaining: u64,
    /// Of a dry run: the letters that are meant, those that died alike together.
    groups: Vec<GroupView>,
    #[serde(flatten)]
    looked: Looked,
}

/// A letter that could not be redriven.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotRedriven {
    /// The kickoff, or `-`.
    kickoff_id: String,
    /// Its crew.
    crew: String,
    /// Why.
    detail: String,
}

/// What a purge did, or would do.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct PurgeAnswer {
    /// Whether nothing was done yet: the numbers are what would be.
    dry_run: bool,
    /// Letters that are lost.
    purged: u64,
    /// Letters that were gone already.
    gone: u64,
    /// Letters that there was no time for: call again.
    remaining: u64,
    /// Of a dry run: the letters that are meant, those that died alike together.
    groups: Vec<GroupView>,
    #[serde(flatten)]
    looked: Looked,
}

/// Run dead letters again: their requests go back to their crews' queues, under the same ids.
///
/// The call looks at 20,000 letters at most, and ends within 40 s: `remaining` says what there was no time for, `unseen` what
/// was not looked at.
#[utoipa::path(
    post, path = "/v1/dead-letters/redrive", tag = "dead letters", operation_id = "redriveDeadLetters",
    request_body = Redrive,
    responses((status = 200, body = RedriveAnswer, description = "What was redriven, or would be."), Refusals),
)]
pub(crate) async fn redrive(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    _: NoQuery,
    request: Request,
) -> Result<Json<RedriveAnswer>, Refusal> {
    identity.act("redrive", Scope::Operate)?;
    let start = Instant::now();
    let asked: Redrive = body::read(&gateway, &identity, request, "{\"crew\": \"marketing\"}").await?;
    many::check_rate(asked.rate_per_s)?;
    let is_meant = asked.all || asked.dry_run;
    let selection = selection(
        asked.crew,
        asked.kickoff_id,
        asked.reason,
        asked.fingerprint,
        is_meant,
    )?;
    let look = Look::new(&gateway, &identity, selection).await?;
    gateway.may_publish()?;
    let options = RedriveOptions {
        rate: asked.rate_per_s,
        ..RedriveOptions::default()
    };
    let plan = look.plan().await?;
    let (planned, looked) = (plan.letters(), Looked::at(&plan.queues));
    if asked.dry_run {
        let forecast = plan.forecast(&options);
        return Ok(Json(RedriveAnswer {
            dry_run: true,
            redriven: forecast.redriven,
            copies: forecast.copies,
            guarded: forecast.guarded,
            remaining: planned,
            groups: groups(plan),
            looked,
            ..RedriveAnswer::default()
        }));
    }
    let redriving = work(&gateway, start, async move |stop| {
        look.letters.redrive(plan, &options, &stop, |_, _| {}).await
    });
    let RedriveReport {
        redriven,
        copies,
        guarded,
        undone,
        gone,
        ..
    } = redriving.await?.map_err(refused)?;
    let told = redriven + copies + guarded + gone + undone.len() as u64;
    Ok(Json(RedriveAnswer {
        redriven,
        copies,
        guarded,
        gone,
        remaining: planned.saturating_sub(told),
        failed: undone
            .into_iter()
            .take(TOLD)
            .map(|undone| NotRedriven {
                kickoff_id: undone.kickoff_id,
                crew: undone.crew,
                detail: undone.problem,
            })
            .collect(),
        looked,
        ..RedriveAnswer::default()
    }))
}

/// Throw dead letters away. Nobody can bring them back.
///
/// The call looks at 20,000 letters at most, and ends within 40 s: `remaining` says what there was no time for, `unseen` what
/// was not looked at. A body that names nothing is refused, unless it says `"all": true`.
#[utoipa::path(
    post, path = "/v1/dead-letters/purge", tag = "dead letters", operation_id = "purgeDeadLetters",
    request_body = Purge,
    responses((status = 200, body = PurgeAnswer, description = "What was purged, or would be."), Refusals),
)]
pub(crate) async fn purge(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    _: NoQuery,
    request: Request,
) -> Result<Json<PurgeAnswer>, Refusal> {
    identity.act("purge", Scope::Admin)?;
    let start = Instant::now();
    let asked: Purge = body::read(&gateway, &identity, request, "{\"crew\": \"marketing\"}").await?;
    let is_meant = asked.all || asked.dry_run;
    let selection = selection(
        asked.crew,
        asked.kickoff_id,
        asked.reason,
        asked.fingerprint,
        is_meant,
    )?;
    let look = Look::new(&gateway, &identity, selection).await?;
    let plan = look.plan().await?;
    let (planned, looked) = (plan.letters(), Looked::at(&plan.queues));
    if asked.dry_run {
        return Ok(Json(PurgeAnswer {
            dry_run: true,
            purged: planned,
            remaining: planned,
            groups: groups(plan),
            looked,
            ..PurgeAnswer::default()
        }));
    }
    let purging = work(&gateway, start, async move |stop| {
        look.letters.purge(plan, &stop).await
    });
    // What was gone is among those that are not in the queue any more.
    let PurgeReport { purged, gone, .. } = purging.await?.map_err(refused)?;
    Ok(Json(PurgeAnswer {
        purged,
        gone,
        remaining: planned.saturating_sub(purged + gone),
        looked,
        ..PurgeAnswer::default()
    }))
}

fn groups(plan: Plan) -> Vec<GroupView> {
    plan.groups.into_iter().map(GroupView::from).collect()
}

fn selection(
    crew: Option<String>,
    kickoff_id: Option<String>,
    reason: Option<String>,
    fingerprint: Option<String>,
    is_meant: bool,
) -> Result<Selection, ApiError> {
    let names_something = crew.is_some() || kickoff_id.is_some() || reason.is_some() || fingerprint.is_some();
    if !names_something && !is_meant {
        return Err(ApiError::validation(
            "The body does not say which dead letters: name crew, kickoff_id, reason or fingerprint, or send \"all\": true",
        ));
    }
    let invalid = |e: crewfleet_protocol::InvalidName| ApiError::validation(e.to_string());
    Ok(Selection {
        kickoff_id: kickoff_id
            .map(|id| KickoffId::parse(&id))
            .transpose()
            .map_err(invalid)?,
        crews: crew
            .map(|crew| crew.parse())
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(invalid)?,
        reason,
        fingerprint,
        ..Selection::default()
    })
}

/// Does what may take long, until its time is over or the gateway ends. It comes to an end of its own also where its caller
/// goes away: between a publish and what follows from it nothing is cut off.
async fn work<T: Send + 'static, F: Future<Output = T>>(
    gateway: &Arc<Gateway>,
    start: Instant,
    work: impl FnOnce(CancellationToken) -> F + Send + 'static,
) -> Result<T, ApiError> {
    let (gateway, runtime) = (Arc::clone(gateway), Handle::current());
    let stop = CancellationToken::new();
    // On a thread of its own, since the walk over a queue cannot change threads.
    let working = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let ending = async {
                tokio::select! {
                    () = sleep_until(start + WORKING) => {}
                    () = gateway.ends() => {}
                }
                stop.cancel();
                std::future::pending::<std::convert::Infallible>().await
            };
            tokio::select! {
                done = work(stop.clone()) => done,
                never = ending => match never {},
            }
        })
    });
    match timeout_at(start + ANSWERING, working).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(ApiError::unavailable(
            "The gateway could not do it to its end; call again",
        )),
        Err(_) => Err(ApiError::unavailable(
            "RabbitMQ takes too long. What is under way is done to its end; call again for the rest",
        )),
    }
}
