//! The layout of a cluster, as one node sees it: the members, and the replicas of each slot.
//!
//! While members change there are two lists, and each slot has replicas of the old list and of the new one. A quorum is then
//! one of both ([`Tally::joint`]). A node that is a replica by the new list alone *gains* the slot.
//!
//! Nodes have indexes here, which are this node's own: an index stands for one node id with one data folder for as long as the
//! process runs. So the index of a node is the same under all configurations, and that of a node which takes the place of
//! another one is another.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::mutants::rule;
use crate::types::{ClusterParameters, Configuration, Key, MemberList, NodeId, NodeIndex, Site, Slot};

use super::placement::{Placement, ReplicaSet};
use super::quorum::Tally;

/// The layout under one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// All nodes that this one has heard of, by their indexes.
    nodes: Arc<Vec<KnownNode>>,
    /// Absent before the first change of members.
    configuration: Option<Arc<Configuration>>,
    old: Arc<Placement>,
    joint: Option<Joint>,
    /// The members of either list, in the order of their ids.
    members: Arc<[NodeIndex]>,
    /// Layouts that may follow, computed ahead.
    ahead: Arc<[Layout]>,
}

/// A node that is known by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KnownNode {
    /// Its id.
    pub id: NodeId,
    /// The name under which it writes; its id, where it is no member.
    pub writer: NodeId,
    /// Where it is reached, `host:port`, as far as a configuration says so.
    pub address: Option<Arc<str>>,
}

/// What there is while members change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Joint {
    new: Arc<Placement>,
    /// The replicas of either list, those of the old one first, and where those of each slot begin.
    either: Arc<(Vec<NodeIndex>, Vec<u32>)>,
    distinct_slots: Arc<[Slot]>,
    /// The slots that each node takes over.
    taken_over: Arc<BTreeMap<NodeIndex, Arc<[Slot]>>>,
}

impl KnownNode {
    /// A node with this id that is no member, or one that the cluster began with.
    #[must_use]
    pub fn of_id(id: NodeId) -> Self {
        Self { writer: id.clone(), id, address: None }
    }
}

impl Layout {
    /// The layout of a cluster whose members have not changed: the nodes of `placement` have their indexes there. `addresses` say
    /// where each of them is reached, as far as that is known.
    #[must_use]
    pub fn begin(placement: Arc<Placement>, addresses: &[Arc<str>]) -> Self {
        let node = |(place, id): (usize, &NodeId)| KnownNode {
            address: addresses.get(place).cloned(),
            ..KnownNode::of_id(id.clone())
        };
        let nodes = placement.parameters().node_ids.iter().enumerate().map(node).collect();
        let members = placement.members().into();
        let nodes = Arc::new(nodes);
        Self { nodes, configuration: None, old: placement, joint: None, members, ahead: Arc::default() }
    }

    /// The same layout, which knows some that may follow. They are not computed when they do: a model checker makes the same change
    /// in thousands of states.
    #[must_use]
    pub fn knowing(self, ahead: &[Self]) -> Self {
        Self { ahead: ahead.into(), ..self }
    }

