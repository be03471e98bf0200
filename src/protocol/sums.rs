//! What nodes tell each other to find the records that one of them lacks: sums over parts of all records.
//!
//! A part is all records whose key's hash begins with the same bits: none, 4, 8, 12, 16 (a slot) or 20 (a leaf). Each part
//! but a leaf has sixteen parts. Two nodes compare the sums of a part's parts, and then those of the parts that differ.

use bytes::BufMut as _;
use xxhash_rust::xxh3::xxh3_128;

use crate::limits::REPAIR_LISTED_BYTES_MAX;
use crate::types::{Clock, Digest, Key, Slot, SlotRange};

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

    /// Whether its parts are slots.
    #[must_use]
    pub fn has_slots(self) -> bool {
        self.bits() + PART_BITS == SLOT_BITS
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

    /// The place among its parts of the one that has records of this hash; `None` where it has none of them itself.
    #[must_use]
    pub fn place_of_hash(self, hash: u64) -> Option<usize> {
        let bits = self.bits();
        let above = hash.checked_shr(u64::BITS - bits).unwrap_or(0);
        let place = usize::try_from(hash >> (u64::BITS - bits - PART_BITS)).unwrap_or(0) & (PARTS - 1);
        (above == u64::from(self.0 ^ 1 << bits)).then_some(place)
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
    /// Enough for clocks, lengths, the checksum, and ids and keys of usual length. Each record that becomes durable has a mark,
    /// which is why those take no memory of their own.
    const USUAL_BYTES: usize = 256;
    let ballot = digest.ballot().map_or((Clock::default(), ""), |ballot| (ballot.clock, ballot.writer.as_str()));
    let stamps = [(digest.stamp.clock, digest.stamp.writer.as_str()), ballot];
    let stamp_bytes = |(_, writer): (Clock, &str)| 2 * size_of::<u64>() + 1 + writer.len();
    let bytes = stamps.map(stamp_bytes).iter().sum::<usize>() + size_of::<u64>() + key.as_bytes().len();
    let hash_in = |buffer: &mut [u8]| {
        let mut rest = &mut *buffer;
        for (clock, writer) in stamps {
            rest.put_u64(clock.epoch);
            rest.put_u64(clock.counter);
            rest.put_u8(u8::try_from(writer.len()).unwrap_or(u8::MAX));
            rest.put_slice(writer.as_bytes());
        }
        rest.put_u64(digest.checksum.0);
        rest.put_slice(key.as_bytes());
        xxh3_128(buffer)
    };
    match [0; USUAL_BYTES].get_mut(..bytes) {
        Some(buffer) => hash_in(buffer),
        None => hash_in(&mut vec![0; bytes]),
    }
}

/// The lower half of [`mark_of`].
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the lower half of a mark")]
pub fn half_of(key: &Key, digest: &Digest) -> u64 {
    mark_of(key, digest) as u64
}

/// A question to a node, about records that the node which asks has as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RepairRequest {
    /// The sums of the parts of each of these, over the slots that both nodes hold.
    Sums(Vec<Part>),
    /// The first of these records.
    Records(RecordsOf),
    /// The comparison has ended.
    End {
        /// Whether nothing differed.
        is_equal: bool,
    },
}

/// The records of some parts of a part, in the order of slots and then of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordsOf {
    /// The part.
    pub part: Part,
    /// Its parts: bit i stands for the i-th.
    pub parts: u16,
    /// Only records after this key.
    pub after: Option<Key>,
}

impl RecordsOf {
    /// The slots that have them, if no other record is meant.
    #[must_use]
    pub fn range(&self, slot_of: impl FnOnce(&Key) -> Slot) -> SlotRange {
        let (first, last) = self.part.slots();
        let first = self.after.as_ref().map_or(first, slot_of);
        SlotRange { first, after: self.after.clone(), last }
    }

    /// Whether a record of this hash is among them, wherever it is in their order.
    #[must_use]
    pub fn has(&self, hash: u64) -> bool {
        self.part.place_of_hash(hash).is_some_and(|place| self.parts & 1 << place != 0)
    }
}

/// The first records of some parts of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Each key, with the lower half of its mark, in the order of slots and then of keys.
    pub records: Vec<(Key, u64)>,
    /// The key up to which there are no others; `None` where there are no others at all.
    pub looked_to: Option<Key>,
}

