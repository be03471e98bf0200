//! The operations of a node, for callers of any protocol: one method for each operation.
//!
//! Contract: a gateway parses a request, calls one method here, and prints the result. Everything that holds for a
//! request at every door is here, once: its deadline, its admission, the bound on what it holds in memory, its metrics
//! and its log line. A failure is a [`ServiceError`], which says what the caller should do next; each gateway has its own
//! words for that.
//!
//! Invariant: every operation is answered by [`Deadline::give_up_at`], even if the node's loop is stuck.
//!
//! Caveat: an operation that the node has begun goes on when its caller hangs up. Only the waiting ends.

pub mod authorization;
pub(crate) mod batch_get;
pub(crate) mod batch_write;
pub(crate) mod buffer_budget;
pub(crate) mod cluster_report;
pub(crate) mod deadline;
pub(crate) mod descriptors;
pub(crate) mod error;
mod frames;
pub(crate) mod health;
pub(crate) mod key_figures;
pub(crate) mod key_scan;
pub(crate) mod list;
pub(crate) mod listener;
pub(crate) mod members;
pub(crate) mod patient;
pub(crate) mod plain;
mod replace;
pub(crate) mod request_metrics;
pub(crate) mod streams;
pub(crate) mod tables;
pub(crate) mod update;
pub(crate) mod watch;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::codegen::http::HeaderMap;
use tracing::error;

use crate::auth::{Needs, Target};
use crate::limits::SCANS_MAX;
use crate::protocol::{Layout, RepairOrder, RepairReport, Unready};
use crate::runtime::{NodeHandle, RequestError, ScrubReport, Status, WriteResult};
use crate::shares::{Kind, Owner};
use crate::storage::StoreStatistics;
use crate::tls::Dialer;
use crate::traces;
use crate::types::{
    AgedRecord, Change, ChangeRequest, Clock, ClusterId, Content, Key, KeyError, NodeId, NodeIndex, Record, Site, Slot,
    Stamp, Table, TableId, Ttl, Version,
};
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access, Method};
use crate::wire::version::VersionText;

use authorization::{Asked, Authorization, Caller};
use buffer_budget::{BudgetGuard, BufferBudget};
use deadline::Deadline;
use error::{ErrorContext, ServiceError};
use health::{Assessor, Health, LinkState, unready_text};
use key_figures::KeyFigures;
use key_scan::KeyScan;
use request_metrics::{Door, Observation, RequestMetrics};
use update::UpdateQueues;

/// Smaller values are counted with their request, as part of [`OPEN_REQUEST_BYTES`]. Most answers are smaller.
///
/// [`OPEN_REQUEST_BYTES`]: crate::limits::OPEN_REQUEST_BYTES
const UNCOUNTED_VALUE_BYTES: usize = 8 << 10;

/// The operations of one node, for one caller.
pub struct Service {
    shared: Arc<Shared>,
    caller: Caller,
    /// The node, with what this caller holds of it.
    node: NodeHandle,
    buffers: BufferBudget,
}

/// What the operations of all callers share.
pub struct Shared {
    /// The node, for its own operations.
    node_for_itself: NodeHandle,
    assessor: Assessor,
    metrics: Arc<RequestMetrics>,
    key_figures: KeyFigures,
    turns: UpdateQueues,
    sizes: members::Sizes,
    placements: Arc<members::Placements>,
    /// The number of slots that each node holds, by index, under the configuration of this number.
    slots_held: Mutex<Option<(u64, Arc<[u32]>)>>,
    seed: u32,
    /// Who may do what; `None` where everybody may do everything.
    authorization: Option<Arc<Authorization>>,
}

