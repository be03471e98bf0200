//! Who may talk to whom: store ids, lives, and the forming of a cluster.
//!
//! Invariants: what a peer says counts only after its data folder and its run were durably recorded here, and what this
//! node sends it counts there only after that peer recorded this node. A known id under another store id, or whose folder
//! does not remember the run recorded here, is refused: it may have forgotten what it acknowledged. A fresh node is not
//! part of any quorum until every other member has recorded it, so that no member can be replaced unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::limits::{INCARNATIONS_NAMED_MAX, RESEND_AFTER, RESEND_AFTER_MAX};
use crate::protocol::quorum::majority;
use crate::types::{ClusterParameters, Incarnation, NodeId, NodeIndex, PeerRecord, StoreId};

use crate::mutants::{self, Mutant};
use crate::protocol::Time;
use crate::protocol::message::{Hello, HelloRefusal, Message, PROTOCOL_VERSION};

/// How a peer stands to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerView {
    /// Each has recorded the other; messages count.
    Talking,
    /// The link is down, or the two are about to be introduced.
    Unreachable,
    /// One of the two refuses the other.
    Refused(HelloRefusal),
}

/// What follows from a hello or a welcome.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer breaks a rule.
    Refuse(HelloRefusal),
    /// It is to be recorded durably; then [`Handshake::recorded`].
    Record(PeerRecord),
    /// It is durably recorded already.
    Known,
}

/// Who this node is, and how it stands to its peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handshake {
    me: NodeIndex,
    parameters: ClusterParameters,
    store_id: StoreId,
    incarnation: Incarnation,
    earlier_incarnations: Arc<[Incarnation]>,
    formed: bool,
    peers: BTreeMap<NodeIndex, Peer>,
}

/// What a folder remembers, of what matters here.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The runs begun on it, ascending.
    pub incarnations: &'a [Incarnation],
    /// Whether every other member has recorded this node.
    pub formed: bool,
    /// The peers met.
    pub peers: &'a BTreeMap<NodeId, PeerRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    linked: bool,
    /// What is durably known of it.
    recorded: Option<PeerRecord>,
    /// What is on its way to the disk.
    recording: Option<PeerRecord>,
    /// The run of it that has recorded this run of this node.
    welcomed_by: Option<Incarnation>,
    refused_here: Option<HelloRefusal>,
    refused_there: Option<HelloRefusal>,
    hello_at: Option<Time>,
    hellos_unanswered: u32,
}

impl Handshake {
    /// A node that knows `peers` and has talked to none of them in this run.
    #[must_use]
    pub fn new(
        me: NodeIndex,
        parameters: ClusterParameters,
        store_id: StoreId,
        incarnation: Incarnation,
        known: &Known<'_>,
    ) -> Self {
        let earlier_incarnations =
            &known.incarnations[known.incarnations.len().saturating_sub(INCARNATIONS_NAMED_MAX)..];
        let peers = parameters
            .members()
            .filter(|member| *member != me)
            .map(|member| {
                let recorded = known.peers.get(parameters.id(member)).copied();
                (member, Peer { recorded, ..Peer::default() })
            })
            .collect();
        Self {
            me,
            parameters,
            store_id,
            incarnation,
            earlier_incarnations: earlier_incarnations.into(),
            formed: known.formed,
            peers,
        }
    }

