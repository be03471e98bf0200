//! A whole node, put together from its configuration and ended in order: data folder, store, node, gateway.
//!
//! Contract of the end: the node first refuses new requests as not applied, and finishes those in flight. It then closes
//! the links to peers and the connections of clients, and tells each of them beforehand. At last the loop stops and the
//! store is flushed. A client that fails over sees no error.
//!
//! A node whose store is damaged may end by itself, once it has given the store up ([`replacing`]). Started again on the same
//! folder, it has a fresh store, and gets its place back from the other members. A node that waits may add itself ([`joining`]).

mod asking;
mod joining;
mod replacing;

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{info, warn};

use crate::admin;
use crate::auth::{Grant, Proof, Token, TokenError, TokenId};
use crate::config::{Config, ConfigError, Discovery, LocalAddress, NodeConfig, RemoteAddress, TlsPaths};
use crate::gateway::http::{self, HttpOptions};
use crate::gateway::redis::{self, RedisOptions};
use crate::gateway::{grpc, lines};
use crate::limits::DRAIN_TIME_MAX;
use crate::protocol::placement::Placement;
use crate::protocol::rate::Rate;
use crate::protocol::{Layout, RepairOrder, RepairSettings, TombstoneSettings};
use crate::runtime::{self, NodeHandle, RunningNode, ScrubSettings};
use crate::service::authorization::{Audit, AuditError, Authorization};
use crate::service::deadline::Deadline;
use crate::service::{Service, descriptors};
use crate::shares::Amounts;
use crate::storage::folder::{self, DataFolder, DataFolderError, FileSays};
use crate::storage::memory::MemoryStore;
use crate::storage::rocks::RocksOptions;
use crate::storage::watched::Watched;
use crate::storage::{Store, StoreError};
use crate::tls::{FileError, Name, NodeFiles, NodeTls, Trust};
use crate::traces::TraceSettings;
use crate::types::{Site, StoreId};
use crate::wire::tokens::TokenCreateCall;

/// The file in a data folder with the token by which the first administrator is made: anew at each start of the node.
pub const BOOTSTRAP_FILE: &str = "bootstrap.token";

/// Where a node keeps its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// RocksDB in the data folder.
    #[default]
    Rocks,
    /// Memory. A restart loses the disk, so all nodes of a cluster use memory, or none does.
    Memory,
}

/// A node that serves.
pub struct Server {
    node: RunningNode,
    local_address: SocketAddr,
    gateway: JoinHandle<()>,
    /// The other listeners for clients. Each ends by itself once the node closes.
    more_gateways: Vec<JoinHandle<()>>,
    http_address: Option<SocketAddr>,
    line_address: Option<SocketAddr>,
    redis_address: Option<SocketAddr>,
    admin: Option<JoinHandle<()>>,
    service: Arc<Service>,
    closing: CancellationToken,
    /// Holds the lock of the data folder until the store is closed.
    folder: Option<Arc<DataFolder>>,
    /// The weight and zone with which the node adds itself where it waits; `None` where it waits for an operator.
    adds_itself: Option<Site>,
    /// The nodes of the process that still finish requests, and this one among them.
    draining: Option<(TaskTracker, TaskTrackerToken)>,
}

/// Why a server has ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    AsTold,
    /// Its store is damaged, and given up for good. Started again, the node sets the store aside and gets its place back.
    StoreGivenUp,
}

/// A node that holds its ports and its store, and does not serve yet.
pub struct PreparedServer {
    config: Config,
    listener: TcpListener,
    admin_listener: Option<TcpListener>,
    http_listener: Option<TcpListener>,
    line_listener: Option<TcpListener>,
    redis_listener: Option<TcpListener>,
    folder: Option<DataFolder>,
    store: Arc<dyn Store>,
    trust: Trust,
    joins: bool,
}