    /// The layout under `configuration`, which takes the place of this one. `nodes` are all that are known, and `index_of` gives the
    /// index of each member. A placement that this layout has already is not computed again.
    #[must_use]
    pub fn under(
        &self,
        configuration: Arc<Configuration>,
        nodes: Vec<KnownNode>,
        index_of: impl Fn(&crate::types::Member) -> NodeIndex,
    ) -> Self {
        let is_it = |ahead: &&Self| ahead.configuration.as_ref() == Some(&configuration) && *ahead.nodes == nodes;
        if let Some(ahead) = self.ahead.iter().find(is_it) {
            return Self { ahead: Arc::clone(&self.ahead), ..ahead.clone() };
        }
        let place = |list: &MemberList| {
            let parameters = configuration.parameters(list);
            let members: Vec<NodeIndex> = list.members.iter().map(&index_of).collect();
            let mut known = self.joint.iter().map(|joint| &joint.new).chain([&self.old]);
            let is_it = |known: &&Arc<Placement>| {
                let of = known.parameters();
                let is_same = rule!(
                    OtherSitesKeepPlacement,
                    *of == parameters,
                    not of == &ClusterParameters { sites: of.sites.clone(), ..parameters.clone() }
                );
                is_same && known.members() == members
            };
            known.find(is_it).cloned().unwrap_or_else(|| Arc::new(Placement::of_nodes(parameters, members)))
        };
        let old = place(&configuration.old);
        let joint = configuration.new.as_ref().map(|new| Joint::between(&old, place(new)));
        let mut seen = BTreeSet::new();
        let mut members: Vec<NodeIndex> = configuration.members().map(&index_of).collect();
        members.retain(|member| seen.insert(*member));
        members.sort_by(|one, other| (&nodes[one.index()].id, one).cmp(&(&nodes[other.index()].id, other)));
        let (nodes, configuration) = (Arc::new(nodes), Some(configuration));
        Self { nodes, configuration, old, joint, members: members.into(), ahead: Arc::clone(&self.ahead) }
    }

