//! Who may do what, with real nodes: every method of every door for callers with all kinds of rights, tokens that are made and
//! revoked while they are used, and what the audit says of it.
//!
//! A method that is new to a door fails `each_method_of_each_door_asks_for_what_its_row_says` until it has a sample here.

#![cfg(all(feature = "server", unix))]

mod bounds;
#[path = "../testkit/mod.rs"]
mod testkit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message;
use quorate::api;
use quorate::auth::{Grant, Needs, Right, Target, Token, allows};
use quorate::types::Table;
use quorate::wire::failure::{Failure, FailureReason};
use quorate::wire::method::{METHODS, Method};
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Plan};
use testkit::http::{HttpClient, HttpVersion};
use testkit::process::{self, poll};
use testkit::redis::{RedisAnswer, RedisClient, framed};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const NODE_LINES: &str = "  authorization: true\n";
/// How long a node may take to know of a change.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// How long a test waits for what must come.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Somebody who calls: what it sends, and what it was given; `None` for somebody who is not known.
struct Caller {
    name: &'static str,
    token: Option<String>,
    grants: Option<Vec<Grant>>,
}

impl Caller {
    fn bearer(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// How a request that needs this must end.
    fn expected(&self, needs: Needs, target: Target<'_>) -> Verdict {
        match &self.grants {
            _ if needs == Needs::Nothing => Verdict::Let,
            None => Verdict::Unknown,
            Some(grants) if allows(grants, needs, target) => Verdict::Let,
            Some(_) => Verdict::Denied,
        }
    }
}

/// How the authorization of a request ended, whatever became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Let,
    Unknown,
    Denied,
}

impl Verdict {
    fn of(status: Option<&Status>) -> Self {
        let reason = status.and_then(Failure::from_status).map(|failure| failure.reason);
        match (status.map(Status::code), reason) {
            (Some(Code::Unauthenticated), Some(FailureReason::Unauthenticated)) => Self::Unknown,
            (Some(Code::PermissionDenied), Some(FailureReason::PermissionDenied)) => Self::Denied,
            (Some(code @ (Code::Unauthenticated | Code::PermissionDenied)), _) => panic!("{code:?} without its reason"),
            _ => Self::Let,
        }
    }
}

/// A cluster whose first administrator is made.
struct Secured {
    cluster: Cluster,
    root: PathBuf,
}

impl Secured {
    async fn start(plan: &Plan) -> Self {
        let mut cluster = Cluster::prepare(plan);
        cluster.start_all();
        let (root, data) = (cluster.dir().join("root.token"), cluster.dir().join("data").join(plan.ids[0]));
        let bootstrap = format!("--bootstrap={}", data.display());
        let out = root.display().to_string();
        let address = cluster.nodes[0].address();
        poll("the first administrator", TIME_MAX, async || {
            done(&quorate(&["--address", &address, "token", "create", "root", &bootstrap, "--out", &out])).map(drop)
        })
        .await;
        let secured = Self { cluster, root };
        secured.wait_known(&secured.root).await;
        secured
    }

    /// The answer of a command that an administrator runs at the first node.
    fn as_root(&self, arguments: &[&str]) -> String {
        let (address, root) = (self.cluster.nodes[0].address(), self.root.display().to_string());
        let all = [&["--address", &address, "--token-file", &root], arguments].concat();
        done(&quorate(&all)).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Makes a token, and waits until each node knows it. Its file is named after it.
    async fn make(&self, name: &str, rights: &[&str]) -> PathBuf {
        let file = self.cluster.dir().join(format!("{name}.token"));
        let out = file.display().to_string();
        let mut arguments = vec!["token", "create", name, "--out", &out];
        for right in rights {
            arguments.extend(["--allow", right]);
        }
        self.as_root(&arguments);
        self.wait_known(&file).await;
        file
    }

    async fn wait_known(&self, token: &Path) {
        for node in &self.cluster.nodes {
            poll("a token that each node knows", TIME_MAX, async || {
                let health = of_token(token, &node.address()).health().await;
                health.map(drop).map_err(|error| error.to_string())
            })
            .await;
        }
    }
}

fn of_token(file: &Path, address: &str) -> quorate::Client {
    let token = Token::parse(std::fs::read_to_string(file).unwrap().trim()).unwrap();
    quorate::Client::builder().address(address).token(&token).deadline(Duration::from_secs(2)).build().unwrap()
}

fn quorate(arguments: &[&str]) -> Output {
    process::command().args(arguments).output().expect("the program runs")
}

/// The answer of a command that was done, or else its error.
fn done(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn text_of(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Messages as their bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let bytes = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(bytes).to_vec()))
    }
}

