//! One connection: reads requests, runs their commands, and sends the answers, all in one task.
//!
//! Answers that are ready together leave together. The memory of a connection that says nothing is given back.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::service::buffer_budget::BudgetGuard;
use crate::service::listener::Connection;
use crate::wire::method::Access;

use super::command::Command;
use super::parse::{ParseError, Parser};
use super::pipeline::Pipeline;
use super::reply::{Outgoing, Reply};
use super::running::RunningCommands;
use super::session::Session;
use super::table::{self, Id, Keys};
use super::{ARRIVAL_TICKS_MAX, Gateway, IDLE_TICKS_MAX, LINGER_TIME_MAX, STALLED_TICKS_MAX, TICK, UNCOUNTED_BYTES};

/// While more bytes of answers wait to be sent, no command begins.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// Something that happened on a connection.
enum Event {
    /// Bytes were read or sent, or commands have ended.
    Progress,
    /// The client has sent all it wants.
    End,
    Tick,
    /// A refused transaction has not ended in time; this is the last answer.
    TransactionOverdue(Reply),
    Shutdown,
}

/// The words of a request, and its part of the buffer budget.
type Request = (Vec<Bytes>, Option<BudgetGuard>);

/// The side of a connection that receives.
struct Incoming {
    parser: Parser,
    buffer: BytesMut,
    /// The part of the buffer budget of the request that is arriving.
    guard: Option<(BudgetGuard, usize)>,
    /// How many requests have arrived.
    taken: u64,
}

/// How long nothing has happened on a connection.
#[derive(Default)]
struct QuietTime {
    quiet_ticks: u32,
    amid_ticks: u32,
    /// The requests that had been taken at the last tick.
    taken: u64,
}

impl QuietTime {
    /// Counts a tick. `waits`: an answer is not read, or nobody has said who this is. Whether the connection has had its time.
    fn has_ended(&mut self, incoming: &Incoming, waits: bool) -> bool {
        self.quiet_ticks += 1;
        let is_amid = incoming.parser.is_amid(&incoming.buffer);
        let ticks_max = if waits || is_amid { STALLED_TICKS_MAX } else { IDLE_TICKS_MAX };
        // A request that comes byte by byte makes progress, and is late all the same.
        self.amid_ticks = if is_amid && incoming.taken == self.taken { self.amid_ticks + 1 } else { 0 };
        self.taken = incoming.taken;
        self.quiet_ticks >= ticks_max || self.amid_ticks >= ARRIVAL_TICKS_MAX
    }
}

/// Answers the requests of one connection.
pub(super) async fn attend(
    gateway: Arc<Gateway>,
    mut connection: Connection,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut session = Session::new(Arc::clone(&gateway), &connection);
    let mut incoming = Incoming { parser: Parser::default(), buffer: BytesMut::new(), guard: None, taken: 0 };
    let mut pipeline = Pipeline::default();
    let mut outgoing = Outgoing::default();
    let mut running = RunningCommands::new(Arc::clone(&gateway));
    let (mut takes_more, mut is_refused) = (true, false);
    // A request that may change who the caller is waits for those before it, which are their sender's.
    let mut held: Option<Request> = None;
    let mut tick = pin!(tokio::time::sleep(TICK));
    let mut ends = pin!(shutdown.cancelled());
    let mut quiet = QuietTime::default();
    loop {
        while takes_more && pipeline.has_room() && outgoing.len() < UNSENT_BYTES_MAX {
            // Before its first bytes the other end has shown nothing.
            if !incoming.buffer.is_empty() {
                incoming.parser.is_of_stranger = session.is_stranger();
            }
            let next = match held.take() {
                Some(request) => Ok(Some(request)),
                None => incoming.next(session.gateway()),
            };
            match next {
                Ok(Some(request)) if !pipeline.is_settled() && asks_and_names_a_caller(&gateway, &request) => {
                    held = Some(request);
                    break;
                }
                Ok(Some((arguments, guard))) => {
                    takes_more = take(arguments, guard, &mut session, &mut pipeline);
                }
                Ok(None) => break,
                Err(reply) => {
                    pipeline.push_reply(reply, session.version);
                    (takes_more, is_refused) = (false, true);
                }
            }
        }
        if outgoing.len() < UNSENT_BYTES_MAX {
            running.act_for(session.gateway());
            running.begin(&mut pipeline);
        }
        if !takes_more && pipeline.is_empty() && outgoing.is_empty() {
            break;
        }
        let reads = takes_more && held.is_none() && pipeline.has_room() && outgoing.len() < UNSENT_BYTES_MAX;
        let event = std::future::poll_fn(|context| {
            let mut has_progress = running.poll(context, &mut pipeline);
            has_progress |= pipeline.answer(&mut outgoing);
            if !outgoing.is_empty()
                && let Poll::Ready(sent) = outgoing.poll_send(context, Pin::new(&mut connection))
            {
                sent?;
                has_progress = true;
            }
            // Looked at before more is read: a client that never ends its transaction may send without a pause.
            if reads && let Poll::Ready(reply) = session.poll_transaction(context) {
                return Poll::Ready(Ok(Event::TransactionOverdue(reply)));
            }
            if reads && let Poll::Ready(read) = incoming.poll_read(context, &mut connection) {
                match read? {
                    0 => return Poll::Ready(Ok::<_, io::Error>(Event::End)),
                    _ => has_progress = true,
                }
            }
            if has_progress {
                return Poll::Ready(Ok(Event::Progress));
            }
            if takes_more && ends.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(Event::Shutdown));
            }
            tick.as_mut().poll(context).map(|()| Ok(Event::Tick))
        });
        match event.await? {
            Event::Progress => quiet.quiet_ticks = 0,
            // Whole requests were taken before; part of one is no request.
            Event::End => {
                takes_more = false;
                running.end_lists();
            }
            Event::TransactionOverdue(reply) => {
                pipeline.push_reply(reply, session.version);
                (takes_more, is_refused) = (false, true);
            }
            Event::Shutdown => takes_more = false,
            Event::Tick => {
                tick.as_mut().reset(tokio::time::Instant::now() + TICK);
                let waits = !outgoing.is_empty() || session.is_silent_stranger();
                if quiet.has_ended(&incoming, waits) && !pipeline.is_running() {
                    return Ok(());
                }
                incoming.shrink();
                outgoing.shrink();
                running.shrink();
            }
        }
    }
    connection.shutdown().await?;
    if is_refused {
        linger(connection, incoming).await;
    }
    Ok(())
}

