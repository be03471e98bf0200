//! What those can do to a node who are not known, or not for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncReadExt as _;

use super::*;

/// What a node says to these bytes before it closes the connection.
async fn last_words(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    let read = tokio::time::timeout(TIME_MAX, stream.read_to_end(&mut said)).await;
    read.expect("the connection is closed").unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn strangers_make_a_node_hold_little() {
    let plan = Plan { ids: vec!["1"], replica_count: 1, doors: true, node_lines: NODE_LINES, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let node = &secured.cluster.nodes[0];
    let long = "x".repeat(20_000);
    for (bytes, part) in [
        // What a request claims is enough.
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n".to_owned(), "-ERR Protocol error: unauthenticated bulk length"),
        ("*11\r\n".to_owned(), "-ERR Protocol error: unauthenticated multibulk length"),
        (long.clone(), "-ERR Protocol error: too big inline request"),
    ] {
        let said = last_words(&node.redis_address(), bytes.as_bytes()).await;
        assert!(said.starts_with(part), "{said}");
    }
    let said = last_words(&node.line_address(), &long.as_bytes()[..8_200]).await;
    assert_eq!(said, "error the line is too long: 8192 bytes are accepted before AUTH\n");

    let token = text_of(&secured.root);
    let auth = vec![&b"AUTH"[..], token.as_bytes()];
    let set = vec![&b"SET"[..], b"k", long.as_bytes()];
    assert_eq!(redis(&node.redis_address(), &[auth, set]).await, "+OK\r\n");
    let said = lines(&node.line_address(), &[format!("AUTH {token}"), format!("PUT default k {long}")]).await;
    assert_eq!(said, "ok\n");
}

#[tokio::test]
async fn commands_are_done_as_whoever_the_connection_was_when_it_sent_them() {
    let node_lines = "  authorization: true\n  audit_file: audit.jsonl\n  audit_writes: true\n";
    let plan = Plan { ids: vec!["1"], replica_count: 1, doors: true, node_lines, ..Plan::default() };
    let mut secured = Secured::start(&plan).await;
    let one = text_of(&secured.make("one", &["write:default/one:"]).await);
    let two = text_of(&secured.make("two", &["write:default/two:"]).await);
    let requests: [&[&[u8]]; 8] = [
        &[b"AUTH", one.as_bytes()],
        &[b"SET", b"one:1", b"v"],
        &[b"SET", b"two:1", b"v"],
        &[b"AUTH", two.as_bytes()],
        &[b"SET", b"one:2", b"v"],
        &[b"SET", b"two:2", b"v"],
        &[b"RESET"],
        &[b"GET", b"two:2"],
    ];
    let bytes: Vec<u8> = requests.iter().flat_map(|words| framed(words)).collect();
    let mut stream = BufReader::new(TcpStream::connect(&secured.cluster.nodes[0].redis_address()).await.unwrap());
    stream.write_all(&bytes).await.unwrap();
    for expected in ["+OK", "+OK", "-NOPERM", "+OK", "-NOPERM", "+OK", "+RESET", "-NOAUTH"] {
        let mut said = String::new();
        tokio::time::timeout(TIME_MAX, stream.read_line(&mut said)).await.expect("an answer").unwrap();
        assert!(said.starts_with(expected), "{said} is not {expected}");
    }
    secured.cluster.nodes[0].terminate().await;
    let text = std::fs::read_to_string(secured.cluster.dir().join("audit.jsonl")).unwrap();
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (key, who) in [("one:1", "one"), ("two:2", "two")] {
        let line = lines.iter().find(|line| line["key"] == key && line["outcome"] == "OK");
        assert_eq!(line.unwrap_or_else(|| panic!("no line has {key}: {text}"))["who"], who);
    }
}

#[tokio::test]
async fn bootstrap_token_goes_to_its_own_node_alone() {
    let plan = Plan { ids: vec!["1"], replica_count: 1, node_lines: NODE_LINES, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let bootstrap = format!("--bootstrap={}", secured.cluster.dir().join("data/1").display());
    let address = secured.cluster.nodes[0].address();
    let several = format!("{address},127.0.0.1:1");
    let error = done(&quorate(&["--address", &several, "token", "create", "second", &bootstrap])).unwrap_err();
    assert!(error.contains("that node alone"), "{error}");
    // A file that the environment names for all else is no obstacle.
    let other = secured.make("reader", &["read"]).await.display().to_string();
    done(&quorate(&["--address", &address, "--token-file", &other, "token", "create", "second", &bootstrap])).unwrap();
    assert!(secured.as_root(&["token", "list"]).contains("second"));
}

#[tokio::test]
async fn cursors_tell_nobody_what_others_list() {
    let plan = Plan { ids: vec!["1"], replica_count: 1, doors: true, node_lines: NODE_LINES, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let stranger = text_of(&secured.make("elsewhere", &["read:other"]).await);
    let auth = vec![&b"AUTH"[..], stranger.as_bytes()];
    // Whether there is such a cursor or not, the answer is the same.
    let said = redis(&secured.cluster.nodes[0].redis_address(), &[auth, vec![b"SCAN", b"7"]]).await;
    assert!(said.starts_with("-NOPERM"), "{said}");
}

#[tokio::test]
async fn flood_does_not_hold_off_that_its_token_is_revoked() {
    let node_lines = "  authorization: true\n  requests_in_flight_max: 1\n";
    let plan = Plan { ids: vec!["1"], replica_count: 1, node_lines, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let file = secured.make("flood", &["read"]).await;
    let token = Token::parse(&text_of(&file)).unwrap();
    let bearer = format!("Bearer {}", token.reveal());
    let (channel, get) = (secured.cluster.nodes[0].channel(), sample("/api.Cluster/Get").unwrap().1);
    let flood: Vec<JoinHandle<()>> = (0..64)
        .map(|_| {
            let (channel, get, bearer) = (channel.clone(), get.clone(), bearer.clone());
            tokio::spawn(async move {
                loop {
                    let ended = call(&channel, "/api.Cluster/Get", get.clone(), Some(bearer.as_str())).await;
                    if Verdict::of(ended.as_ref()) != Verdict::Let {
                        return;
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    secured.as_root(&["token", "revoke", token.id().as_str()]);
    let ended = async {
        for task in flood {
            task.await.unwrap();
        }
    };
    tokio::time::timeout(KNOWN_WITHIN, ended).await.expect("each request is refused in time");
    let root = of_token(&secured.root, &secured.cluster.nodes[0].address());
    root.get("k").await.expect("those who are known are served");
}

#[tokio::test]
async fn flood_of_one_token_leaves_places_for_another() {
    let node_lines = "  authorization: true\n  requests_in_flight_max: 8\n";
    let plan = Plan { ids: vec!["1"], replica_count: 1, node_lines, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let bearer = |file: &Path| format!("Bearer {}", text_of(file));
    let flooding = bearer(&secured.make("flooding", &["write"]).await);
    let other = bearer(&secured.make("other", &["write"]).await);
    let (channel, set) = (secured.cluster.nodes[0].channel(), sample("/api.Cluster/Set").unwrap().1);
    let ends = Arc::new(AtomicBool::new(false));
    let flood: Vec<JoinHandle<usize>> = (0..64)
        .map(|_| {
            let (channel, set, bearer, ends) = (channel.clone(), set.clone(), flooding.clone(), Arc::clone(&ends));
            tokio::spawn(async move {
                let mut refused = 0;
                while !ends.load(Ordering::Relaxed) {
                    if let Some(status) = call(&channel, "/api.Cluster/Set", set.clone(), Some(bearer.as_str())).await {
                        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                        assert!(status.message().contains("this client has as many requests in flight"), "{status}");
                        refused += 1;
                    }
                }
                refused
            })
        })
        .collect();
    // Both come from one address, and are told apart by their tokens.
    let another = secured.cluster.nodes[0].channel();
    for number in 0..100 {
        let ended = call(&another, "/api.Cluster/Set", set.clone(), Some(other.as_str())).await;
        assert!(ended.is_none(), "request {number} beside a flood: {ended:?}");
    }
    ends.store(true, Ordering::Relaxed);
    let mut refused = 0;
    for task in flood {
        refused += task.await.unwrap();
    }
    assert!(refused > 0, "the flood has more in flight than its share");
}

#[tokio::test]
async fn client_that_is_too_fast_is_told_so_and_served_later() {
    let node_lines = "  authorization: true\n  requests_per_second_per_client_max: 50\n";
    let plan = Plan { ids: vec!["1"], replica_count: 1, doors: true, node_lines, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let token = text_of(&secured.make("fast", &["read"]).await);
    let (channel, get) = (secured.cluster.nodes[0].channel(), sample("/api.Cluster/Get").unwrap().1);
    let bearer = format!("Bearer {token}");
    let mut told = None;
    for _ in 0..2_000 {
        if let Some(status) = call(&channel, "/api.Cluster/Get", get.clone(), Some(bearer.as_str())).await {
            told = Some(status);
            break;
        }
    }
    let status = told.expect("a client without a pause is too fast");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("more than 50 requests a second"), "{status}");
    let http = HttpClient::new(&secured.cluster.nodes[0].http_address(), HttpVersion::One);
    let headers = [("authorization", bearer.clone())];
    let answer = http.send("GET", "/v1/tables/default/keys/k", &headers, Bytes::new()).await.unwrap();
    if answer.status == 429 {
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    poll("the client is served again", TIME_MAX, async || {
        match call(&channel, "/api.Cluster/Get", get.clone(), Some(bearer.as_str())).await {
            None => Ok(()),
            Some(status) => Err(status.to_string()),
        }
    })
    .await;
}
