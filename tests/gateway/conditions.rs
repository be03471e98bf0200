//! Conditional writes, additions, versions and reads of one replica, as the wire has them.

use super::*;
use quorate::api::condition::Condition as If;
use quorate::wire::failure::Current;

type Cluster = ClusterClient<Channel>;

#[expect(clippy::unnecessary_wraps, reason = "the field of a request is an option")]
fn when(condition: If) -> Option<api::Condition> {
    Some(api::Condition { condition: Some(condition) })
}

fn set_if(key: &str, value: &str, condition: If) -> api::SetRequest {
    api::SetRequest { condition: when(condition), ..set(key, value) }
}

fn delete_if(key: &str, condition: If) -> api::DeleteRequest {
    api::DeleteRequest { key: key.into(), condition: when(condition), ..Default::default() }
}

fn add(key: &str, delta: i64) -> api::AddRequest {
    api::AddRequest { key: key.into(), delta, ..Default::default() }
}

fn get_one(key: &str, at_least: Option<&str>) -> api::GetRequest {
    let consistency = api::Consistency::One.into();
    api::GetRequest { consistency, at_least: at_least.map(str::to_owned), ..get(key) }
}

#[expect(clippy::unnecessary_wraps, reason = "the field of a request is an option")]
fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn version(cluster: &mut Cluster, key: &str) -> String {
    cluster.get(get(key)).await.unwrap().into_inner().version
}

fn current(status: &Status) -> (Code, Option<FailureReason>, Current) {
    let failure = Failure::from_status(status).unwrap_or_else(|| panic!("no details: {status}"));
    let current = failure.current.unwrap_or_else(|| panic!("no present version: {status}"));
    (status.code(), Some(failure.reason), current)
}

fn failed(version: &str, has_value: bool) -> (Code, Option<FailureReason>, Current) {
    let current = Current { version: version.to_owned(), has_value };
    (Code::FailedPrecondition, Some(FailureReason::ConditionFailed), current)
}

#[tokio::test]
async fn each_condition_holds_or_fails_with_the_present_version() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let (mut first, mut second) = (nodes[0].cluster().await, nodes[1].cluster().await);
    let never_written = version(&mut first, "k").await;
    assert!(!never_written.is_empty(), "an absence has a version");

    let status = first.set(set_if("k", "v", If::IfPresent(true))).await.unwrap_err();
    assert_eq!(current(&status), failed(&never_written, false));
    let status = first.delete(delete_if("k", If::IfPresent(true))).await.unwrap_err();
    assert_eq!(current(&status), failed(&never_written, false));
    let one = first.set(set_if("k", "1", If::IfVersion(never_written.clone()))).await.unwrap().into_inner();
    assert_eq!(one.clock, None, "it builds on no plain write");
    let status = second.set(set_if("k", "x", If::IfVersion(never_written.clone()))).await.unwrap_err();
    assert_eq!(current(&status), failed(&one.version, true));
    assert!(status.message().contains("never will be") && status.message().contains(&one.version), "{status}");
    let status = second.set(set_if("k", "x", If::IfAbsent(true))).await.unwrap_err();
    assert_eq!(current(&status), failed(&one.version, true));

    let two = second.set(set_if("k", "2", If::IfPresent(true))).await.unwrap().into_inner();
    let got = first.get(get("k")).await.unwrap().into_inner();
    assert_eq!((got.entry, got.version, got.clock), (Some(text("k", "2")), two.version.clone(), None));
    let plain = first.set(set("k", "3")).await.unwrap().into_inner();
    assert!(plain.clock.is_some() && plain.version == version(&mut second, "k").await);
    let four = second.set(set_if("k", "4", If::IfVersion(plain.version.clone()))).await.unwrap().into_inner();
    assert_eq!(four.clock, plain.clock, "the stamp of the write that it builds on");
    let status = first.delete(delete_if("k", If::IfVersion(plain.version))).await.unwrap_err();
    assert_eq!(current(&status), failed(&four.version, true));

    let deleted = first.delete(delete_if("k", If::IfVersion(four.version.clone()))).await.unwrap().into_inner();
    let got = second.get(get("k")).await.unwrap().into_inner();
    assert_eq!((got.entry, &got.version), (None, &deleted.version), "a deletion has a version");
    assert_ne!(deleted.version, never_written);
    let batch = second
        .batch_get(api::BatchGetRequest { keys: vec!["k".into(), "none".into()], ..Default::default() })
        .await
        .unwrap();
    let versions: Vec<String> = batch.into_inner().results.into_iter().map(|result| result.version).collect();
    assert_eq!(versions, [deleted.version.clone(), never_written.clone()]);
    let again = second.set(set_if("k", "5", If::IfAbsent(true))).await.unwrap().into_inner();
    for old in [never_written, one.version, two.version, four.version, deleted.version] {
        let status = first.set(set_if("k", "x", If::IfVersion(old))).await.unwrap_err();
        assert_eq!(current(&status), failed(&again.version, true), "no version comes back");
    }
}

