//! The Redis protocol, over real sockets.
//!
//! The rows of [`ROWS`] hold of Redis as well: where redis-server is on PATH, it is asked the same and must answer alike.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use quorate::gateway::redis::RedisOptions;

use super::testkit::redis::framed;
use super::{Plan, Served, start, start_one};

/// A client that shows answers as text.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(address: &str) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    async fn of(served: &Served) -> Self {
        Self::connect(&served.redis_address).await
    }

    /// Sends a request as a line of words, which may be quoted.
    async fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn send_words(&mut self, words: &[&[u8]]) {
        self.stream.get_mut().write_all(&framed(words)).await.unwrap();
    }

    async fn ask(&mut self, line: &str) -> String {
        if !line.is_empty() {
            self.send(line).await;
        }
        self.answer().await
    }

    /// The next answer: `+OK`, `:1`, `"text"`, `nil`, `-ERR …`, `[a, b]` or `{a: b}`; `end` where the connection ends.
    async fn answer(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await.unwrap();
        let Some(line) = line.strip_suffix(b"\r\n") else { return "end".to_owned() };
        let line = String::from_utf8_lossy(line).into_owned();
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" | "-" | ":" => line,
            "_" => "nil".to_owned(),
            "$" | "=" if rest == "-1" => "nil".to_owned(),
            "$" | "=" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).await.unwrap();
                bytes.truncate(bytes.len() - 2);
                format!("{:?}", String::from_utf8_lossy(&bytes))
            }
            "*" | "~" | "%" => {
                let count: usize = rest.parse().unwrap();
                let of_each = if kind == "%" { 2 } else { 1 };
                let mut items = Vec::new();
                for _ in 0..count * of_each {
                    items.push(Box::pin(self.answer()).await);
                }
                if kind == "%" {
                    let pairs: Vec<String> = items.chunks(2).map(|pair| format!("{}: {}", pair[0], pair[1])).collect();
                    format!("{{{}}}", pairs.join(", "))
                } else {
                    format!("[{}]", items.join(", "))
                }
            }
            _ => panic!("no answer begins so: {line}"),
        }
    }
}