/// Why a node cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {error}{}", advice(error))]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The key's value.
        address: LocalAddress,
        /// The system's error.
        error: std::io::Error,
    },
    /// Its files of TLS cannot be used.
    #[error("{key}: {error}")]
    Tls {
        /// The configuration's key.
        key: &'static str,
        /// What is wrong with its file.
        error: FileError,
    },
    /// Other machines reach it, and it has neither TLS nor leave to go without.
    #[error(
        "{address} is beyond this machine's loopback, and the node has no TLS: give it tls_certificate, tls_key and tls_ca, or \
         insecure: true"
    )]
    Exposed {
        /// An address that they reach.
        address: String,
    },
    /// Its audit cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The token by which the first administrator is made cannot be written.
    #[error("authorization: cannot write {path}: {error}")]
    Bootstrap {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error("authorization: {0}")]
    Token(#[from] TokenError),
    /// Its cluster file does not list it, and its data folder knows of no members.
    #[error(transparent)]
    Unlisted(ConfigError),
    /// Its data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The metadata of its store cannot be read.
    #[error("data folder {path}: {error}")]
    Store {
        /// The folder.
        path: PathBuf,
        /// The store's error.
        error: StoreError,
    },
    /// Serving ended by itself.
    #[error("serving ended: {0}")]
    Ended(String),
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (another process listens there: end it, or give this node another port)",
        std::io::ErrorKind::PermissionDenied => " (ports below 1024 are for privileged processes: take another one)",
        std::io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        _ => "",
    }
}

impl Server {
    /// Starts the node that `config` describes. It listens when this returns. It takes requests later, once all members of
    /// the cluster have met.
    ///
    /// # Errors
    /// When an address cannot be listened on or the data folder cannot be used. Nothing then runs.
    pub async fn start(config: &Config, storage: Storage) -> Result<Self, ServerError> {
        Self::prepare(config, storage).await?.start()
    }

