//! Clients of created tables: they create, write, read and drop a few by their names, through several doors of all nodes.
//!
//! What is judged: see testkit's `tables`. A drop that was answered is over for everybody who asks later, at every node and door.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate::types::{Condition, Version};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::asking::{DEADLINE_SLACK, Miss, value_of_request};
use crate::clients::{Done, LAST_READER, Workload};
use crate::doors::{Door, KEY, Node, TableAsk, TableSaid, ask_table};
use crate::judge::effects;
use crate::testkit::checker::{HARD_STEPS_MAX, Operation, STEPS_MAX, Verdict, describe, shorten};
use crate::testkit::requests::{self, Ask, Attempt, Outcome};
use crate::testkit::tables::{Heard, Transition, Word, history, transitions};

/// The clients of a round that use created tables.
pub(crate) const TABLE_CLIENTS: u32 = 4;
/// The names in use at one time.
const NAMES: usize = 2;
/// How long they are in use: short histories are checked fast.
const NAMES_LAST: Duration = Duration::from_secs(3);
const DEADLINE_MS: std::ops::Range<u64> = 1_000..2_000;
const THINK_MS: std::ops::Range<u64> = 0..10;
const THINK_AFTER_FAILURE_MS: std::ops::Range<u64> = 20..100;
/// How long an unfinished drop may keep a table without faults: whoever asks goes on with it.
const DROP_ENDS_WITHIN: Duration = Duration::from_secs(10);
const CALM_DEADLINE: Duration = Duration::from_secs(5);

/// What clients did with the tables of one name.
#[derive(Debug, Default)]
struct OfName {
    heard: Vec<Heard>,
    of_key: Vec<Done>,
}

/// The record of the clients of tables.
#[derive(Debug, Default)]
pub(crate) struct TableAccount {
    names: BTreeMap<usize, OfName>,
    pub(crate) outcomes: BTreeMap<&'static str, usize>,
    pub(crate) defects: Vec<String>,
}

struct Client<'a> {
    number: u32,
    workload: &'a Workload,
    random: StdRng,
    nodes: Vec<Node>,
    account: TableAccount,
    /// The last version that it was told of the key of a name.
    seen: BTreeMap<usize, Version>,
    /// The name that it was told last to stand for no table.
    missed: Option<usize>,
}

fn name(workload: &Workload, number: usize) -> String {
    format!("{}-t{number}", workload.name)
}

/// Runs one client until the round is over.
pub(crate) async fn run(workload: Arc<Workload>, number: u32, seed: u64, nodes: Vec<Node>) -> TableAccount {
    let random = StdRng::seed_from_u64(seed);
    let account = TableAccount::default();
    let mut client =
        Client { number, workload: &workload, random, nodes, account, seen: BTreeMap::default(), missed: None };
    while !workload.over.load(Ordering::Relaxed) {
        let done = client.work().await;
        let think = if done { THINK_MS } else { THINK_AFTER_FAILURE_MS };
        tokio::time::sleep(Duration::from_millis(client.random.random_range(think))).await;
    }
    client.account
}

impl Client<'_> {
    /// Does one thing. Returns whether it was answered.
    async fn work(&mut self) -> bool {
        let epoch = self.workload.began.elapsed().as_millis() / NAMES_LAST.as_millis();
        let epoch = usize::try_from(epoch).expect("a round is short");
        let of = epoch * NAMES + self.random.random_range(0..NAMES);
        let number = self.workload.fresh_number();
        let value = value_of_request(number);
        let ask = match (self.random.random_range(0..100), self.seen.get(&of)) {
            (0..60, _) if self.missed.take() == Some(of) => TableAsk::Create,
            (0..8, _) => TableAsk::Create,
            (8..14, _) => TableAsk::Drop,
            (14..26, Some(version)) => TableAsk::SetIf(version.clone(), value),
            (14..55, _) => TableAsk::Set(value),
            _ => TableAsk::Get,
        };
        let doors: Vec<Door> = Door::ALL.into_iter().filter(|door| ask.goes_through(*door)).collect();
        let door = doors[self.random.random_range(0..doors.len())];
        let node = self.nodes[self.random.random_range(0..self.nodes.len())].clone();
        let drawn = Duration::from_millis(self.random.random_range(DEADLINE_MS));
        let deadline = if self.workload.is_calm { 2 * CALM_DEADLINE } else { drawn };
        let said = self.account.ask(self.workload, self.number, of, (&node, door), (&ask, number), deadline).await;
        match &said {
            Ok(TableSaid::NoTable) => self.missed = Some(of),
            Ok(TableSaid::Value(_, Some(version)) | TableSaid::Wrote(Some(version))) => {
                self.seen.insert(of, version.clone());
            }
            _ => {}
        }
        said.is_ok()
    }
}

