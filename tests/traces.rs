//! Traces of requests through three nodes, as a collector of OpenTelemetry gets them.

mod testkit;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use quorate::api;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use testkit::cluster::{Cluster, Plan, TestNode};
use testkit::process::{poll, read};
use testkit::redis::RedisClient;

const SPAN_OF_CALLER: &str = "00f067aa0ba902b7";
const KEY: &str = "a-key-that-no-span-has";
const VALUE: &str = "a-value-that-no-span-has";
/// Spans wait half a second for others, and the machine may be busy.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(20);

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Taken>>>);

/// A span, and the node that has sent it.
#[derive(Clone, Debug)]
struct Taken {
    node: String,
    span: Span,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_node in request.into_inner().resource_spans {
            let resource = of_node.resource.expect("the node says who it is");
            assert_eq!(text(&resource.attributes, "service.name"), "quorate");
            let node = text(&resource.attributes, "service.instance.id");
            let spans = of_node.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| Taken { node: node.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// A collector that listens, and its URL.
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, url)
    }

    fn all(&self) -> Vec<Taken> {
        self.0.lock().unwrap().clone()
    }

    /// The spans of `trace`, once so many of each name are there.
    async fn spans(&self, trace: &str, expected: &[(&str, usize)]) -> Vec<Taken> {
        poll("the spans arrive", ARRIVAL_TIME_MAX, async || {
            let spans: Vec<Taken> = self.all().into_iter().filter(|taken| hex(&taken.span.trace_id) == trace).collect();
            let are_there = expected.iter().all(|(name, count)| named(&spans, name).len() >= *count);
            if are_there { Ok(spans) } else { Err(format!("not all of {expected:?}: {spans:#?}")) }
        })
        .await
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn attribute(attributes: &[KeyValue], name: &str) -> Value {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    found.and_then(|found| found.value.clone()?.value).unwrap_or_else(|| panic!("no {name} in {attributes:?}"))
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    match attribute(attributes, name) {
        Value::StringValue(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn number(taken: &Taken, name: &str) -> i64 {
    match attribute(&taken.span.attributes, name) {
        Value::IntValue(number) => number,
        other => panic!("{name} is {other:?}"),
    }
}

fn named<'a>(spans: &'a [Taken], name: &str) -> Vec<&'a Taken> {
    spans.iter().filter(|taken| taken.span.name == name).collect()
}

/// The only span of this name.
fn one<'a>(spans: &'a [Taken], name: &str) -> &'a Taken {
    let [taken] = named(spans, name)[..] else { panic!("not one {name} in {spans:#?}") };
    taken
}

fn kind(taken: &Taken) -> SpanKind {
    SpanKind::try_from(taken.span.kind).unwrap()
}

/// Three nodes with JSON logs, each started with these further lines.
async fn cluster(lines: String, change: impl Fn(&mut TestNode)) -> Cluster {
    let plan = Plan { node_lines: lines.leak(), doors: true, ..Plan::default() };
    let mut cluster = Cluster::prepare(&plan);
    for node in &mut cluster.nodes {
        node.arguments.extend(["--log-format".into(), "json".into()]);
        change(node);
    }
    cluster.start_all();
    cluster.wait_all_linked().await;
    cluster
}

fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{SPAN_OF_CALLER}-{flags}")
}

/// Writes the key at `node` over gRPC, with the span of the caller, if any.
async fn set(node: &TestNode, parent: Option<String>) -> Result<(), Status> {
    let content = Some(api::entry::Content::Value(VALUE.to_owned()));
    let entry = Some(api::Entry { key: KEY.to_owned(), content });
    let mut request = Request::new(api::SetRequest { entry, ..Default::default() });
    if let Some(parent) = parent {
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    }
    request.set_timeout(Duration::from_secs(3));
    node.cluster_client().set(request).await.map(drop)
}

/// Sends a request over HTTP. Its answer must say that it was done.
async fn put(node: &TestNode, path: &str, parent: &str, body: &str) {
    let mut connection = TcpStream::connect(node.http_address()).await.unwrap();
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\ntraceparent: {parent}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}",
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

