//! One worker's requests: drawn at random, sent to the nodes in turn, or to the replicas of each key.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};

use super::super::output::chain;
use super::etcd::Etcd;
use super::mix::Kind;
use super::tally::Outcome;
use super::workload::{PRELOAD_IN_FLIGHT, Workload};
use crate::api;
use crate::api::cluster_client::ClusterClient;
use crate::api::condition::Condition;
use crate::api::entry::Content;
use crate::resolve::{self, NodeChannel};
use crate::tls::Dialer;
use crate::wire::failure::{Failure, FailureReason};

/// The attempts to write a key that is preloaded.
const PRELOAD_TRIES: u32 = 10;
/// The delay before the second attempt. It doubles with each further one.
const PRELOAD_RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long making a connection may take, the look-up of the name included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// Draws requests, and sends them.
pub(super) struct Sender {
    workload: Arc<Workload>,
    number: usize,
    clients: Vec<ClusterClient<NodeChannel>>,
    etcd: Vec<Etcd>,
    turn: usize,
    random: SmallRng,
    /// The header `grpc-timeout`, made once.
    deadline: MetadataValue<Ascii>,
}

impl Sender {
    pub(super) fn new(workload: &Arc<Workload>, number: usize) -> Self {
        // Workers must not draw alike. Any odd factor serves.
        let seed = workload.seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let deadline = format!("{}u", workload.timeout.as_micros()).parse().expect("a number and a letter are ASCII");
        let (clients, etcd) = (workload.clients.clone(), workload.etcd.clone());
        let random = SmallRng::seed_from_u64(seed);
        Self { workload: Arc::clone(workload), number, turn: number, clients, etcd, random, deadline }
    }

    pub(super) async fn send_drawn(&mut self) -> (Kind, Outcome) {
        let kind = self.workload.mix.pick(&mut self.random);
        let number = self.workload.keys.draw(&mut self.random);
        (kind, self.send(kind, number).await.unwrap_or_else(Outcome::Failed))
    }

    async fn send(&mut self, kind: Kind, number: u64) -> Result<Outcome, Status> {
        let keys = &self.workload.keys;
        let key = match kind {
            Kind::Add => keys.counter_name(number),
            Kind::Watch => keys.watched_name(self.number),
            Kind::Get | Kind::Set | Kind::Delete | Kind::Cas | Kind::List => keys.name(number),
        };
        let table = self.workload.table.clone();
        let node = self.next(kind, &key);
        if !self.etcd.is_empty() {
            return self.send_to_etcd(kind, node, key).await;
        }
        match kind {
            Kind::Get => {
                let request = self.request(api::GetRequest { key, table, ..Default::default() });
                let answer = self.clients[node].get(request).await?.into_inner();
                let found = answer.entry.is_some();
                Ok(Outcome::Done { found, bytes: bytes_of(answer.entry) })
            }
            Kind::Set => {
                let value = self.workload.values.draw(&mut self.random);
                let bytes = value.len();
                let entry = Some(api::Entry { key, content: Some(Content::Binary(value)) });
                let request = self.request(api::SetRequest { entry, table, ..Default::default() });
                self.clients[node].set(request).await?;
                Ok(Outcome::Done { found: false, bytes })
            }
            Kind::Delete => {
                let request = self.request(api::DeleteRequest { key, table, ..Default::default() });
                self.clients[node].delete(request).await?;
                Ok(Outcome::Done { found: false, bytes: 0 })
            }
            Kind::Cas => {
                let request =
                    self.request(api::GetRequest { key: key.clone(), table: table.clone(), ..Default::default() });
                let version = self.clients[node].get(request).await?.into_inner().version;
                let value = self.workload.values.draw(&mut self.random);
                let bytes = value.len();
                let entry = Some(api::Entry { key, content: Some(Content::Binary(value)) });
                let condition = Some(api::Condition { condition: Some(Condition::IfVersion(version)) });
                let request = self.request(api::SetRequest { entry, table, condition, ..Default::default() });
                match self.clients[node].set(request).await {
                    Ok(_) => Ok(Outcome::Done { found: true, bytes }),
                    // Another client was faster. That is an answer.
                    Err(status) if is_condition_failed(&status) => Ok(Outcome::Done { found: false, bytes: 0 }),
                    Err(status) => Err(status),
                }
            }
            Kind::Add => {
                let request = self.request(api::AddRequest { key, table, delta: 1, ..Default::default() });
                self.clients[node].add(request).await?;
                Ok(Outcome::Done { found: false, bytes: 0 })
            }
            Kind::List => {
                let list = api::ListRequest {
                    table,
                    prefix: self.workload.keys.prefix().to_owned(),
                    start_after: key,
                    limit: self.workload.list_keys.into(),
                    values: self.workload.list_values,
                };
                let request = self.request(list);
                let mut pages = self.clients[node].list(request).await?.into_inner();
                let mut bytes = 0;
                while let Some(page) = pages.message().await? {
                    bytes += page.entries.into_iter().map(|listed| bytes_of(listed.entry)).sum::<usize>();
                }
                Ok(Outcome::Done { found: false, bytes })
            }
            Kind::Watch => {
                let workload = Arc::clone(&self.workload);
                workload.watchers.begin(self.number);
                let value = workload.values.draw(&mut self.random);
                let bytes = value.len();
                let entry = Some(api::Entry { key, content: Some(Content::Binary(value)) });
                let request = self.request(api::SetRequest { entry, table, ..Default::default() });
                let version = self.clients[node].set(request).await?.into_inner().version;
                let waited = workload.watchers.all_told(self.number, version, workload.timeout).await?;
                Ok(Outcome::Told { waited, bytes })
            }
        }
    }

