//! A wish for members as it arrives, and why a change of members is refused.

use crate::api;
use crate::config::RemoteAddress;
use crate::protocol::{MembersRefusal, MembersReport, WishedMember, WishedMembers};
use crate::types::{NodeId, Site, StoreId};
use crate::wire::failure::FailureReason;

use super::super::error::ServiceError;

/// The members that an operator wishes for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The number of the configuration that the operator has seen.
    pub(crate) expected: Option<u64>,
    pub(crate) members: WishedMembers,
    /// Whether the change is made although slots would have no majority of members that can be reached.
    pub(crate) is_forced: bool,
}

impl Wish {
    /// The first member that other machines may reach.
    pub(super) fn member_beyond_loopback(&self) -> Option<&WishedMember> {
        let is_beyond = |member: &&WishedMember| {
            RemoteAddress::parse(&member.address).is_some_and(|address| !address.is_loopback())
        };
        self.members.members.iter().find(is_beyond)
    }
}

impl TryFrom<api::MembersWish> for Wish {
    type Error = ServiceError;

    fn try_from(message: api::MembersWish) -> Result<Self, ServiceError> {
        let api::MembersWish { members, replica_count, expected, force: is_forced } = message;
        let members = members.into_iter().enumerate().map(|(place, member)| {
            let problem = |problem: String| ServiceError::invalid(&format!("members[{place}]: {problem}"));
            let id = NodeId::new(&member.id).map_err(|error| problem(error.to_string()))?;
            let address = RemoteAddress::parse(&member.address).ok_or_else(|| {
                problem(format!(
                    "the address of node {id} is {:?}: HOST:PORT with a port from 1 to 65535 is accepted",
                    member.address
                ))
            })?;
            let store_id = match member.identity.as_str() {
                "" => None,
                text => Some(StoreId::parse(text).ok_or_else(|| {
                    problem(format!("the identity of node {id} is {text:?}: 32 hexadecimal digits are accepted"))
                })?),
            };
            let site = Site::of_fields(member.weight_hundredths, &member.zone);
            let site = site.map_err(|error| problem(format!("the site of node {id}: {error}")))?;
            Ok(WishedMember { id, address: address.to_string().into(), store_id, site })
        });
        let members = members.collect::<Result<Vec<_>, ServiceError>>()?;
        if members.is_empty() {
            return Err(ServiceError::invalid("members: a cluster has at least one member: list all that are to be"));
        }
        let replica_count = usize::try_from(replica_count).unwrap_or(usize::MAX);
        Ok(Self { expected, members: WishedMembers { replica_count, members }, is_forced })
    }
}

/// The wish for the present members without the one of this id. `None` if there is no such member.
pub(crate) fn removal(report: &MembersReport, id: &NodeId) -> Option<Wish> {
    let present = report.members.iter().filter(|member| member.is_old);
    let wished = |member: &crate::protocol::MemberStatus| WishedMember {
        id: member.id.clone(),
        address: member.address.clone().unwrap_or_else(|| "".into()),
        store_id: member.store_id,
        site: member.old_site.clone(),
    };
    let all = present.clone().count();
    let members: Vec<WishedMember> = present.filter(|member| member.id != *id).map(wished).collect();
    let replica_count = report.replica_count;
    let is_listed = members.len() < all;
    let wish =
        Wish { expected: Some(report.number), members: WishedMembers { replica_count, members }, is_forced: false };
    is_listed.then_some(wish)
}

/// A change of members that is not made.
pub(in super::super) fn refused(refusal: &MembersRefusal) -> ServiceError {
    use MembersRefusal::{
        NoMajorityVoted, NotAList, NotAMember, OtherChange, OtherConfiguration, ReplicaCount, SomeZones,
    };
    let reason = match refusal {
        // The message does not claim that nothing was done.
        NoMajorityVoted => return ServiceError::new(FailureReason::OutcomeUnknown, &refusal.to_string()),
        NotAList(_) | ReplicaCount { .. } | SomeZones => FailureReason::InvalidArgument,
        OtherConfiguration { .. } | OtherChange { .. } => FailureReason::MembersChanged,
        NotAMember => FailureReason::NotApplied,
        _ => FailureReason::MembersRefused,
    };
    ServiceError::new(reason, &format!("nothing was done: {refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(id: &str, address: &str, identity: &str) -> api::MembersWish {
        let member = api::WishedMember {
            id: id.to_owned(),
            address: address.to_owned(),
            identity: identity.to_owned(),
            weight_hundredths: 250,
            zone: "b".to_owned(),
        };
        api::MembersWish { members: vec![member], replica_count: 1, expected: Some(4), force: false }
    }

    #[test]
    fn wish_is_read_and_what_is_wrong_is_named() {
        let read = Wish::try_from(wish("2", "N2:8001", "000000000000000000000000000000ff")).unwrap();
        assert_eq!((read.expected, read.members.members[0].store_id), (Some(4), Some(StoreId(255))));
        assert_eq!(&*read.members.members[0].address, "n2:8001");
        assert_eq!(read.members.members[0].site, Site::of_fields(250, "b").unwrap());
        let placed = |weight_hundredths, zone: &str| {
            let mut wish = wish("2", "n2:8001", "");
            (wish.members[0].weight_hundredths, wish.members[0].zone) = (weight_hundredths, zone.to_owned());
            wish
        };
        assert_eq!(Wish::try_from(placed(0, "")).unwrap().members.members[0].site, Site::default());
        let beyond = |address: &str| Wish::try_from(wish("2", address, "")).unwrap().member_beyond_loopback().cloned();
        assert_eq!(beyond("n2:8001").map(|member| member.id.to_string()).as_deref(), Some("2"));
        assert_eq!((beyond("localhost:1"), beyond("127.0.0.3:1"), beyond("[::1]:1")), (None, None, None));
        assert!(!read.is_forced);
        assert!(Wish::try_from(api::MembersWish { force: true, ..wish("2", "n:1", "") }).unwrap().is_forced);
        for (bad, part) in [
            (wish("a b", "n:1", ""), "members[0]: node id"),
            (wish("2", "n2", ""), "HOST:PORT"),
            (wish("2", "n2:1", "ff"), "32 hexadecimal digits"),
            (placed(1_000_001, ""), "1000001 hundredths"),
            (placed(100, "a b"), "\"a b\" is no zone"),
            (api::MembersWish::default(), "at least one member"),
        ] {
            let error = Wish::try_from(bad).unwrap_err();
            assert_eq!(error.failure.reason, FailureReason::InvalidArgument);
            assert!(error.message.contains(part), "{}", error.message);
        }
    }

    #[test]
    fn refusal_says_whether_it_is_final() {
        for (refusal, reason) in [
            (MembersRefusal::OtherChange { number: 3 }, FailureReason::MembersChanged),
            (MembersRefusal::UnderWay { number: 3 }, FailureReason::MembersRefused),
            (MembersRefusal::NoMajorityVoted, FailureReason::OutcomeUnknown),
            (MembersRefusal::NotAMember, FailureReason::NotApplied),
            (MembersRefusal::ReplicaCount { replica_count: 4, members: 3 }, FailureReason::InvalidArgument),
        ] {
            let error = refused(&refusal);
            assert_eq!(error.failure.reason, reason);
            let claims = error.message.starts_with("nothing was done: ");
            assert_eq!(claims, reason != FailureReason::OutcomeUnknown, "{}", error.message);
        }
    }
}
