//! The models: the operations of the clients, the faults, and the number of states.

use quorate::types::NodeIndex;

use crate::milestones;
use crate::register::Operation::{self, Add, Delete, Drop, Read, Replace, Write, WriteIfAbsent};
use crate::world::{Change, Faults, Grain, When, World};

/// A model, and the number of its states if it is pinned.
pub struct Bounded {
    pub world: World,
    pub states: Option<usize>,
}

const FEW_FAULTS: Faults = Faults {
    restarts: [0; 3],
    restarts_of_all: 0,
    repeats: 0,
    alarms: 0,
    partings: 0,
    failures: 0,
    losses: 0,
    seals: 0,
};
const COARSE: Grain = Grain { loads: false, landing: false, handshake_of: None };
const ALL_MESSAGES_OF_NODE_1: Grain = Grain { handshake_of: Some(NodeIndex(0)), ..COARSE };

/// A write through a node, counted from 0. Each value is written once, so that a read shows which write it saw.
fn write(node: usize, value: u8) -> (usize, Operation) {
    (node, Write(value))
}

fn delete(node: usize) -> (usize, Operation) {
    (node, Delete)
}

fn read(node: usize) -> (usize, Operation) {
    (node, Read)
}

fn write_if_absent(node: usize, value: u8) -> (usize, Operation) {
    (node, WriteIfAbsent(value))
}

/// A write where the key has the version that the client was told last.
fn replace(node: usize, value: u8) -> (usize, Operation) {
    (node, Replace { seen: None, value })
}

fn add(node: usize, number: u8) -> (usize, Operation) {
    (node, Add(number))
}

/// A drop of the table of the key.
fn drop_table(node: usize) -> (usize, Operation) {
    (node, Drop)
}

fn restarts(of_each: [u8; 3], of_all: u8) -> Faults {
    Faults { restarts: of_each, restarts_of_all: of_all, ..FEW_FAULTS }
}

