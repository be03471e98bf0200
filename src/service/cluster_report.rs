//! The state of each node, and how many more may fail, as somebody sees it who asks all of them.
//!
//! Invariant: a node counts as serving if it says so, or if it cannot be reached from here and a node that serves is linked
//! to it. The nodes see each other over the network that matters to clients' requests. The way from here to a node, by the
//! address that the nodes use among themselves, may be closed although the cluster is well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::api;
use crate::client::{Client, ClientError};
use crate::protocol::placement::Placement;
use crate::protocol::quorum::majority;
use crate::tls::Dialer;
use crate::types::{Clock, NodeId, NodeIndex, Site, Slot, Weight, Zone};

use super::ClusterView;
use super::members::text::{Moving, moving, replica_count_after, state};

/// The longest wait for one node's health. A node that is well answers in a millisecond, and a person who asks for the
/// state of a sick cluster should not wait for long.
pub(crate) const HEALTH_TIME_MAX: Duration = Duration::from_secs(1);

/// The answer at each address to the question for health. An error is the reason why there is none.
pub(crate) type Answers = BTreeMap<String, Result<api::HealthResponse, String>>;

/// How to connect to the node with this id; it is empty for an address that was given and is none of the cluster's.
pub(crate) type DialNode<'a> = &'a (dyn Fn(&str) -> Dialer + Sync);

/// Asks for the health at each address that was `given`, and at each address of the cluster.
pub(crate) async fn ask_all(
    info: &api::ClusterInfoResponse,
    given: &[&str],
    dial: DialNode<'_>,
    time_max: Duration,
) -> Answers {
    let answers = call_all(info, given, dial, time_max, |client| async move { client.health().await }).await;
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
}

/// How a node is seen.
pub(crate) enum View {
    /// The node's own answer.
    Answer(Box<api::HealthResponse>),
    /// The node is not reachable from here.
    Unreachable {
        /// Why not.
        reason: String,
        /// The nodes that serve and are linked to it.
        linked_by: Vec<String>,
        /// The detail from a node that is not linked to it; empty if there is none.
        detail: String,
    },
}

impl Row {
    /// Whether the node can be counted on for its slots. That includes a node that is degraded only because others are away.
    pub(crate) fn serves(&self) -> bool {
        match &self.view {
            View::Answer(health) => health.serves,
            View::Unreachable { linked_by, .. } => !linked_by.is_empty(),
        }
    }

    pub(crate) fn state(&self) -> &'static str {
        match &self.view {
            View::Unreachable { linked_by, .. } if linked_by.is_empty() => "no answer",
            View::Unreachable { .. } => "linked",
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
            View::Unreachable { reason, linked_by, detail } => {
                let linked = match &linked_by[..] {
                    [] if detail.is_empty() => "no node that answers is linked to it".to_owned(),
                    [] => format!("no node that answers is linked to it: {detail}"),
                    [one] => format!("node {one} is linked to it"),
                    all => format!("nodes {} are linked to it", all.join(", ")),
                };
                format!("not reachable from here ({reason}); {linked}")
            }
        }
    }
}

/// One row for each node of the cluster, by id.
pub(crate) fn rows(info: &api::ClusterInfoResponse, answers: &Answers) -> Vec<Row> {
    let healths: BTreeMap<&str, &api::HealthResponse> =
        answers.values().filter_map(|answer| answer.as_ref().ok()).map(|it| (it.node_id.as_str(), it)).collect();
    let row = |node: &api::StorageNode| {
        let api::StorageNode { id, address, .. } = node.clone();
        let view = if let Some(health) = healths.get(id.as_str()) {
            View::Answer(Box::new((*health).clone()))
        } else {
            let reason = match answers.get(&address) {
                Some(Ok(other)) => format!("node {:?} answers at {address}", other.node_id),
                Some(Err(error)) => error.clone(),
                None => "it was not asked".to_owned(),
            };
            unreachable(info, node, &healths, reason)
        };
        Row { id, address, view }
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
    let mut details = Vec::new();
    for (id, health) in healths {
        for peer in health.peers.iter().filter(|peer| peer.node_id == node.id) {
            if peer.state() != api::PeerState::PeerLinked {
                details.push(peer.detail.clone());
            } else if health.serves {
                linked_by.insert(id);
            }
        }
    }
    if !healths.contains_key(info.node_id.as_str()) {
        if node.state() == api::PeerState::PeerLinked {
            linked_by.insert(&info.node_id);
        } else {
            details.push(node.detail.clone());
        }
    }
    let detail = details.into_iter().find(|detail| !detail.is_empty()).unwrap_or_default();
    View::Unreachable { reason, linked_by: linked_by.into_iter().map(str::to_owned).collect(), detail }
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
        let away = away.join(", ");
        if self.slots_lost > 0 {
            let replicas = match self.change {
                None => format!("their {} replicas", self.replica_count),
                Some(_) => "their replicas before or after the change of members".to_owned(),
            };
            return format!(
                "{} of {} slots lack a majority of {replicas}: their keys can be neither read nor written until more of \
                 these nodes are online: {away}",
                self.slots_lost,
                Slot::COUNT,
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
            0 => format!("tolerates no more failures: bring these nodes back: {away}"),
            1 => "tolerates 1 more failure".to_owned(),
            more => format!("tolerates {more} more failures"),
        }
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
                if let View::Unreachable { linked_by, .. } = &row.view {
                    json["linked_by"] = json!(linked_by);
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
