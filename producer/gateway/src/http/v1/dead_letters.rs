//! `GET /v1/dead-letters` and `GET /v1/dead-letters/{kickoff_id}`.
//!
//! The letters are in queues, which are read from their beginnings for each look. So a look is bounded, and one at a time
//! sees a queue.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query as Pairs, State};
use crewfleet::ClientError;
use crewfleet::dead_letters::{
    DeadLetterError, DeadLetters, Letter, Looking, Owner, Plan, Reach, Selection, WholeLetter,
};
use crewfleet_amqp::reply_code;
use crewfleet_protocol::{CrewName, KickoffId, webhooks};
use serde_json::value::RawValue;
use tracing::warn;
use utoipa::IntoParams;

use super::crews::known;
use super::dead_letter_view::{
    DeadLetterList, GroupList, GroupView, LetterList, LetterView, Looked, WholeView,
};
use super::letter_cursor::LetterCursor;
use super::no_query::NoQuery;
use super::problem::{Problem, Refusal, Refusals};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::tokens::Scope;

/// What one call looks at. Bodies that are on their way are in memory, and one may have megabytes.
const LOOKING: Looking = Looking {
    window: 100,
    letters: 20_000,
    time: Duration::from_secs(20),
    patience: Duration::from_secs(5),
};
/// Letters of an answer, unless the caller says otherwise, and at most.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 1_000;

/// Which dead letters. All that is named must hold.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it is there for the document; Asked::read takes the pairs"
)]
pub(crate) struct Query {
    /// Letters of these crews: names, separated by commas. Of a sink: `sinks.NAME`, for a token that is good for all crews.
    crew: Option<String>,
    /// Letters with this reason: `failed`, `rejected`, `timed_out`, `crashed`, …
    reason: Option<String>,
    /// Letters whose error has this fingerprint.
    fingerprint: Option<String>,
    /// Count those that died alike, instead of listing each.
    group: Option<bool>,
    /// Go on where a page ended: its `next_cursor`. Each page looks at the letters again. Not with `group`.
    cursor: Option<String>,
    /// How many letters a page has: 50 unless you say otherwise, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Where to look, and for what.
pub(super) struct Look {
    pub(super) letters: DeadLetters,
    pub(super) crews: Vec<Owner>,
    pub(super) selection: Selection,
}

impl Look {
    /// For what this caller may see of what it selects.
    pub(super) async fn new(
        gateway: &Gateway,
        identity: &Identity,
        mut selection: Selection,
    ) -> Result<Self, ApiError> {
        for owner in &selection.crews {
            match owner {
                Owner::Crew(crew) => identity.reach(crew)?,
                Owner::Sink(_) => identity.reach_sink(&owner.to_string())?,
            }
        }
        let of_crews = async || {
            let known = known(gateway, identity).await?;
            Ok::<_, ApiError>(known.into_iter().map(Owner::from).collect())
        };
        let crews = match (&selection.kickoff_id, selection.crews.is_empty()) {
            (_, false) => selection.crews.clone(),
            // Its own queue alone, where its crew is known.
            (Some(id), true) => match gateway.store.queries.kickoff(id.as_str()).await? {
                Some(kickoff) => CrewName::parse(&kickoff.crew)
                    .into_iter()
                    .map(Owner::from)
                    .collect(),
                None => of_crews().await?,
            },
            (None, true) => of_crews().await?,
        };
        selection.reach = Reach {
            crews: identity.crews().map(<[_]>::to_vec),
            tenant: identity.tenant().map(str::to_owned),
        };
        Ok(Self {
            letters: DeadLetters::of(&gateway.client).looking(LOOKING),
            crews,
            selection,
        })
    }

