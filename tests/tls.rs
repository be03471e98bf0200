//! TLS with real nodes, real files and the tools of others: the steps from plain text to TLS and from one CA to another under
//! load, members that change, every listener, and what each refusal says.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use quorate::api::peer_client::PeerClient;
use quorate::auth::Token;
use quorate::client::ClientTls;
use quorate::tls::{Dialer, Name, NodeFiles, NodeTls, Trust};
use quorate::types::NodeId;
use quorate::{Client, api, resolve};
use serde_json::Value as Json;
use tempfile::TempDir;
use testkit::cluster::{START_TIME_MAX, cluster_yml, node_yml, write};
use testkit::process::{self, Process, poll, read, tail};
use testkit::{ports, tools};
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

/// The lines of a node.yml with its files of TLS.
const TLS_LINES: &str = "  tls_certificate: node-ID.crt\n  tls_key: node-ID.key\n  tls_ca: ca.crt\n";

struct Node {
    id: &'static str,
    port: u16,
    metrics_port: u16,
    /// HTTP, lines and Redis.
    doors: [u16; 3],
    /// Whether it waits to be added, with `joining.yml` for its cluster file.
    joins: bool,
    process: Option<Process>,
}

/// Three nodes, their files, and a CA in the folder `ca`.
struct Cluster {
    dir: TempDir,
    /// See cluster.yml.
    name: &'static str,
    nodes: Vec<Node>,
}

