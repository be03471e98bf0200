//! Cluster/BatchGet and Cluster/BatchWrite, as clients see them.

use super::*;

fn batch(keys: impl IntoIterator<Item = impl Into<String>>) -> api::BatchGetRequest {
    api::BatchGetRequest { keys: keys.into_iter().map(Into::into).collect(), ..Default::default() }
}

#[tokio::test]
async fn batch_is_answered_in_the_order_of_its_keys() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let a = cluster.set(set("a", "1")).await.unwrap().into_inner().clock;
    let b = nodes[1].cluster().await.set(set("b", "2")).await.unwrap().into_inner().clock;
    let deleted =
        cluster.delete(api::DeleteRequest { key: "c".into(), ..Default::default() }).await.unwrap().into_inner().clock;
    let result = |key: &str, entry, clock: &Option<_>| api::BatchGetResult {
        key: key.into(),
        entry,
        clock: clock.clone(),
        error: None,
        ..Default::default()
    };
    let results = cluster.batch_get(batch(["b", "none", "a", "c", "b"])).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| !result.version.is_empty()));
    let without_version = |result| api::BatchGetResult { version: String::new(), ..result };
    let results: Vec<api::BatchGetResult> = results.into_iter().map(without_version).collect();
    let b = result("b", Some(text("b", "2")), &b);
    let expected =
        [b.clone(), result("none", None, &None), result("a", Some(text("a", "1")), &a), result("c", None, &deleted), b];
    assert_eq!(results, expected, "a key that is given twice is read twice");

    let names: Vec<String> = (0..1_000).map(|n| format!("{}-{n}", "k".repeat(KEY_BYTES_MAX - 10))).collect();
    let results = cluster.batch_get(batch(names.clone())).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|result| &result.key).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(results.iter().all(|result| result.error.is_none()));

    let client = quorate::Client::new(nodes.iter().map(|node| node.address.clone())).unwrap();
    let found = client.batch_get(["a", "none"]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().value, Value::Text("1".into()));
    assert!(found[1].as_ref().unwrap().is_none());
}

#[tokio::test]
async fn batch_that_is_not_valid_says_what_is_accepted() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    for (keys, part) in [
        (Vec::new(), "0 keys are given: 1 to 1000 are accepted"),
        (vec!["k".to_owned(); 1_001], "1001 keys are given: 1 to 1000 are accepted"),
        (vec!["a".to_owned(), String::new()], "keys[1]: the key is empty"),
        (vec!["k".repeat(KEY_BYTES_MAX + 1)], "keys[0]"),
    ] {
        let status = cluster.batch_get(batch(keys)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(FailureReason::InvalidArgument)));
        assert!(status.message().contains(part), "{status}");
    }
}

#[tokio::test]
async fn values_beyond_the_room_of_a_batch_have_an_error_of_their_own() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    for n in 0..4 {
        let large = entry(&format!("large-{n}"), Some(Arm::Binary(vec![n; VALUE_BYTES_MAX / 2].into())));
        cluster.set(api::SetRequest { entry: Some(large), ..Default::default() }).await.unwrap();
    }
    cluster.set(set("small", "v")).await.unwrap();
    let keys = ["large-0", "large-1", "large-2", "large-3"];
    let results = cluster.batch_get(batch(keys)).await.unwrap().into_inner().results;
    let (fit, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.error.is_none());
    assert_eq!((fit.len(), refused.len()), (2, 2));
    for result in fit {
        assert!(
            matches!(result.entry.unwrap().content, Some(Arm::Binary(value)) if value.len() == VALUE_BYTES_MAX / 2)
        );
    }
    for result in refused {
        let error = result.error.unwrap();
        assert_eq!((Code::from(error.code), error.reason.as_str()), (Code::ResourceExhausted, "NOT_READY"));
        assert!(error.message.contains("62914560 bytes together") && error.message.contains("alone"), "{error:?}");
    }
    let results = cluster.batch_get(batch(["large-0", "small"])).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()));
}

#[tokio::test]
async fn keys_of_a_batch_without_a_majority_fail_alone_and_by_its_deadline() {
    let mut nodes = start(Plan { nodes: 5, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        cluster.set(set(key, "v")).await.unwrap();
    }
    let gone = [NodeIndex(3), NodeIndex(4)];
    for other in nodes.drain(3..) {
        other.stop().await;
    }
    until(async || {
        let status = nodes[0].handle().status().await.unwrap();
        status.peers.iter().filter(|peer| peer.view == TALKING).count() == 2
    })
    .await;

    let began = Instant::now();
    let request = with_timeout(batch(keys.clone()), Duration::from_secs(1));
    let results = cluster.batch_get(request).await.unwrap().into_inner().results;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let layout = nodes[0].handle().layout();
    let (mut read, mut failed) = (0, 0);
    for (key, result) in keys.iter().zip(results) {
        let replicas = layout.replicas(layout.slot(&Key::new(key.clone()).unwrap()));
        if gone.iter().all(|node| replicas.contains(node)) {
            let error = result.error.unwrap();
            assert_eq!((Code::from(error.code), error.reason.as_str()), (Code::Unavailable, "NO_QUORUM"));
            assert!(error.message.contains("not reachable"), "{error:?}");
            failed += 1;
        } else {
            assert_eq!((result.entry, result.error), (Some(text(key, "v")), None));
            read += 1;
        }
    }
    assert!(read > 0 && failed > 0, "{read} {failed}");
}

#[tokio::test]
async fn batch_that_a_node_does_not_take_fails_as_a_whole() {
    let served = start(Plan { requests_in_flight_max: 0, ..Plan::default() }).await.remove(0);
    let status = served.cluster().await.batch_get(batch(["a", "b"])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, Some(FailureReason::NotReady)));
    let served = start(Plan { requests_in_flight_max: 1, ..Plan::default() }).await.remove(0);
    let mut cluster = served.cluster().await;
    assert_eq!(cluster.batch_get(batch(["a", "b"])).await.unwrap().into_inner().results.len(), 2, "it is one request");
    served.node.drain().await;
    let status = cluster.batch_get(batch(["a", "b"])).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotReady)));
    assert!(status.message().contains("ask another one"), "{status}");
}