    /// Which letters are meant.
    pub(super) async fn plan(&self) -> Result<Plan, ApiError> {
        self.letters
            .plan(&self.crews, &self.selection)
            .await
            .map_err(refused)
    }
}

/// List dead letters.
///
/// RabbitMQ counts each look as a delivery of every letter, which ends nothing.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", operation_id = "listDeadLetters", params(Query),
    responses((status = 200, body = DeadLetterList, description = "The dead letters."), Refusals),
)]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Json<DeadLetterList>, Refusal> {
    identity.require(Scope::Read)?;
    let asked = Asked::read(&pairs)?;
    let look = Look::new(&gateway, &identity, asked.selection).await?;
    if asked.in_groups {
        let looking = async move { look.letters.list(&look.crews, &look.selection).await };
        let listing = to_the_end(looking).await?;
        return Ok(Json(DeadLetterList::Groups(GroupList {
            looked: Looked::at(&listing.queues),
            groups: listing.groups.into_iter().map(GroupView::from).collect(),
        })));
    }
    let looking = async move { look.letters.letters(&look.crews, &look.selection).await };
    let (mut letters, queues) = to_the_end(looking).await?;
    let matched = letters.len();
    letters.retain(|letter| asked.behind.is_none_or(|cursor| cursor.is_before(letter)));
    let is_last = letters.len() <= asked.limit;
    letters.truncate(asked.limit);
    let next = letters.last().filter(|_| !is_last).map(LetterCursor::behind);
    Ok(Json(DeadLetterList::Letters(LetterList {
        matched,
        items: letters.into_iter().map(LetterView::from).collect(),
        next_cursor: next.map(LetterCursor::written),
        looked: Looked::at(&queues),
    })))
}

/// Get the dead letter of a kickoff, with its request.
#[utoipa::path(
    get, path = "/v1/dead-letters/{kickoff_id}", tag = "dead letters", operation_id = "getDeadLetter",
    params(("kickoff_id" = String, Path, description = "The kickoff.")),
    responses(
        (status = 200, body = WholeView, description = "The answer."),
        (status = 409, body = Problem, content_type = "application/problem+json",
         description = "It is not among those that one call looks at, and may be among the others."),
        Refusals,
    ),
)]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<WholeView>, Refusal> {
    identity.require(Scope::Read)?;
    identity.concerns(&id);
    let none = || ApiError::NotFound(format!("There is no dead letter of a kickoff {id}"));
    let kickoff_id = KickoffId::parse(&id).map_err(|_| none())?;
    let selection = Selection {
        kickoff_id: Some(kickoff_id),
        ..Selection::default()
    };
    let look = Look::new(&gateway, &identity, selection).await?;
    let looking = async move { look.letters.show_selected(&look.crews, &look.selection).await };
    let (mut found, queues) = to_the_end(looking).await?;
    found.sort_by_key(|whole| whole.letter.redrive);
    let Some(WholeLetter {
        letter,
        properties,
        request,
        text,
        bytes,
    }) = found.pop()
    else {
        let unseen = Looked::at(&queues).unseen;
        return Err(match unseen {
            0 => none(),
            _ => ApiError::Conflict(format!(
                "The letter of {id} is not among those that one call looks at, and {unseen} were not looked at; \
                 `crewfleet dead-letters show {id}` looks at all"
            )),
        }
        .into());
    };
    let (request, text) = shown(&letter, request, text);
    Ok(Json(WholeView {
        letter: letter.into(),
        request,
        text,
        bytes,
        properties,
        earlier: found.into_iter().rev().map(|whole| whole.letter.into()).collect(),
    }))
}

/// Looks to the end, also when its caller goes away: a look that is given up would keep others from the queue.
async fn to_the_end<T: Send + 'static>(
    looking: impl Future<Output = Result<T, DeadLetterError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(looking).await {
        Ok(found) => found.map_err(refused),
        Err(cause) => Err(ApiError::unavailable(format!(
            "The look at the dead letters ended: {cause}"
        ))),
    }
}

/// A request, or another text in its place, without the secrets of its webhooks.
fn shown(
    letter: &Letter,
    request: Option<Box<RawValue>>,
    text: Option<String>,
) -> (Option<Box<RawValue>>, Option<String>) {
    const HIDDEN: &str = "(It is not shown: it is no request, and may have the secrets of a webhook.)";
    // The order of a webhook is its secrets.
    if letter.is_sinks() {
        return (None, Some(HIDDEN.to_owned()));
    }
    let sent = request.as_deref().map(RawValue::get).or(text.as_deref());
    match sent.map(webhooks::shown) {
        Some(None) => (None, Some(HIDDEN.to_owned())),
        Some(Some(Cow::Owned(shown))) => (RawValue::from_string(shown).ok(), None),
        Some(Some(Cow::Borrowed(_))) | None => (request, text),
    }
}

