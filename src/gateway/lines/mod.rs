//! The line protocol: a command a line, and a line for each answer, for netcat and for clients of winter.
//!
//! Contract: docs/lines.md. The commands of a connection are done one after another, and answered in their order. Any number
//! may be sent ahead. When a client half-closes, the commands before are answered, and the connection is closed.
//!
//! Bounds: a line has [`LINE_BYTES_MAX`], counts against the buffer budget while it arrives, and arrives within
//! [`LINE_TIME_MAX`]. A client that says nothing for [`IDLE_TIME_MAX`], or that does not read for [`STALL_TIME_MAX`], is left.

mod command;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter, ReadHalf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::auth::Needs;
use crate::limits::STRANGER_IDLE_TIME_MAX;
use crate::service::Service;
use crate::service::authorization::Caller;
use crate::service::buffer_budget::BudgetGuard;
use crate::service::deadline::Deadline;
use crate::service::error::ServiceError;
use crate::service::listener::{Connection, Listener};
use crate::service::request_metrics::{Door, Outcome};
use crate::tls;
use crate::traces;
use crate::types::{
    Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Table, TableSettings, Value,
};
use crate::wire::failure::FailureReason;
use crate::wire::method::Method;

use command::{Command, Other};

/// The longest line, without its end.
const LINE_BYTES_MAX: usize = 1 << 20;
/// So many bytes of a line are not counted: as many as a reader holds in any case. From somebody who is not known, and must be,
/// no longer line is read.
const UNCOUNTED_BYTES: usize = 8 << 10;
/// How long a connection may be silent. A person who types may think.
const IDLE_TIME_MAX: Duration = Duration::from_mins(10);
/// How long a line may take from its first byte to its end.
const LINE_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a client may read nothing while there is something to read.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);

/// Serves the node of `service` on `listener` until `shutdown` is cancelled. Then it takes no more connections, finishes the
/// commands under way, and returns once all connections are closed, or after half a second.
pub async fn serve(listener: TcpListener, service: Arc<Service>, shutdown: CancellationToken) {
    let listener = Listener::for_lines(listener, service.node());
    let attend = |connection: Connection| {
        let (mut session, shutdown) = (Session::new(&service, &connection), shutdown.clone());
        async move {
            // A client that has gone is no matter of this node.
            let _ = session.run(connection, shutdown).await;
        }
    };
    listener.attend(shutdown.clone(), attend).await;
}

/// The commands of one connection.
struct Session {
    /// For whoever is at the other end, once that is known.
    service: Arc<Service>,
    caller: tls::Caller,
    /// Whether the caller has been looked at: the certificate is there after the handshake.
    is_bound: bool,
    /// Whether somebody who need not say who they are is at the other end, or has said so.
    is_known: bool,
}

/// The answer to a line.
struct Answer {
    text: Text,
    /// gRPC's code, for metrics and the log.
    code: Code,
    /// The answer's part of the buffer budget.
    _guard: Option<BudgetGuard>,
    /// Whether the connection ends with it.
    is_last: bool,
}

enum Text {
    Words(String),
    Value(bytes::Bytes),
}

impl Answer {
    fn of(text: impl Into<String>) -> Self {
        Self { text: Text::Words(text.into()), code: Code::Ok, _guard: None, is_last: false }
    }

    fn error(text: &str, code: Code) -> Self {
        Self { code, ..Self::of(format!("error {text}")) }
    }

    fn bytes(&self) -> &[u8] {
        match &self.text {
            Text::Words(words) => words.as_bytes(),
            Text::Value(bytes) => bytes,
        }
    }
}

/// A line that arrived.
enum Line {
    Whole(Vec<u8>),
    /// The client has sent all it wants; part of a line may be left.
    End {
        has_rest: bool,
    },
    TooLong {
        bytes_max: usize,
    },
    /// The buffer budget has no room for it.
    NoRoom,
}

impl Session {
    fn new(service: &Arc<Service>, connection: &Connection) -> Self {
        let is_known = !service.asks_who_calls();
        Self { service: Arc::clone(service), caller: connection.caller().clone(), is_bound: false, is_known }
    }

