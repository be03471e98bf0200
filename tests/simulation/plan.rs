//! What a seed draws before its run begins: the cluster, its weather, and which faults there will be.
//!
//! Not every run has every fault: a run with few of them gets further, and finds what a storm hides.

use std::time::Duration;

use quorate::protocol::{RepairSettings, TombstoneSettings};
use quorate::types::{Table, TableName};

use crate::members;
use crate::tables;
use crate::testkit::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node dies at once.
    Crash,
    /// A node dies in its next turn, after some of that turn's effects.
    CrashWithinTurn,
    /// A majority, or everyone, dies at once.
    CrashMany,
    /// Two halves that do not hear each other.
    Split,
    /// One node is cut off.
    Isolate,
    /// One direction of one link is cut.
    OneWay,
    /// Two halves that only one node hears both of.
    Bridge,
    /// A node's links are cut and healed over and over.
    Flap,
    /// The links between two nodes break and come back; what was on its way is lost.
    Relink,
    /// Much is lost everywhere.
    Loss,
    /// One node's messages are late, each by another span.
    SlowLinks,
    /// One node's disk is slow.
    SlowDisk,
    /// One batch of one node fails; it may be on the disk all the same.
    DiskFails,
    /// Every batch of one node fails for a while.
    DiskFull,
    /// One node's disk cannot be read for a while.
    DiskUnreadable,
    /// A node stands still, and wakes with old messages in hand.
    Pause,
    /// A node comes back with an empty folder.
    LoseFolder,
    /// A node comes back with an older copy of its folder.
    RestoreCopy,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::Crash,
        Self::CrashWithinTurn,
        Self::CrashMany,
        Self::Split,
        Self::Isolate,
        Self::OneWay,
        Self::Bridge,
        Self::Flap,
        Self::Relink,
        Self::Loss,
        Self::SlowLinks,
        Self::SlowDisk,
        Self::DiskFails,
        Self::DiskFull,
        Self::DiskUnreadable,
        Self::Pause,
        Self::LoseFolder,
        Self::RestoreCopy,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashWithinTurn => "crash within a turn",
            Self::CrashMany => "crash of many",
            Self::Split => "split",
            Self::Isolate => "isolated node",
            Self::OneWay => "one-way cut",
            Self::Bridge => "bridge",
            Self::Flap => "flapping links",
            Self::Relink => "broken link",
            Self::Loss => "burst of loss",
            Self::SlowLinks => "slow links",
            Self::SlowDisk => "slow disk",
            Self::DiskFails => "failed batch",
            Self::DiskFull => "full disk",
            Self::DiskUnreadable => "unreadable disk",
            Self::Pause => "pause",
            Self::LoseFolder => "lost folder",
            Self::RestoreCopy => "restored older folder",
        }
    }
}

/// The slowest and the fastest clock, in thousandths of the true time.
pub const RATES: (u64, u64) = (900, 1_100);

/// A range of spans, in microseconds.
pub type Span = (u64, u64);

