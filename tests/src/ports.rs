//! Ports for programs that must be told one.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below those of [`crewfleet_node`]'s nodes, and below those that Linux gives to who asks for any: a proxy that refuses
/// connections still has its port, and another program could not be kept off it.
const FREE: Range<u16> = 12_000..20_000;
const TRIES: u32 = 1_000;

/// A port of 127.0.0.1 that is free now.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..TRIES)
        .map(|_| fastrand::u16(FREE))
        .find(is_free)
        .expect("a free port")
}
