//! Tables through every door: created, used, listed, dropped, and what is refused.

use quorate::api::tables_client::TablesClient;
use quorate::api::watch_request::Keys;
use quorate::api::watch_response::Event;
use quorate::{Client, ClientError};

use super::*;

impl Served {
    async fn tables(&self) -> TablesClient<Channel> {
        TablesClient::new(self.channel().await)
    }
}

fn create(name: &str) -> api::TableCreateRequest {
    api::TableCreateRequest { name: name.to_owned(), ..Default::default() }
}

fn dropped(name: &str) -> api::TableDropRequest {
    api::TableDropRequest { name: name.to_owned() }
}

fn set_in(table: &str, key: &str, value: &str) -> api::SetRequest {
    api::SetRequest { table: table.to_owned(), ..set(key, value) }
}

fn get_in(table: &str, key: &str) -> api::GetRequest {
    api::GetRequest { table: table.to_owned(), ..get(key) }
}

/// The names of all tables, as a node lists them.
async fn names(served: &Served) -> Vec<String> {
    let mut pages = served.tables().await.list(api::TableListRequest::default()).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        names.extend(page.tables.into_iter().map(|table| table.name));
    }
    names
}

#[tokio::test]
async fn keys_of_two_tables_are_two_keys_through_every_node_and_door() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let created = nodes[0].tables().await.create(create("größe")).await.unwrap().into_inner();
    let table = created.table.unwrap();
    assert!(created.created && table.id > 0 && table.state() == api::TableState::TableReady, "{table:?}");
    for (number, served) in nodes.iter().enumerate() {
        let mut cluster = served.cluster().await;
        let key = format!("k{number}");
        let in_table = cluster.set(set_in("größe", &key, "in the table")).await.unwrap().into_inner();
        let in_default = cluster.set(set_in("default", &key, "in default")).await.unwrap().into_inner();
        assert_ne!(in_table.version, in_default.version);
        let mut other = nodes[(number + 1) % 3].cluster().await;
        for (name, value) in [("größe", "in the table"), ("default", "in default"), ("", "in default")] {
            let got = other.get(get_in(name, &key)).await.unwrap().into_inner();
            assert_eq!(got.entry, Some(text(&key, value)), "{name}");
        }
        let got = served.http("GET", &format!("/v1/tables/gr%C3%B6%C3%9Fe/keys/{key}"), "").await;
        assert_eq!((got.status, got.text().as_str()), (200, "in the table"));
        assert_eq!(served.http("GET", &format!("/{key}"), "").await.text(), "in default");
    }
    let mut cluster = nodes[1].cluster().await;
    let batch = api::BatchGetRequest { keys: vec!["k0".into(), "none".into()], table: "größe".into() };
    let results = cluster.batch_get(batch).await.unwrap().into_inner().results;
    assert_eq!((results[0].entry.clone(), results[1].entry.clone()), (Some(text("k0", "in the table")), None));
    for _ in 0..2 {
        let request = api::AddRequest { key: "n".into(), table: "größe".into(), delta: 2, ..Default::default() };
        cluster.add(request).await.unwrap();
    }
    assert_eq!(cluster.get(get_in("größe", "n")).await.unwrap().into_inner().entry, Some(text("n", "4")));
    assert_eq!(cluster.get(get("n")).await.unwrap().into_inner().entry, None);
    let delete = api::DeleteRequest { key: "k0".into(), table: "größe".into(), ..Default::default() };
    cluster.delete(delete).await.unwrap();
    for (table, expected) in [("größe", vec!["k1", "k2", "n"]), ("", vec!["k0", "k1", "k2"])] {
        let request = api::ListRequest { table: table.into(), ..Default::default() };
        let page = cluster.list(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
        let keys: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, expected, "{table:?}");
    }
    assert_eq!(nodes[2].http("GET", "/", "").await.text(), "k0\nk1\nk2");
    assert_eq!(names(&nodes[2]).await, ["default", "größe"]);
}

