//! One comparison of this node's records with those of a peer: which parts differ, then which keys.
//!
//! Parts are compared depth first, a few at a time, so that memory is bounded however much differs. Where little differs, the
//! parts that do are asked for once more after a pause: most of those were writes on their way. Keys are listed together for
//! slots that lie side by side and differ, and by leaves where one slot does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{REPAIR_LISTED_TOGETHER_MIN, REPAIR_PARTS_MAX};
use crate::protocol::io::{ReadId, Time};
use crate::protocol::message::OperationId;
use crate::protocol::sums::{Marks, PARTS, Part, RecordsOf, Sum};
use crate::types::{Incarnation, Key, NodeIndex, Slot};

/// A comparison under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) peer: NodeIndex,
    pub(super) incarnation: Incarnation,
    pub(super) id: OperationId,
    /// The number of the last question.
    pub(super) round: u32,
    /// Parts that differ, or may. The last ones are compared next.
    parts: Vec<Part>,
    /// The question about sums that is under way.
    pub(super) asked: Option<Asked>,
    /// Parts whose keys are to be listed, and which of their parts differ.
    suspects: BTreeMap<Part, u16>,
    doubt: Doubt,
    /// The keys that are being compared, by the number of the question.
    pub(super) listings: BTreeMap<u32, Listing>,
    /// Lists of keys that go on.
    unfinished: VecDeque<RecordsOf>,
    /// Keys that differ and are to be repaired.
    pub(super) keys: VecDeque<Key>,
    /// The repairs under way.
    pub(super) in_flight: BTreeSet<u64>,
    /// How many keys differed so far.
    pub(super) differed: u64,
    /// How many of them could not be repaired.
    pub(super) failed: u64,
    /// The size of all questions and answers so far.
    pub(super) bytes: usize,
}

/// A question about sums.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// Its number.
    pub(super) round: u32,
    pub(super) parts: Vec<Part>,
    pub(super) until: Time,
}

/// Whether the parts that differ were asked for a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doubt {
    /// More of them may be found.
    Gathering,
    /// They are asked for again then.
    Pausing(Time),
    /// They are being asked for again.
    Asking,
    /// Their keys are to be compared.
    Settled,
}

/// Keys that are being compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listing {
    pub(super) of: RecordsOf,
    /// The read of this node's own records.
    pub(super) read: ReadId,
    pub(super) mine: Option<Marks>,
    pub(super) theirs: Option<Marks>,
    pub(super) until: Time,
}

impl Session {
    pub(super) fn new(peer: NodeIndex, incarnation: Incarnation, id: OperationId) -> Self {
        Self {
            peer,
            incarnation,
            id,
            round: 0,
            parts: vec![Part::ALL],
            asked: None,
            suspects: BTreeMap::new(),
            doubt: Doubt::Gathering,
            listings: BTreeMap::new(),
            unfinished: VecDeque::new(),
            keys: VecDeque::new(),
            in_flight: BTreeSet::new(),
            differed: 0,
            failed: 0,
            bytes: 0,
        }
    }

    /// The parts to ask about now, or the time to wait for.
    pub(super) fn parts_to_ask(&mut self, now: Time, confirm_at: Time) -> Vec<Part> {
        if self.asked.is_some() {
            return Vec::new();
        }
        match self.doubt {
            Doubt::Gathering if self.suspects.len() >= REPAIR_PARTS_MAX => {
                // So much is no write on its way.
                self.doubt = Doubt::Settled;
                Vec::new()
            }
            Doubt::Gathering if !self.parts.is_empty() => self.next_parts(),
            Doubt::Gathering if self.suspects.is_empty() => Vec::new(),
            Doubt::Gathering => {
                self.doubt = Doubt::Pausing(confirm_at);
                Vec::new()
            }
            Doubt::Pausing(at) if at <= now => {
                self.doubt = Doubt::Asking;
                self.suspects.keys().copied().collect()
            }
            Doubt::Pausing(_) | Doubt::Asking => Vec::new(),
            Doubt::Settled => {
                if self.suspects.is_empty() {
                    self.doubt = Doubt::Gathering;
                    return self.next_parts();
                }
                Vec::new()
            }
        }
    }

    fn next_parts(&mut self) -> Vec<Part> {
        self.parts.split_off(self.parts.len().saturating_sub(REPAIR_PARTS_MAX))
    }

