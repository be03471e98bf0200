//! Several files checked together, and the shipped examples.

use std::path::Path;

use super::{CLUSTER, NODE, file, id};
use crate::config::{Config, LocalAddress, check};
use crate::types::Durability;

#[test]
fn check_tells_kinds_apart_and_compares_them() {
    let second = NODE.replace("\"1\"", "2");
    let stranger = NODE.replace("\"1\"", "9");
    let files = [
        file("n1.yml", NODE),
        file("c.yml", CLUSTER),
        file("n2.yml", &second),
        file("again.yml", NODE),
        file("n9.yml", &stranger),
        file("broken.yml", "node: {"),
        file("other.yml", "clusters: {}"),
        file("empty.yml", ""),
        file("none.yml", "{}"),
    ];
    let shown: Vec<String> = check(&files, &[])
        .into_iter()
        .map(|report| match report.outcome {
            Ok(checked) => format!("{}: {checked}", report.file.display()),
            Err(error) => error.to_string(),
        })
        .collect();
    assert_eq!(shown[0], "n1.yml: node 1");
    assert_eq!(shown[1], "c.yml: cluster of 3 nodes, 3 replicas");
    assert_eq!(shown[2], "n2.yml: node 2");
    assert_eq!(shown[3], "again.yml:2: node.id: node 1 is also described by n1.yml: give each node an id of its own");
    assert_eq!(shown[4], "n9.yml:2: node.id: node 9 is not in c.yml: accepted are 1, 2, 3");
    assert!(shown[5].contains("not valid YAML"), "{}", shown[5]);
    assert_eq!(shown[6], "other.yml:1: clusters: unknown key (did you mean cluster?): accepted are node, cluster");
    assert_eq!(shown[7], "empty.yml: the file is empty: accepted is one mapping with the key node or cluster");
    assert_eq!(shown[8], "none.yml:1: node: missing: give the key node or the key cluster");
    assert!(check(&[file("n9.yml", &stranger)], &[])[0].outcome.is_ok(), "there is no cluster to compare it with");
}

#[test]
fn check_remarks_on_addresses_of_http_that_nobody_reaches() {
    let remarks = |lines: &str| -> Vec<String> {
        let reports = check(&[file("n.yml", &format!("{NODE}{lines}  insecure: true\n"))], &[]);
        assert!(reports[0].outcome.is_ok(), "{reports:?}");
        reports[0].remarks.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        remarks("  remote_http_address: db.example:80\n"),
        [
            "n.yml:5: node.remote_http_address: remark: node 1 serves no HTTP, so that nobody is told db.example:80: give \
          local_http_address, or leave remote_http_address out"
        ]
    );
    assert_eq!(
        remarks("  local_http_address: :8101\n  remote_http_address: db.example:80\n"),
        ["n.yml:6: node.remote_http_address: remark: node 1 serves HTTP on :8101, but tells others to reach it at \
          db.example:80: correct one of the two, unless a proxy or an address translation is in between"]
    );
    assert_eq!(remarks("  local_http_address: :80\n  remote_http_address: db.example:80\n"), [""; 0]);
    assert_eq!(remarks("  local_http_address: :80\n"), [""; 0]);
}

#[test]
fn check_remarks_on_addresses_that_cannot_be_the_same() {
    let remarks = |local: &str, remote: &str| -> Vec<String> {
        let node = NODE.replace("127.0.0.1:8001", &format!("\"{local}\"")) + "  insecure: true\n";
        let cluster = CLUSTER.replace("127.0.0.1:8001", remote);
        let reports = check(&[file("n.yml", &node), file("c.yml", &cluster)], &[]);
        assert!(reports.iter().all(|report| report.outcome.is_ok()), "{reports:?}");
        reports.iter().flat_map(|report| &report.remarks).map(ToString::to_string).collect()
    };
    for (local, remote) in [
        ("127.0.0.1:8001", "10.0.0.1:8001"),
        ("127.0.0.1:8001", "quorate-1:8001"),
        ("[::1]:8001", "127.0.0.1:8001"),
        ("10.0.0.2:8001", "10.0.0.1:8001"),
        ("10.0.0.2:8001", "localhost:8001"),
        (":8001", "quorate-1:8101"),
    ] {
        let expected = format!(
            "n.yml:3: node.local_address: remark: node 1 listens on {local}, but c.yml says that others reach it at {remote}: \
             correct one of the two, unless a proxy or an address translation is in between"
        );
        assert_eq!(remarks(local, remote), [expected]);
    }
    for (local, remote) in [
        (":8001", "10.0.0.1:8001"),
        (":8001", "quorate-1:8001"),
        ("[::]:8001", "10.0.0.1:8001"),
        ("0.0.0.0:8001", "10.0.0.1:8001"),
        ("10.0.0.1:8001", "10.0.0.1:8001"),
        ("10.0.0.1:8001", "quorate-1:8001"),
        ("127.0.0.1:8001", "localhost:8001"),
        ("[::ffff:10.0.0.1]:8001", "10.0.0.1:8001"),
    ] {
        assert_eq!(remarks(local, remote), Vec::<String>::new(), "{local} {remote}");
    }
}