/// The end of a call, or its first message.
async fn call(channel: &Channel, path: &str, message: Vec<u8>, bearer: Option<&str>) -> Option<Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the node takes connections");
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(5));
    if let Some(bearer) = bearer {
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    }
    let path = PathAndQuery::try_from(path).unwrap();
    match grpc.server_streaming(request, path, Raw).await {
        Err(status) => Some(status),
        Ok(answer) => answer.into_inner().message().await.err(),
    }
}

/// What a request of a method is about.
#[derive(Clone, Copy)]
enum About {
    Cluster,
    Key,
    /// All keys of `default` that begin with `k`.
    Prefix,
    /// The table `t`, as a whole.
    Whole,
    /// Some part of the table `t`.
    Part,
    /// Some part of `default`.
    PartOfDefault,
}

fn table() -> Table {
    Table::parse("t").unwrap()
}

impl About {
    fn target(self, table: &Table) -> Target<'_> {
        match self {
            Self::Cluster => Target::Cluster,
            Self::Key => Target::Key(&Table::Default, b"k"),
            Self::Prefix => Target::Keys(&Table::Default, b"k"),
            Self::Whole => Target::Keys(table, b""),
            Self::Part => Target::PartOf(table),
            Self::PartOfDefault => Target::PartOf(&Table::Default),
        }
    }
}

/// A request of each method that a node can judge.
fn sample(path: &str) -> Option<(About, Vec<u8>)> {
    fn of(about: About, message: &impl Message) -> (About, Vec<u8>) {
        (about, message.encode_to_vec())
    }
    let (key, prefix, name) = (|| "k".to_owned(), || "k".to_owned(), || "t".to_owned());
    let entry = || api::Entry { key: key(), content: Some(api::entry::Content::Value("v".into())) };
    let set = || api::SetRequest { entry: Some(entry()), ..Default::default() };
    let delete = || api::DeleteRequest { key: key(), ..Default::default() };
    Some(match path {
        "/api.Cluster/Info" => of(About::Cluster, &api::ClusterInfoRequest {}),
        "/api.Cluster/Get" => of(About::Key, &api::GetRequest { key: key(), ..Default::default() }),
        "/api.Cluster/BatchGet" => of(About::Key, &api::BatchGetRequest { keys: vec![key()], ..Default::default() }),
        "/api.Cluster/List" => of(About::Prefix, &api::ListRequest { prefix: prefix(), ..Default::default() }),
        "/api.Cluster/Set" => of(About::Key, &set()),
        "/api.Cluster/Delete" => of(About::Key, &delete()),
        "/api.Cluster/BatchWrite" => {
            let write = Some(api::batch_write_entry::Write::Delete(delete()));
            let entries = vec![api::BatchWriteEntry { write }];
            of(About::Key, &api::BatchWriteRequest { entries, ..Default::default() })
        }
        "/api.Cluster/Add" => of(About::Key, &api::AddRequest { key: key(), delta: 1, ..Default::default() }),
        "/api.Cluster/Watch" => {
            let keys = Some(api::watch_request::Keys::Prefix(prefix()));
            of(About::Prefix, &api::WatchRequest { keys, ..Default::default() })
        }
        "/api.Tables/Create" => {
            of(About::Whole, &api::TableCreateRequest { name: name(), if_missing: true, ..Default::default() })
        }
        "/api.Tables/Get" => of(About::Part, &api::TableGetRequest { name: name() }),
        "/api.Tables/List" => of(About::Cluster, &api::TableListRequest::default()),
        "/api.Tables/Drop" => of(About::Whole, &api::TableDropRequest { name: name() }),
        "/api.Tokens/Create" => of(About::Cluster, &api::TokenCreateRequest::default()),
        "/api.Tokens/List" => of(About::Cluster, &api::TokenListRequest {}),
        "/api.Tokens/Revoke" => of(About::Cluster, &api::TokenRevokeRequest { id: "none".into() }),
        "/api.Node/Health" => of(About::Cluster, &api::HealthRequest {}),
        "/api.Node/Repair" => of(About::Cluster, &api::RepairRequest::default()),
        "/api.Node/Info" => of(About::Prefix, &api::InfoRequest { prefix: prefix(), limit: 1 }),
        "/api.Node/Get" => of(About::Key, &api::GetRequest { key: key(), ..Default::default() }),
        "/api.Node/Set" => of(About::Key, &api::NodeSetRequest { entry: Some(entry()), ..Default::default() }),
        "/api.Members/Get" => of(About::Cluster, &api::MembersGetRequest {}),
        "/api.Members/Plan" | "/api.Members/Change" => of(About::Cluster, &api::MembersWish::default()),
        "/api.Members/Abort" => of(About::Cluster, &api::MembersAbortRequest { expected: Some(u64::MAX) }),
        "/api.Clock/Get" => of(About::Cluster, &api::ClockGetRequest {}),
        "/api.Clock/Set" => of(About::Cluster, &api::ClockSetRequest { clock: Some(api::ClockValue::default()) }),
        _ => return None,
    })
}

