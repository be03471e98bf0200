//! Accepts the connections of clients, peers and probes, within bounds.
//!
//! Contract: where the node has certificates, connections speak TLS ([`crate::tls`]). A connection beyond the bound, or beyond
//! the share of its address ([`crate::shares`]), is closed at once, so that its client turns to another node instead of waiting. One
//! of very many that an address opens in a second waits before it is read. A connection that does not send its greeting within
//! [`GREETING_TIME_MAX`] is closed. When the system has no descriptor left, accepting pauses for [`PAUSE`], and the log names
//! the cause.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::limits::CLOSE_TIME_MAX;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::runtime::NodeHandle;
use crate::shares::{Account, Accounts, Full, Kind, Owner, Taken};
use crate::tls::{Accepted, Caller, Door, NodeTls};

use super::descriptors;
use super::frames::{Frames, SLOW_READ_BYTES};
use super::streams::Streams;

/// The longest time from the start of a connection to the end of its greeting. A client greets in its first packet.
const GREETING_TIME_MAX: Duration = Duration::from_secs(5);
/// The pause after the system refused to accept a connection.
const PAUSE: Duration = Duration::from_millis(100);
/// The shortest time between two log lines about connections.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The lines about connections that are read slower.
static SLOW_LINES: LogLimit = LogLimit::new(1, LINE_EVERY);
/// The lines about connections that wait before they are read.
static OPENING_LINES: LogLimit = LogLimit::new(1, LINE_EVERY);
/// The greeting of HTTP/2.
const HTTP2_GREETING_BYTES: usize = 24;
/// The shortest request of HTTP/1: `GET / HTTP/1.1` and a line end.
const HTTP1_GREETING_BYTES: usize = 16;

/// gRPC: HTTP/2 alone. A client without TLS is told so in frames of HTTP/2: no settings, and the end of the connection with
/// INADEQUATE_SECURITY and a text.
const GRPC: Door = Door {
    protocols: &[b"h2"],
    refusal: b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\
               \x00\x00\x2c\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0c\
               this node takes TLS alone: give --ca",
};
const HTTP: Door = Door {
    protocols: &[b"h2", b"http/1.1"],
    refusal: b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
               this port takes TLS alone: ask https://, with the CA of the cluster (curl --cacert FILE)\n",
};
const LINES: Door =
    Door { protocols: &[], refusal: b"error this port takes TLS alone: use openssl s_client, not nc\n" };
const REDIS: Door = Door {
    protocols: &[],
    refusal: b"-ERR this port takes TLS alone: connect with TLS (redis-cli --tls --cacert FILE)\r\n",
};
const MONITORING: Door = Door { protocols: &[b"http/1.1"], refusal: HTTP.refusal };

