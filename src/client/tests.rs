//! The client against servers in this process. Each test decides whether they answer, refuse, stay silent or hang up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::*;
use crate::limits::VALUE_BYTES_MAX;
use crate::types::KEY_BYTES_MAX;
use crate::wire::failure::{Failure, FailureReason};

/// How a fake node handles requests.
#[derive(Clone)]
enum Behaviour {
    /// Serves every request.
    Serve,
    /// Answers each read and write with this status.
    Fail(Status),
    /// Answers each write with this status, and serves reads.
    FailWrites(Status),
    /// Never answers.
    Silent,
    /// Reports in its health that it is draining, and serves nevertheless.
    Draining,
    /// Serves after this delay.
    Slow(Duration),
    /// Answers each read and write with this status, after this delay.
    SlowFail(Duration, Status),
}

struct Fake {
    behaviour: Mutex<Behaviour>,
    values: Mutex<BTreeMap<String, api::Entry>>,
    writes: AtomicU32,
    reads: AtomicU32,
    write_came: Notify,
    timeout_header: Mutex<Option<String>>,
    /// The name of each write that came, and whether it came as a resend.
    named: Mutex<Vec<(Bytes, bool)>>,
}

impl Fake {
    async fn act<T>(&self, request: Request<T>) -> Result<T, Status> {
        *self.timeout_header.lock().unwrap() =
            request.metadata().get("grpc-timeout").map(|text| text.to_str().unwrap().to_owned());
        let behaviour = self.behaviour.lock().unwrap().clone();
        match behaviour {
            Behaviour::Serve | Behaviour::Draining => {}
            Behaviour::FailWrites(_) if std::any::type_name::<T>() == std::any::type_name::<api::GetRequest>() => {}
            Behaviour::Fail(status) | Behaviour::FailWrites(status) => return Err(status),
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Slow(time) => tokio::time::sleep(time).await,
            Behaviour::SlowFail(time, status) => {
                tokio::time::sleep(time).await;
                return Err(status);
            }
        }
        Ok(request.into_inner())
    }

    fn writes(&self) -> u32 {
        self.writes.load(Ordering::SeqCst)
    }

    fn reads(&self) -> u32 {
        self.reads.load(Ordering::SeqCst)
    }

    fn set_behaviour(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }
}

/// The version in each answer.
const VERSION: &str = "AAxx";

fn clock() -> api::ClockValue {
    api::ClockValue { epoch: 1, clock: 2, node: "1".into() }
}

struct Served(Arc<Fake>);

#[tonic::async_trait]
impl api::cluster_server::Cluster for Served {
    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let request = self.0.act(request).await?;
        let entry = self.0.values.lock().unwrap().get(&request.key).cloned();
        Ok(Response::new(api::GetResponse { entry, clock: Some(clock()), version: VERSION.into(), ttl: None }))
    }

    async fn set(&self, request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        self.0.writes.fetch_add(1, Ordering::SeqCst);
        self.0.write_came.notify_one();
        let message = request.get_ref();
        self.0.named.lock().unwrap().push((message.request_id.clone(), message.resend));
        let entry = self.0.act(request).await?.entry.unwrap();
        self.0.values.lock().unwrap().insert(entry.key.clone(), entry);
        Ok(Response::new(api::SetResponse { clock: Some(clock()), version: VERSION.into() }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        self.0.writes.fetch_add(1, Ordering::SeqCst);
        let request = self.0.act(request).await?;
        self.0.values.lock().unwrap().remove(&request.key);
        Ok(Response::new(api::DeleteResponse { clock: Some(clock()), version: VERSION.into() }))
    }

    /// A key tells what becomes of it: "refused" is not applied in the first call, and "open" is of unknown outcome.
    async fn batch_write(
        &self,
        request: Request<api::BatchWriteRequest>,
    ) -> Result<Response<api::BatchWriteResponse>, Status> {
        use api::batch_write_entry::Write::{Delete, Set};
        let call = self.0.writes.fetch_add(1, Ordering::SeqCst);
        let entries = self.0.act(request).await?.entries;
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
                "refused" if call == 0 => failed(FailureReason::NotApplied),
                "open" => failed(FailureReason::OutcomeUnknown),
                _ => None,
            };
            let version = if error.is_none() { VERSION.into() } else { String::new() };
            api::BatchWriteResult { key, clock: None, version, error }
        };
        Ok(Response::new(api::BatchWriteResponse { results: keys.map(result).collect() }))
    }

    async fn add(&self, request: Request<api::AddRequest>) -> Result<Response<api::AddResponse>, Status> {
        self.0.writes.fetch_add(1, Ordering::SeqCst);
        let message = request.get_ref();
        self.0.named.lock().unwrap().push((message.request_id.clone(), message.resend));
        let value = self.0.act(request).await?.delta;
        Ok(Response::new(api::AddResponse { value, version: VERSION.into() }))
    }
}

