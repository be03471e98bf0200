//! Environment variables above the keys of node.yml, and paths that a shell would have expanded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{NODE, file, id, node, node_with};
use crate::config::{LocalAddress, NodeConfig, RemoteAddress, TlsPaths};
use crate::limits::RECORD_CACHE_BYTES_DEFAULT;
use crate::types::Durability;

#[test]
fn variables_override_the_file() {
    let config = node_with(
        &NODE.replace("127.0.0.1:8001", "broken"),
        &[
            ("QUORATE_NODE_ID", "2"),
            ("QUORATE_NODE_LOCAL_ADDRESS", "127.0.0.1:8002"),
            ("QUORATE_NODE_LOCAL_METRICS_ADDRESS", "127.0.0.1:9002"),
            ("QUORATE_NODE_DISK_RESERVE_BYTES", "0"),
            ("QUORATE_NODE_DATA_DIR", "./data/2"),
            ("QUORATE_NODE_LOCAL_HTTP_ADDRESS", "127.0.0.1:8102"),
            ("QUORATE_NODE_REMOTE_HTTP_ADDRESS", "N2:80"),
            ("QUORATE_NODE_HTTP_HOSTS", "DB.example., n2"),
            ("QUORATE_NODE_HTTP_CORS_ORIGINS", "https://App.example,http://localhost:3000"),
            ("QUORATE_NODE_LOCAL_LINE_ADDRESS", "127.0.0.1:8202"),
            ("QUORATE_NODE_LOCAL_REDIS_ADDRESS", "127.0.0.1:8302"),
            ("QUORATE_NODE_REDIS_TABLE", "carts"),
            ("QUORATE_NODE_TLS_CERTIFICATE", "./n.crt"),
            ("QUORATE_NODE_TLS_KEY", "/n.key"),
            ("QUORATE_NODE_TLS_CA", "ca.crt"),
            ("QUORATE_NODE_TLS_CLIENT_CERTIFICATES", "required"),
            ("QUORATE_NODE_INSECURE", "true"),
            ("QUORATE_NODE_AUTHORIZATION", "true"),
            ("QUORATE_NODE_AUDIT_FILE", "audit"),
            ("QUORATE_NODE_AUDIT_WRITES", "true"),
            ("QUORATE_NODE_TRACES_ENDPOINT", "http://Collector:4317/"),
            ("QUORATE_NODE_TRACES_SAMPLED", "0.25"),
            ("QUORATE_NODE_DURABILITY", "os"),
            ("QUORATE_NODE_OPERATOR_WRITES", "true"),
            ("QUORATE_NODE_REQUESTS_IN_FLIGHT_MAX", "5"),
            ("QUORATE_NODE_REQUEST_BYTES_IN_FLIGHT_MAX", "67108865"),
            ("QUORATE_NODE_CONNECTIONS_MAX", "9"),
            ("QUORATE_NODE_CONNECTIONS_PER_ADDRESS_MAX", "3"),
            ("QUORATE_NODE_REQUESTS_IN_FLIGHT_PER_CLIENT_MAX", "2"),
            ("QUORATE_NODE_REQUESTS_PER_SECOND_PER_CLIENT_MAX", "70"),
            ("QUORATE_NODE_REPAIR_KEYS_PER_SECOND", "0"),
            ("QUORATE_NODE_REPAIR_BYTES_PER_SECOND", "65537"),
            ("QUORATE_NODE_TAKEOVER_KEYS_PER_SECOND", "9"),
            ("QUORATE_NODE_TAKEOVER_BYTES_PER_SECOND", "65539"),
            ("QUORATE_NODE_TOMBSTONES_KEPT_FOR_SECONDS", "77"),
            ("QUORATE_NODE_SCRUB_BYTES_PER_SECOND", "65540"),
            ("QUORATE_NODE_SCRUB_EVERY_SECONDS", "0"),
            ("QUORATE_NODE_REPLACE_DAMAGED", "false"),
            ("QUORATE_NODE_STATUS_PAGE_KEYS", "true"),
            ("QUORATE_NODE_BLOCK_CACHE_BYTES", "1048577"),
            ("QUORATE_NODE_WRITE_BUFFER_BYTES", "1048578"),
            ("QUORATE_ADDRESS", "is another matter"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(
        config,
        NodeConfig {
            id: id("2"),
            local_address: LocalAddress::loopback(8002),
            local_metrics_address: Some(LocalAddress::loopback(9002)),
            local_http_address: Some(LocalAddress::loopback(8102)),
            remote_http_address: RemoteAddress::parse("n2:80"),
            http_hosts: vec!["db.example".to_owned(), "n2".to_owned()],
            http_cors_origins: vec!["https://app.example".to_owned(), "http://localhost:3000".to_owned()],
            local_line_address: Some(LocalAddress::loopback(8202)),
            local_redis_address: Some(LocalAddress::loopback(8302)),
            redis_table: crate::types::Table::parse("carts").unwrap(),
            tls: Some(TlsPaths { certificate: "n.crt".into(), key: "/n.key".into(), ca: "ca.crt".into() }),
            tls_client_certificates_required: true,
            insecure: true,
            authorization: true,
            audit_file: Some(PathBuf::from("audit")),
            audit_writes: true,
            traces_endpoint: Some("http://collector:4317".to_owned()),
            traces_sampled: crate::config::Fraction::parse("0.25").unwrap(),
            data_dir: PathBuf::from("data/2"),
            durability: Durability::Os,
            operator_writes: true,
            requests_in_flight_max: 5,
            request_bytes_in_flight_max: (64 << 20) + 1,
            connections_max: Some(9),
            connections_per_address_max: Some(3),
            requests_in_flight_per_client_max: Some(2),
            requests_per_second_per_client_max: Some(70),
            repair_keys_per_second: 0,
            repair_bytes_per_second: 65_537,
            takeover_keys_per_second: 9,
            takeover_bytes_per_second: 65_539,
            tombstones_kept_for_seconds: 77,
            disk_reserve_bytes: Some(0),
            scrub_bytes_per_second: 65_540,
            scrub_every_seconds: 0,
            replace_damaged: false,
            status_page_keys: true,
            record_cache_bytes: RECORD_CACHE_BYTES_DEFAULT,
            block_cache_bytes: (1 << 20) + 1,
            write_buffer_bytes: (1 << 20) + 2,
        }
    );
}

#[test]
fn variables_replace_missing_keys() {
    let text = "node:\n  local_address: 127.0.0.1:8001\n  local_metrics_address: 127.0.0.1:9001\n";
    let pairs = [("QUORATE_NODE_ID", "2"), ("QUORATE_NODE_DATA_DIR", "/d"), ("QUORATE_NODE_LOCAL_METRICS_ADDRESS", "")];
    let config = node_with(text, &pairs).unwrap();
    assert_eq!((config.id, config.data_dir), (id("2"), PathBuf::from("/d")));
    let here = node_with(text, &[("QUORATE_NODE_ID", "2"), ("QUORATE_NODE_DATA_DIR", "./")]).unwrap();
    assert_eq!(here.data_dir, Path::new("."));
    assert_eq!(config.local_metrics_address, None);
}

#[test]
fn bad_variables_are_refused_by_name() {
    let names = "QUORATE_NODE_ID, QUORATE_NODE_LOCAL_ADDRESS, QUORATE_NODE_LOCAL_METRICS_ADDRESS, \
                 QUORATE_NODE_LOCAL_HTTP_ADDRESS, QUORATE_NODE_REMOTE_HTTP_ADDRESS, QUORATE_NODE_HTTP_HOSTS, \
                 QUORATE_NODE_HTTP_CORS_ORIGINS, QUORATE_NODE_LOCAL_LINE_ADDRESS, QUORATE_NODE_LOCAL_REDIS_ADDRESS, QUORATE_NODE_REDIS_TABLE, \
                 QUORATE_NODE_TLS_CERTIFICATE, QUORATE_NODE_TLS_KEY, QUORATE_NODE_TLS_CA, QUORATE_NODE_TLS_CLIENT_CERTIFICATES, \
                 QUORATE_NODE_INSECURE, QUORATE_NODE_AUTHORIZATION, QUORATE_NODE_AUDIT_FILE, QUORATE_NODE_AUDIT_WRITES, QUORATE_NODE_TRACES_ENDPOINT, QUORATE_NODE_TRACES_SAMPLED, QUORATE_NODE_DATA_DIR, QUORATE_NODE_DURABILITY, QUORATE_NODE_OPERATOR_WRITES, \
                 QUORATE_NODE_REQUESTS_IN_FLIGHT_MAX, QUORATE_NODE_REQUEST_BYTES_IN_FLIGHT_MAX, \
                 QUORATE_NODE_CONNECTIONS_MAX, QUORATE_NODE_CONNECTIONS_PER_ADDRESS_MAX, \
                 QUORATE_NODE_REQUESTS_IN_FLIGHT_PER_CLIENT_MAX, QUORATE_NODE_REQUESTS_PER_SECOND_PER_CLIENT_MAX, \
                 QUORATE_NODE_REPAIR_KEYS_PER_SECOND, QUORATE_NODE_REPAIR_BYTES_PER_SECOND, \
                 QUORATE_NODE_TAKEOVER_KEYS_PER_SECOND, QUORATE_NODE_TAKEOVER_BYTES_PER_SECOND, \
                 QUORATE_NODE_TOMBSTONES_KEPT_FOR_SECONDS, \
                 QUORATE_NODE_DISK_RESERVE_BYTES, QUORATE_NODE_SCRUB_BYTES_PER_SECOND, QUORATE_NODE_SCRUB_EVERY_SECONDS, \
                 QUORATE_NODE_REPLACE_DAMAGED, QUORATE_NODE_STATUS_PAGE_KEYS, QUORATE_NODE_RECORD_CACHE_BYTES, QUORATE_NODE_BLOCK_CACHE_BYTES, QUORATE_NODE_WRITE_BUFFER_BYTES";
    let cases = [
        (
            ("QUORATE_NODE_DURABILITY", "disk"),
            "environment variable QUORATE_NODE_DURABILITY: \"disk\" is not accepted: give fsync or os".to_owned(),
        ),
        (
            ("QUORATE_NODE_ID", "a,b"),
            "environment variable QUORATE_NODE_ID: node id \"a,b\" holds ',': printable ASCII without spaces and commas \
             is accepted"
                .to_owned(),
        ),
        (
            ("QUORATE_NODE_DATA_DIR", ""),
            "environment variable QUORATE_NODE_DATA_DIR: \"\" is not accepted: give the path of a folder, absolute or \
             relative to the working directory"
                .to_owned(),
        ),
        (
            ("QUORATE_NODE_DURABILTY", "os"),
            format!(
                "environment variable QUORATE_NODE_DURABILTY: unknown variable (did you mean \
                 QUORATE_NODE_DURABILITY?): accepted are {names}"
            ),
        ),
        (
            ("QUORATE_NODE_", "os"),
            format!("environment variable QUORATE_NODE_: unknown variable: accepted are {names}"),
        ),
    ];
    for (pair, message) in cases {
        assert_eq!(node_with(NODE, &[pair]).unwrap_err().to_string(), message);
    }
}

/// Kubernetes sets these in every container of the namespace, for Services called quorate-node, quorate-node-0 and
/// quorate-node-metrics.
#[test]
fn service_links_of_kubernetes_are_ignored() {
    let pairs = [
        ("QUORATE_NODE_SERVICE_HOST", "10.96.3.4"),
        ("QUORATE_NODE_SERVICE_PORT", "8001"),
        ("QUORATE_NODE_SERVICE_PORT_GRPC", "8001"),
        ("QUORATE_NODE_SERVICE_PORT_PEER_LINK", "8001"),
        ("QUORATE_NODE_PORT", "tcp://10.96.3.4:8001"),
        ("QUORATE_NODE_PORT_8001_TCP", "tcp://10.96.3.4:8001"),
        ("QUORATE_NODE_PORT_8001_TCP_PROTO", "tcp"),
        ("QUORATE_NODE_PORT_8001_TCP_PORT", "8001"),
        ("QUORATE_NODE_PORT_8001_TCP_ADDR", "10.96.3.4"),
        ("QUORATE_NODE_0_SERVICE_HOST", "fd00::1"),
        ("QUORATE_NODE_0_PORT", "tcp://[fd00::1]:8001"),
        ("QUORATE_NODE_METRICS_PORT_9001_UDP", "udp://10.96.3.5:9001"),
        ("QUORATE_NODE_METRICS_PORT_9001_SCTP_PROTO", "sctp"),
    ];
    for pair in pairs {
        assert_eq!(node_with(NODE, &[pair]), node(NODE), "{pair:?}");
    }
    assert_eq!(node_with(NODE, &pairs), node(NODE));
}

/// Name and value must fit: everything else may be a person's mistake.
#[test]
fn variables_that_only_resemble_service_links_are_refused() {
    for pair in [
        ("QUORATE_NODE_PORT", "8001"),
        ("QUORATE_NODE_PORT", "tcp://quorate:8001"),
        ("QUORATE_NODE_PORT", "http://10.96.3.4:8001"),
        ("QUORATE_NODE_SERVICE_HOST", "quorate-1"),
        ("QUORATE_NODE_SERVICE_PORT", "tcp"),
        ("QUORATE_NODE_SERVICE", "10.96.3.4"),
        ("QUORATE_NODE_PORT_8001", "tcp://10.96.3.4:8001"),
        ("QUORATE_NODE_PORT_8001_TCP_NAME", "8001"),
        ("QUORATE_NODE_PORT_GRPC_TCP", "tcp://10.96.3.4:8001"),
        ("QUORATE_NODE_HOST", "10.96.3.4"),
    ] {
        let error = node_with(NODE, &[pair]).expect_err(pair.0).to_string();
        assert!(error.starts_with(&format!("environment variable {}: unknown variable", pair.0)), "{error}");
    }
}

#[test]
fn path_that_a_shell_would_expand_is_refused_with_a_hint() {
    for (path, syntax) in [
        ("~", "~"),
        ("~/q", "~"),
        ("~quorate/q", "~quorate"),
        ("$HOME/q", "$HOME"),
        ("/data/$NODE_ID", "$NODE_ID"),
        ("/data/${NODE}-x", "${NODE}"),
        ("/data/$(hostname)/q", "$(hostname)"),
        ("/data/${NODE", "${NODE"),
    ] {
        let hint = format!("({syntax} is not expanded: write the path itself)");
        let in_file = node(&NODE.replace("./data/1", &format!("\"{path}\""))).expect_err(path).to_string();
        let expected = format!(
            "etc/n.yml:4: node.data_dir: {path:?} is not accepted: give the path of a folder, absolute or relative to this \
             file, such as ./data/1 {hint}"
        );
        assert_eq!(in_file, expected);
        let in_variable = node_with(NODE, &[("QUORATE_NODE_DATA_DIR", path)]).expect_err(path).to_string();
        assert!(in_variable.starts_with("environment variable QUORATE_NODE_DATA_DIR: "), "{in_variable}");
        assert!(in_variable.ends_with(&hint), "{in_variable}");
    }
    for path in ["./~", "a~b", "/mnt/c$/q", "cost-5$", "/a$1"] {
        let config = node_with(NODE, &[("QUORATE_NODE_DATA_DIR", path)]).expect(path);
        assert!(config.data_dir.ends_with(path.trim_start_matches("./")), "{}", config.data_dir.display());
    }
}

#[cfg(unix)]
#[test]
fn variable_that_is_not_utf8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let pair = (OsString::from("QUORATE_NODE_DURABILITY"), OsString::from_vec(vec![0xff]));
    let error = NodeConfig::parse(file("n.yml", NODE), [pair]).unwrap_err();
    let message = "environment variable QUORATE_NODE_DURABILITY: the value is not UTF-8: accepted is fsync or os";
    assert_eq!(error.to_string(), message);
}
