//! All that reaches a node's event loop.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::peer::LinkEvent;
use crate::protocol::changes::Filter;
use crate::protocol::news::{Cursor, ListFirst, WatchId};
use crate::protocol::rate::Rate;
use crate::protocol::{Command, MembersChange, MembersReport, ReadId, RepairOrder};
use crate::shares::{Account, Taken};
use crate::types::{Expiry, Found, Meta, Removed, ScannedKeys, SlotsPage, TraceContext};

use super::handle::Status;
use super::replies::ReplyTo;
use super::watchers::Watcher;

/// A request's part of the bounds. The node drops it when the operation ends, not when the client hangs up, because a
/// write goes on without its client.
pub(super) struct Permit {
    pub(super) _place: Place,
    pub(super) bytes: Taken,
}

impl Permit {
    /// Whose request it is.
    pub(super) fn account(&self) -> &Arc<Account> {
        self.bytes.account()
    }
}

/// A place among the requests in flight. The parts of a batch share one.
pub(super) enum Place {
    Own { _place: Taken },
    Shared { _place: Arc<Taken> },
}

/// A client's request, and the way back for its reply.
pub struct ClientRequest {
    pub(super) command: Command,
    pub(super) deadline: Instant,
    pub(super) reply: ReplyTo,
    pub(super) permit: Permit,
    /// Its span, if it is traced.
    pub(super) trace: Option<TraceContext>,
}

/// An operator's change of members, and the way back for its reply.
pub struct MembersRequest {
    pub(super) change: MembersChange,
    pub(super) deadline: Instant,
    pub(super) reply: ReplyTo,
    pub(super) permit: Permit,
}

/// All that reaches a node's event loop.
pub enum Event {
    /// A client's request.
    Request(ClientRequest),
    /// A question for the node's status.
    Status(oneshot::Sender<Status>),
    /// A question for the members.
    Members(oneshot::Sender<MembersReport>),
    /// An operator changes members.
    ChangeMembers(MembersRequest),
    /// A link to a peer has gone up or down, or has brought messages.
    Link(LinkEvent),
    /// Answers of reads that waited for the disk; `None` where the disk could not be read.
    ReadsDone(Vec<(ReadId, Option<Found>)>),
    /// The answer of a scan; `None` where the disk could not be read.
    ScanDone(ReadId, Option<ScannedKeys>),
    /// A page of the index of expiries; `None` where the disk could not be read.
    ExpiriesRead(Option<Vec<Expiry>>),
    /// Records of a dropped table were removed.
    Cleaned(Option<Removed>),
    /// All records of some slots, or `None` where the store could not be read.
    SlotsRead(ReadId, Option<SlotsPage>),
    /// A table was measured.
    Measured(Option<u64>),
    /// The batch at the disk is durable, or may not be.
    Persisted(bool),
    /// The store was reopened after a failure, and remembers this.
    Reopened(Meta),
    /// A client watches.
    Watch {
        /// The watch.
        id: WatchId,
        /// The keys.
        filter: Filter,
        /// Where it goes on.
        cursor: Cursor,
        /// Whether it is told first what is there.
        list: ListFirst,
        /// The way to its client.
        watcher: Watcher,
    },
    /// The client of a watch has taken a page of what is there.
    WatchPageTaken(WatchId),
    /// A client watches no longer.
    Unwatch(WatchId),
    /// The disk has less free space than its reserve, or has more again.
    DiskRoom {
        /// Whether it has less.
        is_short: bool,
    },
    /// An operator wants something of the node's repair.
    Repair(RepairOrder),
    /// Slots are taken over at this rate from now on.
    PaceTakeover(Rate),
    /// The node is to end: it takes no new requests.
    Drain,
}

impl From<LinkEvent> for Event {
    fn from(event: LinkEvent) -> Self {
        Self::Link(event)
    }
}
