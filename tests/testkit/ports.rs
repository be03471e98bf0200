//! Free ports of loopback.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Below the ports that Linux (from 32768) and others (from 49152) give to outgoing connections. While a node is down, such a
/// connection could take its port, so that the node could not come back. A peer that tries to reach it could even connect to
/// itself.
const CANDIDATES: std::ops::Range<u16> = 10_000..32_000;
/// The most candidates that are tried. So many taken ports in a row are no accident.
const TRIES_MAX: usize = 1_000;

/// The ports that this process has handed out: its tests run side by side.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of loopback that is free now, and that no other test of this process gets.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES_MAX {
        let port = rand::random_range(CANDIDATES);
        if is_free(port) && given.insert(port) {
            return port;
        }
    }
    panic!("no free port in {TRIES_MAX} tries")
}

/// How far above the nodes' ports those of HTTP, of lines, of Redis and of metrics begin in `quorate dev`.
pub const DEV_DISTANCES: [u16; 5] = [0, 100, 200, 300, 1_000];

/// The first of `count` ports for the nodes of `quorate dev`. All ports that it takes for them are free now, and no other test of
/// this process gets them.
pub fn free_dev_ports(count: u16) -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES_MAX {
        let first = rand::random_range(CANDIDATES);
        let ports = || DEV_DISTANCES.into_iter().flat_map(|distance| first + distance..first + distance + count);
        if ports().all(|port| !given.contains(&port) && is_free(port)) {
            given.extend(ports());
            return first;
        }
    }
    panic!("no free ports in {TRIES_MAX} tries")
}

/// Whether `port` of loopback is free now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
