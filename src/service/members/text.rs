//! Members and plans as JSON, for the command line and HTTP alike, and as a cluster.yml.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::api;
use crate::types::Site;

/// The members as JSON.
pub(crate) fn members_json(members: &api::MembersGetResponse) -> Json {
    let member = |member: &api::ClusterMember| {
        let mut json = json!({
            "id": member.id,
            "address": member.address,
            "state": state(member),
            "identity": member.identity,
            "reached": member.reached,
            "slots": member.slots,
            "share": share(member.slots, replica_count_after(members)),
            "disk_bytes": member.disk_bytes,
            "weight": weight_json(member.weight_hundredths),
            "zone": zone_json(&member.zone),
        });
        if let Some(progress) = &member.progress {
            json["progress"] = json!({
                "complete": progress.complete,
                "slots": progress.slots,
                "slots_done": progress.slots_done,
                "keys": progress.keys,
                "bytes": progress.bytes,
            });
        }
        json
    };
    let waiting =
        |node: &api::WaitingMember| json!({ "id": node.id, "address": node.address, "identity": node.identity });
    let mut json = json!({
        "number": members.number,
        "changing": members.changing,
        "seed": members.seed,
        "replica_count": members.replica_count,
        "epoch_floor": members.epoch_floor,
        "members": members.members.iter().map(member).collect::<Vec<_>>(),
        "waiting": members.waiting.iter().map(waiting).collect::<Vec<_>>(),
        "failures_tolerated": members.failures_tolerated,
        "failures_tolerated_after": members.failures_tolerated_after,
    });
    if let Some(count) = members.new_replica_count {
        json["new_replica_count"] = count.into();
    }
    json
}

/// How far a change is, all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) slots: u64,
    pub(crate) slots_done: u64,
    pub(crate) bytes: u64,
    /// The nodes that have something left to do, or have not said.
    pub(crate) nodes: usize,
}

impl Moving {
    /// Slots and bytes that moved in a second, since it was so far `span` ago.
    pub(crate) fn rate_since(self, earlier: Self, span: Duration) -> (f64, f64) {
        let seconds = span.as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate is shown with few digits")]
        let per_second = |earlier: u64, now: u64| now.saturating_sub(earlier) as f64 / seconds;
        (per_second(earlier.slots_done, self.slots_done), per_second(earlier.bytes, self.bytes))
    }

    /// About how many bytes are moved in the end, because slots have about the same size; `None` while no slot is done.
    pub(crate) fn bytes_about(self) -> Option<u64> {
        let all = (u128::from(self.bytes) * u128::from(self.slots)).checked_div(u128::from(self.slots_done))?;
        Some(u64::try_from(all).unwrap_or(u64::MAX))
    }

    /// About how long the rest takes at so many slots and bytes in a second; `None` where nothing moves. A node gets the bytes of
    /// many slots at once, and finishes these slots together: the rate of bytes is steadier.
    pub(crate) fn time_left(self, (slots_per_second, bytes_per_second): (f64, f64)) -> Option<Duration> {
        #[allow(clippy::cast_precision_loss, reason = "a time left is an estimate")]
        let seconds = |left: u64, per_second: f64| left as f64 / per_second;
        let bytes_left = self.bytes_about().map(|all| all.saturating_sub(self.bytes));
        let seconds = match bytes_left {
            Some(left) if bytes_per_second > 0.0 => seconds(left, bytes_per_second),
            _ if slots_per_second > 0.0 => seconds(self.slots.saturating_sub(self.slots_done), slots_per_second),
            _ => return None,
        };
        Some(Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX))
    }
}

/// What moves, as far as the nodes have said.
pub(crate) fn moving(members: &api::MembersGetResponse) -> Moving {
    let mut sum = Moving::default();
    for member in members.members.iter().filter(|member| member.in_new) {
        let progress = member.progress.unwrap_or_default();
        sum.slots += u64::from(progress.slots);
        sum.slots_done += u64::from(progress.slots_done);
        sum.bytes += progress.bytes;
        sum.nodes += usize::from(!progress.complete);
    }
    sum
}

/// A plan as JSON.
pub(crate) fn plan_json(plan: &api::MembersPlanResponse) -> Json {
    let difference = |difference: &api::MemberDifference| {
        json!({
            "id": difference.id,
            "fate": fate(difference.fate()),
            "address": difference.address,
            "reached": difference.reached,
            "weight": weight_json(difference.weight_hundredths),
            "zone": zone_json(&difference.zone),
            "old_weight": weight_json(difference.old_weight_hundredths),
            "old_zone": zone_json(&difference.old_zone),
        })
    };
    let moved = |moved: &api::MemberMove| json!({ "from": moved.from, "to": moved.to, "slots": moved.slots, "bytes": moved.bytes });
    json!({
        "number": plan.number,
        "differences": plan.differences.iter().map(difference).collect::<Vec<_>>(),
        "moves": plan.moves.iter().map(moved).collect::<Vec<_>>(),
        "slots": plan.moves.iter().map(|moved| u64::from(moved.slots)).sum::<u64>(),
        "bytes": plan.moves.iter().map(|moved| moved.bytes).sum::<u64>(),
        "bytes_known": plan.bytes_known,
        "replica_count": plan.replica_count,
        "new_replica_count": plan.new_replica_count,
        "failures_tolerated": plan.failures_tolerated,
        "failures_tolerated_meanwhile": plan.failures_tolerated_meanwhile,
        "failures_tolerated_after": plan.failures_tolerated_after,
        "slots_without_majority": plan.slots_without_majority,
    })
}

