//! The last hour of this node: how many requests, how long they took, and what happened.
//!
//! Figures come from the node's own metrics, in the form that Prometheus reads. So the page shows what dashboards show.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value as Json, json};

use super::{rounded, unix_millis};
use crate::metrics::Metrics;
use crate::protocol::PeerView;
use crate::protocol::layout::Layout;
use crate::runtime::Status;
use crate::types::MemberList;

/// The time between two samples.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// An hour of samples, about 100 bytes each.
const POINTS_MAX: usize = 3_600 / 5;
/// The events that are kept: those of a bad day.
const EVENTS_MAX: usize = 100;
/// The codes that are no answer of the cluster.
const FAILURES: [&str; 5] = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "DATA_LOSS", "ABORTED"];
const READS: [&str; 2] = ["Cluster/Get", "Cluster/BatchGet"];
const WRITES: [&str; 4] = ["Cluster/Set", "Cluster/Delete", "Cluster/Add", "Cluster/BatchWrite"];

/// What was recorded. Each field is locked for as long as it takes to copy it.
#[derive(Debug, Default)]
pub(super) struct History {
    recorded: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    points: VecDeque<Json>,
    events: VecDeque<Json>,
    last: Option<(Instant, Counts)>,
    seen: Option<Seen>,
}

/// What events are about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// Whether the node has each of [`TROUBLES`].
    troubles: [bool; 4],
    peers: BTreeMap<String, PeerView>,
    members: Members,
}

/// The members, as events tell of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Members {
    number: u64,
    is_changing: bool,
    /// While members change, before the change. Absent before the first change.
    list: Option<MemberList>,
}

/// What a node may have, and the event of its end.
const TROUBLES: [(&str, &str); 4] = [
    ("this node's loop does not answer", "this node's loop answers again"),
    ("this node takes no requests", "this node takes requests"),
    ("this node's disk takes no writes", "this node's disk takes writes again"),
    ("this node's disk is nearly full", "this node's disk has room again"),
];

/// Counters at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    requests: f64,
    failed: f64,
    reads: Buckets,
    writes: Buckets,
}

/// How many requests took so long at most, by the greatest time in seconds.
type Buckets = Vec<(f64, f64)>;

impl History {
    /// Compares the node with how it was, and records what is new. `None` where its loop does not answer.
    pub(super) fn look(&self, status: Option<(&Status, &Layout)>) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match (status, &recorded.seen) {
            (Some((status, layout)), _) => Seen {
                troubles: [false, status.unready.is_some(), status.store_failed, status.disk_is_short],
                peers: status.peers.iter().map(|peer| (peer.id.to_string(), peer.view)).collect(),
                members: Members {
                    number: layout.number(),
                    is_changing: layout.is_joint(),
                    list: layout.configuration().map(|configuration| configuration.old.clone()),
                },
            },
            (None, Some(seen)) => {
                let mut seen = seen.clone();
                seen.troubles[0] = true;
                seen
            }
            (None, None) => return,
        };
        let texts = match &recorded.seen {
            None => vec![("info", "this node started".to_owned())],
            Some(before) => changes(before, &now),
        };
        recorded.seen = Some(now);
        for (kind, text) in texts {
            if recorded.events.len() == EVENTS_MAX {
                recorded.events.pop_front();
            }
            recorded.events.push_back(json!({ "at": unix_millis(), "kind": kind, "text": text }));
        }
    }

    /// Adds a point: what was counted since the last one.
    pub(super) fn sample(&self, metrics: &Metrics) {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        // It fails only where a metric cannot be written as text, which /metrics says.
        if encode(&mut text, &registry).is_err() {
            return;
        }
        let (now, counts) = (Instant::now(), Counts::parse(&text));
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, earlier)) = &recorded.last {
            let point = counts.since(earlier, now - *before);
            if recorded.points.len() == POINTS_MAX {
                recorded.points.pop_front();
            }
            recorded.points.push_back(point);
        }
        recorded.last = Some((now, counts));
    }

    pub(super) fn points(&self) -> Json {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).points.iter().cloned().collect()
    }

    pub(super) fn latest(&self) -> Json {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.points.back().cloned().unwrap_or_default()
    }

    /// The latest first.
    pub(super) fn events(&self) -> Json {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).events.iter().rev().cloned().collect()
    }
}

