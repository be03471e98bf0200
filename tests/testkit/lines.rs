//! A client of a node's line port.

use tokio::io::AsyncBufReadExt as _;

use super::http::Unanswered;
use super::streams::Streams;

/// A client of one node. Its clones share connections.
#[derive(Clone, Debug)]
pub struct LineClient {
    streams: Streams,
}

impl LineClient {
    pub fn new(address: &str) -> Self {
        Self { streams: Streams::new(address) }
    }

    /// Sends one line, and returns the line that answers it.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, line: &str) -> Result<String, Unanswered> {
        let mut stream = self.streams.send(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await.map_err(|error| Unanswered::Lost(error.to_string()))?;
        let Some(text) = answer.strip_suffix('\n') else {
            return Err(Unanswered::Lost(format!("the connection ended after {answer:?}")));
        };
        self.streams.keep(stream);
        Ok(text.to_owned())
    }
}
