//! The lists of members that a report tells of, or a wish.

use std::collections::BTreeSet;

use crate::limits::{NODES_MAX, REPLICA_COUNT_MAX};
use crate::protocol::placement::Placement;
use crate::protocol::quorum::majority;
use crate::protocol::{MembersRefusal, MembersReport, WaitingNode, WishedMembers};
use crate::types::{ClusterParameters, NodeId, Slot, StoreId};

/// The lists before and after the change under way.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    pub(super) old: MemberList,
    /// Absent while no members change.
    pub(super) new: Option<MemberList>,
}

/// Some members, in the order of their ids, and how many of them hold each slot.
#[derive(Clone, Debug)]
pub(super) struct MemberList {
    pub(super) replica_count: usize,
    pub(super) members: Vec<Listed>,
}

/// A member of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: NodeId,
    /// Absent where it is not known, as that of a node that is not started yet.
    pub(super) store_id: Option<StoreId>,
    pub(super) address: String,
    pub(super) is_reached: bool,
}

/// How many failures a list of members has to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    /// How many more nodes may fail, whichever they are.
    pub(super) tolerated: usize,
    /// How many slots lack a majority of members that can be reached.
    pub(super) slots_lost: usize,
}

impl Lists {
    pub(super) fn of(report: &MembersReport) -> Self {
        let list = |replica_count: usize, is_in: fn(&crate::protocol::MemberStatus) -> bool| {
            let listed = |member: &crate::protocol::MemberStatus| Listed {
                id: member.id.clone(),
                store_id: member.store_id,
                address: member.address.as_deref().unwrap_or_default().to_owned(),
                is_reached: member.is_reached,
            };
            let mut members: Vec<Listed> = report.members.iter().filter(|member| is_in(member)).map(listed).collect();
            members.sort_by(|one, other| one.id.cmp(&other.id));
            MemberList { replica_count, members }
        };
        Self {
            old: list(report.replica_count, |member| member.is_old),
            new: report.new_replica_count.map(|count| list(count, |member| member.is_new)),
        }
    }
}

impl MemberList {
    /// The members that were wished for, as far as they are known.
    pub(super) fn wished(wished: &WishedMembers, old: &Self, waiting: &[WaitingNode]) -> Result<Self, MembersRefusal> {
        let listed = |wish: &crate::protocol::WishedMember| {
            let address = wish.address.to_string();
            let known = old.of_id(&wish.id);
            let stays = known.filter(|known| wish.store_id.is_none_or(|store_id| Some(store_id) == known.store_id));
            if let Some(known) = stays {
                return Listed { address, ..known.clone() };
            }
            let mut nodes = waiting
                .iter()
                .filter(|node| node.id == wish.id && wish.store_id.is_none_or(|store_id| store_id == node.store_id));
            let node = nodes.next();
            let store_id = wish.store_id.or_else(|| node.map(|node| node.store_id));
            Listed { id: wish.id.clone(), store_id, address, is_reached: node.is_some() }
        };
        let mut members: Vec<Listed> = wished.members.iter().map(listed).collect();
        members.sort_by(|one, other| one.id.cmp(&other.id));
        let (replica_count, count) = (wished.replica_count, members.len());
        if let Some(twice) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(MembersRefusal::NotAList(format!("node {} is listed twice", twice[0].id)));
        }
        if count > NODES_MAX {
            return Err(MembersRefusal::NotAList(format!("it has {count} members: at most {NODES_MAX} are accepted")));
        }
        if !(1..=count.min(REPLICA_COUNT_MAX)).contains(&replica_count) {
            return Err(MembersRefusal::ReplicaCount { replica_count, members: count });
        }
        Ok(Self { replica_count, members })
    }

    pub(super) fn of_id(&self, id: &NodeId) -> Option<&Listed> {
        self.members.iter().find(|member| member.id == *id)
    }

    /// The replicas of each slot, as places in the list.
    pub(super) fn placement(&self, seed: u32) -> Placement {
        let node_ids = self.members.iter().map(|member| member.id.clone()).collect();
        Placement::new(ClusterParameters { seed, replica_count: self.replica_count, epoch_floor: 0, node_ids })
    }

    /// How many failures it has to spare.
    pub(super) fn spare(&self, seed: u32) -> Spare {
        self.spare_in(&self.placement(seed))
    }

    /// The same with its placement, which takes a while to compute.
    pub(super) fn spare_in(&self, placement: &Placement) -> Spare {
        let needed = majority(self.replica_count);
        let reached = |slot: Slot| {
            placement.replicas(slot).iter().filter(|member| self.members[member.index()].is_reached).count()
        };
        let least = placement.distinct_slots().iter().map(|slot| reached(*slot)).min().unwrap_or(0);
        let slots_lost =
            if least >= needed { 0 } else { (0..=u16::MAX).filter(|slot| reached(Slot(*slot)) < needed).count() };
        Spare { tolerated: least.saturating_sub(needed), slots_lost }
    }

    /// The ids of its members.
    pub(super) fn ids(&self) -> BTreeSet<&NodeId> {
        self.members.iter().map(|member| &member.id).collect()
    }
}
