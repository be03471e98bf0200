//! One cluster of real processes and its rounds of faults.

mod changing;
mod judging;

pub(crate) use changing::Changing;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::{GetRequest, Health, HealthResponse, PeerState, SetRequest};
use quorate::types::Condition;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::asking::{DEADLINE_SLACK, Kind as KeyKind, Miss, Wish, value_of_request};
use crate::clients::{Account, LAST_READER, Workload, micros};
use crate::counters::Counters;
use crate::doors::{Door, Node, Ports, ask};
use crate::files::{disk, log_bytes, node, rename};
use crate::judge::missed;
use crate::means::{Means, Mount, limit_files};
use crate::plan::{Action, Kind, ON_SMALL_FILE_SYSTEM, Step, Wires, steps};
use crate::secure::{Secure, Who};
use crate::tables::{self, TABLE_CLIENTS, TableAccount};
use crate::testkit::cluster::{TestNode, copy_folder};
use crate::testkit::porcupine::Porcupine;
use crate::testkit::ports;
use crate::testkit::process::{read, tail};
use crate::testkit::proxy::{Network, Wire};
use crate::testkit::requests::{Ask, Outcome};
use crate::testkit::watching::Told;
use crate::watchers::Watcher;

/// After the last fault, every operation must succeed again within this time. A cut link is noticed after 6 seconds, and opened
/// again within 2.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(20);
/// How long the first start may take: far more than it needs, for a machine that compiles meanwhile.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// The deadline of an operation without faults.
const CALM_DEADLINE: Duration = Duration::from_secs(5);
/// How long a round continues after the cluster has recovered.
const CALM_TIME: Duration = Duration::from_millis(500);
/// How long one round may take, pauses and recovery included.
const ROUND_TIME_MAX: Duration = Duration::from_mins(3);
/// The time to live of a value that is written without a fault.
const CALM_TTL: Duration = Duration::from_secs(1);
/// So long after that it must be gone: a sweep of a second, a conditional write, and a busy machine.
const GONE_WITHIN: Duration = Duration::from_millis(2_500);
/// So long after the last fault a watch must be ready, and have been told of each write.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// The watches of a round.
const WATCHERS: u32 = 3;
/// Connections to each node. Clients share them, so that one stalled connection stalls some clients only.
const CONNECTIONS: usize = 4;
/// The lines of a log that are shown.
const LOG_LINES_SHOWN: usize = 20;

/// A cluster under test.
#[derive(Debug)]
pub(crate) struct Run {
    /// The first part of its keys.
    name: String,
    /// The origin of all times.
    origin: Instant,
    nodes: Vec<TestNode>,
    /// Those that serve, once all faults have ended.
    serving: Vec<usize>,
    network: Network,
    /// The nodes as clients have them, by connection.
    seen: Vec<Vec<Node>>,
    /// The certificates and tokens, in a run that has them.
    secure: Option<Arc<Secure>>,
    means: Means,
    link_faults: BTreeMap<usize, Wires>,
    paused: BTreeSet<usize>,
    full: BTreeSet<usize>,
    /// The file system of node [`ON_SMALL_FILE_SYSTEM`], if one could be mounted.
    mount: Option<Mount>,
    /// The actions so far, with their times.
    events: Vec<String>,
    numbers: Arc<AtomicU64>,
    /// The second judge of histories, where it could be built.
    porcupine: Option<Porcupine>,
    rounds: usize,
    pub(crate) counters: Counters,
    dir: TempDir,
}

impl Run {
    /// Starts a cluster of so many nodes, with so many replicas of each key, and waits until all are linked. `is_secure` tells
    /// whether it has TLS and tokens.
    pub(crate) async fn start(
        name: String,
        size: (usize, usize),
        is_secure: bool,
        origin: Instant,
        numbers: Arc<AtomicU64>,
        porcupine: Option<Porcupine>,
    ) -> Result<Self, String> {
        let mut run = Self::prepare(name, size, is_secure, origin, numbers, porcupine).await;
        run.apply(&Action::Start(run.serving.clone(), 0));
        run.wait_linked(START_TIME_MAX).await?;
        if let Some(secure) = &run.secure {
            secure.make_tokens(&run.nodes[0]).await?;
        }
        Ok(run)
    }

