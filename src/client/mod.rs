//! The public client: reads, writes and deletes on a cluster, through any of its nodes.
//!
//! Contract: an operation ends at its deadline at the latest. A write is sent again only if it certainly did not happen:
//! it never left this process (`permit`), or a node answered that it was not applied. A write that names a version of its
//! key takes effect once at most, so it is sent again under the same request id until a node says what became of it. If a
//! write may have happened and no node confirms it, the result is [`ClientError::OutcomeUnknown`]: the caller reads the key
//! to find out. A read has no effect, so several nodes may be asked, and the first answer counts.
//!
//! Every node answers for every key, so the client takes the nodes in turn. `failover` says which node is asked next,
//! `verdict` what a failure means, and `backoff` how long to wait. A client of several nodes follows the members of its
//! cluster (`follow`). With [`Builder::routing`] it asks the replicas of a key first (`routing`).
//!
//! Caveat: dropping the future of a write leaves its outcome unknown.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate::ClientError> {
//! let client = quorate::Client::new(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"])?;
//! client.set("greeting", "hello").await?;
//! let found = client.get("greeting").await?.expect("it was just written");
//! assert_eq!(&found.value.bytes()[..], b"hello");
//! client.delete("greeting").await?;
//! assert!(client.get("greeting").await?.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! Keys lie in tables. A client is bound to the table `default`, and [`Client::table`] binds it to another one:
//!
//! ```no_run
//! # use quorate::ClientError;
//! # async fn example(client: quorate::Client) -> Result<(), ClientError> {
//! client.tables().create("sessions").if_missing().await?;
//! let sessions = client.table("sessions");
//! sessions.set("ada", "online").await?;
//! assert!(client.get("ada").await?.is_none(), "another table has other keys");
//! client.tables().drop("sessions").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Writes may depend on what is there. Every answer about a key has a version, which no other state of the key has:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use quorate::ClientError;
//! # async fn example(client: quorate::Client) -> Result<(), ClientError> {
//! match client.set("lock", "me").if_absent().ttl(Duration::from_secs(30)).await {
//!     Ok(held) => {
//!         // Still this very lock, and not another one of the same holder.
//!         client.delete("lock").if_version(held.version).await?;
//!     }
//!     Err(ClientError::ConditionFailed { version, .. }) => println!("another one has it, as version {version}"),
//!     Err(error) => return Err(error),
//! }
//! let visits = client.add("visits", 1).await?.value;
//! client.update("names", |old| {
//!     let names = old.map_or(String::new(), |old| String::from_utf8_lossy(old.value.bytes()).into_owned());
//!     Some(names + " Ada")
//! }).await?;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod batch_write;
mod conversions;
mod error;
mod failover;
mod follow;
#[cfg(all(test, feature = "server"))]
mod follow_tests;
mod get;
mod list;
mod members;
mod node;
mod permit;
mod routing;
#[cfg(all(test, feature = "server"))]
mod routing_tests;
#[cfg(all(test, feature = "server"))]
mod stream_tests;
#[cfg(all(test, feature = "server"))]
mod table_tests;
mod tables;
#[cfg(all(test, feature = "server"))]
mod tests;
mod tokens;
mod update;
mod verdict;
mod watch;
mod write;

use std::sync::Arc;
use std::time::Duration;

pub use batch_write::Write;
pub use error::{ClientError, InputProblem, NodeFailure};
pub use get::{Get, KeyState, Versioned};
pub use list::{List, Listed, Listing};
#[cfg(feature = "server")]
pub(crate) use node::endpoint;
pub use tables::{CreateTable, TableCreated, TableInfo, Tables};
pub use watch::{Watch, WatchEvent, Watching};
pub use write::{Acknowledged, Add, Added, Delete, Set};

use crate::api;
use crate::api::watch_request::Keys;
pub use crate::auth::{Token, TokenError};
use crate::limits::{DEADLINE_DEFAULT, DEADLINE_MAX};
use crate::tls::Dialer;
pub use crate::tls::{ClientTls, FileError};
use crate::types::{Key, Table, TableNameError, Value};
use conversions::{batch, key_of};
use failover::{NodePool, Operation};
use node::{Node, by, within};
use verdict::{Verdict, judge_read};