#[tonic::async_trait]
impl api::node_server::Node for Served {
    async fn health(&self, _: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        let draining = matches!(*self.0.behaviour.lock().unwrap(), Behaviour::Draining);
        let status = if draining { api::Health::Draining } else { api::Health::Online };
        Ok(Response::new(api::HealthResponse { status: status.into(), serves: !draining, ..Default::default() }))
    }
}

/// Starts a fake node on a free port.
async fn fake(behaviour: Behaviour) -> (Arc<Fake>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (serve(listener, behaviour), address)
}

fn serve(listener: TcpListener, behaviour: Behaviour) -> Arc<Fake> {
    let fake = Arc::new(Fake {
        behaviour: Mutex::new(behaviour),
        values: Mutex::default(),
        writes: AtomicU32::new(0),
        reads: AtomicU32::new(0),
        write_came: Notify::new(),
        timeout_header: Mutex::default(),
        named: Mutex::default(),
    });
    let cluster = api::sized!(api::cluster_server::ClusterServer::new(Served(Arc::clone(&fake))));
    let node = api::node_server::NodeServer::new(Served(Arc::clone(&fake)));
    let server = Server::builder().add_service(cluster).add_service(node);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    fake
}

/// A node that takes TLS alone, and the number of connections that it has refused.
async fn tls_alone() -> (Arc<AtomicU32>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, refused) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&refused);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let text = crate::tls::TLS_ALONE.as_bytes();
                let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
                frames.extend([0, 0, u8::try_from(8 + text.len()).unwrap(), 7, 0, 0, 0, 0, 0]);
                frames.extend([0, 0, 0, 0, 0, 0, 0, 0x0c]);
                frames.extend(text);
                let _ = stream.write_all(&frames).await;
                let _ = stream.shutdown().await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    (refused, address)
}

/// An address on which no process listens, for as long as the socket lives: nobody else can bind it meanwhile.
fn dead() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// An address that accepts connections and never answers, like a paused process.
async fn paused() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Forwards each connection to `to` until `cut` is notified. Then all connections break, and none is accepted any more.
async fn proxy(to: String, cut: Arc<Notify>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let mut near = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                () = cut.notified() => return,
            };
            let mut far = TcpStream::connect(to.parse::<SocketAddr>().unwrap()).await.unwrap();
            connections.spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    address
}

/// A client whose first operation goes to the first address.
fn client<const N: usize>(addresses: [&str; N], deadline: Duration) -> Client {
    let client = addresses.into_iter().fold(Client::builder(), Builder::address).deadline(deadline).build().unwrap();
    client.pool.turn.store(0, Ordering::Relaxed);
    client
}

/// The same, where a client is named so already.
fn client_of<const N: usize>(addresses: [&str; N], deadline: Duration) -> Client {
    client(addresses, deadline)
}

fn failure(reason: FailureReason) -> Status {
    Failure::new(reason).to_status(reason.code(), "made by the test")
}