#[tokio::test]
async fn batch_may_write_to_several_tables() {
    use api::batch_write_entry::Write::{Delete, Set};
    let served = start_one().await;
    served.tables().await.create(create("t")).await.unwrap();
    let mut cluster = served.cluster().await;
    let in_t = |key: &str| api::DeleteRequest { key: key.into(), table: "t".into(), ..Default::default() };
    let writes =
        [Set(set_in("t", "k", "1")), Set(set_in("", "k", "2")), Delete(in_t("other")), Set(set_in("u", "k", "3"))];
    let entries = writes.into_iter().map(|write| api::BatchWriteEntry { write: Some(write) }).collect();
    let request = api::BatchWriteRequest { entries, table: "default".into() };
    let results = cluster.batch_write(request).await.unwrap().into_inner().results;
    let errors: Vec<Option<(i32, &str)>> =
        results.iter().map(|result| result.error.as_ref().map(|error| (error.code, &*error.reason))).collect();
    assert_eq!(errors, [None, None, None, Some((5, "NO_SUCH_TABLE"))]);
    assert_eq!(cluster.get(get_in("t", "k")).await.unwrap().into_inner().entry, Some(text("k", "1")));
    assert_eq!(cluster.get(get("k")).await.unwrap().into_inner().entry, Some(text("k", "2")));

    let batch = r#"{"operations": [{"op": "put", "table": "t", "key": "k", "value": "4"}, {"op": "get", "key": "k"},
        {"op": "get", "table": "t", "key": "k"}, {"op": "get", "table": "u", "key": "k"}]}"#;
    let answer = served.http_json("POST", "/v1/batch", batch).await;
    let result = |index: usize, field: &str| answer["results"][index][field].clone();
    assert_eq!((result(0, "status"), result(1, "value"), result(2, "value")), (204.into(), "2".into(), "4".into()));
    assert_eq!(
        (result(3, "status"), &answer["results"][3]["problem"]["reason"]),
        (404.into(), &"NO_SUCH_TABLE".into())
    );
}

#[tokio::test]
async fn one_of_sixteen_creates_a_table_and_all_others_are_told() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for round in 0..3 {
        let name = format!("t{round}");
        let mut creators = Vec::new();
        for number in 0..16 {
            let mut tables = nodes[number % 3].tables().await;
            let request = api::TableCreateRequest { if_missing: number % 2 == 0, ..create(&name) };
            creators.push(tokio::spawn(async move { (request.if_missing, tables.create(request).await) }));
        }
        let (mut created, mut ids) = (0, std::collections::BTreeSet::new());
        for creator in creators {
            match creator.await.unwrap() {
                (_, Ok(answer)) => {
                    let answer = answer.into_inner();
                    created += usize::from(answer.created);
                    ids.insert(answer.table.unwrap().id);
                }
                (true, Err(status)) => panic!("{status}"),
                (false, Err(status)) => {
                    let expected = (Code::AlreadyExists, Some(FailureReason::TableExists));
                    assert_eq!((status.code(), reason(&status)), expected, "{status}");
                    assert!(status.message().contains(&name), "{status}");
                }
            }
        }
        assert_eq!((created, ids.len()), (1, 1), "{ids:?}");
    }
}

#[tokio::test]
async fn settings_of_a_table_hold_for_its_keys() {
    let served = start_one().await;
    let mut tables = served.tables().await;
    let settings = api::TableSettings {
        default_ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        value_bytes_max: 4,
        quota_bytes: 0,
    };
    let asked = || api::TableCreateRequest { settings: Some(settings), ..create("small") };
    tables.create(asked()).await.unwrap();
    let read = tables.get(api::TableGetRequest { name: "small".into() }).await.unwrap().into_inner().table.unwrap();
    assert_eq!(read.settings, Some(settings));
    let again = tables.create(api::TableCreateRequest { if_missing: true, ..asked() }).await.unwrap().into_inner();
    assert!(!again.created && again.table.as_ref() == Some(&read), "the same settings will do: {again:?}");
    let any = tables.create(api::TableCreateRequest { if_missing: true, ..create("small") }).await.unwrap();
    assert!(!any.into_inner().created, "and without settings any will");
    let other = api::TableCreateRequest {
        if_missing: true,
        settings: Some(api::TableSettings { value_bytes_max: 5, ..settings }),
        ..create("small")
    };
    let status = tables.create(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::AlreadyExists, Some(FailureReason::TableExists)));
    assert!(status.message().contains("settings"), "{status}");

    let mut cluster = served.cluster().await;
    cluster.set(set_in("small", "k", "1234")).await.unwrap();
    let ttl = cluster.get(get_in("small", "k")).await.unwrap().into_inner().ttl.expect("it expires by default");
    assert!((50..=60).contains(&ttl.seconds), "{ttl:?}");
    let own =
        api::SetRequest { ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }), ..set_in("small", "k", "1") };
    cluster.set(own).await.unwrap();
    let ttl = cluster.get(get_in("small", "k")).await.unwrap().into_inner().ttl.unwrap();
    assert!(ttl.seconds > 500, "a write may name its own: {ttl:?}");
    let status = cluster.set(set_in("small", "k", "12345")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(FailureReason::InvalidArgument)));
    assert!(status.message().contains("5 bytes") && status.message().contains('4'), "{status}");
    assert_eq!(served.http("PUT", "/v1/tables/small/keys/k", "12345").await.status, 400);
    assert_eq!(served.http("PUT", "/v1/tables/small/keys/k", "1234").await.status, 204);
    let left = served.http("GET", "/v1/tables/small/keys/k", "").await;
    assert!(left.text() == "1234" && left.has_header("quorate-ttl"), "{left:?}");
}

