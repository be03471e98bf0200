//! The state of each node, and how many more may fail, as somebody sees it who asks all of them.
//!
//! Invariant: a node counts as serving if it says so, or if it cannot be reached from here and a node that serves is linked
//! to it. The nodes see each other over the network that matters to clients' requests. The way from here to a node, by the
//! address that the nodes use among themselves, may be closed although the cluster is well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::api;
use crate::client::{Client, ClientError};
use crate::protocol::placement::Placement;
use crate::protocol::quorum::majority;
use crate::tls::{Dialer, date};
use crate::types::{Clock, NodeId, NodeIndex, Site, Slot, Weight, Zone};

use super::ClusterView;
use super::health::tolerates_text;
use super::members::text::{Moving, moving, replica_count_after, state};

/// The longest wait for one node's health. A node that is well answers in a millisecond, and a person who asks for the
/// state of a sick cluster should not wait for long.
pub(crate) const HEALTH_TIME_MAX: Duration = Duration::from_secs(1);

/// The part of a disk that should be free: merging tables needs space for a while.
pub(crate) const DISK_FREE_SHARE_GOOD: f64 = 0.3;

/// A certificate that ends sooner should be renewed: so many seconds are two weeks, as in the alerts of `deploy/`.
const CERTIFICATE_GOOD_SECONDS: i64 = 14 * 24 * 3_600;

/// The answer at each address to the question for health. An error is the reason why there is none.
pub(crate) type Answers = BTreeMap<String, Result<api::HealthResponse, String>>;

/// The same, each answer with the time from the call until it came, the making of the connection included.
pub(crate) type TimedAnswers = BTreeMap<String, Result<(api::HealthResponse, Duration), String>>;

/// How to connect to the node with this id; it is empty for an address that was given and is none of the cluster's.
pub(crate) type DialNode<'a> = &'a (dyn Fn(&str) -> Dialer + Sync);

/// Asks for the health at each address that was `given`, and at each address of the cluster.
pub(crate) async fn ask_all(
    info: &api::ClusterInfoResponse,
    given: &[&str],
    dial: DialNode<'_>,
    time_max: Duration,
) -> Answers {
    let timed = ask_timed(info, given, dial, time_max).await;
    timed.into_iter().map(|(address, answer)| (address, answer.map(|(health, _)| health))).collect()
}

/// The same, and how long each answer took.
pub(crate) async fn ask_timed(
    info: &api::ClusterInfoResponse,
    given: &[&str],
    dial: DialNode<'_>,
    time_max: Duration,
) -> TimedAnswers {
    let ask = |client: Client| async move {
        let began = Instant::now();
        client.health().await.map(|health| (health, began.elapsed()))
    };
    let answers = call_all(info, given, dial, time_max, ask).await;
    answers.into_iter().map(|(address, answer)| (address, answer.map_err(|error| reason(&error)))).collect()
}

/// Orders a comparison with all peers at each of these addresses. The answer says whether repair is on there.
pub(crate) async fn order_all(
    info: &api::ClusterInfoResponse,
    given: &[&str],
    dial: DialNode<'_>,
    time_max: Duration,
) -> BTreeMap<String, Result<bool, ClientError>> {
    call_all(info, given, dial, time_max, |client| async move { client.repair_now().await }).await
}

/// Orders a scrub at each of these addresses. The answer is its number.
pub(crate) async fn scrub_all(
    info: &api::ClusterInfoResponse,
    given: &[&str],
    dial: DialNode<'_>,
    time_max: Duration,
) -> BTreeMap<String, Result<u64, ClientError>> {
    call_all(info, given, dial, time_max, |client| async move { client.scrub_now().await }).await
}

