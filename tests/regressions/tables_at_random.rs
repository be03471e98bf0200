//! A created table under faults drawn from a seed: clients write, read, drop and create it by its name, while messages are late,
//! lost or repeated, disks are slow, and nodes die with what was not on their disks.
//!
//! The checker judges each key's history. A drop is one write of "absent". An answer that there is no table is a read of
//! an absence. A write whose table was dropped meanwhile may have happened.

use quorate::protocol::{Command, Failure, Reply};
use quorate::types::{
    AgedRecord, Change, ChangeRequest, Checksum, Condition, Content, IdempotencyToken, Key, NodeIndex, Table,
    TableName, TableSettings, Value, Version,
};
use std::time::Duration;

use crate::cluster::{Cluster, Unsynced};
use crate::testkit::checker::{self, Action, Ending, Operation, STEPS_MAX, Verdict, check, describe, shorten};
use crate::testkit::random::Random;

const CLIENTS: usize = 5;
const STEPS: usize = 2_500;
const SEEDS: u64 = 60;
/// How often a conditional write is sent again.
const TRIES_MAX: u32 = 4;

/// An operation of a client, ended or not.
#[derive(Clone)]
struct Call {
    request: usize,
    ask: Ask,
    /// Its place in the history.
    place: usize,
    /// The token of a conditional write.
    token: u64,
    /// How often it was sent before.
    tries: u32,
}

#[derive(Clone)]
enum Ask {
    Get,
    Set(u64),
    SetIf(Version, checker::Condition, u64),
    Create,
    Drop,
}

struct Run {
    random: Random,
    cluster: Cluster,
    history: Vec<Operation>,
    calls: Vec<Option<Call>>,
    /// The last version that each client saw, and what was there.
    seen: Vec<Option<(Version, Option<u64>)>>,
    /// Conditional writes of unknown outcome.
    again: Vec<Call>,
    tick: u64,
    last_value: u64,
    last_token: u64,
}

fn value_in(record: Option<&AgedRecord>) -> Option<u64> {
    match record.map(|record| &record.content) {
        Some(Content::Value(value)) => Some(std::str::from_utf8(value.bytes()).unwrap().parse().unwrap()),
        _ => None,
    }
}

