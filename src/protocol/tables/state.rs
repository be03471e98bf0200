//! The state of created tables on a node: names that it remembers, and operations, drops and measures under way.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::coordinator::{Coordinator, CoordinatorCtx};
use crate::protocol::io::{Command, Reply, RequestId, Time};
use crate::protocol::listing::Listing;
use crate::protocol::message::OperationId;
use crate::types::{NodeIndex, TableId, TableName, TableRecord, TableSettings, Version};

/// The tables as one node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tables {
    /// The tables of names, as their records were read last. Bounded by [`crate::limits::TABLE_NAMES_MAX`].
    pub(super) names: BTreeMap<TableName, Remembered>,
    /// The reads of names' records that are under way, one of each name.
    pub(super) lookups: BTreeMap<TableName, Lookup>,
    /// Operations on tables, by number. Each is a request that its node has admitted.
    pub(super) requests: BTreeMap<u64, NamedRequest>,
    /// Tables that are created or dropped here, by number.
    pub(super) jobs: BTreeMap<u64, Job>,
    /// Drops on their way.
    pub(super) rounds: BTreeMap<OperationId, Round>,
    /// Those that operations of the coordinator are for, by the number of their task.
    pub(super) tasks: BTreeMap<u64, TaskFor>,
    pub(super) timers: BTreeSet<(Time, Timer)>,
    /// The last number given to a request, job or task.
    pub(super) last_number: u64,
    pub(super) cleaning: Cleaning,
    /// About how many bytes those tables hold that have a quota and are written through this node.
    pub(super) usage: BTreeMap<TableId, Usage>,
    /// The table that is being measured.
    pub(super) measuring: Option<Measuring>,
}

/// The table of a name, as it was read last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Remembered {
    pub(super) record: TableRecord,
    /// Greater than those of names that were read before.
    pub(super) number: u64,
}

/// About how many bytes a table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Usage {
    /// When it was measured last.
    pub(super) held: Option<u64>,
    /// Begun to be written through this node since that measurement began.
    pub(super) written: u64,
    /// The same, since the present measurement began.
    pub(super) written_meanwhile: u64,
    /// It is not measured before.
    pub(super) measure_at: Time,
}

/// A measurement under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Measuring {
    pub(super) table: TableId,
    pub(super) began: Time,
}

/// The use of an operation of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TaskFor {
    /// To read the record of a name.
    Lookup(TableName),
    /// To do what a request asks for.
    Request(u64),
    /// To take a step of a job.
    Job(u64),
}

/// A moment at which something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// A request that waits for its name gives up.
    Request(u64),
    /// A drop is sent again.
    Round(OperationId),
    /// The next piece of a dropped table is removed.
    Clean,
}

/// The parts of the node that the tables use.
#[derive(Debug)]
pub struct TablesCtx<'a> {
    /// Runs operations on keys.
    pub coordinator: &'a mut Coordinator,
    /// Runs lists.
    pub listing: &'a mut Listing,
    /// The parts that the coordinator uses.
    pub shared: CoordinatorCtx<'a>,
}

impl TablesCtx<'_> {
    pub(super) fn now(&self) -> Time {
        self.shared.node.now
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.shared.node.reply(id, reply);
    }

    pub(super) fn is_dropped(&self, table: TableId) -> bool {
        self.shared.replica.is_dropped(table)
    }
}

/// An operation on a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NamedRequest {
    pub(super) id: RequestId,
    pub(super) deadline: Time,
    pub(super) name: TableName,
    /// The command to run; a request without one asks for the table's record.
    pub(super) command: Option<Command>,
    /// The table that it runs in; `None` while it waits for the name.
    pub(super) table: Option<TableId>,
}

/// A read of the record of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lookup {
    /// The requests that waited when it began.
    pub(super) waited: Vec<u64>,
    /// Those that came later: an absence that it finds may be older than they are.
    pub(super) came_later: Vec<u64>,
}

/// A table that is created or dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub(super) name: TableName,
    pub(super) goal: Goal,
    pub(super) deadline: Time,
    pub(super) step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Goal {
    Create(RequestId, TableSettings),
    Drop(RequestId),
    /// To go on with a drop that was found under way.
    Help,
}

/// The operation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The record is read.
    Read,
    /// An id is drawn, for a record that follows this version.
    Draw(Version),
    /// The record is written.
    Create(TableRecord),
    /// The record is to say that the table is being dropped.
    Mark(TableRecord),
    /// The drop is on its way; the record has this version.
    Round(TableRecord, Version),
    /// The record is deleted.
    Delete,
}

/// A drop that is sent to all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Round {
    pub(super) table: TableId,
    /// The job that waits for it, until it is at a majority. After that it is sent to the others.
    pub(super) job: Option<u64>,
    pub(super) deadline: Time,
    pub(super) times: u32,
    /// The nodes on which it is durable.
    pub(super) answered: BTreeSet<NodeIndex>,
}

/// The dropped tables that may have records on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Cleaning {
    pub(super) tables: BTreeSet<TableId>,
    /// Those whose records could not be removed. They are tried again after all others.
    pub(super) failed: BTreeSet<TableId>,
    /// Whether all of `tables` are tried again.
    pub(super) is_retry: bool,
    /// The table of which a piece is being removed.
    pub(super) at_work: Option<TableId>,
}
