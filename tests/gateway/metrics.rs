//! The metrics that requests and peers leave, in the formats that readers ask for.

use super::*;

#[tokio::test]
async fn metrics_count_requests_by_method_and_code_however_they_end() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    cluster.set(set("a", "v")).await.unwrap();
    cluster.get(get("a")).await.unwrap();
    cluster.get(get("a")).await.unwrap();
    cluster.get(get("")).await.unwrap_err();
    let too_large = entry("k", Some(Arm::Binary(vec![7; MESSAGE_BYTES_MAX + 1].into())));
    cluster.set(api::SetRequest { entry: Some(too_large), ..Default::default() }).await.unwrap_err();
    let mut pages = served.node().await.info(api::InfoRequest::default()).await.unwrap().into_inner();
    while pages.message().await.unwrap().is_some() {}

    let (head, text) = served.get_as("/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    for line in [
        "quorate_requests_total{method=\"Cluster/Set\",code=\"OK\",door=\"grpc\"} 1",
        "quorate_requests_total{method=\"Cluster/Set\",code=\"OUT_OF_RANGE\",door=\"grpc\"} 1",
        "quorate_requests_total{method=\"Cluster/Get\",code=\"OK\",door=\"grpc\"} 2",
        "quorate_requests_total{method=\"Cluster/Get\",code=\"INVALID_ARGUMENT\",door=\"grpc\"} 1",
        "quorate_requests_total{method=\"Node/Info\",code=\"OK\",door=\"grpc\"} 1",
        "quorate_request_duration_seconds_count{method=\"Cluster/Get\",door=\"grpc\"} 3",
        "quorate_requests_in_flight 0",
        "quorate_ready 1",
        "quorate_store_failed 0",
        "quorate_store_keys 1",
        "quorate_store_log_syncs_total 0",
        "quorate_clock_rounds_total ",
        "quorate_clock_epoch 1",
        "quorate_failures_tolerated 0",
        "quorate_uptime_seconds ",
        "quorate_store_log_sync_p99_seconds 0.0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(text.contains(&format!("quorate_build_info{{version=\"{}\",node=\"1\"}} 1", env!("CARGO_PKG_VERSION"))));
    let (head, body) = served.get("/").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.contains("/readyz"), "{head}");
    let (head, _) = served.get("/nothing").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let (head, body) = served.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.ends_with("ready; tolerates no more failures\n"), "{head} {body}");
}

#[tokio::test]
async fn metrics_have_the_format_that_their_reader_accepts() {
    let served = start_one().await;
    served.cluster().await.set(set("a", "v")).await.unwrap();
    for accept in ["text/plain;version=0.0.4", "*/*"] {
        let (head, text) = served.get_as("/metrics", accept).await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let counter = "# TYPE quorate_requests_total counter\nquorate_requests_total{method=\"Cluster/Set\",code=\"OK\",door=\"grpc\"} 1\n";
        assert!(text.contains(counter) && text.contains("# TYPE quorate_build_info gauge"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        promtool_finds_nothing(&text);
    }
}

/// Lets `promtool check metrics` judge the metrics.
fn promtool_finds_nothing(text: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let Some(tools) = crate::testkit::tools::find(&["promtool"]) else { return };
    let mut promtool = Command::new("bash")
        .args(["-c", "exec promtool check metrics"])
        .env("PATH", tools)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash runs");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn metrics_name_peers_and_how_they_are_linked() {
    let mut nodes = start(Plan { nodes: 2, replica_count: 2, ..Plan::default() }).await;
    let (_, text) = nodes[0].get("/metrics").await;
    assert!(text.contains("quorate_peer_linked{peer=\"2\"} 1"), "{text}");
    assert!(text.contains("quorate_peer_queue_bytes{peer=\"2\"} 0"), "{text}");
    nodes.remove(1).stop().await;
    until(async || nodes[0].get("/metrics").await.1.contains("quorate_peer_linked{peer=\"2\"} 0")).await;
}
