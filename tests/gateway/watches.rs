//! Cluster/Watch, as clients see it.

use quorate::api::watch_request::Keys;
use quorate::api::watch_response::Event;
use tonic::Streaming;

use super::*;

fn of_prefix(prefix: &str) -> api::WatchRequest {
    api::WatchRequest { keys: Some(Keys::Prefix(prefix.to_owned())), values: true, ..Default::default() }
}

async fn next(watch: &mut Streaming<api::WatchResponse>) -> (Vec<u8>, Event) {
    let message = tokio::time::timeout(Duration::from_secs(10), watch.message()).await.expect("it comes soon");
    let message = message.unwrap().expect("the watch goes on");
    (message.cursor.to_vec(), message.event.expect("each message has an event"))
}

#[tokio::test]
async fn changes_are_told_through_any_node_and_go_on_elsewhere() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut watches = Vec::new();
    for node in &nodes {
        let mut watch = node.cluster().await.watch(of_prefix("user:")).await.unwrap().into_inner();
        assert_eq!(next(&mut watch).await.1, Event::Ready(api::WatchReady {}));
        watches.push(watch);
    }
    let mut cluster = nodes[0].cluster().await;
    cluster.set(set("other", "0")).await.unwrap();
    let put = cluster.set(set("user:1", "one")).await.unwrap().into_inner();
    let mut cursor = Vec::new();
    for watch in &mut watches {
        let (at, event) = next(watch).await;
        let Event::Put(told) = event else { panic!("a value was set: {event:?}") };
        assert_eq!((told.key.as_str(), &told.version), ("user:1", &put.version));
        assert_eq!(told.entry, Some(text("user:1", "one")));
        cursor = at;
    }
    drop(watches);
    let gone = cluster.delete(api::DeleteRequest { key: "user:1".into(), ..Default::default() }).await.unwrap();
    let request = api::WatchRequest { cursor: cursor.clone().into(), ..of_prefix("user:") };
    let mut watch = nodes[1].cluster().await.watch(request).await.unwrap().into_inner();
    let mut events = [next(&mut watch).await.1, next(&mut watch).await.1];
    events.sort_by_key(|event| matches!(event, Event::Ready(_)));
    let version = gone.into_inner().version;
    assert_eq!(events[0], Event::Deleted(api::WatchDeleted { key: "user:1".into(), version }), "it was missed");

    let foreign = api::WatchRequest { cursor: cursor.into(), ..of_prefix("user") };
    let status = nodes[1].cluster().await.watch(foreign).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(FailureReason::InvalidArgument)));
    assert!(status.message().starts_with("cursor: "), "{status}");
}

