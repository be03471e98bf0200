//! Members change under real processes: the command line, HTTP and a client that follows.

#![cfg(all(feature = "server", unix))]

mod testkit;

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use quorate::{Client, ClientError};
use serde_json::Value as Json;
use testkit::cluster::{Cluster, NodeFiles, Plan, TestNode, cluster_yml, node_yml, poll, write};
use testkit::ports::free_port;
use testkit::process;

/// The longest time of one test. Beyond it something hangs.
const TEST_TIME_MAX: Duration = Duration::from_mins(2);
/// How long a command may take, with what a busy machine adds.
const COMMAND_TIME_MAX: Duration = Duration::from_mins(1);

/// What a command has printed, and how it ended.
#[derive(Debug)]
struct Ended {
    exit: Option<i32>,
    text: String,
    error: String,
}

impl Ended {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A cluster of three nodes and those that come, with the ports of all.
struct Growing {
    cluster: Cluster,
    ports: Vec<(String, u16)>,
}

impl Growing {
    async fn start() -> Self {
        let cluster = Cluster::start_as(&Plan::default()).await;
        let ports = cluster.nodes.iter().map(|node| (node.id.clone(), node.port)).collect();
        Self { cluster, ports }
    }

    /// A cluster.yml of nodes with these ids. Those that are new get a port.
    fn file(&mut self, name: &str, replica_count: usize, ids: &[&str]) -> PathBuf {
        for id in ids {
            if !self.ports.iter().any(|(known, _)| known == id) {
                self.ports.push(((*id).to_owned(), free_port()));
            }
        }
        let nodes: Vec<(&str, u16)> = ids.iter().map(|id| (*id, self.port(id))).collect();
        let file = self.cluster.dir().join(name);
        write(&file, &cluster_yml(0, replica_count, &nodes));
        file
    }

    fn port(&self, id: &str) -> u16 {
        self.ports.iter().find(|(known, _)| known == id).expect("the node has a port").1
    }

    /// Starts a node with a fresh folder that waits to join, and waits until the members know of it.
    async fn join(&mut self, id: &'static str, file: &std::path::Path) {
        let dir = self.cluster.dir().to_owned();
        let fresh = self.cluster.nodes.iter().filter(|node| node.id == id).count();
        let files = NodeFiles {
            node_file: dir.join(format!("node-{id}-{fresh}.yml")),
            cluster_file: file.to_owned(),
            data_dir: dir.join("data").join(format!("{id}-{fresh}")),
        };
        let (port, metrics_port) = (self.port(id), free_port());
        write(&files.node_file, &node_yml(id, port, metrics_port, &files.data_dir, false));
        let mut node = TestNode::new(id, port, metrics_port, files, &dir);
        node.arguments.push("--join".into());
        node.start();
        self.cluster.nodes.push(node);
        poll("the node to wait", testkit::cluster::START_TIME_MAX, async || {
            let members = self.members().await;
            let waits =
                members["waiting"].as_array().is_some_and(|waiting| waiting.iter().any(|node| node["id"] == id));
            if waits { Ok(()) } else { Err(members.to_string()) }
        })
        .await;
    }

    /// Runs the program, beside the test.
    fn run(&self, arguments: &[&str]) -> impl Future<Output = Ended> + use<> {
        let mut command = process::command();
        let first: Vec<String> = self.cluster.nodes.iter().take(3).map(TestNode::address).collect();
        command.env("QUORATE_ADDRESS", first.join(",")).args(arguments).stdin(Stdio::null());
        async move {
            let ran = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
            let ran = tokio::time::timeout(COMMAND_TIME_MAX, ran).await.expect("it ends in time");
            let Output { status, stdout, stderr } = ran.expect("it was not aborted");
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
            Ended { exit: status.code(), text: text(stdout), error: text(stderr) }
        }
    }

    async fn members(&self) -> Json {
        self.run(&["members", "--json"]).await.json()
    }

    /// The ids of the members, once none change.
    async fn ids(&self) -> Vec<String> {
        let members = self.members().await;
        assert_eq!(members["changing"], false, "{members}");
        let ids = members["members"].as_array().unwrap().iter().map(|member| member["id"].as_str().unwrap().to_owned());
        ids.collect()
    }
}

/// Writes and reads until it is told to end. No request may fail. Where the node of a write is killed, nobody can tell whether it
/// took effect: it is written again.
struct Load {
    ends: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<u64, ClientError>>,
}

impl Load {
    fn start(client: Client) -> Self {
        Self::begin(client, false)
    }

