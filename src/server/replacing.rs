//! A node whose store is damaged replaces itself: it gives the store up, starts anew with a fresh one, and asks the other members for
//! its own place, as `quorate members replace` does.
//!
//! Contract: the node gives its store up only while the other members have all that is needed without it, whole: [`decide`]. Until
//! then it serves what is intact. From then on its old identity answers nothing, over all restarts. The rest is a change of members
//! like any other: fences, takeover and seals are those of a node that lost its disk.
//!
//! Bound: a node replaces itself once, until an operator has removed the store that it set aside.
//!
//! Invariant: at most one member gives its store up where the others of its slots would not be a majority: each must see all others
//! linked, and a member that has given up its store is linked to nobody until the change is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::asking::{Pause, Step, ask};
use crate::api;
use crate::limits::SCRUB_BYTES_PER_SECOND_DEFAULT;
use crate::protocol::quorum::majority;
use crate::protocol::{Layout, PeerView, Unready};
use crate::runtime::{NodeHandle, Status};
use crate::service::cluster_report::{Answers, HEALTH_TIME_MAX, ask_all, scrub_all};
use crate::service::members::replacement::replacement;
use crate::storage::StoreStatistics;
use crate::storage::folder::DataFolder;
use crate::types::{NodeId, NodeIndex, StoreId};

/// The time between two looks at the store, and between two looks at the others once it is damaged.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The time between two questions for the node's own place.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// A store that was read whole so long ago, without damage, is taken for whole: at least. Disks rot slowly.
const WHOLE_FOR: Duration = Duration::from_hours(24);

/// Gets the node its place back where its folder waits for that. Then watches for damage, and returns once the damaged store is given
/// up for good. Without a folder, nothing on a disk can be damaged.
pub(super) async fn run(node: NodeHandle, folder: Option<Arc<DataFolder>>) {
    let Some(folder) = folder else { return std::future::pending().await };
    if let Some(old) = folder.replaces() {
        get_place(&node, &folder, old).await;
    }
    while node.damage().is_none() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    error!(what = node.damage(), "the store of this node is damaged: it answers nothing that is damaged");
    loop {
        // Those who look at its health see it.
        tokio::time::sleep(LOOK_EVERY).await;
        let text = match look(&node).await {
            Some(Decision { obstacles, .. }) if obstacles.is_empty() => match give_up(&node, &folder).await {
                Ok(()) => return,
                Err(text) => text,
            },
            Some(decision) => decision.text(),
            // The node ends.
            None => return std::future::pending().await,
        };
        say(&node, &text);
    }
}

/// Says what becomes of the store, where that is new.
fn say(node: &NodeHandle, text: &str) {
    if node.tell_mending(Some(text.to_owned())) {
        warn!("the damaged store: {text}");
    }
}

/// Gives the store up for good.
async fn give_up(node: &NodeHandle, folder: &Arc<DataFolder>) -> Result<(), String> {
    let layout = node.layout();
    let reached = |member: &NodeIndex| {
        let known = &layout.nodes()[member.index()];
        known.address.as_ref().map(|address| (known.id.clone(), address.to_string()))
    };
    let addresses: BTreeMap<NodeId, String> = layout.members().iter().filter_map(reached).collect();
    let (folder, parameters) = (Arc::clone(folder), layout.newest().parameters().clone());
    let given_up = tokio::task::spawn_blocking(move || folder.give_up_store(&parameters, &addresses)).await;
    let problem = match given_up {
        Ok(Ok(())) => {
            error!(
                "the damaged store is given up for good: the node starts anew with a fresh one, and asks for its place"
            );
            return Ok(());
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(format!("it cannot be given up, and that is tried again: {problem}"))
}

// Whether to give it up.

/// What is known of another member's store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Other {
    /// It has not said, for this reason.
    Silent(String),
    /// It met damage.
    Damaged,
    /// It could not read its store.
    Failed,
    /// It was not read lately: so many bytes were, of about so many.
    Unread { is_running: bool, bytes: u64, of_bytes: u64 },
    /// All of it was read, and nothing is damaged.
    Whole,
}

/// What a decision is made by.
struct Seen<'a> {
    is_allowed: bool,
    status: &'a Status,
    layout: &'a Layout,
    me: NodeIndex,
    others: &'a BTreeMap<NodeIndex, Other>,
    statistics: &'a StoreStatistics,
}

