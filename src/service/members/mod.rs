//! The members of the cluster, for operators: who they are, what a change would move, and the change itself.
//!
//! Contract: a change returns once it has begun. A refusal says what to do, and that nothing was done.
//!
//! | file | holds |
//! |---|---|
//! | `lists` | the lists of members that a report or a wish tells of |
//! | `plan` | what a change would move, and what is tolerated meanwhile |
//! | `replacement` | the wishes in which a node takes the place of a member, or comes to the members |
//! | `text` | members and plans as JSON, and as a cluster.yml |
//! | `wish` | a wish as it arrives, and why a change is refused |

mod lists;
mod plan;
pub(crate) mod replacement;
pub(crate) mod text;
mod wish;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::api;
use crate::auth::Target;
use crate::protocol::{MembersChange, MembersRefusal, MembersReport, Unready};
use crate::runtime::RequestError;
use crate::types::{NodeId, Site};
use crate::wire::failure::FailureReason;
use crate::wire::method::{self, Access};

use super::Service;
use super::authorization::Asked;
use super::cluster_report::{HEALTH_TIME_MAX, ask_all};
use super::deadline::Deadline;
use super::error::ServiceError;
use super::health::unready_text;
pub(super) use lists::Placements;
use lists::{Lists, MemberList};
use plan::Plan;
pub(super) use wish::refused;
pub(crate) use wish::{Wish, removal};

/// The sizes of the nodes' data, as they told them last.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<Option<(Instant, BTreeMap<String, Size>)>>);

/// The size of one node's data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Size {
    node: String,
    /// What it takes on disk.
    disk_bytes: u64,
    /// About the keys and values in it.
    data_bytes: u64,
}

/// How old the sizes of members' data may be. To learn them, a node connects to each of the others.
const SIZES_AGE_MAX: Duration = Duration::from_secs(3);

impl Service {
    /// The members, what moves, and the nodes that wait to join.
    pub(crate) async fn members(&self, deadline: Deadline) -> Result<api::MembersGetResponse, ServiceError> {
        self.allow(&method::MEMBERS_GET, Target::Cluster)?;
        let report = self.members_report(deadline).await?;
        let sizes = self.sizes_of(&report).await;
        let seed = self.seed;
        let lists = Lists::of(&report);
        let placements = Arc::clone(&self.placements);
        let blocking = move || {
            let spare = |list: &MemberList| list.spare_in(&list.placement(seed, &placements)).tolerated;
            let old = spare(&lists.old);
            let new = lists.new.as_ref().map_or(old, spare);
            (old, new)
        };
        let (old, new) = tokio::task::spawn_blocking(blocking).await.map_err(|error| failed(&error))?;
        let tolerated = (count(old.min(new)), count(new));
        Ok(api::MembersGetResponse {
            failures_tolerated: tolerated.0,
            failures_tolerated_after: tolerated.1,
            ..self.listed(&report, &sizes)
        })
    }

    /// The members as this node sees them, without the sizes of their data and what is tolerated. Asks no other node. The error says
    /// that this node is no member.
    pub(crate) async fn members_seen(&self, deadline: Deadline) -> Result<api::MembersGetResponse, ServiceError> {
        let report = self.members_report(deadline).await?;
        Ok(self.listed(&report, &BTreeMap::new()))
    }

    fn listed(&self, report: &MembersReport, sizes: &BTreeMap<String, Size>) -> api::MembersGetResponse {
        let is_twice = |id: &NodeId| report.members.iter().filter(|member| member.id == *id).count() > 1;
        let member = |member: &crate::protocol::MemberStatus| {
            let id = member.id.as_str().to_owned();
            let address = member.address.as_deref().unwrap_or_default().to_owned();
            // The two data folders of a replaced node may have one address: the new one answers there.
            let is_gone = is_twice(&member.id) && !member.is_new;
            let size = sizes.get(&address).filter(|size| size.node == id && !is_gone);
            let ((weight_hundredths, zone), old) = (member.site.to_fields(), member.old_site.to_fields());
            api::ClusterMember {
                identity: member.store_id.map(|store_id| store_id.to_string()).unwrap_or_default(),
                in_old: member.is_old,
                in_new: member.is_new,
                reached: member.is_reached,
                slots: member.slots,
                disk_bytes: size.map(|size| size.disk_bytes),
                progress: member.progress.map(|progress| api::MemberProgress {
                    complete: progress.is_complete,
                    slots: progress.slots,
                    slots_done: progress.slots_done,
                    keys: progress.keys,
                    bytes: progress.bytes,
                }),
                id,
                address,
                weight_hundredths,
                zone,
                old_weight_hundredths: old.0,
                old_zone: old.1,
            }
        };
        let waiting = |node: &crate::protocol::WaitingNode| api::WaitingMember {
            id: node.id.as_str().to_owned(),
            address: node.address.to_string(),
            identity: node.store_id.to_string(),
        };
        api::MembersGetResponse {
            number: report.number,
            changing: report.is_joint,
            replica_count: count(report.replica_count),
            new_replica_count: report.new_replica_count.map(count),
            members: report.members.iter().map(member).collect(),
            waiting: report.waiting.iter().map(waiting).collect(),
            seed: self.seed,
            epoch_floor: self.node().layout().parameters().epoch_floor,
            node_id: self.node().id().as_str().to_owned(),
            cluster_name: self.node().trust().cluster.clone(),
            ..Default::default()
        }
    }

