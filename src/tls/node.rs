//! The files of a node: its certificate and key, and the CAs that it believes. They are read again when they change.
//!
//! Contract: a file that cannot be used changes nothing. The node goes on with those before, and says so in its log, its metrics
//! and its status, until it could read all of them. New connections have the new files; those that are open keep what they
//! were verified with.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, ServerConfig};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::accept::{Caller, Channel, Door};
use super::certificate::{Facts, Name};
use super::dial::{Attempt, Dial, Dialer};
use super::files::{Authorities, FileError, Own, Stamps, is_open_to_others};
use super::verify::{Expected, Slot, Usage, client_verifier};
use super::verify_client::OfClient;
use super::{Fixed, date, provider};
use crate::types::NodeId;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A certificate that ends within this time, or within the last quarter of its life, is named in the status.
const EXPIRY_WARNING_SECONDS: i64 = 7 * 86_400;

/// The files of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    /// Its certificate: `tls_certificate`.
    pub certificate: PathBuf,
    /// The key of that: `tls_key`.
    pub key: PathBuf,
    /// The CAs that it believes: `tls_ca`.
    pub authorities: PathBuf,
}

/// A node's part of TLS.
pub struct NodeTls {
    files: NodeFiles,
    name: Name,
    /// Whether a client without a certificate is refused.
    is_mandatory: bool,
    /// Whether connections without TLS are taken and made too: `insecure: true`.
    pub(super) takes_plain_text: bool,
    current: RwLock<Arc<Material>>,
    watched: Mutex<Watched>,
    reloads: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
}

/// What was read from the files.
pub(super) struct Material {
    pub(super) own: Arc<Own>,
    authorities: Authorities,
    verifier: Arc<dyn ClientCertVerifier>,
}

struct Watched {
    stamps: Stamps,
    /// Why the files as they are now cannot be used.
    problem: Option<String>,
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").field("files", &self.files).field("name", &self.name).finish_non_exhaustive()
    }
}

impl NodeFiles {
    fn stamps(&self) -> Stamps {
        Stamps::of([self.certificate.as_path(), &self.key, &self.authorities])
    }

    fn load(&self, name: &Name) -> Result<Material, FileError> {
        let own = Own::load(&self.certificate, &self.key)?;
        let refused = |problem: String, cure: String| FileError::Certificate {
            file: self.certificate.clone(),
            subject: own.facts.described(),
            problem,
            cure,
        };
        if !own.facts.names.contains(name) {
            let problem = format!("it is not that of {name}, as which this node is configured");
            let cure = format!("issue one with the URI {} (`quorate ca issue node` does)", name.uri());
            return Err(refused(problem, cure));
        }
        let authorities = Authorities::load(&self.authorities)?;
        own.check_issued_by(&authorities, Usage::Server)?;
        own.check_issued_by(&authorities, Usage::Client)?;
        let verifier = client_verifier(&authorities.roots).map_err(|error| FileError::Certificate {
            file: self.authorities.clone(),
            subject: String::new(),
            problem: error.to_string(),
            cure: "give the certificates of CAs".to_owned(),
        })?;
        Ok(Material { own: Arc::new(own), verifier, authorities })
    }
}

