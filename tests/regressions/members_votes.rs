//! Changes of members: which configuration is the next one, and when a change ends.
//!
//! With the cargo feature `mutants` the same schedules are played with the rule broken, and each test must fail.

use std::time::Duration;

use quorate::protocol::{Failure, MembersRefusal, Message, Reply};
use quorate::types::NodeIndex;

use crate::cluster::{Cluster, N1, N2, N3, N4, N5, Sent};

/// Long enough for a change that nobody delays.
const LONG: Duration = Duration::from_secs(14);

/// Garage's documentation: two operators who apply changes at the same time make two layouts of one number, and the cluster stays
/// inconsistent (<https://garagehq.deuxfleurs.fr/documentation/operations/layout/>).
///
/// Here a majority accepts the change of one operator, and nobody hears that it was chosen. Another operator then asks another
/// node for another change. That node finds the first change, and makes it.
#[test]
fn number_has_one_layout_garage() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let all = cluster.members();
    let first = cluster.change_members(N1, (&[N2, N3, N4], 3));
    cluster.deliver(|sent| sent.votes() && sent.from != N4 && sent.to != N4);
    assert_eq!(cluster.reply_to(first), Some(&Reply::Members { number: 1 }));
    assert_eq!([N1, N2, N3, N4].map(|node| cluster.number(node)), [1, 0, 0, 0], "node 1 alone knows it");
    let told = cluster.take(|sent| sent.from == N1);
    assert!(!told.is_empty());

    let second = cluster.change_members(N4, (&[N1, N2, N4], 3));
    cluster.deliver(|sent| sent.votes() && sent.from != N1 && sent.to != N1);
    assert_eq!(cluster.number(N4), 1, "the vote has ended");
    let configuration = |cluster: &Cluster, node: NodeIndex| cluster.node(node).layout().configuration().cloned();
    assert_eq!(configuration(&cluster, N4), configuration(&cluster, N1), "one configuration for one number");
    let other = Failure::Members(MembersRefusal::OtherChange { number: 1 });
    assert_eq!(cluster.failure_of(second), Some(&other), "the second operator is told so");

    for sent in told {
        cluster.arrives(sent);
    }
    cluster.run(&all);
    for node in all {
        assert_eq!((cluster.number(node), configuration(&cluster, node)), (1, configuration(&cluster, N1)));
    }
}

/// Nodes 1 to 5, of which node 1 leaves. Slots go to nodes 4 and 5, that of the key to node 5. Nodes 1 and 2 have a value, and node
/// 3 lacks it.
fn node_5_gains() -> Cluster {
    let mut cluster = Cluster::with_replicas(5, 3);
    let stay = [N2, N3, N4, N5];
    cluster.take_key_that_goes_to(&[N2, N3, N5], (&stay, 3));
    cluster.write_among(N1, &[N1, N2], 1);
    cluster.take(|sent| sent.stores().is_some());
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&stay, &joint);
    cluster
}

/// Node 4 has taken its slots over long before node 5 has. Once the change has ended, nodes 3 and 5 are a majority for the key.
#[test]
fn change_ends_once_all_have_taken_over() {
    let mut cluster = node_5_gains();
    let stay = [N2, N3, N4, N5];
    let for_node_5 =
        |sent: &Sent| sent.is_for_taking_over() && if sent.is_answer() { sent.to == N5 } else { sent.from == N5 };
    cluster.live_without(LONG, &stay, for_node_5);
    assert!(cluster.has_taken_over(N4), "node 4 has all of its slots");
    cluster.live_among(LONG, &stay);
    assert_eq!(cluster.number(N3), 2, "the change has ended");
    assert_eq!(cluster.read_among(N3, &[N3, N5]), Some(1), "the value was acknowledged");
    cluster.assert_linearizable();
}

