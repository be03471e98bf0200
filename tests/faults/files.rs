//! The files of a node under test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::doors::Ports;
use crate::means::Means;
use crate::secure::Secure;
use crate::testkit::cluster::{NodeFiles, SMALLEST_STORE, TestNode, cluster_yml, node_yml, write};
use crate::testkit::ports;
use crate::testkit::proxy::Network;

/// A node with its files, which is not started.
pub(crate) fn node(
    at: usize,
    (node_ports, doors): (&[u16], Ports),
    replica_count: usize,
    network: &Network,
    means: &Means,
    secure: Option<&Secure>,
    dir: &Path,
) -> TestNode {
    // The ids are the numbers that the schedule uses.
    let ids: Vec<String> = (0..node_ports.len()).map(|at| at.to_string()).collect();
    let address = |to: usize| (ids[to].as_str(), if to == at { node_ports[at] } else { network.port(at, to) });
    let addresses: Vec<(&str, u16)> = (0..node_ports.len()).map(address).collect();
    let home = dir.join(format!("node-{at}"));
    fs::create_dir_all(&home).expect("a folder can be made");
    let files = NodeFiles {
        node_file: home.join("node.yml"),
        cluster_file: home.join("cluster.yml"),
        data_dir: disk(dir, at).join("data"),
    };
    let metrics_port = ports::free_port();
    let mut text = node_yml(&ids[at], node_ports[at], metrics_port, &files.data_dir, false) + &doors.as_yaml();
    // The first node answers from memory, the others must read their disks.
    if at > 0 {
        text.push_str(SMALLEST_STORE);
    }
    text.extend(secure.map(|secure| secure.as_yaml(at)));
    write(&files.node_file, &text);
    write(&files.cluster_file, &cluster_yml(0, replica_count, &addresses));
    let mut node = TestNode::new(&ids[at], node_ports[at], metrics_port, files, &home);
    node.wrapper.clone_from(&means.wrapper);
    node.tls = secure.map(|secure| secure.believes().clone());
    node
}

/// The folder that holds the data folder of a node and its copies.
pub(crate) fn disk(dir: &Path, at: usize) -> PathBuf {
    dir.join(format!("node-{at}/disk"))
}

/// Renames a folder.
pub(crate) fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap_or_else(|error| panic!("cannot rename {}: {error}", from.display()));
}

/// The size of the store's present log file.
pub(crate) fn log_bytes(data_dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(data_dir.join("store")) else { return 0 };
    let logs = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
    logs.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).max().unwrap_or(0)
}
