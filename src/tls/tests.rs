//! Handshakes between nodes and with clients: who is believed, and what each side is told where one is not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower_service::Service as _;

use super::authority::{self, Holder};
use super::*;
use crate::fuzz::{DRAWN_BYTES_MAX, mutated};
use crate::types::NodeId;

const DOOR: Door = Door { protocols: &[b"h2"], refusal: b"TLS is needed\n" };
const DAY: Duration = Duration::from_hours(24);

fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

/// A CA, its folder, and certificates that `quorate ca issue` would make.
struct Cluster {
    dir: TempDir,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let dir = TempDir::with_prefix("quorate-tls-").unwrap();
        authority::init(dir.path(), name, DAY).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, holder: Holder<'_>) -> authority::Issued {
        authority::issue(self.dir.path(), self.dir.path(), holder, &["127.0.0.1".into()], DAY).unwrap()
    }

    fn files(&self, node: &str) -> NodeFiles {
        let certificate = self.path(&format!("node-{node}.crt"));
        if !certificate.exists() {
            self.issue(Holder::Node(&id(node)));
        }
        NodeFiles { certificate, key: self.path(&format!("node-{node}.key")), authorities: self.path("ca.crt") }
    }

    fn node(&self, node: &str) -> Trust {
        let name = Name::Node { cluster: "prod".into(), id: id(node) };
        let tls = NodeTls::load(self.files(node), name, false, false).unwrap();
        Trust { tls: Some(tls), ..Trust::default() }
    }

    /// Another certificate of this CA.
    fn odd(&self, change: impl FnOnce(&mut CertificateParams)) -> Own {
        let mut of_ca = CertificateParams::default();
        let said = files::facts(&self.path("ca.crt")).unwrap().remove(0);
        of_ca.distinguished_name.push(DnType::CommonName, said.common_name);
        of_ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::from_pem(&std::fs::read_to_string(self.path("ca.key")).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the odd one");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(date::now().unsigned_abs());
        (params.not_before, params.not_after) = (now - DAY, now + DAY);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &Issuer::new(of_ca, ca_key)).unwrap();
        own(certificate.der().clone(), &key.serialize_pem(), &self.path("odd.crt"))
    }
}

fn own(certificate: CertificateDer<'static>, key: &str, file: &Path) -> Own {
    let facts = Facts::parse(&certificate).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    Own { certified: Arc::new(CertifiedKey::new(vec![certificate], key)), facts, file: file.to_owned() }
}

fn node_uri(node: &str) -> SanType {
    SanType::URI(format!("quorate://prod/node/{node}").as_str().try_into().unwrap())
}

/// What a handshake has come to: for the one who dialed, for the one who accepted, and whom the latter saw.
struct Met {
    dialed: Result<(), String>,
    accepted: Result<(), String>,
    caller: Caller,
}

/// Dials a node that accepts as `trust` says, and sends a byte each way.
async fn meet(trust: &Trust, with: Dialer) -> Met {
    static DOOR_OF_TEST: Door = DOOR;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = trust.tls.clone();
    let accepting = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut connection = Accepted::new(tcp, tls.as_ref(), &DOOR_OF_TEST);
        let exchanged = async {
            let byte = connection.read_u8().await?;
            connection.write_u8(byte + 1).await?;
            connection.flush().await
        };
        let exchanged = exchanged.await;
        (exchanged.map_err(|error: io::Error| error.to_string()), connection.caller().clone())
    });
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let uri = format!("{}://{address}/", with.scheme()).parse().unwrap();
    let dialed = async {
        let connected = Connector::new(http, with).call(uri).await.map_err(|error| error.to_string())?;
        let mut connection = connected.into_inner();
        let exchanged = async {
            connection.write_u8(7).await?;
            connection.read_u8().await
        };
        match exchanged.await {
            Ok(8) => Ok(()),
            Ok(other) => Err(format!("it answered {other}")),
            Err(error) => Err(io::Error::to_string(&error)),
        }
    };
    let dialed = tokio::time::timeout(Duration::from_secs(10), dialed).await.expect("it ends in time");
    let (accepted, caller) =
        tokio::time::timeout(Duration::from_secs(10), accepting).await.expect("it ends in time").unwrap();
    Met { dialed, accepted, caller }
}

