//! Ports that nobody listens on.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Below what Linux (32768) and others (49152) give to outgoing connections. While a node is down, a port of that range
/// could go to somebody's connection, and the node could not come back; a peer that tries again and again to reach it
/// could even be connected to itself.
const CANDIDATES: std::ops::Range<u16> = 10_000..32_000;
/// So many in a row that are taken are no accident.
const TRIES_MAX: usize = 1_000;

/// What this process has given out: tests run side by side.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of loopback that was free a moment ago, and is given to nobody else of this process.
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

/// Whether nobody listens on `port` of loopback now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
