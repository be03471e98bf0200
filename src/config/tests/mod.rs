//! What the parser accepts and refuses, with the text of every error.

mod any_text;
mod check;
mod dev;
mod discovery;
mod reference;
mod variables;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{ClusterConfig, Config, ConfigError, File, LocalAddress, NodeConfig, Reloaded, RemoteAddress};
use crate::limits::{
    BLOCK_CACHE_BYTES_DEFAULT, CONFIG_BYTES_MAX, NODES_MAX, RECORD_CACHE_BYTES_DEFAULT,
    REPAIR_BYTES_PER_SECOND_DEFAULT, REPAIR_KEYS_PER_SECOND_DEFAULT, REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT,
    REQUESTS_IN_FLIGHT_MAX_DEFAULT, SCRUB_BYTES_PER_SECOND_DEFAULT, SCRUB_EVERY_SECONDS_DEFAULT,
    TAKEOVER_BYTES_PER_SECOND_DEFAULT, TAKEOVER_KEYS_PER_SECOND_DEFAULT, WRITE_BUFFER_BYTES_DEFAULT,
};
use crate::types::{Durability, NodeId, Site};

const NODE: &str = "node:\n  id: \"1\"\n  local_address: 127.0.0.1:8001\n  data_dir: ./data/1\n";

const CLUSTER: &str = "cluster:\n  seed: 0\n  replica_count: 3\n  nodes:\n    \
    1: { remote_address: \"127.0.0.1:8001\" }\n    \
    2: { remote_address: \"127.0.0.1:8002\" }\n    \
    3: { remote_address: \"127.0.0.1:8003\" }\n";

fn file<'a>(name: &'a str, text: &'a str) -> File<'a> {
    File { name: Path::new(name), text }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn node(text: &str) -> Result<NodeConfig, ConfigError> {
    NodeConfig::parse(file("etc/n.yml", text), [])
}

fn node_with(text: &str, pairs: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
    NodeConfig::parse(file("etc/n.yml", text), environment(pairs))
}

fn cluster(text: &str) -> Result<ClusterConfig, ConfigError> {
    ClusterConfig::parse(file("c.yml", text))
}

/// Each of `cases` is refused with its message, and each message is one line.
fn assert_refused<T: std::fmt::Debug>(cases: &[(&str, &str)], parse: impl Fn(&str) -> Result<T, ConfigError>) {
    for (text, message) in cases {
        let error = parse(text).expect_err(text).to_string();
        let shown = text.get(..200).unwrap_or(text);
        assert_eq!(&error, message, "for {shown:?}");
        assert!(!error.contains('\n'), "{error:?} is more than one line");
    }
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).expect("the test gives a valid id")
}

#[test]
fn reload_takes_over_some_keys_and_names_the_others() {
    let file =
        |more: &str| format!("node:\n  id: \"1\"\n  local_address: 127.0.0.1:8001\n  data_dir: ./data/1\n{more}");
    let cluster = "cluster:\n  seed: 1\n  replica_count: 1\n  nodes:\n    1: { remote_address: 127.0.0.1:8001 }\n";
    let read = |more: &str| {
        let text = file(more);
        let cluster = File { name: Path::new("cluster.yml"), text: cluster };
        Config::parse(File { name: Path::new("node.yml"), text: &text }, cluster, []).expect("it is accepted")
    };
    let mut config = read("");
    let new = read("  repair_keys_per_second: 0\n  durability: os\n  record_cache_bytes: 1048576\n");
    let expected = Reloaded {
        reloaded: vec!["repair_keys_per_second"],
        others: vec!["durability", "record_cache_bytes"],
        is_other_cluster: false,
    };
    assert_eq!(config.reload(&new), expected);
    assert_eq!(config.node.repair_keys_per_second, 0);
    assert_eq!(config.reload(&new), Reloaded { reloaded: vec![], ..expected }, "the others still wait");
}