fn assert_says(what: &str, said: &Result<(), String>, parts: &[&str]) {
    let said = said.as_ref().expect_err(what);
    println!("{what}: {said}");
    for part in parts {
        assert!(said.contains(part), "{what}: no {part:?} in {said:?}");
    }
}

#[tokio::test]
async fn nodes_of_one_cluster_believe_each_other_by_certificate() {
    let cluster = Cluster::new("prod");
    let (one, two) = (cluster.node("1"), cluster.node("2"));
    let met = meet(&one, two.dialer(&id("1"))).await;
    assert_eq!((met.dialed, met.accepted), (Ok(()), Ok(())));
    assert_eq!(one.check_peer(Some(&met.caller)), Ok(()));
    assert_eq!(one.check_id(Some(&met.caller), &id("2")), Ok(()));
    let refusal = one.check_id(Some(&met.caller), &id("3")).unwrap_err();
    assert!(refusal.contains("it says that it is node 3 of cluster prod"), "{refusal}");
    assert!(refusal.contains("node 2 of cluster prod"), "{refusal}");
}

type Change = fn(&mut CertificateParams);

/// Certificates that are wrong, with what the one who is shown it says, and what the one who shows it is told.
fn wrong() -> Vec<(&'static str, Change, Vec<&'static str>, Vec<&'static str>)> {
    fn at(params: &mut CertificateParams, from_days: i64, to_days: i64) {
        let day = |days: i64| {
            let seconds = date::now() + days * 86_400;
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.unsigned_abs())
        };
        (params.not_before, params.not_after) = (day(from_days), day(to_days));
    }
    vec![
        (
            "expired",
            |params| {
                params.subject_alt_names = vec![node_uri("1")];
                at(params, -9, -1);
            },
            vec!["CN=the odd one", "node 1 of cluster prod", "it has expired at", "issue a new one"],
            vec!["odd.crt", "CN=the odd one", "not valid now", "issue a new one"],
        ),
        (
            "not yet valid",
            |params| {
                params.subject_alt_names = vec![node_uri("1")];
                at(params, 2, 9);
            },
            vec!["CN=the odd one", "it is valid from", "correct the clock"],
            vec!["odd.crt", "not valid now", "correct the clocks"],
        ),
        (
            "for clients alone, or servers alone",
            |params| {
                params.subject_alt_names = vec![node_uri("1")];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            },
            vec!["CN=the odd one", "extended key usage", "issue it for both"],
            vec!["odd.crt", "it is for another node or purpose"],
        ),
    ]
}

#[tokio::test]
async fn wrong_certificate_of_the_node_that_is_dialed_has_its_words_on_both_sides() {
    let cluster = Cluster::new("prod");
    let client = cluster.node("2");
    let mut rows = wrong();
    rows.push((
        "another node's",
        |params| params.subject_alt_names = vec![node_uri("3")],
        vec!["node 3 of cluster prod", "node 1 of cluster prod is expected at this address", "quorate://prod/node/1"],
        vec!["odd.crt", "it is for another node or purpose"],
    ));
    rows.push((
        "without a name",
        |params| params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())],
        vec!["it has no name of a node", "quorate ca issue node"],
        vec!["odd.crt", "it is for another node or purpose"],
    ));
    rows.push((
        "of another cluster of the same CA",
        |params| {
            params.subject_alt_names = vec![SanType::URI("quorate://test/node/1".try_into().unwrap())];
        },
        vec!["node 1 of cluster test", "node 1 of cluster prod is expected"],
        vec!["odd.crt"],
    ));
    for (what, change, dialed, accepted) in rows {
        let server = cluster.node("1");
        server.tls.as_ref().unwrap().present(cluster.odd(change));
        let met = meet(&server, client.dialer(&id("1"))).await;
        assert_says(what, &met.dialed, &dialed);
        assert_says(what, &met.accepted, &accepted);
        assert!(server.tls.as_ref().unwrap().handshakes_failed() == 1, "{what} is counted");
    }

    // One of another CA, and one whose key is not its own.
    let other = Cluster::new("prod");
    let server = cluster.node("1");
    let stranger = other.files("1");
    server.tls.as_ref().unwrap().present(Own::load(&stranger.certificate, &stranger.key).unwrap());
    let met = meet(&server, client.dialer(&id("1"))).await;
    assert_says("another CA", &met.dialed, &["no CA in", "ca.crt has issued it", "prod CA", "add its CA to that file"]);
    assert_says("another CA", &met.accepted, &["node-1.crt", "does not believe its issuer", "prod CA"]);

    let files = cluster.files("1");
    let pem = std::fs::read(&files.certificate).unwrap();
    let wrong_key = KeyPair::generate().unwrap().serialize_pem();
    server.tls.as_ref().unwrap().present(own(
        CertificateDer::from_pem_slice(&pem).unwrap(),
        &wrong_key,
        &files.certificate,
    ));
    let met = meet(&server, client.dialer(&id("1"))).await;
    assert_says("wrong key", &met.dialed, &["BadSignature"]);
    assert_says("wrong key", &met.accepted, &["node-1.crt", "its signature or its key is not accepted"]);
}

