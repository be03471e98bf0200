//! A cheap, typed handle to a running node: one method for each operation.
//!
//! Contract: an operation is admitted, or refused at once, before it reaches the node's loop. Once admitted it runs to
//! its end or its deadline, even if the caller stops waiting, because replicas may already hold parts of a write.
//!
//! Invariant: the protocol answers each command with the reply of its kind. Another kind is a defect of ours, and the
//! waiting task panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::limits::{LISTED_KEYS_MAX, REQUEST_OVERHEAD_BYTES, SCAN_ENTRIES_MAX};
use crate::metrics::Metrics;
use crate::peer::{Acceptor, HttpAddresses};
use crate::protocol::changes::Filter;
use crate::protocol::news::{Cursor as WatchCursor, ListFirst, WatchId};
use crate::protocol::{
    Command, Failure, ListPage, Listed, ListedKeys, PeerView, RepairOrder, RepairReport, Reply, Unready,
};
use crate::shares::{Account, Accounts, Full, Kind, Owner, Taken};
use crate::storage::{Cursor, KeysPage, PageBounds, Store, StoreError, StoreStatistics};
use crate::tls::Trust;
use crate::traces::Tracer;
use crate::types::{
    AgedRecord, ChangeRequest, Checksum, Clock, ClusterId, Content, Incarnation, Key, KeyRange, Lookup, NodeId,
    NodeIndex, Stamp, Table, TableId, TableInfo, TableName, TableRecord, TableSettings, TraceContext, Ttl, Version,
};

use super::event::{ClientRequest, Event, Permit, Place};
use super::members::PublishedLayout;
use super::mending::Mending;
use super::replies::{Replies, ReplyPlace, ReplyTo};
use super::scrub::Scrubber;
use super::watchers::{self, WatchStream};

/// A handle to a running node. Clones ask the same node.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) inner: Arc<Inner>,
    /// What its operations count against.
    pub(super) account: Arc<Account>,
}

pub(super) struct Inner {
    pub(super) me: NodeIndex,
    pub(super) id: NodeId,
    pub(super) layout: Arc<PublishedLayout>,
    pub(super) http_addresses: Arc<HttpAddresses>,
    pub(super) operator_writes: bool,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Sender<Event>,
    /// What clients hold.
    pub(super) accounts: Arc<Accounts>,
    /// What the node's own operations count against: places that no client takes.
    pub(super) own_account: Arc<Account>,
    pub(super) incarnation: Incarnation,
    pub(super) links_end: CancellationToken,
    pub(super) started_at: Instant,
    /// The last name given to a watch.
    pub(super) last_watch: AtomicU64,
    /// The bytes of values that wait for watches.
    pub(super) watch_bytes: Arc<AtomicUsize>,
    pub(super) trust: Arc<Trust>,
    pub(super) scrubber: Arc<Scrubber>,
    pub(super) mending: Mending,
    /// Below so much free space on the disk the node takes no copies.
    pub(super) disk_reserve: watch::Sender<Option<u64>>,
    /// `None` where no request is traced.
    pub(super) tracer: Option<Arc<Tracer>>,
}

/// Why an operation gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The protocol ended it.
    Failed(Failure),
    /// It has no reply.
    Rejected(Rejected),
}