/// All that a node answers to `bytes`, whose sender then half-closes.
async fn raw(served: &Served, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(&served.redis_address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    String::from_utf8_lossy(&answers).into_owned()
}

/// Commands and their answers, one after another on one connection. An answer that ends in `…` begins so.
const ROWS: &[(&str, &str)] = &[
    ("PING", "+PONG"),
    ("PING hello", "\"hello\""),
    ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
    ("ECHO hello", "\"hello\""),
    ("SELECT 0", "+OK"),
    ("SELECT 99", "-ERR DB index is out of range…"),
    ("SELECT a", "-ERR value is not an integer or out of range…"),
    ("GET", "-ERR wrong number of arguments for 'get' command"),
    ("STEAL a b", "-ERR unknown command 'STEAL', with args beginning with: 'a' 'b' "),
    ("AUTH secret", "-ERR AUTH <password> called without any password configured for the default user. Are you sure…"),
    ("AUTH default secret", "+OK"),
    ("AUTH ada secret", "-WRONGPASS invalid username-password pair or user is disabled."),
    ("CLIENT GETNAME", "nil"),
    ("CLIENT SETNAME tester", "+OK"),
    ("CLIENT GETNAME", "\"tester\""),
    ("CLIENT SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters."),
    ("CLIENT NO-EVICT on", "+OK"),
    ("CLIENT STEAL", "-ERR unknown subcommand 'STEAL'. Try CLIENT HELP."),
    ("CLIENT ID 1", "-ERR wrong number of arguments for 'client|id' command"),
    ("HELLO 9", "-NOPROTO unsupported protocol version"),
    ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
    ("HELLO 2 STEAL", "-ERR Syntax error in HELLO option 'STEAL'"),
    ("CONFIG GET databasesx", "[]"),
    ("DBSIZE", ":0"),
    ("GET a", "nil"),
    ("SET a", "-ERR wrong number of arguments for 'set' command"),
    ("SET a 1 2", "-ERR syntax error"),
    ("set a 1", "+OK"),
    ("Get a", "\"1\""),
    ("EXISTS a a b", ":2"),
    ("TYPE a", "+string"),
    ("TYPE b", "+none"),
    ("STRLEN a", ":1"),
    ("STRLEN b", ":0"),
    ("SET a 2 NX", "nil"),
    ("SET b 2 XX", "nil"),
    ("SET b 2 NX", "+OK"),
    ("SET b 3 XX GET", "\"2\""),
    ("SET c 1 NX GET", "nil"),
    ("SET c 2 NX GET", "\"1\""),
    ("SET c 2 XX NX", "-ERR syntax error"),
    ("SETNX c 9", ":0"),
    ("SETNX d 9", ":1"),
    ("GETSET d 8", "\"9\""),
    ("GETSET e 8", "nil"),
    ("GETDEL e", "\"8\""),
    ("GETDEL e", "nil"),
    ("DEL d e", ":1"),
    ("DEL d", ":0"),
    ("UNLINK c c", ":1"),
    ("MSET x 1 y 2 x 3", "+OK"),
    ("MSET x 1 y", "-ERR wrong number of arguments for 'mset' command"),
    ("MGET x nothing y", "[\"3\", nil, \"2\"]"),
    ("APPEND log a", ":1"),
    ("APPEND log bc", ":3"),
    ("SETRANGE log 5 z", ":6"),
    ("GETRANGE log 0 2", "\"abc\""),
    ("GETRANGE log -1 -1", "\"z\""),
    ("GETRANGE log x 1", "-ERR value is not an integer or out of range"),
    ("SUBSTR log 1 1", "\"b\""),
    ("GETRANGE none 0 -1", "\"\""),
    ("SETRANGE log -1 z", "-ERR offset is out of range"),
    ("SETRANGE none 0 \"\"", ":0"),
    ("EXISTS none", ":0"),
    ("SETRANGE log 9000000000 z", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
    ("INCR n", ":1"),
    ("INCRBY n 41", ":42"),
    ("DECR n", ":41"),
    ("DECRBY n -9", ":50"),
    ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
    ("INCRBY n x", "-ERR value is not an integer or out of range"),
    ("INCRBY n 9223372036854775807", "-ERR increment or decrement would overflow"),
    ("INCR log", "-ERR value is not an integer or out of range"),
    ("SET n 10", "+OK"),
    ("INCRBYFLOAT n 0.1", "\"10.1\""),
    ("INCRBYFLOAT n -5", "\"5.1\""),
    ("INCRBYFLOAT n x", "-ERR value is not a valid float"),
    ("INCRBYFLOAT log 1", "-ERR value is not a valid float"),
    ("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity"),
    ("GET n", "\"5.1\""),
    ("TTL n", ":-1"),
    ("PTTL none", ":-2"),
    ("EXPIRETIME n", ":-1"),
    ("EXPIRE n 100", ":1"),
    ("TTL n", ":100"),
    ("EXPIRE none 100", ":0"),
    ("EXPIRE n 200 NX", ":0"),
    ("EXPIRE n 200 GT", ":1"),
    ("EXPIRE n 300 LT", ":0"),
    ("EXPIRE n 100 XX LT", ":1"),
    ("EXPIRE n 100 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
    ("EXPIRE n 100 GT LT", "-ERR GT and LT options at the same time are not compatible"),
    ("EXPIRE n 100 AB", "-ERR Unsupported option AB"),
    ("EXPIRE n x", "-ERR value is not an integer or out of range"),
    ("EXPIRE n 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
    ("SET n 11 KEEPTTL", "+OK"),
    ("INCR n", ":12"),
    ("APPEND n 3", ":3"),
    ("TTL n", ":100"),
    ("PERSIST n", ":1"),
    ("PERSIST n", ":0"),
    ("PERSIST none", ":0"),
    ("SETEX n 100 v", "+OK"),
    ("GETEX n", "\"v\""),
    ("TTL n", ":100"),
    ("GETEX n PERSIST", "\"v\""),
    ("TTL n", ":-1"),
    ("GETEX n EX 50", "\"v\""),
    ("TTL n", ":50"),
    ("GETEX n EX 0", "-ERR invalid expire time in 'getex' command"),
    ("GETEX none EX 1", "nil"),
    ("GETEX n EX", "-ERR syntax error"),
    ("PSETEX n 100000 v", "+OK"),
    ("TTL n", ":100"),
    ("SETEX n 0 v", "-ERR invalid expire time in 'setex' command"),
    ("PSETEX n -1 v", "-ERR invalid expire time in 'psetex' command"),
    ("SET n v EX 0", "-ERR invalid expire time in 'set' command"),
    ("SET n v PX 1 EX 1", "-ERR syntax error"),
    ("SET n v EX x", "-ERR value is not an integer or out of range"),
    ("SET n v EXAT 4000000000x", "-ERR value is not an integer or out of range"),
    ("SET n v", "+OK"),
    ("TTL n", ":-1"),
    ("PEXPIRE n -1", ":1"),
    ("EXISTS n", ":0"),
    ("SET n v", "+OK"),
    ("EXPIREAT n 1", ":1"),
    ("GET n", "nil"),
    ("KEYS no*", "[]"),
    ("KEYS lo?", "[\"log\"]"),
    ("SCAN x", "-ERR invalid cursor"),
    ("SCAN 0 COUNT 0", "-ERR syntax error"),
    ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
    ("SCAN 0 STEAL 1", "-ERR syntax error"),
    ("SCAN 0 MATCH log COUNT 1000", "[\"0\", [\"log\"]]"),
    ("SCAN 0 TYPE list COUNT 1000", "[\"0\", []]"),
    ("DBSIZE", ":5"),
    ("COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command"),
    ("COMMAND INFO steal", "[nil]"),
    ("RESET", "+RESET"),
    ("CLIENT GETNAME", "nil"),
    ("QUIT", "+OK"),
    // Nothing more is sent.
    ("", "end"),
];

/// Commands that Redis 7.0 has not.
const OWN_ROWS: &[(&str, &str)] = &[
    ("SELECT 1", "-ERR DB index is out of range: 0 is the only one"),
    ("CLIENT SETINFO LIB-NAME tester", "+OK"),
    ("CLIENT SETINFO LIB-NAME \"a b\"", "-ERR lib-name cannot contain spaces, newlines or special characters."),
    ("CLIENT NO-TOUCH off", "+OK"),
    ("SET k old", "+OK"),
    ("SET k new IFEQ other", "nil"),
    ("SET k new IFEQ other GET", "\"old\""),
    ("SET k new IFEQ old EX 100", "+OK"),
    ("TTL k", ":100"),
    ("SET k newer IFNE new", "nil"),
    ("SET k newer IFNE old KEEPTTL", "+OK"),
    ("TTL k", ":100"),
    ("SET none v IFEQ v", "nil"),
    ("SET fresh v IFNE v", "+OK"),
    ("DELIFEQ k other", ":0"),
    ("DELIFEQ k newer", ":1"),
    ("DELEX fresh IFNE v", ":0"),
    ("DELEX fresh IFEQ v", ":1"),
    ("DELEX fresh", ":0"),
    ("QCAS k nonsense v", "-ERR the version is none of this cluster…"),
    ("GET \"\"", "-ERR the key is empty: give it 1 to 4096 bytes of UTF-8"),
    ("GET \"\\xff\"", "-ERR the key is not valid UTF-8 (from byte 0 on)"),
    ("MULTI", "-ERR unknown command 'MULTI': not served, because no operation spans several keys…"),
    ("DISCARD", "-ERR unknown command 'DISCARD'…"),
    ("FLUSHALL", "-ERR unknown command 'FLUSHALL': not served, because one command must not delete…"),
    ("LPUSH l a", "-ERR unknown command 'LPUSH': not served, because strings are the only type…"),
    ("CONFIG SET save 1", "-ERR settings are in node.yml…"),
    ("CONFIG GET save appendonly", "[\"appendonly\", \"yes\", \"save\", \"\"]"),
    ("SET k v EX 315360001", "-ERR invalid expire time in 'set' command: at most ten years from now are accepted"),
    ("SCAN 12345", "-ERR invalid cursor: this node did not make it…"),
    ("COMMAND COUNT", ":52"),
    ("COMMAND INFO get", "[[\"get\", :2, [+readonly], :1, :1, :1, [+@read, +@string], [], [], []]]"),
];

async fn assert_rows(client: &mut Client, rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        let answer = client.ask(line).await;
        let fits = match expected.strip_suffix('…') {
            Some(start) => answer.starts_with(start),
            None => answer == *expected,
        };
        assert!(fits, "{line}\nis answered {answer}\nand not     {expected}");
    }
}

#[tokio::test]
async fn commands_are_answered_as_redis_answers_them() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    assert_rows(&mut Client::of(&served[0]).await, ROWS).await;
    assert_rows(&mut Client::of(&served[1]).await, OWN_ROWS).await;
}

/// Asks the real redis-server, so that the rows are no invention.
#[tokio::test]
async fn redis_itself_answers_the_same_rows_alike() {
    let port = super::testkit::ports::free_port();
    let dir = tempfile::TempDir::new().unwrap();
    let mut command = std::process::Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]).arg(dir.path());
    let Ok(mut server) = command.stdout(std::process::Stdio::null()).spawn() else {
        let is_required = std::env::var_os("QUORATE_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
        assert!(!is_required, "redis-server is missing and QUORATE_REQUIRE_CLIENTS=1: `make clients` installs it");
        println!("SKIPPED: redis-server is not on PATH; `make clients` installs it");
        return;
    };
    let began = Instant::now();
    let address = format!("127.0.0.1:{port}");
    while TcpStream::connect(&address).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "redis-server does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rows = tokio::spawn(async move { assert_rows(&mut Client::connect(&address).await, ROWS).await }).await;
    server.kill().unwrap();
    server.wait().unwrap();
    rows.unwrap();
}

#[tokio::test]
async fn greeting_has_every_field_in_both_versions() {
    let served = start_one().await;
    let mut client = Client::of(&served).await;
    let fields = |proto: u32, between: &str| {
        let fields = [
            ("server", "\"redis\""),
            ("version", "\"7.4.0\""),
            ("proto", &format!(":{proto}")),
            ("id", ":1"),
            ("mode", "\"standalone\""),
            ("role", "\"master\""),
            ("modules", "[]"),
        ];
        fields.map(|(name, value)| format!("\"{name}\"{between}{value}")).join(", ")
    };
    assert_eq!(client.ask("HELLO").await, format!("[{}]", fields(2, ", ")));
    let three = client.ask("HELLO 3 AUTH default secret SETNAME tester").await;
    assert_eq!(three, format!("{{{}}}", fields(3, ": ")));
    assert_eq!(client.ask("CLIENT GETNAME").await, "\"tester\"");
    assert_eq!(
        client.ask("HELLO 2 AUTH ada secret SETNAME other").await,
        "-WRONGPASS invalid username-password pair or user is disabled."
    );
    assert_eq!(client.ask("CLIENT GETNAME").await, "\"tester\"", "half a greeting changes nothing");
    client.send("GET none").await;
    let mut line = String::new();
    client.stream.read_line(&mut line).await.unwrap();
    assert_eq!(line, "_\r\n", "the third version goes on");
    let info = client.ask("CLIENT INFO").await;
    assert!(info.contains("name=tester") && info.contains("resp=3"), "{info}");
    assert!(client.ask("CONFIG GET save").await.starts_with("{\"save\": \"\"}"));
    assert!(client.ask("COMMAND DOCS get").await.contains("\"summary\": \"Reads a value.\""));
    let info = client.ask("INFO server").await;
    assert!(info.contains("redis_version:7.4.0") && !info.contains("# Clients"), "{info}");
    assert_eq!(client.ask("TIME").await.matches('"').count(), 4);
}

#[tokio::test]
async fn values_are_any_bytes_and_are_seen_at_every_door() {
    let served = start_one().await;
    let mut client = Client::of(&served).await;
    client.send_words(&[b"SET", b"bytes", b"\xff\0\r\n"]).await;
    assert_eq!(client.answer().await, "+OK");
    assert_eq!(raw(&served, "GET bytes\r\n").await, "$4\r\n\u{fffd}\0\r\n\r\n");
    assert_eq!(served.http("GET", "/bytes", "").await.status, 200);
    assert_eq!(served.http("PUT", "/text", "from HTTP").await.status, 201);
    assert_eq!(client.ask("GET text").await, "\"from HTTP\"");
    let large = vec![7; 60 << 20];
    client.send_words(&[b"SET", b"large", &large]).await;
    assert_eq!(client.answer().await, "+OK");
    assert_eq!(client.ask("STRLEN large").await, ":62914560");
    assert_eq!(client.ask("APPEND large x").await, "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    assert_eq!(client.ask("GETRANGE large 62914558 -1").await, "\"\\u{7}\\u{7}\"");
    client.send("GET large").await;
    let mut head = String::new();
    client.stream.read_line(&mut head).await.unwrap();
    assert_eq!(head, "$62914560\r\n");
    let mut bytes = vec![0; large.len() + 2];
    client.stream.read_exact(&mut bytes).await.unwrap();
    assert!(bytes[..large.len()] == large && bytes.ends_with(b"\r\n"));
    assert_eq!(client.ask("DEL large").await, ":1");
}

#[tokio::test]
async fn versions_make_a_compare_and_set() {
    let served = start_one().await;
    let mut client = Client::of(&served).await;
    let versioned = |answer: &str| -> String { answer.split('"').nth(1).unwrap().to_owned() };
    let absent = client.ask("QGETV k").await;
    assert!(absent.ends_with(", nil]"), "{absent}");
    let first = client.ask(&format!("QCAS k {} one", versioned(&absent))).await;
    assert_eq!(client.ask(&format!("QCAS k {} two", versioned(&absent))).await, "nil");
    assert_eq!(client.ask("QGETV k").await, format!("[{first}, \"one\"]"));
    let second = client.ask(&format!("QCAS k {} two", versioned(&first))).await;
    assert_ne!(first, second);
    assert_eq!(client.ask("DEL k").await, ":1");
    assert_eq!(client.ask(&format!("QCAS k {} three", versioned(&second))).await, "nil", "no version comes back");
    let deleted = client.ask("QGETV k").await;
    assert!(deleted.ends_with(", nil]") && versioned(&deleted) != versioned(&absent), "{deleted}");
}

#[tokio::test]
async fn one_of_many_wins_and_every_addition_counts() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut clients = Vec::new();
    for number in 0..9 {
        let address = served[number % 3].redis_address.clone();
        clients.push(tokio::spawn(async move {
            let mut client = Client::connect(&address).await;
            let won = client.ask(&format!("SET once {number} NX")).await == "+OK";
            // Each addition counts, but for one of unknown outcome, which may. Many writers of one key can cause that.
            let mut counts = [(0, 0); 2];
            for _ in 0..5 {
                for (command, (certain, unknown)) in ["INCR sum", "APPEND log x"].into_iter().zip(&mut counts) {
                    let answer = client.ask(command).await;
                    *certain += usize::from(answer.starts_with(':'));
                    *unknown += usize::from(answer.starts_with("-OUTCOMEUNKNOWN "));
                }
            }
            let deleted = client.ask("DEL victim once2").await;
            assert_eq!(deleted, ":0");
            (won, counts)
        }));
    }
    let (mut winners, mut totals) = (0, [(0, 0); 2]);
    for client in clients {
        let (won, counts) = client.await.unwrap();
        winners += usize::from(won);
        for ((all_certain, all_unknown), (certain, unknown)) in totals.iter_mut().zip(counts) {
            *all_certain += certain;
            *all_unknown += unknown;
        }
    }
    assert_eq!(winners, 1);
    let mut client = Client::of(&served[0]).await;
    for (command, (certain, unknown)) in ["GET sum", "STRLEN log"].into_iter().zip(totals) {
        let answer = client.ask(command).await;
        let counted: usize = answer.trim_matches([':', '"']).parse().unwrap();
        assert!((certain..=certain + unknown).contains(&counted), "{command}: {answer} of {certain} and {unknown}");
        assert!(certain > 20, "{command}: of 45 additions {certain} are certain");
    }
}