impl TableAccount {
    /// Makes one request, and records it.
    async fn ask(
        &mut self,
        workload: &Workload,
        client: u32,
        of: usize,
        (node, door): (&Node, Door),
        (ask, number): (&TableAsk, u64),
        deadline: Duration,
    ) -> Result<TableSaid, Miss> {
        let table = name(workload, of);
        let invoked = workload.now();
        let said = ask_table(node, door, &table, ask, deadline, deadline + DEADLINE_SLACK).await;
        let returned = Some(workload.now());
        self.count(counted(ask, &said));
        if let Err(Miss::Defect(what)) = &said {
            self.defects.push(format!("{ask:?} of table {table} by {door:?}: {what}"));
        }
        let OfName { heard, of_key } = self.names.entry(of).or_default();
        heard.extend(word(ask, &said).map(|word| Heard { client, invoked, returned, word }));
        let as_key = match ask {
            TableAsk::Create | TableAsk::Drop => return said,
            TableAsk::Get => Ask::Get,
            TableAsk::Set(_) => Ask::Set,
            TableAsk::SetIf(version, _) => {
                Ask::SetIf { condition: Condition::Version(version.clone()), deletes: false }
            }
        };
        let outcome = outcome(&said);
        of_key.push(Done { client, index: number, first: number, invoked, returned, ask: as_key, outcome });
        said
    }

    fn count(&mut self, what: &'static str) {
        *self.outcomes.entry(what).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (of, OfName { heard, of_key }) in other.names {
            let known = self.names.entry(of).or_default();
            known.heard.extend(heard);
            known.of_key.extend(of_key);
        }
        for (name, count) in other.outcomes {
            *self.outcomes.entry(name).or_default() += count;
        }
        self.defects.extend(other.defects);
    }

