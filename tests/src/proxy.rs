//! A TCP proxy before a broker, for the faults of a network: cut, refused, frozen, slow and half-closed connections.
//!
//! ```no_run
//! # async fn example() {
//! use crewfleet_tests::{broker::broker, proxy::{Direction, Proxy}};
//!
//! let proxy = Proxy::start(broker().await.port());
//! // ... a worker with proxy.url() ...
//! proxy.freeze();
//! proxy.pass();
//! let cut = proxy.cut_after(Direction::ToUpstream, 100);
//! cut.await.expect("the hundredth byte of the worker went by");
//! # }
//! ```

use std::{
    io,
    net::Ipv4Addr,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How much is on its way in one direction of a connection, when it is delayed: 16 MiB.
const CHUNKS: usize = 1024;

/// One of the two directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker: publishes and acks.
    ToUpstream,
    /// From the broker to the client: deliveries and confirms.
    ToClient,
}

/// A proxy on a port of its own on 127.0.0.1. What it does can be changed at any time, for the connections there are
/// and for new ones. It runs in the runtime that started it. Dropping it resets its connections, and closes the port.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

/// What all connections of a proxy share.
#[derive(Debug)]
struct Line {
    /// Bound as long as the proxy lives, so that nobody else gets the port; listening unless it refuses.
    listener: Mutex<std::net::TcpListener>,
    upstreams: Vec<u16>,
    next_upstream: AtomicUsize,
    state: watch::Sender<State>,
    /// The next cut at a certain byte, for each direction.
    cuts_at: [Mutex<Option<CutAt>>; 2],
}

#[derive(Debug)]
struct CutAt {
    bytes_left: usize,
    done: oneshot::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How long each chunk is on its way.
    delay: Duration,
    /// Counts the cuts: a connection ends when it grows.
    cuts: u64,
    /// Counts the half-closes of each direction.
    half_closes: [u64; 2],
    connections: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Freeze,
    Refuse,
}

impl Proxy {
    /// A proxy before one port on 127.0.0.1.
    pub fn start(upstream: u16) -> Self {
        Self::balance(vec![upstream])
    }

    /// A load balancer: each new connection goes to the next of these ports on 127.0.0.1 that takes it.
    pub fn balance(upstreams: Vec<u16>) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = State {
            mode: Mode::Pass,
            delay: Duration::ZERO,
            cuts: 0,
            half_closes: [0; 2],
            connections: 0,
        };
        let line = Arc::new(Line {
            listener: Mutex::new(listener),
            upstreams,
            next_upstream: AtomicUsize::new(0),
            state: watch::Sender::new(state),
            cuts_at: [Mutex::new(None), Mutex::new(None)],
        });
        let accepting = tokio::spawn(accept(Arc::clone(&line)));
        Self {
            port,
            line,
            accepting,
        }
    }

    /// The proxy's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where AMQP clients connect.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.line.state.borrow().connections
    }

    /// Waits until there are this many connections.
    pub async fn connected(&self, count: usize) {
        let mut state = self.line.state.subscribe();
        // The sender is in `self`: this ends by what it waits for.
        let _ = state.wait_for(|state| state.connections == count).await;
    }

    /// Everything passes, as fast as it comes: the end of all other modes. A cut that [`Self::cut_after`] has planned
    /// is planned no more.
    pub fn pass(&self) {
        for cut_at in &self.line.cuts_at {
            *locked(cut_at) = None;
        }
        self.line.change(|state| {
            state.mode = Mode::Pass;
            state.delay = Duration::ZERO;
        });
    }

    /// Resets (TCP's RST) all connections there are. New ones are treated as before.
    pub fn cut(&self) {
        self.line.change(|state| state.cuts += 1);
    }

    /// Resets all connections there are, and refuses new ones (`ECONNREFUSED`), as where no process listens.
    pub fn refuse(&self) {
        self.line.change(|state| {
            state.mode = Mode::Refuse;
            state.cuts += 1;
        });
    }

    /// Connections stay open and new ones are accepted, but nothing moves, not even the end of a connection: a broken
    /// network, or a broker that hangs. What was sent meanwhile arrives after [`Self::pass`].
    pub fn freeze(&self) {
        self.line.change(|state| state.mode = Mode::Freeze);
    }

    /// Each byte takes this long, each way. The throughput stays the same.
    pub fn delay(&self, delay: Duration) {
        self.line.change(|state| state.delay = delay);
    }

    /// Ends one direction of all connections there are: its receiver sees an orderly end of the stream, its sender sees
    /// nothing, and what it sends on is lost. The other direction goes on, and so do new connections.
    pub fn half_close(&self, direction: Direction) {
        self.line
            .change(|state| state.half_closes[direction as usize] += 1);
    }

    /// Lets exactly this many more bytes of all connections together pass in a direction, then ends the connection that
    /// the last of them was for, in the middle of whatever it was. All others, and new ones, go on. The returned
    /// receiver tells when it is done.
    pub fn cut_after(&self, direction: Direction, bytes: usize) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        *locked(&self.line.cuts_at[direction as usize]) = Some(CutAt {
            bytes_left: bytes,
            done,
        });
        told
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(line: Arc<Line>) {
    loop {
        line.until(|state| state.mode != Mode::Refuse).await;
        let listener = locked(&line.listener).try_clone().expect("a file descriptor");
        listener
            .set_nonblocking(true)
            .expect("a socket that doesn't block");
        let listener = TcpListener::from_std(listener).expect("a runtime with I/O");
        // Until it is shut down.
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connection(client, Arc::clone(&line)));
        }
    }
}