#[tokio::test]
async fn dropped_table_is_gone_for_every_door_and_a_new_one_is_empty() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    nodes[0].tables().await.create(create("t")).await.unwrap();
    let client = Client::new(nodes.iter().map(|node| node.address.clone())).unwrap();
    let in_table = client.table("t");
    let old = in_table.set("k", "old").await.unwrap();
    for served in &nodes {
        // Each node knows the name now.
        assert!(served.cluster().await.get(get_in("t", "k")).await.unwrap().into_inner().entry.is_some());
    }
    nodes[1].tables().await.drop(dropped("t")).await.unwrap();
    for served in &nodes {
        let mut cluster = served.cluster().await;
        let keys = Some(Keys::Prefix(String::new()));
        let list = api::ListRequest { table: "t".into(), ..Default::default() };
        let batch = api::BatchGetRequest { keys: vec!["k".into()], table: "t".into() };
        let watch = api::WatchRequest { keys, table: "t".into(), ..Default::default() };
        let add = api::AddRequest { key: "k".into(), table: "t".into(), delta: 1, ..Default::default() };
        let one = api::GetRequest { consistency: api::Consistency::One.into(), ..get_in("t", "k") };
        let listed = match cluster.list(list).await {
            Ok(pages) => pages.into_inner().message().await.map(drop).unwrap_err(),
            Err(status) => status,
        };
        let batch = match cluster.batch_get(batch).await {
            Ok(answer) => {
                let error = answer.into_inner().results.remove(0).error.unwrap();
                assert_eq!(error.reason, "NO_SUCH_TABLE");
                None
            }
            Err(status) => Some(status),
        };
        let refused = [
            Some(cluster.get(get_in("t", "k")).await.unwrap_err()),
            Some(cluster.get(one).await.unwrap_err()),
            Some(cluster.set(set_in("t", "k", "v")).await.unwrap_err()),
            Some(cluster.add(add).await.unwrap_err()),
            Some(cluster.watch(watch).await.map(drop).unwrap_err()),
            Some(listed),
            batch,
        ];
        for status in refused.into_iter().flatten() {
            assert_eq!(
                (status.code(), reason(&status)),
                (Code::NotFound, Some(FailureReason::NoSuchTable)),
                "{status}"
            );
        }
        let message = cluster.get(get_in("t", "k")).await.unwrap_err().message().to_owned();
        assert!(message.contains("\"t\"") && message.contains("quorate tables create t"), "{message}");
        for (method, path) in [
            ("GET", "/keys/k"),
            ("PUT", "/keys/k"),
            ("DELETE", "/keys/k"),
            ("GET", "/keys"),
            ("GET", "/watch"),
            ("GET", ""),
        ] {
            assert_eq!(served.http(method, &format!("/v1/tables/t{path}"), "").await.status, 404, "{method} {path}");
        }
    }
    assert!(matches!(in_table.get("k").await, Err(ClientError::NoSuchTable { .. })));
    let status = nodes[2].tables().await.drop(dropped("t")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, Some(FailureReason::NoSuchTable)));
    assert_eq!(names(&nodes[0]).await, ["default"]);

    nodes[2].tables().await.create(create("t")).await.unwrap();
    for served in &nodes {
        assert_eq!(served.cluster().await.get(get_in("t", "k")).await.unwrap().into_inner().entry, None);
    }
    assert!(in_table.list("").collect().await.unwrap().is_empty());
    let failed = in_table.set("k", "new").if_version(old.version.clone()).await;
    assert!(matches!(failed, Err(ClientError::ConditionFailed { has_value: false, .. })), "{failed:?}");
    let absent = in_table.get("k").state().await.unwrap();
    let new = in_table.set("k", "new").if_version(absent.version.clone()).await.unwrap();
    let failed = in_table.delete("k").if_version(old.version).await;
    assert!(matches!(failed, Err(ClientError::ConditionFailed { has_value: true, .. })), "{failed:?}");
    assert_ne!(absent.version, client.get("never").state().await.unwrap().version, "an absence is one of its table");
    in_table.delete("k").if_version(new.version).await.unwrap();
}

