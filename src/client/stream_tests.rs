//! Lists and watches against servers in this process that do as their test says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;
use crate::api::watch_response::Event;
use crate::wire::failure::{Failure, FailureReason};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a fake node says to one call after the other, and what it was asked.
struct Script<Q, A> {
    answers: Mutex<VecDeque<Vec<Result<A, Status>>>>,
    asked: Mutex<Vec<Q>>,
}

impl<Q, A: Send + 'static> Script<Q, A> {
    fn new(answers: impl IntoIterator<Item = Vec<Result<A, Status>>>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() }
    }

    /// A call beyond the script is refused as by a node that ends.
    fn call(&self, request: Request<Q>) -> Result<Response<Answers<A>>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let answers = self.answers.lock().unwrap().pop_front();
        let answers = answers.ok_or_else(|| failure(FailureReason::NotReady))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }
}

struct Fake {
    lists: Script<api::ListRequest, api::ListResponse>,
    watches: Script<api::WatchRequest, api::WatchResponse>,
}

struct Served(Arc<Fake>);

#[tonic::async_trait]
impl api::cluster_server::Cluster for Served {
    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<Answers<api::ListResponse>>, Status> {
        self.0.lists.call(request)
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Answers<api::WatchResponse>>, Status> {
        self.0.watches.call(request)
    }
}

struct Healthy;

#[tonic::async_trait]
impl api::node_server::Node for Healthy {
    async fn health(&self, _: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        let status = api::Health::Online.into();
        Ok(Response::new(api::HealthResponse { status, serves: true, ..Default::default() }))
    }
}

async fn serve(fake: Fake) -> (Arc<Fake>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fake = Arc::new(fake);
    let cluster = api::cluster_server::ClusterServer::new(Served(Arc::clone(&fake)));
    let server = Server::builder().add_service(cluster).add_service(api::node_server::NodeServer::new(Healthy));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (fake, address)
}

/// A fake node that answers lists so.
async fn listing(answers: impl IntoIterator<Item = Vec<Result<api::ListResponse, Status>>>) -> (Arc<Fake>, String) {
    serve(Fake { lists: Script::new(answers), watches: Script::new([]) }).await
}

/// A fake node that answers watches so.
async fn watched(answers: impl IntoIterator<Item = Vec<Result<api::WatchResponse, Status>>>) -> (Arc<Fake>, String) {
    serve(Fake { lists: Script::new([]), watches: Script::new(answers) }).await
}

fn client(addresses: &[&str], deadline: Duration) -> Client {
    let client =
        addresses.iter().copied().fold(Client::builder(), Builder::address).deadline(deadline).build().unwrap();
    client.pool.turn.store(0, std::sync::atomic::Ordering::Relaxed);
    client
}

fn failure(reason: FailureReason) -> Status {
    Failure::new(reason).to_status(reason.code(), "made by the test")
}

#[expect(clippy::unnecessary_wraps, reason = "a stream has results")]
fn page(keys: &[&str], next: Option<&str>) -> Result<api::ListResponse, Status> {
    let entry = |key: &&str| api::ListedEntry { key: (*key).to_owned(), version: "AA".into(), ..Default::default() };
    Ok(api::ListResponse { entries: keys.iter().map(entry).collect(), next: next.map(str::to_owned) })
}

async fn keys(list: List) -> Result<Vec<String>, ClientError> {
    Ok(list.collect().await?.into_iter().map(|listed| listed.key).collect())
}

const AMPLE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn list_goes_on_at_the_next_node_where_one_ends_or_cuts_it_off() {
    let (one, a) =
        listing([vec![page(&["a", "b"], Some("b")), Err(failure(FailureReason::NotReady))], vec![page(&["e"], None)]])
            .await;
    // A stream that ends without a last page was cut off.
    let (other, b) = listing([vec![page(&["c", "d"], Some("d"))], vec![page(&["e"], None)]]).await;
    let listed = keys(client(&[&a, &b], AMPLE).list("p").values()).await.unwrap();
    assert_eq!(listed, ["a", "b", "c", "d", "e"]);
    let asked = other.lists.asked.lock().unwrap()[0].clone();
    let expected = api::ListRequest { prefix: "p".into(), start_after: "b".into(), values: true, ..Default::default() };
    assert_eq!(asked, expected);
    assert_eq!(one.lists.asked.lock().unwrap()[0].start_after, "");
}

#[tokio::test]
async fn limit_counts_over_nodes_and_an_empty_page_is_no_end() {
    let (_, a) = listing([vec![page(&["a", "b"], Some("b")), Err(failure(FailureReason::NoQuorum))]]).await;
    let (other, b) = listing([vec![page(&[], Some("bb")), page(&["c"], Some("c"))]]).await;
    let listed = keys(client(&[&a, &b], AMPLE).list("").start_after("0").limit(3)).await.unwrap();
    assert_eq!(listed, ["a", "b", "c"]);
    let asked = other.lists.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.limit, asked.start_after.as_str()), (1, "b"));
}

#[tokio::test]
async fn list_ends_with_an_error_where_nobody_goes_on_or_the_request_is_refused() {
    let (_, a) = listing([vec![page(&["a"], Some("a")), Err(failure(FailureReason::NotReady))]]).await;
    let mut list = client(&[&a], SHORT).list("").stream();
    assert_eq!(list.next().await.unwrap().unwrap().key, "a", "what was told before holds");
    let error = StreamExt::next(&mut list).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
    assert!(list.next().await.is_none());

    let (fake, a) = listing([vec![Err(failure(FailureReason::InvalidArgument))]]).await;
    let error = keys(client(&[&a], AMPLE).list("")).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert_eq!(fake.lists.asked.lock().unwrap().len(), 1);
}

