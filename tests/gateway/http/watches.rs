//! Server-sent events, and reads that wait.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Plan, Served, ask, start, start_one};

/// A stream of events.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn open(served: &Served, path: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(&served.http_address).await.unwrap();
        let last = last.map_or_else(String::new, |last| format!("last-event-id: {last}\r\n"));
        // HTTP/1.0 has no chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n{last}\r\n").as_bytes()).await.unwrap();
        let mut events = Self { stream, text: String::new() };
        let head = events.until("\r\n\r\n").await;
        assert!(head.contains("text/event-stream") && head.contains("200 OK"), "{head}");
        assert_eq!(events.until("\n\n").await, "retry: 1000");
        events
    }

    async fn until(&mut self, end: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some((before, after)) = self.text.split_once(end) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.text = after;
                return before;
            }
            let mut bytes = [0; 4_096];
            let read =
                tokio::time::timeout_at(deadline.into(), self.stream.read(&mut bytes)).await.expect("an event comes");
            let read = read.unwrap();
            assert_ne!(read, 0, "the stream has ended");
            self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    /// The name, the id and the data of the next event that is no heartbeat.
    async fn next(&mut self) -> (String, String, String) {
        loop {
            let event = self.until("\n\n").await;
            let field = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().to_owned()
            };
            if field("event: ") != "heartbeat" {
                return (field("event: "), field("id: "), field("data: "));
            }
        }
    }
}

#[tokio::test]
async fn changes_are_told_and_a_later_watch_goes_on() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut events = Events::open(&served[0], "/v1/tables/default/watch?prefix=a", None).await;
    assert_eq!(events.next().await.0, "ready");
    served[1].http("PUT", "/b", "other").await;
    let written = served[1].http("PUT", "/a1?ttl=1h", "one").await;
    let (name, id, data) = events.next().await;
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!((name.as_str(), data["key"].as_str(), data["value"].as_str()), ("put", Some("a1"), Some("one")));
    assert_eq!(data["etag"], written.header("etag"));
    assert!(data["ttl_ms"].as_u64().is_some());
    drop(events);
    served[2].http("DELETE", "/a1", "").await;
    let mut events = Events::open(&served[2], "/v1/tables/default/watch?prefix=a", Some(&id)).await;
    let mut names = Vec::new();
    while names.last().map(String::as_str) != Some("delete") {
        names.push(events.next().await.0);
    }
    assert!(!names.contains(&"reset".to_owned()), "{names:?}");
}

#[tokio::test]
async fn unknown_id_is_told_by_a_reset() {
    let served = start_one().await;
    for id in ["nonsense", "!!", "AQID"] {
        let mut events = Events::open(&served, "/v1/tables/default/watch?key=k", Some(id)).await;
        assert_eq!(events.next().await.0, "reset", "{id}");
        assert_eq!(events.next().await.0, "ready", "{id}");
        served.http("PUT", "/k", "v").await;
        assert_eq!(events.next().await.0, "put", "{id}");
    }
}

#[tokio::test]
async fn reader_waits_until_the_value_has_changed() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let tag = served[0].http("PUT", "/k", "1").await.header("etag").to_owned();
    let began = Instant::now();
    let unchanged = served[1].http_with("GET", "/k?wait=300ms", &[("if-none-match", &tag)]).await;
    assert_eq!(unchanged.status, 304);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let address = served[1].http_address.clone();
    let waiting =
        tokio::spawn(async move { ask(&address, "GET", "/k?wait=30s", &[("if-none-match", &tag)], b"").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    served[2].http("PUT", "/k", "2").await;
    let changed = waiting.await.unwrap();
    assert_eq!((changed.status, changed.text().as_str()), (200, "2"));
    assert!(began.elapsed() < Duration::from_secs(4), "an event wakes the reader");
}
