//! Slots that are not this node's own any more are emptied bit by bit: [`super::sweep`] says when.

use crate::limits::{SWEEP_AGAIN, SWEEP_EVERY, SWEEP_RANGES};
use crate::types::Slot;

use super::state::{Members, MembersCtx};
use super::sweep::Sweep;

impl Members {
    /// Empties the next slots that are not this node's, if it is time.
    pub(super) fn sweep(&mut self, ctx: &mut MembersCtx<'_>) {
        let (now, me) = (ctx.now(), ctx.me());
        let Some(next) = self.sweep.next.filter(|_| self.sweep.at <= now) else { return };
        let group_commit = &ctx.shared.node.group_commit;
        let is_overloaded = ctx.shared.replica.is_overloaded(group_commit.next_bytes());
        // A batch that adopts a configuration empties what that gains.
        if is_overloaded
            || group_commit.has_failed()
            || self.adopting().is_some()
            || !ctx.shared.membership.is_started()
        {
            self.sweep.at = now.after(SWEEP_AGAIN);
            return;
        }
        let layout = ctx.layout();
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        let mut reached = None;
        for slot in (next.0..=u16::MAX).map(Slot).filter(|slot| !layout.holds(me, *slot)) {
            let count = ranges.len();
            match ranges.last_mut() {
                Some((_, last)) if u32::from(last.0) + 1 == u32::from(slot.0) => *last = slot,
                _ if count == SWEEP_RANGES => {
                    reached = Some(slot);
                    break;
                }
                _ => ranges.push((slot, slot)),
            }
        }
        self.sweep = Sweep { next: reached, at: now.after(SWEEP_EVERY) };
        ctx.shared.node.group_commit.add_emptied(ranges);
    }
}