const AMPLE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn value_reads_back_as_text_or_binary_as_it_was_written() {
    let (_, address) = fake(Behaviour::Serve).await;
    let client = client([&address], AMPLE);
    assert_eq!(client.get("k").await.unwrap(), None);
    for value in [Value::from("text"), Value::from(""), Value::from(vec![0xff, 0]), Value::from(vec![7; 9 << 20])] {
        let Acknowledged { version, stamp } = client.set("k", value.clone()).await.unwrap();
        assert_eq!((version.as_str(), stamp.as_ref().unwrap().to_string().as_str()), (VERSION, "1.2@1"));
        assert_eq!(client.get("k").await.unwrap(), Some(Versioned { value, version, ttl: None, stamp }));
    }
    client.delete("k").await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn write_that_was_not_applied_goes_to_the_next_node() {
    for reason in [FailureReason::NotApplied, FailureReason::NotReady] {
        let (refuses, a) = fake(Behaviour::Fail(failure(reason))).await;
        let (serves, b) = fake(Behaviour::Serve).await;
        let client = client([&a, &b], AMPLE);
        for _ in 0..5 {
            client.set("k", "v").await.unwrap();
        }
        assert_eq!(serves.writes(), 5, "{reason}");
        assert_eq!(refuses.writes(), 1, "{reason}: it was set aside after the first");
    }
}

#[tokio::test]
async fn write_of_unknown_outcome_is_never_sent_again() {
    for status in [
        failure(FailureReason::OutcomeUnknown),
        // None of these statuses says whether the write was applied, so the outcome counts as unknown.
        failure(FailureReason::NoQuorum),
        failure(FailureReason::StoreFailed),
        failure(FailureReason::Damaged),
        Status::unavailable(""),
        Status::deadline_exceeded(""),
        Status::cancelled(""),
        Status::internal(""),
        Status::unknown(""),
        Status::resource_exhausted(""),
        Status::aborted(""),
        Status::out_of_range(""),
        Status::data_loss(""),
    ] {
        let (one, a) = fake(Behaviour::Fail(status.clone())).await;
        let (other, b) = fake(Behaviour::Serve).await;
        let client = client([&a, &b], AMPLE);
        let error = client.set("k", "v").await.unwrap_err();
        assert!(matches!(&error, ClientError::OutcomeUnknown { node } if node.address == a), "{status}: {error}");
        assert_eq!(one.writes() + other.writes(), 1, "{status}");
    }
}

#[tokio::test]
async fn write_that_names_a_version_is_sent_again_until_its_outcome_is_known() {
    for behaviour in [
        Behaviour::Silent,
        Behaviour::Fail(failure(FailureReason::OutcomeUnknown)),
        Behaviour::Fail(Status::unavailable("")),
        Behaviour::Fail(Status::internal("")),
    ] {
        let (one, a) = fake(behaviour).await;
        let (other, b) = fake(Behaviour::Serve).await;
        let client = client([&a, &b], Duration::from_secs(4));
        client.set("k", "v").if_version(VERSION).await.unwrap();
        let (first, again) = (one.named.lock().unwrap().remove(0), other.named.lock().unwrap().remove(0));
        assert_eq!(first.0.len(), 16);
        assert_eq!(
            (first.1, again),
            (false, (first.0.clone(), true)),
            "the same name, and that it is not the first try"
        );
        client.pool.turn.store(0, Ordering::Relaxed);
        let (one, c) = fake(Behaviour::Fail(Status::unavailable(""))).await;
        let client = client_of([&c, &b], Duration::from_secs(4));
        assert_eq!(client.add("n", 5).since(VERSION).await.unwrap(), Added { value: 5, version: VERSION.into() });
        assert_ne!(one.named.lock().unwrap()[0].0, first.0, "each request has a name of its own");
    }
}

#[tokio::test]
async fn write_without_a_version_is_not_sent_again_where_its_outcome_is_unknown() {
    let (one, a) = fake(Behaviour::Fail(Status::unavailable(""))).await;
    let (other, b) = fake(Behaviour::Serve).await;
    let client = || client([&a, &b], AMPLE);
    for error in [
        client().set("k", "v").if_absent().await.unwrap_err(),
        client().set("k", "v").if_present().await.unwrap_err(),
        client().delete("k").if_present().await.unwrap_err(),
        client().add("n", 1).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error}");
    }
    assert_eq!((one.writes(), other.writes()), (4, 0));
}

