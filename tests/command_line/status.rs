//! `quorate status` for monitors and screens, and `quorate check`.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value as Json;

use crate::testkit::cluster::{Cluster, Plan, poll};
use crate::{Running, plan, quorate, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitor_learns_from_the_exit_code_how_many_failures_are_tolerated() {
    let mut cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let code = |cluster: &Cluster, arguments: &[&str]| quorate(cluster, arguments).output().unwrap().status.code();
    assert_eq!(code(&cluster, &["status", "--require-tolerance", "1"]), Some(0));
    assert_eq!(code(&cluster, &["status", "--require-tolerance", "2"]), Some(6));
    cluster.nodes[2].kill();
    poll("the loss to be seen", Duration::from_secs(20), async || {
        match code(&cluster, &["status", "--require-tolerance", "1"]) {
            Some(6) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(code(&cluster, &["status"]), Some(0), "all keys can be read and written");
    assert_eq!(code(&cluster, &["status", "--require-tolerance", "0"]), Some(0));
    cluster.nodes[1].kill();
    poll("the majority to be lost", Duration::from_secs(20), async || {
        match code(&cluster, &["status", "--require-tolerance", "0"]) {
            Some(3) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_shown_again_and_again_until_it_is_ended() {
    let mut cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let file = cluster.dir().join("watched");
    let output = std::fs::File::create(&file).unwrap();
    let mut command = quorate(&cluster, &["status", "--watch=100ms", "--json"]);
    let mut watching = Running(command.stdout(output).stderr(Stdio::null()).spawn().unwrap());
    let lines = || -> Vec<Json> {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let wait_for = async |tolerated: u64| {
        poll("another status", Duration::from_secs(20), async || match lines().last() {
            Some(last) if last["failures_tolerated"] == tolerated => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    wait_for(1).await;
    cluster.nodes[2].kill();
    wait_for(0).await;
    watching.signal(Signal::SIGINT);
    let ended = watching.end_within(Duration::from_secs(10)).await;
    assert_eq!(ended.code(), Some(0), "the last status was that of a cluster that serves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_judges_disk_space_files_and_nodes() {
    let cluster = Cluster::start_as(&Plan { memory: true, ids: vec!["1"], replica_count: 1, ..Plan::default() }).await;
    let folder = cluster.dir().to_str().unwrap().to_owned();
    let before = std::fs::read_dir(cluster.dir()).unwrap().count();
    let output = quorate(&cluster, &["check", &folder, "--json"]).output().unwrap();
    let json: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let findings = json["findings"].as_array().unwrap();
    let names: Vec<&str> = findings.iter().map(|finding| finding["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["sync", "disk_free", "open_files"]);
    assert!(findings[0]["p99_ms"].as_f64().unwrap() > 0.0, "{json}");
    assert!(findings[3]["p50_ms"].as_f64().unwrap() > 0.0, "{json}");
    // How fast this machine is does not matter here: the code follows from the verdict.
    let expected = if json["verdict"] == "not good enough" { 6 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{json}");
    assert_eq!(std::fs::read_dir(cluster.dir()).unwrap().count(), before, "it leaves nothing behind");

    let refused = quorate(&cluster, &["check", "/nowhere/at/all"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("/nowhere/at/all"), "{}", text(&refused.stderr));
}
