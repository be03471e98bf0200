//! Where lists of keys go on: numbers for SCAN, and the key that each stands for.
//!
//! Contract: a cursor stays known until [`CURSORS_MAX`] other places were asked for since. The same place has the same
//! cursor, so that a client which asks for a page again takes no more room. Nobody can compute the cursor of a key: a node draws
//! a secret when it starts. So it tells nobody whether the page of another has ended with a key.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::types::Key;

/// How many cursors a node remembers: 16 MiB with the longest keys.
const CURSORS_MAX: usize = 4_096;
/// Cursors have so many bits, so that every language counts them exactly.
const CURSOR_BITS: u32 = 48;

/// The cursors of a node.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    secret: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<u64, Key>,
    /// From the one that was asked for longest ago.
    order: VecDeque<u64>,
}

impl Cursors {
    /// A cursor for the keys after `key`.
    pub(super) fn after(&self, key: &Key) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cursor = (self.secret.hash_one(key.as_bytes()) >> (u64::BITS - CURSOR_BITS)).max(1);
        // 0 begins and ends a list. Another key may have the same hash.
        while known.keys.get(&cursor).is_some_and(|other| other != key) {
            cursor = cursor % ((1 << CURSOR_BITS) - 1) + 1;
        }
        // The key as it came shares the memory of its page.
        if known.keys.insert(cursor, key.detached()).is_some()
            && let Some(at) = known.order.iter().position(|other| *other == cursor)
        {
            known.order.remove(at);
        }
        known.order.push_back(cursor);
        if known.order.len() > CURSORS_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.keys.remove(&oldest);
        }
        cursor
    }

    /// The key that a cursor stands for.
    pub(super) fn key(&self, cursor: u64) -> Option<Key> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).keys.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_cursors_are_known() {
        let cursors = Cursors::default();
        let key = |number: usize| Key::new(format!("key {number}")).unwrap();
        let made: Vec<u64> = (0..=CURSORS_MAX).map(|number| cursors.after(&key(number))).collect();
        assert_eq!(cursors.after(&key(7)), made[7], "the same place again");
        assert_eq!((cursors.key(made[0]), cursors.key(made[1])), (None, Some(key(1))));
        assert_eq!(cursors.key(made[CURSORS_MAX]), Some(key(CURSORS_MAX)));
        for number in 1..CURSORS_MAX {
            cursors.after(&key(CURSORS_MAX + number));
        }
        assert_eq!((cursors.key(made[7]), cursors.key(made[8])), (Some(key(7)), None), "it was asked for again");
        let other = Cursors::default();
        assert!((0..9).any(|number| other.after(&key(number)) != made[number]), "another node, another secret");
        assert!(made.iter().all(|cursor| (1..1 << CURSOR_BITS).contains(cursor)));
    }
}
