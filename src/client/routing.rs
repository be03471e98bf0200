//! Which nodes hold a key, so that an operation on it goes to one of them and saves a hop.
//!
//! Contract: only the order in which nodes are asked follows from this. Every node answers for every key. So the first
//! operations, for which nothing is known yet, and those of a placement that is out of date, cost a hop and nothing else.
//!
//! The client looks at its cluster as one that follows the members does (`follow`), and besides with its first operation. It asks
//! for the id of a created table with the first operation on it, and at each later look: another table may have taken the name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::time::Instant;

use super::ClientError;
use super::failover::NodePool;
use super::follow::ANSWER_TIME_MAX;
use super::node::{Node, by, within};
use super::verdict::{Verdict, judge_read};
use crate::api;
use crate::protocol::placement::Placement;
use crate::types::{Key, Slot, TableId};
use crate::wire::cluster::{ListedNode, parameters};

/// The most tables whose ids a client keeps, because it asks for each of them at each look. Operations on others are not routed.
const TABLES_MAX: usize = 1_000;

/// What a client that routes knows of its cluster.
#[derive(Debug, Default)]
pub(super) struct Router {
    placement: RwLock<Option<Arc<Placement>>>,
    /// The created tables that were used, by name; `None` where the id is not known.
    tables: Mutex<BTreeMap<String, Option<TableId>>>,
}

impl Router {
    fn placement(&self) -> Option<Arc<Placement>> {
        self.placement.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<TableId>>> {
        // Each change is one call, so a panic elsewhere cannot leave it half done.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a table is used whose id is not known. Whether it is to be asked for: nobody does so yet, and there is room.
    fn wants(&self, table: &str) -> bool {
        let mut tables = self.tables();
        let is_wanted = tables.len() < TABLES_MAX && !tables.contains_key(table);
        if is_wanted {
            tables.insert(table.to_owned(), None);
        }
        is_wanted
    }

    /// Puts the nodes that hold `slot` first, and returns how many these are. Otherwise the order stays.
    pub(super) fn put_holders_first(&self, slot: Slot, nodes: &mut [Arc<Node>]) -> usize {
        let Some(placement) = self.placement() else { return 0 };
        let parameters = placement.parameters();
        let ids: Vec<&str> = placement.replicas(slot).iter().map(|index| parameters.id(*index).as_str()).collect();
        let mut holders = 0;
        nodes.sort_by_cached_key(|node| {
            let holds = node.has_id_of(&ids);
            holders += usize::from(holds);
            !holds
        });
        holders
    }
}

impl NodePool {
    /// The slot of a key of the table that requests name so; `None` where it is not known, and where the client does not route.
    pub(super) fn slot_of(&self, table: &str, key: &Key) -> Option<Slot> {
        let router = self.router()?;
        let table = if table.is_empty() {
            TableId::DEFAULT
        } else {
            let known = router.tables().get(table).copied();
            if known.is_none() && router.wants(table) {
                self.begin_to_learn(table.to_owned());
            }
            known??
        };
        let placement = router.placement()?;
        Some(placement.slot(&key.clone().moved_to(table)))
    }

    /// Asks for the id of a table, beside the operation that needs it.
    fn begin_to_learn(&self, table: String) {
        self.spawn_with(|pool| async move {
            let Some(pool) = pool.upgrade() else { return };
            if let (Ok(id), Some(router)) = (pool.table_id(table.clone()).await, pool.router()) {
                router.tables().insert(table, Some(id));
            }
        });
    }

    /// Takes over what a member says of its cluster, if the client routes.
    pub(super) async fn learn_placement(&self, info: &api::ClusterInfoResponse) {
        let Some(router) = self.router() else { return };
        let listed = info.storage_nodes.iter().map(ListedNode::from);
        // Of an impossible cluster nothing follows.
        if let Ok(parameters) = parameters(info, info.replication_level, listed)
            && router.placement().is_none_or(|known| *known.parameters() != parameters)
        {
            // It takes a fifth of a second for a thousand nodes.
            let computed = tokio::task::spawn_blocking(move || Placement::new(parameters)).await;
            // It fails where the runtime is ending.
            if let Ok(placement) = computed {
                *router.placement.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(placement));
            }
        }
    }

    /// Asks again for the ids of the tables that were used.
    pub(super) async fn learn_tables(&self) {
        let Some(router) = self.router() else { return };
        let names: Vec<String> = router.tables().keys().cloned().collect();
        for name in names {
            match self.table_id(name.clone()).await {
                Ok(id) => drop(router.tables().insert(name, Some(id))),
                Err(Some(ClientError::NoSuchTable { .. })) => drop(router.tables().remove(&name)),
                Err(Some(_)) => {}
                // Other tables would be asked for in vain.
                Err(None) => return,
            }
        }
    }

    /// Asks one node after the other. None is avoided for its silence, because an operation that misses the id costs a hop and
    /// nothing else. The error is absent where no node answers.
    async fn table_id(&self, name: String) -> Result<TableId, Option<ClientError>> {
        let mut nodes = self.nodes().to_vec();
        nodes.sort_by_key(|node| node.is_avoided());
        for node in nodes {
            let deadline = Instant::now() + ANSWER_TIME_MAX;
            let request = by(api::TableGetRequest { name: name.clone() }, deadline);
            match within(deadline, async { node.tables().get(request).await }).await {
                Ok(answer) => return Ok(TableId(answer.into_inner().table.unwrap_or_default().id)),
                Err(status) => {
                    if let Verdict::Final(error) = judge_read(&node, &status) {
                        return Err(Some(error));
                    }
                }
            }
        }
        Err(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_tables_are_asked_for_than_there_is_room() {
        let router = Router::default();
        for number in 0..TABLES_MAX {
            assert!(router.wants(&number.to_string()));
        }
        assert!(!router.wants("one more") && !router.wants("7"));
        assert_eq!(router.tables().len(), TABLES_MAX);
        router.tables().remove("7");
        assert!(router.wants("one more"), "a table is gone");
    }
}
