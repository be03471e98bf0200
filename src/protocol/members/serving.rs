//! What this node gives others that take slots over: floors, and its records.

use crate::limits::{DROPS_IN_MESSAGE_MAX, TAKEOVER_BYTES_OF_PAGE, TAKEOVER_KEYS_OF_PAGE, TAKEOVER_READS_MAX};
use crate::protocol::context::{Origin, Requester};
use crate::protocol::io::{Effect, ReadId};
use crate::protocol::message::{Answer, Refusal};
use crate::protocol::sums::half_of;
use crate::types::{Key, NodeIndex, Slot, SlotRange, SlotsPage, TableId};

use super::messages::{MembersAnswer, TakeoverPage};
use super::state::{Members, MembersCtx};

/// The reads of this part have numbers from here, below those of the rounds for deletions.
const READS_FROM: u64 = 1 << 62;
/// And up to here.
const READS_TO: u64 = 1 << 63;

impl Members {
    /// A node asks for what it must know before it serves the slots that it gains.
    pub(super) fn tell_floors(from: Origin, after: TableId, ctx: &mut MembersCtx<'_>) {
        let fence = ctx.shared.replica.durable_fence();
        let mut tables = ctx.shared.replica.dropped_durably(after);
        let dropped = tables.by_ref().take(DROPS_IN_MESSAGE_MAX).collect();
        let has_more = tables.next().is_some();
        ctx.shared.node.answer(from, Answer::Members(MembersAnswer::Floors { fence, dropped, has_more }));
    }

    /// A node asks for records.
    pub(super) fn read_records(&mut self, from: Origin, after: Option<(Slot, Key)>, ctx: &mut MembersCtx<'_>) {
        let is_repeated = self.served.values().any(|(to, _)| *to == from);
        if is_repeated || self.served.len() >= TAKEOVER_READS_MAX {
            return;
        }
        self.last_read += 1;
        let read = ReadId(READS_FROM + self.last_read);
        let first = after.as_ref().map_or(Slot(0), |(slot, _)| *slot);
        self.served.insert(read, (from, first));
        let range = SlotRange { first, after: after.map(|(_, key)| key), last: Slot(u16::MAX) };
        ctx.shared.node.effects.push(Effect::ReadSlots { read, range, entries_max: TAKEOVER_KEYS_OF_PAGE });
    }

    /// Records were read. Says whether they were read for this part.
    pub fn on_slots_read(&mut self, read: ReadId, page: Option<&SlotsPage>, ctx: &mut MembersCtx<'_>) -> bool {
        if !(READS_FROM..READS_TO).contains(&read.0) {
            return false;
        }
        let Some((to, first)) = self.served.remove(&read) else { return true };
        // What cannot be read may be what nobody else has. So a page ends before it, and others tell what follows.
        let Some(page) = page.filter(|page| page.damaged == 0 || page.intact > 0) else {
            ctx.shared.node.refuse(Requester::Coordinator(to), Refusal::ReadFailed);
            return true;
        };
        let answer = MembersAnswer::Records(Self::page(to.node, first, page, ctx));
        ctx.shared.node.answer(to, Answer::Members(answer));
        true
    }

    /// The records of a page that `to` takes over, and that this node holds by the old list.
    fn page(to: NodeIndex, first: Slot, read: &SlotsPage, ctx: &MembersCtx<'_>) -> TakeoverPage {
        let (layout, replica, me) = (ctx.layout(), &*ctx.shared.replica, ctx.me());
        let is_meant = |slot: Slot| layout.old().holds(me, slot) && layout.takes_over(to, slot);
        let mut page = TakeoverPage::default();
        let (mut bytes, mut last) = (0, None);
        let mut is_cut_off = read.has_more || read.damaged > 0;
        for record in read.records.iter().take(read.intact) {
            if bytes >= TAKEOVER_BYTES_OF_PAGE {
                is_cut_off = true;
                break;
            }
            last = Some((record.slot, record.key.clone()));
            let seal = replica.seal(record.slot);
            if is_meant(record.slot) && !replica.is_dropped(record.key.table()) && !record.digest.is_sealed_away(seal) {
                bytes += record.key.as_bytes().len() + size_of::<u64>();
                page.records.push((record.slot, record.key.clone(), half_of(&record.key, &record.digest)));
            }
        }
        page.looked_to = last.filter(|_| is_cut_off);
        let to_slot = page.looked_to.as_ref().map_or(Slot(u16::MAX), |(slot, _)| *slot);
        page.seals = replica.seals_between(first, to_slot).filter(|(slot, _)| is_meant(*slot)).collect();
        page
    }
}
