//! The life of a StatefulSet, played with processes: pods have names that point to other addresses after each start, and more pods
//! come by themselves. All have the same two files, and learn from a variable who they are.
//!
//! Addresses of 127.0.0.0/8 play those of pods. Each test runs in a process of its own, whose look-ups a file answers.

#![cfg(all(feature = "server", target_os = "linux"))]

mod testkit;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate::api::node_client::NodeClient;
use quorate::api::{self, HealthResponse, PeerState};
use quorate::{Client, ClientError};
use tempfile::TempDir;
use testkit::names::{MOVING, MovingNames};
use testkit::ports::free_port;
use testkit::process::{self, Process, poll, tail};
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

/// How long a pod may take to be ready, and to join: far longer than it does.
const READY_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a pod may take to end.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// How long it is looked whether something happens that must not.
const NOTHING_TIME: Duration = Duration::from_secs(5);
/// The keys that are written first, and are there at the end.
const KEYS: usize = 300;
/// The members that the file lists.
const FIRST: [usize; 3] = [0, 1, 2];

/// Pods, their volumes and their names.
struct StatefulSet {
    dir: TempDir,
    names: MovingNames,
    ports: [u16; 2],
    /// The first three numbers of the pods' addresses.
    network: [u8; 3],
    /// The last one of the latest pod.
    last: u8,
    pods: Vec<Pod>,
    /// The arguments of a pod's files, relative to `dir`.
    cluster_file: &'static str,
}

#[derive(Default)]
struct Pod {
    address: Option<Ipv4Addr>,
    process: Option<Process>,
}

impl StatefulSet {
    /// Files for pods of which `listed` are listed. `more` is added to node.yml.
    fn new(names: MovingNames, listed: &[usize], replica_count: usize, more: &str) -> Self {
        let dir = TempDir::with_prefix("quorate-pods-").unwrap();
        let ports = [free_port(), free_port()];
        let node = format!(
            "node:\n  id: is-not-set\n  local_address: 127.0.0.1:1\n  local_metrics_address: 127.0.0.1:2\n  data_dir: is-not-set\n  \
             durability: os\n{more}"
        );
        fs::write(dir.path().join("node.yml"), node).unwrap();
        let network = [127, rand::random_range(1..=254), rand::random_range(1..=254)];
        let set = Self { dir, names, ports, network, last: 0, pods: Vec::new(), cluster_file: "dns.yml" };
        for discovery in ["dns", "file"] {
            let line =
                |place: &usize| format!("    {}: {{ remote_address: \"{}\" }}\n", name(*place), set.address(*place));
            let list = listed.iter().map(line).collect::<Vec<_>>().concat();
            let cluster = format!(
                "cluster:\n  seed: 0\n  replica_count: {replica_count}\n  discovery: {discovery}\n  nodes:\n{list}"
            );
            fs::write(set.dir.path().join(format!("{discovery}.yml")), cluster).unwrap();
        }
        set
    }

    /// Where clients and others reach a pod, wherever it is.
    fn address(&self, place: usize) -> String {
        format!("{}:{}", host(place), self.ports[0])
    }

    fn addresses(&self, places: &[usize]) -> Vec<String> {
        places.iter().map(|place| self.address(*place)).collect()
    }