#[tokio::test]
async fn pipeline_is_answered_in_order_and_as_if_one_after_another() {
    let served = start_one().await;
    let (mut text, mut expected) = (String::new(), String::new());
    for n in 0..1_000 {
        let _ = write!(text, "SET k{0} {n}\r\nGET k{0}\r\nINCR k{0}\r\nGET k{0}\r\nPING\r\n", n % 7);
        let digits = |n: i32| format!("${}\r\n{n}\r\n", n.to_string().len());
        let _ = write!(expected, "+OK\r\n{}:{}\r\n{}+PONG\r\n", digits(n), n + 1, digits(n + 1));
    }
    text.push_str("MSET k0 a k1 b\r\nMGET k0 k1 k2\r\nDEL k0 k1 k2 k3 k4 k5 k6\r\nDBSIZE\r\nQUIT\r\nGET k0\r\n");
    expected.push_str("+OK\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$3\r\n997\r\n:7\r\n:0\r\n+OK\r\n");
    let mut stream = TcpStream::connect(&served.redis_address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let _ = writer.write_all(text.as_bytes()).await;
    };
    let mut answers = String::new();
    let ((), read) = tokio::join!(sending, reader.read_to_string(&mut answers));
    read.unwrap();
    let differs = answers.lines().zip(expected.lines()).position(|(answer, expected)| answer != expected);
    assert_eq!((differs, answers.len()), (None, expected.len()), "and nothing is answered after QUIT");
}