#[tokio::test]
async fn wrong_certificate_of_the_node_that_dials_has_its_words_on_both_sides() {
    let cluster = Cluster::new("prod");
    let server = cluster.node("1");
    for (what, change, accepted, dialed) in wrong() {
        let client = cluster.node("2");
        client.tls.as_ref().unwrap().present(cluster.odd(change));
        let met = meet(&server, client.dialer(&id("1"))).await;
        assert_says(what, &met.accepted, &accepted);
        assert_says(what, &met.dialed, &dialed);
    }
    let other = Cluster::new("prod");
    let client = cluster.node("2");
    let stranger = other.files("2");
    client.tls.as_ref().unwrap().present(Own::load(&stranger.certificate, &stranger.key).unwrap());
    let met = meet(&server, client.dialer(&id("1"))).await;
    assert_says("another CA", &met.accepted, &["no CA in", "ca.crt has issued it", "prod CA"]);
    assert_says("another CA", &met.dialed, &["node-2.crt", "does not believe its issuer"]);

    // These are good certificates, and no node's: the handshake succeeds, and the link does not.
    for (what, change, part) in [
        ("no name", (|_| {}) as Change, "is not that of a node of this cluster"),
        (
            "a client's",
            |params: &mut CertificateParams| {
                params.subject_alt_names = vec![SanType::URI("quorate://prod/client/ada".try_into().unwrap())];
            },
            "client ada of cluster prod",
        ),
        (
            "another cluster's",
            |params: &mut CertificateParams| {
                params.subject_alt_names = vec![SanType::URI("quorate://test/node/2".try_into().unwrap())];
            },
            "node 2 of cluster test",
        ),
    ] {
        let client = cluster.node("2");
        client.tls.as_ref().unwrap().present(cluster.odd(change));
        let met = meet(&server, client.dialer(&id("1"))).await;
        assert_eq!(met.accepted, Ok(()), "{what}");
        let refusal = server.check_peer(Some(&met.caller)).unwrap_err();
        assert!(refusal.contains(part) && refusal.contains("quorate ca issue node"), "{refusal}");
        assert!(server.check_id(Some(&met.caller), &id("2")).is_err(), "{what}");
    }
}

