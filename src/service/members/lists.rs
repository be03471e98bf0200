//! The lists of members that a report tells of, or a wish.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{NODES_MAX, REPLICA_COUNT_MAX};
use crate::protocol::placement::Placement;
use crate::protocol::quorum::majority;
use crate::protocol::{MemberStatus, MembersRefusal, MembersReport, WaitingNode, WishedMembers};
use crate::types::{ClusterParameters, NodeId, Site, Slot, StoreId};

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
    pub(super) site: Site,
}

/// How many failures a list of members has to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    /// How many more nodes may fail, whichever they are.
    pub(super) tolerated: usize,
    /// How many slots lack a majority of members that can be reached.
    pub(super) slots_lost: usize,
}

/// The placements that were computed last. While members change, somebody looks several times a second.
#[derive(Debug, Default)]
pub(in crate::service) struct Placements(Mutex<VecDeque<Arc<Placement>>>);

impl Placements {
    /// Two lists change into each other, and a plan has a third.
    const KEPT: usize = 4;

    /// That of a list, as places in it. It may take a while to compute.
    fn of(&self, parameters: ClusterParameters) -> Arc<Placement> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(placement) = known.iter().find(|placement| *placement.parameters() == parameters) {
            return Arc::clone(placement);
        }
        let placement = Arc::new(Placement::new(parameters));
        known.truncate(Self::KEPT - 1);
        known.push_front(Arc::clone(&placement));
        placement
    }
}

impl Lists {
    pub(super) fn of(report: &MembersReport) -> Self {
        let list = |replica_count: usize, is_in: fn(&MemberStatus) -> bool, site: fn(&MemberStatus) -> &Site| {
            let listed = |member: &MemberStatus| Listed {
                id: member.id.clone(),
                store_id: member.store_id,
                address: member.address.as_deref().unwrap_or_default().to_owned(),
                is_reached: member.is_reached,
                site: site(member).clone(),
            };
            let mut members: Vec<Listed> = report.members.iter().filter(|member| is_in(member)).map(listed).collect();
            members.sort_by(|one, other| one.id.cmp(&other.id));
            MemberList { replica_count, members }
        };
        Self {
            old: list(report.replica_count, |member| member.is_old, |member| &member.old_site),
            new: report.new_replica_count.map(|count| list(count, |member| member.is_new, |member| &member.site)),
        }
    }
}

impl MemberList {
    /// The members that were wished for, as far as they are known.
    pub(super) fn wished(wished: &WishedMembers, old: &Self, waiting: &[WaitingNode]) -> Result<Self, MembersRefusal> {
        let listed = |wish: &crate::protocol::WishedMember| {
            let (address, site) = (wish.address.to_string(), wish.site.clone());
            let known = old.of_id(&wish.id);
            let stays = known.filter(|known| wish.store_id.is_none_or(|store_id| Some(store_id) == known.store_id));
            if let Some(known) = stays {
                return Listed { address, site, ..known.clone() };
            }
            let mut nodes = waiting
                .iter()
                .filter(|node| node.id == wish.id && wish.store_id.is_none_or(|store_id| store_id == node.store_id));
            let node = nodes.next();
            let store_id = wish.store_id.or_else(|| node.map(|node| node.store_id));
            Listed { id: wish.id.clone(), store_id, address, is_reached: node.is_some(), site }
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
        if !Site::are_of_one_cluster(members.iter().map(|member| &member.site)) {
            return Err(MembersRefusal::SomeZones);
        }
        Ok(Self { replica_count, members })
    }

    pub(super) fn of_id(&self, id: &NodeId) -> Option<&Listed> {
        self.members.iter().find(|member| member.id == *id)
    }

    /// The replicas of each slot, as places in the list.
    pub(super) fn placement(&self, seed: u32, known: &Placements) -> Arc<Placement> {
        let node_ids = self.members.iter().map(|member| member.id.clone()).collect();
        let sites = self.members.iter().map(|member| member.site.clone()).collect();
        let replica_count = self.replica_count;
        known.of(ClusterParameters { seed, replica_count, epoch_floor: 0, node_ids, sites })
    }

    /// How many failures it has to spare, by its placement.
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