    /// What a change to the members of `wish` would move. Changes nothing.
    pub(crate) async fn members_plan(
        &self,
        wish: Wish,
        deadline: Deadline,
    ) -> Result<api::MembersPlanResponse, ServiceError> {
        self.allow(&method::MEMBERS_PLAN, Target::Cluster)?;
        self.check_reach(&wish)?;
        let report = self.members_report(deadline).await?;
        let number = report.number;
        if wish.expected.is_some_and(|expected| expected != number) {
            return Err(refused(&MembersRefusal::OtherConfiguration { number }));
        }
        if report.is_joint {
            return Err(refused(&MembersRefusal::UnderWay { number }));
        }
        let old = Lists::of(&report).old;
        let new = MemberList::wished(&wish.members, &old, &report.waiting).map_err(|refusal| refused(&refusal))?;
        let sizes = self.sizes_of(&report).await;
        let seed = self.seed;
        let placements = Arc::clone(&self.placements);
        let planned = move || {
            let placed = (old.placement(seed, &placements), new.placement(seed, &placements));
            Plan::new(number, (&old, &placed.0), (&new, &placed.1), &sizes)
        };
        let plan = tokio::task::spawn_blocking(planned).await.map_err(|error| failed(&error))?;
        Ok(plan.0)
    }

    /// Begins a change of members, and returns the number of its configuration.
    pub(crate) async fn members_change(&self, wish: Wish, deadline: Deadline) -> Result<u64, ServiceError> {
        let ids: Vec<&str> = wish.members.members.iter().map(|member| member.id.as_str()).collect();
        let mut details = vec![("members", ids.join(" "))];
        if let Some(expected) = wish.expected {
            details.push(("expected", expected.to_string()));
        }
        self.audited_as(Asked::of(&method::MEMBERS_CHANGE, Target::Cluster).with_details(&details), async {
            if let Some(id) = self.node_that_asks() {
                self.check_own_wish(id, &wish, deadline).await?;
            }
            self.check_reach(&wish)?;
            let Wish { expected, members, is_forced } = wish;
            if members.members.is_empty() {
                return Err(ServiceError::invalid(
                    "nothing was done: a cluster has at least one member, and this is the last",
                ));
            }
            self.change_members(MembersChange::Change { expected, wished: members, is_forced }, deadline).await
        })
        .await
    }

    /// Refuses whatever a node asks for by its certificate but its own place, for a fresh data folder that waits for it. Where nodes may
    /// add themselves, that may be a new place.
    async fn check_own_wish(&self, id: &NodeId, wish: &Wish, deadline: Deadline) -> Result<(), ServiceError> {
        let report = self.members_report(deadline).await?;
        let seen = self.listed(&report, &BTreeMap::new());
        let is_own = is_own_place(&seen, id.as_str(), wish);
        if is_own || (self.admits_nodes() && is_own_addition(&seen, id.as_str(), wish)) {
            return Ok(());
        }
        let is_member = seen.members.iter().any(|member| member.id == id.as_str());
        let may = if is_member || !self.admits_nodes() {
            "ask for its own place alone by its certificate, once it is lost, for a folder that waits"
        } else {
            "add itself alone by its certificate, while it waits and no other members change"
        };
        let message = format!("nothing was done: node {id} may {may}");
        Err(ServiceError::new(FailureReason::PermissionDenied, &message))
    }

    /// Refuses members on other machines where this node has no TLS: it would not start again.
    fn check_reach(&self, wish: &Wish) -> Result<(), ServiceError> {
        match wish.member_beyond_loopback().filter(|_| self.node().trust().is_confined) {
            Some(member) => Err(ServiceError::invalid(&format!(
                "nothing was done: node {} is to be reached at {}, beyond this machine, and node {} has no TLS: give every node \
                 tls_certificate, tls_key and tls_ca, or insecure: true, and start it again",
                member.id,
                member.address,
                self.node().id()
            ))),
            None => Ok(()),
        }
    }

