//! A client of a node's HTTP port, over HTTP/1.1 or HTTP/2, whose connections stay open.
//!
//! Contract: an error says whether any of the request can have left.

use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::tls::{Believes, HTTP_1, HTTP_2, connect};

/// The largest body of an answer.
const BODY_BYTES_MAX: usize = 64 << 20;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    One,
    Two,
}

/// A client of one node. Its clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    address: Arc<str>,
    version: HttpVersion,
    tls: Option<Believes>,
    /// Connections that do nothing; of HTTP/2 the one that all requests share.
    idle: Arc<Mutex<Vec<Sender>>>,
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// No answer.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// Nothing of the request has left.
    NotSent(String),
    /// The node may have got it.
    Lost(String),
}

impl HttpAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl HttpClient {
    pub fn new(address: &str, version: HttpVersion) -> Self {
        Self { address: address.into(), version, tls: None, idle: Arc::default() }
    }

    /// The same over TLS.
    #[must_use]
    pub fn secured(self, tls: Option<Believes>) -> Self {
        Self { tls, ..self }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<HttpAnswer, Unanswered> {
        let mut request = Request::builder().method(method);
        request = match self.version {
            HttpVersion::One => request.uri(path).header(header::HOST, &*self.address),
            HttpVersion::Two => {
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                request.uri(format!("{scheme}://{}{path}", self.address))
            }
        };
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(body)).expect("tests make valid requests");
        let mut sender = self.sender().await?;
        let lost = |error: hyper::Error| {
            // Hyper says so of a request that it still held when the connection ended.
            if error.is_canceled() {
                Unanswered::NotSent(error.to_string())
            } else {
                Unanswered::Lost(error.to_string())
            }
        };
        let response = match &mut sender {
            Sender::One(sender) => sender.send_request(request).await,
            Sender::Two(sender) => sender.send_request(request).await,
        };
        let (head, body) = response.map_err(lost)?.into_parts();
        let body = axum::body::to_bytes(Body::new(body), BODY_BYTES_MAX).await;
        let body = body.map_err(|error| Unanswered::Lost(error.to_string()))?;
        if let one @ Sender::One(_) = sender {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
        Ok(HttpAnswer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// A connection that is open as far as this side knows.
    async fn sender(&self) -> Result<Sender, Unanswered> {
        while let Some(mut idle) = self.take_idle() {
            let is_open = match &mut idle {
                Sender::One(sender) => sender.ready().await.is_ok(),
                Sender::Two(sender) => sender.ready().await.is_ok(),
            };
            if is_open {
                return Ok(idle);
            }
            if let Sender::Two(_) = idle {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        }
        let not_sent = |error: Error| Unanswered::NotSent(error.to_string());
        let protocol = if self.version == HttpVersion::One { HTTP_1 } else { HTTP_2 };
        let stream = connect(&self.address, self.tls.as_ref(), Some(protocol)).await.map_err(not_sent)?;
        let broken = |error: hyper::Error| not_sent(Error::new(ErrorKind::ConnectionReset, error));
        Ok(match self.version {
            HttpVersion::One => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
                tokio::spawn(connection);
                Sender::One(sender)
            }
            HttpVersion::Two => {
                let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = made.map_err(broken)?;
                tokio::spawn(connection);
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                // Another request may have been as fast: one of the two connections is enough.
                idle.clear();
                idle.push(Sender::Two(sender.clone()));
                Sender::Two(sender)
            }
        })
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.last()? {
            Sender::Two(shared) => Some(Sender::Two(shared.clone())),
            Sender::One(_) => idle.pop(),
        }
    }
}