impl From<Rejected> for RequestError {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The node already works on as many requests as its configuration allows. Nothing was done.
    #[error(
        "the node works on {requests_max} requests already: send fewer at once, spread them over the nodes, or raise \
         node.requests_in_flight_max"
    )]
    TooManyRequests {
        /// `node.requests_in_flight_max`.
        requests_max: usize,
    },
    /// The requests in flight already hold as many bytes as the configuration allows. Nothing was done.
    #[error(
        "requests in flight hold {bytes_max} bytes already: send fewer at once, spread them over the nodes, or raise \
         node.request_bytes_in_flight_max"
    )]
    TooManyBytes {
        /// `node.request_bytes_in_flight_max`.
        bytes_max: usize,
    },
    /// One client has as many requests in flight as it may have beside others. Nothing was done.
    #[error(
        "this client has as many requests in flight here as it may have beside others: send fewer at once, spread them over \
         the nodes, or set node.requests_in_flight_per_client_max"
    )]
    TooManyRequestsOfClient,
    /// The requests in flight of one client hold as many bytes as they may beside others. Nothing was done.
    #[error(
        "the requests in flight of this client hold as many bytes here as they may beside others: send fewer at once, spread \
         them over the nodes, or raise node.request_bytes_in_flight_max"
    )]
    TooManyBytesOfClient,
    /// One client sends more requests in a second than it may. Nothing was done.
    #[error(
        "this client sends more than {per_second} requests a second: send them more slowly, spread them over the nodes, or \
         raise node.requests_per_second_per_client_max"
    )]
    TooFast {
        /// `node.requests_per_second_per_client_max`.
        per_second: usize,
    },
    /// The node has ended. Nothing was done.
    #[error("the node has ended: ask another one")]
    Ended,
    /// The node ended while it worked on the request. A write may have happened, or may still happen, because other
    /// replicas may hold it.
    #[error("the node ended before the request did")]
    Abandoned,
}

/// A write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteResult {
    /// The version that it made.
    pub version: Version,
    /// The sum, where it was an addition.
    pub sum: Option<i64>,
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A write without a condition.
    Plain {
        /// The key.
        key: Key,
        /// The value, or a tombstone to delete it.
        content: Content,
        /// The time to live of the value.
        ttl: Option<Ttl>,
    },
    /// A write whose effect depends on the record that is there.
    Conditional {
        /// The key.
        key: Key,
        /// The conditional write.
        request: ChangeRequest,
    },
}

/// A read, or a write without a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainRequest {
    /// Reads a key, linearizably.
    Get {
        /// The key.
        key: Key,
    },
    /// Writes a key.
    Set {
        /// The key.
        key: Key,
        /// The value.
        content: Content,
    },
}

impl PlainRequest {
    fn command(self) -> Command {
        match self {
            Self::Get { key } => Command::Get { key },
            Self::Set { key, content } => {
                let checksum = Checksum::of(&key, &content);
                Command::Set { key, content, ttl: None, checksum }
            }
        }
    }
}

/// The state of a node at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Why it takes no requests; `None` if it takes them.
    pub unready: Option<Unready>,
    /// The cluster that it belongs to, once the first members have met.
    pub cluster: Option<ClusterId>,
    /// Whether its disk refuses writes.
    pub store_failed: bool,
    /// What was found damaged in its store first.
    pub store_damage: Option<String>,
    /// Whether its disk has too little room for copies of other nodes' records.
    pub disk_is_short: bool,
    /// The greatest clock that it has seen.
    pub clock: Clock,
    /// The number of client operations under way.
    pub requests: usize,
    /// All members but this one, ordered by id.
    pub peers: Vec<PeerStatus>,
    /// How far its records are compared with those of its peers.
    pub repair: RepairReport,
}

impl Status {
    /// Whether messages pass between the node and every other member.
    #[must_use]
    pub fn all_talk(&self) -> bool {
        self.peers.iter().all(|peer| peer.view == PeerView::Talking)
    }
}

/// A peer as the node sees it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer's index among the members.
    pub member: NodeIndex,
    /// The peer's id.
    pub id: NodeId,
    /// Whether messages pass between the two.
    pub view: PeerView,
    /// The time since its last message; `None` if it has sent none since this node started.
    pub last_seen: Option<Duration>,
    /// The size of the messages that wait to be sent to it, in bytes.
    pub queued_bytes: usize,
}

