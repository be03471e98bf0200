//! Backups in a bucket, of a server of others with the interface of S3 (gofakes3). It does not look at credentials: the answers
//! of a store that does are played.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use quorate::backup::{self, BackupError, Bucket, Create, Restore};
use quorate::client::Write;
use serde_json::Value as Json;

use super::testkit::cluster::{Cluster, Plan};
use super::testkit::process::{self, Process};
use super::testkit::{ports, tools};
use super::{all, decoded, said, successor};

/// A store with a bucket called `backups`.
struct Store {
    address: SocketAddr,
    process: Process,
}

impl Store {
    /// `None`, with a word, where its program is missing.
    fn start(cluster: &Cluster) -> Option<Self> {
        let path = tools::find(&["gofakes3"])?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free_port()));
        // Found in these folders, not in those of this process alone.
        let program = std::env::split_paths(&path).map(|folder| folder.join("gofakes3")).find(|file| file.is_file());
        let mut command = Command::new(program.expect("it was found"));
        command.args(["-backend", "memory", "-initialbucket", "backups", "-host", &address.to_string()]);
        let process = Process::spawn(&mut command, &cluster.dir().join("store.log"));
        let store = Self { address, process };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Some(store);
            }
            std::thread::sleep(process::LOOK_AFTER);
        }
        panic!("gofakes3 does not listen: {:?}", std::fs::read_to_string(cluster.dir().join("store.log")));
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "AWS_ENDPOINT_URL" => format!("http://{}", self.address),
            "AWS_ACCESS_KEY_ID" => "a-key".to_owned(),
            "AWS_SECRET_ACCESS_KEY" => "hush-hush".to_owned(),
            _ => return None,
        };
        Some(value)
    }

    fn bucket(&self, url: &str) -> Bucket {
        Bucket::new(url, |name| self.variable(name)).unwrap()
    }

    /// The program as a user of `cluster` and of this store calls it.
    fn quorate(&self, cluster: &Cluster, arguments: &[&str]) -> Output {
        let mut command = process::command();
        for name in ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env(name, self.variable(name).unwrap());
        }
        command.env("QUORATE_ADDRESS", cluster.addresses().join(",")).args(arguments).output().unwrap()
    }

    /// An answer to a request without a signature.
    fn ask(&self, method: &str, object: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "{method} /backups/{object} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
    }

    fn put(&self, object: &str, body: &[u8]) {
        let (head, _) = self.ask("PUT", object, body);
        assert!(head.starts_with("HTTP/1.1 200"), "{object}: {head}");
    }

    /// The names of all objects.
    fn names(&self) -> Vec<String> {
        let (_, body) = self.ask("GET", "?list-type=2", b"");
        let text = String::from_utf8(body).unwrap();
        text.split("<Key>").skip(1).map(|part| part.split_once("</Key>").unwrap().0.to_owned()).collect()
    }
}

/// The lines of files of keys, by key.
fn saved(store: &Store, prefix: &str, manifest: &backup::Manifest, table: &str) -> BTreeMap<String, Json> {
    let mut lines = BTreeMap::new();
    for file in manifest.files.iter().filter(|file| file.table == table) {
        let (head, body) = store.ask("GET", &format!("{prefix}/{}", file.name), b"");
        assert!(head.starts_with("HTTP/1.1 200") && body.len() as u64 == file.bytes, "{head}");
        for line in String::from_utf8(body).unwrap().lines() {
            let line: Json = serde_json::from_str(line).unwrap();
            lines.insert(line["key"].as_str().unwrap().to_owned(), line);
        }
    }
    lines
}

