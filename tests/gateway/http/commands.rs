//! The documented commands of the projects that Quorate descends from, with the real curl.

use std::process::{Command, Stdio};

use super::{Plan, Served, start, start_one};

/// The output of curl, and its exit code. `HOST` stands for the node's address.
pub(super) async fn curl(served: &Served, command: &str) -> (String, i32) {
    // The documented commands say `localhost`, which is an accepted Host.
    let address = served.http_address.replace("127.0.0.1", "localhost");
    let script = format!("curl --silent --show-error {}", command.replace("HOST", &address));
    let ran = tokio::task::spawn_blocking(move || Command::new("bash").args(["-c", &script]).output());
    let output = ran.await.unwrap().expect("bash and curl are installed");
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (text, output.status.code().unwrap())
}

#[tokio::test]
async fn documented_commands_of_the_ancestors_work() {
    let served = start_one().await;
    for (command, printed) in [
        // estoraje
        ("-X POST -d '{value}' -g http://HOST/{key}", ""),
        ("-g http://HOST/{key}", "{value}"),
        ("-X DELETE -g http://HOST/{key}", ""),
        ("-g http://HOST/{key}", ""),
        ("-o /dev/null -w '%{http_code}' http://HOST/_health", "200"),
        ("-X DELETE http://HOST/_nodes/delete/other", "The node was not found"),
        // seppen
        ("-X PUT --data-binary one http://HOST/a", ""),
        ("-X PUT --data-binary two http://HOST/b/c", ""),
        ("http://HOST/", "a\nb/c"),
        ("-w '%{http_code}' http://HOST/nothing", "404"),
        ("--path-as-is http://HOST/b/./c", ""),
        // simplekv
        (
            "-o /dev/null -w '%{http_code}' -X PUT -H 'Content-type: text/plain' --data-binary 'hello world' http://HOST/x",
            "201",
        ),
        ("http://HOST/x", "hello world"),
        ("-w '%{http_code}' -X PUT -H 'If-None-Match: *' -d other http://HOST/x", "412"),
        // Over HTTP/2, without TLS.
        ("--http2-prior-knowledge http://HOST/x", "hello world"),
        (
            "--http2-prior-knowledge -o /dev/null -w '%{http_version} %{http_code}' -T /etc/hostname http://HOST/y",
            "2 201",
        ),
        ("--http2-prior-knowledge -I -o /dev/null -w '%{http_code}' http://HOST/x", "200"),
        ("--http1.0 http://HOST/x", "hello world"),
    ] {
        assert_eq!(curl(&served, command).await, (printed.to_owned(), 0), "{command}");
    }
    let (shown, _) =
        curl(&served, "-i -X PUT -H 'Content-type: text/plain' --data-binary 'hello world' http://HOST/exampleKey")
            .await;
    assert!(shown.starts_with("HTTP/1.1 201 Created") && shown.contains("etag: \""), "{shown}");
    let (shown, _) = curl(&served, "-w '%{http_code}' -H 'If-None-Match: *' http://HOST/exampleKey").await;
    assert_eq!(shown, "304");
    let (shown, _) = curl(&served, "-s -D - -o /dev/null http://HOST/exampleKey").await;
    let tag = shown.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a value has a tag").trim().to_owned();
    for (command, printed) in [
        (format!("-w '%{{http_code}}' -H 'If-None-Match: {tag}' http://HOST/exampleKey"), "304"),
        ("-w '%{http_code}' -X PUT -H 'If-Match: \"other\"' -d new http://HOST/exampleKey".to_owned(), "412"),
        (format!("-w '%{{http_code}}' -X PUT -H 'If-Match: {tag}' -d new http://HOST/exampleKey"), "204"),
        (format!("-w '%{{http_code}}' -X PUT -H 'If-Match: {tag}' -d newer http://HOST/exampleKey"), "412"),
        ("http://HOST/exampleKey".to_owned(), "new"),
    ] {
        assert_eq!(curl(&served, &command).await, (printed.to_owned(), 0), "{command}");
    }
    let (nodes, _) = curl(&served, "http://HOST/_nodes_discovery").await;
    assert!(nodes.contains(&format!("\"ApiHost\":\"{}\"", served.http_address)), "{nodes}");
    assert_eq!(curl(&served, "http://HOST/_nodes_discovery_plain").await.0, format!("{}\n", served.http_address));
}

/// Sixteen processes of curl, through all nodes, and not in one process of clients that takes turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_sixteen_curls_creates_the_key_every_time() {
    let served = start(Plan { nodes: 3, replica_count: 3, ..Plan::default() }).await;
    for round in 0..4 {
        let curls: Vec<_> = (0..16)
            .map(|number| {
                let url = format!("http://{}/once-{round}", served[number % 3].http_address);
                let mut curl = Command::new("curl");
                curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--request", "PUT"]);
                curl.args(["--header", "If-None-Match: *", "--data", &number.to_string(), &url]);
                curl.stdout(Stdio::piped()).spawn().expect("curl is installed")
            })
            .collect();
        let waiting = tokio::task::spawn_blocking(move || {
            let status =
                |curl: std::process::Child| String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap();
            curls.into_iter().map(status).collect::<Vec<String>>()
        });
        let statuses = waiting.await.unwrap();
        let winner = statuses.iter().position(|status| status == "201").expect("one creates it");
        let others = statuses.iter().filter(|status| *status == "412").count();
        assert_eq!(others, 15, "round {round}: {statuses:?}");
        let read = curl(&served[(round + 1) % 3], &format!("http://HOST/once-{round}")).await;
        assert_eq!(read.0, winner.to_string());
    }
}
