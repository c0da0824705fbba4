//! HTTP, as services serve it: at most so many connections, each with a time limit for its heads. Whoever holds one
//! without using it has to give it up when another is wanted.
//!
//! A head that is no HTTP (400) or longer than is read (431) never becomes a request: hyper answers it by itself, with
//! a status and no body, and gives nobody a say in that. Both close the connection.

mod connections;
mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use connections::{BARELY_IDLE, Connections, Open, Working};
pub use tls::{NamedFile, Tls};

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

/// Where callers come in.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Door {
    /// Where they come in by TLS, if there is a certificate.
    pub fn new(listener: TcpListener, tls: Option<Arc<Tls>>) -> Self {
        Self { listener, tls }
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// Serves until `stop`, then lets calls that run end, for `drain` at most. Each request has a [`ConnectInfo`] with the
/// address of whoever sent it.
pub async fn serve<S>(door: impl Into<Door>, service: S, limits: Limits, stop: &CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let Door { listener, tls } = door.into();
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
            let service = service_fn(answering(service.clone(), peer, Arc::clone(&place.open)));
            let (builder, watcher) = (builder.clone(), graceful.watcher());
            let (tls, cut) = (tls.clone(), cut.clone());
            tokio::spawn(async move {
                let stream = without_delay(stream);
                // Whoever has not got as far as a request is idle.
                let connection = async {
                    match tls {
                        Some(tls) => converse(&builder, tls.handshake(stream).await?, service, watcher).await,
                        None => converse(&builder, stream, service, watcher).await,
                    }
                };
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

/// Answers what comes over a connection, until it ends.
async fn converse<I, S>(
    builder: &http1::Builder,
    stream: I,
    service: S,
    watcher: Watcher,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    Ok(watcher.watch(connection).await?)
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

/// Serves in the background until `stop`; what the end takes is not waited for.
pub fn spawn<S>(door: impl Into<Door>, service: S, limits: Limits, stop: CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let door = door.into();
    tokio::spawn(async move { serve(door, service, limits, &stop).await });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
