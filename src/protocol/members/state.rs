//! The state of changes of members at one node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::limits::{HELD_BYTES_MAX, HELD_REQUESTS_MAX, WAITING_HEARD_MAX};
use crate::protocol::context::Origin;
use crate::protocol::coordinator::{Coordinator, CoordinatorCtx};
use crate::protocol::io::{ReadId, RequestId, Time};
use crate::protocol::layout::Layout;
use crate::protocol::membership::WaitingNode;
use crate::protocol::message::{Message, OperationId, Request};
use crate::protocol::pace::Pace;
use crate::protocol::rate::Rate;
use crate::types::{Configuration, Meta, NodeId, NodeIndex, Site, Slot, StoreId, TakenOver, Vote, VoteBallot};

use super::messages::{MembersRequest, Progress};
use super::proposal::Proposal;
use super::sweep::Sweep;
use super::takeover::Takeover;

/// The changes of members at one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Members {
    /// This node's part in the vote on the next configuration.
    pub(super) vote: Option<Vote>,
    /// The greatest count that this incarnation has used in a ballot.
    pub(super) last_count: u64,
    /// The vote that this node runs.
    pub(super) proposal: Option<Proposal>,
    /// The newest configuration of which this node has heard that it was chosen. Once it is adopted, it says nothing new.
    known: Option<Arc<Configuration>>,
    /// The layout of a configuration that is on its way to the disk.
    adopting: Option<Arc<Layout>>,
    /// The operator's request that this node's change is made for.
    pub(super) asked: Option<Asked>,
    /// Whether this node has made the change that is under way.
    pub(super) is_mine: bool,
    /// The members that take slots over. The change ends once all of them have.
    pub(super) takers: BTreeSet<NodeIndex>,
    /// How far each member has said it has taken over.
    pub(super) progress: BTreeMap<NodeIndex, Progress>,
    /// The question how far members are.
    pub(super) question: Option<OperationId>,
    /// When that is asked next.
    pub(super) look_at: Time,
    /// Since when all members are known to have taken over what they must.
    pub(super) complete_since: Option<Time>,
    pub(super) takeover: Takeover,
    /// How fast it goes.
    pub(super) pace: Pace,
    pub(super) rate: Rate,
    pub(super) sweep: Sweep,
    /// Requests that wait for a newer configuration, or for what must be known before a gained slot is served.
    held: VecDeque<(Origin, Request)>,
    held_bytes: usize,
    /// When newer configurations were asked for last.
    wanted_at: Option<Time>,
    /// Records that are read for others.
    pub(super) served: BTreeMap<ReadId, (Origin, Slot)>,
    pub(super) last_read: u64,
}

/// An operator's request for a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) request: RequestId,
    /// When it is answered at the latest.
    pub(super) deadline: Time,
    /// The configuration that this node has proposed for it.
    pub(super) wanted: Arc<Configuration>,
    /// Whether that was chosen.
    pub(super) is_chosen: bool,
}

/// What it uses of its node.
#[derive(Debug)]
pub struct MembersCtx<'a> {
    /// Runs the reads of single keys.
    pub coordinator: &'a mut Coordinator,
    /// What the coordinator uses.
    pub shared: CoordinatorCtx<'a>,
}

/// The members as one node sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersReport {
    /// The number of the configuration.
    pub number: u64,
    /// Whether members change.
    pub is_joint: bool,
    /// `replica_count` of the list; while members change, of the old one.
    pub replica_count: usize,
    /// `replica_count` of the new list, while members change.
    pub new_replica_count: Option<usize>,
    /// The members of either list, in the order of their ids.
    pub members: Vec<MemberStatus>,
    /// The nodes that wait to join.
    pub waiting: Vec<WaitingNode>,
}

/// A member as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its index.
    pub node: NodeIndex,
    /// Its id.
    pub id: NodeId,
    /// The identity of its data folder, as far as it is known.
    pub store_id: Option<StoreId>,
    /// Whether it is in the old list, or in the present one.
    pub is_old: bool,
    /// Whether it is in the new list, or in the present one.
    pub is_new: bool,
    /// Whether this node can reach it.
    pub is_reached: bool,
    /// How many slots it holds.
    pub slots: u32,
    /// How far it has said it has taken over, while members change.
    pub progress: Option<Progress>,
    /// Where it is reached, as far as a configuration says so.
    pub address: Option<Arc<str>>,
    /// Its weight and zone in the old list, or in the present one; in the new one, if it is in that alone.
    pub old_site: Site,
    /// Its weight and zone in the new list, or in the present one; in the old one, if it is in that alone.
    pub site: Site,
}

