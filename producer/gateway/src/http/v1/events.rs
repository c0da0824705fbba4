//! `GET /v1/kickoffs/{id}/events` and `GET /v1/events`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query as Pairs, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::event_view::EventView;
use super::kickoffs::find;
use super::live;
use super::problem::{Refusal, Refusals};
use super::search::{Query, Search};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::store::queries::PlacedEvent;
use crate::tokens::Scope;

/// Events of a page, unless the caller says otherwise, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;
/// How long a reader that has gone may take to come back, unless the caller says otherwise, and at most; in seconds.
const GRACE_S: u32 = 10;
const LONGEST_GRACE_S: u32 = 3_600;

/// Which events.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is there for the document; read() takes the pairs")]
pub(crate) struct Which {
    /// Those behind this one: the `id` of an event, or the `next_cursor` of the page before.
    after: Option<u64>,
    /// How many events a page has: 100 unless you say otherwise, at most 1000. A stream has all.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Of a stream: what becomes of the kickoff when its last reader has gone and none comes back. `cancel` needs the scope
    /// that cancelling needs.
    #[param(inline)]
    on_disconnect: Option<OnDisconnect>,
    /// For how many seconds `on_disconnect=cancel` waits for a reader to come back: 10 unless you say otherwise, at most
    /// 3600.
    #[param(minimum = 0, maximum = 3600)]
    grace_s: Option<u32>,
}

/// What becomes of a kickoff that nobody follows any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
enum OnDisconnect {
    /// It goes on.
    Continue,
    /// It is cancelled.
    Cancel,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    items: Vec<EventView>,
    /// `after` of the next page; `null` where there is none yet.
    next_cursor: Option<u64>,
}

/// Get the events of a kickoff: a page, or with `Accept: text/event-stream` all of them as they come.
///
/// A stream begins with what is kept, and ends after the kickoff has. `Last-Event-ID` goes on behind that event. As long as a
/// stream is read, it also has what models say, as they say it (`llm_stream_chunk`).
#[utoipa::path(
    get, path = "/v1/kickoffs/{kickoff_id}/events", tag = "events", operation_id = "listEventsOfKickoff",
    params(
        ("kickoff_id" = String, Path, description = "Its id."),
        ("Last-Event-ID" = Option<u64>, Header, description = "Of a stream: the last event that you have."),
        Which,
    ),
    responses(
        (status = 200, description = "The events.", content((EventPage = "application/json"), (String = "text/event-stream"))),
        Refusals,
    ),
)]
pub(crate) async fn of_kickoff(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Path(id): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    identity.require(Scope::Read)?;
    let page = Page::read(&pairs, &headers)?;
    if page.grace_s.is_some() {
        identity.act("cancel on disconnect", Scope::Operate)?;
    }
    let kickoff = find(&gateway, &identity, &id).await?;
    if wants_stream(&headers) {
        return Ok(live::of_kickoff(&gateway, kickoff, page.after, page.grace_s).await?);
    }
    if page.on_disconnect.is_some() {
        let problem = "on_disconnect is for streams: ask with Accept: text/event-stream, or leave it out";
        return Err(ApiError::validation(problem).into());
    }
    let found = gateway
        .store
        .queries
        .events_of(&kickoff.id, page.after, page.limit)
        .await?;
    Ok(answer(found, page.limit))
}

/// Follow the events of all kickoffs that a filter takes, as they come: a stream of server-sent events.
///
/// It begins with what comes now, or behind `Last-Event-ID`. The filter is that of the list of kickoffs.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "followEvents",
    params(Query, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that you have.")),
    responses((status = 200, description = "The events.", body = String, content_type = "text/event-stream"), Refusals),
)]
pub(crate) async fn of_filter(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    identity.require(Scope::Read)?;
    let search = Search::read(&gateway, &identity, &pairs)?;
    let after = last_event_id(&headers)?;
    Ok(live::of_filter(&gateway, search.filter, after).await?)
}

struct Page {
    after: Option<u64>,
    limit: usize,
    on_disconnect: Option<OnDisconnect>,
    /// With `on_disconnect=cancel`: its grace.
    grace_s: Option<u32>,
}

impl Page {
    fn read(pairs: &[(String, String)], headers: &HeaderMap) -> Result<Self, ApiError> {
        let (mut after, mut limit) = (None, PAGE);
        let (mut on_disconnect, mut grace_s) = (None, None);
        for (name, value) in pairs {
            let refused = |why: &str| ApiError::validation(format!("{name}={value:?}: {why}"));
            match &**name {
                "after" => {
                    let read = value.parse().ok();
                    after = Some(read.ok_or_else(|| refused("it must be the id of an event"))?);
                }
                "limit" => {
                    let read = value.parse().ok();
                    let read = read.filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    limit = read.ok_or_else(|| refused("it must be 1 to 1000"))?;
                }
                "on_disconnect" => {
                    on_disconnect = Some(match &**value {
                        "continue" => OnDisconnect::Continue,
                        "cancel" => OnDisconnect::Cancel,
                        _ => return Err(refused("it must be continue or cancel")),
                    });
                }
                "grace_s" => {
                    let read = value.parse().ok().filter(|grace| *grace <= LONGEST_GRACE_S);
                    grace_s = Some(read.ok_or_else(|| refused("it must be whole seconds, 0 to 3600"))?);
                }
                _ => {
                    return Err(refused(
                        "nothing is asked for by this name; there are after, limit, on_disconnect and grace_s",
                    ));
                }
            }
        }
        let cancels = on_disconnect == Some(OnDisconnect::Cancel);
        if grace_s.is_some() && !cancels {
            return Err(ApiError::validation("grace_s is of on_disconnect=cancel alone"));
        }
        Ok(Self {
            after: last_event_id(headers)?.or(after),
            limit,
            on_disconnect,
            grace_s: cancels.then(|| grace_s.unwrap_or(GRACE_S)),
        })
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|value| value.parse().ok());
    let problem = "Last-Event-ID is not the id of an event of this gateway";
    id.map(Some).ok_or_else(|| ApiError::validation(problem))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream"))
}

fn answer(found: Vec<PlacedEvent>, limit: usize) -> Response {
    let next_cursor = found
        .last()
        .filter(|_| found.len() == limit)
        .map(|last| last.place);
    let items = found
        .into_iter()
        .map(|placed| EventView::new(placed.place, placed.event));
    let items = items.collect();
    Json(EventPage { items, next_cursor }).into_response()
}