#[tokio::test]
async fn watch_tells_the_changes_of_its_table_alone() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let client = Client::new(nodes.iter().map(|node| node.address.clone())).unwrap();
    client.tables().create("t").await.unwrap();
    let table = client.table("t");
    table.set("there", "1").await.unwrap();
    client.set("elsewhere", "1").await.unwrap();
    let request = api::WatchRequest {
        keys: Some(Keys::Prefix(String::new())),
        table: "t".into(),
        values: true,
        with_list: true,
        ..Default::default()
    };
    let mut events = nodes[0].cluster().await.watch(request.clone()).await.unwrap().into_inner();
    let mut of_default = nodes[1].cluster().await;
    let request_default = api::WatchRequest { table: String::new(), ..request.clone() };
    let mut of_default = of_default.watch(request_default).await.unwrap().into_inner();
    let next = async |events: &mut tonic::Streaming<api::WatchResponse>| loop {
        let response = tokio::time::timeout(Duration::from_secs(10), events.message()).await.unwrap().unwrap().unwrap();
        match response.event.unwrap() {
            Event::Put(put) => break (put.key, response.cursor),
            Event::Ready(_) => break ("(ready)".to_owned(), response.cursor),
            Event::Deleted(deleted) => break (format!("-{}", deleted.key), response.cursor),
            Event::Reset(_) | Event::Heartbeat(_) => {}
        }
    };
    assert_eq!(next(&mut events).await.0, "there");
    let (ready, cursor) = next(&mut events).await;
    assert_eq!(ready, "(ready)");
    assert_eq!((next(&mut of_default).await.0, next(&mut of_default).await.0), ("elsewhere".into(), "(ready)".into()));
    client.set("k", "in default").await.unwrap();
    table.set("k", "in t").await.unwrap();
    table.delete("there").await.unwrap();
    let told = [next(&mut events).await.0, next(&mut events).await.0];
    assert!(told.contains(&"k".to_owned()) && told.contains(&"-there".to_owned()), "{told:?}");
    assert_eq!(next(&mut of_default).await.0, "k");

    let foreign = api::WatchRequest { cursor: cursor.clone(), table: String::new(), ..request.clone() };
    let status = nodes[0].cluster().await.watch(foreign).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "a cursor belongs to its table: {status}");
    client.tables().drop("t").await.unwrap();
    client.tables().create("t").await.unwrap();
    let status = nodes[0].cluster().await.watch(api::WatchRequest { cursor, ..request }).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "and not to a later one of its name: {status}");
}

