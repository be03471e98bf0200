//! The health of a node, in one word and a sentence that says what to do: for Node/Health, for readiness and for metrics.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

use crate::api;
use crate::limits::{OPERATOR_COUNTER_RAISE_MAX, OPERATOR_EPOCH_RAISE_MAX};
use crate::protocol::layout::Layout;
use crate::protocol::placement::Placement;
use crate::protocol::quorum::majority;
use crate::protocol::{PeerView, Unready};
use crate::runtime::{NodeHandle, PeerStatus, Rejected, Status};
use crate::storage::StoreStatistics;
use crate::types::{Clock, NodeId, NodeIndex, Slot};

/// How old statistics of the store may be. Making them asks the file system.
const STATISTICS_AGE_MAX: Duration = Duration::from_secs(1);
/// How long the store may take to make them.
const STATISTICS_TIME_MAX: Duration = Duration::from_millis(500);

/// The state of a node, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It serves requests.
    Online,
    /// It starts, or waits to meet every other member for the first time.
    Starting,
    /// It serves, but not fully: its disk refuses writes, or some slots have no majority linked.
    Degraded,
    /// It was told to end: it refuses new requests and finishes those in flight.
    Draining,
    /// Its peers refuse it, because it may have forgotten acknowledged writes.
    Refused,
}

/// The state of the link between this node and a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Linked, and each has recorded the other.
    Linked,
    /// Not reachable now. This node keeps trying.
    Unreachable,
    /// One of the two refuses the other until an operator acts.
    Refused,
    /// The member is this node.
    Itself,
}

/// The state of a node, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assessment {
    pub(crate) health: Health,
    /// The reason, and what to do; empty if all is well.
    pub(crate) detail: String,
}

impl Assessment {
    /// Adds a problem that keeps the node from serving fully.
    pub(crate) fn worsen(&mut self, problem: &str) {
        if self.health == Health::Online {
            self.health = Health::Degraded;
        }
        self.add(problem);
    }

    /// Adds a remark that keeps it from nothing.
    fn add(&mut self, remark: &str) {
        if !self.detail.is_empty() {
            self.detail.push_str("; ");
        }
        self.detail.push_str(remark);
    }
}

/// Assesses one node, and caches what is costly to find out.
pub(crate) struct Assessor {
    node: NodeHandle,
    coverage: Mutex<Option<Coverage>>,
    statistics: AsyncMutex<Option<(Instant, StoreStatistics)>>,
}

/// The number of slots without a majority while these nodes are linked.
struct Coverage {
    /// The configuration.
    number: u64,
    linked: Vec<bool>,
    slots_short: usize,
}

impl Assessor {
    pub(crate) fn new(node: NodeHandle) -> Self {
        Self { node, coverage: Mutex::new(None), statistics: AsyncMutex::new(None) }
    }

    /// The node that it assesses.
    pub(crate) fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// The health of the node with this status.
    pub(crate) fn assess(&self, status: &Status) -> Assessment {
        let layout = self.node.layout();
        let mending = self.node.mending();
        let mut assessment = assess(status, &layout, self.slots_short(&layout, &status.peers), mending.as_deref());
        let trust = self.node.trust();
        for problem in trust.problems() {
            assessment.worsen(&problem);
        }
        // It is a remark on a node that serves. Why another one does not is all that its detail says.
        if let Some(remark) = trust.remark().filter(|_| status.unready.is_none()) {
            assessment.add(remark);
        }
        assessment
    }

    /// Statistics of the store, at most a second old; `None` if it does not answer soon, as on a disk that hangs. The
    /// health of a node must be known then above all.
    pub(crate) async fn statistics_soon(&self) -> Option<StoreStatistics> {
        tokio::time::timeout(STATISTICS_TIME_MAX, self.statistics()).await.ok().and_then(Result::ok)
    }

    async fn statistics(&self) -> Result<StoreStatistics, Rejected> {
        // Locked while the store answers, so that many callers at once make one question of it.
        let mut latest = self.statistics.lock().await;
        if let Some((asked_at, statistics)) = &*latest
            && asked_at.elapsed() < STATISTICS_AGE_MAX
        {
            return Ok(statistics.clone());
        }
        let statistics = self.node.store_statistics().await?;
        *latest = Some((Instant::now(), statistics.clone()));
        Ok(statistics)
    }