    /// The same for a node that waits to be added to a cluster that exists, unless it is a member already.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn join(config: &Config, storage: Storage) -> Result<Self, ServerError> {
        Self::prepare_as(config, storage, true).await?.start()
    }

    /// Binds the node's ports and opens its store, the slow parts of a start. Connections wait until the node is started.
    /// The nodes of one process are all prepared before the first one starts, so that each finds the others' ports bound.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn prepare(config: &Config, storage: Storage) -> Result<PreparedServer, ServerError> {
        Self::prepare_as(config, storage, false).await
    }

    async fn prepare_as(config: &Config, storage: Storage, joins: bool) -> Result<PreparedServer, ServerError> {
        let joins = joins || config.cluster.unlisted.is_some();
        // First of all, because what is opened below counts against the limit of open files.
        let descriptors = descriptors::of_process();
        let trust = trust(config)?;
        // The ports before the folder: none is made for a node that cannot serve.
        let listener = listen("node.local_address", &config.node.local_address).await?;
        let node = &config.node;
        let admin_listener = listen_if("node.local_metrics_address", node.local_metrics_address.as_ref()).await?;
        let http_listener = listen_if("node.local_http_address", node.local_http_address.as_ref()).await?;
        let line_listener = listen_if("node.local_line_address", node.local_line_address.as_ref()).await?;
        let redis_listener = listen_if("node.local_redis_address", node.local_redis_address.as_ref()).await?;
        let (folder, store) = open_store(config, storage, joins, descriptors.store_files_max).await?;
        Ok(PreparedServer {
            config: config.clone(),
            listener,
            admin_listener,
            http_listener,
            line_listener,
            redis_listener,
            folder,
            store,
            joins,
            trust,
        })
    }

    /// A handle to its node.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        self.node.handle()
    }

    /// Where it listens for clients and peers.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Where it serves HTTP, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Where it serves the line protocol, if it does.
    #[must_use]
    pub fn line_address(&self) -> Option<SocketAddr> {
        self.line_address
    }

    /// Where it serves the Redis protocol, if it does.
    #[must_use]
    pub fn redis_address(&self) -> Option<SocketAddr> {
        self.redis_address
    }

    /// Gives all rights to the client with this name in its certificate. The same again changes nothing.
    ///
    /// # Errors
    /// In words, where too few nodes answer, or another token has the name.
    pub async fn give_all_rights_to_certificate(&self, name: &str) -> Result<(), String> {
        let id = TokenId::new(name).ok_or_else(|| format!("{name:?} is no id of a token"))?;
        let (name, proof) = (name.to_owned(), Proof::Certificate(name.to_owned()));
        let call = TokenCreateCall { id, name, proof, grants: vec![Grant::EVERYTHING] };
        let made = self.service.for_this_node().token_create(call, Deadline::new(None, Instant::now())).await;
        made.map(drop).map_err(|error| error.message)
    }

    /// Reads at once who may do what, if that can be read.
    pub async fn learn_who_may_do_what(&self) {
        self.service.learn_holders().await;
    }

    /// Nodes of one process that are told to end together answer each other until all have finished their requests. `nodes` is
    /// closed once all are in it.
    pub fn ends_with(&mut self, nodes: &TaskTracker) {
        self.draining = Some((nodes.clone(), nodes.token()));
    }

    /// Serves until `shutdown` is cancelled or a damaged store was given up, then ends in order.
    ///
    /// # Errors
    /// When serving ends by itself.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<Ended, ServerError> {
        let mut end = Ended::AsTold;
        let joining_folder = self.folder.clone().filter(|_| self.adds_itself.is_some());
        let site = self.adds_itself.take().unwrap_or_default();
        let by_itself = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = &mut self.gateway => Some(describe(ended)),
            () = replacing::run(self.node.handle().clone(), self.folder.clone()) => {
                end = Ended::StoreGivenUp;
                None
            }
            never = joining::run(self.node.handle().clone(), joining_folder, site) => match never {},
        };
        self.node.drain().await;
        if let Some((others, own)) = self.draining.take() {
            drop(own);
            // They need this node for what is in flight there.
            if shutdown.is_cancelled() {
                let _ = tokio::time::timeout(DRAIN_TIME_MAX, others.wait()).await;
            }
        }
        self.node.unlink().await;
        self.closing.cancel();
        if by_itself.is_none() && tokio::time::timeout(DRAIN_TIME_MAX, &mut self.gateway).await.is_err() {
            warn!("clients still hold streams open; ending without them");
            self.gateway.abort();
        }
        for gateway in self.more_gateways {
            // Each ends within CLOSE_TIME_MAX, and has had that time while the first one closed.
            if let Err(error) = gateway.await {
                warn!(%error, "a listener did not end well");
            }
        }
        if let Some(admin) = &self.admin {
            // An idle connection of a scraper is no reason to wait.
            tokio::time::sleep(Duration::from_millis(1)).await;
            admin.abort();
        }
        self.node.stop().await;
        info!("ended");
        by_itself.map_or(Ok(end), |why| Err(ServerError::Ended(why)))
    }
}

