//! How evenly nodes share the slots, and how many replicas move when a node joins or leaves.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Table, presets};
use quorate::protocol::placement::Placement;
use quorate::types::{NodeId, Slot};
use serde_json::{Value as Json, json};

use crate::picture::{Axis, Panel, Series};
use crate::testkit::data::{node_id, parameters};
use crate::{draw, leave};

/// Share of slots, and slots that move, for clusters of several sizes
#[derive(Debug, Args)]
pub struct Plan {
    /// How many nodes
    #[arg(long, value_delimiter = ',', default_value = "3,10,100,300,1000")]
    nodes: Vec<usize>,
    /// How many nodes hold each slot
    #[arg(long, default_value_t = 3)]
    replica_count: usize,
    /// How many seeds each size is tried with
    #[arg(long, default_value_t = 5)]
    seeds: u32,
}

/// The results for one number of nodes, over all seeds.
struct Found {
    nodes: usize,
    /// The shortest of all seeds: other work of the machine only lengthens it.
    build_time: Duration,
    table_bytes: usize,
    /// The replicas that each node holds, as a part of its fair share, ascending. Of the first seed.
    shares: Vec<f64>,
    /// The greatest and the least share of all seeds.
    fullest: f64,
    emptiest: f64,
    joins: Moves,
    /// None for the smallest cluster: one node fewer could not hold all replicas.
    leaves: Option<Moves>,
}

/// Replicas that move, the mean of all seeds.
#[derive(Default)]
struct Moves {
    moved: f64,
    /// The least that must move: all replicas of the node that joins or leaves.
    least: f64,
    /// The fair share of a node of the larger cluster.
    fair: f64,
}

pub fn run(plan: &Plan, output: &Path) -> ExitCode {
    let found: Vec<Found> = plan.nodes.iter().map(|nodes| find(*nodes, plan)).collect();
    println!("{}", table(&found));
    let json = json!({
        "replica_count": plan.replica_count,
        "seeds": plan.seeds,
        "clusters": found.iter().map(Found::json).collect::<Vec<_>>(),
    });
    leave(&output.join("placement.json"), &format!("{json:#}\n"));
    draw_all(&found, &output.join("placement.svg"));
    ExitCode::SUCCESS
}

fn find(nodes: usize, plan: &Plan) -> Found {
    let count = plan.replica_count;
    let places = (Slot::COUNT * count) as f64;
    let mut found = Found {
        nodes,
        build_time: Duration::MAX,
        table_bytes: 0,
        shares: Vec::new(),
        fullest: 0.0,
        emptiest: f64::MAX,
        joins: Moves::default(),
        leaves: (nodes > count).then(Moves::default),
    };
    for seed in 0..plan.seeds {
        let began = Instant::now();
        let placement = Placement::new(parameters(nodes, count, seed));
        found.build_time = found.build_time.min(began.elapsed());
        found.table_bytes = Slot::COUNT * size_of_val(placement.replicas(Slot(0)));
        let fair = places / nodes as f64;
        let mut shares: Vec<f64> = placement.slots_held().iter().map(|held| f64::from(*held) / fair).collect();
        shares.sort_by(f64::total_cmp);
        found.emptiest = found.emptiest.min(shares[0]);
        found.fullest = found.fullest.max(shares[nodes - 1]);
        if found.shares.is_empty() {
            found.shares = shares;
        }

        let part = 1.0 / f64::from(plan.seeds);
        let joined = Placement::new(parameters(nodes + 1, count, seed));
        found.joins.add(part, &placement, &joined, &newest(nodes + 1), places / (nodes + 1) as f64);
        if let Some(leaves) = &mut found.leaves {
            let left = Placement::new(parameters(nodes - 1, count, seed));
            leaves.add(part, &left, &placement, &newest(nodes), fair);
        }
    }
    found
}

/// The node that a cluster of `nodes` has and a cluster of one fewer has not.
fn newest(nodes: usize) -> NodeId {
    node_id(&format!("node-{nodes}"))
}

