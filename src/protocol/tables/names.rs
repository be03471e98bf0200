//! Operations on tables: those that wait for a name, and those that run.
//!
//! Invariants: an operation runs under an id that the record of its name said at some moment, perhaps long ago. "No such
//! table" is answered only where a read of the record that began after the operation found none. An operation that was
//! refused and has written nothing is begun anew under the id that the record says then; one that may have written never is.

use std::collections::BTreeSet;

use crate::limits::TABLE_NAMES_MAX;
use crate::mutants::rule;
use crate::protocol::io::{Command, Failure, Reply, RequestId, Time};
use crate::types::{AgedRecord, TableName, TableRecord, TableState};

use super::state::{Lookup, NamedRequest, Remembered, Tables, TablesCtx, TaskFor, Timer};
use super::{moving, rounds};

impl Tables {
    /// Takes an operation on a table.
    pub(super) fn request(
        &mut self,
        id: RequestId,
        deadline: Time,
        name: TableName,
        command: Option<Command>,
        ctx: &mut TablesCtx<'_>,
    ) {
        let number = self.next_number();
        self.requests.insert(number, NamedRequest { id, deadline, name, command, table: None });
        self.resolve(number, ctx);
    }

    /// Runs a request, if its name is known, or lets it wait for that.
    fn resolve(&mut self, number: u64, ctx: &mut TablesCtx<'_>) {
        let Some(request) = self.requests.get(&number) else { return };
        let name = request.name.clone();
        // Nothing refuses who asks for the table alone: what is remembered may be dropped.
        let remembered = self.names.get(&name).map(|known| known.record).filter(|_| request.command.is_some());
        match remembered {
            Some(record) if !ctx.is_dropped(record.id) => self.run(number, &record, ctx),
            _ => {
                self.names.remove(&name);
                self.timers.insert((request.deadline, Timer::Request(number)));
                match self.lookups.get_mut(&name) {
                    Some(lookup) => lookup.came_later.push(number),
                    None => self.look_up(name, vec![number], ctx),
                }
            }
        }
    }

    fn look_up(&mut self, name: TableName, waited: Vec<u64>, ctx: &mut TablesCtx<'_>) {
        let deadlines = waited.iter().filter_map(|number| self.requests.get(number)).map(|request| request.deadline);
        let Some(deadline) = deadlines.max() else { return };
        let key = name.key();
        self.lookups.insert(name.clone(), Lookup { waited, came_later: Vec::new() });
        self.begin(TaskFor::Lookup(name), deadline, Command::Get { key }, ctx);
    }

    /// The record of a name was read, or could not be.
    pub(super) fn looked_up(&mut self, name: &TableName, reply: Reply, ctx: &mut TablesCtx<'_>) {
        let Some(Lookup { waited, came_later }) = self.lookups.remove(name) else { return };
        let found = match reply {
            Reply::Record(record) => Ok(record_of(record.as_ref())),
            Reply::Failed(failure) => Err(failure),
            other => unreachable!("a read is answered with a record, not {other:?}"),
        };
        let again = match found {
            Ok(Some(record @ TableRecord { state: TableState::Live, .. })) if !ctx.is_dropped(record.id) => {
                self.remember(name.clone(), record);
                // The read may be from before a drop that was answered before these asked for the table.
                let asks = |number: &u64| self.requests.get(number).is_some_and(|request| request.command.is_none());
                let (again, came_later): (Vec<u64>, Vec<u64>) = came_later.into_iter().partition(asks);
                for number in waited.into_iter().chain(came_later) {
                    self.stop_waiting(number);
                    self.run(number, &record, ctx);
                }
                again
            }
            // The read began before the drop.
            Ok(Some(TableRecord { state: TableState::Live, .. })) => [waited, came_later].concat(),
            Ok(Some(TableRecord { state: TableState::Dropping, .. })) => {
                self.help(name, ctx);
                for number in waited.into_iter().chain(came_later) {
                    let failure = rule!(DroppingIsMissing, Failure::TableDropping, not Failure::NoTable);
                    self.fail(number, failure, ctx);
                }
                return;
            }
            Ok(None) => {
                for number in waited {
                    self.fail(number, Failure::NoTable, ctx);
                }
                came_later
            }
            Err(failure) => {
                for number in waited {
                    self.fail_unread(number, &failure, ctx);
                }
                came_later
            }
        };
        self.look_up(name.clone(), again, ctx);
    }

