//! Tables over HTTP: created, described, listed and dropped, with the real curl where a person would use it.

use super::commands::curl;
use super::{Answer, Json, Plan, Served, ask, start, start_one};

impl Served {
    /// The body of an answer, which is JSON.
    pub(crate) async fn http_json(&self, method: &str, path: &str, body: &str) -> Json {
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        ask(&self.http_address, method, path, &headers, body.as_bytes()).await.json()
    }
}

impl Answer {
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }
}

#[tokio::test]
async fn table_is_created_described_and_dropped() {
    let served = start_one().await;
    let path = "/v1/tables/sessions?default_ttl=30m&value_bytes_max=1024&quota_bytes=1048576";
    let created = served.http("PUT", path, "").await;
    assert_eq!((created.status, created.body.len()), (201, 0));
    for again in [path, "/v1/tables/sessions"] {
        assert_eq!(served.http("PUT", again, "").await.status, 204, "{again}");
    }
    let other = served.http("PUT", "/v1/tables/sessions?quota_bytes=1", "").await;
    assert_eq!(other.problem(), (409, "table-exists".to_owned()));
    assert_eq!(other.json()["reason"], "TABLE_EXISTS");
    let described = served.http("GET", "/v1/tables/sessions", "").await.json();
    for (field, value) in [
        ("table", Json::from("sessions")),
        ("default_ttl_ms", 1_800_000.into()),
        ("value_bytes_max", 1_024.into()),
        ("quota_bytes", 1_048_576.into()),
    ] {
        assert_eq!(described[field], value, "{described}");
    }
    assert!(described["id"].as_u64().is_some_and(|id| id > 0), "{described}");
    let listed = served.http("GET", "/v1/tables", "").await.json();
    assert_eq!(listed["tables"][0], serde_json::json!({ "table": "default" }));
    assert_eq!(listed["tables"][1], described);
    let default = served.http("GET", "/v1/tables/default", "").await.json();
    assert_eq!(default, serde_json::json!({ "table": "default" }));
    assert_eq!(served.http("PUT", "/v1/tables/default", "").await.status, 204);

    let body = served.http("PUT", "/v1/tables/carts", r#"{"default_ttl": "1h"}"#).await;
    assert_eq!(body.problem(), (400, "invalid-body".to_owned()), "settings in a body would be lost");
    assert_eq!(served.http("GET", "/v1/tables/carts", "").await.problem(), (404, "missing-table".to_owned()));

    assert_eq!(served.http("PUT", "/v1/tables/sessions/keys/a%2Fb", "v").await.status, 201);
    let listed = served.http("GET", "/v1/tables/sessions/keys", "").await.json();
    assert_eq!((&listed["table"], &listed["keys"][0]["key"]), (&"sessions".into(), &"a/b".into()));
    assert_eq!(served.http("HEAD", "/v1/tables/sessions/keys/a%2Fb", "").await.status, 200);
    assert_eq!(served.http("HEAD", "/a%2Fb", "").await.status, 404);
    let placement = served.http("GET", "/v1/tables/sessions/placement/a", "").await.json();
    assert!(placement["replicas"].as_array().is_some_and(|replicas| replicas.len() == 1), "{placement}");
    assert_eq!(served.http("POST", "/v1/tables/sessions/keys/n?add=3", "").await.text(), "3");
    assert_eq!(served.http("DELETE", "/v1/tables/sessions", "").await.status, 204);
    assert_eq!(served.http("DELETE", "/v1/tables/sessions", "").await.problem(), (404, "missing-table".to_owned()));
    for path in ["/keys/a", "/keys", "/watch", "/placement/a", ""] {
        let gone = served.http("GET", &format!("/v1/tables/sessions{path}"), "").await;
        assert_eq!(gone.problem(), (404, "missing-table".to_owned()), "{path}");
        assert!(gone.json()["detail"].as_str().unwrap().contains("PUT /v1/tables/sessions"), "{gone:?}");
    }
}

#[tokio::test]
async fn one_of_sixteen_puts_creates_the_table() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for round in 0..3 {
        let path = format!("/v1/tables/t{round}");
        let tries = (0..16).map(|number| {
            let (address, path) = (served[number % 3].http_address.clone(), path.clone());
            tokio::spawn(async move { ask(&address, "PUT", &path, &[], b"").await.status })
        });
        let mut statuses = Vec::new();
        for tried in tries.collect::<Vec<_>>() {
            statuses.push(tried.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!((statuses[0], &statuses[1..]), (201, &[204; 15][..]));
    }
}

#[tokio::test]
async fn curl_works_in_a_table() {
    let served = start_one().await;
    let status = "-o /dev/null -w '%{http_code}'";
    for (command, printed) in [
        (format!("{status} -X PUT http://HOST/v1/tables/carts"), "201"),
        (format!("{status} -X PUT http://HOST/v1/tables/carts"), "204"),
        (format!("{status} -X PUT -d '3 apples' http://HOST/v1/tables/carts/keys/ada"), "201"),
        ("http://HOST/v1/tables/carts/keys/ada".to_owned(), "3 apples"),
        (format!("{status} http://HOST/ada"), "404"),
        ("-H 'Accept: text/plain' http://HOST/v1/tables/carts/keys".to_owned(), "ada\n"),
        (format!("{status} -X PUT -H 'If-None-Match: *' -d x http://HOST/v1/tables/carts/keys/ada"), "412"),
        (format!("{status} -X DELETE http://HOST/v1/tables/carts"), "204"),
        (format!("{status} http://HOST/v1/tables/carts/keys/ada"), "404"),
        (format!("{status} -X PUT http://HOST/v1/tables/carts"), "201"),
        ("-H 'Accept: text/plain' http://HOST/v1/tables/carts/keys".to_owned(), ""),
    ] {
        assert_eq!(curl(&served, &command).await, (printed.to_owned(), 0), "{command}");
    }
}