    /// The number of its configuration; 0 before the first change of members.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.configuration.as_ref().map_or(0, |configuration| configuration.number)
    }

    /// Its configuration; absent before the first change of members.
    #[must_use]
    pub fn configuration(&self) -> Option<&Arc<Configuration>> {
        self.configuration.as_ref()
    }

    /// Whether members change.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.joint.is_some()
    }

    /// What the placement of the members follows from; while they change, of the old list.
    #[must_use]
    pub fn parameters(&self) -> &ClusterParameters {
        self.old.parameters()
    }

    /// The placement by the present list, or by the old one while members change.
    #[must_use]
    pub fn old(&self) -> &Placement {
        &self.old
    }

    /// The placement by the new list, while members change.
    #[must_use]
    pub fn new_placement(&self) -> Option<&Placement> {
        self.joint.as_ref().map(|joint| &*joint.new)
    }

    /// The placement by the list that is, or is to be.
    #[must_use]
    pub fn newest(&self) -> &Placement {
        self.new_placement().unwrap_or(&self.old)
    }

    /// The slot of `key`.
    #[must_use]
    pub fn slot(&self, key: &Key) -> Slot {
        self.old.slot(key)
    }

    /// The hash of `key`, whose leading 16 bits are its slot.
    #[must_use]
    pub fn hash(&self, key: &Key) -> u64 {
        Placement::hash(&self.old, key)
    }

    /// The replicas of `slot`, best score first; while members change, those of the old list and then the others.
    #[must_use]
    pub fn replicas(&self, slot: Slot) -> &[NodeIndex] {
        match &self.joint {
            None => self.old.replicas(slot),
            Some(joint) => joint.replicas(slot),
        }
    }

    /// A tally of the replicas of `slot`. Nobody has answered.
    #[must_use]
    pub fn tally(&self, slot: Slot) -> Tally {
        match rule!(NoJointQuorum, self.joint.as_ref(), not None) {
            None => Tally::single(self.old.replicas(slot)),
            Some(joint) => Tally::joint(self.old.replicas(slot), joint.new.replicas(slot)),
        }
    }

    /// Whether `member` is a replica of `slot`.
    #[must_use]
    pub fn holds(&self, member: NodeIndex, slot: Slot) -> bool {
        self.replicas(slot).contains(&member)
    }

    /// Whether `member` is a replica of `slot` by the new list alone.
    #[must_use]
    pub fn gains(&self, member: NodeIndex, slot: Slot) -> bool {
        self.joint.as_ref().is_some_and(|joint| joint.new.holds(member, slot) && !self.old.holds(member, slot))
    }

    /// Whether `node` takes `slot` over: it gains the slot; or fewer nodes hold each slot than before, so that a majority of the new
    /// list need not meet the old ones.
    #[must_use]
    pub fn takes_over(&self, node: NodeIndex, slot: Slot) -> bool {
        let Some(joint) = &self.joint else { return false };
        self.gains(node, slot) || shrinks(&self.old, &joint.new) && joint.new.holds(node, slot)
    }

    /// The slots that `node` takes over, ascending.
    #[must_use]
    pub fn taken_over(&self, node: NodeIndex) -> Arc<[Slot]> {
        self.joint.as_ref().and_then(|joint| joint.taken_over.get(&node).cloned()).unwrap_or_default()
    }

    /// One slot for each set of replicas that any slot has: what holds of these slots' replicas holds of all.
    #[must_use]
    pub fn distinct_slots(&self) -> &[Slot] {
        match &self.joint {
            None => self.old.distinct_slots(),
            Some(joint) => &joint.distinct_slots,
        }
    }

    /// The number of slots that `member` holds.
    #[must_use]
    pub fn slots_held(&self, member: NodeIndex) -> u32 {
        let of_list = |placement: &Placement| {
            let place = placement.members().iter().position(|other| *other == member);
            place.map_or(0, |place| placement.slots_held()[place])
        };
        if self.joint.is_none() {
            return of_list(&self.old);
        }
        let held = (0..=u16::MAX).filter(|slot| self.holds(member, Slot(*slot))).count();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    // Nodes.

    /// The members of either list, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> &[NodeIndex] {
        &self.members
    }

    /// Whether `node` is in one of the lists.
    #[must_use]
    pub fn is_member(&self, node: NodeIndex) -> bool {
        self.members.contains(&node)
    }

    /// The member with this id; while one takes the place of another, the one that comes.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<NodeIndex> {
        let of_list = |placement: &Placement| {
            let place = placement.parameters().node_ids.binary_search(id).ok()?;
            Some(placement.members()[place])
        };
        self.joint.as_ref().and_then(|joint| of_list(&joint.new)).or_else(|| of_list(&self.old))
    }

    /// The member that writes under this name.
    #[must_use]
    pub fn writer_of(&self, name: &NodeId) -> Option<NodeIndex> {
        self.members.iter().copied().find(|member| self.nodes[member.index()].writer == *name)
    }

    /// All nodes that are known, by their indexes.
    #[must_use]
    pub fn nodes(&self) -> &[KnownNode] {
        &self.nodes
    }

    /// The id of `node`.
    ///
    /// # Panics
    /// When no node has this index.
    #[must_use]
    pub fn id(&self, node: NodeIndex) -> &NodeId {
        &self.nodes[node.index()].id
    }

    /// The weight and zone of `node`; while members change, those that are to be. The default ones where it is no member.
    #[must_use]
    pub fn site(&self, node: NodeIndex) -> Site {
        site_in(self.newest(), node).or_else(|| site_in(&self.old, node)).unwrap_or_default()
    }

    /// The same as it was before the change under way.
    #[must_use]
    pub fn old_site(&self, node: NodeIndex) -> Site {
        site_in(&self.old, node).or_else(|| site_in(self.newest(), node)).unwrap_or_default()
    }

    /// The name under which `node` writes.
    ///
    /// # Panics
    /// When no node has this index.
    #[must_use]
    pub fn writer(&self, node: NodeIndex) -> &NodeId {
        &self.nodes[node.index()].writer
    }

    /// Gives `node` this index, which is one of another node that is forgotten, or the next one.
    pub fn know(&mut self, index: NodeIndex, node: KnownNode) {
        let nodes = Arc::make_mut(&mut self.nodes);
        if index.index() == nodes.len() {
            nodes.push(node);
        } else {
            nodes[index.index()] = node;
        }
    }
}

fn site_in(placement: &Placement, node: NodeIndex) -> Option<Site> {
    let place = placement.members().iter().position(|other| *other == node)?;
    Some(placement.parameters().sites[place].clone())
}