fn writes(entries: impl IntoIterator<Item = api::batch_write_entry::Write>) -> api::BatchWriteRequest {
    let entries = entries.into_iter().map(|write| api::BatchWriteEntry { write: Some(write) });
    api::BatchWriteRequest { entries: entries.collect(), ..Default::default() }
}

fn sets(key: &str, value: &str) -> api::batch_write_entry::Write {
    api::batch_write_entry::Write::Set(set(key, value))
}

fn deletes(key: &str) -> api::batch_write_entry::Write {
    api::batch_write_entry::Write::Delete(api::DeleteRequest { key: key.into(), ..Default::default() })
}

fn set_if_absent(key: &str, value: &str) -> api::batch_write_entry::Write {
    let condition = Some(api::Condition { condition: Some(api::condition::Condition::IfAbsent(true)) });
    api::batch_write_entry::Write::Set(api::SetRequest { condition, ..set(key, value) })
}

#[tokio::test]
async fn each_write_of_a_batch_has_an_outcome_of_its_own() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let there = cluster.set(set("there", "old")).await.unwrap().into_inner();
    cluster.set(set("gone", "old")).await.unwrap();
    let request = writes([sets("a", "1"), deletes("gone"), set_if_absent("there", "2"), set_if_absent("new", "3")]);
    let results = nodes[1].cluster().await.batch_write(request).await.unwrap().into_inner().results;
    let names: Vec<&str> = results.iter().map(|result| &*result.key).collect();
    assert_eq!(names, ["a", "gone", "there", "new"]);
    let error = results[2].error.as_ref().unwrap();
    assert_eq!((error.code, &*error.reason), (9, "CONDITION_FAILED"));
    assert_eq!((&error.version, error.has_value), (&there.version, true));
    assert!(results[2].version.is_empty() && results[2].clock.is_none());
    for (name, value) in [("a", Some("1")), ("gone", None), ("there", Some("old")), ("new", Some("3"))] {
        let got = cluster.get(get(name)).await.unwrap().into_inner();
        assert_eq!(got.entry, value.map(|value| text(name, value)), "{name}");
        let result = results.iter().find(|result| result.key == name).unwrap();
        assert!(result.error.is_some() || result.version == got.version, "{name}");
    }

    let names: Vec<String> = (0..1_000).map(|n| format!("many/{n:03}")).collect();
    let many = writes(names.iter().map(|name| sets(name, "v")));
    let results = cluster.batch_write(many).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()));
    let found = cluster.batch_get(batch(names)).await.unwrap().into_inner().results;
    assert!(found.iter().zip(&results).all(|(found, written)| found.version == written.version));
}

#[tokio::test]
async fn batch_of_writes_that_is_not_valid_does_nothing() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let large = |key: &str| {
        let entry = entry(key, Some(Arm::Binary(vec![0; VALUE_BYTES_MAX / 2 + 1].into())));
        api::batch_write_entry::Write::Set(api::SetRequest { entry: Some(entry), ..Default::default() })
    };
    let nothing = api::BatchWriteRequest { entries: vec![api::BatchWriteEntry { write: None }], ..Default::default() };
    for (request, part) in [
        (writes([]), "entries: 0 entries are given: 1 to 1000 are accepted"),
        (writes((0..1_001).map(|n| sets(&n.to_string(), "v"))), "entries: 1001 entries are given"),
        (writes([sets("a", "1"), sets("b", "1"), deletes("a")]), "entries[2]: its key is that of entries[0] too"),
        (writes([sets("a", "1"), sets("", "1")]), "entries[1].entry.key: the key is empty"),
        (writes([large("a"), large("b")]), "bytes together: at most 62914560 are accepted"),
        (nothing, "entries[0].write is missing: give set or delete"),
    ] {
        let status = cluster.batch_write(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(FailureReason::InvalidArgument)));
        assert!(status.message().contains(part), "{status}");
    }
    assert_eq!(cluster.get(get("a")).await.unwrap().into_inner().entry, None);
}

#[tokio::test]
async fn client_writes_many_keys_with_an_outcome_for_each() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let client = quorate::Client::new(nodes.iter().map(|node| node.address.clone())).unwrap();
    let many = (0..1_000).map(|n| client.set(format!("k{n}"), n.to_string()).into());
    let written = client.batch_write(many).await.unwrap();
    assert!(written.len() == 1_000 && written.iter().all(Result::is_ok));
    let writes = [
        client.set("k1", "other").if_absent().into(),
        client.delete("k2").if_version(written[2].as_ref().unwrap().version.clone()).into(),
        client.set("new", "value").if_absent().into(),
    ];
    let results = client.batch_write(writes).await.unwrap();
    let held = &written[1].as_ref().unwrap().version;
    assert!(
        matches!(&results[0], Err(quorate::ClientError::ConditionFailed { version, has_value: true }) if version == held),
        "{results:?}"
    );
    assert!(results[1].is_ok() && results[2].is_ok(), "{results:?}");
    assert_eq!(client.get("k1").await.unwrap().unwrap().value, Value::Text("1".into()));
    assert!(client.get("k2").await.unwrap().is_none());
    assert_eq!(client.get("k999").await.unwrap().unwrap().value, Value::Text("999".into()));
}