    /// Takes the change of members back that is under way, and returns the number of the configuration after it.
    pub(crate) async fn members_abort(&self, expected: Option<u64>, deadline: Deadline) -> Result<u64, ServiceError> {
        let back = self.change_members(MembersChange::TakeBack { expected }, deadline);
        self.audited(&method::MEMBERS_ABORT, Target::Cluster, back).await
    }

    async fn change_members(&self, change: MembersChange, deadline: Deadline) -> Result<u64, ServiceError> {
        let changed = self.node().change_members(change, deadline.answer_at);
        self.wait(Access::Write, None, changed, deadline).await
    }

    /// The members as the node's loop sees them. A node that is no member does not know them.
    pub(crate) async fn members_report(&self, deadline: Deadline) -> Result<MembersReport, ServiceError> {
        if let Some(unready @ (Unready::Waiting | Unready::Removed)) = self.status(deadline).await?.unready {
            return Err(ServiceError::new(FailureReason::NotReady, &unready_text(&unready)));
        }
        let report = async { self.node().members().await.map_err(RequestError::Rejected) };
        self.wait(Access::Read, None, report, deadline).await
    }

    /// The sizes of all members' data by their addresses. One question at a time, and callers that come meanwhile get the
    /// same answers: each asks every node.
    async fn sizes_of(&self, report: &MembersReport) -> BTreeMap<String, Size> {
        let mut latest = self.sizes.0.lock().await;
        let reached = report.members.iter().filter(|member| member.is_reached);
        if let Some((asked_at, sizes)) = &*latest {
            let mut addresses = reached.clone().filter_map(|member| member.address.as_ref());
            let are_known = addresses.all(|address| sizes.contains_key(&**address));
            if asked_at.elapsed() < if are_known { SIZES_AGE_MAX } else { HEALTH_TIME_MAX } {
                return sizes.clone();
            }
        }
        let node = |member: &crate::protocol::MemberStatus| api::StorageNode {
            id: member.id.as_str().to_owned(),
            address: member.address.as_deref().unwrap_or_default().to_owned(),
            ..Default::default()
        };
        let nodes = reached.map(node).filter(|node| !node.address.is_empty()).collect();
        let info = api::ClusterInfoResponse { storage_nodes: nodes, ..Default::default() };
        let answers = ask_all(&info, &[], &|id| self.dialer_of(id), HEALTH_TIME_MAX).await;
        let size = |health: api::HealthResponse| Size {
            node: health.node_id,
            disk_bytes: health.disk_bytes,
            data_bytes: health.data_bytes,
        };
        let known = answers.into_iter().filter_map(|(address, answer)| Some((address, size(answer.ok()?))));
        let sizes: BTreeMap<String, Size> = known.collect();
        *latest = Some((Instant::now(), sizes.clone()));
        sizes
    }
}

/// Whether `wish` gives the place of the member `id`, which is not reached, to a data folder of it that waits, and changes nothing
/// else.
fn is_own_place(seen: &api::MembersGetResponse, id: &str, wish: &Wish) -> bool {
    let is_away = seen.members.iter().any(|member| member.id == id && member.in_new && !member.reached);
    let wished = wish.members.members.iter().find(|member| member.id.as_str() == id);
    let Some(identity) = wished.and_then(|member| member.store_id).map(|identity| identity.to_string()) else {
        return false;
    };
    let is_waiting = seen.waiting.iter().any(|node| node.id == id && node.identity == identity);
    let own = replacement::replacement(seen, id, Some(&identity)).ok().and_then(|own| Wish::try_from(own).ok());
    is_away && is_waiting && !seen.changing && !wish.is_forced && own.as_ref() == Some(wish)
}

/// Whether `wish` adds the node `id`, which waits, and changes nothing else. It may not take more slots than a member has: an operator
/// gives a node a greater weight than all others.
fn is_own_addition(seen: &api::MembersGetResponse, id: &str, wish: &Wish) -> bool {
    let Some(wished) = wish.members.members.iter().find(|member| member.id.as_str() == id) else { return false };
    let Some(identity) = wished.store_id.map(|identity| identity.to_string()) else { return false };
    let of_members =
        seen.members.iter().filter_map(|member| Site::of_fields(member.weight_hundredths, &member.zone).ok());
    if of_members.map(|site| site.weight).max() < Some(wished.site.weight) {
        return false;
    }
    let own = replacement::addition(seen, id, &identity, &wished.site);
    own.and_then(|own| Wish::try_from(own).ok()).as_ref() == Some(wish)
}

