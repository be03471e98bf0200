//! Nodes that do as a case of `clients/conformance/cases` says, and record what they are asked.
//!
//! Contract: the nodes of a case share one script of answers and one set of values. So a case need not know which of them a
//! client asks first. A node with a script of its own follows that one.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate::api;
use quorate::api::watch_response::Event;
use quorate::wire::failure::{Current, Failure, FailureReason};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

/// The version in each answer.
const VERSION: &str = "AAxx";

/// What a node does with one request.
#[derive(Clone)]
enum Behaviour {
    Serve,
    Silent,
    Slow(Duration),
    Fail(Status),
    SlowFail(Duration, Status),
}

impl Behaviour {
    fn of(text: &Value) -> Self {
        if let Some(status) = text.get("fail").map(status_of) {
            let slow = text["slow_then_fail_ms"].as_u64().map(Duration::from_millis);
            return slow.map_or(Self::Fail(status.clone()), |time| Self::SlowFail(time, status));
        }
        match (text.as_str(), text.get("slow_ms").and_then(Value::as_u64)) {
            (Some("serve"), _) => Self::Serve,
            (Some("silent"), _) => Self::Silent,
            (_, Some(millis)) => Self::Slow(Duration::from_millis(millis)),
            _ => panic!("a case has no behaviour {text}"),
        }
    }
}

fn status_of(text: &Value) -> Status {
    let code = match text["code"].as_str().expect("a failure has a code") {
        "CANCELLED" => Code::Cancelled,
        "UNKNOWN" => Code::Unknown,
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
        "NOT_FOUND" => Code::NotFound,
        "ALREADY_EXISTS" => Code::AlreadyExists,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "FAILED_PRECONDITION" => Code::FailedPrecondition,
        "ABORTED" => Code::Aborted,
        "OUT_OF_RANGE" => Code::OutOfRange,
        "UNIMPLEMENTED" => Code::Unimplemented,
        "INTERNAL" => Code::Internal,
        "UNAVAILABLE" => Code::Unavailable,
        "DATA_LOSS" => Code::DataLoss,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        other => panic!("a case has the unknown code {other}"),
    };
    let Some(reason) = text["reason"].as_str() else { return Status::new(code, "made by the case") };
    let mut failure = Failure::new(FailureReason::parse(reason).expect("a reason of the API"));
    failure.current = text["version"]
        .as_str()
        .map(|version| Current { version: version.to_owned(), has_value: text["has_value"] == true });
    failure.to_status(code, "made by the case")
}

/// What comes one after the other. The last one comes again and again.
struct Script<T>(Mutex<VecDeque<T>>);

impl<T: Clone> Script<T> {
    fn of(text: &Value, parse: impl Fn(&Value) -> T) -> Self {
        Self(Mutex::new(text.as_array().into_iter().flatten().map(parse).collect()))
    }

    fn next(&self) -> Option<T> {
        let mut left = self.0.lock().unwrap();
        if left.len() > 1 { left.pop_front() } else { left.front().cloned() }
    }
}

/// The scripts of a case, or of one of its nodes.
struct Scripts {
    reads: Script<Behaviour>,
    writes: Script<Behaviour>,
    /// For each call, its answers.
    lists: Script<Value>,
    watches: Script<Value>,
    health: api::Health,
}

impl Scripts {
    fn of(text: &Value) -> Self {
        let health = match text["health"].as_str() {
            None => api::Health::Online,
            Some("DEGRADED") => api::Health::Degraded,
            Some("DRAINING") => api::Health::Draining,
            Some("STARTING") => api::Health::Starting,
            Some(other) => panic!("a case has the unknown health {other}"),
        };
        Self {
            reads: Script::of(&text["reads"], Behaviour::of),
            writes: Script::of(&text["writes"], Behaviour::of),
            lists: Script::of(&text["lists"], Value::clone),
            watches: Script::of(&text["watches"], Value::clone),
            health,
        }
    }
}

/// What the nodes of a case were asked.
#[derive(Default)]
struct Asked {
    reads: Vec<usize>,
    writes: Vec<usize>,
    /// The request id of each write that has one, and whether it came as a resend.
    ids: Vec<(Vec<u8>, bool)>,
    lists: Vec<Value>,
    watches: Vec<Value>,
    tokens: Vec<Option<String>>,
}

struct Shared {
    asked: Mutex<Asked>,
    values: Mutex<BTreeMap<String, api::Entry>>,
}

/// The nodes of a case, until it is dropped.
pub struct Fakes {
    pub addresses: Vec<String>,
    shared: Arc<Shared>,
    _servers: JoinSet<()>,
    _dead: Vec<TcpSocket>,
    _deaf: Vec<TcpListener>,
}