    async fn run(&mut self, connection: Connection, shutdown: CancellationToken) -> io::Result<()> {
        let (reader, writer) = tokio::io::split(connection);
        let mut lines = Lines { reader: BufReader::new(reader), guard: self.service.buffers().guard() };
        let mut writer = BufWriter::new(writer);
        loop {
            // Answers to lines that were sent ahead leave together.
            if lines.reader.buffer().is_empty() {
                in_time(writer.flush()).await?;
            }
            // The bytes of the line before are given back while the connection is idle.
            lines.guard = self.service.buffers().guard();
            let idle_time_max = if self.is_known { IDLE_TIME_MAX } else { STRANGER_IDLE_TIME_MAX };
            let line = tokio::select! {
                begun = tokio::time::timeout(idle_time_max, lines.reader.fill_buf()) => match begun {
                    Ok(begun) => {
                        begun?;
                        tokio::time::timeout(LINE_TIME_MAX, lines.next(|| self.line_of_caller())).await
                    }
                    Err(_) => break,
                },
                () = shutdown.cancelled() => break,
            };
            let Ok(line) = line else {
                send(&mut writer, b"error the line did not end in time: nothing was done").await?;
                break;
            };
            match line? {
                Line::Whole(line) => {
                    let answer = self.answer(&line).await;
                    send(&mut writer, answer.bytes()).await?;
                    if answer.is_last {
                        break;
                    }
                }
                Line::End { has_rest } => {
                    if has_rest {
                        send(&mut writer, b"error the line has no end: nothing was done; end it with LF").await?;
                    }
                    break;
                }
                Line::TooLong { bytes_max } => {
                    let until = if bytes_max < LINE_BYTES_MAX { " before AUTH" } else { "" };
                    let text = format!("error the line is too long: {bytes_max} bytes are accepted{until}");
                    send(&mut writer, text.as_bytes()).await?;
                    break;
                }
                Line::NoRoom => {
                    let error = crate::service::error::no_room(crate::wire::method::Access::Write);
                    send(&mut writer, format!("error not applied: {}", error.message).as_bytes()).await?;
                    break;
                }
            }
        }
        in_time(writer.shutdown()).await
    }

    /// Binds the commands that follow to whoever has this token.
    fn authenticate(&mut self, token: &str) -> Answer {
        let caller = Caller::of_token(Door::Lines, self.caller.address, token);
        let service = self.service.for_caller(caller);
        match service.enter_at("AUTH", Needs::Identity) {
            Ok(()) => {
                (self.service, self.is_known) = (service, true);
                Answer::of("ok")
            }
            Err(error) => failed(&error),
        }
    }

    fn bind_at_first(&mut self) {
        if !std::mem::replace(&mut self.is_bound, true) {
            self.service = self.service.for_caller(Caller::of_connection(Door::Lines, &self.caller));
        }
    }

    /// The longest line that is read from whoever is at the other end, and the guard of its bytes. Ask once there are bytes of
    /// the connection.
    fn line_of_caller(&mut self) -> (usize, BudgetGuard) {
        (self.line_bytes_max(), self.service.buffers().guard())
    }

    fn line_bytes_max(&mut self) -> usize {
        self.bind_at_first();
        self.is_known = self.service.has(Needs::Identity);
        if self.is_known { LINE_BYTES_MAX } else { UNCOUNTED_BYTES }
    }

    /// Does one command.
    async fn answer(&mut self, line: &[u8]) -> Answer {
        let began = Instant::now();
        self.bind_at_first();
        let command = Command::parse(line);
        let method = match &command {
            Ok(Command::Create(_)) => "/api.Tables/Create",
            Ok(Command::Get(..)) => "/api.Cluster/Get",
            Ok(Command::Put { .. }) => "/api.Cluster/Set",
            Ok(Command::Delete(..)) => "/api.Cluster/Delete",
            Err(Other::Empty) => return Answer::of(""),
            Err(Other::Auth(token)) => return self.authenticate(token),
            Err(_) => "",
        };
        let method = Method::find(method);
        let mut observation = self.service.observe(Door::Lines, method, began);
        let answer = match (self.service.enter(method), command) {
            // A browser is left whoever it is.
            (Err(error), Ok(_) | Err(Other::MissingTable | Other::Unrecognized(_) | Other::Wrong(_))) => failed(&error),
            (_, Ok(command)) => {
                let running = pin!(self.run_command(command, Deadline::new(None, began)));
                let done = traces::within(observation.trace(), running).await;
                done.unwrap_or_else(|error| failed(&error))
            }
            (_, Err(other)) => refused(other),
        };
        let message = match &answer.text {
            Text::Words(words) if answer.code != Code::Ok => words.as_str(),
            _ => "",
        };
        observation.end(Outcome::new(answer.code, message));
        answer
    }