#[tokio::test]
async fn client_believes_the_host_and_may_be_asked_for_a_certificate() {
    let cluster = Cluster::new("prod");
    let server = cluster.node("1");
    let ca = cluster.path("ca.crt");
    let anonymous = ClientTls::load(&ca).unwrap();
    let met = meet(&server, anonymous.dialer()).await;
    assert_eq!((met.dialed, met.accepted), (Ok(()), Ok(())));
    assert!(matches!(met.caller.channel(), Some(Channel::Tls(None))), "{:?}", met.caller);
    assert!(server.check_peer(Some(&met.caller)).unwrap_err().contains("this connection has none"));

    let issued = cluster.issue(Holder::Client("ada"));
    let ada = anonymous.clone().with_certificate(&issued.certificate, &issued.key).unwrap();
    let met = meet(&server, ada.dialer()).await;
    assert_eq!((met.dialed, met.accepted), (Ok(()), Ok(())));
    let Some(Channel::Tls(Some(facts))) = met.caller.channel() else { panic!("{:?}", met.caller) };
    assert_eq!(facts.names, [Name::Client { cluster: "prod".into(), name: "ada".into() }]);

    let name = Name::Node { cluster: "prod".into(), id: id("1") };
    let strict = NodeTls::load(cluster.files("1"), name.clone(), true, false).unwrap();
    let strict = Trust { tls: Some(strict), ..Trust::default() };
    let met = meet(&strict, anonymous.dialer()).await;
    assert_says("no certificate", &met.dialed, &["asks for a client certificate", "--cert and --key"]);
    assert_says("no certificate", &met.accepted, &["tls_client_certificates: required"]);
    assert_eq!(meet(&strict, ada.dialer()).await.dialed, Ok(()));

    // A node whose certificate is for other hosts.
    let elsewhere = authority::issue(
        cluster.dir.path(),
        &cluster.path("out"),
        Holder::Node(&id("1")),
        &["n1.example".into(), "10.0.0.1".into()],
        DAY,
    );
    let elsewhere = elsewhere.unwrap();
    let server = cluster.node("1");
    server.tls.as_ref().unwrap().present(Own::load(&elsewhere.certificate, &elsewhere.key).unwrap());
    let met = meet(&server, anonymous.dialer()).await;
    assert_says("other host", &met.dialed, &["n1.example, 10.0.0.1", "not for 127.0.0.1", "--san 127.0.0.1"]);

    let met = meet(&server, Dialer::default()).await;
    assert!(met.accepted.is_err() && met.dialed.is_err(), "a node with TLS takes TLS alone");
    let plain = Trust::default();
    let met = meet(&plain, anonymous.dialer()).await;
    assert!(met.dialed.is_err(), "the client insists on TLS");

    // While plain text is taken too, each kind of dialer gets through.
    let both = NodeTls::load(cluster.files("1"), name, false, true).unwrap();
    let both = Trust { tls: Some(both), is_exposed: true, ..Trust::default() };
    let met = meet(&both, Dialer::default()).await;
    assert_eq!((met.dialed, met.accepted), (Ok(()), Ok(())));
    assert_eq!(both.check_id(Some(&met.caller), &id("2")), Ok(()), "it cannot be asked for more");
    assert_eq!(meet(&both, anonymous.dialer()).await.dialed, Ok(()));
}

#[tokio::test]
async fn files_that_changed_are_read_again_and_bad_ones_change_nothing() {
    let cluster = Cluster::new("prod");
    let server = cluster.node("1");
    let tls = server.tls.clone().unwrap();
    let first = tls.facts();
    // A new certificate of the same CA.
    let out = cluster.path("new");
    let fresh =
        authority::issue(cluster.dir.path(), &out, Holder::Node(&id("1")), &["127.0.0.1".into()], 2 * DAY).unwrap();
    let files = cluster.files("1");
    std::fs::copy(&fresh.certificate, &files.certificate).unwrap();
    tls.reload();
    let problem = tls.problem().expect("the key is still the old one");
    assert!(problem.contains("node-1.key") && problem.contains("it is not that of certificate"), "{problem}");
    assert_eq!(tls.facts(), first);
    assert!(server.problems()[0].contains("it goes on with those before"), "{:?}", server.problems());
    std::fs::copy(&fresh.key, &files.key).unwrap();
    tls.reload();
    assert_eq!((tls.problem(), tls.reloads()), (None, 1));
    assert_eq!(tls.facts(), fresh.facts);

    // From one CA to another, with both believed in between.
    let next = Cluster::new("prod");
    let both =
        [cluster.path("ca.crt"), next.path("ca.crt")].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    let peer = cluster.node("2");
    for trust in [&server, &peer] {
        std::fs::write(cluster.path("ca.crt"), &both).unwrap();
        trust.tls.as_ref().unwrap().reload();
    }
    let moved = next.files("1");
    std::fs::copy(&moved.certificate, &files.certificate).unwrap();
    std::fs::copy(&moved.key, &files.key).unwrap();
    tls.reload();
    assert_eq!(tls.problem(), None);
    assert_eq!(meet(&server, peer.dialer(&id("1"))).await.dialed, Ok(()));
    assert_eq!(meet(&peer, server.dialer(&id("2"))).await.dialed, Ok(()));
    // Only the new one is believed: the peer, which still has a certificate of the old one, is refused.
    std::fs::copy(next.path("ca.crt"), cluster.path("ca.crt")).unwrap();
    tls.reload();
    assert_says("old CA", &meet(&server, peer.dialer(&id("1"))).await.accepted, &["no CA in"]);
}

