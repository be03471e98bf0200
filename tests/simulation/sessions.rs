//! Requests of clients on their way to a node, and answers on their way back.

use quorate::protocol::{Failure, Input, ListedKeys, Reply, RequestId, Time};
use quorate::types::{Condition, Version};

use crate::clients::{Done, listed};
use crate::testkit::requests::{Ask, Outcome};
use crate::world::{Event, Host, Phase, World};

/// What an operation may take when nothing, or only a dead minority, is in its way.
const PROMPT: u64 = 5_000_000;
/// The same with created tables: all clients of a table wait for its name together, and meet at one key then.
const PROMPT_WITH_TABLES: u64 = 15_000_000;

impl World {
    pub fn begin_operation(&mut self, client: usize) {
        let goes_on = match self.phase {
            Phase::Faults => self.clients.operations.len() < self.plan.operations_max,
            Phase::AllWell | Phase::MinorityDead => self.clients.all[client].quota > 0,
            Phase::Recovery | Phase::BecomesLevel { .. } | Phase::Over => false,
        };
        if !goes_on || self.clients.all[client].waits_for.is_some() {
            return;
        }
        let in_faults = self.phase == Phase::Faults;
        let again = self.clients.all[client].sends_again.take().filter(|_| in_faults);
        let node = *self.random.pick(&self.asked);
        let index = if let Some(again) = again {
            self.counters.count("a request was sent again");
            let Done { key, ask, first, .. } = self.clients.operations[again].clone();
            self.clients.begin(client, key, node, ask, Some(first), self.now)
        } else {
            let (key, ask) = self.draw_about_table(client).unwrap_or_else(|| {
                let key = self.random.below(self.plan.keys);
                (key, self.draw_ask(client, key))
            });
            self.clients.begin(client, key, node, ask, None, self.now)
        };
        let Done { first, key, .. } = self.clients.operations[index];
        if first == index && self.tables.name_at(key).is_none() {
            self.clients.operations[index].ttl = self.draw_ttl(index);
        }
        let deadline = if in_faults {
            self.now + *self.random.pick(&[30_000, 300_000, 1_000_000, 3_000_000])
        } else {
            self.clients.all[client].quota -= 1;
            self.clients.operations[index].must_succeed = true;
            self.now + if self.tables.any() { PROMPT_WITH_TABLES } else { PROMPT }
        };
        self.clients.operations[index].deadline = deadline;
        self.counters.count("operations");
        let wait = self.within((50, 300));
        self.plan_in(wait, Event::Request { index, deadline });
        let has_token = self.clients.operations[index].ask.has_token();
        let timeout = if in_faults && has_token && self.random.permille(self.plan.impatience_permille) {
            self.now + self.within((500, 50_000))
        } else {
            deadline + 20_000
        };
        self.plan_at(timeout, Event::GiveUp { index });
    }

    /// What a client does next with a key.
    fn draw_ask(&mut self, client: usize, key: usize) -> Ask {
        if self.random.permille(self.plan.conditional_permille) {
            return self.draw_conditional(client, key);
        }
        if self.random.permille(self.plan.read_permille) {
            if self.random.permille(self.plan.one_permille) {
                let versions = self.clients.all[client].versions.get(&key);
                let greatest =
                    versions.and_then(|versions| versions.iter().max_by_key(|version| (version.table, *version)));
                let greatest = greatest.cloned();
                let at_least = greatest.filter(|version| *version != Version::absent());
                return Ask::GetOne { at_least: at_least.filter(|_| self.random.permille(700)) };
            }
            if self.random.permille(self.plan.list_permille) {
                let keys_max = self.random.count(1, self.plan.keys);
                return Ask::List { keys_max, values: self.random.permille(500) };
            }
            Ask::Get
        } else if self.random.permille(self.plan.delete_permille) {
            Ask::Delete
        } else {
            Ask::Set
        }
    }