impl PreparedServer {
    /// Starts the node.
    ///
    /// # Errors
    /// When its store cannot be read. Nothing then runs.
    pub fn start(self) -> Result<Server, ServerError> {
        let Self { config, listener, admin_listener, http_listener, line_listener, redis_listener, .. } = self;
        let Self { folder, store, joins, trust, .. } = self;
        let redis_address = redis_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let line_address = line_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let http_address = http_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let of_file = || config.cluster.addresses.iter().map(ToString::to_string).collect();
        let joins = joins || folder.as_ref().is_some_and(|folder| folder.replaces().is_some());
        let parameters = folder.as_ref().map_or(&config.cluster.parameters, DataFolder::parameters).clone();
        let addresses = folder.as_ref().map_or_else(of_file, |folder| folder.addresses().to_vec());
        let me = parameters.member(&config.node.id).unwrap_or_else(|| config.member());
        let adds_itself = config.cluster.discovery == Discovery::Dns && config.unlisted.is_none();
        let adds_itself = adds_itself.then(|| config.cluster.parameters.site(config.member()).clone());
        let remote = RemoteAddress::parse(&addresses[me.index()]);
        let placement = Arc::new(Placement::new(parameters));
        let options = runtime::Options {
            me,
            placement,
            addresses,
            joins,
            http_address: http_address.map(|address| remote_http_address(&config, remote.as_ref(), address)),
            store,
            operator_writes: config.node.operator_writes,
            repair: repair_settings(&config.node),
            takeover: takeover_rate(&config.node),
            disk_reserve_bytes: config.node.disk_reserve_bytes,
            scrub: scrub_settings(&config.node),
            replaces_damaged: config.node.replace_damaged,
            trust: Arc::new(trust),
            amounts: amounts(&config.node),
            traces: traces(&config.node),
        };
        let path = config.node.data_dir.clone();
        let node = runtime::start(options).map_err(|error| ServerError::Store { path, error })?;

        let local_address = listener.local_addr().map_err(|error| ServerError::Ended(error.to_string()))?;
        let closing = CancellationToken::new();
        let handle = node.handle().clone();
        if let Some(tls) = handle.trust().tls.clone() {
            tokio::spawn(tls.watch(closing.clone()));
        }
        let authorization = config.node.authorization.then(|| authorization(&config, &handle)).transpose()?;
        let asks_who_calls = authorization.is_some();
        let service = Service::with_authorization(handle.clone(), authorization);
        service.show_keys(config.node.status_page_keys);
        if asks_who_calls {
            tokio::spawn(Arc::clone(&service).follow_holders(closing.clone()));
        }
        let gateway = tokio::spawn(grpc::serve(listener, Arc::clone(&service), closing.clone()));
        let mut more_gateways = Vec::new();
        if let Some(listener) = http_listener {
            let (hosts, cors_origins) = (config.node.http_hosts.clone(), config.node.http_cors_origins.clone());
            let options = HttpOptions { hosts, cors_origins };
            let http = http::serve(listener, Arc::clone(&service), options, closing.clone());
            more_gateways.push(tokio::spawn(http));
        }
        if let Some(listener) = line_listener {
            more_gateways.push(tokio::spawn(lines::serve(listener, Arc::clone(&service), closing.clone())));
        }
        if let Some(listener) = redis_listener {
            let options = RedisOptions { table: config.node.redis_table.clone() };
            more_gateways.push(tokio::spawn(redis::serve(listener, Arc::clone(&service), options, closing.clone())));
        }
        let admin =
            admin_listener.map(|listener| tokio::spawn(admin::serve(listener, Arc::clone(&service), closing.clone())));
        info!(node = %config.node.id, address = %local_address, "listening");
        if let Some(remark) = node.handle().trust().remark() {
            warn!("{remark}");
        }
        if let Some(differences) = differences(&config, &node.handle().layout()) {
            warn!(
                "the cluster file says something else than the cluster, and the node goes on with what the cluster has. By the \
                 file: {differences}. `quorate members apply` makes such a change"
            );
        }
        Ok(Server {
            node,
            local_address,
            gateway,
            more_gateways,
            http_address,
            line_address,
            redis_address,
            admin,
            service,
            closing,
            folder: folder.map(Arc::new),
            adds_itself,
            draining: None,
        })
    }
}

/// Where the node sends spans, and which requests it traces.
fn traces(node: &NodeConfig) -> Option<TraceSettings> {
    let endpoint = node.traces_endpoint.clone()?;
    Some(TraceSettings { endpoint, sampled: node.traces_sampled.into() })
}

/// Who may do what on the node. Writes the token by which the first administrator is made into the data folder.
fn authorization(config: &Config, node: &NodeHandle) -> Result<Arc<Authorization>, ServerError> {
    let metrics = node.shared_metrics();
    let open = |file: &PathBuf| Audit::open(file, config.node.audit_writes, Arc::clone(&metrics));
    let audit = config.node.audit_file.as_ref().map(open).transpose()?;
    let cluster = config.cluster.name.clone();
    let admits = config.cluster.discovery == Discovery::Dns;
    let (authorization, token) = Authorization::new(cluster, admits, audit, Arc::clone(&metrics))?;
    let path = config.node.data_dir.join(BOOTSTRAP_FILE);
    write_secret(&path, &token).map_err(|error| ServerError::Bootstrap { path, error })?;
    Ok(authorization)
}

/// Replaces a file that its owner alone may read.
fn write_secret(path: &Path, token: &Token) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        // A node that keeps its records in memory has no folder.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(format!("{}\n", token.reveal()).as_bytes())?;
    std::fs::rename(&new, path)
}

