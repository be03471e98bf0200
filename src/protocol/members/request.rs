//! An operator's request to change members, and whether it can be granted.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limits::WAITING_HEARD_MAX;
use crate::protocol::io::{Failure, MembersChange, Reply, RequestId, Time};
use crate::protocol::membership::WaitingNode;
use crate::types::{Configuration, Member, MemberList, NodeIndex, Site, Slot};

use super::messages::{WishedMember, WishedMembers};
use super::refusal::MembersRefusal;
use super::state::{Asked, Members, MembersCtx};

/// So many of the slots that would have no majority are named.
const SLOTS_NAMED: usize = 3;

impl Members {
    /// An operator wants something of the members.
    pub fn on_order(&mut self, id: RequestId, deadline: Time, change: MembersChange, ctx: &mut MembersCtx<'_>) {
        match change {
            MembersChange::Change { expected, wished, is_forced } => {
                match self.granted(expected, &wished, is_forced, ctx) {
                    Ok(configuration) => self.begin(id, deadline, configuration, ctx),
                    Err(refusal) => refuse(id, refusal, ctx),
                }
            }
            MembersChange::TakeBack { expected } => self.take_back(id, deadline, expected, ctx),
        }
    }

    /// An operator wants to take the change back that is under way.
    fn take_back(&mut self, id: RequestId, deadline: Time, expected: Option<u64>, ctx: &mut MembersCtx<'_>) {
        let present = match self.present(expected, ctx) {
            Ok(present) => present,
            Err(refusal) => return refuse(id, refusal, ctx),
        };
        match present.taken_back() {
            Some(configuration) => self.begin(id, deadline, configuration, ctx),
            None => refuse(id, MembersRefusal::NotUnderWay, ctx),
        }
    }

    fn begin(&mut self, id: RequestId, deadline: Time, wanted: Configuration, ctx: &mut MembersCtx<'_>) {
        // A vote of this node's own, which ends a change, is given up: the other one finds what it has left.
        self.asked = Some(Asked { request: id, deadline, wanted: Arc::new(wanted.clone()), is_chosen: false });
        self.propose(wanted, deadline, ctx);
    }

    /// The present configuration, if it is the one that the operator has seen.
    fn present(&self, expected: Option<u64>, ctx: &MembersCtx<'_>) -> Result<Configuration, MembersRefusal> {
        let number = ctx.layout().number();
        if !ctx.shared.membership.is_member() {
            return Err(MembersRefusal::NotAMember);
        }
        if expected.is_some_and(|expected| expected != number) {
            return Err(MembersRefusal::OtherConfiguration { number });
        }
        if self.asked.is_some() {
            return Err(MembersRefusal::UnderWay { number });
        }
        present_configuration(ctx).ok_or(MembersRefusal::NotAMember)
    }

    /// The joint configuration that brings what was wished for. `expected` is the number of the configuration that the operator has
    /// seen. A change is forced where members that are needed are away: it is safe, and their slots wait for them.
    fn granted(
        &self,
        expected: Option<u64>,
        wished: &WishedMembers,
        is_forced: bool,
        ctx: &MembersCtx<'_>,
    ) -> Result<Configuration, MembersRefusal> {
        let present = self.present(expected, ctx)?;
        if present.is_joint() {
            return Err(MembersRefusal::UnderWay { number: present.number });
        }
        let new = Self::list_of(wished, &present, ctx)?;
        if new == present.old {
            return Err(MembersRefusal::NoChange);
        }
        let joint = present.joint_with(new);
        if !is_forced {
            Self::check_majorities(&joint, ctx)?;
        }
        Ok(joint)
    }

