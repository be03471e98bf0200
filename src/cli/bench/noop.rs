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
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::codegen::BoxStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::cpu;
use super::values::{ValueBytes, Values};
use crate::api;
use crate::api::cluster_server::{Cluster, ClusterServer};
use crate::api::entry::Content;
use crate::api::watch_response;
use crate::cli::output::print;
use crate::cli::{CliError, Exit};
use crate::gateway::grpc;

/// How long the child may take to end by itself.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// The most bytes of a page of a list, about.
const PAGE_BYTES: u64 = 3 << 20;
/// How many writes may wait for a watch that reads them.
const WAITING_MAX: usize = 4_096;

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
        // Without its stdin it ends by itself, and leaves its profile where it was built for one.
        let began = Instant::now();
        while began.elapsed() < END_TIME_MAX && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
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
    let service = api::sized!(ClusterServer::new(Noop {
        value,
        writes: broadcast::channel(WAITING_MAX).0,
        versions: AtomicU64::new(0)
    }));
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
    /// Each write tells all watches its key and its version.
    writes: broadcast::Sender<(String, String)>,
    versions: AtomicU64,
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

    async fn set(&self, request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        let mut response = api::SetResponse { clock: Some(api::ClockValue::default()), ..Default::default() };
        if self.writes.receiver_count() > 0 {
            response.version = self.versions.fetch_add(1, Ordering::Relaxed).to_string();
            let key = request.into_inner().entry.map(|entry| entry.key).unwrap_or_default();
            // The watches may end meanwhile.
            let _ = self.writes.send((key, response.version.clone()));
        }
        Ok(Response::new(response))
    }

    async fn watch(&self, _: Request<api::WatchRequest>) -> Result<Response<BoxStream<api::WatchResponse>>, Status> {
        let ready = watch_response::Event::Ready(api::WatchReady {});
        let writes = BroadcastStream::new(self.writes.subscribe()).map(|write| match write {
            Ok((key, version)) => Ok(watch_response::Event::Put(api::WatchPut { key, version, ..Default::default() })),
            Err(BroadcastStreamRecvError::Lagged(_)) => Err(Status::resource_exhausted("it reads too slowly")),
        });
        let events = tokio_stream::once(Ok(ready)).chain(writes);
        let response = |event| api::WatchResponse { event: Some(event), ..Default::default() };
        Ok(Response::new(Box::pin(events.map(move |event| event.map(response)))))
    }

    async fn delete(&self, _: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        Ok(Response::new(api::DeleteResponse { clock: Some(api::ClockValue::default()), ..Default::default() }))
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<BoxStream<api::ListResponse>>, Status> {
        let api::ListRequest { prefix, limit, values, .. } = request.into_inner();
        let value = self.value.clone();
        let entry = move |number| {
            let key = format!("{prefix}{number:010}");
            let entry = || api::Entry { key: key.clone(), content: Some(Content::Binary(value.clone())) };
            let entry = values.then(entry);
            api::ListedEntry { key, version: "noop".into(), entry, ..Default::default() }
        };
        // A page is below 4 MiB, as a node's are.
        let page_keys = if values { (PAGE_BYTES / (self.value.len() as u64 + 64)).max(1) } else { limit.max(1) };
        let begins = (0..limit).step_by(usize::try_from(page_keys).unwrap_or(usize::MAX));
        let pages = begins.map(move |begin| {
            let entries = (begin..limit.min(begin + page_keys)).map(&entry).collect();
            Ok(api::ListResponse { entries, next: None })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn add(&self, request: Request<api::AddRequest>) -> Result<Response<api::AddResponse>, Status> {
        Ok(Response::new(api::AddResponse { value: request.into_inner().delta, version: "noop".into() }))
    }
}