#[tokio::test]
async fn request_that_is_sent_again_takes_effect_once() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let (mut first, mut second) = (nodes[0].cluster().await, nodes[1].cluster().await);
    let base = version(&mut first, "k").await;
    let request_id = bytes::Bytes::from_static(&[7; 16]);
    let named =
        |condition, resend| api::SetRequest { request_id: request_id.clone(), resend, ..set_if("k", "v", condition) };
    let once = first.set(named(If::IfVersion(base.clone()), false)).await.unwrap().into_inner();
    let again = second.set(named(If::IfVersion(base.clone()), true)).await.unwrap().into_inner();
    assert_eq!(again, once, "the second try finds the first one");
    second.set(set("k", "w")).await.unwrap();
    let status = first.set(named(If::IfVersion(base), true)).await.unwrap_err();
    let expected = (Code::DeadlineExceeded, Some(FailureReason::OutcomeUnknown));
    assert_eq!((status.code(), reason(&status)), expected, "a plain write came between");
    assert_eq!(first.get(get("k")).await.unwrap().into_inner().entry, Some(text("k", "w")));

    // Without a version, a resend asks and does not run.
    let other = bytes::Bytes::from_static(&[8; 16]);
    let ask = api::SetRequest { request_id: other, resend: true, ..set_if("new", "v", If::IfAbsent(true)) };
    let status = first.set(ask).await.unwrap_err();
    assert_eq!(reason(&status), Some(FailureReason::OutcomeUnknown), "{status}");
    assert_eq!(first.get(get("new")).await.unwrap().into_inner().entry, None);
    let condition_false =
        api::SetRequest { request_id: vec![9; 16].into(), resend: true, ..set_if("k", "x", If::IfAbsent(true)) };
    let status = first.set(condition_false).await.unwrap_err();
    assert_eq!(reason(&status), Some(FailureReason::OutcomeUnknown), "{status}");
}

#[tokio::test]
async fn additions_count_up_to_the_ends_of_64_bits_and_only_numbers() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let (mut first, mut second) = (nodes[0].cluster().await, nodes[1].cluster().await);
    let one = first.add(add("hits", 1)).await.unwrap().into_inner();
    assert_eq!(one.value, 1, "an absent key counts as 0");
    assert_eq!(one.version, version(&mut second, "hits").await);
    assert_eq!(second.add(add("hits", -5)).await.unwrap().into_inner().value, -4);
    assert_eq!(first.get(get("hits")).await.unwrap().into_inner().entry, Some(text("hits", "-4")), "as Redis keeps it");

    let largest = i64::MAX;
    first.set(set("hits", &largest.to_string())).await.unwrap();
    assert_eq!(first.add(add("hits", 0)).await.unwrap().into_inner().value, largest);
    let present = version(&mut first, "hits").await;
    let status = second.add(add("hits", 1)).await.unwrap_err();
    let not_a_number = |version: &str| {
        let current = Current { version: version.to_owned(), has_value: true };
        (Code::FailedPrecondition, Some(FailureReason::NotANumber), current)
    };
    assert_eq!(current(&status), not_a_number(&present));
    assert_eq!(version(&mut first, "hits").await, present, "nothing was changed");
    first.add(add("low", i64::MIN)).await.unwrap();
    let low = version(&mut first, "low").await;
    assert_eq!(current(&first.add(add("low", -1)).await.unwrap_err()), not_a_number(&low));
    for other in ["", "one", "1.5", " 1", "+1", "007", "9223372036854775808"] {
        first.set(set("text", other)).await.unwrap();
        let present = version(&mut first, "text").await;
        let status = second.add(add("text", 1)).await.unwrap_err();
        assert_eq!(current(&status), not_a_number(&present), "{other:?}");
        assert!(status.message().contains("no number in decimal"), "{status}");
    }
}