async fn call_all<T: Send + 'static, F: Future<Output = Result<T, ClientError>> + Send>(
    info: &api::ClusterInfoResponse,
    given: &[&str],
    dial: DialNode<'_>,
    time_max: Duration,
    call: impl Fn(Client) -> F + Copy + Send + 'static,
) -> BTreeMap<String, Result<T, ClientError>> {
    let mut ids: BTreeMap<&str, &str> = given.iter().map(|address| (*address, "")).collect();
    ids.extend(info.storage_nodes.iter().map(|node| (node.address.as_str(), node.id.as_str())));
    let mut asking = JoinSet::new();
    for (address, id) in ids {
        let (address, dialer) = (address.to_owned(), dial(id));
        asking.spawn(async move {
            let answer = match Client::builder().address(&address).dialer(dialer).deadline(time_max).build() {
                Ok(client) => call(client).await,
                Err(error) => Err(error),
            };
            (address, answer)
        });
    }
    asking.join_all().await.into_iter().collect()
}

/// The reason alone: the address is shown beside it.
pub(crate) fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Unavailable { last, .. } => last.message.clone(),
        other => other.to_string(),
    }
}

/// One node: its entry in the cluster's list, and its state.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) view: View,
    /// How long its answer took, the making of the connection included. Absent where it has not answered.
    pub(crate) took: Option<Duration>,
}

/// How a node is seen.
pub(crate) enum View {
    /// The node's own answer.
    Answer(Box<api::HealthResponse>),
    /// The node is not reachable from here.
    Unreachable(Away),
}

/// A node that is not reachable from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Away {
    /// How the call from here ended, as a sentence: "h:1 refuses connections from here".
    pub(crate) reason: String,
    /// The nodes that serve and are linked to it.
    pub(crate) linked_by: Vec<String>,
    /// The nodes that answer, and do not reach it either.
    pub(crate) tried_by: Vec<String>,
    /// What one of the nodes says that it and they refuse each other for; empty if there is none.
    pub(crate) detail: String,
}

impl Away {
    /// The reason why a call to `address` failed, as a sentence.
    fn reason(address: &str, error: &str) -> String {
        if error.contains("Connection refused") {
            format!("{address} refuses connections from here")
        } else {
            format!("{address} is not reachable from here ({error})")
        }
    }

    /// How the call from here ended, and how the other nodes see it.
    fn text(&self) -> String {
        let seen = match (&self.linked_by[..], &self.tried_by[..]) {
            ([_], _) => format!("{} is linked to it", nodes_text(&self.linked_by)),
            ([_, ..], _) => format!("{} are linked to it", nodes_text(&self.linked_by)),
            ([], _) if !self.detail.is_empty() => format!("no node that answers is linked to it: {}", self.detail),
            ([], []) => "no node that answers is linked to it".to_owned(),
            ([], [_]) => format!("{} does not reach it either, and keeps trying", nodes_text(&self.tried_by)),
            ([], _) => format!("{} do not reach it either, and keep trying", nodes_text(&self.tried_by)),
        };
        format!("{}; {seen}", self.reason)
    }
}

/// "node 1", or "nodes 1, 2 and 3".
pub(crate) fn nodes_text<T: AsRef<str>>(ids: &[T]) -> String {
    match ids {
        [] => "no node".to_owned(),
        [one] => format!("node {}", one.as_ref()),
        [others @ .., last] => {
            let others: Vec<&str> = others.iter().map(AsRef::as_ref).collect();
            format!("nodes {} and {}", others.join(", "), last.as_ref())
        }
    }
}

impl Row {
    /// Whether the node can be counted on for its slots. That includes a node that is degraded only because others are away.
    pub(crate) fn serves(&self) -> bool {
        match &self.view {
            View::Answer(health) => health.serves,
            View::Unreachable(away) => !away.linked_by.is_empty(),
        }
    }

