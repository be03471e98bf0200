//! Connections that a node accepts: with TLS where the node has certificates.
//!
//! Contract: the handshake is made by whoever reads or writes first, so that a slow client holds up nobody, and within
//! [`HANDSHAKE_TIME_MAX`]. A refused client gets its answer: the rest of what it sends is read for
//! [`LINGER_TIME_MAX`], because unread bytes would make the system drop the answer. The log says who was refused and why.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::{AlertDescription, Error};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::{FallibleAccept, TlsStream};
use tracing::{debug, warn};

use super::certificate::Facts;
use super::node::NodeTls;
use super::verify::Slot;
use super::words;
use crate::log_limit::LogLimit;

/// The longest time of a handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a refused client may go on to send.
const LINGER_TIME_MAX: Duration = Duration::from_millis(500);
/// The first byte of TLS: a record of a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The most refused connections whose answers are still on their way.
static LINGERING: Semaphore = Semaphore::const_new(256);

/// The lines about refused connections: anybody who reaches the node can repeat them.
static REFUSAL_LINES: LogLimit = LogLimit::new(10, Duration::from_secs(10));

/// What a listener speaks.
#[derive(Debug)]
pub struct Door {
    /// The names of its protocols for ALPN; none if it has none.
    pub protocols: &'static [&'static [u8]],
    /// What a client without TLS is told, in the words of its protocol.
    pub refusal: &'static [u8],
}

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Its address.
    pub address: Option<SocketAddr>,
    channel: Arc<OnceLock<Channel>>,
}

/// How a connection is secured.
#[derive(Clone, Debug)]
pub enum Channel {
    /// Not at all.
    Plain,
    /// By TLS, with what the verified certificate of the other side says, if it has one.
    Tls(Option<Arc<Facts>>),
}

impl Caller {
    /// How its connection is secured; `None` before the handshake.
    #[must_use]
    pub fn channel(&self) -> Option<Channel> {
        self.channel.get().cloned()
    }

    /// The other end of a connection that is secured so.
    #[must_use]
    pub fn over(address: Option<SocketAddr>, channel: Channel) -> Self {
        Self { address, channel: Arc::new(OnceLock::from(channel)) }
    }
}

/// An accepted connection.
pub struct Accepted {
    state: State,
    caller: Caller,
}

enum State {
    Plain(TcpStream),
    /// Whether it speaks TLS is not known yet.
    Silent(Box<Beginning>),
    Handshake(Box<Handshake>),
    Tls(Box<TlsStream<TcpStream>>),
    /// Refused.
    Closed,
}

struct Beginning {
    stream: TcpStream,
    tls: Arc<NodeTls>,
    door: &'static Door,
    ends_at: Pin<Box<Sleep>>,
}

struct Handshake {
    accepting: FallibleAccept<TcpStream>,
    tls: Arc<NodeTls>,
    slot: Arc<Slot>,
    ends_at: Pin<Box<Sleep>>,
}

impl Accepted {
    /// A connection of a listener, with TLS if the node has certificates.
    #[must_use]
    pub fn new(stream: TcpStream, tls: Option<&Arc<NodeTls>>, door: &'static Door) -> Self {
        let address = stream.peer_addr().ok();
        let Some(tls) = tls else {
            return Self { state: State::Plain(stream), caller: Caller::over(address, Channel::Plain) };
        };
        let ends_at = Box::pin(tokio::time::sleep(HANDSHAKE_TIME_MAX));
        let beginning = Beginning { stream, tls: Arc::clone(tls), door, ends_at };
        Self { state: State::Silent(Box::new(beginning)), caller: Caller { address, channel: Arc::default() } }
    }

    /// The other end.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The connection itself; `None` once it was refused.
    fn tcp(&self) -> Option<&TcpStream> {
        match &self.state {
            State::Plain(stream) => Some(stream),
            State::Silent(beginning) => Some(&beginning.stream),
            State::Tls(stream) => Some(stream.get_ref().0),
            State::Handshake(_) | State::Closed => None,
        }
    }