#[tokio::test]
async fn resend_ends_where_no_node_can_know_more_and_never_as_not_applied() {
    let (one, a) = fake(Behaviour::Fail(Status::unavailable(""))).await;
    let (other, b) = fake(Behaviour::Fail(failure(FailureReason::OutcomeUnknown))).await;
    let client = client([&a, &b], AMPLE);
    let began = Instant::now();
    let error = client.set("k", "v").if_version(VERSION).await.unwrap_err();
    assert!(matches!(&error, ClientError::OutcomeUnknown { node } if node.address == b), "{error}");
    assert!(began.elapsed() < AMPLE / 2 && (one.writes(), other.writes()) == (1, 1));

    // The first try may have been applied: that the second one was not looked at proves nothing.
    let (_, a) = fake(Behaviour::Fail(Status::unavailable(""))).await;
    let not_looked_at = Failure::new(FailureReason::OutcomeUnknown).to_status(Code::Unavailable, "draining");
    for refused in [not_looked_at, failure(FailureReason::NotApplied)] {
        let (_, b) = fake(Behaviour::Fail(refused)).await;
        let error = client_of([&a, &b], SHORT).set("k", "v").if_version(VERSION).await.unwrap_err();
        assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error}");
    }
    // Where every try was not applied, the write was not.
    let (one, a) = fake(Behaviour::Fail(failure(FailureReason::NotApplied))).await;
    let error = client_of([&a], SHORT).set("k", "v").if_version(VERSION).await.unwrap_err();
    assert!(matches!(error, ClientError::NotApplied { .. }), "{error}");
    assert!(one.named.lock().unwrap().iter().all(|(_, is_resend)| !is_resend));
}

#[tokio::test]
async fn write_whose_request_is_at_fault_is_not_sent_again() {
    let too_large = Failure::new(FailureReason::NotApplied).to_status(Code::OutOfRange, "too large");
    let (one, a) = fake(Behaviour::Fail(too_large)).await;
    let (other, b) = fake(Behaviour::Serve).await;
    let error = client([&a, &b], AMPLE).set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert_eq!((one.writes(), other.writes()), (1, 0));
}

/// A node that is late with a first try knows nothing of the resend beside it, which may have taken effect meanwhile.
#[tokio::test]
async fn condition_that_fails_a_first_try_says_nothing_of_the_resend_beside_it() {
    let current = Some(crate::wire::failure::Current { version: VERSION.into(), has_value: true });
    let failed = Failure { current, ..Failure::new(FailureReason::ConditionFailed) };
    let failed = failed.to_status(Code::FailedPrecondition, "");
    let (one, a) = fake(Behaviour::SlowFail(Duration::from_millis(600), failed)).await;
    let (other, b) = fake(Behaviour::Fail(Status::unavailable(""))).await;
    let client = client([&a, &b], Duration::from_secs(4));
    let error = client.set("k", "v").if_version(VERSION).await.unwrap_err();
    assert!(matches!(error, ClientError::ConditionFailed { .. }), "{error}");
    let named = one.named.lock().unwrap().clone();
    assert!(!named[0].1 && named.iter().any(|(_, is_resend)| *is_resend), "a resend is answered for all: {named:?}");
    assert!(other.writes() > 0);
}

#[tokio::test]
async fn refusal_of_a_resend_says_nothing_of_the_try_before() {
    let (_, a) = fake(Behaviour::Fail(Status::unavailable(""))).await;
    let (_, b) = fake(Behaviour::Fail(Status::unauthenticated("the token has expired"))).await;
    let error = client([&a, &b], SHORT).set("k", "v").if_version(VERSION).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error}");
}