#[tokio::test]
async fn long_answers_of_a_pipeline_come_in_order() {
    let served = start_one().await;
    let mut client = Client::of(&served).await;
    let long = vec![b'x'; 3 << 20];
    for number in 0..4 {
        client.send(&format!("SET k {number}")).await;
        client.send_words(&[b"ECHO", &long]).await;
        client.send("GET k").await;
    }
    for number in 0..4 {
        assert_eq!(client.answer().await, "+OK");
        assert_eq!(client.answer().await.len(), long.len() + 2);
        assert_eq!(client.answer().await, format!("\"{number}\""));
    }
}

#[tokio::test]
async fn what_was_sent_before_a_half_close_is_answered() {
    let served = start_one().await;
    assert_eq!(raw(&served, "SET k v\r\nGET k\r\n*2\r\n$3\r\nGET\r\n$1\r\n").await, "+OK\r\n$1\r\nv\r\n");
    assert_eq!(raw(&served, "").await, "");
}

#[tokio::test]
async fn malformed_frames_end_the_connection_with_a_word() {
    let served = start_one().await;
    for (sent, answer) in [
        ("SET k v\r\n*1\r\nPING\r\n", "+OK\r\n-ERR Protocol error: expected '$', got 'P'\r\n"),
        ("*99999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (
            "*2\r\n$3\r\nGET\r\n$-5\r\n",
            "-ERR Protocol error: invalid bulk length: 0 to 62914560 bytes are accepted\r\n",
        ),
        ("*2\r\n$3\r\nGET\r\n*1\r\n", "-ERR Protocol error: expected '$', got '*'\r\n"),
        ("GET \"k\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nSET k evil\r\n",
            "-ERR this port has no HTTP: ask the port of local_http_address\r\n",
        ),
        ("POST / HTTP/1.1\r\n\r\nSET k evil\r\n", "-ERR this port has no HTTP: ask the port of local_http_address\r\n"),
        ("\u{16}\u{3}\u{1}\u{2}", "-ERR this port has no TLS: connect without it\r\n"),
    ] {
        assert_eq!(raw(&served, sent).await, answer, "{sent:?}");
    }
    let long = format!("GET {}", "k".repeat(70_000));
    assert_eq!(raw(&served, long).await, "-ERR Protocol error: too big inline request\r\n");
    let many = framed(&vec![&b"GET"[..]; 1_025]);
    let answer = raw(&served, many).await;
    assert_eq!(answer, "-ERR Protocol error: invalid multibulk length: at most 1024 arguments are accepted\r\n");
    let mut words = vec![&b"EXISTS"[..]];
    words.resize(3_001, b"k");
    assert_eq!(raw(&served, framed(&words)).await, ":3000\r\n", "commands of many keys take more");
    assert_eq!(raw(&served, "GET k\r\n").await, "$1\r\nv\r\n", "the first row wrote it, and nobody since");
}