impl NodeHandle {
    /// The latest record of `key` in the cluster, linearizable; a deleted key has a tombstone, a key that was never
    /// written has `None`. Answered by `deadline`.
    ///
    /// # Errors
    /// [`RequestError`]: the node refused the request, too few replicas answered in time, or the node ended.
    pub async fn get(&self, table: &Table, key: Key, deadline: Instant) -> Result<Option<AgedRecord>, RequestError> {
        self.run(Command::Get { key }.in_table(table), deadline).await.map(record)
    }

    /// Reads each of `keys` as [`Self::get`] does, and gives each result with its key's index once it is there.
    ///
    /// All reads reach the node's loop together, so that they share its turns and the messages to peers, as far as the client's
    /// share lets them begin together. They count as one request in flight, and with the bytes of each of them.
    ///
    /// # Errors
    /// [`Rejected`]: no read was begun.
    pub async fn batch_get(
        &self,
        table: &Table,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<impl Stream<Item = (usize, Result<Option<AgedRecord>, RequestError>)> + use<>, Rejected> {
        let commands = keys.iter().map(|key| Command::Get { key: key.clone() }.in_table(table)).collect();
        self.run_together(commands, record, deadline).await
    }

    /// Does each of `writes`, a write or a conditional write, and gives each result with its place once it is there.
    ///
    /// All writes reach the node's loop together, so that they share its turns, a clock round, the messages to peers and an fsync, as
    /// far as the client's share lets them begin together. They count as one request in flight, and with the bytes of each of them.
    ///
    /// # Errors
    /// [`Rejected`]: no write was begun.
    pub async fn batch_write(
        &self,
        writes: Vec<(Table, Write)>,
        deadline: Instant,
    ) -> Result<impl Stream<Item = (usize, Result<WriteResult, RequestError>)> + use<>, Rejected> {
        let command = |write| match write {
            Write::Plain { key, content, ttl } => {
                let checksum = Checksum::of(&key, &content).and_ttl(ttl);
                Command::Set { key, content, ttl, checksum }
            }
            Write::Conditional { key, request } => Command::Change { key, request },
        };
        let commands = writes.into_iter().map(|(table, write)| command(write).in_table(&table)).collect();
        self.run_together(commands, written, deadline).await
    }

    /// Begins each of `requests`, which its caller has given a number, and does not wait. Each is admitted on its own, and
    /// has its reply in `replies`, also where it is refused.
    ///
    /// All reach the node's loop together, as those of a batch.
    /// Each has its span, if it is traced.
    pub fn begin(
        &self,
        table: &Table,
        requests: Vec<(u64, PlainRequest, Option<TraceContext>)>,
        deadline: Instant,
        replies: &Arc<Replies>,
    ) {
        let admitted = requests.into_iter().filter_map(|(number, request, trace)| {
            let (command, place) = (request.command().in_table(table), ReplyPlace::new(replies, number));
            match self.admit_one(bytes_of(&command)) {
                Ok(permit) => Some(ClientRequest { command, deadline, reply: ReplyTo::Place(place), permit, trace }),
                Err(rejected) => {
                    place.fill(Err(rejected.into()));
                    None
                }
            }
        });
        let count = admitted.size_hint().1.unwrap_or(0);
        match self.inner.events.try_reserve_many(count) {
            Ok(places) => {
                for (request, place) in admitted.zip(places) {
                    place.send(Event::Request(request));
                }
            }
            Err(TrySendError::Closed(())) => admitted.for_each(refuse_at_end),
            Err(TrySendError::Full(())) => {
                let (events, requests) = (self.inner.events.clone(), admitted.collect::<Vec<_>>());
                tokio::spawn(async move {
                    for request in requests {
                        match events.reserve().await {
                            Ok(place) => place.send(Event::Request(request)),
                            Err(_) => refuse_at_end(request),
                        }
                    }
                });
            }
        }
    }

    /// Begins all of `commands` or none, and gives each result with its place.
    async fn run_together<T>(
        &self,
        commands: Vec<Command>,
        of_reply: fn(Reply) -> T,
        deadline: Instant,
    ) -> Result<impl Stream<Item = (usize, Result<T, RequestError>)> + use<T>, Rejected> {
        let permits = self.admit_together(&commands)?;
        let places = self.inner.events.reserve_many(commands.len()).await.map_err(|_| Rejected::Ended)?;
        let (results, trace) = (FuturesUnordered::new(), self.current_trace());
        for (index, ((command, permit), place)) in commands.into_iter().zip(permits).zip(places).enumerate() {
            let (reply, replied) = oneshot::channel();
            let reply = ReplyTo::Waiting(reply);
            place.send(Event::Request(ClientRequest { command, deadline, reply, permit, trace }));
            results.push(async move { (index, outcome(replied.await).map(of_reply)) });
        }
        Ok(results)
    }

    /// The record of `key` on one replica, of at least version `at_least`: otherwise the latest one. Answered by
    /// `deadline`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_one(
        &self,
        table: &Table,
        key: Key,
        at_least: Option<Version>,
        deadline: Instant,
    ) -> Result<Option<AgedRecord>, RequestError> {
        self.run(Command::GetOne { key, at_least }.in_table(table), deadline).await.map(record)
    }