/// Reads what is on its way, so that the other end gets the last answer and no reset.
async fn linger(mut connection: Connection, mut incoming: Incoming) {
    let rest = async { while connection.read_buf(incoming.cleared()).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(LINGER_TIME_MAX, rest).await;
}

/// Whether a request may change who the caller is, where anybody is asked.
fn asks_and_names_a_caller(gateway: &Gateway, (arguments, _): &Request) -> bool {
    let spec = arguments.first().and_then(|name| table::find(name));
    gateway.service.asks_who_calls() && spec.is_some_and(|spec| matches!(spec.id, Id::Auth | Id::Hello | Id::Reset))
}

/// Takes a request into the pipeline. Whether the connection takes more after it.
fn take(arguments: Vec<Bytes>, guard: Option<BudgetGuard>, session: &mut Session, pipeline: &mut Pipeline) -> bool {
    if let Some(reply) = session.refusal_of_stranger(arguments.first().map_or(&[], |name| name)) {
        pipeline.push_reply(reply, session.version);
        return true;
    }
    let refusal = arguments.first().and_then(|name| session.refusal_in_transaction(name));
    match refusal.map_or_else(|| Command::of(arguments, guard), Err) {
        Ok(command) => match session.answer(&command) {
            // The answer may share the bytes of the request.
            Some(reply) => pipeline.push_reply(reply.guarded(command.guard), session.version),
            None => pipeline.push(command, session.version),
        },
        Err(text) => {
            session.observe_unknown(&text);
            pipeline.push_reply(Reply::Error(text), session.version);
        }
    }
    !session.has_quit
}

impl Incoming {
    /// The next request, or the error that ends the connection.
    fn next(&mut self, gateway: &Gateway) -> Result<Option<Request>, Reply> {
        let takes_many =
            |name: &[u8]| table::find(name).is_some_and(|spec| matches!(spec.keys, Keys::Every | Keys::Pairs));
        match self.parser.next(&mut self.buffer, takes_many) {
            Ok(Some(arguments)) => {
                self.taken += 1;
                Ok(Some((arguments, self.guard.take().map(|(guard, _)| guard))))
            }
            Ok(None) => {
                let held = self.parser.held(&self.buffer);
                if held > UNCOUNTED_BYTES {
                    let guard = self.guard.get_or_insert_with(|| (gateway.service.buffers().guard(), 0));
                    if !guard.0.grow(held.saturating_sub(guard.1)) {
                        let error = crate::service::error::no_room(Access::Write);
                        return Err(super::failure::reply(&error));
                    }
                    guard.1 = held.max(guard.1);
                }
                Ok(None)
            }
            Err(ParseError::Protocol(text)) => Err(Reply::Error(format!("ERR Protocol error: {text}"))),
            Err(ParseError::Http) => Err(Reply::error("ERR this port has no HTTP: ask the port of local_http_address")),
            Err(ParseError::Tls) => Err(Reply::error("ERR this port has no TLS: connect without it")),
        }
    }

    fn poll_read(
        &mut self,
        context: &mut std::task::Context<'_>,
        connection: &mut Connection,
    ) -> Poll<io::Result<usize>> {
        // A connection that waits for its next request holds no memory for it.
        if self.buffer.capacity() == 0 {
            std::task::ready!(connection.poll_readable(context))?;
        }
        self.parser.make_room(&mut self.buffer);
        pin!(connection.read_buf(&mut self.buffer)).poll(context)
    }

    fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// An empty buffer, for bytes that nobody reads.
    fn cleared(&mut self) -> &mut BytesMut {
        self.buffer.clear();
        self.buffer.reserve(super::parse::READ_BYTES);
        &mut self.buffer
    }
}
