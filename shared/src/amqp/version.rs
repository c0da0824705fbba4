//! Which broker this is. The AMQP client keeps the server's properties to itself, so they are read from a
//! handshake of our own: the broker sends them first, before any login.

use std::fmt;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::AMQPUriTcpExt;
use lapin::types::AMQPValue;
use lapin::types::parsing::parse_field_table;
use lapin::uri::AMQPUri;

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

/// Connects, reads `Connection.Start`, and hangs up.
///
/// # Errors
/// What went wrong, in words: refused, not resolved, not an AMQP 0-9-1 broker.
pub(super) async fn probe(uri: &AMQPUri) -> Result<ServerVersion, String> {
    let runtime = lapin::runtime::default_runtime().map_err(|e| e.to_string())?;
    let mut stream = uri.connect_async(&runtime).await.map_err(|e| e.to_string())?;
    stream
        .write_all(b"AMQP\x00\x00\x09\x01")
        .await
        .map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    // Frame header: type (1), channel (2), size (4). Another protocol version is answered with "AMQP….".
    let mut head = [0_u8; 7];
    stream
        .read_exact(&mut head)
        .await
        .map_err(|e| format!("no AMQP answer: {e}"))?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if head[0] != 1 || size > 65_536 {
        return Err("what answers there is not an AMQP 0-9-1 broker".into());
    }
    let mut payload = vec![0_u8; size];
    stream
        .read_exact(&mut payload)
        .await
        .map_err(|e| format!("the AMQP handshake broke: {e}"))?;
    // Connection.Start: class 10, method 10 (2 bytes each), version (2), then the server's properties.
    let properties = payload.get(6..).ok_or("the AMQP handshake is too short")?;
    let (_, table) = parse_field_table(properties).map_err(|_| "the broker's properties cannot be read")?;
    let text = |name: &str| match table.inner().get(name) {
        Some(AMQPValue::LongString(value)) => value.to_string(),
        _ => String::from("unknown"),
    };
    Ok(ServerVersion {
        product: text("product"),
        version: text("version"),
    })
}