    fn start_beside_kills(client: Client) -> Self {
        Self::begin(client, true)
    }

    fn begin(client: Client, is_beside_kills: bool) -> Self {
        let (ends, mut ended) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(async move {
            let mut count = 0;
            while !*ended.borrow_and_update() {
                let (key, value) = (format!("load-{}", count % 50), count.to_string());
                match client.set(&key, value.as_str()).await {
                    Err(ClientError::OutcomeUnknown { .. }) if is_beside_kills => continue,
                    other => other?,
                };
                let found = client.get(&key).await?.expect("it was just written");
                assert_eq!(found.value.bytes(), value.as_bytes());
                count += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(count)
        });
        Self { ends, task }
    }

    async fn end(self) -> u64 {
        self.ends.send_replace(true);
        self.task.await.expect("no request found another value").expect("no request failed")
    }
}

async fn keep(client: &Client, keys: usize) {
    for key in 0..keys {
        client.set(format!("kept-{key}"), key.to_string()).await.expect("a majority is there");
    }
}

async fn are_kept(client: &Client, keys: usize) {
    for key in 0..keys {
        let found = client.get(format!("kept-{key}")).await.expect("a majority is there");
        let found = found.unwrap_or_else(|| panic!("kept-{key} is lost"));
        assert_eq!(found.value.bytes(), key.to_string().as_bytes());
    }
}

async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(TEST_TIME_MAX, test).await.expect("the test ends in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_go_and_are_replaced_without_a_failed_request() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = growing.cluster.client().with_deadline(Duration::from_secs(20));
        keep(&client, 300).await;
        let load = Load::start_beside_kills(client.clone());
        let five = growing.file("five.yml", 3, &["1", "2", "3", "4", "5"]);
        growing.join("4", &five).await;
        growing.join("5", &five).await;

        let five = five.to_str().unwrap();
        let plan = growing.run(&["members", "plan", five, "--json"]).await.json();
        assert_eq!(plan["number"], 0);
        let fates: Vec<_> = plan["differences"].as_array().unwrap().iter().map(|one| one["fate"].clone()).collect();
        assert_eq!(fates, ["added", "added"]);
        assert!(
            plan["moves"].as_array().unwrap().iter().all(|moved| moved["to"] == "4" || moved["to"] == "5"),
            "{plan}"
        );
        let share = plan["slots"].as_f64().unwrap() / (3.0 * 65_536.0);
        assert!((0.38..0.42).contains(&share), "two of five nodes hold two fifths: {share}");
        assert_eq!(growing.ids().await, ["1", "2", "3"], "a plan changes nothing");

        let applied = growing.run(&["members", "apply", five, "--yes"]).await;
        assert_eq!(applied.exit, Some(0), "{applied:?}");
        assert!(
            applied.text.contains("node 4 is added") && applied.text.contains("done (configuration 2)"),
            "{applied:?}"
        );
        assert_eq!(growing.ids().await, ["1", "2", "3", "4", "5"]);
        let again = growing.run(&["members", "apply", five, "--yes", "--json"]).await;
        assert_eq!((again.exit, &again.json()["number"]), (Some(0), &2.into()), "{again:?}");

        let four = growing.file("four.yml", 3, &["1", "2", "4", "5"]);
        let removed = growing.run(&["members", "apply", four.to_str().unwrap(), "--yes"]).await;
        assert_eq!(removed.exit, Some(0), "{removed:?}");
        growing.cluster.nodes[2].terminate().await;

        growing.cluster.nodes[1].kill();
        growing.join("2", &four).await;
        let before = growing.members().await;
        let replaced = growing.run(&["members", "replace", "2", "--yes"]).await;
        assert_eq!(replaced.exit, Some(0), "{replaced:?}");
        let after = growing.members().await;
        let identity = |members: &Json| {
            let all = members["members"].as_array().unwrap();
            all.iter().find(|member| member["id"] == "2").unwrap()["identity"].clone()
        };
        assert_ne!(identity(&before), identity(&after));
        assert_eq!(growing.ids().await, ["1", "2", "4", "5"]);

        let all = growing.file("all.yml", 4, &["1", "2", "4", "5"]);
        let grown = growing.run(&["members", "apply", all.to_str().unwrap(), "--yes"]).await;
        assert_eq!(grown.exit, Some(0), "{grown:?}");
        assert_eq!(growing.members().await["replica_count"], 4);
        let requests = load.end().await;
        println!("{requests} pairs of requests");
        are_kept(&client, 300).await;

        let exported = growing.run(&["members", "export"]).await;
        let listed = growing.cluster.dir().join("exported.yml");
        write(&listed, &exported.text);
        let same = growing.run(&["members", "apply", listed.to_str().unwrap()]).await;
        assert_eq!(same.exit, Some(0), "{same:?}");
        assert!(same.text.contains("the members are these already"), "{same:?}");
    })
    .await;
}

