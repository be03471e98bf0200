//! A client of a node's Redis port (RESP2).

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::http::Unanswered;
use super::streams::{Open, Streams};
use super::tls::{Believes, Stream};

/// A client of one node. Its clones share connections.
#[derive(Clone, Debug)]
pub struct RedisClient {
    streams: Streams,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAnswer {
    /// A word, such as OK.
    Word(String),
    Error(String),
    Number(i64),
    /// A value, or none.
    Value(Option<Vec<u8>>),
    Array(Vec<RedisAnswer>),
}

impl RedisClient {
    pub fn new(address: &str) -> Self {
        Self { streams: Streams::new(address) }
    }

    /// The same over TLS.
    #[must_use]
    pub fn secured(self, tls: Option<Believes>) -> Self {
        Self { streams: self.streams.secured(tls) }
    }

    /// A client of the same node with connections of its own.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { streams: self.streams.fresh() }
    }

    /// Sends one command, and returns its answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, words: &[&[u8]]) -> Result<RedisAnswer, Unanswered> {
        self.send_as(words, None).await
    }

    /// The same as whoever has this token. If the node does not take it, its answer to that is returned, and the command is not
    /// sent.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send_as(&self, words: &[&[u8]], token: Option<&str>) -> Result<RedisAnswer, Unanswered> {
        let (mut open, is_new) = self.streams.take(token).await?;
        if let Some(token) = token.filter(|_| is_new) {
            // The command has not left yet.
            let not_sent = |unanswered| match unanswered {
                Unanswered::Lost(why) | Unanswered::NotSent(why) => Unanswered::NotSent(why),
            };
            let said = exchange(&mut open, &[b"AUTH", token.as_bytes()]).await.map_err(not_sent)?;
            if said != RedisAnswer::Word("OK".to_owned()) {
                return Ok(said);
            }
        }
        let said = exchange(&mut open, words).await?;
        self.streams.keep(open);
        Ok(said)
    }
}

async fn exchange(open: &mut Open, words: &[&[u8]]) -> Result<RedisAnswer, Unanswered> {
    open.send(&framed(words)).await?;
    answer(&mut open.stream).await.map_err(|error| Unanswered::Lost(error.to_string()))
}

/// A command in the bytes of RESP2.
pub fn framed(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

async fn answer(stream: &mut BufReader<Stream>) -> Result<RedisAnswer, Error> {
    let line = line(stream).await?;
    let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().map_err(Error::other);
    Ok(match kind {
        "+" => RedisAnswer::Word(rest.to_owned()),
        "-" => RedisAnswer::Error(rest.to_owned()),
        ":" => RedisAnswer::Number(number()?),
        "$" => RedisAnswer::Value(match usize::try_from(number()?) {
            Ok(length) => {
                let mut value = vec![0; length + 2];
                stream.read_exact(&mut value).await?;
                value.truncate(length);
                Some(value)
            }
            Err(_) => None,
        }),
        "*" => {
            let mut parts = Vec::new();
            for _ in 0..number()? {
                parts.push(Box::pin(answer(stream)).await?);
            }
            RedisAnswer::Array(parts)
        }
        _ => return Err(Error::other(format!("{line:?} is no answer of RESP2"))),
    })
}

async fn line(stream: &mut BufReader<Stream>) -> Result<String, Error> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let text = line.strip_suffix("\r\n").ok_or_else(|| Error::other(format!("the connection ended after {line:?}")));
    text.map(str::to_owned)
}
