//! The line protocol, over real sockets.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::testkit::tools;
use super::{Plan, Served, start, start_one};

/// All that a node answers to `text`, whose sender then half-closes.
async fn lines(served: &Served, text: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(&served.line_address).await.unwrap();
    stream.write_all(text.as_ref()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    String::from_utf8(answers).unwrap()
}

/// All that netcat prints of the answers to `text`, after whose end it half-closes.
async fn netcat(served: &Served, text: &'static str) -> Option<String> {
    let path = tools::find(&["nc"])?;
    let (host, port) =
        served.line_address.split_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("nc");
        command.args(["-N", &host, &port]).env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was just found");
        child.stdin.take().expect("it is a pipe").write_all(text.as_bytes()).expect("nc reads");
        child.wait_with_output().expect("nc ends")
    });
    let output = ran.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The documented commands of winter, with the real netcat.
#[tokio::test]
async fn netcat_is_answered() {
    let served = start_one().await;
    for (sent, printed) in [
        ("CREATE default\nCREATE default\n", "already created\nalready created\n"),
        ("CREATE table\n", "created\n"),
        ("CREATE table\n", "already created\n"),
        ("GET table key\n", "nil\n"),
        ("PUTNEW table key data\r\n", "ok\n"),
        ("PUTNEW table key other\n", "ok\n"),
        ("GET table key\nGET default key\n", "data\nnil\n"),
        ("DELETE table key\nGET table key\n", "ok\nnil\n"),
        ("GET default key\n", "nil\n"),
        ("PUTNEW default key data\n", "ok\n"),
        ("PUTNEW default key other\nGET default key\n", "ok\ndata\n"),
        ("GET default key\r\nDELETE default key\r\n", "data\nok\n"),
        ("GET default key\nGET missing key\n", "nil\nmissing table\n"),
        ("PUT default a 1\nPUT default b 2\r\nGET default b\nGET default a\n", "ok\nok\n2\n1\n"),
    ] {
        match netcat(&served, sent).await {
            Some(seen) => assert_eq!(seen, printed, "{sent:?}"),
            None => return,
        }
    }
}

#[tokio::test]
async fn documented_commands_are_answered_in_their_order() {
    let served = start_one().await;
    let text = "CREATE default\nGET default k\nPUTNEW default k {\"a\": 1}\nPUTNEW default k other\r\nGET default k\r\n\
                \nPUT default k new  data \nGET default k\nDELETE default k\nDELETE default k\nGET default k\n\
                GET t k\nCREATE a/b\nSTEAL default k\nGET default\n";
    let answers = "already created\nnil\nok\nok\n{\"a\": 1}\n\nok\nnew  data \nok\nok\nnil\nmissing table\n\
                   error the name of the table holds '/': spaces, control characters and slashes are not accepted\n\
                   unrecognized command STEAL\n\
                   error usage: GET table key\n";
    assert_eq!(lines(&served, text).await, answers);
    assert_eq!(served.http("PUT", "/two", "a\nb").await.status, 201);
    let answer = lines(&served, "GET default two\n").await;
    assert_eq!(answer, "error not a line of text: read it over HTTP or gRPC\n");
    lines(&served, "PUT default shared from a line\n").await;
    assert_eq!(served.http("GET", "/shared", "").await.text(), "from a line");
}

#[tokio::test]
async fn commands_of_winter_work_in_tables_of_their_own() {
    let served = start_one().await;
    let text = "GET table key\nPUTNEW table key data\nDELETE table key\nCREATE table\nCREATE table\nGET table key\n\
                PUTNEW table key data\nPUTNEW table key other\r\nGET table key\nGET default key\nGET Table key\n\
                DELETE table key\nGET table key\nPUT table key some  data  EXPIRE 60000\nGET table key\n";
    let answers = "missing table\nmissing table\nmissing table\ncreated\nalready created\nnil\n\
                   ok\nok\ndata\nnil\nmissing table\n\
                   ok\nnil\nok\nsome  data \n";
    assert_eq!(lines(&served, text).await, answers);
    let read = served.http("GET", "/v1/tables/table/keys/key", "").await;
    assert_eq!((read.status, read.text().as_str()), (200, "some  data "));
    assert_eq!(served.http("DELETE", "/v1/tables/table", "").await.status, 204);
    assert_eq!(lines(&served, "GET table key\nCREATE table\nGET table key\n").await, "missing table\ncreated\nnil\n");
}

