//! `quorate locate`: print the replicas of keys.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use super::config_check::read;
use super::output::{print, print_json};
use super::tables::InTable;
use super::{CliError, Exit, Global};
use crate::api;
use crate::config::{ClusterConfig, File};
use crate::protocol::placement::Placement;
use crate::types::{ClusterParameters, Key, TableId};
use crate::wire::cluster::{self, ListedNode};

/// Print which nodes hold keys
///
/// Prints one line for each key: the key, its slot and the ids of its replicas in the order of preference. Tabs separate
/// the three, commas the ids. The cluster's parameters come from a node, or from a cluster file with --cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate locate greeting
  quorate locate a b c --cluster examples/3-local-nodes/cluster.yml     without a connection
  quorate locate ada --table sessions
  quorate locate greeting | cut -f3")]
pub(super) struct Locate {
    /// The keys: 1 to 4,096 bytes of UTF-8 each
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Take the cluster's parameters from this cluster.yml, without a connection
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    #[command(flatten)]
    table: InTable,
}

impl Locate {
    pub(super) fn asks_a_node(&self) -> bool {
        self.cluster.is_none()
    }

    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let keys = self
            .keys
            .into_iter()
            .map(|key| Key::new(key).map_err(|error| CliError::bad_input(error.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        let is_default = self.table.in_requests().is_empty();
        if self.cluster.is_some() && !is_default {
            return Err(CliError::bad_input(
                "--cluster knows no tables: leave it out, so that a node tells what --table (or QUORATE_TABLE) stands for",
            ));
        }
        let parameters = if let Some(name) = &self.cluster {
            let text = read(name)?;
            let cluster = ClusterConfig::parse(File { name, text: &text });
            cluster.map_err(|error| CliError::bad_input(error.to_string()))?.parameters
        } else {
            let client = global.client()?;
            let info = client.cluster_info().await?;
            // While members change, the replicas that are to be.
            let lists = lists(&info, client.members().await.ok().as_ref())?;
            lists.new.unwrap_or(lists.old)
        };
        let placement = Placement::new(parameters);
        let table = if is_default { TableId::DEFAULT } else { table_id(global, &self.table.table).await? };
        let keys: Vec<Key> = keys.into_iter().map(|key| key.moved_to(table)).collect();
        if global.json {
            print_json(&keys.iter().map(|key| as_json(&placement, key)).collect())?;
        } else {
            print(keys.iter().map(|key| as_line(&placement, key)).collect::<String>().as_bytes())?;
        }
        Ok(Exit::Done)
    }
}

/// The id of a table, under which its keys are stored.
pub(super) async fn table_id(global: &Global, name: &str) -> Result<TableId, CliError> {
    let table = global.client()?.tables().get(name).await?;
    let table = table.ok_or_else(|| {
        CliError::bad_input(format!("there is no table {name:?}: quorate tables create {name} makes it"))
    });
    Ok(TableId(table?.id))
}

/// The parameters of the placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListParameters {
    /// While members change, of the old list.
    pub(super) old: ClusterParameters,
    /// Those that are to be, while members change.
    pub(super) new: Option<ClusterParameters>,
}

/// The parameters of the placement, as a node reported them. They are checked, because they came over the network. Without
/// `members` they are those of all nodes.
pub(super) fn lists(
    info: &api::ClusterInfoResponse,
    members: Option<&api::MembersGetResponse>,
) -> Result<ListParameters, CliError> {
    let Some(members) = members else {
        let nodes = info.storage_nodes.iter().map(ListedNode::from);
        return Ok(ListParameters { old: parameters(info, info.replication_level, nodes)?, new: None });
    };
    let of_old = members.members.iter().filter(|member| member.in_old).map(|member| ListedNode {
        id: &member.id,
        weight_hundredths: member.old_weight_hundredths,
        zone: &member.old_zone,
    });
    let old = parameters(info, members.replica_count.into(), of_old)?;
    let of_new = members.members.iter().filter(|member| member.in_new).map(|member| ListedNode {
        id: &member.id,
        weight_hundredths: member.weight_hundredths,
        zone: &member.zone,
    });
    let new = members.new_replica_count.map(|count| parameters(info, count.into(), of_new));
    Ok(ListParameters { old, new: new.transpose()? })
}

fn parameters<'a>(
    info: &api::ClusterInfoResponse,
    replica_count: i64,
    nodes: impl Iterator<Item = ListedNode<'a>>,
) -> Result<ClusterParameters, CliError> {
    cluster::parameters(info, replica_count, nodes).map_err(|problem| {
        CliError::not_done(format!("node {:?} describes an impossible cluster: {problem}", info.node_id))
    })
}