impl Moves {
    /// Counts the replicas that differ between the tables of two clusters: each of them moves in a change from one to
    /// the other.
    fn add(&mut self, part: f64, smaller: &Placement, larger: &Placement, newest: &NodeId, fair: f64) {
        let newest = larger.parameters().member(newest).expect("it is in the larger cluster alone");
        let mut moved = 0;
        for slot in (0..=u16::MAX).map(Slot) {
            let before: Vec<&NodeId> =
                smaller.replicas(slot).iter().map(|member| smaller.parameters().id(*member)).collect();
            let gains = |member: &&quorate::types::NodeIndex| !before.contains(&larger.parameters().id(**member));
            moved += larger.replicas(slot).iter().filter(gains).count();
        }
        self.moved += part * moved as f64;
        self.least += part * f64::from(larger.slots_held()[newest.index()]);
        self.fair += part * fair;
    }

    fn json(&self) -> Json {
        json!({ "places_moved": self.moved, "places_moved_least": self.least, "fair_share": self.fair })
    }
}

impl Found {
    fn json(&self) -> Json {
        json!({
            "nodes": self.nodes,
            "build_ms": self.build_time.as_secs_f64() * 1e3,
            "table_bytes": self.table_bytes,
            "fullest_share": self.fullest,
            "emptiest_share": self.emptiest,
            "join": self.joins.json(),
            "leave": self.leaves.as_ref().map(Moves::json),
        })
    }
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "nodes",
        "build",
        "table",
        "emptiest node",
        "fullest node",
        "replicas moved by a join (least)",
        "by a leave (least)",
    ]);
    for found in found {
        let moves = |moves: &Moves| format!("{:.0} ({:.0})", moves.moved, moves.least);
        table.add_row([
            found.nodes.to_string(),
            format!("{:.1} ms", found.build_time.as_secs_f64() * 1e3),
            format!("{} KiB", found.table_bytes >> 10),
            format!("{:.3} of its share", found.emptiest),
            format!("{:.3} of its share", found.fullest),
            moves(&found.joins),
            found.leaves.as_ref().map_or_else(|| "-".to_owned(), moves),
        ]);
    }
    table
}

fn draw_all(found: &[Found], path: &Path) {
    let shares = found.iter().filter(|found| found.nodes > 1).map(|found| {
        let last = (found.nodes - 1) as f64;
        let points = found.shares.iter().enumerate().map(|(rank, share)| (100.0 * rank as f64 / last, *share));
        Series::new(format!("{} nodes", found.nodes), points)
    });
    let moved = |name: &str, of: fn(&Found) -> Option<&Moves>| {
        let part = |found: &Found| of(found).map(|moves| (found.nodes as f64, moves.moved / moves.fair));
        Series::new(name, found.iter().filter_map(part))
    };
    let builds = found.iter().map(|found| (found.nodes as f64, found.build_time.as_secs_f64() * 1e3));
    let nodes = Axis::log("nodes", found.iter().map(|found| found.nodes as f64).collect());
    let panels = [
        Panel {
            title: "What each node holds: 1 is its fair share of the slots (seed 0)".to_owned(),
            x: Axis::up_to("nodes, from the emptiest to the fullest (%)", 100.0),
            y: Axis::at("share / fair share", tenths(found)),
            series: shares.collect(),
        },
        Panel {
            title: "Replicas that move when one node joins or leaves: 1 is one fair share".to_owned(),
            x: nodes.clone(),
            y: Axis::linear("replicas moved / fair share"),
            series: vec![
                moved("one joins", |found| Some(&found.joins)),
                moved("one leaves", |found| found.leaves.as_ref()),
            ],
        },
        Panel {
            title: "Time to compute the table, once at each start, on one processor".to_owned(),
            x: nodes,
            y: Axis::log("ms", Vec::new()),
            series: vec![Series::new("shortest of all seeds", builds)],
        },
    ];
    draw(path, &panels);
}

/// Ticks at every tenth, from the least share to the greatest.
fn tenths(found: &[Found]) -> Vec<f64> {
    let least = found.iter().map(|found| found.emptiest).fold(1.0, f64::min);
    let greatest = found.iter().map(|found| found.fullest).fold(1.0, f64::max);
    let ticks = (0_u32..).map(|tick| f64::from(tick) / 10.0).skip_while(|tick| tick + 0.1 <= least);
    ticks.take_while(|tick| tick - 0.1 < greatest).collect()
}
