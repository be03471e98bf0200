//! A client that follows the members, against servers in this process that say who the members are.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;
use crate::types::TableId;
use crate::wire::failure::{Failure, FailureReason};

/// The members, by id and address, as every node tells them.
pub(super) type Members = Arc<Mutex<Vec<(String, String)>>>;

pub(super) struct Fake {
    id: String,
    members: Members,
    reads: AtomicU32,
    /// How many reads and writes have come.
    pub(super) requests: AtomicU32,
    /// Whether it fails each of them, and says that it does not serve.
    pub(super) fails: AtomicBool,
    /// The id of each table.
    pub(super) table_id: AtomicU32,
}

impl Fake {
    fn answer<T>(&self, answer: T) -> Result<Response<T>, Status> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let failure = || Failure::new(FailureReason::NotReady).to_status(FailureReason::NotReady.code(), "not now");
        if self.fails.load(Ordering::SeqCst) { Err(failure()) } else { Ok(Response::new(answer)) }
    }
}

struct Served(Arc<Fake>);

#[tonic::async_trait]
impl api::cluster_server::Cluster for Served {
    async fn info(&self, _: Request<api::ClusterInfoRequest>) -> Result<Response<api::ClusterInfoResponse>, Status> {
        let node = |(id, address): (String, String)| api::StorageNode { id, address, ..Default::default() };
        let storage_nodes: Vec<_> = self.0.members.lock().unwrap().clone().into_iter().map(node).collect();
        let node_id = self.0.id.clone();
        let replication_level = i64::try_from(storage_nodes.len().min(3)).unwrap();
        Ok(Response::new(api::ClusterInfoResponse { storage_nodes, node_id, replication_level, ..Default::default() }))
    }

    async fn get(&self, _: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        self.0.answer(api::GetResponse { version: "AAxx".to_owned(), ..Default::default() })
    }

    async fn set(&self, _: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        self.0.answer(api::SetResponse { version: "AAxx".to_owned(), ..Default::default() })
    }
}

#[tonic::async_trait]
impl api::tables_server::Tables for Served {
    async fn get(&self, request: Request<api::TableGetRequest>) -> Result<Response<api::TableGetResponse>, Status> {
        let (name, id) = (request.into_inner().name, self.0.table_id.load(Ordering::SeqCst));
        Ok(Response::new(api::TableGetResponse { table: Some(api::Table { name, id, ..Default::default() }) }))
    }
}

#[tonic::async_trait]
impl api::node_server::Node for Served {
    async fn health(&self, _: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        let serves = !self.0.fails.load(Ordering::SeqCst);
        let status = if serves { api::Health::Online } else { api::Health::Starting }.into();
        let node_id = self.0.id.clone();
        Ok(Response::new(api::HealthResponse { node_id, status, serves, ..Default::default() }))
    }
}

/// A node that serves until its handle is aborted, which breaks its connections too.
pub(super) async fn serve(id: &str, members: &Members) -> (Arc<Fake>, String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fake = Arc::new(Fake {
        id: id.to_owned(),
        members: Arc::clone(members),
        reads: AtomicU32::new(0),
        requests: AtomicU32::new(0),
        fails: AtomicBool::new(false),
        table_id: AtomicU32::new(TableId::FIRST.0),
    });
    let tables = api::tables_server::TablesServer::new(Served(Arc::clone(&fake)));
    let cluster = api::cluster_server::ClusterServer::new(Served(Arc::clone(&fake)));
    let node = api::node_server::NodeServer::new(Served(Arc::clone(&fake)));
    let (ends, ended) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder().add_service(cluster).add_service(tables).add_service(node);
    tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
        let _ = ended.await;
    }));
    // The server ends with the task that holds the other end.
    let holder = tokio::spawn(async move {
        let _ends = ends;
        std::future::pending::<()>().await;
    });
    (fake, address, holder.abort_handle())
}

pub(super) fn list(members: &Members, nodes: &[(&str, &str)]) {
    *members.lock().unwrap() = nodes.iter().map(|(id, address)| ((*id).to_owned(), (*address).to_owned())).collect();
}

