//! `quorate check --linearizable`: the verdict on clusters that keep the promise, and on one that does not.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::testkit::cluster::Cluster;
use super::testkit::process;
use super::{plan, quorate, text};

/// The report of a run, and its exit code.
fn report(command: &mut Command) -> (serde_json::Value, Option<i32>) {
    let output = command.stdin(Stdio::null()).output().expect("the program can be started");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (json, output.status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_that_loses_a_node_is_linearizable_and_no_key_stays() {
    let mut cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let mut command = quorate(&cluster, &["check", "--linearizable", "--seconds", "4", "--clients", "4", "--json"]);
    let checked = tokio::task::spawn_blocking(move || report(&mut command));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.nodes[1].kill();
    let (json, code) = checked.await.unwrap();
    assert_eq!((&json["verdict"], code), (&"linearizable".into(), Some(0)), "{json}");
    for kind in ["get", "set", "compare_and_set", "delete"] {
        assert!(json["operations"][kind]["done"].as_u64() > Some(20), "{kind}: {json}");
    }
    assert!(json["operations"]["compare_and_set"]["condition_failed"].as_u64() > Some(0), "clients meet: {json}");
    assert!(json["keys"].as_u64() >= Some(8) && json["keys_left"] == 0 && json["keys_unread"] == 0, "{json}");
    let left = cluster.client().list("quorate-check-").collect().await.expect("the cluster serves");
    assert!(left.is_empty(), "{left:?}");
}

/// Two clusters that are asked as if they were one: each answers of its own keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_behind_one_list_of_addresses_are_not_linearizable() {
    let (one, other) = (Cluster::start_as(&plan(&["1"])).await, Cluster::start_as(&plan(&["2"])).await);
    let mut command = process::command();
    let addresses = [one.addresses(), other.addresses()].concat().join(",");
    command.env("QUORATE_ADDRESS", addresses).args(["check", "--linearizable", "--seconds", "2"]);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap()).await.unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(6), "{told}{}", text(&output.stderr));
    assert!(told.ends_with("\nnot linearizable\n"), "{told}");
    let history = told.lines().filter(|line| line.starts_with("  client ")).count();
    assert!(told.contains("no order of these operations explains their answers") && history > 0, "{told}");
}

#[test]
fn check_without_a_node_or_a_kind_says_what_to_do() {
    let run = |arguments: &[&str]| {
        let output = process::command().args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, told) = run(&["--address", "127.0.0.1:1", "--timeout", "300ms", "check", "--linearizable"]);
    assert!(code == Some(3) && told.contains("is a node running there?"), "{code:?}: {told}");
    for arguments in [&["check", "--seconds", "2"][..], &["check", ".", "--linearizable"]] {
        let (code, told) = run(arguments);
        assert!(code == Some(2) && told.contains("--linearizable"), "{code:?}: {told}");
    }
}
