//! A client of a node's Redis port (RESP2).

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::http::Unanswered;
use super::streams::Streams;

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

    /// Sends one command, and returns its answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, words: &[&[u8]]) -> Result<RedisAnswer, Unanswered> {
        let mut stream = self.streams.send(&framed(words)).await?;
        let answer = answer(&mut stream).await.map_err(|error| Unanswered::Lost(error.to_string()))?;
        self.streams.keep(stream);
        Ok(answer)
    }
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

async fn answer(stream: &mut BufReader<TcpStream>) -> Result<RedisAnswer, Error> {
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

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String, Error> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let text = line.strip_suffix("\r\n").ok_or_else(|| Error::other(format!("the connection ended after {line:?}")));
    text.map(str::to_owned)
}