#[tokio::test]
async fn batch_sends_again_each_write_that_did_not_happen_or_takes_effect_once() {
    let (node, address) = fake(Behaviour::Serve).await;
    let client = client([&address], Duration::from_secs(5));
    let writes = [client.set("a", "1").into(), client.delete("refused").into(), client.set("open", "1").into()];
    let results = client.batch_write(writes).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().version, VERSION);
    assert_eq!(results[1].as_ref().unwrap().version, VERSION, "it was refused once, and sent again");
    assert!(matches!(results[2], Err(ClientError::OutcomeUnknown { .. })), "{results:?}");
    assert_eq!((node.writes(), node.named.lock().unwrap().len()), (2, 0), "the open one was not sent again");

    let results = client.batch_write([client.set("open", "1").if_version(VERSION).into()]).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().version, VERSION, "a node has looked for it");
    let named = node.named.lock().unwrap().clone();
    assert!(matches!(&named[..], [(id, true)] if id.len() == 16), "{named:?}");

    for (writes, part) in [
        (Vec::new(), "0 writes: 1 to 1000"),
        (vec![client.set("a", "1").into(), client.delete("a").into()], "two writes of the batch are for key \"a\""),
        (vec![client.delete("").into()], "the key is empty"),
    ] {
        let error = client.batch_write(writes).await.unwrap_err();
        assert!(matches!(error, ClientError::InvalidInput { .. }) && error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn condition_that_does_not_hold_is_an_error_of_its_own_and_no_fault_of_the_node() {
    let current = |reason| Failure {
        current: Some(crate::wire::failure::Current { version: VERSION.into(), has_value: true }),
        ..Failure::new(reason)
    };
    let failed = current(FailureReason::ConditionFailed).to_status(Code::FailedPrecondition, "");
    let (one, a) = fake(Behaviour::Fail(failed)).await;
    let (other, b) = fake(Behaviour::Serve).await;
    let client = client([&a, &b], AMPLE);
    for set in [client.set("k", "v").if_absent(), client.set("k", "v").if_version(VERSION)] {
        client.pool.turn.store(0, Ordering::Relaxed);
        let error = set.await.unwrap_err();
        let expected =
            matches!(&error, ClientError::ConditionFailed { version, has_value: true } if version == VERSION);
        assert!(expected && error.to_string().contains(VERSION), "{error}");
    }
    assert_eq!((one.writes(), other.writes()), (2, 0));
    assert!(!client.pool.nodes()[0].is_avoided());
    one.set_behaviour(Behaviour::Fail(current(FailureReason::NotANumber).to_status(Code::FailedPrecondition, "")));
    client.pool.turn.store(0, Ordering::Relaxed);
    let error = client.add("k", 1).await.unwrap_err();
    assert!(matches!(&error, ClientError::NotANumber { version } if version == VERSION), "{error}");
}

#[tokio::test]
async fn update_goes_round_while_the_key_changes_and_ends_at_the_deadline() {
    let changed = Failure {
        current: Some(crate::wire::failure::Current { version: VERSION.into(), has_value: true }),
        ..Failure::new(FailureReason::ConditionFailed)
    };
    // The reads succeed and the writes fail, as where another client is always faster.
    let (one, a) = fake(Behaviour::FailWrites(changed.to_status(Code::FailedPrecondition, ""))).await;
    let mut calls = 0;
    let updated = client([&a], SHORT)
        .update("k", |old| {
            calls += 1;
            assert!(old.is_none());
            Some("v")
        })
        .await;
    assert!(matches!(updated, Err(ClientError::ConditionFailed { .. })), "{updated:?}");
    assert!(calls > 3 && one.writes() == calls, "{calls}");
    one.set_behaviour(Behaviour::Serve);
    let client = client([&a], AMPLE);
    assert!(client.update("k", |_| Some("v")).await.unwrap().is_some());
    assert_eq!(client.update("k", |_| None::<&str>).await.unwrap(), None);
    let (unknown, b) = fake(Behaviour::FailWrites(Status::unavailable(""))).await;
    let updated = client_of([&b], SHORT).update("k", |_| Some("v")).await;
    assert!(matches!(updated, Err(ClientError::OutcomeUnknown { .. })), "{updated:?}");
    let names: std::collections::BTreeSet<Bytes> =
        unknown.named.lock().unwrap().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), 1, "it is one write, however often it is sent");
}

