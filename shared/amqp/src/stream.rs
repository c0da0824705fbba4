//! The bytes between the client and the broker, with what comes in sanitized on its way (see [`sanitize`](super::sanitize)).
//!
//! The client takes its connection from a function, as a stream of a runtime's type; so here is a runtime, tokio's
//! in all but that type. Sanitizing must be done above TLS, which only the whole stream is.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_util::future::Either;
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls::pki_types::ServerName;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::sanitize::{HEAD, Head, sanitize};

/// How much of a frame that came in parts is read at once.
const PART: usize = 64 * 1024;

/// The bytes to and from a broker, by TLS or without. The client would bring a TLS of its own, and with it key stores of every
/// kind; only rustls is needed.
pub(super) type BrokerStream = Either<TcpStream, TlsStream<TcpStream>>;

type TcpStream = <Tokio as Reactor>::TcpStream;

/// Connects to one of the broker's addresses, by TLS where there is a connector for it.
///
/// # Errors
/// Those of the network, and of TLS (see [`tls::refusal`](super::tls::refusal)).
pub(super) async fn open(
    uri: &AMQPUri,
    address: SocketAddr,
    tls: Option<&TlsConnector>,
) -> io::Result<BrokerStream> {
    let stream = Tokio::current().tcp_connect_addr(address).await?;
    let Some(connector) = tls else {
        return Ok(Either::Left(stream));
    };
    let server = ServerName::try_from(uri.authority.host.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Either::Right(connector.connect(server, stream).await?))
}

/// Connects the client by a stream that sanitizes, and that ends with `force_closed`.
///
/// # Errors
/// Those of the client.
pub(super) async fn connect(
    uri: AMQPUri,
    address: SocketAddr,
    tls: Option<TlsConnector>,
    properties: ConnectionProperties,
    force_closed: CancellationToken,
) -> lapin::Result<Connection> {
    let tokio = Tokio::current();
    let reactor = SanitizingReactor {
        tokio: tokio.clone(),
        force_closed: force_closed.clone(),
    };
    let kit = RuntimeParts::new(tokio, reactor);
    let stream = async move |uri: AMQPUri, _: Runtime<_>| {
        let connecting = force_closed.run_until_cancelled(open(&uri, address, tls.as_ref()));
        let stream = connecting
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into()))?;
        Ok(AsyncTcpStream::Plain(SanitizingStream::new(
            stream,
            force_closed.clone(),
        )))
    };
    Connection::connector(uri, Runtime::new(kit), stream, properties).await
}

/// Tokio's reactor; only the type of its streams is another.
#[derive(Debug, Clone)]
struct SanitizingReactor {
    tokio: Tokio,
    force_closed: CancellationToken,
}

impl Reactor for SanitizingReactor {
    type TcpStream = SanitizingStream<BrokerStream>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        addr: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let (stream, force_closed) = (self.tokio.tcp_connect_addr(addr), self.force_closed.clone());
        async move { Ok(SanitizingStream::new(Either::Left(stream.await?), force_closed)) }
    }
}

/// A stream from a broker. Frames that hold no text of others, bodies above all, pass through the reader's own
/// buffer; of the others, one that comes in parts is kept back until it is whole.
pub(super) struct SanitizingStream<S> {
    inner: S,
    /// Ends a silent stream (see [`force_close`](super::force_close)).
    force_closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// How many bytes are left of a frame that passes.
    passing: usize,
    /// The start of a frame that has not come whole yet; or, to be given out, what there is of it.
    held: Vec<u8>,
    /// How many of the held bytes are given out, once they may be.
    given: Option<usize>,
    /// Whether the reader's buffer has been touched as a whole.
    touched: bool,
}

impl<S> fmt::Debug for SanitizingStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SanitizingStream").finish_non_exhaustive()
    }
}

impl<S> SanitizingStream<S> {
    fn new(inner: S, force_closed: CancellationToken) -> Self {
        Self {
            inner,
            force_closed: Box::pin(force_closed.cancelled_owned()),
            passing: 0,
            held: Vec::new(),
            given: None,
            touched: false,
        }
    }

    /// Sanitizes what has been read, and holds its end back where that is part of a frame. How many bytes may go out.
    fn look(&mut self, read: &mut [u8]) -> usize {
        let mut out = 0;
        loop {
            let passed = self.passing.min(read.len() - out);
            self.passing -= passed;
            out += passed;
            let rest = &mut read[out..];
            match Head::of(rest) {
                Some(Head {
                    length,
                    looked_at: false,
                }) => self.passing = length,
                Some(Head { length, .. }) if length <= rest.len() => {
                    sanitize(&mut rest[..length]);
                    out += length;
                }
                _ => {
                    self.held.extend_from_slice(rest);
                    return out;
                }
            }
        }
    }

