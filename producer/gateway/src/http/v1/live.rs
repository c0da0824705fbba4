//! Events as they come: server-sent events (WHATWG HTML, 9.2), whose ids are places in the stream of events, so that any
//! gateway goes on where another ended.
//!
//! Each stream has a task of its own, and few events on their way to its reader: a slow one holds up nobody.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use crewfleet_protocol::event::event_type;
use futures_util::Stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::event_view::EventView;
use super::view::KickoffView;
use crate::followers::Watched;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::store::filter::Filter;
use crate::store::queries::{PlacedEvent, QueryError};
use crate::store::row::Kickoff;

/// Events on their way to a reader.
const AHEAD: usize = 16;
/// Events that are read out of the store at once.
const CHUNK: usize = 200;
/// How often a stream without news says that it lives: proxies cut what is silent for a minute.
const ALIVE: Duration = Duration::from_secs(15);
/// How long the last events of a kickoff are waited for when its reply is here.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// A store that is busy is asked again after these pauses, in seconds, each up to twice as long: readers whose streams ended
/// instead would all come back at once.
const AGAIN_S: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// What the store says, if it answers before long.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, QueryError>
where
    F: Future<Output = Result<T, QueryError>>,
{
    for pause in AGAIN_S {
        match ask().await {
            Err(QueryError::Busy) => sleep(Duration::from_secs_f64(pause * (1.0 + fastrand::f64()))).await,
            answered => return answered,
        }
    }
    ask().await
}

/// Why a stream ends.
#[derive(Debug)]
enum Over {
    /// Nobody reads it any more, or the gateway ends.
    Gone,
    Failed(QueryError),
}

impl From<QueryError> for Over {
    fn from(error: QueryError) -> Self {
        Self::Failed(error)
    }
}

struct Reader(mpsc::Sender<SseEvent>);

impl Reader {
    async fn send(&self, placed: PlacedEvent) -> Result<u64, Over> {
        let place = placed.place;
        let view = EventView::new(place, placed.event);
        let event = event(view.kind(), &view).id(place.to_string());
        self.0.send(event).await.map_err(|_| Over::Gone)?;
        Ok(place)
    }

    async fn say(&self, kind: &str, what: &impl Serialize) -> Result<(), Over> {
        self.0.send(event(kind, what)).await.map_err(|_| Over::Gone)
    }
}

fn event(kind: &str, what: &impl Serialize) -> SseEvent {
    // What is written here can be written as JSON, which has no line breaks.
    SseEvent::default()
        .event(kind.replace(['\r', '\n', '\0'], " "))
        .data(serde_json::to_string(what).unwrap_or_default())
}

/// The events of a kickoff: those that are kept behind a place, those to come, and its end. `grace_s`: it is cancelled once
/// nobody has followed it for so long.
///
/// # Errors
/// [`ApiError::Unavailable`] where nobody would cancel it.
pub(super) async fn of_kickoff(
    gateway: &Arc<Gateway>,
    kickoff: Kickoff,
    after: Option<u64>,
    grace_s: Option<u32>,
) -> Result<Response, ApiError> {
    let is_over = kickoff.standing.state.is_over();
    let follow = (!is_over).then(|| gateway.client.follow(&kickoff.id));
    if let Some(grace_s) = grace_s.filter(|_| !is_over) {
        watch(gateway, &kickoff, grace_s).await?;
    }
    let following = Arc::clone(gateway);
    Ok(stream(gateway, move |reader| async move {
        let _follow = follow;
        follow_kickoff(&following, &reader, &kickoff.id, after).await
    }))
}

/// Has all gateways know that a kickoff ends with its readers.
async fn watch(gateway: &Gateway, kickoff: &Kickoff, grace_s: u32) -> Result<(), ApiError> {
    let redrive = kickoff.standing.redrive;
    if !gateway.followers.is_watched(&kickoff.id, redrive, grace_s) {
        let watched = gateway
            .announce(kickoff, event_type::WATCHED, &Watched { grace_s })
            .await;
        watched.map_err(|error| unwatched(&error.to_string()))?;
    }
    match gateway.followers.knows(&kickoff.id, redrive, grace_s).await {
        true => Ok(()),
        false => Err(unwatched("it does not hear of its own readers")),
    }
}

fn unwatched(why: &str) -> ApiError {
    ApiError::unavailable(format!(
        "Whether it would be cancelled on a disconnect is not sure: {why}. RabbitMQ may be away, or the gateway's user lack rights \
         (kickoff.events, kickoff.queries)"
    ))
}

