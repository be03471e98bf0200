//! The space of dropped tables is given back, piece by piece.
//!
//! A drop is durable on this node before its records are removed. Everything of the table that the node had taken in by then
//! was durable earlier, and it takes in nothing of the table any more. So once the index has no entry of the table, none comes.
//!
//! A restart forgets how far this was, and looks at each dropped table again: a table without records costs one look.
//! A table that cannot be removed now, for example because an entry of its is damaged, keeps no other table waiting.

use crate::limits::{TABLE_CLEANING_AGAIN, TABLE_CLEANING_ENTRIES_MAX, TABLE_CLEANING_EVERY};
use crate::protocol::io::{Effect, Time};
use crate::types::{Removed, TableId};

use super::state::{Tables, TablesCtx, Timer};

impl Tables {
    /// Removes the records of a dropped table, from now on.
    pub(super) fn clean_later(&mut self, table: TableId, now: Time) {
        let cleaning = &self.cleaning;
        let is_idle = cleaning.tables.is_empty() && cleaning.failed.is_empty() && cleaning.at_work.is_none();
        self.cleaning.tables.insert(table);
        self.cleaning.is_retry = false;
        if is_idle {
            self.timers.insert((now.after(TABLE_CLEANING_EVERY), Timer::Clean));
        }
    }

    /// Removes the next piece.
    pub(super) fn clean(&mut self, ctx: &mut TablesCtx<'_>) {
        if let Some(table) = self.next_to_clean() {
            ctx.shared.node.effects.push(Effect::Clean { table, entries_max: TABLE_CLEANING_ENTRIES_MAX });
        }
    }

    /// The table of which a piece is to be removed now.
    fn next_to_clean(&mut self) -> Option<TableId> {
        let cleaning = &mut self.cleaning;
        if cleaning.at_work.is_some() {
            return None;
        }
        if cleaning.tables.is_empty() {
            cleaning.tables = std::mem::take(&mut cleaning.failed);
            cleaning.is_retry = true;
        }
        cleaning.at_work = cleaning.tables.first().copied();
        cleaning.at_work
    }

    /// Whether records of dropped tables are being removed, apart from those that could not be.
    #[must_use]
    pub fn is_cleaning(&self) -> bool {
        !self.cleaning.is_retry && (self.cleaning.at_work.is_some() || !self.cleaning.tables.is_empty())
    }

    /// Whether the store is removing records now.
    #[must_use]
    pub fn is_removing(&self) -> bool {
        self.cleaning.at_work.is_some()
    }

    /// A piece was removed; `None` where the store could not.
    pub fn cleaned(&mut self, removed: Option<&Removed>, now: Time) {
        let cleaning = &mut self.cleaning;
        let Some(table) = cleaning.at_work.take() else { return };
        if removed.is_none_or(|removed| !removed.has_more) {
            cleaning.tables.remove(&table);
        }
        if removed.is_none() {
            cleaning.failed.insert(table);
        }
        let next = match (cleaning.tables.is_empty(), removed) {
            (true, _) if cleaning.failed.is_empty() => return,
            (true, _) => now.after(TABLE_CLEANING_AGAIN),
            // Looks alone are cheap: after a restart there may be very many.
            (false, Some(Removed { records: 0, .. })) => now,
            (false, _) => now.after(TABLE_CLEANING_EVERY),
        };
        self.timers.insert((next, Timer::Clean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(records: usize, has_more: bool) -> Removed {
        Removed { records, has_more, digests: Vec::new() }
    }

    fn dropped(ids: &[u32]) -> Tables {
        let mut tables = Tables::default();
        for id in ids {
            tables.clean_later(TableId(*id), Time(0));
        }
        tables.timers.clear();
        tables
    }

    #[test]
    fn table_that_cannot_be_removed_keeps_no_other_waiting() {
        let mut tables = dropped(&[16, 17]);
        assert_eq!(tables.next_to_clean(), Some(TableId(16)));
        tables.cleaned(None, Time(0));
        assert_eq!(tables.next_to_clean(), Some(TableId(17)));
        tables.timers.clear();
        tables.cleaned(Some(&removed(0, false)), Time(0));
        assert_eq!(tables.next_wake(), Some(Time(0).after(TABLE_CLEANING_AGAIN)));
        assert_eq!(tables.next_to_clean(), Some(TableId(16)), "it is tried again");
        tables.timers.clear();
        tables.cleaned(Some(&removed(0, false)), Time(0));
        assert_eq!((tables.next_wake(), tables.next_to_clean()), (None, None));
    }

    #[test]
    fn look_that_finds_nothing_costs_no_pause() {
        let mut tables = dropped(&[16, 17]);
        tables.next_to_clean();
        tables.cleaned(Some(&removed(0, false)), Time(7));
        assert_eq!(tables.next_wake(), Some(Time(7)));
        tables.timers.clear();
        tables.next_to_clean();
        tables.cleaned(Some(&removed(500, true)), Time(7));
        assert_eq!(tables.next_wake(), Some(Time(7).after(TABLE_CLEANING_EVERY)));
        assert_eq!(tables.next_to_clean(), Some(TableId(17)), "it has more");
    }
}
