//! The report: printed line by line, and written as Markdown with pictures beside it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Effort;
use crate::picture::{self, Panel};

/// A figure that has a goal.
#[derive(Debug)]
pub struct Row {
    /// The workload and what is measured of it.
    pub what: String,
    /// The figure that was measured.
    pub figure: String,
    /// The no-op server's figure; empty where nothing is compared.
    pub noop: String,
    /// The cluster's figure as a part or multiple of it.
    pub ratio: String,
    /// The goal.
    pub goal: Goal,
}

/// A goal, and whether it was reached.
#[derive(Debug)]
pub struct Goal {
    text: String,
    reached: bool,
}

impl Goal {
    /// Reached where `seen` is not below `limit`.
    pub fn at_least(text: &str, limit: f64, seen: f64) -> Self {
        Self { text: format!("≥ {text}"), reached: seen >= limit }
    }

    /// Reached where `seen` is not above `limit`.
    pub fn at_most(text: &str, limit: f64, seen: f64) -> Self {
        Self { text: format!("≤ {text}"), reached: seen <= limit }
    }

    fn verdict(&self) -> &'static str {
        if self.reached { "reached" } else { "not reached" }
    }
}

/// The mean cost of one operation.
#[derive(Debug)]
pub struct Cost {
    /// The workload.
    pub what: String,
    /// How many operations were answered.
    pub operations: u64,
    /// CPU time of all nodes, in microseconds.
    pub cpu_us: f64,
    /// CPU time of the generator, in microseconds.
    pub generator_cpu_us: f64,
    /// Protocol messages between nodes.
    pub messages: f64,
    /// gRPC messages that carried these.
    pub link_batches: f64,
    /// Syncs of a log, over all nodes.
    pub fsyncs: f64,
    /// Records in one batch of the store.
    pub records_per_batch: f64,
    /// Writes that shared one clock round.
    pub writes_per_clock_round: f64,
}

