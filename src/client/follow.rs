//! How a client follows the members of its cluster: nodes that come are asked too, so that it goes on when all that it was
//! given are gone. A client that routes also learns which nodes hold which keys (`routing`).
//!
//! Contract: the nodes that were given stay for good. One that was learned is asked once it has answered under the id and the
//! address that the cluster lists, and until the cluster lists it no longer. So addresses that only the nodes can reach do no
//! harm. A learned address of a node that is given, and serves, is not asked: that would be the same node twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::jittered;
use super::failover::NodePool;
use super::node::{Node, by, within};
use crate::api;

/// How soon after its first operation, or after a node failed, a client looks at the members. A change of members takes
/// longer, and a command that ends at once asks nothing more.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// How often it looks else.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a node may take to answer.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Looks at the members from time to time, and whenever `wake` says that a node has failed; for the first time a little later,
/// or at once. Ends with the client.
pub(super) async fn follow(pool: Weak<NodePool>, wake: Arc<Notify>, at_once: bool) {
    if !at_once {
        tokio::time::sleep(jittered(FIRST_AFTER)).await;
    }
    loop {
        let Some(pool_now) = pool.upgrade() else { return };
        pool_now.learn().await;
        drop(pool_now);
        tokio::select! {
            () = tokio::time::sleep(jittered(LOOK_EVERY)) => {}
            () = wake.notified() => tokio::time::sleep(jittered(FIRST_AFTER)).await,
        }
    }
}

impl NodePool {
    /// Learns from the first node that answers who the members are, and where keys are.
    async fn learn(&self) {
        let Some((info, is_of_member)) = self.info().await else { return };
        self.learn_ids_of_given().await;
        // What a removed node knows is old.
        if is_of_member {
            self.learn_placement(&info).await;
        }
        if self.follows() {
            self.learn_members(info.storage_nodes, is_of_member).await;
        }
        self.learn_tables().await;
    }

    /// Asks those of the listed nodes from now on that answer under their ids.
    async fn learn_members(&self, listed: Vec<api::StorageNode>, is_of_member: bool) {
        let is_given = |listed: &api::StorageNode| {
            self.given().iter().any(|node| {
                node.address == listed.address || (!node.is_avoided() && node.id().as_ref() == Some(&listed.id))
            })
        };
        let wanted = listed.into_iter().filter(|listed| !is_given(listed));
        let known = self.nodes();
        let mut learned = Vec::new();
        let mut asked = JoinSet::new();
        for listed in wanted {
            let is_it = |node: &&Arc<Node>| node.address == listed.address && node.id().as_ref() == Some(&listed.id);
            if let Some(node) = known.iter().find(is_it) {
                learned.push(Arc::clone(node));
                continue;
            }
            let Ok(node) = Node::new(&listed.address, self.dialer.clone()) else { continue };
            asked.spawn(async move {
                let health = node.health(Instant::now() + ANSWER_TIME_MAX).await.ok()?;
                (health.node_id == listed.id && health.serves).then(|| Arc::new(node))
            });
        }
        let found = asked.join_all().await.into_iter().flatten();
        learned.extend(found);
        if !is_of_member {
            // What a removed node knows is old: it takes nobody away.
            learned.extend(known.iter().cloned());
        }
        self.follow_to(learned);
    }

    /// The cluster, and whether a member says so. A node that was removed knows who the members were then, and is asked where no
    /// member answers.
    async fn info(&self) -> Option<(api::ClusterInfoResponse, bool)> {
        let mut nodes = self.nodes().to_vec();
        nodes.sort_by_key(|node| node.is_avoided());
        let mut of_removed = None;
        for node in nodes {
            let deadline = Instant::now() + ANSWER_TIME_MAX;
            let request = by(api::ClusterInfoRequest {}, deadline);
            let Ok(answer) = within(deadline, async { node.cluster().info(request).await }).await else { continue };
            let info = answer.into_inner();
            if info.storage_nodes.iter().any(|listed| listed.id == info.node_id) {
                return Some((info, true));
            }
            of_removed = of_removed.or(Some((info, false)));
        }
        of_removed
    }

    /// Asks those nodes for their ids that were given, and have not told it.
    async fn learn_ids_of_given(&self) {
        let mut asked = JoinSet::new();
        for node in self.given().iter().filter(|node| node.id().is_none() && !node.is_avoided()) {
            let node = Arc::clone(node);
            asked.spawn(async move { node.health(Instant::now() + ANSWER_TIME_MAX).await.is_ok() });
        }
        asked.join_all().await;
    }
}

/// The nodes to ask: those given, and those learned whose addresses are others.
pub(super) fn joined(given: &[Arc<Node>], learned: Vec<Arc<Node>>) -> Arc<[Arc<Node>]> {
    let mut addresses: BTreeSet<String> = given.iter().map(|node| node.address.clone()).collect();
    let mut nodes = given.to_vec();
    nodes.extend(learned.into_iter().filter(|node| addresses.insert(node.address.clone())));
    nodes.into()
}