impl Fakes {
    /// The nodes of a case: `fakes` says what each of them is, and `script` what they do.
    pub async fn start(case: &Value) -> Self {
        let shared = Arc::new(Shared { asked: Mutex::default(), values: Mutex::default() });
        let common = Arc::new(Scripts::of(&case["script"]));
        let (mut addresses, mut servers, mut dead, mut paused) = (Vec::new(), JoinSet::new(), Vec::new(), Vec::new());
        for (index, fake) in case["fakes"].as_array().expect("a case has fakes").iter().enumerate() {
            let local = SocketAddr::from(([127, 0, 0, 1], 0));
            if fake == "dead" {
                // Nobody else can bind the port while the socket lives.
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(local).unwrap();
                addresses.push(socket.local_addr().unwrap().to_string());
                dead.push(socket);
                continue;
            }
            let listener = TcpListener::bind(local).await.unwrap();
            addresses.push(listener.local_addr().unwrap().to_string());
            if fake == "deaf" {
                // It takes connections and says nothing, like a process that is paused.
                paused.push(listener);
                continue;
            }
            let scripts = if fake.is_object() { Arc::new(Scripts::of(fake)) } else { Arc::clone(&common) };
            let fake = Served { index, scripts, shared: Arc::clone(&shared) };
            let cluster = api::cluster_server::ClusterServer::new(fake.clone());
            let node = api::node_server::NodeServer::new(fake);
            let server = Server::builder().add_service(cluster).add_service(node);
            servers.spawn(async move {
                server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("a fake node serves");
            });
        }
        shared.asked.lock().unwrap().reads.resize(addresses.len(), 0);
        shared.asked.lock().unwrap().writes.resize(addresses.len(), 0);
        Self { addresses, shared, _servers: servers, _dead: dead, _deaf: paused }
    }

    /// What they were asked since their start.
    pub fn asked(&self) -> Value {
        let asked = self.shared.asked.lock().unwrap();
        let same_id = asked.ids.windows(2).all(|pair| pair[0].0 == pair[1].0);
        let whole = asked.ids.iter().all(|(id, _)| id.len() == 16);
        json!({
            "reads": asked.reads.iter().sum::<usize>(),
            "reads_of_each": asked.reads,
            "writes": asked.writes.iter().sum::<usize>(),
            "writes_of_each": asked.writes,
            "same_id": same_id,
            "ids_are_whole": whole,
            "resends": asked.ids.iter().map(|(_, resend)| *resend).collect::<Vec<bool>>(),
            "lists": asked.lists,
            "watches": asked.watches,
            "tokens": asked.tokens,
        })
    }
}

#[derive(Clone)]
struct Served {
    index: usize,
    scripts: Arc<Scripts>,
    shared: Arc<Shared>,
}

impl Served {
    async fn act<T>(&self, behaviour: Option<Behaviour>, request: Request<T>) -> Result<T, Status> {
        match behaviour {
            None | Some(Behaviour::Serve) => {}
            Some(Behaviour::Silent) => std::future::pending().await,
            Some(Behaviour::Slow(time)) => tokio::time::sleep(time).await,
            Some(Behaviour::Fail(status)) => return Err(status),
            Some(Behaviour::SlowFail(time, status)) => {
                tokio::time::sleep(time).await;
                return Err(status);
            }
        }
        Ok(request.into_inner())
    }

    async fn read<T>(&self, request: Request<T>) -> Result<T, Status> {
        {
            let mut asked = self.shared.asked.lock().unwrap();
            asked.reads[self.index] += 1;
            let token = request.metadata().get("authorization").map(|text| text.to_str().unwrap().to_owned());
            asked.tokens.push(token);
        }
        self.act(self.scripts.reads.next(), request).await
    }

    async fn write<T>(&self, request: Request<T>, id: &[u8], resend: bool) -> Result<T, Status> {
        {
            let mut asked = self.shared.asked.lock().unwrap();
            asked.writes[self.index] += 1;
            if !id.is_empty() {
                asked.ids.push((id.to_vec(), resend));
            }
        }
        self.act(self.scripts.writes.next(), request).await
    }
}

fn clock() -> api::ClockValue {
    api::ClockValue { epoch: 1, clock: 2, node: "1".into() }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answers to one call of a script: each is a message, `silent`, or a failure that ends it.
fn answers<T: Send + 'static>(call: Option<Value>, parse: fn(&Value) -> T) -> Response<Answers<T>> {
    let call = call.unwrap_or_else(|| json!([{ "fail": { "code": "UNAVAILABLE", "reason": "NOT_READY" } }]));
    let (mut answers, mut is_silent) = (Vec::new(), false);
    for answer in call.as_array().expect("a call has answers") {
        match answer.get("fail") {
            Some(status) => answers.push(Err(status_of(status))),
            None if answer == "silent" => is_silent = true,
            None => answers.push(Ok(parse(answer))),
        }
    }
    let answers = tokio_stream::iter(answers);
    let end = tokio_stream::iter(is_silent.then_some(())).then(|()| std::future::pending());
    Response::new(Box::pin(answers.chain(end)))
}