#[tokio::test]
async fn lists_give_each_key_once() {
    let served = start_one().await;
    let mut client = Client::of(&served).await;
    for n in 0..250 {
        client.send(&format!("SET key:{n} v")).await;
    }
    for _ in 0..250 {
        assert_eq!(client.answer().await, "+OK");
    }
    client.ask("SET other v").await;
    let (mut cursor, mut seen, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let answer = client.ask(&format!("SCAN {cursor} MATCH key:* COUNT 100")).await;
        let mut words = answer.split('"').skip(1).step_by(2).map(str::to_owned);
        cursor = words.next().unwrap();
        seen.extend(words);
        pages += 1;
        if cursor == "0" {
            break;
        }
    }
    let found = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((found, seen.len(), pages), (250, 250, 3));
    assert_eq!(client.ask("DBSIZE").await, ":251");
    assert_eq!(client.ask("KEYS *").await.matches('"').count(), 502);
    let long = "x".repeat(4_097);
    for command in [format!("KEYS {long}"), format!("SCAN 0 MATCH {long}"), format!("CONFIG GET y {long}")] {
        let answer = client.ask(&command).await;
        assert!(answer.starts_with("-ERR the pattern has 409"), "{answer}");
        assert!(answer.ends_with(" bytes: at most 4096 are accepted"), "{answer}");
    }
    assert_eq!(client.ask(&format!("KEYS {}", &long[1..])).await, "[]");
    client.send_words(&[b"KEYS", b"\xFF*"]).await;
    assert_eq!(client.answer().await, "[]");
}

