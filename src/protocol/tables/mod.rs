//! Created tables: their names, and operations on them.
//!
//! Contract: an operation that was called after a drop was answered never takes effect in the dropped table, and shows
//! nothing of it, however old the names are that its node remembers. An earlier one may have taken effect. A read
//! of one replica is no such operation: it may show a dropped table where its node missed the drop.
//!
//! How: the record of a name says the table's id. It is an ordinary record, and linearizable. The keys of a table are stored
//! under its id, which is given once. A node remembers ids, so that an operation does not read the record. That is safe,
//! because a drop first reaches a majority of the replicas of every slot: each operation meets a replica that refuses it.
//! A refusal says nothing of the key. The node forgets the name, and reads its record anew.
//!
//! Operations on the default table never come here.
//!
//! | file | holds |
//! |---|---|
//! | `moving` | operations, conditions and answers between names and ids |
//! | `state` | what a node knows and does at a moment |
//! | `names` | operations that wait for a name, and those that run |
//! | `work` | tables are created and dropped, step by step |
//! | `rounds` | drops on their way to a majority of every slot |
//! | `quota` | about how many bytes a table holds, and which writes are refused |
//! | `cleaning` | the space of dropped tables is given back |

mod cleaning;
pub(super) mod moving;
mod names;
mod quota;
mod rounds;
mod state;
mod work;

pub use state::{Tables, TablesCtx};

use std::collections::BTreeSet;

use crate::types::{NodeIndex, TableId};

use super::context::{Caller, Task};
use super::coordinator::ops::{Cas, Get, GetOne, OperationState, Set};
use super::io::{Command, Reply, RequestId, Time};
use super::listing::ListingCtx;
use super::message::{Answer, OperationId};

use state::{TaskFor, Timer};

impl Tables {
    /// The tables of a node that starts; these were dropped.
    #[must_use]
    pub fn start(now: Time, dropped: &BTreeSet<TableId>) -> Self {
        let mut tables = Self::default();
        for table in dropped {
            tables.clean_later(*table, now);
        }
        tables
    }

    /// Takes a command about a created table.
    pub fn on_command(&mut self, id: RequestId, deadline: Time, command: Command, ctx: &mut TablesCtx<'_>) {
        match command {
            Command::InTable(in_table) => self.request(id, deadline, in_table.table, Some(in_table.command), ctx),
            Command::OpenTable { name } => self.request(id, deadline, name, None, ctx),
            Command::CreateTable { name, settings } => self.create(id, deadline, name, settings, ctx),
            Command::DropTable { name } => self.drop_table(id, deadline, name, ctx),
            other => unreachable!("{other:?} is not about a created table"),
        }
    }

    /// An operation of the coordinator that was begun here has ended.
    pub fn on_reply(&mut self, task: u64, reply: Reply, ctx: &mut TablesCtx<'_>) {
        match self.tasks.remove(&task) {
            Some(TaskFor::Lookup(name)) => self.looked_up(&name, reply, ctx),
            Some(TaskFor::Request(number)) => self.request_ends(number, reply, ctx),
            Some(TaskFor::Job(number)) => self.go_on(number, reply, ctx),
            None => {}
        }
    }

    /// Whether `id` is a drop on its way.
    #[must_use]
    pub fn owns(&self, id: OperationId) -> bool {
        self.rounds.contains_key(&id)
    }

    /// A node answers that a drop is durable there, or refuses.
    pub fn on_answer(&mut self, from: NodeIndex, id: OperationId, answer: &Answer, ctx: &mut TablesCtx<'_>) {
        if *answer == Answer::Stored {
            self.round_counts(from, id, ctx);
        }
    }

    /// These drops are durable on this node.
    pub fn dropped(&mut self, tables: &BTreeSet<TableId>, now: Time) {
        self.names.retain(|_, known| !tables.contains(&known.record.id));
        self.usage.retain(|table, _| !tables.contains(table));
        for table in tables {
            self.clean_later(*table, now);
        }
    }

    /// When [`Tables::on_wake`] is wanted next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Does what is due.
    pub fn on_wake(&mut self, ctx: &mut TablesCtx<'_>) {
        while let Some((time, timer)) = self.timers.first().copied()
            && time <= ctx.now()
        {
            self.timers.pop_first();
            match timer {
                Timer::Request(number) => self.request_is_late(number, ctx),
                Timer::Round(id) => self.round_is_late(id, ctx),
                Timer::Clean => self.clean(ctx),
            }
        }
    }

    /// Whether nothing is under way, for tests.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
            && self.jobs.is_empty()
            && self.lookups.is_empty()
            && self.rounds.is_empty()
            && self.tasks.is_empty()
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Begins `command`, whose keys are those of the store.
    fn begin(&mut self, purpose: TaskFor, deadline: Time, command: Command, ctx: &mut TablesCtx<'_>) {
        let number = self.next_number();
        let request = if let TaskFor::Request(request) = &purpose { self.requests.get(request) } else { None };
        let traced = request.map(|request| request.id).filter(|id| id.is_traced());
        self.tasks.insert(number, purpose);
        begin(Caller::Task(Task::Table(number, traced)), deadline, command, ctx);
    }
}

/// Begins a command about a key or a list of keys.
pub(super) fn begin(caller: Caller, deadline: Time, command: Command, ctx: &mut TablesCtx<'_>) {
    let TablesCtx { coordinator, listing, shared } = ctx;
    let mut start = |key, operation: OperationState| coordinator.start(caller, deadline, key, operation, shared);
    match command {
        Command::Get { key } => start(key, Get::default().into()),
        Command::GetOne { key, at_least } => start(key, GetOne::new(at_least).into()),
        Command::Set { key, content, ttl, checksum } => start(key, Set::new(content, ttl, checksum).into()),
        Command::Change { key, request } => {
            let operation = Cas::new(key.clone(), request);
            start(key, operation.into());
        }
        Command::List(page) => {
            listing.start(caller, deadline, page, BTreeSet::new(), &mut ListingCtx { coordinator, node: shared });
        }
        other => unreachable!("{other:?} is no operation on keys"),
    }
}
