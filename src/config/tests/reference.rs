//! The reference of all keys says what the parser does.

use std::path::Path;

use super::{cluster, node, node_with};
use crate::config::reference;

#[test]
fn committed_reference_is_the_printed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let committed = std::fs::read_to_string(path).expect("docs/configuration.md");
    assert_eq!(committed, reference(), "run `quorate config reference > docs/configuration.md`");
}

/// The text of each YAML block of the reference.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("a block ends")).collect()
}

#[test]
fn reference_has_every_key_and_its_examples_are_accepted() {
    let page = reference();
    let [node_file, cluster_file] = blocks(&page)[..] else { panic!("one example of each file") };
    let config = node(node_file).expect("the node's example");
    assert_eq!(cluster(cluster_file).expect("the cluster's example").addresses.len(), 3);
    // The error for an unknown key names every key that the parser accepts.
    for (error, above) in [
        (node(&format!("{node_file}  zzz: 1\n")).unwrap_err().to_string(), "node"),
        (cluster(&format!("{cluster_file}  zzz: 1\n")).unwrap_err().to_string(), "cluster"),
    ] {
        let (_, keys) = error.split_once("accepted are ").expect("the keys");
        for key in keys.split(", ") {
            assert!(page.contains(&format!("\n### {above}.{key}\n")), "{above}.{key}");
            assert!(page.contains(&format!("\n| `{key}` | ")), "{above}.{key}");
        }
    }
    // Each default, given as the page has it, changes nothing.
    let rows: Vec<Vec<&str>> =
        page.lines().filter(|line| line.starts_with("| `") && line.contains("QUORATE")).map(cells).collect();
    assert_eq!(rows.len(), 42);
    let mut defaults = 0;
    for row in rows.iter().filter(|row| row[2] != "must be given" && !row[2].starts_with("no ")) {
        let value = row[2].trim_matches('`').split(' ').next().expect("a default");
        let given = format!("{node_file}  {}: {value}\n", row[0].trim_matches('`'));
        assert_eq!(node(&given).expect(&given), config);
        let variable = [(row[3].trim_matches('`'), value)];
        assert_eq!(node_with(node_file, &variable).expect(value), config);
        defaults += 1;
    }
    assert_eq!(defaults, 22);
}

/// The cells of a row of a Markdown table.
fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}
