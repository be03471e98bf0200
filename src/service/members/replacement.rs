//! Wishes that nodes make for themselves too: to take the place of a member with its id, and to come to the members.

use super::text::replica_count_after;
use crate::api;
use crate::limits::WAITING_HEARD_MAX;
use crate::types::Site;

/// The wish in which a node that waits has the place of the member with its id. The error says what to do.
pub(crate) fn replacement(
    members: &api::MembersGetResponse,
    id: &str,
    identity: Option<&str>,
) -> Result<api::MembersWish, String> {
    let new = || members.members.iter().filter(|member| member.in_new);
    let is_meant = |other: &str| identity.is_none_or(|digits| other.starts_with(&digits.to_ascii_lowercase()));
    let Some(member) = new().find(|member| member.id == id) else {
        return Err(format!(
            "there is no member {id:?}: `quorate members` lists them; to add a node, write it into a cluster.yml and use \
             `quorate members apply`"
        ));
    };
    let waiting: Vec<&api::WaitingMember> =
        members.waiting.iter().filter(|node| node.id == id && is_meant(&node.identity)).collect();
    let place = match &waiting[..] {
        // It is being replaced already, or was.
        [] if identity.is_some_and(|_| is_meant(&member.identity)) || (members.changing && !member.in_old) => {
            as_wished(member)
        }
        // It answers, and no other waits for its place.
        [] if identity.is_none() && member.reached => as_wished(member),
        [] => {
            return Err(format!(
                "no node {id}{} waits to join: start it with a fresh data folder and --join, `quorate serve NODE_FILE \
                 CLUSTER_FILE --join`; `quorate members` lists it then",
                identity.map(|digits| format!(" of identity {digits}")).unwrap_or_default()
            ));
        }
        [node] => {
            let address = if node.address.is_empty() { member.address.clone() } else { node.address.clone() };
            // It has the weight and zone of the place that it takes.
            api::WishedMember { address, identity: node.identity.clone(), ..as_wished(member) }
        }
        several => {
            let identities: Vec<&str> = several.iter().map(|node| node.identity.as_str()).collect();
            return Err(format!(
                "{} nodes {id} wait to join: name one with --identity: {}; one whose machine is gone is forgotten after {} s",
                several.len(),
                identities.join(", "),
                WAITING_HEARD_MAX.as_secs()
            ));
        }
    };
    let others = new().filter(|member| member.id != id).map(as_wished);
    Ok(api::MembersWish {
        members: others.chain([place]).collect(),
        replica_count: replica_count_after(members),
        expected: Some(members.number),
        force: false,
    })
}

/// The wish in which a node that waits comes to the present members. `None` where it does not wait, or members change, or one has its
/// id.
pub(crate) fn addition(
    members: &api::MembersGetResponse,
    id: &str,
    identity: &str,
    site: &Site,
) -> Option<api::MembersWish> {
    if members.changing || members.members.iter().any(|member| member.id == id) {
        return None;
    }
    let node = members.waiting.iter().find(|node| node.id == id && node.identity == identity)?;
    let (weight_hundredths, zone) = site.to_fields();
    let own = api::WishedMember {
        id: id.to_owned(),
        address: node.address.clone(),
        identity: identity.to_owned(),
        weight_hundredths,
        zone,
    };
    Some(api::MembersWish {
        members: members.members.iter().map(as_wished).chain([own]).collect(),
        replica_count: members.replica_count,
        expected: Some(members.number),
        force: false,
    })
}

/// A member that stays as it is.
pub(crate) fn as_wished(member: &api::ClusterMember) -> api::WishedMember {
    api::WishedMember {
        id: member.id.clone(),
        address: member.address.clone(),
        identity: member.identity.clone(),
        weight_hundredths: member.weight_hundredths,
        zone: member.zone.clone(),
    }
}
