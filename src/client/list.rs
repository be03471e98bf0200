//! Lists of keys, as streams that go on at another node where one fails.
//!
//! Contract: keys come in the order of their bytes, each once. A page is asked for when the one before has been taken, so
//! that the client holds two pages at most. A list that no node goes on with until the client's deadline has passed ends
//! with an error; what was told before holds.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;

use super::backoff::Backoff;
use super::conversions::value_of;
use super::error::{ClientError, NodeFailure};
use super::failover::{NodePool, Operation};
use super::node::{Node, within};
use super::verdict::{Verdict, judge_read};
use super::{Client, Task};
use crate::api;
use crate::types::Value;

/// A list of keys that is not asked for yet.
#[derive(Clone, Debug)]
#[must_use = "a list is asked for once it is a stream"]
pub struct List {
    client: Client,
    prefix: String,
    start_after: String,
    limit: Option<u64>,
    values: bool,
}

/// A key of a list. It has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The version of its value, for conditions.
    pub version: String,
    /// The value, if the list was asked for values.
    pub value: Option<Value>,
    /// The rest of the time to live; `None` for a value that never expires.
    pub ttl: Option<Duration>,
}

/// The keys of a list, one after the other.
///
/// It is a [`Stream`]; [`Listing::next`] needs no further crate.
#[derive(Debug)]
pub struct Listing {
    pages: mpsc::Receiver<Result<Vec<Listed>, ClientError>>,
    page: VecDeque<Listed>,
    _task: Task,
}

impl List {
    pub(super) fn new(client: Client, prefix: String) -> Self {
        Self { client, prefix, start_after: String::new(), limit: None, values: false }
    }

    /// Lists only keys above this one, which need not exist.
    pub fn start_after(mut self, key: impl Into<String>) -> Self {
        self.start_after = key.into();
        self
    }

    /// Lists so many keys at most.
    pub fn limit(mut self, keys: u64) -> Self {
        self.limit = Some(keys);
        self
    }

    /// Asks for the values too.
    pub fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// Begins the list. It needs a tokio runtime.
    #[must_use = "a list that nobody reads stops after a page"]
    pub fn stream(self) -> Listing {
        let (sender, pages) = mpsc::channel(1);
        let reader = Reader { pool: Arc::clone(&self.client.pool), deadline: self.client.deadline, list: self, sender };
        Listing { pages, page: VecDeque::new(), _task: Task::spawn(reader.run()) }
    }

    /// Lists all keys at once.
    ///
    /// # Errors
    /// The first error of the stream.
    pub async fn collect(self) -> Result<Vec<Listed>, ClientError> {
        let mut listing = self.stream();
        let mut all = Vec::new();
        while let Some(listed) = listing.next().await {
            all.push(listed?);
        }
        Ok(all)
    }
}

impl Listing {
    /// The next key; `None` after the last. An error is the end.
    pub async fn next(&mut self) -> Option<Result<Listed, ClientError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Listing {
    type Item = Result<Listed, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(listed) = self.page.pop_front() {
                return Poll::Ready(Some(Ok(listed)));
            }
            match self.pages.poll_recv(context) {
                Poll::Ready(Some(Ok(page))) => self.page = page.into(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Reads the pages.
struct Reader {
    pool: Arc<NodePool>,
    deadline: Duration,
    list: List,
    sender: mpsc::Sender<Result<Vec<Listed>, ClientError>>,
}

/// How a call ended.
enum End {
    /// All is listed, or nobody wants more.
    Done,
    /// The node failed. Whether it gave a page before.
    Failed(Verdict, bool),
}

impl Reader {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut last_page_at = Instant::now();
        loop {
            let node = self.pool.live_node(Operation::begin(self.deadline)).await;
            let end = match &node {
                Ok(node) => self.read_from(node).await,
                Err(verdict) => End::Failed(verdict.clone(), false),
            };
            match end {
                End::Done => return,
                End::Failed(Verdict::Final(error), _) => {
                    let _ = self.sender.send(Err(error)).await;
                    return;
                }
                End::Failed(Verdict::TryNext(last), gave_a_page) => {
                    if let Ok(node) = &node {
                        self.pool.avoid(node);
                    }
                    if gave_a_page {
                        (backoff, last_page_at) = (Backoff::new(), Instant::now());
                    }
                    if !backoff.wait(last_page_at + self.deadline).await {
                        let tried_for = last_page_at.elapsed();
                        let _ = self.sender.send(Err(ClientError::Unavailable { last, tried_for })).await;
                        return;
                    }
                }
            }
        }
    }

    /// Reads pages from one node, until all is listed or it fails.
    async fn read_from(&mut self, node: &Arc<Node>) -> End {
        let mut gave_a_page = false;
        let table = match self.list.client.table_name() {
            Ok(table) => table,
            Err(error) => return End::Failed(Verdict::Final(error), gave_a_page),
        };
        let request = api::ListRequest {
            table,
            prefix: self.list.prefix.clone(),
            start_after: self.list.start_after.clone(),
            limit: self.list.limit.unwrap_or_default(),
            values: self.list.values,
        };
        // Without a deadline of the call: each page has one.
        let deadline = || Instant::now() + self.deadline;
        let call = async { node.cluster().list(request).await };
        let mut pages = match within(deadline(), call).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return End::Failed(judge_read(node, &status), gave_a_page),
        };
        loop {
            let page = match within(deadline(), pages.message()).await {
                Ok(Some(page)) => page,
                // A list that was not cut off has ended with a page without `next`.
                Ok(None) => {
                    let problem = "the list was cut off";
                    return End::Failed(Verdict::TryNext(NodeFailure::new(&node.address, problem)), gave_a_page);
                }
                Err(status) => return End::Failed(judge_read(node, &status), gave_a_page),
            };
            node.record_answer();
            gave_a_page = true;
            let listed: Result<Vec<Listed>, String> = page.entries.into_iter().map(listed).collect();
            let listed = match listed {
                Ok(listed) => listed,
                Err(problem) => {
                    let failure = NodeFailure::new(&node.address, problem);
                    return End::Failed(Verdict::TryNext(failure), gave_a_page);
                }
            };
            let count = listed.len() as u64;
            if !listed.is_empty() && self.sender.send(Ok(listed)).await.is_err() {
                return End::Done;
            }
            let Some(next) = page.next else { return End::Done };
            self.list.start_after = next;
            if let Some(limit) = &mut self.list.limit {
                *limit = limit.saturating_sub(count);
                if *limit == 0 {
                    return End::Done;
                }
            }
        }
    }
}

fn listed(entry: api::ListedEntry) -> Result<Listed, String> {
    let api::ListedEntry { key, version, entry, ttl } = entry;
    let value = entry.map(|entry| value_of(&key, entry)).transpose()?;
    let ttl = ttl.map(Duration::try_from).transpose().map_err(|_| "bad answer: a negative time to live")?;
    Ok(Listed { key, version, value, ttl })
}
