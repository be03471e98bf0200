//! Lists, exports and imports on the command line.

use serde_json::{Value as Json, json};

use super::*;

/// Exit code, stdout and stderr of the program.
fn run(cluster: &Cluster, arguments: &[&str]) -> (i32, String, String) {
    let output = quorate(cluster, arguments).output().unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{arguments:?}: {}", output.status));
    (code, text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_prints_a_key_a_line_in_their_order() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    assert_eq!(run(&cluster, &["list"]), (0, String::new(), String::new()), "an empty list is no error");
    assert_eq!(run(&cluster, &["list", "--count"]).1, "0\n");
    let client = cluster.client();
    for (key, value) in [("user:2", "two"), ("user:10", "ten"), ("user:1", "one"), ("a\nb", "x\ty"), ("userx", "")] {
        client.set(key, value).await.unwrap();
    }
    client.set("bin", vec![255]).await.unwrap();
    client.set("user:3", "gone").await.unwrap();
    client.delete("user:3").await.unwrap();
    for (arguments, printed) in [
        (&["list"][..], "\"a\\nb\"\nbin\nuser:1\nuser:10\nuser:2\nuserx\n"),
        (&["list", "user:"], "user:1\nuser:10\nuser:2\n"),
        (&["list", "user:", "--limit", "2"], "user:1\nuser:10\n"),
        (&["list", "user:", "--after", "user:1"], "user:10\nuser:2\n"),
        (&["list", "user:", "--after", "user:11"], "user:2\n"),
        (&["list", "user:", "--count"], "3\n"),
        (&["list", "user:", "--count", "--json"], "{\"count\":3}\n"),
        (&["list", "user", "--limit", "1", "--count"], "1\n"),
        (&["list", "user:", "--values"], "user:1\tone\nuser:10\tten\nuser:2\ttwo\n"),
        (&["list", "--limit", "2", "--values"], "\"a\\nb\"\t\"x\\ty\"\nbin\t/w==\n"),
        (&["list", "none"], ""),
    ] {
        assert_eq!(run(&cluster, arguments), (0, printed.to_owned(), String::new()), "{arguments:?}");
    }
    let (code, printed, _) = run(&cluster, &["list", "user:", "--json"]);
    let objects: Vec<Json> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, objects.len()), (0, 3));
    let version = client.get("user:10").await.unwrap().unwrap().version;
    assert_eq!(objects[1], json!({ "key": "user:10", "version": version }));
    for arguments in [&["list", "--limit", "0"][..], &["list", "--limit", "-1"], &["list", "--count", "--values"]] {
        assert_eq!(run(&cluster, arguments).0, 2, "{arguments:?}");
    }
    let long = "k".repeat(4_097);
    let (code, _, said) = run(&cluster, &["list", &long]);
    assert!(code == 2 && said.contains("4096"), "{said}");
    let mut command = quorate(&cluster, &["list"]);
    assert_eq!(command.stdout(closed_pipe()).status().unwrap().code(), Some(0), "a reader that has seen enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn export_is_read_by_import_and_goes_on_where_it_ended() {
    const KEYS: usize = 2_500;
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    let file = cluster.dir().join("in.jsonl");
    let mut lines = String::new();
    for number in 0..KEYS {
        lines.push_str(&json!({ "key": format!("k{number:05}"), "value": number.to_string() }).to_string());
        lines.push('\n');
    }
    lines.push_str(&(json!({ "key": "l", "binary": "/w==", "ttl_ms": 3_600_000 }).to_string() + "\n\n"));
    // The last line of a key counts.
    for value in ["first", "then", "last"] {
        lines.push_str(&(json!({ "key": "m", "value": value }).to_string() + "\n"));
    }
    write(&file, &lines);
    let path = file.to_str().unwrap();
    let (code, printed, said) = run(&cluster, &["import", path]);
    assert_eq!((code, printed.as_str()), (0, ""), "{said}");
    assert!(said.contains(&format!("{} keys written", KEYS + 4)), "{said}");
    assert_eq!(value(&cluster, "m").await.as_deref(), Some("last"));
    assert_eq!(run(&cluster, &["list", "--count"]).1, format!("{}\n", KEYS + 2));

    let out = cluster.dir().join("out.jsonl");
    let out_path = out.to_str().unwrap();
    let (code, printed, said) = run(&cluster, &["export", "--output", out_path]);
    assert_eq!((code, printed.as_str(), said.as_str()), (0, "", ""));
    let whole = fs::read_to_string(&out).unwrap();
    assert_eq!(run(&cluster, &["export"]).1.lines().count(), KEYS + 2);
    let objects: Vec<Json> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), KEYS + 2);
    assert!(objects.is_sorted_by_key(|object| object["key"].as_str().unwrap().to_owned()));
    let binary = &objects[KEYS];
    assert_eq!((&binary["key"], &binary["binary"]), (&json!("l"), &json!("/w==")));
    assert!(binary["ttl_ms"].as_u64().is_some_and(|left| left > 3_000_000 && left <= 3_600_000), "{binary}");

    // A file that was cut off in a line.
    write(&out, &whole[..whole.len() / 2]);
    assert_eq!(run(&cluster, &["export", "--output", out_path, "--resume"]).0, 0);
    let keys = |text: &str| -> Vec<String> {
        let key = |line: &str| serde_json::from_str::<Json>(line).unwrap()["key"].as_str().unwrap().to_owned();
        text.lines().map(key).collect()
    };
    assert_eq!(keys(&fs::read_to_string(&out).unwrap()), keys(&whole));
    write(&out, "something else\n");
    let (code, _, said) = run(&cluster, &["export", "--output", out_path, "--resume"]);
    assert!(code == 2 && said.contains("no export"), "{said}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "something else\n", "it is left alone");
    write(&out, &(json!({ "key": "other", "value": "" }).to_string() + "\n"));
    let (code, _, said) = run(&cluster, &["export", "k", "--output", out_path, "--resume"]);
    assert!(code == 2 && said.contains("no export of \"k\""), "{said}");

    let other = Cluster::start_as(&plan(&["1"])).await;
    let output = with_input(quorate(&other, &["import", "-"]), &whole);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(keys(&run(&other, &["export"]).1), keys(&whole));
    let found = other.client().get("l").await.unwrap().unwrap();
    assert!(found.value.bytes()[..] == [255] && found.ttl.is_some(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_names_the_line_at_which_it_goes_on() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let file = cluster.dir().join("in.jsonl");
    let path = file.to_str().unwrap();
    write(
        &file,
        "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\"}\n{\"key\":\"c\"}\n{\"key\":\"d\",\"value\":\"4\"}\n",
    );
    let (code, _, said) = run(&cluster, &["import", path]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&format!("{path}:3:")) && said.contains("--from-line 3"), "{said}");
    assert_eq!(run(&cluster, &["list"]).1, "a\nb\n", "the lines before it are done");
    let (code, _, said) = run(&cluster, &["import", path, "--from-line", "4"]);
    assert!(code == 0 && said.contains("1 key written"), "{said}");
    assert_eq!(run(&cluster, &["list"]).1, "a\nb\nd\n");
    assert_eq!(run(&cluster, &["import", "nowhere.jsonl"]).0, 2);
    write(&file, "{\"key\":\"\",\"value\":\"1\"}\n");
    let (code, _, said) = run(&cluster, &["import", path]);
    assert!(code == 2 && said.contains(":1:") && said.contains("empty"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_that_is_interrupted_goes_on_at_the_line_that_it_names() {
    const KEYS: usize = 60_000;
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let file = cluster.dir().join("in.jsonl");
    let path = file.to_str().unwrap();
    let lines: Vec<String> =
        (0..KEYS).map(|number| json!({ "key": format!("k{number:05}"), "value": "" }).to_string() + "\n").collect();
    write(&file, &lines.concat());
    let child = quorate(&cluster, &["import", path]).stderr(Stdio::piped()).spawn().unwrap();
    let mut import = Running(child);
    let client = cluster.client();
    poll("the first lines to be written", Duration::from_secs(10), async || {
        client.get("k00063").await.ok().flatten().map(drop).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    import.signal(Signal::SIGINT);
    let ended = import.end_within(Duration::from_secs(10)).await;
    let mut said = String::new();
    import.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(ended.code(), Some(3), "{said}");
    let line = said.split_once("--from-line ").and_then(|(_, rest)| rest.split_whitespace().next());
    let line: usize = line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((65..=KEYS).contains(&line), "{said}");
    let written = run(&cluster, &["list", "--count"]).1;
    assert_eq!(written, format!("{}\n", line - 1), "the lines before it are done, and no other");
    // The rest takes long, so that the file ends soon after.
    write(&file, &lines[..line + 99].concat());
    let (code, printed, said) = run(&cluster, &["import", path, "--from-line", &line.to_string(), "--json"]);
    assert_eq!((code, printed.as_str()), (0, "{\"written\":100}\n"), "{said}");
    assert_eq!(run(&cluster, &["list", "--count"]).1, format!("{}\n", line + 99));
}
