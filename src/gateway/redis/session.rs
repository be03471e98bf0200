//! The state of one connection, and the commands that are about nothing else.
//!
//! Contract: they are answered when they are read, so that what follows them sees their effect. With authorization a password
//! is a token, whatever the user is called. Without it the user `default` is let in with any.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Sleep;
use tonic::Code;

use crate::auth::Needs;
use crate::service::authorization::Caller;
use crate::service::listener::Connection;
use crate::service::request_metrics::{Door, Outcome};
use crate::tls;
use crate::wire::failure::FailureReason;

use super::command::{Command, is_word, wrong_count};
use super::parse::{number, shown};
use super::reply::{Reply, Version};
use super::table::{self, Id};
use super::{Gateway, catalogue, failure, info};

/// The version of Redis whose commands are served. Clients choose by it what they send.
pub(super) const REDIS_VERSION: &str = "7.4.0";

/// So long after a refused MULTI the connection is closed, unless EXEC or another end of the transaction has come. A client that
/// has read the refusal and goes on with other commands would else have all of them refused.
const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Session {
    gateway: Arc<Gateway>,
    pub(super) version: Version,
    pub(super) has_quit: bool,
    id: u64,
    began: Instant,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    name: Bytes,
    library: Bytes,
    library_version: Bytes,
    last_command: &'static str,
    /// Set while a MULTI was refused and its end has not come: it rings when the connection is to be closed.
    refused_transaction: Option<Pin<Box<Sleep>>>,
    caller: tls::Caller,
    /// Whether the caller has been looked at: the certificate is there after the handshake.
    is_bound: bool,
    /// Whether the caller was known when it was looked at last.
    is_known: bool,
}

impl Session {
    pub(super) fn new(gateway: Arc<Gateway>, connection: &Connection) -> Self {
        let id = gateway.last_client.fetch_add(1, Ordering::Relaxed) + 1;
        Self {
            gateway,
            version: Version::Two,
            has_quit: false,
            id,
            began: Instant::now(),
            peer: connection.peer_addr(),
            local: connection.local_addr(),
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            last_command: "",
            refused_transaction: None,
            caller: connection.caller().clone(),
            is_bound: false,
            is_known: false,
        }
    }

    /// The commands for whoever is at the other end.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Whether the caller is not known, and must be. Ask once there are bytes of the connection.
    pub(super) fn is_stranger(&mut self) -> bool {
        if !self.is_known {
            self.bind_at_first();
            self.is_known = self.gateway.service.has(Needs::Identity);
        }
        !self.is_known
    }

    /// Whether nobody has said who they are, as they must.
    pub(super) fn is_silent_stranger(&self) -> bool {
        !self.is_known && self.gateway.service.asks_who_calls()
    }

    fn bind_at_first(&mut self) {
        if !std::mem::replace(&mut self.is_bound, true) {
            self.bind_to_certificate();
        }
    }

    /// The error for a command of somebody who is not known, and must be.
    pub(super) fn refusal_of_stranger(&mut self, name: &[u8]) -> Option<Reply> {
        self.bind_at_first();
        let began = Instant::now();
        let spec = table::find(name);
        let (name, needs) = spec.map_or(("unknown", Needs::Identity), |spec| (spec.name, spec.needs()));
        let error = self.gateway.service.enter_at(name, needs).err()?;
        self.is_known = false;
        let mut observation = self.gateway.service.observe(Door::Redis, None, began);
        observation.end(Outcome::new(error.code(), &error.message));
        Some(failure::reply(&error))
    }

    fn bind_to_certificate(&mut self) {
        self.is_known = false;
        self.gateway = self.gateway.for_caller(Caller::of_connection(Door::Redis, &self.caller));
    }

    /// Binds the commands that follow to whoever has this password. The error if that is nobody.
    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> Option<Reply> {
        const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
        if !self.gateway.service.asks_who_calls() {
            return (user != b"default").then(|| Reply::error(WRONG));
        }
        let token = std::str::from_utf8(password).unwrap_or_default();
        let bound = self.gateway.for_caller(Caller::of_token(Door::Redis, self.peer, token));
        match bound.service.enter_at("auth", Needs::Identity) {
            Ok(()) => {
                self.gateway = bound;
                None
            }
            Err(error) if error.failure.reason == FailureReason::Unauthenticated => Some(Reply::error(WRONG)),
            Err(error) => Some(failure::reply(&error)),
        }
    }

