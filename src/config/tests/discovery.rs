//! Nodes that the file does not list, under `discovery: dns`.

use super::{NODE, assert_refused, cluster, environment, file, id};
use crate::config::{ClusterConfig, Config, Discovery, check};

/// A cluster whose nodes have these ids and addresses.
fn file_of(discovery: &str, nodes: &[(&str, &str)]) -> String {
    let lines = nodes.iter().map(|(id, rest)| format!("    {id}: {{ remote_address: \"{rest} }}\n"));
    let lines: String = lines.collect();
    format!("cluster:\n  seed: 0\n  replica_count: 1\n  discovery: {discovery}\n  nodes:\n{lines}")
}

/// The address that the node gets, where it gets one.
fn address_of(config: &ClusterConfig, node: &str) -> Option<String> {
    let id = id(node);
    let with = config.with_node(&id)?;
    Some(with.address(with.parameters.member(&id)?).to_string())
}

#[test]
fn address_of_an_unlisted_node_follows_from_its_id() {
    let two = [("quorate-0", "quorate-0.peers:8001\""), ("quorate-2", "quorate-2.peers:8001\"")];
    let config = cluster(&file_of("dns", &two)).unwrap();
    assert_eq!((config.discovery, &config.unlisted), (Discovery::Dns, &None));
    for (node, address) in [
        ("quorate-0", Some("quorate-0.peers:8001")),
        ("quorate-1", Some("quorate-1.peers:8001")),
        ("quorate-10", Some("quorate-10.peers:8001")),
        ("quorate-01", None),
        ("quorate-", None),
        ("quorate-x", None),
        ("quorate", None),
        ("other-1", None),
        ("Quorate-1", None),
    ] {
        assert_eq!(address_of(&config, node).as_deref(), address, "{node}");
    }
    let id_1 = id("quorate-1");
    let with = config.with_node(&id_1).unwrap();
    let listed: Vec<&str> = with.parameters.node_ids.iter().map(crate::types::NodeId::as_str).collect();
    assert_eq!(listed, ["quorate-0", "quorate-1", "quorate-2"], "ids are in order");
    assert_eq!((with.parameters.sites.len(), with.unlisted.as_ref()), (3, Some(&id_1)));
    assert_eq!(config.with_node(&id("quorate-0")).unwrap().unlisted, None);

    let without_domain = cluster(&file_of("dns", &[("q-0", "q-0:1\"")])).unwrap();
    assert_eq!(address_of(&without_domain, "q-7").as_deref(), Some("q-7:1"));
    let by_file = cluster(&file_of("file", &two)).unwrap();
    assert_eq!(address_of(&by_file, "quorate-1"), None);
    assert_eq!(cluster(&file_of("dns", &two).replace("  discovery: dns\n", "")).unwrap().discovery, Discovery::File);
    let in_zones = cluster(&file_of("dns", &[("q-0", "q-0:1\", zone: a"), ("q-1", "q-1:1\", zone: b")])).unwrap();
    assert_eq!(address_of(&in_zones, "q-2"), None, "it has no zone");
}

#[test]
fn nodes_without_a_pattern_are_refused_with_one_line() {
    let refused = |node: &str, address: &str| {
        format!(
            "c.yml:4: cluster.discovery: dns: node {node} is reached at {address}, and with dns all ids are like quorate-0, and each \
             address is the id with the same domain and port as the others, like quorate-0.quorate-peers:8001: correct it, or \
             leave discovery out"
        )
    };
    for (nodes, node, address) in [
        (&[("1", "n1:1\"")][..], "1", "n1:1"),
        (&[("q-0", "q-0.p:1\""), ("q-1", "q-1.p:2\"")], "q-1", "q-1.p:2"),
        (&[("q-0", "q-0.p:1\""), ("q-1", "q-1.r:1\"")], "q-1", "q-1.r:1"),
        (&[("q-0", "q-0.p:1\""), ("q-1", "q-2.p:1\"")], "q-1", "q-2.p:1"),
        (&[("q-0", "q-0.p:1\""), ("r-1", "r-1.p:1\"")], "r-1", "r-1.p:1"),
        (&[("q-0", "q-0x.p:1\"")], "q-0", "q-0x.p:1"),
        (&[("q-0", "10.0.0.1:1\"")], "q-0", "10.0.0.1:1"),
    ] {
        assert_refused(&[(&file_of("dns", nodes), &refused(node, address))], cluster);
    }
    let text = file_of("srv", &[("q-0", "q-0.p:1\"")]);
    assert_refused(&[(&text, "c.yml:4: cluster.discovery: \"srv\" is not accepted: give file or dns")], cluster);
}

#[test]
fn node_that_is_not_listed_is_checked_as_a_node_of_the_cluster() {
    let text = file_of("dns", &[("q-0", "q-0.p:8001\"")]);
    let node = |id: &str, port: u16| {
        NODE.replace("\"1\"", id).replace("127.0.0.1:8001", &format!("\":{port}\"")) + "  insecure: true\n"
    };
    let parse = |node: &str, pairs: &[(&str, &str)]| {
        Config::parse(file("n.yml", node), file("c.yml", &text), environment(pairs))
    };
    let config = parse(&node("q-0", 8001), &[("QUORATE_NODE_ID", "q-3")]).unwrap();
    assert_eq!(config.cluster.unlisted, Some(id("q-3")));
    assert_eq!(config.cluster.address(config.member()).to_string(), "q-3.p:8001");
    let refused = parse(&node("r-3", 8001), &[]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "n.yml:2: node.id: node r-3 is not in c.yml: list it there, or call it q-0, q-1 and so on, without leading zeros; among nodes with zones it must be \
         listed, and start with --join"
    );
    let (well, other_port, stranger) = (node("q-5", 8001), node("q-6", 9), node("r-3", 8001));
    let files = [file("c.yml", &text), file("a.yml", &well), file("b.yml", &other_port), file("d.yml", &stranger)];
    let reports = check(&files, &[]);
    assert!(reports[1].outcome.is_ok() && reports[1].remarks.is_empty(), "{:?}", reports[1]);
    assert!(reports[2].outcome.is_ok() && reports[2].remarks[0].to_string().contains("q-6.p:8001"), "{:?}", reports[2]);
    assert_eq!(reports[3].outcome.as_ref().unwrap_err().to_string(), refused.replace("n.yml", "d.yml"));
}