    /// This run.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether every other member has recorded this node, in this run or an earlier one.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.formed
    }

    /// The members that have not recorded this node yet in this run.
    pub fn not_met(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.peers.iter().filter(|(_, peer)| peer.welcomed_by.is_none()).map(|(member, _)| *member)
    }

    /// That every other member has recorded this node is durable.
    pub fn formed(&mut self) {
        self.formed = true;
    }

    /// Whether it is time to record that the cluster has formed: everyone has recorded this node, and it everyone.
    #[must_use]
    pub fn may_form(&self) -> bool {
        let met_one = || mutants::is_on(Mutant::FormsEarly) && self.peers.values().any(Peer::is_talking);
        !self.formed && (self.peers.values().all(Peer::is_talking) || met_one())
    }

    /// The link to `peer` is up or down.
    pub fn linked(&mut self, peer: NodeIndex, up: bool, now: Time) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.linked = up;
            peer.welcomed_by = None;
            peer.hello_at = up.then_some(now);
            peer.hellos_unanswered = 0;
        }
    }

    /// When the next hello is due.
    #[must_use]
    pub fn next_hello(&self) -> Option<Time> {
        self.peers.values().filter_map(|peer| peer.hello_at).min()
    }

    /// The hellos that are due.
    pub fn hellos(&mut self, now: Time) -> Vec<(NodeIndex, Message)> {
        let mut due = Vec::new();
        for (member, peer) in &mut self.peers {
            if peer.hello_at.is_some_and(|at| at <= now) {
                peer.hello_at = Some(now.after(backoff(peer.hellos_unanswered)));
                peer.hellos_unanswered = peer.hellos_unanswered.saturating_add(1);
                due.push(*member);
            }
        }
        due.into_iter().map(|member| (member, Message::Hello(self.hello_to(member)))).collect()
    }

    /// How this node introduces itself to `peer`.
    #[must_use]
    pub fn hello_to(&self, peer: NodeIndex) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            parameters: self.parameters.clone(),
            node_id: self.parameters.id(self.me).clone(),
            to_node_id: self.parameters.id(peer).clone(),
            store_id: self.store_id,
            incarnation: self.incarnation,
            earlier_incarnations: Arc::clone(&self.earlier_incarnations),
        }
    }

    /// Judges how `from` introduces itself.
    pub fn judge(&mut self, from: NodeIndex, hello: &Hello) -> Verdict {
        let my_id = self.parameters.id(self.me);
        let Some(peer) = self.peers.get_mut(&from) else { return Verdict::Refuse(HelloRefusal::WrongNode) };
        let seen = PeerRecord { store_id: hello.store_id, incarnation: hello.incarnation };
        // A greater epoch alone shows nothing: an older copy gets there by starting often enough.
        let remembers = |known: Incarnation| {
            hello.earlier_incarnations.contains(&known)
                || mutants::is_on(Mutant::AnyStoreIsAccepted)
                || mutants::is_on(Mutant::AnyIncarnationIsAccepted)
                || (mutants::is_on(Mutant::GreaterEpochIsAccepted) && seen.incarnation.epoch > known.epoch)
        };
        let verdict = if hello.protocol != PROTOCOL_VERSION {
            Verdict::Refuse(HelloRefusal::Protocol)
        } else if hello.parameters != self.parameters {
            Verdict::Refuse(HelloRefusal::Cluster)
        } else if hello.to_node_id != *my_id || hello.node_id != *self.parameters.id(from) {
            Verdict::Refuse(HelloRefusal::WrongNode)
        } else {
            match peer.recording.or(peer.recorded) {
                Some(known) if known.store_id != seen.store_id && !mutants::is_on(Mutant::AnyStoreIsAccepted) => {
                    Verdict::Refuse(HelloRefusal::StoreId)
                }
                Some(known) if known.incarnation == seen.incarnation && peer.recorded == Some(known) => Verdict::Known,
                Some(known) if known.incarnation != seen.incarnation && !remembers(known.incarnation) => {
                    Verdict::Refuse(HelloRefusal::Incarnation)
                }
                _ => {
                    peer.recording = Some(seen);
                    Verdict::Record(seen)
                }
            }
        };
        match verdict {
            // A late hello of an earlier run, or of another folder, says nothing about the run that is talked with.
            Verdict::Refuse(_) if peer.is_talking() && !mutants::is_on(Mutant::LateHelloCounts) => {}
            Verdict::Refuse(refusal) => peer.refused_here = Some(refusal),
            Verdict::Record(_) | Verdict::Known => peer.refused_here = None,
        }
        verdict
    }

    /// What is known of `peer` is durable.
    pub fn recorded(&mut self, peer: NodeIndex, peer_record: PeerRecord) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.recorded = Some(peer_record);
            if peer.recording == Some(peer_record) {
                peer.recording = None;
            }
            peer.meet_anew();
        }
    }

    /// The store was reopened after a failure, and this is what it has recorded.
    pub fn store_reopened(&mut self, formed: bool, known: &BTreeMap<NodeId, PeerRecord>) {
        self.formed |= formed;
        for (member, peer) in &mut self.peers {
            peer.recorded = known.get(self.parameters.id(*member)).copied();
            peer.meet_anew();
        }
    }

    /// A batch failed: what was on its way to the disk is not known to be there. Hellos are sent again.
    pub fn recording_failed(&mut self) {
        for peer in self.peers.values_mut() {
            peer.recording = None;
        }
    }

    /// `peer`, in its run `incarnation`, has recorded this run of this node; it is recorded here too.
    pub fn welcomed(&mut self, peer: NodeIndex, incarnation: Incarnation) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.welcomed_by = Some(incarnation);
            peer.refused_there = None;
            if peer.is_talking() {
                // Another run may have been refused while this one was being recorded.
                peer.refused_here = None;
                peer.hello_at = None;
                peer.hellos_unanswered = 0;
            }
        }
    }

    /// `peer` refuses this node's run `incarnation`. Whether that is this run, and so counts.
    pub fn refused(&mut self, peer: NodeIndex, incarnation: Incarnation, refusal: HelloRefusal) -> bool {
        let counts = incarnation == self.incarnation;
        if counts && let Some(peer) = self.peers.get_mut(&peer) {
            peer.refused_there = Some(refusal);
            peer.welcomed_by = None;
        }
        counts
    }

    /// Whether a message that `from` sent in `from_incarnation` for `to_incarnation` counts: both runs are the ones known, so that
    /// nothing from or for an earlier incarnation does.
    #[must_use]
    pub fn counts(&self, from: NodeIndex, from_incarnation: Incarnation, to_incarnation: Option<Incarnation>) -> bool {
        let recorded = self.peers.get(&from).and_then(|peer| peer.recorded);
        if mutants::is_on(Mutant::EarlierIncarnationsCount) {
            return to_incarnation.is_some();
        }
        to_incarnation == Some(self.incarnation)
            && recorded.is_some_and(|recorded| recorded.incarnation == from_incarnation)
    }

    /// The run of `peer` that a request may be sent to: it has recorded this node, and is recorded here.
    #[must_use]
    pub fn talking_to(&self, peer: NodeIndex) -> Option<Incarnation> {
        self.peers.get(&peer).filter(|peer| peer.is_talking()).and_then(|peer| peer.welcomed_by)
    }

    /// How `peer` stands to this node.
    #[must_use]
    pub fn view(&self, peer: NodeIndex) -> PeerView {
        let Some(peer) = self.peers.get(&peer) else { return PeerView::Unreachable };
        match peer.refused_here.or(peer.refused_there) {
            // Who is refused while this one talks is someone else under its name.
            Some(refusal) if !peer.is_talking() || mutants::is_on(Mutant::LateHelloCounts) => {
                PeerView::Refused(refusal)
            }
            _ if peer.is_talking() => PeerView::Talking,
            _ => PeerView::Unreachable,
        }
    }

    /// Why this node as a whole may serve nobody, and who says so: one peer has recorded a later incarnation of it, which no
    /// peer can be wrong about; or it is fresh, or in a minority, and known by another store id.
    #[must_use]
    pub fn refused_as_a_whole(&self) -> Option<(BTreeSet<NodeIndex>, HelloRefusal)> {
        let by = |refusal| -> BTreeSet<NodeIndex> {
            self.peers.iter().filter(|(_, p)| p.refused_there == Some(refusal)).map(|(member, _)| *member).collect()
        };
        let older = by(HelloRefusal::Incarnation);
        if !older.is_empty() {
            return Some((older, HelloRefusal::Incarnation));
        }
        let stranger = by(HelloRefusal::StoreId);
        let many = stranger.len() >= majority(self.peers.len().max(1));
        (many || (!self.formed && !stranger.is_empty())).then_some((stranger, HelloRefusal::StoreId))
    }
}

