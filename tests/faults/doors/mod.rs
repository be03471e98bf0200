//! The doors of a node, through all of which clients work on the same keys.
//!
//! Contract: a door is a file of this folder with a function `call`, and says in [`Door::takes`] what can be asked there. Its
//! answers are in the terms of all histories. A door that tells less than another one says so by its outcome, and nothing
//! else in this program knows of doors.

mod grpc;
mod http;
mod lines;
mod redis;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use tonic::Request;
use tonic::transport::Channel;

use crate::asking::{Kind, Miss, Wish, is_text};
use crate::pass::{Issued, Pass};
use crate::testkit::http::{HttpClient, HttpVersion, Unanswered};
use crate::testkit::lines::LineClient;
use crate::testkit::redis::RedisClient;
use crate::testkit::requests::{Ask, Outcome};
use crate::testkit::tls::{self, Believes};

pub(crate) use grpc::list;
pub(crate) use tables::{KEY, TableAsk, TableSaid, ask_table};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Grpc,
    Http1,
    Http2,
    Lines,
    Redis,
}

/// One node, as a client has it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) grpc: Channel,
    http1: HttpClient,
    http2: HttpClient,
    lines: LineClient,
    redis: RedisClient,
    /// Where the token comes from, if the node asks who calls.
    pass: Option<Pass>,
    /// The token of one request.
    token: Option<Arc<Issued>>,
}

/// How clients are secured: whom they believe, and their token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Security<'a> {
    pub(crate) tls: &'a Believes,
    pub(crate) pass: &'a Pass,
}

/// The ports of a node that are no gRPC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) lines: u16,
    pub(crate) redis: u16,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) outcome: Outcome,
    /// The record that the node read before it wrote, where the door tells.
    pub(crate) before: Option<Outcome>,
}

impl From<Outcome> for Response {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, before: None }
    }
}

impl Node {
    pub(crate) fn new(address: &str, ports: Ports, security: Option<Security<'_>>) -> Self {
        let local = |port: u16| format!("127.0.0.1:{port}");
        let http = local(ports.http);
        let tls = security.map(|security| security.tls.clone());
        Self {
            grpc: tls::channel(address, tls.as_ref(), Duration::from_secs(1)),
            http1: HttpClient::new(&http, HttpVersion::One).secured(tls.clone()),
            http2: HttpClient::new(&http, HttpVersion::Two).secured(tls.clone()),
            lines: LineClient::new(&local(ports.lines)).secured(tls.clone()),
            redis: RedisClient::new(&local(ports.redis)).secured(tls),
            pass: security.map(|security| security.pass.clone()),
            token: None,
        }
    }

    /// The same for clients with another token. Connections of lines and the Redis protocol have one each.
    pub(crate) fn with_pass(&self, pass: &Pass) -> Self {
        let (lines, redis) = (self.lines.fresh(), self.redis.fresh());
        Self { lines, redis, pass: Some(pass.clone()), ..self.clone() }
    }

    /// The same with the token that the clients have now, for one request.
    pub(crate) fn now(&self) -> Self {
        Self { token: self.pass.as_ref().and_then(Pass::now), ..self.clone() }
    }

    /// The token.
    fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.text())
    }

    /// A request over gRPC, with the token.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = self.bearer() {
            request.metadata_mut().insert("authorization", bearer.parse().expect("a token is plain text"));
        }
        request
    }

    /// The same with a deadline.
    fn within<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(deadline);
        request
    }

    fn bearer(&self) -> Option<String> {
        self.token().map(|token| format!("Bearer {token}"))
    }

    /// The header of HTTP that has the token.
    fn header(&self) -> Option<(&'static str, String)> {
        Some(("authorization", self.bearer()?))
    }

    /// The miss of a request that was sent with this token: a node refuses nobody that it does not ask, and says so of a token
    /// that was revoked.
    pub(crate) fn judged(&self, miss: Miss) -> Miss {
        match miss {
            Miss::Refused(why) if self.pass.is_none() => Miss::Defect(why),
            Miss::Refused(why) if self.token.as_ref().is_some_and(|token| token.is_going()) => Miss::Revoked(why),
            other => other,
        }
    }
}

impl Ports {
    pub(crate) fn free(mut port: impl FnMut() -> u16) -> Self {
        Self { http: port(), lines: port(), redis: port() }
    }

    /// The lines of node.yml.
    pub(crate) fn as_yaml(self) -> String {
        let line = |name: &str, port: u16| format!("  local_{name}_address: 127.0.0.1:{port}\n");
        line("http", self.http) + &line("line", self.lines) + &line("redis", self.redis)
    }
}

impl Door {
    pub(crate) const ALL: [Self; 5] = [Self::Grpc, Self::Http1, Self::Http2, Self::Lines, Self::Redis];

    /// Whether it can be asked for this. A request that is sent again needs its id, which gRPC alone has.
    pub(crate) fn takes(self, ask: &Ask, number: u64, kind: Kind) -> bool {
        match self {
            Self::Grpc => grpc::takes(ask),
            Self::Http1 | Self::Http2 => http::takes(ask),
            Self::Lines => lines::takes(ask, kind) && (ask.is_read() || is_text(number, kind)),
            Self::Redis => redis::takes(ask, number, kind) && (ask.is_read() || is_text(number, kind)),
        }
    }

    /// The name of its answers in the report.
    pub(crate) fn answers(self) -> &'static str {
        match self {
            Self::Grpc => "answers over gRPC",
            Self::Http1 => "answers over HTTP/1.1",
            Self::Http2 => "answers over HTTP/2",
            Self::Lines => "answers over lines",
            Self::Redis => "answers over the Redis protocol",
        }
    }
}

/// Sends one request to `node`, and waits for the timeout at most.
pub(crate) async fn ask(node: &Node, wish: &Wish, deadline: Duration, timeout: Duration) -> Result<Response, Miss> {
    let node = &node.now();
    let call = async {
        match wish.door {
            Door::Grpc => grpc::call(node, wish, deadline).await.map(Response::from),
            Door::Http1 => http::call(node, &node.http1, wish, deadline).await,
            Door::Http2 => http::call(node, &node.http2, wish, deadline).await,
            Door::Lines => lines::call(node, wish).await.map(Response::from),
            Door::Redis => redis::call(node, wish).await.map(Response::from),
        }
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map_err(|miss| node.judged(miss)),
        Err(_) => Err(Miss::Unknown(format!("no answer within {timeout:?}"))),
    }
}

/// No answer of a node.
fn missed(unanswered: Unanswered, ask: &Ask) -> Miss {
    match unanswered {
        Unanswered::NotSent(why) => Miss::Failed(why),
        Unanswered::Lost(why) if ask.is_read() => Miss::Failed(why),
        Unanswered::Lost(why) => Miss::Unknown(why),
    }
}
