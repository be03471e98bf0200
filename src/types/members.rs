//! The members of a cluster, and the configurations that follow each other when members change.

use std::fmt;
use std::sync::Arc;

use super::cluster::{ClusterParameters, NodeId, Site};
use super::store_id::StoreId;

/// The identity of a cluster: a hash of its first members with their store ids. Another cluster has another one, even where
/// its file is the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

/// A node that belongs to a cluster. The same node id with another store id is another member in the same place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its id, on which placement depends.
    pub id: NodeId,
    /// The identity of its data folder.
    pub store_id: StoreId,
    /// The number of the configuration that it came with; 0 for the members that the cluster began with.
    pub since: u64,
    /// Where the others reach it, `host:port`.
    pub address: Arc<str>,
    /// Its weight and zone, on which placement depends too.
    pub site: Site,
}

impl Member {
    /// The name under which it writes. No other member ever has it, so that no stamp is drawn twice: a node that replaces
    /// another one under its id has another name.
    #[must_use]
    pub fn writer(&self) -> NodeId {
        self.id.writer_since(self.since)
    }

    /// Whether it is this member, wherever it is reached.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id && self.store_id == other.store_id
    }
}

/// The members of a cluster, and how many of them hold each slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberList {
    /// The number of members that hold each slot: 1 to the number of members.
    pub replica_count: usize,
    /// The members, in the order of their ids, which are distinct.
    pub members: Vec<Member>,
}

impl MemberList {
    /// The member with this id.
    #[must_use]
    pub fn of_id(&self, id: &NodeId) -> Option<&Member> {
        let place = self.members.binary_search_by(|member| member.id.cmp(id)).ok()?;
        Some(&self.members[place])
    }

    /// Whether this node, with this data folder, is one of them.
    #[must_use]
    pub fn has(&self, id: &NodeId, store_id: StoreId) -> bool {
        self.of_id(id).is_some_and(|member| member.store_id == store_id)
    }

    /// Whether it can be the list of a cluster: ids ascend, `replica_count` is 1 to the number of members, and all have a zone
    /// or none has.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.members.is_sorted_by(|one, next| one.id < next.id)
            && (1..=self.members.len()).contains(&self.replica_count)
            && Site::are_of_one_cluster(self.members.iter().map(|member| &member.site))
    }
}

/// Who belongs to a cluster. Each configuration but the first follows from the one before it by a vote, so that each number
/// has one.
///
/// Members change in two steps, as in joint consensus (Ongaro and Ousterhout, ATC 2014): while a configuration is joint, each
/// quorum is one of the old list and one of the new list. It ends with the new list alone, or with the old one again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Configuration {
    /// Its number, one above that of the configuration before it. The first change makes number 1.
    pub number: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The seed of every placement hash, which never changes.
    pub seed: u32,
    /// The epoch above which the clocks of the cluster began, which never changes.
    pub epoch_floor: u64,
    /// The members, while none change.
    pub old: MemberList,
    /// The members that are to be; absent while none change.
    pub new: Option<MemberList>,
}

impl Configuration {
    /// Whether members change.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.new.is_some()
    }

    /// What the placement of `list`, which is one of the two, follows from.
    #[must_use]
    pub fn parameters(&self, list: &MemberList) -> ClusterParameters {
        let node_ids = list.members.iter().map(|member| member.id.clone()).collect();
        let sites = list.members.iter().map(|member| member.site.clone()).collect();
        let (seed, epoch_floor) = (self.seed, self.epoch_floor);
        ClusterParameters { seed, replica_count: list.replica_count, epoch_floor, node_ids, sites }
    }

    /// The members of both lists; those of both are named once, with the address of the new list.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        let new = self.new.as_ref();
        let stays = move |member: &Member| new.is_some_and(|new| new.has(&member.id, member.store_id));
        let of_old_alone = self.old.members.iter().filter(move |member| !stays(member));
        of_old_alone.chain(new.into_iter().flat_map(|new| &new.members))
    }

    /// Whether this node, with this data folder, is in one of the lists.
    #[must_use]
    pub fn has(&self, id: &NodeId, store_id: StoreId) -> bool {
        self.members().any(|member| member.id == *id && member.store_id == store_id)
    }

    /// The configuration in which members change to `new`.
    #[must_use]
    pub fn joint_with(&self, new: MemberList) -> Self {
        Self { number: self.number + 1, new: Some(new), ..self.clone() }
    }

    /// The configuration that ends a change: with the new list.
    #[must_use]
    pub fn completed(&self) -> Option<Self> {
        let old = self.new.clone()?;
        Some(Self { number: self.number + 1, old, new: None, ..self.clone() })
    }

    /// The configuration that takes a change back: with the old list.
    #[must_use]
    pub fn taken_back(&self) -> Option<Self> {
        self.new.as_ref()?;
        Some(Self { number: self.number + 1, new: None, ..self.clone() })
    }

    /// Whether each list can be that of a cluster.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.old.is_valid() && self.new.as_ref().is_none_or(MemberList::is_valid)
    }
}