    pub(crate) fn state(&self) -> &'static str {
        match &self.view {
            View::Unreachable(away) if away.linked_by.is_empty() => "no answer",
            View::Unreachable(_) => "linked",
            View::Answer(health) => match health.status() {
                api::Health::Default => "unknown",
                api::Health::Online => "online",
                api::Health::Starting => "starting",
                api::Health::Degraded => "degraded",
                api::Health::Draining => "draining",
                api::Health::Refused => "refused",
            },
        }
    }

    /// The text beside the state: the cause and the cure; empty if all is well.
    pub(crate) fn detail(&self) -> String {
        match &self.view {
            View::Answer(health) => health.detail.clone(),
            View::Unreachable(away) => away.text(),
        }
    }
}

/// One row for each node of the cluster, by id.
pub(crate) fn rows(info: &api::ClusterInfoResponse, answers: &TimedAnswers) -> Vec<Row> {
    let answered = || answers.values().filter_map(|answer| answer.as_ref().ok());
    let healths: BTreeMap<&str, &api::HealthResponse> =
        answered().map(|(health, _)| (health.node_id.as_str(), health)).collect();
    let times: BTreeMap<&str, Duration> = answered().map(|(health, took)| (health.node_id.as_str(), *took)).collect();
    let row = |node: &api::StorageNode| {
        let api::StorageNode { id, address, .. } = node.clone();
        let view = if let Some(health) = healths.get(id.as_str()) {
            View::Answer(Box::new((*health).clone()))
        } else {
            let reason = match answers.get(&address) {
                Some(Ok((other, _))) => format!("node {:?} answers at {address}", other.node_id),
                Some(Err(error)) => Away::reason(&address, error),
                None => "it was not asked from here".to_owned(),
            };
            unreachable(info, node, &healths, reason)
        };
        let took = times.get(id.as_str()).copied();
        Row { id, address, view, took }
    };
    let mut rows: Vec<Row> = info.storage_nodes.iter().map(row).collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows
}

/// The view of a node that did not answer. It comes from the nodes that answer here, and from the node that listed all nodes.
fn unreachable(
    info: &api::ClusterInfoResponse,
    node: &api::StorageNode,
    healths: &BTreeMap<&str, &api::HealthResponse>,
    reason: String,
) -> View {
    let mut linked_by: BTreeSet<&str> = BTreeSet::new();
    let (mut tried_by, mut details) = (BTreeSet::new(), Vec::new());
    let mut is_not_linked = |id: &str, state: api::PeerState, detail: &str| match state {
        api::PeerState::PeerUnreachable => {
            tried_by.insert(id.to_owned());
        }
        _ => details.push(detail.to_owned()),
    };
    for (id, health) in healths {
        for peer in health.peers.iter().filter(|peer| peer.node_id == node.id) {
            if peer.state() != api::PeerState::PeerLinked {
                is_not_linked(id, peer.state(), &peer.detail);
            } else if health.serves {
                linked_by.insert(id);
            }
        }
    }
    if !healths.contains_key(info.node_id.as_str()) {
        if node.state() == api::PeerState::PeerLinked {
            linked_by.insert(&info.node_id);
        } else {
            is_not_linked(&info.node_id, node.state(), &node.detail);
        }
    }
    let detail = details.into_iter().find(|detail| !detail.is_empty()).unwrap_or_default();
    let linked_by = linked_by.into_iter().map(str::to_owned).collect();
    View::Unreachable(Away { reason, linked_by, tried_by: tried_by.into_iter().collect(), detail })
}

/// The content of `status`.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// The weight and zone of the node of each row; while members change, those that are to be.
    pub(crate) sites: Vec<Site>,
    /// While members change, before the change.
    pub(crate) replica_count: usize,
    /// How many more nodes may fail, whichever they are, before some key can be neither read nor written. While members change,
    /// the smaller number of the two lists.
    pub(crate) failures_tolerated: usize,
    /// How many slots lack a majority of replicas that serve, by either list while members change.
    pub(crate) slots_lost: usize,
    /// Absent where the node that was asked does not know the members, as one that waits to become one.
    pub(crate) members: Option<api::MembersGetResponse>,
    /// Why it does not know them. The nodes listed may then be none of the cluster any more.
    pub(crate) problem: Option<String>,
    /// What there is while members change.
    pub(crate) change: Option<Change>,
}

