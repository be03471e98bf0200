//! The documented commands of the projects that Quorate descends from, with the real curl.

use std::process::Command;

use super::{Served, start_one};

/// The output of curl, and its exit code. `HOST` stands for the node's address.
pub(super) async fn curl(served: &Served, command: &str) -> (String, i32) {
    let script = format!("curl --silent --show-error {}", command.replace("HOST", &served.http_address));
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
    let (nodes, _) = curl(&served, "http://HOST/_nodes_discovery").await;
    assert!(nodes.contains(&format!("\"ApiHost\":\"{}\"", served.http_address)), "{nodes}");
    assert_eq!(curl(&served, "http://HOST/_nodes_discovery_plain").await.0, format!("{}\n", served.http_address));
}