    /// Writes `content`, a value or a tombstone, and returns the version of the record. By then a majority of the key's
    /// replicas has it on disk.
    ///
    /// # Errors
    /// [`RequestError`]: it says whether the write certainly did not happen or may have happened.
    pub async fn set(
        &self,
        table: &Table,
        key: Key,
        content: Content,
        ttl: Option<Ttl>,
        deadline: Instant,
    ) -> Result<Version, RequestError> {
        let checksum = Checksum::of(&key, &content).and_ttl(ttl);
        let command = Command::Set { key, content, ttl, checksum }.in_table(table);
        Ok(self.run(command, deadline).await.map(written)?.version)
    }

    /// Writes `key` depending on the record that is there.
    ///
    /// # Errors
    /// [`RequestError`]: the condition does not hold, or as for [`Self::set`].
    pub async fn change(
        &self,
        table: &Table,
        key: Key,
        request: ChangeRequest,
        deadline: Instant,
    ) -> Result<WriteResult, RequestError> {
        self.run(Command::Change { key, request }.in_table(table), deadline).await.map(written)
    }

    /// A page of the cluster's keys that have a value. Answered by `deadline`.
    ///
    /// # Errors
    /// As [`Self::get`]: too few replicas of some slot answered in time.
    pub async fn list(&self, table: &Table, page: ListPage, deadline: Instant) -> Result<ListedKeys, RequestError> {
        self.run(Command::List(page).in_table(table), deadline).await.map(listed)
    }

    /// The id that the keys of `table` are stored under.
    ///
    /// # Errors
    /// [`RequestError`]: there is no such table, or its name could not be looked up.
    pub async fn open_table(&self, table: &Table, deadline: Instant) -> Result<TableId, RequestError> {
        match table {
            Table::Default => Ok(TableId::DEFAULT),
            Table::Named(name) => {
                let name = name.clone();
                self.run(Command::OpenTable { name }, deadline).await.map(|reply| opened(&reply).0.id)
            }
        }
    }

    /// Creates a table, unless it is there: then its settings stay. Returns what it is, and whether it was created.
    ///
    /// # Errors
    /// [`RequestError`]: it says whether the table certainly was not created or may have been.
    pub async fn create_table(
        &self,
        name: TableName,
        settings: TableSettings,
        deadline: Instant,
    ) -> Result<(TableRecord, bool), RequestError> {
        self.run(Command::CreateTable { name, settings }, deadline).await.map(|reply| opened(&reply))
    }

    /// Drops a table. By then its keys are gone for everybody.
    ///
    /// # Errors
    /// [`RequestError`]: there is no such table; or it says whether the drop certainly did not begin.
    pub async fn drop_table(&self, name: TableName, deadline: Instant) -> Result<(), RequestError> {
        self.run(Command::DropTable { name }, deadline).await.map(|_| ())
    }