    fn draw_conditional(&mut self, client: usize, key: usize) -> Ask {
        let versions = self.clients.all[client].versions.get(&key).cloned().unwrap_or_default();
        // The number of operations decides, so that nothing is drawn.
        let seen_once =
            self.clients.all[client].seen_once.get(&key).filter(|_| self.clients.operations.len().is_multiple_of(3));
        let version = match versions.last() {
            _ if seen_once.is_some() => seen_once.cloned(),
            Some(last) if self.random.permille(800) => Some(last.clone()),
            Some(_) => Some(self.random.pick(&versions).clone()),
            None => None,
        };
        let delta = i64::try_from(self.clients.operations.len()).expect("there are few operations");
        let deletes = self.random.permille(self.plan.delete_permille);
        match (self.random.below(8), version) {
            (0..=2, Some(version)) => Ask::SetIf { condition: self.on_version(version, versions, deletes), deletes },
            (3 | 4, since @ Some(_)) => Ask::Add { delta, since },
            (5, _) => Ask::SetIf { condition: Condition::Present, deletes },
            (6, _) => Ask::SetIf { condition: Condition::Absent, deletes: false },
            _ => Ask::Add { delta, since: None },
        }
    }

    /// A condition on one version, or on a list, as HTTP has them. The number of operations decides, so that nothing is drawn.
    fn on_version(&self, version: Version, mut known: Vec<Version>, deletes: bool) -> Condition {
        match self.clients.operations.len() % 8 {
            0 | 1 => Condition::Among(known),
            2 | 3 => {
                known.retain(|known| *known != version);
                Condition::NotAmong { versions: known, needs_value: deletes }
            }
            _ => Condition::Version(version),
        }
    }

    pub fn request(&mut self, index: usize, deadline: u64) {
        let (host, command) = (self.clients.operations[index].node, self.command(index));
        // No earlier than the deadline of the client.
        let Time(before) = self.time_of(host, deadline);
        let deadline = Time(before + u64::from(self.true_time_of(host, Time(before)) < deadline));
        let Host { node, run, taken, .. } = &mut self.hosts[host.index()];
        if node.is_none() {
            // Nobody took the connection: it certainly did not happen.
            if self.clients.is_awaited(index) {
                self.ends(index, Outcome::Failed);
            }
            return;
        }
        taken.insert(index, false);
        let input = Input::Request { id: RequestId(index as u64), deadline, command };
        let run = *run;
        self.input(host, run, input);
    }

    pub fn reply(&mut self, index: usize, reply: Option<&Reply>) {
        let outcome = match reply {
            Some(Reply::Listed(page)) => self.takes_page(index, page),
            Some(reply) => self.understand(index, reply),
            None => Ok(Outcome::Unknown),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(what) => return self.is_wrong(what),
        };
        if !self.clients.is_awaited(index) {
            // It has given up, and sent its request again perhaps. All answers to one request must agree.
            if outcome.is_answer() {
                self.counters.count("a client was answered after it had given up");
                self.clients.end(index, outcome, self.now);
            }
            return;
        }
        // Others may change the key between two ballots of one request, so that nothing tells what became of the first.
        let Done { deadline, ref ask, .. } = self.clients.operations[index];
        let is_told_unknown =
            ask.has_token() && self.now < deadline && matches!(reply, Some(Reply::Failed(Failure::OutcomeForgotten)));
        let is_excused = is_told_unknown || self.meets_a_drop(index, reply);
        if !outcome.is_answer() && self.clients.operations[index].must_succeed && !is_excused {
            let done = &self.clients.operations[index];
            self.is_stuck(format!("{:?}: {done:?} failed with {reply:?}", self.phase));
        }
        self.ends(index, outcome);
    }

    /// A page is a read of each key that it reaches.
    fn takes_page(&mut self, index: usize, page: &ListedKeys) -> Result<Outcome, String> {
        let first = self.clients.operations[index].key;
        let outcome = listed(page, &self.keys[first])?.ok_or_else(|| format!("a page reaches no key: {page:?}"))?;
        self.counters.count("a page was listed");
        if page.looked_to.is_some() {
            self.counters.count("a page was cut off");
        }
        if self.clients.is_awaited(index) {
            self.page = Some((index, page.clone()));
        }
        Ok(outcome)
    }

    /// What an answered page says of the keys after its first one.
    fn takes_rest_of_page(&mut self, index: usize) {
        let Some((_, page)) = self.page.take().filter(|(of, _)| *of == index) else { return };
        let first = self.clients.operations[index].key;
        for key in first + 1..self.keys.len() {
            if self.tables.of(key) != self.tables.of(first) {
                return;
            }
            match listed(&page, &self.keys[key]) {
                Ok(Some(outcome)) => {
                    self.counters.count("a further key of a page");
                    self.clients.also_listed(index, key, outcome);
                }
                Ok(None) => {}
                Err(what) => self.is_wrong(what),
            }
        }
    }

