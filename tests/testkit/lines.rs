//! A client of a node's line port, whose connections stay open.

use std::io::Error;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::http::Unanswered;

/// A client of one node. Its clones share connections.
#[derive(Clone, Debug)]
pub struct LineClient {
    address: Arc<str>,
    idle: Arc<Mutex<Vec<BufReader<TcpStream>>>>,
}

impl LineClient {
    pub fn new(address: &str) -> Self {
        Self { address: address.into(), idle: Arc::default() }
    }

    /// Sends one line, and returns the line that answers it.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, line: &str) -> Result<String, Unanswered> {
        let not_sent = |error: Error| Unanswered::NotSent(error.to_string());
        let lost = |error: Error| Unanswered::Lost(error.to_string());
        let mut stream = if let Some(idle) = self.take_idle() {
            idle
        } else {
            let stream = TcpStream::connect(&*self.address).await.map_err(not_sent)?;
            stream.set_nodelay(true).map_err(not_sent)?;
            BufReader::new(stream)
        };
        stream.write_all(format!("{line}\n").as_bytes()).await.map_err(lost)?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await.map_err(lost)?;
        let Some(text) = answer.strip_suffix('\n') else {
            return Err(Unanswered::Lost(format!("the connection ended after {answer:?}")));
        };
        let text = text.to_owned();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        Ok(text)
    }

    /// A connection that the node has not closed, as far as this side knows.
    fn take_idle(&self) -> Option<BufReader<TcpStream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(stream) = idle.pop() {
            // Nothing is due on it: only an open connection would have to wait.
            if stream.get_ref().try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            {
                return Some(stream);
            }
        }
        None
    }
}
