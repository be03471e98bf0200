//! Clients that read and write a few keys through all doors of all nodes, and record the history.
//!
//! Contract: an attempt is one request to one door of one node. A conditional write or an addition of unknown outcome may be
//! sent again over gRPC, to any node, under the same request id; some clients do so while a node still works on the first
//! attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::api;
use quorate::types::{Condition, Version};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::asking::{DEADLINE_SLACK, Kind, Miss, Page, Wish, ttl_of, value_of_request};
use crate::doors::{Door, Node, Response, ask, list};
use crate::testkit::requests::{Ask, Attempt, Outcome};

/// The keys in use at one time.
const KEYS: usize = 8;
/// How long a set of keys is in use. Short histories are checked fast, and few of their operations have an unknown outcome.
const KEYS_LAST: Duration = Duration::from_secs(3);
/// The deadline of an operation.
const DEADLINE_MS: std::ops::Range<u64> = 1_000..2_000;
/// The deadline of an operation in a round without faults, on a machine that may do other things too.
const CALM_DEADLINE: Duration = Duration::from_secs(10);
/// How long an impatient client waits.
const IMPATIENT_MS: std::ops::Range<u64> = 1..40;
/// The pause of a client after an operation.
const THINK_MS: std::ops::Range<u64> = 0..10;
/// The pause after a failed operation: nodes that are down refuse fast.
const THINK_AFTER_FAILURE_MS: std::ops::Range<u64> = 20..100;
/// How often a request is sent again at most.
const RESENDS_MAX: usize = 4;
/// The client that reads every key at the end of a round.
pub(crate) const LAST_READER: u32 = u32::MAX;
/// The client that deletes what has expired.
pub(crate) const EXPIRY: u32 = u32::MAX - 1;
/// The versions of a key that a client remembers.
const VERSIONS_KEPT: usize = 4;

/// The state that the clients of one round share.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The first part of its keys.
    pub(crate) name: String,
    /// The origin of all times.
    pub(crate) origin: Instant,
    /// The beginning of the round.
    pub(crate) began: Instant,
    /// The number of the last attempt, over all rounds.
    pub(crate) numbers: Arc<AtomicU64>,
    /// Set when the round is over.
    pub(crate) over: AtomicBool,
    /// Set when the watches of the round are over.
    pub(crate) watches_over: AtomicBool,
    /// Whether the round has no faults, so that no request may fail.
    pub(crate) is_calm: bool,
}

/// One attempt at a request, or what a page or a watch said of a key.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) client: u32,
    pub(crate) index: u64,
    pub(crate) first: u64,
    pub(crate) invoked: u64,
    pub(crate) returned: Option<u64>,
    pub(crate) ask: Ask,
    pub(crate) outcome: Outcome,
}

/// The record of one client.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// By key.
    pub(crate) histories: BTreeMap<usize, Vec<Done>>,
    /// The number of operations by outcome.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Answers that no node may give.
    pub(crate) defects: Vec<String>,
}

/// One client at work.
struct Client<'a> {
    number: u32,
    workload: &'a Workload,
    random: StdRng,
    nodes: Vec<Node>,
    account: Account,
    /// The latest versions that it was told, the newest last.
    versions: BTreeMap<usize, Vec<Version>>,
}

impl Kind {
    /// The kind of the key of this number.
    pub(crate) fn of(number: usize) -> Self {
        match number % KEYS {
            0 | 1 => Self::Plain,
            2..=4 => Self::Conditional,
            5 | 6 => Self::Counter,
            _ => Self::Expiring,
        }
    }
}

impl Done {
    /// As it is judged.
    pub(crate) fn attempt(&self) -> Attempt<'_> {
        let Self { client, index, first, invoked, returned, ref ask, ref outcome } = *self;
        let number = |number| usize::try_from(number).expect("it is small");
        let (index, first, value) = (number(index), number(first), value_of_request(first));
        Attempt { client, index, first, value, invoked, returned, ask, outcome }
    }
}

impl Workload {
    /// A workload without clients, for tests of those who judge.
    #[cfg(test)]
    pub(crate) fn of(name: &str) -> Self {
        let (origin, numbers) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (over, watches_over) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { name: name.to_owned(), origin, began: origin, numbers, over, watches_over, is_calm: false }
    }