#[tokio::test]
async fn write_whose_connection_breaks_after_it_was_sent_is_of_unknown_outcome() {
    let (one, behind) = fake(Behaviour::Silent).await;
    let (other, b) = fake(Behaviour::Serve).await;
    let cut = Arc::new(Notify::new());
    let a = proxy(behind, Arc::clone(&cut)).await;
    let client = client([&a, &b], AMPLE);
    let writing = tokio::spawn(async move { client.set("k", "v").await });
    tokio::time::timeout(AMPLE, one.write_came.notified()).await.expect("the write reaches the first node");
    cut.notify_one();
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error}");
    assert_eq!((one.writes(), other.writes()), (1, 0));
}

#[tokio::test]
async fn write_that_never_left_goes_to_the_next_node() {
    let (one, behind) = fake(Behaviour::Serve).await;
    let (other, b) = fake(Behaviour::Serve).await;
    let cut = Arc::new(Notify::new());
    let a = proxy(behind, Arc::clone(&cut)).await;
    let client = client([&a, &b], AMPLE);
    client.set("k", "v").await.unwrap();
    cut.notify_one();
    while TcpStream::connect(&a).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // By now the client's connection is closed too. Give the task that watches it time to notice.
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.pool.turn.store(0, Ordering::Relaxed);
    assert!(client.pool.nodes()[0].answered_recently(), "the write goes without a health check");
    client.set("k", "v").await.unwrap();
    assert_eq!((one.writes(), other.writes()), (1, 1));
}

#[tokio::test]
async fn refused_request_is_not_asked_again() {
    for status in [
        failure(FailureReason::InvalidArgument),
        Status::invalid_argument("bad"),
        Status::unimplemented("not here"),
        Status::permission_denied("no"),
    ] {
        let (one, a) = fake(Behaviour::Fail(status)).await;
        let (other, b) = fake(Behaviour::Serve).await;
        let write = client([&a, &b], AMPLE).set("k", "v").await;
        let read = client([&a, &b], AMPLE).get("k").await;
        assert!(matches!(write, Err(ClientError::Refused { .. })), "{write:?}");
        assert!(matches!(read, Err(ClientError::Refused { .. })), "{read:?}");
        assert_eq!((one.writes(), one.reads(), other.writes(), other.reads()), (1, 1, 0, 0));
    }
}