/// A request of each operation of HTTP, by its method and its path in the API's description: the path, the body, and what it needs.
fn http_sample(method: &str, template: &str) -> Option<(&'static str, &'static str, Needs, About)> {
    const READ: Needs = Needs::Keys(Right::Read);
    const WRITE: Needs = Needs::Keys(Right::Write);
    const ADMIN: Needs = Needs::Keys(Right::Admin);
    Some(match (method, template) {
        ("get", "/") => ("/?prefix=k", "", READ, About::Prefix),
        ("get", "/openapi.json") => ("/openapi.json", "", Needs::Identity, About::Cluster),
        ("get", "/_nodes_discovery") => ("/_nodes_discovery", "", Needs::Identity, About::Cluster),
        ("get", "/_nodes_discovery_plain") => ("/_nodes_discovery_plain", "", Needs::Identity, About::Cluster),
        ("get", "/_cluster_status") => ("/_cluster_status", "", Needs::Identity, About::Cluster),
        ("get", "/_health") => ("/_health", "", Needs::Identity, About::Cluster),
        ("delete", "/_nodes/delete/{node}") => ("/_nodes/delete/none", "", Needs::Operator, About::Cluster),
        // Whoever may read some of the table may know where its keys are.
        ("get", "/_nodes/{key}") => ("/_nodes/k", "", READ, About::PartOfDefault),
        ("get", "/v1/tables") => ("/v1/tables", "", Needs::Identity, About::Cluster),
        ("get", "/v1/tables/{table}") => ("/v1/tables/t", "", READ, About::Part),
        ("put", "/v1/tables/{table}") => ("/v1/tables/t", "", ADMIN, About::Whole),
        ("delete", "/v1/tables/{table}") => ("/v1/tables/t", "", ADMIN, About::Whole),
        ("get", "/v1/tables/{table}/keys") => ("/v1/tables/default/keys?prefix=k", "", READ, About::Prefix),
        ("get", "/v1/tables/{table}/keys/{key}") => ("/v1/tables/default/keys/k", "", READ, About::Key),
        ("put", "/v1/tables/{table}/keys/{key}") => ("/v1/tables/default/keys/k", "1", WRITE, About::Key),
        ("post", "/v1/tables/{table}/keys/{key}") => ("/v1/tables/default/keys/k?add=1", "", WRITE, About::Key),
        ("delete", "/v1/tables/{table}/keys/{key}") => ("/v1/tables/default/keys/k", "", WRITE, About::Key),
        ("get", "/v1/tables/{table}/watch") => ("/v1/tables/default/watch?prefix=k", "", READ, About::Prefix),
        ("get", "/v1/tables/{table}/placement/{key}") => {
            ("/v1/tables/default/placement/k", "", READ, About::PartOfDefault)
        }
        // Each of its operations says for itself whether it was allowed.
        ("post", "/v1/batch") => ("/v1/batch", "[]", Needs::Identity, About::Cluster),
        ("get", "/v1/members") => ("/v1/members", "", Needs::Observer, About::Cluster),
        ("put", "/v1/members") => ("/v1/members", "{}", Needs::Operator, About::Cluster),
        ("post", "/v1/members/plan") => ("/v1/members/plan", "{}", Needs::Operator, About::Cluster),
        ("post", "/v1/members/abort") => ("/v1/members/abort", "", Needs::Operator, About::Cluster),
        ("get", "/v1/status") => ("/v1/status", "", Needs::Observer, About::Cluster),
        ("get", "/{key}") => ("/k", "", READ, About::Key),
        ("put" | "post", "/{key}") => ("/k", "1", WRITE, About::Key),
        ("delete", "/{key}") => ("/k", "", WRITE, About::Key),
        _ => return None,
    })
}

