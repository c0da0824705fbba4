//! Calls over HTTP/1.1, written and read as they are: a client library would be much of what is measured.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpSocket,
};

/// So much the kernel keeps for one who reads nothing, in bytes.
const SMALL: u32 = 4096;

/// Somebody with a token, and with connections that are used again.
pub(crate) struct Caller {
    addr: String,
    token: String,
    idle: Mutex<Vec<Connection>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

type Connection = BufReader<tokio::net::TcpStream>;

/// Server-sent events that come in.
pub(crate) struct Events {
    connection: Connection,
    /// What has come, from the last event's beginning on.
    rest: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(addr: &str, token: &str) -> Self {
        Self {
            addr: addr.to_owned(),
            token: token.to_owned(),
            idle: Mutex::default(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.call("GET", path, b"").await
    }

    /// Starts a kickoff, and returns its id.
    pub(crate) async fn kickoff(&self, body: &[u8]) -> anyhow::Result<String> {
        let answer = self.call("POST", "/v1/kickoffs", body).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status == 202,
            "a kickoff is answered with {}: {text}",
            answer.status
        );
        let kickoff: Value = serde_json::from_str(&text)?;
        Ok(kickoff["kickoff_id"].as_str().context("an id")?.to_owned())
    }

    /// The reply to a kickoff, as soon as it has ended.
    pub(crate) async fn reply(&self, id: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.get(&format!("/v1/kickoffs/{id}/result?wait=30")).await?;
        ensure!(answer.status == 200, "{id} is answered with {}", answer.status);
        Ok(answer.body)
    }

    /// Events from now on: what happens after this is among them.
    pub(crate) async fn follow(&self, path: &str) -> anyhow::Result<Events> {
        Events::begin(self, path, self.connect(None).await?).await
    }

    /// Events that are not to be read: little of them is kept on this side.
    pub(crate) async fn follow_and_not_read(&self, path: &str) -> anyhow::Result<Events> {
        Events::begin(self, path, self.connect(Some(SMALL)).await?).await
    }

    async fn call(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let kept = match kept {
            Some(connection) => self.exchange(connection, method, path, body).await?,
            None => None,
        };
        let answered = match kept {
            Some(answered) => Some(answered),
            // The gateway has closed what was idle for long.
            None => {
                self.exchange(self.connect(None).await?, method, path, body)
                    .await?
            }
        };
        let (answer, connection) = answered.context("the gateway closes a connection that is new")?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(answer)
    }

    /// `None` where the connection was closed.
    async fn exchange(
        &self,
        mut connection: Connection,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<Option<(Answer, Connection)>> {
        let mut request = self.head(method, path, &format!("content-length: {}\r\n", body.len()));
        request.extend_from_slice(body);
        if connection.get_mut().write_all(&request).await.is_err() {
            return Ok(None);
        }
        let Some(head) = read_head(&mut connection).await? else {
            return Ok(None);
        };
        let mut body = vec![0; head.length.context("an answer of a known length")?];
        connection.read_exact(&mut body).await?;
        let status = head.status;
        Ok(Some((Answer { status, body }, connection)))
    }

    fn head(&self, method: &str, path: &str, more: &str) -> Vec<u8> {
        let Self { addr, token, .. } = self;
        format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {token}\r\n{more}\r\n")
            .into_bytes()
    }

    async fn connect(&self, buffer: Option<u32>) -> anyhow::Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(self.addr.parse()?).await?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

impl Events {
    async fn begin(caller: &Caller, path: &str, mut connection: Connection) -> anyhow::Result<Self> {
        let head = caller.head("GET", path, "accept: text/event-stream\r\n");
        connection.get_mut().write_all(&head).await?;
        let head = read_head(&mut connection)
            .await?
            .context("no answer to a follower")?;
        ensure!(
            head.status == 200,
            "a follower of {path} is answered with {}",
            head.status
        );
        Ok(Self {
            connection,
            rest: Vec::new(),
        })
    }

    /// Reads some, and returns how many events have come to their ends. The frames of HTTP between them are no matter.
    pub(crate) async fn read(&mut self) -> anyhow::Result<usize> {
        let come = self.connection.fill_buf().await?;
        ensure!(!come.is_empty(), "the gateway ends a stream of events");
        let length = come.len();
        self.rest.extend_from_slice(come);
        self.connection.consume(length);
        let ends = memmem::find_iter(&self.rest, b"\n\n").count();
        if let Some(last) = memmem::rfind(&self.rest, b"\n\n") {
            self.rest.drain(..last + 2);
        }
        Ok(ends)
    }

    /// Reads up to the end of a kickoff, and returns how many events that were.
    pub(crate) async fn read_to_end(mut self) -> anyhow::Result<usize> {
        let mut all = Vec::new();
        loop {
            let come = self.connection.fill_buf().await?;
            ensure!(!come.is_empty(), "a stream ends before its kickoff");
            let length = come.len();
            all.extend_from_slice(come);
            self.connection.consume(length);
            let end = memmem::find(&all, b"event: end\n");
            if end.is_some_and(|end| memmem::find(&all[end..], b"\n\n").is_some()) {
                return Ok(memmem::find_iter(&all, b"\n\n").count());
            }
        }
    }
}

struct Head {
    status: u16,
    /// Of the body; `None` where it comes in chunks.
    length: Option<usize>,
}

/// `None` where the connection is closed.
async fn read_head(connection: &mut Connection) -> anyhow::Result<Option<Head>> {
    let mut line = String::new();
    if !matches!(connection.read_line(&mut line).await, Ok(1..)) {
        return Ok(None);
    }
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status: {line}"))?;
    let mut length = None;
    loop {
        line.clear();
        if connection.read_line(&mut line).await? == 0 {
            bail!("an answer ends within its head");
        }
        let Some((name, value)) = line.split_once(':') else {
            return Ok(Some(Head { status, length }));
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse()?);
        }
    }
}
