//! Tables on the command line: what is printed, and exit codes.

use serde_json::{Value as Json, json};

use super::*;

/// Exit code, stdout and stderr of the program.
fn run(cluster: &Cluster, arguments: &[&str]) -> (i32, String, String) {
    let output = quorate(cluster, arguments).output().unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{arguments:?}: {}", output.status));
    (code, text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_created_used_and_dropped() {
    let cluster = Cluster::start_as(&plan(&["1", "2", "3"])).await;
    assert_eq!(run(&cluster, &["tables"]), (0, "default\n".to_owned(), String::new()));
    assert_eq!(run(&cluster, &["tables", "create", "carts"]), (0, "created\n".to_owned(), String::new()));
    let (code, printed, said) = run(&cluster, &["tables", "create", "carts"]);
    assert_eq!((code, printed.as_str()), (5, ""));
    assert!(said.contains("\"carts\"") && said.contains("exists"), "{said}");
    assert_eq!(run(&cluster, &["tables", "create", "carts", "--if-missing"]).1, "already created\n");
    let settings = ["--default-ttl", "30m", "--value-bytes-max", "1024", "--quota-bytes", "1000000"];
    assert_eq!(run(&cluster, &[&["tables", "create", "sessions"][..], &settings].concat()).0, 0);
    let again = [&["tables", "create", "sessions", "--if-missing"][..], &settings].concat();
    assert_eq!(run(&cluster, &again).1, "already created\n");
    let (code, _, said) = run(&cluster, &["tables", "create", "sessions", "--if-missing", "--default-ttl", "1h"]);
    assert!(code == 5 && said.contains("settings"), "{said}");
    let line = "sessions\t--default-ttl 30m --value-bytes-max 1024 --quota-bytes 1000000\n";
    for arguments in [&["tables"][..], &["tables", "list"]] {
        assert_eq!(run(&cluster, arguments).1, format!("carts\ndefault\n{line}"));
    }
    let (code, printed, _) = run(&cluster, &["tables", "get", "sessions", "--json"]);
    let json: Json = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &json["default_ttl_ms"], &json["quota_bytes"]), (0, &json!(1_800_000), &json!(1_000_000)));
    let listed: Vec<Json> =
        run(&cluster, &["tables", "--json"]).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((listed.len(), &listed[1], &listed[2]), (3, &json!({ "table": "default" }), &json));

    for (arguments, printed) in [
        (&["get", "ada", "--table", "carts"][..], "3 apples"),
        (&["list", "--table", "carts"], "ada\nbob\n"),
        (&["list", "--table", "carts", "--values", "a"], "ada\t3 apples\n"),
        (&["list"], ""),
        (&["add", "visits", "2", "--table", "carts"], "2\n"),
        (&["locate", "ada", "--table", "carts"], "ada\t"),
        (&["delete", "bob", "--table", "carts", "--if-present"], ""),
        (&["list", "--table", "carts"], "ada\nvisits\n"),
        (&["list", "--table", "default"], ""),
    ] {
        if printed == "3 apples" {
            for (key, value) in [("ada", "3 apples"), ("bob", "none")] {
                assert_eq!(run(&cluster, &["set", key, value, "--table", "carts"]).0, 0);
            }
        }
        let (code, shown, said) = run(&cluster, arguments);
        let is_as_expected =
            if matches!(arguments[0], "locate" | "delete") { shown.starts_with(printed) } else { shown == printed };
        assert!(code == 0 && is_as_expected, "{arguments:?}: {code} {shown:?} {said}");
    }
    let mut by_variable = quorate(&cluster, &["get", "ada"]);
    let output = by_variable.env("QUORATE_TABLE", "carts").output().unwrap();
    assert_eq!(text(&output.stdout), "3 apples");

    let file = cluster.dir().join("carts.jsonl");
    let path = file.to_str().unwrap();
    assert_eq!(run(&cluster, &["export", "--table", "carts", "--output", path]).0, 0);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
    run(&cluster, &["tables", "create", "copy"]);
    assert_eq!(run(&cluster, &["import", path, "--table", "copy"]).0, 0);
    assert_eq!(run(&cluster, &["list", "--table", "copy"]).1, "ada\nvisits\n");

    assert_eq!(run(&cluster, &["tables", "drop", "carts"]), (0, "dropped\n".to_owned(), String::new()));
    for arguments in [
        &["get", "ada", "--table", "carts"][..],
        &["set", "ada", "v", "--table", "carts"],
        &["delete", "ada", "--table", "carts"],
        &["add", "ada", "--table", "carts"],
        &["list", "--table", "carts"],
        &["watch", "", "--table", "carts"],
        &["export", "--table", "carts"],
        &["import", path, "--table", "carts"],
        &["locate", "ada", "--table", "carts"],
    ] {
        let (code, printed, said) = run(&cluster, arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains("\"carts\"") && said.contains("quorate tables create carts"), "{arguments:?}: {said}");
    }
    for arguments in [&["tables", "get", "carts"][..], &["tables", "drop", "carts"]] {
        let (code, _, said) = run(&cluster, arguments);
        assert!(code == 1 && said.contains("\"carts\""), "{arguments:?}: {said}");
    }
    assert_eq!(run(&cluster, &["tables", "create", "carts", "--json"]).0, 0);
    assert_eq!(run(&cluster, &["list", "--table", "carts"]), (0, String::new(), String::new()), "it is empty");
    assert_eq!(run(&cluster, &["tables", "drop", "carts", "--json"]).1, "{\"dropped\":true,\"table\":\"carts\"}\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tables_are_refused_before_anything_is_sent() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let long = "n".repeat(129);
    for (arguments, part) in [
        (&["tables", "create", ""][..], "empty"),
        (&["tables", "create", "a b"], "spaces"),
        (&["tables", "create", "a/b"], "slashes"),
        (&["tables", "create", &long], "128"),
        (&["tables", "create", "default"], "always exists"),
        (&["tables", "drop", "default"], "cannot be created or dropped"),
        (&["tables", "create", "t", "--default-ttl", "0"], "such as 500ms"),
        (&["tables", "create", "t", "--value-bytes-max", "0"], "1..=62914560"),
        (&["tables", "create", "t", "--quota-bytes", "0"], "1.."),
        (&["tables", "creat", "t"], "create"),
        (&["tables", "create"], "TABLE"),
        (&["get", "k", "--table", "a b"], "spaces"),
        (&["get", "k", "--table", ""], "unset QUORATE_TABLE"),
        (&["locate", "k", "--table", "t", "--cluster", "examples/3-local-nodes/cluster.yml"], "--cluster"),
    ] {
        let (code, printed, said) = run(&cluster, arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert_eq!(run(&cluster, &["tables"]).1, "default\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_from_a_terminal_needs_a_word() {
    if !has("script", &["--version"]) {
        return;
    }
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    run(&cluster, &["tables", "create", "t"]);
    let said = on_terminal(&cluster, "\"$PROGRAM\" tables drop t; echo code $?");
    assert!(said.contains("code 2") && said.contains("--yes") && said.contains("all of its keys"), "{said}");
    assert!(run(&cluster, &["tables"]).1.contains("t\n"));
    let said = on_terminal(&cluster, "\"$PROGRAM\" tables drop t --yes; echo code $?");
    assert!(said.contains("code 0") && said.contains("dropped"), "{said}");
}
