//! Cluster/List, as clients see it.

use super::*;

fn list(prefix: &str) -> api::ListRequest {
    api::ListRequest { prefix: prefix.into(), ..Default::default() }
}

/// All pages of a list.
async fn pages(served: &Served, request: api::ListRequest) -> Vec<api::ListResponse> {
    let mut stream = served.cluster().await.list(request).await.unwrap().into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await.unwrap() {
        pages.push(page);
    }
    assert!(!pages.is_empty(), "there is always a page");
    pages
}

/// The keys of a list, and where it goes on.
async fn keys(served: &Served, request: api::ListRequest) -> (Vec<String>, Option<String>) {
    let pages = pages(served, request).await;
    let next = pages.last().unwrap().next.clone();
    (pages.into_iter().flat_map(|page| page.entries).map(|entry| entry.key).collect(), next)
}

#[tokio::test]
async fn keys_are_listed_in_the_order_of_their_bytes_through_any_node() {
    let nodes = start(Plan { nodes: 5, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let names: Vec<String> = (0..120).map(|n| format!("user:{n:03}")).chain(["a".into(), "zürich".into()]).collect();
    let mut versions = std::collections::BTreeMap::new();
    for name in &names {
        let written = cluster.set(set(name, "v")).await.unwrap().into_inner();
        versions.insert(name.clone(), written.version);
    }
    for n in (0..120).step_by(3) {
        let name = format!("user:{n:03}");
        cluster.delete(api::DeleteRequest { key: name.clone(), ..Default::default() }).await.unwrap();
        versions.remove(&name);
    }
    let expected: Vec<String> = versions.keys().cloned().collect();
    for served in &nodes {
        assert_eq!(keys(served, list("")).await, (expected.clone(), None));
    }
    let of_users: Vec<String> = expected.iter().filter(|name| name.starts_with("user:")).cloned().collect();
    assert_eq!(keys(&nodes[1], list("user:")).await, (of_users.clone(), None));
    assert_eq!(keys(&nodes[2], list("nobody")).await, (Vec::new(), None));
    for (start_after, place) in [("user:004", 3), ("user:0045", 3), ("user:", 0), ("a", 0), ("zzz", 80)] {
        let request = api::ListRequest { start_after: start_after.into(), ..list("user:") };
        assert_eq!(keys(&nodes[3], request).await, (of_users[place..].to_vec(), None), "{start_after}");
    }
    // A list that is cut off by its limit goes on where it ended, through another node.
    let (mut all, mut start_after, mut through) = (Vec::new(), String::new(), 0);
    loop {
        let request = api::ListRequest { start_after, limit: 7, ..list("") };
        let (some, next) = keys(&nodes[through % 5], request).await;
        assert!(some.len() <= 7);
        all.extend(some);
        let Some(next) = next else { break };
        (start_after, through) = (next, through + 1);
    }
    assert_eq!(all, expected);
    let listed = pages(&nodes[4], list("")).await.into_iter().flat_map(|page| page.entries);
    for entry in listed {
        assert_eq!((Some(&entry.version), entry.entry), (versions.get(&entry.key), None), "{}", entry.key);
    }
}

#[tokio::test]
async fn values_come_with_their_keys_and_pages_stay_small() {
    let nodes = start(Plan { nodes: 3, replica_count: 2, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    for n in 0_u8..40 {
        // Some are larger than what is read out of turn.
        let bytes = if n % 4 == 0 { 300_000 } else { 10 };
        let entry = entry(&format!("k{n:02}"), Some(Arm::Binary(vec![n; bytes].into())));
        let ttl = (n == 7).then_some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        cluster.set(api::SetRequest { entry: Some(entry), ttl, ..Default::default() }).await.unwrap();
    }
    let large = entry("large", Some(Arm::Binary(vec![9; 8 << 20].into())));
    cluster.set(api::SetRequest { entry: Some(large), ..Default::default() }).await.unwrap();
    let pages = pages(&nodes[1], api::ListRequest { values: true, ..list("") }).await;
    assert!(pages.len() >= 2);
    for page in &pages {
        let bytes = prost::Message::encoded_len(page);
        assert!(bytes < 4 << 20 || page.entries.len() == 1, "{bytes} bytes");
    }
    let listed: Vec<api::ListedEntry> = pages.into_iter().flat_map(|page| page.entries).collect();
    assert_eq!(listed.len(), 41);
    for found in &listed {
        let got = cluster.get(get(&found.key)).await.unwrap().into_inner();
        assert_eq!((&got.entry, &got.version), (&found.entry, &found.version), "{}", found.key);
        assert_eq!(found.ttl.is_some(), found.key == "k07");
    }
}

/// An export takes the times to live from here: the whole ones would prolong lives.
#[tokio::test]
async fn list_tells_what_is_left_of_a_time_to_live() {
    let nodes = start(Plan { nodes: 3, replica_count: 2, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    let whole = prost_types::Duration { seconds: 3_600, nanos: 0 };
    cluster.set(api::SetRequest { ttl: Some(whole), ..set("k", "v") }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for node in &nodes {
        for values in [false, true] {
            let page = pages(node, api::ListRequest { values, ..list("") }).await.remove(0);
            let left = Duration::try_from(page.entries[0].ttl.unwrap()).unwrap();
            assert!((3_500_000..=3_599_950).contains(&left.as_millis()), "values {values}: {left:?}");
            assert_eq!(page.entries[0].entry.is_some(), values);
        }
    }
}

#[tokio::test]
async fn list_goes_on_while_a_minority_is_down_and_says_so_when_a_majority_is() {
    let mut nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut cluster = nodes[0].cluster().await;
    for n in 0..30 {
        cluster.set(set(&format!("k{n:02}"), "v")).await.unwrap();
    }
    nodes.pop().unwrap().stop().await;
    cluster.set(set("k30", "v")).await.unwrap();
    let (found, next) = keys(&nodes[1], list("k")).await;
    assert_eq!((found.len(), next), (31, None));
    nodes.pop().unwrap().stop().await;
    let request = with_timeout(list("k"), Duration::from_millis(500));
    let status = cluster.list(request).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NoQuorum)), "{status}");
    assert!(status.message().contains("2 of the 3 replicas of slot"), "{status}");
}

#[tokio::test]
async fn list_that_is_not_valid_says_what_is_accepted() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    for (request, part) in [
        (list(&long), "prefix: the key has 4097 bytes: at most 4096 are accepted"),
        (api::ListRequest { start_after: long.clone(), ..list("") }, "start_after: the key has 4097 bytes"),
    ] {
        let status = cluster.list(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(FailureReason::InvalidArgument)));
        assert!(status.message().contains(part), "{status}");
    }
    let request = api::ListRequest { limit: u64::MAX, ..list(&"k".repeat(KEY_BYTES_MAX)) };
    assert_eq!(keys(&served, request).await, (Vec::new(), None));
}

#[tokio::test]
async fn lists_beyond_the_bound_are_refused_and_those_that_hang_up_make_room() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let large = || Some(Arm::Binary(vec![1; 3 << 20].into()));
    for n in 0..8 {
        let entry = entry(&format!("k{n}"), large());
        cluster.set(api::SetRequest { entry: Some(entry), ..Default::default() }).await.unwrap();
    }
    // Nobody reads them, so that they do not end.
    let mut open = Vec::new();
    let request = || api::ListRequest { values: true, ..list("") };
    let refused = loop {
        match cluster.list(request()).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
    };
    // Half of what the others leave, which is all.
    assert_eq!(open.len(), quorate::limits::LISTS_MAX / 2);
    assert_eq!((refused.code(), reason(&refused)), (Code::ResourceExhausted, Some(FailureReason::NotReady)));
    drop(open);
    let accepted = async || cluster.clone().list(request()).await.is_ok();
    until(accepted).await;
}

#[tokio::test]
async fn index_that_cannot_be_read_fails_the_list() {
    let plan = Plan { store: |_| Arc::new(Lying(MemoryStore::new(StoreId(1)))), ..Plan::default() };
    let served = start(plan).await.remove(0);
    let mut stream = served.cluster().await.list(list("")).await.unwrap().into_inner();
    let status = stream.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NoQuorum)), "{status}");
    assert!(status.message().contains("could not read its record"), "{status}");
}
