//! `quorate dev --chaos`: its own nodes are killed and paused, and no operation fails.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::testkit::process;
use super::{TempDir, dev, entries, text};

#[test]
fn nodes_that_are_killed_and_paused_fail_no_operation_and_nothing_stays_behind() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let output = dev(dir.path(), "", "--chaos --seconds 18 --json --timeout 10s").output().unwrap();
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    let events: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(output.status.code(), Some(0), "{told}{said}");
    let [verdict] = of("verdict")[..] else { panic!("{told}{said}") };
    assert_eq!(verdict["verdict"], "linearizable", "{told}");
    assert!(verdict["kills"].as_u64() >= Some(1) && verdict["pauses"].as_u64() >= Some(1), "{told}");
    // The load may end while a node is down.
    assert!(of("kill").len() - of("restart").len() <= 1, "{told}");
    for kind in ["get", "compare_and_set", "delete"] {
        let counts = &verdict["operations"][kind];
        assert!(counts["done"].as_u64() > Some(100), "{told}");
        assert_eq!(counts["failed"], 0, "{told}");
        // Where more than eight others wrote the key meanwhile, a node cannot tell. That is rare.
        assert!(counts["unknown"].as_u64() <= Some(8), "{told}");
    }
    let figures = of("figures");
    assert!(figures.iter().any(|figures| figures["nodes_up"] == 2 && figures["failures_tolerated"] == 0), "{told}");
    assert!(figures.iter().any(|figures| figures["nodes_up"] == 3 && figures["failures_tolerated"] == 1), "{told}");
    assert!(entries(dir.path()).is_empty(), "the folder is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_end_with_the_process_that_started_them_even_if_it_is_killed() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    let log = dir.path().join("out");
    let mut running = process::Process::spawn(&mut dev(dir.path(), "", "--chaos"), &log);
    let is_running = || process::read(&log).contains("operations/s");
    process::poll("the load to run", Duration::from_secs(30), async || {
        if is_running() { Ok(()) } else { Err(process::read(&log)) }
    })
    .await;
    let nodes = children_of(running.id());
    assert_eq!(nodes.len(), 3);
    running.signal(Signal::SIGKILL);
    running.kill();
    // Nobody may reap them here: then they stay as zombies.
    let runs = |node: &&String| {
        let status = fs::read_to_string(format!("/proc/{node}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    let left = || nodes.iter().filter(runs).count();
    process::poll("the nodes to end", Duration::from_secs(15), async || match left() {
        0 => Ok(()),
        left => Err(format!("{left} nodes run")),
    })
    .await;
}

#[test]
fn chaos_that_cannot_be_is_refused_with_a_reason() {
    let dir = TempDir::with_prefix("quorate-test-").unwrap();
    for (options, part) in [
        ("--chaos --nodes 2", "--nodes 3"),
        ("--chaos --storage memory", "--storage rocks"),
        ("--seconds 5", "--chaos"),
    ] {
        let output = dev(dir.path(), "", options).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{options}: {said}");
    }
}

/// The processes that this one started.
fn children_of(process_id: u32) -> Vec<String> {
    let listed = fs::read_to_string(format!("/proc/{process_id}/task/{process_id}/children")).unwrap_or_default();
    listed.split_whitespace().map(str::to_owned).collect()
}