    /// A cluster whose nodes are not started.
    async fn prepare(
        name: String,
        (count, replica_count): (usize, usize),
        is_secure: bool,
        origin: Instant,
        numbers: Arc<AtomicU64>,
        porcupine: Option<Porcupine>,
    ) -> Self {
        let dir = TempDir::with_prefix("quorate-faults-").expect("a temporary folder can be made");
        let means = Means::find(dir.path());
        let mount = if means.mounts { Mount::new(&disk(dir.path(), ON_SMALL_FILE_SYSTEM)) } else { None };
        let node_ports: Vec<u16> = std::iter::repeat_with(ports::free_port).take(count).collect();
        let network = Network::new(&node_ports).await;
        let doors: Vec<Ports> = std::iter::repeat_with(|| Ports::free(ports::free_port)).take(count).collect();
        let places: Vec<(String, Ports)> =
            node_ports.iter().map(|port| format!("127.0.0.1:{port}")).zip(doors.iter().copied()).collect();
        let secure = is_secure.then(|| Secure::new(dir.path(), &places));
        let node =
            |at| node(at, (&node_ports, doors[at]), replica_count, &network, &means, secure.as_deref(), dir.path());
        let nodes: Vec<TestNode> = (0..count).map(node).collect();
        let security = secure.as_ref().map(|secure| secure.security(Who::Keys));
        let seen = || places.iter().map(|(address, ports)| Node::new(address, *ports, security)).collect();
        let seen = (0..CONNECTIONS).map(|_| seen()).collect();
        let mut run = Self {
            name,
            origin,
            nodes,
            serving: (0..count).collect(),
            network,
            seen,
            secure,
            means,
            link_faults: BTreeMap::new(),
            paused: BTreeSet::new(),
            full: BTreeSet::new(),
            mount,
            events: Vec::new(),
            numbers,
            porcupine,
            rounds: 0,
            counters: Counters::default(),
            dir,
        };
        run.say(&format!("{count} nodes, {replica_count} replicas of each key"));
        run
    }

    /// The nodes as these clients have them, on one of a few connections.
    fn seen_by(&self, who: Who, client: u32) -> Vec<Node> {
        let seen = &self.seen[client as usize % CONNECTIONS];
        let Some(secure) = &self.secure else { return seen.clone() };
        seen.iter().map(|node| node.with_pass(secure.security(who).pass)).collect()
    }

