//! Channels to nodes, and look-ups of their host names, on a bounded number of threads of their own.
//!
//! Contract: a look-up never holds up anything but the connection that needs it. Its caller waits for [`LOOKUP_WAIT_MAX`] at
//! most; the end of the process does not wait at all. At most [`LOOKUPS_MAX`] threads look names up, and one name is looked
//! up once at a time, however many connections need it. A result that comes late serves the next attempt: it is used again
//! for [`RESULT_TIME`].
//!
//! The system's `getaddrinfo` blocks, for 10 s and more where a name server does not answer. On the runtime's blocking pool
//! it would hold the threads that reads of the disk need, and the runtime's end would wait for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, header::AUTHORIZATION};
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use crate::tls::{Connector, Dialed, Dialer};

/// The longest time that a connection attempt waits for a look-up. It is less than the time that a connection may take, so
/// that the error names the look-up.
const LOOKUP_WAIT_MAX: Duration = Duration::from_millis(800);
/// The most look-ups at once. Others wait in a queue: a name server that does not answer must not cost a thread for each
/// node of a large cluster.
const LOOKUPS_MAX: usize = 16;
/// The time for which a result is used again. It bridges look-ups that take longer than their callers wait, and is short
/// enough that a host that moves to another address is found soon.
const RESULT_TIME: Duration = Duration::from_secs(5);

/// The resolver of this process.
static RESOLVER: LazyLock<Resolver> =
    LazyLock::new(|| Resolver::new(|name| Ok((name, 0).to_socket_addrs()?.collect::<Vec<_>>())));

/// Connects to `endpoint`, as securely as `dialer` says. `connect_time_max` covers the look-up, the connection and the handshake.
///
/// # Errors
/// When the host has no address, does not take the connection in time, or is not who it should be.
pub async fn connect(
    endpoint: Endpoint,
    dialer: Dialer,
    connect_time_max: Duration,
) -> Result<NodeChannel, tonic::transport::Error> {
    let authorization = dialer.authorization().cloned();
    let connector = Connector::new(connector(RESOLVER.clone(), connect_time_max), dialer);
    let channel = endpoint.connect_timeout(connect_time_max).connect_with_connector(connector).await?;
    Ok(NodeChannel { channel, authorization })
}

/// A channel that connects to `endpoint` on first use, and anew whenever its connection breaks. `connect_time_max` covers
/// the look-up, the connection and the handshake.
#[must_use]
pub fn connect_lazily(endpoint: Endpoint, dialer: Dialer, connect_time_max: Duration) -> NodeChannel {
    let authorization = dialer.authorization().cloned();
    let connector = Connector::new(connector(RESOLVER.clone(), connect_time_max), dialer);
    let channel = endpoint.connect_timeout(connect_time_max).connect_with_connector_lazy(connector);
    NodeChannel { channel, authorization }
}

/// A connection for HTTP/1.1 to the host and port of `uri`, as securely as `dialer` says. Its requests do not say whose they are.
/// `connect_time_max` covers the look-up and the connection, and not the handshake.
///
/// # Errors
/// As [`connect`].
pub async fn connect_for_http_1(
    uri: Uri,
    dialer: Dialer,
    connect_time_max: Duration,
) -> Result<Dialed, Box<dyn std::error::Error + Send + Sync>> {
    let mut connector = Connector::for_http_1(connector(RESOLVER.clone(), connect_time_max), dialer);
    Ok(connector.call(uri).await?.into_inner())
}

/// A channel to a node. Each request says whose it is.
#[derive(Clone, Debug)]
pub struct NodeChannel {
    channel: Channel,
    authorization: Option<HeaderValue>,
}

impl Service<Request<Body>> for NodeChannel {
    type Response = <Channel as Service<Request<Body>>>::Response;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.channel.call(request)
    }
}

fn connector(resolver: Resolver, connect_time_max: Duration) -> HttpConnector<Resolver> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // It is divided among the addresses of a name, so that each is tried. The rest is for the look-up.
    connector.set_connect_timeout(Some(connect_time_max * 3 / 4));
    connector
}

/// The addresses of a name, or the error of the look-up in words.
type Outcome = Result<Arc<[SocketAddr]>, Arc<str>>;

/// Blocks until the addresses of a name are known.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up. Clones share threads and results.
#[derive(Clone)]
struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    look_up: Box<LookUp>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Entry>,
    /// The names under way that no thread has taken yet.
    queue: VecDeque<(String, watch::Sender<Option<Outcome>>)>,
    threads: usize,
}

enum Entry {
    UnderWay(watch::Receiver<Option<Outcome>>),
    Found { addresses: Arc<[SocketAddr]>, at: Instant },
}