impl NodeTls {
    /// Reads the files of the node `name`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn load(
        files: NodeFiles,
        name: Name,
        requires_certificates: bool,
        takes_plain_text: bool,
    ) -> Result<Arc<Self>, FileError> {
        let stamps = files.stamps();
        let material = files.load(&name)?;
        if is_open_to_others(&files.key) {
            warn!(file = %files.key.display(), "every user of this machine may read the key of this node: chmod 600 it");
        }
        Ok(Arc::new(Self {
            files,
            name,
            is_mandatory: requires_certificates && !takes_plain_text,
            takes_plain_text,
            current: RwLock::new(Arc::new(material)),
            watched: Mutex::new(Watched { stamps, problem: None }),
            reloads: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
        }))
    }

    pub(super) fn current(&self) -> Arc<Material> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the node's certificate says.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.current().own.facts.clone()
    }

    /// The last second of the CA that ends first, in seconds since 1970 began; `i64::MAX` where there is none.
    #[must_use]
    pub fn authorities_end(&self) -> i64 {
        self.current().authorities.facts.iter().map(|facts| facts.not_after).min().unwrap_or(i64::MAX)
    }

    /// How often the files were read again.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// How many handshakes of connections to this node have failed.
    #[must_use]
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }

    /// Why the files as they are on disk cannot be used, if they cannot.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Reads the files again. Files that cannot be used change nothing. Blocks for the disk.
    pub fn reload(&self) {
        let stamps = self.files.stamps();
        let loaded = self.files.load(&self.name);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.stamps = stamps;
        match loaded {
            Ok(material) => {
                watched.problem = None;
                let (subject, until) = (material.own.facts.described(), date::text(material.own.facts.not_after));
                let authorities = material.authorities.facts.len();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
                self.reloads.fetch_add(1, Ordering::Relaxed);
                info!(subject, until, authorities, "the files of TLS were read again; new connections have them");
            }
            Err(error) => {
                let problem = error.to_string();
                if watched.problem.as_ref() != Some(&problem) {
                    warn!(
                        problem,
                        "the files of TLS cannot be used; the node goes on with those before, and tries again"
                    );
                }
                watched.problem = Some(problem);
            }
        }
    }

    /// Reads the files again whenever they have changed, until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            let tls = Arc::clone(&self);
            let look = move || {
                let stamps = tls.files.stamps();
                let is_settled = {
                    let watched = tls.watched.lock().unwrap_or_else(PoisonError::into_inner);
                    watched.stamps == stamps && watched.problem.is_none()
                };
                if !is_settled {
                    tls.reload();
                }
            };
            // A disk that hangs holds one thread, and never the runtime.
            if tokio::task::spawn_blocking(look).await.is_err() {
                return;
            }
        }
    }

    /// Presents another certificate from now on, whatever is wrong with it.
    #[cfg(test)]
    pub(super) fn present(&self, own: Own) {
        let material = self.current();
        let (authorities, verifier) = (material.authorities.clone(), Arc::clone(&material.verifier));
        *self.current.write().unwrap() = Arc::new(Material { own: Arc::new(own), authorities, verifier });
    }

    /// The configuration of one connection that was accepted.
    pub(super) fn server_config(&self, door: &Door, slot: Arc<Slot>) -> Result<Arc<ServerConfig>, Error> {
        let material = self.current();
        let verifier = OfClient {
            inner: Arc::clone(&material.verifier),
            roots: Arc::clone(&material.authorities.roots),
            file: material.authorities.file.clone(),
            is_mandatory: self.is_mandatory,
            slot,
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Fixed(Arc::clone(&material.own.certified))));
        config.alpn_protocols = door.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The name of a member of this node's cluster.
    fn name_of(&self, id: &NodeId) -> Name {
        let cluster = match &self.name {
            Name::Node { cluster, .. } | Name::Client { cluster, .. } | Name::Authority { cluster } => cluster.clone(),
        };
        Name::Node { cluster, id: id.clone() }
    }
}

/// Dials one peer.
#[derive(Debug)]
struct DialPeer {
    tls: Arc<NodeTls>,
    name: Name,
}

impl Dial for DialPeer {
    fn attempt(&self, _host: &str) -> io::Result<Attempt> {
        let material = self.tls.current();
        let own = Some(Arc::clone(&material.own));
        let expected = Expected::Node(self.name.clone());
        Attempt::new(&material.authorities, expected, own, self.tls.takes_plain_text).map_err(io::Error::other)
    }
}

/// What a node asks of those who connect, and what it says of itself. The default asks for nothing: for nodes that only their
/// own machine reaches.
#[derive(Debug, Default)]
pub struct Trust {
    /// Its part of TLS; `None` for none.
    pub tls: Option<Arc<NodeTls>>,
    /// Whether other machines reach the node without TLS: `insecure: true`.
    pub is_exposed: bool,
    /// Whether all members must be on this machine: the node has no TLS, and nobody has said that it goes without.
    pub is_confined: bool,
    /// The name of the cluster in certificates.
    pub cluster: String,
}