#[tokio::test]
async fn many_tables_are_listed_in_pages_in_the_order_of_their_names() {
    let served = start_one().await;
    let client = Client::new([served.address.clone()]).unwrap();
    let mut expected = vec!["default".to_owned()];
    for number in 0..25 {
        let name = format!("{}{number}", if number % 2 == 0 { "a-" } else { "z-" });
        client.tables().create(&name).await.unwrap();
        expected.push(name);
    }
    expected.sort();
    let listed: Vec<String> = client.tables().list().await.unwrap().into_iter().map(|table| table.name).collect();
    assert_eq!(listed, expected);
    for limit in [1, 7, 26, 1_000] {
        let (mut seen, mut start_after) = (Vec::new(), String::new());
        loop {
            let request = api::TableListRequest { start_after, limit };
            let mut pages = served.tables().await.list(request).await.unwrap().into_inner();
            let mut next = None;
            while let Some(page) = pages.message().await.unwrap() {
                seen.extend(page.tables.into_iter().map(|table| table.name));
                next = page.next;
            }
            let Some(next) = next else { break };
            start_after = next;
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/tables?limit=10".to_owned());
    loop {
        let page = served.http_json("GET", &path, "").await;
        let names = page["tables"].as_array().unwrap().iter();
        seen.extend(names.map(|table| table["table"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/v1/tables?limit=10&cursor={cursor}");
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn bad_requests_about_tables_say_what_is_accepted() {
    let served = start_one().await;
    let (mut tables, mut cluster) = (served.tables().await, served.cluster().await);
    let long = "n".repeat(129);
    let ttl =
        api::TableSettings { default_ttl: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..Default::default() };
    let large = api::TableSettings { value_bytes_max: VALUE_BYTES_MAX as u64 + 1, ..Default::default() };
    for (status, parts) in [
        (tables.create(create("")).await.unwrap_err(), ["name: ", "empty"]),
        (tables.create(create("a b")).await.unwrap_err(), ["name: ", "spaces"]),
        (tables.create(create("a/b")).await.unwrap_err(), ["name: ", "slashes"]),
        (tables.create(create(&long)).await.unwrap_err(), ["name: ", "128"]),
        (tables.create(create("default")).await.unwrap_err(), ["name: ", "always exists"]),
        (tables.drop(dropped("default")).await.unwrap_err(), ["name: ", "cannot be created or dropped"]),
        (tables.drop(dropped("")).await.unwrap_err(), ["name: ", "empty"]),
        (
            tables.create(api::TableCreateRequest { settings: Some(ttl), ..create("t") }).await.unwrap_err(),
            ["settings.default_ttl", "3,650 days"],
        ),
        (
            tables.create(api::TableCreateRequest { settings: Some(large), ..create("t") }).await.unwrap_err(),
            ["settings.value_bytes_max", "62914560"],
        ),
        (cluster.get(get_in("a b", "k")).await.unwrap_err(), ["table: ", "spaces"]),
        (cluster.set(set_in(&long, "k", "v")).await.unwrap_err(), ["table: ", "128"]),
    ] {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(reason(&status), Some(FailureReason::InvalidArgument), "{status}");
        assert!(parts.iter().all(|part| status.message().contains(part)), "{}", status.message());
    }
    let status = tables.get(api::TableGetRequest { name: "t".into() }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, Some(FailureReason::NoSuchTable)));
    let default =
        tables.get(api::TableGetRequest { name: "default".into() }).await.unwrap().into_inner().table.unwrap();
    assert_eq!((default.name.as_str(), default.id, default.state()), ("default", 0, api::TableState::TableReady));
    assert_eq!(names(&served).await, ["default"], "none of them created anything");
}

#[tokio::test]
async fn client_bound_to_a_table_has_all_operations() {
    let nodes = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let client = Client::new(nodes.iter().map(|node| node.address.clone())).unwrap();
    let table = client.table("t");
    assert!(matches!(table.get("k").await, Err(ClientError::NoSuchTable { .. })));
    assert!(matches!(table.set("k", "v").await, Err(ClientError::NoSuchTable { .. })));
    assert!(matches!(table.list("").collect().await, Err(ClientError::NoSuchTable { .. })));
    assert!(matches!(client.tables().drop("t").await, Err(ClientError::NoSuchTable { .. })));
    assert_eq!(client.tables().get("t").await.unwrap(), None);
    let created = client.tables().create("t").quota_bytes(1 << 30).await.unwrap();
    assert!(created.is_new && created.table.quota_bytes == Some(1 << 30), "{created:?}");
    assert!(matches!(client.tables().create("t").await, Err(ClientError::TableExists { .. })));
    assert!(!client.tables().create("t").if_missing().await.unwrap().is_new);
    assert_eq!(client.tables().get("t").await.unwrap(), Some(created.table));

    table.set("a", "1").if_absent().await.unwrap();
    assert_eq!(table.add("n", 5).await.unwrap().value, 5);
    let changed = table.update("a", |old| old.map(|old| format!("{:?}", old.value.bytes().len()))).await.unwrap();
    assert!(changed.is_some());
    let writes = [table.set("b", "2").into(), client.set("b", "default").into(), table.delete("n").into()];
    assert!(client.batch_write(writes).await.unwrap().iter().all(Result::is_ok));
    let found = table.batch_get(["b", "n"]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().value, Value::Text("2".into()));
    assert!(found[1].as_ref().unwrap().is_none());
    let keys: Vec<String> = table.list("").collect().await.unwrap().into_iter().map(|listed| listed.key).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(client.get("b").await.unwrap().unwrap().value, Value::Text("default".into()));
    let mut watching = table.watch("").with_list().stream();
    let first = tokio::time::timeout(Duration::from_secs(10), watching.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first, quorate::client::WatchEvent::Set { key, .. } if key == "a"));
    client.tables().drop("t").await.unwrap();
    assert!(matches!(table.batch_get(["b"]).await, Err(ClientError::NoSuchTable { .. })));
}
