//! A client of a node's Redis port (RESP2), whose connections stay open.

use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::http::Unanswered;

/// A client of one node. Its clones share connections.
#[derive(Clone, Debug)]
pub struct RedisClient {
    address: Arc<str>,
    idle: Arc<Mutex<Vec<BufReader<TcpStream>>>>,
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
        Self { address: address.into(), idle: Arc::default() }
    }

    /// Sends one command, and returns its answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, words: &[&[u8]]) -> Result<RedisAnswer, Unanswered> {
        let not_sent = |error: Error| Unanswered::NotSent(error.to_string());
        let lost = |error: Error| Unanswered::Lost(error.to_string());
        let mut stream = if let Some(idle) = self.take_idle() {
            idle
        } else {
            let stream = TcpStream::connect(&*self.address).await.map_err(not_sent)?;
            stream.set_nodelay(true).map_err(not_sent)?;
            BufReader::new(stream)
        };
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        stream.write_all(&command).await.map_err(lost)?;
        let answer = answer(&mut stream).await.map_err(lost)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        Ok(answer)
    }

    /// A connection that the node has not closed, as far as this side knows.
    fn take_idle(&self) -> Option<BufReader<TcpStream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(stream) = idle.pop() {
            // Nothing is due on it: only an open connection would have to wait.
            if stream.get_ref().try_read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }
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