impl Joint {
    fn between(old: &Placement, new: Arc<Placement>) -> Self {
        let mut either = Vec::with_capacity(Slot::COUNT * old.parameters().replica_count);
        let mut begins = Vec::with_capacity(Slot::COUNT + 1);
        let mut seen: BTreeSet<(ReplicaSet, ReplicaSet)> = BTreeSet::new();
        let mut distinct_slots = Vec::new();
        let mut taken_over: BTreeMap<NodeIndex, Vec<Slot>> = BTreeMap::new();
        let shrinks = shrinks(old, &new);
        for slot in (0..=u16::MAX).map(Slot) {
            begins.push(u32::try_from(either.len()).expect("two lists of replicas for each slot are few"));
            let (before, after) = (old.replicas(slot), new.replicas(slot));
            either.extend_from_slice(before);
            either.extend(after.iter().filter(|member| !before.contains(member)));
            if seen.insert((ReplicaSet::of(before), ReplicaSet::of(after))) {
                distinct_slots.push(slot);
            }
            for node in after.iter().filter(|node| shrinks || !before.contains(node)) {
                taken_over.entry(*node).or_default().push(slot);
            }
        }
        begins.push(u32::try_from(either.len()).expect("two lists of replicas for each slot are few"));
        let taken_over = taken_over.into_iter().map(|(node, slots)| (node, slots.into())).collect();
        let (distinct_slots, taken_over) = (distinct_slots.into(), Arc::new(taken_over));
        Self { new, either: Arc::new((either, begins)), distinct_slots, taken_over }
    }

    fn replicas(&self, slot: Slot) -> &[NodeIndex] {
        let (either, begins) = &*self.either;
        let slot = usize::from(slot.0);
        &either[begins[slot] as usize..begins[slot + 1] as usize]
    }
}

/// Whether fewer nodes hold each slot by the new list.
fn shrinks(old: &Placement, new: &Placement) -> bool {
    new.parameters().replica_count < old.parameters().replica_count
}

