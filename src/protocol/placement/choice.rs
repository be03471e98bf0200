//! The replicas of a slot among nodes of different weights, or in zones.
//!
//! Contract: a node comes before another where its score, as a number u between 0 and 1, gives the greater -weight / ln(u).
//! So the share of first places is in proportion to the weights, and for equal weights the order is that of the scores. The
//! nodes of each zone are put into this order. The first ones of all zones come before the second ones, and so on; among
//! the first ones, or the second ones, the order is the same again. The replicas are the first `replica_count` of all.
//!
//! Invariant: no number here is rounded by a processor or a library of mathematics. Two nodes that disagreed on one bit of a
//! logarithm could place a slot differently, and their majorities would not meet. A logarithm is therefore taken in whole
//! numbers ([`cost`]), and quotients are compared by products.
//!
//! Source: weighted rendezvous hashing as Schindelhauer and Schomaker (2005) have it. Ceph's straw2 takes logarithms in whole
//! numbers for the same reason, from tables.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::hash::{mixed_slot, score};
use crate::mutants::rule;
use crate::types::{ClusterParameters, NodeIndex, Site, Slot};

/// The bits of a logarithm behind the point. A cost of 64 at most and a weight of [`Weight::MAX`](crate::types::Weight::MAX)
/// hundredths have a product below 2^58.
const FRACTION_BITS: u32 = 32;

/// Chooses replicas, slot by slot.
pub(super) struct Choice {
    nodes: Vec<Node>,
    replica_count: usize,
    costs: Costs,
    /// The chosen ones of the present slot among the nodes seen so far, in the order of preference.
    chosen: Vec<Chosen>,
    /// How many of the chosen ones are in each zone.
    chosen_in_zones: Vec<usize>,
}

/// What lets a node be passed over without its cost, once enough are chosen.
#[derive(Clone, Copy)]
struct Limit {
    /// The cost and weight of the chosen one that comes last by cost.
    cost: u64,
    weight: u64,
    /// The greatest rank among the chosen ones.
    rank: usize,
}

#[derive(Clone, Copy)]
struct Node {
    seed: u32,
    /// Hundredths, where the weights of two nodes differ; else 1.
    weight: u64,
    zone: usize,
}

/// How a score becomes a cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Costs {
    /// Weights are equal: any falling function keeps the order, and the quickest is the complement.
    Complement,
    /// Weights differ.
    Logarithm,
}

#[derive(Clone, Copy)]
struct Candidate {
    cost: u64,
    weight: u64,
    score: u64,
    member: NodeIndex,
}

impl Candidate {
    /// By cost / weight, then by score, then by id: the lesser is preferred.
    fn compare(&self, other: &Self) -> Ordering {
        let by_quotient = (self.cost * other.weight).cmp(&(other.cost * self.weight));
        by_quotient.then(other.score.cmp(&self.score)).then(other.member.cmp(&self.member))
    }
}

struct Chosen {
    candidate: Candidate,
    zone: usize,
    /// How many nodes of its zone come before it.
    rank: usize,
}

impl Choice {
    /// `None` where weights are equal and zones change nothing, so that scores alone decide.
    pub(super) fn new(parameters: &ClusterParameters, node_seeds: &[u32]) -> Option<Self> {
        let sites = &parameters.sites;
        let mut known = BTreeMap::new();
        let zones: Vec<usize> = sites
            .iter()
            .enumerate()
            .map(|(index, site)| {
                let fresh = known.len();
                // A node without a zone shares none with another node.
                let name = site.zone.as_ref().map_or((None, index), |zone| (Some(zone), 0));
                *known.entry(name).or_insert(fresh)
            })
            .collect();
        let weights_differ = sites.iter().any(|site| site.weight != sites[0].weight);
        // One zone for all, or one for each node, gives the order without zones. So does one replica.
        let zones_matter = parameters.replica_count > 1 && (2..sites.len()).contains(&known.len());
        if !weights_differ && !zones_matter {
            return None;
        }
        let node = |((seed, zone), site): ((&u32, usize), &Site)| Node {
            seed: *seed,
            weight: if weights_differ { u64::from(site.weight.hundredths()) } else { 1 },
            zone,
        };
        let zones_counted = known.len();
        Some(Self {
            nodes: node_seeds.iter().zip(zones).zip(sites).map(node).collect(),
            replica_count: parameters.replica_count,
            costs: if weights_differ { Costs::Logarithm } else { Costs::Complement },
            chosen: Vec::with_capacity(parameters.replica_count + 1),
            chosen_in_zones: vec![0; zones_counted],
        })
    }