/// The shortest deadline: a shorter one would pass before the request is sent.
const DEADLINE_MIN: Duration = Duration::from_millis(1);

/// A client of one cluster. Cheap to clone; clones share connections.
///
/// Operations must run in a tokio runtime, and in the same one for as long as the client exists.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<NodePool>,
    deadline: Duration,
    /// The table of the keys, or what is wrong with its name: the first operation tells.
    table: Result<Table, TableNameError>,
}

/// Sets up a [`Client`].
///
/// ```
/// use std::time::Duration;
///
/// # fn example() -> Result<(), quorate::ClientError> {
/// let client = quorate::Client::builder()
///     .address("127.0.0.1:8001")
///     .address("http://node-2.example:8001")
///     .deadline(Duration::from_secs(2))
///     .build()?;
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    addresses: Vec<String>,
    deadline: Duration,
    follows: Option<bool>,
    routes: bool,
    dialer: Dialer,
    token: Option<Token>,
}

impl Builder {
    /// Adds a node, as `host:port`, `http://host:port`, or `https://host:port` with [`Builder::tls`]. Name several: the client passes over nodes that are down.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Sets how long an operation may take, all attempts together: 1 ms to [`DEADLINE_MAX`]. Values outside this range are
    /// moved to its ends, because nodes do not honour more. The default is [`DEADLINE_DEFAULT`].
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Speaks TLS with every node.
    pub fn tls(mut self, tls: &ClientTls) -> Self {
        self.dialer = tls.dialer();
        self
    }

    /// Sends this token with each request, for nodes that ask who calls. Without [`Builder::tls`] it goes to this machine alone.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use quorate::client::Token;
    ///
    /// let token = Token::parse(std::fs::read_to_string("ada.token")?.trim())?;
    /// let client = quorate::Client::builder().address("127.0.0.1:8001").token(&token).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(mut self, token: &Token) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// Connects as `dialer` says.
    #[cfg(feature = "server")]
    pub(crate) fn dialer(mut self, dialer: Dialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// Sets whether the client follows the members of the cluster: then it asks nodes that were added too, and goes on when
    /// all that it was given are gone. Without this call it does if several addresses are given, and with [`Builder::routing`].
    /// Any other client of one address asks this node alone.
    pub fn follow_members(mut self, follows: bool) -> Self {
        self.follows = Some(follows);
        self
    }

    /// Sets whether an operation on one key goes to a replica of the key, if one answers; without this call it does not. That
    /// saves a hop where the cluster has more nodes than replicas. Batches, lists and watches go to all nodes in turn.
    ///
    /// With its first operation, every 10 s, and when a node fails, the client asks a node for the members, and works out the
    /// placement if it has changed: 2 ms of a processor for three nodes, and a fifth of a second for a thousand. The
    /// placement takes 128 KiB of memory for each replica of a key. Operations do not wait for it. Each node answers for every key,
    /// so those before it, and those during and right after a change of members, cost a hop and nothing else.
    ///
    /// ```
    /// # fn example() -> Result<(), quorate::ClientError> {
    /// let client = quorate::Client::builder().address("127.0.0.1:8001").address("127.0.0.1:8002").routing(true).build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn routing(mut self, routes: bool) -> Self {
        self.routes = routes;
        self
    }

    /// Makes the client. It connects on first use, so a node that is down now does no harm.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`] if there is no address, or an address does not parse.
    pub fn build(self) -> Result<Client, ClientError> {
        if self.addresses.is_empty() {
            return Err(InputProblem::NoAddress.into());
        }
        let dialer = match &self.token {
            Some(token) => self.dialer.with_token(Some(token)),
            None => self.dialer,
        };
        let nodes = self.addresses.iter().map(|address| Node::new(address, dialer.clone()).map(Arc::new));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let follows = self.follows.unwrap_or(self.routes || self.addresses.len() > 1);
        let pool = NodePool::new(nodes, dialer, follows, self.routes);
        let deadline = self.deadline.clamp(DEADLINE_MIN, DEADLINE_MAX);
        Ok(Client { pool, deadline, table: Ok(Table::Default) })
    }
}

