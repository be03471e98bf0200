//! What nodes tell each other to find the records that one of them lacks: sums over parts of all records.
//!
//! A part is all records whose key's hash begins with the same bits: none, 4, 8, 12, 16 (a slot) or 20 (a leaf). Each part
//! but a leaf has sixteen parts. Two nodes compare the sums of a part's parts, and then those of the parts that differ.

use xxhash_rust::xxh3::xxh3_128;

use crate::types::{Ballot, Digest, Key, Slot};

/// How many parts a part has.
pub const PARTS: usize = 1 << PART_BITS;
/// The bits of a hash by which a part is smaller than the one that it belongs to.
const PART_BITS: u32 = 4;
/// The bits of a hash that the records of a leaf share.
pub const LEAF_BITS: u32 = 20;
/// The bits of a hash that the records of a slot share.
const SLOT_BITS: u32 = 16;

/// All records whose key's hash begins with the same bits.
///
/// The number is a one, followed by these bits: each part has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part(u32);

impl Part {
    /// All records.
    pub const ALL: Self = Self(1);

    /// The part of this number; `None` where there is none, or where it is a leaf: a leaf has no parts.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Self> {
        let bits = number.checked_ilog2()?;
        (bits % PART_BITS == 0 && bits < LEAF_BITS).then_some(Self(number))
    }

    /// The part of a slot.
    #[must_use]
    pub fn of_slot(slot: Slot) -> Self {
        Self(1 << SLOT_BITS | u32::from(slot.0))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Its `index`-th part, which is not a leaf; `None` for one that is.
    #[must_use]
    pub fn part(self, index: usize) -> Option<Self> {
        let index = u32::try_from(index).ok()?;
        Self::of_number(self.0 << PART_BITS | index)
    }

    /// The slot that it is, if it is one.
    #[must_use]
    pub fn slot(self) -> Option<Slot> {
        (self.bits() == SLOT_BITS).then(|| self.slots().0)
    }

    /// The first and the last of its slots.
    #[must_use]
    pub fn slots(self) -> (Slot, Slot) {
        let below = SLOT_BITS - self.bits();
        let first = (self.0 ^ 1 << self.bits()) << below;
        let slot = |number: u32| Slot(u16::try_from(number).expect("a part is within the slots"));
        (slot(first), slot(first + (1 << below) - 1))
    }

    /// The place among its parts of the one that has `slot`.
    #[must_use]
    pub fn place_of(self, slot: Slot) -> usize {
        let below = SLOT_BITS.saturating_sub(self.bits() + PART_BITS);
        usize::from(slot.0) >> below & (PARTS - 1)
    }

    fn bits(self) -> u32 {
        self.0.ilog2()
    }
}

/// The sum of the marks of some records, modulo 2^128. Two different sets of records have the same sum by chance alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum(pub u128);

/// A hash of a key and of its record without the content, whose checksum is part of it.
#[must_use]
pub fn mark_of(key: &Key, digest: &Digest) -> u128 {
    /// Clocks, lengths, the checksum and ids of usual length.
    const OVERHEAD: usize = 128;
    let mut bytes = Vec::with_capacity(OVERHEAD + key.as_bytes().len());
    let mut push = |part: &[u8]| bytes.extend_from_slice(part);
    let no_ballot = Ballot::none();
    for stamp in [&digest.stamp, digest.ballot().unwrap_or(&no_ballot)] {
        push(&stamp.clock.epoch.to_be_bytes());
        push(&stamp.clock.counter.to_be_bytes());
        push(&[u8::try_from(stamp.writer.as_str().len()).unwrap_or(u8::MAX)]);
        push(stamp.writer.as_str().as_bytes());
    }
    push(&digest.checksum.0.to_be_bytes());
    push(key.as_bytes());
    xxh3_128(&bytes)
}

/// A question to a node, about records that the node which asks has as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RepairRequest {
    /// The sums of the parts of each of these, over the slots that both nodes hold.
    Sums(Vec<Part>),
    /// The records of some leaves of a slot.
    Records {
        /// The slot.
        slot: Slot,
        /// The leaves: bit i stands for the i-th.
        leaves: u16,
        /// Only keys above this one.
        after: Option<Key>,
    },
    /// The comparison has ended.
    End {
        /// Whether nothing differed.
        is_equal: bool,
    },
}

/// The answer to a [`RepairRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RepairAnswer {
    /// Sixteen sums for each part that was asked for.
    Sums(Vec<Sum>),
    /// The first records that were asked for, in the order of keys.
    Records {
        /// Each key, with the lower half of its mark.
        records: Vec<(Key, u64)>,
        /// Whether there may be more.
        has_more: bool,
    },
    /// The node has not counted its records yet, or compares them with another node.
    NotNow,
}

impl RepairRequest {
    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Sums(parts) => parts.len() * size_of::<Part>(),
            Self::Records { after, .. } => after.as_ref().map_or(0, |after| after.as_bytes().len()),
            Self::End { .. } => 0,
        }
    }
}

impl RepairAnswer {
    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// A mark and the framing of a key.
        const RECORD: usize = 14;
        match self {
            Self::Sums(sums) => sums.len() * size_of::<Sum>(),
            Self::Records { records, .. } => records.iter().map(|(key, _)| key.as_bytes().len() + RECORD).sum(),
            Self::NotNow => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_divide_the_slots() {
        assert_eq!(Part::ALL.slots(), (Slot(0), Slot(u16::MAX)));
        let mut part = Part::ALL;
        for (depth, index) in [3, 0, 15, 7].into_iter().enumerate() {
            let (first, last) = part.slots();
            assert_eq!(u32::from(last.0 - first.0), (1 << (16 - 4 * depth)) - 1);
            part = part.part(index).unwrap();
            assert!(part.slots().0 >= first && part.slots().1 <= last);
        }
        assert_eq!((part.slot(), part), (Some(Slot(0x30F7)), Part::of_slot(Slot(0x30F7))));
        assert_eq!((part.part(4), Part::ALL.slot()), (None, None), "leaves are no parts to ask for");
        assert_eq!(Part::ALL.place_of(Slot(0x30F7)), 3);
        assert_eq!(Part::ALL.part(3).unwrap().place_of(Slot(0x30F7)), 0);
        for number in [0, 2, 8, 1 << 20, 1 << 24, u32::MAX] {
            assert_eq!(Part::of_number(number), None, "{number}");
        }
    }
}