/// Dgraph 1.1.1, 2020: inserts that were acknowledged while a shard moved to another group were lost
/// (<https://jepsen.io/analyses/dgraph-1.1.1>).
///
/// Here a write begins at some moment of a move, and the messages that would store it at the new majority are lost. It is
/// acknowledged only if the node that gains the slot copies it. Another write is acknowledged at the same moment.
#[test]
fn shard_move_loses_no_insert_dgraph_1_1_1() {
    let (all, stay) = ([N1, N2, N3, N4], [N2, N3, N4]);
    for moment in (0..6).rev() {
        let mut cluster = Cluster::with_replicas(4, 3);
        let joint = cluster.leaves(N1, 1);
        cluster.adopt(&all, &joint);
        cluster.live_among(Duration::from_millis(150 * moment), &all);
        assert_eq!(cluster.number(N1), 1, "the move is under way");
        let lost = cluster.write(N1, 1);
        cluster.run_clock_rounds();
        cluster.take(|sent| sent.stores().is_some() && sent.to != N2);
        cluster.run(&all);
        assert_eq!(cluster.value_on_disk(N2), Some(1));
        let is_acknowledged = cluster.reply_to(lost).is_some();
        cluster.take(|sent| sent.from == N1 || sent.to == N1);

        cluster.live_among(LONG, &stay);
        assert_eq!(cluster.number(N3), 2, "the move has ended");
        let seen = cluster.read_among(N3, &[N3, N4]);
        assert!(!is_acknowledged || seen == Some(1), "moment {moment}: the insert is lost");
        let kept = cluster.write(N2, 2);
        cluster.run(&[N2, N4]);
        cluster.stamp_of(kept);
        assert_eq!(cluster.read_among(N3, &[N3, N4]), Some(2));
        cluster.assert_linearizable();
    }
}

/// ScyllaDB and YugabyteDB 1.1.9: a node that had been removed still counted
/// (<https://github.com/scylladb/scylladb/issues/12805>, <https://jepsen.io/analyses/yugabyte-db-1.1.9>).
///
/// Here the removed node has not heard of it, and still answers. It makes no majority with any member: not for those who ask
/// it, and not for itself.
#[test]
fn removed_node_counts_no_more_scylladb_12805_yugabyte_1_1_9() {
    let mut cluster = Cluster::with_replicas(4, 3);
    let (all, stay) = (cluster.members(), [N2, N3, N4]);
    cluster.write_among(N2, &all, 1);
    let joint = cluster.leaves(N1, 1);
    cluster.adopt(&stay, &joint);
    cluster.live_among(LONG, &stay);
    assert_eq!([N1, N2, N3, N4].map(|node| cluster.number(node)), [0, 2, 2, 2], "node 1 has not heard of it");
    cluster.write_among(N3, &stay, 2);
    cluster.take(|sent| sent.from == N1 || sent.to == N1);

    // With one member alone.
    for member in [N2, N3, N4] {
        let (at_member, at_removed) = (cluster.read(member), cluster.read(N1));
        let write = cluster.write(N1, 7);
        // What the member tells node 1 about members gets lost, as everything about them does.
        let is_lost = |sent: &Sent| matches!(sent.message, Message::Configuration(_));
        cluster.live_without(cluster.deadline, &[N1, member], is_lost);
        for operation in [at_member, at_removed, write] {
            assert!(cluster.failure_of(operation).is_some(), "{member:?}: {:?}", cluster.reply_to(operation));
        }
        cluster.take(|_| true);
    }
    assert_eq!(cluster.number(N1), 0);
    assert_eq!(cluster.read_among(N4, &[N2, N4]), Some(2));
    // Once it is told, it knows that it is no member.
    cluster.relink(N2, N1);
    cluster.live_among(Duration::from_secs(2), &all);
    assert_eq!(cluster.number(N1), 2);
    let read = cluster.read(N1);
    assert!(cluster.failure_of(read).is_some(), "{:?}", cluster.reply_to(read));
    cluster.assert_linearizable();
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_of_the_end_is_found() {
    use crate::mutants::{each_is_found, tests};
    each_is_found(tests![
        ConfigWithoutPrepare: number_has_one_layout_garage,
        ConfigIgnoresAccepted: number_has_one_layout_garage,
        CommitBeforeComplete: change_ends_once_all_have_taken_over,
        CommitWithOneComplete: change_ends_once_all_have_taken_over,
        NoJointQuorum: shard_move_loses_no_insert_dgraph_1_1_1,
    ]);
}