#[tokio::test]
async fn listener_serves_one_table() {
    let served = start_one().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = quorate::service::Service::new(served.handle().clone());
    let options = RedisOptions { table: quorate::types::Table::parse("carts").unwrap() };
    tokio::spawn(quorate::gateway::redis::serve(listener, service, options, served.shutdown.clone()));
    let (mut of_carts, mut of_default) = (Client::connect(&address).await, Client::of(&served).await);
    let missing = of_carts.ask("SET k v").await;
    assert!(missing.starts_with("-ERR ") && missing.contains("there is no table"), "{missing}");
    assert_eq!(served.http("PUT", "/v1/tables/carts", "").await.status, 201);
    assert_eq!(of_carts.ask("SET k 1").await, "+OK");
    assert_eq!(of_carts.ask("MSET a 1 b 2 c 3").await, "+OK");
    assert_eq!(of_carts.ask("INCR k").await, ":2");
    assert_eq!(of_carts.ask("APPEND k 0").await, ":2");
    let absent = of_carts.ask("QGETV new").await.split('"').nth(1).unwrap().to_owned();
    assert!(of_carts.ask(&format!("QCAS new {absent} v")).await.starts_with('"'));
    assert_eq!(of_carts.ask("KEYS *").await, r#"["a", "b", "c", "k", "new"]"#);
    let first = of_carts.ask("SCAN 0 COUNT 3").await;
    let cursor = first.split('"').nth(1).unwrap();
    assert_eq!(first, format!(r#"["{cursor}", ["a", "b", "c"]]"#));
    assert_eq!(of_carts.ask(&format!("SCAN {cursor}")).await, r#"["0", ["k", "new"]]"#);
    assert_eq!(of_carts.ask("DEL a b k").await, ":3");
    assert_eq!((of_default.ask("KEYS *").await, of_default.ask("GET c").await), ("[]".to_owned(), "nil".to_owned()));
}

#[tokio::test]
async fn time_to_live_of_a_table_cannot_be_taken_away() {
    let served = start_one().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = quorate::service::Service::new(served.handle().clone());
    let options = RedisOptions { table: quorate::types::Table::parse("sessions").unwrap() };
    tokio::spawn(quorate::gateway::redis::serve(listener, service, options, served.shutdown.clone()));
    assert_eq!(served.http("PUT", "/v1/tables/sessions?default_ttl=1h", "").await.status, 201);
    let mut client = Client::connect(&address).await;
    assert_eq!(client.ask("SET k v").await, "+OK");
    assert_eq!(client.ask("EXPIRE k 9000").await, ":1");
    for command in ["PERSIST k", "GETEX k PERSIST"] {
        let expected = "-ERR no value of the table sessions lives for ever: its default time to live is 3600 seconds. Give a \
                        longer one with EXPIRE";
        assert_eq!(client.ask(command).await, expected, "{command}");
    }
    assert_eq!(client.ask("GETEX k EX 8000").await, "\"v\"");
    assert_eq!(client.ask("TTL k").await, ":8000");
}

#[tokio::test]
async fn values_expire_and_not_before() {
    let served = start_one().await;
    let mut client = Client::of(&served).await;
    let began = Instant::now();
    assert_eq!(client.ask("SET k v PX 700").await, "+OK");
    assert_eq!(client.ask("INCR n").await, ":1");
    assert_eq!(client.ask("PEXPIRE n 700").await, ":1");
    assert_eq!(client.ask("INCR n").await, ":2");
    let left: i64 = client.ask("PTTL n").await[1..].parse().unwrap();
    assert!((1..=700).contains(&left), "an addition keeps the time to live: {left}");
    while client.ask("GET k").await == "\"v\"" || client.ask("GET n").await == "\"2\"" {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(700));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    client.ask(&format!("SET k v EXAT {}", now + 1_000)).await;
    let at: u64 = client.ask("EXPIRETIME k").await[1..].parse().unwrap();
    assert!(at.abs_diff(now + 1_000) <= 1, "{at} {now}");
}

#[tokio::test]
async fn without_a_majority_the_error_says_what_became_of_the_command() {
    let mut served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for node in served.drain(1..) {
        node.stop().await;
    }
    // All at once, so that they wait together.
    let answers = raw(&served[0], "GET a\r\nSET b v\r\nSET c v NX\r\nAPPEND d v\r\nMSET e 1 f 2\r\nMGET g h\r\n").await;
    let words: Vec<&str> = answers.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words.len(), 6, "{answers}");
    assert_eq!((words[0], words[3], words[5]), ("-NOQUORUM", "-NOTAPPLIED", "-NOQUORUM"), "{answers}");
    for word in [words[1], words[2], words[4]] {
        assert!(["-NOTAPPLIED", "-OUTCOMEUNKNOWN"].contains(&word), "{answers}");
    }
}

#[tokio::test]
async fn pipelines_wait_where_the_node_is_full_and_are_not_refused() {
    let served = start(Plan { requests_in_flight_max: 16, ..Plan::default() }).await.remove(0);
    let mut clients = Vec::new();
    for n in 0..4 {
        let address = served.redis_address.clone();
        clients.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut text = String::new();
            for m in 0..200 {
                let _ = write!(text, "SET k:{n}:{m} v\r\n");
            }
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answers = String::new();
            stream.read_to_string(&mut answers).await.unwrap();
            answers
        }));
    }
    for client in clients {
        assert_eq!(client.await.unwrap(), "+OK\r\n".repeat(200));
    }
}