#[tokio::test]
async fn addition_with_a_known_version_may_be_sent_again_and_counts_once() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let (mut first, mut second) = (nodes[0].cluster().await, nodes[1].cluster().await);
    let since = version(&mut first, "hits").await;
    let named = |since: Option<&String>, id: u8, resend| api::AddRequest {
        since: since.cloned(),
        request_id: vec![id; 16].into(),
        resend,
        ..add("hits", 1)
    };
    let once = first.add(named(Some(&since), 1, false)).await.unwrap().into_inner();
    assert_eq!(once.value, 1);
    // A resend whose first try never arrived runs.
    assert_eq!(second.add(named(Some(&since), 2, true)).await.unwrap().into_inner().value, 2);
    let again = second.add(named(Some(&since), 1, true)).await.unwrap().into_inner();
    assert_eq!(again, once, "the answer of the first try, and not a third addition");
    // Without a version it is looked for, and not run.
    let status = second.add(named(None, 3, true)).await.unwrap_err();
    assert_eq!(reason(&status), Some(FailureReason::OutcomeUnknown), "{status}");
    assert_eq!(second.add(named(None, 1, true)).await.unwrap().into_inner(), once);
    // Nine additions later the record remembers eight.
    for _ in 0..9 {
        first.add(add("hits", 1)).await.unwrap();
    }
    let status = second.add(named(Some(&since), 1, true)).await.unwrap_err();
    assert_eq!(reason(&status), Some(FailureReason::OutcomeUnknown), "{status}");
    let present = version(&mut first, "hits").await;
    let status = second.add(named(Some(&since), 4, false)).await.unwrap_err();
    assert_eq!(current(&status), failed(&present, true), "a first try is told that its version is too old");
    assert_eq!(first.add(add("hits", 0)).await.unwrap().into_inner().value, 11);
}

#[tokio::test]
async fn one_replica_answers_from_what_it_holds_and_never_below_a_version_that_is_named() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let (mut first, mut second) = (nodes[0].cluster().await, nodes[1].cluster().await);
    let absent = second.get(get_one("k", None)).await.unwrap().into_inner();
    assert_eq!((absent.entry, absent.version), (None, version(&mut first, "k").await));
    for value in ["1", "2", "3"] {
        let written = first.set(set("k", value)).await.unwrap().into_inner();
        let got = second.get(get_one("k", Some(&written.version))).await.unwrap().into_inner();
        assert_eq!((got.entry, got.version), (Some(text("k", value)), written.version), "its own write is read");
    }
    let added = second.add(add("n", 7)).await.unwrap().into_inner();
    let got = first.get(get_one("n", Some(&added.version))).await.unwrap().into_inner();
    assert_eq!(got.entry, Some(text("n", "7")));
}