impl std::ops::Deref for Service {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A record on its way to a caller.
pub(crate) struct Answer {
    pub(crate) record: AgedRecord,
    /// The answer's part of the buffer budget. The gateway drops it once the caller has the answer.
    pub(crate) guard: Option<BudgetGuard>,
}

/// The cluster as this node sees it.
pub(crate) struct ClusterView {
    pub(crate) node: NodeId,
    pub(crate) uptime: Duration,
    pub(crate) seed: u32,
    pub(crate) replica_count: usize,
    pub(crate) epoch_floor: u64,
    pub(crate) cluster: Option<ClusterId>,
    /// All members, ordered by id.
    pub(crate) members: Vec<MemberView>,
}

/// One member of the cluster as this node sees it.
pub(crate) struct MemberView {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    /// Its address of HTTP, if it serves HTTP and has told this node.
    pub(crate) http_address: Option<String>,
    pub(crate) state: LinkState,
    /// Why it is not linked; empty if it is.
    pub(crate) detail: String,
    pub(crate) slots: u32,
    pub(crate) site: Site,
    /// The time since its last message; `None` if this node has had none since it started.
    pub(crate) last_seen: Option<Duration>,
}

/// A replica of a key.
pub(crate) struct ReplicaView {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    /// Its address of HTTP, if it serves HTTP and has told this node.
    pub(crate) http_address: Option<String>,
}

/// The health of this node.
pub(crate) struct HealthReport {
    pub(crate) node: NodeId,
    pub(crate) health: Health,
    /// The reason, and what to do; empty if all is well.
    pub(crate) detail: String,
    pub(crate) uptime: Duration,
    pub(crate) clock: Stamp,
    pub(crate) statistics: StoreStatistics,
    /// Whether it takes requests and its disk takes writes.
    pub(crate) serves: bool,
    /// The other members, ordered by id: id, state of the link, and why it is not linked.
    pub(crate) peers: Vec<(NodeId, LinkState, String)>,
    /// How it reads its own store.
    pub(crate) scrub: ScrubReport,
    /// Whether it has met damage there.
    pub(crate) is_damaged: bool,
    /// How far its records are compared with those of its peers, which it names by their indexes.
    pub(crate) repair: RepairReport,
    /// The ids of all known nodes, by their indexes.
    pub(crate) nodes: Vec<NodeId>,
    /// When its certificate ends, in seconds since 1970; `None` without TLS.
    pub(crate) certificate_end: Option<i64>,
    /// How many requests for keys and tables have succeeded here.
    pub(crate) requests: u64,
}

impl Service {
    /// The operations of `node`, for everybody. All gateways of a node share them, and with them the bounds on what requests hold.
    #[must_use]
    pub fn new(node: NodeHandle) -> Arc<Self> {
        Self::with_authorization(node, None)
    }

    /// The same, where `authorization` says who may do what. It acts for nobody: [`Service::for_caller`].
    #[must_use]
    pub fn with_authorization(node: NodeHandle, authorization: Option<Arc<Authorization>>) -> Arc<Self> {
        let shared = Shared {
            assessor: Assessor::new(node.clone()),
            metrics: RequestMetrics::new(node.clone()),
            key_figures: KeyFigures::default(),
            turns: UpdateQueues::default(),
            sizes: members::Sizes::default(),
            placements: Arc::default(),
            slots_held: Mutex::default(),
            seed: node.layout().parameters().seed,
            authorization,
            node_for_itself: node.for_itself(),
        };
        let buffers = BufferBudget::of(node.account());
        Arc::new(Self { shared: Arc::new(shared), caller: Caller::default(), node, buffers })
    }

    /// The same operations, for a caller who has a share of the node as this owner.
    fn of_caller(&self, caller: Caller, owner: Option<Owner>) -> Self {
        let node = owner.map_or_else(|| self.node.clone(), |owner| self.node.for_client(owner));
        let buffers = BufferBudget::of(node.account());
        Self { shared: Arc::clone(&self.shared), caller, node, buffers }
    }

    /// The node.
    pub(crate) fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// The node, for operations of this caller.
    fn node_for_caller(&self) -> &NodeHandle {
        if self.is_of_this_node() { &self.node_for_itself } else { &self.node }
    }

    /// How to ask the node with this id for its health.
    pub(crate) fn dialer_of(&self, id: &str) -> Dialer {
        self.node.trust().dialer_of(id).with_token(self.token_of_nodes().as_ref())
    }

    /// Begins to observe a request; `None` is a method that does not exist. The gateway ends the observation when the
    /// last byte of the answer has left.
    pub(crate) fn observe(&self, door: Door, method: Option<&Method>, began: Instant) -> Observation {
        // One name for all unknown methods: labels that callers choose would grow without bound.
        self.metrics.begin(door, method.map_or("unknown", Method::name), began, None)
    }

    /// The same for a request whose headers may name the span of its caller.
    pub(crate) fn observe_with(
        &self,
        door: Door,
        method: Option<&Method>,
        began: Instant,
        headers: &HeaderMap,
    ) -> Observation {
        self.metrics.begin(door, method.map_or("unknown", Method::name), began, Some(headers))
    }