impl Node {
    fn new(id: &'static str, joins: bool) -> Self {
        let [port, metrics_port, http, lines, redis] = [(); 5].map(|()| ports::free_port());
        Self { id, port, metrics_port, doors: [http, lines, redis], joins, process: None }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Cluster {
    fn new() -> Self {
        Self::named("quorate")
    }

    fn named(name: &'static str) -> Self {
        let dir = TempDir::with_prefix("quorate-tls-").unwrap();
        let nodes: Vec<Node> = ["1", "2", "3"].map(|id| Node::new(id, false)).into();
        let addresses: Vec<(&str, u16)> = nodes.iter().map(|node| (node.id, node.port)).collect();
        let text = cluster_yml(0, 3, &addresses).replacen("cluster:\n", &format!("cluster:\n  name: {name}\n"), 1);
        write(&dir.path().join("cluster.yml"), &text);
        Self { dir, name, nodes }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a CA in the folder `ca`, and a certificate for each node, which `take` puts in place.
    fn make_ca(&self, ca: &str) {
        let folder = self.path(ca).display().to_string();
        assert_done(&self.run(&["ca", "init", &folder, "--cluster", self.name]));
        for node in &self.nodes {
            assert_done(&self.run(&["ca", "issue", "node", node.id, "--dir", &folder]));
        }
    }

    /// Copies a certificate and its key to where the node looks for them, each in one step.
    fn take(&self, ca: &str, id: &str) {
        for kind in ["crt", "key"] {
            replace(&self.path(&format!("{ca}/node-{id}.{kind}")), &self.path(&format!("node-{id}.{kind}")));
        }
    }

    fn believe(&self, cas: &[&str]) {
        let all: String =
            cas.iter().map(|ca| fs::read_to_string(self.path(&format!("{ca}/ca.crt"))).unwrap()).collect();
        write(&self.path("ca.new"), &all);
        replace(&self.path("ca.new"), &self.path("ca.crt"));
    }

    fn log(&self, index: usize) -> PathBuf {
        self.path(&format!("node-{}.log", self.nodes[index].id))
    }

    fn start(&mut self, index: usize, lines: &str) {
        let node = &self.nodes[index];
        let file = self.path(&format!("node-{}.yml", node.id));
        let mut text = node_yml(node.id, node.port, node.metrics_port, &self.path(node.id), false);
        text = text.replace("durability: fsync", "durability: os");
        for (name, port) in ["http", "line", "redis"].iter().zip(node.doors) {
            writeln!(text, "  local_{name}_address: 127.0.0.1:{port}").unwrap();
        }
        text += &lines.replace("ID", node.id);
        write(&file, &text);
        let mut command = process::command();
        command.arg("serve").arg(&file);
        if node.joins {
            command.arg(self.path("joining.yml")).arg("--join");
        } else {
            command.arg(self.path("cluster.yml"));
        }
        let log = self.log(index);
        self.nodes[index].process = Some(Process::spawn(&mut command, &log));
    }

    /// Starts all nodes with certificates of the CA in `ca`.
    async fn start_secure(&mut self) {
        self.make_ca("ca");
        self.believe(&["ca"]);
        for index in 0..3 {
            self.take("ca", self.nodes[index].id);
            self.start(index, TLS_LINES);
        }
        for index in 0..3 {
            self.wait_linked(index, &["--ca", "ca.crt"]).await;
        }
    }

    async fn stop(&mut self, index: usize) {
        let mut process = self.nodes[index].process.take().unwrap();
        process.signal(Signal::SIGTERM);
        let status = process.end_within(Duration::from_secs(6)).await.expect("it ends in time");
        assert!(status.success(), "{}", tail(&self.log(index), 20));
    }

    /// Waits until node `index` is online and linked to all others.
    async fn wait_linked(&self, index: usize, security: &[&str]) {
        let address = self.nodes[index].address();
        let mut arguments = vec!["--address", &address, "--json", "status"];
        arguments.extend(security);
        poll(&format!("node {} to be linked", self.nodes[index].id), START_TIME_MAX, async || {
            let output = self.run(&arguments);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let all = said.contains("\"failures_tolerated\":1") && !said.contains("UNREACHABLE");
            if output.status.success() && all {
                return Ok(());
            }
            Err(format!("{said} {} {}", String::from_utf8_lossy(&output.stderr), tail(&self.log(index), 10)))
        })
        .await;
    }

    async fn restart_each(&mut self, lines: &str, security: &[&str]) {
        for index in 0..3 {
            self.stop(index).await;
            self.start(index, lines);
            for other in 0..3 {
                self.wait_linked(other, security).await;
            }
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = process::command();
        command.current_dir(self.dir.path()).env("QUORATE_CONTEXTS", self.path("contexts.yml"));
        command.args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Runs a command that asks nodes 1 to 3, with a CA.
    fn ask(&self, arguments: &[&str]) -> Output {
        let addresses = self.addresses()[..3].join(",");
        self.run(&[&["--ca", "ca.crt", "--address", &addresses, "--timeout", "20s"], arguments].concat())
    }

    fn members(&self) -> Json {
        let output = self.ask(&["members", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
    }

    /// The present members as a cluster.yml, with the last node of the test among them.
    fn write_joining(&self) {
        let exported = self.ask(&["members", "export"]);
        assert_done(&exported);
        let mut text = String::from_utf8(exported.stdout).unwrap();
        assert!(text.contains(&format!("name: \"{}\"", self.name)), "{text}");
        let last = self.nodes.last().unwrap();
        if let Some(place) = text.find(&format!("    \"{}\":\n", last.id)) {
            text.truncate(place);
        }
        writeln!(text, "    \"{}\":\n      remote_address: \"{}\"", last.id, last.address()).unwrap();
        write(&self.path("joining.yml"), &text);
    }

    /// Waits until a node with the id of the last one waits to join.
    async fn wait_waiting(&self) {
        let id = self.nodes.last().unwrap().id;
        poll("a node to wait", START_TIME_MAX, async || {
            let members = self.members();
            let waiting = members["waiting"].as_array().unwrap();
            if waiting.iter().any(|node| node["id"] == id) { Ok(()) } else { Err(members.to_string()) }
        })
        .await;
    }

    async fn wait_log(&self, index: usize, parts: &[&str]) {
        poll("words in a log", START_TIME_MAX, async || {
            let log = read(&self.log(index));
            let missing = parts.iter().find(|part| !log.contains(**part));
            missing.map_or(Ok(()), |part| Err(format!("no {part:?} in {}", tail(&self.log(index), 20))))
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for index in 0..self.nodes.len() {
                eprintln!("--- node {}:\n{}", self.nodes[index].id, tail(&self.log(index), 40));
            }
        }
    }
}

/// Puts a copy of `from` in the place of `to` in one step, as tools do that renew certificates.
fn replace(from: &Path, to: &Path) {
    let near = to.with_extension("near");
    fs::copy(from, &near).unwrap();
    fs::rename(&near, to).unwrap();
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// Writes and reads until it is told to end.
struct Load {
    ends: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    running: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(client: Client) -> Self {
        Self::of(move || client.clone())
    }

    /// The same with another client for each round, which connects anew.
    fn of(client: impl Fn() -> Client + Send + 'static) -> Self {
        let (ends, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&ends), Arc::clone(&done));
        let running = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let client = client();
                let key = format!("k{}", count.load(Ordering::Relaxed) % 50);
                let written = client.set(&key, "v").await.map(|_| ());
                let read = client.get(&key).await.map(|found| assert!(found.is_some()));
                failures.extend([written, read].into_iter().filter_map(Result::err).map(|error| error.to_string()));
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            failures
        });
        Self { ends, done, running }
    }

    async fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        let failures = self.running.await.unwrap();
        assert!(failures.is_empty(), "{} requests failed: {:?}", failures.len(), failures.first());
        let done = self.done.load(Ordering::Relaxed);
        assert!(done > 20, "only {done} rounds");
        done
    }
}

fn secure_client(cluster: &Cluster, ca: &str) -> Client {
    client_of(&cluster.path(ca), &cluster.addresses())
}

fn client_of(ca: &Path, addresses: &[String]) -> Client {
    let tls = ClientTls::load(ca).unwrap();
    addresses.iter().fold(Client::builder(), quorate::client::Builder::address).tls(&tls).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_becomes_tls_and_one_ca_follows_another_without_a_failed_request() {
    let mut cluster = Cluster::new();
    for index in 0..3 {
        cluster.start(index, "");
    }
    for index in 0..3 {
        cluster.wait_linked(index, &[]).await;
    }
    let plain = Load::start(Client::new(cluster.addresses()).unwrap());
    cluster.make_ca("ca");
    cluster.believe(&["ca"]);
    for id in ["1", "2", "3"] {
        cluster.take("ca", id);
    }
    cluster.restart_each(&format!("{TLS_LINES}  insecure: true\n"), &[]).await;
    println!("{} rounds of plain text", plain.end().await);

    // The client reads its file of CAs again, as nodes do.
    let secure = Load::start(secure_client(&cluster, "ca.crt"));
    let security = ["--ca", "ca.crt"];
    cluster.restart_each(TLS_LINES, &security).await;
    let refused = Client::new(cluster.addresses()).unwrap().with_deadline(Duration::from_secs(1)).get("k1").await;
    println!("without TLS: {}", refused.expect_err("plain text is taken no more"));

    // The next CA: believe both, move each certificate, believe the new one alone. Beside a client whose connections stay
    // open, one that connects anew each time meets the files of each step.
    let (ca, addresses) = (cluster.path("ca.crt"), cluster.addresses());
    let anew = Load::of(move || client_of(&ca, &addresses));
    cluster.make_ca("next");
    cluster.believe(&["ca", "next"]);
    wait_reloads(&cluster, 1).await;
    for id in ["1", "2", "3"] {
        cluster.take("next", id);
    }
    wait_reloads(&cluster, 2).await;
    cluster.believe(&["next"]);
    wait_reloads(&cluster, 3).await;
    cluster.restart_each(TLS_LINES, &security).await;
    println!("{} rounds of TLS, and {} over new connections", secure.end().await, anew.end().await);

    // A client that believes the old CA alone.
    let old = cluster.run(&["--ca", "ca/ca.crt", "--address", &cluster.addresses()[0], "--timeout", "1s", "get", "k1"]);
    assert_eq!(old.status.code(), Some(3));
    let told = said(&old);
    assert!(told.contains("no CA in ca/ca.crt has issued it") && told.contains("CN=node 1"), "{told}");
    for index in 0..3 {
        let log = read(&cluster.log(index));
        assert!(!log.contains("PRIVATE KEY"), "a key is in a log");
    }
}

/// Waits until each node has read its files again `times` times.
async fn wait_reloads(cluster: &Cluster, times: usize) {
    poll("all nodes to read their files again", START_TIME_MAX, async || {
        for index in 0..3 {
            let log = read(&cluster.log(index));
            let seen = log.matches("the files of TLS were read again").count();
            // A node that found the key before its certificate, or the other way round, reads them twice.
            if seen < times {
                return Err(format!("node {index}: {seen}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_speaks_tls_alone_to_the_tools_of_others() {
    let Some(path) = tools::find(&["curl", "openssl"]) else { return };
    let mut cluster = Cluster::new();
    cluster.start_secure().await;
    let node = &cluster.nodes[0];
    let [http, lines, redis] = node.doors;
    let shell = |line: &str| -> Output {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(cluster.dir.path()).env("PATH", &path);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let expect = |line: &str, part: &str| {
        let output = shell(line);
        assert!(said(&output).contains(part), "{line}: no {part:?} in {}", said(&output));
    };
    expect(
        &format!("curl -sS --cacert ca.crt -X PUT -d hello -w '%{{http_version}}' https://127.0.0.1:{http}/greeting"),
        "2",
    );
    expect(&format!("curl -sS --http1.1 --cacert ca.crt https://localhost:{http}/greeting"), "hello");
    expect(&format!("curl -sS https://127.0.0.1:{http}/greeting"), "certificate");
    expect(&format!("curl -sS http://127.0.0.1:{http}/greeting"), "this port takes TLS alone");
    expect(
        &format!("curl -sS --cacert ca.crt https://127.0.0.1:{}/metrics", node.metrics_port),
        "quorate_tls_files_refused 0",
    );
    let metrics = format!("127.0.0.1:{}", node.metrics_port);
    assert_done(&cluster.ask(&["debug", "bundle", "bundle", "--config", "node-1.yml", "--metrics", &metrics]));
    let in_bundle = |name: &str| fs::read_to_string(cluster.path("bundle").join(name)).unwrap();
    let page = in_bundle(&format!("metrics/{}.txt", metrics.replace(':', "_")));
    assert!(page.contains("quorate_tls_files_refused 0"), "{page}");
    let config = in_bundle("config/node-1.yml");
    assert!(config.contains("tls_certificate: node-1.crt") && config.contains("tls_key: (removed)"), "{config}");
    let talk = |port: u16, text: &str, options: &str| {
        format!(
            "(printf '{text}'; sleep 0.5) | timeout 10 openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile ca.crt {options} \
             -connect 127.0.0.1:{port}"
        )
    };
    expect(&talk(redis, "PING\\r\\nGET greeting\\r\\n", ""), "+PONG\r\n$5\r\nhello");
    expect(&talk(lines, "GET default greeting\\n", ""), "hello");
    for port in [node.port, http, lines, redis, node.metrics_port] {
        let refused = |options: &str| {
            let line = format!(
                "timeout 10 openssl s_client -brief -CAfile ca.crt {options} -connect 127.0.0.1:{port} </dev/null"
            );
            let output = shell(&line);
            assert!(!output.status.success(), "{options} is accepted at {port}: {}", said(&output));
        };
        refused("-tls1_1");
        refused("-tls1_2 -cipher AES128-SHA");
        refused("-tls1_2 -cipher AES128-GCM-SHA256");
        for version in ["-tls1_2", "-tls1_3"] {
            let line = format!(
                "timeout 10 openssl s_client -brief -verify_return_error -CAfile ca.crt {version} -connect 127.0.0.1:{port} </dev/null"
            );
            expect(&line, "Verification: OK");
        }
    }
    // Plain text is answered in the words of the protocol.
    let plain = |port: u16, text: &[u8]| -> Vec<u8> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(text).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    assert!(plain(redis, b"PING\r\n").starts_with(b"-ERR this port takes TLS alone"));
    assert!(plain(lines, b"PING\n").starts_with(b"error this port takes TLS alone"));
    assert!(plain(node.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").ends_with(b"this node takes TLS alone: give --ca"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_line_says_why_it_believes_nobody_and_knows_clusters_by_name() {
    let mut cluster = Cluster::new();
    cluster.start_secure().await;
    assert_done(&cluster.run(&[
        "--ca",
        "ca.crt",
        "--address",
        &cluster.addresses().join(","),
        "set",
        "greeting",
        "hello",
    ]));
    let address = cluster.addresses().remove(0);
    assert_done(&cluster.run(&["ca", "init", "other"]));
    assert_done(&cluster.run(&["ca", "issue", "client", "ada", "--dir", "other"]));
    assert_done(&cluster.run(&["ca", "issue", "client", "ada"]));
    let base = ["--address", &address, "--timeout", "1s"];
    for (options, exit, parts) in [
        (&["--ca", "other/ca.crt"][..], 3, &["no CA in other/ca.crt has issued it", "CN=node 1"][..]),
        (&["--ca", "none.crt"], 2, &["--ca: none.crt: cannot be read"]),
        (&["--cert", "ca/client-ada.crt"], 2, &["--cert needs --ca"]),
        (&["--ca", "ca.crt", "--cert", "ca/client-ada.crt"], 2, &["--cert needs --key"]),
        (
            &["--ca", "ca.crt", "--cert", "ca/client-ada.crt", "--key", "other/client-ada.key"],
            2,
            &["it is not that of certificate"],
        ),
        (
            &["--ca", "ca.crt", "--cert", "other/client-ada.crt", "--key", "other/client-ada.key"],
            3,
            &["refuses certificate", "other/client-ada.crt", "does not believe its issuer"],
        ),
        (&[], 2, &["this node takes TLS alone: give --ca"]),
        (&["--ca", "ca.crt", "--cert", "ca/client-ada.crt", "--key", "ca/client-ada.key"], 0, &["hello"]),
    ] {
        let arguments = [&base[..], options, &["get", "greeting"]].concat();
        let output = cluster.run(&arguments);
        println!("{options:?}: {}", said(&output).trim_end());
        assert_eq!(output.status.code(), Some(exit), "{options:?}: {}", said(&output));
        let missing = parts.iter().find(|part| !said(&output).to_lowercase().contains(&part.to_lowercase()));
        assert_eq!(missing, None, "{options:?}: {}", said(&output));
    }
    for (arguments, exit, part) in [
        (&["list"][..], 0, "NAME"),
        (&["use", "here"], 2, "has no context: quorate context add here adds it"),
        (&["add", "here", "--ca", "ca.crt"], 2, "--address is missing"),
        (&["add", "here", "--address", &address, "--ca", "none.crt"], 2, "--ca: none.crt: cannot be read"),
        (&["add", "here", "--address", "n1", "--ca", "ca.crt"], 2, "--address: address \"n1\""),
        (&["add", "here", "--address", "http://n1:8001"], 2, "give HOST:PORT"),
        (&["add", "here", "--address", "n1:0"], 2, "give HOST:PORT"),
        (&["add", "here", "--address", &address, "--cert", "ca/client-ada.crt"], 2, "--cert needs --ca"),
        (&["add", "here", "--address", &address, "--token-file", "ca.crt"], 2, "--token-file ca.crt"),
        (&["add", "h ere", "--address", &address], 2, "1 to 64 bytes without spaces"),
        (&["add", "here", "--address", &address, "--ca", "ca.crt"], 0, "quorate context use here"),
        (&["add", "bad", "--address", &address, "--ca", "other/ca.crt", "--use"], 0, "bad is the current context"),
        (&["add", "bad", "--address", "127.0.0.1:1", "--ca", "other/ca.crt"], 2, "give --replace"),
        (&["add", "bad", "--address", "n1:1", "--ca", "other/ca.crt", "--replace"], 0, "bad is the current context"),
        (&["remove", "nowhere"], 2, "has no such context: it has bad, here"),
        (&["list"], 0, " *  bad   n1:1"),
        (&["use", "here"], 0, ""),
    ] {
        let output = cluster.run(&[&["context"], arguments].concat());
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(part), "{arguments:?}: {}", said(&output));
    }
    let mode = || fs::metadata(cluster.path("contexts.yml")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600, "a new file is its owner's alone");
    fs::set_permissions(cluster.path("contexts.yml"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(cluster.run(&["context", "use", "here"]).status.code(), Some(0));
    assert_eq!(mode(), 0o644, "a file keeps its mode");
    let listed: serde_json::Value =
        serde_json::from_slice(&cluster.run(&["context", "list", "--json"]).stdout).expect("it is JSON");
    assert_eq!((&listed[1]["name"], &listed[1]["current"]), (&"here".into(), &true.into()), "{listed}");
    assert_eq!(said(&cluster.run(&["get", "greeting"])), "hello");
    assert_eq!(
        cluster.run(&["--context", "bad", "--address", &address, "--timeout", "1s", "get", "greeting"]).status.code(),
        Some(3)
    );
    let unknown = said(&cluster.run(&["--context", "nowhere", "get", "greeting"]));
    assert!(unknown.contains("has no such context: it has bad, here"), "{unknown}");
    assert_eq!(cluster.run(&["context", "remove", "here"]).status.code(), Some(0));
    let left = std::fs::read_to_string(cluster.path("contexts.yml")).unwrap();
    assert!(!left.contains("here") && !left.contains("current"), "{left}");
    let by_hand = format!("# ours\n{left}");
    write(&cluster.path("contexts.yml"), &by_hand);
    let refused = cluster.run(&["context", "remove", "bad"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("has comments"), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(cluster.path("contexts.yml")).unwrap(), by_hand);
}

#[tokio::test]
async fn node_with_wrong_files_does_not_start_and_names_the_file() {
    let mut cluster = Cluster::new();
    cluster.make_ca("ca");
    cluster.believe(&["ca"]);
    cluster.take("ca", "2");
    for (lines, parts) in [
        (TLS_LINES.to_owned(), ["node-1.crt", "cannot be read"]),
        (TLS_LINES.replace("ID", "2"), ["node-2.crt", "it is not that of node 1 of cluster quorate"]),
        ("  tls_ca: ca.crt\n".to_owned(), ["tls_certificate", "missing"]),
        ("  local_redis_address: 0.0.0.0:1\n".to_owned(), ["0.0.0.0:1", "beyond this machine's loopback"]),
    ] {
        let doors = cluster.nodes[0].doors;
        if lines.contains("redis") {
            cluster.nodes[0].doors[2] = ports::free_port();
            // The file has the key once.
            let text = node_yml("1", cluster.nodes[0].port, cluster.nodes[0].metrics_port, &cluster.path("1"), false);
            write(&cluster.path("bare.yml"), &(text + &lines));
            let output = cluster.run(&["serve", "bare.yml", "cluster.yml"]);
            assert_eq!(output.status.code(), Some(2));
            assert!(parts.iter().all(|part| said(&output).contains(part)), "{}", said(&output));
            continue;
        }
        cluster.start(0, &lines);
        let status = cluster.nodes[0].process.as_mut().unwrap().end_within(START_TIME_MAX).await;
        assert_eq!(status.and_then(|status| status.code()), Some(2));
        let log = read(&cluster.log(0));
        println!("{log}");
        assert!(parts.iter().all(|part| log.contains(part)), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        fs::remove_file(cluster.log(0)).unwrap();
        assert!(!cluster.path("1").exists(), "nothing was made");
        cluster.nodes[0].doors = doors;
    }
}

/// What node 1 answers to a link from `dialer` whose hello has this id.
async fn answer_to_hello(cluster: &Cluster, dialer: Dialer, id: &str) -> tonic::Status {
    let endpoint = Endpoint::from_shared(format!("{}://{}", dialer.scheme(), cluster.nodes[0].address())).unwrap();
    let channel = resolve::connect(endpoint, dialer, Duration::from_secs(5)).await.unwrap();
    let from = Some(api::PeerIncarnation { epoch: 1, nonce: 1 });
    let hello = api::PeerHello {
        protocol: 1,
        node_id: id.to_owned(),
        to_node_id: "1".to_owned(),
        store_id: vec![7; 16].into(),
        incarnation: from,
        replica_count: 3,
        node_ids: ["1", "2", "3"].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let message = api::PeerMessage { body: Some(api::peer_message::Body::Hello(hello)), ..Default::default() };
    let first = api::PeerBatch { from, messages: vec![message], ..Default::default() };
    let batches = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
    match PeerClient::new(channel).link(batches).await {
        Ok(link) => link.into_inner().message().await.expect_err("it is refused"),
        Err(status) => status,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_joins_moves_and_is_replaced_by_its_certificate_and_no_other() {
    let mut cluster = Cluster::named("prod");
    cluster.start_secure().await;
    let load = Load::start(secure_client(&cluster, "ca.crt"));
    cluster.nodes.push(Node::new("4", true));
    cluster.write_joining();
    let other = cluster.path("other").display().to_string();
    assert_done(&cluster.run(&["ca", "init", &other, "--cluster", "prod"]));
    assert_done(&cluster.run(&["ca", "issue", "node", "4", "--dir", &other]));
    assert_done(&cluster.run(&["ca", "issue", "node", "4", "--dir", "ca"]));

    // With a certificate of another CA it waits for ever, even if it believes the others.
    cluster.believe(&["ca", "other"]);
    fs::rename(cluster.path("ca.crt"), cluster.path("other/ca.crt")).unwrap();
    cluster.believe(&["ca"]);
    cluster.start(3, &TLS_LINES.replace(": ", ": other/"));
    cluster.wait_log(3, &["cannot reach a peer", "other/node-4.crt: it does not believe its issuer"]).await;
    cluster.wait_log(0, &["a handshake of TLS has failed", "ca.crt has issued it (it names \"CN=prod CA"]).await;
    assert_eq!(cluster.members()["waiting"].as_array().unwrap().len(), 0);
    cluster.stop(3).await;

    cluster.take("ca", "4");
    cluster.start(3, TLS_LINES);
    cluster.wait_waiting().await;
    assert_done(&cluster.ask(&["members", "apply", "joining.yml", "--yes"]));
    cluster.wait_linked(3, &["--ca", "ca.crt"]).await;
    poll("a node to know the sizes of all, for which it asks over TLS too", START_TIME_MAX, async || {
        let members = cluster.members();
        let known = members["members"].as_array().unwrap().iter().filter(|member| member["disk_bytes"].is_u64());
        if known.count() == 4 { Ok(()) } else { Err(members.to_string()) }
    })
    .await;
    let repaired = cluster.ask(&["repair", "--now"]);
    assert!(repaired.status.success(), "{}", said(&repaired));

    // Node 4 may not say that it is another one: a member, or a stranger.
    let file = |kind: &str| cluster.path(&format!("node-4.{kind}"));
    let files = NodeFiles { certificate: file("crt"), key: file("key"), authorities: cluster.path("ca.crt") };
    let id = |id: &str| NodeId::new(id).unwrap();
    let tls = NodeTls::load(files, Name::Node { cluster: "prod".into(), id: id("4") }, false, false).unwrap();
    let four = Trust { tls: Some(tls), ..Trust::default() };
    for other in ["3", "9"] {
        let refused = answer_to_hello(&cluster, four.dialer(&id("1")), other).await;
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
        let words = format!("it says that it is node {other} of cluster prod, and its certificate is \"CN=node 4");
        assert!(refused.message().contains(&words), "{refused}");
    }
    cluster.wait_log(0, &["refused a link", "node 9 of cluster prod"]).await;

    // Another address, and then another data folder.
    cluster.stop(3).await;
    cluster.nodes[3].port = ports::free_port();
    cluster.write_joining();
    cluster.start(3, TLS_LINES);
    assert_done(&cluster.ask(&["members", "apply", "joining.yml", "--yes"]));
    cluster.wait_linked(3, &["--ca", "ca.crt"]).await;
    cluster.stop(3).await;
    fs::remove_dir_all(cluster.path("4")).unwrap();
    cluster.start(3, TLS_LINES);
    cluster.wait_waiting().await;
    assert_done(&cluster.ask(&["members", "replace", "4", "--yes"]));
    cluster.wait_linked(3, &["--ca", "ca.crt"]).await;
    println!("{} rounds", load.end().await);
}

/// With authorization, a node asks by its certificate for what it needs to replace itself, and for nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_a_node_gets_its_own_place_back_and_nothing_else() {
    let mut cluster = Cluster::new();
    cluster.make_ca("ca");
    cluster.believe(&["ca"]);
    let lines = format!("{TLS_LINES}  authorization: true\n");
    for index in 0..3 {
        cluster.take("ca", cluster.nodes[index].id);
        cluster.start(index, &lines);
    }
    let first = cluster.nodes[0].address();
    poll("the first administrator", START_TIME_MAX, async || {
        let made =
            ["--ca", "ca.crt", "--address", &first, "token", "create", "root", "--bootstrap=1", "--out", "root.token"];
        let output = cluster.run(&made);
        if output.status.success() { Ok(()) } else { Err(said(&output)) }
    })
    .await;
    for index in 0..3 {
        cluster.wait_linked(index, &["--ca", "ca.crt", "--token-file", "root.token"]).await;
    }
    let token = Token::parse(read(&cluster.path("root.token")).trim()).unwrap();
    let believes = ClientTls::load(cluster.path("ca.crt")).unwrap();
    let at_first = || Client::builder().address(&first).follow_members(false).deadline(Duration::from_secs(20));
    let root = at_first().tls(&believes).token(&token).build().unwrap();
    for key in 0..2_000 {
        root.set(format!("k{key}"), "v".repeat(256)).await.unwrap();
    }

    let own = believes.with_certificate(cluster.path("ca/node-3.crt"), cluster.path("ca/node-3.key")).unwrap();
    let node = at_first().tls(&own).build().unwrap();
    node.health().await.expect("nodes ask for health");
    node.scrub_now().await.expect("a node may order a scrub");
    let members = node.members().await.expect("a node may see the members");
    let without_second = api::MembersWish {
        members: members
            .members
            .iter()
            .filter(|member| member.id != "2")
            .map(|member| api::WishedMember {
                id: member.id.clone(),
                address: member.address.clone(),
                identity: member.identity.clone(),
                weight_hundredths: member.weight_hundredths,
                zone: member.zone.clone(),
            })
            .collect(),
        replica_count: 2,
        expected: Some(members.number),
        force: false,
    };
    for (refused, part) in [
        (node.get("k1").await.map(drop), "lacks read"),
        (node.set("k1", "v").await.map(drop), "lacks write"),
        (node.repair_now().await.map(drop), "lacks operator"),
        (node.change_members(without_second).await.map(drop), "its own place alone"),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    // An orderly end writes what is in memory into tables.
    cluster.stop(2).await;
    let tables = fs::read_dir(cluster.path("3/store")).unwrap().map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|found| found == "sst"));
    let table = tables.max_by_key(|path| path.metadata().unwrap().len()).expect("there is one");
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).unwrap();
    let identity = |members: &api::MembersGetResponse| {
        members.members.iter().find(|member| member.id == "3" && member.in_new).map(|member| member.identity.clone())
    };
    let before = identity(&members);
    cluster.start(2, &lines);
    let scrubs = cluster.nodes[2].address();
    let third = Client::builder().address(&scrubs).follow_members(false).deadline(Duration::from_secs(20));
    let third = third.tls(&ClientTls::load(cluster.path("ca.crt")).unwrap()).token(&token).build().unwrap();
    third.scrub_now().await.unwrap();
    poll("the node to replace itself", Duration::from_mins(1), async || {
        let members = root.members().await.map_err(|error| error.to_string())?;
        if identity(&members) != before && !members.changing { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    cluster.wait_log(2, &["the node has its place again"]).await;
}
