//! Weights and zones.

use std::collections::BTreeSet;

use super::super::choice::{cost, cost_least};
use super::*;
use crate::types::{NodeId, Site, Weight, Zone};

/// A node as cluster.yml has it: id, weight, zone. An empty zone is none.
type Given<'a> = (&'a str, &'a str, &'a str);

fn placement(seed: u32, nodes: &[Given<'_>], replica_count: usize) -> Placement {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable_by_key(|(id, ..)| *id);
    let site = |(_, weight, zone): &Given<'_>| Site { weight: Weight::parse(weight).unwrap(), zone: Zone::new(zone) };
    let node_ids = nodes.iter().map(|(id, ..)| NodeId::new(id).unwrap()).collect();
    let sites = nodes.iter().map(site).collect();
    Placement::new(ClusterParameters { seed, replica_count, epoch_floor: 0, node_ids, sites })
}

fn names(placement: &Placement, slot: Slot) -> Vec<&str> {
    placement.replicas(slot).iter().map(|member| placement.parameters().id(*member).as_str()).collect()
}

fn slots() -> impl Iterator<Item = Slot> {
    (0..=u16::MAX).map(Slot)
}

/// Computed by a program in another language that knows docs/protocol.md alone.
#[test]
fn published_placements_with_weights_and_zones_hold() {
    let weights = [("1", "1", ""), ("2", "1", ""), ("3", "2", ""), ("4", "0.5", ""), ("5", "4", "")];
    let weights = placement(0, &weights, 3);
    assert_eq!(located(&weights, "a"), (34133, ["3", "5", "4"].map(String::from).to_vec()));
    assert_eq!(located(&weights, "b"), (31384, ["3", "5", "2"].map(String::from).to_vec()));
    let zones = [("1", "1", "a"), ("2", "1", "a"), ("3", "1", "a"), ("4", "1", "b"), ("5", "1", "b")];
    let zones = placement(0, &zones, 3);
    assert_eq!(located(&zones, "a"), (34133, ["3", "4", "5"].map(String::from).to_vec()));
    assert_eq!(located(&zones, "b"), (31384, ["3", "4", "2"].map(String::from).to_vec()));
    let both = [
        ("node-a", "1.5", "x"),
        ("node-b", "0.25", "x"),
        ("node-c", "1", "y"),
        ("node-d", "3", "z"),
        ("node-e", "1", "z"),
    ];
    let replicas = ["node-d", "node-a", "node-c", "node-e", "node-b"].map(String::from);
    assert_eq!(located(&placement(42, &both, 3), "雪片"), (54523, replicas[..3].to_vec()));
    assert_eq!(located(&placement(42, &both, 5), "雪片"), (54523, replicas.to_vec()));
}

/// Of the same program, which takes true logarithms beside them and finds each rounded up.
#[test]
fn published_costs_hold() {
    for (score, expected) in [
        (0, 274_877_906_944),
        (1, 274_877_906_944),
        (2, 268_070_544_839),
        (0x1234_5678_9ABC_DEF0, 16_380_065_491),
        (0x7FFF_FFFF_FFFF_FFFF, 4_294_967_297),
        (0x8000_0000_0000_0000, 4_294_967_296),
        (0xC000_0000_0000_0000, 1_782_572_487),
        (0xFFFF_FEFF_FFFF_FFFF, 370),
        (u64::MAX, 1),
    ] {
        assert_eq!(cost(score), expected, "{score:#x}");
    }
}

#[test]
fn cost_falls_as_the_score_rises() {
    let mut draw = Draw(1);
    for _ in 0..20_000 {
        // Neighbours, near ones and far ones, and many scores near both ends.
        let one = if draw.below(2) == 0 { draw.number() } else { u64::MAX - (draw.number() >> draw.below(64)) };
        let other = one.saturating_add(draw.number() >> draw.below(64));
        assert!(cost(one) >= cost(other), "{one:#x} {other:#x}");
        assert!(cost(one) >= cost(one.saturating_add(1)), "{one:#x}");
        assert!(cost_least(one) <= cost(one), "{one:#x}");
    }
}

#[test]
fn weights_and_zones_that_say_nothing_keep_the_placement() {
    let plain = [("1", "1", ""), ("2", "1", ""), ("3", "1", ""), ("4", "1", ""), ("5", "1", "")];
    let expected = placement(7, &plain, 3).replicas;
    let same = |change: &dyn Fn(Given<'static>) -> Given<'static>| {
        assert_eq!(placement(7, &plain.map(change), 3).replicas, expected);
    };
    same(&|(id, ..)| (id, "2.5", ""));
    same(&|(id, weight, _)| (id, weight, "all-in-one"));
    same(&|(id, weight, _)| (id, weight, id));
    // With weights that differ by little, the other code decides, and hardly anything moves.
    let nearly = placement(7, &plain.map(|(id, ..)| (id, if id == "5" { "9999.99" } else { "10000" }, "")), 3);
    let moved = slots().filter(|slot| nearly.replicas(*slot) != &expected[usize::from(slot.0) * 3..][..3]).count();
    assert!(moved < 5, "{moved} slots moved for a ten-thousandth of a percent");
}

/// With one replica the share of each node is in proportion to its weight. Chance alone moves a share of n slots by about
/// sqrt(n): here less than 4 percent of it, so that a tenth is more than two and a half times that.
#[test]
fn share_of_one_replica_is_in_proportion_to_the_weight() {
    let ids: Vec<String> = (0..16).map(|n| format!("node-{n}")).collect();
    let weights = ["0.5", "1", "2", "4"];
    let nodes: Vec<Given<'_>> = ids.iter().zip(weights.iter().cycle()).map(|(id, w)| (id.as_str(), *w, "")).collect();
    for seed in [0, 42, u32::MAX] {
        let placement = placement(seed, &nodes, 1);
        let mut of_weights = [0.0; 4];
        for (member, held) in placement.parameters().members().zip(placement.slots_held().iter().copied()) {
            let weight = f64::from(placement.parameters().site(member).weight.hundredths()) / 100.0;
            let fair = 65_536.0 * weight / 30.0;
            let held = f64::from(held);
            assert!((held - fair).abs() < fair * 0.1, "seed {seed}: weight {weight} holds {held}, {fair} is fair");
            of_weights[weights.iter().position(|w| w.parse() == Ok(weight)).unwrap()] += held;
        }
        for (weight, held) in [0.5, 1.0, 2.0, 4.0].iter().zip(of_weights) {
            let fair = 65_536.0 * 4.0 * weight / 30.0;
            assert!(
                (held - fair).abs() < fair * 0.05,
                "seed {seed}: all of weight {weight} hold {held}, {fair} is fair"
            );
        }
    }
}

/// A node holds a slot once, so that a heavy node is left out of places that its weight would give it. Of twenty nodes, ten of
/// weight 1 and ten of weight 2, the heavy ones hold 1.91 times what the light ones do (found by drawing, without hashes).
#[test]
fn share_of_three_replicas_is_nearly_in_proportion_to_the_weight() {
    let ids: Vec<String> = (0..20).map(|n| format!("node-{n}")).collect();
    let weight = |index: usize| if index.is_multiple_of(2) { "1" } else { "2" };
    let nodes: Vec<Given<'_>> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), weight(n), "")).collect();
    for seed in [0, 42, u32::MAX] {
        let placement = placement(seed, &nodes, 3);
        let of = |wanted: &str| {
            let held = placement.parameters().members().zip(placement.slots_held().iter().copied());
            let of = held.filter(|(member, _)| placement.parameters().site(*member).weight.to_string() == wanted);
            f64::from(of.map(|(_, held)| held).sum::<u32>())
        };
        let ratio = of("2") / of("1");
        assert!((ratio - 1.91).abs() < 0.03, "seed {seed}: the heavy nodes hold {ratio} times as much");
    }
}

#[test]
fn replicas_are_in_distinct_zones_where_there_are_enough() {
    assert_eq!(slots_that_share_a_zone(), 0);
}

#[cfg(feature = "mutants")]
#[test]
fn replicas_share_zones_where_these_are_ignored() {
    crate::mutants::turn_on(Some(crate::mutants::Mutant::ZonesAreIgnored));
    let sharing = slots_that_share_a_zone();
    crate::mutants::turn_on(None);
    assert!(sharing > 30_000, "the test above would notice this: {sharing}");
}

/// How many slots have two replicas in one zone, although there are four zones for three replicas.
fn slots_that_share_a_zone() -> usize {
    let nodes = [
        ("1", "1", "a"),
        ("2", "1", "a"),
        ("3", "1", "a"),
        ("4", "1", "b"),
        ("5", "1", "b"),
        ("6", "1", "c"),
        ("7", "1", "d"),
    ];
    let placement = placement(3, &nodes, 3);
    let share = |slot: &Slot| counts_of_zones(&zones(&placement, *slot)).len() < 3;
    slots().filter(share).count()
}

/// As many zones as replicas: each zone holds each slot once, so that a zone of one node holds all slots.
#[test]
fn zone_of_one_node_holds_what_a_zone_holds() {
    let nodes = [("1", "1", "a"), ("2", "3", "a"), ("3", "1", "b"), ("4", "1", "b"), ("5", "0.01", "c")];
    let held = placement(3, &nodes, 3).slots_held().to_vec();
    assert_eq!(held[4], 65_536);
    assert_eq!((held[0] + held[1], held[2] + held[3]), (65_536, 65_536));
    let (light, even) = (f64::from(held[0]), f64::from(held[2]));
    assert!((light - 16_384.0).abs() < 16_384.0 * 0.03, "a quarter of its zone: {light}");
    assert!((even - 32_768.0).abs() < 32_768.0 * 0.03, "half of its zone: {even}");
}

/// Five replicas in three zones: 2, 2 and 1, and never 3, so that the loss of a zone leaves a majority.
#[test]
fn too_few_zones_share_replicas_evenly() {
    let ids: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    let zone = |n: usize| ["a", "b", "c"][n % 3];
    let nodes: Vec<Given<'_>> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), "1", zone(n))).collect();
    let spread = placement(3, &nodes, 5);
    for slot in slots() {
        let mut counts = counts_of_zones(&zones(&spread, slot));
        counts.sort_unstable();
        assert_eq!(counts, [1, 2, 2], "{slot}");
    }
    // A zone that has no more nodes leaves the rest to the others.
    let small = [("1", "1", "a"), ("2", "1", "b"), ("3", "1", "b"), ("4", "1", "b"), ("5", "1", "b")];
    let small = placement(3, &small, 4);
    for slot in slots() {
        let mut counts = counts_of_zones(&zones(&small, slot));
        counts.sort_unstable();
        assert_eq!(counts, [1, 3], "{slot}");
    }
}

fn zones(placement: &Placement, slot: Slot) -> Vec<&str> {
    let zone = |member: &NodeIndex| placement.parameters().site(*member).zone.as_ref().map_or("", Zone::as_str);
    placement.replicas(slot).iter().map(zone).collect()
}

fn counts_of_zones(zones: &[&str]) -> Vec<usize> {
    let distinct: BTreeSet<&&str> = zones.iter().collect();
    distinct.into_iter().map(|zone| zones.iter().filter(|other| *other == zone).count()).collect()
}

/// Numbers in no order, the same in each run.
struct Draw(u64);

impl Draw {
    fn number(&mut self) -> u64 {
        self.0 += 1;
        hash_64(&self.0.to_le_bytes(), 0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).unwrap()
    }

    fn seed(&mut self) -> u32 {
        u32::try_from(self.number() >> 32).unwrap()
    }

    /// Nodes of a small cluster: weights in hundredths, and zones by number, of which 0 is none.
    fn sites(&mut self, nodes: usize) -> Vec<(u32, usize)> {
        let (has_weights, has_zones) = (self.below(2) == 0, self.below(3) > 0);
        let site = |_| {
            let weight = [100, 200, 1_000_000, u32::try_from(self.below(400)).unwrap() + 1][self.below(4)];
            let zone = self.below(4) + 1;
            (if has_weights { weight } else { 100 }, if has_zones { zone } else { 0 })
        };
        (0..nodes).map(site).collect()
    }
}

fn of_sites(seed: u32, replica_count: usize, sites: &[(u32, usize)]) -> Placement {
    let node_ids = (0..sites.len()).map(|n| NodeId::new(&format!("n{n:02}")).unwrap()).collect();
    let site = |(weight, zone): &(u32, usize)| Site {
        weight: Weight::of_hundredths(*weight).unwrap(),
        zone: (*zone > 0).then(|| Zone::new(&format!("z{zone}")).unwrap()),
    };
    let sites = sites.iter().map(site).collect();
    Placement::new(ClusterParameters { sites, ..ClusterParameters::plain(seed, replica_count, node_ids) })
}

/// The rule, word by word: all nodes sorted, without any shortcut.
fn by_the_rule(placement: &Placement, slot: Slot) -> Vec<NodeIndex> {
    let parameters = placement.parameters();
    let mut nodes: Vec<NodeIndex> = parameters.members().collect();
    let score = |member: NodeIndex| {
        let seed = hash_32(parameters.id(member).as_str().as_bytes(), parameters.seed);
        hash_64(&slot.0.to_be_bytes(), seed)
    };
    let weight = |member: NodeIndex| u128::from(parameters.site(member).weight.hundredths());
    nodes.sort_by(|a, b| {
        let (left, right) = (u128::from(cost(score(*a))) * weight(*b), u128::from(cost(score(*b))) * weight(*a));
        left.cmp(&right).then(score(*b).cmp(&score(*a))).then(b.cmp(a))
    });
    let zone = |member: NodeIndex| parameters.site(member).zone.clone();
    let ranks: Vec<usize> = (0..nodes.len())
        .map(|place| {
            let own = zone(nodes[place]);
            nodes[..place].iter().filter(|before| own.is_some() && zone(**before) == own).count()
        })
        .collect();
    let mut places: Vec<usize> = (0..nodes.len()).collect();
    places.sort_by_key(|place| (ranks[*place], *place));
    places.into_iter().take(parameters.replica_count).map(|place| nodes[place]).collect()
}

/// A few slots of all: neighbours hash apart.
fn some_slots() -> impl Iterator<Item = Slot> {
    slots().step_by(61)
}

/// Each slot's replicas differ by one at most, and where they differ, `changed` is the one that came.
fn assert_only_gained_by(changed: &str, before: &Placement, after: &Placement) {
    for slot in slots() {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (names(before, slot).into_iter().collect(), names(after, slot).into_iter().collect());
        let gained: Vec<&&str> = new.difference(&old).collect();
        assert!(gained.is_empty() || gained == [&changed], "{slot}: {new:?} from {old:?}, {after:?}");
    }
}

/// How many clusters are drawn for each rule.
const DRAWN: u64 = 30;

#[test]
fn every_slot_is_placed_by_the_rule() {
    for drawn in 0..DRAWN {
        let mut draw = Draw(drawn << 32);
        let nodes = draw.below(11) + 1;
        let count = (draw.below(6) + 1).min(nodes);
        let placement = of_sites(draw.seed(), count, &draw.sites(nodes));
        for slot in some_slots() {
            assert_eq!(placement.replicas(slot), by_the_rule(&placement, slot), "{slot} of {placement:?}");
        }
    }
}

#[test]
fn added_node_is_the_only_one_that_gains() {
    for drawn in 0..DRAWN {
        let mut draw = Draw(drawn << 32);
        let nodes = draw.below(10) + 2;
        let (seed, count, sites) = (draw.seed(), (draw.below(6) + 1).min(nodes - 1), draw.sites(nodes));
        let added = format!("n{:02}", nodes - 1);
        let before = of_sites(seed, count, &sites[..nodes - 1]);
        assert_only_gained_by(&added, &before, &of_sites(seed, count, &sites));
    }
}

#[test]
fn heavier_node_is_the_only_one_that_gains() {
    for drawn in 0..DRAWN {
        let mut draw = Draw(drawn << 32);
        let nodes = draw.below(10) + 2;
        let (seed, count, sites) = (draw.seed(), (draw.below(6) + 1).min(nodes), draw.sites(nodes));
        let mut heavier = sites.clone();
        let more = u32::try_from(draw.below(1_000) + 1).unwrap();
        heavier[0].0 = (heavier[0].0 + more).min(Weight::MAX.hundredths());
        assert_only_gained_by("n00", &of_sites(seed, count, &sites), &of_sites(seed, count, &heavier));
    }
}

/// Node 4 of zone b joins five others: it takes a third of its zone's half, and nothing else moves.
#[test]
fn node_that_joins_a_zone_takes_its_share_of_the_zone() {
    let before = [("1", "1", "a"), ("2", "1", "a"), ("3", "1", "a"), ("5", "1", "b"), ("6", "1", "b")];
    let mut after = before.to_vec();
    after.push(("4", "1", "b"));
    let (before, after) = (placement(9, &before, 2), placement(9, &after, 2));
    let gained = after.slots_held()[3];
    assert!((f64::from(gained) - 65_536.0 / 3.0).abs() < 65_536.0 / 3.0 * 0.03, "{gained} slots");
    let moved = slots().filter(|slot| names(&before, *slot) != names(&after, *slot)).count();
    assert_eq!(moved, gained as usize, "each slot that moves, moves to the new node");
    for slot in slots() {
        let of_a = |placement: &Placement| names(placement, slot).into_iter().find(|id| *id < "4").map(str::to_owned);
        assert_eq!(of_a(&before), of_a(&after), "{slot}: nothing moves in the other zone");
    }
}

#[test]
fn nodes_that_share_a_hash_are_distinct_replicas_with_weights_too() {
    let (one, other) = colliding_ids();
    for weight in ["1", "3"] {
        let placement = placement(0, &[(&one, "1", ""), (&other, weight, ""), ("third", "2", "")], 2);
        for slot in slots() {
            let replicas = placement.replicas(slot);
            assert_ne!(replicas[0], replicas[1]);
        }
    }
}