/// One run, as far as it is drawn beforehand.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub replica_count: usize,
    pub keys: usize,
    pub clients: usize,
    /// How many operations clients begin while there are faults.
    pub operations_max: usize,
    /// When all faults stop.
    pub calm_at: u64,
    pub latency: Span,
    /// How many in a thousand messages take up to `late` instead.
    pub late_permille: u64,
    pub late: u64,
    pub loss_permille: u64,
    pub repeat_permille: u64,
    pub disk: Span,
    /// How long until the node hears that its batch is durable.
    pub disk_answer: Span,
    pub read: Span,
    /// How many in a thousand reads memory answers within the turn.
    pub memory_permille: u64,
    /// How many in a thousand operations are conditional writes.
    pub conditional_permille: u64,
    /// How many in a thousand conditional writes their client gives up long before their node does.
    pub impatience_permille: u64,
    /// How many in a thousand reads ask one replica.
    pub one_permille: u64,
    /// How many in a thousand other reads are pages of lists.
    pub list_permille: u64,
    /// How many in a thousand values that are written have a time to live.
    pub ttl_permille: u64,
    /// The tables of the keys.
    pub tables: Vec<Table>,
    /// How many in a thousand operations are about the name of a table.
    pub names_permille: u64,
    /// How many in a thousand drops get lost on their way to a node, beside what is lost of all messages.
    pub drops_lost_permille: u64,
    /// How fast each node's clock runs, in thousandths of the true time.
    pub rates: Vec<u64>,
    /// How many machines wait to become members. Where there are any, members change.
    pub joiners: usize,
    /// How long until the operator gives the next order.
    pub change_every: Span,
    /// How nodes repair, where they do.
    pub repair: Option<RepairSettings>,
    pub think: Span,
    pub read_permille: u64,
    pub delete_permille: u64,
    pub faults: Vec<Fault>,
    pub fault_every: Span,
    /// How many in a thousand cuts and restarts the other side's transport does not notice.
    pub unnoticed_permille: u64,
    /// How many nodes may be lost for good: what leaves a majority of every slot whole.
    pub losses_max: usize,
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x51_4D_55_4C);
        let random = &mut random;
        let (nodes, replica_count) = *random.pick(&[
            (3, 3),
            (3, 3),
            (3, 3),
            (4, 3),
            (5, 3),
            (5, 5),
            (5, 5),
            (7, 3),
            (9, 3),
            (9, 5),
            (3, 2),
            (4, 4),
        ]);
        let mut faults = Fault::ALL.to_vec();
        random.shuffle(&mut faults);
        faults.truncate(match random.below(8) {
            0 => 0,
            1..=5 => random.count(1, 6),
            _ => Fault::ALL.len(),
        });
        let often = random.pick(&[20_000, 60_000, 200_000, 500_000]);
        let mut plan = Self {
            seed,
            nodes,
            replica_count,
            keys: random.count(1, 5),
            clients: random.count(3, 10),
            operations_max: random.count(100, 900),
            calm_at: random.between(1_000_000, 6_000_000),
            latency: *random.pick(&[(100, 300), (100, 2_000), (1_000, 20_000)]),
            late_permille: *random.pick(&[0, 5, 50, 200]),
            late: *random.pick(&[20_000, 200_000, 1_500_000]),
            loss_permille: *random.pick(&[0, 0, 5, 50, 150]),
            repeat_permille: *random.pick(&[0, 5, 50, 200]),
            disk: *random.pick(&[(10, 50), (200, 2_000), (1_000, 30_000)]),
            disk_answer: *random.pick(&[(0, 0), (0, 300), (0, 10_000)]),
            read: *random.pick(&[(1, 20), (10, 500), (100, 10_000)]),
            think: *random.pick(&[(0, 100), (0, 5_000), (1_000, 40_000)]),
            read_permille: *random.pick(&[200, 500, 800]),
            delete_permille: *random.pick(&[0, 50, 250]),
            faults,
            fault_every: (often / 2, often * 3 / 2),
            unnoticed_permille: *random.pick(&[0, 100, 500]),
            losses_max: (replica_count - 1) / 2,
            // Drawn last, so that the rest of each seed's plan is what it was.
            memory_permille: *random.pick(&[0, 500, 950]),
            conditional_permille: *random.pick(&[0, 150, 400, 800]),
            impatience_permille: *random.pick(&[0, 100, 400]),
            one_permille: *random.pick(&[0, 100, 300]),
            list_permille: *random.pick(&[0, 100, 400]),
            ttl_permille: *random.pick(&[0, 0, 0, 0, 300, 800]),
            tables: vec![Table::Default],
            names_permille: 0,
            drops_lost_permille: 0,
            rates: vec![1_000; nodes],
            joiners: 0,
            change_every: (0, 0),
            repair: None,
        };
        // Clocks of the same rate have the same ages, which hide what goes wrong with those.
        if plan.ttl_permille > 0 {
            plan.rates.fill_with(|| random.between(RATES.0, RATES.1));
        }
        if tables::has_tables(seed) {
            let named = |name| Table::Named(TableName::new(name).expect("this is a name"));
            let (one, other) = (named("t"), named("u"));
            let kinds = [vec![one.clone()], vec![one.clone(), other], vec![Table::Default, one]];
            plan.tables.clone_from(random.pick(&kinds));
            plan.names_permille = *random.pick(&[40, 120, 300]);
            plan.drops_lost_permille = *random.pick(&[0, 300, 700]);
            plan.keys = plan.keys.max(plan.tables.len());
        } else if seed % 4 == 3 {
            // The other seeds are what they were, so that what they show stays comparable.
            plan.repair = Some(RepairSettings {
                every: Duration::from_millis(*random.pick(&[500, 2_000, 5_000])),
                confirm_after: Duration::from_millis(*random.pick(&[1, 20, 200])),
                tombstones: None,
                ..RepairSettings::default()
            });
        }
        if members::change(seed) {
            plan.changes_members(random);
        }
        if let Some(repair) = &mut plan.repair
            && seed % 8 == 7
        {
            repair.tombstones = Some(TombstoneSettings {
                kept_for: Duration::from_millis(*random.pick(&[3_000, 10_000])),
                of_slot_max: *random.pick(&[0, 0, 1_000]),
            });
            plan.delete_permille = plan.delete_permille.max(250);
        }
        plan
    }

    /// Members change. Folders that are lost are replaced, and values do not expire: what those show is judged by the first
    /// list of members.
    fn changes_members(&mut self, random: &mut Random) {
        (self.nodes, self.replica_count) = *random.pick(&[(3, 3), (3, 3), (4, 3), (5, 3), (5, 5), (3, 2)]);
        self.joiners = random.count(1, 3);
        self.change_every = *random.pick(&[(50_000, 300_000), (200_000, 1_000_000), (500_000, 2_500_000)]);
        self.faults.retain(|fault| !matches!(fault, Fault::LoseFolder | Fault::RestoreCopy));
        self.ttl_permille = 0;
        self.losses_max = 0;
        self.rates = vec![1_000; self.nodes + self.joiners];
        self.calm_at = self.calm_at.max(3_000_000);
        // Few keys, and operations for as long as members change: most of what can go wrong takes a moment of a change.
        self.keys = random.count(1, 2);
        self.operations_max = random.count(600, 2_000);
        self.think = (0, 2 * self.calm_at * self.clients as u64 / self.operations_max as u64);
    }
}
