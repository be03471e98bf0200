//! A schedule of faults, drawn from a seed. `run` carries it out.
//!
//! Kinds are dealt like cards: each comes once before any comes twice, so that a short run has seen all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::testkit::proxy::{Flow, Wire};

/// The number of faults in one round.
const FAULTS_OF_ROUND: std::ops::RangeInclusive<usize> = 3..=5;
/// The latest beginning of a fault.
const BEGIN_MS_MAX: u64 = 2_500;
/// How long a fault lasts, unless it is a pause.
const LASTS_MS: std::ops::Range<u64> = 500..3_000;
/// How long a pause lasts.
const PAUSE_MS: std::ops::Range<u64> = 1_000..5_000;
/// How long a long pause lasts, in a long run.
const LONG_PAUSE_MS: std::ops::Range<u64> = 5_000..30_000;
/// In a long run, one pause in this many is long.
const LONG_PAUSE_ONE_IN: u32 = 5;
/// The shift of a wall clock, forth or back.
const HOUR_SECONDS: i64 = 3_600;

/// The node whose folder is on a small file system of its own, where that is possible.
pub(crate) const ON_SMALL_FILE_SYSTEM: usize = 0;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillOne,
    KillMajority,
    KillAll,
    KillAgainAndAgain,
    PauseOne,
    PauseMajority,
    Isolate,
    Split,
    OneWayCut,
    Bridge,
    Flap,
    Delay,
    Throttle,
    LimitedFiles,
    FullFileSystem,
    LostFolder,
    OlderFolder,
    MovedClock,
}

impl Kind {
    const ALL: [Self; 18] = [
        Self::KillOne,
        Self::KillMajority,
        Self::KillAll,
        Self::KillAgainAndAgain,
        Self::PauseOne,
        Self::PauseMajority,
        Self::Isolate,
        Self::Split,
        Self::OneWayCut,
        Self::Bridge,
        Self::Flap,
        Self::Delay,
        Self::Throttle,
        Self::LimitedFiles,
        Self::FullFileSystem,
        Self::LostFolder,
        Self::OlderFolder,
        Self::MovedClock,
    ];

    /// Whether it needs a round of its own: peers must be reachable to refuse a folder.
    fn is_alone(self) -> bool {
        matches!(self, Self::LostFolder | Self::OlderFolder)
    }
}

/// Deals the kinds in random order, and shuffles again when all were dealt.
#[derive(Debug, Default)]
pub(crate) struct Deck {
    left: Vec<Kind>,
    /// How many times all kinds were dealt.
    pub(crate) dealt_out: u64,
}

impl Deck {
    /// The kinds of the next round: several that go together, or one that needs a round of its own.
    pub(crate) fn deal(&mut self, random: &mut StdRng) -> Vec<Kind> {
        if self.left.is_empty() {
            self.left = Kind::ALL.to_vec();
            self.left.shuffle(random);
        }
        let first = self.left.pop().expect("there are kinds");
        let mut hand = vec![first];
        let size = if first.is_alone() { 1 } else { random.random_range(FAULTS_OF_ROUND) };
        while hand.len() < size
            && let Some(next) = self.left.iter().rposition(|kind| !kind.is_alone())
        {
            hand.push(self.left.remove(next));
        }
        self.dealt_out += u64::from(self.left.is_empty());
        hand
    }
}

/// The wires that a fault sets, by sender and receiver.
pub(crate) type Wires = Vec<(usize, usize, Wire)>;

/// One action on the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// SIGKILL to all of these at once.
    Kill(Vec<usize>),
    /// Starts those that are down, with a wall clock that is this many seconds off.
    Start(Vec<usize>, i64),
    /// SIGSTOP.
    Pause(Vec<usize>),
    /// SIGCONT.
    Resume(Vec<usize>),
    /// The fault of this number sets these wires. Without wires it has ended.
    Link(usize, Wires),
    /// Fills the node's disk except for this many bytes.
    Fill(usize, u64),
    /// Frees the node's disk.
    Free(usize),
    /// Starts the node with an empty folder, then with its own.
    LoseFolder(usize),
    /// Starts the node with an older copy of its folder, then with its own.
    AgeFolder(usize),
}

