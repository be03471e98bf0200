//! The cold start: how long nodes with data take until they serve.
//!
//! Contract: all nodes have ended by SIGTERM and start at once. Their time begins before the first exec, and ends with the
//! first Get that finds the value of a key.
//!
//! Caveat: the system still has the nodes' files in its page cache.

use std::time::{Duration, Instant};

use quorate::api::GetRequest;
use quorate::api::cluster_client::ClusterClient;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::transport::Channel;

use super::Effort;
use super::batches::{self, VALUE_BYTES};
use super::cluster::Cluster;
use super::page::{Goal, Report, Row};
use crate::picture::thousands;
use crate::testkit::data::key_text;

/// How long the start may take before it counts as failed.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// The deadline of one Get meanwhile. A node that waits for others fails it, and is asked again.
const GET_TIME_MAX: Duration = Duration::from_millis(500);
/// The pause between two tries at a node.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// Fills three nodes, and measures their start.
pub async fn measure(effort: &Effort, report: &mut Report) {
    let keys = thousands(effort.cold_keys as f64);
    let mut cluster = Cluster::start(3).await;
    println!("  cold start: writes {keys} keys with values of {VALUE_BYTES} bytes first");
    let wrote = batches::write_all(&cluster, effort.cold_keys).await;
    println!("  cold start: wrote them in {:.0} s, ends all nodes and starts them", wrote.as_secs_f64());
    cluster.end_all().await;
    let began = Instant::now();
    cluster.start_all();
    let answer = tokio::time::timeout(START_TIME_MAX, first_answer(&cluster, effort.cold_keys / 2)).await;
    let seconds = began.elapsed().as_secs_f64();
    let (figure, judged) = match answer {
        Ok(()) => (format!("{seconds:.2} s"), seconds),
        Err(_) => (format!("no right answer in {seconds:.0} s"), f64::INFINITY),
    };
    report.add_row(Row {
        what: format!(
            "cold start on {keys} keys of {VALUE_BYTES} bytes, from exec of three nodes to the first answered Get"
        ),
        figure,
        noop: String::new(),
        ratio: String::new(),
        goal: Goal::at_most("1 s", 1.0, judged),
    });
}

/// Waits until one of the nodes finds the key of this number.
async fn first_answer(cluster: &Cluster, number: u64) {
    let ask = |node| ask_until_found(cluster.client_of(node), number);
    let mut all: JoinSet<()> = (0..cluster.connections()).map(ask).collect();
    let first = all.join_next().await.expect("a cluster has nodes");
    first.expect("no task panics");
}

async fn ask_until_found(mut client: ClusterClient<Channel>, number: u64) {
    while !is_found(&mut client, number).await {
        tokio::time::sleep(LOOK_AFTER).await;
    }
}

async fn is_found(client: &mut ClusterClient<Channel>, number: u64) -> bool {
    let mut request = Request::new(GetRequest { key: key_text(number), ..Default::default() });
    request.set_timeout(GET_TIME_MAX);
    let Ok(answer) = client.get(request).await else { return false };
    answer.into_inner().entry.and_then(|entry| entry.content) == Some(batches::content(number))
}
