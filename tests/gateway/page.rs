//! The status page, as a browser asks for it.

use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Plan, Served, start, until};

/// The events of a page until `is_enough` holds for the data of one of this name.
async fn event(served: &Served, name: &str, is_enough: impl Fn(&Json) -> bool) -> Json {
    let mut stream = TcpStream::connect(&served.admin_address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    let found = async {
        loop {
            let mut buffer = vec![0; 64 << 10];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the events ended: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&buffer[..read]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            for event in whole.split("event: ").skip(1).filter(|event| event.contains("\n\n")) {
                let (found, rest) = event.split_once('\n').unwrap();
                let data = rest.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                let json: Json = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
                if found == name && is_enough(&json) {
                    return json;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the event comes")
}

#[tokio::test]
async fn browser_gets_a_page_and_others_a_text() {
    let nodes = start(Plan::default()).await;
    let (head, page) = nodes[0].get_as("/", "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/html"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
    assert!(head.contains("vary: accept") && page.starts_with("<!doctype html>"), "{head}");
    for accept in ["*/*", "text/plain"] {
        let (head, text) = nodes[0].get_as("/", accept).await;
        assert!(head.contains("content-type: text/plain") && text.contains("/readyz"), "{head}: {text}");
    }
    // Everything that the page loads is here, and nothing is from elsewhere.
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        assert!(page.contains(&format!("\"{}\"", &path[1..])), "the page does not load {path}");
        let (head, text) = nodes[0].get(path).await;
        assert!(head.contains(kind) && head.contains("nosniff"), "{head}");
        let foreign = text
            .match_indices("://")
            .filter(|(at, _)| !text[..*at].ends_with("http") || !text[*at..].starts_with("://www.w3.org/"));
        assert_eq!(foreign.count(), 0, "{path} names another host");
    }
}

#[tokio::test]
async fn page_shows_the_cluster_and_what_happens_to_it() {
    let mut nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let state = event(&nodes[0], "state", |state| {
        state["state"] == "healthy" && state["events"].to_string().contains("node 3 is linked")
    })
    .await;
    assert_eq!(
        (&state["failures_tolerated"], &state["verdict"]),
        (&1.into(), &"tolerates 1 more failure".into()),
        "{state}"
    );
    assert_eq!(state["command"], Json::Null, "nothing is to be mended");
    let shown = state["nodes"].as_array().unwrap();
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|node| node["state"] == "online" && node["slots"] == 65_536), "{state}");
    assert!(shown.iter().all(|node| node["answer_ms"].as_f64().is_some_and(|took| took > 0.0)), "{state}");
    assert!(state["warnings"].is_array() && state["purpose"].is_null(), "{state}");
    let own: Vec<bool> = shown.iter().map(|node| node["is_this"].as_bool().unwrap()).collect();
    assert_eq!((own, &state["node"]["id"]), (vec![true, false, false], &"1".into()));

    nodes.remove(2).stop().await;
    let state = event(&nodes[0], "state", |state| {
        state["state"] == "degraded" && state["events"].to_string().contains("node 3 is not reachable")
    })
    .await;
    assert_eq!(state["failures_tolerated"], 0);
    assert!(state["verdict"].as_str().unwrap().contains("bring node 3 back"), "{state}");
    assert!(state["command"].as_str().unwrap().starts_with("quorate serve"), "{state}");
    let purpose = state["purpose"].as_str().unwrap();
    assert!(purpose.starts_with("Start node 3 at 127.0.0.1:"), "{purpose}");
    let mut pairs = state["repair"]["pairs"].as_array().unwrap().iter().filter(|pair| pair["peer"] == "3");
    assert!(pairs.all(|pair| pair["is_linked"] == false), "{state}");
    assert_eq!(state["nodes"][2]["state"], "no answer");

    nodes.remove(1).stop().await;
    let state = event(&nodes[0], "state", |state| state["state"] == "unavailable").await;
    assert_eq!(state["slots_without_majority"], 65_536, "{state}");
}

#[tokio::test]
async fn page_has_the_rate_and_the_time_of_requests() {
    let nodes = start(Plan::default()).await;
    let client = quorate::Client::new([nodes[0].address.clone()]).unwrap();
    let sending = async {
        loop {
            client.set("k", "v").await.unwrap();
            client.get("k").await.unwrap();
        }
    };
    let seen = event(&nodes[0], "state", |state| state["point"]["write_p99_ms"].as_f64().is_some_and(|p99| p99 > 0.0));
    let state = tokio::select! {
        () = sending => unreachable!("it has no end"),
        state = seen => state,
    };
    let point = &state["point"];
    assert!(point["per_second"].as_f64().unwrap() > 0.0 && point["failed_per_second"] == 0.0, "{point}");
    let slowest = state["slowest"].as_array().unwrap();
    assert!((1..=10).contains(&slowest.len()), "{state}");
    let took = |slow: &Json| slow["took_ms"].as_f64().unwrap();
    assert!(slowest.windows(2).all(|pair| took(&pair[0]) >= took(&pair[1])), "{state}");
    assert!(slowest.iter().all(|slow| slow["method"] == "Cluster/Set" || slow["method"] == "Cluster/Get"), "{state}");
    assert!(
        slowest.iter().all(|slow| slow["key"].as_str().unwrap().starts_with('#') && slow["is_done"] == true),
        "{state}"
    );
    assert_eq!(state["hottest"], Json::Null, "keys are not shown unless it is asked for");
    let history = event(&nodes[0], "history", |_| true).await;
    assert!(
        !history["points"].as_array().unwrap().is_empty(),
        "a page that opens later sees what was before: {history}"
    );
}

#[tokio::test]
async fn pages_are_bounded_and_leave_probes_alone() {
    let nodes = start(Plan::default()).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(&nodes[0].admin_address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        open.push(stream);
    }
    let (head, text) = nodes[0].get("/events").await;
    assert!(head.starts_with("HTTP/1.1 503") && text.contains("16 status pages"), "{head}: {text}");
    assert!(nodes[0].get("/livez").await.0.starts_with("HTTP/1.1 200"));
    drop(open);
    until(async || {
        let mut stream = TcpStream::connect(&nodes[0].admin_address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.is_ok() && &head == b"HTTP/1.1 200 OK"
    })
    .await;
}
