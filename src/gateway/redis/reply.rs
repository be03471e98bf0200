//! Answers, in the second and the third version of the protocol, and the bytes that wait to be sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::service::buffer_budget::BudgetGuard;

/// Longer values are sent from where they are, and not copied.
const SHARED_BYTES_MIN: usize = 16 << 10;
/// The most parts in one call of the system.
const PARTS_MAX: usize = 16;

/// The version of the protocol that answers are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    #[default]
    Two,
    Three,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// A line without a length, such as OK.
    Line(&'static str),
    /// A word in capitals, and what went wrong.
    Error(String),
    Number(i64),
    Bytes(Bytes),
    /// A text with a hint for what it is for: people.
    Text(String),
    Nil,
    Array(Vec<Self>),
    /// Names and values.
    Map(Vec<(Self, Self)>),
    /// Words in no order.
    Set(Vec<Self>),
    /// An answer, and its part of the buffer budget.
    Guarded(Box<Self>, BudgetGuard),
}

impl Reply {
    pub(super) const OK: Self = Self::Line("OK");

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Bytes(Bytes::from(text.into()))
    }

    pub(super) fn word(text: &'static str) -> Self {
        Self::Bytes(Bytes::from_static(text.as_bytes()))
    }

    pub(super) fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn flag(is_so: bool) -> Self {
        Self::Number(i64::from(is_so))
    }

    /// The answer, with a guard if there is one.
    pub(super) fn guarded(self, guard: Option<BudgetGuard>) -> Self {
        match guard {
            Some(guard) => Self::Guarded(Box::new(self), guard),
            None => self,
        }
    }

    /// How many bytes it holds, about.
    pub(super) fn held(&self) -> usize {
        let of_all = |replies: &[Self]| replies.iter().map(Self::held).sum();
        let inside = match self {
            Self::Line(_) | Self::Number(_) | Self::Nil => 0,
            Self::Error(text) | Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(items) | Self::Set(items) => of_all(items),
            Self::Map(entries) => entries.iter().map(|(name, value)| name.held() + value.held()).sum(),
            Self::Guarded(reply, _) => reply.held(),
        };
        size_of::<Self>() + inside
    }

    /// The text of an error.
    pub(super) fn as_error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }
}