async fn callers(secured: &Secured) -> Vec<Caller> {
    let mut callers = vec![
        Caller { name: "nobody", token: None, grants: None },
        Caller { name: "wrong", token: Some(Token::new().unwrap().reveal()), grants: None },
        Caller { name: "junk", token: Some("junk".into()), grants: None },
        Caller { name: "root", token: Some(text_of(&secured.root)), grants: Some(vec![Grant::EVERYTHING]) },
    ];
    for (name, rights) in [
        ("elsewhere", &["read:default/x"][..]),
        ("reader", &["read:default/k"]),
        ("writer", &["write:default/k"]),
        ("keeper", &["admin:t"]),
        ("observer", &["observer"]),
        ("operator", &["operator"]),
    ] {
        let token = text_of(&secured.make(name, rights).await);
        let grants = rights.iter().map(|right| right.parse().unwrap()).collect();
        callers.push(Caller { name, token: Some(token), grants: Some(grants) });
    }
    callers
}

#[tokio::test]
async fn each_method_of_each_door_asks_for_what_its_row_says() {
    let lines = "  authorization: true\n  audit_file: audit.jsonl\n  audit_writes: true\n";
    let plan = Plan {
        ids: vec!["1"],
        replica_count: 1,
        operator_writes: true,
        doors: true,
        node_lines: lines,
        ..Plan::default()
    };
    let mut secured = Secured::start(&plan).await;
    let callers = callers(&secured).await;
    walk_grpc(&secured, &callers).await;
    walk_http(&secured, &callers).await;
    walk_redis(&secured, &callers).await;
    walk_lines(&secured, &callers).await;
    walk_monitoring(&secured, &callers).await;
    secured.cluster.nodes[0].terminate().await;
    check_audit(&secured, &callers);
}

async fn walk_grpc(secured: &Secured, callers: &[Caller]) {
    let (channel, table) = (secured.cluster.nodes[0].channel(), table());
    let described = prost_types::FileDescriptorSet::decode(api::DESCRIPTORS).unwrap().file;
    let services = described.iter().filter(|file| file.package() == "api").flat_map(|file| &file.service);
    let mut walked = 0;
    for service in services.filter(|service| service.name() != "Peer") {
        for method in &service.method {
            let path = format!("/api.{}/{}", service.name(), method.name());
            let row = Method::find(&path).unwrap_or_else(|| panic!("{path} has no row in the table of methods"));
            let (about, message) = sample(&path).unwrap_or_else(|| panic!("{path} has no sample in this test"));
            for caller in callers {
                let ended = call(&channel, &path, message.clone(), caller.bearer().as_deref()).await;
                let expected = caller.expected(row.needs(), about.target(&table));
                assert_eq!(Verdict::of(ended.as_ref()), expected, "{path} by {}: {ended:?}", caller.name);
            }
            walked += 1;
        }
    }
    assert_eq!(walked, METHODS.len());
    let unknown = call(&channel, "/api.Cluster/Steal", Vec::new(), None).await;
    assert_eq!(Verdict::of(unknown.as_ref()), Verdict::Unknown, "strangers are not told which methods there are");
    for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/Nothing"] {
        let ended = call(&channel, path, Vec::new(), None).await;
        assert_eq!(Verdict::of(ended.as_ref()), Verdict::Let, "{path}: tools have no token");
    }
}

async fn walk_http(secured: &Secured, callers: &[Caller]) {
    let (client, table) = (HttpClient::new(&secured.cluster.nodes[0].http_address(), HttpVersion::One), table());
    let authorized = |caller: &Caller| -> Vec<(&str, String)> {
        caller.bearer().map(|bearer| ("authorization", bearer)).into_iter().collect()
    };
    let root = callers.iter().find(|caller| caller.name == "root").unwrap();
    let described = client.send("GET", "/openapi.json", &authorized(root), Bytes::new()).await.unwrap();
    let described: Json = serde_json::from_slice(&described.body).unwrap();
    let mut walked = 0;
    for (template, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let sample = http_sample(method, template);
            let (path, body, needs, about) =
                sample.unwrap_or_else(|| panic!("{method} {template} has no sample in this test"));
            for caller in callers {
                let mut headers = authorized(caller);
                if body.starts_with(['{', '[']) {
                    headers.push(("content-type", "application/json".into()));
                }
                // The events of a watch do not end: their head is what counts.
                let (is_stream, method) = (path.contains("/watch"), method.to_uppercase());
                let sent = client.send(&method, path, &headers, body.into());
                let status = match tokio::time::timeout(Duration::from_secs(if is_stream { 1 } else { 10 }), sent).await
                {
                    Ok(answer) => answer.unwrap().status,
                    Err(_) if is_stream => 200,
                    Err(late) => panic!("{method} {path} by {} has no answer: {late}", caller.name),
                };
                let verdict = match status {
                    401 => Verdict::Unknown,
                    403 => Verdict::Denied,
                    _ => Verdict::Let,
                };
                let expected = caller.expected(needs, about.target(&table));
                assert_eq!(verdict, expected, "{method} {path} by {}: {status}", caller.name);
            }
            walked += 1;
        }
    }
    assert!(walked >= 25, "{walked}");
    let refused = client.send("GET", "/nothing/here", &[], Bytes::new()).await.unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some_and(|challenge| challenge.contains("Bearer")));
    let preflight = client.send("OPTIONS", "/k", &[], Bytes::new()).await.unwrap();
    assert_eq!(preflight.status, 204, "a browser sends no token with it");
    // Of a batch each operation is judged.
    let body = r#"{"operations": [{"op": "get", "key": "x1"}, {"op": "get", "key": "k"}]}"#;
    let elsewhere = callers.iter().find(|caller| caller.name == "elsewhere").unwrap();
    let mut headers = authorized(elsewhere);
    headers.push(("content-type", "application/json".into()));
    let answer = client.send("POST", "/v1/batch", &headers, body.into()).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("missing-key") && text.contains("permission-denied"), "{} {text}", answer.status);
}

