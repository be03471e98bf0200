//! The file descriptors of the process, and the parts of them that connections, monitoring and the store may use.
//!
//! Contract: at the start the soft limit of open files is raised to the hard one. Connections then have a part of their
//! own, so that a flood of them leaves descriptors to the store, the links to peers and the monitoring port.
//!
//! Caveat: the limit belongs to the process. The nodes of one process share the parts of connections and monitoring.

use std::sync::{Arc, OnceLock};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::limits::{CONNECTIONS_MAX, MONITORING_CONNECTIONS_MAX};

/// Below this limit a node works, but a large store or many clients will run short.
const COMFORTABLE: u64 = 4_096;
/// More than this is not asked of the system. Some systems refuse a soft limit as high as their hard one.
const RAISED_MAX: u64 = 1 << 20;

/// The descriptors of this process.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The limit of open files.
    pub(crate) limit: u64,
    /// A permit for each connection of a client or a peer.
    pub(crate) connections: Arc<Semaphore>,
    /// A permit for each connection of a client that speaks neither gRPC nor Quorate's own protocol: half of the places for
    /// connections, so that the other half is left to nodes and clients of gRPC.
    pub(crate) gateways: Arc<Semaphore>,
    /// A permit for each connection to the monitoring port.
    pub(crate) monitoring: Arc<Semaphore>,
    /// How many permits for connections there are.
    pub(crate) connections_max: usize,
    /// How many there are for the monitoring port.
    pub(crate) monitoring_max: usize,
    /// The most files that a store keeps open.
    pub(crate) store_files_max: u16,
}

/// How the limit is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    connections: usize,
    monitoring: usize,
    store_files: u16,
}

/// The descriptors of this process. The first call raises the limit.
pub(crate) fn of_process() -> &'static Descriptors {
    static DESCRIPTORS: OnceLock<Descriptors> = OnceLock::new();
    DESCRIPTORS.get_or_init(|| {
        let limit = raise();
        let shares = shares(limit);
        if limit < COMFORTABLE {
            warn!(
                limit,
                connections_max = shares.connections,
                "few files may be open at once: raise ulimit -n, or LimitNOFILE= of the systemd unit, to {COMFORTABLE} or \
                 more"
            );
        }
        Descriptors {
            limit,
            connections: Arc::new(Semaphore::new(shares.connections)),
            gateways: Arc::new(Semaphore::new(shares.connections / 2)),
            monitoring: Arc::new(Semaphore::new(shares.monitoring)),
            connections_max: shares.connections,
            monitoring_max: shares.monitoring,
            store_files_max: shares.store_files,
        }
    })
}

/// Raises the soft limit to the hard one, and returns the limit that is in force.
fn raise() -> u64 {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            warn!(%error, "the limit of open files is not known; assuming {COMFORTABLE}");
            return COMFORTABLE;
        }
    };
    let wanted = hard.min(RAISED_MAX);
    if wanted <= soft {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => {
            info!(from = soft, to = wanted, "raised the limit of open files");
            wanted
        }
        Err(error) => {
            warn!(%error, limit = soft, "the limit of open files could not be raised");
            soft
        }
    }
}

/// A quarter each for the store and for all else (links, look-ups, logs), a sixteenth for monitoring, and the rest for
/// connections, each within bounds.
fn shares(limit: u64) -> Shares {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // RocksDB raises less than 20 to 20, and needs no more than 512 for speed.
    let store_files = (limit / 4).clamp(20, 512);
    let other = (limit / 4).clamp(24, 4_096);
    let monitoring = (limit / 16).clamp(4, MONITORING_CONNECTIONS_MAX);
    let connections = limit.saturating_sub(store_files + other + monitoring).clamp(8, CONNECTIONS_MAX);
    Shares { connections, monitoring, store_files: u16::try_from(store_files).unwrap_or(u16::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_limit() {
        for limit in [80, 120, 256, 1_024, 4_096, 65_536, 1 << 20, u64::MAX] {
            let Shares { connections, monitoring, store_files } = shares(limit);
            let used = connections + monitoring + usize::from(store_files);
            assert!(u64::try_from(used).unwrap() + 24 <= limit, "{limit}: {used}");
        }
        assert_eq!(shares(120), Shares { connections: 53, monitoring: 7, store_files: 30 });
        assert_eq!(shares(1 << 20), Shares { connections: CONNECTIONS_MAX, monitoring: 64, store_files: 512 });
    }

    #[test]
    fn limit_is_raised_to_the_hard_one() {
        let descriptors = of_process();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((descriptors.limit, soft >= hard.min(RAISED_MAX)), (soft, true));
    }
}
