//! The promises of one incarnation of a replica.

use std::collections::BTreeMap;

use crate::mutants::rule;
use crate::types::{Ballot, Clock, NodeId};

/// Keys share this many buckets. Two keys in one bucket only make each other try again, so that nothing is ever evicted.
const BUCKETS_BITS: u32 = 18;

/// The greatest ballot promised to the keys of each bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promises {
    /// Below every ballot of this incarnation's epoch, and above those of earlier ones.
    incarnation: Ballot,
    buckets: BTreeMap<u64, Ballot>,
}

impl Promises {
    /// The promises of an incarnation that begins with `epoch`. Earlier incarnations promised nothing in it.
    pub(super) fn start(epoch: u64) -> Self {
        let incarnation = Ballot { clock: Clock { epoch, counter: 0 }, writer: NodeId::none() };
        Self { incarnation, buckets: BTreeMap::new() }
    }

    /// The ballot that a key with this hash needs more than.
    pub(super) fn floor(&self, key_hash: u64) -> Ballot {
        let promised = self.buckets.get(&bucket(key_hash));
        let incarnation = rule!(EpochFloorIsForgotten, Some(&self.incarnation), not None);
        promised.max(incarnation).cloned().unwrap_or_else(Ballot::none)
    }

    /// Promises `ballot` to a key with this hash.
    pub(super) fn raise(&mut self, key_hash: u64, ballot: Ballot) {
        let promised = self.buckets.entry(bucket(key_hash)).or_insert_with(Ballot::none);
        if *promised < ballot {
            *promised = ballot;
        }
    }
}

fn bucket(key_hash: u64) -> u64 {
    key_hash >> (u64::BITS - BUCKETS_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(epoch: u64, counter: u64) -> Ballot {
        Ballot { clock: Clock { epoch, counter }, writer: NodeId::new("1").unwrap() }
    }

    #[test]
    fn promise_is_kept_for_the_keys_of_its_bucket() {
        let mut promises = Promises::start(3);
        promises.raise(1 << 50, ballot(3, 7));
        promises.raise(1 << 50, ballot(3, 5));
        assert_eq!(promises.floor(1 << 50), ballot(3, 7));
        assert!(promises.floor(1 << 60) < ballot(3, 1), "another bucket has promised nothing");
    }

    #[test]
    fn ballots_of_earlier_incarnations_are_below_the_floor() {
        assert!(ballot(2, 99) < Promises::start(3).floor(0));
    }
}