/// The places of the process, and those of the node.
type Places = (Vec<Arc<Semaphore>>, &'static [Kind]);

/// A port that accepts connections.
pub(crate) struct Listener {
    socket: TcpListener,
    /// Whose connections they are, in a word for the log.
    kind: &'static str,
    /// A connection takes a place in each: of the process, whose limit of open files all its nodes have.
    places: Vec<Arc<Semaphore>>,
    /// And one in each of these: of the node, where each address has its share.
    shared: &'static [Kind],
    accounts: Arc<Accounts>,
    greeting_bytes: usize,
    door: &'static Door,
    tls: Option<Arc<NodeTls>>,
    metrics: Arc<Metrics>,
    lines: Lines,
}

/// An accepted connection. It holds its place among the connections until it is dropped.
pub(crate) struct Connection {
    stream: Accepted,
    /// When it may be read and written, where its address opens too many.
    opens_at: Option<Pin<Box<Sleep>>>,
    greeting: Option<Greeting>,
    _places: (Vec<Taken>, Vec<OwnedSemaphorePermit>),
    streams: Streams,
    frames: Frames,
    account: Arc<Account>,
}

/// A greeting that is not complete yet.
struct Greeting {
    bytes_left: usize,
    ends_at: Pin<Box<Sleep>>,
}

impl Listener {
    /// The port of clients and peers.
    pub(crate) fn for_clients(socket: TcpListener, node: &NodeHandle) -> Self {
        let places = vec![Arc::clone(&descriptors::of_process().connections)];
        Self::new(socket, "client", (places, &[Kind::Connections]), HTTP2_GREETING_BYTES, &GRPC, node)
    }

    /// A port of HTTP for clients.
    pub(crate) fn for_http(socket: TcpListener, node: &NodeHandle) -> Self {
        Self::new(socket, "HTTP", Self::places_of_gateways(), HTTP1_GREETING_BYTES, &HTTP, node)
    }

    /// A port of the line protocol. A person who types has no greeting.
    pub(crate) fn for_lines(socket: TcpListener, node: &NodeHandle) -> Self {
        Self::new(socket, "line", Self::places_of_gateways(), 0, &LINES, node)
    }

    /// A port of the Redis protocol. Pools of clients open connections ahead.
    pub(crate) fn for_redis(socket: TcpListener, node: &NodeHandle) -> Self {
        Self::new(socket, "Redis", Self::places_of_gateways(), 0, &REDIS, node)
    }

    /// Places of clients that nodes and clients of gRPC do not lack then.
    fn places_of_gateways() -> Places {
        let descriptors = descriptors::of_process();
        let places = vec![Arc::clone(&descriptors.gateways), Arc::clone(&descriptors.connections)];
        (places, &[Kind::Gateways, Kind::Connections])
    }

    /// The port of metrics and probes.
    pub(crate) fn for_monitoring(socket: TcpListener, node: &NodeHandle) -> Self {
        let places = vec![Arc::clone(&descriptors::of_process().monitoring)];
        Self::new(socket, "monitoring", (places, &[Kind::Monitoring]), HTTP1_GREETING_BYTES, &MONITORING, node)
    }

    fn new(
        socket: TcpListener,
        kind: &'static str,
        (places, shared): Places,
        greeting_bytes: usize,
        door: &'static Door,
        node: &NodeHandle,
    ) -> Self {
        let (tls, metrics, accounts) = (node.trust().tls.clone(), node.shared_metrics(), Arc::clone(node.accounts()));
        let lines = Lines::default();
        Self { socket, kind, places, shared, accounts, greeting_bytes, door, tls, metrics, lines }
    }

    /// The next connection, once there is one.
    pub(crate) async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => {
                    if let Some(connection) = self.admit(stream, address.ip()) {
                        return (connection, address);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if let Some(left_out) = self.lines.next(Instant::now()) {
                        let limit = descriptors::of_process().limit;
                        error!(
                            %error, limit, left_out,
                            "cannot accept connections for now; if too many files are open, raise ulimit -n, or \
                             LimitNOFILE= of the systemd unit"
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Attends each connection in a task of its own, until `shutdown` is cancelled. Then no more are taken, and the open ones
    /// have [`CLOSE_TIME_MAX`] to end.
    pub(crate) async fn attend<F>(mut self, shutdown: CancellationToken, attend: impl Fn(Connection) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let connections = TaskTracker::new();
        loop {
            let connection = tokio::select! {
                (connection, _) = self.accept() => connection,
                () = shutdown.cancelled() => break,
            };
            connections.spawn(attend(connection));
        }
        drop(self);
        connections.close();
        // A stream that its client never ends must not keep a node from ending.
        let _ = tokio::time::timeout(CLOSE_TIME_MAX, connections.wait()).await;
    }

    fn admit(&mut self, stream: TcpStream, address: IpAddr) -> Option<Connection> {
        let account = self.accounts.of(Owner::of_address(address));
        let share: Result<Vec<Taken>, Full> = self.shared.iter().map(|kind| account.take(*kind, 1)).collect();
        let acquire = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().map_err(|_| Full::UsedUp);
        let places = share.and_then(|share| {
            let places: Result<Vec<_>, Full> = self.places.iter().map(acquire).collect();
            Ok((share, places?))
        });
        let places = match places {
            Ok(places) => places,
            Err(why) => {
                self.tell_full(why, address);
                return None;
            }
        };
        // An answer is small, and must not wait for the one after it. Without this it would only be slower.
        let _ = stream.set_nodelay(true);
        // Probes of a node's health come from addresses of clients too, and must not wait with these.
        let is_counted = self.shared.contains(&Kind::Connections);
        let waits = if is_counted { account.open_connection(Instant::now()) } else { Duration::ZERO };
        let opens_at = (!waits.is_zero()).then(|| Box::pin(tokio::time::sleep(waits)));
        if opens_at.is_some() {
            account.hold_up();
            if let Some(left_out) = OPENING_LINES.pass(Instant::now()) {
                let kind = self.kind;
                warn!(kind, %address, left_out, "let new connections wait: their address opens very many in a second");
            }
        }
        let greeting = (self.greeting_bytes > 0).then(|| Greeting {
            bytes_left: self.greeting_bytes,
            ends_at: Box::pin(tokio::time::sleep(waits + GREETING_TIME_MAX)),
        });
        let stream = Accepted::new(stream, self.tls.as_ref(), self.door);
        let frames = Frames::new(Arc::clone(&account));
        Some(Connection { stream, opens_at, greeting, _places: places, streams: Streams::default(), frames, account })
    }
}

impl Listener {
    /// Counts a connection that was closed at once, and says why.
    fn tell_full(&mut self, why: Full, address: IpAddr) {
        self.metrics.connections_refused.inc();
        let Some(left_out) = self.lines.next(Instant::now()) else { return };
        let (kind, limit) = (self.kind, descriptors::of_process().limit);
        match why {
            Full::BeyondShare => warn!(
                kind, limit, %address, left_out,
                "closed a connection at once: its address has as many as it may have beside others; if all clients come from \
                 one address, such as that of a proxy, give connections_per_address_max"
            ),
            Full::UsedUp => warn!(
                kind,
                limit,
                left_out,
                "closed a connection at once: as many are open as connections_max or the limit of open files leaves room for"
            ),
        }
    }
}

fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the client has not greeted in time")
}

/// Whether an error of accepting concerns one connection alone, which then was never there.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Bounds log lines: one in [`LINE_EVERY`].
#[derive(Debug, Default)]
struct Lines {
    written_at: Option<Instant>,
    left_out: u64,
}

impl Lines {
    /// Whether a line may be written at `now`; if so, how many were left out since the last one.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.written_at.is_some_and(|written| now.saturating_duration_since(written) < LINE_EVERY) {
            self.left_out += 1;
            return None;
        }
        self.written_at = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Connection {
    /// Whether there may be something to read.
    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context));
        self.stream.poll_readable(context)
    }

    /// Waits until it may be read and written. One task polls both, so that one timer serves.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(opens_at) = &mut self.opens_at {
            ready!(opens_at.as_mut().poll(context));
            self.opens_at = None;
        }
        Poll::Ready(())
    }

    /// Runs the tasks of its streams, where it speaks HTTP/2.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// What its address holds of the node.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Who is at the other end.
    pub(crate) fn caller(&self) -> &Caller {
        self.stream.caller()
    }

    /// The address of the client.
    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.caller().address
    }

    /// The address that the client has reached.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr()
    }
}

