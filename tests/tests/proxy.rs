//! The proxy that other tests break connections with: each of its faults, before a server that echoes.

use std::{io::ErrorKind, net::Ipv4Addr, time::Duration};

use crewfleet_tests::{
    PATIENCE,
    proxy::{Direction, Proxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

/// Long enough for a byte on 127.0.0.1 to arrive, were it to.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn it_passes_both_ways_and_both_ends() {
    let (echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    assert_eq!(echoed(&mut client, b"one").await, b"one");
    assert_eq!(proxy.connections(), 1);
    client.shutdown().await.expect("an end");
    assert_eq!(read_to_end(&mut client).await.expect("an orderly end"), b"");
    proxy.connected(0).await;
    drop(echo);
}

#[tokio::test]
async fn a_megabyte_arrives_as_it_was() {
    let (_echo, proxy) = echo_and_proxy().await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|place| (place % 251) as u8).collect();
    let (mut from, mut to) = connect(&proxy).await.into_split();
    let (expected, mut received) = (sent.clone(), Vec::new());
    let writing = async {
        to.write_all(&sent).await.expect("it is sent");
        to.shutdown().await.expect("an end");
    };
    let (read, ()) = tokio::join!(within(from.read_to_end(&mut received)), writing);
    read.expect("an orderly end");
    assert!(received == expected);
}

#[tokio::test]
async fn a_cut_resets_those_there_are_and_not_the_next() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    echoed(&mut client, b"one").await;
    proxy.cut();
    assert_reset(&mut client).await;
    let mut next = connect(&proxy).await;
    assert_eq!(echoed(&mut next, b"two").await, b"two");
}

#[tokio::test]
async fn refusing_resets_and_refuses_until_it_passes() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    echoed(&mut client, b"one").await;
    for _ in 0..3 {
        proxy.refuse();
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await;
        assert_eq!(
            refused.expect_err("it is refused").kind(),
            ErrorKind::ConnectionRefused
        );
        proxy.pass();
        let mut next = connect(&proxy).await;
        assert_eq!(echoed(&mut next, b"two").await, b"two");
    }
    assert_reset(&mut client).await;
}

#[tokio::test]
async fn frozen_it_accepts_and_nothing_moves_until_it_passes() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    echoed(&mut client, b"one").await;
    proxy.freeze();
    let mut next = connect(&proxy).await;
    for client in [&mut client, &mut next] {
        client.write_all(b"two").await.expect("it is taken");
        let answer = timeout(A_WHILE, client.read_u8()).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    proxy.pass();
    for client in [&mut client, &mut next] {
        assert_eq!(read(client, 3).await, b"two");
    }
}

#[tokio::test]
async fn frozen_it_passes_no_end_of_a_connection() {
    let (mut echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    echoed(&mut client, b"one").await;
    proxy.freeze();
    client.set_zero_linger().expect("a reset at its end");
    drop(client);
    let ended = timeout(A_WHILE, echo.ended.recv()).await;
    assert!(ended.is_err(), "{ended:?}");
    proxy.pass();
    within(echo.ended.recv()).await;
}

#[tokio::test]
async fn a_delay_slows_each_way_and_keeps_the_order() {
    let (_echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    proxy.delay(A_WHILE);
    let began = Instant::now();
    for byte in 0..10 {
        client.write_u8(byte).await.expect("it is sent");
    }
    assert_eq!(read(&mut client, 10).await, (0..10).collect::<Vec<u8>>());
    assert!(began.elapsed() >= 2 * A_WHILE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn half_closed_towards_the_client_the_server_still_hears() {
    let (mut echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    echoed(&mut client, b"one").await;
    proxy.half_close(Direction::ToClient);
    assert_eq!(read_to_end(&mut client).await.expect("an orderly end"), b"");
    client.write_all(b"two").await.expect("it is sent");
    while within(echo.heard.recv()).await.expect("an echo") != b"two" {}
}

#[tokio::test]
async fn half_closed_towards_the_server_the_client_still_hears() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let proxy = Proxy::start(listener.local_addr().expect("its address").port());
    let mut client = connect(&proxy).await;
    let (mut server, _) = within(listener.accept()).await.expect("a connection");
    proxy.half_close(Direction::ToUpstream);
    assert_eq!(read_to_end(&mut server).await.expect("an orderly end"), b"");
    server.write_all(b"two").await.expect("it is sent");
    assert_eq!(read(&mut client, 3).await, b"two");
}

#[tokio::test]
async fn a_cut_after_some_bytes_lets_just_these_through() {
    let (mut echo, proxy) = echo_and_proxy().await;
    let mut client = connect(&proxy).await;
    echoed(&mut client, b"one").await;
    within(echo.heard.recv()).await;
    let cut = proxy.cut_after(Direction::ToUpstream, 5);
    client.write_all(b"in the middle").await.expect("it is sent");
    within(cut).await.expect("it was cut");
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.extend(
            within(echo.heard.recv())
                .await
                .expect("what was sent before the cut"),
        );
    }
    assert_eq!(heard, b"in th");
    within(echo.ended.recv()).await;
    let mut next = connect(&proxy).await;
    assert_eq!(echoed(&mut next, b"a new connection").await, b"a new connection");
}

#[tokio::test]
async fn a_balancer_takes_each_in_turn_and_leaves_out_who_refuses() {
    let (mut first, mut second) = (Echo::start().await, Echo::start().await);
    let nobody = Proxy::start(1);
    nobody.refuse();
    let proxy = Proxy::balance(vec![first.port, nobody.port(), second.port]);
    for _ in 0..4 {
        echoed(&mut connect(&proxy).await, b"one").await;
    }
    for echo in [&mut first, &mut second] {
        assert_eq!(within(echo.heard.recv()).await.expect("a connection"), b"one");
    }
}

#[tokio::test]
async fn nobody_behind_it_is_a_reset() {
    let nobody = Proxy::start(1);
    nobody.refuse();
    let proxy = Proxy::start(nobody.port());
    assert_reset(&mut connect(&proxy).await).await;
}

/// A server that sends back what it hears.
struct Echo {
    port: u16,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
    ended: mpsc::UnboundedReceiver<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (hears, heard) = mpsc::unbounded_channel();
        let (ends, ended) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (hears, ends) = (hears.clone(), ends.clone());
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let _ = hears.send(buffer[..count].to_vec());
                        // It goes on listening to a client that hears nothing more.
                        let _ = stream.write_all(&buffer[..count]).await;
                    }
                    let _ = ends.send(());
                });
            }
        });
        Self { port, heard, ended }
    }
}

async fn echo_and_proxy() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.port);
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    within(TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())))
        .await
        .expect("a connection")
}

async fn echoed(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    client.write_all(bytes).await.expect("it is sent");
    read(client, bytes.len()).await
}

async fn read(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut received = vec![0; count];
    within(client.read_exact(&mut received)).await.expect("bytes");
    received
}

async fn read_to_end(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut received = Vec::new();
    within(stream.read_to_end(&mut received)).await?;
    Ok(received)
}

async fn assert_reset(client: &mut TcpStream) {
    let error = read_to_end(client).await.expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn within<T>(moment: impl Future<Output = T>) -> T {
    timeout(PATIENCE, moment).await.expect("the moment comes")
}