    /// Runs one round: faults of these kinds while clients work, then recovery, then the check of all histories. Without a kind
    /// it has no faults, and no request may fail.
    pub(crate) async fn round(&mut self, kinds: &[Kind], is_long: bool, random: &mut StdRng) -> Result<(), String> {
        self.rounds += 1;
        self.say(&format!("round {}: {kinds:?}", self.rounds));
        let steps = steps(kinds, self.nodes.len(), is_long, random);
        let workload = Arc::new(Workload {
            name: format!("{}-{}", self.name, self.rounds),
            origin: self.origin,
            began: Instant::now(),
            numbers: Arc::clone(&self.numbers),
            over: AtomicBool::new(false),
            watches_over: AtomicBool::new(false),
            is_calm: kinds.is_empty(),
        });
        let mut clients = JoinSet::new();
        for client in 0..random.random_range(12..=24) {
            let workload = Arc::clone(&workload);
            let nodes = self.seen_by(Who::Keys, client);
            let seed = random.random();
            clients.spawn(async move { workload.run(client, seed, nodes).await });
        }
        let mut of_tables = JoinSet::new();
        for client in 0..TABLE_CLIENTS {
            let nodes = self.seen_by(Who::Tables, client);
            // Other clients and watchers have smaller numbers.
            of_tables.spawn(tables::run(Arc::clone(&workload), 2_000 + client, random.random(), nodes));
        }
        let (mut watchers, mut watched) = (JoinSet::new(), Vec::new());
        for number in 0..WATCHERS {
            let (nodes, told) = (self.seen_by(Who::Watchers, number), Arc::<Mutex<Told>>::default());
            let with_list = number == 0;
            if with_list {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Told::with_list();
            }
            watched.push(Arc::clone(&told));
            let (workload, seed) = (Arc::clone(&workload), random.random());
            // Clients have smaller numbers.
            watchers.spawn(Watcher { number: 1_000 + number, workload, nodes, with_list, told, seed }.run());
        }
        let secure = self.secure.clone();
        let seed = if secure.is_some() { random.random() } else { 0 };
        let work = async {
            self.follow_with_changes(&steps, secure.as_deref(), (workload.is_calm, seed)).await?;
            self.recover(&workload).await?;
            if let Some(secure) = &secure {
                secure.refuses_all().await?;
            }
            self.expire().await
        };
        let worked = tokio::time::timeout(ROUND_TIME_MAX, work).await;
        let worked = worked.unwrap_or_else(|_| Err(format!("the round is not over after {ROUND_TIME_MAX:?}")));
        workload.over.store(true, Ordering::Relaxed);
        let mut account = Account::default();
        while let Some(done) = clients.join_next().await {
            account.merge(done.expect("a client does not panic"));
        }
        let mut tables = TableAccount::default();
        while let Some(done) = of_tables.join_next().await {
            tables.merge(done.expect("a client does not panic"));
        }
        // A wrong history is a better report than a cluster that did not recover.
        let read = match &worked {
            Ok(()) => self.read_all(&workload, &mut account).await,
            Err(_) => Ok(()),
        };
        let read = match (&worked, read) {
            (Ok(()), Ok(())) => tables.read_all(&workload, &self.seen_by(Who::Tables, 0)).await,
            (_, read) => read,
        };
        let told = match (&worked, &read) {
            (Ok(()), Ok(())) => self.all_told(&workload, &watched, &account).await,
            _ => Ok(()),
        };
        workload.watches_over.store(true, Ordering::Relaxed);
        while let Some(done) = watchers.join_next().await {
            account.merge(done.expect("a watcher does not panic"));
        }
        if let Some(secure) = &self.secure {
            self.counters.merge(&secure.take_counters());
        }
        let explored = {
            let operations: usize = account.histories.values().map(Vec::len).sum();
            format!("{} histories of {operations} operations", account.histories.len())
        };
        self.judge(&workload, account).await?;
        self.judge_tables(&workload, tables).await?;
        worked.and(read).and(told)?;
        self.check_logs()?;
        println!("{}: {explored}: {kinds:?}", workload.name);
        Ok(())
    }

    /// Ends it. With `keep`, returns the folder that is kept.
    pub(crate) fn end(self, keep: bool) -> Option<PathBuf> {
        drop(self.nodes);
        if self.mount.is_some() && keep {
            let disk = disk(self.dir.path(), ON_SMALL_FILE_SYSTEM);
            copy_folder(&disk, &disk.with_file_name("disk-kept"));
        }
        drop(self.mount);
        keep.then(|| self.dir.keep())
    }

    /// All actions so far.
    pub(crate) fn events(&self) -> &[String] {
        &self.events
    }

    // -------------------------------------------------------------------------------------------- faults