#[tokio::test]
async fn transaction_is_refused_as_a_whole() {
    let served = start_one().await;
    let answers =
        raw(&served, "MULTI\r\nSET t 1\r\nINCR n\r\nEXEC\r\nMGET t n\r\nMULTI\r\nSET t 2\r\nRESET\r\nGET t\r\n").await;
    let words: Vec<&str> = answers.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let refused = "-NOTAPPLIED";
    let expected = ["-ERR", refused, refused, "-EXECABORT", "*2", "$-1", "$-1", "-ERR", refused, "+RESET", "$-1"];
    assert_eq!(words, expected, "{answers}");
    assert!(answers.contains("-NOTAPPLIED MULTI is not served, and nothing before its EXEC"), "{answers}");
    for end in ["EXEC", "DISCARD", "RESET"] {
        let mut client = Client::of(&served).await;
        assert!(client.ask("MULTI").await.starts_with("-ERR unknown command"));
        assert!(client.ask("MULTI").await.starts_with("-NOTAPPLIED"), "transactions do not nest");
        client.ask(end).await;
        assert_eq!(client.ask("SET after 1").await, "+OK", "{end}");
    }
}

/// If a late part of a transaction were done, the transaction would be done in part.
#[tokio::test]
async fn transaction_that_does_not_end_closes_its_connection_and_nothing_of_it_is_done() {
    let served = start_one().await;
    let (mut silent, mut busy) = (Client::of(&served).await, Client::of(&served).await);
    let began = Instant::now();
    for client in [&mut silent, &mut busy] {
        assert!(client.ask("MULTI").await.starts_with("-ERR unknown command"));
        assert!(client.ask("SET t 1").await.starts_with("-NOTAPPLIED"));
    }
    // Commands that come all the time do not put the end off.
    let last = loop {
        assert!(began.elapsed() < Duration::from_secs(5), "it is closed after a second");
        busy.send("SET t 2").await;
        let answer = busy.answer().await;
        assert!(answer.starts_with("-NOTAPPLIED MULTI is not served"), "{answer}");
        if answer.contains("closed") {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(last.contains("no EXEC or DISCARD came within a second"), "{last}");
    assert_eq!((silent.answer().await, silent.answer().await), (last, "end".to_owned()));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(Client::of(&served).await.ask("GET t").await, "nil");
}

#[tokio::test]
async fn list_of_keys_ends_soon_after_its_client_has_closed_its_side() {
    let mut served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for node in served.drain(1..) {
        node.stop().await;
    }
    let began = Instant::now();
    let answers = raw(&served[0], "KEYS *\r\nPING\r\n").await;
    assert!(answers.starts_with("-NOTREADY the keys were not all looked at when the client closed"), "{answers}");
    assert!(answers.ends_with("\r\n+PONG\r\n") && began.elapsed() < Duration::from_secs(3), "{answers}");
}