#[test]
fn node_that_others_reach_needs_tls_or_leave_to_go_without() {
    let refused = |local: &str, more: &str, remote: &str| -> Option<String> {
        let node = NODE.replace("127.0.0.1:8001", &format!("\"{local}\"")) + more;
        let cluster = CLUSTER.replace("127.0.0.1:8001", remote);
        let (node, cluster) = (file("n.yml", &node), file("c.yml", &cluster));
        let parsed = Config::parse(node, cluster, []).err().map(|error| error.to_string());
        let checked = check(&[node, cluster], &[])[0].outcome.clone().err().map(|error| error.to_string());
        assert_eq!(parsed, checked, "both say the same");
        parsed
    };
    let tls = "  tls_certificate: n.crt\n  tls_key: n.key\n  tls_ca: ca.crt\n";
    for (local, more, remote) in [
        ("127.0.0.1:8001", "", "127.0.0.1:8001"),
        ("127.9.9.9:8001", "", "localhost:8001"),
        ("[::1]:8001", "", "[::1]:8001"),
        ("[::ffff:127.0.0.1]:8001", "  local_http_address: 127.0.0.1:8101\n", "LOCALHOST.:8001"),
        (":8001", tls, "n1.example:8001"),
        (":8001", "  insecure: true\n", "n1.example:8001"),
    ] {
        assert_eq!(refused(local, more, remote), None, "{local} {more} {remote}");
    }
    for (local, more, remote, place) in [
        (":8001", "", "127.0.0.1:8001", "n.yml:3: node.local_address: :8001"),
        ("0.0.0.0:8001", "", "127.0.0.1:8001", "n.yml:3: node.local_address: 0.0.0.0:8001"),
        ("10.0.0.1:8001", "", "127.0.0.1:8001", "n.yml:3: node.local_address: 10.0.0.1:8001"),
        (
            "127.0.0.1:8001",
            "  local_redis_address: :6379\n",
            "127.0.0.1:8001",
            "n.yml:5: node.local_redis_address: :6379",
        ),
        (
            "127.0.0.1:8001",
            "  local_metrics_address: \"[::]:9\"\n",
            "127.0.0.1:8001",
            "n.yml:5: node.local_metrics_address: [::]:9",
        ),
        ("127.0.0.1:8001", "", "10.0.0.1:8001", "c.yml: cluster.nodes: 10.0.0.1:8001"),
        (
            "127.0.0.1:8001",
            "  insecure: false\n",
            "localhost.evil.example:8001",
            "c.yml: cluster.nodes: localhost.evil.example:8001",
        ),
    ] {
        let error = refused(local, more, remote).unwrap_or_else(|| panic!("{local} {more} {remote} is accepted"));
        assert!(error.starts_with(&format!("{place} is beyond this machine's loopback")), "{error}");
        assert!(error.contains("tls_certificate") && error.contains("insecure: true"), "{error}");
    }
}

#[test]
fn tls_needs_all_of_its_files() {
    for (lines, missing) in [
        ("  tls_certificate: n.crt\n", "node.tls_key"),
        ("  tls_certificate: n.crt\n  tls_key: n.key\n", "node.tls_ca"),
        ("  tls_ca: ca.crt\n", "node.tls_certificate"),
    ] {
        let error = super::node(&format!("{NODE}{lines}")).unwrap_err().to_string();
        let words = [missing, "missing", "needs tls_certificate, tls_key and tls_ca"];
        // Of two that are missing, either is named.
        assert!(words[1..].iter().all(|part| error.contains(part)), "{error}");
        assert!(error.contains("node.tls_"), "{error}");
    }
    let node = super::node(&format!("{NODE}  tls_certificate: a.crt\n  tls_key: b.key\n  tls_ca: /ca.crt\n")).unwrap();
    let tls = node.tls.unwrap();
    let expected = [Path::new("etc/a.crt"), Path::new("etc/b.key"), Path::new("/ca.crt")];
    assert_eq!([tls.certificate.as_path(), &tls.key, &tls.ca], expected, "relative to the folder of the file");
}

#[test]
fn authorization_needs_tls_beyond_loopback_and_the_audit_needs_authorization() {
    let error = |lines: &str| super::node(&format!("{NODE}{lines}")).unwrap_err().to_string();
    let not_asked = error("  audit_file: audit\n");
    assert!(not_asked.contains("node.audit_file") && not_asked.contains("authorization: true"), "{not_asked}");
    let nowhere = error("  authorization: true\n  audit_writes: true\n");
    assert!(nowhere.contains("node.audit_writes") && nowhere.contains("audit_file"), "{nowhere}");
    let exposed = error("  insecure: true\n  authorization: true\n  local_redis_address: \":8301\"\n");
    assert!(exposed.contains("node.authorization") && exposed.contains("tls_certificate"), "{exposed}");
    let plain = "  insecure: true\n  authorization: true\n  tls_certificate: a\n  tls_key: b\n  tls_ca: c\n";
    let in_plain_text = error(&format!("{plain}  local_redis_address: \":8301\"\n"));
    assert!(in_plain_text.contains("node.insecure") && in_plain_text.contains("plain text"), "{in_plain_text}");
    super::node(&format!("{NODE}{plain}")).unwrap();
    let node = super::node(&format!("{NODE}  authorization: true\n  audit_file: audit\n")).unwrap();
    assert_eq!(node.audit_file.as_deref(), Some(Path::new("etc/audit")), "relative to the folder of the file");
}