/// A connection of its own that has sent these commands, and the last answer.
async fn redis(address: &str, commands: &[Vec<&[u8]>]) -> String {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut line = String::new();
    for words in commands {
        stream.write_all(&framed(words)).await.unwrap();
        line.clear();
        tokio::time::timeout(TIME_MAX, stream.read_line(&mut line)).await.expect("an answer").unwrap();
        // Only the first line of the last answer counts, and AUTH has one line.
    }
    line
}

async fn walk_redis(secured: &Secured, callers: &[Caller]) {
    let address = secured.cluster.nodes[0].redis_address();
    let root = callers.iter().find(|caller| caller.name == "root").unwrap();
    let client = RedisClient::new(&address);
    let token = root.token.as_deref().unwrap();
    assert_eq!(client.send(&[b"AUTH", b"anybody", token.as_bytes()]).await.unwrap(), RedisAnswer::Word("OK".into()));
    let RedisAnswer::Array(described) = client.send(&[b"COMMAND"]).await.unwrap() else { panic!("no list") };
    let RedisAnswer::Array(version) = client.send(&[b"QGETV", b"k"]).await.unwrap() else { panic!("no version") };
    let RedisAnswer::Value(Some(version)) = &version[0] else { panic!("{version:?}") };
    assert!(described.len() > 40);
    for command in &described {
        let RedisAnswer::Array(parts) = command else { panic!("{command:?}") };
        let [RedisAnswer::Value(Some(name)), RedisAnswer::Number(arity), RedisAnswer::Array(flags), ..] = &parts[..]
        else {
            panic!("{parts:?}")
        };
        let name = String::from_utf8(name.clone()).unwrap();
        let has = |flag: &str| flags.contains(&RedisAnswer::Word(flag.into()));
        let (needs, about) = match &name[..] {
            _ if has("no_auth") => (Needs::Nothing, About::Cluster),
            // Whatever is given to them, they look at all keys that may match.
            "scan" | "keys" | "dbsize" => (Needs::Keys(Right::Read), About::Whole),
            _ if has("readonly") => (Needs::Keys(Right::Read), About::Key),
            _ if has("write") => (Needs::Keys(Right::Write), About::Key),
            _ => (Needs::Identity, About::Cluster),
        };
        let count = usize::try_from(arity.unsigned_abs()).unwrap();
        let mut words: Vec<&[u8]> = vec![name.as_bytes(), b"k"];
        words.resize(count.max(2), b"1");
        words.truncate(count);
        match &name[..] {
            "scan" => words[1] = b"0",
            "keys" => words[1] = b"*",
            "qcas" => words[2] = version,
            // Without an option it reads alone.
            "getex" => words.push(b"PERSIST"),
            _ => {}
        }
        for caller in callers {
            let auth = caller.token.as_ref().map(|token| vec![&b"AUTH"[..], token.as_bytes()]);
            let mut commands: Vec<Vec<&[u8]>> = auth.into_iter().collect();
            commands.push(words.clone());
            let said = redis(&address, &commands).await;
            let verdict = match said.split(' ').next().unwrap_or_default() {
                "-NOAUTH" => Verdict::Unknown,
                "-NOPERM" => Verdict::Denied,
                _ => Verdict::Let,
            };
            let whole = Table::Default;
            let target = if matches!(about, About::Whole) { Target::Keys(&whole, b"") } else { about.target(&whole) };
            let mut expected = caller.expected(needs, target);
            // HELLO tells strangers to say who they are, and AUTH is how they do.
            if name == "hello" && caller.grants.is_none() {
                expected = Verdict::Unknown;
            }
            assert_eq!(verdict, expected, "{name} by {}: {said}", caller.name);
        }
    }
    let junk = Token::new().unwrap().reveal();
    for words in [
        vec![&b"AUTH"[..], b"junk"],
        vec![b"AUTH", b"default", junk.as_bytes()],
        vec![b"HELLO", b"3", b"AUTH", b"default", b"x"],
    ] {
        let said = redis(&address, &[words]).await;
        assert!(said.starts_with("-WRONGPASS"), "{said}");
    }
    let said = redis(&address, &[vec![b"HELLO", b"2", b"AUTH", b"default", token.as_bytes()]]).await;
    assert!(said.starts_with('*'), "{said}");
    // RESET forgets who it was.
    let reset = [vec![&b"AUTH"[..], token.as_bytes()], vec![b"RESET"], vec![b"GET", b"k"]];
    assert!(redis(&address, &reset).await.starts_with("-NOAUTH"));
}