    /// The bound on requests of this caller that arrive and answers that leave.
    pub(crate) fn buffers(&self) -> &BufferBudget {
        &self.buffers
    }

    /// Reads the latest record of a key, linearizably.
    pub(crate) async fn get(
        &self,
        table: &Table,
        key: &Key,
        deadline: Deadline,
    ) -> Result<Option<Answer>, ServiceError> {
        self.allow(&method::GET, Target::Key(table, key.user_bytes()))?;
        let read = pin!(self.node_for_caller().get(table, key.clone(), deadline.answer_at));
        let read = self.wait_for(self.of_read(table, key), read, deadline);
        let record = self.timed(&method::GET, table, key, read).await?;
        record.map(|record| self.release(key, record)).transpose()
    }

    /// Reads the record of a key on one replica, of at least version `at_least`.
    pub(crate) async fn get_one(
        &self,
        table: &Table,
        key: &Key,
        at_least: Option<Version>,
        deadline: Deadline,
    ) -> Result<Option<Answer>, ServiceError> {
        self.allow(&method::GET, Target::Key(table, key.user_bytes()))?;
        let read = pin!(self.node.get_one(table, key.clone(), at_least, deadline.answer_at));
        let read = self.wait_for(self.of_read(table, key), read, deadline);
        let record = self.timed(&method::GET, table, key, read).await?;
        record.map(|record| self.release(key, record)).transpose()
    }

    /// Writes a value or a tombstone.
    pub(crate) async fn set(
        &self,
        table: &Table,
        key: Key,
        content: Content,
        ttl: Option<Ttl>,
        deadline: Deadline,
    ) -> Result<Version, ServiceError> {
        let method = if matches!(content, Content::Tombstone) { &method::DELETE } else { &method::SET };
        let write = pin!(self.node.set(table, key.clone(), content, ttl, deadline.answer_at));
        let write = self.wait_for(self.of_write(table, &key), write, deadline);
        let write = self.timed(method, table, &key, write);
        self.audited(method, Target::Key(table, key.user_bytes()), write).await
    }

    /// Writes depending on the record that is there.
    pub(crate) async fn change(
        &self,
        table: &Table,
        key: Key,
        request: ChangeRequest,
        deadline: Deadline,
    ) -> Result<WriteResult, ServiceError> {
        let is_resend = request.is_resend;
        let method = match &request.change {
            Change::Write { content: Content::Tombstone, .. } => &method::DELETE,
            Change::Write { .. } => &method::SET,
            Change::Add { .. } => &method::ADD,
        };
        let write = pin!(self.node_for_caller().change(table, key.clone(), request, deadline.answer_at));
        let write = self.wait_for(self.of_write(table, &key), write, deadline);
        let write = self.timed(method, table, &key, write);
        let written = self.audited(method, Target::Key(table, key.user_bytes()), write).await;
        written.map_err(|error| error.of_resend(is_resend))
    }

    /// Writes and reads the versions of this cluster.
    pub(crate) fn versions(&self) -> VersionText {
        VersionText::of_cluster(self.seed)
    }

    /// Reads the record that this node's replica holds.
    pub(crate) async fn node_get(
        &self,
        table: &Table,
        key: &Key,
        deadline: Deadline,
    ) -> Result<Option<Answer>, ServiceError> {
        self.allow(&method::NODE_GET, Target::Key(table, key.user_bytes()))?;
        let key = key.clone().moved_to(self.table_open(table, deadline).await?);
        let read = self.node.node_get(key.clone(), deadline.answer_at);
        let record = self.wait(Access::Read, Some(&key), read, deadline).await?;
        record.map(|record| self.release(&key, record)).transpose()
    }

    /// Stores on this node's replica alone. Ask [`Self::allow_operator_writes`] before the request is parsed.
    pub(crate) async fn node_set(
        &self,
        key: Key,
        content: Content,
        stamp: Option<Stamp>,
        deadline: Deadline,
    ) -> Result<Version, ServiceError> {
        self.allow_operator_writes()?;
        let write = self.node.node_set(key.clone(), content, stamp, deadline.answer_at);
        let write = self.wait(Access::Write, Some(&key), write, deadline);
        self.audited(&method::NODE_SET, Target::Key(&Table::Default, key.user_bytes()), write).await
    }