/// The models that every run of the tests explores.
pub fn pinned() -> Vec<Bounded> {
    [
        clients_in_each_others_way(),
        a_bad_network(),
        restarting_nodes(),
        bad_disks(),
        meeting(),
        conditional_writes(),
        tables(),
        members(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn pin(states: usize, world: World) -> Bounded {
    Bounded { world, states: Some(states) }
}

fn clients_in_each_others_way() -> Vec<Bounded> {
    vec![
        pin(
            177_514,
            World::new("a write, read twice", vec![vec![write(0, 1)], vec![read(1), read(2)]]).reaching(
                milestones::WROTE_BACK | milestones::FETCHED | milestones::READ_UNFINISHED | milestones::ALL_DONE,
            ),
        ),
        pin(
            1_099_052,
            World::new("a write, two readers", vec![vec![write(0, 1)], vec![read(1)], vec![read(2)]]).reaching(
                milestones::HEDGED | milestones::WROTE_BACK | milestones::READ_UNFINISHED | milestones::ALL_DONE,
            ),
        ),
        pin(
            1_197_300,
            World::new("two writers, one reads", vec![vec![write(0, 1)], vec![write(1, 2), read(2)]]).reaching(
                milestones::HEDGED
                    | milestones::OVERWROTE
                    | milestones::BEATEN
                    | milestones::WROTE_BACK
                    | milestones::ALL_DONE,
            ),
        ),
        pin(
            680_320,
            World::new("a write and a delete, read", vec![vec![write(0, 1), delete(1)], vec![read(2)]]).reaching(
                milestones::READ_TOMBSTONE | milestones::OVERWROTE | milestones::READ_UNFINISHED | milestones::ALL_DONE,
            ),
        ),
        pin(
            499_339,
            World::new("three writes in turn, read", vec![vec![write(0, 1), write(1, 2), write(0, 3), read(1)]])
                .reaching(milestones::OVERWROTE | milestones::BEATEN | milestones::ALL_DONE),
        ),
    ]
}

fn a_bad_network() -> Vec<Bounded> {
    vec![
        pin(
            1_575_316,
            World::new("repeats: a write, read twice", vec![vec![write(0, 1)], vec![read(1), read(2)]])
                .with(Faults { repeats: 1, ..FEW_FAULTS })
                .reaching(milestones::REPEATED | milestones::WROTE_BACK),
        ),
        pin(
            585_821,
            World::new("repeats: two writers", vec![vec![write(0, 1)], vec![write(1, 2)]])
                .with(Faults { repeats: 1, ..FEW_FAULTS })
                .reaching(milestones::REPEATED | milestones::OVERWROTE | milestones::BEATEN),
        ),
        pin(
            692_042,
            World::new("resends: a write, read", vec![vec![write(0, 1)], vec![read(1)]])
                .with(Faults { alarms: 2, ..FEW_FAULTS })
                .reaching(milestones::HEDGED | milestones::RESENT | milestones::WROTE_BACK),
        ),
        pin(
            1_101_202,
            World::new("a client gives up", vec![vec![write(0, 1), write(0, 2), read(1)]])
                .with(Faults { partings: 1, ..FEW_FAULTS })
                .reaching(milestones::GAVE_UP | milestones::OVERWROTE | milestones::BEATEN | milestones::WROTE_BACK),
        ),
    ]
}

fn restarting_nodes() -> Vec<Bounded> {
    vec![
        pin(
            276_879,
            World::new("restarts: a coordinator, twice", vec![vec![write(0, 1), write(0, 2)]])
                .with(restarts([2, 0, 0], 2))
                .reaching(
                    milestones::RESTARTED_IN_CLOCK_ROUND
                        | milestones::RESTARTED_BEFORE_STORE
                        | milestones::RESTARTED_AND_KEPT
                        | milestones::RESTARTED_AND_LOST
                        | milestones::EPOCH_WITH_RECORD
                        | milestones::EARLIER_INCARNATION,
                ),
        ),
        pin(
            598_031,
            World::new("restarts: a coordinator, read", vec![vec![write(0, 1), write(0, 2), read(1)]])
                .with(restarts([1, 0, 0], 1))
                .reaching(
                    milestones::RESTARTED_IN_CLOCK_ROUND
                        | milestones::RESTARTED_BEFORE_STORE
                        | milestones::EARLIER_INCARNATION
                        | milestones::WROTE_BACK
                        | milestones::ALL_DONE,
                ),
        ),
        pin(
            1_167_188,
            World::new("restarts: any of all", vec![vec![write(0, 1)], vec![read(2)]])
                .with(restarts([1, 1, 1], 1))
                .reaching(
                    milestones::HEDGED
                        | milestones::RESTARTED_AND_KEPT
                        | milestones::RESTARTED_AND_LOST
                        | milestones::WROTE_BACK
                        | milestones::ALL_DONE,
                ),
        ),
    ]
}

fn bad_disks() -> Vec<Bounded> {
    vec![
        pin(
            657_657,
            World::new("slow reads and fsyncs: two writers", vec![vec![write(0, 1)], vec![write(1, 2)]])
                .grained(Grain { loads: true, landing: true, ..COARSE })
                .reaching(milestones::OVERWROTE | milestones::BEATEN | milestones::ALL_DONE),
        ),
        pin(
            173_606,
            World::new("slow reads and fsyncs: a write, read", vec![vec![write(0, 1)], vec![read(1)]])
                .grained(Grain { loads: true, landing: true, ..COARSE })
                .reaching(milestones::HEDGED | milestones::READ_EARLY | milestones::WROTE_BACK | milestones::ALL_DONE),
        ),
        pin(
            112_500,
            World::new("a failed fsync: writes, then a read", vec![vec![write(0, 1), write(1, 2), read(2)]])
                .with(Faults { failures: 1, ..FEW_FAULTS })
                .reaching(
                    milestones::FAILED_AND_KEPT
                        | milestones::FAILED_AND_LOST
                        | milestones::OVERWROTE
                        | milestones::ALL_DONE,
                ),
        ),
        pin(
            31_241,
            World::new("two failed fsyncs: a write, then a read", vec![vec![write(0, 1), read(1)]])
                .with(Faults { failures: 2, ..FEW_FAULTS })
                .reaching(milestones::FAILED_AND_KEPT | milestones::FAILED_AND_LOST | milestones::OUTCOME_UNKNOWN),
        ),
        pin(
            1_668_640,
            World::new("a failed fsync: a write, read twice", vec![vec![write(0, 1)], vec![read(1), read(2)]])
                .with(Faults { failures: 1, ..FEW_FAULTS })
                .reaching(
                    milestones::FAILED_AND_KEPT
                        | milestones::FAILED_AND_LOST
                        | milestones::WROTE_BACK
                        | milestones::ALL_DONE,
                ),
        ),
    ]
}

fn meeting() -> Vec<Bounded> {
    vec![
        pin(
            606_526,
            World::new("meeting: a cluster is bootstrapped", vec![])
                .grained(ALL_MESSAGES_OF_NODE_1)
                .unmet()
                .reaching(milestones::BOOTSTRAPPED),
        ),
        pin(
            157_008,
            World::new("meeting: a node restarts twice", vec![])
                .grained(ALL_MESSAGES_OF_NODE_1)
                .with(restarts([2, 0, 0], 2)),
        ),
        pin(
            9_286,
            World::new("a lost disk", vec![vec![write(0, 1), read(2)]])
                .with(Faults { losses: 1, ..FEW_FAULTS })
                .reaching(milestones::REFUSED_STORE_ID | milestones::ALL_DONE),
        ),
        pin(
            21_474,
            World::new("an older copy, started twice", vec![vec![read(1)]])
                .with(Faults { losses: 1, ..restarts([2, 0, 0], 2) })
                .reaching(milestones::REFUSED_INCARNATION | milestones::REFUSED_STORE_ID | milestones::ALL_DONE),
        ),
        pin(
            347_389,
            World::new("an older copy", vec![vec![write(0, 1), read(2)]])
                .with(Faults { losses: 1, ..restarts([1, 0, 0], 1) })
                .reaching(milestones::REFUSED_INCARNATION | milestones::REFUSED_STORE_ID | milestones::ALL_DONE),
        ),
    ]
}

fn conditional_writes() -> Vec<Bounded> {
    let first = || vec![write_if_absent(0, 1)];
    vec![
        pin(
            168_370,
            World::new("conditional: two coordinators", vec![first(), vec![write_if_absent(1, 2)]])
                .reaching(milestones::PREEMPTED | milestones::SETTLED | milestones::CONDITION_FAILED),
        ),
        pin(
            297_636,
            World::new("conditional: a write, read", vec![first(), vec![read(1)]]).reaching(
                milestones::SETTLED | milestones::PREEMPTED | milestones::READ_UNFINISHED | milestones::ALL_DONE,
            ),
        ),
        pin(
            196_760,
            World::new("conditional: beside a plain write", vec![first(), vec![write(1, 2)]]).reaching(
                milestones::OVERWROTE | milestones::BEATEN | milestones::CONDITION_FAILED | milestones::ALL_DONE,
            ),
        ),
        pin(
            9_665,
            World::new("conditional: one version after the other", vec![vec![write_if_absent(0, 1), replace(1, 2)]])
                .reaching(milestones::OVERWROTE | milestones::ALL_DONE),
        ),
        pin(
            206_406,
            World::new("conditional: two additions", vec![vec![add(0, 1)], vec![add(1, 2)]])
                .reaching(milestones::PREEMPTED | milestones::OVERWROTE | milestones::ALL_DONE),
        ),
        pin(
            307_168,
            World::new("conditional: a coordinator restarts", vec![vec![write_if_absent(0, 1), read(1)]])
                .with(restarts([1, 0, 0], 1))
                .reaching(milestones::SETTLED | milestones::EARLIER_INCARNATION | milestones::ALL_DONE),
        ),
        pin(
            1_044_992,
            World::new("conditional: an acceptor restarts", vec![vec![write_if_absent(0, 1), write_if_absent(1, 2)]])
                .with(Faults { partings: 1, ..restarts([0, 1, 0], 1) })
                .reaching(milestones::GAVE_UP | milestones::PREEMPTED | milestones::SETTLED | milestones::ALL_DONE),
        ),
        pin(
            1_070_455,
            World::new("conditional: slow reads of the store", vec![first(), vec![write_if_absent(1, 2)]])
                .grained(Grain { loads: true, ..COARSE })
                .reaching(milestones::PREEMPTED | milestones::SETTLED | milestones::CONDITION_FAILED),
        ),
        pin(
            3_243_867,
            World::new("conditional: a ballot after the other", vec![vec![write_if_absent(0, 1), read(1)]])
                .with(Faults { partings: 1, alarms: 1, ..FEW_FAULTS })
                .reaching(milestones::GAVE_UP | milestones::PREEMPTED | milestones::SETTLED | milestones::ALL_DONE),
        ),
    ]
}

/// Every node remembers the name of the table. The coordinator of the drop forgets it, and the other one learns of the drop
/// when it arrives there, or when somebody refuses its write.
fn tables() -> Vec<Bounded> {
    let clients = || vec![vec![drop_table(0)], vec![write(1, 1)]];
    let reached = milestones::REFUSED_DROPPED | milestones::FOUND_DROPPING | milestones::CUT_OFF;
    vec![
        pin(
            22_230,
            World::new("tables: a drop, a stale name writes", clients())
                .in_table()
                .reaching(reached | milestones::FOUND_NO_TABLE | milestones::ALL_DONE),
        ),
        pin(
            509_429,
            World::new("tables: a drop, its coordinator restarts", clients())
                .in_table()
                .with(restarts([1, 0, 0], 1))
                .reaching(reached | milestones::EARLIER_INCARNATION),
        ),
    ]
}

/// Of members that change: the slot of the key goes from nodes 1, 2 and 3 to nodes 2, 3 and 4, which are counted from 0 here.
const BEGINS: Change = Change { pairs: &[[0, 1], [0, 2], [1, 2]], ends: false, begins: When::Always, hurries: false };

fn members() -> Vec<Bounded> {
    vec![pin(
        919,
        World::new("members: a hurried end", vec![vec![write(0, 1), read(2)]])
            .changing(Change { pairs: &[[0, 1]], ends: true, begins: When::Idle, hurries: true })
            .reaching(milestones::ALL_DONE),
    )]
}

/// Members that change while clients write.
fn large_members() -> Vec<Bounded> {
    let free = |world| Bounded { world, states: None };
    let one_pair = Change { pairs: &[[0, 2]], ..BEGINS };
    let changed = milestones::EMPTIED | milestones::TAKEN_OVER | milestones::ALL_DONE;
    vec![
        free(
            World::new("members: a write, a change, a read", vec![vec![write(0, 1), read(2)]])
                .changing(Change { ends: true, begins: When::Idle, ..BEGINS })
                .reaching(changed | milestones::MEMBERS_CHANGED),
        ),
        free(
            World::new("members: a write, a change, a read of node 2", vec![vec![write(0, 1), read(1)]])
                .changing(Change { ends: true, begins: When::Idle, ..BEGINS })
                .reaching(changed | milestones::MEMBERS_CHANGED),
        ),
        free(
            World::new("members: a write meets the change", vec![vec![write(1, 1)], vec![read(2)]])
                .changing(one_pair)
                .reaching(changed),
        ),
        free(
            World::new("members: a conditional write meets the change", vec![vec![write_if_absent(1, 1), read(2)]])
                .changing(one_pair)
                .reaching(changed),
        ),
        free(
            World::new("members: both in flight", vec![vec![write(0, 1)], vec![write_if_absent(2, 2)]])
                .changing(one_pair)
                .reaching(changed),
        ),
        free(
            World::new("members: two coordinators apart", vec![vec![write(0, 1)], vec![write(1, 2), read(3)]])
                .changing(Change { ends: true, ..one_pair })
                .reaching(changed | milestones::MEMBERS_CHANGED | milestones::REFUSED_OUTDATED),
        ),
        free(
            World::new("members: a write, the end, a read", vec![vec![write(1, 1), read(2)]])
                .changing(Change { ends: true, ..one_pair })
                .reaching(changed | milestones::MEMBERS_CHANGED | milestones::REFUSED_OUTDATED),
        ),
    ]
}

/// Larger models, for an hour and a machine with much memory.
pub fn large() -> Vec<Bounded> {
    let free = |world| Bounded { world, states: None };
    let mut models = large_members();
    models.extend([
        free(
            World::new("seal: a write held up, a delete, read", vec![vec![write(0, 1), delete(1), read(1)]])
                .with(Faults { partings: 1, seals: 1, ..FEW_FAULTS })
                .reaching(milestones::FORGOTTEN | milestones::GAVE_UP | milestones::ALL_DONE),
        ),
        free(
            World::new("tables: a drop, a node restarts", vec![vec![drop_table(0)], vec![write(1, 1)]])
                .in_table()
                .with(restarts([1, 1, 1], 1))
                .reaching(milestones::REFUSED_DROPPED | milestones::CUT_OFF | milestones::EARLIER_INCARNATION),
        ),
        free(
            World::new(
                "conditional: two coordinators and a reader",
                vec![vec![write_if_absent(0, 1)], vec![write_if_absent(1, 2), read(2)]],
            )
            .reaching(milestones::PREEMPTED | milestones::SETTLED | milestones::CONDITION_FAILED),
        ),
        free(
            World::new(
                "conditional: two coordinators try again",
                vec![vec![write_if_absent(0, 1)], vec![write_if_absent(1, 2)]],
            )
            .with(Faults { alarms: 2, ..FEW_FAULTS })
            .reaching(milestones::PREEMPTED | milestones::SETTLED | milestones::CONDITION_FAILED),
        ),
        free(
            World::new(
                "conditional: two coordinators, an acceptor restarts",
                vec![vec![write_if_absent(0, 1)], vec![write_if_absent(1, 2)]],
            )
            .with(restarts([0, 1, 1], 1))
            .reaching(milestones::PREEMPTED | milestones::RESTARTED_AND_LOST),
        ),
        free(
            World::new(
                "conditional: a version is replaced, read twice",
                vec![vec![write_if_absent(0, 1), replace(0, 2)], vec![read(1), read(2)]],
            )
            .reaching(milestones::SETTLED | milestones::READ_UNFINISHED | milestones::ALL_DONE),
        ),
        free(
            World::new(
                "conditional: an addition is overwritten",
                vec![vec![add(0, 1), read(1), write(1, b'5'), read(1)]],
            )
            .with(Faults { partings: 1, alarms: 1, ..FEW_FAULTS })
            .reaching(milestones::GAVE_UP | milestones::SETTLED | milestones::OUTCOME_UNKNOWN),
        ),
        free(World::new("two writers and a reader", vec![vec![write(0, 1)], vec![delete(1)], vec![read(2)]]).reaching(
            milestones::OVERWROTE | milestones::WROTE_BACK | milestones::READ_TOMBSTONE | milestones::ALL_DONE,
        )),
        free(
            World::new("two clients of one node", vec![vec![write(0, 1)], vec![write(1, 3), write(0, 2), read(1)]])
                .reaching(milestones::OVERWROTE | milestones::ALL_DONE),
        ),
        free(
            World::new("two clients give up", vec![vec![write(0, 1), write(1, 2), read(2), read(0)]])
                .with(Faults { partings: 2, ..FEW_FAULTS })
                .reaching(milestones::GAVE_UP | milestones::WROTE_BACK),
        ),
        free(
            World::new("repeats: a write, read, twice", vec![vec![write(0, 1)], vec![read(1), read(2)]])
                .with(Faults { repeats: 2, ..FEW_FAULTS })
                .reaching(milestones::REPEATED | milestones::WROTE_BACK),
        ),
        free(
            World::new("restarts: two of all", vec![vec![write(0, 1), read(2)]])
                .with(restarts([1, 1, 1], 2))
                .reaching(milestones::RESTARTED_AND_KEPT | milestones::RESTARTED_AND_LOST),
        ),
        free(
            World::new("slow reads and fsyncs, read twice", vec![vec![write(0, 1)], vec![read(1), read(2)]])
                .grained(Grain { loads: true, landing: true, ..COARSE })
                .reaching(milestones::READ_EARLY | milestones::WROTE_BACK),
        ),
        free(
            World::new("meeting: a restart while it forms", vec![])
                .grained(ALL_MESSAGES_OF_NODE_1)
                .unmet()
                .with(restarts([1, 0, 0], 1))
                .reaching(milestones::BOOTSTRAPPED),
        ),
        free(
            World::new("meeting: a lost disk or an older copy", vec![vec![write(0, 1), read(2)]])
                .grained(ALL_MESSAGES_OF_NODE_1)
                .with(Faults { losses: 1, ..restarts([1, 0, 0], 1) })
                .reaching(milestones::REFUSED_STORE_ID | milestones::REFUSED_INCARNATION),
        ),
    ]);
    models
}