    /// Gets or sets; other operations are refused before a run.
    async fn send_to_etcd(&mut self, kind: Kind, member: usize, key: String) -> Result<Outcome, Status> {
        let deadline = self.request(());
        if kind == Kind::Get {
            let found = self.etcd[member].get(key, deadline).await?;
            return Ok(Outcome::Done { found: found.is_some(), bytes: found.unwrap_or_default() });
        }
        let value = self.workload.values.draw(&mut self.random);
        let bytes = value.len();
        self.etcd[member].set(key, value, deadline).await?;
        Ok(Outcome::Done { found: false, bytes })
    }

    /// The connection for the next request: to a replica of the key with `--route`, else to the next node in turn.
    fn next(&mut self, kind: Kind, key: &str) -> usize {
        self.turn = self.turn.wrapping_add(1);
        // A list is about no single key.
        let route = self.workload.route.as_ref().filter(|_| kind != Kind::List);
        route.and_then(|route| route.connection(key, self.turn)).unwrap_or(self.turn % self.clients.len())
    }

    /// Writes a key, with repeated attempts: writing it twice does no harm here.
    pub(super) async fn write_with_retries(&mut self, number: u64) -> Result<(), String> {
        let mut retry_after = PRELOAD_RETRY_AFTER;
        let mut tries = 1;
        loop {
            match self.send(Kind::Set, number).await {
                Ok(_) => return Ok(()),
                Err(status) if tries == PRELOAD_TRIES => {
                    let name = self.workload.keys.name(number);
                    return Err(format!("key {name} could not be written in {tries} tries: {}", status.message()));
                }
                Err(_) => {
                    tokio::time::sleep(retry_after).await;
                    retry_after *= 2;
                    tries += 1;
                }
            }
        }
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("grpc-timeout", self.deadline.clone());
        request
    }
}

fn bytes_of(entry: Option<api::Entry>) -> usize {
    match entry.and_then(|entry| entry.content) {
        Some(Content::Binary(value)) => value.len(),
        Some(Content::Value(text)) => text.len(),
        None => 0,
    }
}

fn is_condition_failed(status: &Status) -> bool {
    Failure::from_status(status).is_some_and(|failure| failure.reason == FailureReason::ConditionFailed)
}

/// Opens `connections` connections to each of `endpoints`, in turn. A connection that fails now is made when it is used, since
/// a workload may run against a cluster of which a node is down.
///
/// # Errors
/// When no connection can be made: the last error.
pub(super) async fn connect(
    endpoints: &[tonic::transport::Endpoint],
    dialer: &Dialer,
    connections: usize,
    in_flight: usize,
) -> Result<Vec<NodeChannel>, String> {
    let mut channels = Vec::with_capacity(connections * endpoints.len());
    let mut last_problem = None;
    let mut connected = false;
    for endpoint in std::iter::repeat_n(endpoints, connections).flatten() {
        // A request must not wait for room in the connection's queue: that would be a latency of the generator.
        let endpoint = endpoint.clone().buffer_size(in_flight.max(PRELOAD_IN_FLIGHT));
        let channel = match resolve::connect(endpoint.clone(), dialer.clone(), CONNECT_TIME_MAX).await {
            Ok(channel) => {
                connected = true;
                channel
            }
            Err(error) => {
                last_problem =
                    Some(format!("{}: {}", endpoint.uri().authority().map_or("", |it| it.as_str()), chain(&error)));
                resolve::connect_lazily(endpoint, dialer.clone(), CONNECT_TIME_MAX)
            }
        };
        channels.push(channel);
    }
    match last_problem {
        Some(problem) if !connected => Err(problem),
        _ => Ok(channels),
    }
}