impl Connection {
    /// Counts what was written. A connection that may be one of TLS writes nothing before its client has sent its first byte.
    fn count_written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.frames.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending if self.is_late(context) => return Poll::Ready(Err(late())),
            Poll::Pending => {}
        }
        written
    }

    /// Whether its time to greet is over.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.greeting.as_mut().is_some_and(|greeting| greeting.ends_at.as_mut().poll(context).is_ready())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context));
        ready!(self.streams.poll_room(context));
        ready!(self.frames.poll_turn(context));
        let before = buffer.filled().len();
        let polled = if self.frames.is_slow() {
            let mut part = [0; SLOW_READ_BYTES];
            let length = part.len().min(buffer.remaining());
            let mut part = ReadBuf::new(&mut part[..length]);
            let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
            buffer.put_slice(part.filled());
            polled
        } else {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        };
        match &polled {
            Poll::Ready(Ok(())) => {
                let refused = self.streams.take_refused();
                if self.frames.read(&buffer.filled()[before..], refused)
                    && let Some(left_out) = SLOW_LINES.pass(Instant::now())
                {
                    let address = self.peer_addr().map_or_else(String::new, |address| address.ip().to_string());
                    warn!(
                        address,
                        left_out,
                        "read a connection slower: its client sends very many frames that ask for nothing, such as PING, SETTINGS \
                         or RST_STREAM, or goes on with requests that are refused"
                    );
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.frames.wait(),
        }
        let Some(greeting) = &mut self.greeting else { return polled };
        match &polled {
            Poll::Ready(Ok(())) => {
                greeting.bytes_left = greeting.bytes_left.saturating_sub(buffer.filled().len() - before);
                if greeting.bytes_left == 0 {
                    self.greeting = None;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if greeting.ends_at.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(late()));
                }
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context));
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context));
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TLS_ALONE;

    #[test]
    fn client_of_grpc_without_tls_is_told_what_the_client_library_knows() {
        let (head, text) = GRPC.refusal.split_at(GRPC.refusal.len() - TLS_ALONE.len());
        assert_eq!(text, TLS_ALONE.as_bytes());
        // Settings, and the end of the connection: nine bytes each, and eight of the end before its text.
        assert_eq!((head.len(), head[11]), (26, u8::try_from(8 + text.len()).unwrap()));
    }
}
