//! The cluster's nodes, states and places, in the forms of the projects that Quorate descends from and in its own.

use std::time::Instant;

use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::api;
use crate::service::cluster_report::{self, Report};
use crate::service::health::{Health, LinkState};
use crate::service::{ClusterView, MemberView};
use crate::types::{Key, NodeId, Table};

use super::problem::Problem;
use super::reply::Reply;
use super::{Call, Gateway};

const TEXT: &str = "text/plain; charset=utf-8";
/// The bits of a number that every reader of JSON keeps.
const SAFE_BITS: u32 = 53;

impl Gateway {
    pub(super) async fn health(&self, call: &Call) -> Result<Reply, Problem> {
        let report = self.service.health(call.deadline()?).await?;
        if report.serves {
            return Ok(Reply::new(StatusCode::OK));
        }
        let detail = if report.detail.is_empty() { "the node takes no requests now".to_owned() } else { report.detail };
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail))
    }

    pub(super) async fn discovery(&self, call: &Call) -> Result<Reply, Problem> {
        let view = self.service.cluster(call.deadline()?).await?;
        let own = self.service.health(call.deadline()?).await?.health;
        let node = |member: &MemberView| {
            json!({
                "Host": member.address,
                "ApiHost": member.http_address,
                "Status": status(member.state, own),
                "Id": number(&member.id),
                "Name": member.id.as_str(),
            })
        };
        let nodes: Vec<Json> = view.members.iter().map(node).collect();
        Ok(Reply::json(&nodes.into()))
    }

    pub(super) async fn discovery_plain(&self, call: &Call) -> Result<Reply, Problem> {
        let view = self.service.cluster(call.deadline()?).await?;
        let addresses = view.members.into_iter().filter_map(|member| member.http_address);
        let text: String = addresses.map(|address| address + "\n").collect();
        Ok(Reply::of(TEXT, text))
    }

    pub(super) async fn cluster_status(&self, call: &Call) -> Result<Reply, Problem> {
        let ClusterView { members, .. } = self.service.cluster(call.deadline()?).await?;
        let scheme = if self.service.node().trust().tls.is_some() { "https" } else { "http" };
        let urls = |address: Option<&String>| -> Vec<String> {
            address.into_iter().map(|address| format!("{scheme}://{address}")).collect()
        };
        let member = |member: &MemberView| {
            json!({
                "ID": number(&member.id),
                "name": member.id.as_str(),
                "peerURLs": urls(Some(&member.address)),
                "clientURLs": urls(member.http_address.as_ref()),
            })
        };
        let count = members.len();
        let members: Vec<Json> = members.iter().map(member).collect();
        Ok(Reply::json(&json!({ "keys": { "count": count }, "members": { "members": members } })))
    }

    pub(super) async fn replicas_of(&self, key: &Key, call: &Call) -> Result<Reply, Problem> {
        let (_, replicas) = self.service.replicas(&Table::Default, key, call.deadline()?).await?;
        let hosts: Vec<String> = replicas.into_iter().map(|replica| replica.address).collect();
        Ok(Reply::json(&hosts.into()))
    }

    pub(super) async fn placement(&self, table: &Table, key: &Key, call: &Call) -> Result<Reply, Problem> {
        let (slot, replicas) = self.service.replicas(table, key, call.deadline()?).await?;
        let replica = |replica: crate::service::ReplicaView| json!({ "id": replica.id.as_str(), "address": replica.address, "http_address": replica.http_address });
        let replicas: Vec<Json> = replicas.into_iter().map(replica).collect();
        Ok(Reply::json(&json!({ "slot": slot.0, "replicas": replicas })))
    }

    /// What `quorate status --json` prints.
    pub(super) async fn status(&self, call: &Call) -> Result<Reply, Problem> {
        let deadline = call.deadline()?;
        let time_max = cluster_report::HEALTH_TIME_MAX;
        // One at a time, and callers that come meanwhile get the same report: each asks every node.
        let asked = async {
            let mut latest = self.shared.report.lock().await;
            if let Some((asked_at, report)) = &*latest
                && asked_at.elapsed() < time_max
            {
                return Ok(report.clone());
            }
            let info = api::ClusterInfoResponse::from(self.service.cluster(deadline).await?);
            // A node that is away may take all of the time.
            let (members, problem) = match self.service.members_seen(deadline).await {
                Ok(members) => (Some(members), None),
                Err(error) => (None, Some(error.message)),
            };
            let answers = cluster_report::ask_timed(&info, &[], &|id| self.service.dialer_of(id), time_max).await;
            let rows = cluster_report::rows(&info, &answers);
            let layout = self.service.node().layout();
            let report =
                Report::new(layout.old(), layout.new_placement(), members, rows).with_problem(problem).as_json();
            *latest = Some((Instant::now(), report.clone()));
            Ok(report)
        };
        let Ok(report) = tokio::time::timeout_at(deadline.give_up_at.into(), asked).await else {
            let detail = "the nodes have not answered in time: ask again, or with a longer timeout";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail));
        };
        report.map(|report| Reply::json(&report))
    }
}

/// The state of a node, as estoraje's clients know it.
fn status(state: LinkState, own: Health) -> i8 {
    match (state, own) {
        (LinkState::Linked, _) | (LinkState::Itself, Health::Online) => 1,
        (LinkState::Itself, Health::Starting) => 0,
        (LinkState::Itself, Health::Degraded) => 4,
        _ => -1,
    }
}

/// A node's id as a number: itself if it is one that every reader keeps, else a part of its hash.
fn number(id: &NodeId) -> u64 {
    let text = id.as_str();
    let itself = text.parse::<u64>().ok().filter(|number| number.to_string() == text && number >> SAFE_BITS == 0);
    itself.unwrap_or_else(|| xxh3_64(text.as_bytes()) >> (u64::BITS - SAFE_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_that_javascript_keeps() {
        let of = |text: &str| number(&NodeId::new(text).unwrap());
        assert_eq!((of("1"), of("9007199254740991")), (1, (1 << 53) - 1));
        for text in ["01", "+1", "node-a", "9007199254740992"] {
            let number = of(text);
            assert!(number != 1 && number < 1 << 53, "{text}: {number}");
        }
    }
}
