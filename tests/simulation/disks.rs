//! Batches on their way to disks, and disks that fail.

use std::sync::Arc;

use quorate::protocol::Input;
use quorate::types::{Batch, NodeIndex, Record};

use crate::clients::{operation_of_token, operation_of_value, value_of};
use crate::disk::Health;
use crate::world::{Event, World};

impl World {
    pub fn persist(&mut self, host: NodeIndex, run: u64, batch: Arc<Batch>) {
        let result = self.watch.persists(&batch, self.now, &mut self.counters);
        self.check(result);
        self.check_expiries();
        for (_, record) in batch.records.values() {
            self.is_stored(host, record);
        }
        self.counters.count("batches");
        let slow = self.hosts[host.index()].disk.slow_until > self.now;
        let wait = self.within(self.plan.disk) * if slow { 50 } else { 1 };
        let disk = &mut self.host(host).disk;
        if disk.in_flight.replace(batch).is_some() || disk.broken {
            self.is_wrong(format!("{host:?} gave its disk a batch that it cannot take now"));
        }
        self.plan_in(wait, Event::Persisted { host, run });
    }

    pub fn persisted(&mut self, host: NodeIndex, run: u64) {
        let now = self.now;
        let machine = &mut self.hosts[host.index()];
        if machine.run != run {
            return;
        }
        let Some(batch) = machine.disk.in_flight.take() else { return };
        let fails = match machine.disk.health {
            Health::Well => false,
            Health::FailsOnce => true,
            Health::FailsUntil(until) => now < until,
        };
        if !fails {
            self.apply(host, &batch);
            let wait = self.within(self.plan.disk_answer);
            if wait > 0 && !batch.records.is_empty() {
                self.counters.count("a record became durable before its node knew");
            }
            self.plan_in(wait, Event::Input { host, run, input: Input::Persisted { durable: true } });
            return;
        }
        if machine.disk.health == Health::FailsOnce {
            machine.disk.health = Health::Well;
        }
        machine.disk.broken = true;
        match self.random.below(3) {
            0 => self.counters.count("a batch failed and was not on disk"),
            1 => {
                self.counters.count("a batch failed and was on disk all the same");
                self.host(host).disk.hidden = Some(batch);
            }
            _ => {
                self.counters.count("a batch failed and was on disk all the same");
                self.apply(host, &batch);
            }
        }
        let wait = self.within(self.plan.disk_answer);
        self.plan_in(wait, Event::Input { host, run, input: Input::Persisted { durable: false } });
        let reopen = wait + self.within((1_000, 500_000));
        self.plan_in(reopen, Event::Reopen { host, run });
    }

    pub fn reopen(&mut self, host: NodeIndex, run: u64) {
        if self.hosts[host.index()].run != run {
            return;
        }
        if let Some(batch) = self.host(host).disk.hidden.take() {
            self.apply(host, &batch);
        }
        let disk = &mut self.host(host).disk;
        disk.broken = false;
        let input = Input::StoreReopened(disk.folder.meta.clone());
        self.input(host, run, input);
    }

    pub fn apply(&mut self, host: NodeIndex, batch: &Batch) {
        for (key, (_, record)) in &batch.records {
            self.watch.is_durable(host, key, record, self.now);
        }
        let placement = Arc::clone(&self.placement);
        let result = self.hosts[host.index()].disk.apply(batch, &placement);
        self.check(result.map_err(|what| format!("{host:?}: {what}")));
    }

    /// A record that a client wrote through `host` leaves the hands of its coordinator.
    pub fn is_stored(&mut self, host: NodeIndex, record: &Record) {
        let tag = record.tag();
        if Some(&tag.ballot.unwrap_or(tag.stamp).writer) != self.writer_of(host).as_ref() {
            return;
        }
        let index = match record.proposal.as_deref().and_then(|proposal| proposal.recent.last()) {
            Some(applied) => operation_of_token(applied.token),
            None => value_of(&record.content).ok().flatten().and_then(operation_of_value),
        };
        if let Some(is_stored) = index.and_then(|index| self.host(host).taken.get_mut(&index)) {
            *is_stored = true;
        }
    }
}