    /// Now, in microseconds.
    pub(crate) fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }

    /// A number that no other attempt has.
    pub(crate) fn fresh_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The key of this number.
    pub(crate) fn key(&self, number: usize) -> String {
        format!("{}{}", self.prefix(number), number % KEYS)
    }

    /// The first part of the keys that are in use together with this one.
    fn prefix(&self, number: usize) -> String {
        format!("{}-{}-", self.name, number / KEYS)
    }

    /// The number of a key of the round's clients.
    pub(crate) fn number(&self, key: &str) -> Option<usize> {
        let (group, place) = key.strip_prefix(&self.name)?.strip_prefix('-')?.split_once('-')?;
        Some(group.parse::<usize>().ok()? * KEYS + place.parse::<usize>().ok().filter(|place| *place < KEYS)?)
    }

    /// Runs the client of number `number` until the round is over, through all `nodes`.
    pub(crate) async fn run(&self, number: u32, seed: u64, nodes: Vec<Node>) -> Account {
        let random = StdRng::seed_from_u64(seed ^ u64::from(number) << 32);
        let (account, versions) = (Account::default(), BTreeMap::new());
        let mut client = Client { number, workload: self, random, nodes, account, versions };
        while !self.over.load(Ordering::Relaxed) {
            let done = client.work().await;
            let think = if done { THINK_MS } else { THINK_AFTER_FAILURE_MS };
            tokio::time::sleep(Duration::from_millis(client.random.random_range(think))).await;
        }
        client.account
    }

    /// A read of the key, recorded in the account.
    pub(crate) async fn read(
        &self,
        client: u32,
        key: usize,
        (node, door): (&Node, Door),
        deadline: Duration,
        account: &mut Account,
    ) -> Result<Outcome, Miss> {
        let number = self.fresh_number();
        let wish = Wish { key: self.key(key), kind: Kind::of(key), ask: Ask::Get, number, is_resend: false, door };
        self.attempt(client, key, &wish, node, (deadline, deadline + DEADLINE_SLACK), account).await
    }

    /// Makes one attempt, and records it in the account.
    async fn attempt(
        &self,
        client: u32,
        key: usize,
        wish: &Wish,
        node: &Node,
        (deadline, timeout): (Duration, Duration),
        account: &mut Account,
    ) -> Result<Outcome, Miss> {
        let index = if wish.is_resend { self.fresh_number() } else { wish.number };
        let invoked = self.now();
        let said = ask(node, wish, deadline, timeout).await;
        let returned = self.now();
        if let Ok(Response { before: Some(before), .. }) = &said
            // It would make the histories of plain keys longer to judge.
            && (wish.kind != Kind::Plain || *before == Outcome::Read(None))
        {
            account.count("reads before writes that were told");
            let read = (Ask::List { keys_max: 1, values: false }, before.clone());
            account.histories.entry(key).or_default().push(self.told(client, invoked, returned, read));
        }
        let answer = said.map(|said| said.outcome);
        if answer.is_ok() {
            account.count(wish.door.answers());
        }
        let outcome = match &answer {
            Ok(outcome) => outcome.clone(),
            Err(Miss::Failed(_) | Miss::Refused(_) | Miss::Revoked(_)) => Outcome::Failed,
            Err(Miss::Unknown(_) | Miss::Defect(_)) => Outcome::Unknown,
        };
        match &answer {
            Err(Miss::Refused(_)) => account.count("requests with a token that the node did not know yet"),
            Err(Miss::Revoked(_)) => account.count("requests with a revoked token that were refused"),
            _ => {}
        }
        if let (Err(miss), true) = (&answer, self.is_calm)
            && !miss.is_for_others()
        {
            let what = format!("{:?} of {} by {:?}, without a fault", wish.ask, wish.key, wish.door);
            account.defects.push(format!("at {returned}, {what}: {miss}"));
        }
        account.count(outcome_of(&wish.ask, wish.is_resend, &outcome));
        if wish.is_resend {
            account.count("requests sent again");
        }
        if let (Outcome::Wrote(_) | Outcome::Done, Some(ttl)) = (&outcome, ttl_of(wish.number, wish.kind))
            && !is_deletion(&wish.ask)
        {
            let is_short = ttl < Duration::from_mins(1);
            account.count(if is_short { "writes that expire in the round" } else { "writes with a long time to live" });
        }
        if let Err(Miss::Defect(what)) = &answer {
            account.defects.push(format!("at {returned}, {:?} of {} by {:?}: {what}", wish.ask, wish.key, wish.door));
        }
        let (first, ask) = (wish.number, wish.ask.clone());
        let done = Done { client, index, first, invoked, returned: Some(returned), ask, outcome };
        account.histories.entry(key).or_default().push(done);
        answer
    }

    /// A page's or a watch's account of a key: a read, at some moment from `invoked` to `returned`.
    pub(crate) fn told(&self, client: u32, invoked: u64, returned: u64, (ask, outcome): (Ask, Outcome)) -> Done {
        let index = self.fresh_number();
        Done { client, index, first: index, invoked, returned: Some(returned), ask, outcome }
    }
}

