//! The state of one replica.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::clock::PEER_JUMP;
use crate::protocol::context::{NodeCtx, Origin, Requester};
use crate::protocol::io::{ProtocolEvent, ReadId};
use crate::protocol::message::{Request, StoreOrigin};
use crate::types::{Clock, Digest, Key, ReadKind, Record, RunningTime, Slot, TableId};

use super::promises::Promises;
use super::seals::Seals;

/// One node's replica of the slots that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub(super) promises: Promises,
    pub(super) keys: BTreeMap<Key, KeyState>,
    pub(super) reads: BTreeMap<ReadId, ReadFor>,
    /// The scans of the index that are under way.
    pub(super) scans: BTreeMap<ReadId, Origin>,
    pub(super) read_next: u64,
    /// The size of the requests that wait for a read of the durable record, in bytes, about.
    pub(super) waiting_bytes: usize,
    pub(super) dropped: Dropped,
    pub(super) seals: Seals,
}

/// The tables that were dropped. A drop that was sent to anybody is decided, so that each who hears of it may refuse at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dropped {
    pub(super) known: BTreeSet<TableId>,
    pub(super) durable: BTreeSet<TableId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyState {
    /// The digest of the durable record is being read. These wait for it, in order of arrival.
    Reading(Vec<Waiting>),
    /// The digest of the durable record is known, and a greater record is on its way to the disk.
    Known { slot: Slot, durable: Option<Stored> },
}

/// A record that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    /// Since when this node keeps the version, where that has a time to live.
    pub(super) kept_at: Option<RunningTime>,
}

/// A record to store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incoming {
    pub(super) record: Record,
    /// Since when the sender has kept the version, on this node's count.
    pub(super) kept_at: Option<RunningTime>,
    pub(super) offer: Offer,
}

/// How a record comes to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// Its writer stores it, or somebody who brings it from another replica.
    Store(StoreOrigin),
    /// It is to be accepted under its ballot.
    Accept,
}

/// A request that waits for the digest of the durable record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Waiting {
    /// To be compared with it.
    Store(Incoming, Requester),
    /// To be judged once all stores before it are durable.
    Prepare(Origin, Request),
    /// To be forgotten, if the seal of the slot allows that.
    Forget,
}

impl Waiting {
    pub(super) fn bytes(&self, key: &Key) -> usize {
        match self {
            Self::Store(incoming, _) => incoming.record.bytes(key),
            Self::Prepare(..) | Self::Forget => size_of::<Self>() + key.as_bytes().len(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadFor {
    /// To compare stores with the durable record.
    Store { slot: Slot, key: Key },
    /// To answer a read. This was the seal of the slot when it began.
    Get { slot: Slot, key: Key, requester: Requester, seal: Option<Clock>, kind: ReadKind },
    /// To answer with a promise that was given. This was the seal of the slot when the read began.
    Prepare { slot: Slot, key: Key, origin: Origin, seal: Option<Clock>, kind: ReadKind },
}

impl ReadFor {
    pub(super) fn slot(&self) -> Slot {
        match self {
            Self::Store { slot, .. } | Self::Get { slot, .. } | Self::Prepare { slot, .. } => *slot,
        }
    }
}

/// Whether `clock` is further ahead than that of any honest node.
pub(super) fn is_jump(clock: Clock, ctx: &mut NodeCtx<'_>) -> bool {
    let is_jump = ctx.clock.check_jump(clock, PEER_JUMP).is_err();
    if is_jump {
        ctx.report(ProtocolEvent::ClockJump { seen: clock });
    }
    is_jump
}
