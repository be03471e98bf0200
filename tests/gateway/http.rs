//! HTTP for clients, over real sockets: values, conditions, lists, batches, watches, and what is refused.

mod commands;
mod discovery;
mod input;
mod lists;
mod tables;
mod watches;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Plan, Served, start, start_one, start_some, until};

/// An answer over HTTP/1.1.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// By names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status, and the last part of the problem's type.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status);
        assert!(json["title"].is_string() && json["detail"].is_string(), "{json}");
        let kind = json["type"].as_str().unwrap().strip_prefix("urn:quorate:problem:").unwrap().to_owned();
        (self.status, kind)
    }

    /// Reads an answer from the bytes of a connection that was closed after it.
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no head in {:?}", String::from_utf8_lossy(bytes));
        });
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            body = unchunked(&body);
        }
        Self { status, headers, body }
    }
}

/// The content of chunks, up to the last one or to the end.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let chunk = &rest[end + 2..];
        content.extend_from_slice(&chunk[..length.min(chunk.len())]);
        rest = chunk.get(length + 2..).unwrap_or_default();
    }
    content
}

/// Sends `bytes` on a connection of their own, and returns all that comes back.
async fn exchange(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// One request, and its answer.
async fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        let _ = write!(request, "host: {address}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        let _ = write!(request, "content-length: {}\r\n", body.len());
    }
    let bytes = [request.as_bytes(), b"\r\n", body].concat();
    Answer::parse(&exchange(address, &bytes).await)
}

impl Served {
    pub(super) async fn http(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(&self.http_address, method, path, &[], body.as_bytes()).await
    }

    async fn http_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.http_address, method, path, headers, b"").await
    }
}

#[tokio::test]
async fn value_is_written_read_and_deleted() {
    let served = start_one().await;
    for path in ["/exampleKey", "/v1/tables/default/keys/other"] {
        let missing = served.http_with("GET", path, &[("accept", "application/json")]).await;
        assert_eq!(missing.problem(), (404, "missing-key".to_owned()));
        let created = served.http("PUT", path, "hello").await;
        assert_eq!((created.status, created.body.len(), created.header("content-length")), (201, 0, "0"));
        let replaced = served.http("PUT", path, "hello world").await;
        assert_eq!((replaced.status, replaced.body.len()), (204, 0));
        assert_ne!(created.header("etag"), replaced.header("etag"), "each write has a tag of its own");
        let read = served.http("GET", path, "").await;
        assert_eq!((read.status, read.text().as_str()), (200, "hello world"));
        assert_eq!(read.header("etag"), replaced.header("etag"));
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-cache"),
            ("accept-ranges", "none"),
        ] {
            assert_eq!(read.header(name), value);
        }
        let head = served.http("HEAD", path, "").await;
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "11", 0));
        assert_eq!(head.header("etag"), read.header("etag"));
        assert_eq!(served.http("DELETE", path, "").await.status, 204);
        assert_eq!(served.http("DELETE", path, "").await.status, 404);
        assert_eq!(served.http("GET", path, "").await.status, 404);
    }
    let posted = served.http("POST", "/exampleKey", "").await;
    assert_eq!((posted.status, posted.body.len()), (200, 0));
    assert!(posted.header("etag").starts_with('"'));
    let empty = served.http("GET", "/exampleKey", "").await;
    assert_eq!((empty.status, empty.body.len()), (200, 0), "an empty value is a value");
    let bare = served.http("GET", "/nothing", "").await;
    assert_eq!((bare.status, bare.body.len()), (404, 0), "a script prints the value or nothing");
}