impl Resolver {
    fn new(look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { look_up: Box::new(look_up), state: Mutex::default() }) }
    }

    async fn resolve(&self, name: &str) -> io::Result<Arc<[SocketAddr]>> {
        let mut outcome = match self.ask(name)? {
            Entry::Found { addresses, .. } => return Ok(addresses),
            Entry::UnderWay(outcome) => outcome,
        };
        let answer = tokio::time::timeout(LOOKUP_WAIT_MAX, outcome.wait_for(Option::is_some)).await;
        match answer {
            Ok(Ok(outcome)) => match outcome.as_ref().expect("it was waited for") {
                Ok(addresses) => Ok(Arc::clone(addresses)),
                Err(error) => Err(io::Error::other(format!("cannot look up {name}: {error}"))),
            },
            Ok(Err(_)) => Err(io::Error::other(format!("cannot look up {name}: the look-up was given up"))),
            Err(_) => {
                let wait_ms = LOOKUP_WAIT_MAX.as_millis();
                let message =
                    format!("cannot look up {name}: no result after {wait_ms} ms; is the name server reachable?");
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    /// The result of a look-up, which is begun unless it is known or under way.
    fn ask(&self, name: &str) -> io::Result<Entry> {
        let mut state = self.shared.lock();
        match state.names.get(name) {
            Some(Entry::Found { addresses, at }) if at.elapsed() < RESULT_TIME => {
                return Ok(Entry::Found { addresses: Arc::clone(addresses), at: *at });
            }
            Some(Entry::UnderWay(outcome)) => return Ok(Entry::UnderWay(outcome.clone())),
            Some(Entry::Found { .. }) | None => {}
        }
        state.names.retain(|_, entry| !matches!(entry, Entry::Found { at, .. } if at.elapsed() >= RESULT_TIME));
        let (sender, outcome) = watch::channel(None);
        state.names.insert(name.to_owned(), Entry::UnderWay(outcome.clone()));
        state.queue.push_back((name.to_owned(), sender));
        if state.threads < LOOKUPS_MAX {
            let shared = Arc::clone(&self.shared);
            // Nobody joins it: the end of the process must not wait for it.
            let started = std::thread::Builder::new().name("look-up".to_owned()).spawn(move || shared.work());
            match started {
                Ok(_) => state.threads += 1,
                // The threads that run will come to it.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    state.queue.pop_back();
                    state.names.remove(name);
                    return Err(io::Error::new(
                        error.kind(),
                        format!("cannot start a thread to look up {name}: {error}"),
                    ));
                }
            }
        }
        Ok(Entry::UnderWay(outcome))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No change to the state can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up what waits in the queue, then ends.
    fn work(&self) {
        loop {
            let (name, sender) = {
                let mut state = self.lock();
                let Some(next) = state.queue.pop_front() else {
                    state.threads -= 1;
                    return;
                };
                next
            };
            let outcome = match (self.look_up)(&name) {
                Ok(addresses) => Ok(Arc::from(addresses)),
                Err(error) => Err(Arc::from(error.to_string())),
            };
            {
                let mut state = self.lock();
                match &outcome {
                    Ok(addresses) => {
                        let found = Entry::Found { addresses: Arc::clone(addresses), at: Instant::now() };
                        state.names.insert(name, found);
                    }
                    Err(_) => {
                        state.names.remove(&name);
                    }
                }
            }
            // It fails only where nobody waits any more.
            let _ = sender.send(Some(outcome));
        }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.to_vec().into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 0))
    }

    #[tokio::test]
    async fn silent_name_server_costs_few_threads_and_little_time() {
        let running = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&running);
        let resolver = Resolver::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_mins(1));
            Ok(Vec::new())
        });
        let began = Instant::now();
        let attempts = (0..200).map(|index| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("n{}", index % 19)).await })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            let error = attempt.await.expect("no panic").expect_err("nothing is found");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("cannot look up n"), "{error}");
        }
        assert!(began.elapsed() < 5 * LOOKUP_WAIT_MAX, "{:?}", began.elapsed());
        assert_eq!(running.load(Ordering::SeqCst), LOOKUPS_MAX);
    }

    #[tokio::test]
    async fn result_that_comes_late_serves_the_next_attempt() {
        let resolver = Resolver::new(|_| {
            std::thread::sleep(LOOKUP_WAIT_MAX + Duration::from_millis(200));
            Ok(vec![address(1)])
        });
        resolver.resolve("n1").await.expect_err("it takes too long");
        assert_eq!(*resolver.resolve("n1").await.expect("it was under way"), [address(1)]);
        let began = Instant::now();
        assert_eq!(*resolver.resolve("n1").await.expect("it is known"), [address(1)]);
        assert!(began.elapsed() < LOOKUP_WAIT_MAX / 2, "it was looked up again");
    }

    #[tokio::test]
    async fn name_without_an_address_is_looked_up_again() {
        let calls = AtomicUsize::new(0);
        let resolver = Resolver::new(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::Error::other("no such host")),
            _ => Ok(vec![address(2)]),
        });
        let error = resolver.resolve("n1").await.expect_err("it is not known yet");
        assert_eq!(error.to_string(), "cannot look up n1: no such host");
        assert_eq!(*resolver.resolve("n1").await.expect("it is known now"), [address(2)]);
    }

    #[tokio::test]
    async fn second_address_is_tried_where_the_first_one_is_silent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        // A listener whose queue is full drops further attempts to connect.
        let full = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
        let Ok(()) = full.bind(SocketAddr::from(([127, 0, 0, 2], port))) else {
            println!("SKIPPED: this system has no second address on loopback");
            return;
        };
        let full = full.listen(1).expect("it can listen");
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(full.local_addr().unwrap()))
                .await
        {
            queued.push(stream);
        }

        let resolver = Resolver::new(|_| Ok(vec![address(2), address(1)]));
        let uri = format!("http://n1:{port}/").parse().expect("it is a URI");
        let connected =
            connector(resolver, Duration::from_secs(1)).call(uri).await.expect("the second address answers");
        assert_eq!(connected.inner().peer_addr().expect("it is connected").ip().to_string(), "127.0.0.1");
    }
}