/// The file with more fields for each node.
fn with_sites(file: &std::path::Path, of_nodes: &[(&str, &str)]) {
    let text = std::fs::read_to_string(file).unwrap();
    let line = |line: &str| {
        let of = of_nodes.iter().find(|(id, _)| line.trim_start().starts_with(&format!("{id:?}:")));
        of.map_or_else(|| line.to_owned(), |(_, more)| line.replace(" }", &format!(", {more} }}")))
    };
    write(file, &text.lines().map(|text| line(text) + "\n").collect::<String>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_and_zones_change_while_clients_write() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = growing.cluster.client().with_deadline(Duration::from_secs(20));
        keep(&client, 300).await;
        let load = Load::start_beside_kills(client.clone());
        let four = growing.file("four.yml", 2, &["1", "2", "3", "4"]);
        growing.join("4", &four).await;
        let joined = growing.run(&["members", "apply", four.to_str().unwrap(), "--yes"]).await;
        assert_eq!(joined.exit, Some(0), "{joined:?}");
        let slots = |members: &Json| -> Vec<u64> {
            members["members"].as_array().unwrap().iter().map(|member| member["slots"].as_u64().unwrap()).collect()
        };
        let even = slots(&growing.members().await);
        assert!(even.iter().all(|slots| slots.abs_diff(32_768) < 1_000), "{even:?}");
        assert!(!growing.run(&["members"]).await.text.contains("WEIGHT"));

        let heavy = growing.file("heavy.yml", 2, &["1", "2", "3", "4"]);
        with_sites(&heavy, &[("2", "weight: 2.5")]);
        let heavy = heavy.to_str().unwrap();
        let plan = growing.run(&["members", "plan", heavy, "--json"]).await.json();
        let [difference] = &plan["differences"].as_array().unwrap()[..] else { panic!("{plan}") };
        assert_eq!((&difference["id"], &difference["fate"]), (&"2".into(), &"placed anew".into()), "{plan}");
        assert_eq!((&difference["old_weight"], &difference["weight"]), (&1.into(), &2.5.into()), "{plan}");
        assert!(plan["moves"].as_array().unwrap().iter().all(|moved| moved["to"] == "2"), "{plan}");
        let applied = growing.run(&["members", "apply", heavy, "--yes"]).await;
        assert_eq!(applied.exit, Some(0), "{applied:?}");
        assert!(applied.text.contains("weight 2.5 instead of 1"), "{applied:?}");
        let members = growing.members().await;
        let held = slots(&members);
        assert_eq!(held[1], even[1] + plan["slots"].as_u64().unwrap(), "{members}");
        assert!(held[1] > 45_000 && held[0] < even[0], "{held:?}");
        assert_eq!((&members["members"][1]["weight"], &members["members"][1]["zone"]), (&2.5.into(), &Json::Null));

        let partial = growing.file("some.yml", 2, &["1", "2", "3", "4"]);
        with_sites(&partial, &[("1", "zone: a"), ("2", "zone: a"), ("3", "zone: b")]);
        let partial = growing.run(&["members", "apply", partial.to_str().unwrap(), "--yes"]).await;
        assert_eq!(partial.exit, Some(2), "{partial:?}");
        assert!(partial.error.contains("cluster.nodes.4.zone: missing, and node 1 has one"), "{partial:?}");
        let zones = growing.file("zones.yml", 2, &["1", "2", "3", "4"]);
        with_sites(&zones, &[("1", "zone: a"), ("2", "zone: a, weight: 2.5"), ("3", "zone: b"), ("4", "zone: b")]);
        let zones = growing.run(&["members", "apply", zones.to_str().unwrap(), "--yes"]).await;
        assert_eq!(zones.exit, Some(0), "{zones:?}");
        assert!(zones.text.contains("node 3 is placed anew") && zones.text.contains("zone b instead of no zone"));
        let held = slots(&growing.members().await);
        assert_eq!(
            (held[0] + held[1], held[2] + held[3]),
            (65_536, 65_536),
            "each zone holds each slot once: {held:?}"
        );
        let text = growing.run(&["members"]).await.text;
        assert!(text.contains("WEIGHT") && text.contains("ZONE"), "{text}");

        // A node that starts anew has the weights and zones from its folder, and not from its file.
        growing.cluster.nodes[2].kill();
        growing.cluster.nodes[2].start();
        growing.cluster.nodes[2].wait_linked().await;
        growing.cluster.nodes[2].wait_log(&["has weight 1 instead of weight 2.5 in zone a"]).await;
        println!("{} pairs of requests", load.end().await);
        are_kept(&client, 300).await;

        let exported = growing.run(&["members", "export"]).await;
        assert!(exported.text.contains("      weight: 2.5\n      zone: \"a\"\n"), "{exported:?}");
        let listed = growing.cluster.dir().join("exported.yml");
        write(&listed, &exported.text);
        let same = growing.run(&["members", "apply", listed.to_str().unwrap()]).await;
        assert_eq!(same.exit, Some(0), "{same:?}");
        assert!(same.text.contains("the members are these already"), "{same:?}");
        let address = |id: &str| format!("127.0.0.1:{}", growing.port(id));
        for (id, held) in ["1", "2", "3", "4"].iter().zip(&held) {
            let status = growing.run(&["--address", &address(id), "status", "--json"]).await.json();
            assert_eq!(status["nodes"][1]["weight"], 2.5, "{status}");
            println!("node {id} holds {held} slots");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_cannot_be_made_is_refused_and_says_what_to_do() {
    in_time(async {
        let mut growing = Growing::start().await;
        let four = growing.file("four.yml", 3, &["1", "2", "3", "4"]);
        let four = four.to_str().unwrap();
        let unasked = growing.run(&["members", "apply", four]).await;
        assert_eq!(unasked.exit, Some(2), "{unasked:?}");
        assert!(unasked.error.contains("--yes"), "{unasked:?}");
        assert!(unasked.text.contains("node 4 is added") && unasked.text.contains("does not wait yet"), "{unasked:?}");
        let early = growing.run(&["members", "apply", four, "--yes"]).await;
        assert_eq!(early.exit, Some(2), "{early:?}");
        assert!(early.error.contains("no node 4 waits to join"), "{early:?}");

        let two = growing.file("two.yml", 2, &["1", "2"]);
        let text = std::fs::read_to_string(&two).unwrap();
        write(&two, &text.replace("seed: 0", "seed: 9"));
        let other_seed = growing.run(&["members", "apply", two.to_str().unwrap(), "--yes"]).await;
        assert_eq!(other_seed.exit, Some(2), "{other_seed:?}");
        assert!(other_seed.error.contains("seed is 9"), "{other_seed:?}");

        let absent = growing.run(&["members", "replace", "9", "--yes"]).await;
        assert_eq!(absent.exit, Some(2), "{absent:?}");
        assert!(absent.error.contains("there is no member"), "{absent:?}");
        let nobody = growing.run(&["members", "replace", "2", "--yes"]).await;
        assert_eq!(nobody.exit, Some(2), "{nobody:?}");
        assert!(nobody.error.contains("--join"), "{nobody:?}");
        let nothing = growing.run(&["members", "abort"]).await;
        assert_eq!(nothing.exit, Some(2), "{nothing:?}");
        let no_file = growing.run(&["members", "plan", "/no/such/file"]).await;
        assert_eq!(no_file.exit, Some(2), "{no_file:?}");

        growing.cluster.nodes[2].kill();
        let one = growing.file("away.yml", 2, &["1", "3"]);
        poll("the others to see that node 3 is away", TEST_TIME_MAX, async || {
            let plan = growing.run(&["members", "plan", one.to_str().unwrap(), "--json"]).await.json();
            if plan["slots_without_majority"] == 65_536 { Ok(()) } else { Err(plan.to_string()) }
        })
        .await;
        let lost = growing.run(&["members", "apply", one.to_str().unwrap(), "--yes"]).await;
        assert_eq!(lost.exit, Some(2), "{lost:?}");
        assert!(lost.error.contains("would have no majority") && lost.error.contains("bring back 3"), "{lost:?}");
        assert_eq!(growing.ids().await, ["1", "2", "3"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_whose_new_node_died_is_watched_and_taken_back() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = growing.cluster.client();
        keep(&client, 100).await;
        let four = growing.file("four.yml", 3, &["1", "2", "3", "4"]);
        growing.join("4", &four).await;
        let joined = growing.cluster.nodes.len() - 1;
        // It counts as reached for a while, and cannot take its slots over.
        growing.cluster.nodes[joined].pause();
        let four = four.to_str().unwrap();
        let apply = growing.run(&["members", "apply", four, "--yes"]);
        let abort = async {
            poll("the change to begin", TEST_TIME_MAX, async || {
                let members = growing.members().await;
                if members["changing"] == true { Ok(()) } else { Err(members.to_string()) }
            })
            .await;
            let text = growing.run(&["members"]).await.text;
            assert!(text.contains("members change") && text.contains("joining"), "{text}");
            let other = growing.run(&[
                "members",
                "apply",
                growing.cluster.nodes[0].files.cluster_file.to_str().unwrap(),
                "--yes",
            ]);
            let other = other.await;
            assert_eq!(other.exit, Some(2), "{other:?}");
            assert!(other.error.contains("members are changing already"), "{other:?}");
            let aborted = growing.run(&["members", "abort"]).await;
            assert_eq!(aborted.exit, Some(0), "{aborted:?}");
            assert!(aborted.text.contains("taken back (configuration 2)"), "{aborted:?}");
        };
        let (applied, ()) = tokio::join!(apply, abort);
        assert_eq!(applied.exit, Some(3), "{applied:?}");
        assert!(applied.error.contains("taken back"), "{applied:?}");
        assert_eq!(growing.ids().await, ["1", "2", "3"]);
        are_kept(&client, 100).await;
        growing.cluster.nodes[joined].kill();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_at_once_one_wins_and_the_other_is_told() {
    in_time(async {
        let mut growing = Growing::start().await;
        let four = growing.file("four.yml", 3, &["1", "2", "3", "4"]);
        let five = growing.file("five.yml", 3, &["1", "2", "3", "5"]);
        growing.join("4", &four).await;
        growing.join("5", &five).await;
        let (four, five) = (four.to_str().unwrap(), five.to_str().unwrap());
        let first = growing.run(&["members", "apply", four, "--yes"]);
        let second = growing.run(&["members", "apply", five, "--yes"]);
        let (first, second) = tokio::join!(first, second);
        let mut exits = [first.exit, second.exit];
        exits.sort_unstable();
        // The second may come so late that the first is done, or is under way.
        assert_eq!(exits[0], Some(0), "{first:?} {second:?}");
        assert!(matches!(exits[1], Some(2 | 3)), "{first:?} {second:?}");
        let winner = if first.exit == Some(0) { "4" } else { "5" };
        assert_eq!(growing.ids().await, ["1", "2", "3", winner]);
        let said = if winner == "4" { second.error } else { first.error };
        assert!(said.contains("configuration"), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_goes_on_when_all_nodes_that_it_was_given_are_gone_one_by_one() {
    in_time(async {
        let mut growing = Growing::start().await;
        let client = growing.cluster.client().with_deadline(Duration::from_secs(10));
        keep(&client, 50).await;
        let load = Load::start(client.clone());
        let six = growing.file("six.yml", 3, &["1", "2", "3", "4", "5", "6"]);
        for id in ["4", "5", "6"] {
            growing.join(id, &six).await;
        }
        let applied = growing.run(&["members", "apply", six.to_str().unwrap(), "--yes"]).await;
        assert_eq!(applied.exit, Some(0), "{applied:?}");
        for (place, rest) in
            [["2", "3", "4", "5", "6"].as_slice(), &["3", "4", "5", "6"], &["4", "5", "6"]].iter().enumerate()
        {
            let file = growing.file(&format!("rest-{place}.yml"), 3, rest);
            let mut command = vec!["members", "apply", file.to_str().unwrap(), "--yes"];
            let others: Vec<String> = growing.cluster.nodes[3..].iter().map(TestNode::address).collect();
            let others = others.join(",");
            command.extend(["--address", &others]);
            let removed = growing.run(&command).await;
            assert_eq!(removed.exit, Some(0), "{removed:?}");
            // The client looks at the members every ten seconds, and soon after a node has failed.
            let began = Instant::now();
            growing.cluster.nodes[place].terminate().await;
            tokio::time::sleep(Duration::from_secs(4).saturating_sub(began.elapsed())).await;
        }
        let requests = load.end().await;
        println!("{requests} pairs of requests");
        are_kept(&client, 50).await;
    })
    .await;
}