#[tokio::test]
async fn one_replica_is_enough_where_no_majority_is() {
    let mut nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let survivor = nodes.remove(0);
    let mut cluster = survivor.cluster().await;
    let written = cluster.set(set("k", "v")).await.unwrap().into_inner().version;
    until(async || cluster.clone().get(get_one("k", None)).await.unwrap().into_inner().version == written).await;
    for other in nodes {
        other.stop().await;
    }
    let timeout = Duration::from_millis(500);
    let got = cluster.get(with_timeout(get_one("k", Some(&written)), timeout)).await.unwrap().into_inner();
    assert_eq!(got.entry, Some(text("k", "v")));
    let status = cluster.set(with_timeout(set_if("k", "w", If::IfVersion(written)), timeout)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotApplied)), "{status}");
    let status = cluster.add(with_timeout(add("n", 1), timeout)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(FailureReason::NotApplied)), "{status}");
}

#[tokio::test]
async fn time_to_live_is_taken_within_its_bounds() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let largest = 3_650 * 24 * 3_600;
    for (given, least, most) in [(1_000, 900, 1_000), (largest, largest - 100, largest)] {
        cluster.set(api::SetRequest { ttl: seconds(given), ..set("k", "v") }).await.unwrap();
        let left = cluster.get(get("k")).await.unwrap().into_inner().ttl.unwrap();
        assert!((least..=most).contains(&left.seconds), "{left:?}");
        cluster.set(api::SetRequest { ttl: seconds(given), ..set_if("k", "w", If::IfPresent(true)) }).await.unwrap();
        let left = cluster.get(get("k")).await.unwrap().into_inner().ttl.unwrap();
        assert!((least..=most).contains(&left.seconds), "{left:?}");
        cluster.add(api::AddRequest { ttl: seconds(given), ..add("n", 1) }).await.unwrap();
        let left = cluster.get(get("n")).await.unwrap().into_inner().ttl.unwrap();
        assert!((least..=most).contains(&left.seconds), "{left:?}");
    }
    cluster.set(set("k", "x")).await.unwrap();
    cluster.add(add("n", 1)).await.unwrap();
    assert_eq!(cluster.get(get("k")).await.unwrap().into_inner().ttl, None, "a later write without one never expires");
    assert_eq!(cluster.get(get("n")).await.unwrap().into_inner().ttl, None);
}

