//! What goes wrong, and when: the next fault is drawn from those that the plan allows.

use quorate::types::NodeIndex;

use crate::disk::{Disk, Health};
use crate::plan::Fault;
use crate::world::{Event, Phase, World, random_identity};

impl World {
    pub fn next_fault(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        let fault = *self.random.pick(&self.plan.faults);
        if self.strike(fault) {
            self.counters.count("faults");
            self.counters.count(fault.name());
        }
        let wait = self.within(self.plan.fault_every);
        self.plan_in(wait, Event::Fault);
    }

    /// Whether it could be done.
    fn strike(&mut self, fault: Fault) -> bool {
        let members = self.members();
        let host = *self.random.pick(&members);
        let lasts = *self.random.pick(&[5_000, 100_000, 600_000, 2_000_000]);
        let lasts = self.within((lasts / 2, lasts));
        let mut mixed = members.clone();
        self.random.shuffle(&mut mixed);
        let (few, many) = mixed.split_at(members.len() / 2);
        match fault {
            Fault::Crash => return self.die(host),
            Fault::CrashWithinTurn => {
                let after = self.random.below(6);
                self.host(host).dies_after = Some(after);
            }
            Fault::CrashMany => {
                let victims = if self.random.permille(300) { &members[..] } else { many };
                for victim in victims {
                    self.die(*victim);
                }
            }
            Fault::Split => self.cut_for(both_ways(few, many), lasts),
            Fault::Isolate => {
                let others: Vec<NodeIndex> = members.into_iter().filter(|other| *other != host).collect();
                self.cut_for(both_ways(&[host], &others), lasts);
            }
            Fault::OneWay => self.cut_for(vec![(mixed[0], mixed[1])], lasts),
            Fault::Bridge => self.cut_for(both_ways(few, &many[1..]), lasts),
            Fault::Flap => {
                let others: Vec<NodeIndex> = members.into_iter().filter(|other| *other != host).collect();
                let again = u32::try_from(self.random.between(2, 8)).expect("it is at most 8");
                self.cut(both_ways(&[host], &others), again);
            }
            Fault::Relink => {
                let (one, other) = (mixed[0], mixed[1]);
                for (from, to) in [(one, other), (other, one)] {
                    self.links.break_now(from, to, self.now);
                    self.relink_if(from, to, true);
                }
            }
            Fault::Loss => self.links.loss_until = self.now + lasts,
            Fault::SlowLinks => self.links.slow_until[host.index()] = self.now + lasts,
            Fault::SlowDisk => self.host(host).disk.slow_until = self.now + lasts,
            Fault::DiskFails => self.host(host).disk.health = Health::FailsOnce,
            Fault::DiskFull => self.host(host).disk.health = Health::FailsUntil(self.now + lasts),
            Fault::DiskUnreadable => self.host(host).disk.unreadable_until = self.now + lasts,
            Fault::Pause => self.host(host).paused_until = self.now + lasts,
            Fault::LoseFolder => return self.lose_folder(host),
            Fault::RestoreCopy => return self.restore_copy(host),
        }
        true
    }

    /// Dies, to come back; while it is dead, its folder may be copied.
    fn die(&mut self, host: NodeIndex) -> bool {
        if self.hosts[host.index()].node.is_none() {
            return false;
        }
        self.crash(host, true);
        if self.random.permille(300) {
            let disk = &mut self.host(host).disk;
            disk.copy = Some(disk.folder.clone());
        }
        true
    }

    /// A node that never bootstrapped has acknowledged nothing, and others that never bootstrapped would wait for it for ever.
    fn may_lose(&self, host: NodeIndex) -> bool {
        let lost = self.hosts.iter().filter(|host| host.is_forgetful).count();
        lost < self.plan.losses_max
            && !self.hosts[host.index()].is_forgetful
            && self.hosts.iter().all(|host| host.disk.folder.meta.bootstrapped)
    }

    fn lose_folder(&mut self, host: NodeIndex) -> bool {
        if !self.may_lose(host) || !self.die(host) {
            return false;
        }
        let store_id = random_identity(&mut self.random);
        let machine = self.host(host);
        machine.disk = Disk::empty(store_id);
        machine.is_forgetful = true;
        true
    }

    /// An older copy is recognised by those who met a later incarnation of it; nobody can recognise what nobody met, and that
    /// is not promised.
    fn restore_copy(&mut self, host: NodeIndex) -> bool {
        let Some(copy) = self.hosts[host.index()].disk.copy.clone() else {
            // Without one there is something to wait for: a death, during which it may be taken.
            self.die(host);
            return false;
        };
        let parameters = self.placement().parameters();
        let next_epoch = copy.meta.epoch + 1;
        let all_others_know = parameters
            .members()
            .filter(|other| *other != host)
            .all(|other| self.hosts[other.index()].disk.knows_of(parameters, host, next_epoch));
        if !all_others_know || !copy.meta.bootstrapped || !self.may_lose(host) || !self.die(host) {
            return false;
        }
        let machine = self.host(host);
        machine.disk.folder = copy;
        machine.is_forgetful = true;
        true
    }

    fn cut_for(&mut self, pairs: Vec<(NodeIndex, NodeIndex)>, lasts: u64) {
        self.cut_now(&pairs);
        self.plan_in(lasts, Event::Heal { pairs, again: 0 });
    }

    /// Cuts, to heal soon and come back so many times.
    pub fn cut(&mut self, pairs: Vec<(NodeIndex, NodeIndex)>, again: u32) {
        if self.phase != Phase::Faults {
            return;
        }
        self.cut_now(&pairs);
        let lasts = self.within((5_000, 150_000));
        self.plan_in(lasts, Event::Heal { pairs, again });
    }

    fn cut_now(&mut self, pairs: &[(NodeIndex, NodeIndex)]) {
        for (from, to) in pairs.iter().copied() {
            self.links.cut(from, to);
            let unnoticed = self.random.permille(300 + self.plan.unnoticed_permille);
            if self.links.is_linked(from, to) && !unnoticed {
                let wait = self.within((0, 200_000));
                self.tell(from, to, false, wait);
            }
        }
    }

    pub fn heal(&mut self, pairs: Vec<(NodeIndex, NodeIndex)>, again: u32) {
        if self.phase != Phase::Faults {
            return;
        }
        for (from, to) in pairs.iter().copied() {
            self.links.heal(from, to);
            let noticed = !self.random.permille(self.plan.unnoticed_permille);
            self.relink_if(from, to, noticed);
            self.relink_if(to, from, noticed);
        }
        if again > 0 {
            let wait = self.within((5_000, 150_000));
            self.plan_in(wait, Event::Cut { pairs, again: again - 1 });
        }
    }
}

fn both_ways(some: &[NodeIndex], others: &[NodeIndex]) -> Vec<(NodeIndex, NodeIndex)> {
    some.iter().flat_map(|one| others.iter().flat_map(|other| [(*one, *other), (*other, *one)])).collect()
}