/// What is in the way of giving the store up; nothing where it may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Decision {
    /// Each says what to do about it.
    obstacles: Vec<String>,
    /// The members that are to read their stores first.
    unread: BTreeSet<NodeIndex>,
    /// The node does nothing by itself.
    is_by_hand: bool,
}

impl Decision {
    fn text(&self) -> String {
        let obstacles = self.obstacles.join("; ");
        if self.is_by_hand { obstacles } else { format!("the node replaces itself as soon as it may: {obstacles}") }
    }
}

/// Looks at all members, and tells those to read their stores that have to. `None` where the node has ended.
async fn look(node: &NodeHandle) -> Option<Decision> {
    let (status, layout) = (node.status().await.ok()?, node.layout());
    let statistics = node.store_statistics().await.ok()?;
    let trust = node.trust();
    let of = |members: &mut dyn Iterator<Item = NodeIndex>| {
        let entry = |member: NodeIndex| {
            let known = &layout.nodes()[member.index()];
            let (id, address) = (known.id.as_str().to_owned(), known.address.as_deref().unwrap_or_default().to_owned());
            api::StorageNode { id, address, ..Default::default() }
        };
        let storage_nodes = members.map(entry).filter(|entry| !entry.address.is_empty()).collect();
        api::ClusterInfoResponse { storage_nodes, ..Default::default() }
    };
    let members = || layout.members().iter().copied().filter(|member| *member != node.member());
    let answers = ask_all(&of(&mut members()), &[], &|id| trust.dialer_of(id), HEALTH_TIME_MAX).await;
    let others = members().map(|member| (member, other(&layout, member, &answers))).collect();
    let decision = decide(&Seen {
        is_allowed: node.may_replace_itself(),
        status: &status,
        layout: &layout,
        me: node.member(),
        others: &others,
        statistics: &statistics,
    });
    if !decision.unread.is_empty() {
        let unread = of(&mut decision.unread.iter().copied());
        // One that does not answer is asked again.
        scrub_all(&unread, &[], &|id| trust.dialer_of(id), HEALTH_TIME_MAX).await;
    }
    Some(decision)
}

/// What a member has said of its store.
fn other(layout: &Layout, member: NodeIndex, answers: &Answers) -> Other {
    let known = &layout.nodes()[member.index()];
    let address = known.address.as_deref().unwrap_or_default();
    let health = match answers.get(address) {
        Some(Ok(health)) if health.node_id == known.id.as_str() => health,
        Some(Ok(health)) => return Other::Silent(format!("node {:?} answers at {address}", health.node_id)),
        Some(Err(reason)) => return Other::Silent(reason.clone()),
        None => return Other::Silent("its address is not known".to_owned()),
    };
    let scrub = health.scrub.unwrap_or_default();
    let clean_since = scrub.clean_since.and_then(|since| Duration::try_from(since).ok());
    match clean_since {
        _ if health.damaged => Other::Damaged,
        _ if !health.serves => Other::Silent(health.detail.clone()),
        Some(since) if since < whole_for(health.data_bytes.max(scrub.bytes)) => Other::Whole,
        None if scrub.passes > 0 && !scrub.running => Other::Failed,
        _ => Other::Unread { is_running: scrub.running, bytes: scrub.bytes, of_bytes: health.data_bytes },
    }
}

/// How long a store of so many bytes is taken for whole: with a large one, long enough for all others to read theirs.
fn whole_for(bytes: u64) -> Duration {
    let pass = Duration::from_secs(bytes / SCRUB_BYTES_PER_SECOND_DEFAULT as u64);
    WHOLE_FOR.max(2 * pass)
}

