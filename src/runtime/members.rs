//! The layout and the members of a running node, for those who ask it, and their changes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::limits::REQUEST_OVERHEAD_BYTES;
use crate::protocol::rate::Rate;
use crate::protocol::{Layout, MembersChange, MembersReport, Reply, Time};
use crate::types::{NodeId, NodeIndex};

use super::event::{Event, MembersRequest};
use super::handle::{NodeHandle, Rejected, RequestError, outcome};
use super::replies::ReplyTo;

/// The layout of a node, as its event loop has published it last.
#[derive(Debug)]
pub struct PublishedLayout(RwLock<Arc<Layout>>);

impl PublishedLayout {
    /// Begins with this layout.
    #[must_use]
    pub fn new(layout: Arc<Layout>) -> Self {
        Self(RwLock::new(layout))
    }

    /// The latest layout.
    #[must_use]
    pub fn get(&self) -> Arc<Layout> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put(&self, layout: Arc<Layout>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = layout;
    }
}

impl NodeHandle {
    /// The members, and the replicas of each slot, as they are now. A later change makes another layout.
    #[must_use]
    pub fn layout(&self) -> Arc<Layout> {
        self.inner.layout.get()
    }

    /// Where its layout is published, for those who rarely look at it.
    #[must_use]
    pub fn published_layout(&self) -> &PublishedLayout {
        &self.inner.layout
    }

    /// The id of `node`, which a layout of this node names.
    #[must_use]
    pub fn id_of(&self, node: NodeIndex) -> NodeId {
        self.layout().id(node).clone()
    }

    /// The host and port of `node`, by the configuration, or by the cluster file before the first change of members. Empty for a
    /// node that is no member.
    #[must_use]
    pub fn address(&self, node: NodeIndex) -> Arc<str> {
        let layout = self.layout();
        layout.nodes()[node.index()].address.clone().unwrap_or_else(|| "".into())
    }

    /// The members as this node sees them, and the nodes that wait to join.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn members(&self) -> Result<MembersReport, Rejected> {
        let (reply, replied) = oneshot::channel();
        self.inner.events.send(Event::Members(reply)).await.map_err(|_| Rejected::Ended)?;
        replied.await.map_err(|_| Rejected::Ended)
    }

    /// Changes members, or takes the change back that is under way. Returns the number of the configuration that was chosen: a
    /// joint one, with which a change begins. [`Self::members`] shows its end. Answered by `deadline`.
    ///
    /// # Errors
    /// [`RequestError`]: the change was refused, too few members voted in time, or the node ended.
    pub async fn change_members(&self, change: MembersChange, deadline: Instant) -> Result<u64, RequestError> {
        let permit = self.admit_one(REQUEST_OVERHEAD_BYTES + bytes_of(&change))?;
        let (reply, replied) = oneshot::channel();
        let request = MembersRequest { change, deadline, reply: ReplyTo::Waiting(reply), permit };
        self.inner.events.send(Event::ChangeMembers(request)).await.map_err(|_| Rejected::Ended)?;
        match outcome(replied.await)? {
            Reply::Members { number } => Ok(number),
            other => unreachable!("a change of members is answered with a configuration, not {other:?}"),
        }
    }

    /// The node takes slots over at this rate from now on.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn pace_takeover(&self, rate: Rate) -> Result<(), Rejected> {
        self.inner.events.send(Event::PaceTakeover(rate)).await.map_err(|_| Rejected::Ended)
    }

    /// The time since `at`, a time of this node's protocol, as [`MembersReport`] has it.
    #[must_use]
    pub fn time_since(&self, at: Time) -> Duration {
        self.uptime().saturating_sub(Duration::from_micros(at.0))
    }
}

fn bytes_of(change: &MembersChange) -> usize {
    match change {
        MembersChange::Change { wished, .. } => {
            wished.members.iter().map(|member| member.id.as_str().len() + member.address.len()).sum()
        }
        MembersChange::TakeBack { .. } => 0,
    }
}
