//! Which nodes hold a key: rendezvous hashing (Thaler and Ravishankar, 1998) of 65,536 slots with MurmurHash3.
//!
//! Contract: all nodes with the same [`ClusterParameters`] compute the same table, on any machine and in any language (the
//! formulas are in docs/protocol.md). The table is computed once; a request only looks a slot up. When a node joins, only
//! slots that gain it change. When a node leaves, only slots that lose it change.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use murmur3::{murmur3_32, murmur3_x64_128};

use crate::types::{ClusterParameters, Key, NodeIndex, Slot};

/// The replicas of every slot.
#[derive(Clone, PartialEq, Eq)]
pub struct Placement {
    parameters: ClusterParameters,
    /// The nodes of the list, in the order of their ids.
    members: Vec<NodeIndex>,
    /// `replica_count` members for each slot, best score first.
    replicas: Vec<NodeIndex>,
    /// One slot for each set of replicas that any slot has.
    distinct_slots: Vec<Slot>,
}

impl Placement {
    /// Computes the table: nodes times 65,536 scores, 2 ms for three nodes and a third of a second for a thousand.
    ///
    /// # Panics
    /// When `parameters` break a rule that the configuration checks: ids ascend and are distinct, and `replica_count` is
    /// between 1 and the number of nodes.
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

        let node_seeds: Vec<u32> = ids.iter().map(|id| hash_32(id.as_str().as_bytes(), parameters.seed)).collect();
        let mut replicas = Vec::with_capacity(Slot::COUNT * parameters.replica_count);
        let mut best: Vec<(u64, NodeIndex)> = Vec::with_capacity(parameters.replica_count + 1);
        for slot in (0..=u16::MAX).map(Slot) {
            let mixed = mixed_slot(slot);
            best.clear();
            for (member, seed) in parameters.members().zip(&node_seeds) {
                // By score, then by id. Two ids may share a seed and thus every score. The id still orders them, so that
                // replicas are distinct.
                let scored = (score(mixed, *seed), member);
                // Few of many nodes are ever among the best. Sorting all would take longer than scoring them.
                if best.len() < parameters.replica_count || scored > best[parameters.replica_count - 1] {
                    best.insert(best.partition_point(|better| *better > scored), scored);
                    best.truncate(parameters.replica_count);
                }
            }
            replicas.extend(best.iter().map(|(_, member)| members[member.index()]));
        }
        let distinct_slots = distinct_slots(&replicas, parameters.replica_count);
        Self { parameters, members, replicas, distinct_slots }
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

    /// The replicas of `slot`, best score first.
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
    pub fn slots_held(&self) -> Vec<u32> {
        let last = self.members.iter().map(|member| member.index()).max().unwrap_or(0);
        let mut held = vec![0; last + 1];
        for member in &self.replicas {
            held[member.index()] += 1;
        }
        self.members.iter().map(|member| held[member.index()]).collect()
    }
}