    /// Reads every table of the round through every node. Without faults, drops that nobody has ended come to an end.
    pub(crate) async fn read_all(&mut self, workload: &Workload, nodes: &[Node]) -> Result<(), String> {
        let names: Vec<usize> = self.names.keys().copied().collect();
        for of in names {
            let began = Instant::now();
            for (at, node) in nodes.iter().enumerate() {
                while let Err(miss) = {
                    let read = (&TableAsk::Get, workload.fresh_number());
                    self.ask(workload, LAST_READER, of, (node, Door::Grpc), read, CALM_DEADLINE).await
                } {
                    if began.elapsed() > DROP_ENDS_WITHIN {
                        let table = name(workload, of);
                        return Err(format!("table {table} cannot be read through node {at} after all faults: {miss}"));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        Ok(())
    }

    /// Checks the history of each name and of its key. Returns how many histories there were.
    pub(crate) fn judge(&self, workload: &Workload) -> Result<usize, String> {
        if let Some(defect) = self.defects.first() {
            return Err(format!("{} answers that no node may give; the first: {defect}", self.defects.len()));
        }
        for (of, OfName { heard, of_key }) in &self.names {
            let table = name(workload, *of);
            let wrong = |what: String| format!("table {table}: {what}");
            judged(&format!("the name {table}"), &history(heard).map_err(wrong)?)?;
            let changes = transitions(heard).map_err(wrong)?;
            judged(&format!("{KEY} of table {table}"), &of_one_key(of_key, &changes).map_err(wrong)?)?;
        }
        Ok(2 * self.names.len())
    }
}

/// The history of the key of a name, to which each creation and drop of a table is a deletion.
fn of_one_key(of_key: &[Done], transitions: &[Transition]) -> Result<Vec<Operation>, String> {
    let delete = Ask::Delete;
    let mut attempts: Vec<Attempt<'_>> = of_key.iter().map(Done::attempt).collect();
    let after = attempts.iter().map(|attempt| attempt.index).max().unwrap_or_default() + 1;
    attempts.extend(transitions.iter().zip(after..).map(|(transition, index)| {
        let Transition { client, invoked, returned, ref outcome } = *transition;
        Attempt { client, index, first: index, value: 0, invoked, returned, ask: &delete, outcome }
    }));
    requests::operations(&attempts, &effects(of_key)?, &[]).map_err(|(what, _)| what)
}

fn judged(what: &str, operations: &[Operation]) -> Result<(), String> {
    let mut verdict = requests::judge(operations, STEPS_MAX).0;
    if verdict == Verdict::NoVerdict {
        verdict = requests::judge(operations, HARD_STEPS_MAX).0;
    }
    if verdict == Verdict::Linearizable {
        return Ok(());
    }
    let is_wrong = verdict == Verdict::NotLinearizable;
    let mut shorter = if is_wrong { shorten(operations, STEPS_MAX) } else { Vec::new() };
    shorter.sort_by_key(|operation| operation.invoked);
    let lines: Vec<String> = shorter.iter().map(describe).collect();
    Err(format!("the history of {what} is {verdict:?}; shortened, in microseconds:\n  {}", lines.join("\n  ")))
}

/// What an answer says of the table.
fn word(ask: &TableAsk, said: &Result<TableSaid, Miss>) -> Option<Word> {
    let is_created = |version: &Version| version.table.is_created().then_some(Word::Is(version.table));
    match (ask, said) {
        (_, Ok(TableSaid::NoTable)) => Some(Word::IsMissing),
        (_, Ok(TableSaid::Table { id, is_new: true })) => Some(Word::Created(*id)),
        (_, Ok(TableSaid::Table { id, is_new: false })) => id.map(Word::Is),
        (_, Ok(TableSaid::Dropped)) => Some(Word::Dropped),
        (_, Ok(TableSaid::Value(_, version) | TableSaid::Wrote(version) | TableSaid::Declined { version, .. })) => {
            version.as_ref().and_then(is_created)
        }
        (TableAsk::Create, Err(Miss::Unknown(_))) => Some(Word::MayHaveCreated),
        (TableAsk::Drop, Err(Miss::Unknown(_))) => Some(Word::MayHaveDropped),
        (_, Err(_)) => None,
    }
}

/// What an answer says of the key.
fn outcome(said: &Result<TableSaid, Miss>) -> Outcome {
    match said.clone() {
        Ok(TableSaid::NoTable) => Outcome::Looked { has_value: false },
        Ok(TableSaid::Value(value, Some(version))) => Outcome::Saw { value, version },
        Ok(TableSaid::Value(value, None)) => Outcome::Read(value),
        Ok(TableSaid::Wrote(Some(version))) => Outcome::Wrote(version),
        Ok(TableSaid::Declined { version: Some(version), has_value }) => Outcome::Declined { version, has_value },
        Ok(TableSaid::Declined { version: None, has_value }) => Outcome::Looked { has_value },
        Ok(TableSaid::Wrote(None) | TableSaid::Table { .. } | TableSaid::Dropped) => Outcome::Done,
        Err(Miss::Failed(_) | Miss::Refused(_) | Miss::Revoked(_)) => Outcome::Failed,
        Err(Miss::Unknown(_) | Miss::Defect(_)) => Outcome::Unknown,
    }
}

fn counted(ask: &TableAsk, said: &Result<TableSaid, Miss>) -> &'static str {
    match (ask, said) {
        (_, Ok(TableSaid::NoTable)) => "answers that there is no table",
        (_, Ok(TableSaid::Table { is_new: true, .. })) => "tables created",
        (_, Ok(TableSaid::Table { .. })) => "tables that were there when they were to be created",
        (_, Ok(TableSaid::Dropped)) => "tables dropped",
        (_, Ok(TableSaid::Value(..))) => "reads of created tables",
        (_, Ok(TableSaid::Wrote(_) | TableSaid::Declined { .. })) => "writes of created tables",
        (TableAsk::Create | TableAsk::Drop, Err(Miss::Unknown(_))) => "creations and drops of unknown outcome",
        (_, Err(Miss::Unknown(_))) => "writes of created tables of unknown outcome",
        (_, Err(_)) => "requests about created tables that failed",
    }
}