    /// This node's clock.
    pub(crate) async fn clock(&self, deadline: Deadline) -> Result<Stamp, ServiceError> {
        self.allow(&method::CLOCK_GET, Target::Cluster)?;
        let clock = self.wait(Access::Read, None, self.node.clock(deadline.answer_at), deadline).await?;
        Ok(self.stamped(clock))
    }

    /// Raises this node's clock. Ask [`Self::allow_operator_writes`] before the request is parsed.
    pub(crate) async fn raise_clock(&self, to: Clock, deadline: Deadline) -> Result<Stamp, ServiceError> {
        self.allow_operator_writes()?;
        let raise = self.wait(Access::Write, None, self.node.raise_clock(to, deadline.answer_at), deadline);
        Ok(self.stamped(self.audited(&method::CLOCK_SET, Target::Cluster, raise).await?))
    }

    /// Whether the configuration allows writes to one replica or clock.
    pub(crate) fn allow_operator_writes(&self) -> Result<(), ServiceError> {
        if self.node.operator_writes() {
            return Ok(());
        }
        let message = "this node's configuration does not allow Node/Set and Clock/Set, which write past the quorum: to \
                       allow them, set node.operator_writes: true in node.yml and restart the node (for ordinary writes \
                       use Cluster/Set)";
        Err(ServiceError::new(FailureReason::OperatorWritesOff, message))
    }

    /// The keys that have a value on this node's replica, in pages; at most `limit` keys, or all if it is 0.
    pub(crate) fn keys(self: &Arc<Self>, prefix: String, limit: u64) -> Result<KeyScan, ServiceError> {
        self.allow(&method::NODE_INFO, Target::Keys(&Table::Default, prefix.as_bytes()))?;
        // No key is longer, so that no key begins with the prefix; the scan would look at every key in vain.
        if prefix.len() > crate::types::KEY_BYTES_MAX {
            return Err(ServiceError::invalid(&format!("prefix: {}", KeyError::TooLong { bytes: prefix.len() })));
        }
        let Ok(permit) = self.node.account().take(Kind::Scans, 1) else {
            let message = format!(
                "this node works on {SCANS_MAX} lists of its keys already, or on as many of this client as it may have beside \
                 others: ask again later"
            );
            return Err(ServiceError::new(FailureReason::NotReady, &message).overloaded());
        };
        Ok(KeyScan::new(Arc::clone(self), prefix, limit, permit))
    }

    /// The slot of a key, and its replicas in the order of preference. Other nodes are asked for the name of a table alone.
    pub(crate) async fn replicas(
        &self,
        table: &Table,
        key: &Key,
        deadline: Deadline,
    ) -> Result<(Slot, Vec<ReplicaView>), ServiceError> {
        self.allow(&method::INFO, Target::Cluster)?;
        self.refuse_while_waiting(deadline).await?;
        let key = key.clone().moved_to(self.table_open(table, deadline).await?);
        let layout = self.node.layout();
        let slot = layout.slot(&key);
        let view = |member: &NodeIndex| ReplicaView {
            id: layout.id(*member).clone(),
            address: address(&layout, *member),
            http_address: self.node.http_address(*member),
        };
        Ok((slot, layout.replicas(slot).iter().map(view).collect()))
    }

    /// The cluster as this node sees it.
    pub(crate) async fn cluster(&self, deadline: Deadline) -> Result<ClusterView, ServiceError> {
        self.allow(&method::INFO, Target::Cluster)?;
        Ok(self.cluster_under(&self.refuse_while_waiting(deadline).await?))
    }

    /// A node that waits to be added knows no more of the cluster than its files say. One that was removed says who the members were
    /// then, so that clients find those.
    async fn refuse_while_waiting(&self, deadline: Deadline) -> Result<Status, ServiceError> {
        let status = self.status(deadline).await?;
        match &status.unready {
            Some(unready @ Unready::Waiting) => Err(ServiceError::new(FailureReason::NotReady, &unready_text(unready))),
            _ => Ok(status),
        }
    }

    /// The cluster as this node sees it, also where it is no member and knows no more than its files say.
    pub(crate) async fn cluster_seen(&self, deadline: Deadline) -> Result<ClusterView, ServiceError> {
        Ok(self.cluster_under(&self.status(deadline).await?))
    }