impl Marks {
    /// Whether it may be the answer to this question.
    #[must_use]
    pub fn answers(&self, of: &RecordsOf, hash_of: impl Fn(&Key) -> u64) -> bool {
        let place = |key| (hash_of(key) >> (u64::BITS - SLOT_BITS), key);
        let keys = || of.after.iter().chain(self.records.iter().map(|(key, _)| key));
        let is_looked_to = self.looked_to.as_ref().is_none_or(|to| {
            let is_within = of.part.place_of_hash(hash_of(to)).is_some();
            is_within && keys().next_back().is_none_or(|last| place(last) <= place(to)) && of.after.as_ref() != Some(to)
        });
        is_looked_to
            && keys().is_sorted_by(|one, other| place(one) < place(other))
            && self.records.iter().all(|(key, _)| of.has(hash_of(key)))
    }

    /// As many of them as one answer holds.
    #[must_use]
    pub fn cut_off(mut self) -> Self {
        let mut bytes = 0;
        let fits = |(key, _): &&(Key, u64)| {
            bytes += key.as_bytes().len();
            bytes <= REPAIR_LISTED_BYTES_MAX
        };
        let kept = self.records.iter().take_while(fits).count();
        if kept < self.records.len() {
            self.records.truncate(kept);
            self.looked_to = self.records.last().map(|(key, _)| key.clone());
        }
        self
    }

    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// A mark and the framing of a key.
        const RECORD: usize = 14;
        self.records.iter().map(|(key, _)| key.as_bytes().len() + RECORD).sum()
    }
}

/// The answer to a [`RepairRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RepairAnswer {
    /// Sixteen sums for each part that was asked for.
    Sums(Vec<Sum>),
    /// The first records that were asked for.
    Records(Marks),
    /// The node has not counted its records yet, or compares them with another node.
    NotNow,
}

impl RepairRequest {
    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Sums(parts) => parts.len() * size_of::<Part>(),
            Self::Records(of) => of.after.as_ref().map_or(0, |after| after.as_bytes().len()),
            Self::End { .. } => 0,
        }
    }
}

impl RepairAnswer {
    /// Its size between nodes in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Sums(sums) => sums.len() * size_of::<Sum>(),
            Self::Records(marks) => marks.bytes(),
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

    #[test]
    fn part_knows_its_hashes() {
        let hash = 0x30F7_9ABC_0000_0000;
        let place = |number| Part::of_number(number).unwrap().place_of_hash(hash);
        assert_eq!([place(1), place(0x13), place(0x130), place(0x130F), place(0x1_30F7)], [3, 0, 15, 7, 9].map(Some));
        assert_eq!([place(0x12), place(0x1_30F6)], [None, None]);
    }

    #[test]
    fn answer_must_be_in_order_and_within_the_question() {
        let key = |name: &str| Key::new(name.to_owned()).unwrap();
        // The slot is the number that the name begins with.
        let hash_of = |key: &Key| key.as_str()[..1].parse::<u64>().unwrap() << 48;
        let of = |after: Option<&str>| RecordsOf {
            part: Part::of_number(0x1000).unwrap(),
            parts: 0b1110,
            after: after.map(key),
        };
        let marks = |names: &[&str], looked_to: Option<&str>| Marks {
            records: names.iter().map(|name| (key(name), 7)).collect(),
            looked_to: looked_to.map(key),
        };
        for (after, names, looked_to, is_answer) in [
            (None, &["1b", "2a", "2b"][..], None, true),
            (None, &[], None, true),
            (Some("2a"), &["2b"], Some("3z"), true),
            (Some("2a"), &["2a", "2b"], None, false),
            (None, &["2b", "2a"], None, false),
            (None, &["2a", "2a"], None, false),
            (None, &["0a"], None, false),
            (None, &["2b"], Some("2a"), false),
            (Some("2a"), &[], Some("2a"), false),
            (Some("2a"), &[], Some("1a"), false),
        ] {
            assert_eq!(
                marks(names, looked_to).answers(&of(after), hash_of),
                is_answer,
                "{after:?} {names:?} {looked_to:?}"
            );
        }
    }
}