    /// How many bytes the held ones lack, as far as can be told; 0 when they may be given out.
    fn lacking(&mut self) -> usize {
        match Head::of(&self.held) {
            None => HEAD - self.held.len(),
            Some(head) if head.looked_at => head.length - self.held.len(),
            Some(head) => {
                self.passing = head.length - self.held.len();
                0
            }
        }
    }

    fn give(&mut self, given: usize, buffer: &mut [u8]) -> usize {
        let rest = &self.held[given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given = Some(given + count);
        if given + count == self.held.len() {
            self.held.clear();
            self.given = None;
        }
        count
    }
}

impl<S: AsyncRead + Unpin> SanitizingStream<S> {
    /// Reads what there is; a stream that was force-closed and has nothing to read is at its end.
    fn poll_inner(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_read(context, buffer) {
            Poll::Pending => {
                ready!(self.force_closed.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            read => read,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SanitizingStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.touched {
            // The client reads into a ring of 32 frames, 4 MiB. Page by page it would become resident over the first
            // 200,000 confirms, and a process that does not leak would look as if it did.
            this.touched = true;
            buffer.fill(0);
        }
        loop {
            if let Some(given) = this.given {
                return Poll::Ready(Ok(this.give(given, buffer)));
            }
            if this.held.is_empty() {
                let read = ready!(this.poll_inner(context, buffer))?;
                let out = this.look(&mut buffer[..read]);
                if out > 0 || read == 0 {
                    return Poll::Ready(Ok(out));
                }
                continue;
            }
            let start = this.held.len();
            let lacking = this.lacking();
            let mut held = std::mem::take(&mut this.held);
            held.resize(start + lacking.min(PART), 0);
            let polled = this.poll_inner(context, &mut held[start..]);
            let read = match &polled {
                Poll::Ready(Ok(read)) => *read,
                _ => 0,
            };
            held.truncate(start + read);
            this.held = held;
            ready!(polled)?;
            if read == 0 {
                // The broker broke off; the client is to see how far it came.
                this.given = Some(0);
            } else if this.lacking() == 0 {
                sanitize(&mut this.held);
                this.given = Some(0);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SanitizingStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, parts)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::AsyncReadExt;

    use super::super::sanitize::tests::{content_header, deliver, frame};
    use super::*;

    /// What a broker sends, in these parts.
    struct Parts(VecDeque<Vec<u8>>);

    impl AsyncRead for Parts {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let Some(mut part) = self.0.pop_front() else {
                return Poll::Ready(Ok(0));
            };
            if part.is_empty() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = part.len().min(buffer.len());
            buffer[..count].copy_from_slice(&part[..count]);
            if count < part.len() {
                self.0.push_front(part.split_off(count));
            }
            Poll::Ready(Ok(count))
        }
    }

    async fn through(parts: impl IntoIterator<Item = &[u8]>, buffer: usize) -> Vec<u8> {
        // Between two parts nothing comes for a while.
        let parts = parts.into_iter().flat_map(|part| [part.to_vec(), Vec::new()]);
        let mut stream = SanitizingStream::new(Parts(parts.collect()), CancellationToken::new());
        let (mut all, mut buffer) = (Vec::new(), vec![0; buffer]);
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => return all,
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn conversation(text: &[u8]) -> Vec<u8> {
        let heartbeat = frame(8, b"");
        // Looks like a content header, and is a body.
        let body = frame(3, &content_header(b"\xff"));
        let large = frame(3, &[0xff; 300]);
        [
            deliver(text),
            content_header(text),
            body,
            heartbeat,
            large,
            deliver(text),
        ]
        .concat()
    }

    #[tokio::test]
    async fn frames_are_sanitized_wherever_they_are_split() {
        let (sent, expected) = (conversation(b"J\xf6rg"), conversation(b"J?rg"));
        for place in 0..=sent.len() {
            let (first, second) = sent.split_at(place);
            for buffer in [1, 10, 64 * 1024] {
                assert_eq!(
                    through([first, second], buffer).await,
                    expected,
                    "{place}, {buffer}"
                );
            }
        }
        assert_eq!(through(sent.chunks(1), 100).await, expected);
        assert_eq!(through(sent.chunks(3), 2).await, expected);
    }

    #[tokio::test]
    async fn a_silent_stream_ends_when_it_is_hung_up() {
        struct Silent;
        impl AsyncRead for Silent {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
                Poll::Pending
            }
        }
        let force_closed = CancellationToken::new();
        let mut stream = SanitizingStream::new(Silent, force_closed.clone());
        // In a task, which nothing but its waker polls again.
        let reading = tokio::spawn(async move { stream.read(&mut [0; 16]).await });
        tokio::task::yield_now().await;
        force_closed.cancel();
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_no_amqp_goes_through() {
        let sent = conversation(b"\xff");
        for length in 0..sent.len() {
            assert_eq!(through(sent[..length].chunks(5), 64).await.len(), length);
        }
        let other = b"AMQP\x03\x01\x00\x00 and more";
        assert_eq!(through(other.chunks(4), 64).await, other);
    }
}