fn page_of(answer: &Value) -> api::ListResponse {
    let keys = answer["keys"].as_array().into_iter().flatten();
    let entry = |key: &Value| api::ListedEntry {
        key: key.as_str().unwrap().to_owned(),
        version: VERSION.into(),
        ..Default::default()
    };
    api::ListResponse { entries: keys.map(entry).collect(), next: answer["next"].as_str().map(str::to_owned) }
}

fn event_of(answer: &Value) -> api::WatchResponse {
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let version = || VERSION.to_owned();
    let event = if let Some(key) = text("set") {
        Event::Put(api::WatchPut { key, version: version(), entry: None, ttl: None })
    } else if let Some(key) = text("deleted") {
        Event::Deleted(api::WatchDeleted { key, version: version() })
    } else if answer["ready"] == true {
        Event::Ready(api::WatchReady {})
    } else if answer["reset"] == true {
        Event::Reset(api::WatchReset {})
    } else {
        Event::Heartbeat(api::WatchHeartbeat {})
    };
    api::WatchResponse { cursor: text("cursor").unwrap_or_default().into_bytes().into(), event: Some(event) }
}

#[tonic::async_trait]
impl api::cluster_server::Cluster for Served {
    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        let request = self.read(request).await?;
        let entry = self.shared.values.lock().unwrap().get(&request.key).cloned();
        Ok(Response::new(api::GetResponse { entry, clock: Some(clock()), version: VERSION.into(), ttl: None }))
    }

    async fn set(&self, request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        let (id, resend) = (request.get_ref().request_id.clone(), request.get_ref().resend);
        let entry = self.write(request, &id, resend).await?.entry.unwrap();
        self.shared.values.lock().unwrap().insert(entry.key.clone(), entry);
        Ok(Response::new(api::SetResponse { clock: Some(clock()), version: VERSION.into() }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        let (id, resend) = (request.get_ref().request_id.clone(), request.get_ref().resend);
        let request = self.write(request, &id, resend).await?;
        self.shared.values.lock().unwrap().remove(&request.key);
        Ok(Response::new(api::DeleteResponse { clock: Some(clock()), version: VERSION.into() }))
    }

    async fn add(&self, request: Request<api::AddRequest>) -> Result<Response<api::AddResponse>, Status> {
        let (id, resend) = (request.get_ref().request_id.clone(), request.get_ref().resend);
        let value = self.write(request, &id, resend).await?.delta;
        Ok(Response::new(api::AddResponse { value, version: VERSION.into() }))
    }

    /// A key tells what becomes of its entry: "refused" is not applied in the first call, and "open" is of unknown outcome.
    async fn batch_write(
        &self,
        request: Request<api::BatchWriteRequest>,
    ) -> Result<Response<api::BatchWriteResponse>, Status> {
        use api::batch_write_entry::Write::{Delete, Set};
        let is_first = self.shared.asked.lock().unwrap().writes.iter().sum::<usize>() == 0;
        let entries = self.write(request, &[], false).await?.entries;
        let keys = entries.into_iter().map(|entry| match entry.write.unwrap() {
            Set(request) => request.entry.unwrap().key,
            Delete(request) => request.key,
        });
        let result = |key: String| {
            let failed = |reason: FailureReason| {
                let (code, reason) = (reason.code() as i32, reason.as_str().to_owned());
                Some(api::BatchWriteError { code, reason, ..Default::default() })
            };
            let error = match key.as_str() {
                "refused" if is_first => failed(FailureReason::NotApplied),
                "open" => failed(FailureReason::OutcomeUnknown),
                _ => None,
            };
            let version = if error.is_none() { VERSION.into() } else { String::new() };
            api::BatchWriteResult { key, clock: None, version, error }
        };
        Ok(Response::new(api::BatchWriteResponse { results: keys.map(result).collect() }))
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<Answers<api::ListResponse>>, Status> {
        let asked = request.get_ref();
        let asked = json!({ "prefix": asked.prefix, "start_after": asked.start_after, "limit": asked.limit,
            "values": asked.values });
        self.shared.asked.lock().unwrap().lists.push(asked);
        Ok(answers(self.scripts.lists.next(), page_of))
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Answers<api::WatchResponse>>, Status> {
        let asked = request.get_ref();
        let asked = json!({ "cursor": String::from_utf8_lossy(&asked.cursor), "values": asked.values,
            "with_list": asked.with_list });
        self.shared.asked.lock().unwrap().watches.push(asked);
        Ok(answers(self.scripts.watches.next(), event_of))
    }
}

#[tonic::async_trait]
impl api::node_server::Node for Served {
    async fn health(&self, _: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        let serves = self.scripts.health == api::Health::Online;
        Ok(Response::new(api::HealthResponse { status: self.scripts.health.into(), serves, ..Default::default() }))
    }
}