#[tokio::test]
async fn each_bad_field_is_refused_and_says_what_is_accepted() {
    let nodes = start(Plan::default()).await;
    let mut cluster = nodes[0].cluster().await;
    let written = cluster.set(set("k", "v")).await.unwrap().into_inner().version;
    // No answer of a cluster with another seed.
    let foreign = quorate::wire::version::VersionText::of_cluster(1).encode(&quorate::types::Version::absent());
    let typo = written.replacen(|c: char| c.is_ascii_lowercase(), "Z", 1);
    let of_cluster = "it is no version of this cluster: give one that an answer of this cluster contained";
    let mut refused: Vec<(Status, Vec<&str>)> = Vec::new();
    for text in ["", "nonsense", "not/base64", &foreign, &typo] {
        let if_version = || If::IfVersion(text.to_owned());
        let status = cluster.set(set_if("k", "v", if_version())).await.unwrap_err();
        refused.push((status, vec!["condition.if_version: ", of_cluster]));
        let status = cluster.delete(delete_if("k", if_version())).await.unwrap_err();
        refused.push((status, vec!["condition.if_version: ", of_cluster]));
        let since = api::AddRequest { since: Some(text.to_owned()), ..add("n", 1) };
        refused.push((cluster.add(since).await.unwrap_err(), vec!["since: ", of_cluster]));
        refused.push((cluster.get(get_one("k", Some(text))).await.unwrap_err(), vec!["at_least: ", of_cluster]));
    }
    for ttl in [0, -1, 3_650 * 24 * 3_600 + 1, i64::MAX] {
        let accepted = vec!["ttl: ", "1 ms to 3,650 days are accepted"];
        let status = cluster.set(api::SetRequest { ttl: seconds(ttl), ..set("k", "v") }).await.unwrap_err();
        refused.push((status, accepted.clone()));
        let status = cluster.add(api::AddRequest { ttl: seconds(ttl), ..add("n", 1) }).await.unwrap_err();
        refused.push((status, accepted));
    }
    for bytes in [1, 15, 17, 32] {
        let request_id = bytes::Bytes::from(vec![1; bytes]);
        let accepted = vec!["request_id: ", "16 random bytes are accepted"];
        let named = api::SetRequest { request_id: request_id.clone(), ..set_if("k", "v", If::IfAbsent(true)) };
        refused.push((cluster.set(named).await.unwrap_err(), accepted.clone()));
        let named = api::DeleteRequest { request_id: request_id.clone(), ..delete_if("k", If::IfPresent(true)) };
        refused.push((cluster.delete(named).await.unwrap_err(), accepted.clone()));
        refused.push((cluster.add(api::AddRequest { request_id, ..add("n", 1) }).await.unwrap_err(), accepted));
    }
    let named = api::SetRequest { request_id: vec![1; 16].into(), ..set("k", "v") };
    refused.push((cluster.set(named).await.unwrap_err(), vec!["request_id is given without condition"]));
    let resend = api::AddRequest { resend: true, ..add("n", 1) };
    refused.push((cluster.add(resend).await.unwrap_err(), vec!["resend is given without request_id"]));
    let status = cluster.set(set_if("k", "v", If::IfAbsent(false))).await.unwrap_err();
    refused.push((status, vec!["condition.if_absent is false"]));
    let status = cluster.delete(delete_if("k", If::IfPresent(false))).await.unwrap_err();
    refused.push((status, vec!["condition.if_present is false"]));
    let status = cluster.set(api::SetRequest { condition: Some(api::Condition { condition: None }), ..set("k", "v") });
    refused.push((status.await.unwrap_err(), vec!["condition is missing", "if_version, if_absent or if_present"]));
    let at_least = api::GetRequest { at_least: Some(written.clone()), ..get("k") };
    refused.push((cluster.get(at_least).await.unwrap_err(), vec!["at_least is given without consistency: ONE"]));
    let status = cluster.get(api::GetRequest { consistency: 7, ..get("k") }).await.unwrap_err();
    refused.push((status, vec!["consistency: 7", "LINEARIZABLE (0) and ONE (1)"]));
    refused.push((cluster.add(add("", 1)).await.unwrap_err(), vec!["key", "1 to 4096"]));
    for (status, parts) in refused {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(reason(&status), Some(FailureReason::InvalidArgument), "{status}");
        assert!(parts.iter().all(|part| status.message().contains(part)), "{parts:?}: {}", status.message());
    }
    assert_eq!(version(&mut cluster, "k").await, written, "nothing was done");
}

#[tokio::test]
async fn resend_that_is_refused_claims_nothing_about_its_earlier_tries() {
    let full = start(Plan { requests_in_flight_max: 0, ..Plan::default() }).await.remove(0);
    let draining = start_one().await;
    let mut asked =
        vec![(full.cluster().await, Code::ResourceExhausted), (draining.cluster().await, Code::Unavailable)];
    draining.node.drain().await;
    for (cluster, of_first_try) in &mut asked {
        let set =
            |resend| api::SetRequest { request_id: vec![7; 16].into(), resend, ..set_if("k", "v", If::IfAbsent(true)) };
        let delete = |resend| api::DeleteRequest {
            request_id: vec![7; 16].into(),
            resend,
            ..delete_if("k", If::IfPresent(true))
        };
        let add = |resend| api::AddRequest { request_id: vec![7; 16].into(), resend, ..add("n", 1) };
        for (resend, code, expected) in [
            (false, *of_first_try, FailureReason::NotApplied),
            (true, Code::Unavailable, FailureReason::OutcomeUnknown),
        ] {
            for status in [
                cluster.set(set(resend)).await.unwrap_err(),
                cluster.delete(delete(resend)).await.unwrap_err(),
                cluster.add(add(resend)).await.unwrap_err(),
            ] {
                assert_eq!((status.code(), reason(&status)), (code, Some(expected)), "{status}");
            }
        }
    }
}
