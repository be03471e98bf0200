//! `quorate shell`, from a pipe and at a terminal.

use std::fs;
use std::time::Duration;

use super::testkit::cluster::Cluster;
use super::{TempDir, has, on_terminal_with, plan, quorate, text, with_input};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_of_a_pipe_is_a_command_and_each_answer_a_line() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let lines = "# a comment\n\nset a 'two words'\nget a\nquorate get none\nset lines \"x\\ny\"\nget lines\nadd n 5\n\
                 tables create carts\nset a carted --table carts\nget a --table carts\nlist --values\n";
    let output = with_input(quorate(&cluster, &["shell"]), lines);
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told[1..3], ["two words", ""], "{told:?} {said}");
    assert_eq!(told[4..6], ["\"x\\ny\"", "5"], "{told:?}");
    assert!(told.contains(&"carted") && told.contains(&"a\ttwo words"), "{told:?}");
    assert_eq!(output.status.code(), Some(1), "the code is that of the last line that failed: {said}");
    assert!(said.contains("\"none\" has no value"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_the_shell_hold_for_its_commands_and_its_end_is_the_end() {
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    let output =
        with_input(quorate(&cluster, &["shell", "--json"]), "set a 1\nget a\nget a --table none\nexit\nget a\n");
    let told = text(&output.stdout);
    let json: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.len(), &json[1]["value"]), (2, &"1".into()), "{told}");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    for (line, part) in [
        ("serve a b", "outside of it"),
        ("set a", "stdin has the shell's commands"),
        ("get 'a", "quote"),
        ("gte a", "gte"),
    ] {
        let output = with_input(quorate(&cluster, &["shell"]), format!("{line}\n"));
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{line}: {said}");
    }
    let output = with_input(quorate(&cluster, &["shell"]), b"foo\nset \xff 1\nset after 1\nget after\n");
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("quorate: line 1: unrecognized subcommand 'foo'") && !said.contains("Usage"), "{said}");
    assert!(said.contains("quorate: line 2: it is no UTF-8, and is passed over"), "{said}");
    assert_eq!((told.lines().last(), output.status.code()), (Some("1"), Some(2)), "the lines after it are run");
    let help = with_input(quorate(&cluster, &["shell"]), "help\n");
    let help = text(&help.stdout);
    assert!(help.contains("locate ") && !help.contains("serve "), "{help}");
    let output = with_input(quorate(&cluster, &["shell"]), "get b --if-never\nset b 1 --if-present\nget a\n");
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

/// script(1) gives the shell a terminal, and types what is on its stdin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminal_completes_commands_and_tables_and_remembers_no_values() {
    if !has("script", &["--version"]) {
        return;
    }
    let cluster = Cluster::start_as(&plan(&["1"])).await;
    cluster.client().tables().create("sessions").if_missing().await.unwrap();
    cluster.client().table("sessions").set("ada", "online").await.unwrap();
    let home = TempDir::with_prefix("quorate-test-").unwrap();
    let line = format!("HOME={} XDG_STATE_HOME= \"$PROGRAM\" shell", home.path().display());
    let typed = ["set k secret\r", "ge\tad", "a --ta\tsess\t\r", "list us", "er:\r", "\u{4}"]
        .map(|part| (part, Duration::from_millis(700)));
    let shown = on_terminal_with(&cluster, &line, &typed);
    assert!(shown.contains("online"), "{shown:?}");
    let history = fs::read_to_string(home.path().join(".local/state/quorate/history")).unwrap();
    assert_eq!(history.lines().collect::<Vec<_>>(), ["get ada --table sessions", "list user:"], "{shown:?}");
}
