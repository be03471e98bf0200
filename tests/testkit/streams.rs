//! Connections of a client to one node, which stay open between requests.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::http::Unanswered;

/// The connections to one node. Clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    address: Arc<str>,
    idle: Arc<Mutex<Vec<BufReader<TcpStream>>>>,
}

impl Streams {
    pub fn new(address: &str) -> Self {
        Self { address: address.into(), idle: Arc::default() }
    }

    /// Sends a request on an idle connection, or on a new one. The answer arrives on the connection that is returned.
    ///
    /// # Errors
    /// If there is no connection, or it ends.
    pub async fn send(&self, request: &[u8]) -> Result<BufReader<TcpStream>, Unanswered> {
        let not_sent = |error: std::io::Error| Unanswered::NotSent(error.to_string());
        let mut stream = if let Some(idle) = self.take_idle() {
            idle
        } else {
            let stream = TcpStream::connect(&*self.address).await.map_err(not_sent)?;
            stream.set_nodelay(true).map_err(not_sent)?;
            BufReader::new(stream)
        };
        stream.write_all(request).await.map_err(|error| Unanswered::Lost(error.to_string()))?;
        Ok(stream)
    }

    /// Keeps a connection, whose answer was read, for a later request.
    pub fn keep(&self, stream: BufReader<TcpStream>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    /// A connection that the node has not closed, as far as this side knows.
    fn take_idle(&self) -> Option<BufReader<TcpStream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(stream) = idle.pop() {
            // No answer is due on it: only an open connection would have to wait.
            if stream.get_ref().try_read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }
}