fn distinct_slots(replicas: &[NodeIndex], replica_count: usize) -> Vec<Slot> {
    let mut seen: BTreeSet<Box<[NodeIndex]>> = BTreeSet::new();
    let mut sorted = Vec::with_capacity(replica_count);
    let sets = (0..=u16::MAX).map(Slot).zip(replicas.chunks(replica_count));
    let mut is_new = |set: &[NodeIndex]| {
        sorted.clear();
        sorted.extend_from_slice(set);
        sorted.sort_unstable();
        !seen.contains(&sorted[..]) && seen.insert(sorted.clone().into())
    };
    sets.filter(|(_, set)| is_new(set)).map(|(slot, _)| slot).collect()
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

/// The first 64 bits of MurmurHash3_x64_128, as `Sum64` of Go's murmur3 and `hash64()[0]` of Python's mmh3 give it.
fn hash_64(mut bytes: &[u8], seed: u32) -> u64 {
    let both = murmur3_x64_128(&mut bytes, seed).expect("reading from a slice does not fail");
    u64::try_from(both & u128::from(u64::MAX)).expect("64 bits are left of 128")
}

/// The part of a score that depends on the slot alone.
fn mixed_slot(slot: Slot) -> u64 {
    u64::from(u16::from_le_bytes(slot.0.to_be_bytes()))
        .wrapping_mul(0x87C3_7B91_1142_53D5)
        .rotate_left(31)
        .wrapping_mul(0x4CF5_AD43_2745_937F)
}

/// [`hash_64`] of a slot's two bytes. Because two bytes are less than one block of 16, little of MurmurHash3 is left. That
/// matters: a table needs a score of each node for each slot.
fn score(mixed_slot: u64, node_seed: u32) -> u64 {
    const SLOT_BYTES: u64 = 2;
    let seeded = u64::from(node_seed) ^ SLOT_BYTES;
    let first = (seeded ^ mixed_slot).wrapping_add(seeded);
    let second = seeded.wrapping_add(first);
    avalanche(first).wrapping_add(avalanche(second))
}

fn avalanche(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    bits ^ (bits >> 33)
}

fn hash_32(mut bytes: &[u8], seed: u32) -> u32 {
    murmur3_32(&mut bytes, seed).expect("reading from a slice does not fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn placement(seed: u32, ids: &[&str], replica_count: usize) -> Placement {
        let mut node_ids: Vec<NodeId> = ids.iter().map(|id| NodeId::new(id).unwrap()).collect();
        node_ids.sort();
        Placement::new(ClusterParameters { seed, replica_count, epoch_floor: 0, node_ids })
    }

    fn located(placement: &Placement, key: &str) -> (u16, Vec<String>) {
        let slot = placement.slot(&Key::new(key.to_owned()).unwrap());
        let ids = placement.replicas(slot).iter().map(|m| placement.parameters().id(*m).to_string()).collect();
        (slot.0, ids)
    }

    #[test]
    fn published_placements_hold() {
        let numbers: Vec<String> = (1..=9).map(|n| n.to_string()).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let five = placement(0, &numbers[..5], 3);
        assert_eq!(located(&five, "a"), (34133, vec!["3".into(), "4".into(), "5".into()]));
        assert_eq!(located(&five, "b"), (31384, vec!["3".into(), "2".into(), "4".into()]));
        let letters = placement(42, &["node-a", "node-b", "node-c", "node-d"], 3);
        assert_eq!(located(&letters, "雪片"), (54523, vec!["node-d".into(), "node-a".into(), "node-c".into()]));
        let nine = placement(u32::MAX, &numbers, 3);
        assert_eq!(
            located(&nine, "00000000-0000-0000-0000-000000000000"),
            (61768, vec!["6".into(), "1".into(), "7".into()])
        );
    }

    /// Values of the reference implementation (Appleby's MurmurHash3.cpp), as other implementations publish them.
    #[test]
    fn published_murmur_vectors_hold() {
        assert_eq!(hash_32(b"", 0), 0);
        assert_eq!(hash_32(b"", 1), 0x514E_28B7);
        assert_eq!(hash_32(b"", 0xFFFF_FFFF), 0x81F1_6F39);
        assert_eq!(hash_32(&[0xFF; 4], 0), 0x7629_3B50);
        assert_eq!(hash_32(&[0x21, 0x43, 0x65, 0x87], 0), 0xF55B_516B);
        assert_eq!(hash_32(&[0x21, 0x43, 0x65, 0x87], 0x5082_EDEE), 0x2362_F9DE);
        assert_eq!(hash_32(b"Hello, world!", 0x9747_B28C), 0x2488_4CBA);
        assert_eq!(hash_32(b"The quick brown fox jumps over the lazy dog", 0x9747_B28C), 0x2FA8_26CD);
        assert_eq!(hash_64(b"", 0), 0);
        assert_eq!(hash_64(b"hello", 0), 0xCBD8_A7B3_41BD_9B02);
        assert_eq!(hash_64(b"hello, world", 0), 0x342F_AC62_3A5E_BC8E);
        assert_eq!(hash_64(b"19 Jan 2038 at 3:14:07 AM", 0), 0xB89E_5988_B737_AFFC);
        assert_eq!(hash_64(b"The quick brown fox jumps over the lazy dog.", 0), 0xCD99_481F_9EE9_02C9);
    }

    #[test]
    fn score_of_every_slot_is_its_murmur_hash() {
        for seed in [0, 1, 42, 0x514E_28B7, u32::MAX] {
            for slot in (0..=u16::MAX).map(Slot) {
                assert_eq!(score(mixed_slot(slot), seed), hash_64(&slot.0.to_be_bytes(), seed), "{slot} under {seed}");
            }
        }
    }

    #[test]
    fn fifty_nodes_share_the_slots_evenly() {
        let ids: Vec<String> = (0..50).map(|n| format!("node-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        for seed in [0, 42, u32::MAX] {
            let held = placement(seed, &ids, 3).slots_held();
            let mean = 65_536.0 * 3.0 / 50.0;
            let largest = f64::from(*held.iter().max().unwrap());
            let smallest = f64::from(*held.iter().min().unwrap());
            assert!(largest < mean * 1.15, "seed {seed}: the fullest node holds {largest}, the mean is {mean}");
            assert!(smallest > mean * 0.85, "seed {seed}: the emptiest node holds {smallest}, the mean is {mean}");
        }
    }

    #[test]
    fn added_node_moves_only_the_slots_that_it_gains() {
        let ids: Vec<String> = (0..11).map(|n| format!("node-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (before, after) = (placement(7, &ids[..10], 3), placement(7, &ids, 3));
        let name = |p: &Placement, slot| -> Vec<String> {
            p.replicas(slot).iter().map(|m| p.parameters().id(*m).to_string()).collect()
        };
        let mut gained = 0;
        for slot in (0..=u16::MAX).map(Slot) {
            let (old, mut new) = (name(&before, slot), name(&after, slot));
            if let Some(place) = new.iter().position(|id| id == "node-10") {
                gained += 1;
                new.remove(place);
                assert_eq!(old[..2], new[..], "{slot}: the others keep their order, the last one leaves");
            } else {
                assert_eq!(old, new, "{slot}: nothing moves between old nodes");
            }
        }
        let expected = 65_536.0 * 3.0 / 11.0;
        assert!((f64::from(gained) - expected).abs() < expected * 0.05, "{gained} slots gained, {expected} expected");
    }

    #[test]
    fn nodes_that_share_a_hash_are_still_distinct_replicas() {
        // Two ids whose MurmurHash3_x86_32 under seed 0 is the same, found by search.
        let (one, other) = colliding_ids();
        assert_eq!(hash_32(one.as_bytes(), 0), hash_32(other.as_bytes(), 0));
        let placement = placement(0, &[&one, &other, "third"], 2);
        for slot in (0..=u16::MAX).map(Slot) {
            let replicas = placement.replicas(slot);
            assert_ne!(replicas[0], replicas[1]);
        }
    }

    fn colliding_ids() -> (String, String) {
        let mut seen = std::collections::BTreeMap::new();
        for n in 0_u32.. {
            let id = format!("n{n}");
            if let Some(other) = seen.insert(hash_32(id.as_bytes(), 0), id.clone()) {
                return (other, id);
            }
        }
        unreachable!("a 32-bit hash collides long before a 32-bit counter ends")
    }
}
