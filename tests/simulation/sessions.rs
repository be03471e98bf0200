//! Requests of clients on their way to a node, and answers on their way back.

use quorate::protocol::{Input, Reply, RequestId, Time};

use crate::clients::{Done, Success, command, understand};
use crate::testkit::checker::{Action, Ending};
use crate::world::{Event, Host, Phase, World};

/// What an operation may take when nothing, or only a dead minority, is in its way.
const PROMPT: u64 = 5_000_000;

impl World {
    pub fn begin_operation(&mut self, client: usize) {
        let goes_on = match self.phase {
            Phase::Faults => self.clients.operations.len() < self.plan.operations_max,
            Phase::AllWell | Phase::MinorityDead => self.clients.all[client].quota > 0,
            Phase::Recovery | Phase::Over => false,
        };
        if !goes_on || self.clients.all[client].waits_for.is_some() {
            return;
        }
        let key = self.random.below(self.plan.keys);
        let node = *self.random.pick(&self.asked);
        let value = self.clients.operations.len() as u64;
        let action = if self.random.permille(self.plan.read_permille) {
            Action::Read { saw: None }
        } else if self.random.permille(self.plan.delete_permille) {
            Action::Delete
        } else {
            Action::Write { value }
        };
        let index = self.clients.begin(client, key, node, action, self.now);
        let deadline = if self.phase == Phase::Faults {
            self.now + *self.random.pick(&[30_000, 300_000, 1_000_000, 3_000_000])
        } else {
            self.clients.all[client].quota -= 1;
            self.clients.operations[index].must_succeed = true;
            self.now + PROMPT
        };
        self.clients.operations[index].deadline = deadline;
        self.counters.count("operations");
        let wait = self.within((50, 300));
        self.plan_in(wait, Event::Request { index, deadline });
        self.plan_at(deadline + 20_000, Event::GiveUp { index });
    }

    pub fn request(&mut self, index: usize, deadline: u64) {
        let Done { key, node, operation, .. } = &self.clients.operations[index];
        let (host, command) = (*node, command(self.keys[*key].clone(), operation.action));
        let Host { node, run, taken, .. } = &mut self.hosts[host.index()];
        if node.is_none() {
            // Nobody took the connection: it certainly did not happen.
            self.ends(index, &Err(Ending::Failed));
            return;
        }
        taken.insert(index, false);
        let input = Input::Request { id: RequestId(index as u64), deadline: Time(deadline), command };
        let run = *run;
        self.input(host, run, input);
    }

    pub fn reply(&mut self, index: usize, reply: Option<&Reply>) {
        if !self.clients.is_awaited(index) {
            return;
        }
        let result = match reply {
            Some(reply) => understand(reply, self.clients.operations[index].operation.action),
            None => Ok(Err(Ending::Unknown)),
        };
        match result {
            Ok(result) => {
                if result.is_err() && self.clients.operations[index].must_succeed {
                    let done = &self.clients.operations[index];
                    self.is_stuck(format!("{:?}: {done:?} failed with {reply:?}", self.phase));
                }
                self.ends(index, &result);
            }
            Err(what) => self.is_wrong(what),
        }
    }

    pub fn give_up(&mut self, index: usize) {
        if self.clients.is_awaited(index) {
            self.counters.count("a client went on without an answer");
            if self.clients.operations[index].must_succeed {
                let done = &self.clients.operations[index];
                self.is_stuck(format!("{:?}: {done:?} was not answered", self.phase));
            }
            self.ends(index, &Err(Ending::Unknown));
        }
    }

    pub fn ends(&mut self, index: usize, result: &Result<Success, Ending>) {
        let is_read = matches!(self.clients.operations[index].operation.action, Action::Read { .. });
        match result {
            Ok((None, Some(_))) if is_read => self.counters.count("a delete was seen"),
            Ok((_, Some(stamp))) if is_read && !self.watch.was_told(stamp) => {
                self.counters.count("a read returned what was never acknowledged");
            }
            Ok(_) => {}
            Err(_) if is_read => self.counters.count("a read failed"),
            Err(Ending::Unknown) => self.counters.count("a write of unknown outcome"),
            Err(_) => self.counters.count("a write failed for certain"),
        }
        if result.is_ok() {
            self.counters.count("operations that succeeded");
            if self.phase == Phase::MinorityDead {
                self.counters.count("operations with a minority dead");
            }
        }
        let failed = result.is_err();
        self.clients.end(index, result, self.now);
        let client = self.clients.operations[index].operation.client as usize;
        // Who fails at once would otherwise spend the run's operations while nothing can succeed.
        let pause = if failed { self.within((1_000, 60_000)) } else { 0 };
        let wait = pause + self.within(self.plan.think);
        self.plan_in(wait, Event::Begin { client });
        self.next_phase_if_done();
    }
}