/// One connection, from the moment it is accepted to its end.
async fn connection(client: TcpStream, line: Arc<Line>) {
    let mut client = client;
    let at_start = *line.state.borrow();
    if at_start.mode == Mode::Refuse {
        let _ = client.set_zero_linger();
        return;
    }
    line.change(|state| state.connections += 1);
    let mut server = None;
    let cut = line.until(|state| state.cuts != at_start.cuts);
    let reset = tokio::select! {
        () = cut => true,
        carried = carry(&mut client, &mut server, &line, at_start) => carried.is_err(),
    };
    if reset {
        for stream in server.iter().chain([&client]) {
            let _ = stream.set_zero_linger();
        }
    }
    drop((client, server));
    line.change(|state| state.connections -= 1);
}

/// Connects to an upstream and carries both ways, until both have ended or one has failed.
async fn carry(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    line: &Line,
    at_start: State,
) -> io::Result<()> {
    line.flows().await;
    let server = server.insert(line.connect().await?);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let ended = tokio::try_join!(
        pump(from_client, to_server, line, Direction::ToUpstream, at_start),
        pump(from_server, to_client, line, Direction::ToClient, at_start),
    );
    // Not even a reset passes a line that is frozen.
    line.flows().await;
    match ended {
        Err(End::Cut) => Ok(()),
        Err(End::Failed(error)) => Err(error),
        Ok(((), ())) => Ok(()),
    }
}

/// Why both directions of a connection end at once.
enum End {
    /// [`Proxy::cut_after`]: the streams are closed in order, so that the bytes before it arrive.
    Cut,
    Failed(io::Error),
}

/// Carries one direction to its end.
async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    line: &Line,
    direction: Direction,
    at_start: State,
) -> Result<(), End> {
    let (mut from, mut to) = (from, to);
    let (chunks, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let reading = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            line.flows().await;
            let count = from.read(&mut buffer).await.map_err(End::Failed)?;
            let due = Instant::now() + line.state.borrow().delay;
            let sent = chunks.send((due, buffer[..count].to_vec())).await;
            if count == 0 || sent.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, chunk)) = arriving.recv().await {
            sleep_until(due).await;
            line.flows().await;
            if chunk.is_empty() {
                break;
            }
            let (passing, cut) = line.admit(direction, &chunk);
            to.write_all(passing).await.map_err(End::Failed)?;
            if let Some(done) = cut {
                // Whoever planned it may not want to know.
                let _ = done.send(());
                return Err(End::Cut);
            }
        }
        to.shutdown().await.map_err(End::Failed)
    };
    let half_closed =
        line.until(|state| state.half_closes[direction as usize] != at_start.half_closes[direction as usize]);
    tokio::select! {
        ended = async { tokio::try_join!(reading, writing) } => ended.map(|_| ()),
        () = half_closed => to.shutdown().await.map_err(End::Failed),
    }
}

impl Line {
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            let before = state.mode;
            change(state);
            // At once, so that the first connection after the call meets it.
            let mut listener = locked(&self.listener);
            match (before, state.mode) {
                (Mode::Refuse, Mode::Refuse) => {}
                (_, Mode::Refuse) => {
                    shutdown(listener.as_raw_fd(), Shutdown::Both).expect("a listener that is shut down");
                }
                (Mode::Refuse, _) => {
                    let port = listener.local_addr().expect("its address").port();
                    *listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                        .expect("the port, which is held by a socket that doesn't listen");
                }
                _ => {}
            }
        });
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        // The sender is in `self`: this ends by what it waits for.
        let _ = state.wait_for(condition).await;
    }

    async fn flows(&self) {
        self.until(|state| state.mode != Mode::Freeze).await;
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut result = Err(io::ErrorKind::ConnectionRefused.into());
        for _ in &self.upstreams {
            let next = self.next_upstream.fetch_add(1, Ordering::Relaxed) % self.upstreams.len();
            result = TcpStream::connect((Ipv4Addr::LOCALHOST, self.upstreams[next])).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// The part of a chunk that passes, and whom to tell if the connection is to be cut after it.
    fn admit<'a>(&self, direction: Direction, chunk: &'a [u8]) -> (&'a [u8], Option<oneshot::Sender<()>>) {
        let mut cut_at = locked(&self.cuts_at[direction as usize]);
        match cut_at.as_mut() {
            Some(CutAt { bytes_left, .. }) if *bytes_left > chunk.len() => {
                *bytes_left -= chunk.len();
                (chunk, None)
            }
            Some(CutAt { bytes_left, .. }) => {
                let passing = &chunk[..*bytes_left];
                (passing, cut_at.take().map(|cut_at| cut_at.done))
            }
            None => (chunk, None),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