#[test]
fn bad_files_are_refused_with_file_subject_and_cure() {
    let cluster = Cluster::new("prod");
    let good = cluster.files("1");
    let other = Cluster::new("prod");
    let stranger = other.files("1");
    let client = cluster.issue(Holder::Client("ada"));
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let weak = NodeFiles {
        certificate: file("weak.crt", include_str!("testdata/weak.crt")),
        key: file("weak.key", include_str!("testdata/weak.key")),
        authorities: file("weak-ca.crt", include_str!("testdata/weak-ca.crt")),
    };
    let name = Name::Node { cluster: "prod".into(), id: id("1") };
    for (what, files, parts) in [
        ("missing", NodeFiles { key: dir.path().join("none"), ..good.clone() }, vec!["none", "cannot be read"]),
        (
            "a key for a certificate",
            NodeFiles { certificate: good.key.clone(), ..good.clone() },
            vec!["node-1.key", "BEGIN CERTIFICATE"],
        ),
        (
            "a certificate for a key",
            NodeFiles { key: good.certificate.clone(), ..good.clone() },
            vec!["node-1.crt", "BEGIN PRIVATE KEY"],
        ),
        (
            "another's key",
            NodeFiles { key: cluster.files("2").key, ..good.clone() },
            vec!["node-2.key", "it is not that of", "CN=node 1"],
        ),
        (
            "another CA",
            NodeFiles { authorities: other.path("ca.crt"), ..good.clone() },
            vec!["node-1.crt", "no CA in", "CN=node 1"],
        ),
        (
            "no CA",
            NodeFiles { authorities: good.certificate.clone(), ..good.clone() },
            vec!["node-1.crt", "it is not that of a CA"],
        ),
        (
            "the CA itself",
            NodeFiles { certificate: cluster.path("ca.crt"), key: cluster.path("ca.key"), ..good.clone() },
            vec!["ca.crt", "certificate of a CA"],
        ),
        (
            "another node",
            cluster.files("3"),
            vec!["node-3.crt", "it is not that of node 1 of cluster prod", "quorate://prod/node/1"],
        ),
        (
            "a client",
            NodeFiles { certificate: client.certificate, key: client.key, ..good.clone() },
            vec!["client ada", "it is not that of node 1"],
        ),
        ("weak", weak, vec!["weak.crt", "CN=node 1", "1024 bits", "2048"]),
        ("empty", NodeFiles { certificate: file("empty", ""), ..good.clone() }, vec!["empty", "no certificate in PEM"]),
        ("a folder", NodeFiles { certificate: dir.path().to_owned(), ..good.clone() }, vec!["no file of certificates"]),
    ] {
        let error = NodeTls::load(files, name.clone(), false, false).expect_err(what).to_string();
        println!("{what}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{what}: {error}");
        assert!(!error.contains("PRIVATE KEY-----\n"), "{what}");
    }
    drop(stranger);
    // An RSA key of an accepted size, from another issuer.
    let rsa = Facts::parse(&CertificateDer::from_pem_slice(include_bytes!("testdata/rsa.crt")).unwrap()).unwrap();
    assert_eq!((rsa.key, rsa.weakness()), (Key::Rsa(2_048), None));
    assert_eq!(rsa.subject, "O=Example, CN=node 1");
    assert_eq!(rsa.hosts, ["127.0.0.1"]);
    assert_eq!(rsa.names, [Name::Node { cluster: "quorate".into(), id: id("1") }]);
}

