//! A client that routes, against servers in this process that say who the members are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::follow_tests::{Fake, Members, list, serve};
use super::*;
use crate::protocol::placement::Placement;
use crate::types::{ClusterParameters, NodeId, TableId};

/// The longest wait for a client to look at its cluster: it does so every 10 s.
const LOOK_TIME_MAX: Duration = Duration::from_secs(20);

/// Nodes with the ids 1, 2, …, which say that the first of them are the members.
struct Nodes {
    fakes: Vec<Arc<Fake>>,
    addresses: Vec<String>,
    members: Members,
}

impl Nodes {
    async fn serve(count: usize) -> Self {
        let members = Members::default();
        let (mut fakes, mut addresses) = (Vec::new(), Vec::new());
        for id in 1..=count {
            let (fake, address, _) = serve(&id.to_string(), &members).await;
            fakes.push(fake);
            addresses.push(address);
        }
        Self { fakes, addresses, members }
    }

    fn list(&self, count: usize) {
        let ids: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
        let nodes = std::iter::zip(&ids, &self.addresses).map(|(id, address)| (id.as_str(), address.as_str()));
        list(&self.members, &nodes.collect::<Vec<_>>());
    }

    /// A client that was given these nodes, by id.
    fn client(&self, given: &[usize]) -> Builder {
        let given = given.iter().map(|id| &self.addresses[id - 1]);
        given.fold(Client::builder().deadline(Duration::from_secs(10)).routing(true), Builder::address)
    }

    /// How many of `count` reads and `count` writes of a key go to each node.
    async fn asked(&self, client: &Client, key: &str, count: u32) -> Vec<u32> {
        let requests = || self.fakes.iter().map(|fake| fake.requests.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let before = requests();
        for _ in 0..count {
            client.get(key).await.expect("a node serves all the time");
            client.set(key, "v").await.expect("a node serves all the time");
        }
        std::iter::zip(requests(), before).map(|(after, before)| after - before).collect()
    }

    /// Reads and writes a key until the requests go to these nodes alone, by id, and to each of them.
    async fn settle(&self, client: &Client, key: &str, holders: &[usize]) {
        let began = Instant::now();
        loop {
            let asked = self.asked(client, key, 6).await;
            let are = (1..=asked.len()).filter(|id| asked[id - 1] > 0);
            if are.eq(holders.iter().copied()) {
                return;
            }
            assert!(began.elapsed() < LOOK_TIME_MAX, "{key} is asked for at {asked:?}, and not at {holders:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The nodes that hold a key, in the order of their ids, where the nodes 1 to `count` are members.
fn holders(count: usize, table: TableId, key: &str) -> Vec<usize> {
    let node_ids = (1..=count).map(|id| NodeId::new(&id.to_string()).unwrap()).collect();
    let placement = Placement::new(ClusterParameters::plain(0, 3, node_ids));
    let key = Key::new(key.to_owned()).unwrap().moved_to(table);
    let holders = placement.replicas(placement.slot(&key)).iter().map(|index| index.index() + 1);
    holders.collect::<BTreeSet<usize>>().into_iter().collect()
}

#[tokio::test]
async fn replicas_take_turns_and_others_are_asked_once_no_replica_serves() {
    let nodes = Nodes::serve(5).await;
    nodes.list(5);
    let client = nodes.client(&[1, 2, 3, 4, 5]).build().unwrap();
    // docs/protocol.md names the replicas of these keys.
    nodes.settle(&client, "a", &[3, 4, 5]).await;
    assert_eq!(nodes.asked(&client, "a", 9).await, [0, 0, 6, 6, 6]);
    assert_eq!(nodes.asked(&client, "b", 9).await, [0, 6, 6, 6, 0]);

    let fail = |id: usize, fails| nodes.fakes[id - 1].fails.store(fails, Ordering::SeqCst);
    fail(4, true);
    let asked = nodes.asked(&client, "a", 6).await;
    assert_eq!((asked[0], asked[1]), (0, 0), "{asked:?}: another replica comes before other nodes");
    assert!(asked[3] <= 1 && asked[2] > 0 && asked[4] > 0, "{asked:?}: it is set aside after the first request");
    fail(3, true);
    fail(5, true);
    let asked = nodes.asked(&client, "a", 6).await;
    assert_eq!(asked[0] + asked[1], 12, "{asked:?}: nodes that hold nothing come before replicas that fail");
    for id in [3, 4, 5] {
        fail(id, false);
    }
    nodes.settle(&client, "a", &[3, 4, 5]).await;
}

#[tokio::test]
async fn changes_of_members_and_tables_are_followed() {
    let nodes = Nodes::serve(7).await;
    nodes.list(5);
    let client = nodes.client(&[1, 2, 3, 4, 5]).build().unwrap();
    let table = client.table("t");
    let moves = |key: &String| {
        let first = TableId::FIRST;
        let (before, after) = (holders(5, first, key), holders(7, TableId(first.0 + 1), key));
        before != holders(5, TableId::DEFAULT, key) && before != after && after.iter().any(|id| *id > 5)
    };
    let key = (0..1_000).map(|key: u32| key.to_string()).find(moves).expect("some key moves");
    nodes.settle(&table, &key, &holders(5, TableId::FIRST, &key)).await;
    nodes.settle(&client, &key, &holders(5, TableId::DEFAULT, &key)).await;

    // Two nodes come, and another table takes the name.
    nodes.list(7);
    let later = TableId(TableId::FIRST.0 + 1);
    nodes.fakes.iter().for_each(|fake| fake.table_id.store(later.0, Ordering::SeqCst));
    nodes.settle(&table, &key, &holders(7, later, &key)).await;
    nodes.settle(&client, &key, &holders(7, TableId::DEFAULT, &key)).await;
}

#[tokio::test]
async fn client_of_one_address_asks_all_members_unless_it_is_not_to_follow_them() {
    let nodes = Nodes::serve(5).await;
    nodes.list(5);
    let client = nodes.client(&[1]).build().unwrap();
    nodes.settle(&client, "a", &[3, 4, 5]).await;
    let client = nodes.client(&[1, 3]).follow_members(false).build().unwrap();
    nodes.settle(&client, "a", &[3]).await;
    assert_eq!(nodes.asked(&client, "b", 6).await, [0, 0, 12, 0, 0]);
    assert_eq!(client.pool.nodes().len(), 2);
}

#[tokio::test]
async fn client_that_does_not_route_asks_all_nodes_in_turn() {
    let nodes = Nodes::serve(5).await;
    nodes.list(5);
    let client = nodes.client(&[1, 2, 3, 4, 5]).routing(false).build().unwrap();
    nodes.settle(&client, "a", &[1, 2, 3, 4, 5]).await;
    assert_eq!(nodes.asked(&client, "a", 10).await, [4, 4, 4, 4, 4]);
}