/// What is in the way of giving the store up. Where nothing is, all that the node holds can be read without it, from a majority of
/// each slot's replicas whose stores are whole.
fn decide(seen: &Seen<'_>) -> Decision {
    let Seen { is_allowed, status, layout, me, others, statistics } = seen;
    let mut decision = Decision::default();
    if !is_allowed {
        decision.is_by_hand = true;
        decision.obstacles.push(
            "node.replace_damaged is false: give it a fresh disk with `quorate members replace`, or set it to true"
                .to_owned(),
        );
        return decision;
    }
    match status.unready {
        None => {}
        // Nobody lacks what it holds.
        Some(Unready::Waiting | Unready::Removed) => {
            decision.is_by_hand = true;
            decision.obstacles.push(
                "it is no member, and nobody needs its store: check the disk, and end the node, or start it with a fresh folder and --join"
                    .to_owned(),
            );
            return decision;
        }
        Some(_) => {
            decision.obstacles.push("it serves first".to_owned());
            return decision;
        }
    }
    if layout.is_joint() {
        let number = layout.number();
        decision.obstacles.push(if layout.taken_over(*me).is_empty() {
            format!(
                "members change, and that comes to its end first: `quorate members` shows it (configuration {number})"
            )
        } else {
            let id = layout.id(*me);
            format!(
                "members change, and this node takes slots over in that: where it cannot end for the damage, take it back with \
                 `quorate members abort`, and then give node {id} a fresh folder (configuration {number})"
            )
        });
        return decision;
    }
    for peer in status.peers.iter().filter(|peer| peer.view != PeerView::Talking) {
        decision.obstacles.push(format!(
            "node {} is not linked: start it, mend the network to it, or take it out with `quorate members apply`",
            peer.id
        ));
    }
    let (replica_count, needed) = {
        let count = layout.parameters().replica_count;
        (count, majority(count))
    };
    if replica_count - 1 < needed {
        decision.obstacles.push(format!(
            "replica_count is {replica_count}, and without this node no majority of a slot's replicas is left: what is damaged can be \
             read from no other majority; restore it from a backup with `quorate backup restore`"
        ));
        return decision;
    }
    for member in lacking(layout, *me, others, needed) {
        let id = layout.id(member);
        match others.get(&member) {
            Some(Other::Damaged) => decision.obstacles.push(format!(
                "node {id} is damaged too: with `quorate members apply`, put nodes of other ids into the places of both"
            )),
            Some(Other::Unread { is_running, bytes, of_bytes }) => {
                // Each order is a line in that node's audit.
                if !is_running {
                    decision.unread.insert(member);
                }
                decision.obstacles.push(format!(
                    "node {id} reads its own store first, to be sure that it is whole: {} of about {} MiB",
                    bytes >> 20,
                    of_bytes >> 20
                ));
            }
            Some(Other::Failed) => decision.obstacles.push(format!(
                "node {id} could not read its own store: see its log, check its disk, then order it with `quorate repair --scrub`"
            )),
            Some(Other::Silent(reason)) => {
                decision.obstacles.push(format!("node {id} does not say how its store is ({reason})"));
            }
            Some(Other::Whole) | None => {}
        }
    }
    // A disk or memory that flips bits would damage each fresh store, and each time the slots lack a replica until it has copied them.
    if statistics.stores_aside > 0 {
        decision.obstacles.push(
            "a damaged store is set aside already: check the disk and the memory, then remove the folder store.damaged-… from its \
             data folder, or give it another disk with `quorate members replace`"
                .to_owned(),
        );
    }
    // The store that is set aside stays on the disk, and the fresh one grows as large.
    let room = statistics.disk_bytes.saturating_add(statistics.disk_bytes / 4);
    if let Some(free) = statistics.disk_room.map(|disk| disk.free).filter(|free| *free < room) {
        decision.obstacles.push(format!(
            "another copy of its data needs {} MiB on its disk, and {} MiB are free: free space, or give it another disk with \
             `quorate members replace`",
            room >> 20,
            free >> 20
        ));
    }
    decision
}