/// A change of members that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// How many failures are tolerated once it is done.
    pub(crate) failures_tolerated: usize,
    pub(crate) moving: Moving,
}

/// The replicas that serve, by one list of members.
struct Coverage<'a> {
    placement: &'a Placement,
    serving: BTreeSet<NodeIndex>,
    needed: usize,
}

impl<'a> Coverage<'a> {
    fn of(placement: &'a Placement, serves: impl Fn(&str) -> bool) -> Self {
        let parameters = placement.parameters();
        let serving = std::iter::zip(&parameters.node_ids, placement.members())
            .filter(|(id, _)| serves(id.as_str()))
            .map(|(_, member)| *member)
            .collect();
        Self { placement, serving, needed: majority(parameters.replica_count) }
    }

    /// How many replicas of `slot` serve.
    fn serving(&self, slot: Slot) -> usize {
        self.placement.replicas(slot).iter().filter(|member| self.serving.contains(member)).count()
    }

    fn failures_tolerated(&self) -> usize {
        let least = self.placement.distinct_slots().iter().map(|slot| self.serving(*slot)).min().unwrap_or(0);
        least.saturating_sub(self.needed)
    }
}

impl Report {
    /// `old` is the placement, and `new` the one that is to be while members change.
    pub(crate) fn new(
        old: &Placement,
        new: Option<&Placement>,
        members: Option<api::MembersGetResponse>,
        rows: Vec<Row>,
    ) -> Self {
        let serves = |id: &str| rows.iter().any(|row| row.id == id && row.serves());
        // Where one node takes the place of another under its id, the answer is that of the one that comes.
        let listed = || members.iter().flat_map(|members| &members.members);
        let replaced = |id: &str| {
            let comes = listed().any(|member| member.id == id && !member.in_old);
            listed().find(|member| comes && member.id == id && member.in_old)
        };
        let of_old = Coverage::of(old, |id| replaced(id).map_or_else(|| serves(id), |member| member.reached));
        let of_new = new.map(|new| Coverage::of(new, serves));
        let lists = || std::iter::once(&of_old).chain(&of_new);
        let is_lost = |slot: Slot| lists().any(|list| list.serving(slot) < list.needed);
        let slots_lost = (0..=u16::MAX).filter(|slot| is_lost(Slot(*slot))).count();
        let failures_tolerated = lists().map(Coverage::failures_tolerated).min().unwrap_or(0);
        let change = of_new.as_ref().map(|new| Change {
            failures_tolerated: new.failures_tolerated(),
            moving: members.as_ref().map(moving).unwrap_or_default(),
        });
        let sites = rows.iter().map(|row| site(old, new, &row.id)).collect();
        let replica_count = old.parameters().replica_count;
        Self { rows, sites, replica_count, failures_tolerated, slots_lost, members, problem: None, change }
    }

    /// Says why the members are not known.
    pub(crate) fn with_problem(self, problem: Option<String>) -> Self {
        Self { problem, ..self }
    }