/// Reads until `is_so`.
async fn read_until(client: &Client, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for {what}");
        client.get("k").await.expect("a node serves all the time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn client_follows_to_new_members_and_goes_on_without_those_that_it_was_given() {
    let members = Members::default();
    let (_one, first, first_ends) = serve("1", &members).await;
    let (_two, second, second_ends) = serve("2", &members).await;
    let (three, third, _third_ends) = serve("3", &members).await;
    let (stranger, fourth, _fourth_ends) = serve("9", &members).await;
    // Nobody listens at the address of node 5, and another node at that of node 4.
    list(&members, &[("1", &first), ("2", &second), ("3", &third), ("4", &fourth), ("5", "127.0.0.1:1")]);
    let client = Client::new([&first, &second]).unwrap();
    read_until(&client, "the client to ask node 3", || three.reads.load(Ordering::SeqCst) > 0).await;
    assert_eq!(client.pool.nodes().len(), 3, "only what answers under its id is asked");
    list(&members, &[("3", &third)]);
    first_ends.abort();
    second_ends.abort();
    let before = three.reads.load(Ordering::SeqCst);
    read_until(&client, "node 3 to serve alone", || three.reads.load(Ordering::SeqCst) > before + 20).await;
    assert_eq!(stranger.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn given_node_under_another_name_is_not_asked_twice_and_one_address_is_asked_alone() {
    let members = Members::default();
    let (one, first, _first_ends) = serve("1", &members).await;
    let (_two, second, _second_ends) = serve("2", &members).await;
    let (three, third, _third_ends) = serve("3", &members).await;
    let port = first.rsplit_once(':').unwrap().1;
    list(&members, &[("1", &first), ("2", &second), ("3", &third)]);
    let client = Client::new([&format!("localhost:{port}"), &second]).unwrap();
    let alone = Client::new([&first]).unwrap();
    read_until(&client, "the client to ask node 3", || three.reads.load(Ordering::SeqCst) > 0).await;
    let addresses: Vec<String> = client.pool.nodes().iter().map(|node| node.address.clone()).collect();
    assert_eq!(addresses, [format!("localhost:{port}"), second, third]);
    let (of_one, of_three) = (one.reads.load(Ordering::SeqCst), three.reads.load(Ordering::SeqCst));
    let ends = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < ends {
        alone.get("k").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(one.reads.load(Ordering::SeqCst) >= of_one + 20);
    assert_eq!(three.reads.load(Ordering::SeqCst), of_three);
    assert_eq!(alone.pool.nodes().len(), 1);
}

#[tokio::test]
async fn client_whose_nodes_were_all_removed_learns_from_them_who_the_members_are() {
    let members = Members::default();
    let (_one, first, _first_ends) = serve("1", &members).await;
    let (_two, second, _second_ends) = serve("2", &members).await;
    let (three, third, _third_ends) = serve("3", &members).await;
    list(&members, &[("3", &third)]);
    let client = Client::new([&first, &second]).unwrap();
    read_until(&client, "the client to ask node 3", || three.reads.load(Ordering::SeqCst) > 0).await;
}

#[tokio::test]
async fn old_list_of_a_removed_node_takes_no_member_away() {
    let told = Members::default();
    let (_one, first, _first_ends) = serve("1", &told).await;
    let (_two, second, _second_ends) = serve("2", &told).await;
    let (three, third, third_ends) = serve("3", &told).await;
    list(&told, &[("3", &third)]);
    let client = Client::new([&first, &second]).unwrap();
    read_until(&client, "the client to ask node 3", || three.reads.load(Ordering::SeqCst) > 0).await;
    // The only member is away, and the others tell of members of long ago.
    list(&told, &[("8", "127.0.0.1:1")]);
    third_ends.abort();
    let ends = Instant::now() + Duration::from_secs(14); // LOOK_EVERY is 10 s
    while Instant::now() < ends {
        client.get("k").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(client.pool.nodes().iter().any(|node| node.address == third), "it may come back");
}

#[tokio::test]
async fn member_is_believed_before_a_node_that_was_removed() {
    let (stale, members) = (Members::default(), Members::default());
    let (_one, first, _first_ends) = serve("1", &stale).await;
    let (_two, second, _second_ends) = serve("2", &members).await;
    let (three, third, _third_ends) = serve("3", &members).await;
    let (nine, ninth, _ninth_ends) = serve("9", &stale).await;
    list(&stale, &[("9", &ninth)]);
    list(&members, &[("2", &second), ("3", &third)]);
    let client = Client::new([&first, &second]).unwrap();
    read_until(&client, "the client to ask node 3", || three.reads.load(Ordering::SeqCst) > 0).await;
    assert_eq!(nine.reads.load(Ordering::SeqCst), 0);
}
