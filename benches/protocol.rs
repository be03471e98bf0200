//! How long the protocol alone takes for a whole operation of a client: three nodes, joined in memory, whose disks answer
//! at once. It measures the time of all three together, on one processor.
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
use quorate::protocol::turn::{MemoryRead, Output, Turn};
use quorate::protocol::{Command, Input, Node, Reply, RequestId, Setup, Time};
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
    let mut cluster = Cluster::bootstrapped();
    let commands: Vec<(Command, Command)> = (0..KEYS)
        .map(|number| {
            let (key, record) = (key(number), record(number, BYTES, 1));
            let get = Command::Get { key: key.clone() };
            (Command::Set { key, content: record.content, ttl: None, checksum: record.checksum }, get)
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
    fn bootstrapped() -> Self {
        let placement = Arc::new(Placement::new(parameters(3, 3, 0)));
        let members: Vec<NodeIndex> = placement.parameters().members().collect();
        let host = |me: NodeIndex| {
            let meta = Meta::fresh(StoreId(u128::from(me.0) + 1));
            let setup = Setup {
                addresses: Vec::new(),
                joins: false,
                me,
                placement: Arc::clone(&placement),
                meta,
                nonce: u64::from(me.0),
                started_at: Time::default(),
                repair: None,
            };
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
        let mut is_new = true;
        while is_new || self.hosts.iter().any(|host| !host.inbox.is_empty()) {
            is_new = false;
            for index in 0..self.hosts.len() {
                let Host { node, inbox, records } = &mut self.hosts[index];
                let (from, from_incarnation) = (node.me(), node.incarnation());
                let mut turn = Turn::new(node);
                for input in inbox.drain(..) {
                    turn.input(self.now, input);
                }
                let outputs = turn.end(self.now, |_, key, kind| {
                    let lookup = match (records.get(key), kind) {
                        (None, _) => Lookup::Absent,
                        (Some(record), ReadKind::Digest) => Lookup::Digest(record.digest()),
                        (Some(record), ReadKind::Data) => Lookup::Record(record.clone()),
                    };
                    MemoryRead::Done(lookup.into())
                });
                for output in outputs {
                    match output {
                        Output::Send { to, to_incarnation, message, .. } => {
                            let input = Input::Peer { from, from_incarnation, to_incarnation, message };
                            self.hosts[to.index()].inbox.push_back(input);
                        }
                        Output::Reply { reply, .. } => {
                            assert!(matches!(reply, Reply::Set(_) | Reply::Record(Some(_))), "{reply:?}");
                            replies += 1;
                        }
                        Output::ReadExpiries { .. } => unreachable!("no value here has a time to live"),
                        Output::Persist(batch) => {
                            let host = &mut self.hosts[index];
                            let records = batch.records.iter();
                            host.records.extend(records.map(|(key, (_, record))| (key.clone(), record.clone())));
                            host.inbox.push_back(Input::Persisted { durable: true });
                        }
                        Output::Watch { .. } => unreachable!("nobody watches"),
                        Output::Read { .. } => unreachable!("memory answers every read"),
                        Output::Scan { .. } => unreachable!("nothing is listed"),
                        Output::Measure { .. } => unreachable!("no table has a quota"),
                        Output::Clean { .. } => unreachable!("no table is dropped"),
                        Output::ReadSlots { .. } => unreachable!("nothing is repaired"),
                        Output::Event(_) => {}
                    }
                }
            }
        }
        replies
    }
}