#[test]
fn smallest_node_file_gets_the_defaults() {
    let config = node(NODE).unwrap();
    assert_eq!(
        config,
        NodeConfig {
            id: id("1"),
            local_address: LocalAddress::loopback(8001),
            local_metrics_address: None,
            local_http_address: None,
            remote_http_address: None,
            http_hosts: Vec::new(),
            http_cors_origins: Vec::new(),
            local_line_address: None,
            local_redis_address: None,
            redis_table: crate::types::Table::Default,
            tls: None,
            tls_client_certificates_required: false,
            insecure: false,
            authorization: false,
            audit_file: None,
            audit_writes: false,
            traces_endpoint: None,
            traces_sampled: crate::config::Fraction::parse("0.01").unwrap(),
            data_dir: PathBuf::from("etc/data/1"),
            durability: Durability::Fsync,
            operator_writes: false,
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX_DEFAULT,
            request_bytes_in_flight_max: REQUEST_BYTES_IN_FLIGHT_MAX_DEFAULT,
            connections_max: None,
            connections_per_address_max: None,
            requests_in_flight_per_client_max: None,
            requests_per_second_per_client_max: None,
            repair_keys_per_second: REPAIR_KEYS_PER_SECOND_DEFAULT,
            repair_bytes_per_second: REPAIR_BYTES_PER_SECOND_DEFAULT,
            takeover_keys_per_second: TAKEOVER_KEYS_PER_SECOND_DEFAULT,
            takeover_bytes_per_second: TAKEOVER_BYTES_PER_SECOND_DEFAULT,
            tombstones_kept_for_seconds: 600,
            disk_reserve_bytes: None,
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND_DEFAULT,
            scrub_every_seconds: SCRUB_EVERY_SECONDS_DEFAULT,
            replace_damaged: true,
            status_page_keys: false,
            record_cache_bytes: RECORD_CACHE_BYTES_DEFAULT,
            block_cache_bytes: BLOCK_CACHE_BYTES_DEFAULT,
            write_buffer_bytes: WRITE_BUFFER_BYTES_DEFAULT,
        }
    );
    assert_eq!(config, NodeConfig::local(id("1"), LocalAddress::loopback(8001), PathBuf::from("etc/data/1")));
}

#[test]
fn full_node_file_is_taken_as_it_is() {
    let config = node(
        "node:\n  id: a.b\n  local_address: \"[::1]:1\"\n  local_metrics_address: :65535\n  data_dir: /var/lib/q\n  \
         durability: os\n  operator_writes: true\n  requests_in_flight_max: 1\n  request_bytes_in_flight_max: 67108864\n  \
         connections_max: 8\n  connections_per_address_max: 16384\n  \
         requests_in_flight_per_client_max: 1\n  requests_per_second_per_client_max: 100000000\n  \
         repair_keys_per_second: 0\n  repair_bytes_per_second: 65536\n  \
         takeover_keys_per_second: 1\n  takeover_bytes_per_second: 65536\n  tombstones_kept_for_seconds: 1\n  \
         scrub_bytes_per_second: 65536\n  scrub_every_seconds: 31536000\n  replace_damaged: false\n  status_page_keys: true\n  \
         record_cache_bytes: 2097152\n  block_cache_bytes: 1048576\n  write_buffer_bytes: 1099511627776\n",
    )
    .unwrap();
    assert_eq!(config.id, id("a.b"));
    assert_eq!(config.local_address.to_string(), "[::1]:1");
    assert!(config.local_address.is_loopback());
    assert_eq!(config.local_metrics_address.unwrap().to_string(), ":65535");
    assert_eq!(config.data_dir, Path::new("/var/lib/q"));
    assert_eq!(config.durability, Durability::Os);
    assert!(config.operator_writes);
    assert_eq!(config.requests_in_flight_max, 1);
    assert_eq!(config.request_bytes_in_flight_max, 64 << 20);
    assert_eq!((config.connections_max, config.connections_per_address_max), (Some(8), Some(16_384)));
    let of_client = (config.requests_in_flight_per_client_max, config.requests_per_second_per_client_max);
    assert_eq!(of_client, (Some(1), Some(100_000_000)));
    assert_eq!((config.repair_keys_per_second, config.repair_bytes_per_second), (0, 64 << 10));
    assert_eq!((config.takeover_keys_per_second, config.takeover_bytes_per_second), (1, 64 << 10));
    assert_eq!(config.tombstones_kept_for_seconds, 1);
    assert_eq!((config.scrub_bytes_per_second, config.scrub_every_seconds), (64 << 10, 31_536_000));
    assert!(!config.replace_damaged && config.status_page_keys);
    assert_eq!(config.record_cache_bytes, 2 << 20);
    assert_eq!(config.block_cache_bytes, 1 << 20);
    assert_eq!(config.write_buffer_bytes, 1 << 40);
}

