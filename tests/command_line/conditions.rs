//! Conditions, additions, times to live and versions on the command line: exit codes, and what scripts read.

use serde_json::{Value as Json, json};

use super::*;

/// Exit code, stdout and stderr of the program.
fn run(cluster: &Cluster, arguments: &[&str]) -> (i32, String, String) {
    let output = quorate(cluster, arguments).output().unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{arguments:?}: {}", output.status));
    (code, text(&output.stdout), text(&output.stderr))
}

/// The same, of a run that prints JSON.
fn run_json(cluster: &Cluster, arguments: &[&str]) -> (i32, Json, String) {
    let (code, printed, said) = run(cluster, &[arguments, &["--json"]].concat());
    let json =
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed:?} {said}"));
    (code, json, said)
}

fn version(json: &Json) -> String {
    json["version"].as_str().filter(|version| !version.is_empty()).unwrap_or_else(|| panic!("{json}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condition_that_does_not_hold_ends_with_5_and_the_present_version() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let (code, absent, said) = run_json(&cluster, &["get", "lock"]);
    assert_eq!((code, &absent), (1, &json!({ "key": "lock", "version": version(&absent) })));
    assert!(said.contains("has no value"), "{said}");

    let (code, first, _) = run(&cluster, &["set", "lock", "me", "--if-absent", "--ttl", "30s"]);
    assert_eq!(code, 0);
    let held = first.trim();
    let (code, got, _) = run_json(&cluster, &["get", "lock"]);
    assert_eq!((code, got["value"].as_str(), version(&got).as_str()), (0, Some("me"), held), "set printed the version");
    assert!(got["ttl_ms"].as_u64().is_some_and(|left| (20_000..=30_000).contains(&left)), "{got}");
    for arguments in [
        &["set", "lock", "other", "--if-absent"][..],
        &["set", "lock", "other", "--if-version", &version(&absent)],
        &["delete", "lock", "--if-version", &version(&absent)],
    ] {
        let (code, printed, said) = run(&cluster, arguments);
        assert_eq!((code, printed.as_str()), (5, ""), "{arguments:?}");
        assert!(said.contains(held) && said.contains("does not hold"), "{arguments:?}: {said}");
        let (code, json, said) = run_json(&cluster, arguments);
        let expected = json!({ "key": "lock", "error": "CONDITION_FAILED", "version": held, "has_value": true });
        assert_eq!((code, json), (5, expected), "{arguments:?}");
        assert!(said.contains(held), "{said}");
    }
    let (code, again, _) = run_json(&cluster, &["set", "lock", "me", "--if-version", held, "--ttl", "1h"]);
    assert_eq!((code, &again["key"]), (0, &json!("lock")));
    let (code, _, said) = run(&cluster, &["delete", "lock", "--if-version", held]);
    assert!(code == 5 && said.contains(&version(&again)), "{said}");
    let (code, gone, _) = run_json(&cluster, &["delete", "lock", "--if-version", &version(&again)]);
    assert_eq!(code, 0);
    let (code, got, _) = run_json(&cluster, &["get", "lock"]);
    assert_eq!((code, version(&got)), (1, version(&gone)));
    let (code, json, _) = run_json(&cluster, &["delete", "lock", "--if-present"]);
    assert_eq!((code, &json["has_value"]), (5, &json!(false)));
    let (code, json, _) = run_json(&cluster, &["set", "lock", "v", "--if-present"]);
    assert_eq!((code, version(&json)), (5, version(&gone)));
    assert_eq!(run(&cluster, &["set", "lock", "v", "--if-version", &version(&gone)]).0, 0, "an absence's version");
    assert_eq!(run(&cluster, &["get", "lock", "--one", "--at-least", &version(&gone)]), (0, "v".into(), String::new()));
    let (code, plain, _) = run_json(&cluster, &["set", "lock", "w"]);
    assert!(code == 0 && plain["clock"].is_object(), "{plain}");
    assert_eq!(version(&run_json(&cluster, &["get", "lock"]).1), version(&plain));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_print_the_sum_alone() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    for (arguments, printed) in [
        (&["add", "hits"][..], "1\n"),
        (&["add", "hits"], "2\n"),
        (&["add", "hits", "40"], "42\n"),
        (&["add", "hits", "-5"], "37\n"),
        (&["add", "hits", "-5", "--ttl", "1h"], "32\n"),
        (&["--timeout", "2s", "add", "hits", "0"], "32\n"),
    ] {
        assert_eq!(run(&cluster, arguments), (0, printed.to_owned(), String::new()), "{arguments:?}");
    }
    let (code, added, _) = run_json(&cluster, &["add", "hits", "8"]);
    assert_eq!((code, &added["key"], &added["value"]), (0, &json!("hits"), &json!(40)));
    assert_eq!(version(&run_json(&cluster, &["get", "hits"]).1), version(&added));
    assert_eq!(run(&cluster, &["add", "hits", "--since", &version(&added)]).1, "41\n");

    cluster.client().set("text", "one").await.unwrap();
    let (code, printed, said) = run(&cluster, &["add", "text"]);
    assert_eq!((code, printed.as_str()), (2, ""), "{said}");
    assert!(said.contains("no number in decimal"), "{said}");
    let (code, json, _) = run_json(&cluster, &["add", "text"]);
    assert_eq!((code, &json["error"]), (2, &json!("NOT_A_NUMBER")));
    cluster.client().set("full", i64::MAX.to_string()).await.unwrap();
    assert_eq!(run(&cluster, &["add", "full"]).0, 2, "the sum is out of 64 bits");
    for _ in 0..9 {
        run(&cluster, &["add", "hits"]);
    }
    let (code, json, _) = run_json(&cluster, &["add", "hits", "--since", &version(&added)]);
    assert_eq!((code, &json["error"]), (5, &json!("CONDITION_FAILED")), "too many came between");
    assert_eq!(version(&json), version(&run_json(&cluster, &["get", "hits"]).1));
}

#[test]
fn what_is_not_accepted_ends_with_2_and_says_why() {
    // No node is asked.
    for (arguments, parts) in [
        (&["set", "k", "v", "--if-version", ""][..], ["--if-version", "it is empty"]),
        (&["delete", "k", "--if-version", ""], ["--if-version", "it is empty"]),
        (&["add", "k", "--since", ""], ["--since", "it is empty"]),
        (&["get", "k", "--at-least", ""], ["--at-least", "it is empty"]),
        (&["set", "k", "v", "--if-absent", "--if-present"], ["--if-absent", "cannot be used with"]),
        (&["set", "k", "v", "--if-absent", "--if-version", "A"], ["--if-absent", "cannot be used with"]),
        (&["set", "k", "v", "--if-present", "--if-version", "A"], ["--if-present", "cannot be used with"]),
        (&["delete", "k", "--if-present", "--if-version", "A"], ["--if-present", "cannot be used with"]),
        (&["set", "k", "v", "--ttl", "0s"], ["--ttl", "1ms to 3650d is accepted"]),
        (&["set", "k", "v", "--ttl", "-1s"], ["--ttl", "1ms to 3650d is accepted"]),
        (&["set", "k", "v", "--ttl", "3651d"], ["--ttl", "1ms to 3650d is accepted"]),
        (&["add", "k", "--ttl", "soon"], ["--ttl", "1ms to 3650d is accepted"]),
        (&["add", "k", "one"], ["one", "whole number"]),
        (&["add", "k", "1.5"], ["1.5", "whole number"]),
        (&["add", "k", "9223372036854775808"], ["9223372036854775808", "whole number"]),
    ] {
        let mut command = process::command();
        let output = command.args(arguments).args(["--address", "127.0.0.1:1"]).stdin(Stdio::null()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_of_another_cluster_is_not_accepted() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    for arguments in [
        &["set", "k", "v", "--if-version", "nonsense"][..],
        &["delete", "k", "--if-version", "nonsense"],
        &["add", "k", "--since", "nonsense"],
        &["get", "k", "--at-least", "nonsense"],
    ] {
        let (code, printed, said) = run(&cluster, arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains("no version of this cluster"), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_sixteen_sets_at_once_finds_the_key_absent() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    for round in 0..3 {
        let key = format!("once-{round}");
        let start = |number: usize| {
            let value = number.to_string();
            let mut command = quorate(&cluster, &["set", &key, &value, "--if-absent", "--timeout", "30s"]);
            command.env("QUORATE_ADDRESS", cluster.nodes[number % 3].address());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<Child> = (0..16).map(start).collect();
        let ended: Vec<Output> = running.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let codes: Vec<Option<i32>> = ended.iter().map(|output| output.status.code()).collect();
        let done: Vec<usize> = (0..16).filter(|number| codes[*number] == Some(0)).collect();
        assert_eq!(done.len(), 1, "{codes:?}");
        assert!((0..16).all(|number| number == done[0] || codes[number] == Some(5)), "{codes:?}");
        assert_eq!(value(&cluster, &key).await, Some(done[0].to_string()));
        let made = text(&ended[done[0]].stdout);
        let told = ended.iter().filter(|output| text(&output.stderr).contains(made.trim())).count();
        assert_eq!(told, 15, "the others are told the version that the one made");
    }
}