    fn cluster_under(&self, status: &Status) -> ClusterView {
        let node = &self.node;
        let layout = node.layout();
        let slots_held = self.slots_held(&layout);
        // While one node takes the place of another, there are two of one id.
        let members =
            layout.members().iter().copied().filter(|member| layout.member(layout.id(*member)) == Some(*member));
        let members = members.map(|member| {
            let peer = status.peers.iter().find(|peer| peer.member == member);
            let (state, detail) = match peer {
                Some(peer) => health::link_state(node, peer),
                None if member == node.member() => (LinkState::Itself, String::new()),
                None => (LinkState::Unreachable, String::new()),
            };
            MemberView {
                id: layout.id(member).clone(),
                address: address(&layout, member),
                http_address: node.http_address(member),
                state,
                detail,
                slots: slots_held[member.index()],
                site: layout.site(member),
                last_seen: peer.map_or((member == node.member()).then_some(Duration::ZERO), |peer| peer.last_seen),
            }
        });
        ClusterView {
            node: node.id().clone(),
            uptime: node.uptime(),
            seed: self.seed,
            replica_count: layout.newest().parameters().replica_count,
            epoch_floor: layout.parameters().epoch_floor,
            cluster: status.cluster,
            members: members.collect(),
        }
    }

    /// The number of slots that each node holds, by index.
    fn slots_held(&self, layout: &Layout) -> Arc<[u32]> {
        let mut known = self.slots_held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((number, held)) if *number == layout.number() && held.len() == layout.nodes().len() => {
                Arc::clone(held)
            }
            _ => {
                let mut held = vec![0; layout.nodes().len()];
                for replica in (0..=u16::MAX).flat_map(|slot| layout.replicas(Slot(slot))) {
                    held[replica.index()] += 1;
                }
                let held: Arc<[u32]> = held.into();
                *known = Some((layout.number(), Arc::clone(&held)));
                held
            }
        }
    }

    /// Orders a comparison with each peer at once. False where repair is off.
    pub(crate) async fn repair_now(&self, deadline: Deadline) -> Result<bool, ServiceError> {
        // The certificate of a node is not enough for this.
        let asked = Asked::of(&method::NODE_REPAIR, Target::Cluster).with_needs(Needs::Operator);
        self.audited_as(asked, async {
            let is_on = self.status(deadline).await?.repair.is_on;
            if is_on {
                let order =
                    async { self.node.order_repair(RepairOrder::PassNow).await.map_err(RequestError::Rejected) };
                self.wait(Access::Read, None, order, deadline).await?;
            }
            Ok(is_on)
        })
        .await
    }

    /// Orders a scrub of this node's store, and returns its number.
    pub(crate) async fn scrub_now(&self) -> Result<u64, ServiceError> {
        self.audited(&method::NODE_REPAIR, Target::Cluster, async { Ok(self.node.scrub_now()) }).await
    }

    /// The health of this node.
    pub(crate) async fn health(&self, deadline: Deadline) -> Result<HealthReport, ServiceError> {
        self.allow(&method::NODE_HEALTH, Target::Cluster)?;
        let status = self.status(deadline).await?;
        let mut assessment = self.assessor.assess(&status);
        if let Some(problem) = self.authorization_problem() {
            assessment.worsen(&problem);
        }
        let statistics = self.assessor.statistics_soon().await.unwrap_or_else(|| {
            assessment.worsen("its store has not answered: its number of keys and its size on disk are not known");
            StoreStatistics::default()
        });
        let peers = status.peers.iter().map(|peer| {
            let (state, detail) = health::link_state(&self.node, peer);
            (peer.id.clone(), state, detail)
        });
        Ok(HealthReport {
            node: self.node.id().clone(),
            health: assessment.health,
            detail: assessment.detail,
            uptime: self.node.uptime(),
            clock: self.stamped(status.clock),
            statistics,
            serves: status.unready.is_none() && !status.store_failed,
            peers: peers.collect(),
            scrub: self.node.scrub_report(),
            is_damaged: status.store_damage.is_some(),
            repair: status.repair,
            nodes: self.node.layout().nodes().iter().map(|node| node.id.clone()).collect(),
            certificate_end: self.node.trust().tls.as_ref().map(|tls| tls.facts().not_after),
            requests: self.metrics.succeeded(),
        })
    }

    async fn status(&self, deadline: Deadline) -> Result<Status, ServiceError> {
        let status = async { self.node.status().await.map_err(RequestError::Rejected) };
        self.wait(Access::Read, None, status, deadline).await
    }