impl Client {
    /// Makes a client of the cluster that has nodes at these addresses, with the default deadline.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, ClientError> {
        addresses.into_iter().fold(Self::builder(), Builder::address).build()
    }

    /// Starts a client whose deadline can be chosen too.
    pub fn builder() -> Builder {
        Builder {
            addresses: Vec::new(),
            deadline: DEADLINE_DEFAULT,
            follows: None,
            routes: false,
            dialer: Dialer::default(),
            token: None,
        }
    }

    /// How it connects to nodes.
    #[cfg(feature = "server")]
    pub(crate) fn dialer(&self) -> Dialer {
        self.pool.dialer.clone()
    }

    /// The same client with another deadline, bounded as in [`Builder::deadline`]. The connections are shared.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let found = client.with_deadline(Duration::from_millis(200)).get("greeting").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: deadline.clamp(DEADLINE_MIN, DEADLINE_MAX), ..self.clone() }
    }

    /// The same client bound to another table: all that it reads, writes, lists and watches is there. The connections are
    /// shared. The table must exist: [`Client::tables`] creates it. Clients are bound to `default` at first.
    ///
    /// Operations fail with [`ClientError::InvalidInput`] where `name` is no name of a table, and with
    /// [`ClientError::NoSuchTable`] where there is no such table.
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let carts = client.table("carts");
    /// carts.set("ada", "3 apples").await?;
    /// carts.add("visits", 1).await?;
    /// println!("{:?}", carts.list("").collect().await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn table(&self, name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        // Only in a request an empty name means the default table.
        let table = if name.is_empty() { Err(TableNameError::Empty) } else { Table::parse(name) };
        Self { table, ..self.clone() }
    }

    /// Creates, drops and lists tables.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let tables = client.tables();
    /// tables.create("sessions").default_ttl(Duration::from_secs(1_800)).if_missing().await?;
    /// for table in tables.list().await? {
    ///     println!("{}", table.name);
    /// }
    /// tables.drop("sessions").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tables(&self) -> Tables {
        Tables::new(self.clone())
    }

    /// The name of the table in requests.
    fn table_name(&self) -> Result<String, ClientError> {
        match &self.table {
            Ok(Table::Default) => Ok(String::new()),
            Ok(Table::Named(name)) => Ok(name.as_str().to_owned()),
            Err(problem) => Err(error::InputProblem::Table(problem.clone()).into()),
        }
    }

    /// An operation that begins now, on one key of the client's table.
    fn operation_on(&self, key: &Key) -> Operation {
        let slot = self.table_name().ok().and_then(|table| self.pool.slot_of(&table, key));
        Operation::begin(self.deadline).on(slot)
    }

    /// Reads the latest value of `key`: `None` if the key has none. [`Get`] says what else can be asked for.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`], [`ClientError::Unavailable`] or [`ClientError::Refused`].
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// if let Some(found) = client.get("greeting").await? {
    ///     println!("{:?}, version {}, expires in {:?}", found.value, found.version, found.ttl);
    /// }
    /// // The version of an absence is a version too.
    /// let state = client.get("nokey").state().await?;
    /// client.set("nokey", "v").if_version(state.version).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, key: impl AsRef<str>) -> Get {
        Get::new(self.clone(), key_of(key.as_ref()))
    }

    /// Reads the latest values of 1 to 1,000 keys, each linearizably and on its own. The results have the order of the
    /// keys: a value, `None` if the key has none, or the reason why this key was not read.
    ///
    /// # Errors
    /// As [`Client::get`], if no key was read.
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// for found in client.batch_get(["a", "b"]).await? {
    ///     match found {
    ///         Ok(found) => println!("{found:?}"),
    ///         Err(failure) => println!("not read: {failure}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn batch_get(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<Result<Option<Versioned>, NodeFailure>>, ClientError> {
        let keys: Vec<Key> = keys.into_iter().map(|key| key_of(key.as_ref())).collect::<Result<_, _>>()?;
        let table = self.table_name()?;
        self.pool
            .read(Operation::begin(self.deadline), move |node, deadline| {
                let (keys, table) = (keys.clone(), table.clone());
                async move {
                    let names = keys.iter().map(|key| key.as_str().to_owned()).collect();
                    let request = by(api::BatchGetRequest { keys: names, table }, deadline);
                    let answer = within(deadline, async { node.cluster().batch_get(request).await }).await;
                    batch(&node.address, &keys, answer.map_err(|status| judge_read(&node, &status))?.into_inner())
                        .map_err(|problem| Verdict::TryNext(NodeFailure::new(&node.address, problem)))
                }
            })
            .await
    }

    /// Writes `value` under `key` and returns the version that this makes. A majority of the key's replicas then has the
    /// value on disk. [`Set`] has the conditions that it may depend on, and the time to live.
    ///
    /// `&str` and `String` are written as text; bytes, and [`Value::Binary`], as binary.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`], [`ClientError::NotApplied`], [`ClientError::OutcomeUnknown`] or
    /// [`ClientError::Refused`]; with a condition [`ClientError::ConditionFailed`].
    ///
    /// ```no_run
    /// use quorate::ClientError;
    ///
    /// # async fn example(client: quorate::Client) -> Result<(), ClientError> {
    /// match client.set("k", vec![0, 1, 2]).await {
    ///     Ok(written) => println!("written as version {}", written.version),
    ///     Err(ClientError::OutcomeUnknown { node }) => println!("read k to find out: {node}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn set(&self, key: impl AsRef<str>, value: impl Into<Value>) -> Set {
        Set::new(self.clone(), key_of(key.as_ref()), value.into())
    }

    /// Removes the value of `key`, if it has one, and returns the version that this makes. A majority of the key's
    /// replicas then has the deletion on disk. [`Delete`] has the conditions that it may depend on.
    ///
    /// # Errors
    /// As [`Client::set`].
    pub fn delete(&self, key: impl AsRef<str>) -> Delete {
        Delete::new(self.clone(), key_of(key.as_ref()))
    }

    /// Writes and deletes 1 to 1,000 keys in one call: each on its own, in no order, with an outcome of its own. The results
    /// have the order of the writes. The values of one batch have 60 MiB together at most. Each write goes to the table of the
    /// client that made it.
    ///
    /// A write that certainly did not happen is sent again until the deadline, as is one that names a version.
    ///
    /// # Errors
    /// As [`Client::set`], if no key was written. [`ClientError::InvalidInput`] too where two writes are for one key.
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let writes = [client.set("a", "1").into(), client.set("b", "2").if_absent().into(), client.delete("c").into()];
    /// for written in client.batch_write(writes).await? {
    ///     match written {
    ///         Ok(written) => println!("{written}"),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn batch_write(
        &self,
        writes: impl IntoIterator<Item = Write>,
    ) -> Result<Vec<Result<Acknowledged, ClientError>>, ClientError> {
        batch_write::batch_write(self, writes.into_iter().collect()).await
    }

    /// Adds `delta` to the number of `key`, and returns the sum. The number is kept as decimal text; a key without a value
    /// counts as 0. [`Add`] says how to count once for certain.
    ///
    /// # Errors
    /// As [`Client::set`], and [`ClientError::NotANumber`].
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let hits = client.add("hits", 1).await?;
    /// println!("{}", hits.value);
    /// // A node that dies meanwhile makes no difference to this one, because it may be sent again.
    /// let hits = client.add("hits", -5).since(hits.version).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add(&self, key: impl AsRef<str>, delta: i64) -> Add {
        Add::new(self.clone(), key_of(key.as_ref()), delta)
    }

    /// Lists the keys that have a value and begin with `prefix`, in the order of their bytes. The list goes on at another
    /// node where one fails. [`List`] says what else can be asked for.
    ///
    /// Each key is read linearizably, at some moment of the list: a list is not one moment of the cluster.
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let mut users = client.list("user:").values().stream();
    /// while let Some(user) = users.next().await {
    ///     let user = user?;
    ///     println!("{}: {:?}", user.key, user.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self, prefix: impl Into<String>) -> List {
        List::new(self.clone(), prefix.into())
    }

    /// Tells the changes of all keys that begin with `prefix`, until the stream is dropped. The watch goes on at another
    /// node where one fails. [`Watch`] says what else can be asked for.
    ///
    /// ```no_run
    /// use quorate::client::WatchEvent;
    ///
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// let mut users = client.watch("user:").values().stream();
    /// while let Some(event) = users.next().await {
    ///     match event? {
    ///         WatchEvent::Set { key, value, .. } => println!("{key} is {value:?}"),
    ///         WatchEvent::Deleted { key, .. } => println!("{key} is gone"),
    ///         WatchEvent::Ready => println!("each write from now on is told"),
    ///         WatchEvent::Reset => println!("changes may have been missed"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, prefix: impl Into<String>) -> Watch {
        Watch::new(self.clone(), Keys::Prefix(prefix.into()))
    }

    /// Tells the changes of one key, as [`Client::watch`].
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`] if it is no key.
    pub fn watch_key(&self, key: impl AsRef<str>) -> Result<Watch, ClientError> {
        let key = key_of(key.as_ref())?.as_str().to_owned();
        Ok(Watch::new(self.clone(), Keys::Key(key)))
    }

    /// Changes a value depending on what it is: reads the key, asks `change` for the new value, and writes that if the key
    /// has not changed meanwhile. If it has, all is done again, until the deadline. `None` from `change` leaves the key
    /// alone, and the result is then `None` too.
    ///
    /// `change` may be called several times. The change takes effect once at most.
    ///
    /// # Errors
    /// As [`Client::get`] and [`Client::set`]. [`ClientError::ConditionFailed`] if the key was changed by others each time,
    /// until the deadline.
    ///
    /// ```no_run
    /// # async fn example(client: quorate::Client) -> Result<(), quorate::ClientError> {
    /// // Takes a seat, if one is left.
    /// let taken = client.update("seats", |old| {
    ///     let seats: u32 = old.map_or(Some(100), |old| std::str::from_utf8(old.value.bytes()).ok()?.parse().ok())?;
    ///     Some(seats.checked_sub(1)?.to_string())
    /// });
    /// println!("{}", if taken.await?.is_some() { "a seat is yours" } else { "sold out" });
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update<V: Into<Value>>(
        &self,
        key: impl AsRef<str>,
        change: impl FnMut(Option<&Versioned>) -> Option<V>,
    ) -> Result<Option<Acknowledged>, ClientError> {
        update::update(self, key.as_ref(), change).await
    }

    /// Reads the cluster's nodes and parameters, as the first node that answers sees them.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn cluster_info(&self) -> Result<api::ClusterInfoResponse, ClientError> {
        let operation = Operation::begin(self.deadline);
        self.pool
            .read(operation, |node, deadline| async move {
                let request = by(api::ClusterInfoRequest {}, deadline);
                let answer = within(deadline, async { node.cluster().info(request).await }).await;
                Ok(answer.map_err(|status| judge_read(&node, &status))?.into_inner())
            })
            .await
    }

    /// Makes the first node that answers compare its records with its peers' at once, and repair what differs. Returns whether
    /// repair is on there. With one address, that is this node's.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn repair_now(&self) -> Result<bool, ClientError> {
        Ok(self.repair(api::RepairRequest { scrub: false }).await?.ordered)
    }

    /// Makes the first node that answers read all that its store has on disk, and verify it. Returns the number of this scrub: it
    /// has ended once the node's health says as many passes. With one address, that is this node's.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn scrub_now(&self) -> Result<u64, ClientError> {
        Ok(self.repair(api::RepairRequest { scrub: true }).await?.scrub)
    }

    async fn repair(&self, request: api::RepairRequest) -> Result<api::RepairResponse, ClientError> {
        let operation = Operation::begin(self.deadline);
        self.pool
            .read(operation, move |node, deadline| async move {
                node.repair(request, deadline).await.map_err(|status| judge_read(&node, &status))
            })
            .await
    }

    /// Reads the health of the first node that answers. With one address, that is the health of this node.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] or [`ClientError::Refused`].
    pub async fn health(&self) -> Result<api::HealthResponse, ClientError> {
        let operation = Operation::begin(self.deadline);
        self.pool
            .read(operation, |node, deadline| async move {
                node.health(deadline).await.map_err(|status| judge_read(&node, &status))
            })
            .await
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(tokio::task::JoinHandle<()>);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
