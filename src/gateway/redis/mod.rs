//! The Redis protocol (RESP2 and RESP3): strings for redis-cli and for the clients of Redis in every language.
//!
//! Contract: docs/redis.md. [`table`] has the commands. Those of one connection run at the same time where they touch
//! different keys, and are answered in their order. A command that changes a value depending on what it is runs as one
//! atomic operation.
//!
//! Bounds: [`parse`] judges what a request claims before it is buffered; what arrives beyond [`UNCOUNTED_BYTES`] counts
//! against the buffer budget. A connection has [`pipeline::COMMANDS_MAX`] commands under way at most, and as long as it has
//! one, only as many more as the node has room for. A client that stops amid a request, or does not read, is left.

mod catalogue;
mod command;
mod connection;
mod cursors;
mod execute;
mod expiry;
mod failure;
mod glob;
mod info;
mod keyspace;
mod number;
mod parse;
mod pipeline;
mod reply;
mod running;
mod session;
mod set;
mod strings;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::service::Service;
use crate::service::authorization::Caller;
use crate::service::listener::Listener;
use crate::types::Table;

use cursors::Cursors;

pub use catalogue::{not_served_table, served_table};

/// How often a connection looks whether its client has gone on.
const TICK: Duration = Duration::from_secs(10);
/// After so many ticks a client is left that has stopped amid a request, that does not read, or that has not said who it is
/// where it must: half a minute.
const STALLED_TICKS_MAX: u32 = 3;
/// After so many ticks a client is left whose request is still not there, though it goes on arriving: five minutes.
const ARRIVAL_TICKS_MAX: u32 = 30;
/// After so many ticks a connection is closed that says nothing: an hour. Pools of clients keep idle connections.
const IDLE_TICKS_MAX: u32 = 360;
/// So many bytes of a request are not counted against the buffer budget.
const UNCOUNTED_BYTES: usize = 64 << 10;
/// How long a refused client may go on to send. If its bytes were left unread, it would lose the answer.
const LINGER_TIME_MAX: Duration = Duration::from_millis(500);

/// How a node serves the Redis protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisOptions {
    /// The table that the keys are in: `redis_table`.
    pub table: Table,
}

/// The commands of one caller.
struct Gateway {
    service: Arc<Service>,
    shared: Arc<Shared>,
}

/// The state that all connections share.
struct Shared {
    options: RedisOptions,
    port: u16,
    cursors: Cursors,
    /// Room for commands of pipelines, beside the first one of each.
    pipelined: Arc<Semaphore>,
    last_client: AtomicU64,
    connected: AtomicUsize,
    commands: AtomicU64,
}

/// Serves the node of `service` on `listener` until `shutdown` is cancelled. Then it takes no more connections, finishes the
/// commands under way, and returns once all connections are closed, or after half a second.
pub async fn serve(listener: TcpListener, service: Arc<Service>, options: RedisOptions, shutdown: CancellationToken) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let listener = Listener::for_redis(listener, service.node());
    // Half of what one client may have: the first command of a connection is refused where there is no room, and the others
    // only wait.
    let pipelined = Arc::new(Semaphore::new(service.node().requests_in_flight_max() / 4));
    let shared = Arc::new(Shared {
        options,
        port,
        cursors: Cursors::default(),
        pipelined,
        last_client: AtomicU64::new(0),
        connected: AtomicUsize::new(0),
        commands: AtomicU64::new(0),
    });
    let gateway = Arc::new(Gateway { service, shared });
    let attend = |connection| {
        let (gateway, shutdown) = (Arc::clone(&gateway), shutdown.clone());
        async move {
            gateway.connected.fetch_add(1, Ordering::Relaxed);
            let _counted = Counted(Arc::clone(&gateway));
            // A client that has gone is no matter of this node.
            let _ = connection::attend(gateway, connection, shutdown).await;
        }
    };
    listener.attend(shutdown.clone(), attend).await;
}

impl std::ops::Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Gateway {
    /// The same commands, for a caller.
    fn for_caller(&self, caller: Caller) -> Arc<Self> {
        Arc::new(Self { service: self.service.for_caller(caller), shared: Arc::clone(&self.shared) })
    }

    /// The table of all keys.
    fn table(&self) -> &Table {
        &self.options.table
    }
}

/// One of the connections that are open.
struct Counted(Arc<Gateway>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}