    /// How many more nodes may fail, whichever they are, before some key can be neither read nor written, as this node sees its
    /// links. While members change, the smaller number of the two lists. `None` where the node is no member.
    pub(crate) fn failures_tolerated(&self, status: &Status) -> Option<usize> {
        if matches!(status.unready, Some(Unready::Waiting | Unready::Removed)) {
            return None;
        }
        let serves = status.unready.is_none() && !status.store_failed;
        let layout = self.node.layout();
        Some(failures_tolerated(&layout, &linked(&layout, self.node.member(), serves, &status.peers)))
    }

    fn slots_short(&self, layout: &Layout, peers: &[PeerStatus]) -> usize {
        let number = layout.number();
        let linked = linked(layout, self.node.member(), true, peers);
        let mut coverage = self.coverage.lock().unwrap_or_else(PoisonError::into_inner);
        match &*coverage {
            Some(known) if known.number == number && known.linked == linked => known.slots_short,
            _ => {
                let slots_short = count_slots_short(layout, &linked);
                *coverage = Some(Coverage { number, linked, slots_short });
                slots_short
            }
        }
    }
}

/// Which of the known nodes are linked. `own` is what counts for this node, `member`.
fn linked(layout: &Layout, member: NodeIndex, own: bool, peers: &[PeerStatus]) -> Vec<bool> {
    let mut linked = vec![false; layout.nodes().len()];
    linked[member.index()] = own;
    for peer in peers {
        // The status may be a moment older or younger than the layout.
        if let Some(linked) = linked.get_mut(peer.member.index()) {
            *linked = peer.view == PeerView::Talking;
        }
    }
    linked
}

/// How many of the `linked` members may be lost before a slot has no majority, of either list while members change.
fn failures_tolerated(layout: &Layout, linked: &[bool]) -> usize {
    let of_list = |placement: &Placement| {
        let replicas = |slot: &Slot| placement.replicas(*slot);
        let spare = |slot: &Slot| {
            let serving = replicas(slot).iter().filter(|member| linked[member.index()]).count();
            serving.saturating_sub(majority(replicas(slot).len()))
        };
        placement.distinct_slots().iter().map(spare).min().unwrap_or(0)
    };
    let lists = std::iter::once(layout.old()).chain(layout.new_placement());
    lists.map(of_list).min().unwrap_or(0)
}

/// "tolerates 1 more failure", for any number.
pub(crate) fn tolerates_text(failures: usize) -> String {
    match failures {
        0 => "tolerates no more failures".to_owned(),
        1 => "tolerates 1 more failure".to_owned(),
        more => format!("tolerates {more} more failures"),
    }
}

/// The number of slots without a majority among the `linked` members, of either list while members change: 65,536 times
/// `replica_count` look-ups, below a millisecond for three.
fn count_slots_short(layout: &Layout, linked: &[bool]) -> usize {
    let is_short = |placement: &Placement, slot| {
        let replicas = placement.replicas(slot);
        replicas.iter().filter(|member| linked[member.index()]).count() < majority(replicas.len())
    };
    let is_short_of_either =
        |slot| is_short(layout.old(), slot) || layout.new_placement().is_some_and(|new| is_short(new, slot));
    (0..=u16::MAX).map(Slot).filter(|slot| is_short_of_either(*slot)).count()
}

fn assess(status: &Status, layout: &Layout, slots_short: usize, mending: Option<&str>) -> Assessment {
    if let Some(unready) = &status.unready {
        let health = match unready {
            Unready::Starting | Unready::Bootstrapping { .. } | Unready::Waiting => Health::Starting,
            Unready::Refused { .. } => Health::Refused,
            Unready::Draining | Unready::Removed => Health::Draining,
        };
        let mut assessment = Assessment { health, detail: unready_text(unready) };
        if let Some(mending) = mending {
            assessment.add(mending);
        }
        return assessment;
    }
    let mut assessment = Assessment { health: Health::Online, detail: String::new() };
    if status.store_failed {
        assessment.worsen(
            "its disk takes no writes, and it acknowledges none until it does: free space, mend the \
             disk or allow more open files, as the log says",
        );
    }
    if let Some(what) = &status.store_damage {
        let mending = mending.unwrap_or("give it a fresh disk with `quorate members replace`");
        assessment.worsen(&format!(
            "its store is damaged ({what}): it answers nothing that is damaged, and other nodes answer in its place; {mending}"
        ));
    } else if let Some(mending) = mending {
        assessment.add(mending);
    }
    if status.disk_is_short {
        assessment.worsen(
            "its disk has less free space than its reserve (node.disk_reserve_bytes), and it takes no copies of records from other nodes: \
             free space",
        );
    }
    if slots_short > 0 {
        let replica_count = layout.parameters().replica_count;
        let needed = majority(replica_count);
        let away = status.peers.iter().filter(|peer| peer.view != PeerView::Talking).map(|peer| &peer.id);
        assessment.worsen(&format!(
            "{slots_short} of {} slots have fewer than {needed} of their {replica_count} replicas linked, and requests \
             for their keys fail: start {}, or mend the network to them",
            Slot::COUNT,
            nodes(away),
        ));
    }
    assessment
}