    /// The peer has answered with sums. `mine` are this node's own of the parts of a part. Whether it was an answer.
    #[must_use]
    pub(super) fn on_sums(&mut self, sums: &[Sum], mine: impl Fn(Part) -> [Sum; PARTS]) -> bool {
        let Some(Asked { parts, .. }) = self.asked.take() else { return true };
        if sums.len() != parts.len() * PARTS {
            return false;
        }
        let is_confirmed = self.doubt == Doubt::Asking;
        if is_confirmed {
            self.doubt = Doubt::Settled;
        }
        let mut differing = Vec::new();
        for (part, theirs) in parts.iter().zip(sums.chunks_exact(PARTS)) {
            let mine = mine(*part);
            let places = (0..PARTS).filter(|place| theirs[*place] != mine[*place]);
            let mut places = places.fold(0_u16, |places, place| places | 1 << place);
            if is_confirmed {
                places &= self.suspects.remove(part).unwrap_or_default();
            }
            let together = part.has_slots() && places.count_ones() >= REPAIR_LISTED_TOGETHER_MIN;
            if !is_confirmed && part.slot().is_none() && !together {
                let of_place = |place| (places & 1_u16 << place != 0).then(|| part.part(place)).flatten();
                differing.extend((0..PARTS).filter_map(of_place));
            } else if places != 0 {
                self.suspects.insert(*part, places);
            }
        }
        // The first ones are to be compared first.
        self.parts.extend(differing.into_iter().rev());
        true
    }

    /// Whether keys wait to be listed.
    pub(super) fn has_listing(&self) -> bool {
        !self.unfinished.is_empty() || self.doubt == Doubt::Settled && !self.suspects.is_empty()
    }

    /// The keys that are to be listed next.
    pub(super) fn next_listing(&mut self) -> Option<RecordsOf> {
        if let Some(unfinished) = self.unfinished.pop_front() {
            return Some(unfinished);
        }
        let (part, parts) = if self.doubt == Doubt::Settled { self.suspects.pop_first()? } else { return None };
        Some(RecordsOf { part, parts, after: None })
    }

    /// Compares keys, once both nodes' are known. Where either has more of them, the list goes on later.
    pub(super) fn compare(&mut self, round: u32, slot_of: impl Fn(&Key) -> Slot) {
        let is_ready = |listing: &Listing| listing.mine.is_some() && listing.theirs.is_some();
        if !self.listings.get(&round).is_some_and(is_ready) {
            return;
        }
        let Some(Listing { of, mine: Some(mine), theirs: Some(theirs), .. }) = self.listings.remove(&round) else {
            return;
        };
        let place = |key: Key| (slot_of(&key), key);
        let ends = [mine.looked_to, theirs.looked_to].into_iter().flatten().map(place);
        let end = ends.min();
        let is_within = |(at, _): &((Slot, Key), u64)| end.as_ref().is_none_or(|end| at <= end);
        let placed = |marks: Vec<(Key, u64)>| marks.into_iter().map(|(key, mark)| (place(key), mark)).filter(is_within);
        let mut others: BTreeMap<(Slot, Key), u64> = placed(theirs.records).collect();
        let mut differing: BTreeSet<(Slot, Key)> =
            placed(mine.records).filter(|(at, mark)| others.remove(at) != Some(*mark)).map(|(at, _)| at).collect();
        differing.extend(others.into_keys());
        self.differed += differing.len() as u64;
        self.keys.extend(differing.into_iter().map(|(_, key)| key));
        if let Some((_, key)) = end {
            self.unfinished.push_back(RecordsOf { after: Some(key), ..of });
        }
    }

    /// Whether the peer has not answered anything yet.
    pub(super) fn is_unanswered(&self) -> bool {
        self.round == 1 && self.asked.is_some()
    }

    /// How many keys were found to differ, and are not known to be repaired.
    pub(super) fn behind(&self) -> u64 {
        self.failed + (self.keys.len() + self.in_flight.len()) as u64
    }

    /// Whether everything was compared and repaired.
    pub(super) fn is_done(&self) -> bool {
        self.parts.is_empty()
            && self.suspects.is_empty()
            && self.asked.is_none()
            && self.listings.is_empty()
            && self.unfinished.is_empty()
            && self.keys.is_empty()
            && self.in_flight.is_empty()
    }

    /// When the next step may begin, where it is one of sums; `None` where it waits for an answer or for keys.
    pub(super) fn asks_at(&self) -> Option<Time> {
        match self.doubt {
            _ if self.asked.is_some() => None,
            Doubt::Gathering if !self.parts.is_empty() || !self.suspects.is_empty() => Some(Time::default()),
            Doubt::Settled if self.suspects.is_empty() && !self.parts.is_empty() => Some(Time::default()),
            Doubt::Pausing(at) => Some(at),
            Doubt::Gathering | Doubt::Asking | Doubt::Settled => None,
        }
    }

    /// When the peer's answers are late.
    pub(super) fn late_at(&self) -> Option<Time> {
        let listings = self.listings.values().map(|listing| listing.until);
        self.asked.iter().map(|asked| asked.until).chain(listings).min()
    }
}