async fn lines(address: &str, commands: &[String]) -> String {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut answer = String::new();
    for command in commands {
        stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        answer.clear();
        tokio::time::timeout(TIME_MAX, stream.read_line(&mut answer)).await.expect("an answer").unwrap();
    }
    answer
}

async fn walk_lines(secured: &Secured, callers: &[Caller]) {
    let (address, table) = (secured.cluster.nodes[0].line_address(), table());
    let samples: BTreeMap<&str, (&str, Needs, About)> = [
        ("CREATE", ("CREATE t", Needs::Keys(Right::Admin), About::Whole)),
        ("GET", ("GET default k", Needs::Keys(Right::Read), About::Key)),
        ("PUTNEW", ("PUTNEW default k 1", Needs::Keys(Right::Write), About::Key)),
        ("PUT", ("PUT default k 1", Needs::Keys(Right::Write), About::Key)),
        ("DELETE", ("DELETE default k", Needs::Keys(Right::Write), About::Key)),
    ]
    .into();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lines.md")).unwrap();
    let commands: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split([' ', '`']).next())
        .filter(|word| word.chars().all(|letter| letter.is_ascii_uppercase()) && *word != "AUTH")
        .collect();
    assert_eq!(commands, samples.keys().copied().collect(), "the commands of the page have a sample each");
    for (line, needs, about) in samples.values() {
        for caller in callers {
            let auth = caller.token.as_ref().map(|token| format!("AUTH {token}"));
            let said = lines(&address, &auth.into_iter().chain([(*line).to_owned()]).collect::<Vec<_>>()).await;
            let verdict = if said.starts_with("error unauthenticated:") {
                Verdict::Unknown
            } else if said.starts_with("error permission denied:") {
                Verdict::Denied
            } else {
                Verdict::Let
            };
            assert_eq!(verdict, caller.expected(*needs, about.target(&table)), "{line} by {}: {said}", caller.name);
        }
    }
    assert!(lines(&address, &["AUTH junk".to_owned()]).await.starts_with("error unauthenticated:"));
}

async fn walk_monitoring(secured: &Secured, callers: &[Caller]) {
    let node = &secured.cluster.nodes[0];
    let client = HttpClient::new(&format!("127.0.0.1:{}", node.metrics_port), HttpVersion::One);
    for (path, needs) in [
        ("/", Needs::Observer),
        ("/metrics", Needs::Observer),
        ("/livez", Needs::Nothing),
        ("/readyz", Needs::Nothing),
        ("/page.css", Needs::Observer),
        ("/page.js", Needs::Observer),
        ("/events", Needs::Observer),
        ("/nothing", Needs::Identity),
    ] {
        for caller in callers {
            let headers: Vec<(&str, String)> =
                caller.bearer().map(|bearer| ("authorization", bearer)).into_iter().collect();
            let sent = client.send("GET", path, &headers, Bytes::new());
            let is_stream = path == "/events";
            let status = match tokio::time::timeout(Duration::from_secs(if is_stream { 1 } else { 10 }), sent).await {
                Ok(answer) => answer.unwrap().status,
                Err(_) if is_stream => 200,
                Err(late) => panic!("{path} by {} has no answer: {late}", caller.name),
            };
            let verdict = match status {
                401 => Verdict::Unknown,
                403 => Verdict::Denied,
                _ => Verdict::Let,
            };
            assert_eq!(verdict, caller.expected(needs, Target::Cluster), "{path} by {}: {status}", caller.name);
        }
    }
    let ready = client.send("GET", "/readyz", &[], Bytes::new()).await.unwrap();
    assert_eq!((ready.status, &ready.body[..]), (200, &b"ready\n"[..]));
}