    /// Follows the steps, and ends all faults. Meanwhile the certificates and tokens of a secure cluster change.
    async fn follow_with_changes(
        &mut self,
        steps: &[Step],
        secure: Option<&Secure>,
        (is_calm, seed): (bool, u64),
    ) -> Result<(), String> {
        let over = AtomicBool::new(false);
        let faults = async {
            let followed = self.follow(steps).await;
            self.heal();
            over.store(true, Ordering::Relaxed);
            followed
        };
        let meddling = async {
            match secure {
                Some(secure) if is_calm => secure.change_all().await,
                Some(secure) => secure.meddle(seed, &over).await,
                None => Ok(()),
            }
        };
        let (followed, meddled) = tokio::join!(faults, meddling);
        followed.and(meddled)
    }

    async fn follow(&mut self, steps: &[Step]) -> Result<(), String> {
        let began = tokio::time::Instant::now();
        for step in steps {
            tokio::time::sleep_until(began + step.at).await;
            self.check_processes()?;
            match &step.action {
                Action::LoseFolder(node) => self.lose_folder(*node).await?,
                Action::AgeFolder(node) => self.age_folder(*node).await?,
                Action::Free(node) => self.free(*node).await,
                action => self.apply(action),
            }
        }
        self.check_processes()
    }

    /// Applies an action that takes no time.
    fn apply(&mut self, action: &Action) {
        self.say(&format!("{action:?}"));
        match action {
            Action::Kill(nodes) => {
                let running: Vec<usize> =
                    nodes.iter().copied().filter(|at| self.nodes[*at].process.is_some()).collect();
                for at in &running {
                    self.nodes[*at].process().signal(Signal::SIGKILL);
                }
                for at in &running {
                    self.nodes[*at].kill();
                    self.paused.remove(at);
                    self.make_room(*at);
                }
                self.counters.add("kills", running.len());
                // Another fault of the round may have killed one of them before.
                let all_dead = self.nodes.iter().all(|node| node.process.is_none());
                self.counters.add("kills that left no node running", usize::from(all_dead && !running.is_empty()));
                self.counters.add("kills of a majority at once", usize::from(running.len() > self.nodes.len() / 2));
            }
            Action::Start(nodes, shift) => {
                for at in nodes.iter().copied() {
                    let node = &mut self.nodes[at];
                    if node.process.is_none() {
                        let environment = self.means.shifted(*shift);
                        let moved = *shift != 0 && environment.is_some();
                        node.environment = environment.unwrap_or_default();
                        match &self.secure {
                            Some(secure) => secure.starts(at, || node.start()),
                            None => node.start(),
                        }
                        self.counters.add("starts with the wall clock an hour off", usize::from(moved));
                    }
                }
            }
            Action::Pause(nodes) => {
                for at in nodes.iter().copied() {
                    if self.nodes[at].process.is_some() && self.paused.insert(at) {
                        self.nodes[at].pause();
                        self.counters.add("pauses", 1);
                    }
                }
            }
            Action::Resume(nodes) => {
                for at in nodes {
                    if self.paused.remove(at) {
                        self.nodes[*at].resume();
                    }
                }
            }
            Action::Link(fault, wires) => {
                self.count_wires(wires);
                self.link_faults.insert(*fault, wires.clone());
                self.set_wires();
            }
            Action::Fill(at, room) => {
                if self.nodes[*at].process.is_some() && !self.full.contains(at) {
                    self.fill(*at, *room);
                }
            }
            Action::Free(_) | Action::LoseFolder(_) | Action::AgeFolder(_) => unreachable!("these take time"),
        }
    }

    async fn free(&mut self, at: usize) {
        if !self.full.contains(&at) {
            return;
        }
        let health = self.nodes[at].health().await;
        let says_so = health.is_ok_and(|health| health.detail.contains("its disk takes no writes"));
        self.counters.add("full disks that the node's health reported", usize::from(says_so));
        self.say(&format!("Free({at}), whose health reported its disk: {says_so}"));
        self.make_room(at);
    }

    fn fill(&mut self, at: usize, room: u64) {
        match self.mount_of(at) {
            Some(mount) => {
                mount.fill(room);
                self.counters.add("full file systems", 1);
            }
            None if self.means.limits_files => {
                let bytes = log_bytes(&self.nodes[at].files.data_dir) + room;
                limit_files(self.nodes[at].process_id(), Some(bytes));
                self.counters.add("full disks (files limited)", 1);
            }
            None => return,
        }
        self.full.insert(at);
    }