impl Trust {
    /// How to connect to the peer with this id.
    #[must_use]
    pub fn dialer(&self, peer: &NodeId) -> Dialer {
        Dialer::new(self.tls.as_ref().map(|tls| {
            let dial = DialPeer { tls: Arc::clone(tls), name: tls.name_of(peer) };
            Arc::new(dial) as Arc<dyn Dial>
        }))
    }

    /// The same for an id as the wire has it. An empty one is that of no peer.
    #[must_use]
    pub fn dialer_of(&self, id: &str) -> Dialer {
        NodeId::new(id).map(|id| self.dialer(&id)).unwrap_or_default()
    }

    /// Checks that whoever opens a link is a node; of which id it is decides its hello: [`Trust::check_id`].
    ///
    /// # Errors
    /// Why the link is refused, and what to do.
    pub fn check_peer(&self, caller: Option<&Caller>) -> Result<(), String> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let Some(facts) = channel_facts(tls, caller)? else { return Ok(()) };
        let is_node = facts.names.iter().any(|name| matches!(name, Name::Node { id, .. } if tls.name_of(id) == *name));
        if is_node {
            return Ok(());
        }
        Err(format!(
            "certificate {:?} is not that of a node of this cluster: a node needs the URI {} among its subject alternative names, \
             with its own id (`quorate ca issue node`)",
            facts.described(),
            tls.name.uri()
        ))
    }

    /// Checks that the node that says hello as `id` has the certificate of that id.
    ///
    /// # Errors
    /// Why the link is refused, and what to do.
    pub fn check_id(&self, caller: Option<&Caller>, id: &NodeId) -> Result<(), String> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let Some(facts) = channel_facts(tls, caller)? else { return Ok(()) };
        let name = tls.name_of(id);
        if facts.names.contains(&name) {
            return Ok(());
        }
        Err(format!(
            "it says that it is {name}, and its certificate is {:?}: give it the certificate of its own id, or correct node.id",
            facts.described()
        ))
    }

    /// What is wrong with the files, and what will be soon, for the status of the node.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(tls) = &self.tls {
            let material = tls.current();
            if let Some(problem) = tls.problem() {
                problems.push(format!(
                    "its files of TLS cannot be read again, and it goes on with those before: {problem}"
                ));
            }
            let own = std::iter::once((&material.own.facts, &material.own.file));
            let authorities = material.authorities.facts.iter().map(|facts| (facts, &material.authorities.file));
            let now = date::now();
            for (facts, file) in own.chain(authorities) {
                let life = facts.not_after.saturating_sub(facts.not_before);
                if facts.not_after.saturating_sub(now) < EXPIRY_WARNING_SECONDS.min(life / 4) {
                    let (subject, until) = (&facts.subject, date::text(facts.not_after));
                    let file = file.display();
                    problems.push(format!("certificate {subject:?} of {file} ends at {until}: issue a new one"));
                }
            }
        }
        problems
    }

    /// What the node's configuration gives up, for its status.
    #[must_use]
    pub fn remark(&self) -> Option<&'static str> {
        self.is_exposed.then_some(
            "insecure: true: everybody who reaches this node can read, write and pose as a node; give it certificates, and \
             take insecure out",
        )
    }
}

/// The certificate of a caller who must have one; `None` for a caller without TLS where that is taken.
fn channel_facts(tls: &NodeTls, caller: Option<&Caller>) -> Result<Option<Arc<Facts>>, String> {
    match caller.and_then(Caller::channel) {
        Some(Channel::Tls(Some(facts))) => Ok(Some(facts)),
        Some(Channel::Plain) if tls.takes_plain_text => Ok(None),
        _ => Err(format!(
            "a node must present its certificate, and this connection has none: give each node tls_certificate, tls_key and tls_ca \
             (this one is {})",
            tls.name
        )),
    }
}