fn check_audit(secured: &Secured, callers: &[Caller]) {
    let read = |name: &str| std::fs::read_to_string(secured.cluster.dir().join(name)).unwrap();
    let text = read("audit.jsonl") + &read("audit.jsonl.refused");
    for caller in callers {
        assert!(caller.token.as_ref().is_none_or(|token| !text.contains(token)), "{}: a secret", caller.name);
    }
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has =
        |wanted: &[(&str, &str)]| lines.iter().any(|line| wanted.iter().all(|(field, value)| line[*field] == *value));
    for wanted in [
        &[("method", "Cluster/Get"), ("outcome", "UNAUTHENTICATED"), ("door", "grpc")][..],
        &[
            ("method", "Cluster/Get"),
            ("who", "elsewhere"),
            ("key", "k"),
            ("outcome", "PERMISSION_DENIED"),
            ("door", "http"),
        ],
        &[("method", "Cluster/Set"), ("who", "reader"), ("outcome", "PERMISSION_DENIED"), ("door", "redis")],
        &[("method", "Cluster/Set"), ("who", "writer"), ("outcome", "OK"), ("door", "lines"), ("key", "k")],
        &[("method", "Cluster/Set"), ("who", "writer"), ("outcome", "OK"), ("door", "redis")],
        &[("method", "Tables/Create"), ("who", "keeper"), ("table", "t"), ("outcome", "OK")],
        &[("method", "Tokens/Create"), ("who", "bootstrap"), ("outcome", "OK")],
        &[("method", "Tokens/Create"), ("who", "root"), ("name", "reader"), ("outcome", "OK")],
        &[("method", "Node/Repair"), ("who", "operator"), ("outcome", "OK")],
        &[("method", "/metrics"), ("who", "reader"), ("outcome", "PERMISSION_DENIED"), ("door", "monitoring")],
    ] {
        assert!(has(wanted), "no line has {wanted:?}");
    }
    assert!(!has(&[("method", "Cluster/Get"), ("outcome", "OK")]), "reads that were allowed have no line");
    assert!(lines.iter().all(|line| line["time"].is_string() && line.get("value").is_none()));
}