#[tokio::test]
async fn dead_node_costs_no_error() {
    let (_, alive) = fake(Behaviour::Serve).await;
    let ((_one, a), (_other, b)) = (dead(), dead());
    let client = client([&a, &alive, &b], AMPLE);
    for i in 0..20 {
        client.set(format!("k{i}"), "v").await.unwrap();
        assert!(client.get(format!("k{i}")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn all_dead_says_not_applied_for_a_write_and_unavailable_for_a_read() {
    let ((_one, a), (_other, b)) = (dead(), dead());
    let client = client([&a, &b], Duration::from_secs(2));
    let write = client.set("k", "v").await;
    assert!(
        matches!(&write, Err(ClientError::NotApplied { last, .. }) if last.message.contains("refused")),
        "{write:?}"
    );
    let read = client.get("k").await;
    assert!(
        matches!(&read, Err(ClientError::Unavailable { last, .. }) if last.message.contains("refused")),
        "{read:?}"
    );
}

#[tokio::test]
async fn read_does_not_wait_for_a_silent_node() {
    let (silent, a) = fake(Behaviour::Silent).await;
    let (_, b) = fake(Behaviour::Serve).await;
    let client = client([&a, &b], Duration::from_secs(4));
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(client.get("k").await.unwrap(), None);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(silent.reads() >= 1);
}

#[tokio::test]
async fn read_that_a_node_could_not_answer_is_asked_of_the_next() {
    use FailureReason::{Damaged, NoQuorum, NotApplied, NotReady, StoreFailed};
    for reason in [NoQuorum, NotApplied, NotReady, StoreFailed, Damaged] {
        let (_, a) = fake(Behaviour::Fail(failure(reason))).await;
        let (_, b) = fake(Behaviour::Serve).await;
        assert_eq!(client([&a, &b], AMPLE).get("k").await.unwrap(), None, "{reason}");
    }
}

#[tokio::test]
async fn write_is_not_entrusted_to_a_paused_node() {
    let (_listener, a) = paused().await;
    let (serves, b) = fake(Behaviour::Serve).await;
    let client = client([&a, &b], Duration::from_secs(4));
    let began = Instant::now();
    for _ in 0..10 {
        client.set("k", "v").await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(serves.writes(), 10);
}

#[tokio::test]
async fn write_to_a_paused_node_alone_is_certainly_not_applied() {
    let (_listener, a) = paused().await;
    let error = client([&a], SHORT).set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NotApplied { .. }), "{error}");
}

#[tokio::test]
async fn write_avoids_a_node_that_drains_but_a_lone_slow_one_is_waited_for() {
    let (drains, a) = fake(Behaviour::Draining).await;
    let (slow, b) = fake(Behaviour::Slow(Duration::from_millis(300))).await;
    client([&a, &b], Duration::from_secs(2)).set("k", "v").await.unwrap();
    assert_eq!((drains.writes(), slow.writes()), (0, 1));
}

#[tokio::test]
async fn deadline_is_sent_to_the_node_and_kept() {
    let (silent, a) = fake(Behaviour::Silent).await;
    let client = client([&a], AMPLE).with_deadline(SHORT);
    for (method, error) in
        [("set", client.set("k", "v").await.unwrap_err()), ("get", client.get("k").await.unwrap_err())]
    {
        let unknown = matches!(error, ClientError::OutcomeUnknown { .. });
        assert!(
            unknown == (method == "set") && (unknown || matches!(error, ClientError::Unavailable { .. })),
            "{error}"
        );
        let header = silent.timeout_header.lock().unwrap().clone().unwrap();
        let (number, unit) = header.split_at(header.len() - 1);
        let nanos = number.parse::<u64>().unwrap() * if unit == "u" { 1_000 } else { 1 };
        assert!(matches!(unit, "u" | "n") && nanos <= 400_000_000, "{method}: {header}");
    }
    let began = Instant::now();
    client.get("k").await.unwrap_err();
    let took = began.elapsed();
    assert!(
        took >= SHORT.saturating_sub(Duration::from_millis(50)) && took < SHORT + Duration::from_secs(1),
        "{took:?}"
    );
}

#[tokio::test]
async fn node_that_comes_back_is_used_again() {
    let (first, a) = fake(Behaviour::Fail(failure(FailureReason::NotApplied))).await;
    let (_, b) = fake(Behaviour::Serve).await;
    let client = client([&a, &b], AMPLE);
    client.set("k", "v").await.unwrap();
    first.set_behaviour(Behaviour::Serve);
    let refused = first.writes();
    let waiting = Instant::now();
    while first.writes() == refused {
        assert!(waiting.elapsed() < AMPLE, "it was never asked again");
        client.set("k", "v").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn bad_input_is_refused_and_not_sent() {
    let (fake, a) = fake(Behaviour::Serve).await;
    let client = client([&a], AMPLE);
    for error in [
        client.get("").await.unwrap_err(),
        client.set("k".repeat(KEY_BYTES_MAX + 1), "v").await.unwrap_err(),
        client.set("k", vec![0; VALUE_BYTES_MAX + 1]).await.unwrap_err(),
        client.delete("").await.unwrap_err(),
        client.add("", 1).await.unwrap_err(),
        client.set("k", "v").if_version("").await.unwrap_err(),
        client.delete("k").if_version("").await.unwrap_err(),
        client.add("k", 1).since("").await.unwrap_err(),
        client.get("k").at_least("").await.unwrap_err(),
        client.set("k", "v").ttl(Duration::ZERO).await.unwrap_err(),
        client.add("k", 1).ttl(Duration::MAX).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::InvalidInput { .. }), "{error}");
    }
    assert_eq!((fake.reads(), fake.writes()), (0, 0));
    let none: [&str; 0] = [];
    let error = Client::new(none).unwrap_err();
    assert!(matches!(error, ClientError::InvalidInput { problem: InputProblem::NoAddress }));
}

#[tokio::test]
async fn answer_about_another_key_is_not_believed() {
    let (one, a) = fake(Behaviour::Serve).await;
    let wrong = api::Entry { key: "other".into(), content: None };
    one.values.lock().unwrap().insert("k".into(), wrong);
    let error = client([&a], SHORT).get("k").await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable { last, .. } if last.message.contains("bad answer")), "{error}");
}

#[test]
fn operations_may_run_in_tasks_of_their_own() {
    fn sendable(_: impl Send + 'static) {}
    let client = Client::new(["127.0.0.1:1"]).unwrap();
    sendable(async move { client.set("k", "v").await });
}

#[tokio::test]
async fn node_that_takes_tls_alone_is_passed_over_and_named_if_no_other_one_answers() {
    let (refused, moved) = tls_alone().await;
    let (node, plain) = fake(Behaviour::Serve).await;
    let half_moved = client([&moved, &plain], AMPLE);
    for turn in 0..6_u32 {
        half_moved.set(format!("k{turn}"), "v").await.unwrap();
        half_moved.get(format!("k{turn}")).await.unwrap().expect("it was written");
    }
    assert_eq!(node.writes(), 6);
    assert!(refused.load(Ordering::SeqCst) > 0, "it was never asked");

    // Nobody to turn to: it ends at once, and not at the deadline.
    let (_, also_moved) = tls_alone().await;
    let all_moved = client([&moved, &also_moved], AMPLE);
    let began = Instant::now();
    for error in [all_moved.get("k").await.unwrap_err(), all_moved.set("k", "v").await.unwrap_err()] {
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        assert!(error.to_string().ends_with(": this node takes TLS alone: give --ca"), "{error}");
    }
    assert!(began.elapsed() < AMPLE / 2, "{:?}", began.elapsed());

    // Another node is away, and may come back.
    let (_socket, away) = dead();
    let one_away = client([&moved, &away], SHORT);
    let error = one_away.get("k").await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }) && error.to_string().contains("give --ca"), "{error}");
    let error = one_away.set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NotApplied { .. }) && error.to_string().contains("give --ca"), "{error}");
}

#[tokio::test]
async fn node_that_does_not_know_the_caller_is_passed_over_and_named_if_no_other_one_does() {
    let unknown = || {
        let failure = crate::wire::failure::Failure::new(FailureReason::Unauthenticated);
        Behaviour::Fail(failure.to_status(Code::Unauthenticated, "the token is not known here"))
    };
    let (behind, late) = fake(unknown()).await;
    let (node, current) = fake(Behaviour::Serve).await;
    let some_know = client([&late, &current], AMPLE);
    for turn in 0..6_u32 {
        some_know.set(format!("k{turn}"), "v").await.unwrap();
        some_know.get(format!("k{turn}")).await.unwrap().expect("it was written");
    }
    assert_eq!(node.writes(), 6);
    assert!(behind.writes() + behind.reads() > 0, "it was never asked");

    let (_, also_late) = fake(unknown()).await;
    let nobody_knows = client([&late, &also_late], AMPLE);
    let began = Instant::now();
    let error = nobody_knows.get("k").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }) && error.to_string().contains("not known here"), "{error}");
    assert!(began.elapsed() < AMPLE / 2, "{:?}", began.elapsed());
}