impl Client<'_> {
    /// Does one thing. Returns whether it was answered.
    async fn work(&mut self) -> bool {
        let epoch = self.workload.began.elapsed().as_millis() / KEYS_LAST.as_millis();
        let epoch = usize::try_from(epoch).expect("a round is short");
        let key = epoch * KEYS + self.random.random_range(0..KEYS);
        if self.random.random_ratio(1, 25) {
            return self.list(key).await;
        }
        if self.random.random_ratio(1, 25) {
            // A read of one replica, which must not be older than what this client knows, if it says so.
            let known = self.versions.get(&key).and_then(|known| known.iter().max().cloned());
            let at_least = known.filter(|known| *known != Version::absent() && self.random.random_bool(0.7));
            return self.request(key, Ask::GetOne { at_least }).await;
        }
        let draw = self.random.random_range(0..100);
        let deletes = self.random.random_ratio(1, 4);
        let delta = self.random.random_range(1..1_000);
        let ask = match (Kind::of(key), draw) {
            (Kind::Plain, 0..50) | (Kind::Expiring, 0..45) | (Kind::Conditional, 0..30) | (Kind::Counter, 0..20) => {
                Ask::Get
            }
            (Kind::Plain, 50..88)
            | (Kind::Expiring, 45..85)
            | (Kind::Conditional, 30..45)
            | (Kind::Counter, 20..25) => Ask::Set,
            (Kind::Plain, _) | (Kind::Conditional, 45..52) | (Kind::Counter, 25..28) => Ask::Delete,
            (Kind::Conditional, 52..60) => Ask::SetIf { condition: Condition::Absent, deletes: false },
            (Kind::Conditional, 60..68) => Ask::SetIf { condition: Condition::Present, deletes },
            (Kind::Conditional, 68..72) | (Kind::Counter, 28..65) => Ask::Add { delta, since: None },
            (Kind::Counter, 65..93) => match self.version(key).await {
                Some(version) => Ask::Add { delta, since: Some(version) },
                None => return false,
            },
            (Kind::Expiring, 85..90) => Ask::SetIf { condition: Condition::Absent, deletes: false },
            (Kind::Conditional, 72..82) => match self.version(key).await {
                Some(version) => {
                    let named = self.some_versions(key, version);
                    let condition = if self.random.random_bool(0.6) {
                        Condition::Among(named)
                    } else {
                        // A deletion of no value is none.
                        Condition::NotAmong { versions: named, needs_value: deletes }
                    };
                    Ask::SetIf { condition, deletes }
                }
                None => return false,
            },
            _ => match self.version(key).await {
                Some(version) => Ask::SetIf { condition: Condition::Version(version), deletes },
                None => return false,
            },
        };
        self.request(key, ask).await
    }

    /// A version of the key: mostly the present one.
    async fn version(&mut self, key: usize) -> Option<Version> {
        if self.random.random_bool(0.4)
            && let Some(known) = self.versions.get(&key)
        {
            return Some(known[self.random.random_range(0..known.len())].clone());
        }
        let is_answered = self.request(key, Ask::Get).await;
        self.versions.get(&key).filter(|_| is_answered)?.last().cloned()
    }

    /// This version, mostly, and some others of the key.
    fn some_versions(&mut self, key: usize, version: Version) -> Vec<Version> {
        let mut named = self.versions.get(&key).cloned().unwrap_or_default();
        named.retain(|known| *known != version);
        named.truncate(2);
        if named.is_empty() || self.random.random_bool(0.7) {
            named.push(version);
        }
        named
    }

    /// The door for a request: each of those that take it, and gRPC more often, because it tells the most.
    fn door(&mut self, ask: &Ask, number: u64, kind: Kind) -> Door {
        let doors: Vec<Door> = Door::ALL.into_iter().filter(|door| door.takes(ask, number, kind)).collect();
        if doors.contains(&Door::Grpc) && self.random.random_bool(0.3) {
            return Door::Grpc;
        }
        doors[self.random.random_range(0..doors.len())]
    }

    /// The deadline of the next request.
    fn deadline(&mut self) -> Duration {
        let drawn = Duration::from_millis(self.random.random_range(DEADLINE_MS));
        if self.workload.is_calm { CALM_DEADLINE } else { drawn }
    }

    /// Sends a request until its outcome is known, or a little less long. Returns whether it was answered.
    async fn request(&mut self, key: usize, ask: Ask) -> bool {
        let (number, kind) = (self.workload.fresh_number(), Kind::of(key));
        let door = self.door(&ask, number, kind);
        let mut wish = Wish { key: self.workload.key(key), kind, ask, number, is_resend: false, door };
        for _ in 0..=RESENDS_MAX {
            let node = self.nodes[self.random.random_range(0..self.nodes.len())].clone();
            let deadline = self.deadline();
            let is_impatient = !self.workload.is_calm && wish.ask.has_token() && self.random.random_ratio(1, 10);
            let timeout = if is_impatient {
                Duration::from_millis(self.random.random_range(IMPATIENT_MS))
            } else {
                deadline + DEADLINE_SLACK
            };
            let times = (deadline, timeout);
            let answer = self.workload.attempt(self.number, key, &wish, &node, times, &mut self.account).await;
            match answer {
                Ok(outcome) => {
                    // The record of one replica may never have taken effect.
                    if !matches!(wish.ask, Ask::GetOne { .. }) {
                        self.remember(key, &outcome);
                    }
                    return true;
                }
                Err(Miss::Unknown(_))
                    if wish.door == Door::Grpc && wish.ask.has_token() && self.random.random_ratio(9, 10) =>
                {
                    wish.is_resend = true;
                }
                // No process listened. What became of the earlier attempts is still unknown.
                Err(Miss::Failed(_)) if wish.is_resend => {
                    tokio::time::sleep(Duration::from_millis(self.random.random_range(THINK_AFTER_FAILURE_MS))).await;
                }
                Err(_) => return false,
            }
        }
        false
    }

    fn remember(&mut self, key: usize, outcome: &Outcome) {
        let Some(version) = outcome.version() else { return };
        let known = self.versions.entry(key).or_default();
        known.retain(|known| known != version);
        known.push(version.clone());
        if known.len() > VERSIONS_KEPT {
            known.remove(0);
        }
    }

    /// Lists the keys that are in use, all at once or a few at a time. Each page is a read of each key that it reaches.
    async fn list(&mut self, key: usize) -> bool {
        let (workload, prefix) = (self.workload, self.workload.prefix(key));
        let group: Vec<usize> = (0..KEYS).map(|place| key / KEYS * KEYS + place).collect();
        let (limit, values) = (*[0, 0, 3, 5].get(self.random.random_range(0..4)).unwrap_or(&0), self.random.random());
        let mut start_after = String::new();
        loop {
            let node = self.nodes[self.random.random_range(0..self.nodes.len())].clone();
            let deadline = self.deadline();
            let request = api::ListRequest {
                prefix: prefix.clone(),
                start_after: start_after.clone(),
                limit,
                values,
                ..Default::default()
            };
            let kind_of = |key: &str| workload.number(key).map_or(Kind::Plain, Kind::of);
            let invoked = workload.now();
            let (pages, ended) = list(&node, request, kind_of, || workload.now(), deadline).await;
            let is_empty = pages.is_empty();
            let mut goes_on = false;
            for (page, returned) in pages {
                self.account.count("list pages");
                for place in &group {
                    let name = workload.key(*place);
                    if name <= start_after || page.looked_to.as_ref().is_some_and(|looked_to| name > *looked_to) {
                        continue;
                    }
                    let named = page.named.iter().find(|(key, ..)| *key == name);
                    let named = named.map(|(_, value, version)| (*value, version.clone()));
                    self.account.count("keys read by a list");
                    let said = (Ask::List { keys_max: KEYS, values }, Outcome::Listed(named));
                    let done = workload.told(self.number, invoked, returned, said);
                    self.account.histories.entry(*place).or_default().push(done);
                }
                let Page { named, looked_to } = page;
                if let Some((key, ..)) =
                    named.iter().find(|(key, ..)| !group.iter().any(|of| workload.key(*of) == *key))
                {
                    self.account.defects.push(format!("at {returned}, a list of {prefix} names {key}"));
                }
                goes_on = looked_to.is_some();
                start_after = looked_to.unwrap_or_default();
            }
            match ended {
                Err(Miss::Defect(what)) => self.account.defects.push(format!("a list of {prefix}: {what}")),
                Err(miss) if workload.is_calm => {
                    self.account.defects.push(format!("a list of {prefix}, without a fault: {miss}"));
                }
                Err(_) => self.account.count("lists that failed"),
                Ok(()) if is_empty => self.account.defects.push(format!("a list of {prefix} has no page")),
                Ok(()) if goes_on => continue,
                Ok(()) => {
                    self.account.count("lists that reached the end");
                    return true;
                }
            }
            return false;
        }
    }
}