    /// The table that the record of a name tells of; `None` where there is no such table.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn table(&self, name: &TableName, deadline: Instant) -> Result<Option<TableRecord>, RequestError> {
        let record = self.run(Command::Get { key: name.key() }, deadline).await.map(record)?;
        Ok(record.and_then(|record| TableRecord::of(&record.content)))
    }

    /// The created tables whose names' keys are above `after`, in the order of their names' bytes, and the key that the
    /// next page begins after.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn tables(
        &self,
        after: Option<Key>,
        deadline: Instant,
    ) -> Result<(Vec<TableInfo>, Option<Key>), RequestError> {
        let range = KeyRange { after, prefix: Key::prefix_in(TableId::NAMES, &[]) };
        let page = ListPage { range, keys_max: LISTED_KEYS_MAX, values: true };
        let ListedKeys { keys, looked_to } = self.run(Command::List(page), deadline).await.map(listed)?;
        let info = |(key, listed): (Key, Listed)| {
            let Lookup::Record(record) = listed.found else { return None };
            Some(TableInfo { name: TableName::new(key.as_str()).ok()?, table: TableRecord::of(&record.content)? })
        };
        let tables = keys.into_iter().filter_map(info).collect();
        Ok((tables, looked_to))
    }

    /// The record that this node's replica holds on disk, perhaps not the latest of the cluster.
    ///
    /// # Errors
    /// [`RequestError`]: this node does not hold the key's slot, or its disk cannot be read.
    pub async fn node_get(&self, key: Key, deadline: Instant) -> Result<Option<AgedRecord>, RequestError> {
        self.run(Command::NodeGet { key }, deadline).await.map(record)
    }

    /// Stores `content` on this replica alone, under `stamp`, or under a new stamp above all that it holds.
    ///
    /// # Errors
    /// [`RequestError`]: the replica holds a stamp that is not below `stamp`, or as for the other operations.
    pub async fn node_set(
        &self,
        key: Key,
        content: Content,
        stamp: Option<Stamp>,
        deadline: Instant,
    ) -> Result<Version, RequestError> {
        let checksum = Checksum::of(&key, &content);
        Ok(self.run(Command::NodeSet { key, content, checksum, stamp }, deadline).await.map(written)?.version)
    }

    /// This node's clock.
    ///
    /// # Errors
    /// [`RequestError`]: the node refused the request, or ended.
    pub async fn clock(&self, deadline: Instant) -> Result<Clock, RequestError> {
        self.run(Command::ClockGet, deadline).await.map(|reply| clock(&reply))
    }

    /// Raises this node's clock to at least `to`, and returns the clock afterwards.
    ///
    /// # Errors
    /// [`RequestError`]: `to` is further ahead than an operator may raise the clock at once, or as for the others.
    pub async fn raise_clock(&self, to: Clock, deadline: Instant) -> Result<Clock, RequestError> {
        self.run(Command::ClockRaise { to }, deadline).await.map(|reply| clock(&reply))
    }

    /// A handle for the node's own operations: those of clients, however many, leave them room.
    #[must_use]
    pub fn for_itself(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), account: Arc::clone(&self.inner.own_account) }
    }

    /// A handle for the operations of one client, which has a share of the places and bytes of all.
    #[must_use]
    pub fn for_client(&self, owner: Owner) -> Self {
        Self { inner: Arc::clone(&self.inner), account: self.inner.accounts.of(owner) }
    }

    /// What its operations count against.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What all clients hold.
    #[must_use]
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.inner.accounts
    }

    /// Admits one request of so many bytes.
    pub(super) fn admit_one(&self, bytes: usize) -> Result<Permit, Rejected> {
        let (place, bytes) = self.admit(1, bytes)?;
        Ok(Permit { _place: Place::Own { _place: place }, bytes })
    }

    /// Admits `commands` as one request, or none of them.
    fn admit_together(&self, commands: &[Command]) -> Result<Vec<Permit>, Rejected> {
        let (place, mut bytes) = self.admit(commands.len(), commands.iter().map(bytes_of).sum())?;
        let place = Arc::new(place);
        let permit = |command| Permit {
            _place: Place::Shared { _place: Arc::clone(&place) },
            bytes: bytes.split(bytes_of(command)),
        };
        Ok(commands.iter().map(permit).collect())
    }

    /// A place in flight for `requests` that come together, and their bytes.
    fn admit(&self, requests: usize, bytes: usize) -> Result<(Taken, Taken), Rejected> {
        let account = &self.account;
        let place = account.take(Kind::Requests, 1).map_err(|why| match why {
            Full::UsedUp => Rejected::TooManyRequests { requests_max: account.max(Kind::Requests) },
            Full::BeyondShare => Rejected::TooManyRequestsOfClient,
        })?;
        let bytes = account.take(Kind::RequestBytes, bytes).map_err(|why| match why {
            Full::UsedUp => Rejected::TooManyBytes { bytes_max: account.max(Kind::RequestBytes) },
            Full::BeyondShare => Rejected::TooManyBytesOfClient,
        })?;
        // What is refused for another reason does not count against the rate.
        account.pass(requests).map_err(|per_second| Rejected::TooFast { per_second })?;
        Ok((place, bytes))
    }

    async fn run(&self, command: Command, deadline: Instant) -> Result<Reply, RequestError> {
        let permit = self.admit_one(bytes_of(&command))?;
        let (reply, replied) = oneshot::channel();
        let trace = self.current_trace();
        let request = ClientRequest { command, deadline, reply: ReplyTo::Waiting(reply), permit, trace };
        self.inner.events.send(Event::Request(request)).await.map_err(|_| Rejected::Ended)?;
        outcome(replied.await)
    }

    /// Watches the keys that `filter` is about: from `cursor` on, or from now on where it is empty. Changes bring their
    /// values where `values` are wanted. `with_list`: what is there is told first, where there is no cursor or it is lost.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn watch(
        &self,
        filter: Filter,
        cursor: WatchCursor,
        values: bool,
        with_list: bool,
    ) -> Result<WatchStream, Rejected> {
        let list = match (with_list, values) {
            (false, _) => ListFirst::No,
            (true, false) => ListFirst::Keys,
            (true, true) => ListFirst::Values,
        };
        let id = WatchId(self.inner.last_watch.fetch_add(1, Ordering::Relaxed));
        let events = self.inner.events.clone();
        let (watcher, stream) = watchers::watch(id, values, Arc::clone(&self.inner.watch_bytes), events);
        let event = Event::Watch { id, filter, cursor, list, watcher };
        self.inner.events.send(event).await.map_err(|_| Rejected::Ended)?;
        Ok(stream)
    }

    /// How the node is now.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn status(&self) -> Result<Status, Rejected> {
        let (reply, replied) = oneshot::channel();
        self.inner.events.send(Event::Status(reply)).await.map_err(|_| Rejected::Ended)?;
        replied.await.map_err(|_| Rejected::Ended)
    }

    /// Tells the node's repair what an operator wants of it.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn order_repair(&self, order: RepairOrder) -> Result<(), Rejected> {
        self.inner.events.send(Event::Repair(order)).await.map_err(|_| Rejected::Ended)
    }

    /// A page of the keys that have a value on this replica; see [`Store::keys`].
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn keys(&self, after: Option<Cursor>, prefix: String, keys_max: usize) -> Result<KeysPage, StoreError> {
        let store = Arc::clone(&self.inner.store);
        let bounds = PageBounds { keys_max, bytes_max: crate::limits::PAGE_BYTES_MAX, looked_at_max: SCAN_ENTRIES_MAX };
        let scan = tokio::task::spawn_blocking(move || store.keys(after.as_ref(), &prefix, bounds));
        scan.await.unwrap_or_else(|error| Err(StoreError::Failed { message: error.to_string() }))
    }

    /// Statistics of the store. They cost questions to the file system, so do not ask for each request.
    ///
    /// # Errors
    /// When the node ends meanwhile.
    pub async fn store_statistics(&self) -> Result<StoreStatistics, Rejected> {
        let store = Arc::clone(&self.inner.store);
        tokio::task::spawn_blocking(move || store.statistics()).await.map_err(|_| Rejected::Ended)
    }

    /// The parts of this node that [`crate::peer::peer_service`] needs to accept links.
    #[must_use]
    pub fn link_acceptor(&self) -> Acceptor<Event> {
        Acceptor {
            incarnation: self.inner.incarnation,
            events: self.inner.events.clone(),
            ended: self.inner.links_end.clone(),
            metrics: Arc::clone(&self.inner.metrics),
            trust: Arc::clone(&self.inner.trust),
        }
    }

    /// How the node believes those who connect, and they it.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.inner.trust
    }

    /// The node's metrics, for a part of the program that counts in them.
    pub(crate) fn shared_metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.inner.metrics)
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.inner.id
    }

    /// This node's index.
    #[must_use]
    pub fn member(&self) -> NodeIndex {
        self.inner.me
    }

    /// The host and port at which `member` serves HTTP, if it has told this node.
    #[must_use]
    pub fn http_address(&self, member: NodeIndex) -> Option<String> {
        let known = &self.inner.http_addresses;
        if member == self.inner.me { known.own() } else { known.of_peer(member) }
    }

    /// The most client requests that the node works on at once.
    #[must_use]
    pub fn requests_in_flight_max(&self) -> usize {
        self.account.max(Kind::Requests)
    }

    /// Whether Node/Set and Clock/Set are allowed.
    #[must_use]
    pub fn operator_writes(&self) -> bool {
        self.inner.operator_writes
    }

    /// The time since the node started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.inner.started_at.elapsed()
    }

    /// The node's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