    /// The error for a command of a transaction whose MULTI was refused. Clients send a transaction as a whole, and take the
    /// error of EXEC for that of all its commands: so none of them may be done.
    pub(super) fn refusal_in_transaction(&mut self, name: &[u8]) -> Option<String> {
        if self.refused_transaction.is_none() {
            if is_word(name, "multi") {
                self.refused_transaction = Some(Box::pin(tokio::time::sleep(TRANSACTION_TIME_MAX)));
            }
            return None;
        }
        if ["exec", "discard", "reset", "quit"].iter().any(|word| is_word(name, word)) {
            self.refused_transaction = None;
            return is_word(name, "exec").then(|| "EXECABORT Transaction discarded: MULTI is not served".to_owned());
        }
        Some("NOTAPPLIED MULTI is not served, and nothing before its EXEC or DISCARD is done".to_owned())
    }

    /// The last answer of a connection whose refused transaction has not ended in time. Until then the task of `context` is
    /// woken when that time is over.
    pub(super) fn poll_transaction(&mut self, context: &mut Context<'_>) -> Poll<Reply> {
        let Some(time) = &mut self.refused_transaction else { return Poll::Pending };
        std::task::ready!(time.as_mut().poll(context));
        self.refused_transaction = None;
        Poll::Ready(Reply::error(
            "NOTAPPLIED MULTI is not served, and no EXEC or DISCARD came within a second: this connection is closed, and nothing \
             since MULTI was done",
        ))
    }

    /// Counts a command that does not exist, or has another number of arguments.
    pub(super) fn observe_unknown(&self, text: &str) {
        let mut observation = self.gateway.service.observe(Door::Redis, None, Instant::now());
        observation.end(Outcome::new(Code::Unimplemented, text));
    }

