//! Connections of a client to one node, which stay open between requests.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt as _, BufReader};

use super::http::Unanswered;
use super::tls::{Believes, Stream, connect};

/// The connections to one node. Clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    address: Arc<str>,
    tls: Option<Believes>,
    idle: Arc<Mutex<Vec<Open>>>,
}

/// An open connection, and the token that it was opened with.
#[derive(Debug)]
pub struct Open {
    pub stream: BufReader<Stream>,
    token: Option<Box<str>>,
}

impl Streams {
    pub fn new(address: &str) -> Self {
        Self { address: address.into(), tls: None, idle: Arc::default() }
    }

    /// The same over TLS.
    #[must_use]
    pub fn secured(self, tls: Option<Believes>) -> Self {
        Self { tls, ..self }
    }

    /// Connections of their own to the same node.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { idle: Arc::default(), ..self.clone() }
    }

    /// An idle connection of this token, or a new one, and whether it is new.
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn take(&self, token: Option<&str>) -> Result<(Open, bool), Unanswered> {
        if let Some(idle) = self.take_idle(token) {
            return Ok((idle, false));
        }
        let stream = connect(&self.address, self.tls.as_ref(), None).await;
        let stream = BufReader::new(stream.map_err(|error| Unanswered::NotSent(error.to_string()))?);
        Ok((Open { stream, token: token.map(Into::into) }, true))
    }

    /// Keeps a connection, whose answer was read, for a later request.
    pub fn keep(&self, open: Open) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(open);
    }

    /// A connection that the node has not closed, as far as this side knows. Those of other tokens end.
    fn take_idle(&self, token: Option<&str>) -> Option<Open> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(open) = idle.pop() {
            // No answer is due on it: only an open connection would have to wait.
            let waits = open.stream.get_ref().tcp().try_read(&mut [0; 1]);
            if open.token.as_deref() == token && waits.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return Some(open);
            }
        }
        None
    }
}

impl Open {
    /// Sends a request.
    ///
    /// # Errors
    /// If the connection ends: the node may have got it.
    pub async fn send(&mut self, request: &[u8]) -> Result<(), Unanswered> {
        let sent = async {
            self.stream.write_all(request).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| Unanswered::Lost(error.to_string()))
    }
}
