use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, TcpListener},
};

use super::error::NodeError;

/// Below the range from which Linux takes ports for outgoing connections (32768 and up), so that no client's connection
/// takes a port between the choice and the node's start.
const FIRST: u16 = 20_000;
const END: u16 = 32_000;
/// One port that is held, and the node's three.
const BLOCK: u16 = 4;
const TRIES: u32 = 200;

/// The ports of one node, all on 127.0.0.1, the same through its restarts.
#[derive(Debug)]
pub(super) struct Ports {
    /// Clients connect here.
    pub(super) amqp: u16,
    /// Erlang's distribution: `rabbitmqctl` comes in here.
    pub(super) distribution: u16,
    /// Erlang's port mapper, one a node, so that nodes don't meet.
    pub(super) epmd: u16,
    /// The first port of the block, bound as long as the block is in use: it keeps nodes of other processes off.
    _held: TcpListener,
}

impl Ports {
    /// Finds a block of free ports; `amqp` asks for a certain port for the clients.
    pub(super) fn reserve(amqp: Option<u16>) -> Result<Self, NodeError> {
        if let Some(port) = amqp {
            bind(port).map_err(|source| NodeError::PortTaken { port, source })?;
        }
        // A start at random: processes that start together look in different places.
        let blocks = u64::from((END - FIRST) / BLOCK);
        let random = RandomState::new();
        for attempt in 0..TRIES {
            let block = random.hash_one(attempt) % blocks;
            let first = FIRST + BLOCK * u16::try_from(block).unwrap_or_default();
            let Ok(held) = bind(first) else { continue };
            if (1..BLOCK).all(|offset| bind(first + offset).is_ok()) {
                return Ok(Self {
                    amqp: amqp.unwrap_or(first + 1),
                    distribution: first + 2,
                    epmd: first + 3,
                    _held: held,
                });
            }
        }
        Err(NodeError::NoFreePorts { from: FIRST, to: END })
    }
}

/// What clients connect to: as RabbitMQ's own user, who may come from this machine only.
pub(super) fn url_of(port: u16) -> String {
    format!("amqp://guest:guest@127.0.0.1:{port}/%2f")
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_share_no_port() {
        let reservations: Vec<Ports> = (0..20)
            .map(|_| Ports::reserve(None).expect("free ports"))
            .collect();
        let mut ports: Vec<u16> = reservations
            .iter()
            .flat_map(|ports| [ports.amqp, ports.distribution, ports.epmd])
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 60);
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let taken = bind(0).expect("a free port");
        let port = taken.local_addr().expect("its address").port();
        let error = Ports::reserve(Some(port)).expect_err("the port is taken");
        assert!(
            error
                .to_string()
                .contains(&format!("port {port} on 127.0.0.1 is taken")),
            "{error}"
        );
    }
}