#[tokio::test]
async fn tokens_are_known_and_refused_by_every_node_in_time() {
    let mut secured = Secured::start(&Plan { node_lines: NODE_LINES, doors: true, ..Plan::default() }).await;
    let file = secured.make("shop", &["write:default/shop:"]).await;
    let addresses = secured.cluster.addresses();
    let clients: Vec<quorate::Client> = addresses.iter().map(|address| of_token(&file, address)).collect();
    for (client, value) in clients.iter().zip(0..) {
        client.set("shop:1", value.to_string()).await.unwrap();
        let denied = client.get("other").await.unwrap_err().to_string();
        assert!(denied.contains("lacks read") && denied.contains("\"other\""), "{denied}");
    }
    let watch = end_of_watch(&clients[1]);
    let listed = secured.as_root(&["--json", "token", "list"]);
    let listed: Json = serde_json::from_str(&listed).unwrap();
    let shop = listed.as_array().unwrap().iter().find(|token| token["name"] == "shop").unwrap();
    assert_eq!(shop["rights"], serde_json::json!(["write:default/shop:"]));
    assert!(!listed.to_string().contains("hash"), "{listed}");

    secured.as_root(&["token", "revoke", shop["id"].as_str().unwrap()]);
    let revoked = Instant::now();
    let mut refused = BTreeSet::new();
    while refused.len() < clients.len() {
        assert!(revoked.elapsed() < KNOWN_WITHIN, "only {refused:?} refuse it");
        for (index, client) in clients.iter().enumerate() {
            if client.get("shop:1").await.is_err() {
                refused.insert(index);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("refused by every node after {:?}", revoked.elapsed());
    for client in &clients {
        let error = client.set("shop:1", "late").await.unwrap_err();
        assert!(matches!(error, quorate::ClientError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("revoked"), "{error}");
    }
    // A watch that was begun before tells no more either.
    let root = of_token(&secured.root, &addresses[0]);
    root.set("shop:1", "unseen").await.unwrap();
    let ended = tokio::time::timeout(TIME_MAX, watch).await.expect("the watch ends").unwrap();
    assert!(matches!(ended, quorate::ClientError::Refused { .. }), "{ended:?}");

    // Nodes ask each other for their health, although nobody gave them a token.
    poll("a status of all nodes", TIME_MAX, async || {
        let header = [("authorization", format!("Bearer {}", text_of(&secured.root)))];
        let client = HttpClient::new(&secured.cluster.nodes[0].http_address(), HttpVersion::One);
        let answer = client.send("GET", "/v1/status", &header, Bytes::new()).await;
        let text = answer.map_err(|error| format!("{error:?}"))?.body;
        let status: Json = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let all_online = nodes.len() == 3 && nodes.iter().all(|node| node["state"] == "online");
        if all_online { Ok(()) } else { Err(status.to_string()) }
    })
    .await;

    // A node that starts again reads who may do what before it lets anybody in, and has another bootstrap token.
    let bootstrap = secured.cluster.dir().join("data/2/bootstrap.token");
    let before = text_of(&bootstrap);
    secured.cluster.nodes[1].terminate().await;
    secured.cluster.nodes[1].start();
    poll("the second node again", TIME_MAX, async || {
        of_token(&secured.root, &addresses[1]).get("shop:1").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert_ne!(text_of(&bootstrap), before);
    assert!(clients[1].get("shop:1").await.is_err());
}

#[tokio::test]
async fn command_line_says_what_it_is_not_let_do() {
    let plan = Plan { ids: vec!["1"], replica_count: 1, node_lines: NODE_LINES, ..Plan::default() };
    let secured = Secured::start(&plan).await;
    let address = secured.cluster.nodes[0].address();
    let reader = secured.make("reader", &["read"]).await.display().to_string();
    let junk = secured.cluster.dir().join("junk");
    std::fs::write(&junk, "junk\n").unwrap();
    let junk = junk.display().to_string();
    for (arguments, part) in [
        (&["get", "a"][..], "--token-file"),
        (&["--token-file", &reader, "set", "a", "1"], "lacks write on key \"a\" of table default"),
        (&["--token-file", &reader, "token", "list"], "lacks admin:*"),
        (&["--token-file", &reader, "members"], "lacks observer"),
        (&["--token-file", &junk, "get", "a"], "it is no token"),
        (&["--token-file", "/nowhere", "get", "a"], "cannot be read"),
        (&["token", "create", "x", "--allow", "reed"], "read, write or admin"),
        (&["token", "revoke", "qrt_a_b"], "second part"),
    ] {
        let output = quorate(&[&["--address", &address], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let missing = quorate(&["--address", &address, "--token-file", &reader, "get", "a"]);
    assert_eq!(missing.status.code(), Some(1), "it may read, and there is no value");
    let far = quorate(&["--address", "n1.example:8001", "--token-file", &reader, "get", "a"]);
    assert!(String::from_utf8_lossy(&far.stderr).contains("without TLS"), "{far:?}");
    let made = secured.as_root(&["--json", "token", "create", "x", "--allow", "observer"]);
    let made: Json = serde_json::from_str(&made).unwrap();
    let token = Token::parse(made["token"].as_str().unwrap()).unwrap();
    assert_eq!(made["id"], token.id().as_str());

    let (metrics_port, folder) = (secured.cluster.nodes[0].metrics_port, secured.cluster.dir());
    let (metrics, bundle) = (format!("127.0.0.1:{metrics_port}"), folder.join("bundle"));
    let bootstrap = folder.join("data").join("1").join("bootstrap.token");
    let with_token = folder.join("node.log");
    std::fs::write(&with_token, format!("INFO refused {}\n", token.reveal())).unwrap();
    let [to, config, log] = [&bundle, &bootstrap, &with_token].map(|path| path.display().to_string());
    secured.as_root(&["debug", "bundle", &to, "--metrics", &metrics, "--config", &config, "--log", &log]);
    let read = |name: &str| text_of(&bundle.join(name));
    assert!(read(&format!("metrics/127.0.0.1_{metrics_port}.txt")).contains("quorate_ready 1"));
    assert_eq!(read("config/bootstrap.token"), "qrt_(removed)");
    assert_eq!(read("logs/node.log"), "INFO refused qrt_(removed)");
}

/// The error that ends a watch of all that `client` may read.
fn end_of_watch(client: &quorate::Client) -> JoinHandle<quorate::ClientError> {
    let mut watch = client.watch("shop:").stream();
    tokio::spawn(async move {
        loop {
            match watch.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("a watch has no end of its own"),
            }
        }
    })
}