/// A process that is paused takes a connection, and a call too.
#[tokio::test]
async fn list_and_watch_pass_over_a_node_that_is_paused() {
    let paused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let a = paused.local_addr().unwrap().to_string();
    let began = Instant::now();
    let (_, b) = listing([vec![page(&["a"], None)]]).await;
    assert_eq!(keys(client(&[&a, &b], AMPLE).list("")).await.unwrap(), ["a"]);
    let (_, b) = watched([vec![ready("1")]]).await;
    let mut watching = client(&[&a, &b], AMPLE).watch("").stream();
    assert_eq!(watching.next().await.unwrap().unwrap(), WatchEvent::Ready);
    assert!(began.elapsed() < AMPLE / 2, "{:?}", began.elapsed());
}

#[expect(clippy::unnecessary_wraps, reason = "a stream has results")]
fn event(cursor: &'static str, event: Event) -> Result<api::WatchResponse, Status> {
    Ok(api::WatchResponse { cursor: cursor.as_bytes().into(), event: Some(event) })
}

fn ready(cursor: &'static str) -> Result<api::WatchResponse, Status> {
    event(cursor, Event::Ready(api::WatchReady {}))
}

fn deleted(cursor: &'static str, key: &str) -> Result<api::WatchResponse, Status> {
    event(cursor, Event::Deleted(api::WatchDeleted { key: key.into(), version: "AA".into() }))
}

/// The events before an error, in short.
async fn told(watch: Watch) -> Vec<String> {
    let mut watching = watch.stream();
    let mut told = Vec::new();
    while let Some(Ok(event)) = watching.next().await {
        told.push(match event {
            WatchEvent::Ready => "ready".to_owned(),
            WatchEvent::Reset => "reset".to_owned(),
            WatchEvent::Set { key, .. } => format!("set {key}"),
            WatchEvent::Deleted { key, .. } => format!("deleted {key}"),
        });
    }
    told
}

#[tokio::test]
async fn watch_goes_on_at_the_next_node_with_its_cursor_and_is_ready_once() {
    let gone = || Err(failure(FailureReason::NotReady));
    let (one, a) =
        watched([vec![ready("1"), deleted("2", "a"), event("3", Event::Heartbeat(api::WatchHeartbeat {})), gone()]])
            .await;
    let (other, b) = watched([vec![ready("4"), deleted("5", "b"), gone()]]).await;
    let watch = client(&[&a, &b], SHORT).watch("p").values();
    assert_eq!(told(watch).await, ["ready", "deleted a", "deleted b"]);
    let first = one.watches.asked.lock().unwrap()[0].clone();
    assert_eq!((first.cursor.len(), first.values, first.keys), (0, true, Some(Keys::Prefix("p".into()))));
    assert_eq!(&other.watches.asked.lock().unwrap()[0].cursor[..], b"3", "a heartbeat moves the cursor on");
}

#[tokio::test]
async fn watch_that_must_begin_anew_says_so_before_it_tells_more() {
    let gone = || Err(failure(FailureReason::NotReady));
    // Without a cursor there is nothing to go on with: whatever was told may have changed since.
    let (_, a) = watched([vec![deleted("", "a"), gone()]]).await;
    let (other, b) = watched([
        vec![deleted("", "b"), ready("1"), event("2", Event::Reset(api::WatchReset {}))],
        vec![ready("3"), gone()],
    ])
    .await;
    let watch = client(&[&a, &b, &b], SHORT).watch("");
    assert_eq!(told(watch).await, ["deleted a", "reset", "deleted b", "ready", "reset", "ready"]);
    let asked = other.watches.asked.lock().unwrap();
    assert_eq!(asked[0].cursor, "", "{asked:?}");
}

#[tokio::test]
async fn what_is_there_is_asked_for_with_each_call_and_told_again_where_the_cursor_is_lost() {
    let gone = || Err(failure(FailureReason::NotReady));
    let put = |cursor, key: &str| {
        event(cursor, Event::Put(api::WatchPut { key: key.into(), version: "AA".into(), entry: None, ttl: None }))
    };
    // The first node ends in the middle of what is there, the second one after it.
    let (one, a) = watched([vec![put("", "a"), gone()]]).await;
    let (other, b) = watched([vec![put("", "a"), put("", "b"), ready("1"), gone()]]).await;
    let (last, c) = watched([vec![ready("2"), deleted("3", "a"), gone()]]).await;
    let watch = client(&[&a, &b, &c], SHORT).watch("").with_list();
    assert_eq!(told(watch).await, ["set a", "reset", "set a", "set b", "ready", "deleted a"]);
    for (fake, cursor) in [(one, ""), (other, ""), (last, "1")] {
        let asked = fake.watches.asked.lock().unwrap()[0].clone();
        assert_eq!((asked.with_list, &asked.cursor[..]), (true, cursor.as_bytes()));
    }
}

#[tokio::test]
async fn watch_that_is_refused_ends_and_keeps_its_cursor() {
    let (fake, a) = watched([vec![ready("1"), Err(failure(FailureReason::InvalidArgument))]]).await;
    let mut watching = client(&[&a], AMPLE).watch_key("k").unwrap().cursor("0").stream();
    assert_eq!(&watching.cursor()[..], b"0");
    assert_eq!(watching.next().await.unwrap().unwrap(), WatchEvent::Ready);
    let error = watching.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert!(watching.next().await.is_none());
    assert_eq!(&watching.cursor()[..], b"1");
    assert_eq!(fake.watches.asked.lock().unwrap()[0].keys, Some(Keys::Key("k".into())));
}