    /// The members that were wished for, with their data folders.
    fn list_of(
        wished: &WishedMembers,
        present: &Configuration,
        ctx: &MembersCtx<'_>,
    ) -> Result<MemberList, MembersRefusal> {
        let since = Time(ctx.now().0.saturating_sub(Time(0).after(WAITING_HEARD_MAX).0));
        let waiting: Vec<WaitingNode> = ctx.shared.membership.waiting(since).collect();
        let member = |wished: &WishedMember| {
            let known = present.old.of_id(&wished.id);
            let (address, site) = (Arc::clone(&wished.address), wished.site.clone());
            if let Some(known) = known.filter(|known| wished.store_id.is_none_or(|store_id| store_id == known.store_id))
            {
                return Ok(Member { address, site, ..known.clone() });
            }
            let is_it = |node: &&WaitingNode| {
                node.id == wished.id && wished.store_id.is_none_or(|store_id| store_id == node.store_id)
            };
            let mut found = waiting.iter().filter(is_it);
            let Some(node) = found.next() else { return Err(MembersRefusal::NotWaiting(wished.id.clone())) };
            if found.next().is_some() {
                return Err(MembersRefusal::SeveralWait(wished.id.clone()));
            }
            Ok(Member { id: wished.id.clone(), store_id: node.store_id, since: present.number + 1, address, site })
        };
        let mut members: Vec<Member> = wished.members.iter().map(member).collect::<Result<_, _>>()?;
        members.sort_by(|one, other| one.id.cmp(&other.id));
        let (replica_count, count) = (wished.replica_count, members.len());
        if let Some(twice) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(MembersRefusal::NotAList(format!("node {} is listed twice", twice[0].id)));
        }
        if !(1..=count).contains(&replica_count) || replica_count > crate::limits::REPLICA_COUNT_MAX {
            return Err(MembersRefusal::ReplicaCount { replica_count, members: count });
        }
        if !Site::are_of_one_cluster(members.iter().map(|member| &member.site)) {
            return Err(MembersRefusal::SomeZones);
        }
        let list = MemberList { replica_count, members };
        if list.is_valid() && count <= crate::limits::NODES_MAX {
            Ok(list)
        } else {
            Err(MembersRefusal::NotAList("it has too many members".to_owned()))
        }
    }

    /// Checks that each slot has a majority of members that can be reached, in either list. A slot without one would stop.
    fn check_majorities(joint: &Configuration, ctx: &MembersCtx<'_>) -> Result<(), MembersRefusal> {
        let since = Time(ctx.now().0.saturating_sub(Time(0).after(WAITING_HEARD_MAX).0));
        let waiting: BTreeSet<NodeIndex> = ctx.shared.membership.waiting(since).map(|node| node.node).collect();
        let layout = ctx.shared.membership.layout_under(&Arc::new(joint.clone()), ctx.layout());
        let is_reached = |node: &NodeIndex| ctx.shared.reaches(*node).is_some() || waiting.contains(node);
        let reached: Vec<NodeIndex> = layout.members().iter().copied().filter(is_reached).collect();
        let lacks = |slot: &&Slot| {
            let tally = layout.tally(**slot);
            !tally.is_quorum(tally.set_of(reached.iter().copied()))
        };
        if !layout.distinct_slots().iter().any(|slot| lacks(&slot)) {
            return Ok(());
        }
        let slots: Vec<Slot> = (0..=u16::MAX).map(Slot).filter(|slot| lacks(&slot)).collect();
        let of_slots: BTreeSet<NodeIndex> = slots
            .iter()
            .flat_map(|slot| layout.replicas(*slot))
            .copied()
            .filter(|node| !reached.contains(node))
            .collect();
        let unreachable = of_slots.iter().map(|node| layout.id(*node).clone()).collect();
        let (count, named) = (slots.len(), slots.into_iter().take(SLOTS_NAMED).collect());
        Err(MembersRefusal::NoMajority { count, slots: named, unreachable })
    }
}

/// The present configuration. Before the first change it follows from the members that have met.
pub(super) fn present_configuration(ctx: &MembersCtx<'_>) -> Option<Configuration> {
    let layout = ctx.layout();
    if let Some(configuration) = layout.configuration() {
        return Some(Configuration::clone(configuration));
    }
    let member = |node: &NodeIndex| {
        let store_id = ctx.shared.membership.store_of(*node)?;
        let address = layout.nodes()[node.index()].address.clone()?;
        Some(Member { id: layout.id(*node).clone(), store_id, since: 0, address, site: layout.site(*node) })
    };
    let members: Option<Vec<Member>> = layout.members().iter().map(member).collect();
    let (parameters, cluster) = (layout.parameters(), ctx.shared.membership.cluster()?);
    let old = MemberList { replica_count: parameters.replica_count, members: members? };
    let (seed, epoch_floor) = (parameters.seed, parameters.epoch_floor);
    Some(Configuration { number: 0, cluster, seed, epoch_floor, old, new: None })
}

fn refuse(id: RequestId, refusal: MembersRefusal, ctx: &mut MembersCtx<'_>) {
    ctx.shared.node.reply(id, Reply::Failed(Failure::Members(refusal)));
}
