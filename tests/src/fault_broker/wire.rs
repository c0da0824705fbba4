//! A connection: frames in, frames out, heartbeats, the cut.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, BasicProperties},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, interval_at},
};

use super::{
    connection::{Connection, Out},
    record::Record,
    state::{State, lock},
};

/// What AMQP's frames begin with: type, channel, size.
const HEAD: usize = 7;

/// Room for a body in one frame of the size that both sides agree to.
const BODY_MAX: usize = 100_000;

pub(super) async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    // They end when this does.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (from, to) = stream.into_split();
    let (out, queue) = mpsc::unbounded_channel();
    let (reading, open) = watch::channel(true);
    let number = {
        let mut state = lock(&state);
        let number = state.count();
        state.connections.insert(number, Connection::new(out, reading));
        number
    };
    tokio::select! {
        () = read(from, open, &state, number) => {}
        // Fails when the client is gone.
        _ = write(to, queue) => {}
    }
    lock(&state).end(number);
}

async fn read(mut from: OwnedReadHalf, mut open: watch::Receiver<bool>, state: &Mutex<State>, number: u64) {
    let mut header = [0; 8];
    if from.read_exact(&mut header).await.is_err() {
        return;
    }
    assert_eq!(&header, b"AMQP\0\0\x09\x01", "another protocol");
    lock(state).start(number);
    while let Ok(frame) = read_frame(&mut from).await {
        lock(state).heed(number, frame);
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
    }
}

async fn read_frame(from: &mut OwnedReadHalf) -> io::Result<AMQPFrame> {
    let mut bytes = vec![0; HEAD];
    from.read_exact(&mut bytes).await?;
    let size = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]);
    // One more byte ends the frame.
    bytes.resize(HEAD + size as usize + 1, 0);
    from.read_exact(&mut bytes[HEAD..]).await?;
    let (_, frame) = parse_frame(bytes.as_slice()).expect("a client sends whole, valid frames");
    Ok(frame)
}

async fn write(mut to: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Out>) -> io::Result<()> {
    let heartbeat = frame_bytes(&AMQPFrame::Heartbeat);
    let mut beat = None;
    loop {
        let tick = async {
            match &mut beat {
                Some(beat) => tokio::time::Interval::tick(beat).await,
                None => std::future::pending().await,
            }
        };
        let out = tokio::select! {
            out = queue.recv() => out,
            _ = tick => {
                to.write_all(&heartbeat).await?;
                continue;
            }
        };
        match out {
            Some(Out::Bytes(bytes)) => to.write_all(&bytes).await?,
            Some(Out::Heartbeats(period)) => beat = Some(interval_at(Instant::now() + period, period)),
            Some(Out::Pause(pause)) => tokio::time::sleep(pause).await,
            Some(Out::Silence) => beat = None,
            Some(Out::End) | None => return to.shutdown().await,
        }
    }
}

/// A frame as it goes over the wire.
fn frame_bytes(frame: &AMQPFrame) -> Vec<u8> {
    let written =
        gen_frame(frame)(WriteContext::from(Vec::new())).expect("a frame of our own can be written");
    written.into_inner().0
}

/// A method with a message behind it, as it goes over the wire.
pub(super) fn content_bytes(
    channel: u16,
    method: AMQPClass,
    properties: &BasicProperties,
    body: &[u8],
) -> Vec<u8> {
    const BASIC: u16 = 60;
    let mut bytes = frame_bytes(&AMQPFrame::Method(channel, method));
    let header = AMQPContentHeader {
        class_id: BASIC,
        body_size: body.len() as u64,
        properties: properties.clone(),
    };
    bytes.extend(frame_bytes(&AMQPFrame::Header(channel, header)));
    for part in body.chunks(BODY_MAX) {
        bytes.extend(frame_bytes(&AMQPFrame::Body(channel, part.to_vec())));
    }
    bytes
}

pub(super) fn method_bytes(channel: u16, method: AMQPClass) -> Vec<u8> {
    frame_bytes(&AMQPFrame::Method(channel, method))
}

impl State {
    pub(super) fn send(&self, connection: u64, channel: u16, method: AMQPClass) {
        self.send_bytes(connection, method_bytes(channel, method));
    }

    pub(super) fn send_bytes(&self, connection: u64, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get(&connection)
            && !connection.silent
        {
            connection.write(Out::Bytes(bytes));
        }
    }

    pub(super) fn silence(&mut self, connection: u64) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.silent = true;
            connection.write(Out::Silence);
        }
    }

    /// What is sent on the connection from now on waits for so long.
    pub(super) fn pause(&self, connection: u64, pause: Duration) {
        if let Some(connection) = self.connections.get(&connection) {
            connection.write(Out::Pause(pause));
        }
    }

    /// Sends the first half of `bytes`, then cuts the connection.
    pub(super) fn cut_within(&mut self, connection: u64, mut bytes: Vec<u8>) {
        bytes.truncate(bytes.len() / 2);
        self.send_bytes(connection, bytes);
        self.end(connection);
    }

    /// The end of a connection, whoever ends it: what it held goes back to its queues.
    pub(super) fn end(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        connection.write(Out::End);
        self.log.push(Record::Ended {
            connection: number,
            name: connection.name,
        });
        for (channel, held) in connection.channels {
            self.give_back(number, channel, held);
        }
    }
}
