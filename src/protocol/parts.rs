//! The parts of a node, and what each of them is lent of the others while it works.

use super::changes::Filter;
use super::context::NodeCtx;
use super::coordinator::{Coordinator, CoordinatorCtx};
use super::expiry::Expiries;
use super::io::Effect;
use super::listing::{Listing, ListingCtx};
use super::members::{Members, MembersCtx};
use super::membership::Membership;
use super::news::{Cursor, ListFirst, WatchEvent, WatchId, WatchNews};
use super::operators::Operators;
use super::repair::{Repair, RepairCtx};
use super::replica::Replica;
use super::tables::{Tables, TablesCtx};
use super::tombstones::{Tombstones, TombstonesCtx};
use super::watch::{WatchCtx, Watches};

/// A node's parts, borrowed one by one, so that each can work with the others.
pub(super) struct Parts<'a> {
    pub(super) membership: &'a mut Membership,
    pub(super) coordinator: &'a mut Coordinator,
    pub(super) listing: &'a mut Listing,
    pub(super) replica: &'a mut Replica,
    pub(super) operators: &'a mut Operators,
    pub(super) watches: &'a mut Watches,
    pub(super) expiries: &'a mut Expiries,
    pub(super) tables: &'a mut Tables,
    pub(super) repair: &'a mut Repair,
    pub(super) tombstones: &'a mut Tombstones,
    pub(super) members: &'a mut Members,
    pub(super) ctx: NodeCtx<'a>,
}

/// What the coordinator uses of a node's parts.
macro_rules! shared {
    ($parts:ident) => {
        CoordinatorCtx {
            knows_floors: $parts.members.knows_floors(),
            node: $parts.ctx.reborrow(),
            membership: $parts.membership,
            replica: $parts.replica,
        }
    };
}

impl Parts<'_> {
    /// Lets the coordinator work.
    pub(super) fn coordinate(&mut self, work: impl FnOnce(&mut Coordinator, &mut CoordinatorCtx<'_>)) {
        work(self.coordinator, &mut shared!(self));
    }

    /// Lets the lists work.
    pub(super) fn list(&mut self, work: impl FnOnce(&mut Listing, &mut ListingCtx<'_, '_>)) {
        let node = &mut shared!(self);
        work(self.listing, &mut ListingCtx { coordinator: self.coordinator, node });
    }

    /// Lets the watches work.
    pub(super) fn watch(&mut self, work: impl FnOnce(&mut Watches, &mut WatchCtx<'_>)) {
        let shared = shared!(self);
        work(self.watches, &mut WatchCtx { coordinator: self.coordinator, listing: self.listing, shared });
    }

    /// Lets the tables work.
    pub(super) fn tables(&mut self, work: impl FnOnce(&mut Tables, &mut TablesCtx<'_>)) {
        let shared = shared!(self);
        work(self.tables, &mut TablesCtx { coordinator: self.coordinator, listing: self.listing, shared });
    }

    /// Lets the repair work.
    pub(super) fn repair(&mut self, work: impl FnOnce(&mut Repair, &mut RepairCtx<'_>)) {
        let is_cleaning = self.tables.is_cleaning();
        let shared = shared!(self);
        work(self.repair, &mut RepairCtx { coordinator: self.coordinator, shared, is_cleaning });
    }

    /// Lets the rounds for tombstones work.
    pub(super) fn tombstones(&mut self, work: impl FnOnce(&mut Tombstones, &mut TombstonesCtx<'_>)) {
        let shared = shared!(self);
        let leaves = self.repair.leaves();
        work(self.tombstones, &mut TombstonesCtx { coordinator: self.coordinator, leaves, shared });
    }

    /// Lets the changes of members work. What they have chosen is adopted.
    pub(super) fn members(&mut self, work: impl FnOnce(&mut Members, &mut MembersCtx<'_>)) {
        let shared = shared!(self);
        work(self.members, &mut MembersCtx { coordinator: self.coordinator, shared });
        self.adopt_newest();
    }

    /// Lets the other parts go on under the present configuration. `is_emptied`: the node has lost records.
    pub(super) fn reconfigure_parts(&mut self, is_emptied: bool) {
        // First, so that no other part asks this node about slots that it gains before it knows their floors.
        self.members(Members::reconfigure);
        self.coordinate(Coordinator::reconfigure);
        self.list(Listing::reconfigure);
        self.watch(Watches::reconfigure);
        self.tables(Tables::reconfigure);
        self.repair(|repair, ctx| repair.reconfigure(is_emptied, ctx));
        self.tombstones(|tombstones, ctx| tombstones.reconfigure(ctx));
        self.end_watches();
    }

    /// A client watches. The watch ends at once where this node takes no requests.
    pub(super) fn on_watch(&mut self, id: WatchId, filter: &Filter, cursor: &Cursor, list: ListFirst) {
        if self.membership.unready().is_some() {
            let news = WatchNews { cursor: cursor.clone(), event: WatchEvent::Ended };
            self.ctx.effects.push(Effect::Watch { to: vec![id], news });
            return;
        }
        if self.replica.is_dropped(filter.table()) {
            let news = WatchNews { cursor: Cursor::default(), event: WatchEvent::TableDropped };
            return self.ctx.effects.push(Effect::Watch { to: vec![id], news });
        }
        self.watch(|watches, ctx| watches.open(id, filter, cursor, list, ctx));
    }

    /// Ends all watches, where this node takes no requests.
    pub(super) fn end_watches(&mut self) {
        if self.membership.unready().is_some() {
            self.watch(Watches::end_all);
        }
    }
}
