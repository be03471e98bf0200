//! The space of dropped tables is given back, piece by piece.
//!
//! A drop is durable on this node before its records are removed. Everything of the table that the node had taken in by then
//! was durable earlier, and it takes in nothing of the table any more. So once the index has no entry of the table, none comes.
//!
//! A restart forgets how far this was, and looks at each dropped table again: a table without records costs one look.

use crate::limits::{TABLE_CLEANING_ENTRIES_MAX, TABLE_CLEANING_EVERY};
use crate::protocol::io::{Effect, Time};
use crate::types::TableId;

use super::state::{Tables, TablesCtx, Timer};

impl Tables {
    /// Removes the records of a dropped table, from now on.
    pub(super) fn clean_later(&mut self, table: TableId, now: Time) {
        let is_idle = self.cleaning.tables.is_empty() && self.cleaning.at_work.is_none();
        self.cleaning.tables.insert(table);
        if is_idle {
            self.timers.insert((now.after(TABLE_CLEANING_EVERY), Timer::Clean));
        }
    }

    /// Removes the next piece.
    pub(super) fn clean(&mut self, ctx: &mut TablesCtx<'_>) {
        if self.cleaning.at_work.is_none()
            && let Some(table) = self.cleaning.tables.first().copied()
        {
            self.cleaning.at_work = Some(table);
            ctx.shared.node.effects.push(Effect::Clean { table, entries_max: TABLE_CLEANING_ENTRIES_MAX });
        }
    }

    /// A piece was removed; `None` where the store could not. `has_more`: the table may have further records.
    pub fn cleaned(&mut self, has_more: Option<bool>, now: Time) {
        let Some(table) = self.cleaning.at_work.take() else { return };
        if has_more == Some(false) {
            self.cleaning.tables.remove(&table);
        }
        if !self.cleaning.tables.is_empty() {
            self.timers.insert((now.after(TABLE_CLEANING_EVERY), Timer::Clean));
        }
    }
}