impl MembersCtx<'_> {
    pub(super) fn now(&self) -> Time {
        self.shared.node.now
    }

    pub(super) fn me(&self) -> NodeIndex {
        self.shared.node.me
    }

    pub(super) fn layout(&self) -> &Layout {
        self.shared.node.layout
    }

    /// Sends a question to another member.
    pub(super) fn send(&mut self, to: NodeIndex, operation: OperationId, round: u32, request: MembersRequest) {
        if let Some(incarnation) = self.shared.reaches(to) {
            let number = self.layout().number();
            let request = Request::Members(request);
            self.shared.node.send(to, Some(incarnation), Message::Request { operation, round, number, request });
        }
    }

    /// Where a question of this node to itself comes from.
    pub(super) fn own_origin(&self, operation: OperationId, round: u32) -> Origin {
        let incarnation = self.shared.membership.incarnation();
        Origin { node: self.me(), incarnation, operation, round, number: self.layout().number() }
    }
}

impl Members {
    /// The members of a node that starts, and whose folder remembers `meta`.
    #[must_use]
    pub fn start(meta: &Meta, layout: &Layout, me: NodeIndex, now: Time) -> Self {
        Self {
            vote: meta.vote.clone(),
            last_count: 0,
            proposal: None,
            known: None,
            adopting: None,
            asked: None,
            is_mine: false,
            takers: takers(layout),
            progress: BTreeMap::new(),
            question: None,
            look_at: now,
            complete_since: None,
            takeover: Takeover::begin(layout, me, kept(meta, layout), now),
            pace: Pace::default(),
            rate: Rate::TAKEOVER,
            sweep: Sweep::start(meta, layout, me, now),
            held: VecDeque::new(),
            held_bytes: 0,
            wanted_at: None,
            served: BTreeMap::new(),
            last_read: 0,
        }
    }

    /// The promise of this node in the vote on the configuration of this number.
    pub(super) fn promised(&self, number: u64) -> VoteBallot {
        let vote = self.vote.as_ref().filter(|vote| vote.number == number);
        vote.map_or_else(|| VoteBallot { count: 0, proposer: NodeId::none(), epoch: 0 }, |vote| vote.promised.clone())
    }

    /// Whether this node knows what it must before it serves slots that it gains.
    #[must_use]
    pub fn knows_floors(&self) -> bool {
        self.takeover.knows_floors()
    }

