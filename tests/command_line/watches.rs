//! Watches on the command line.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value as Json, json};

use super::*;

/// A watch that runs, and its lines.
fn watch(cluster: &Cluster, arguments: &[&str]) -> (Running, BufReader<PipeReader>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = quorate(cluster, arguments);
    let child = Running(command.stdout(writer).spawn().unwrap());
    drop(command);
    (child, BufReader::new(reader))
}

fn line(lines: &mut BufReader<PipeReader>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_tells_each_change_of_its_keys_and_outlives_its_node() {
    // Nodes that come back: they keep their records on disk.
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    let (_running, mut lines) = watch(&cluster, &["watch", "user:", "--values"]);
    assert_eq!(line(&mut lines), "ready");
    client.set("other", "v").await.unwrap();
    client.set("user:1", "one").await.unwrap();
    assert_eq!(line(&mut lines), "put\tuser:1\tone");
    client.delete("user:1").await.unwrap();
    assert_eq!(line(&mut lines), "deleted\tuser:1");
    // Whichever node the watch is at, it is killed and comes back.
    for index in 0..3 {
        cluster.nodes[index].kill();
        let key = format!("user:{index}");
        // A watch that was reset may have missed a write, so that there are several.
        let writer = (client.clone(), key.clone());
        let writing = tokio::spawn(async move {
            loop {
                writer.0.set(&writer.1, "after").await.ok();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        loop {
            // A change may be told twice where the watch goes on at another node.
            let told = line(&mut lines);
            let is_change = told.starts_with("put\tuser:") || told.starts_with("deleted\tuser:");
            assert!(is_change || told == "reset" || told == "ready", "{told}");
            if told == format!("put\t{key}\tafter") {
                break;
            }
        }
        writing.abort();
        cluster.nodes[index].start();
        cluster.wait_all_linked().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_prints_objects_and_runs_commands() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let client = cluster.client();
    let (_running, mut lines) = watch(&cluster, &["watch", "--key", "k", "--json"]);
    let object = |text: String| serde_json::from_str::<Json>(&text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(object(line(&mut lines)), json!({ "event": "ready" }));
    let script = r#"echo "$QUORATE_EVENT $QUORATE_KEY $QUORATE_VALUE $(cat)""#;
    let (_other, mut said) = watch(&cluster, &["watch", "", "--", "sh", "-c", script]);
    let version = client.set("k", "v").await.unwrap().version;
    assert_eq!(object(line(&mut lines)), json!({ "event": "put", "key": "k", "version": version }));
    // The other watch may have begun after this.
    poll("the command to run", START_TIME_MAX, async || {
        client.set("k2", "w").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let writing = tokio::spawn(async move {
        loop {
            client.set("k2", "w").await.ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let told = tokio::task::spawn_blocking(move || line(&mut said)).await.unwrap();
    writing.abort();
    assert!(told == "put k2 w w" || told == "put k v v", "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_with_a_list_tells_first_what_is_there() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let client = cluster.client();
    for (key, value) in [("user:2", "Bo"), ("user:1", "Ada"), ("other", "x"), ("user:3", "Cy")] {
        client.set(key, value).await.unwrap();
    }
    client.delete("user:3").await.unwrap();
    let (_running, mut lines) = watch(&cluster, &["watch", "user:", "--values", "--list"]);
    for expected in ["put\tuser:1\tAda", "put\tuser:2\tBo", "ready"] {
        assert_eq!(line(&mut lines), expected);
    }
    let version = client.set("user:3", "Di").await.unwrap().version;
    assert_eq!(line(&mut lines), "put\tuser:3\tDi");
    let (_one, mut objects) = watch(&cluster, &["watch", "--key", "user:3", "--list", "--json"]);
    let object = |text: String| serde_json::from_str::<Json>(&text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(object(line(&mut objects)), json!({ "event": "put", "key": "user:3", "version": version }));
    assert_eq!(object(line(&mut objects)), json!({ "event": "ready" }));
    let script = r#"echo "$QUORATE_EVENT $QUORATE_KEY $(cat)""#;
    let (_other, mut said) = watch(&cluster, &["watch", "user:", "--list", "--", "sh", "-c", script]);
    for expected in ["put user:1 Ada", "put user:2 Bo", "put user:3 Di", "ready"] {
        assert_eq!(line(&mut said).trim_end(), expected);
    }
}

#[test]
fn watch_needs_a_prefix_or_a_key() {
    for arguments in [&["watch"][..], &["watch", "p", "--key", "k"], &["watch", "--key", ""]] {
        let output = process::command().args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}