    /// The role of a node in the change of members; `None` while there is none.
    pub(crate) fn role(&self, id: &str) -> Option<&'static str> {
        self.change?;
        let mut listed = self.members.as_ref()?.members.iter().filter(|member| member.id == id);
        // One that takes the place of another is listed after it.
        listed.next_back().map(state)
    }

    /// The nodes that wait to be added.
    pub(crate) fn waiting(&self) -> &[api::WaitingMember] {
        self.members.as_ref().map_or(&[], |members| &members.waiting)
    }

    /// How many failures are tolerated, or what is lost, and what to do.
    pub(crate) fn verdict(&self) -> String {
        let away: Vec<&str> = self.rows.iter().filter(|row| !row.serves()).map(|row| row.id.as_str()).collect();
        if self.slots_lost > 0 {
            let replicas = match self.change {
                None => format!("their {} replicas", self.replica_count),
                Some(_) => "their replicas before or after the change of members".to_owned(),
            };
            return format!(
                "{} of {} slots lack a majority of {replicas}: their keys can be neither read nor written until more of \
                 these nodes are online: {}",
                self.slots_lost,
                Slot::COUNT,
                away.join(", "),
            );
        }
        match self.failures_tolerated {
            0 if away.is_empty() && self.change.is_some_and(|change| change.failures_tolerated > 0) => {
                "tolerates no failure until the change of members is done".to_owned()
            }
            0 if away.is_empty() => format!(
                "tolerates no failure: with {} for each slot, all replicas are needed; a larger replica_count tolerates \
                 more",
                if self.replica_count == 1 {
                    "1 replica".to_owned()
                } else {
                    format!("{} replicas", self.replica_count)
                }
            ),
            0 => format!("tolerates no more failures: bring {} back", nodes_text(&away)),
            more => tolerates_text(more),
        }
    }

    /// What an operator should do soon, although all is well now: a sentence for each matter, with the nodes that it is about.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let low = self.rows.iter().filter_map(|row| {
            let View::Answer(health) = &row.view else { return None };
            let (free, total) = disk_room(health).filter(|(free, total)| is_disk_low(*free, *total))?;
            Some(format!("node {} ({} of {})", row.id, bytes_text(free), bytes_text(total)))
        });
        let low: Vec<String> = low.collect();
        let mut warnings = Vec::new();
        if !low.is_empty() {
            warnings.push(format!(
                "less than {:.0} % of the disk is free at {}: free space, or use a larger disk, because merging tables needs it",
                100.0 * DISK_FREE_SHARE_GOOD,
                low.join(", ")
            ));
        }
        let ends = self.rows.iter().filter_map(|row| {
            let View::Answer(health) = &row.view else { return None };
            health.certificate_ends_seconds.map(|end| (row.id.as_str(), end))
        });
        let now = date::now();
        let ending: Vec<(&str, i64)> =
            ends.filter(|(_, end)| end.saturating_sub(now) < CERTIFICATE_GOOD_SECONDS).collect();
        if let Some((first, _)) = ending.iter().min_by_key(|(_, end)| *end) {
            let listed: Vec<String> =
                ending.iter().map(|(id, end)| format!("node {id} ({})", date::text(*end))).collect();
            warnings.push(format!(
                "the certificate ends soon at {}: renew it, with `quorate ca issue node {first} --renew` where the CA is Quorate's",
                listed.join(", ")
            ));
        }
        warnings
    }

    pub(crate) fn as_json(&self) -> Json {
        let nodes: Vec<Json> = self
            .rows
            .iter()
            .zip(&self.sites)
            .map(|(row, site)| {
                let mut json = json!({
                    "id": row.id,
                    "address": row.address,
                    "weight": serde_json::from_str::<Json>(&site.weight.to_string()).expect("a weight is a number"),
                    "zone": site.zone.as_ref().map(Zone::as_str),
                    "state": row.state(),
                    "detail": row.detail(),
                    "reachable_from_here": matches!(row.view, View::Answer(_)),
                });
                if let View::Unreachable(away) = &row.view {
                    json["linked_by"] = json!(away.linked_by);
                }
                if let Some(role) = self.role(&row.id) {
                    json["role"] = json!(role);
                }
                if let View::Answer(health) = &row.view {
                    let clock = health.clock.clone().map(Clock::from).unwrap_or_default();
                    json["uptime_seconds"] = json!(health.uptime.as_ref().map(|uptime| uptime.seconds));
                    json["version"] = json!(health.version);
                    json["keys_estimate"] = json!(health.keys_estimate);
                    json["disk_bytes"] = json!(health.disk_bytes);
                    json["disk_free_bytes"] = json!(health.disk_free_bytes);
                    json["disk_total_bytes"] = json!(health.disk_total_bytes);
                    json["sync_p99_ms"] = json!(health.sync_p99_micros as f64 / 1e3);
                    json["certificate_ends_seconds"] = json!(health.certificate_ends_seconds);
                    json["answer_ms"] = json!(row.took.map(|took| (took.as_secs_f64() * 1e6).round() / 1e3));
                    json["clock"] = json!({ "epoch": clock.epoch, "clock": clock.counter });
                }
                json
            })
            .collect();
        let waiting = |node: &api::WaitingMember| json!({ "id": node.id, "address": node.address });
        let mut json = json!({
            "nodes": nodes,
            "replica_count": self.replica_count,
            "failures_tolerated": self.failures_tolerated,
            "slots_without_majority": self.slots_lost,
            "configuration": self.members.as_ref().map(|members| members.number),
            "waiting": self.waiting().iter().map(waiting).collect::<Vec<_>>(),
            "problem": self.problem,
            "warnings": self.warnings(),
        });
        if let Some(Change { failures_tolerated, moving }) = &self.change {
            json["change"] = json!({
                "replica_count": self.members.as_ref().map(replica_count_after),
                "failures_tolerated": failures_tolerated,
                "slots": moving.slots,
                "slots_done": moving.slots_done,
                "bytes": moving.bytes,
                "nodes_left": moving.nodes,
            });
        }
        json
    }
}