/// The other replicas that are not known to be whole, of those slots of this node of which too few are.
fn lacking(layout: &Layout, me: NodeIndex, others: &BTreeMap<NodeIndex, Other>, needed: usize) -> BTreeSet<NodeIndex> {
    let is_whole = |member: &NodeIndex| others.get(member) == Some(&Other::Whole);
    let mut lacking = BTreeSet::new();
    for slot in layout.distinct_slots().iter().filter(|slot| layout.holds(me, **slot)) {
        let replicas = || layout.replicas(*slot).iter().copied().filter(|member| *member != me);
        if replicas().filter(is_whole).count() < needed {
            lacking.extend(replicas().filter(|member| !is_whole(member)));
        }
    }
    lacking
}

// The way back.

/// Asks for the node's place until it has it, under a stable configuration. `old` is the store that was given up.
async fn get_place(node: &NodeHandle, folder: &Arc<DataFolder>, old: StoreId) {
    const WAITS: &str =
        "its store was damaged and is set aside: the node asks the members for its place, with a fresh store";
    const DAMAGED_AGAIN: &str = "its fresh store is damaged too, before the node has its place: check the disk and the memory, take a change under way back \
         with `quorate members abort`, start the node with a fresh folder and --join, and use `quorate members replace`";
    say(node, WAITS);
    let mut pause = Pause::new(ASK_EVERY);
    loop {
        match node.status().await {
            Err(_) => return std::future::pending().await,
            Ok(Status { unready: None, .. }) => {
                if node.members().await.is_ok_and(|report| !report.is_joint) {
                    break;
                }
                let copies = "its store was damaged and is set aside: the node copies what it held from the others";
                say(node, if node.damage().is_some() { DAMAGED_AGAIN } else { copies });
            }
            // It asks for no place with a store that is damaged.
            Ok(_) if node.damage().is_some() => say(node, DAMAGED_AGAIN),
            Ok(Status { unready: Some(Unready::Waiting | Unready::Removed), .. }) if node.may_replace_itself() => {
                let step = |members: &_| next_step(members, node.id().as_str(), old, folder.store_id());
                let by_hand = "give it its place with `quorate members replace`";
                let text = ask(node, folder, by_hand, step).await;
                pause.heard(&text);
                say(node, &format!("{WAITS}; {text}"));
            }
            Ok(Status { unready: Some(Unready::Waiting | Unready::Removed), .. }) => {
                say(
                    node,
                    "its store was damaged and is set aside: give the node its place with `quorate members replace`",
                );
            }
            Ok(_) => {}
        }
        pause.wait().await;
    }
    let settled = Arc::clone(folder);
    let settled = tokio::task::spawn_blocking(move || settled.settle()).await;
    if let Ok(Err(error)) = settled {
        warn!(%error, "could not note that the node has its place; the next start finds it out");
    }
    node.tell_mending(None);
    info!(identity = %folder.store_id(), "the node has its place again, with a store that is whole");
}

/// What to do by what a member says. Nobody's place is taken but that of the store that was given up.
fn next_step(members: &api::MembersGetResponse, id: &str, old: StoreId, new: StoreId) -> Step {
    let (old, new) = (old.to_string(), new.to_string());
    let wait = |text: &str| Step::Wait(text.to_owned());
    let listed = |member: &&api::ClusterMember| member.id == id && member.in_new;
    match members.members.iter().find(listed) {
        Some(member) if member.identity == new => wait("the change is under way"),
        _ if members.changing => wait("members change, and it asks again after that"),
        None => wait("it is no member any more: add it with `quorate members apply`, or end it"),
        Some(member) if member.identity != old => {
            wait("another data folder has its place: end this node, or that one and use `quorate members replace`")
        }
        Some(_) => match replacement(members, id, Some(&new)) {
            Ok(wish) => Step::Ask(Box::new(wish)),
            Err(_) => wait("the members do not know it yet"),
        },
    }
}

#[cfg(test)]
mod tests;