/// The bytes that wait to be sent on one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Bytes that leave before `tail`.
    parts: VecDeque<Bytes>,
    tail: BytesMut,
    /// How many bytes were taken in and sent so far.
    taken: u64,
    sent: u64,
    /// Guards, each with the number of bytes that must be sent before it is dropped.
    guards: VecDeque<(u64, BudgetGuard)>,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.taken - self.sent).unwrap_or(usize::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.sent
    }

    pub(super) fn push(&mut self, reply: Reply, version: Version) {
        match reply {
            Reply::Line(text) => self.line(b'+', text.as_bytes()),
            Reply::Error(text) => {
                let text = text.replace(['\r', '\n'], " ");
                self.line(b'-', text.as_bytes());
            }
            Reply::Number(number) => self.number(b':', number),
            Reply::Bytes(bytes) => self.bytes(bytes),
            Reply::Text(text) if version == Version::Three => {
                self.count(b'=', text.len() + 4);
                self.extend(b"txt:");
                self.extend(text.as_bytes());
                self.extend(b"\r\n");
            }
            Reply::Text(text) => self.bytes(text.into()),
            Reply::Nil if version == Version::Three => self.extend(b"_\r\n"),
            Reply::Nil => self.extend(b"$-1\r\n"),
            Reply::Array(items) => self.items(b'*', items, version),
            Reply::Set(items) => self.items(if version == Version::Three { b'~' } else { b'*' }, items, version),
            Reply::Map(entries) => {
                if version == Version::Three {
                    self.count(b'%', entries.len());
                } else {
                    self.count(b'*', entries.len() * 2);
                }
                for (name, value) in entries {
                    self.push(name, version);
                    self.push(value, version);
                }
            }
            Reply::Guarded(reply, guard) => {
                self.push(*reply, version);
                self.guards.push_back((self.taken, guard));
            }
        }
    }

    /// Sends as much as the connection takes, at least a byte.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        mut connection: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<()>> {
        let sent = if self.parts.is_empty() {
            std::task::ready!(connection.as_mut().poll_write(context, &self.tail))?
        } else {
            let parts = self.parts.iter().map(|part| &part[..]).chain([&self.tail[..]]).take(PARTS_MAX);
            let slices: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
            std::task::ready!(connection.as_mut().poll_write_vectored(context, &slices))?
        };
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(sent);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut sent: usize) {
        self.sent += sent as u64;
        while let Some(first) = self.parts.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                sent = 0;
                break;
            }
            sent -= first.len();
            self.parts.pop_front();
        }
        self.tail.advance(sent);
        while self.guards.front().is_some_and(|(until, _)| *until <= self.sent) {
            self.guards.pop_front();
        }
    }

    /// Gives back the memory of answers that were sent.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            (self.tail, self.parts) = (BytesMut::new(), VecDeque::new());
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.taken += bytes.len() as u64;
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.extend(&[kind]);
        self.extend(text);
        self.extend(b"\r\n");
    }

    fn count(&mut self, kind: u8, count: usize) {
        self.number(kind, i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn number(&mut self, kind: u8, number: i64) {
        // The longest number has 20 characters.
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.line(kind, &digits[at..]);
    }

    fn bytes(&mut self, bytes: Bytes) {
        self.count(b'$', bytes.len());
        if bytes.len() < SHARED_BYTES_MIN {
            self.extend(&bytes);
        } else {
            self.parts.push_back(self.tail.split().freeze());
            self.taken += bytes.len() as u64;
            self.parts.push_back(bytes);
        }
        self.extend(b"\r\n");
    }

    fn items(&mut self, kind: u8, items: Vec<Reply>, version: Version) {
        self.count(kind, items.len());
        for item in items {
            self.push(item, version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: Reply, version: Version) -> String {
        let mut outgoing = Outgoing::default();
        outgoing.push(reply, version);
        let parts: Vec<u8> = outgoing.parts.iter().flatten().chain(&outgoing.tail).copied().collect();
        assert_eq!(outgoing.len(), parts.len());
        String::from_utf8(parts).unwrap()
    }

    #[test]
    fn each_answer_has_its_form_in_each_version() {
        for (reply, two, three) in [
            (|| Reply::OK, "+OK\r\n", "+OK\r\n"),
            (|| Reply::error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|| Reply::Number(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|| Reply::Number(0), ":0\r\n", ":0\r\n"),
            (|| Reply::text(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|| Reply::Text("a".into()), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"),
            (|| Reply::Nil, "$-1\r\n", "_\r\n"),
            (|| Reply::Array(vec![Reply::Nil, Reply::Number(12)]), "*2\r\n$-1\r\n:12\r\n", "*2\r\n_\r\n:12\r\n"),
            (|| Reply::Set(vec![Reply::word("a")]), "*1\r\n$1\r\na\r\n", "~1\r\n$1\r\na\r\n"),
            (|| Reply::Map(vec![(Reply::word("a"), Reply::Nil)]), "*2\r\n$1\r\na\r\n$-1\r\n", "%1\r\n$1\r\na\r\n_\r\n"),
        ] as [(fn() -> Reply, _, _); 10]
        {
            assert_eq!([encoded(reply(), Version::Two), encoded(reply(), Version::Three)], [two, three]);
        }
        let long = "x".repeat(SHARED_BYTES_MIN);
        let framed = format!("*2\r\n$16384\r\n{long}\r\n:1\r\n");
        assert_eq!(encoded(Reply::Array(vec![Reply::text(long), Reply::Number(1)]), Version::Two), framed);
    }

    #[test]
    fn guard_is_held_until_its_answer_has_left() {
        let budget = crate::service::buffer_budget::BufferBudget::default();
        let mut outgoing = Outgoing::default();
        for size in [SHARED_BYTES_MIN, 3] {
            let reply = Reply::text("x".repeat(size)).guarded(Some(budget.guard()));
            outgoing.push(reply, Version::Two);
        }
        assert_eq!(outgoing.guards.len(), 2);
        let first = usize::try_from(outgoing.guards[0].0).unwrap();
        outgoing.advance(first - 1);
        assert_eq!(outgoing.guards.len(), 2);
        outgoing.advance(1);
        assert_eq!(outgoing.guards.len(), 1);
        outgoing.advance(outgoing.len());
        assert!(outgoing.is_empty() && outgoing.guards.is_empty());
    }

    #[test]
    fn guard_is_given_back_while_more_long_answers_wait() {
        let budget = crate::service::buffer_budget::BufferBudget::default();
        let mut outgoing = Outgoing::default();
        for _ in 0..3 {
            let reply = Reply::text("x".repeat(SHARED_BYTES_MIN + 1)).guarded(Some(budget.guard()));
            outgoing.push(reply, Version::Two);
        }
        let first = usize::try_from(outgoing.guards[0].0).unwrap();
        // To the middle of the second answer, whose bytes are a part of their own.
        outgoing.advance(first + 100);
        assert_eq!(outgoing.guards.len(), 2);
        outgoing.advance(first);
        assert_eq!(outgoing.guards.len(), 1);
        outgoing.advance(outgoing.len());
        assert!(outgoing.is_empty() && outgoing.guards.is_empty());
    }

    #[test]
    fn size_of_an_answer_counts_all_its_parts() {
        let each = size_of::<Reply>();
        let parts = vec![Reply::text("x".repeat(100)), Reply::Map(vec![(Reply::word("name"), Reply::Nil)])];
        assert_eq!(Reply::Array(parts).held(), 5 * each + 104);
    }
}
