//! A cluster whose members change, by the command line.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

use super::cluster::{Cluster, NodeFiles, Plan, START_TIME_MAX, TestNode, cluster_yml, node_yml, poll, write};
use super::ports::free_port;
use super::process;

/// How long a command may take, with what a busy machine adds.
const COMMAND_TIME_MAX: Duration = Duration::from_mins(1);

/// What a command has printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub exit: Option<i32>,
    /// Its stdout.
    pub text: String,
    /// Its stderr.
    pub error: String,
}

impl Ended {
    /// Its stdout as JSON.
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A cluster of three nodes and those that come, with the ports of all.
pub struct Growing {
    /// All nodes that were started, the first three first.
    pub cluster: Cluster,
    ports: Vec<(String, u16)>,
}

impl Growing {
    /// Three nodes, all online.
    pub async fn start() -> Self {
        Self::of(Cluster::start_as(&Plan::default()).await)
    }

    /// The nodes of a cluster, and those that come.
    pub fn of(cluster: Cluster) -> Self {
        let ports = cluster.nodes.iter().map(|node| (node.id.clone(), node.port)).collect();
        Self { cluster, ports }
    }

    /// A cluster.yml of nodes with these ids. Those that are new get a port.
    pub fn file(&mut self, name: &str, replica_count: usize, ids: &[&str]) -> PathBuf {
        for id in ids {
            if !self.ports.iter().any(|(known, _)| known == id) {
                self.ports.push(((*id).to_owned(), free_port()));
            }
        }
        let nodes: Vec<(&str, u16)> = ids.iter().map(|id| (*id, self.port(id))).collect();
        let file = self.cluster.dir().join(name);
        write(&file, &cluster_yml(0, replica_count, &nodes));
        file
    }

    /// The port of the node with this id.
    pub fn port(&self, id: &str) -> u16 {
        self.ports.iter().find(|(known, _)| known == id).expect("the node has a port").1
    }

    /// Starts a node with a fresh folder that waits to join, and waits until the members know of it.
    pub async fn join(&mut self, id: &'static str, file: &Path) {
        let dir = self.cluster.dir().to_owned();
        let fresh = self.cluster.nodes.iter().filter(|node| node.id == id).count();
        let files = NodeFiles {
            node_file: dir.join(format!("node-{id}-{fresh}.yml")),
            cluster_file: file.to_owned(),
            data_dir: dir.join("data").join(format!("{id}-{fresh}")),
        };
        let (port, metrics_port) = (self.port(id), free_port());
        write(&files.node_file, &node_yml(id, port, metrics_port, &files.data_dir, false));
        let mut node = TestNode::new(id, port, metrics_port, files, &dir);
        node.arguments.push("--join".into());
        node.start();
        self.cluster.nodes.push(node);
        poll("the node to wait", START_TIME_MAX, async || {
            let members = self.members().await;
            let waits =
                members["waiting"].as_array().is_some_and(|waiting| waiting.iter().any(|node| node["id"] == id));
            if waits { Ok(()) } else { Err(members.to_string()) }
        })
        .await;
    }

    /// Runs the program, beside the test.
    pub fn run(&self, arguments: &[&str]) -> impl Future<Output = Ended> + use<> {
        let mut command = process::command();
        let all: Vec<String> = self.cluster.nodes.iter().map(TestNode::address).collect();
        command.env("QUORATE_ADDRESS", all.join(",")).args(arguments).stdin(Stdio::null());
        async move {
            let ran = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
            let ran = tokio::time::timeout(COMMAND_TIME_MAX, ran).await.expect("it ends in time");
            let Output { status, stdout, stderr } = ran.expect("it was not aborted");
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
            Ended { exit: status.code(), text: text(stdout), error: text(stderr) }
        }
    }

    /// What `quorate members --json` prints.
    pub async fn members(&self) -> Json {
        self.run(&["members", "--json"]).await.json()
    }

    /// The ids of the members, once none change.
    pub async fn ids(&self) -> Vec<String> {
        let members = self.members().await;
        assert_eq!(members["changing"], false, "{members}");
        let ids = members["members"].as_array().unwrap().iter().map(|member| member["id"].as_str().unwrap().to_owned());
        ids.collect()
    }
}