    /// Remembers what a name stands for. Where that is too many, the one is forgotten that was read the longest ago.
    pub(super) fn remember(&mut self, name: TableName, record: TableRecord) {
        if self.names.len() >= TABLE_NAMES_MAX && !self.names.contains_key(&name) {
            let oldest = self.names.iter().min_by_key(|(_, known)| known.number);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.names.remove(&oldest);
            }
        }
        let number = self.next_number();
        self.names.insert(name, Remembered { record, number });
    }

    /// Begins what a request asks for in the table of `record`.
    fn run(&mut self, number: u64, record: &TableRecord, ctx: &mut TablesCtx<'_>) {
        let Some(request) = self.requests.get_mut(&number) else { return };
        let Some(command) = request.command.clone() else {
            let id = request.id;
            self.requests.remove(&number);
            return ctx.reply(id, Reply::Table { table: *record, is_new: false });
        };
        request.table = Some(record.id);
        let deadline = request.deadline;
        let admitted = self.within_quota(record, &command, ctx);
        match admitted.and_then(|()| moving::command_in(record, command)) {
            Ok(command) => self.begin(TaskFor::Request(number), deadline, command, ctx),
            Err(failure) => self.fail(number, failure, ctx),
        }
    }

    /// The operation of a request has ended.
    pub(super) fn request_ends(&mut self, number: u64, reply: Reply, ctx: &mut TablesCtx<'_>) {
        let Some(request) = self.requests.get_mut(&number) else { return };
        let Some(table) = request.table else { return };
        let is_refused = matches!(reply, Reply::Failed(Failure::TableDropped));
        let is_cut_off = matches!(reply, Reply::Failed(Failure::DroppedMeanwhile));
        if is_refused || is_cut_off {
            let name = request.name.clone();
            self.names.retain(|other, known| *other != name || known.record.id != table);
        }
        #[cfg(feature = "mutants")]
        if is_refused && crate::mutants::is_on(crate::mutants::Mutant::RefusedIsMissing) {
            return self.fail(number, Failure::NoTable, ctx);
        }
        let begins_anew = is_refused;
        #[cfg(feature = "mutants")]
        let begins_anew = begins_anew || is_cut_off && crate::mutants::is_on(crate::mutants::Mutant::RetriedUnderNewId);
        if begins_anew {
            request.table = None;
            return self.resolve(number, ctx);
        }
        let Some(NamedRequest { id, command, .. }) = self.requests.remove(&number) else { return };
        let key = command.as_ref().and_then(Command::key);
        ctx.reply(id, moving::told(reply, table, key));
    }

    /// A request has waited for its name until its deadline.
    pub(super) fn request_is_late(&mut self, number: u64, ctx: &mut TablesCtx<'_>) {
        let Some(request) = self.requests.get(&number).filter(|request| request.table.is_none()) else { return };
        if request.deadline > ctx.now() {
            return;
        }
        if let Some(lookup) = self.lookups.get_mut(&request.name) {
            lookup.waited.retain(|waiting| *waiting != number);
            lookup.came_later.retain(|waiting| *waiting != number);
        }
        let key = request.name.key();
        let slot = ctx.shared.node.layout.slot(&key);
        let report = rounds::report(slot, &BTreeSet::new(), ctx);
        self.fail_unread(number, &Failure::NoQuorum(report), ctx);
    }

    fn stop_waiting(&mut self, number: u64) {
        if let Some(request) = self.requests.get(&number) {
            self.timers.remove(&(request.deadline, Timer::Request(number)));
        }
    }

    /// Ends a request whose name could not be read.
    fn fail_unread(&mut self, number: u64, failure: &Failure, ctx: &mut TablesCtx<'_>) {
        let Some(request) = self.requests.get(&number) else { return };
        let is_read = request.command.as_ref().is_none_or(moving::is_read);
        let failure = match failure {
            Failure::NoQuorum(report) if !is_read => Failure::NotApplied(report.clone()),
            failure => failure.clone(),
        };
        self.fail(number, failure, ctx);
    }

    /// Ends a request that has done nothing. Of an earlier try, nothing is claimed.
    fn fail(&mut self, number: u64, failure: Failure, ctx: &mut TablesCtx<'_>) {
        self.stop_waiting(number);
        let Some(NamedRequest { id, command, .. }) = self.requests.remove(&number) else { return };
        let failure = match (failure, command) {
            (Failure::NoTable, Some(command)) if moving::is_resend(&command) => Failure::DroppedMeanwhile,
            // The first try may have met other settings, those of an older table, or more room.
            (Failure::ValueTooLarge { .. } | Failure::QuotaReached { .. }, Some(command))
                if moving::is_resend(&command) =>
            {
                Failure::OutcomeForgotten
            }
            (Failure::NotApplied(report), Some(command)) if moving::is_resend(&command) => {
                Failure::OutcomeUnknown(report)
            }
            (failure, _) => failure,
        };
        ctx.reply(id, Reply::Failed(failure));
    }
}

/// The table in the record of a name; `None` where the record is deleted, or there is none.
pub(super) fn record_of(record: Option<&AgedRecord>) -> Option<TableRecord> {
    record.and_then(|record| TableRecord::of(&record.content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TableId, TableSettings};

    #[test]
    fn name_that_was_read_the_longest_ago_is_forgotten() {
        let record = TableRecord { id: TableId(16), state: TableState::Live, settings: TableSettings::default() };
        let name = |number: usize| TableName::new(&format!("t{:05}", 99_999 - number)).unwrap();
        let mut tables = Tables::default();
        for number in 0..TABLE_NAMES_MAX {
            tables.remember(name(number), record);
        }
        tables.remember(name(0), record);
        tables.remember(name(TABLE_NAMES_MAX), record);
        assert_eq!(tables.names.len(), TABLE_NAMES_MAX);
        assert!(!tables.names.contains_key(&name(1)), "it is the oldest");
        assert!(tables.names.contains_key(&name(0)) && tables.names.contains_key(&name(TABLE_NAMES_MAX)));
    }
}