/// The ballot of a vote on the successor of a configuration (Paxos).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoteBallot {
    /// Rises with each try.
    pub count: u64,
    /// The name of the node that tries.
    pub proposer: NodeId,
    /// The epoch of the incarnation that tries, which has no count twice: so each ballot is used once.
    pub epoch: u64,
}

/// What a member has promised and accepted in the vote on one configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// The number of that configuration.
    pub number: u64,
    /// It accepts nothing under smaller ballots.
    pub promised: VoteBallot,
    /// The configuration that it accepted last, and under which ballot.
    pub accepted: Option<(VoteBallot, Arc<Configuration>)>,
}

/// How far a node has taken over the slots that it gains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TakenOver {
    /// The configuration under which it gains them.
    pub number: u64,
    /// Everything up to this key of this slot is there.
    pub up_to: Option<(super::Slot, super::Key)>,
    /// Whether everything is there.
    pub is_complete: bool,
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ClusterId {
    /// The id of the cluster that these members have begun.
    #[must_use]
    pub fn of(parameters: &ClusterParameters, store_ids: impl IntoIterator<Item = StoreId>) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&parameters.seed.to_be_bytes());
        bytes.extend_from_slice(&(parameters.replica_count as u64).to_be_bytes());
        for (id, store_id) in parameters.node_ids.iter().zip(store_ids) {
            bytes.extend_from_slice(&(id.as_str().len() as u64).to_be_bytes());
            bytes.extend_from_slice(id.as_str().as_bytes());
            bytes.extend_from_slice(&store_id.0.to_be_bytes());
        }
        Self(xxhash_rust::xxh3::xxh3_128(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, store_id: u128) -> Member {
        let (id, store_id) = (NodeId::new(id).unwrap(), StoreId(store_id));
        Member { id, store_id, since: 0, address: "h:1".into(), site: Site::default() }
    }

    fn list(ids: &[(&str, u128)]) -> MemberList {
        MemberList { replica_count: 1, members: ids.iter().map(|(id, store_id)| member(id, *store_id)).collect() }
    }

    #[test]
    fn joint_configuration_names_each_member_once() {
        let old = list(&[("1", 1), ("2", 2), ("3", 3)]);
        let first = Configuration { number: 0, cluster: ClusterId(7), seed: 0, epoch_floor: 0, old, new: None };
        let joint = first.joint_with(list(&[("2", 9), ("3", 3), ("4", 4)]));
        let named: Vec<(&str, u128)> = joint.members().map(|m| (m.id.as_str(), m.store_id.0)).collect();
        assert_eq!(named, [("1", 1), ("2", 2), ("2", 9), ("3", 3), ("4", 4)]);
        assert_eq!(joint.completed().unwrap().number, 2);
        assert_eq!(joint.taken_back().unwrap().old, first.old);
        assert_eq!(first.completed(), None);
    }

    #[test]
    fn list_places_by_weights_and_zones_and_has_zones_for_all_or_none() {
        let mut members = list(&[("1", 1), ("2", 2), ("3", 3)]);
        assert!(members.is_valid());
        members.members[1].site = Site::of_fields(250, "b").unwrap();
        assert!(!members.is_valid(), "two members have no zone");
        members.members[0].site = Site::of_fields(0, "a").unwrap();
        members.members[2].site = Site::of_fields(100, "b").unwrap();
        assert!(members.is_valid());
        let configuration =
            Configuration { number: 1, cluster: ClusterId(7), seed: 9, epoch_floor: 3, old: members, new: None };
        let parameters = configuration.parameters(&configuration.old);
        assert_eq!((parameters.seed, parameters.epoch_floor, parameters.replica_count), (9, 3, 1));
        assert_eq!(parameters.weights_listed(), [100, 250, 100]);
        assert_eq!(parameters.zones_listed(), ["a", "b", "b"]);
    }

    #[test]
    fn member_that_takes_the_place_of_another_writes_under_another_name() {
        let first = member("2", 2);
        let second = Member { since: 5, ..member("2", 9) };
        assert_eq!(first.writer().as_str(), "2");
        assert_eq!(second.writer().as_str(), "2,5");
        assert_eq!(NodeId::of_writer("2,5"), Ok(second.writer()));
        assert!(NodeId::new("2,5").is_err(), "no member has such an id");
        for text in ["2,", ",5", "2,x", "2,5,6", "2,05", "2,0"] {
            assert!(NodeId::of_writer(text).is_err(), "{text}");
        }
    }
}
