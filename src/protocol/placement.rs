//! Which nodes hold a key: rendezvous hashing (Thaler and Ravishankar, 1998) of 65,536 slots with MurmurHash3.
//!
//! Contract: all nodes with the same [`ClusterParameters`] compute the same table, on any machine and in any language (the
//! formulas are in docs/protocol.md). The table is computed once; a request only looks a slot up. When a node joins, only
//! slots that gain it change. When a node leaves, only slots that lose it change. When one node's weight changes, only slots
//! that gain or lose this node change. In each such slot one replica takes the place of one other.

mod choice;
mod hash;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use self::choice::Choice;
use self::hash::{hash_32, hash_64, mixed_slot, score};
use crate::types::{ClusterParameters, Key, NodeIndex, Slot};

/// The replicas of every slot.
#[derive(Clone, PartialEq, Eq)]
pub struct Placement {
    parameters: ClusterParameters,
    /// The nodes of the list, in the order of their ids.
    members: Vec<NodeIndex>,
    /// `replica_count` members for each slot, in the order of preference.
    replicas: Vec<NodeIndex>,
    /// One slot for each set of replicas that any slot has.
    distinct_slots: Vec<Slot>,
    /// How many slots each node of the list holds.
    slots_held: Vec<u32>,
}

/// A set of replicas, in whichever order they are named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::protocol) enum ReplicaSet {
    /// Up to [`ReplicaSet::FEW`], packed: a layout compares a set for each slot.
    Few(u128),
    Many(Box<[NodeIndex]>),
}

impl ReplicaSet {
    const FEW: usize = 8;

    pub(in crate::protocol) fn of(replicas: &[NodeIndex]) -> Self {
        if replicas.len() > Self::FEW {
            let mut sorted: Box<[NodeIndex]> = replicas.into();
            sorted.sort_unstable();
            return Self::Many(sorted);
        }
        let mut sorted = [u16::MAX; Self::FEW];
        for (place, replica) in sorted.iter_mut().zip(replicas) {
            *place = replica.0;
        }
        sorted[..replicas.len()].sort_unstable();
        Self::Few(sorted.iter().fold(0, |packed, replica| packed << u16::BITS | u128::from(*replica)))
    }
}

impl Placement {
    /// Computes the table: nodes times 65,536 scores, 2 ms for three nodes and a fifth of a second for a thousand. Where weights
    /// differ it takes some 20 ms for three nodes, and twice as long for a thousand.
    ///
    /// # Panics
    /// When `parameters` break a rule that the configuration checks: ids ascend and are distinct, each has a site, and
    /// `replica_count` is between 1 and the number of nodes.
    #[must_use]
    pub fn new(parameters: ClusterParameters) -> Self {
        let members = parameters.members().collect();
        Self::of_nodes(parameters, members)
    }

    /// The same, where the nodes of `parameters` have these indexes.
    ///
    /// # Panics
    /// As [`Placement::new`], and when there are more indexes or fewer.
    #[must_use]
    pub fn of_nodes(parameters: ClusterParameters, members: Vec<NodeIndex>) -> Self {
        let ids = &parameters.node_ids;
        assert!(ids.is_sorted_by(|a, b| a < b), "node ids are ascending and distinct");
        assert_eq!(ids.len(), members.len(), "each node has an index");
        assert!((1..=ids.len()).contains(&parameters.replica_count), "replica_count is 1 to the number of nodes");
        assert!(parameters.sites.len() == ids.len(), "each node has a site");

        let node_seeds: Vec<u32> = ids.iter().map(|id| hash_32(id.as_str().as_bytes(), parameters.seed)).collect();
        let mut replicas = match Choice::new(&parameters, &node_seeds) {
            Some(choice) => choice.replicas(),
            None => best_scores(&node_seeds, parameters.replica_count),
        };
        // Until here a replica is a place in the list.
        for replica in &mut replicas {
            *replica = members[replica.index()];
        }
        let distinct_slots = distinct_slots(&replicas, parameters.replica_count);
        let slots_held = slots_held(&replicas, &members);
        Self { parameters, members, replicas, distinct_slots, slots_held }
    }