impl Account {
    /// Counts an event.
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// Adds the record of another client.
    pub(crate) fn merge(&mut self, other: Self) {
        for (key, operations) in other.histories {
            self.histories.entry(key).or_default().extend(operations);
        }
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.defects.extend(other.defects);
    }
}

fn is_deletion(ask: &Ask) -> bool {
    matches!(ask, Ask::Delete | Ask::SetIf { deletes: true, .. })
}

/// The outcome of an attempt, for the report.
fn outcome_of(ask: &Ask, is_resend: bool, outcome: &Outcome) -> &'static str {
    let deletes = is_deletion(ask);
    match outcome {
        Outcome::Saw { .. } if matches!(ask, Ask::GetOne { at_least: Some(_) }) => {
            "reads of one replica with a version"
        }
        Outcome::Saw { .. } if matches!(ask, Ask::GetOne { .. }) => "reads of one replica",
        Outcome::Read(_) if deletes => "deletes that found nothing",
        Outcome::Saw { .. } | Outcome::Listed(_) | Outcome::Read(_) => "reads that returned",
        Outcome::Done if !ask.has_token() && deletes => "deletes acknowledged",
        Outcome::Done if !ask.has_token() => "writes acknowledged",
        Outcome::Done => "conditional deletes that took effect",
        Outcome::Summed(_) => "additions made",
        Outcome::Refused => "conditions if_version that failed",
        Outcome::Either if deletes => "deletes of what there is",
        Outcome::Either => "writes unless there is a value",
        Outcome::Looked { has_value: false } => "conditions that found no value, whose version is not told",
        Outcome::Looked { .. } if matches!(ask, Ask::Add { .. }) => "additions declined",
        Outcome::Looked { .. } => "conditions if_absent that failed",
        Outcome::Wrote(_) | Outcome::Added { .. } | Outcome::Declined { .. } if is_resend => {
            "requests sent again that were answered"
        }
        Outcome::Wrote(_) if !ask.has_token() && deletes => "deletes acknowledged",
        Outcome::Wrote(_) if !ask.has_token() => "writes acknowledged",
        Outcome::Wrote(_) if deletes => "conditional deletes that took effect",
        Outcome::Wrote(_) => match ask {
            Ask::SetIf { condition: Condition::Version(_), .. } => "writes whose if_version held",
            Ask::SetIf { condition: Condition::Absent, .. } => "writes whose if_absent held",
            Ask::SetIf { condition: Condition::Among(_), .. } => "writes whose list named the version",
            Ask::SetIf { condition: Condition::NotAmong { .. }, .. } => "writes whose list did not name the version",
            _ => "writes whose if_present held",
        },
        Outcome::Added { .. } if matches!(ask, Ask::Add { since: Some(_), .. }) => "additions with since made",
        Outcome::Added { .. } => "additions made",
        Outcome::Declined { .. } => match ask {
            Ask::SetIf { condition: Condition::Version(_), .. } => "conditions if_version that failed",
            Ask::SetIf { condition: Condition::Absent, .. } => "conditions if_absent that failed",
            Ask::SetIf { condition: Condition::Among(_) | Condition::NotAmong { .. }, .. } => {
                "lists of versions that failed"
            }
            Ask::SetIf { .. } => "conditions if_present that failed",
            _ => "additions declined",
        },
        Outcome::Failed | Outcome::Unknown if ask.is_read() => "reads that failed",
        Outcome::Failed if is_resend => "requests sent again that did not arrive",
        Outcome::Unknown if is_resend => match ask {
            Ask::SetIf { condition: Condition::Version(_), .. } | Ask::Add { since: Some(_), .. } => {
                "requests sent again of unknown outcome, with if_version or since"
            }
            // These are not run again: a node only looks for an earlier try.
            _ => "requests sent again of unknown outcome",
        },
        Outcome::Failed if ask.has_token() => "conditional writes and additions certainly not applied",
        Outcome::Unknown if ask.has_token() => "conditional writes and additions of unknown outcome",
        Outcome::Failed => "writes and deletes certainly not applied",
        Outcome::Unknown => "writes and deletes of unknown outcome",
    }
}

/// In microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a run is shorter than five hundred thousand years")
}