    /// Whether anything is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.proposal.is_some() || self.adopting.is_some() || !self.takeover.is_complete()
    }

    /// How far this node has taken over what it must.
    #[must_use]
    pub fn own_progress(&self) -> Progress {
        self.takeover.progress()
    }

    // Adoption.

    /// A configuration was chosen. The newest one is kept until this node has adopted it: it may have to wait for the disk, and
    /// nobody else may tell it again.
    pub fn learn(&mut self, configuration: &Arc<Configuration>) {
        if self.known.as_ref().is_none_or(|known| known.number < configuration.number) {
            self.known = Some(Arc::clone(configuration));
        }
    }

    /// The configuration that is to be adopted next, where the present one has this number and no other is on its way to the disk.
    #[must_use]
    pub fn to_adopt(&self, number: u64) -> Option<&Arc<Configuration>> {
        self.known.as_ref().filter(|known| known.number > number && self.adopting.is_none())
    }

    /// The number of the configuration that is on its way to the disk.
    #[must_use]
    pub fn adopting(&self) -> Option<u64> {
        self.adopting.as_ref().map(|layout| layout.number())
    }

    /// The layout of the configuration that is on its way to the disk.
    #[must_use]
    pub fn adopting_layout(&self) -> Option<&Layout> {
        self.adopting.as_deref()
    }

    /// The layout of a configuration is on its way to the disk.
    pub fn adopt(&mut self, layout: Arc<Layout>) {
        self.adopting = Some(layout);
    }

    /// The configuration of this number is durable: its layout.
    pub fn adopted(&mut self, number: u64) -> Option<Arc<Layout>> {
        if self.adopting() == Some(number) { self.adopting.take() } else { None }
    }

    /// A batch failed: a configuration in it may not be durable. It is adopted again once the store takes writes.
    pub fn on_batch_failed(&mut self) {
        self.adopting = None;
        self.sweep.on_batch_failed();
    }

    /// The store was reopened after a failure, and remembers `meta`. What was to be kept may be lost, the seals of a page among
    /// it: slots are taken over from the place that is durable.
    pub fn on_store_reopened(&mut self, meta: &Meta, layout: &Layout, me: NodeIndex, now: Time) {
        if !self.takeover.is_complete() {
            self.takeover.begin_anew(layout, me, kept(meta, layout), now);
        }
        self.sweep = Sweep::start(meta, layout, me, now);
    }

    // Requests that wait.

    /// Holds a request until this node may serve it. Too many are dropped, as a network would drop them.
    pub fn hold(&mut self, from: Origin, request: Request) {
        let bytes = request_bytes(&request);
        if self.held.len() < HELD_REQUESTS_MAX && self.held_bytes + bytes <= HELD_BYTES_MAX {
            self.held_bytes += bytes;
            self.held.push_back((from, request));
        }
    }

    /// The requests that were held: each is judged anew.
    pub fn take_held(&mut self) -> VecDeque<(Origin, Request)> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// Whether a newer configuration is to be asked for now: not with each message that bears its number.
    pub fn wants_configuration(&mut self, now: Time) -> bool {
        let is_due = self.wanted_at.is_none_or(|at| at.after(crate::limits::RESEND_AFTER) <= now);
        if is_due {
            self.wanted_at = Some(now);
        }
        is_due
    }

    /// The members, as this node sees them.
    #[must_use]
    pub fn report(
        &self,
        me: NodeIndex,
        layout: &Layout,
        membership: &super::super::membership::Membership,
        now: Time,
    ) -> MembersReport {
        let (old, new) = (layout.old(), layout.newest());
        let slots: BTreeMap<NodeIndex, u32> =
            new.members().iter().copied().zip(new.slots_held().iter().copied()).collect();
        let old_slots: BTreeMap<NodeIndex, u32> =
            old.members().iter().copied().zip(old.slots_held().iter().copied()).collect();
        let member = |node: &NodeIndex| MemberStatus {
            node: *node,
            id: layout.id(*node).clone(),
            store_id: membership.store_of(*node),
            is_old: old.members().contains(node),
            is_new: new.members().contains(node),
            is_reached: *node == me || membership.talking_to(*node).is_some(),
            slots: slots.get(node).or(old_slots.get(node)).copied().unwrap_or(0),
            progress: if *node == me { Some(self.own_progress()) } else { self.progress.get(node).copied() }
                .filter(|_| layout.is_joint()),
            address: layout.nodes()[node.index()].address.clone(),
            old_site: layout.old_site(*node),
            site: layout.site(*node),
        };
        let since = Time(now.0.saturating_sub(Time(0).after(WAITING_HEARD_MAX).0));
        MembersReport {
            number: layout.number(),
            is_joint: layout.is_joint(),
            replica_count: old.parameters().replica_count,
            new_replica_count: layout.new_placement().map(|new| new.parameters().replica_count),
            members: layout.members().iter().map(member).collect(),
            waiting: membership.waiting(since).collect(),
        }
    }
}

/// The members of the new list that take any slot over.
pub(super) fn takers(layout: &Layout) -> BTreeSet<NodeIndex> {
    let of_slot = |slot: &Slot| {
        let replicas = layout.newest().replicas(*slot).iter();
        replicas.copied().filter(|node| layout.takes_over(*node, *slot)).collect::<Vec<_>>()
    };
    // Slots with the same replicas, in either list, are taken over alike.
    if layout.is_joint() { layout.distinct_slots().iter().flat_map(of_slot).collect() } else { BTreeSet::new() }
}

/// How far this node had taken slots over under the configuration of `layout`, as far as that is durable.
fn kept<'a>(meta: &'a Meta, layout: &Layout) -> Option<&'a TakenOver> {
    meta.taken_over.as_ref().filter(|taken_over| taken_over.number == layout.number())
}

fn request_bytes(request: &Request) -> usize {
    let value = request.payload().map_or(0, |record| record.content.value_bytes());
    size_of::<(Origin, Request)>() + value + request.key().map_or(0, |key| key.as_bytes().len())
}