    /// The answer to a command about the connection; `None` if it is about something else.
    pub(super) fn answer(&mut self, command: &Command) -> Option<Reply> {
        self.gateway.commands.fetch_add(1, Ordering::Relaxed);
        self.last_command = command.spec.name;
        let arguments = &command.arguments[1..];
        Some(match command.spec.id {
            Id::Ping => match arguments {
                [] => Reply::Line("PONG"),
                [text] => Reply::Bytes(text.clone()),
                _ => Reply::Error(wrong_count("ping")),
            },
            Id::Echo => Reply::Bytes(command.argument(1)),
            Id::Hello => self.hello(arguments),
            Id::Auth => match arguments {
                [password] if self.gateway.service.asks_who_calls() => {
                    self.authenticate(b"default", password).unwrap_or(Reply::OK)
                }
                [_] => Reply::error(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                     configuration is correct?",
                ),
                [user, password] => self.authenticate(user, password).unwrap_or(Reply::OK),
                _ => Reply::error("ERR syntax error"),
            },
            Id::Select => match number(&command.argument(1)) {
                Some(0) => Reply::OK,
                Some(_) => Reply::error("ERR DB index is out of range: 0 is the only one"),
                None => Reply::error("ERR value is not an integer or out of range"),
            },
            Id::Client => self.client(arguments),
            Id::Command => catalogue::answer(arguments),
            Id::Config => config(arguments),
            Id::Time => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Reply::Array(vec![Reply::text(now.as_secs().to_string()), Reply::text(now.subsec_micros().to_string())])
            }
            Id::Quit => {
                self.has_quit = true;
                Reply::OK
            }
            Id::Reset => {
                self.version = Version::Two;
                self.name = Bytes::new();
                self.bind_to_certificate();
                Reply::Line("RESET")
            }
            _ => return None,
        })
    }

    /// HELLO: everything that it asks for, or nothing of it.
    fn hello(&mut self, arguments: &[Bytes]) -> Reply {
        let mut version = self.version;
        let mut rest = arguments;
        if let [first, more @ ..] = arguments {
            version = match number(first) {
                Some(2) => Version::Two,
                Some(3) => Version::Three,
                Some(_) => return Reply::error("NOPROTO unsupported protocol version"),
                None => return Reply::error("ERR Protocol version is not an integer or out of range"),
            };
            rest = more;
        }
        let mut name = None;
        loop {
            rest = match rest {
                [] => break,
                [word, user, password, more @ ..] if is_word(word, "auth") => {
                    if let Some(refused) = self.authenticate(user, password) {
                        return refused;
                    }
                    more
                }
                [word, given, more @ ..] if is_word(word, "setname") => {
                    if !is_plain(given) {
                        return Reply::error(NAME_REFUSED);
                    }
                    name = Some(given.clone());
                    more
                }
                [word, ..] => return Reply::Error(format!("ERR Syntax error in HELLO option '{}'", shown(word))),
            };
        }
        if self.gateway.service.enter_at("hello", Needs::Identity).is_err() {
            return Reply::error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
            );
        }
        self.version = version;
        if let Some(name) = name {
            self.name = name;
        }
        let number = if version == Version::Three { 3 } else { 2 };
        Reply::Map(vec![
            (Reply::word("server"), Reply::word("redis")),
            (Reply::word("version"), Reply::word(REDIS_VERSION)),
            (Reply::word("proto"), Reply::Number(number)),
            (Reply::word("id"), Reply::Number(i64::try_from(self.id).unwrap_or(i64::MAX))),
            (Reply::word("mode"), Reply::word("standalone")),
            (Reply::word("role"), Reply::word("master")),
            (Reply::word("modules"), Reply::Array(Vec::new())),
        ])
    }

    fn client(&mut self, arguments: &[Bytes]) -> Reply {
        let [subcommand, rest @ ..] = arguments else { return Reply::Error(wrong_count("client")) };
        let subcommand = subcommand.to_ascii_lowercase();
        match (&subcommand[..], rest) {
            (b"id", []) => Reply::Number(i64::try_from(self.id).unwrap_or(i64::MAX)),
            (b"getname", []) if self.name.is_empty() => Reply::Nil,
            (b"getname", []) => Reply::Bytes(self.name.clone()),
            (b"setname", [name]) if is_plain(name) => {
                self.name = name.clone();
                Reply::OK
            }
            (b"setname", [_]) => Reply::error(NAME_REFUSED),
            (b"setinfo", [what, value]) => self.set_info(what, value),
            (b"no-evict" | b"no-touch", [switch]) if is_word(switch, "on") || is_word(switch, "off") => Reply::OK,
            (b"no-evict" | b"no-touch", [_]) => Reply::error("ERR syntax error"),
            (b"info", []) => Reply::Text(self.line()),
            (b"list", []) => Reply::Text(self.line()),
            (b"list", [word, kind]) if is_word(word, "type") => {
                let is_normal = is_word(kind, "normal");
                Reply::Text(if is_normal { self.line() } else { String::new() })
            }
            (b"list", [word, ids @ ..]) if is_word(word, "id") && !ids.is_empty() => {
                let is_named = ids.iter().any(|id| number(id).and_then(|id| u64::try_from(id).ok()) == Some(self.id));
                Reply::Text(if is_named { self.line() } else { String::new() })
            }
            (b"list", _) => Reply::error("ERR syntax error"),
            (b"id" | b"getname" | b"setname" | b"setinfo" | b"no-evict" | b"no-touch" | b"info", _) => {
                Reply::Error(wrong_count(&format!("client|{}", shown(&subcommand))))
            }
            _ => unknown_subcommand("CLIENT", &arguments[0]),
        }
    }

    fn set_info(&mut self, what: &[u8], value: &Bytes) -> Reply {
        let (place, name) = if is_word(what, "lib-name") {
            (&mut self.library, "lib-name")
        } else if is_word(what, "lib-ver") {
            (&mut self.library_version, "lib-ver")
        } else {
            return Reply::Error(format!("ERR Unrecognized option '{}'", shown(what)));
        };
        if !is_plain(value) {
            return Reply::Error(format!("ERR {name} cannot contain spaces, newlines or special characters."));
        }
        *place = value.clone();
        Reply::OK
    }

    /// The connection as a line of CLIENT LIST.
    fn line(&self) -> String {
        let address = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        format!(
            "id={} addr={} laddr={} name={} age={} idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 cmd={} user=default \
             resp={} lib-name={} lib-ver={}\n",
            self.id,
            address(self.peer),
            address(self.local),
            shown(&self.name),
            self.began.elapsed().as_secs(),
            self.last_command,
            if self.version == Version::Three { 3 } else { 2 },
            shown(&self.library),
            shown(&self.library_version),
        )
    }
}

const NAME_REFUSED: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Whether a name can stand in a line of CLIENT LIST. It may be empty.
fn is_plain(name: &[u8]) -> bool {
    /// The longest name.
    const NAME_BYTES_MAX: usize = 128;
    name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic)
}

pub(super) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Reply {
    Reply::Error(format!("ERR unknown subcommand '{}'. Try {command} HELP.", shown(subcommand)))
}

fn config(arguments: &[Bytes]) -> Reply {
    match arguments {
        [word, patterns @ ..] if is_word(word, "get") && !patterns.is_empty() => {
            if let Some(text) = super::glob::refusal(patterns.iter().map(Bytes::len).sum()) {
                return Reply::Error(text);
            }
            let settings = info::SETTINGS.iter().filter(|(name, _)| {
                patterns.iter().any(|pattern| super::glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
            });
            Reply::Map(settings.map(|(name, value)| (Reply::word(name), Reply::word(value))).collect())
        }
        [word] if is_word(word, "get") => Reply::Error(wrong_count("config|get")),
        [word, ..] if is_word(word, "set") || is_word(word, "rewrite") || is_word(word, "resetstat") => {
            Reply::error("ERR settings are in node.yml: change them there, and start the node again")
        }
        [word, ..] => unknown_subcommand("CONFIG", word),
        [] => Reply::Error(wrong_count("config")),
    }
}