#[test]
fn renewed_certificate_has_a_new_key_and_the_hosts_of_the_one_before() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::new("prod");
    let (folder, hosts, node) = (cluster.dir.path(), ["n1.example".to_owned()], id("1"));
    let renew = |hosts: &[String]| authority::renew(folder, folder, Holder::Node(&node), hosts, DAY);
    let refused = renew(&[]).unwrap_err().to_string();
    assert!(refused.contains("node-1.crt"), "there is nothing to renew: {refused}");
    let first = authority::issue(folder, folder, Holder::Node(&node), &hosts, DAY).unwrap();
    let key_before = std::fs::read(&first.key).unwrap();
    let files_before = std::fs::read_dir(folder).unwrap().count();
    let second = renew(&[]).unwrap();
    assert_eq!((&second.certificate, &second.key), (&first.certificate, &first.key));
    assert_eq!((&second.facts.hosts[..], &second.facts.names), (&hosts[..], &first.facts.names));
    assert_ne!(std::fs::read(&second.key).unwrap(), key_before, "the key is a new one");
    assert_eq!(std::fs::metadata(&second.key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), files_before, "nothing else is left");
    assert_eq!(renew(&["n2.example".to_owned()]).unwrap().facts.hosts, ["n2.example"]);
}

#[test]
fn certificate_of_another_holder_is_not_renewed() {
    let cluster = Cluster::new("prod");
    let folder = cluster.dir.path();
    let of_slash = authority::issue(folder, folder, Holder::Client("a/b"), &[], DAY).unwrap();
    let before = std::fs::read(&of_slash.certificate).unwrap();
    let refused = authority::renew(folder, folder, Holder::Client("a_b"), &[], DAY).unwrap_err().to_string();
    assert!(refused.contains("client-a_b.crt: it is no certificate of client a_b"), "{refused}");
    assert_eq!(std::fs::read(&of_slash.certificate).unwrap(), before);
}

#[test]
fn keys_of_a_new_ca_are_private_and_nothing_is_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::new("prod");
    cluster.issue(Holder::Node(&id("1")));
    for key in ["ca.key", "node-1.key"] {
        let mode = std::fs::metadata(cluster.path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let again = authority::init(cluster.dir.path(), "prod", DAY).unwrap_err().to_string();
    assert!(again.contains("ca.crt") && again.contains("is not replaced"), "{again}");
    let again = authority::issue(cluster.dir.path(), cluster.dir.path(), Holder::Node(&id("1")), &[], DAY).unwrap_err();
    assert!(again.to_string().contains("node-1.crt"), "{again}");
    let error = authority::issue(cluster.dir.path(), cluster.dir.path(), Holder::Node(&id("9")), &["a b".into()], DAY);
    assert!(error.unwrap_err().to_string().contains("\"a b\" is not accepted as a host"));

    // A CA that somebody else made.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).unwrap();
    let error = authority::issue(dir.path(), dir.path(), Holder::Node(&id("1")), &[], DAY).unwrap_err().to_string();
    assert!(error.contains("was not made by `quorate ca init`"), "{error}");
}

#[test]
fn any_bytes_are_facts_or_none() {
    let cluster = Cluster::new("prod");
    let pem = std::fs::read(cluster.files("1").certificate).unwrap();
    let good = CertificateDer::from_pem_slice(&pem).unwrap();
    assert!(Facts::parse(&good).is_some());
    // Every byte changed, and every length.
    for at in 0..good.len() {
        let mut damaged = good.to_vec();
        for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            damaged[at] = value;
            let _ = Facts::parse(&damaged);
        }
        let _ = Facts::parse(&good[..at]);
    }
}

#[test]
fn fuzz_certificate() {
    let pem = [include_bytes!("testdata/rsa.crt").as_slice(), include_bytes!("testdata/weak-ca.crt")];
    let seeds = pem.map(|pem| CertificateDer::from_pem_slice(pem).unwrap().to_vec());
    let seeds = [seeds[0].as_slice(), &seeds[1]];
    bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
        let _ = Facts::parse(&mutated(&seeds, bytes));
    });
}