/// Why a node takes no requests, and what to do about it.
pub(crate) fn unready_text(unready: &Unready) -> String {
    match unready {
        Unready::Starting => "the node is starting: the epoch of this run is not on its disk yet".to_owned(),
        Unready::Bootstrapping { missing } => format!(
            "the cluster is not bootstrapped: this node has yet to meet {} (a cluster is bootstrapped once, when all its \
             members have met: start them)",
            nodes(missing)
        ),
        Unready::Refused { by, refusal } => format!("this node is refused by {}: {refusal}", nodes(by)),
        Unready::Draining => "the node was told to end: ask another one".to_owned(),
        Unready::Waiting => {
            "the node waits to be added to the cluster: ask a member, or add the node with `quorate members apply`"
                .to_owned()
        }
        Unready::Removed => "the node was removed from the cluster: ask a member".to_owned(),
    }
}

/// The state of the link to a peer, and why it is not linked if it is not.
pub(crate) fn link_state(node: &NodeHandle, peer: &PeerStatus) -> (LinkState, String) {
    match peer.view {
        PeerView::Talking => (LinkState::Linked, String::new()),
        PeerView::Unreachable => {
            let detail = format!("not reachable at {}; this node keeps trying", node.address(peer.member));
            (LinkState::Unreachable, detail)
        }
        PeerView::Refused(refusal) => (LinkState::Refused, format!("one of the two refuses the other: {refusal}")),
    }
}

/// The words for a clock that an operator may not raise so far.
pub(crate) fn raise_text(given: Clock, now: Clock) -> String {
    format!(
        "clock {given} is too far above this node's {now}: an operator may raise it by {OPERATOR_EPOCH_RAISE_MAX} epochs \
         or by {OPERATOR_COUNTER_RAISE_MAX} within an epoch at once"
    )
}

/// "node 1" or "nodes 1, 2".
pub(crate) fn nodes<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> String {
    let ids: Vec<&str> = ids.into_iter().map(NodeId::as_str).collect();
    let word = if ids.len() == 1 { "node" } else { "nodes" };
    format!("{word} {}", ids.join(", "))
}

/// The ids of `members`.
pub(crate) fn ids<'a>(layout: &'a Layout, members: &'a [NodeIndex]) -> impl Iterator<Item = &'a NodeId> {
    members.iter().map(|member| layout.id(*member))
}

impl From<Health> for api::Health {
    fn from(health: Health) -> Self {
        match health {
            Health::Online => Self::Online,
            Health::Starting => Self::Starting,
            Health::Degraded => Self::Degraded,
            Health::Draining => Self::Draining,
            Health::Refused => Self::Refused,
        }
    }
}