/// How the node believes those who connect.
fn trust(config: &Config) -> Result<Trust, ServerError> {
    let node = &config.node;
    let listener = node.listeners().find(|address| !address.is_loopback()).map(|address| address.to_string());
    let reached = listener.or_else(|| config.cluster.address_beyond_loopback().map(ToString::to_string));
    if let Some(address) = &reached
        && !node.is_protected()
    {
        return Err(ServerError::Exposed { address: address.clone() });
    }
    let name = Name::Node { cluster: config.cluster.name.clone(), id: node.id.clone() };
    let tls = node.tls.as_ref().map(|paths| {
        let TlsPaths { certificate, key, ca } = paths.clone();
        let files = NodeFiles { certificate, key, authorities: ca };
        NodeTls::load(files, name, node.tls_client_certificates_required, node.insecure)
            .map_err(|error| ServerError::Tls { key: paths.key_of(error.file()), error })
    });
    Ok(Trust {
        tls: tls.transpose()?,
        is_exposed: node.insecure && reached.is_some(),
        is_confined: !node.is_protected(),
        cluster: config.cluster.name.clone(),
    })
}

/// What the cluster file says that is not so in the cluster. `None` where it says what is.
fn differences(config: &Config, layout: &Layout) -> Option<String> {
    let file = &config.cluster;
    let (has, wished) = (layout.newest().parameters(), &file.parameters);
    let mut differences = Vec::new();
    for id in wished.node_ids.iter().filter(|id| !has.node_ids.contains(id)) {
        differences.push(format!("node {id} is added"));
    }
    // A file that lets nodes add themselves does not list them.
    let are_listed = file.discovery == Discovery::File;
    for id in has.node_ids.iter().filter(|id| are_listed && !wished.node_ids.contains(id)) {
        differences.push(format!("node {id} is removed"));
    }
    if has.replica_count != wished.replica_count {
        differences.push(format!("replica_count is {} instead of {}", wished.replica_count, has.replica_count));
    }
    if has.epoch_floor != wished.epoch_floor {
        differences.push(format!("epoch_floor is {} instead of {}", wished.epoch_floor, has.epoch_floor));
    }
    for member in wished.members() {
        let (id, site) = (wished.id(member), wished.site(member));
        let Some(present) = has.member(id).map(|member| has.site(member)).filter(|present| *present != site) else {
            continue;
        };
        let text = |site: &Site| match &site.zone {
            Some(zone) => format!("weight {} in zone {zone}", site.weight),
            None => format!("weight {}", site.weight),
        };
        differences.push(format!("node {id} has {} instead of {}", text(site), text(present)));
    }
    for (id, address) in std::iter::zip(&wished.node_ids, &file.addresses) {
        let known = layout.member(id).and_then(|member| layout.nodes()[member.index()].address.as_deref());
        let address = address.to_string();
        if known.is_some_and(|known| known != address) {
            differences.push(format!("node {id} is reached at {address} instead of {}", known.unwrap_or_default()));
        }
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

fn describe(ended: Result<(), tokio::task::JoinError>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "the listener was closed".to_owned())
}

async fn listen_if(key: &'static str, address: Option<&LocalAddress>) -> Result<Option<TcpListener>, ServerError> {
    match address {
        Some(address) => listen(key, address).await.map(Some),
        None => Ok(None),
    }
}

/// Applies the values of a running node's configuration that take effect without a restart.
pub async fn reload(node: &NodeHandle, config: &NodeConfig) {
    node.set_disk_reserve(config.disk_reserve_bytes);
    node.configure_scrub(scrub_settings(config));
    node.allow_to_replace_itself(config.replace_damaged);
    if let Some(tls) = node.trust().tls.clone() {
        // A disk that hangs must not hold up the rest.
        tokio::task::spawn_blocking(move || tls.reload());
    }
    // A node that has ended has nothing to reload.
    let _ = node.order_repair(RepairOrder::Configure(repair_settings(config))).await;
    let _ = node.pace_takeover(takeover_rate(config)).await;
}

/// How much of everything clients may have.
fn amounts(config: &NodeConfig) -> Amounts {
    let descriptors = descriptors::of_process();
    Amounts {
        connections: config
            .connections_max
            .map_or(descriptors.connections_max, |max| max.min(descriptors.connections_max)),
        connections_of_address: config.connections_per_address_max,
        monitoring: descriptors.monitoring_max,
        requests: config.requests_in_flight_max,
        requests_of_client: config.requests_in_flight_per_client_max,
        requests_of_client_per_second: config.requests_per_second_per_client_max,
        request_bytes: config.request_bytes_in_flight_max,
    }
}

/// How fast the node takes slots over.
fn takeover_rate(config: &NodeConfig) -> Rate {
    Rate { keys_per_second: config.takeover_keys_per_second, bytes_per_second: config.takeover_bytes_per_second }
}

/// How the node reads its store to verify it.
fn scrub_settings(config: &NodeConfig) -> ScrubSettings {
    let every = (config.scrub_every_seconds > 0).then(|| Duration::from_secs(config.scrub_every_seconds as u64));
    ScrubSettings { bytes_per_second: config.scrub_bytes_per_second, every }
}

/// How the node repairs; `None` where it does not.
fn repair_settings(config: &NodeConfig) -> Option<RepairSettings> {
    let (keys_per_second, bytes_per_second) = (config.repair_keys_per_second, config.repair_bytes_per_second);
    let kept_for = Duration::from_secs(config.tombstones_kept_for_seconds as u64);
    let tombstones = Some(TombstoneSettings { kept_for, ..TombstoneSettings::default() });
    let settings = RepairSettings { keys_per_second, bytes_per_second, tombstones, ..RepairSettings::default() };
    (keys_per_second > 0).then_some(settings)
}

/// Where others reach the HTTP of a node that serves it at `local`, and that they reach at `remote`.
fn remote_http_address(config: &Config, remote: Option<&RemoteAddress>, local: SocketAddr) -> String {
    let default = || remote.map_or_else(|| local.to_string(), |remote| remote.with_port(local.port()).to_string());
    config.node.remote_http_address.as_ref().map_or_else(default, ToString::to_string)
}

async fn listen(key: &'static str, address: &LocalAddress) -> Result<TcpListener, ServerError> {
    let candidates = address.bind_candidates();
    TcpListener::bind(candidates.as_slice()).await.map_err(|error| ServerError::Listen {
        key,
        address: *address,
        error,
    })
}

async fn open_store(
    config: &Config,
    storage: Storage,
    joins: bool,
    open_files_max: u16,
) -> Result<(Option<DataFolder>, Arc<dyn Store>), ServerError> {
    if storage == Storage::Memory {
        if let Some(error) = &config.unlisted {
            return Err(ServerError::Unlisted(error.clone()));
        }
        warn!("records are kept in memory alone: when this node ends, it has lost its disk");
        return Ok((None, Arc::new(MemoryStore::new(StoreId(rand::random())))));
    }
    let node = &config.node;
    let settings = RocksOptions {
        durability: node.durability,
        record_cache_bytes: node.record_cache_bytes,
        block_cache_bytes: node.block_cache_bytes,
        write_buffer_bytes: node.write_buffer_bytes,
        open_files_max,
        ..RocksOptions::default()
    };
    if node.durability == crate::types::Durability::Os {
        warn!("durability is os: a loss of power takes acknowledged writes back");
    }
    let (path, id, parameters) = (node.data_dir.clone(), node.id.clone(), config.cluster.parameters.clone());
    let addresses: Vec<String> = config.cluster.addresses.iter().map(ToString::to_string).collect();
    let open = move || {
        let cluster = FileSays { parameters: &parameters, addresses: &addresses, joins };
        folder::open(&path, &id, cluster, &settings)
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let (folder, store) = match (opened.map_err(|error| ServerError::Ended(error.to_string()))?, &config.unlisted) {
        // It names the place.
        (Err(DataFolderError::NotListed { .. }), Some(error)) => return Err(ServerError::Unlisted(error.clone())),
        (opened, _) => opened?,
    };
    Ok((Some(folder), Arc::new(Watched::new(store))))
}