    pub fn give_up(&mut self, index: usize) {
        if self.clients.is_awaited(index) {
            self.counters.count("a client went on without an answer");
            if self.clients.operations[index].must_succeed {
                let done = &self.clients.operations[index];
                self.is_stuck(format!("{:?}: {done:?} was not answered", self.phase));
            }
            self.ends(index, Outcome::Unknown);
        }
    }

    fn ends(&mut self, index: usize, outcome: Outcome) {
        let Done { client, key, ask, first, .. } = self.clients.operations[index].clone();
        self.count_outcome(key, &ask, first != index, &outcome);
        let (failed, is_unknown) = (!outcome.is_answer(), outcome == Outcome::Unknown);
        self.clients.end(index, outcome, self.now);
        self.takes_rest_of_page(index);
        if is_unknown && ask.has_token() && self.random.permille(700) {
            self.clients.all[client].sends_again = Some(index);
        }
        // Who fails at once would otherwise spend the run's operations while nothing can succeed.
        let pause = if failed { self.within((1_000, 60_000)) } else { 0 };
        let wait = pause + self.within(self.plan.think);
        self.plan_in(wait, Event::Begin { client });
        self.next_phase_if_done();
    }

    fn count_outcome(&mut self, key: usize, ask: &Ask, is_resend: bool, outcome: &Outcome) {
        let is_read = ask.is_read();
        let names_several =
            matches!(ask, Ask::SetIf { condition: Condition::Among(_) | Condition::NotAmong { .. }, .. });
        match outcome {
            _ if self.count_about_table(key, ask, outcome) => {}
            Outcome::Saw { value: None, version } if was_written(version) => {
                let (key, version) = self.stored(key, version);
                let is_expiry = self.watch.is_expiry(&key, &version);
                self.counters.count(if is_expiry { "an expiry was seen" } else { "a delete was seen" });
            }
            Outcome::Saw { .. } if matches!(ask, Ask::GetOne { at_least: Some(_) }) => {
                self.counters.count("a read of one replica had a version to reach");
            }
            Outcome::Saw { .. } if matches!(ask, Ask::GetOne { .. }) => {
                self.counters.count("a read of one replica had none");
            }
            Outcome::Saw { version, .. } if was_written(version) && !self.watch.was_told(version) => {
                self.counters.count("a read returned what was never acknowledged");
            }
            Outcome::Saw { .. } | Outcome::Listed(_) => {}
            Outcome::Read(_)
            | Outcome::Looked { .. }
            | Outcome::Done
            | Outcome::Summed(_)
            | Outcome::Refused
            | Outcome::Either => {
                unreachable!("the protocol tells versions")
            }
            Outcome::Wrote(_) | Outcome::Added { .. } if is_resend => {
                self.counters.count("a request that was sent again was answered");
            }
            Outcome::Wrote(_) if names_several => self.counters.count("a condition on a list held"),
            Outcome::Wrote(_) if ask.has_token() => self.counters.count("a condition held"),
            Outcome::Added { .. } => self.counters.count("an addition was made"),
            Outcome::Wrote(_) => {}
            Outcome::Declined { .. } if matches!(ask, Ask::Add { .. }) => {
                self.counters.count("an addition found no number");
            }
            Outcome::Declined { .. } if is_resend => {
                self.counters.count("a condition failed for a request that was sent again");
            }
            Outcome::Declined { .. } if names_several => self.counters.count("a condition on a list failed"),
            Outcome::Declined { .. } => self.counters.count("a condition failed"),
            Outcome::Failed | Outcome::Unknown if is_read => self.counters.count("a read failed"),
            Outcome::Unknown => self.counters.count("a write of unknown outcome"),
            Outcome::Failed => self.counters.count("a write failed for certain"),
        }
        if outcome.is_answer() {
            self.counters.count("operations that succeeded");
            if self.phase == Phase::MinorityDead {
                self.counters.count("operations with a minority dead");
            }
        }
    }
}

/// Whether a version is not that of a key which was never written.
fn was_written(version: &Version) -> bool {
    !version.stamp.is_none() || version.ballot.is_some()
}
