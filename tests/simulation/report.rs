//! What is left of a seed that failed, under target/simulation/: every event of its run, and a space-time diagram of
//! the messages that led there. People look rather than read.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::judge::trace_of;
use crate::trace::{Arrow, Trace};

/// How many messages a diagram shows: the last ones before the end of what is judged.
const ARROWS_MAX: usize = 150;
const LANE: u64 = 230;
const ROW: u64 = 22;
const TOP: u64 = 60;

/// Runs `seed` again and writes down what happens; of messages about keys, the diagram shows those about `key` alone,
/// sent from `from` to `to`.
pub fn write(seed: u64, title: &str, key: Option<&str>, (from, to): (u64, u64)) {
    let trace = trace_of(seed);
    let mut text = String::new();
    for line in &trace.lines {
        let _ = writeln!(text, "{line}");
    }
    save(&format!("seed-{seed}.log"), &text);
    save(&format!("seed-{seed}.svg"), &diagram(&trace, &format!("seed {seed}: {title}"), key, (from, to)));
}

/// Time runs down, one row for each sending or arrival: true spans would leave most of the picture empty.
fn diagram(trace: &Trace, title: &str, key: Option<&str>, (from, to): (u64, u64)) -> String {
    let belongs = |arrow: &&Arrow| {
        let about =
            arrow.key.as_ref().map_or(arrow.is_about_clocks, |about| key.is_none_or(|key| about.as_str() == key));
        about && (from..=to).contains(&arrow.at)
    };
    let mut arrows: Vec<&Arrow> = trace.arrows.iter().filter(belongs).collect();
    arrows.drain(..arrows.len().saturating_sub(ARROWS_MAX));
    let mut moments: Vec<u64> = arrows.iter().flat_map(|arrow| [Some(arrow.at), arrow.arrives]).flatten().collect();
    moments.sort_unstable();
    moments.dedup();
    let row = |at: u64| TOP + ROW * (moments.partition_point(|moment| *moment < at) as u64 + 1);
    let nodes = arrows.iter().map(|arrow| arrow.from.0.max(arrow.to.0) + 1).max().unwrap_or(1);
    let lane = |node: u16| 130 + LANE * u64::from(node);
    let (width, height) = (lane(nodes) + 60, TOP + ROW * (moments.len() as u64 + 3));

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"18\" \
         font-size=\"13\">{}</text>\n<defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"3\" \
         orient=\"auto\"><path d=\"M0,0 L7,3 L0,6 z\"/></marker></defs>\n",
        escaped(title)
    );
    for node in 0..nodes {
        let x = lane(node);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-size=\"13\">node {}</text>\n\
             <line x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{}\" stroke=\"#999\"/>",
            TOP - 12,
            node + 1,
            height - ROW
        );
    }
    for moment in &moments {
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\" fill=\"#666\">{moment} us</text>", row(*moment) + 4);
    }
    for arrow in arrows {
        let (x1, y1) = (lane(arrow.from.0), row(arrow.at));
        let (x2, y2) =
            arrow.arrives.map_or((u64::midpoint(x1, lane(arrow.to.0)), y1 + ROW / 2), |at| (lane(arrow.to.0), row(at)));
        let (colour, tip) = if arrow.arrives.is_some() { ("#036", "url(#tip)") } else { ("#c00", "none") };
        let lost = if arrow.arrives.is_some() { "" } else { " (lost)" };
        // At its tip: what one node sends at once to several would lie on top of each other at its origin.
        let (x, anchor) = if x2 > x1 { (x2 - 8, "end") } else { (x2 + 8, "start") };
        let _ = writeln!(
            svg,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{colour}\" marker-end=\"{tip}\"/>\n\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}{lost}</text>",
            y2 - 4,
            escaped(&arrow.label)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn save(name: &str, text: &str) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = target.join("simulation");
    let path = folder.join(name);
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text)) {
        Ok(()) => println!("  see {}", path.display()),
        Err(error) => println!("  {} could not be written: {error}", path.display()),
    }
}
