//! From faults to calm, and what must work then.

use quorate::protocol::Node;
use quorate::types::{NodeIndex, ReadKind};

use crate::disk::{Disk, Health};
use crate::members::{self, says_it_is_none};
use crate::world::{Event, Phase, World};

/// How long the world gets to recover once all faults have stopped: the slowest of the protocol's repetitions, some times.
const RECOVERY: u64 = 12_000_000;
/// How long it gets where clients watch: one that goes on at another node some seconds later waits for a node that its cursor
/// names. It is told after ten seconds of silence that it begins anew, and is then told what is there.
const RECOVERY_WITH_WATCHERS: u64 = 25_000_000;
/// How long it gets where values expire: what restarts forgot of the nodes' counts, the time to live, five seconds for each
/// replica that may have a place before, and some sweeps.
const RECOVERY_WITH_EXPIRIES: u64 = 60_000_000;
/// How long it gets where tables are dropped: a table whose records could not be removed is looked at again after ten seconds.
const RECOVERY_WITH_TABLES: u64 = 30_000_000;
/// How long the live replicas may take until they hold the same, without any operation: some comparisons of each pair, one
/// after the other, and what values that expire then still change.
const LEVEL_WITHIN: u64 = 120_000_000;
/// How often it is looked whether they do.
const LEVEL_LOOKS_EVERY: u64 = 500_000;
/// How many operations each client does when nothing, or only a dead minority, is in its way.
const PROMPT_OPERATIONS: usize = 3;

impl World {
    pub fn calm(&mut self) {
        self.phase = Phase::Recovery;
        self.links.heal_all();
        for host in self.members() {
            let machine = self.host(host);
            machine.dies_after = None;
            machine.paused_until = 0;
            machine.disk.health = Health::Well;
            machine.disk.slow_until = 0;
            machine.disk.unreadable_until = 0;
            if machine.node.is_none() {
                self.plan_in(0, Event::Start { host });
            } else {
                // A turn that was put off by a pause comes now.
                self.host(host).turn_planned = false;
                self.plan_turn(host);
            }
            for peer in self.members() {
                if peer != host {
                    self.relink_if(host, peer, false);
                }
            }
        }
        self.plan_in(0, Event::Operate);
        let recovery = match self.plan.ttl_permille {
            _ if self.changes.is_on => members::RECOVERY,
            1.. => RECOVERY_WITH_EXPIRIES,
            0 if self.tables.any() => RECOVERY_WITH_TABLES,
            0 if self.watchers.any() => RECOVERY_WITH_WATCHERS,
            0 => RECOVERY,
        };
        self.plan_in(recovery, Event::AllWell);
    }

    pub fn all_well(&mut self) {
        for host in self.members() {
            let machine = &self.hosts[host.index()];
            let unready = machine
                .node
                .as_ref()
                .map_or_else(|| Some("dead".to_owned()), |node| node.unready().map(|unready| format!("{unready:?}")));
            let is_idle = |node: &Node| {
                (node.inspect().is_idle() || node.repair().is_busy() || node.tombstones().is_busy())
                    && node.tables().is_idle()
            };
            if machine.node.as_ref().is_some_and(|node| !is_idle(node)) {
                let node = machine.node.as_ref().map(|node| node.inspect().describe());
                self.is_stuck(format!("{host:?} is busy with operations that nobody waits for {node:?}"));
                return;
            }
            // One that was removed before it was bootstrapped knows its cluster by all first members.
            let meta = &machine.disk.folder.meta;
            let knows_its_cluster = meta.bootstrapped || meta.peers.len() + 1 >= self.plan.nodes;
            let is_none = says_it_is_none(machine.node.as_ref().and_then(Node::unready).as_ref()) || !knows_its_cluster;
            let is_forgetful = machine.is_forgetful;
            if !self.is_member_in_the_end(host) {
                if !is_none {
                    self.is_wrong(format!("{host:?} is no member, and says {unready:?}"));
                }
                continue;
            }
            match (is_forgetful, unready) {
                (false, Some(unready)) => {
                    self.is_stuck(format!("{host:?} does not recover once all faults have stopped: {unready}"));
                }
                (true, None) => self.is_wrong(format!("{host:?} has forgotten what it acknowledged, and is ready")),
                _ => {}
            }
        }
        self.serves_in_the_end();
        self.values_are_gone();
        self.space_is_given_back();
        self.watchers_know_all();
        self.asked.retain(|host| !self.hosts[host.index()].is_forgetful);
        self.begin_phase(Phase::AllWell);
    }

