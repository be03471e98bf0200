//! `--route`: the connections that lead to the replicas of a key.

use std::time::Duration;

use tonic::{Request, Status};

use crate::api;
use crate::api::cluster_client::ClusterClient;
use crate::protocol::placement::Placement;
use crate::resolve::NodeChannel;
use crate::types::{Key, NodeId, TableId};
use crate::wire::cluster::{ListedNode, parameters};

/// Where keys are, as it was before the run.
#[derive(Debug)]
pub(super) struct Route {
    placement: Placement,
    table: TableId,
    /// The connections to each node that holds slots, by its index: numbers among the connections of the run.
    connections: Vec<Vec<usize>>,
}

impl Route {
    /// Asks who is at each of `addresses`, whose connections take turns in `clients`. A node that does not answer gets no
    /// requests.
    ///
    /// # Errors
    /// When no member of a cluster is there: the last reason.
    pub(super) async fn ask(
        clients: &[ClusterClient<NodeChannel>],
        addresses: &[String],
        table: TableId,
        timeout: Duration,
    ) -> Result<Self, String> {
        let mut placement = None;
        let mut ids = Vec::with_capacity(addresses.len());
        let mut last_problem = "no address is given".to_owned();
        for (address, client) in std::iter::zip(addresses, clients) {
            let mut client = client.clone();
            let mut request = Request::new(api::ClusterInfoRequest {});
            request.set_timeout(timeout);
            let answer = tokio::time::timeout(timeout, client.info(request)).await;
            let info = match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(answer) => answer.into_inner(),
                Err(status) => {
                    last_problem = format!("{address}: {}", status.message());
                    ids.push(None);
                    continue;
                }
            };
            // What a node knows that was removed is old.
            if placement.is_none() && info.storage_nodes.iter().any(|listed| listed.id == info.node_id) {
                let listed = info.storage_nodes.iter().map(ListedNode::from);
                match parameters(&info, info.replication_level, listed) {
                    Ok(parameters) => placement = Some(Placement::new(parameters)),
                    Err(error) => last_problem = format!("{address} describes an impossible cluster: {error}"),
                }
            } else if placement.is_none() {
                last_problem = format!("{address} is no member of its cluster");
            }
            ids.push(NodeId::new(&info.node_id).ok());
        }
        let placement = placement.ok_or(last_problem)?;
        Ok(Self::of(placement, table, &ids, clients.len()))
    }

    /// `ids` are those of the nodes at the addresses, whose `connections` take turns.
    fn of(placement: Placement, table: TableId, ids: &[Option<NodeId>], connections: usize) -> Self {
        let parameters = placement.parameters();
        let mut of_nodes = vec![Vec::new(); parameters.node_ids.len()];
        for (number, id) in (0..connections).zip(ids.iter().cycle()) {
            if let Some(index) = id.as_ref().and_then(|id| parameters.member(id)) {
                of_nodes[index.index()].push(number);
            }
        }
        Self { placement, table, connections: of_nodes }
    }

    /// The connection for the request number `turn` of a worker, if that is about this key: its replicas take turns, and so do the
    /// connections to each. `None` where there is no connection to a replica.
    pub(super) fn connection(&self, key: &str, turn: usize) -> Option<usize> {
        let key = Key::new(key.to_owned()).ok()?.moved_to(self.table);
        let holders = self.placement.replicas(self.placement.slot(&key));
        let reached = || holders.iter().map(|holder| &self.connections[holder.index()]).filter(|of| !of.is_empty());
        let count = reached().count();
        let connections = reached().nth(turn.checked_rem(count)?)?;
        Some(connections[turn / count % connections.len()])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::ClusterParameters;

    fn five(table: TableId, ids: &[&str], connections: usize) -> Route {
        let node_ids = (1..=5).map(|id| NodeId::new(&id.to_string()).unwrap()).collect();
        let ids: Vec<Option<NodeId>> = ids.iter().map(|id| NodeId::new(id).ok()).collect();
        Route::of(Placement::new(ClusterParameters::plain(0, 3, node_ids)), table, &ids, connections)
    }

    fn counts(route: &Route, key: &str) -> Vec<(usize, u32)> {
        let mut counts = BTreeMap::new();
        for turn in 0..60 {
            *counts.entry(route.connection(key, turn).expect("a replica is there")).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn replicas_of_the_key_take_turns_and_so_do_their_connections() {
        // The replicas of a are 3, 4 and 5, as docs/protocol.md has them.
        let route = five(TableId::DEFAULT, &["5", "4", "3", "2", "1"], 5);
        assert_eq!(counts(&route, "a"), [(0, 20), (1, 20), (2, 20)]);
        assert_eq!(counts(&route, "b"), [(1, 20), (2, 20), (3, 20)]);
        let twice = five(TableId::DEFAULT, &["5", "4", "3", "2", "1"], 10);
        assert_eq!(counts(&twice, "a"), [(0, 10), (1, 10), (2, 10), (5, 10), (6, 10), (7, 10)]);
    }

    #[test]
    fn replicas_without_a_connection_are_passed_over() {
        assert_eq!(counts(&five(TableId::DEFAULT, &["1", "2", "3"], 3), "a"), [(2, 60)]);
        assert_eq!(five(TableId::DEFAULT, &["1", "2", ""], 3).connection("a", 0), None);
    }

    #[test]
    fn table_is_a_part_of_the_place() {
        let (one, other) = (TableId::DEFAULT, TableId::FIRST);
        let (one, other) = (five(one, &["1", "2", "3", "4", "5"], 5), five(other, &["1", "2", "3", "4", "5"], 5));
        let differs = |key: &u32| counts(&one, &key.to_string()) != counts(&other, &key.to_string());
        // Two of ten sets of three are the same by chance, or fewer.
        assert!((0..100).filter(differs).count() > 50);
    }
}