#[tokio::test]
async fn each_request_is_counted_once_under_its_operation() {
    let served = start_one().await;
    served.http("PUT", "/empty", "").await;
    served.http("GET", "/empty", "").await;
    served.http("HEAD", "/empty", "").await;
    served.http("GET", "/none", "").await;
    served.http("GET", "/", "").await;
    served.http("PATCH", "/none", "").await;
    let (_, metrics) = served.get("/metrics").await;
    for line in [
        "quorate_requests_total{method=\"Cluster/Set\",code=\"OK\",door=\"http\"} 1",
        "quorate_requests_total{method=\"Cluster/Get\",code=\"OK\",door=\"http\"} 2",
        "quorate_requests_total{method=\"Cluster/Get\",code=\"NOT_FOUND\",door=\"http\"} 1",
        "quorate_requests_total{method=\"Cluster/List\",code=\"OK\",door=\"http\"} 1",
        "quorate_requests_total{method=\"unknown\",code=\"UNIMPLEMENTED\",door=\"http\"} 1",
        "quorate_requests_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn bytes_come_back_as_they_went_in_and_grpc_sees_the_same() {
    let served = start_one().await;
    let binary = [("content-type", "application/octet-stream")];
    assert_eq!(ask(&served.http_address, "PUT", "/b", &binary, &[0xff, 0, 10]).await.status, 201);
    assert_eq!(ask(&served.http_address, "PUT", "/t", &binary, b"text").await.status, 201);
    assert_eq!(ask(&served.http_address, "PUT", "/u", &[], &[0xff]).await.status, 201, "no UTF-8");
    for (path, value) in [("/b", &[0xff, 0, 10][..]), ("/t", b"text"), ("/u", &[0xff])] {
        let read = served.http("GET", path, "").await;
        assert_eq!((read.header("content-type"), &read.body[..]), ("application/octet-stream", value));
    }
    let got = served.cluster().await.get(super::get("b")).await.unwrap().into_inner();
    assert_eq!(got.entry.unwrap().content, Some(super::Arm::Binary(vec![0xff, 0, 10].into())));
    assert_eq!(served.http("GET", "/b", "").await.header("etag"), format!("\"{}\"", got.version));

    let chunked = "PUT /c HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    assert_eq!(Answer::parse(&exchange(&served.http_address, chunked.as_bytes()).await).status, 201);
    assert_eq!(served.http("GET", "/c", "").await.text(), "hello world");
}

#[tokio::test]
async fn keys_are_what_stands_in_the_path() {
    let served = start_one().await;
    for (path, key) in [
        ("/a//b", "a//b"),
        ("//a", "/a"),
        ("/a/", "a/"),
        ("/a%2Fc", "a/c"),
        ("/a+b", "a+b"),
        ("/%2541", "%41"),
        ("/{key}", "{key}"),
        ("/./x/../y", "./x/../y"),
        ("/v1/tables/default/keys/_x", "_x"),
        ("/v1/tables/default/keys/v1/status", "v1/status"),
        ("/v1/tables/default/keys/openapi.json", "openapi.json"),
    ] {
        assert_eq!(served.http("PUT", path, key).await.status, 201, "{path}");
        let got = served.cluster().await.get(super::get(key)).await.unwrap().into_inner();
        assert_eq!(got.entry, Some(super::text(key, key)), "{path}");
        assert_eq!(served.http("GET", path, "").await.text(), key);
    }
}

#[tokio::test]
async fn conditions_decide_whether_a_write_is_done() {
    let served = start_one().await;
    let put = async |headers: &[(&str, &str)], value: &str| {
        ask(&served.http_address, "PUT", "/k", headers, value.as_bytes()).await
    };
    assert_eq!(put(&[("if-match", "*")], "x").await.status, 412, "no value there");
    assert_eq!(put(&[("if-match", "\"AAAA\"")], "x").await.status, 412);
    let first = put(&[("if-none-match", "*")], "1").await;
    assert_eq!(first.status, 201);
    let again = put(&[("if-none-match", "*"), ("accept", "application/json")], "x").await;
    assert_eq!(again.problem(), (412, "condition-failed".to_owned()));
    assert_eq!(again.json()["etag"], first.header("etag"));
    assert_eq!(again.json()["reason"], "CONDITION_FAILED");
    let tag = first.header("etag").to_owned();
    let weak = format!("W/{tag}");
    let listed = format!("\"other,one\", {tag}");
    for (condition, value, status) in [
        ("if-none-match", tag.as_str(), 412),
        ("if-none-match", weak.as_str(), 412),
        ("if-match", weak.as_str(), 412),
        ("if-match", "\"other\"", 412),
    ] {
        assert_eq!(put(&[(condition, value)], "x").await.status, status, "{condition}: {value}");
    }
    let second = put(&[("if-match", &listed)], "2").await;
    assert_eq!(second.status, 204);
    assert_eq!(put(&[("if-match", &tag)], "x").await.status, 412, "the tag has gone");
    assert_eq!(put(&[("if-none-match", &tag)], "3").await.status, 204, "and any other will do");
    assert_eq!(served.http("GET", "/k", "").await.text(), "3");

    let tag = served.http("GET", "/k", "").await.header("etag").to_owned();
    let unchanged = served.http_with("GET", "/k", &[("if-none-match", &tag)]).await;
    assert_eq!((unchanged.status, unchanged.body.len(), unchanged.header("etag")), (304, 0, tag.as_str()));
    assert_eq!(served.http_with("HEAD", "/k", &[("if-none-match", &tag)]).await.status, 304);
    assert_eq!(served.http_with("GET", "/k", &[("if-match", "\"other\"")]).await.status, 412);
    assert_eq!(served.http_with("GET", "/none", &[("if-match", "\"other\"")]).await.status, 404);

    for (headers, status) in [
        (&[("if-match", "\"other\"")][..], 412),
        (&[("if-none-match", tag.as_str())], 412),
        (&[("if-none-match", "*")], 412),
        (&[("if-match", tag.as_str())], 204),
        (&[("if-match", tag.as_str())], 404),
        (&[("if-none-match", "\"other\"")], 404),
        (&[("if-none-match", "*")], 404),
    ] {
        assert_eq!(served.http_with("DELETE", "/k", headers).await.status, status, "{headers:?}");
    }
    let created = ask(&served.http_address, "PUT", "/k", &[("if-none-match", "\"other\"")], b"4").await;
    assert_eq!(created.status, 201, "no value has that tag");
    let posted = ask(&served.http_address, "POST", "/k", &[("if-match", "*")], b"5").await;
    assert_eq!(posted.status, 200);
}

#[tokio::test]
async fn one_of_sixteen_creates_the_key() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for round in 0..4 {
        let path = format!("/once-{round}");
        let tries = (0..16).map(|number| {
            let (address, path) = (served[number % 3].http_address.clone(), path.clone());
            tokio::spawn(async move {
                let headers = [("if-none-match", "*")];
                (number, ask(&address, "PUT", &path, &headers, number.to_string().as_bytes()).await.status)
            })
        });
        let mut statuses = Vec::new();
        for tried in tries.collect::<Vec<_>>() {
            statuses.push(tried.await.unwrap());
        }
        let winners: Vec<usize> = statuses.iter().filter(|(_, status)| *status == 201).map(|(n, _)| *n).collect();
        assert_eq!(winners.len(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|(_, status)| *status == 412).count(), 15, "{statuses:?}");
        assert_eq!(served[1].http("GET", &path, "").await.text(), winners[0].to_string());
    }
}