/// The bytes that a command counts for.
fn bytes_of(command: &Command) -> usize {
    REQUEST_OVERHEAD_BYTES + command.size()
}

/// Tells the caller of a request that it was not begun, because the node has ended.
fn refuse_at_end(request: ClientRequest) {
    if let ReplyTo::Place(place) = request.reply {
        place.fill(Err(Rejected::Ended.into()));
    }
}

pub(super) fn outcome(replied: Result<Reply, oneshot::error::RecvError>) -> Result<Reply, RequestError> {
    match replied {
        Ok(Reply::Failed(failure)) => Err(RequestError::Failed(failure)),
        Ok(reply) => Ok(reply),
        Err(_) => Err(Rejected::Abandoned.into()),
    }
}

fn record(reply: Reply) -> Option<AgedRecord> {
    match reply {
        Reply::Record(record) => record,
        other => unreachable!("a read is answered with a record, not {other:?}"),
    }
}

/// The record that a plain read has found; a plain write tells none.
pub(super) fn plain(reply: Reply) -> Option<AgedRecord> {
    match reply {
        Reply::Set(_) => None,
        other => record(other),
    }
}

fn written(reply: Reply) -> WriteResult {
    match reply {
        Reply::Set(version) => WriteResult { version, sum: None },
        Reply::Added { sum, version } => WriteResult { version, sum: Some(sum) },
        other => unreachable!("a write is answered with its version, not {other:?}"),
    }
}

fn listed(reply: Reply) -> ListedKeys {
    match reply {
        Reply::Listed(listed) => listed,
        other => unreachable!("a list is answered with keys, not {other:?}"),
    }
}

fn opened(reply: &Reply) -> (TableRecord, bool) {
    match reply {
        Reply::Table { table, is_new } => (*table, *is_new),
        other => unreachable!("a table is answered with its record, not {other:?}"),
    }
}

fn clock(reply: &Reply) -> Clock {
    match reply {
        Reply::Clock(clock) => *clock,
        other => unreachable!("a clock request is answered with a clock, not {other:?}"),
    }
}