    fn make_room(&mut self, at: usize) {
        if !self.full.remove(&at) {
            return;
        }
        match self.mount_of(at) {
            Some(mount) => mount.free(),
            // The limit has ended with the process.
            None if self.nodes[at].process.is_none() => {}
            None => limit_files(self.nodes[at].process_id(), None),
        }
    }

    fn mount_of(&self, at: usize) -> Option<&Mount> {
        self.mount.as_ref().filter(|_| at == ON_SMALL_FILE_SYSTEM)
    }

    /// Starts the node with an empty folder, as after the loss of a disk: it must be refused. Then restores its folder.
    async fn lose_folder(&mut self, at: usize) -> Result<(), String> {
        let (folder, kept) = (self.nodes[at].files.data_dir.clone(), disk(self.dir.path(), at).join("kept"));
        self.apply(&Action::Kill(vec![at]));
        rename(&folder, &kept);
        self.say(&format!("folder of {at} lost"));
        self.apply(&Action::Start(vec![at], 0));
        self.refused(at).await?;
        self.counters.add("refusals of an empty folder", 1);
        self.apply(&Action::Kill(vec![at]));
        self.put_back(at, &kept);
        Ok(())
    }

    /// Starts the node with an older copy of its folder: it must be refused. Then restores the latest one.
    async fn age_folder(&mut self, at: usize) -> Result<(), String> {
        let folder = self.nodes[at].files.data_dir.clone();
        let disk = disk(self.dir.path(), at);
        let (older, latest) = (disk.join("older"), disk.join("kept"));
        self.apply(&Action::Kill(vec![at]));
        copy_folder(&folder, &older);
        self.apply(&Action::Start(vec![at], 0));
        self.wait_linked(RECOVERY_TIME_MAX).await?;
        tokio::time::sleep(CALM_TIME).await;
        self.apply(&Action::Kill(vec![at]));
        rename(&folder, &latest);
        rename(&older, &folder);
        self.say(&format!("folder of {at} replaced by an older copy"));
        self.apply(&Action::Start(vec![at], 0));
        self.refused(at).await?;
        self.counters.add("refusals of an older copy", 1);
        self.apply(&Action::Kill(vec![at]));
        self.put_back(at, &latest);
        Ok(())
    }

    fn put_back(&mut self, at: usize, kept: &Path) {
        let folder = self.nodes[at].files.data_dir.clone();
        fs::remove_dir_all(&folder).expect("a folder can be removed");
        rename(kept, &folder);
        self.say(&format!("folder of {at} put back"));
        self.apply(&Action::Start(vec![at], 0));
    }

    /// Waits until the node is refused. It must answer no request.
    async fn refused(&mut self, at: usize) -> Result<(), String> {
        let is_refused = |health: &HealthResponse| health.status() == Health::Refused;
        self.wait_health(at, "refused", RECOVERY_TIME_MAX, is_refused).await?;
        let key = format!("{}-{}-refused", self.name, self.rounds);
        let if_absent = Ask::SetIf { condition: Condition::Absent, deletes: false };
        let asks = [Ask::Get, Ask::Set, Ask::Delete, if_absent, Ask::Add { delta: 1, since: None }];
        for (door, asked) in Door::ALL.into_iter().flat_map(|door| asks.iter().map(move |asked| (door, asked.clone())))
        {
            let deadline = Duration::from_secs(2);
            let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
            if !door.takes(&asked, number, KeyKind::Counter) {
                continue;
            }
            let wish = Wish { key: key.clone(), kind: KeyKind::Counter, ask: asked, number, is_resend: false, door };
            match ask(&self.seen[0][at], &wish, deadline, deadline + DEADLINE_SLACK).await {
                Err(Miss::Failed(_)) => {}
                Err(Miss::Unknown(_)) if wish.ask.is_read() => {}
                answer => {
                    return Err(format!("node {at} is refused by its peers and answers {wish:?} with {answer:?}"));
                }
            }
        }
        Ok(())
    }

