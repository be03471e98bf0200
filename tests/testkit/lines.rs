//! A client of a node's line port.

use tokio::io::AsyncBufReadExt as _;

use super::http::Unanswered;
use super::streams::{Open, Streams};
use super::tls::Believes;

/// A client of one node. Its clones share connections.
#[derive(Clone, Debug)]
pub struct LineClient {
    streams: Streams,
}

impl LineClient {
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

    /// Sends one line, and returns the line that answers it.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, line: &str) -> Result<String, Unanswered> {
        self.send_as(line, None).await
    }

    /// The same as whoever has this token. If the node does not take it, its answer to that is returned, and the line is not
    /// sent.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send_as(&self, line: &str, token: Option<&str>) -> Result<String, Unanswered> {
        let (mut open, is_new) = self.streams.take(token).await?;
        if let Some(token) = token.filter(|_| is_new) {
            // The line has not left yet.
            let not_sent = |unanswered| match unanswered {
                Unanswered::Lost(why) | Unanswered::NotSent(why) => Unanswered::NotSent(why),
            };
            let said = exchange(&mut open, &format!("AUTH {token}")).await.map_err(not_sent)?;
            if said != "ok" {
                return Ok(said);
            }
        }
        let said = exchange(&mut open, line).await?;
        self.streams.keep(open);
        Ok(said)
    }
}

async fn exchange(open: &mut Open, line: &str) -> Result<String, Unanswered> {
    open.send(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    open.stream.read_line(&mut answer).await.map_err(|error| Unanswered::Lost(error.to_string()))?;
    let Some(text) = answer.strip_suffix('\n') else {
        return Err(Unanswered::Lost(format!("the connection ended after {answer:?}")));
    };
    Ok(text.to_owned())
}
