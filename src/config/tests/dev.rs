use std::path::{Path, PathBuf};

use super::id;
use crate::config::{DevPlan, DevPlanError, LocalAddress, RemoteAddress, dev};
use crate::types::Durability;

#[test]
fn dev_cluster_is_what_its_plan_says() {
    let plan = DevPlan { nodes: 11, port: 8001, data_dir: PathBuf::from("/tmp/d"), durability: Durability::Os };
    let configs = dev(&plan).unwrap();
    assert_eq!(configs.len(), 11);
    for (index, config) in (1_u16..).zip(&configs) {
        assert_eq!(config.node.id, id(&index.to_string()));
        assert_eq!(config.node.local_address, LocalAddress::loopback(8000 + index));
        assert_eq!(config.node.local_metrics_address, Some(LocalAddress::loopback(9000 + index)));
        assert_eq!(config.node.local_http_address, Some(LocalAddress::loopback(8100 + index)));
        assert_eq!(config.node.local_line_address, Some(LocalAddress::loopback(8200 + index)));
        assert_eq!(config.node.local_redis_address, Some(LocalAddress::loopback(8300 + index)));
        assert_eq!(config.node.data_dir, Path::new("/tmp/d").join(index.to_string()));
        assert_eq!(config.node.durability, Durability::Os);
        assert!(config.node.operator_writes);
        assert_eq!(config.cluster.address(config.member()), &RemoteAddress::loopback(8000 + index));
        assert!(config.cluster.parameters.node_ids.is_sorted());
        assert_eq!(config.cluster.parameters.replica_count, 3);
    }
    let two = dev(&DevPlan { nodes: 2, ..plan.clone() }).unwrap();
    assert_eq!(two[0].cluster.parameters.replica_count, 2);

    for nodes in [0, 101, usize::MAX] {
        assert_eq!(dev(&DevPlan { nodes, ..plan.clone() }), Err(DevPlanError::Nodes { nodes }));
    }
    let error = DevPlanError::Port { port: 64_526, max: 64_525, nodes: 11 };
    assert_eq!(dev(&DevPlan { port: 64_526, ..plan.clone() }), Err(error));
    assert_eq!(
        error.to_string(),
        "port 64526 is not accepted for 11 nodes: give 1 to 64525, since node N takes port 64526 + N - 1 and serves \
         metrics 1000 above it"
    );
    assert!(dev(&DevPlan { port: 64_525, ..plan.clone() }).is_ok());
    assert!(dev(&DevPlan { port: 0, ..plan }).is_err());
}