    /// The parameters that the table was computed from.
    #[must_use]
    pub fn parameters(&self) -> &ClusterParameters {
        &self.parameters
    }

    /// The nodes of the list, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> &[NodeIndex] {
        &self.members
    }

    /// The slot of `key`.
    #[must_use]
    pub fn slot(&self, key: &Key) -> Slot {
        Slot(u16::try_from(self.hash(key) >> 48).expect("16 bits are left of 64"))
    }

    /// The hash of `key`, whose leading 16 bits are its slot.
    #[must_use]
    pub fn hash(&self, key: &Key) -> u64 {
        hash_64(key.as_bytes(), self.parameters.seed)
    }

    /// The replicas of `slot`, in the order of preference.
    #[must_use]
    pub fn replicas(&self, slot: Slot) -> &[NodeIndex] {
        let count = self.parameters.replica_count;
        &self.replicas[usize::from(slot.0) * count..][..count]
    }

    /// One slot for each set of replicas that any slot has: what holds of these slots' replicas holds of all.
    #[must_use]
    pub fn distinct_slots(&self) -> &[Slot] {
        &self.distinct_slots
    }

    /// Whether `member` is a replica of `slot`.
    #[must_use]
    pub fn holds(&self, member: NodeIndex, slot: Slot) -> bool {
        self.replicas(slot).contains(&member)
    }

    /// The number of slots that each node holds, in the order of their ids.
    #[must_use]
    pub fn slots_held(&self) -> &[u32] {
        &self.slots_held
    }
}

fn slots_held(replicas: &[NodeIndex], members: &[NodeIndex]) -> Vec<u32> {
    let last = members.iter().map(|member| member.index()).max().unwrap_or(0);
    let mut held = vec![0; last + 1];
    for member in replicas {
        held[member.index()] += 1;
    }
    members.iter().map(|member| held[member.index()]).collect()
}

/// The replicas of all slots where nodes differ in nothing but their scores.
fn best_scores(node_seeds: &[u32], replica_count: usize) -> Vec<NodeIndex> {
    let mut replicas = Vec::with_capacity(Slot::COUNT * replica_count);
    let mut best: Vec<(u64, NodeIndex)> = Vec::with_capacity(replica_count + 1);
    for slot in (0..=u16::MAX).map(Slot) {
        let mixed = mixed_slot(slot);
        best.clear();
        let mut needed = 0;
        for (member, seed) in (0..).map(NodeIndex).zip(node_seeds) {
            let score = score(mixed, *seed);
            // Few of many nodes are ever among the best. Sorting all would take longer than scoring them.
            if score >= needed {
                // By score, then by id. Two ids may share a seed and thus every score. The id still orders them, so that
                // replicas are distinct.
                let scored = (score, member);
                best.insert(best.partition_point(|better| *better > scored), scored);
                best.truncate(replica_count);
                if best.len() == replica_count {
                    needed = best[replica_count - 1].0;
                }
            }
        }
        replicas.extend(best.iter().map(|(_, member)| *member));
    }
    replicas
}

fn distinct_slots(replicas: &[NodeIndex], replica_count: usize) -> Vec<Slot> {
    let mut seen: BTreeSet<ReplicaSet> = BTreeSet::new();
    let sets = (0..=u16::MAX).map(Slot).zip(replicas.chunks(replica_count));
    sets.filter(|(_, set)| seen.insert(ReplicaSet::of(set))).map(|(slot, _)| slot).collect()
}

/// Hashes the parameters alone: the table follows from them, and a model checker hashes every state.
impl Hash for Placement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parameters.hash(state);
        self.members.hash(state);
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}
