//! Quotas: about how many bytes a table holds, and which writes are refused.
//!
//! A node measures what its own store has of a table that is written through it, and takes the whole table to hold as much in
//! each slot. It adds what it has begun to write since. So a quota is approximate: it is enforced some seconds late, and where
//! a node holds a part of the slots, a table of few large values may be taken for larger or smaller than it is.

use crate::limits::{QUOTA_MEASURED_EVERY, QUOTA_MEASURING_SHARE};
use crate::protocol::io::{Command, Effect, Failure, Time};
use crate::protocol::layout::Layout;
use crate::types::{Change, Content, Key, NodeIndex, Slot, TableRecord};

use super::state::{Measuring, Tables, TablesCtx};

impl Tables {
    /// Lets a write pass, or refuses it because its table has reached its quota.
    pub(super) fn within_quota(
        &mut self,
        record: &TableRecord,
        command: &Command,
        ctx: &mut TablesCtx<'_>,
    ) -> Result<(), Failure> {
        let (Some(quota_bytes), Some(bytes)) = (record.settings.quota_bytes, bytes_written(command)) else {
            return Ok(());
        };
        let (table, now) = (record.id, ctx.now());
        let usage = self.usage.entry(table).or_default();
        if self.measuring.is_none() && usage.measure_at <= now {
            usage.written_meanwhile = 0;
            self.measuring = Some(Measuring { table, began: now });
            ctx.shared.node.effects.push(Effect::Measure { table });
        }
        if usage.held.is_some_and(|held| held.saturating_add(usage.written).saturating_add(bytes) > quota_bytes) {
            return Err(Failure::QuotaReached { quota_bytes });
        }
        usage.written = usage.written.saturating_add(bytes);
        usage.written_meanwhile = usage.written_meanwhile.saturating_add(bytes);
        Ok(())
    }

    /// The own store has so many bytes of the table that was measured; `None` where it could not be read.
    pub fn measured(&mut self, bytes: Option<u64>, now: Time, me: NodeIndex, layout: &Layout) {
        let Some(Measuring { table, began }) = self.measuring.take() else { return };
        let Some(usage) = self.usage.get_mut(&table) else { return };
        // A large table takes long to measure, and is measured less often.
        usage.measure_at = now.after(QUOTA_MEASURED_EVERY.max(now.since(began) * QUOTA_MEASURING_SHARE));
        let slots = u128::from(layout.slots_held(me));
        let Some(bytes) = bytes.filter(|_| slots > 0) else { return };
        let whole = u128::from(bytes) * Slot::COUNT as u128 / slots;
        usage.held = Some(u64::try_from(whole).unwrap_or(u64::MAX));
        usage.written = usage.written_meanwhile;
    }
}

/// The bytes of key and value that a command adds; `None` where it adds none.
fn bytes_written(command: &Command) -> Option<u64> {
    /// The longest number that an addition makes.
    const NUMBER: usize = 20;
    let of = |key: &Key, value: usize| Some((key.user_bytes().len() + value) as u64);
    match command {
        Command::Set { key, content: content @ Content::Value(_), .. } => of(key, content.value_bytes()),
        Command::Change { key, request } => match &request.change {
            Change::Write { content: content @ Content::Value(_), .. } => of(key, content.value_bytes()),
            Change::Add { .. } => of(key, NUMBER),
            Change::Write { .. } => None,
        },
        _ => None,
    }
}
