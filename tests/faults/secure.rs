//! Certificates, CAs and tokens of a cluster under test, which change while clients work and faults go on.
//!
//! Contract: nodes and clients read their files again by themselves, so that nothing here restarts anybody. The steps from one
//! CA to the next are those of docs/security.md: believe both, move each node, believe the new one alone. Each step waits until
//! every node has read its files. A node is never left with a certificate without its key where it may start meanwhile.
//!
//! What must hold: see `intruding`, which asks as those do who must be refused.

mod calm;
mod files;
mod intruding;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate::Client;
use quorate::client::ClientTls;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::counters::Counters;
use crate::doors::{Node, Ports, Security};
use crate::pass::{Issued, Pass};
use crate::testkit::cluster::TestNode;
use crate::testkit::tls::Believes;

/// A revoked token must be refused within this time by each node that reaches a majority.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// How late a busy machine may make this process or a node.
const LATE_MAX: Duration = Duration::from_millis(1_500);
/// How long one request of an administrator may take.
const ADMINISTRATION_TIME_MAX: Duration = Duration::from_secs(2);

/// Clients that have a token of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Those that read and write keys, and try each operation after the faults.
    Keys,
    Tables,
    Watchers,
}

/// A node as those see it who change its files, and ask what it must refuse.
#[derive(Debug)]
struct Place {
    id: String,
    address: String,
    ports: Ports,
    log: PathBuf,
    /// What its node.yml names: a folder with the link `current` to its certificate and key, and `ca.crt`.
    folder: PathBuf,
}

/// The secrets of a cluster.
#[derive(Debug)]
pub(crate) struct Secure {
    /// Where all files of TLS are.
    dir: PathBuf,
    places: Vec<Place>,
    /// Whom clients believe. They have no certificate.
    believes: Believes,
    /// Of all administrators: the one token that nobody revokes.
    root: Mutex<Option<Arc<Issued>>>,
    passes: BTreeMap<Who, Pass>,
    /// Tokens that were revoked, with the time at which that was answered.
    revoked: Mutex<Vec<tokens::Revoked>>,
    files: Mutex<files::Files>,
    counters: Mutex<Counters>,
    /// What was answered and must not be.
    problems: Mutex<Vec<String>>,
    /// For names that nobody else has.
    numbers: AtomicU64,
}

impl Who {
    pub(crate) const ALL: [Self; 3] = [Self::Keys, Self::Tables, Self::Watchers];

    /// What it may do, and no more.
    fn rights(self) -> Vec<String> {
        let rights: &[&str] = match self {
            Self::Keys => &["write:default"],
            Self::Tables => &["admin:*"],
            Self::Watchers => &["read:default"],
        };
        rights.iter().map(|right| (*right).to_owned()).collect()
    }
}

impl Secure {
    /// The first CA, in `dir`, and a certificate for each of the nodes with these addresses and ports.
    pub(crate) fn new(dir: &Path, nodes: &[(String, Ports)]) -> Arc<Self> {
        let dir = dir.join("tls");
        let place = |(at, (address, ports)): (usize, &(String, Ports))| Place {
            id: at.to_string(),
            address: address.clone(),
            ports: *ports,
            log: dir.with_file_name(format!("node-{at}")).join(format!("node-{at}.log")),
            folder: dir.join(format!("node-{at}")),
        };
        let places: Vec<Place> = nodes.iter().enumerate().map(place).collect();
        let secure = Self {
            believes: Believes::new(&dir.join("clients.crt")),
            files: Mutex::new(files::Files::new(nodes.len())),
            dir,
            places,
            root: Mutex::default(),
            passes: Who::ALL.into_iter().map(|who| (who, Pass::default())).collect(),
            revoked: Mutex::default(),
            counters: Mutex::default(),
            problems: Mutex::default(),
            numbers: AtomicU64::new(0),
        };
        secure.write_first_files();
        Arc::new(secure)
    }

    /// The lines of the node's node.yml.
    pub(crate) fn as_yaml(&self, at: usize) -> String {
        let Place { id, folder, .. } = &self.places[at];
        let folder = folder.display();
        format!(
            "  tls_certificate: {folder}/current/node-{id}.crt\n  tls_key: {folder}/current/node-{id}.key\n  \
             tls_ca: {folder}/ca.crt\n  authorization: true\n"
        )
    }

    /// Whom clients believe.
    pub(crate) fn believes(&self) -> &Believes {
        &self.believes
    }

    /// How these clients are secured.
    pub(crate) fn security(&self, who: Who) -> Security<'_> {
        Security { tls: &self.believes, pass: &self.passes[&who] }
    }

    /// Makes the first administrator by the token of the first node's machine, and a token for each kind of clients.
    pub(crate) async fn make_tokens(&self, first: &TestNode) -> Result<(), String> {
        self.make_root(first).await?;
        for who in Who::ALL {
            let token = self.create(who).await?;
            self.wait_known(&token).await?;
            self.passes[&who].set(token);
        }
        Ok(())
    }

    /// Changes files and tokens, and asks for what must be refused, until `over`. Then each kind of clients has a token that
    /// counts.
    pub(crate) async fn meddle(&self, seed: u64, over: &AtomicBool) -> Result<(), String> {
        let random = |number: u64| StdRng::seed_from_u64(seed ^ number);
        let (files, tokens) = (self.change_files(random(1), over), self.change_tokens(random(2), over));
        let ((), changed, ()) = tokio::join!(files, tokens, self.intrude(random(3), over));
        changed.and_then(|()| self.problem())
    }

    /// Moves what was counted since the last time.
    pub(crate) fn take_counters(&self) -> Counters {
        std::mem::take(&mut *lock(&self.counters))
    }

    /// The first answer that must not be.
    pub(crate) fn problem(&self) -> Result<(), String> {
        let problems = lock(&self.problems);
        let Some(first) = problems.first() else { return Ok(()) };
        Err(format!("{} answers to those who must be refused; the first: {first}", problems.len()))
    }

    /// Starts a node by `start`, while nobody is about to replace its files.
    pub(crate) fn starts(&self, at: usize, start: impl FnOnce()) {
        let mut files = lock(&self.files);
        start();
        files.starts(at);
    }

    fn count(&self, name: &'static str) {
        lock(&self.counters).add(name, 1);
    }

    fn complain(&self, problem: String) {
        lock(&self.problems).push(problem);
    }

    fn fresh_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The node as clients with this pass have it, with connections of its own.
    fn node(&self, at: usize, pass: &Pass) -> Node {
        let Place { address, ports, .. } = &self.places[at];
        Node::new(address, *ports, Some(Security { tls: &self.believes, pass }))
    }

    /// An administrator, at these nodes.
    fn administrator(&self, places: &[usize], deadline: Duration) -> Client {
        let root = lock(&self.root).clone().expect("the first administrator is made before all else");
        self.client(places, &root, deadline)
    }

    fn client(&self, places: &[usize], token: &Issued, deadline: Duration) -> Client {
        let tls = ClientTls::load(self.dir.join("clients.crt")).expect("the file has a CA at all times");
        // The addresses that nodes tell each other are those of the proxies between them.
        let builder = Client::builder().tls(&tls).token(&token.token).follow_members(false).deadline(deadline);
        let addresses = places.iter().map(|at| self.places[*at].address.clone());
        addresses.fold(builder, quorate::client::Builder::address).build().expect("the addresses are well formed")
    }

    fn everywhere(&self) -> Vec<usize> {
        (0..self.places.len()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