/// What a query asks for.
#[derive(Debug)]
struct Asked {
    selection: Selection,
    in_groups: bool,
    behind: Option<LetterCursor>,
    limit: usize,
}

impl Asked {
    fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut asked = Self {
            selection: Selection::default(),
            in_groups: false,
            behind: None,
            limit: PAGE,
        };
        for (name, value) in pairs {
            let refused = |why: &str| ApiError::validation(format!("{name}={value:?}: {why}"));
            match &**name {
                "crew" => {
                    let crews = value
                        .split(',')
                        .map(str::parse::<Owner>)
                        .collect::<Result<_, _>>();
                    asked.selection.crews = crews.map_err(|e| refused(&e.to_string()))?;
                }
                "reason" => asked.selection.reason = Some(value.clone()),
                "fingerprint" => asked.selection.fingerprint = Some(value.clone()),
                "group" => {
                    asked.in_groups = value.parse().map_err(|_| refused("it must be true or false"))?
                }
                "cursor" => {
                    let cursor = LetterCursor::read(value);
                    let none = "it is not the next_cursor of a page";
                    asked.behind = Some(cursor.ok_or_else(|| refused(none))?);
                }
                "limit" => {
                    let limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    asked.limit = limit.ok_or_else(|| refused(&format!("it must be 1 to {LARGEST_PAGE}")))?;
                }
                _ => {
                    let why = "nothing is searched by this name; there are crew, reason, fingerprint, group, cursor, limit";
                    return Err(refused(why));
                }
            }
        }
        if asked.in_groups && asked.behind.is_some() {
            let problem =
                "cursor goes on with a list of letters, and group=true has no pages; leave one of them out";
            return Err(ApiError::validation(problem));
        }
        Ok(asked)
    }
}

/// What a caller is told.
pub(super) fn refused(error: DeadLetterError) -> ApiError {
    match error {
        DeadLetterError::Busy { queue } => ApiError::unavailable(format!(
            "Somebody else looks at the dead letters in {queue} at present: one at a time sees them. Try again when that \
             has ended"
        )),
        error @ DeadLetterError::InDoubt { .. } => ApiError::unavailable(error.to_string()),
        DeadLetterError::Client(ClientError::NotDeclared { .. }) => {
            ApiError::NotFound("There are no dead letters: no worker has ever run here".into())
        }
        DeadLetterError::Client(error) => error.into(),
        DeadLetterError::Broker(error) if error.code() == Some(reply_code::ACCESS_REFUSED) => {
            warn!(%error, "RabbitMQ does not let the gateway look at dead letters");
            ApiError::unavailable(
                "RabbitMQ does not let the gateway's user look at dead letters; give it the permissions of \
                 deploy/rabbitmq/definitions.json",
            )
        }
        DeadLetterError::Broker(error) => ClientError::Broker(error).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<Asked, String> {
        let owned = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Asked::read(&owned.collect::<Vec<_>>()).map_err(|error| error.told().0)
    }

    #[test]
    fn a_query_is_read_and_what_is_none_is_told_by_its_name() {
        let asked = read(&[
            ("crew", "a,b,sinks.crm"),
            ("group", "true"),
            ("reason", "failed"),
            ("limit", "7"),
        ])
        .unwrap();
        let crews = ["a", "b", "sinks.crm"].map(|name| name.parse().unwrap());
        assert_eq!(asked.selection.crews, crews);
        assert_eq!((asked.in_groups, asked.limit), (true, 7));
        assert_eq!(asked.selection.reason.as_deref(), Some("failed"));
        for (name, value) in [
            ("crews", "a"),
            ("crew", "A"),
            ("group", "yes"),
            ("limit", "0"),
            ("limit", "1001"),
            ("cursor", "1"),
        ] {
            let told = read(&[(name, value)]).unwrap_err();
            assert!(told.contains(&format!("{name}={value:?}")), "{told}");
        }
        assert!(read(&[("cursor", "1-1")]).unwrap().behind.is_some());
        let told = read(&[("cursor", "1-1"), ("group", "true")]).unwrap_err();
        assert!(told.contains("leave one of them out"), "{told}");
    }
}
