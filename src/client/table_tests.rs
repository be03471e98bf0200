//! Clients bound to tables, and tables themselves, against servers in this process that do as their test says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;
use crate::wire::failure::{Failure, FailureReason};

type Pages = Pin<Box<dyn Stream<Item = Result<api::TableListResponse, Status>> + Send>>;

/// A node that notes the table of each request, and answers as it is told.
#[derive(Default)]
struct Fake {
    /// The tables of the requests about keys.
    tables: Mutex<Vec<String>>,
    /// The reason with which the next requests fail; after them all succeed.
    failures: Mutex<VecDeque<FailureReason>>,
    creations: Mutex<Vec<api::TableCreateRequest>>,
    pages: Mutex<VecDeque<Vec<Result<api::TableListResponse, Status>>>>,
    lists_from: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, table: &str) -> Result<(), Status> {
        self.tables.lock().unwrap().push(table.to_owned());
        self.fail()
    }

    fn fail(&self) -> Result<(), Status> {
        self.failures.lock().unwrap().pop_front().map_or(Ok(()), |reason| Err(failure(reason)))
    }
}

fn failure(reason: FailureReason) -> Status {
    Failure::new(reason).to_status(reason.code(), "made by the test")
}

const VERSION: &str = "AAxx";

struct Served(Arc<Fake>);