#[tokio::test]
async fn one_of_sixteen_creates_a_table() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for round in 0..3 {
        let mut creators = Vec::new();
        for number in 0..16 {
            let address = served[number % 3].line_address.clone();
            creators.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let line = format!("CREATE t{round}\nPUTNEW t{round} k {number}\nGET t{round} k\n");
                stream.write_all(line.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answers = String::new();
                stream.read_to_string(&mut answers).await.unwrap();
                answers
            }));
        }
        let (mut created, mut values) = (0, std::collections::BTreeSet::new());
        for creator in creators {
            let answers = creator.await.unwrap();
            let lines: Vec<&str> = answers.lines().collect();
            assert!(matches!(lines[0], "created" | "already created") && lines[1] == "ok", "{answers}");
            created += usize::from(lines[0] == "created");
            values.insert(lines[2].to_owned());
        }
        assert_eq!((created, values.len()), (1, 1), "one creates it, and all see the same table: {values:?}");
    }
}

#[tokio::test]
async fn one_of_many_writes_a_new_key() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    let mut writers = Vec::new();
    for number in 0..9 {
        let address = served[number % 3].line_address.clone();
        writers.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let line = format!("PUTNEW default once {number}\nGET default once\n");
            stream.write_all(line.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answers = String::new();
            stream.read_to_string(&mut answers).await.unwrap();
            answers
        }));
    }
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.await.unwrap());
    }
    assert!(seen[0].starts_with("ok\n") && seen.iter().all(|answers| *answers == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn lines_expire_and_a_kept_value_keeps_its_time() {
    let served = start_one().await;
    let began = Instant::now();
    let answers =
        lines(&served, "PUTNEW default k v EXPIRE 700\nPUTNEW default k w\nPUT default k2 v EXPIRE 0\n").await;
    assert!(answers.starts_with("ok\nok\nerror EXPIRE is 0"), "{answers}");
    while lines(&served, "GET default k\n").await == "v\n" {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(lines(&served, "GET default k\n").await, "nil\n");
}

#[tokio::test]
async fn wrong_input_is_bounded_and_answered() {
    let served = start_one().await;
    let largest = format!("PUT default k {}", "v".repeat((1 << 20) - 14));
    assert_eq!(largest.len(), 1 << 20);
    assert_eq!(lines(&served, format!("{largest}\r\nGET default none\n")).await, "ok\nnil\n");
    let answer = lines(&served, format!("{largest}v\nGET default none\n")).await;
    assert_eq!(answer, "error the line is too long: 1048576 bytes are accepted\n", "and the connection is closed");
    let answer = lines(&served, "PUT default cut wri").await;
    assert_eq!(answer, "error the line has no end: nothing was done; end it with LF\n");
    assert_eq!(lines(&served, "GET default cut\n").await, "nil\n");
    // A page of a browser could hide commands in the body of a request.
    let disguised = "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nPUT default k evil\n";
    assert_eq!(lines(&served, disguised).await, "error this port has no HTTP: ask the port of local_http_address\n");
    assert_eq!(
        lines(&served, b"\xff\xfe\n\0\n").await,
        "unrecognized command \u{fffd}\u{fffd}\nunrecognized command \u{fffd}\n"
    );
    assert_eq!(lines(&served, "").await, "");
}

#[tokio::test]
async fn many_lines_sent_ahead_are_all_answered() {
    let served = start_one().await;
    let (mut text, mut expected) = (String::new(), String::new());
    for n in 0..2_000 {
        let _ = writeln!(text, "PUT default k{} {n}\nGET default k{}", n % 7, n % 7);
        let _ = writeln!(expected, "ok\n{n}");
    }
    let mut stream = TcpStream::connect(&served.line_address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        writer.write_all(text.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut answers = String::new();
    let ((), read) = tokio::join!(sending, reader.read_to_string(&mut answers));
    read.unwrap();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn without_a_majority_the_line_says_what_became_of_the_command() {
    let mut served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for node in served.drain(1..) {
        node.stop().await;
    }
    let answers = lines(&served[0], "GET default k\nPUT default k v\nDELETE default k\n").await;
    let mut answers = answers.lines();
    assert!(answers.next().unwrap().starts_with("error no quorum: "));
    let written = answers.next().unwrap();
    assert!(written.starts_with("error not applied: ") || written.starts_with("error outcome unknown: "), "{written}");
    assert!(answers.next().unwrap().starts_with("error not applied: "));
}
