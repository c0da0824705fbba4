//! The wire to fork servers, hosts and children: a length (4 bytes, big-endian), then one JSON object with a `type`.
//! File descriptors travel beside a frame's first byte.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::StreamExt;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// The longest frame either side takes.
const MAX_FRAME: usize = 256 * 1024 * 1024;

/// Our writing end. Cheap to clone; the other side sees the end when the last clone is gone.
#[derive(Clone)]
pub(super) struct Sender(Arc<Mutex<OwnedWriteHalf>>);

/// Our reading end.
pub(super) struct Receiver(FramedRead<OwnedReadHalf, LengthDelimitedCodec>);

/// One frame, read as far as its type.
pub(super) struct Frame {
    /// Its `type`.
    pub(super) kind: String,
    bytes: BytesMut,
}

/// A new channel, and the end that goes to the Python side.
pub(super) fn pair() -> io::Result<(Sender, Receiver, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(ours)?.into_split();
    let codec = LengthDelimitedCodec::builder()
        .max_frame_length(MAX_FRAME)
        .new_codec();
    Ok((
        Sender(Arc::new(Mutex::new(write))),
        Receiver(FramedRead::new(read, codec)),
        theirs.into(),
    ))
}

impl Sender {
    /// Sends a frame.
    pub(super) async fn send(&self, frame: &impl Serialize) -> io::Result<()> {
        self.send_with(frame, &[]).await
    }

    /// Sends a frame and, with it, copies of file descriptors.
    pub(super) async fn send_with(&self, frame: &impl Serialize, fds: &[OwnedFd]) -> io::Result<()> {
        let json = serde_json::to_vec(frame)?;
        let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_FRAME);
        let length =
            length.ok_or_else(|| io::Error::other(format!("a frame of {} bytes is too long", json.len())))?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&json);
        let mut stream = self.0.lock().await;
        let mut sent = 0;
        if !fds.is_empty() {
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let socket = stream.as_ref().as_raw_fd();
            let send = || {
                let control = [ControlMessage::ScmRights(&raw)];
                Ok(sendmsg::<()>(
                    socket,
                    &[IoSlice::new(&bytes)],
                    &control,
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                )?)
            };
            sent = stream.as_ref().async_io(Interest::WRITABLE, send).await?;
        }
        stream.write_all(&bytes[sent..]).await
    }
}

impl Receiver {
    /// The next frame; `None` at the other side's end.
    pub(super) async fn next(&mut self) -> Option<io::Result<Frame>> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
        }
        let bytes = match self.0.next().await? {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(error)),
        };
        let head = serde_json::from_slice::<Head>(&bytes).map_err(io::Error::from);
        Some(head.map(|head| Frame {
            kind: head.kind,
            bytes,
        }))
    }
}

impl Frame {
    /// Reads the whole frame.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }
}