    /// Ends every fault.
    fn heal(&mut self) {
        if !self.paused.is_empty() {
            self.apply(&Action::Resume(self.paused.iter().copied().collect()));
        }
        for at in self.full.clone() {
            self.make_room(at);
        }
        self.link_faults.clear();
        self.set_wires();
        self.apply(&Action::Start(self.serving.clone(), 0));
        self.say("all faults have ended");
    }

    fn set_wires(&self) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                let faults = self.link_faults.values().flatten();
                let here = faults.filter(|(sender, receiver, _)| (*sender, *receiver) == (from, to));
                self.network.set(from, to, here.fold(Wire::default(), |all, (_, _, wire)| all.worst(*wire)));
            }
        }
    }

    fn count_wires(&mut self, wires: &Wires) {
        for (_, _, Wire { flow, delay, bytes_per_second }) in wires {
            self.counters.add("directions cut", usize::from(*flow != crate::testkit::proxy::Flow::Open));
            self.counters.add("directions delayed", usize::from(!delay.is_zero()));
            self.counters.add("directions throttled", usize::from(bytes_per_second.is_some()));
        }
    }

    // -------------------------------------------------------------------------------------------- recovery

    /// Waits until every operation succeeds through every node, and then requires that each succeeds at once.
    async fn recover(&mut self, workload: &Workload) -> Result<(), String> {
        let began = Instant::now();
        self.wait_linked(RECOVERY_TIME_MAX).await?;
        while let Err(missed) = self.try_all(workload).await {
            self.check_processes()?;
            if began.elapsed() > RECOVERY_TIME_MAX {
                return Err(format!(
                    "not every operation succeeds {:?} after the last fault: {missed}",
                    began.elapsed()
                ));
            }
        }
        let took = usize::try_from(began.elapsed().as_millis()).expect("it is short");
        self.counters.at_least("milliseconds of the longest recovery", took);
        self.say(&format!("every operation succeeds after {took} ms"));
        tokio::time::sleep(CALM_TIME).await;
        self.try_all(workload).await.map_err(|missed| format!("an operation failed without a fault: {missed}"))
    }

    /// Tries each kind of operation through each node.
    async fn try_all(&self, workload: &Workload) -> Result<(), String> {
        for at in self.serving.iter().copied() {
            let key = format!("{}-{}-calm-{at}", self.name, self.rounds);
            let begun = self.calm(workload, at, &key, Ask::Set).await?;
            let set = self.calm(workload, at, &key, Ask::Get).await?;
            let Outcome::Saw { value: Some(value), ref version } = set.1 else { return Err(wrong(at, &key, &set)) };
            if value != value_of_request(begun.0) {
                return Err(wrong(at, &key, &set));
            }
            // The sum and the version must be those of the value that was just read.
            let since = Some(version.clone());
            let added = self.calm(workload, at, &key, Ask::Add { delta: 1, since }).await?;
            let Outcome::Added { sum, ref version } = added.1 else { return Err(wrong(at, &key, &added)) };
            if sum != value + 1 {
                return Err(wrong(at, &key, &added));
            }
            let condition = Condition::Version(version.clone());
            let deleted = self.calm(workload, at, &key, Ask::SetIf { condition, deletes: true }).await?;
            let absent = self.calm(workload, at, &key, Ask::Get).await?;
            let is_absent = matches!(absent.1, Outcome::Saw { value: None, .. });
            if !matches!(deleted.1, Outcome::Wrote(_)) || !is_absent {
                return Err(format!("{}; {}", wrong(at, &key, &deleted), wrong(at, &key, &absent)));
            }
            let put = Ask::SetIf { condition: Condition::Absent, deletes: false };
            let written = self.calm(workload, at, &key, put).await?;
            if !matches!(written.1, Outcome::Wrote(_)) {
                return Err(wrong(at, &key, &written));
            }
            self.calm(workload, at, &key, Ask::Delete).await?;
            self.try_doors(workload, at, &key).await?;
        }
        Ok(())
    }

    /// Each door of a node writes, reads what the one before has written, and deletes.
    async fn try_doors(&self, workload: &Workload, at: usize, key: &str) -> Result<(), String> {
        let kind = KeyKind::Counter;
        let mut written = None;
        for door in Door::ALL {
            for asked in [Ask::Get, Ask::Set, Ask::Get, Ask::Delete, Ask::Get, Ask::Set] {
                let number = workload.fresh_number();
                let is_read = asked.is_read();
                let wish = Wish { key: key.to_owned(), kind, ask: asked.clone(), number, is_resend: false, door };
                let answer = ask(&self.seen[0][at], &wish, CALM_DEADLINE, CALM_DEADLINE + DEADLINE_SLACK).await;
                let said = answer.map_err(|miss| format!("{wish:?} through node {at}: {miss}"))?;
                if let Ask::Set | Ask::Delete = asked {
                    written = matches!(asked, Ask::Set).then(|| value_of_request(number));
                }
                let is_right = match said.outcome {
                    Outcome::Saw { value, .. } | Outcome::Read(value) if is_read => value == written,
                    // A delete that says that there was nothing is wrong here.
                    Outcome::Wrote(_) | Outcome::Done | Outcome::Either => !is_read,
                    _ => false,
                };
                if !is_right {
                    return Err(format!("{wish:?} through node {at} returned {said:?}, and {written:?} was written"));
                }
            }
        }
        Ok(())
    }

    /// One request without a fault: its number and its outcome.
    async fn calm(&self, workload: &Workload, at: usize, key: &str, asked: Ask) -> Result<(u64, Outcome), String> {
        let number = workload.fresh_number();
        let (kind, door) = (KeyKind::Counter, Door::Grpc);
        let wish = Wish { key: key.to_owned(), kind, ask: asked, number, is_resend: false, door };
        let answer = ask(&self.seen[0][at], &wish, CALM_DEADLINE, CALM_DEADLINE + DEADLINE_SLACK).await;
        let said = answer.map_err(|miss| format!("{:?} of {key} through node {at}: {miss}", wish.ask))?;
        Ok((number, said.outcome))
    }

    /// Without a fault, a value is there until its time to live has passed, and gone for every node soon after.
    async fn expire(&mut self) -> Result<(), String> {
        let key = format!("{}-{}-expires", self.name, self.rounds);
        let entry = Some(quorate::api::Entry { key: key.clone(), ..Default::default() });
        let ttl = CALM_TTL.try_into().ok();
        let called = Instant::now();
        let of = self.seen[0][self.serving[0]].now();
        let mut node = ClusterClient::new(of.grpc.clone());
        let written = node.set(of.request(SetRequest { entry, ttl, ..Default::default() })).await;
        written.map_err(|status| format!("writing {key}: {status:?}"))?;
        let must_be_gone = Instant::now() + CALM_TTL + GONE_WITHIN;
        loop {
            let is_late = Instant::now() > must_be_gone;
            let mut seen = Vec::new();
            for node in self.serving.iter().map(|at| &self.seen[0][*at]) {
                let of = node.now();
                let mut node = ClusterClient::new(of.grpc.clone());
                let answer = node.get(of.request(GetRequest { key: key.clone(), ..Default::default() })).await;
                let answer = answer.map_err(|status| format!("reading {key}: {status:?}"))?.into_inner();
                let is_early = called.elapsed() < CALM_TTL;
                if answer.entry.is_none() && is_early {
                    return Err(format!(
                        "{key} is gone {:?} after the call that wrote it to live {CALM_TTL:?}",
                        called.elapsed()
                    ));
                }
                if answer.entry.is_some() && seen.contains(&false) {
                    return Err(format!("{key} was gone, and is there again"));
                }
                seen.push(answer.entry.is_some());
            }
            if !seen.contains(&true) {
                self.counters.add("values that expired on time", 1);
                let took = usize::try_from(called.elapsed().as_millis()).expect("it is short");
                self.counters.at_least("milliseconds that a value of 1,000 was there at most", took);
                return Ok(());
            }
            if is_late {
                return Err(format!(
                    "{key} is still there {:?} after the call that wrote it to live {CALM_TTL:?}",
                    called.elapsed()
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until each watch has been told of every write that was called since it was ready.
    async fn all_told(
        &mut self,
        workload: &Workload,
        watched: &[Arc<Mutex<Told>>],
        account: &Account,
    ) -> Result<(), String> {
        let began = Instant::now();
        for (watch, told) in watched.iter().enumerate() {
            loop {
                let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(missed) = missed(&told, workload, account) else {
                    self.counters.add("watches told of every write", 1);
                    break;
                };
                self.check_processes()?;
                if began.elapsed() > TOLD_WITHIN {
                    return Err(format!("watch {watch}, {:?} after all faults: {missed}", began.elapsed()));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Reads every key of the round through every node, and one more door of each: no acknowledged write may be missing.
    async fn read_all(&self, workload: &Workload, account: &mut Account) -> Result<(), String> {
        let keys: Vec<usize> = account.histories.keys().copied().collect();
        for number in keys {
            for (at, node) in self.serving.iter().map(|at| (*at, &self.seen[1][*at])) {
                for door in [Door::Grpc, Door::ALL[(number + at) % Door::ALL.len()]] {
                    let read = workload.read(LAST_READER, number, (node, door), CALM_DEADLINE, account).await;
                    read.map_err(|miss| {
                        format!("reading {} by {door:?} of node {at} after all faults: {miss}", workload.key(number))
                    })?;
                }
            }
        }
        Ok(())
    }

    async fn wait_linked(&mut self, limit: Duration) -> Result<(), String> {
        let began = Instant::now();
        for at in self.serving.clone() {
            let is_linked = |health: &HealthResponse| {
                let states = health.peers.iter().map(quorate::api::PeerHealth::state);
                health.status() == Health::Online
                    && states.into_iter().all(|state| matches!(state, PeerState::PeerLinked | PeerState::PeerSelf))
            };
            self.wait_health(at, "linked to all others", limit.saturating_sub(began.elapsed()), is_linked).await?;
        }
        Ok(())
    }

    async fn wait_health(
        &mut self,
        at: usize,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&HealthResponse) -> bool,
    ) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.check_processes()?;
            let seen = self.nodes[at].health().await;
            if seen.as_ref().is_ok_and(&is_so) {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(format!("node {at} is not {what} after {limit:?}: {seen:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Requires that every node runs that was not killed.
    fn check_processes(&mut self) -> Result<(), String> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.process.as_mut().and_then(crate::testkit::process::Process::ended) {
                let log = tail(&node.log, LOG_LINES_SHOWN);
                node.process = None;
                return Err(format!("node {at} has ended by itself with {status}; the end of its log:\n{log}"));
            }
        }
        Ok(())
    }

    fn check_logs(&self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate() {
            let log = read(&node.log);
            if let Some(line) = log.lines().find(|line| line.contains("panicked at") || line.contains("defect")) {
                return Err(format!("the log of node {at} tells of a defect: {line}"));
            }
        }
        Ok(())
    }

    fn say(&mut self, what: &str) {
        self.events.push(format!("{:>12} us  {what}", micros(self.origin.elapsed())));
    }
}

fn wrong(at: usize, key: &str, (number, outcome): &(u64, Outcome)) -> String {
    format!("request {number} for {key} through node {at} returned {outcome:?}")
}