/// The keys that are there come first, then `ready` with the first cursor, then changes. A cursor that reaches back needs no list.
#[tokio::test]
async fn what_is_there_is_told_before_the_changes() {
    // More than a page.
    const KEYS: usize = 1_100;
    let nodes = start(Plan { nodes: 3, replica_count: 2, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let names: Vec<String> = (0..KEYS).map(|n| format!("user:{n:04}")).collect();
    for name in &names {
        cluster.set(set(name, name)).await.unwrap();
    }
    let ttl = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    cluster.set(api::SetRequest { ttl, ..set("user:0007", "expires") }).await.unwrap();
    cluster.set(set("other", "x")).await.unwrap();
    for (values, node) in [(true, &nodes[1]), (false, &nodes[2])] {
        let request = api::WatchRequest { with_list: true, values, ..of_prefix("user:") };
        let mut watch = node.cluster().await.watch(request.clone()).await.unwrap().into_inner();
        let mut told = Vec::new();
        let cursor = loop {
            match next(&mut watch).await {
                (cursor, Event::Put(put)) => {
                    assert!(cursor.is_empty(), "not everything is told");
                    assert!(!put.version.is_empty());
                    let expires = put.key == "user:0007";
                    let value = if expires { "expires" } else { &put.key };
                    assert_eq!(put.entry, values.then(|| text(&put.key, value)));
                    assert_eq!(put.ttl.is_some_and(|ttl| (3_000..=3_600).contains(&ttl.seconds)), expires);
                    told.push(put.key);
                }
                (cursor, Event::Ready(_)) => break cursor,
                other => panic!("what is there is told: {other:?}"),
            }
        };
        assert_eq!(told, names);
        let version = cluster.set(set("user:", "new")).await.unwrap().into_inner().version;
        let (_, event) = next(&mut watch).await;
        let Event::Put(put) = event else { panic!("a value was set: {event:?}") };
        assert_eq!((put.key.as_str(), put.version), ("user:", version));
        drop(watch);
        cluster.delete(api::DeleteRequest { key: "user:".into(), ..Default::default() }).await.unwrap();
        let request = api::WatchRequest { cursor: cursor.into(), ..request };
        let mut watch = nodes[0].cluster().await.watch(request).await.unwrap().into_inner();
        let mut is_gone = false;
        loop {
            match next(&mut watch).await.1 {
                Event::Put(put) => assert_eq!(put.key, "user:", "what is there is not told again"),
                Event::Deleted(deleted) => is_gone = deleted.key == "user:",
                Event::Ready(_) => break,
                other => panic!("{other:?}"),
            }
        }
        while !is_gone {
            is_gone = matches!(next(&mut watch).await.1, Event::Deleted(deleted) if deleted.key == "user:");
        }
    }
    let of_key = api::WatchRequest { keys: Some(Keys::Key("other".into())), with_list: true, ..of_prefix("") };
    let mut watch = nodes[0].cluster().await.watch(of_key).await.unwrap().into_inner();
    assert!(matches!(next(&mut watch).await.1, Event::Put(put) if put.entry == Some(text("other", "x"))));
    assert!(matches!(next(&mut watch).await.1, Event::Ready(_)));
}

#[tokio::test]
async fn watch_ends_with_a_reason_where_its_node_drains() {
    let served = start_one().await;
    let mut watch = served.cluster().await.watch(of_prefix("")).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.1, Event::Ready(api::WatchReady {}));
    served.node.drain().await;
    let status = watch.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotReady)));
    assert!(status.message().contains("cursor"), "{status}");
    let mut refused = served.cluster().await.watch(of_prefix("")).await.unwrap().into_inner();
    assert_eq!(refused.message().await.unwrap_err().code(), Code::Unavailable);
}

/// 1,000 watches of one prefix and one client that reads nothing: it is cut off, and the others get each event.
#[tokio::test(flavor = "multi_thread")]
async fn slow_watch_among_a_thousand_is_ended_and_the_others_do_not_notice() {
    const WATCHES: usize = 1_000;
    /// More than may wait in the node and on the connection.
    const WRITES: usize = 3_000;
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut slow = nodes[0].cluster().await.watch(of_prefix("k")).await.unwrap().into_inner();
    let mut quick = Vec::new();
    let channel = nodes[0].cluster().await;
    for _ in 0..WATCHES {
        let mut watch = channel.clone().watch(of_prefix("w")).await.unwrap().into_inner();
        assert_eq!(next(&mut watch).await.1, Event::Ready(api::WatchReady {}));
        quick.push(watch);
    }
    let mut cluster = nodes[1].cluster().await;
    let value = "v".repeat(8 << 10);
    let noise = tokio::spawn({
        let mut cluster = nodes[2].cluster().await;
        async move {
            for n in 0..WRITES {
                cluster.set(set(&format!("k{n}"), &value)).await.unwrap();
            }
        }
    });
    // From a write's acknowledgement to its event at the last of the watches, all of them in this process.
    let mut delays = Vec::new();
    let mut to_first = Vec::new();
    for n in 0..100 {
        cluster.set(set(&format!("w{n}"), "x")).await.unwrap();
        let acknowledged = Instant::now();
        for (place, watch) in quick.iter_mut().enumerate() {
            assert!(matches!(next(watch).await.1, Event::Put(put) if put.key == format!("w{n}")));
            if place == 0 {
                to_first.push(acknowledged.elapsed());
            }
        }
        delays.push(acknowledged.elapsed());
    }
    noise.await.unwrap();
    for (what, mut delays) in [("the first of 1,000", to_first), ("the last of 1,000", delays)] {
        delays.sort_unstable();
        println!("from the acknowledgement to the event at {what}: p50 {:?}, p99 {:?}", delays[49], delays[98]);
    }
    assert_eq!(nodes[0].handle().metrics().watches_too_slow.get(), 1);
    let ended = loop {
        match slow.message().await {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    assert_eq!((ended.code(), reason(&ended)), (Code::ResourceExhausted, Some(FailureReason::NotReady)));
}