/// The bytes that are free on the disk of a node, and all bytes of it, where it says so.
pub(crate) fn disk_room(health: &api::HealthResponse) -> Option<(u64, u64)> {
    health.disk_free_bytes.zip(health.disk_total_bytes)
}

/// Whether so many bytes that are free, of all, are fewer than should be.
pub(crate) fn is_disk_low(free: u64, total: u64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a share of a disk is no count")]
    let share = free as f64 / (total as f64).max(1.0);
    // A file system that tells no size is none that is full.
    total > 0 && share < DISK_FREE_SHARE_GOOD
}

/// `bytes` in the unit that gives one to four digits before the point.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = UNITS.len().min(1 + bytes.checked_ilog(1_024).unwrap_or(0) as usize) - 1;
    if unit == 0 {
        return format!("{bytes} B");
    }
    let scale = 1_u64 << (10 * unit);
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The weight and zone of the node `id`: those that are to be, or those of a member that leaves.
fn site(old: &Placement, new: Option<&Placement>, id: &str) -> Site {
    let Ok(id) = NodeId::new(id) else { return Site::default() };
    let mut lists = new.into_iter().chain([old]).map(Placement::parameters);
    lists.find_map(|list| Some(list.site(list.member(&id)?).clone())).unwrap_or_default()
}

/// A span of time as the wire has it.
pub(crate) fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(span).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

impl From<ClusterView> for api::ClusterInfoResponse {
    fn from(view: ClusterView) -> Self {
        let storage_nodes = view.members.into_iter().map(|member| api::StorageNode {
            id: member.id.as_str().to_owned(),
            address: member.address,
            state: api::PeerState::from(member.state).into(),
            slots: member.slots,
            last_seen: member.last_seen.map(duration),
            detail: member.detail,
            weight_hundredths: Some(member.site.weight)
                .filter(|weight| *weight != Weight::ONE)
                .map_or(0, Weight::hundredths),
            zone: member.site.zone.map_or_else(String::new, |zone| zone.to_string()),
        });
        Self {
            uptime: Some(duration(view.uptime)),
            replication_level: i64::try_from(view.replica_count).unwrap_or(i64::MAX),
            storage_nodes: storage_nodes.collect(),
            seed: view.seed,
            node_id: view.node.as_str().to_owned(),
            epoch_floor: view.epoch_floor,
            cluster: view.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        }
    }
}