/// An action and its time, counted from the beginning of the round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

/// The actions of one round, in the order of time.
pub(crate) fn steps(kinds: &[Kind], nodes: usize, is_long: bool, random: &mut StdRng) -> Vec<Step> {
    let mut draw = Draw { nodes, is_long, random, steps: Vec::new() };
    for (number, kind) in kinds.iter().enumerate() {
        draw.fault(number, *kind);
    }
    let mut steps = draw.steps;
    steps.sort_by_key(|step| step.at);
    steps
}

struct Draw<'a> {
    nodes: usize,
    is_long: bool,
    random: &'a mut StdRng,
    steps: Vec<Step>,
}

impl Draw<'_> {
    fn fault(&mut self, number: usize, kind: Kind) {
        let from = self.random.random_range(100..BEGIN_MS_MAX);
        let to = from + self.random.random_range(LASTS_MS);
        let majority = self.nodes / 2 + 1;
        let wires = match kind {
            Kind::KillOne => return self.kill(1, from, to),
            Kind::KillMajority => return self.kill(majority, from, to),
            Kind::KillAll => return self.kill(self.nodes, from, to),
            Kind::KillAgainAndAgain => return self.kill_again_and_again(from),
            Kind::PauseOne => return self.pause(1, from),
            Kind::PauseMajority => return self.pause(majority, from),
            Kind::LimitedFiles => {
                let node = self.random.random_range(ON_SMALL_FILE_SYSTEM + 1..self.nodes);
                return self.fill_disk(node, from, to);
            }
            Kind::FullFileSystem => return self.fill_disk(ON_SMALL_FILE_SYSTEM, from, to),
            Kind::MovedClock => return self.move_clock(from, to),
            Kind::LostFolder => {
                let node = self.some(1)[0];
                return self.step(from, Action::LoseFolder(node));
            }
            Kind::OlderFolder => {
                let node = self.some(1)[0];
                return self.step(from, Action::AgeFolder(node));
            }
            Kind::Flap => return self.flap(number, from),
            Kind::Isolate => self.cut_off(1),
            Kind::Split => {
                let size = self.random.random_range(1..self.nodes);
                self.cut_off(size)
            }
            Kind::OneWayCut => self.cut_one_way(),
            Kind::Bridge => self.bridge(),
            Kind::Delay => {
                let delay = Duration::from_millis(self.random.random_range(5..400));
                self.slow(Wire { delay, ..Wire::default() })
            }
            Kind::Throttle => {
                let rate = self.random.random_range(2_000..100_000);
                self.slow(Wire { bytes_per_second: Some(rate), ..Wire::default() })
            }
        };
        self.step(from, Action::Link(number, wires));
        self.step(to, Action::Link(number, Vec::new()));
    }

    fn step(&mut self, at_ms: u64, action: Action) {
        self.steps.push(Step { at: Duration::from_millis(at_ms), action });
    }

    fn kill(&mut self, count: usize, from: u64, to: u64) {
        let nodes = self.some(count);
        self.step(from, Action::Kill(nodes.clone()));
        // They start together, or one after the other.
        let step_ms = if self.random.random_bool(0.5) { 0 } else { self.random.random_range(50..800) };
        for (i, node) in (0..).zip(nodes) {
            self.step(to + i * step_ms, Action::Start(vec![node], 0));
        }
    }

    fn kill_again_and_again(&mut self, mut at: u64) {
        let nodes = self.some(1);
        for _ in 0..self.random.random_range(3..7) {
            self.step(at, Action::Kill(nodes.clone()));
            self.step(at + 20, Action::Start(nodes.clone(), 0));
            // The kill may hit its start, its introductions or its work.
            at += self.random.random_range(30..700);
        }
    }

    fn pause(&mut self, count: usize, from: u64) {
        let nodes = self.some(count);
        let is_long = self.is_long && self.random.random_ratio(1, LONG_PAUSE_ONE_IN);
        let lasts = self.random.random_range(if is_long { LONG_PAUSE_MS } else { PAUSE_MS });
        self.step(from, Action::Pause(nodes.clone()));
        self.step(from + lasts, Action::Resume(nodes));
    }

    fn fill_disk(&mut self, node: usize, from: u64, to: u64) {
        // A few free bytes tear the last record.
        let room = self.random.random_range(0..20_000);
        self.step(from, Action::Fill(node, room));
        if self.random.random_bool(0.3) {
            self.step(to, Action::Kill(vec![node]));
            self.step(to + 1, Action::Start(vec![node], 0));
        } else {
            self.step(to, Action::Free(node));
        }
    }

    fn move_clock(&mut self, from: u64, to: u64) {
        let count = self.random.random_range(1..=self.nodes);
        let shift = if self.random.random_bool(0.5) { HOUR_SECONDS } else { -HOUR_SECONDS };
        for (i, node) in (0..).zip(self.some(count)) {
            self.step(from + 50 * i, Action::Kill(vec![node]));
            self.step(from + 50 * i + 20, Action::Start(vec![node], shift));
        }
        // One node goes back, or the other way.
        for node in self.some(1) {
            let other = if self.random.random_bool(0.5) { 0 } else { -shift };
            self.step(to + 1_000, Action::Kill(vec![node]));
            self.step(to + 1_020, Action::Start(vec![node], other));
        }
    }

    fn flap(&mut self, number: usize, mut at: u64) {
        let wires = if self.random.random_bool(0.5) { self.cut_off(1) } else { self.cut_one_way() };
        for _ in 0..self.random.random_range(3..10) {
            self.step(at, Action::Link(number, wires.clone()));
            at += self.random.random_range(10..500);
            self.step(at, Action::Link(number, Vec::new()));
            at += self.random.random_range(10..500);
        }
    }

    /// Both directions between `size` nodes and the rest.
    fn cut_off(&mut self, size: usize) -> Wires {
        let apart: BTreeSet<usize> = self.some(size).into_iter().collect();
        let cut = self.cut();
        self.wires(|from, to| (apart.contains(&from) != apart.contains(&to)).then_some(cut))
    }

    /// All that one node sends, all that it receives, or one direction of one pair.
    fn cut_one_way(&mut self) -> Wires {
        let pair = self.some(2);
        let cut = self.cut();
        match self.random.random_range(0..3) {
            0 => self.wires(|from, _| (from == pair[0]).then_some(cut)),
            1 => self.wires(|_, to| (to == pair[0]).then_some(cut)),
            _ => self.wires(|from, to| (from == pair[0] && to == pair[1]).then_some(cut)),
        }
    }

    /// Two halves that cannot reach each other, and one node that reaches both.
    fn bridge(&mut self) -> Wires {
        let order = self.some(self.nodes);
        let bridge = order[0];
        let half: BTreeSet<usize> = order[1..].iter().copied().take(self.nodes / 2).collect();
        let cut = self.cut();
        self.wires(|from, to| {
            (from != bridge && to != bridge && half.contains(&from) != half.contains(&to)).then_some(cut)
        })
    }

    /// All wires, those of one node, or one direction of one pair.
    fn slow(&mut self, wire: Wire) -> Wires {
        let pair = self.some(2);
        match self.random.random_range(0..3) {
            0 => self.wires(|_, _| Some(wire)),
            1 => self.wires(|from, to| (from == pair[0] || to == pair[0]).then_some(wire)),
            _ => self.wires(|from, to| (from == pair[0] && to == pair[1]).then_some(wire)),
        }
    }

    fn cut(&mut self) -> Wire {
        let flow = [Flow::Stalled, Flow::Lost, Flow::Reset][self.random.random_range(0..3)];
        Wire { flow, ..Wire::default() }
    }

    fn wires(&self, wire: impl Fn(usize, usize) -> Option<Wire>) -> Wires {
        let pairs = (0..self.nodes).flat_map(|from| (0..self.nodes).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).filter_map(|(from, to)| Some((from, to, wire(from, to)?))).collect()
    }

    fn some(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.nodes).collect();
        all.shuffle(self.random);
        all.truncate(count);
        all
    }
}