#[test]
fn bare_scalars_are_ids_as_they_were_written() {
    for written in ["1", "01", "1e3", "0x10", "1.0", "true", "no", "node-a", "\"1\"", "'1'", "\"null\""] {
        let text = NODE.replace("\"1\"", written);
        assert_eq!(node(&text).unwrap().id, id(written.trim_matches(['"', '\''])), "{written}");
    }
    let text = CLUSTER.replace("    1:", "    01:").replace("    2:", "    \"2\":");
    let ids: Vec<String> = cluster(&text).unwrap().parameters.node_ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["01", "2", "3"]);
}

#[test]
fn address_without_host_means_every_interface() {
    let config = node(&NODE.replace("127.0.0.1:8001", "\":8001\"")).unwrap();
    let expected: Vec<SocketAddr> = vec!["[::]:8001".parse().unwrap(), "0.0.0.0:8001".parse().unwrap()];
    assert_eq!(config.local_address.bind_candidates(), expected);
    assert!(!config.local_address.is_loopback());
    assert_eq!(config.local_address.port(), 8001);
    assert_eq!(LocalAddress::loopback(7).bind_candidates(), ["127.0.0.1:7".parse().unwrap()]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn bad_node_files_are_refused_with_one_line() {
    let bad_local = "is not accepted: give IP:PORT or :PORT (every interface) with a port from 1 to 65535, such as \
                     127.0.0.1:8001 or \":8001\"";
    for address in [
        "localhost:8001",
        "127.0.0.1",
        "127.0.0.1:0",
        ":0",
        ":65536",
        ":",
        "8001",
        "127.0.0.1:+80",
        "1.2.3:80",
        "::1:8001",
        "*:8001",
    ] {
        let text = NODE.replace("127.0.0.1:8001", &format!("\"{address}\""));
        let message = format!("etc/n.yml:3: node.local_address: {address:?} {bad_local}");
        assert_refused(&[(&text, &message)], node);
    }
    let with = |line: &str| format!("{NODE}  {line}\n");
    let without = |start: &str| NODE.lines().filter(|line| !line.contains(start)).collect::<Vec<_>>().join("\n");
    let keys = "id, local_address, local_metrics_address, local_http_address, remote_http_address, http_hosts, \
                http_cors_origins, local_line_address, local_redis_address, redis_table, tls_certificate, tls_key, tls_ca, tls_client_certificates, insecure, authorization, audit_file, audit_writes, traces_endpoint, traces_sampled, \
             data_dir, durability, operator_writes, \
                requests_in_flight_max, request_bytes_in_flight_max, connections_max, connections_per_address_max, \
                requests_in_flight_per_client_max, requests_per_second_per_client_max, repair_keys_per_second, \
                repair_bytes_per_second, takeover_keys_per_second, takeover_bytes_per_second, tombstones_kept_for_seconds, disk_reserve_bytes, scrub_bytes_per_second, scrub_every_seconds, replace_damaged, status_page_keys, record_cache_bytes, block_cache_bytes, \
                write_buffer_bytes";
    let cases: Vec<(String, String)> = vec![
        (String::new(), "etc/n.yml: the file is empty: accepted is one mapping with the key node".into()),
        ("# nothing\n".into(), "etc/n.yml: the file is empty: accepted is one mapping with the key node".into()),
        ("---\n~\n".into(), "etc/n.yml: the file is empty: accepted is one mapping with the key node".into()),
        (
            "text".into(),
            "etc/n.yml:1: a single value is not accepted here: accepted is one mapping with the key node".into(),
        ),
        (
            "\n- node\n".into(),
            "etc/n.yml:2: a sequence is not accepted here: accepted is one mapping with the key node".into(),
        ),
        ("{}".into(), "etc/n.yml:1: node: missing: give a mapping".into()),
        (
            "node: 3\n".into(),
            "etc/n.yml:1: node: a single value is not accepted here: accepted is a mapping of keys and values".into(),
        ),
        (
            "node:\n".into(),
            "etc/n.yml:1: node: nothing is not accepted here: accepted is a mapping of keys and values".into(),
        ),
        ("nod:\n  id: 1\n".into(), "etc/n.yml:1: nod: unknown key (did you mean node?): accepted is node".into()),
        (
            CLUSTER.into(),
            "etc/n.yml:1: this is a cluster file where a node file is expected: give a node.yml here (`quorate serve` takes \
             node.yml first, cluster.yml second)"
                .into(),
        ),
        (format!("{NODE}cluster: {{}}\n"), "etc/n.yml:5: cluster: unknown key: accepted is node".into()),
        (format!("{NODE}---\n{NODE}"), "etc/n.yml:5: a second document begins here: one document per file is accepted".into()),
        (
            with("data_dri: x"),
            format!("etc/n.yml:5: node.data_dri: unknown key (did you mean data_dir?): accepted are {keys}"),
        ),
        (with("\"a\\nb\": x"), format!("etc/n.yml:5: node.\"a\\nb\": unknown key: accepted are {keys}")),
        (with("<<: {}"), format!("etc/n.yml:5: node.\"<<\": unknown key: accepted are {keys}")),
        (
            with("id: 2"),
            "etc/n.yml:5: node.id: given twice, first on line 2: each key is accepted once".into(),
        ),
        (
            without("id:"),
            "etc/n.yml:1: node.id: missing: give 1 to 64 printable ASCII characters without spaces and commas, such as \
             \"1\" (or set QUORATE_NODE_ID)"
                .into(),
        ),
        (
            without("data_dir"),
            "etc/n.yml:1: node.data_dir: missing: give the path of a folder, absolute or relative to this file, such as \
             ./data/1 (or set QUORATE_NODE_DATA_DIR)"
                .into(),
        ),
        (
            NODE.replace("\"1\"", "null"),
            "etc/n.yml:2: node.id: no value is given: accepted is 1 to 64 printable ASCII characters without spaces and \
             commas, such as \"1\""
                .into(),
        ),
        (
            NODE.replace("\"1\"", "\"\""),
            "etc/n.yml:2: node.id: a node id is empty: give it 1 to 64 characters".into(),
        ),
        (
            NODE.replace("\"1\"", "a b"),
            "etc/n.yml:2: node.id: node id \"a b\" holds ' ': printable ASCII without spaces and commas is accepted".into(),
        ),
        (
            NODE.replace("\"1\"", "[1]"),
            "etc/n.yml:2: node.id: a sequence is not accepted here: give 1 to 64 printable ASCII characters without \
             spaces and commas, such as \"1\""
                .into(),
        ),
        (with("durability: none"), "etc/n.yml:5: node.durability: \"none\" is not accepted: give fsync or os".into()),
        (with("operator_writes: yes"), "etc/n.yml:5: node.operator_writes: \"yes\" is not accepted: give true or false".into()),
        (
            with("requests_in_flight_max: 0"),
            "etc/n.yml:5: node.requests_in_flight_max: \"0\" is not accepted: give a whole number from 1 to 1048576".into(),
        ),
        (
            with("requests_in_flight_max: 010"),
            "etc/n.yml:5: node.requests_in_flight_max: \"010\" is not accepted: give a whole number from 1 to 1048576".into(),
        ),
        (
            with("connections_max: 7"),
            "etc/n.yml:5: node.connections_max: \"7\" is not accepted: give a whole number from 8 to 16384".into(),
        ),
        (
            with("request_bytes_in_flight_max: 1000"),
            "etc/n.yml:5: node.request_bytes_in_flight_max: \"1000\" is not accepted: give a whole number from 67108864 \
             to 1099511627776"
                .into(),
        ),
        (
            with("block_cache_bytes: 256MiB"),
            "etc/n.yml:5: node.block_cache_bytes: \"256MiB\" is not accepted: give a whole number from 1048576 to \
             1099511627776"
                .into(),
        ),
        (
            with("local_metrics_address: 127.0.0.1:8001"),
            "etc/n.yml:5: node.local_metrics_address: \"127.0.0.1:8001\" is already the address of the node itself \
             (local_address): give one of its own"
                .into(),
        ),
        (
            with("local_http_address: 127.0.0.1:8101\n  local_line_address: 127.0.0.1:8101"),
            "etc/n.yml:6: node.local_line_address: \"127.0.0.1:8101\" is already the address of the node itself \
             (local_http_address): give one of its own"
                .into(),
        ),
        (
            with("http_hosts: a.b:80"),
            "etc/n.yml:5: node.http_hosts: \"a.b:80\" is not accepted: give host names without ports, separated by commas, \
             such as \"db.example,db-1.example\""
                .into(),
        ),
        (
            with("http_cors_origins: https://a.b/path"),
            "etc/n.yml:5: node.http_cors_origins: \"https://a.b/path\" is not accepted: give origins, separated by commas, \
             each SCHEME://HOST or SCHEME://HOST:PORT, such as \"https://app.example\""
                .into(),
        ),
        (
            with("local_metrics_address: \"\""),
            format!("etc/n.yml:5: node.local_metrics_address: \"\" {bad_local}"),
        ),
        (
            NODE.replace("./data/1", "~/data"),
            "etc/n.yml:4: node.data_dir: \"~/data\" is not accepted: give the path of a folder, absolute or relative to \
             this file, such as ./data/1 (~ is not expanded: write the path itself)"
                .into(),
        ),
        (with("durability: &a os"), "etc/n.yml:5: node.durability: an anchor (&) is not accepted: write the value itself".into()),
        (with("durability: !!str os"), "etc/n.yml:5: node.durability: a tag (!) is not accepted: write the value itself".into()),
        (with("[a]: b"), "etc/n.yml:5: node: a sequence is not accepted as a key: a plain text is".into()),
        (with("? {a: b}\n  : c"), "etc/n.yml:5: node: a mapping is not accepted as a key: a plain text is".into()),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|(text, message)| (text.as_str(), message.as_str())).collect();
    assert_refused(&cases, node);
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    for text in ["node:\n  id: \"1\n", "node: {\n", "node:\n\tid: 1\n", "a: b: c\n", "node: *a\n", "\u{0}"] {
        let error = node(text).expect_err(text).to_string();
        assert!(error.starts_with("etc/n.yml:") && error.contains("not valid YAML: "), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn boundless_text_is_refused() {
    let large = format!("#{}", " ".repeat(CONFIG_BYTES_MAX));
    let bytes = large.len();
    let deep = format!("node:\n  id: {}", "[".repeat(100));
    let cases = [
        (large, format!("etc/n.yml: the file has {bytes} bytes: at most 1048576 are accepted")),
        (deep, "etc/n.yml:2: node.id: nested too deeply: at most 16 levels are accepted".to_owned()),
    ];
    for (text, message) in cases {
        assert_refused(&[(&text, &message)], node);
    }
    let deeper = format!("node:\n  id: {}", "[{a: ".repeat(100_000));
    assert!(node(&deeper).is_err(), "the parser has a limit of its own, and no stack overflows");
    let long = node(&NODE.replace("127.0.0.1:8001", &"é".repeat(1000))).unwrap_err().to_string();
    assert!(long.chars().count() < 300, "{long}");
}

#[test]
fn cluster_file_gives_members_in_the_order_of_their_ids() {
    let text = CLUSTER.replace("    2:", "    10:").replace("127.0.0.1:8003", "Quorate-3.example:8001");
    let config = cluster(&text.replace("seed: 0", "seed: 4294967295")).unwrap();
    let parameters = &config.parameters;
    assert_eq!((parameters.seed, parameters.replica_count), (u32::MAX, 3));
    assert_eq!(parameters.node_ids, [id("1"), id("10"), id("3")]);
    let address = |text| config.address(parameters.member(&id(text)).unwrap()).to_string();
    assert_eq!(address("1"), "127.0.0.1:8001");
    assert_eq!(address("10"), "127.0.0.1:8002");
    assert_eq!(address("3"), "quorate-3.example:8001");
}

#[test]
fn remote_addresses_are_hosts_with_ports() {
    for (text, host, shown) in [
        ("10.0.0.1:1", "10.0.0.1", "10.0.0.1:1"),
        ("[2001:db8::1]:65535", "2001:db8::1", "[2001:db8::1]:65535"),
        ("LOCALHOST:80", "localhost", "localhost:80"),
        ("my_host.local.:80", "my_host.local.", "my_host.local.:80"),
        ("1a:80", "1a", "1a:80"),
    ] {
        let address = RemoteAddress::parse(text).unwrap();
        assert_eq!((address.host(), address.to_string().as_str()), (host, shown));
        assert_eq!(Some(address.port()), text.rsplit(':').next().and_then(|port| port.parse().ok()));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn bad_cluster_files_are_refused_with_one_line() {
    let bad_remote = "is not accepted: give HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:8001 or \
                      quorate-1:8001, where the other nodes reach this one";
    for address in [
        "",
        "localhost",
        ":8002",
        "host:0",
        "host:65536",
        "host:",
        "host:-1",
        "http://host:80",
        "1.2.3:80",
        "999.1.1.1:80",
        "0.0.0.0:80",
        "[::]:80",
        "::1:80",
        "[host]:80",
        "-a:80",
        "a..b:80",
        "a b:80",
        "höst:80",
    ] {
        let text = CLUSTER.replace("127.0.0.1:8002", address);
        let message = format!("c.yml:6: cluster.nodes.2.remote_address: {address:?} {bad_remote}");
        assert_refused(&[(&text, &message)], cluster);
    }
    let nodes = "a mapping of node ids, each as ID: { remote_address: HOST:PORT }";
    let replace = |from: &str, to: &str| CLUSTER.replace(from, to);
    let cases: Vec<(String, String)> = vec![
        (
            NODE.into(),
            "c.yml:1: this is a node file where a cluster file is expected: give a cluster.yml here (`quorate serve` takes \
             node.yml first, cluster.yml second)"
                .into(),
        ),
        (
            replace("replica_count: 3", "replica_count: 0"),
            "c.yml:3: cluster.replica_count: \"0\" is not accepted: give a whole number from 1 to 3, the number of nodes".into(),
        ),
        (
            replace("replica_count: 3", "replica_count: 4"),
            "c.yml:3: cluster.replica_count: \"4\" is not accepted: give a whole number from 1 to 3, the number of nodes".into(),
        ),
        (
            replace("  replica_count: 3\n", ""),
            "c.yml:1: cluster.replica_count: missing: give a whole number from 1 to 3, the number of nodes".into(),
        ),
        (
            replace("seed: 0", "seed: -1"),
            "c.yml:2: cluster.seed: \"-1\" is not accepted: give a whole number from 0 to 4294967295".into(),
        ),
        (
            replace("seed: 0", "seed: 4294967296"),
            "c.yml:2: cluster.seed: \"4294967296\" is not accepted: give a whole number from 0 to 4294967295".into(),
        ),
        (
            replace("seed: 0", "seed: 0\n  epoch_floor: 281474976710657"),
            "c.yml:3: cluster.epoch_floor: \"281474976710657\" is not accepted: give a whole number from 0 to \
             281474976710656"
                .into(),
        ),
        (
            replace("seed: 0", "sede: 0"),
            "c.yml:2: cluster.sede: unknown key (did you mean seed?): accepted are name, seed, replica_count, epoch_floor, discovery, nodes".into(),
        ),
        (replace("seed: 0", "seed: 0\n  seed: 1"), "c.yml:3: cluster.seed: given twice, first on line 2: each key is accepted once".into()),
        (
            replace("    2:", "    \"1\":"),
            "c.yml:6: cluster.nodes.1: given twice, first on line 5: each key is accepted once".into(),
        ),
        (
            replace("127.0.0.1:8003", "127.0.0.1:8001"),
            "c.yml:7: cluster.nodes.3.remote_address: \"127.0.0.1:8001\" is already the address of node 1: give one of \
             its own"
                .into(),
        ),
        (
            replace("{ remote_address: \"127.0.0.1:8002\" }", "127.0.0.1:8002"),
            "c.yml:6: cluster.nodes.2: a single value is not accepted here: accepted is { remote_address: HOST:PORT }".into(),
        ),
        (
            replace("{ remote_address: \"127.0.0.1:8002\" }", "{}"),
            "c.yml:6: cluster.nodes.2.remote_address: missing: give HOST:PORT with a port from 1 to 65535, such as \
             10.0.0.1:8001 or quorate-1:8001, where the other nodes reach this one"
                .into(),
        ),
        (
            replace("{ remote_address: \"127.0.0.1:8002\" }", "{ remote_adress: \"h:1\" }"),
            "c.yml:6: cluster.nodes.2.remote_adress: unknown key (did you mean remote_address?): accepted are \
             remote_address, weight, zone"
                .into(),
        ),
        (
            replace("    2:", "    \"a,b\":"),
            "c.yml:6: cluster.nodes.\"a,b\": node id \"a,b\" holds ',': printable ASCII without spaces and commas is \
             accepted"
                .into(),
        ),
        ("cluster:\n  seed: 0\n  replica_count: 1\n".into(), format!("c.yml:1: cluster.nodes: missing: give {nodes}")),
        (
            "cluster:\n  seed: 0\n  replica_count: 1\n  nodes:\n".into(),
            format!("c.yml:4: cluster.nodes: nothing is not accepted here: accepted is {nodes}"),
        ),
        (
            "cluster:\n  seed: 0\n  replica_count: 1\n  nodes: {}\n".into(),
            "c.yml:4: cluster.nodes: no nodes: give 1 to 1024, each as ID: { remote_address: HOST:PORT }".into(),
        ),
        (
            "cluster:\n  seed: 0\n  replica_count: 1\n  nodes: [1, 2]\n".into(),
            format!("c.yml:4: cluster.nodes: a sequence is not accepted here: accepted is {nodes}"),
        ),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|(text, message)| (text.as_str(), message.as_str())).collect();
    assert_refused(&cases, cluster);
}

/// [`CLUSTER`] with more keys for each node.
fn cluster_with(of_nodes: [&str; 3]) -> String {
    let mut text = CLUSTER.to_owned();
    for (port, more) in ["8001", "8002", "8003"].into_iter().zip(of_nodes) {
        text = text.replace(&format!("{port}\" }}"), &format!("{port}\"{more} }}"));
    }
    text
}

#[test]
fn weights_and_zones_are_read_for_each_node() {
    let config = cluster(&cluster_with([", weight: 2, zone: a", ", zone: \"1\", weight: 0.5", ", zone: 1"])).unwrap();
    let sites: Vec<String> = config
        .parameters
        .sites
        .iter()
        .map(|site| format!("{} {}", site.weight, site.zone.as_ref().expect("each has one")))
        .collect();
    assert_eq!(sites, ["2 a", "0.5 1", "1 1"]);
    let plain = cluster(CLUSTER).unwrap().parameters;
    assert_eq!(plain.sites, vec![Site::default(); 3]);
    assert_eq!(cluster(&cluster_with([", weight: 1.00", ", weight: 1", ""])).unwrap().parameters, plain);
    assert_ne!(cluster(&cluster_with(["", ", weight: 1.01", ""])).unwrap().parameters, plain);
}

#[test]
fn bad_weights_and_zones_are_refused_with_one_line() {
    let weights = "is not accepted: give a number from 0.01 to 10000 with at most two decimals, such as 2 or 0.5";
    for weight in ["0", "-1", "0.001", "10000.01", "1e3", "two", "1,5", "02", ".5", "NaN"] {
        let text = cluster_with(["", &format!(", weight: \"{weight}\""), ""]);
        assert_refused(&[(&text, &format!("c.yml:6: cluster.nodes.2.weight: {weight:?} {weights}"))], cluster);
    }
    let zones = "is not accepted: give 1 to 64 printable ASCII characters without spaces and commas, such as b";
    let long = "z".repeat(65);
    for zone in ["", "a b", "a,b", "zürich", &long] {
        let text = cluster_with([", zone: a", &format!(", zone: \"{zone}\""), ", zone: c"]);
        assert_refused(&[(&text, &format!("c.yml:6: cluster.nodes.2.zone: {zone:?} {zones}"))], cluster);
    }
    let cases = [
        (
            cluster_with([", zone: a", "", ", zone: b"]),
            "c.yml:6: cluster.nodes.2.zone: missing, and node 1 has one: give all nodes a zone, or none",
        ),
        (
            cluster_with(["", "", ", zone: b"]),
            "c.yml:5: cluster.nodes.1.zone: missing, and node 3 has one: give all nodes a zone, or none",
        ),
        (
            cluster_with(["", ", weight:", ""]),
            "c.yml:6: cluster.nodes.2.weight: no value is given: accepted is a number from 0.01 to 10000 with at most two \
             decimals, such as 2 or 0.5",
        ),
        (
            cluster_with(["", ", weigth: 2", ""]),
            "c.yml:6: cluster.nodes.2.weigth: unknown key (did you mean weight?): accepted are remote_address, weight, zone",
        ),
        (
            cluster_with([", zone: [a]", ", zone: b", ", zone: c"]),
            "c.yml:5: cluster.nodes.1.zone: a sequence is not accepted here: give 1 to 64 printable ASCII characters \
             without spaces and commas, such as b",
        ),
    ];
    for (text, message) in cases {
        assert_refused(&[(&text, message)], cluster);
    }
}

/// A cluster file of so many nodes, with long names.
fn large_cluster(nodes: usize, replica_count: usize) -> String {
    let (id, host) = ("n".repeat(60), "h".repeat(50));
    let line = |node| format!("    {id}{node}: {{ remote_address: \"{host}{node}.example:1\" }}\n");
    let lines: String = (0..nodes).map(line).collect();
    format!("cluster:\n  seed: 0\n  replica_count: {replica_count}\n  nodes:\n{lines}")
}

#[test]
fn largest_cluster_is_accepted_and_a_larger_one_refused() {
    assert_eq!(cluster(&large_cluster(NODES_MAX, 63)).unwrap().addresses.len(), NODES_MAX);
    let cases = [
        (large_cluster(NODES_MAX + 1, 3), "c.yml:4: cluster.nodes: 1025 nodes: at most 1024 are accepted"),
        (
            large_cluster(NODES_MAX, 64),
            "c.yml:3: cluster.replica_count: \"64\" is not accepted: give a whole number from 1 to 63, the most that one \
             slot can have",
        ),
    ];
    for (text, message) in cases {
        assert_refused(&[(&text, message)], cluster);
    }
}

#[test]
fn node_and_cluster_make_a_config() {
    let config = Config::parse(file("n.yml", NODE), file("c.yml", CLUSTER), []).unwrap();
    assert_eq!(config.cluster.parameters.id(config.member()), &id("1"));
}

#[test]
fn node_that_is_not_in_the_cluster_is_refused_where_its_id_was_given() {
    let parse = |node: &str, pairs: &[(&str, &str)]| {
        Config::parse(file("n.yml", node), file("c.yml", CLUSTER), environment(pairs)).unwrap_err().to_string()
    };
    let in_file = parse(&NODE.replace("\"1\"", "9"), &[]);
    assert_eq!(in_file, "n.yml:2: node.id: node 9 is not in c.yml: accepted are 1, 2, 3");
    let in_variable = parse(NODE, &[("QUORATE_NODE_ID", "8")]);
    assert_eq!(in_variable, "environment variable QUORATE_NODE_ID: node 8 is not in c.yml: accepted are 1, 2, 3");

    let large = large_cluster(70, 1);
    let error = Config::parse(file("n.yml", NODE), file("c.yml", &large), []).unwrap_err().to_string();
    assert!(error.ends_with(", … (70 in all)"), "{error}");
}
