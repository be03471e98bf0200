//! One comparison of this node's records with those of a peer: which parts differ, then which keys.
//!
//! Parts are compared depth first, a few at a time, so that memory is bounded however much differs. Where little differs, the
//! leaves that do are asked for once more after a pause: most of those were writes on their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::{REPAIR_IN_FLIGHT_MAX, REPAIR_KEYS_WAITING_MAX, REPAIR_LISTINGS_MAX, REPAIR_PARTS_MAX};
use crate::protocol::io::{ReadId, Time};
use crate::protocol::message::OperationId;
use crate::protocol::sums::{PARTS, Part, Sum};
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
    /// Slots that differ, and which of their leaves do.
    suspects: BTreeMap<Slot, u16>,
    doubt: Doubt,
    /// The slots whose keys are being compared, by the number of the question.
    pub(super) listings: BTreeMap<u32, Listing>,
    /// Keys that differ and are to be repaired.
    pub(super) keys: VecDeque<Key>,
    /// The repairs under way.
    pub(super) in_flight: BTreeSet<u64>,
    /// How many keys differed so far.
    pub(super) differed: u64,
    /// How many of them could not be repaired.
    pub(super) failed: u64,
}

/// A question about sums.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// Its number.
    pub(super) round: u32,
    pub(super) parts: Vec<Part>,
    pub(super) until: Time,
}

/// Whether the leaves that differ were asked for a second time.
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

/// A slot whose keys are being compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listing {
    pub(super) slot: Slot,
    pub(super) leaves: u16,
    pub(super) after: Option<Key>,
    /// The read of this node's own records.
    pub(super) read: ReadId,
    pub(super) mine: Option<Vec<(Key, u64)>>,
    pub(super) theirs: Option<(Vec<(Key, u64)>, bool)>,
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
            keys: VecDeque::new(),
            in_flight: BTreeSet::new(),
            differed: 0,
            failed: 0,
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
                self.suspects.keys().map(|slot| Part::of_slot(*slot)).collect()
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

    /// The peer has answered with sums. `mine` are this node's own of the parts of a part.
    pub(super) fn on_sums(&mut self, sums: &[Sum], mine: impl Fn(Part) -> [Sum; PARTS]) {
        let Some(Asked { parts, .. }) = self.asked.take() else { return };
        if self.doubt == Doubt::Asking {
            self.doubt = Doubt::Settled;
        }
        let mut differing = Vec::new();
        for (part, theirs) in parts.iter().zip(sums.chunks(PARTS)) {
            let mine = mine(*part);
            let places = (0..PARTS).filter(|place| theirs.get(*place) != Some(&mine[*place]));
            let Some(slot) = part.slot() else {
                differing.extend(places.filter_map(|place| part.part(place)));
                continue;
            };
            let leaves = places.fold(0, |leaves, place| leaves | 1 << place);
            if self.doubt == Doubt::Settled {
                let suspected = self.suspects.remove(&slot).unwrap_or_default();
                if suspected & leaves != 0 {
                    self.suspects.insert(slot, suspected & leaves);
                }
            } else if leaves != 0 {
                self.suspects.insert(slot, leaves);
            }
        }
        // The first ones are to be compared first.
        self.parts.extend(differing.into_iter().rev());
    }

    /// The next slot whose keys are to be compared.
    pub(super) fn next_slot(&mut self) -> Option<(Slot, u16)> {
        if self.doubt == Doubt::Settled { self.suspects.pop_first() } else { None }
    }

    /// Compares the keys of a slot, once both nodes' are known. Returns where the next page of them begins, if there is one.
    pub(super) fn compare(&mut self, round: u32) -> Option<(Slot, u16, Key)> {
        let is_ready = |listing: &Listing| listing.mine.is_some() && listing.theirs.is_some();
        self.listings.get(&round).filter(|listing| is_ready(listing))?;
        let Listing { slot, leaves, mine, theirs, .. } = self.listings.remove(&round)?;
        let (mine, (theirs, has_more)) = (mine?, theirs?);
        let last = theirs.last().map(|(key, _)| key.clone()).filter(|_| has_more);
        let mut others: BTreeMap<Key, u64> = theirs.into_iter().collect();
        let within = mine.into_iter().filter(|(key, _)| last.as_ref().is_none_or(|last| key <= last));
        let mut differing: Vec<Key> =
            within.filter(|(key, mark)| others.remove(key) != Some(*mark)).map(|(key, _)| key).collect();
        differing.extend(others.into_keys());
        self.differed += differing.len() as u64;
        self.keys.extend(differing);
        last.map(|last| (slot, leaves, last))
    }

    /// Whether everything was compared and repaired.
    pub(super) fn is_done(&self) -> bool {
        self.parts.is_empty()
            && self.suspects.is_empty()
            && self.asked.is_none()
            && self.listings.is_empty()
            && self.keys.is_empty()
            && self.in_flight.is_empty()
    }

    /// When the next step may begin; `None` where it waits for an answer.
    pub(super) fn begins_at(&self) -> Option<Time> {
        let may_repair = !self.keys.is_empty() && self.in_flight.len() < REPAIR_IN_FLIGHT_MAX;
        let may_list = self.doubt == Doubt::Settled
            && !self.suspects.is_empty()
            && self.listings.len() < REPAIR_LISTINGS_MAX
            && self.keys.len() < REPAIR_KEYS_WAITING_MAX;
        let may_ask = match self.doubt {
            Doubt::Gathering => !self.parts.is_empty() || !self.suspects.is_empty(),
            Doubt::Settled => self.suspects.is_empty() && !self.parts.is_empty(),
            Doubt::Pausing(_) | Doubt::Asking => false,
        };
        match self.doubt {
            _ if may_repair || may_list || may_ask && self.asked.is_none() => Some(Time::default()),
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