/// A table of a sweep.
#[derive(Debug)]
pub struct Table {
    title: String,
    about: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    said: Vec<String>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, about: &str, header: &[&str]) -> Self {
        println!("\n{title}: {}", header.join(" | "));
        let header = header.iter().map(|cell| (*cell).to_owned()).collect();
        Self { title: title.into(), about: about.into(), header, rows: Vec::new(), said: Vec::new() }
    }

    /// Adds a row, and prints it.
    pub fn add<const N: usize>(&mut self, row: [String; N]) {
        assert_eq!(N, self.header.len(), "a row of {} has as many cells as its header", self.title);
        println!("  {}", row.join(" | "));
        self.rows.push(row.into());
    }

    /// Adds a sentence below the table, and prints it.
    pub fn say(&mut self, sentence: &str) {
        println!("  {sentence}");
        self.said.push(sentence.into());
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    machine: Vec<(&'static str, String)>,
    effort: Effort,
    rows: Vec<Row>,
    costs: Vec<Cost>,
    tables: Vec<Table>,
    pictures: Vec<(&'static str, Vec<Panel>)>,
    peaks: BTreeMap<&'static str, f64>,
}

/// The warning on a quick run.
const SMOKE: &str = "SMOKE RUN (QUICK=1): this shows that the report can be made. Its rows are too short to quote.";

impl Report {
    /// A report without figures. Prints the machine.
    pub fn new(machine: Vec<(&'static str, String)>, effort: Effort) -> Self {
        if effort.quick {
            println!("{SMOKE}");
        }
        for (name, value) in &machine {
            println!("{name}: {value}");
        }
        println!();
        let (rows, costs, tables) = (Vec::new(), Vec::new(), Vec::new());
        Self { machine, effort, rows, costs, tables, pictures: Vec::new(), peaks: BTreeMap::new() }
    }

    /// Adds a figure, and prints it.
    pub fn add_row(&mut self, row: Row) {
        let noop =
            if row.noop.is_empty() { String::new() } else { format!("; no-op {}, ratio {}", row.noop, row.ratio) };
        println!("{}: {}{noop}; goal {}: {}", row.what, row.figure, row.goal.text, row.goal.verdict());
        self.rows.push(row);
    }

    /// Adds the cost of an operation, and prints it.
    pub fn add_cost(&mut self, cost: Cost) {
        println!(
            "  per operation: {:.0} µs of the nodes' CPU time, {:.0} µs of the generator's, {:.2} messages, {:.3} fsyncs",
            cost.cpu_us, cost.generator_cpu_us, cost.messages, cost.fsyncs
        );
        self.costs.push(cost);
    }

    /// Adds a table.
    pub fn add_table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a picture of one or more panels, side by side.
    pub fn add_picture(&mut self, name: &'static str, panels: Vec<Panel>) {
        self.pictures.push((name, panels));
    }

    /// Keeps the greatest throughput of a kind of operation.
    pub fn set_peak(&mut self, kind: &'static str, per_second: f64) {
        self.peaks.insert(kind, per_second);
    }

    /// The greatest throughput of a kind of operation.
    pub fn peak(&self, kind: &str) -> f64 {
        self.peaks.get(kind).copied().unwrap_or_default()
    }

    /// Writes it and its pictures into `folder`. Returns the page's path.
    pub fn write(&self, folder: &Path, took: Duration) -> Result<PathBuf, Box<dyn Error>> {
        for (name, panels) in &self.pictures {
            picture::draw(&folder.join(format!("{name}.svg")), panels.len(), panels)?;
        }
        let page = folder.join("report.md");
        fs::write(&page, self.as_markdown(took))?;
        Ok(page)
    }

    fn as_markdown(&self, took: Duration) -> String {
        let mut text = String::from("# How fast Quorate is here\n\n");
        let Effort { row, long_row, baseline, point, keys, quick, .. } = &self.effort;
        if *quick {
            let _ = writeln!(text, "**{SMOKE}**\n");
        }
        for (name, value) in &self.machine {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let _ = writeln!(
            text,
            "\nMade by `make bench` in {} s. Nodes are `quorate serve` processes in their default configuration with \
             durability fsync, with three replicas of each key. Nodes, generator (`quorate bench`) and no-op server share \
             this machine. Each row measures {} s ({} s with five nodes) after a warm-up. The no-op server (`quorate bench \
             --target noop`) gets the same workload over as many connections, for {} s before and after; its figure is \
             the mean of both. Keys are drawn evenly from {keys}. Each point of a sweep measures {} s. The load of \
             BatchWrite comes from the measuring process itself.\n",
            took.as_secs(),
            row.as_secs(),
            long_row.as_secs(),
            baseline.as_secs(),
            point.as_secs(),
        );
        if long_row.as_secs() < 60 {
            let _ =
                writeln!(text, "The row with five nodes is meant to measure 60 s; SECONDS or QUICK made it shorter.\n");
        }
        text.push_str("## Goals\n\nThey are meant for a machine with two processor cores.\n\n");
        let cells = |row: &Row| {
            let Row { what, figure, noop, ratio, goal } = row;
            vec![what.clone(), figure.clone(), noop.clone(), ratio.clone(), goal.text.clone(), goal.verdict().into()]
        };
        let header = ["what", "figure", "no-op server", "ratio", "goal", ""];
        add_table(&mut text, &header, self.rows.iter().map(cells));
        text.push_str("\n## What an operation costs\n\nOver all nodes together.\n\n");
        let number = |number: f64, digits: usize| {
            if number.is_finite() { format!("{number:.digits$}") } else { String::new() }
        };
        let cells = |cost: &Cost| {
            vec![
                cost.what.clone(),
                cost.operations.to_string(),
                number(cost.cpu_us, 0),
                number(cost.generator_cpu_us, 0),
                number(cost.messages, 2),
                number(cost.link_batches, 2),
                number(cost.fsyncs, 3),
                number(cost.records_per_batch, 1),
                number(cost.writes_per_clock_round, 1),
            ]
        };
        let header = [
            "workload",
            "operations",
            "CPU µs of the nodes",
            "CPU µs of the generator",
            "messages",
            "gRPC messages",
            "fsyncs",
            "records per batch on disk",
            "writes per clock round",
        ];
        add_table(&mut text, &header, self.costs.iter().map(cells));
        for table in &self.tables {
            let _ = writeln!(text, "\n## {}\n\n{}\n", table.title, table.about);
            let header: Vec<&str> = table.header.iter().map(String::as_str).collect();
            add_table(&mut text, &header, table.rows.iter().cloned());
            for sentence in &table.said {
                let _ = writeln!(text, "\n{sentence}");
            }
        }
        text.push_str("\n## Pictures\n\n");
        for (name, panels) in &self.pictures {
            let _ = writeln!(text, "![{}]({name}.svg)\n", panels.first().map_or("", |panel| &panel.title));
        }
        text
    }
}

fn add_table(text: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    text.push_str(&line(&header));
    text.push_str(&line(&vec!["---".to_owned(); header.len()]));
    for row in rows {
        text.push_str(&line(&row));
    }
}