async fn follow_kickoff(
    gateway: &Gateway,
    reader: &Reader,
    id: &str,
    mut after: Option<u64>,
) -> Result<(), Over> {
    let queries = &gateway.store.queries;
    let news = gateway.store.subscribers.of_kickoff(id);
    let mut waited = false;
    loop {
        // Looked at before its events are: none of those that it had then is left out.
        let kickoff = patiently(|| queries.kickoff(id)).await?;
        let over = kickoff.as_ref().map(|kickoff| kickoff.standing);
        let over = over.filter(|standing| standing.state.is_over());
        let is_last_here = match over {
            Some(standing) => patiently(|| queries.has_last_event(id, standing.redrive)).await?,
            None => false,
        };
        loop {
            let events = patiently(|| queries.events_of(id, after, CHUNK)).await?;
            let is_all = events.len() < CHUNK;
            for placed in events {
                after = Some(reader.send(placed).await?);
            }
            if is_all {
                break;
            }
        }
        let Some(kickoff) = kickoff else {
            // Its time is over.
            return Ok(());
        };
        if over.is_none() {
            news.changed().await;
        } else if is_last_here || waited {
            return reader.say("end", &KickoffView::from(kickoff)).await;
        } else {
            // Its reply was faster than its last events; of a crew without events none come.
            waited = timeout(LAST_EVENTS, news.changed()).await.is_err();
        }
    }
}

/// The events of all kickoffs that a filter takes, without the words of models: these are for who follows one kickoff.
///
/// # Errors
/// [`ApiError`], where the store does not answer.
pub(super) async fn of_filter(
    gateway: &Arc<Gateway>,
    filter: Filter,
    after: Option<u64>,
) -> Result<Response, ApiError> {
    let places = gateway.store.queries.places().await?;
    let (first, last) = places.map_or((0, None), |(first, last)| (first, Some(last)));
    let missed = after.filter(|after| after + 1 < first).map(|_| first);
    let following = Arc::clone(gateway);
    Ok(stream(gateway, move |reader| async move {
        if let Some(first) = missed {
            // Who relies on having all of them must know.
            reader.say("missed", &json!({"before": first})).await?;
        }
        follow_filter(&following, &reader, filter, after.or(last)).await
    }))
}

async fn follow_filter(
    gateway: &Gateway,
    reader: &Reader,
    filter: Filter,
    after: Option<u64>,
) -> Result<(), Over> {
    let mut after = after.map_or(-1, u64::cast_signed);
    loop {
        let crews = filter.crews.clone();
        let mut news = gateway
            .store
            .subscribers
            .of_events(move |stored| crews.is_empty() || crews.contains(&stored.event.crew));
        loop {
            let events = patiently(|| gateway.store.queries.events_behind(after, CHUNK)).await?;
            let is_all = events.len() < CHUNK;
            for placed in events {
                after = placed.place.cast_signed();
                if takes(gateway, &filter, &placed).await? {
                    reader.send(placed).await?;
                }
            }
            if is_all {
                break;
            }
        }
        while let Ok(stored) = news.next().await {
            if stored.place.cast_signed() <= after {
                continue;
            }
            after = stored.place.cast_signed();
            let placed = PlacedEvent {
                place: stored.place,
                event: (*stored.event).clone(),
            };
            if takes(gateway, &filter, &placed).await? {
                reader.send(placed).await?;
            }
        }
        // Too many came while the reader took none: the rest is read from the store.
    }
}

/// Whether a filter takes the kickoff of an event, as it is now.
async fn takes(gateway: &Gateway, filter: &Filter, placed: &PlacedEvent) -> Result<bool, QueryError> {
    if event_type::is_chunk(&placed.event.event_type) {
        return Ok(false);
    }
    if !filter.crews.is_empty() && !filter.crews.contains(&placed.event.crew) {
        return Ok(false);
    }
    if filter.is_by_crew_alone() {
        return Ok(true);
    }
    let kickoff = patiently(|| gateway.store.queries.kickoff(&placed.event.kickoff_id)).await?;
    Ok(kickoff.is_some_and(|kickoff| filter.takes(&kickoff)))
}

fn stream<F>(gateway: &Arc<Gateway>, follow: impl FnOnce(Reader) -> F + Send + 'static) -> Response
where
    F: Future<Output = Result<(), Over>> + Send,
{
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (ending, gone) = (Arc::clone(gateway), sender.clone());
    tokio::spawn(async move {
        let over = tokio::select! {
            over = follow(Reader(sender)) => over,
            () = gone.closed() => Err(Over::Gone),
            // Its reader goes on at another gateway.
            () = ending.ends() => Err(Over::Gone),
        };
        if let Err(Over::Failed(error)) = over {
            debug!(%error, "a stream of events ends");
        }
    });
    let alive = KeepAlive::new().interval(ALIVE);
    Sse::new(events(receiver)).keep_alive(alive).into_response()
}

fn events(receiver: mpsc::Receiver<SseEvent>) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    futures_util::stream::unfold(receiver, async |mut receiver| {
        let event = receiver.recv().await?;
        Some((Ok(event), receiver))
    })
}