fn changes(before: &Seen, now: &Seen) -> Vec<(&'static str, String)> {
    let mut texts = Vec::new();
    for ((was, is), (bad, good)) in before.troubles.into_iter().zip(now.troubles).zip(TROUBLES) {
        match (was, is) {
            (false, true) => texts.push(("bad", bad.to_owned())),
            (true, false) => texts.push(("good", good.to_owned())),
            _ => {}
        }
    }
    texts.extend(members_event(&before.members, &now.members));
    for (id, view) in &now.peers {
        if before.peers.get(id) == Some(view) {
            continue;
        }
        texts.push(match view {
            PeerView::Talking => ("good", format!("node {id} is linked")),
            PeerView::Unreachable => ("bad", format!("node {id} is not reachable")),
            PeerView::Refused(refusal) => ("bad", format!("this node and node {id} refuse each other: {refusal}")),
        });
    }
    texts
}

/// What a newer configuration says of the members.
fn members_event(before: &Members, now: &Members) -> Option<(&'static str, String)> {
    let number = now.number;
    if number == before.number {
        return None;
    }
    if now.is_changing {
        return Some(("info", format!("members change (configuration {number})")));
    }
    let (Some(was), Some(is)) = (&before.list, &now.list) else {
        return Some(("good", format!("members have changed (configuration {number})")));
    };
    let mut parts = Vec::new();
    for member in &is.members {
        match was.of_id(&member.id) {
            None => parts.push(format!("node {} was added", member.id)),
            Some(other) if !other.is(member) => parts.push(format!("node {} was replaced", member.id)),
            Some(other) if other.address != member.address => {
                parts.push(format!("node {} is at {}", member.id, member.address));
            }
            Some(_) => {}
        }
    }
    for member in was.members.iter().filter(|member| is.of_id(&member.id).is_none()) {
        parts.push(format!("node {} was removed", member.id));
    }
    if was.replica_count != is.replica_count {
        parts.push(format!("replica_count is {}", is.replica_count));
    }
    Some(if parts.is_empty() {
        ("info", format!("the change of members was taken back (configuration {number})"))
    } else {
        ("good", format!("{} (configuration {number})", parts.join(", ")))
    })
}

impl Counts {
    fn parse(text: &str) -> Self {
        let mut counts = Self::default();
        let (mut reads, mut writes) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (Some((name, labels)), Ok(value)) = (series.split_once('{'), value.parse::<f64>()) else { continue };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                Some(rest.split_once('"')?.0)
            };
            let Some(method) = label("method") else { continue };
            match name {
                // Probes and status pages ask nodes for their health, which is no load of clients.
                "quorate_requests_total" if method.starts_with("Cluster/") || method.starts_with("Tables/") => {
                    counts.requests += value;
                    if label("code").is_some_and(|code| FAILURES.contains(&code)) {
                        counts.failed += value;
                    }
                }
                "quorate_request_duration_seconds_bucket" => {
                    let Some(bound) = label("le").and_then(bound) else { continue };
                    for (methods, buckets) in [(&READS[..], &mut reads), (&WRITES[..], &mut writes)] {
                        if methods.contains(&method) {
                            // Bounds of floats that are all positive are ordered as their bits are.
                            *buckets.entry(bound.to_bits()).or_insert(0.0) += value;
                        }
                    }
                }
                _ => {}
            }
        }
        let listed = |buckets: BTreeMap<u64, f64>| {
            buckets.into_iter().map(|(bound, count)| (f64::from_bits(bound), count)).collect()
        };
        Self { reads: listed(reads), writes: listed(writes), ..counts }
    }

    fn since(&self, earlier: &Self, span: Duration) -> Json {
        let seconds = span.as_secs_f64().max(1e-3);
        let per_second = |now: f64, before: f64| rounded((now - before).max(0.0) / seconds);
        let quantile = |now: &Buckets, before: &Buckets, share: f64| {
            let count = |bound: f64| {
                before.iter().find(|(at, _)| at.to_bits() == bound.to_bits()).map_or(0.0, |(_, count)| *count)
            };
            let grown: Buckets = now.iter().map(|(bound, total)| (*bound, total - count(*bound))).collect();
            quantile(&grown, share).map_or(Json::Null, |seconds| rounded(seconds * 1e3))
        };
        json!({
            "at": unix_millis(),
            "per_second": per_second(self.requests, earlier.requests),
            "failed_per_second": per_second(self.failed, earlier.failed),
            "read_p50_ms": quantile(&self.reads, &earlier.reads, 0.5),
            "read_p99_ms": quantile(&self.reads, &earlier.reads, 0.99),
            "write_p50_ms": quantile(&self.writes, &earlier.writes, 0.5),
            "write_p99_ms": quantile(&self.writes, &earlier.writes, 0.99),
        })
    }
}