    pub fn next_phase_if_done(&mut self) {
        let idle = self.clients.all.iter().all(|client| client.waits_for.is_none() && client.quota == 0);
        match self.phase {
            Phase::AllWell if idle => {
                let forgetful = |host: &&NodeIndex| self.hosts[host.index()].is_forgetful;
                let lost = if self.changes.is_on { 0 } else { self.members().iter().filter(forgetful).count() };
                let mut victims = self.asked.clone();
                self.random.shuffle(&mut victims);
                victims.truncate(self.plan.losses_max - lost);
                if victims.is_empty() {
                    self.becomes_level();
                    return;
                }
                self.asked.retain(|host| !victims.contains(host));
                let wait = self.within((0, 20_000));
                self.plan_in(wait, Event::MinorityDies { victims });
                self.begin_phase(Phase::MinorityDead);
            }
            Phase::MinorityDead if idle => self.becomes_level(),
            _ => {}
        }
    }

    /// Nobody asks for anything any more. Where nodes repair, the live replicas of each key come to hold the same.
    fn becomes_level(&mut self) {
        if self.plan.repair.is_none() {
            self.phase = Phase::Over;
            return;
        }
        self.phase = Phase::BecomesLevel { until: self.now + LEVEL_WITHIN };
        self.plan_in(0, Event::LooksLevel);
    }

    pub fn looks_level(&mut self) {
        let Phase::BecomesLevel { until } = self.phase else { return };
        let differing = self.differing();
        match differing {
            None => {
                self.counters.count("replicas became level without a read");
                self.phase = Phase::Over;
            }
            Some(what) if self.now >= until => self.is_stuck(what),
            Some(_) => {
                self.counters.count("replicas were not level yet");
                self.plan_in(LEVEL_LOOKS_EVERY, Event::LooksLevel);
            }
        }
    }

    /// What the live replicas do not agree about, or a leaf that is not the sum over its records.
    fn differing(&self) -> Option<String> {
        let live = |host: &NodeIndex| {
            let machine = &self.hosts[host.index()];
            let node = machine.node.as_ref().filter(|_| !machine.is_forgetful)?;
            node.unready().is_none().then_some((node, &machine.disk))
        };
        for key in &self.keys {
            let slot = self.placement.slot(key);
            let replicas = self.replicas_of(slot);
            let without_sealed = |disk: &Disk| {
                let digest = disk.read(key, ReadKind::Digest).lookup.digest();
                digest.filter(|digest| !digest.is_sealed_away(disk.folder.meta.seals.get(&slot).copied()))
            };
            let held: Vec<_> = replicas.iter().filter_map(live).map(|(_, disk)| without_sealed(disk)).collect();
            // Where all replicas are there, deletions are forgotten.
            let forget = self.plan.repair.as_ref().is_some_and(|repair| repair.tombstones.is_some());
            let disks = || replicas.iter().filter_map(live).map(|(_, disk)| disk);
            let is_deletion = |disk: &Disk| disk.folder.records.get(key).is_some_and(|record| !record.is_value());
            if forget && disks().count() == replicas.len() && disks().any(is_deletion) {
                return Some(format!("the deletion of {key} is not forgotten: {held:?}"));
            }
            if held.windows(2).any(|pair| pair[0] != pair[1]) {
                return Some(format!("the live replicas of {key} do not come to hold the same: {held:?}"));
            }
        }
        for host in self.members() {
            let Some((node, disk)) = live(&host) else { continue };
            let records = disk.folder.records.iter().map(|(key, record)| (key, record.digest()));
            if !node.repair().leaves().are_of(records, node.me(), node.layout()) {
                return Some(format!("the leaves of {host:?} are not the sums over its records"));
            }
        }
        None
    }

    pub fn begin_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.tables.phase_began_at = self.now;
        for client in 0..self.clients.all.len() {
            self.clients.all[client].quota = PROMPT_OPERATIONS;
            self.plan_in(0, Event::Begin { client });
        }
    }
}