/// Checks the spans of one write through three replicas, which node 1 has coordinated. Node 3 sends no spans.
fn assert_shows_a_write(spans: &[Taken], door: &str) {
    let request = one(spans, "Cluster/Set");
    assert_eq!((request.node.as_str(), kind(request)), ("1", SpanKind::Server));
    assert_eq!(hex(&request.span.parent_span_id), SPAN_OF_CALLER);
    assert_eq!(text(&request.span.attributes, "quorate.door"), door);
    assert_eq!(text(&request.span.attributes, "quorate.code"), "OK");
    let coordinator = one(spans, "coordinate set");
    assert_eq!(coordinator.span.parent_span_id, request.span.span_id);
    assert_eq!((coordinator.node.as_str(), kind(coordinator)), ("1", SpanKind::Internal));
    assert_eq!(number(coordinator, "quorate.replicas_asked"), 3);
    assert!(number(coordinator, "quorate.rounds") >= 2, "a clock round, and the record: {coordinator:?}");
    assert!(number(coordinator, "quorate.request_bytes") >= i64::try_from(KEY.len() + VALUE.len()).unwrap());
    let asked = |question: &str| {
        let asked = named(spans, question);
        for taken in &asked {
            assert_eq!(taken.span.parent_span_id, coordinator.span.span_id);
            assert_eq!((taken.node.as_str(), kind(taken)), ("1", SpanKind::Client));
            assert!(taken.span.start_time_unix_nano + 1_000_000 >= coordinator.span.start_time_unix_nano);
            assert!(number(taken, "quorate.sent") >= 1);
        }
        let replicas = asked.iter().map(|taken| text(&taken.span.attributes, "quorate.replica"));
        (asked.len(), replicas.collect::<BTreeSet<_>>())
    };
    assert_eq!(asked("ask store"), (3, ["1", "2", "3"].map(str::to_owned).into()));
    let (count, replicas) = asked("ask clock");
    assert!(count >= 2 && replicas.contains("1"), "{replicas:?}");
    // The other replica that has a tracer shows its own part.
    let stored = one(spans, "answer store");
    assert_eq!((stored.node.as_str(), kind(stored)), ("2", SpanKind::Server));
    let asks = named(spans, "ask store");
    let question = asks.iter().find(|taken| taken.span.span_id == stored.span.parent_span_id).expect("its parent");
    assert_eq!(text(&question.span.attributes, "quorate.replica"), "2");
    assert_eq!(text(&stored.span.attributes, "quorate.coordinator"), "1");
    assert_eq!(attribute(&stored.span.attributes, "quorate.durable"), Value::BoolValue(true));
    let took = |taken: &Taken| taken.span.end_time_unix_nano - taken.span.start_time_unix_nano;
    assert!(took(stored) <= took(question) + 1_000_000, "{stored:?} in {question:?}");
}

