//! `quorate bench` against real nodes: what it prints and how it ends. How fast anything is, is not tested.

#![cfg(feature = "server")]

mod testkit;

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Plan, poll};
use testkit::process::command;

/// Short, and long enough for some operations on a busy machine.
const SHORT: [&str; 4] = ["--duration", "1s", "--warm-up", "100ms"];

fn bench(arguments: &[&str]) -> Output {
    command().arg("bench").args(arguments).output().expect("the program can be started")
}

fn json_of(output: &Output) -> Json {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}\n{stderr}"))
}

fn count(json: &Json, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Json::as_u64).unwrap_or_else(|| panic!("no count at {pointer} in {json:#}"))
}

async fn cluster() -> Cluster {
    Cluster::start_as(&Plan { memory: true, ..Plan::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_loop_counts_what_the_cluster_answers() {
    let cluster = cluster().await;
    let addresses = cluster.addresses().join(",");
    let at_cluster = ["--address", &addresses, "--json", "--in-flight", "8"];

    // Nothing is written yet, and nothing is found.
    let output = bench(&[&at_cluster[..], &SHORT, &["--mix", "get=1", "--keys", "500"]].concat());
    let json = json_of(&output);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((count(&json, "/get/found"), count(&json, "/failed/count")), (0, 0), "{json:#}");
    assert_eq!(count(&json, "/get/not_found"), count(&json, "/operations"));
    assert!(json["load"].is_null(), "{json:#}");

    // All is written before, and all is found.
    let output = bench(&[&at_cluster[..], &SHORT, &["--mix", "get=1", "--keys", "500", "--load"]].concat());
    let json = json_of(&output);
    assert_eq!((count(&json, "/load/keys"), count(&json, "/get/not_found")), (500, 0), "{json:#}");
    assert_eq!(count(&json, "/get/found"), count(&json, "/operations"));
    let written = cluster.client().get("bench-499").await.unwrap().expect("every key was written");
    assert_eq!(written.value.bytes().len(), 1_024);

    let of_all = |json: &Json, names: &[&str]| -> u64 {
        names.iter().map(|name| count(json, &format!("/{name}/operations"))).sum()
    };
    // Conditional writes on keys of their own: a plain write in between may leave the outcome of one unknown.
    let conditional = ["--mix", "get=1,cas=1,add=1,list=1", "--keys", "5000", "--key-prefix", "own-"];
    let json = json_of(&bench(&[&at_cluster[..], &SHORT, &conditional].concat()));
    assert_eq!(count(&json, "/failed/count"), 0, "{json:#}");
    assert_eq!(of_all(&json, &["get", "cas", "add", "list"]), count(&json, "/operations"));
    let held = count(&json, "/cas/applied");
    assert_eq!(held + count(&json, "/cas/condition_failed"), count(&json, "/cas/operations"));
    assert!(held > 0 && count(&json, "/add/operations") > 0, "{json:#}");

    let listed = ["--mix", "list=1", "--keys", "500", "--list-keys", "250", "--list-values", "--load"];
    let json = json_of(&bench(&[&at_cluster[..], &SHORT, &listed].concat()));
    assert_eq!((count(&json, "/failed/count"), count(&json, "/settings/list_keys")), (0, 250), "{json:#}");
    assert!(json["mib_per_second"].as_f64().unwrap() > 0.0, "values are brought: {json:#}");

    let mixed = ["--mix", "get=2,set=2,delete=1", "--value-bytes", "10..2000", "--connections", "2"];
    let output = bench(&[&at_cluster[..], &SHORT, &mixed, &["--keys", "50", "--distribution", "zipf"]].concat());
    let json = json_of(&output);
    assert_eq!(count(&json, "/failed/count"), 0, "{json:#}");
    let all = of_all(&json, &["get", "set", "delete"]);
    assert_eq!(all, count(&json, "/operations"));
    let seconds = json["each_second"].as_array().expect("an array");
    let in_seconds: u64 = seconds.iter().map(|second| count(second, "/operations")).sum();
    assert_eq!((seconds.len(), in_seconds), (1, all), "{json:#}");
}

/// Each write for the watchers ends once all were told. A watcher that reads from a node that dies goes on at another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_told_of_each_write() {
    let mut cluster = cluster().await;
    let addresses = cluster.addresses().join(",");
    let at_cluster = ["--address", &addresses, "--json", "--in-flight", "4", "--mix", "watch=1,set=1"];
    let json = json_of(&bench(&[&at_cluster[..], &SHORT, &["--watchers", "7", "--value-bytes", "10"]].concat()));
    assert_eq!((count(&json, "/failed/count"), count(&json, "/watch/broken")), (0, 0), "{json:#}");
    let writes = count(&json, "/watch/operations");
    assert!(writes > 0, "{json:#}");
    assert_eq!((count(&json, "/watch/events"), count(&json, "/watch/watchers")), (7 * writes, 7), "{json:#}");
    assert!(json["watch"]["event_latency_us"]["p99"].is_number(), "{json:#}");

    let run = tokio::task::spawn_blocking(move || {
        bench(&["--address", &addresses, "--watchers", "3", "--mix", "watch=1", "--rate", "50", "--duration", "4s"])
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.nodes[0].kill();
    let output = run.await.expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("a watch broke off and had to go on"), "{output:?}");
    assert!(text.contains("event") && text.contains("3 watchers"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_loop_accounts_for_every_request_that_was_due() {
    let cluster = cluster().await;
    let addresses = cluster.addresses().join(",");
    let at_cluster = ["--address", &addresses, "--json", "--rate", "200", "--mix", "set=1"];
    for in_flight in ["1000", "1"] {
        let output = bench(&[&at_cluster[..], &SHORT, &["--in-flight", in_flight]].concat());
        let json = json_of(&output);
        let accounted = count(&json, "/operations") + count(&json, "/failed/count") + count(&json, "/missed");
        assert_eq!(accounted + count(&json, "/unfinished"), 200, "{json:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_counted_by_kind_and_a_run_without_an_answer_ends_with_3() {
    let mut cluster = cluster().await;
    for node in &mut cluster.nodes[1..] {
        node.kill();
    }
    let address = cluster.nodes[0].address();
    let at_node = ["--address", &address, "--timeout", "300ms", "--mix", "set=1", "--json"];
    let output = bench(&[&at_node[..], &["--duration", "2s", "--warm-up", "0s"]].concat());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let json = json_of(&output);
    assert_eq!(count(&json, "/operations"), 0);
    assert!(count(&json, "/failed/count") > 0, "{json:#}");
    let kind = &json["failed"]["kinds"][0];
    assert!(kind["operation"] == "set" && kind["reason"].is_string(), "{json:#}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no operation was answered"), "{output:?}");

    cluster.nodes[0].kill();
    let output = bench(&at_node);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a node running there?"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noop_is_measured_in_a_process_of_its_own() {
    let output = bench(&[&["--target", "noop", "--json", "--load", "--value-bytes", "2048"][..], &SHORT].concat());
    let json = json_of(&output);
    assert!(output.status.success() && count(&json, "/operations") > 0, "{output:?}");
    assert_eq!((count(&json, "/get/not_found"), count(&json, "/failed/count")), (0, 0), "{json:#}");
    let others = ["--mix", "watch=1,list=1", "--watchers", "3", "--list-values", "--list-keys", "5000"];
    let watched = json_of(&bench(&[&["--target", "noop", "--json"][..], &SHORT, &others].concat()));
    assert_eq!(count(&watched, "/failed/count"), 0, "{watched:#}");
    assert_eq!(count(&watched, "/watch/events"), 3 * count(&watched, "/watch/operations"), "{watched:#}");
    assert!(json["cpu"]["target_seconds"].is_number() && json["settings"]["target"] == "noop", "{json:#}");

    let output = bench(&[&["--target", "noop"][..], &SHORT].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("P99.9") && text.contains("a no-op server"), "{text}");
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let parent_of = |id: u32| {
        let status = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()
    };
    let all = fs::read_dir("/proc").expect("Linux has it");
    let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_run_reports_and_killed_run_leaves_no_server_behind() {
    const WAIT_MAX: Duration = Duration::from_secs(20);
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut child = command()
            .args(["bench", "--target", "noop", "--json", "--duration", "1h", "--warm-up", "0s"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let servers = poll("the no-op server to run", WAIT_MAX, async || {
            let found = children(child.id());
            if found.is_empty() { Err("no child".to_owned()) } else { Ok(found) }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).expect("it runs");
        if signal == Signal::SIGINT {
            let output = child.wait_with_output().expect("it can be waited for");
            let json = json_of(&output);
            assert!(output.status.success() && json["interrupted"] == true, "{output:?}");
            assert!(count(&json, "/operations") > 0 && json["seconds"].as_f64().unwrap() < 3_600.0, "{json:#}");
        } else {
            child.wait().expect("it can be waited for");
        }
        poll("the no-op server to end", WAIT_MAX, async || {
            // A process that has ended and was not waited for yet has no command line any more.
            let runs = |id: &&u32| fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty());
            servers.iter().find(runs).map_or(Ok(()), |id| Err(format!("{id} runs")))
        })
        .await;
    }
}

#[test]
fn bad_input_ends_with_2_and_names_the_option() {
    for (arguments, part) in [
        (&["--mix", "put=1"][..], "--mix"),
        (&["--rate", "-5"], "--rate"),
        (&["--zipf-exponent", "1"], "--distribution zipf"),
        (&["--address", "nowhere"], "port"),
        (&["--watchers", "3"], "--mix watch=1"),
        (&["--duration", "2h"], "--duration"),
    ] {
        let output = bench(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(part), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}