    /// The replicas of all slots.
    pub(super) fn replicas(mut self) -> Vec<NodeIndex> {
        let mut replicas = Vec::with_capacity(Slot::COUNT * self.replica_count);
        let nodes = std::mem::take(&mut self.nodes);
        for slot in (0..=u16::MAX).map(Slot) {
            let mixed = mixed_slot(slot);
            let mut limit = None;
            for (member, node) in (0..).map(NodeIndex).zip(&nodes) {
                let score = score(mixed, node.seed);
                // A logarithm takes as long as many scores, and few of many nodes are ever among the chosen ones.
                if limit.is_none_or(|limit| self.may_be_chosen(node, score, limit)) {
                    let cost = self.costs.cost(score);
                    self.offer(Candidate { cost, weight: node.weight, score, member }, node.zone);
                    limit = self.limit();
                }
            }
            for Chosen { candidate, zone, .. } in self.chosen.drain(..) {
                replicas.push(candidate.member);
                self.chosen_in_zones[zone] = 0;
            }
        }
        replicas
    }

    /// False where the node comes after all of the chosen ones by cost, and its zone has as many of them as any.
    fn may_be_chosen(&self, node: &Node, score: u64, limit: Limit) -> bool {
        !self.costs.is_above(score, node.weight, limit) || self.chosen_in_zones[node.zone] < limit.rank
    }

    fn limit(&self) -> Option<Limit> {
        if self.chosen.len() < self.replica_count {
            return None;
        }
        let dearest = self.chosen.iter().map(|chosen| &chosen.candidate).max_by(|a, b| a.compare(b))?;
        Some(Limit { cost: dearest.cost, weight: dearest.weight, rank: self.chosen.last()?.rank })
    }

    /// Puts `candidate` among the chosen ones, and drops the last where they are too many.
    ///
    /// A node that is dropped cannot come back when more nodes are seen: those only go before it. So it need not be kept.
    fn offer(&mut self, candidate: Candidate, zone: usize) {
        let mut rank = 0;
        for chosen in self.chosen.iter_mut().filter(|chosen| rule!(ZonesAreIgnored, chosen.zone == zone, not false)) {
            if chosen.candidate.compare(&candidate).is_lt() {
                rank += 1;
            } else {
                chosen.rank += 1;
            }
        }
        self.chosen.push(Chosen { candidate, zone, rank });
        self.chosen_in_zones[zone] += 1;
        self.chosen.sort_unstable_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.candidate.compare(&b.candidate)));
        if self.chosen.len() > self.replica_count {
            let dropped = self.chosen.pop().expect("there is one too many");
            self.chosen_in_zones[dropped.zone] -= 1;
        }
    }
}

impl Costs {
    fn cost(self, score: u64) -> u64 {
        match self {
            Self::Complement => !score,
            Self::Logarithm => cost(score),
        }
    }

    /// Whether `score` and `weight` come after the limit for certain.
    fn is_above(self, score: u64, weight: u64, limit: Limit) -> bool {
        match self {
            Self::Complement => !score > limit.cost,
            Self::Logarithm => cost_least(score) * limit.weight > limit.cost * weight,
        }
    }
}

/// -log2(u) for u = (score | 1) / 2^64, in parts of 2^32. It falls, or stays, as the score rises.
///
/// Each squaring of a number between 1 and 2 tells one more bit of its logarithm: whether the square has reached 2. What
/// squaring rounds away makes a logarithm smaller, and so a cost greater, but never reverses two of them.
pub(super) fn cost(score: u64) -> u64 {
    let odd = score | 1;
    let zeros = odd.leading_zeros();
    // Parts of 2^63.
    let mut number = odd << zeros;
    let mut fraction = 0;
    for _ in 0..FRACTION_BITS {
        let square = u128::from(number) * u128::from(number);
        let (high, shifted) = (low_half(square >> 64), low_half(square >> 63));
        let bit = high >> 63;
        number = if bit == 1 { high } else { shifted };
        fraction = (fraction << 1) | bit;
    }
    (u64::from(zeros + 1) << FRACTION_BITS) - fraction
}

/// At most [`cost`]: -ln(u) is at least 1 - u, and 1 / ln(2) above 369 / 256.
pub(super) fn cost_least(score: u64) -> u64 {
    ((!score >> (64 - FRACTION_BITS)) * 369) >> 8
}

fn low_half(bits: u128) -> u64 {
    u64::try_from(bits & u128::from(u64::MAX)).expect("64 bits are left")
}
