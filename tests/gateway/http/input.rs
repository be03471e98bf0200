//! Refusals and their words; and clients that are slow, silent or hostile.

use std::time::Duration;

use quorate::gateway::http::HttpOptions;
use quorate::limits::VALUE_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Answer, Plan, ask, exchange, start, start_one};

#[tokio::test]
async fn wrong_requests_say_what_is_accepted() {
    let served = start_one().await;
    let long = format!("/v1/tables/default/keys/{}", "k".repeat(4_097));
    let longer = format!("/{}", "k".repeat(17 << 10));
    let many = "v".repeat(17 << 10);
    for (method, path, headers, expected, part) in [
        ("GET", "/v1/tables/default/keys/%zz", &[][..], (400, "invalid-key"), "%25"),
        ("GET", "/v1/tables/default/keys/%ff", &[], (400, "invalid-key"), "UTF-8"),
        ("GET", "/v1/tables/default/keys/", &[], (400, "invalid-key"), "1 to 4096"),
        ("GET", &long, &[], (400, "invalid-key"), "4097"),
        ("GET", &longer, &[], (414, "long-path"), "16384"),
        ("GET", "/k", &[("x", many.as_str())], (431, "long-headers"), "16384"),
        ("PUT", "/k?tll=30s", &[], (400, "invalid-parameter"), "ttl, timeout"),
        ("PUT", "/k?ttl=1s&ttl=1s", &[], (400, "invalid-parameter"), "twice"),
        ("PUT", "/k?ttl=0s", &[], (400, "invalid-parameter"), "3650d"),
        ("PUT", "/k?ttl=1s", &[("quorate-ttl", "2s")], (400, "invalid-parameter"), "differ"),
        ("PUT", "/k", &[("quorate-ttl", "soon")], (400, "invalid-header"), "Quorate-TTL"),
        ("PUT", "/k?timeout=61s", &[], (400, "invalid-parameter"), "60s"),
        ("GET", "/k?wait=1s", &[], (400, "invalid-parameter"), "If-None-Match"),
        ("GET", "/k", &[("if-match", "nonsense")], (400, "invalid-header"), "tags in quotes"),
        ("PUT", "/k", &[("content-encoding", "gzip")], (415, "wrong-type"), "Content-Encoding"),
        ("PUT", "/k", &[("content-range", "bytes 0-0/1")], (400, "invalid-header"), "Content-Range"),
        ("PATCH", "/k", &[], (405, "wrong-method"), "GET, HEAD, PUT"),
        ("POST", "/v1/status", &[], (405, "wrong-method"), "GET"),
        ("HEAD", "/v1/batch", &[], (405, ""), ""),
        ("GET", "/v1/nothing", &[], (404, "missing-path"), "openapi"),
        ("GET", "/_nothing", &[], (404, "missing-path"), "openapi"),
        ("GET", "/v1/tables/other/keys/k", &[], (404, "missing-table"), "PUT /v1/tables/other"),
        ("GET", "/v1/tables/other", &[], (404, "missing-table"), "\"other\""),
        ("DELETE", "/v1/tables/other", &[], (404, "missing-table"), "\"other\""),
        ("DELETE", "/v1/tables/default", &[], (400, "invalid-table"), "always exists"),
        ("PUT", "/v1/tables/default?quota_bytes=9", &[], (400, "invalid-table"), "always exists"),
        ("PUT", "/v1/tables/t?ttl=1h", &[], (400, "invalid-parameter"), "default_ttl"),
        ("PUT", "/v1/tables/t?default_ttl=0s", &[], (400, "invalid-parameter"), "3650d"),
        ("PUT", "/v1/tables/t?value_bytes_max=62914561", &[], (400, "invalid-parameter"), "62914560"),
        ("PUT", "/v1/tables/t?quota_bytes=0", &[], (400, "invalid-parameter"), "quota_bytes"),
        ("PUT", "/v1/tables/t", &[("if-none-match", "*")], (400, "invalid-header"), "no conditions"),
        ("DELETE", "/v1/tables/t", &[("if-match", "*")], (400, "invalid-header"), "no conditions"),
        ("POST", "/v1/tables/t", &[], (405, "wrong-method"), "GET, HEAD, PUT, DELETE"),
        ("PUT", "/v1/tables/a%2Fb", &[], (400, "invalid-table"), "'/'"),
        ("GET", "/v1/tables?limit=1001", &[], (400, "invalid-parameter"), "1000"),
        ("GET", "/v1/tables?cursor=x", &[], (400, "invalid-parameter"), "cursor"),
        ("GET", "/v1/tables/a%20b", &[], (400, "invalid-table"), "spaces"),
        ("GET", "/v1/tables/default/keys?limit=10001", &[], (400, "invalid-parameter"), "10000"),
        ("GET", "/v1/tables/default/keys?values=true&limit=101", &[], (400, "invalid-parameter"), "100"),
        ("GET", "/v1/tables/default/keys?cursor=x", &[], (400, "invalid-parameter"), "cursor"),
        ("GET", "/v1/tables/default/watch?key=a&prefix=b", &[], (400, "invalid-parameter"), "one of the two"),
        ("POST", "/v1/batch", &[("content-type", "text/plain")], (415, "wrong-type"), "application/json"),
        ("POST", "/v1/batch", &[("content-type", "application/json")], (400, "invalid-body"), "EOF"),
    ] {
        let answer = served.http_with(method, path, headers).await;
        if method == "HEAD" {
            assert_eq!(answer.status, expected.0);
            continue;
        }
        let (status, kind) = answer.problem();
        assert_eq!((status, kind.as_str()), expected, "{method} {path}: {answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(part), "{method} {path}: {detail}");
        assert_eq!(answer.headers.contains_key("allow"), status == 405);
    }
    let allowed = served.http("OPTIONS", "/k", "").await;
    assert_eq!((allowed.status, allowed.header("allow")), (204, "GET, HEAD, PUT, POST, DELETE, OPTIONS"));
}

#[tokio::test]
async fn body_that_is_too_large_is_refused_before_it_is_sent() {
    let served = start_one().await;
    let head = format!(
        "PUT /k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        VALUE_BYTES_MAX + 1
    );
    let answer = Answer::parse(&exchange(&served.http_address, head.as_bytes()).await);
    assert_eq!(answer.problem(), (413, "too-large".to_owned()), "and no 100 comes before it");

    let mut stream = TcpStream::connect(&served.http_address).await.unwrap();
    let head =
        "PUT /k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(Answer::parse(&rest).status, 201);
}

#[tokio::test]
async fn largest_value_passes() {
    let served = start_one().await;
    let value = vec![b'v'; VALUE_BYTES_MAX];
    assert_eq!(ask(&served.http_address, "PUT", "/large", &[], &value).await.status, 201);
    let read = served.http("GET", "/large", "").await;
    assert!(read.body == value, "{} bytes", read.body.len());
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order() {
    let served = start_one().await;
    let one = |n: usize| format!("PUT /k{n} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n{n}");
    let read = |n: usize| format!("GET /k{n} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut ahead: String = (0..9).map(|n| one(n) + &read(n)).collect();
    ahead.push_str("GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answers = String::from_utf8(exchange(&served.http_address, ahead.as_bytes()).await).unwrap();
    let statuses: Vec<&str> = answers.matches("HTTP/1.1 ").collect();
    assert_eq!(statuses.len(), 19, "{answers}");
    let places: Vec<usize> = (0..9).map(|n| answers.find(&format!("\r\n\r\n{n}HTTP")).unwrap()).collect();
    assert!(places.is_sorted(), "{answers}");
}

#[tokio::test]
async fn nonsense_is_answered_or_closed_and_others_go_on() {
    let served = start_one().await;
    for bytes in [
        &b"GET  / HTTP/1.1\r\n\r\n                    "[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaa",
        b"PUT /k HTTP/1.1\r\nhost: a\r\ncontent-length: nine\r\n\r\nabcdefghi",
        b"PUT /k HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /k HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"SET a b c d e f g h\r\n",
    ] {
        let answer = exchange(&served.http_address, bytes).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    // A client that hangs up in the middle of its body has written nothing.
    let mut stream = TcpStream::connect(&served.http_address).await.unwrap();
    stream.write_all(b"PUT /half HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    drop(stream);
    // A silent one is closed.
    let mut silent = TcpStream::connect(&served.http_address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    assert_eq!(served.http("GET", "/half", "").await.status, 404);
}

#[tokio::test]
async fn client_that_half_closes_is_answered_if_it_sent_all() {
    let served = start_one().await;
    let ask = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&served.http_address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        read.expect("the connection ends").unwrap();
        answer
    };
    let whole = ask(b"PUT /k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\nv").await;
    assert_eq!(Answer::parse(&whole).status, 201);
    let cut_off = ask(b"PUT /cut HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nv").await;
    assert!(cut_off.is_empty() || Answer::parse(&cut_off).status == 400, "{:?}", String::from_utf8_lossy(&cut_off));
    let head = ask(b"GET /k HTTP/1.1\r\nhost: local").await;
    assert!(head.is_empty() || Answer::parse(&head).status == 400, "{:?}", String::from_utf8_lossy(&head));
    assert_eq!(served.http("GET", "/cut", "").await.status, 404);
    assert_eq!(served.http("GET", "/k", "").await.text(), "v");
}

#[tokio::test]
async fn pages_of_other_origins_and_foreign_names_are_refused() {
    let http = HttpOptions { hosts: vec!["db.example".into()], cors_origins: vec!["https://app.example".into()] };
    let served = start(Plan { http, ..Plan::default() }).await.remove(0);
    let own = format!("http://{}", served.http_address);
    for (method, headers, status) in [
        ("PUT", &[("origin", "https://evil.example")][..], 403),
        ("POST", &[("origin", "null")], 403),
        ("GET", &[("origin", "https://evil.example")], 200),
        ("PUT", &[("origin", own.as_str())], 204),
        ("PUT", &[("origin", "https://app.example")], 204),
        ("GET", &[("host", "evil.example")], 421),
        ("GET", &[("host", "db.example:8101")], 200),
        ("GET", &[("host", "localhost")], 200),
    ] {
        served.http("PUT", "/k", "v").await;
        let answer = ask(&served.http_address, method, "/k", headers, b"").await;
        assert_eq!(answer.status, status, "{method} {headers:?}: {answer:?}");
        let is_allowed = headers.contains(&("origin", "https://app.example"));
        assert_eq!(answer.headers.contains_key("access-control-allow-origin"), is_allowed);
    }
    let asked = [("origin", "https://app.example"), ("access-control-request-method", "PUT")];
    let preflight = served.http_with("OPTIONS", "/k", &asked).await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").contains("PUT"), "{preflight:?}");
}
