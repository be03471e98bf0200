//! Lists and batches.

use serde_json::{Value as Json, json};

use super::{Plan, Served, ask, start, start_one};

async fn with_keys(served: &Served, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|n| format!("key/{n:04}")).collect();
    let mut operations: Vec<Json> = Vec::new();
    for key in &keys {
        operations.push(json!({ "op": "put", "key": key, "value": format!("of {key}") }));
    }
    for some in operations.chunks(1_000) {
        let body = json!({ "operations": some }).to_string();
        let headers = [("content-type", "application/json")];
        assert_eq!(ask(&served.http_address, "POST", "/v1/batch", &headers, body.as_bytes()).await.status, 200);
    }
    keys
}

fn keys_of(page: &Json) -> Vec<String> {
    page["keys"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let keys = with_keys(&served[0], 1_205).await;
    served[1].http("PUT", "/zzz", "v").await;
    let (mut listed, mut path, mut pages) = (Vec::new(), "/v1/tables/default/keys?prefix=key/&limit=500".to_owned(), 0);
    loop {
        let answer = served[pages % 3].http("GET", &path, "").await;
        assert_eq!((answer.status, answer.header("vary")), (200, "Accept"));
        let page = answer.json();
        assert_eq!(page["table"], "default");
        listed.extend(keys_of(&page));
        pages += 1;
        let Some(cursor) = page["cursor"].as_str() else {
            assert_eq!(answer.header("link"), "");
            break;
        };
        let link = answer.header("link").to_owned();
        let (next, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert!(rest == "; rel=\"next\"" && next.contains(cursor) && next.contains("limit=500"), "{link}");
        path = next.to_owned();
    }
    assert_eq!(listed, keys);
    let default = served[0].http("GET", "/v1/tables/default/keys", "").await.json();
    assert_eq!((keys_of(&default).len(), default["cursor"].is_string()), (1_000, true));
    let large = served[0].http("GET", "/v1/tables/default/keys?limit=10000", "").await.json();
    assert_eq!((keys_of(&large).len(), large["cursor"].is_string()), (1_206, false));
}

#[tokio::test]
async fn text_has_a_key_a_line() {
    let served = start_one().await;
    let empty = served.http("GET", "/", "").await;
    assert_eq!((empty.status, empty.text().as_str()), (200, ""));
    let keys = with_keys(&served, 2_100).await;
    let all = served.http("GET", "/", "").await;
    assert_eq!((all.header("content-type"), all.text()), ("text/plain; charset=utf-8", keys.join("\n")));
    assert_eq!(served.http("HEAD", "/", "").await.body.len(), 0);
    served.http("PUT", "/a%0Ab%25", "v").await;
    let text = [("accept", "text/plain")];
    let listed = served.http_with("GET", "/v1/tables/default/keys?limit=2", &text).await;
    assert_eq!(listed.text(), "a%0Ab%25\nkey/0000\n");
    assert!(listed.header("link").contains("rel=\"next\""));
    assert_eq!(served.http("GET", "/?limit=2", "").await.text(), "a%0Ab%25\nkey/0000");
    assert_eq!(served.http("GET", "/?prefix=key/00", "").await.text(), keys[..100].join("\n"));
    let as_json = served.http_with("GET", "/?limit=1", &[("accept", "application/json")]).await.json();
    assert_eq!(keys_of(&as_json), ["a\nb%"]);
}

#[tokio::test]
async fn values_are_listed_with_their_tags() {
    let served = start_one().await;
    served.http("PUT", "/a?ttl=1h", "text").await;
    ask(&served.http_address, "PUT", "/b", &[], &[0xff]).await;
    served.http("PUT", "/c", "gone").await;
    served.http("DELETE", "/c", "").await;
    let page = served.http("GET", "/v1/tables/default/keys?values=true", "").await.json();
    let tag = served.http("GET", "/a", "").await.header("etag").to_owned();
    assert_eq!(keys_of(&page), ["a", "b"]);
    assert_eq!((&page["keys"][0]["value"], &page["keys"][0]["etag"]), (&"text".into(), &tag.into()));
    assert!(page["keys"][0]["ttl_ms"].as_u64().unwrap() > 3_000_000);
    assert_eq!(page["keys"][1]["binary"], "/w==");
}

#[tokio::test]
async fn batch_does_each_operation_and_those_of_a_key_in_order() {
    let served = start_one().await;
    let body = json!({ "operations": [
        { "op": "put", "key": "k", "value": "1", "if_none_match": "*" },
        { "op": "put", "key": "k", "value": "2", "if_none_match": "*" },
        { "op": "get", "table": "default", "key": "k" },
        { "op": "put", "key": "k", "binary": "/w==", "ttl": "30s" },
        { "op": "get", "key": "k" },
        { "op": "delete", "key": "k" },
        { "op": "get", "key": "k" },
        { "op": "get", "key": "other" },
    ]});
    let headers = [("content-type", "application/json; charset=utf-8")];
    let answer = ask(&served.http_address, "POST", "/v1/batch", &headers, body.to_string().as_bytes()).await;
    let results = answer.json()["results"].clone();
    let statuses: Vec<u64> = results.as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 412, 200, 204, 200, 204, 404, 404], "{results}");
    assert_eq!(results[1]["problem"]["type"], "urn:quorate:problem:condition-failed");
    assert_eq!(results[1]["problem"]["etag"], results[0]["etag"]);
    assert_eq!((&results[2]["value"], &results[2]["etag"]), (&"1".into(), &results[0]["etag"]));
    assert_eq!(results[4]["binary"], "/w==");
    assert!((1..=30_000).contains(&results[4]["ttl_ms"].as_u64().unwrap()));

    let wrong = json!({ "operations": [
        { "op": "put", "key": "k", "value": "1" },
        { "op": "put", "key": "k", "value": "1", "table": "a b" },
    ]});
    let refused = ask(&served.http_address, "POST", "/v1/batch", &headers, wrong.to_string().as_bytes()).await;
    assert_eq!(refused.problem(), (400, "invalid-table".to_owned()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("operations[1]"));
    assert_eq!(served.http("GET", "/k", "").await.status, 404, "nothing was done");
}
