//! How long the protocol alone takes for a whole operation of a client: three nodes, joined in memory, whose disks answer
//! at once. What is measured is the time of all three together, on one processor.
//!
//! The nodes take turns as in a real process: a turn handles all that waits, lets what it can share be shared, and then
//! carries the effects out. So 64 operations at once share clock rounds and batches, as they would there.

#[path = "../tests/testkit/mod.rs"]
mod testkit;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use quorate::protocol::placement::Placement;
use quorate::protocol::{Command, Effect, Input, Node, Reply, RequestId, Setup, Time};
use quorate::types::{Key, Lookup, Meta, NodeIndex, ReadKind, Record, StoreId};
use testkit::data::{key, parameters, record};

/// Operations that are under way at a time.
const AT_ONCE: [u64; 2] = [1, 64];
/// How many keys are written and read in turn.
const KEYS: u64 = 10_000;
/// The size of each value. The protocol shares values and never copies one.
const BYTES: usize = 1 << 10;
/// Far more than an operation takes, so that no alarm rings.
const DEADLINE: Duration = Duration::from_mins(1);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("protocol/time per operation");
    let mut cluster = Cluster::formed();
    let commands: Vec<(Command, Command)> = (0..KEYS)
        .map(|number| {
            let (key, record) = (key(number), record(number, BYTES, 1));
            let get = Command::Get { key: key.clone() };
            (Command::Set { key, content: record.content, checksum: record.checksum }, get)
        })
        .collect();
    let sets: Vec<Command> = commands.iter().map(|(set, _)| set.clone()).collect();
    let gets: Vec<Command> = commands.into_iter().map(|(_, get)| get).collect();
    // Every key has a value before the first is read, also where only the reads are measured.
    cluster.run(&sets);
    for (name, commands) in [("Set", &sets), ("Get", &gets)] {
        for at_once in AT_ONCE {
            let mut next = commands.iter().cycle();
            group.bench_function(BenchmarkId::new(name, format!("{at_once} at once")), |bencher| {
                bencher.iter_custom(|operations| {
                    let rounds = operations.div_ceil(at_once);
                    let mut taken = Duration::ZERO;
                    for _ in 0..rounds {
                        let batch: Vec<Command> = (0..at_once).filter_map(|_| next.next().cloned()).collect();
                        let began = Instant::now();
                        cluster.run(&batch);
                        taken += began.elapsed();
                    }
                    // Whole rounds were run, and perhaps some operations more than were asked for.
                    taken.mul_f64(operations as f64 / (rounds * at_once) as f64)
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

struct Cluster {
    now: Time,
    hosts: Vec<Host>,
    /// Requests are given to the nodes in turn.
    requests: u64,
}

struct Host {
    node: Node,
    inbox: VecDeque<Input>,
    records: HashMap<Key, Record>,
}

impl Cluster {
    fn formed() -> Self {
        let placement = Arc::new(Placement::new(parameters(3, 3, 0)));
        let members: Vec<NodeIndex> = placement.parameters().members().collect();
        let host = |me: NodeIndex| {
            let meta = Meta::fresh(StoreId(u128::from(me.0) + 1));
            let setup = Setup { me, placement: Arc::clone(&placement), meta, nonce: u64::from(me.0) };
            let peers = members.iter().filter(|peer| **peer != me);
            Host {
                node: Node::start(setup),
                inbox: peers.map(|peer| Input::Linked(*peer)).collect(),
                records: HashMap::new(),
            }
        };
        let hosts = members.iter().map(|member| host(*member)).collect();
        let mut cluster = Self { now: Time(1_000_000), hosts, requests: 0 };
        cluster.run_until_quiet();
        assert!(cluster.hosts.iter().all(|host| host.node.unready().is_none()), "all have met");
        cluster
    }

    /// Runs `commands` at once, to their ends.
    fn run(&mut self, commands: &[Command]) {
        for command in commands {
            self.requests += 1;
            let host = usize::try_from(self.requests).expect("64 bits") % self.hosts.len();
            let (id, deadline) = (RequestId(self.requests), self.now.after(DEADLINE));
            self.hosts[host].inbox.push_back(Input::Request { id, deadline, command: command.clone() });
        }
        let replies = self.run_until_quiet();
        assert_eq!(replies, commands.len(), "every operation is answered");
    }

    /// Lets the nodes take turns until nothing is left to do; says how many clients were answered.
    fn run_until_quiet(&mut self) -> usize {
        let mut replies = 0;
        let mut effects = Vec::new();
        let mut is_new = true;
        while is_new || self.hosts.iter().any(|host| !host.inbox.is_empty()) {
            is_new = false;
            for place in 0..self.hosts.len() {
                let host = &mut self.hosts[place];
                while let Some(input) = host.inbox.pop_front() {
                    host.node.handle(self.now, input, &mut effects);
                }
                host.node.flush(self.now, &mut effects);
                let (from, from_incarnation) = (host.node.me(), host.node.incarnation());
                for effect in effects.drain(..) {
                    match effect {
                        Effect::Send { to, to_incarnation, message } => {
                            let input = Input::Peer { from, from_incarnation, to_incarnation, message };
                            self.hosts[to.index()].inbox.push_back(input);
                        }
                        Effect::Reply { reply, .. } => {
                            assert!(matches!(reply, Reply::Set(_) | Reply::Record(Some(_))), "{reply:?}");
                            replies += 1;
                        }
                        effect => self.hosts[place].carry_out(effect),
                    }
                }
            }
        }
        replies
    }
}

impl Host {
    /// What a node wants of its disk.
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(batch) => {
                let records = batch.records.iter().map(|(key, (_, record))| (key.clone(), record.clone()));
                self.records.extend(records);
                self.inbox.push_back(Input::Persisted { durable: true });
            }
            Effect::Read { read: load, key, kind: read_kind, .. } => {
                let held = match (self.records.get(&key), read_kind) {
                    (None, _) => Lookup::Absent,
                    (Some(record), ReadKind::Digest) => Lookup::Digest(record.digest()),
                    (Some(record), ReadKind::Data) => Lookup::Record(record.clone()),
                };
                self.inbox.push_back(Input::ReadDone { read: load, lookup: Some(held) });
            }
            Effect::ProtocolEvent(_) | Effect::Send { .. } | Effect::Reply { .. } => {}
        }
    }
}
