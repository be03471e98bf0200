//! What `deploy/` holds fits the program: names of metrics, configuration files, and rules with their own tests.
//!
//! deploy/README.md names the checks that need programs which are not on every machine.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;
use testkit::cluster::{Cluster, Plan, START_TIME_MAX, poll, write};
use testkit::{process, tools};

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of metrics in a text of queries, without what Prometheus adds to histograms.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("quorate_") && !word.ends_with('_'));
    let base = |name: &str| {
        let stripped = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        stripped.unwrap_or(name).to_owned()
    };
    names.map(base).collect()
}

#[tokio::test]
async fn rules_and_dashboard_name_metrics_that_exist() {
    let cluster = Cluster::start().await;
    // A metric with labels has a name once something was counted.
    cluster.client().set("k", "v").await.unwrap();
    let page = poll("the node to compare itself with others", START_TIME_MAX, async || {
        let page = cluster.nodes[0].metrics_page(Duration::from_secs(5)).await?;
        if page.contains("quorate_repair_equal_age_seconds{") { Ok(page) } else { Err(page) }
    })
    .await;
    let known: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let dashboard: Json = serde_json::from_str(&read("deploy/grafana/quorate.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().expect("a target has a query"))
        .collect();
    let queries = queries.join("\n");
    assert!(queries.lines().count() > 20, "the dashboard has few queries: {queries}");
    for (file, text) in [
        ("deploy/prometheus/alerts.yml", read("deploy/prometheus/alerts.yml")),
        ("deploy/prometheus/alerts_test.yml", read("deploy/prometheus/alerts_test.yml")),
        ("deploy/grafana/quorate.json", queries),
        ("the variables of deploy/grafana/quorate.json", dashboard["templating"].to_string()),
    ] {
        let names = metrics_in(&text);
        assert!(!names.is_empty(), "{file} names no metric");
        for name in names {
            let known = known.contains(name.as_str()) || known.contains(name.trim_end_matches("_total"));
            assert!(known, "{file} names {name}, which no node has");
        }
    }
}

#[test]
fn each_rule_has_a_test_and_passes_it() {
    let rules = read("deploy/prometheus/alerts.yml");
    let tests = read("deploy/prometheus/alerts_test.yml");
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let fires = tests
            .split("eval_time")
            .any(|test| test.contains(&format!("alertname: {name}\n")) && test.contains("exp_alerts:"));
        assert!(fires, "no test lets {name} fire");
    }
    let Some(path) = tools::find(&["promtool"]) else { return };
    for arguments in ["check rules alerts.yml", "test rules alerts_test.yml"] {
        let output = Command::new("bash")
            .args(["-c", &format!("exec promtool {arguments}")])
            .current_dir("deploy/prometheus")
            .env("PATH", &path)
            .output()
            .expect("bash runs");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "promtool {arguments}: {said}");
    }
}

/// The files of a ConfigMap in a manifest, which stand below `name: |`, indented by four spaces.
fn file_in_manifest(manifest: &str, name: &str) -> String {
    let (_, rest) = manifest.split_once(&format!("\n  {name}: |\n")).unwrap_or_else(|| panic!("no {name}"));
    let lines = rest.lines().take_while(|line| line.starts_with("    "));
    lines.flat_map(|line| [&line[4..], "\n"]).collect()
}

#[test]
fn configuration_files_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = read("deploy/kubernetes/quorate.yml");
    let compose = read("deploy/docker/compose.yml");
    for (what, node, cluster, ids) in [
        ("docker", read("deploy/docker/node.yml"), read("deploy/docker/cluster.yml"), ["1", "2", "3"]),
        (
            "kubernetes",
            file_in_manifest(&manifest, "node.yml"),
            file_in_manifest(&manifest, "cluster.yml"),
            ["quorate-0", "quorate-1", "quorate-2"],
        ),
        // Pods that come later are not listed, and add themselves.
        (
            "scaled",
            file_in_manifest(&manifest, "node.yml"),
            file_in_manifest(&manifest, "cluster.yml"),
            ["quorate-3", "quorate-4", "quorate-12"],
        ),
        ("debian", read("deploy/debian/node.yml"), read("deploy/debian/cluster.yml"), ["1", "1", "1"]),
    ] {
        for id in ids {
            // A variable replaces the id, as the files say.
            let node = node.replace("QUORATE_NODE_ID-is-not-set", id);
            let (node_file, cluster_file) = (folder.path().join("node.yml"), folder.path().join("cluster.yml"));
            write(&node_file, &node);
            write(&cluster_file, &cluster);
            let mut check = process::command();
            check.args(["config", "check"]).args([&node_file, &cluster_file]);
            if what == "docker" {
                let refused = check.output().unwrap();
                assert_eq!(refused.status.code(), Some(2), "the image alone takes no plain text: {refused:?}");
                let given = format!("{{ QUORATE_NODE_ID: \"{id}\", QUORATE_NODE_INSECURE: \"true\" }}");
                assert!(compose.contains(&given), "{given}");
                // The check does not look at variables.
                write(&node_file, &(node + "  insecure: true\n"));
            }
            let output = check.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("remark"), "{what}: {said}");
        }
    }
}

/// The night's backup has arguments that the program takes, and asks for the credentials that its Secret gives.
#[test]
fn backup_of_kubernetes_is_a_command_that_wants_a_bucket() {
    let manifest = read("deploy/kubernetes/backup.yml");
    let (_, arguments) = manifest.split_once("args: [").expect("it has arguments");
    let arguments = arguments.split_once(']').expect("they end").0.replace("$(BACKUP_NAME)", "job-1");
    let arguments: Vec<&str> = arguments.split(", ").map(|word| word.trim_matches('"')).collect();
    let mut command = process::command();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    let output = command.env("QUORATE_ADDRESS", "127.0.0.1:1").args(&arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        assert!(said.contains(name) && manifest.contains(&format!("  {name}: ")), "{name}: {said}");
    }
    assert!(said.contains("s3://backups/quorate/job-1"), "{said}");
}

/// Whether a container is healthy follows from the node's answer alone.
#[tokio::test]
async fn health_check_of_the_image_asks_the_node() {
    let mut cluster =
        Cluster::start_as(&Plan { ids: vec!["1"], replica_count: 1, memory: true, ..Plan::default() }).await;
    let port = cluster.nodes[0].metrics_port;
    let healthy = || {
        let script = Path::new("deploy/docker/healthy");
        let output = Command::new("bash").arg(script).arg(port.to_string()).output().expect("bash runs");
        output.status.success()
    };
    assert!(healthy());
    cluster.nodes[0].kill();
    assert!(!healthy());
}