    /// Waits for an operation, which is about `key` if it is about one, until the deadline has passed. Frequent operations
    /// come pinned: to move them costs copies of all that they hold.
    async fn wait<T>(
        &self,
        access: Access,
        key: Option<&Key>,
        operation: impl Future<Output = Result<T, RequestError>>,
        deadline: Deadline,
    ) -> Result<T, ServiceError> {
        let context = ErrorContext { access, key, table: None, layout: self.node.published_layout() };
        self.wait_for(context, operation, deadline).await
    }

    /// The same for an operation of a client on one key, of which note is taken where it is slow or its key is counted.
    async fn timed<T>(
        &self,
        method: &Method,
        table: &Table,
        key: &Key,
        operation: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let began = Instant::now();
        let result = operation.await;
        if !self.is_of_this_node() {
            let slot = || self.node.layout().slot(key);
            let is_done = result.as_ref().map_or_else(ServiceError::is_answer, |_| true);
            self.key_figures.note(method.name(), table, key, began.elapsed(), is_done, slot);
        }
        result
    }

    /// Which operations on keys are slow, and which keys are named often.
    pub(crate) fn key_figures(&self) -> &KeyFigures {
        &self.key_figures
    }

    /// From now on the status page shows keys, or none.
    pub fn show_keys(&self, shows: bool) {
        self.key_figures.show_keys(shows);
    }

    /// The same, with the context of its errors.
    async fn wait_for<T>(
        &self,
        context: ErrorContext<'_>,
        operation: impl Future<Output = Result<T, RequestError>>,
        deadline: Deadline,
    ) -> Result<T, ServiceError> {
        match tokio::time::timeout_at(deadline.give_up_at.into(), operation).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(context.request_failed(error)),
            Err(_) => Err(context.unanswered("the node did not answer in time")),
        }
    }

    /// Checks that the record of `key`, which may be given by its name in `table`, is what was written.
    fn check(&self, table: TableId, key: &Key, record: &Record) -> Result<(), ServiceError> {
        let is_intact = match table {
            TableId::DEFAULT => record.is_intact(key),
            table => record.is_intact(&key.clone().moved_to(table)),
        };
        if is_intact {
            return Ok(());
        }
        let trace_id = traces::current_trace();
        error!(%key, stamp = %record.stamp, trace_id, "a record's checksum does not match its content; it was not given out");
        Err(self.context(key).damaged(record))
    }

    /// Lets a record out to a caller, if it is intact and the buffer budget has room for it.
    fn release(&self, key: &Key, record: AgedRecord) -> Result<Answer, ServiceError> {
        self.check(record.table, key, &record)?;
        let bytes = record.content.value_bytes();
        // What the node reads for itself is bounded where it begins.
        if bytes <= UNCOUNTED_VALUE_BYTES || self.is_of_this_node() {
            return Ok(Answer { record, guard: None });
        }
        let mut guard = self.buffers.guard();
        if guard.grow(bytes) { Ok(Answer { record, guard: Some(guard) }) } else { Err(self.context(key).no_room()) }
    }

    /// The context of a read of `key`.
    fn context<'a>(&'a self, key: &'a Key) -> ErrorContext<'a> {
        self.of_read(&Table::Default, key)
    }

    /// The context of a read of `key` in `table`.
    fn of_read<'a>(&'a self, table: &'a Table, key: &'a Key) -> ErrorContext<'a> {
        ErrorContext { key: placed(table, key), ..self.of_table(Access::Read, table) }
    }

    /// The context of a write of `key` in `table`.
    fn of_write<'a>(&'a self, table: &'a Table, key: &'a Key) -> ErrorContext<'a> {
        ErrorContext { key: placed(table, key), ..self.of_table(Access::Write, table) }
    }

    /// The context of a request about a table.
    fn of_table<'a>(&'a self, access: Access, table: &'a Table) -> ErrorContext<'a> {
        let table = match table {
            Table::Default => None,
            Table::Named(name) => Some(name),
        };
        ErrorContext { access, key: None, table, layout: self.node.published_layout() }
    }

    fn stamped(&self, clock: Clock) -> Stamp {
        Stamp { clock, writer: self.node.id().clone() }
    }
}

/// Where a member is reached.
fn address(layout: &Layout, member: NodeIndex) -> String {
    layout.nodes()[member.index()].address.as_deref().unwrap_or_default().to_owned()
}

/// The key of an operation, where its place is known: a key of a created table has none before the name is looked up.
fn placed<'a>(table: &Table, key: &'a Key) -> Option<&'a Key> {
    (*table == Table::Default).then_some(key)
}