/// What happens to a member, in one word.
pub(crate) fn fate(fate: api::MemberFate) -> &'static str {
    match fate {
        api::MemberFate::FateUnknown => "unknown",
        api::MemberFate::FateAdded => "added",
        api::MemberFate::FateRemoved => "removed",
        api::MemberFate::FateReplaced => "replaced",
        api::MemberFate::FateMoved => "moved",
        api::MemberFate::FateWeighed => "placed anew",
    }
}

/// A weight as cluster.yml has it.
pub(crate) fn weight_text(hundredths: u32) -> String {
    // A node of a later version may know other weights.
    Site::of_fields(hundredths, "").map_or_else(|error| error.to_string(), |site| site.weight.to_string())
}

/// A weight as a number.
pub(crate) fn weight_json(hundredths: u32) -> Json {
    serde_json::from_str(&weight_text(hundredths)).unwrap_or(Json::Null)
}

/// A zone, or null.
pub(crate) fn zone_json(zone: &str) -> Json {
    if zone.is_empty() { Json::Null } else { zone.into() }
}

/// The state of a member, in one word.
pub(crate) fn state(member: &api::ClusterMember) -> &'static str {
    match (member.in_old, member.in_new) {
        (true, true) => "member",
        (false, _) => "joining",
        (true, false) => "leaving",
    }
}

/// The replicas of each key that are to be.
pub(crate) fn replica_count_after(members: &api::MembersGetResponse) -> u32 {
    members.new_replica_count.unwrap_or(members.replica_count)
}

/// The part of all copies that a member has, 0 to 1.
pub(crate) fn share(slots: u32, replica_count: u32) -> f64 {
    f64::from(slots) / (65_536.0 * f64::from(replica_count.max(1)))
}

/// The members that are to be, as a cluster.yml.
pub(crate) fn cluster_yml(members: &api::MembersGetResponse) -> String {
    let mut text = String::from("cluster:\n");
    let count = replica_count_after(members);
    if !members.cluster_name.is_empty() {
        let _ = writeln!(text, "  name: {}", Json::from(members.cluster_name.as_str()));
    }
    let _ = writeln!(text, "  seed: {}\n  replica_count: {count}", members.seed);
    if members.epoch_floor > 0 {
        let _ = writeln!(text, "  epoch_floor: {}", members.epoch_floor);
    }
    text.push_str("  nodes:\n");
    for member in members.members.iter().filter(|member| member.in_new) {
        // An id may hold quotation marks and backslashes, which YAML escapes as JSON does.
        let (id, address) = (Json::from(member.id.as_str()), Json::from(member.address.as_str()));
        let _ = write!(text, "    {id}:\n      remote_address: {address}\n");
        if member.weight_hundredths != 0 {
            let _ = writeln!(text, "      weight: {}", weight_text(member.weight_hundredths));
        }
        if !member.zone.is_empty() {
            let _ = writeln!(text, "      zone: {}", Json::from(member.zone.as_str()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ClusterConfig, File};

    #[test]
    fn exported_cluster_reads_as_itself() {
        let member = |id: &str, in_new| api::ClusterMember {
            id: id.to_owned(),
            address: format!("n{}:8001", id.len()),
            in_old: true,
            in_new,
            slots: 65_536,
            weight_hundredths: if id == "no" { 250 } else { 0 },
            zone: format!("#{}", id.len()),
            ..Default::default()
        };
        let members = api::MembersGetResponse {
            seed: 9,
            cluster_name: "prod".to_owned(),
            epoch_floor: 1_001,
            replica_count: 3,
            new_replica_count: Some(1),
            members: vec![member("1", true), member("a\"\\:", true), member("no", true), member("gone", false)],
            ..Default::default()
        };
        let text = cluster_yml(&members);
        let read = ClusterConfig::parse(File { name: Path::new("c.yml"), text: &text })
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let ids: Vec<&str> = read.parameters.node_ids.iter().map(crate::types::NodeId::as_str).collect();
        assert_eq!(read.name, "prod");
        assert_eq!(read.parameters.epoch_floor, 1_001);
        assert_eq!((ids, read.parameters.seed, read.parameters.replica_count), (vec!["1", "a\"\\:", "no"], 9, 1));
        assert_eq!(
            (read.parameters.weights_listed(), read.parameters.zones_listed()),
            (vec![100, 100, 250], vec!["#1", "#4", "#2"])
        );
        let json = members_json(&members);
        assert_eq!((&json["members"][2]["weight"], &json["members"][2]["zone"]), (&2.5.into(), &"#2".into()));
        assert_eq!((&json["members"][3]["state"], &json["members"][0]["share"]), (&"leaving".into(), &1.0.into()));
    }
}