/// A number of replicas or of nodes.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A computation that did not end: the process is ending.
fn failed(error: &tokio::task::JoinError) -> ServiceError {
    ServiceError::new(FailureReason::NotReady, &format!("the node could not look at its members: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StoreId;

    #[test]
    fn node_may_ask_for_its_own_lost_place_alone() {
        let (old, new) = ("000000000000000000000000000000aa", "000000000000000000000000000000bb");
        let member = |id: &str, identity: &str, reached| api::ClusterMember {
            id: id.to_owned(),
            address: format!("n{id}:1"),
            identity: identity.to_owned(),
            in_old: true,
            in_new: true,
            reached,
            ..Default::default()
        };
        let waiting =
            |id: &str| api::WaitingMember { id: id.to_owned(), address: format!("n{id}:1"), identity: new.to_owned() };
        let (first, second) = ("00000000000000000000000000000001", "00000000000000000000000000000002");
        let seen = api::MembersGetResponse {
            number: 7,
            replica_count: 3,
            members: vec![member("1", first, true), member("2", second, true), member("3", old, false)],
            waiting: vec![waiting("2"), waiting("3")],
            ..Default::default()
        };
        let wish_for = |id: &str| {
            let wish = replacement::replacement(&seen, id, Some(new)).unwrap();
            Wish::try_from(wish).map_err(|error| error.message).unwrap()
        };
        let own = wish_for("3");
        assert!(is_own_place(&seen, "3", &own));
        assert!(!is_own_place(&seen, "2", &own), "the place of another");
        assert!(!is_own_place(&seen, "2", &wish_for("2")), "the folder that has it is there");
        let forced = Wish { is_forced: true, ..own.clone() };
        let without_number = Wish { expected: None, ..own.clone() };
        let mut moved = own.clone();
        moved.members.members[0].address = "elsewhere:1".into();
        let mut removed = own.clone();
        removed.members.members.remove(0);
        for other in [forced, without_number, moved, removed] {
            assert!(!is_own_place(&seen, "3", &other), "{other:?}");
        }
        let changing = api::MembersGetResponse { changing: true, ..seen.clone() };
        assert!(!is_own_place(&changing, "3", &own));
        let nobody_waits = api::MembersGetResponse { waiting: Vec::new(), ..seen.clone() };
        assert!(!is_own_place(&nobody_waits, "3", &own));
    }

    #[test]
    fn node_may_add_itself_and_change_nothing_else() {
        let member = |id: &str, number: u128| api::ClusterMember {
            id: id.to_owned(),
            address: format!("{id}.p:1"),
            identity: StoreId(number).to_string(),
            in_old: true,
            in_new: true,
            reached: true,
            weight_hundredths: 250,
            ..Default::default()
        };
        let waiting = |id: &str, number: u128| api::WaitingMember {
            id: id.to_owned(),
            address: format!("{id}.p:1"),
            identity: StoreId(number).to_string(),
        };
        let seen = api::MembersGetResponse {
            number: 7,
            replica_count: 2,
            members: vec![member("q-0", 1), member("q-1", 2)],
            waiting: vec![waiting("q-1", 8), waiting("q-2", 9)],
            ..Default::default()
        };
        let site = Site::of_fields(250, "").unwrap();
        let wish = replacement::addition(&seen, "q-2", &StoreId(9).to_string(), &site).unwrap();
        let own = Wish::try_from(wish).map_err(|error| error.message).unwrap();
        assert!(is_own_addition(&seen, "q-2", &own));
        assert!(!is_own_addition(&seen, "q-1", &own), "it adds another");
        assert_eq!(replacement::addition(&seen, "q-1", &StoreId(8).to_string(), &site), None, "a member has the id");
        let forced = Wish { is_forced: true, ..own.clone() };
        let without_number = Wish { expected: None, ..own.clone() };
        let mut fewer = own.clone();
        fewer.members.replica_count = 1;
        let mut elsewhere = own.clone();
        elsewhere.members.members[2].address = "elsewhere:1".into();
        let mut removed = own.clone();
        removed.members.members.remove(0);
        let mut heavier = own.clone();
        heavier.members.members[2].site = Site::of_fields(251, "").unwrap();
        for other in [forced, without_number, fewer, elsewhere, removed, heavier] {
            assert!(!is_own_addition(&seen, "q-2", &other), "{other:?}");
        }
        let changing = api::MembersGetResponse { changing: true, ..seen.clone() };
        assert!(!is_own_addition(&changing, "q-2", &own));
        let nobody_waits = api::MembersGetResponse { waiting: Vec::new(), ..seen };
        assert!(!is_own_addition(&nobody_waits, "q-2", &own));
    }
}
