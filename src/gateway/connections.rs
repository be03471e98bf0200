//! Connections of HTTP/1.1 and HTTP/2, for the gateways that speak them.

use std::error::Error;

use axum::http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::{Builder, HttpServerConnExec};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::limits::{
    CLOSE_TIME_MAX, CONNECTION_WINDOW_BYTES, RESETS_PER_CONNECTION_MAX, SERVER_KEEP_ALIVE, STREAM_WINDOW_BYTES,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::service::listener::Connection;
use crate::service::streams::Streams;

/// How a connection is served, with the bounds of HTTP/2 that all gateways have. `head_bytes_max`: the largest head that is read.
pub(super) fn builder(connection: &Connection, head_bytes_max: u32) -> Builder<Streams> {
    let mut builder = Builder::new(connection.streams().clone());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(SERVER_KEEP_ALIVE.interval)
        .keep_alive_timeout(SERVER_KEEP_ALIVE.timeout)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(RESETS_PER_CONNECTION_MAX)
        .max_header_list_size(head_bytes_max);
    builder
}

/// Answers the requests of a connection until the other end closes it. Once `shutdown` is cancelled, the other end is told, and the
/// requests under way have [`CLOSE_TIME_MAX`].
pub(super) async fn serve<I, S, B>(builder: Builder<Streams>, connection: I, service: S, shutdown: CancellationToken)
where
    I: Read + Write + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    Streams: HttpServerConnExec<S::Future, B>,
{
    let mut served = std::pin::pin!(builder.serve_connection(connection, service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(CLOSE_TIME_MAX, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended");
    }
}
