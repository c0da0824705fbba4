//! HTTP, as services serve it: at most so many connections, each with a time limit for its heads. Whoever holds one
//! without using it has to give it up when another is wanted.
//!
//! A head that is no HTTP (400) or longer than is read (431) never becomes a request: hyper answers it by itself, with
//! a status and no body, and gives nobody a say in that. Both close the connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

/// A connection that has just been idle may have a request on its way.
const BARELY_IDLE: Duration = Duration::from_millis(100);
/// After so long without a further part of an answer being taken, its connection counts as idle.
const STALLED: Duration = Duration::from_secs(60);
/// The pause when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// Of a request's head, in bytes; so much may each connection hold of what is not a request yet. Of longer ones the
/// client is told by a status alone.
const HEAD: usize = 32 * 1024;
/// Header lines of a request, likewise.
const HEADERS: usize = 256;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many at once. One more takes the place of the one that has been idle for longest; where none is, it waits.
    pub connections: usize,
    /// So long one may take for the head of a request, and be idle before it.
    pub idle: Duration,
    /// So long answers that are under way may take after the end.
    pub drain: Duration,
}

/// Serves until `stop`, then lets calls that run end, for `drain` at most. Each request has a [`ConnectInfo`] with the
/// address of whoever sent it.
pub async fn serve<S>(listener: TcpListener, service: S, limits: Limits, stop: &CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let connections = Arc::new(Connections::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(HEAD)
        .max_headers(HEADERS);
    let accepting = async {
        let mut refused = false;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if of_the_connection(&error) => continue,
                Err(error) => {
                    // Told once: most likely descriptors have run out.
                    if !std::mem::replace(&mut refused, true) {
                        warn!(%error, "connections cannot be accepted at present; trying again");
                    }
                    connections.make_room();
                    sleep(PAUSE).await;
                    continue;
                }
            };
            refused = false;
            let place = connections.place().await;
            let connection = graceful.watch(builder.serve_connection(
                TokioIo::new(without_delay(stream)),
                service_fn(answering(service.clone(), peer, Arc::clone(&place.open))),
            ));
            let cut = cut.clone();
            tokio::spawn(async move {
                let served = tokio::select! {
                    served = connection => served,
                    () = place.open.cut.cancelled() => return,
                    () = cut.cancelled() => return,
                };
                if let Err(error) = served {
                    debug!(%error, %peer, "a connection ends");
                }
            });
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    let ending = async {
        let ended = graceful.shutdown();
        tokio::pin!(ended);
        // Those that never sent anything must not hold the end.
        while timeout(BARELY_IDLE, &mut ended).await.is_err() {
            connections.cut_idle();
        }
    };
    if timeout(limits.drain, ending).await.is_err() {
        warn!(limit_s = limits.drain.as_secs(), "calls that run are cut off");
    }
}

/// How many descriptors this process may have: as many as the system grants, from now on.
pub fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let granted = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| {
        match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        }
    });
    // Where the system does not say it, it is what POSIX grants at least on any machine of today.
    granted.map_or(1024, |granted| usize::try_from(granted).unwrap_or(usize::MAX))
}

fn answering<S>(
    service: S,
    peer: SocketAddr,
    open: Arc<Open>,
) -> impl Fn(hyper::Request<Incoming>) -> futures_util::future::BoxFuture<'static, Result<Response, Infallible>>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    move |request| {
        let working = Working::on(Arc::clone(&open));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = service.clone().oneshot(request);
        Box::pin(async move {
            // The body holds it: an answer that is being sent is work, too.
            Ok(answer.await?.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    working.has_sent();
                    frame
                }))
            }))
        })
    }
}

/// Whoever connected went away again; the next one need not wait.
fn of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Answers are written as a whole: to wait for more of them gains nothing.
fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "small packets of this connection are held back");
    }
    stream
}

/// Those that are open, each under a number of its own.
struct Connections {
    limit: usize,
    open: Mutex<(u64, HashMap<u64, Arc<Open>>)>,
    left: Notify,
}

/// What is known of one.
struct Open {
    state: Mutex<State>,
    cut: CancellationToken,
}

enum State {
    /// No head of a request has come since then.
    Idle(Instant),
    /// A request is being answered.
    Working,
    /// Of the answer's body some was taken then.
    Sending(Instant),
}

/// A connection's place among those that may be open.
struct Place {
    number: u64,
    open: Arc<Open>,
    connections: Arc<Connections>,
}

impl Connections {
    fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            open: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// Waits for a place.
    async fn place(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.free_place() {
                return place;
            }
            let _ = timeout(BARELY_IDLE, self.left.notified()).await;
        }
    }

    fn free_place(self: &Arc<Self>) -> Option<Place> {
        let mut locked = self.open();
        let (count, open) = &mut *locked;
        if open.len() >= self.limit {
            cut_the_longest_idle(open, BARELY_IDLE)?;
        }
        *count += 1;
        let one = Arc::new(Open {
            state: Mutex::new(State::Idle(Instant::now())),
            cut: CancellationToken::new(),
        });
        open.insert(*count, Arc::clone(&one));
        Some(Place {
            number: *count,
            open: one,
            connections: Arc::clone(self),
        })
    }

    /// Ends one that is idle.
    fn make_room(&self) {
        let _ = cut_the_longest_idle(&mut self.open().1, Duration::ZERO);
    }

    /// Ends all that are.
    fn cut_idle(&self) {
        let mut open = self.open();
        while cut_the_longest_idle(&mut open.1, BARELY_IDLE).is_some() {}
    }

    fn open(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Open>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut_the_longest_idle(open: &mut HashMap<u64, Arc<Open>>, at_least: Duration) -> Option<()> {
    let idle = open
        .iter()
        .filter_map(|(number, one)| Some((one.idle_since()?, *number)));
    let (since, number) = idle.min()?;
    if since.elapsed() < at_least {
        return None;
    }
    open.remove(&number)?.cut.cancel();
    Some(())
}

impl Open {
    fn idle_since(&self) -> Option<Instant> {
        match *self.state() {
            State::Idle(since) => Some(since),
            State::Sending(last) if last.elapsed() > STALLED => Some(last),
            State::Working | State::Sending(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().1.remove(&self.number);
        self.connections.left.notify_one();
    }
}

/// A request that is being answered.
struct Working(Arc<Open>);

impl Working {
    fn on(open: Arc<Open>) -> Self {
        *open.state() = State::Working;
        Self(open)
    }

    fn has_sent(&self) {
        *self.0.state() = State::Sending(Instant::now());
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        *self.0.state() = State::Idle(Instant::now());
    }
}

/// Serves in the background until `stop`; what the end takes is not waited for.
pub fn spawn<S>(listener: TcpListener, service: S, limits: Limits, stop: CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    tokio::spawn(async move { serve(listener, service, limits, &stop).await });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