fn replicas<'a>(placement: &'a Placement, key: &Key) -> Vec<&'a str> {
    let parameters = placement.parameters();
    placement.replicas(placement.slot(key)).iter().map(|member| parameters.id(*member).as_str()).collect()
}

fn as_line(placement: &Placement, key: &Key) -> String {
    format!("{}\t{}\t{}\n", key.as_str(), placement.slot(key), replicas(placement, key).join(","))
}

fn as_json(placement: &Placement, key: &Key) -> Json {
    json!({ "key": key.as_str(), "slot": placement.slot(key).0, "replicas": replicas(placement, key) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::NODES_MAX;

    fn info(ids: &[&str], replication_level: i64, seed: u32) -> api::ClusterInfoResponse {
        let node = |id: &&str| api::StorageNode { id: (*id).to_owned(), ..Default::default() };
        let storage_nodes = ids.iter().map(node).collect();
        api::ClusterInfoResponse { replication_level, storage_nodes, seed, ..Default::default() }
    }

    fn parameters(info: &api::ClusterInfoResponse) -> Result<ClusterParameters, CliError> {
        lists(info, None).map(|lists| lists.old)
    }

    #[test]
    fn line_is_key_slot_and_replicas() {
        let five = Placement::new(parameters(&info(&["5", "4", "3", "2", "1"], 3, 0)).unwrap());
        let key = Key::new("a").unwrap();
        assert_eq!(as_line(&five, &key), "a\t34133\t3,4,5\n");
        assert_eq!(as_json(&five, &key).to_string(), r#"{"key":"a","replicas":["3","4","5"],"slot":34133}"#);
        let named = info(&["node-a", "node-b", "node-c", "node-d"], 3, 42);
        let named = Placement::new(parameters(&named).unwrap());
        assert_eq!(as_line(&named, &Key::new("雪片").unwrap()), "雪片\t54523\tnode-d,node-a,node-c\n");
    }

    #[test]
    fn weights_and_zones_of_a_node_s_answer_decide_too() {
        let mut weighted = info(&["5", "4", "3", "2", "1"], 3, 0);
        for (node, weight) in weighted.storage_nodes.iter_mut().zip([400, 50, 200, 0, 100]) {
            node.weight_hundredths = weight;
        }
        let key = Key::new("b").unwrap();
        let line = |info: &api::ClusterInfoResponse| as_line(&Placement::new(parameters(info).unwrap()), &key);
        assert_eq!(line(&weighted), "b\t31384\t3,5,2\n");
        let mut in_zones = info(&["5", "4", "3", "2", "1"], 3, 0);
        for (node, zone) in in_zones.storage_nodes.iter_mut().zip(["b", "b", "a", "a", "a"]) {
            zone.clone_into(&mut node.zone);
        }
        assert_eq!(line(&in_zones), "b\t31384\t3,4,2\n");
        in_zones.storage_nodes[0].zone.clear();
        assert!(parameters(&in_zones).unwrap_err().message.contains("is no zone"));
        weighted.storage_nodes[0].weight_hundredths = 1_000_001;
        assert!(parameters(&weighted).unwrap_err().message.contains("1000001 hundredths"));
    }

    #[test]
    fn changing_members_are_two_lists() {
        let member =
            |id: &str, in_old, in_new| api::ClusterMember { id: id.into(), in_old, in_new, ..Default::default() };
        let members = api::MembersGetResponse {
            changing: true,
            replica_count: 1,
            new_replica_count: Some(3),
            // Node 2 is replaced under its id.
            members: vec![
                member("1", true, false),
                member("2", true, false),
                member("2", false, true),
                member("3", false, true),
                member("4", false, true),
            ],
            ..Default::default()
        };
        let lists = lists(&info(&["1", "2", "3", "4"], 3, 7), Some(&members)).unwrap();
        let of = |parameters: &ClusterParameters| {
            let ids: Vec<String> = parameters.node_ids.iter().map(ToString::to_string).collect();
            (parameters.replica_count, ids.join(" "))
        };
        assert_eq!((of(&lists.old), of(&lists.new.unwrap())), ((1, "1 2".into()), (3, "2 3 4".into())));
    }

    #[test]
    fn impossible_cluster_is_told_not_computed() {
        let many: Vec<String> = (0..=NODES_MAX).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (info, part) in [
            (info(&[], 0, 0), "0 replicas on 0 nodes"),
            (info(&["1"], 2, 0), "2 replicas on 1 nodes"),
            (info(&["1"], -1, 0), "-1 replicas"),
            (info(&["1", "1"], 1, 0), "twice"),
            (info(&["1,2"], 1, 0), "printable ASCII"),
            (info(&many, 3, 0), "at most 1024"),
        ] {
            let error = parameters(&info).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
    }
}