/// Whether a failure leaves open if the write happened. An error that speaks of one try says nothing of those before it.
fn is_open(failure: &Failure, tries: u32) -> bool {
    match failure {
        Failure::OutcomeUnknown(_) | Failure::OutcomeForgotten | Failure::DroppedMeanwhile => true,
        Failure::ConditionFailed { .. } => false,
        _ => tries > 0,
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0x7AB1),
            cluster: Cluster::bootstrapped(3),
            history: Vec::new(),
            calls: vec![None; CLIENTS],
            seen: vec![None; CLIENTS],
            again: Vec::new(),
            tick: 0,
            last_value: 0,
            last_token: 0,
        }
    }

    fn up(&self) -> Vec<NodeIndex> {
        self.cluster.members().into_iter().filter(|member| self.cluster.is_up(*member)).collect()
    }

    fn begin(&mut self, client: usize) {
        let at = *self.random.pick(&self.up());
        self.tick += 1;
        if !self.again.is_empty() && self.random.permille(300) {
            let mut call = self.again.remove(0);
            call.tries += 1;
            call.request = self.send(at, &call, true);
            self.calls[client] = Some(call);
            return;
        }
        self.last_value += 1;
        let value = self.last_value;
        let ask = match (self.random.below(20), self.seen[client].clone()) {
            (0..6, _) => Ask::Get,
            (6..11, Some((version, there))) => {
                let condition = there.map_or(checker::Condition::Absent, checker::Condition::Value);
                Ask::SetIf(version, condition, value)
            }
            (6..15, _) => Ask::Set(value),
            (15..18, _) => Ask::Create,
            _ => Ask::Drop,
        };
        let action = match &ask {
            Ask::Get | Ask::Create => Action::Read { saw: None },
            Ask::Set(value) => Action::Write { value: *value },
            Ask::SetIf(_, condition, value) => Action::WriteIf { condition: *condition, value: Some(*value) },
            Ask::Drop => Action::Delete,
        };
        let place = self.history.len();
        let (invoked, ending) = (self.tick, Ending::Unknown);
        let of = u32::try_from(client).unwrap();
        self.history.push(Operation { client: of, invoked, action, ending, version: None });
        self.last_token += 1;
        let mut call = Call { request: 0, ask, place, token: self.last_token, tries: 0 };
        call.request = self.send(at, &call, false);
        self.calls[client] = Some(call);
    }

    fn send(&mut self, at: NodeIndex, call: &Call, is_resend: bool) -> usize {
        let name = TableName::new("t").unwrap();
        let key = Key::new("k").unwrap();
        let content = |value: u64| Content::Value(Value::Text(value.to_string().into()));
        let in_table = Table::Named(name.clone());
        let command = match &call.ask {
            Ask::Create => Command::CreateTable { name, settings: TableSettings::default() },
            Ask::Drop => Command::DropTable { name },
            Ask::Get => Command::Get { key }.in_table(&in_table),
            Ask::Set(value) => {
                let content = content(*value);
                let checksum = Checksum::of(&key, &content);
                Command::Set { key, content, ttl: None, checksum }.in_table(&in_table)
            }
            Ask::SetIf(version, _, value) => {
                let content = content(*value);
                let checksum = Checksum::of(&key, &content);
                let condition = Condition::Version(version.clone());
                let change = Change::Write { condition, content, ttl: None, checksum };
                let token = IdempotencyToken(u128::from(call.token).to_be_bytes());
                Command::Change { key, request: ChangeRequest { change, token, is_resend } }.in_table(&in_table)
            }
        };
        self.cluster.ask(at, command)
    }

    /// Takes the answers that have come.
    fn collect(&mut self) {
        for client in 0..CLIENTS {
            let Some(call) = self.calls[client].clone() else { continue };
            let Some(reply) = self.cluster.reply_to(call.request).cloned() else { continue };
            self.calls[client] = None;
            self.tick += 1;
            self.judge(client, &call, &reply);
        }
    }

    fn judge(&mut self, client: usize, call: &Call, reply: &Reply) {
        let now = self.tick;
        let place = call.place;
        let invoked = self.history[place].invoked;
        let mut end = |ending| self.history[place].ending = ending;
        match (&call.ask, reply) {
            (Ask::Get, Reply::Record(record)) => {
                let saw = value_in(record.as_ref());
                self.history[place].action = Action::Read { saw };
                self.history[place].ending = Ending::Returned(now);
                let version = record.as_ref().map_or_else(Version::absent, AgedRecord::version);
                self.seen[client] = Some((version, saw));
            }
            (Ask::Set(value) | Ask::SetIf(_, _, value), Reply::Set(version)) => {
                end(Ending::Returned(now));
                self.seen[client] = Some((version.clone(), Some(*value)));
            }
            (Ask::Create, Reply::Table { is_new: true, .. }) | (Ask::Drop, Reply::Dropped) => {
                end(Ending::Returned(now));
            }
            (Ask::Create, _) => end(Ending::Failed),
            (_, Reply::Failed(Failure::NoTable)) => {
                end(Ending::Failed);
                let (action, ending) = (Action::Read { saw: None }, Ending::Returned(now));
                let client = u32::try_from(client).unwrap();
                self.history.push(Operation { client, invoked, action, ending, version: None });
            }
            (Ask::Get, _) => end(Ending::Failed),
            (Ask::SetIf(..), Reply::Failed(failure)) if is_open(failure, call.tries) => {
                if call.tries < TRIES_MAX {
                    self.again.push(call.clone());
                }
            }
            (_, Reply::Failed(failure)) if is_open(failure, 0) => {}
            (_, Reply::Failed(_)) => end(Ending::Failed),
            (_, other) => panic!("it was answered with {other:?}"),
        }
    }

    fn step(&mut self) {
        let count = self.cluster.in_flight();
        match self.random.below(100) {
            0..62 if count > 0 => {
                // Most are not overtaken.
                let nth = if self.random.permille(700) { 0 } else { self.random.below(count) };
                self.cluster.deliver_nth(nth);
            }
            62..64 if count > 0 => {
                let nth = self.random.below(count);
                self.cluster.lose_nth(nth);
            }
            64..66 if count > 0 => {
                let nth = self.random.below(count);
                self.cluster.repeat_nth(nth);
            }
            66..78 => {
                let span = Duration::from_millis(self.random.between(1, 40));
                let up = self.up();
                self.cluster.pass(span, &up);
            }
            78..90 => {
                let client = self.random.below(CLIENTS);
                if self.calls[client].is_none() {
                    self.begin(client);
                }
            }
            90 if self.up().len() == 3 && self.random.permille(400) => {
                let member = *self.random.pick(&self.cluster.members());
                let unsynced = *self.random.pick(&[Unsynced::Lost, Unsynced::Kept]);
                self.cluster.crash(member, unsynced);
                // Nobody waits there any more.
                for client in 0..CLIENTS {
                    let is_lost = self.calls[client].is_some() && self.random.permille(300);
                    if is_lost && let Some(call) = self.calls[client].take() {
                        self.gives_up(call);
                    }
                }
            }
            91..93 => {
                let down = self.cluster.members().into_iter().find(|member| !self.cluster.is_up(*member));
                if let Some(member) = down {
                    self.cluster.start(member);
                }
            }
            93 => {
                let member = *self.random.pick(&self.up());
                self.cluster.hold_disk(member);
            }
            94..97 => {
                let member = *self.random.pick(&self.up());
                if self.random.permille(300) {
                    self.cluster.let_disk_go(member);
                } else if self.cluster.waits_at_disk(member) {
                    self.cluster.flush_disk(member);
                }
            }
            _ => {}
        }
        self.collect();
    }

    fn gives_up(&mut self, call: Call) {
        match call.ask {
            Ask::Get | Ask::Create => self.history[call.place].ending = Ending::Failed,
            Ask::SetIf(..) => self.again.push(call),
            Ask::Set(_) | Ask::Drop => {}
        }
    }

    /// All faults stop; each client reads at last.
    fn end(&mut self) {
        for member in self.cluster.members() {
            if self.cluster.is_up(member) {
                self.cluster.let_disk_go(member);
            } else {
                self.cluster.start(member);
            }
        }
        let all = self.cluster.members();
        for _ in 0..200 {
            self.cluster.run(&all);
            self.cluster.pass(Duration::from_millis(50), &all);
            self.collect();
        }
        for client in 0..CLIENTS {
            if let Some(call) = self.calls[client].take() {
                self.gives_up(call);
            }
        }
        for at in &all {
            self.calls[0] = None;
            self.tick += 1;
            let place = self.history.len();
            let (invoked, ending) = (self.tick, Ending::Unknown);
            let action = Action::Read { saw: None };
            self.history.push(Operation { client: 0, invoked, action, ending, version: None });
            let mut call = Call { request: 0, ask: Ask::Get, place, token: 0, tries: 0 };
            call.request = self.send(*at, &call, false);
            self.calls[0] = Some(call);
            for _ in 0..40 {
                self.cluster.run(&all);
                self.cluster.pass(Duration::from_millis(50), &all);
            }
            self.collect();
            assert!(self.calls[0].is_none(), "a read is answered once all is well");
        }
    }
}

/// Plays one seed, and judges what clients saw.
fn play(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.step();
    }
    run.end();
    let verdict = check(&run.history, STEPS_MAX);
    let short = || shorten(&run.history, STEPS_MAX).iter().map(describe).collect::<Vec<_>>();
    assert_eq!(verdict, Verdict::Linearizable, "seed {seed}: {:#?}", short());
}

#[test]
fn table_is_linearizable_whoever_drops_it() {
    (0..SEEDS).for_each(play);
}

/// The seeds find these too. The others need a node that misses a drop: tests/simulation draws that, and finds all of them.
#[cfg(feature = "mutants")]
#[test]
fn seeds_find_what_breaks_the_rules() {
    use crate::mutants::{each_is_found, tests};

    each_is_found(tests![
        DeletesAnyRecord: table_is_linearizable_whoever_drops_it,
        RetriedUnderNewId: table_is_linearizable_whoever_drops_it,
    ]);
}
