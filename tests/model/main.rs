//! Header to come.
mod machine;
mod marks;
mod register;
mod shared;
mod world;

use std::time::Instant;

use register::Operation::{Delete, Read, Write};
use stateright::{Checker, HasDiscoveries, Model};
use world::{Faults, Grain, World};

fn models() -> Vec<World> {
    let none = Faults::default();
    let re = |restarts: [u8; 3], restarts_of_all| Faults { restarts, restarts_of_all, ..Faults::default() };
    let w = |n: usize, v: u8| (n, Write(v));
    let r = |n: usize| (n, Read);
    let d = |n: usize| (n, Delete);
    let hs = Grain { handshake_of: Some(quorate::types::Member(0)), ..Grain::default() };
    vec![
        World::new("a w0|r1r2", vec![vec![w(0, 1)], vec![r(1), r(2)]]),
        World::new("b w0|w1r2", vec![vec![w(0, 1)], vec![w(1, 2), r(2)]]),
        World::new("c w0d1|r2", vec![vec![w(0, 1), d(1)], vec![r(2)]]),
        World::new("d w0|d1|r2", vec![vec![w(0, 1)], vec![d(1)], vec![r(2)]]),
        World::new("e w0|w1w0r1", vec![vec![w(0, 1)], vec![w(1, 3), w(0, 2), r(1)]]),
        World::new("f w0|r1r2 x1", vec![vec![w(0, 1)], vec![r(1), r(2)]]).with(Faults { repeats: 1, ..none }),
        World::new("f w0|w1 x1", vec![vec![w(0, 1)], vec![w(1, 2)]]).with(Faults { repeats: 1, ..none }),
        World::new("f w0|r1 x2", vec![vec![w(0, 1)], vec![r(1)]]).with(Faults { repeats: 2, ..none }),
        World::new("g w0|r1 a2", vec![vec![w(0, 1)], vec![r(1)]]).with(Faults { alarms: 2, ..none }),
        World::new("h w0w0 c0x2", vec![vec![w(0, 1), w(0, 2)]]).with(re([2, 0, 0], 2)),
        World::new("h w0w0r1 c0", vec![vec![w(0, 1), w(0, 2), r(1)]]).with(re([1, 0, 0], 1)),
        World::new("h w0r2 c111", vec![vec![w(0, 1), r(2)]]).with(re([1, 1, 1], 1)),
        World::new("h w0r2 c111x2", vec![vec![w(0, 1), r(2)]]).with(re([1, 1, 1], 2)),
        World::new("h w0|r2 c111", vec![vec![w(0, 1)], vec![r(2)]]).with(re([1, 1, 1], 1)),
        World::new("i w0|r1r2 loads,land", vec![vec![w(0, 1)], vec![r(1), r(2)]]).grained(Grain {
            loads: true,
            landing: true,
            ..Grain::default()
        }),
        World::new("i w0|w1 loads,land", vec![vec![w(0, 1)], vec![w(1, 2)]]).grained(Grain {
            loads: true,
            landing: true,
            ..Grain::default()
        }),
        World::new("j w0w1r2 fail", vec![vec![w(0, 1), w(1, 2), r(2)]]).with(Faults { failures: 1, ..none }),
        World::new("j w0|r1r2 fail", vec![vec![w(0, 1)], vec![r(1), r(2)]]).with(Faults { failures: 1, ..none }),
        World::new("k w0w0r1 part", vec![vec![w(0, 1), w(0, 2), r(1)]]).with(Faults { partings: 1, ..none }),
        World::new("k w0w1r2r0 part2", vec![vec![w(0, 1), w(1, 2), r(2), r(0)]]).with(Faults { partings: 2, ..none }),
        World::new("l hs0", vec![]).grained(hs).unmet(),
        World::new("l hs0 c0", vec![]).grained(hs).unmet().with(re([1, 0, 0], 1)),
        World::new("m met hs0 c0", vec![]).grained(hs).with(re([2, 0, 0], 2)),
        World::new("m met hs0 loss", vec![vec![w(0, 1), r(2)]]).grained(hs).with(Faults {
            restarts: [1, 0, 0],
            restarts_of_all: 1,
            losses: 1,
            ..none
        }),
        World::new("n met loss", vec![vec![w(0, 1), r(2)]]).with(Faults { losses: 1, ..none }),
        World::new("n met copy", vec![vec![w(0, 1), r(2)]]).with(Faults {
            restarts: [1, 0, 0],
            restarts_of_all: 1,
            losses: 1,
            ..none
        }),
    ]
}

#[test]
#[ignore]
fn mutant() {
    for world in models() {
        let name = world.name;
        let checker = world
            .checker()
            .threads(1)
            .finish_when(HasDiscoveries::AnyFailures)
            .target_state_count(1_000_000)
            .spawn_bfs()
            .join();
        let discoveries = checker.discoveries();
        let failed: Vec<_> = discoveries.keys().filter(|k| !k.starts_with("a read")).collect();
        if !failed.is_empty() {
            println!(
                "mutant {:?} found by {name} after {} {failed:?}",
                std::env::var("QM"),
                checker.unique_state_count()
            );
            return;
        }
    }
    println!("mutant {:?} NOT FOUND", std::env::var("QM"));
}

#[test]
fn explore() {
    for world in models() {
        let began = Instant::now();
        let name = world.name;
        if std::env::var("ONLY").is_ok_and(|only| !name.contains(&only)) {
            continue;
        }
        let checker = world
            .checker()
            .threads(1)
            .finish_when(HasDiscoveries::AnyFailures)
            .target_state_count(4_000_000)
            .spawn_bfs()
            .join();
        println!(
            "{name:20} unique {:9} generated {:9} depth {:3} {:6.1}s memo {} {:?}",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            began.elapsed().as_secs_f64(),
            0,
            checker.discoveries().keys().collect::<Vec<_>>(),
        );
    }
}