    /// The address that the client has reached.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    /// Whether there may be something to read.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        match &self.state {
            State::Plain(stream) => stream.poll_read_ready(context),
            State::Tls(stream) => {
                let (tcp, session) = stream.get_ref();
                // What is decrypted already is not announced by the socket.
                if session.wants_read() { tcp.poll_read_ready(context) } else { Poll::Ready(Ok(())) }
            }
            State::Silent(_) | State::Handshake(_) | State::Closed => Poll::Ready(Err(refused())),
        }
    }

    /// Makes the handshake, if there is one to make.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Plain(_) | State::Tls(_) => return Poll::Ready(Ok(())),
                State::Closed => return Poll::Ready(Err(refused())),
                State::Silent(beginning) => {
                    let first = match beginning.poll_first(context) {
                        Poll::Ready(first) => first?,
                        // A person may think before the first word, where words without TLS are taken.
                        Poll::Pending if beginning.tls.takes_plain_text => return Poll::Pending,
                        Poll::Pending => {
                            ready!(beginning.ends_at.as_mut().poll(context));
                            self.state = State::Closed;
                            return Poll::Ready(Err(late()));
                        }
                    };
                    let State::Silent(beginning) = std::mem::replace(&mut self.state, State::Closed) else {
                        unreachable!("it was matched")
                    };
                    self.state = match first {
                        Some(HANDSHAKE_RECORD) => State::Handshake(Box::new(beginning.shake_hands()?)),
                        // A probe that only connects.
                        None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        Some(_) if beginning.tls.takes_plain_text => {
                            let _ = self.caller.channel.set(Channel::Plain);
                            State::Plain(beginning.stream)
                        }
                        Some(_) => {
                            beginning.refuse_plain_text(self.caller.address);
                            return Poll::Ready(Err(refused()));
                        }
                    };
                }
                State::Handshake(handshake) => {
                    let Poll::Ready(accepted) = Pin::new(&mut handshake.accepting).poll(context) else {
                        ready!(handshake.ends_at.as_mut().poll(context));
                        self.state = State::Closed;
                        return Poll::Ready(Err(late()));
                    };
                    match accepted {
                        Ok(stream) => {
                            let certificates = stream.get_ref().1.peer_certificates();
                            let facts = certificates.and_then(<[_]>::first).and_then(|leaf| Facts::parse(leaf));
                            let _ = self.caller.channel.set(Channel::Tls(facts.map(Arc::new)));
                            self.state = State::Tls(Box::new(stream));
                        }
                        Err((error, stream)) => {
                            let told = handshake.tell(&error, self.caller.address);
                            self.state = State::Closed;
                            tokio::spawn(linger(stream));
                            let in_words = |told| io::Error::new(io::ErrorKind::InvalidData, told);
                            return Poll::Ready(Err(told.map_or(error, in_words)));
                        }
                    }
                }
            }
        }
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was refused")
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client has not made the handshake of TLS in time")
}

impl Beginning {
    /// The first byte, which stays to be read; `None` if the client has closed.
    fn poll_first(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let read = ready!(self.stream.poll_peek(context, &mut buffer))?;
        Poll::Ready(Ok((read > 0).then_some(byte[0])))
    }

    fn shake_hands(self) -> io::Result<Handshake> {
        let slot = Arc::new(Slot::default());
        let config = self.tls.server_config(self.door, Arc::clone(&slot)).map_err(io::Error::other)?;
        let accepting = TlsAcceptor::from(config).accept(self.stream).into_fallible();
        Ok(Handshake { accepting, tls: self.tls, slot, ends_at: self.ends_at })
    }

    fn refuse_plain_text(self, client: Option<SocketAddr>) {
        self.tls.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = REFUSAL_LINES.pass(Instant::now()) {
            let client = client.map_or_else(String::new, |address| address.to_string());
            warn!(client, left_out, "refused a connection without TLS, which this node takes alone");
        }
        let mut stream = self.stream;
        tokio::spawn(async move {
            let told = tokio::time::timeout(LINGER_TIME_MAX, stream.write_all(self.door.refusal)).await;
            if let Ok(Ok(())) = told {
                linger(stream).await;
            }
        });
    }
}

impl Handshake {
    /// Counts a failure, and logs it unless it is that of a client that only went away. Gives the words of the log.
    fn tell(&self, error: &io::Error, client: Option<SocketAddr>) -> Option<String> {
        self.tls.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        let client = client.map_or_else(String::new, |address| address.to_string());
        let problem = match (self.slot.take(), inner(error)) {
            (Some(problem), _) => problem,
            (None, Some(Error::AlertReceived(alert))) => words::of_alert(*alert, Some(&self.tls.current().own)),
            (None, Some(Error::NoCertificatesPresented)) => {
                "the client has no certificate, and tls_client_certificates: required asks for one".to_owned()
            }
            (None, Some(other)) => other.to_string(),
            (None, None) => {
                debug!(client, %error, "a handshake of TLS ended");
                return None;
            }
        };
        if let Some(left_out) = REFUSAL_LINES.pass(Instant::now()) {
            warn!(client, left_out, "a handshake of TLS has failed: {problem}");
        }
        Some(problem)
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// Whether the other side has ended the connection in an orderly way, which is no failure.
fn is_goodbye(error: &io::Error) -> bool {
    matches!(inner(error), Some(Error::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled)))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

async fn linger(mut stream: TcpStream) {
    // A stranger who opens one connection after the other must not hold more of them so than are open otherwise.
    let Ok(_place) = LINGERING.try_acquire() else { return };
    let rest = async {
        let _ = stream.shutdown().await;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    let _ = tokio::time::timeout(LINGER_TIME_MAX, rest).await;
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = ready!(self.poll_open(context)) {
            return Poll::Ready(if is_goodbye(&error) { Ok(()) } else { Err(error) });
        }
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            // Many clients close without the farewell of TLS, which is the end of what they send all the same.
            State::Tls(stream) => match ready!(Pin::new(stream).poll_read(context, buffer)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
            State::Silent(_) | State::Handshake(_) | State::Closed => Poll::Ready(Err(refused())),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            State::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            State::Silent(_) | State::Handshake(_) | State::Closed => Poll::Ready(Err(refused())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            State::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            State::Silent(_) | State::Handshake(_) | State::Closed => Poll::Ready(Err(refused())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // Both kinds take slices; before the handshake nothing is written.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_flush(context),
            State::Tls(stream) => Pin::new(stream).poll_flush(context),
            State::Silent(_) | State::Handshake(_) | State::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            State::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            State::Silent(beginning) => Pin::new(&mut beginning.stream).poll_shutdown(context),
            State::Handshake(_) | State::Closed => Poll::Ready(Ok(())),
        }
    }
}
