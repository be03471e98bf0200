//! MurmurHash3, and the part of it that is left for a slot.

use murmur3::{murmur3_32, murmur3_x64_128};

use crate::types::Slot;

/// The first 64 bits of MurmurHash3_x64_128, as `Sum64` of Go's murmur3 and `hash64()[0]` of Python's mmh3 give it.
pub(super) fn hash_64(mut bytes: &[u8], seed: u32) -> u64 {
    let both = murmur3_x64_128(&mut bytes, seed).expect("reading from a slice does not fail");
    u64::try_from(both & u128::from(u64::MAX)).expect("64 bits are left of 128")
}

/// The part of a score that depends on the slot alone.
pub(super) fn mixed_slot(slot: Slot) -> u64 {
    u64::from(u16::from_le_bytes(slot.0.to_be_bytes()))
        .wrapping_mul(0x87C3_7B91_1142_53D5)
        .rotate_left(31)
        .wrapping_mul(0x4CF5_AD43_2745_937F)
}

/// [`hash_64`] of a slot's two bytes. Because two bytes are less than one block of 16, little of MurmurHash3 is left. That
/// matters: a table needs a score of each node for each slot.
pub(super) fn score(mixed_slot: u64, node_seed: u32) -> u64 {
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

pub(super) fn hash_32(mut bytes: &[u8], seed: u32) -> u32 {
    murmur3_32(&mut bytes, seed).expect("reading from a slice does not fail")
}
