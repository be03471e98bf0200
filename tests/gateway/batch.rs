//! Cluster/BatchGet, as clients see it.

use super::*;

fn batch(keys: impl IntoIterator<Item = impl Into<String>>) -> api::BatchGetRequest {
    api::BatchGetRequest { keys: keys.into_iter().map(Into::into).collect() }
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
    let placement = nodes[0].handle().placement();
    let (mut read, mut failed) = (0, 0);
    for (key, result) in keys.iter().zip(results) {
        let replicas = placement.replicas(placement.slot(&Key::new(key.clone()).unwrap()));
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