#[tonic::async_trait]
impl api::cluster_server::Cluster for Served {
    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        self.0.note(&request.get_ref().table)?;
        Ok(Response::new(api::GetResponse { version: VERSION.into(), ..Default::default() }))
    }

    async fn batch_get(
        &self,
        request: Request<api::BatchGetRequest>,
    ) -> Result<Response<api::BatchGetResponse>, Status> {
        self.0.note(&request.get_ref().table)?;
        let result = |key| api::BatchGetResult { key, version: VERSION.into(), ..Default::default() };
        let results = request.into_inner().keys.into_iter().map(result).collect();
        Ok(Response::new(api::BatchGetResponse { results }))
    }

    async fn set(&self, request: Request<api::SetRequest>) -> Result<Response<api::SetResponse>, Status> {
        self.0.note(&request.get_ref().table)?;
        Ok(Response::new(api::SetResponse { clock: None, version: VERSION.into() }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<api::DeleteResponse>, Status> {
        self.0.note(&request.get_ref().table)?;
        Ok(Response::new(api::DeleteResponse { clock: None, version: VERSION.into() }))
    }

    async fn add(&self, request: Request<api::AddRequest>) -> Result<Response<api::AddResponse>, Status> {
        self.0.note(&request.get_ref().table)?;
        Ok(Response::new(api::AddResponse { value: 1, version: VERSION.into() }))
    }

    async fn batch_write(
        &self,
        request: Request<api::BatchWriteRequest>,
    ) -> Result<Response<api::BatchWriteResponse>, Status> {
        use api::batch_write_entry::Write::{Delete, Set};
        let mut results = Vec::new();
        for entry in request.into_inner().entries {
            let table = match entry.write.unwrap() {
                Set(request) => request.table,
                Delete(request) => request.table,
            };
            self.0.note(&table)?;
            results.push(api::BatchWriteResult { version: VERSION.into(), ..Default::default() });
        }
        Ok(Response::new(api::BatchWriteResponse { results }))
    }
}

#[tonic::async_trait]
impl api::tables_server::Tables for Served {
    async fn create(
        &self,
        request: Request<api::TableCreateRequest>,
    ) -> Result<Response<api::TableCreateResponse>, Status> {
        let request = request.into_inner();
        self.0.creations.lock().unwrap().push(request.clone());
        self.0.fail()?;
        let table = api::Table { name: request.name, id: 17, settings: request.settings, ..Default::default() };
        Ok(Response::new(api::TableCreateResponse { table: Some(table), created: true }))
    }

    async fn list(&self, request: Request<api::TableListRequest>) -> Result<Response<Pages>, Status> {
        self.0.lists_from.lock().unwrap().push(request.into_inner().start_after);
        let pages = self.0.pages.lock().unwrap().pop_front();
        let pages = pages.ok_or_else(|| failure(FailureReason::NotReady))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }
}

async fn fake() -> (Arc<Fake>, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fake = Arc::new(Fake::default());
    let server = Server::builder()
        .add_service(api::cluster_server::ClusterServer::new(Served(Arc::clone(&fake))))
        .add_service(api::tables_server::TablesServer::new(Served(Arc::clone(&fake))))
        .add_service(api::node_server::NodeServer::new(Healthy));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let client = Client::builder().address(address).deadline(Duration::from_secs(5)).build().unwrap();
    (fake, client)
}

struct Healthy;

#[tonic::async_trait]
impl api::node_server::Node for Healthy {
    async fn health(&self, _: Request<api::HealthRequest>) -> Result<Response<api::HealthResponse>, Status> {
        Ok(Response::new(api::HealthResponse { serves: true, ..Default::default() }))
    }
}

#[tokio::test]
async fn every_request_names_the_table_of_its_client() {
    let (fake, client) = fake().await;
    for (client, table) in [
        (client.clone(), ""),
        (client.table("default"), ""),
        (client.table("t"), "t"),
        (client.table("t").with_deadline(Duration::from_secs(1)), "t"),
        (client.table("t").table("u"), "u"),
    ] {
        client.get("k").await.unwrap();
        client.batch_get(["k"]).await.unwrap();
        client.set("k", "v").await.unwrap();
        client.set("k", "v").if_version(VERSION).await.unwrap();
        client.delete("k").await.unwrap();
        client.add("k", 1).await.unwrap();
        client.update("k", |_| Some("v")).await.unwrap();
        assert_eq!(std::mem::take(&mut *fake.tables.lock().unwrap()), [table; 8]);
    }
    let (t, u) = (client.table("t"), client.table("u"));
    let writes = [t.set("k", "v").into(), u.delete("k").into(), client.set("k", "v").into()];
    client.batch_write(writes).await.unwrap();
    assert_eq!(std::mem::take(&mut *fake.tables.lock().unwrap()), ["t", "u", ""], "one key in three tables is three");
    let twice = [t.set("k", "v").into(), client.table("t").delete("k").into()];
    assert!(matches!(client.batch_write(twice).await, Err(ClientError::InvalidInput { .. })));
}

#[tokio::test]
async fn wrong_name_is_refused_and_nothing_is_sent() {
    let (fake, client) = fake().await;
    for name in ["", "a b", "a/b", &"n".repeat(129)] {
        let table = client.table(name);
        let refused = [
            table.get("k").await.map(drop),
            table.set("k", "v").await.map(drop),
            table.delete("k").await.map(drop),
            table.add("k", 1).await.map(drop),
            table.batch_get(["k"]).await.map(drop),
            table.batch_write([table.set("k", "v").into()]).await.map(drop),
            table.list("").collect().await.map(drop),
            table.watch("").stream().next().await.unwrap().map(drop),
            client.tables().create(name).await.map(drop),
            client.tables().drop(name).await,
            client.tables().get(name).await.map(drop),
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert!(matches!(error, ClientError::InvalidInput { .. }), "{name:?}: {error:?}");
            assert!(error.to_string().starts_with("the name of the table "), "{error}");
        }
    }
    let ttl = client.tables().create("t").default_ttl(Duration::ZERO).await.unwrap_err();
    let value = client.tables().create("t").value_bytes_max(0).await.unwrap_err();
    let quota = client.tables().create("t").quota_bytes(0).await.unwrap_err();
    let default = client.tables().create("default").await.unwrap_err();
    for error in [ttl, value, quota, default] {
        assert!(matches!(error, ClientError::InvalidInput { .. }), "{error:?}");
    }
    assert!(fake.tables.lock().unwrap().is_empty() && fake.creations.lock().unwrap().is_empty());
}

#[tokio::test]
async fn missing_table_is_an_error_of_its_own_and_final() {
    let (fake, client) = fake().await;
    let table = client.table("t");
    let fail = || fake.failures.lock().unwrap().push_back(FailureReason::NoSuchTable);
    for _ in 0..2 {
        fail();
        assert!(matches!(table.get("k").await, Err(ClientError::NoSuchTable { .. })));
        fail();
        assert!(matches!(table.set("k", "v").await, Err(ClientError::NoSuchTable { .. })));
        fail();
        assert!(matches!(table.set("k", "v").if_version(VERSION).await, Err(ClientError::NoSuchTable { .. })));
    }
    assert_eq!(fake.tables.lock().unwrap().len(), 6, "none was sent again");
}

#[tokio::test]
async fn creation_is_sent_again_only_where_a_table_that_is_there_will_do() {
    let (fake, client) = fake().await;
    fake.failures.lock().unwrap().extend([FailureReason::OutcomeUnknown]);
    let failed = client.tables().create("t").await;
    assert!(matches!(failed, Err(ClientError::OutcomeUnknown { .. })), "{failed:?}");
    fake.failures.lock().unwrap().extend([FailureReason::NotApplied, FailureReason::OutcomeUnknown]);
    let create = client.tables().create("t").if_missing().default_ttl(Duration::from_mins(1)).quota_bytes(9);
    let created = create.await.unwrap();
    let expected = TableInfo {
        name: "t".into(),
        id: 17,
        is_dropping: false,
        default_ttl: Some(Duration::from_mins(1)),
        value_bytes_max: None,
        quota_bytes: Some(9),
    };
    assert_eq!(created, TableCreated { table: expected, is_new: true });
    let creations = std::mem::take(&mut *fake.creations.lock().unwrap());
    assert_eq!(creations.len(), 4);
    assert!(creations[1..].iter().all(|request| request.if_missing && request.settings.is_some()), "{creations:?}");
    assert!(!creations[0].if_missing && creations[0].settings.is_none());
    fake.failures.lock().unwrap().extend([FailureReason::TableExists]);
    assert!(matches!(client.tables().create("t").await, Err(ClientError::TableExists { .. })));
}

#[tokio::test]
async fn list_of_tables_goes_on_where_it_was_cut_off() {
    let (fake, client) = fake().await;
    let page = |names: &[&str], next: Option<&str>| {
        let table = |name: &&str| api::Table { name: (*name).to_owned(), ..Default::default() };
        Ok(api::TableListResponse { tables: names.iter().map(table).collect(), next: next.map(str::to_owned) })
    };
    let pages = [
        vec![page(&["a", "b"], Some("b")), Err(failure(FailureReason::NotReady))],
        // A stream that ends without a last page was cut off.
        vec![page(&["c"], Some("c"))],
        vec![page(&["default"], None)],
    ];
    fake.pages.lock().unwrap().extend(pages);
    let names: Vec<String> = client.tables().list().await.unwrap().into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["a", "b", "c", "default"]);
    assert_eq!(*fake.lists_from.lock().unwrap(), ["", "b", "c"]);
}