fn bound(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

/// The quantile within cumulated buckets, as `histogram_quantile` of Prometheus computes it; `None` where they are empty.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if total <= 0.0 {
        return None;
    }
    let rank = share * total;
    let (mut below, mut from) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            // Nothing is known of what is beyond the last bound.
            let is_bounded = bound.is_finite();
            let inside = (rank - below) / (count - below).max(f64::MIN_POSITIVE);
            return Some(if is_bounded { from + (bound - from) * inside } else { from });
        }
        (below, from) = (*count, *bound);
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{MethodLabels, RequestLabels};

    fn request(metrics: &Metrics, method: &'static str, code: &'static str, seconds: f64) {
        metrics.requests.get_or_create(&RequestLabels { method, code, door: "grpc" }).inc();
        metrics.request_duration.get_or_create(&MethodLabels { method, door: "grpc" }).observe(seconds);
    }

    #[test]
    fn point_counts_what_happened_since_the_last_one() {
        let metrics = Metrics::default();
        let text = |metrics: &Metrics| {
            let mut registry = Registry::default();
            metrics.register(&mut registry);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        request(&metrics, "Cluster/Get", "OK", 10.0);
        let before = Counts::parse(&text(&metrics));
        for _ in 0..97 {
            request(&metrics, "Cluster/Get", "OK", 0.001);
        }
        for _ in 0..3 {
            request(&metrics, "Cluster/Get", "UNAVAILABLE", 0.040);
        }
        request(&metrics, "Node/Health", "OK", 1.0);
        let point = Counts::parse(&text(&metrics)).since(&before, Duration::from_secs(10));
        assert_eq!((&point["per_second"], &point["failed_per_second"]), (&json!(10.0), &json!(0.3)), "{point}");
        let (p50, p99) = (point["read_p50_ms"].as_f64().unwrap(), point["read_p99_ms"].as_f64().unwrap());
        assert!((0.8..=1.6).contains(&p50) && (25.0..=52.0).contains(&p99), "{point}");
        assert_eq!(point["write_p50_ms"], Json::Null, "nobody wrote");
    }

    #[test]
    fn quantile_is_that_of_prometheus() {
        let buckets = [(0.1, 10.0), (0.2, 10.0), (0.4, 20.0), (f64::INFINITY, 20.0)];
        assert_eq!(quantile(&buckets, 0.25), Some(0.05));
        assert!((quantile(&buckets, 0.75).unwrap() - 0.3).abs() < 1e-9);
        assert_eq!(quantile(&[(0.1, 0.0), (f64::INFINITY, 4.0)], 0.5), Some(0.1), "beyond the last bound");
        assert_eq!((quantile(&[], 0.5), quantile(&[(0.1, 0.0)], 0.5)), (None, None));
    }

    #[test]
    fn event_is_a_change_and_not_a_state() {
        let seen = |linked: bool, store_failed: bool| Seen {
            troubles: [false, false, store_failed, false],
            peers: [("2".to_owned(), if linked { PeerView::Talking } else { PeerView::Unreachable })].into(),
            members: Members::default(),
        };
        assert_eq!(changes(&seen(true, false), &seen(true, false)), []);
        let found = changes(&seen(true, false), &seen(false, true));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains(&("bad", "node 2 is not reachable".to_owned())), "{found:?}");
        let found = changes(&seen(false, true), &seen(true, false));
        assert!(found.iter().all(|(kind, _)| *kind == "good"), "{found:?}");
    }
    #[test]
    fn change_of_members_is_told_when_it_begins_and_by_what_came_of_it() {
        let member = |id: &str, store_id: u128| crate::types::Member {
            id: crate::types::NodeId::new(id).unwrap(),
            store_id: crate::types::StoreId(store_id),
            since: 0,
            address: "h:1".into(),
            site: crate::types::Site::default(),
        };
        let list = |members: &[(&str, u128)]| {
            Some(MemberList {
                replica_count: 1,
                members: members.iter().map(|(id, store)| member(id, *store)).collect(),
            })
        };
        let first = list(&[("1", 1), ("2", 2)]);
        let joint = Members { number: 1, is_changing: true, list: first.clone() };
        let text =
            |before: &Members, now: &Members| members_event(before, now).map_or_else(String::new, |event| event.1);
        assert_eq!(text(&Members::default(), &joint), "members change (configuration 1)");
        assert_eq!(text(&joint, &joint), "");
        let stable = |list| Members { number: 2, is_changing: false, list };
        assert_eq!(text(&joint, &stable(first)), "the change of members was taken back (configuration 2)");
        let changed = stable(list(&[("2", 9), ("3", 3)]));
        assert_eq!(
            text(&joint, &changed),
            "node 2 was replaced, node 3 was added, node 1 was removed (configuration 2)"
        );
    }
}