fn memory() -> Plan {
    Plan { memory: true, ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_in_a_bucket_is_verified_and_restored_key_by_key() {
    let cluster = Cluster::start_as(&memory()).await;
    let Some(store) = Store::start(&cluster) else { return };
    let client = cluster.client();
    // Files of one key and of many, one of which is sent in parts.
    let large: Vec<u8> = (0..20_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    client.set("large", large).await.unwrap();
    client.batch_write((0..500).map(|at| Write::from(client.set(format!("k{at:03}"), vec![255; 300])))).await.unwrap();
    client.tables().create("sessions").default_ttl(Duration::from_hours(1)).await.unwrap();
    client.table("sessions").set("s\u{fc}", "v").await.unwrap();

    let manifest = Create::new(client.clone(), store.bucket("s3://backups/cluster/monday"))
        .file_bytes_max(40_000)
        .run(|_| {})
        .await
        .unwrap();
    assert!(manifest.files.len() > 4, "{:?}", manifest.files);
    let names = store.names();
    let of_keys = names.iter().filter(|name| name.starts_with("cluster/monday/keys-")).count();
    assert_eq!(of_keys, manifest.files.len(), "{names:?}");
    assert_eq!(names.len(), of_keys + 1, "the list of what is done is removed: {names:?}");

    let name = "s3://backups/cluster/monday";
    let verified = store.quorate(&cluster, &["backup", "verify", name]);
    assert!(verified.status.success(), "{}", said(&verified));
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(text.starts_with(&format!("ok: 502 keys in {} files", manifest.files.len())), "{text}");
    let inspected = store.quorate(&cluster, &["backup", "inspect", name, "--json"]);
    assert_eq!(serde_json::from_slice::<Json>(&inspected.stdout).unwrap(), manifest.summary());

    let successor = successor(manifest.epoch_floor()).await;
    let mut told = Vec::new();
    let restored =
        Restore::new(successor.client(), store.bucket(name)).run(|progress| told.push(progress)).await.unwrap();
    assert_eq!(restored.progress, manifest.size(), "a restore counts as a backup does");
    assert_eq!(told.last(), Some(&manifest.size()));
    let lines = saved(&store, "cluster/monday", &manifest, "default");
    let found = all(&successor.client()).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), lines.keys().collect::<Vec<_>>());
    for (key, listed) in &found {
        let value = listed.value.as_ref().unwrap().bytes();
        assert!(decoded(lines[key]["binary"].as_str().unwrap()) == value[..], "{key}");
    }
    let listed = successor.client().table("sessions").get("s\u{fc}").await.unwrap();
    assert_eq!(listed.map(|found| found.value.bytes().to_vec()), Some(b"v".to_vec()));

    // Damage is found, and nothing of the file is written.
    let file = manifest.files.iter().find(|file| file.table == "default" && file.keys > 1).unwrap();
    let object = format!("cluster/monday/{}", file.name);
    let (_, body) = store.ask("GET", &object, b"");
    let mut changed = body.clone();
    changed[body.len() / 2] ^= 1;
    for (damaged, part) in [(&changed[..], "its checksum"), (&body[..body.len() - 3], "bytes, and the manifest says")] {
        store.put(&object, damaged);
        for command in [&["backup", "verify", name][..], &["backup", "restore", name, "--force"]] {
            let refused = store.quorate(&successor, command);
            assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
            let text = said(&refused);
            assert!(text.contains(part) && text.contains(&format!("s3://backups/{object}")), "{text}");
        }
    }
    store.ask("DELETE", &object, b"");
    let refused = store.quorate(&cluster, &["backup", "verify", name]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("there is no such object"), "{}", said(&refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_in_a_bucket_that_was_killed_goes_on_where_it_ended() {
    let cluster = Cluster::start_as(&memory()).await;
    let Some(mut store) = Store::start(&cluster) else { return };
    let client = cluster.client();
    client.batch_write((0..200).map(|at| Write::from(client.set(format!("k{at:03}"), "x".repeat(100))))).await.unwrap();
    let begun = || Create::new(client.clone(), store.bucket("s3://backups/tuesday")).file_bytes_max(2_000);
    let cut =
        tokio::time::timeout(Duration::from_millis(1_500), begun().bytes_per_second(Some(5_000)).run(|_| {})).await;
    assert!(cut.is_err(), "it was to be interrupted");
    let lines = store.names().iter().filter(|name| name.starts_with("tuesday/unfinished/")).count();
    assert!(lines > 2, "{:?}", store.names());
    let error = begun().run(|_| {}).await.unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    let inspected = store.quorate(&cluster, &["backup", "inspect", "s3://backups/tuesday"]);
    assert_eq!(inspected.status.code(), Some(2));
    let text = String::from_utf8(inspected.stdout).unwrap();
    assert!(text.contains(&format!("in {} file", lines - 1)), "{text}");

    // Two go on at once. One of them ends with an error, and what the other has written is whole.
    let (first, second) = tokio::join!(
        begun().resume(true).bytes_per_second(Some(60_000)).run(|_| {}),
        begun().resume(true).bytes_per_second(Some(50_000)).run(|_| {}),
    );
    let (manifest, error) = match (first, second) {
        (Ok(manifest), Err(error)) | (Err(error), Ok(manifest)) => (manifest, error),
        both => panic!("one of two was to win: {both:?}"),
    };
    assert!(matches!(error, BackupError::InUse { .. } | BackupError::Complete { .. }), "{error}");
    assert_eq!(manifest.size().keys, 200);
    assert!(manifest.files.len() > lines - 1);
    backup::verify(store.bucket("s3://backups/tuesday"), |_| {}).await.unwrap();
    assert_eq!(saved(&store, "tuesday", &manifest, "default").len(), 200);
    let error = begun().resume(true).run(|_| {}).await.unwrap_err();
    assert!(matches!(error, BackupError::Complete { .. }), "{error}");

    // Something else lies there.
    store.put("wednesday/photo.jpg", b"x");
    for (name, part) in [
        ("s3://backups/wednesday", "not empty"),
        ("s3://backups/tuesday", "holds a whole backup"),
        ("s3://no-such-bucket/x", "there is no bucket no-such-bucket: create it"),
        ("s3:///x", "it names no bucket"),
        ("s3://backups/a//b", "its prefix is refused"),
        ("gs://backups/x", "only buckets of S3 are taken"),
    ] {
        let refused = store.quorate(&cluster, &["backup", "create", name]);
        assert_eq!(refused.status.code(), Some(2), "{name}: {}", said(&refused));
        assert!(said(&refused).contains(part) && !said(&refused).contains("--resume"), "{name}: {}", said(&refused));
    }
    let refused = store.quorate(&cluster, &["backup", "inspect", "s3://backups/thursday"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("holds no backup"), "{}", said(&refused));
    // A store that is gone may come back.
    store.process.kill();
    let refused = store.quorate(&cluster, &["backup", "create", "s3://backups/friday"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(said(&refused).contains("refused"), "{}", said(&refused));
}

/// A store that answers every request alike.
fn answering(status: &'static str, code: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let body =
                format!("<Error><Code>{code}</Code><Message>No.</Message><StringToSign>x</StringToSign></Error>");
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn credentials_that_are_missing_or_refused_are_told_without_the_secret() {
    let run = |variables: &[(&str, &str)]| {
        let mut command = process::command();
        for (name, _) in std::env::vars() {
            if name.starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied()).args(["backup", "inspect", "s3://backups/monday"]).output().unwrap()
    };
    let keys = [("AWS_ACCESS_KEY_ID", "a-key"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];
    let missing = run(&[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing).contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{}", said(&missing));
    let plain = run(&[keys[0], keys[1], ("AWS_ENDPOINT_URL", "http://192.0.2.1:9000")]);
    assert_eq!(plain.status.code(), Some(2));
    assert!(said(&plain).contains("AWS_ALLOW_HTTP=true"), "{}", said(&plain));
    for (status, code, part) in [
        ("403 Forbidden", "AccessDenied", "access denied: the credentials need s3:ListBucket"),
        ("403 Forbidden", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY is not the secret of AWS_ACCESS_KEY_ID"),
        ("403 Forbidden", "InvalidAccessKeyId", "does not know the key of AWS_ACCESS_KEY_ID"),
        ("400 Bad Request", "ExpiredToken", "AWS_SESSION_TOKEN has expired"),
        ("301 Moved Permanently", "PermanentRedirect", "set AWS_REGION"),
        ("404 Not Found", "NoSuchBucket", "there is no bucket backups"),
    ] {
        let url = format!("http://{}", answering(status, code));
        let refused = run(&[keys[0], keys[1], ("AWS_ENDPOINT_URL", &url)]);
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(2), "{code}: {text}");
        assert!(text.contains("s3://backups/monday") && text.contains(part), "{code}: {text}");
        assert!(!text.contains("hush") && !text.contains("StringToSign"), "{text}");
    }
}
