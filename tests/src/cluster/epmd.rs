//! Erlang's port mapper daemon, as one node of a cluster sees it: what leads to another node leads through a proxy.
//!
//! An Erlang node tells its epmd on which port it listens for other nodes (distribution), and asks it for theirs. Here
//! each node has an epmd of its own, which answers with the port of a proxy for just this pair of nodes. So the network
//! between nodes can fail like any other, without root, and their clients' connections stay out of it.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::proxy::Proxy;

// The protocol: https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html
const ALIVE2_REQ: u8 = 120;
const ALIVE2_X_RESP: u8 = 118;
const PORT_PLEASE2_REQ: u8 = 122;
const PORT2_RESP: u8 = 119;
const NAMES_REQ: u8 = 110;
const NORMAL_NODE: u8 = 77;
const TCP_IPV4: u8 = 0;
/// The highest and lowest version of the distribution protocol: OTP 23's, and the one before.
const VERSIONS: [u16; 2] = [6, 5];

/// The network between the nodes of a cluster.
#[derive(Debug)]
pub(super) struct Network {
    /// Their names before the `@`.
    names: Vec<String>,
    /// The ports of each node's epmd.
    pub(super) epmd_ports: Vec<u16>,
    state: Arc<Mutex<State>>,
    serving: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    /// From which node, to which, and the proxy between with the port that it leads to.
    links: Vec<Link>,
    /// What each node listens on for others, as it told its epmd, and the number of that registration.
    ports: Vec<Option<(u16, u32)>>,
    /// How often a node said that it is alive.
    registrations: u32,
    cut_off: Vec<bool>,
}

#[derive(Debug)]
struct Link {
    from: usize,
    to: usize,
    upstream: u16,
    proxy: Proxy,
}

impl Network {
    /// An epmd for each of the nodes.
    pub(super) async fn start(names: Vec<String>) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            links: Vec::new(),
            ports: vec![None; names.len()],
            registrations: 0,
            cut_off: vec![false; names.len()],
        }));
        let mut network = Self {
            names,
            epmd_ports: Vec::new(),
            state,
            serving: Vec::new(),
        };
        for node in 0..network.names.len() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let port = listener.local_addr()?.port();
            network.epmd_ports.push(port);
            let epmd = Epmd {
                node,
                port,
                names: network.names.clone(),
                state: Arc::clone(&network.state),
            };
            network.serving.push(tokio::spawn(epmd.serve(listener)));
        }
        Ok(network)
    }

    /// Cuts one node off from all others, or joins it again. Nothing is closed: packets are lost, and sent again by TCP
    /// after the heal.
    pub(super) fn cut_off(&self, node: usize, cut_off: bool) {
        let mut state = locked(&self.state);
        state.cut_off[node] = cut_off;
        for link in &state.links {
            state.apply(link);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

impl State {
    fn apply(&self, link: &Link) {
        if self.cut_off[link.from] || self.cut_off[link.to] {
            link.proxy.freeze();
        } else {
            link.proxy.pass();
        }
    }

    /// The port by which one node reaches another, if that runs.
    fn way(&mut self, from: usize, to: usize) -> Option<u16> {
        let (upstream, _) = self.ports[to]?;
        if from == to {
            return Some(upstream);
        }
        let known = |link: &Link| (link.from, link.to) == (from, to);
        self.links
            .retain(|link| !known(link) || link.upstream == upstream);
        if !self.links.iter().any(known) {
            let link = Link {
                from,
                to,
                upstream,
                proxy: Proxy::start(upstream),
            };
            self.apply(&link);
            self.links.push(link);
        }
        self.links
            .iter()
            .find(|link| known(link))
            .map(|link| link.proxy.port())
    }
}

/// The epmd of one node.
#[derive(Debug, Clone)]
struct Epmd {
    node: usize,
    port: u16,
    names: Vec<String>,
    state: Arc<Mutex<State>>,
}

impl Epmd {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let epmd = self.clone();
            // A client that breaks off has nobody who would want to know.
            tokio::spawn(async move { epmd.answer(stream).await });
        }
    }

    async fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = stream;
        let length = stream.read_u16().await?;
        let mut request = vec![0; length.into()];
        stream.read_exact(&mut request).await?;
        match request.split_first() {
            Some((&ALIVE2_REQ, rest)) => self.register(stream, rest).await,
            Some((&PORT_PLEASE2_REQ, name)) => stream.write_all(&self.port_of(name)).await,
            Some((&NAMES_REQ, _)) => stream.write_all(&self.names()).await,
            _ => Ok(()),
        }
    }

    /// A node is registered as long as its connection lasts. Others than ours (`rabbitmqctl` is a node too) are greeted
    /// likewise; nobody asks for them.
    async fn register(&self, stream: TcpStream, request: &[u8]) -> io::Result<()> {
        let mut stream = stream;
        let mut fields = request;
        let port = fields.read_u16().await?;
        let mut type_protocol_and_versions = [0; 6];
        fields.read_exact(&mut type_protocol_and_versions).await?;
        let mut name = vec![0; fields.read_u16().await?.into()];
        fields.read_exact(&mut name).await?;
        let creation = {
            let mut state = locked(&self.state);
            state.registrations += 1;
            if self.names[self.node].as_bytes() == name {
                state.ports[self.node] = Some((port, state.registrations));
            }
            state.registrations
        };
        let mut answer = vec![ALIVE2_X_RESP, 0];
        answer.extend(creation.to_be_bytes());
        stream.write_all(&answer).await?;
        // The node says nothing more: this waits for its end.
        let _ = stream.read_u8().await;
        let registered = &mut locked(&self.state).ports[self.node];
        if *registered == Some((port, creation)) {
            *registered = None;
        }
        Ok(())
    }

    fn port_of(&self, name: &[u8]) -> Vec<u8> {
        let asked = self.names.iter().position(|known| known.as_bytes() == name);
        let port = asked.and_then(|to| locked(&self.state).way(self.node, to));
        let Some(port) = port else {
            return vec![PORT2_RESP, 1];
        };
        let mut answer = vec![PORT2_RESP, 0];
        answer.extend(port.to_be_bytes());
        answer.extend([NORMAL_NODE, TCP_IPV4]);
        answer.extend(VERSIONS.iter().flat_map(|version| version.to_be_bytes()));
        let length = u16::try_from(name.len()).unwrap_or_default();
        answer.extend(length.to_be_bytes());
        answer.extend(name);
        // No extra field.
        answer.extend(0_u16.to_be_bytes());
        answer
    }

    /// Who is registered here: the node itself, which looks whether its name is taken before it starts.
    fn names(&self) -> Vec<u8> {
        let mut answer = u32::from(self.port).to_be_bytes().to_vec();
        if let Some((port, _)) = locked(&self.state).ports[self.node] {
            answer.extend(format!("name {} at port {port}\n", self.names[self.node]).into_bytes());
        }
        answer
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