    async fn run_command(&self, command: Command, deadline: Deadline) -> Result<Answer, ServiceError> {
        match command {
            Command::Create(Table::Default) => Ok(Answer::of("already created")),
            Command::Create(Table::Named(name)) => {
                let creation = self.service.table_create(name, TableSettings::default(), deadline).await?;
                Ok(Answer::of(if creation.is_new { "created" } else { "already created" }))
            }
            Command::Get(table, key) => {
                let Some(found) = self.service.get(&table, &key, deadline).await? else { return Ok(Answer::of("nil")) };
                let Content::Value(Value::Text(bytes) | Value::Binary(bytes)) = found.record.record.content else {
                    return Ok(Answer::of("nil"));
                };
                if bytes.contains(&b'\n') || bytes.contains(&b'\r') || std::str::from_utf8(&bytes).is_err() {
                    let text = "not a line of text: read it over HTTP or gRPC";
                    return Ok(Answer::error(text, Code::FailedPrecondition));
                }
                Ok(Answer { text: Text::Value(bytes), code: Code::Ok, _guard: found.guard, is_last: false })
            }
            Command::Put { table, key, content, ttl, is_new: false } => {
                self.service.set(&table, key, content, ttl, deadline).await?;
                Ok(Answer::of("ok"))
            }
            Command::Put { table, key, content, ttl, is_new: true } => {
                let checksum = Checksum::of(&key, &content).and_ttl(ttl);
                let change = Change::Write { condition: Condition::Absent, content, ttl, checksum };
                let token = IdempotencyToken(rand::random());
                let request = ChangeRequest { change, token, is_resend: false };
                match self.service.change(&table, key, request, deadline).await {
                    Err(error) if error.failure.reason != FailureReason::ConditionFailed => Err(error),
                    _ => Ok(Answer::of("ok")),
                }
            }
            Command::Delete(table, key) => {
                self.service.remove(&table, key, deadline).await?;
                Ok(Answer::of("ok"))
            }
        }
    }
}

/// The answer to a line that no replica is asked for.
fn refused(other: Other<'_>) -> Answer {
    match other {
        Other::Empty | Other::Auth(_) => Answer::of(""),
        Other::MissingTable => missing_table(),
        Other::Unrecognized(word) => {
            Answer { code: Code::Unimplemented, ..Answer::of(format!("unrecognized command {word}")) }
        }
        Other::Wrong(text) => Answer::error(&text, Code::InvalidArgument),
        Other::Http => {
            let text = "this port has no HTTP: ask the port of local_http_address";
            Answer { is_last: true, ..Answer::error(text, Code::InvalidArgument) }
        }
    }
}

fn missing_table() -> Answer {
    Answer { code: Code::NotFound, ..Answer::of("missing table") }
}

/// The answer to a command that was not done, or not certainly.
fn failed(error: &ServiceError) -> Answer {
    let words = match error.failure.reason {
        FailureReason::NoSuchTable => return missing_table(),
        FailureReason::NotApplied => "not applied",
        FailureReason::OutcomeUnknown => "outcome unknown",
        FailureReason::NoQuorum => "no quorum",
        FailureReason::NotReady => "not ready",
        FailureReason::Unauthenticated => "unauthenticated",
        FailureReason::PermissionDenied => "permission denied",
        _ => "failed",
    };
    let message = error.message.replace(['\r', '\n'], " ");
    Answer::error(&format!("{words}: {message}"), error.code())
}

/// Sends one line.
async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    // A long answer goes in pieces, each of which the client has time to read.
    for piece in bytes.chunks(1 << 20) {
        in_time(writer.write_all(piece)).await?;
    }
    in_time(writer.write_all(b"\n")).await
}

async fn in_time(writing: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match tokio::time::timeout(STALL_TIME_MAX, writing).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Reads lines.
struct Lines {
    reader: BufReader<ReadHalf<Connection>>,
    guard: BudgetGuard,
}

impl Lines {
    /// The next line, without its end. `of_caller` tells the longest one and the guard of its bytes, and is asked once a part of it
    /// has arrived.
    async fn next(&mut self, mut of_caller: impl FnMut() -> (usize, BudgetGuard)) -> io::Result<Line> {
        let mut known_max = None;
        let mut line = Vec::new();
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(Line::End { has_rest: !line.is_empty() });
            }
            let bytes_max = *known_max.get_or_insert_with(|| {
                let (bytes_max, guard) = of_caller();
                self.guard = guard;
                bytes_max
            });
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            // A CR before the end may come on top.
            if line.len() + part.len() > bytes_max + 1 {
                return Ok(Line::TooLong { bytes_max });
            }
            if line.len() + part.len() > UNCOUNTED_BYTES && !self.guard.grow(part.len()) {
                return Ok(Line::NoRoom);
            }
            line.extend_from_slice(part);
            let taken = end.map_or(part.len(), |end| end + 1);
            self.reader.consume(taken);
            if end.is_some() {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(if line.len() > bytes_max { Line::TooLong { bytes_max } } else { Line::Whole(line) });
            }
        }
    }
}