impl From<LinkState> for api::PeerState {
    fn from(state: LinkState) -> Self {
        match state {
            LinkState::Linked => Self::PeerLinked,
            LinkState::Unreachable => Self::PeerUnreachable,
            LinkState::Refused => Self::PeerRefused,
            LinkState::Itself => Self::PeerSelf,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{HelloRefusal, RepairReport};
    use std::sync::Arc;

    use crate::types::ClusterParameters;

    fn id(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn layout(nodes: usize, replica_count: usize) -> Layout {
        let node_ids = (1..=nodes).map(|n| id(&n.to_string())).collect();
        let placement = Placement::new(ClusterParameters::plain(0, replica_count, node_ids));
        Layout::begin(Arc::new(placement), &[])
    }

    fn status(unready: Option<Unready>, store_failed: bool, away: &[u16]) -> Status {
        let peers = (1..3).map(|index| PeerStatus {
            member: NodeIndex(index),
            id: id(&(index + 1).to_string()),
            view: if away.contains(&index) { PeerView::Unreachable } else { PeerView::Talking },
            last_seen: None,
            queued_bytes: 0,
        });
        Status {
            unready,
            cluster: None,
            store_failed,
            store_damage: None,
            disk_is_short: false,
            clock: Clock::default(),
            requests: 0,
            peers: peers.collect(),
            repair: RepairReport::default(),
        }
    }

    #[test]
    fn each_state_has_its_word_and_says_what_to_do() {
        let layout = layout(3, 3);
        let bootstrapping = Unready::Bootstrapping { missing: vec![id("2"), id("3")] };
        let refused = Unready::Refused { by: vec![id("2")], refusal: HelloRefusal::StoreId };
        for (status, slots_short, health, parts) in [
            (status(None, false, &[]), 0, Health::Online, &[][..]),
            (status(None, false, &[1]), 0, Health::Online, &[]),
            (status(Some(Unready::Starting), false, &[]), 0, Health::Starting, &["starting"]),
            (status(Some(bootstrapping), false, &[1, 2]), 65_536, Health::Starting, &["nodes 2, 3", "start them"]),
            (status(Some(refused), true, &[]), 0, Health::Refused, &["by node 2", "restore the original folder"]),
            (status(Some(Unready::Draining), false, &[]), 0, Health::Draining, &["told to end"]),
            (status(None, true, &[]), 0, Health::Degraded, &["free space"]),
            (
                Status { store_damage: Some("block 7".to_owned()), ..status(None, false, &[]) },
                0,
                Health::Degraded,
                &["is damaged (block 7)", "members replace"],
            ),
            (
                status(None, false, &[1, 2]),
                65_536,
                Health::Degraded,
                &["65536 of 65536 slots", "2 of their 3", "start nodes 2, 3"],
            ),
            (status(None, true, &[1, 2]), 65_536, Health::Degraded, &["free space", "; 65536 of"]),
        ] {
            let assessment = assess(&status, &layout, slots_short, None);
            assert_eq!(assessment.health, health, "{}", assessment.detail);
            assert!(parts.iter().all(|part| assessment.detail.contains(part)), "{}", assessment.detail);
            assert_eq!(assessment.detail.is_empty(), health == Health::Online, "{}", assessment.detail);
        }
    }

    #[test]
    fn what_becomes_of_a_damaged_store_is_said() {
        let layout = layout(3, 3);
        let damaged = Status { store_damage: Some("block 7".to_owned()), ..status(None, false, &[]) };
        let assessment = assess(&damaged, &layout, 0, Some("it waits for node 3"));
        assert_eq!(assessment.health, Health::Degraded);
        assert!(assessment.detail.ends_with("in its place; it waits for node 3"), "{}", assessment.detail);
        let waiting = status(Some(Unready::Waiting), false, &[]);
        let assessment = assess(&waiting, &layout, 0, Some("its store was damaged"));
        assert!(assessment.detail.ends_with("; its store was damaged"), "{}", assessment.detail);
        let taking_over = assess(&status(None, false, &[]), &layout, 0, Some("it copies"));
        assert_eq!((taking_over.health, &*taking_over.detail), (Health::Online, "it copies"));
    }

    #[test]
    fn failures_are_tolerated_down_to_a_majority_of_each_slot() {
        let five = layout(5, 5);
        let tolerated = |away: usize| {
            let linked: Vec<bool> = (0..5).map(|index| index >= away).collect();
            failures_tolerated(&five, &linked)
        };
        assert_eq!([0, 1, 2, 3, 5].map(tolerated), [2, 1, 0, 0, 0]);
        assert_eq!(failures_tolerated(&layout(1, 1), &[true]), 0, "one replica has nothing to spare");
        let texts = ["tolerates no more failures", "tolerates 1 more failure", "tolerates 2 more failures"];
        assert_eq!([0, 1, 2].map(tolerates_text), texts);
    }

    #[test]
    fn slots_are_short_where_a_majority_of_their_replicas_is_away() {
        let three = layout(3, 3);
        assert_eq!(count_slots_short(&three, &[true, true, false]), 0);
        assert_eq!(count_slots_short(&three, &[true, false, false]), Slot::COUNT);
        let nine = layout(9, 3);
        let two_away: Vec<bool> = (0..9).map(|index| index >= 2).collect();
        let short = count_slots_short(&nine, &two_away);
        assert_eq!(failures_tolerated(&nine, &[true; 9]), 1, "a third loss may meet the same three replicas");
        assert_eq!(failures_tolerated(&nine, &two_away), 0);
        // Both of the two are among the three of nine: 7 of 84 choices.
        let expected = Slot::COUNT * 7 / 84;
        assert!(short.abs_diff(expected) < expected / 10, "{short} of about {expected}");
    }
}
