//! The files of TLS, which are replaced as tools do that renew certificates.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate::tls::authority::{self, CA_FILE, Holder};
use quorate::types::NodeId;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Secure, lock};
use crate::testkit::cluster::write;
use crate::testkit::process::read;

/// See cluster.yml.
const CLUSTER: &str = "quorate";
const LIFE: Duration = Duration::from_hours(24);
/// A node has read its files so long after its start: before that nobody replaces them, because it could find half of them.
const STARTS_WITHIN: Duration = Duration::from_millis(1_500);
/// The pause between two changes.
const PAUSE_MS: std::ops::Range<u64> = 50..400;

/// How far a cluster is on its way from one CA to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// All believe one.
    One,
    /// All believe the next one too.
    Both,
    /// Nodes have certificates of the next one.
    Moved,
    /// All believe the next one alone.
    Next,
}

/// What is done of the present stage.
#[derive(Debug)]
pub(super) struct Files {
    /// The number of the CA that issues certificates.
    authority: u64,
    stage: Stage,
    /// The nodes whose files are yet to be replaced.
    to_do: Vec<usize>,
    /// Those that have not read them, with the length of their log at that time.
    unread: Vec<(usize, usize)>,
    /// The last start of each node.
    started: Vec<Option<Instant>>,
}

impl Files {
    pub(super) fn new(nodes: usize) -> Self {
        Self { authority: 0, stage: Stage::One, to_do: Vec::new(), unread: Vec::new(), started: vec![None; nodes] }
    }

    pub(super) fn starts(&mut self, at: usize) {
        self.started[at] = Some(Instant::now());
    }

    /// Whether no start of the node may be half-way through its files. None begins while this is borrowed.
    fn is_settled(&self, at: usize) -> bool {
        self.started[at].is_none_or(|started| started.elapsed() > STARTS_WITHIN)
    }
}

impl Secure {
    pub(super) fn write_first_files(&self) {
        self.make_authority(0);
        for at in 0..self.places.len() {
            self.believe(&self.places[at].folder.join(CA_FILE), &[0]);
            self.issue(at, 0);
        }
        self.believe(&self.dir.join("clients.crt"), &[0]);
        // Somebody else's CA, and a client of it.
        let foreign = self.dir.join("foreign");
        authority::init(&foreign, CLUSTER, LIFE).expect("a CA can be made");
        authority::issue(&foreign, &foreign, Holder::Client("mallory"), &[], LIFE)
            .expect("a certificate can be issued");
    }

    fn authority(&self, number: u64) -> PathBuf {
        self.dir.join(format!("ca-{number}"))
    }

    fn make_authority(&self, number: u64) {
        authority::init(&self.authority(number), CLUSTER, LIFE).expect("a CA can be made");
    }

    /// Writes the certificates of these CAs to `file`, in one step.
    fn believe(&self, file: &Path, authorities: &[u64]) {
        let all: String = authorities.iter().map(|number| read(&self.authority(*number).join(CA_FILE))).collect();
        fs::create_dir_all(file.parent().expect("it is in a folder")).expect("a folder can be made");
        let near = file.with_extension("near");
        write(&near, &all);
        fs::rename(&near, file).expect("a file can be renamed");
    }

    /// A new certificate of the node, with a new key. Returns the folder that has both.
    fn new_certificate(&self, at: usize, authority: u64) -> PathBuf {
        let place = &self.places[at];
        let folder = place.folder.join(self.fresh_number().to_string());
        let id = NodeId::new(&place.id).expect("it is an id");
        let hosts = ["127.0.0.1".to_owned()];
        authority::issue(&self.authority(authority), &folder, Holder::Node(&id), &hosts, LIFE)
            .expect("a certificate can be issued");
        folder
    }

    /// Issues the node's certificate anew, and puts it in place in one step, as Kubernetes does.
    fn issue(&self, at: usize, authority: u64) {
        let folder = self.new_certificate(at, authority);
        let link = self.places[at].folder.join("current");
        let near = link.with_extension("near");
        symlink(folder.file_name().expect("it has a name"), &near).expect("a link can be made");
        fs::rename(&near, &link).expect("a link can be renamed");
    }

    /// The same in two steps, the certificate before its key. `between` comes after the first one.
    pub(super) async fn issue_in_two_steps(&self, at: usize, between: Duration) {
        let authority = lock(&self.files).authority;
        let (folder, id) = (self.new_certificate(at, authority), &self.places[at].id);
        for kind in ["crt", "key"] {
            let name = format!("node-{id}.{kind}");
            let place = self.places[at].folder.join("current").join(&name);
            fs::rename(folder.join(&name), place).expect("a file can be renamed");
            if kind == "crt" {
                tokio::time::sleep(between).await;
            }
        }
        self.count("certificates replaced");
        self.count("certificates replaced before their keys");
    }

    /// Goes on from one CA to the next, and gives nodes new certificates, until `over`.
    pub(super) async fn change_files(&self, mut random: StdRng, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            if random.random_bool(0.3) {
                let at = random.random_range(0..self.places.len());
                let files = lock(&self.files);
                if files.is_settled(at) {
                    self.issue(at, files.authority);
                    self.count("certificates replaced");
                }
            } else {
                self.roll_on();
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
        }
    }

    /// Does what can be done now of the way to the next CA. Whether it is reached.
    pub(super) fn roll_on(&self) -> bool {
        let mut files = lock(&self.files);
        let Files { authority, stage, .. } = *files;
        for at in std::mem::take(&mut files.to_do) {
            if !files.is_settled(at) {
                files.to_do.push(at);
                continue;
            }
            let seen = read(&self.places[at].log).len();
            let believed = self.places[at].folder.join(CA_FILE);
            match stage {
                Stage::One => {}
                Stage::Both => self.believe(&believed, &[authority, authority + 1]),
                Stage::Moved => {
                    self.issue(at, authority);
                    self.count("certificates replaced");
                }
                Stage::Next => self.believe(&believed, &[authority]),
            }
            files.unread.push((at, seen));
        }
        files.unread.retain(|(at, seen)| !self.has_read(*at, *seen));
        if !files.to_do.is_empty() || !files.unread.is_empty() {
            return false;
        }
        let clients = self.dir.join("clients.crt");
        files.to_do = self.everywhere();
        match stage {
            Stage::One => {
                self.make_authority(authority + 1);
                self.believe(&clients, &[authority, authority + 1]);
                files.stage = Stage::Both;
            }
            Stage::Both => {
                files.authority += 1;
                files.stage = Stage::Moved;
            }
            Stage::Moved => {
                self.believe(&clients, &[authority]);
                files.stage = Stage::Next;
            }
            Stage::Next => {
                files.to_do.clear();
                files.stage = Stage::One;
                self.count("CAs rolled over");
                return true;
            }
        }
        false
    }

    /// Whether the node has read its files, or has started, since its log was so long.
    fn has_read(&self, at: usize, seen: usize) -> bool {
        let log = read(&self.places[at].log);
        let since = log.get(seen..).unwrap_or(&log);
        since.contains("the files of TLS were read again") || since.contains("listening")
    }
}
