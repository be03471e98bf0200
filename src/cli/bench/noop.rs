//! The baseline: a no-op server in a process of its own.
//!
//! It uses a node's transport with the same settings, answers every request, and stores nothing. Its rate shows how much gRPC
//! and this machine allow. The rate of a cluster can be stated as a part of that.
//!
//! The two processes talk over the child's stdin and stdout. The child prints its address first, and its CPU time for each
//! line that it reads. It ends when its stdin ends, so that it never outlives its parent.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::codegen::BoxStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::cpu;
use super::values::{ValueBytes, Values};
use crate::api;
use crate::api::cluster_server::{Cluster, ClusterServer};
use crate::api::entry::Content;
use crate::cli::output::print;
use crate::cli::{CliError, Exit};
use crate::gateway::grpc;

/// The child process, as its parent sees it.
#[derive(Debug)]
pub(super) struct NoopServer {
    child: Child,
    /// Closed before the child is awaited, so that it ends.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(super) address: String,
}

impl NoopServer {
    /// Starts a server that answers each get with a value of the mean size.
    pub(super) fn start(sizes: ValueBytes) -> Result<Self, CliError> {
        let failed = |error| CliError::not_done(format!("the no-op server cannot be started: {error}"));
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["bench", "--serve-noop", "--value-bytes", &sizes.to_string()])
            // Ctrl-C at the terminal is for the generator, which asks for the child's CPU time before it ends.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut server = Self { child, stdin, stdout, address: String::new() };
        server.address = server.line().map_err(failed)?;
        Ok(server)
    }

    /// The CPU time of the child. `None` if it does not answer.
    pub(super) fn cpu_used(&mut self) -> Option<Duration> {
        self.stdin.as_mut()?.write_all(b"\n").ok()?;
        self.line().ok()?.parse().ok().map(Duration::from_micros)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line)? {
            0 => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "it ended without an answer")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for NoopServer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Without its stdin it ends by itself, so that a failed kill does no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the child process.
pub(super) async fn serve(sizes: ValueBytes) -> Result<Exit, CliError> {
    let failed = |error| CliError::not_done(format!("the no-op server cannot listen: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    print(format!("{}\n", listener.local_addr().map_err(failed)?).as_bytes())?;
    let (ended, parent_has_ended) = tokio::sync::oneshot::channel::<()>();
    // A thread of its own, because a read of stdin cannot be cancelled.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            if print(format!("{}\n", cpu::used().as_micros()).as_bytes()).is_err() {
                break;
            }
        }
        drop(ended);
    });
    let same_size = ValueBytes { min: sizes.mean(), max: sizes.mean() };
    let value = Values::new(same_size, 0).draw(&mut rand::rng());
    let service = api::sized!(ClusterServer::new(Noop { value }));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::select! {
        served = grpc::server().serve_with_incoming(service, incoming) => {
            served.map_err(|error| CliError::not_done(format!("the no-op server has failed: {error}")))?;
        }
        _ = parent_has_ended => {}
    }
    Ok(Exit::Done)
}

struct Noop {
    value: Bytes,
}

#[tonic::async_trait]
impl Cluster for Noop {
    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        let content = Some(Content::Binary(self.value.clone()));
        let entry = Some(api::Entry { key: request.into_inner().key, content });
        Ok(Response::new(api::GetResponse {
            entry,
            clock: Some(api::ClockValue::default()),
            version: "noop".into(),
            ttl: None,
        }))
    }

    async fn set(&self, _: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        Ok(Response::new(api::SetResponse { clock: Some(api::ClockValue::default()), ..Default::default() }))
    }

    async fn delete(&self, _: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        Ok(Response::new(api::DeleteResponse { clock: Some(api::ClockValue::default()), ..Default::default() }))
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<BoxStream<api::ListResponse>>, Status> {
        let api::ListRequest { prefix, limit, .. } = request.into_inner();
        let entry = |number| api::ListedEntry {
            key: format!("{prefix}{number:010}"),
            version: "noop".into(),
            ..Default::default()
        };
        let page = api::ListResponse { entries: (0..limit).map(entry).collect(), next: None };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(page)))))
    }

    async fn add(&self, request: Request<api::AddRequest>) -> Result<Response<api::AddResponse>, Status> {
        Ok(Response::new(api::AddResponse { value: request.into_inner().delta, version: "noop".into() }))
    }
}
