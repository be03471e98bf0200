//! Published placements hold, shares are in proportion, and only what must move moves.

mod sites;

use super::*;
use crate::types::NodeId;

fn placement(seed: u32, ids: &[&str], replica_count: usize) -> Placement {
    let mut node_ids: Vec<NodeId> = ids.iter().map(|id| NodeId::new(id).unwrap()).collect();
    node_ids.sort();
    Placement::new(ClusterParameters::plain(seed, replica_count, node_ids))
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
        let held = placement(seed, &ids, 3).slots_held().to_vec();
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
