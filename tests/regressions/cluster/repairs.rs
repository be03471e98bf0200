//! What tests do with repair.

use std::time::Duration;

use quorate::protocol::placement::Placement;
use quorate::protocol::{Input, ProtocolEvent, ReadId, RepairOrder, RepairSettings};
use quorate::types::{NodeIndex, Removed, SlotRange, SlotRecord, TableId};

use crate::testkit::index::{slot_record, slots_page};

use super::{Cluster, Host};

/// Long enough for a step that everything is ready for.
const STEP: Duration = Duration::from_millis(10);

impl Cluster {
    /// Three replicas of everything that have all met, and repair what they differ about.
    pub fn repairing() -> Self {
        Self::with(3, 3, Some(RepairSettings::default()))
    }

    /// An operator wants something of the repair of all nodes.
    pub fn order_repair(&mut self, order: &RepairOrder) {
        for host in self.members() {
            self.input(host, Some(Input::Repair(order.clone())));
        }
    }

    /// From now on what reads of slots show does not reach the nodes.
    pub fn hold_slots(&mut self) {
        self.held_slots = Some(Vec::new());
    }

    /// Whether a node waits for what a read of slots shows.
    pub fn waits_for_slots(&self, host: NodeIndex) -> bool {
        self.held_slots.iter().flatten().any(|(reader, ..)| *reader == host)
    }

    /// What reads of slots have shown reaches the nodes.
    pub fn let_slots_go(&mut self) {
        for (host, read, page) in self.held_slots.take().unwrap_or_default() {
            self.input(host, Some(Input::SlotsRead { read, page: Some(page) }));
        }
    }

    /// A batch of a node fails and is on the disk all the same, as is seen when the store is reopened.
    pub fn fail_batch_that_is_on_disk(&mut self, host: NodeIndex) {
        self.hold_disk(host);
        self.write(host, 0);
        self.run_clock_rounds();
        let machine = &mut self.hosts[host.index()];
        let batch = machine.at_disk.take().expect("its record is on its way to the disk");
        machine.apply(&batch);
        machine.disk_is_held = false;
        let meta = machine.meta.clone();
        self.input(host, Some(Input::Persisted { durable: false }));
        self.input(host, Some(Input::StoreReopened(meta)));
        self.pass(STEP, &[host]);
    }

    /// Whether the leaves of a node are the sums over the records of its folder.
    pub fn leaves_are_true(&self, host: NodeIndex) -> bool {
        let records = self.hosts[host.index()].records.iter().map(|(key, record)| (key, record.digest()));
        self.node(host).repair().leaves().are_of(records, self.node(host).me(), self.node(host).layout())
    }

    /// Whether `host` tells people that it holds the same as `peer`.
    pub fn is_told_equal(&self, host: NodeIndex, peer: NodeIndex) -> bool {
        let report = self.node(host).repair().report(self.now);
        report.pairs.iter().any(|pair| pair.peer == peer && pair.equal_since.is_some())
    }

    /// How many keys were repaired by this node.
    pub fn repaired_by(&self, host: NodeIndex) -> usize {
        let is_repair = |note: &ProtocolEvent| matches!(note, ProtocolEvent::Repaired { .. });
        self.notes.iter().filter(|(noted, note)| *noted == host && is_repair(note)).count()
    }

    /// Lets everything happen for so long, as it does by itself.
    pub fn live(&mut self, span: Duration) {
        let (all, until) = (self.members(), self.now.after(span));
        let all: Vec<NodeIndex> = all.into_iter().filter(|member| self.hosts[member.index()].node.is_some()).collect();
        while self.now < until {
            self.run(&all);
            self.pass(STEP, &all);
        }
    }

    /// A node reads slots, and is told what is in them unless that is held.
    pub(super) fn slots_read(
        &mut self,
        host: NodeIndex,
        read: ReadId,
        range: &SlotRange,
        entries_max: usize,
    ) -> Option<Input> {
        let records = self.hosts[host.index()].records.iter();
        let mut page = slots_page(records, &self.placement, range, entries_max);
        let first = page.records.iter().position(|record| self.damaged.contains(&(host, record.key.clone())));
        if let Some(first) = first {
            page.records.remove(first);
            (page.damaged, page.intact) = (1, first);
        }
        if let Some(held) = &mut self.held_slots {
            held.push((host, read, page));
            return None;
        }
        Some(Input::SlotsRead { read, page: Some(page) })
    }
}

impl Host {
    /// Removes what the folder has of a dropped table.
    pub(super) fn clean(&mut self, table: TableId, placement: &Placement) -> Removed {
        let of_table = self.records.iter().filter(|(key, _)| key.table() == table);
        let digests: Vec<SlotRecord> = of_table.map(|(key, record)| slot_record(placement, key, record)).collect();
        self.records.retain(|key, _| key.table() != table);
        self.index.retain(|key| key.table() != table);
        self.kept_at.retain(|key, _| key.table() != table);
        self.expiries.retain(|expiry| expiry.key.table() != table);
        Removed { records: digests.len(), has_more: false, digests }
    }
}