impl Peer {
    /// Where it restarted behind a link that was not seen to break, its new run does not know this node yet.
    fn meet_anew(&mut self) {
        if self.linked && !self.is_talking() && self.hello_at.is_none() && !mutants::is_on(Mutant::QuietRestartIsMissed)
        {
            self.hello_at = Some(Time::default());
            self.hellos_unanswered = 0;
        }
    }

    fn is_talking(&self) -> bool {
        self.welcomed_by.is_some() && self.welcomed_by == self.recorded.map(|recorded| recorded.incarnation)
    }
}

fn backoff(unanswered: u32) -> std::time::Duration {
    (RESEND_AFTER * 2_u32.pow(unanswered.min(8))).min(RESEND_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> ClusterParameters {
        let node_ids = ["1", "2", "3"].map(|id| NodeId::new(id).unwrap()).to_vec();
        ClusterParameters { seed: 0, replica_count: 3, node_ids }
    }

    fn node(me: u16, store_id: u128, epoch: u64) -> Handshake {
        let incarnation = Incarnation { epoch, nonce: u64::try_from(store_id).unwrap() };
        let known = Known { incarnations: &[], formed: false, peers: &BTreeMap::new() };
        Handshake::new(NodeIndex(me), parameters(), StoreId(store_id), incarnation, &known)
    }

    /// Begins the next run on the folder of `node`.
    fn restart(node: &mut Handshake, epoch: u64, nonce: u64) {
        node.earlier_incarnations = node.earlier_incarnations.iter().copied().chain([node.incarnation]).collect();
        node.incarnation = Incarnation { epoch, nonce };
    }

    /// Lets `here` record the run of `there`.
    fn meet(here: &mut Handshake, there: &Handshake) {
        let from = there.me;
        let Verdict::Record(peer_record) = here.judge(from, &there.hello_to(here.me)) else {
            panic!("a new run is recorded")
        };
        here.recorded(from, peer_record);
    }

    #[test]
    fn known_id_under_another_identity_is_refused() {
        let mut one = node(0, 10, 1);
        meet(&mut one, &node(1, 20, 1));
        let hello = node(1, 21, 9).hello_to(NodeIndex(0));
        assert_eq!(one.judge(NodeIndex(1), &hello), Verdict::Refuse(HelloRefusal::StoreId));
        assert_eq!(one.view(NodeIndex(1)), PeerView::Refused(HelloRefusal::StoreId));
    }

    #[test]
    fn only_a_later_run_of_a_known_folder_is_accepted() {
        let mut one = node(0, 10, 1);
        let mut two = node(1, 20, 5);
        meet(&mut one, &two);
        assert_eq!(one.judge(NodeIndex(1), &two.hello_to(NodeIndex(0))), Verdict::Known, "the same run again");
        let refused = Verdict::Refuse(HelloRefusal::Incarnation);
        let mut twin = two.clone();
        twin.incarnation.nonce += 1;
        assert_eq!(one.judge(NodeIndex(1), &twin.hello_to(NodeIndex(0))), refused);
        let mut older = node(1, 20, 3);
        restart(&mut older, 4, 1);
        assert_eq!(one.judge(NodeIndex(1), &older.hello_to(NodeIndex(0))), refused);
        restart(&mut older, 5, 2);
        restart(&mut older, 6, 3);
        assert_eq!(one.judge(NodeIndex(1), &older.hello_to(NodeIndex(0))), refused, "however often it starts");
        restart(&mut two, 6, 4);
        restart(&mut two, 9, 5);
        assert!(matches!(one.judge(NodeIndex(1), &two.hello_to(NodeIndex(0))), Verdict::Record(_)), "a run was missed");
    }

    #[test]
    fn nodes_of_other_clusters_are_refused() {
        let mut one = node(0, 10, 1);
        let hello = node(1, 20, 1).hello_to(NodeIndex(0));
        let other_seed = Hello { parameters: ClusterParameters { seed: 1, ..parameters() }, ..hello.clone() };
        assert_eq!(one.judge(NodeIndex(1), &other_seed), Verdict::Refuse(HelloRefusal::Cluster));
        for protocol in [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1] {
            let other_version = Hello { protocol, ..hello.clone() };
            assert_eq!(one.judge(NodeIndex(1), &other_version), Verdict::Refuse(HelloRefusal::Protocol));
        }
        let misled = Hello { to_node_id: NodeId::new("3").unwrap(), ..hello };
        assert_eq!(one.judge(NodeIndex(1), &misled), Verdict::Refuse(HelloRefusal::WrongNode));
    }

    #[test]
    fn cluster_forms_once_everyone_has_met() {
        let (mut one, two, three) = (node(0, 10, 1), node(1, 20, 1), node(2, 30, 1));
        meet(&mut one, &two);
        one.welcomed(NodeIndex(1), two.incarnation);
        meet(&mut one, &three);
        assert!(!one.may_form(), "node 3 has not recorded node 1");
        assert_eq!(one.not_met().collect::<Vec<_>>(), [NodeIndex(2)]);
        one.welcomed(NodeIndex(2), three.incarnation);
        assert!(one.may_form());
    }

    #[test]
    fn peer_that_restarts_behind_a_link_that_holds_is_met_anew() {
        let (mut one, mut two) = (node(0, 10, 1), node(1, 20, 1));
        one.linked(NodeIndex(1), true, Time(5));
        meet(&mut one, &two);
        one.welcomed(NodeIndex(1), two.incarnation);
        assert_eq!(one.next_hello(), None, "they talk");
        restart(&mut two, 2, 7);
        meet(&mut one, &two);
        assert_eq!(one.hellos(Time(9)).len(), 1, "the new run has yet to record this node");
        one.welcomed(NodeIndex(1), two.incarnation);
        assert_eq!((one.talking_to(NodeIndex(1)), one.next_hello()), (Some(two.incarnation), None));
    }

    #[test]
    fn late_hello_of_an_earlier_run_does_not_harm_the_present_one() {
        let (mut one, mut two) = (node(0, 10, 1), node(1, 20, 1));
        let late = two.hello_to(NodeIndex(0));
        restart(&mut two, 2, 7);
        meet(&mut one, &two);
        assert_eq!(one.judge(NodeIndex(1), &late), Verdict::Refuse(HelloRefusal::Incarnation));
        one.welcomed(NodeIndex(1), two.incarnation);
        assert_eq!(one.view(NodeIndex(1)), PeerView::Talking, "refused while it was being met");
        assert_eq!(one.judge(NodeIndex(1), &late), Verdict::Refuse(HelloRefusal::Incarnation));
        assert_eq!(one.view(NodeIndex(1)), PeerView::Talking, "refused while it was talked with");
    }

    #[test]
    fn run_that_was_recorded_by_a_batch_that_failed_is_known_once_the_store_is_reopened() {
        let (mut one, mut two) = (node(0, 10, 1), node(1, 20, 5));
        meet(&mut one, &two);
        let late = two.hello_to(NodeIndex(0));
        restart(&mut two, 7, 7);
        let Verdict::Record(later) = one.judge(NodeIndex(1), &two.hello_to(NodeIndex(0))) else { panic!("a new run") };
        one.recording_failed();
        one.store_reopened(false, &BTreeMap::from([(NodeId::new("2").unwrap(), later)]));
        assert_eq!(one.judge(NodeIndex(1), &late), Verdict::Refuse(HelloRefusal::Incarnation));
    }

    #[test]
    fn messages_of_other_lives_do_not_count() {
        let (mut one, two) = (node(0, 10, 3), node(1, 20, 5));
        meet(&mut one, &two);
        let earlier = |incarnation: Incarnation| Incarnation { epoch: incarnation.epoch - 1, ..incarnation };
        assert!(one.counts(NodeIndex(1), two.incarnation, Some(one.incarnation)));
        assert!(!one.counts(NodeIndex(1), earlier(two.incarnation), Some(one.incarnation)));
        assert!(!one.counts(NodeIndex(1), two.incarnation, Some(earlier(one.incarnation))));
        assert!(!one.counts(NodeIndex(1), two.incarnation, None));
        assert!(!one.counts(NodeIndex(2), two.incarnation, Some(one.incarnation)), "a node never met");
    }

    #[test]
    fn one_peer_that_knows_a_later_run_stops_the_whole_node() {
        let mut one = node(0, 10, 3);
        one.formed();
        let earlier = Incarnation { epoch: 2, nonce: 10 };
        assert!(!one.refused(NodeIndex(1), earlier, HelloRefusal::Incarnation), "that was an earlier incarnation");
        assert_eq!(one.refused_as_a_whole(), None);
        assert!(one.refused(NodeIndex(1), one.incarnation, HelloRefusal::Incarnation));
        assert_eq!(one.refused_as_a_whole(), Some(([NodeIndex(1)].into(), HelloRefusal::Incarnation)));
    }

    #[test]
    fn one_peer_that_knows_another_identity_stops_a_fresh_node_but_not_a_formed_one() {
        let mut one = node(0, 10, 3);
        one.refused(NodeIndex(1), one.incarnation, HelloRefusal::StoreId);
        assert!(one.refused_as_a_whole().is_some());
        one.formed();
        assert!(one.refused_as_a_whole().is_none(), "that peer may be the one that lost its disk");
        one.refused(NodeIndex(2), one.incarnation, HelloRefusal::StoreId);
        assert!(one.refused_as_a_whole().is_some());
    }
}