#[test]
fn cluster_has_a_name_for_its_certificates() {
    assert_eq!(super::cluster(CLUSTER).unwrap().name, "quorate");
    assert_eq!(
        super::cluster(&CLUSTER.replace("  seed: 0\n", "  seed: 0\n  name: prod-1.eu\n")).unwrap().name,
        "prod-1.eu"
    );
    for name in ["a/b", "\"\"", "a b", &"n".repeat(65)] {
        let error =
            super::cluster(&CLUSTER.replace("  seed: 0\n", &format!("  seed: 0\n  name: {name}\n"))).unwrap_err();
        assert!(error.to_string().contains("cluster.name") && error.to_string().contains("such as prod"), "{error}");
    }
}

macro_rules! example {
    ($folder:literal, [$($number:literal),*]) => {
        (
            $folder,
            include_str!(concat!("../../../examples/", $folder, "/cluster.yml")),
            vec![$(include_str!(concat!("../../../examples/", $folder, "/node-", $number, ".yml"))),*],
        )
    };
}

#[test]
fn shipped_examples_are_accepted() {
    let examples = [
        example!("3-local-nodes", ["1", "2", "3"]),
        example!("5-nodes", ["1", "2", "3", "4", "5"]),
        example!("9-local-nodes", ["1", "2", "3", "4", "5", "6", "7", "8", "9"]),
    ];
    for (folder, cluster, nodes) in examples {
        let is_local = folder.contains("local");
        for (index, node) in (1_u16..).zip(&nodes) {
            let name = format!("{folder}/node-{index}.yml");
            let config = Config::parse(file(&name, node), file("cluster.yml", cluster), []).unwrap();
            assert_eq!(config.node.id, id(&index.to_string()));
            assert_eq!(config.cluster.addresses.len(), nodes.len());
            assert_eq!(config.cluster.parameters.replica_count, 3);
            assert_eq!(config.node.durability, Durability::Fsync);
            assert_eq!(config.node.operator_writes, is_local);
            assert_eq!(config.node.local_address.is_loopback(), is_local);
            let reports = check(&[file(&name, node), file("cluster.yml", cluster)], &[]);
            assert!(reports.iter().all(|report| report.remarks.is_empty()), "{reports:?}");
            if is_local {
                let address = config.cluster.address(config.member());
                assert_eq!(config.node.local_address.to_string(), address.to_string());
                assert_eq!(config.node.local_metrics_address, Some(LocalAddress::loopback(9000 + index)));
                assert_eq!(config.node.data_dir, Path::new(folder).join("data").join(index.to_string()));
            }
        }
    }
}

#[test]
fn traces_go_to_a_collector_without_tls_and_their_share_is_a_part_of_all() {
    let node = |lines: &str| super::node(&format!("{NODE}{lines}"));
    let given = node("  traces_endpoint: http://[::1]:4317\n  traces_sampled: 1\n").unwrap();
    assert_eq!(given.traces_endpoint.as_deref(), Some("http://[::1]:4317"));
    assert_eq!(Some(given.traces_sampled), crate::config::Fraction::parse("1.000"));
    for (text, expected) in [("0", 0.0), ("0.0", 0.0), ("1.0", 1.0), ("0.000001", 0.000_001), ("0.25", 0.25)] {
        let sampled = node(&format!("  traces_sampled: {text}\n")).expect(text).traces_sampled;
        assert!((f64::from(sampled) - expected).abs() < 1e-9, "{text}");
    }
    for text in ["1.1", "-0", "01", "1e-2", ".5", "0.", "0.0000001", "2", "half", "1 %"] {
        let error = node(&format!("  traces_sampled: \"{text}\"\n")).expect_err(text).to_string();
        assert!(error.contains("node.traces_sampled") && error.contains("from 0 to 1"), "{error}");
    }
    for text in ["127.0.0.1:4317", "http://127.0.0.1", "http://a:1/path", "grpc://a:1", "http://u@a:1", "http://"] {
        let error = node(&format!("  traces_endpoint: \"{text}\"\n")).expect_err(text).to_string();
        assert!(error.contains("node.traces_endpoint") && error.contains("http://HOST:PORT"), "{error}");
    }
    let error = node("  traces_endpoint: https://a:1\n").unwrap_err().to_string();
    assert!(error.contains("a collector beside the node"), "{error}");
}