#[tokio::test]
async fn request_is_shown_with_each_replica_in_the_trace_of_its_caller() {
    let (collector, url) = Collector::start().await;
    let lines = format!("  traces_endpoint: {url}\n  traces_sampled: 0\n");
    let off = |node: &mut TestNode| {
        if node.id == "3" {
            node.environment.push(("QUORATE_NODE_TRACES_ENDPOINT".to_owned(), "".into()));
        }
    };
    let mut cluster = cluster(lines, off).await;
    let [grpc, http, table] = ["1", "2", "3"].map(|digit| digit.repeat(32));
    // The first requests find everything warm, so that nothing is sent again.
    set(&cluster.nodes[0], None).await.unwrap();
    set(&cluster.nodes[0], Some(parent(&"f".repeat(32), "00"))).await.unwrap();
    put(&cluster.nodes[0], "/v1/tables/carts", &parent(&"e".repeat(32), "00"), "").await;

    set(&cluster.nodes[0], Some(parent(&grpc, "01"))).await.unwrap();
    let enough = &[("Cluster/Set", 1), ("coordinate set", 1), ("ask clock", 2), ("ask store", 3), ("answer store", 1)];
    assert_shows_a_write(&collector.spans(&grpc, enough).await, "grpc");
    put(&cluster.nodes[0], &format!("/v1/tables/default/keys/{KEY}"), &parent(&http, "01"), VALUE).await;
    assert_shows_a_write(&collector.spans(&http, enough).await, "http");
    put(&cluster.nodes[0], &format!("/v1/tables/carts/keys/{KEY}"), &parent(&table, "01"), VALUE).await;
    assert_shows_a_write(&collector.spans(&table, enough).await, "http");

    // A node without a collector traces nothing, whatever its callers say.
    set(&cluster.nodes[2], Some(parent(&"4".repeat(32), "01"))).await.unwrap();
    // Without a majority the request fails, and the log names its trace.
    let failed = "5".repeat(32);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    set(&cluster.nodes[0], Some(parent(&failed, "01"))).await.unwrap_err();
    let spans = collector.spans(&failed, &[("Cluster/Set", 1), ("coordinate set", 1)]).await;
    let request = one(&spans, "Cluster/Set");
    assert_eq!(request.span.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(one(&spans, "coordinate set").span.status.as_ref().unwrap().code(), StatusCode::Error);
    let log = read(&cluster.nodes[0].log);
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.into_iter().find(|line| line["trace_id"] == failed.as_str()).expect("a line of the failure");
    assert!(line["message"].as_str().unwrap().starts_with("request failed"), "{line}");

    // The end of a node sends what is left.
    cluster.nodes[0].terminate().await;
    let all = collector.all();
    let traces: BTreeSet<String> = all.iter().map(|taken| hex(&taken.span.trace_id)).collect();
    assert_eq!(traces, BTreeSet::from([grpc, http, table, failed]), "nothing else was traced");
    let everything = format!("{all:?}");
    assert!(!everything.contains(KEY) && !everything.contains(VALUE), "spans hold no keys and no values");
}

#[tokio::test]
async fn every_door_is_traced_by_chance() {
    let (collector, url) = Collector::start().await;
    let mut cluster = cluster(format!("  traces_endpoint: {url}\n  traces_sampled: 1\n"), |_| {}).await;
    let node = &cluster.nodes[0];
    set(node, None).await.unwrap();
    RedisClient::new(&node.redis_address()).send(&[b"SET", KEY.as_bytes(), b"1"]).await.expect("an answer");
    RedisClient::new(&node.redis_address()).send(&[b"INCR", KEY.as_bytes()]).await.expect("an answer");
    testkit::lines::LineClient::new(&node.line_address()).send(&format!("GET default {KEY}")).await.expect("an answer");
    cluster.nodes[0].terminate().await;
    let all = collector.all();
    for (door, operation) in [("grpc", "set"), ("redis", "set"), ("redis", "change"), ("lines", "get")] {
        let of_door = |taken: &&Taken| {
            taken.span.name.starts_with("Cluster/") && text(&taken.span.attributes, "quorate.door") == door
        };
        let has_work = |request: &Taken| {
            let works = named(&all, &format!("coordinate {operation}"));
            works.iter().any(|work| work.span.parent_span_id == request.span.span_id)
        };
        assert!(all.iter().filter(of_door).any(has_work), "{door}: {operation} in {all:#?}");
    }
}

#[tokio::test]
async fn collector_that_is_away_delays_nobody() {
    // Nobody listens there.
    let port = testkit::ports::free_port();
    let mut cluster =
        cluster(format!("  traces_endpoint: http://127.0.0.1:{port}\n  traces_sampled: 1\n"), |_| {}).await;
    for _ in 0..20 {
        set(&cluster.nodes[0], None).await.unwrap();
    }
    poll("the spans are given up", ARRIVAL_TIME_MAX, async || {
        let dropped = cluster.nodes[0].metric("quorate_traces_dropped_total").await?;
        if dropped > 0.0 { Ok(()) } else { Err(format!("{dropped} were dropped")) }
    })
    .await;
    cluster.nodes[0].wait_log(&["the collector takes no traces"]).await;
    let took = cluster.nodes[0].terminate().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let log = read(&cluster.nodes[0].log);
    assert_eq!(log.matches("the collector takes no traces").count(), 1, "{log}");
}