    fn log(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("{}.log", name(place)))
    }

    /// Starts a pod at an address that none has had before.
    fn start(&mut self, place: usize) {
        self.last += 1;
        let [a, b, c] = self.network;
        self.start_at(place, Ipv4Addr::new(a, b, c, self.last));
    }

    fn start_at(&mut self, place: usize, address: Ipv4Addr) {
        self.names.point(&host(place), address);
        let mut command = process::command();
        command
            .arg("serve")
            .args(["node.yml", self.cluster_file].map(|file| self.dir.path().join(file)))
            .env("QUORATE_NODE_ID", name(place))
            .env("QUORATE_NODE_DATA_DIR", self.dir.path().join(name(place)))
            .env("QUORATE_NODE_LOCAL_ADDRESS", format!("{address}:{}", self.ports[0]))
            .env("QUORATE_NODE_LOCAL_METRICS_ADDRESS", format!("{address}:{}", self.ports[1]));
        for (variable, kind) in [("QUORATE_NODE_TLS_CERTIFICATE", "crt"), ("QUORATE_NODE_TLS_KEY", "key")] {
            let file = self.dir.path().join("ca").join(format!("node-{}.{kind}", name(place)));
            if file.exists() {
                command.env(variable, file).env("QUORATE_NODE_TLS_CA", self.dir.path().join("ca/ca.crt"));
            }
        }
        let process = Process::spawn(&mut command, &self.log(place));
        if self.pods.len() <= place {
            self.pods.resize_with(place + 1, Pod::default);
        }
        self.pods[place] = Pod { address: Some(address), process: Some(process) };
    }

    /// Ends a pod in order, as Kubernetes does, and takes its name away. Returns where it was.
    async fn end(&mut self, place: usize) -> Ipv4Addr {
        let pod = &mut self.pods[place];
        let (address, mut process) = (pod.address.take().unwrap(), pod.process.take().unwrap());
        process.signal(Signal::SIGTERM);
        let status = process.end_within(END_TIME_MAX).await.expect("it ends in time");
        assert!(status.success(), "{}: {status}", name(place));
        self.names.remove(&host(place));
        address
    }

    async fn health(&self, place: usize) -> Result<HealthResponse, String> {
        let address = self.pods[place].address.expect("it runs");
        let endpoint = Endpoint::from_shared(format!("http://{address}:{}", self.ports[0])).unwrap();
        let endpoint = endpoint.connect_timeout(Duration::from_secs(1)).timeout(Duration::from_secs(1));
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        let health = NodeClient::new(channel).health(api::HealthRequest {}).await;
        Ok(health.map_err(|status| status.to_string())?.into_inner())
    }

    /// Waits until a pod serves, and it and each other one have found each other.
    async fn wait_ready(&mut self, place: usize) {
        let began = Instant::now();
        let running: Vec<usize> = (0..self.pods.len()).filter(|place| self.pods[*place].process.is_some()).collect();
        poll(&format!("{} to be ready", name(place)), READY_TIME_MAX, async || {
            if let Some(status) = self.pods[place].process.as_mut().unwrap().ended() {
                panic!("{} has ended with {status}:\n{}", name(place), tail(&self.log(place), 40));
            }
            for look in &running {
                let health = self.health(*look).await?;
                let is_linked = |peer: &api::PeerHealth| {
                    matches!(peer.state(), PeerState::PeerLinked | PeerState::PeerSelf) || !is_one_of(&running, peer)
                };
                if !health.serves || !health.peers.iter().all(is_linked) {
                    return Err(format!("{health:?}"));
                }
            }
            Ok(())
        })
        .await;
        println!("{} is ready and linked after {:?}", name(place), began.elapsed());
    }

    /// Waits until a pod lists so many members, and none change. By the pod's own token, over TLS.
    async fn wait_members_seen_by(&self, place: usize, count: usize) {
        let (address, token) = (self.address(place), format!("{}/bootstrap.token", name(place)));
        let command = ["--ca", "ca/ca.crt", "--address", &address, "--token-file", &token, "members", "--json"];
        poll(&format!("{} to list {count} members", name(place)), READY_TIME_MAX, async || {
            let (_, text) = self.run(&command);
            let members: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            let listed = members["members"].as_array().map_or(0, Vec::len);
            if listed == count && members["changing"] == false { Ok(()) } else { Err(text) }
        })
        .await;
    }

    async fn wait_log(&self, place: usize, text: &str) {
        poll(&format!("the log of {} to say {text:?}", name(place)), READY_TIME_MAX, async || {
            let log = process::read(&self.log(place));
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = process::command().current_dir(self.dir.path()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }
}

fn name(place: usize) -> String {
    format!("quorate-{place}")
}

fn host(place: usize) -> String {
    format!("{}.quorate-peers{MOVING}", name(place))
}

fn is_one_of(places: &[usize], peer: &api::PeerHealth) -> bool {
    places.iter().any(|place| name(*place) == peer.node_id)
}

/// The ids of the members, once none change.
async fn wait_members(client: &Client, places: &[usize]) -> api::MembersGetResponse {
    let expected: Vec<String> = places.iter().map(|place| name(*place)).collect();
    poll(&format!("the members to be {expected:?}"), READY_TIME_MAX, async || {
        let members = client.members().await.map_err(|error| error.to_string())?;
        let ids: Vec<String> = members.members.iter().map(|member| member.id.clone()).collect();
        if !members.changing && ids == expected { Ok(members) } else { Err(format!("{members:?}")) }
    })
    .await
}

/// Each has one request under way.
const CLIENTS: usize = 4;

/// Clients that write all the time, and read what they have written.
struct Load {
    ends: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
    /// Writes that a node took which died before it could answer.
    unknown: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (ends, operations) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let unknown = Arc::<AtomicU64>::default();
        let begin = |number: usize| {
            let (client, ends, operations) = (client.clone(), Arc::clone(&ends), Arc::clone(&operations));
            let unknown = Arc::clone(&unknown);
            tokio::spawn(async move {
                for turn in 0_u64.. {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let (key, value) = (format!("load-{number}-{}", turn % 50), turn.to_string());
                    match client.set(&key, value.as_str()).await {
                        Err(ClientError::OutcomeUnknown { .. }) => {
                            unknown.fetch_add(1, Ordering::Relaxed);
                            client.set(&key, value.as_str()).await.expect("it is sent again to a node that lives");
                        }
                        written => drop(written.expect("each write succeeds")),
                    }
                    let found = client.get(&key).await.expect("each read succeeds").expect("it was written");
                    assert_eq!(found.value.bytes(), value.as_bytes(), "{key}");
                    operations.fetch_add(2, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..CLIENTS).map(begin).collect();
        Self { ends, operations, unknown, clients }
    }

    /// Waits until it has done something more.
    async fn goes_on(&self) {
        let before = self.operations.load(Ordering::Relaxed);
        poll("clients to be served", READY_TIME_MAX, async || {
            let now = self.operations.load(Ordering::Relaxed);
            if now > before + 100 { Ok(()) } else { Err(format!("{before} to {now} operations")) }
        })
        .await;
    }

    async fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no request of a client failed");
        }
        let (operations, unknown) = (self.operations.load(Ordering::Relaxed), self.unknown.load(Ordering::Relaxed));
        println!("{operations} operations of clients, 0 failed, {unknown} writes of unknown outcome");
        assert!(unknown <= CLIENTS as u64, "one crash can take one request of each client");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_move_restart_and_come_by_themselves_and_no_request_fails() {
    let its_name = "pods_move_restart_and_come_by_themselves_and_no_request_fails";
    let Some(names) = MovingNames::of_own_process(its_name) else { return };
    let mut set = StatefulSet::new(names, &FIRST, 3, "  insecure: true\n");
    for place in FIRST {
        set.start(place);
    }
    for place in FIRST {
        set.wait_ready(place).await;
    }
    // It is given the names alone, and follows the members.
    let client = Client::new(set.addresses(&FIRST)).unwrap();
    for n in 0..KEYS {
        client.set(format!("key-{n}"), format!("value-{n}").as_str()).await.unwrap();
    }
    let load = Load::start(&client);

    // A pod is moved to another machine. Later another one crashes, and comes back at the address that the first one had.
    let left = set.end(1).await;
    load.goes_on().await;
    set.start(1);
    set.wait_ready(1).await;
    set.pods[2].process.as_mut().unwrap().kill();
    load.goes_on().await;
    set.start_at(2, left);
    set.wait_ready(2).await;

    // A rolling restart, the last pod first, each at another address.
    for place in FIRST.into_iter().rev() {
        set.end(place).await;
        set.start(place);
        set.wait_ready(place).await;
        load.goes_on().await;
    }

    // The set is scaled to five. Nobody edits a file, and nobody orders a change.
    let began = Instant::now();
    set.start(3);
    set.start(4);
    wait_members(&client, &[0, 1, 2, 3, 4]).await;
    println!("two pods have come by themselves after {:?}", began.elapsed());
    set.wait_ready(4).await;
    load.goes_on().await;

    // One that came moves too. Its folder knows that it is a member.
    set.end(3).await;
    set.start(3);
    set.wait_ready(3).await;

    // What an operator takes out stays out, although the pod runs and starts again.
    let members = client.members().await.unwrap();
    let stay = members.members.iter().filter(|member| member.id != name(4)).map(|member| api::WishedMember {
        id: member.id.clone(),
        address: member.address.clone(),
        identity: member.identity.clone(),
        weight_hundredths: member.weight_hundredths,
        zone: member.zone.clone(),
    });
    let wish = api::MembersWish {
        members: stay.collect(),
        replica_count: members.replica_count,
        expected: Some(members.number),
        force: false,
    };
    client.change_members(wish).await.expect("it is granted");
    let number = wait_members(&client, &[0, 1, 2, 3]).await.number;
    set.end(4).await;
    set.start(4);
    set.wait_log(4, "this node was removed from the cluster").await;
    tokio::time::sleep(NOTHING_TIME).await;
    assert_eq!(wait_members(&client, &[0, 1, 2, 3]).await.number, number, "the removed pod has added itself");
    load.end().await;

    // Whoever knows the last pod alone finds all keys.
    let client = Client::new(set.addresses(&[3])).unwrap();
    for n in 0..KEYS {
        let found = client.get(format!("key-{n}")).await.unwrap().expect("it was written");
        assert_eq!(found.value.bytes(), format!("value-{n}").as_bytes());
    }

    // A mistyped id is no new pod, and a fresh volume does not take the place of another one.
    let (node, cluster) = ("node.yml", "dns.yml");
    let check = |id: &str| {
        let text = fs::read_to_string(set.dir.path().join(node)).unwrap();
        fs::write(set.dir.path().join("other.yml"), text.replacen("id: is-not-set", &format!("id: {id}"), 1)).unwrap();
        set.run(&["config", "check", "other.yml", cluster])
    };
    assert_eq!(check("quorate-12").0, Some(0));
    let (exit, text) = check("qourate-3");
    assert!(exit == Some(2) && text.contains("call it quorate-0, quorate-1 and so on"), "{text}");
    set.end(3).await;
    fs::remove_dir_all(set.dir.path().join(name(3))).unwrap();
    set.start(3);
    set.wait_log(3, "another data folder is member quorate-3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pod_adds_itself_by_its_certificate_where_the_members_let_it() {
    let its_name = "pod_adds_itself_by_its_certificate_where_the_members_let_it";
    let Some(names) = MovingNames::of_own_process(its_name) else { return };
    let mut set = StatefulSet::new(names, &[0], 1, "  authorization: true\n");
    let (exit, text) = set.run(&["ca", "init", "ca"]);
    assert_eq!(exit, Some(0), "{text}");
    for place in 0..3 {
        let (exit, text) = set.run(&["ca", "issue", "node", &name(place), "--dir", "ca", "--san", &host(place)]);
        assert_eq!(exit, Some(0), "{text}");
    }
    // The member lists its nodes in a file, so that it lets nobody in by a certificate.
    set.cluster_file = "file.yml";
    set.start(0);
    set.wait_members_seen_by(0, 1).await;
    set.cluster_file = "dns.yml";
    set.start(1);
    set.wait_log(1, "this node adds itself to the cluster: node quorate-0: ").await;
    set.wait_log(1, "the certificate is that of node quorate-1, which is no member").await;
    set.wait_members_seen_by(0, 1).await;

    set.end(0).await;
    set.start(0);
    set.wait_log(1, "node quorate-0 has begun the change").await;
    set.wait_members_seen_by(1, 2).await;
    set.start(2);
    set.wait_members_seen_by(2, 3).await;
}