#[tokio::test]
async fn values_expire_after_their_time_to_live() {
    let served = start_one().await;
    let with_header = [("quorate-ttl", "1h")];
    assert_eq!(ask(&served.http_address, "PUT", "/long", &with_header, b"v").await.status, 201);
    let left = served.http("GET", "/long", "").await.header("quorate-ttl").to_owned();
    let millis: u64 = left.strip_suffix("ms").unwrap().parse().unwrap();
    assert!((3_500_000..=3_600_000).contains(&millis), "{left}");
    assert_eq!(served.http("PUT", "/long", "v").await.status, 204);
    assert_eq!(served.http("GET", "/long", "").await.header("quorate-ttl"), "", "a write without it never expires");

    let began = Instant::now();
    assert_eq!(served.http("PUT", "/short?ttl=600ms", "v").await.status, 201);
    let mut seen = 0;
    until(async || served.http("GET", "/short", "").await.status == 404).await;
    seen += 1;
    assert!(began.elapsed() >= Duration::from_millis(600) && seen == 1, "never early");
    let created = ask(&served.http_address, "PUT", "/short", &[("if-none-match", "*")], b"v").await;
    assert_eq!(created.status, 201);
}

#[tokio::test]
async fn post_adds_to_a_number() {
    let served = start_one().await;
    let path = "/v1/tables/default/keys/hits";
    let added = served.http("POST", &format!("{path}?add=5"), "").await;
    assert_eq!((added.status, added.text().as_str()), (200, "5"));
    let added = served.http("POST", &format!("{path}?add=-7"), "").await;
    assert_eq!(added.text(), "-2");
    assert_eq!(served.http("GET", "/hits", "").await.header("etag"), added.header("etag"));
    assert_eq!(served.http("POST", path, "").await.problem(), (400, "invalid-parameter".to_owned()));
    served.http("PUT", path, "word").await;
    assert_eq!(served.http("POST", &format!("{path}?add=1"), "").await.problem(), (409, "not-a-number".to_owned()));
}

#[tokio::test]
async fn without_a_majority_the_answer_says_what_became_of_the_request() {
    let mut served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    served[0].http("PUT", "/k", "v").await;
    for node in served.drain(1..) {
        node.stop().await;
    }
    let read = served[0].http("GET", "/v1/tables/default/keys/k?timeout=300ms", "").await;
    assert_eq!(read.problem(), (503, "no-quorum".to_owned()));
    assert_eq!((read.header("retry-after"), &read.json()["reason"]), ("1", &"NO_QUORUM".into()));
    let written = served[0].http("PUT", "/v1/tables/default/keys/k?timeout=300ms", "w").await;
    assert_eq!(written.problem(), (503, "not-applied".to_owned()));
    let blind = served[0].http("POST", "/k?timeout=300ms", "w").await;
    assert!(matches!(blind.problem(), (503 | 504, _)), "{blind:?}");
}
