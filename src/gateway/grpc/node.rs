//! `api.Node`: one node and its own replica, for operators and tools.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::api;
use crate::protocol::repair::PairReport;
use crate::service::Service;
use crate::service::cluster_report::duration;
use crate::service::key_scan::KeyScan;
use crate::types::{Content, Key, NodeId, NodeIndex, Slot, Table};
use crate::wire::NodeSet;

use super::status::rejected;
use super::{deadline_of, service_of, with_guard};

pub(super) struct NodeService(pub(super) Arc<Service>);

#[tonic::async_trait]
impl api::node_server::Node for NodeService {
    async fn health(&self, request: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        let service = service_of(&request, &self.0);
        let report = service.health(deadline_of(&request)).await?;
        let pairs: BTreeMap<&NodeId, &PairReport> =
            report.repair.pairs.iter().map(|pair| (&report.nodes[pair.peer.index()], pair)).collect();
        let pair_health = |pair: &PairReport| api::PairHealth {
            comparing: pair.is_comparing,
            behind: pair.behind,
            equal_since: pair.equal_since.map(duration),
        };
        let peers: Vec<api::PeerHealth> = report
            .peers
            .into_iter()
            .map(|(id, state, detail)| api::PeerHealth {
                repair: pairs.get(&id).map(|pair| pair_health(pair)),
                node_id: id.as_str().to_owned(),
                state: api::PeerState::from(state).into(),
                detail,
            })
            .collect();
        let wait_for = |(member, (slots, slot)): (&NodeIndex, &(usize, Slot))| api::TombstonesWait {
            node_id: report.nodes[member.index()].as_str().to_owned(),
            slots: *slots as u64,
            slot: slot.0.into(),
        };
        let repair = report.repair.is_on.then_some(api::RepairHealth {
            share_counted: report.repair.share_counted,
            records: report.repair.counts.records,
            tombstones: report.repair.counts.tombstones,
            repaired: report.repair.repaired,
            tombstone_slots: report.repair.tombstones.slots as u64,
            tombstones_forgotten: report.repair.tombstones.counters.forgotten,
            tombstones_wait_for: report.repair.tombstones.missing.iter().map(wait_for).collect(),
        });
        let scrub = api::ScrubHealth {
            running: report.scrub.is_running,
            bytes: report.scrub.bytes,
            passes: report.scrub.passes,
            clean_since: report.scrub.clean_since.map(duration),
        };
        Ok(Response::new(api::HealthResponse {
            node_id: report.node.as_str().to_owned(),
            status: api::Health::from(report.health).into(),
            uptime: Some(duration(report.uptime)),
            detail: report.detail,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: Some(report.clock.into()),
            keys_estimate: report.statistics.keys_estimate,
            disk_bytes: report.statistics.disk_bytes,
            data_bytes: report.statistics.data_bytes,
            peers,
            repair,
            serves: report.serves,
            scrub: Some(scrub).filter(|scrub| *scrub != api::ScrubHealth::default()),
            damaged: report.is_damaged,
            disk_free_bytes: report.statistics.disk_room.map(|room| room.free),
            disk_total_bytes: report.statistics.disk_room.map(|room| room.size),
            // A time beyond the range of the number is no time of a sync.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float is cut to the range")]
            sync_p99_micros: report.statistics.log_sync_micros_p99 as u64,
            certificate_ends_seconds: report.certificate_end,
            requests: report.requests,
        }))
    }

    async fn repair(&self, request: Request<api::RepairRequest>) -> Result<Response<api::RepairResponse>, Status> {
        let service = service_of(&request, &self.0);
        if request.get_ref().scrub {
            return Ok(Response::new(api::RepairResponse { ordered: true, scrub: service.scrub_now().await? }));
        }
        let ordered = service.repair_now(deadline_of(&request)).await?;
        Ok(Response::new(api::RepairResponse { ordered, scrub: 0 }))
    }

    async fn info(&self, request: Request<api::InfoRequest>) -> Result<Response<BoxStream<api::InfoResponse>>, Status> {
        let service = service_of(&request, &self.0);
        let api::InfoRequest { prefix, limit } = request.into_inner();
        let scan = service.keys(prefix, limit)?;
        Ok(Response::new(Box::pin(stream::unfold(scan, next_page))))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::NodeGetResponse>, Status> {
        let service = service_of(&request, &self.0);
        let deadline = deadline_of(&request);
        let (table, key) = <(Table, Key)>::try_from(request.into_inner()).map_err(rejected)?;
        let Some(answer) = service.node_get(&table, &key, deadline).await? else {
            return Ok(Response::new(api::NodeGetResponse { clocked_entry: None }));
        };
        let message = api::NodeGetResponse { clocked_entry: Some((key, answer.record.record).into()) };
        Ok(with_guard(message, answer.guard))
    }

    async fn set(&self, request: Request<api::NodeSetRequest>) -> Result<Response<api::SetResponse>, Status> {
        let service = service_of(&request, &self.0);
        service.allow_operator_writes()?;
        let deadline = deadline_of(&request);
        let (key, content, stamp) = match NodeSet::try_from(request.into_inner()).map_err(rejected)? {
            NodeSet::Record(key, record) => (key, record.content, Some(record.stamp)),
            NodeSet::Entry(key, value) => (key, Content::Value(value), None),
        };
        let version = service.node_set(key, content, stamp, deadline).await?;
        let text = self.0.versions().encode(&version);
        Ok(Response::new(api::SetResponse { clock: super::cluster::clock(version.stamp), version: text }))
    }
}

async fn next_page(mut scan: KeyScan) -> Option<(Result<api::InfoResponse, Status>, KeyScan)> {
    let page = scan.next_page().await?.map(|keys| api::InfoResponse {
        node_id: scan.node().id().as_str().to_owned(),
        uptime: Some(duration(scan.node().uptime())),
        keys: keys.iter().map(|key| key.as_str().to_owned()).collect(),
    });
    Some((page.map_err(Status::from), scan))
}