/// Hashes what the layout follows from: a model checker hashes every state.
impl Hash for Layout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.configuration.hash(state);
        self.old.hash(state);
        self.nodes.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, Member, StoreId};

    fn list(ids: &[&str], replica_count: usize) -> MemberList {
        let member = |id: &&str| Member {
            id: NodeId::new(id).unwrap(),
            store_id: StoreId(1),
            since: 0,
            address: "h:1".into(),
            site: Site::default(),
        };
        MemberList { replica_count, members: ids.iter().map(member).collect() }
    }

    /// The layout of a change, where the nodes 1 to 9 have the indexes 0 to 8.
    fn changing(old: MemberList, new: Option<MemberList>) -> Layout {
        let configuration = Configuration { number: 1, cluster: ClusterId(1), seed: 0, epoch_floor: 0, old, new };
        let nodes = (1..=9).map(|id| KnownNode::of_id(NodeId::new(&id.to_string()).unwrap())).collect();
        let index_of = |member: &Member| NodeIndex(member.id.as_str().parse::<u16>().unwrap() - 1);
        let first = Placement::new(configuration.parameters(&configuration.old));
        Layout::begin(Arc::new(first), &[]).under(Arc::new(configuration), nodes, index_of)
    }

    #[test]
    fn slot_has_the_replicas_of_both_lists_while_members_change() {
        let layout = changing(list(&["1", "2", "3"], 2), Some(list(&["2", "3", "4"], 3)));
        assert_eq!(layout.members(), [0, 1, 2, 3].map(NodeIndex));
        for slot in (0..=u16::MAX).map(Slot) {
            let (old, new) = (layout.old().replicas(slot), layout.newest().replicas(slot));
            let replicas = layout.replicas(slot);
            assert_eq!(&replicas[..2], old, "those of the old list come first");
            assert!(new.iter().all(|member| replicas.contains(member)));
            assert!(replicas.iter().all(|member| old.contains(member) || new.contains(member)));
            assert!(layout.gains(NodeIndex(3), slot), "the new list has all three nodes for each slot");
            assert!(!layout.gains(NodeIndex(0), slot));
            for node in [0, 1, 2, 3].map(NodeIndex) {
                let takes_over = layout.taken_over(node).binary_search(&slot).is_ok();
                assert_eq!(takes_over, layout.takes_over(node, slot));
                assert_eq!(takes_over, layout.gains(node, slot));
            }
        }
        assert_eq!(layout.slots_held(NodeIndex(3)), 65_536);
    }

    #[test]
    fn weight_alone_changes_which_slots_a_node_gains() {
        let old = list(&["1", "2", "3", "4"], 2);
        let mut new = old.clone();
        new.members[3].site = Site::of_fields(200, "").unwrap();
        let layout = changing(old, Some(new));
        assert_eq!(layout.site(NodeIndex(3)), Site::of_fields(200, "").unwrap());
        assert_eq!(layout.site(NodeIndex(8)), Site::default());
        let gained = |node: u16| (0..=u16::MAX).filter(|slot| layout.gains(NodeIndex(node), Slot(*slot))).count();
        assert_eq!([0, 1, 2].map(gained), [0; 3], "only the node that weighs more gains slots");
        assert!(gained(3) > 10_000, "{}", gained(3));
    }

    #[test]
    fn placement_that_is_known_is_not_computed_again() {
        let (old, new) = (list(&["1", "2", "3"], 2), list(&["1", "2", "3", "4"], 2));
        let joint = changing(old.clone(), Some(new.clone()));
        let end = |list: &MemberList| {
            let configuration = Configuration {
                number: 2,
                cluster: ClusterId(1),
                seed: 0,
                epoch_floor: 0,
                old: list.clone(),
                new: None,
            };
            let index_of = |member: &Member| NodeIndex(member.id.as_str().parse::<u16>().unwrap() - 1);
            joint.under(Arc::new(configuration), joint.nodes().to_vec(), index_of)
        };
        assert!(std::ptr::eq(end(&new).old(), joint.newest()));
        assert!(std::ptr::eq(end(&old).old(), joint.old()));
        let other = list(&["1", "2", "3"], 3);
        assert_eq!(end(&other).old().parameters().replica_count, 3);
    }

    #[test]
    fn all_slots_are_taken_over_where_fewer_nodes_hold_each() {
        let layout = changing(list(&["1", "2", "3"], 3), Some(list(&["1", "2", "3"], 2)));
        let taken: usize = [0, 1, 2].map(|node| layout.taken_over(NodeIndex(node)).len()).iter().sum();
        assert_eq!(taken, 2 * Slot::COUNT);
    }

    #[test]
    fn layout_that_was_computed_ahead_is_taken() {
        let (old, new) = (list(&["1", "2", "3"], 2), list(&["1", "2", "3", "4"], 2));
        let joint = changing(old.clone(), Some(new.clone()));
        let first = Layout::begin(Arc::new(joint.old().clone()), &[]).knowing(std::slice::from_ref(&joint));
        let configuration =
            Configuration { number: 1, cluster: ClusterId(1), seed: 0, epoch_floor: 0, old, new: Some(new) };
        let index_of = |member: &Member| NodeIndex(member.id.as_str().parse::<u16>().unwrap() - 1);
        let same = first.under(Arc::new(configuration.clone()), joint.nodes().to_vec(), index_of);
        assert!(std::ptr::eq(same.newest(), joint.newest()));
        let other = Configuration { number: 2, ..configuration };
        assert!(!std::ptr::eq(first.under(Arc::new(other), joint.nodes().to_vec(), index_of).newest(), joint.newest()));
    }

    #[test]
    fn distinct_slots_stand_for_all_pairs_of_replica_sets() {
        let layout = changing(list(&["1", "2", "3", "4"], 2), Some(list(&["1", "2", "3", "4", "5"], 3)));
        let sorted = |replicas: &[NodeIndex]| replicas.iter().copied().collect::<BTreeSet<_>>();
        let pair = |slot: &Slot| (sorted(layout.old().replicas(*slot)), sorted(layout.newest().replicas(*slot)));
        let named: BTreeSet<_> = layout.distinct_slots().iter().map(pair).collect();
        let all: BTreeSet<_> = (0..=u16::MAX).map(|slot| pair(&Slot(slot))).collect();
        assert_eq!(named, all);
        assert_eq!(named.len(), layout.distinct_slots().len());
    }
}
