//! Which broker this is. The AMQP client keeps the server's properties to itself, so they are read from a
//! handshake of our own: the broker sends them first, before any login.
//!
//! It can go when the client hands out the server's properties.

use std::{fmt, io};

use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;

/// The broker's product and version, for what differs between versions (RabbitMQ 3.12 brought the consumer
/// timeout as a queue argument).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    product: String,
    version: String,
}

impl ServerVersion {
    /// Major and minor version; `(0, 0)` when the broker gives none that can be read.
    pub fn major_minor(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Whether a queue's `x-consumer-timeout` argument acts (RabbitMQ 3.12 and later).
    pub fn has_queue_consumer_timeout(&self) -> bool {
        self.major_minor() >= (3, 12)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.version)
    }
}

/// Frames of AMQP begin with their type, and the first one has a method in it.
const METHOD_FRAME: u8 = 1;
/// The answer of TLS to what is no TLS.
const TLS_ALERT: u8 = 21;

/// Reads `Connection.Start` from a new stream, which is of no use afterwards.
///
/// # Errors
/// What went wrong: it broke off, it is not an AMQP 0-9-1 broker.
pub(super) async fn probe(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<ServerVersion> {
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.flush().await?;
    // Frame header: type (1), channel (2), size (4). Another protocol version is answered with "AMQP….".
    let mut head = [0_u8; 7];
    stream
        .read_exact(&mut head)
        .await
        .map_err(while_doing("no AMQP answer"))?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    match head[0] {
        METHOD_FRAME if size <= 65_536 => {}
        TLS_ALERT => {
            return Err(other(
                "what answers there speaks TLS; write amqps:// in [broker] url",
            ));
        }
        _ => return Err(other("what answers there is not an AMQP 0-9-1 broker")),
    }
    let mut payload = vec![0_u8; size];
    stream
        .read_exact(&mut payload)
        .await
        .map_err(while_doing("the AMQP handshake broke"))?;
    // Connection.Start: class 10, method 10 (2 bytes each), version (2), then the server's properties.
    let properties = payload
        .get(6..)
        .ok_or_else(|| other("the AMQP handshake is too short"))?;
    let (_, table) =
        parse_field_table(properties).map_err(|_| other("the broker's properties cannot be read"))?;
    let text = |name: &str| match table.inner().get(name) {
        Some(AMQPValue::LongString(value)) => value.to_string(),
        _ => String::from("unknown"),
    };
    Ok(ServerVersion {
        product: text("product"),
        version: text("version"),
    })
}

fn other(problem: &'static str) -> io::Error {
    io::Error::other(problem)
}

/// Says what we were doing, unless the error has words of its own.
fn while_doing(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| match error.get_ref() {
        Some(_) => error,
        None => io::Error::new(error.kind(), format!("{what}: {error}")),
    }
}
