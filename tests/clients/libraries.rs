//! The clients for Python, Go and Node.js: one program for each language plays the same cases against real nodes, which are
//! killed and paused meanwhile, against nodes with TLS and tokens, and against nodes that answer as a case says. The ten lines of
//! each README, and the examples, run in an empty project.
//!
//! The programs ask by lines of JSON on standard output, and are answered on standard input: clients/README.md has the
//! questions. What a case expects is compared here, once for all languages.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fakes::Fakes;
use super::secured::Secured;
use super::testkit::cluster::{Cluster, Plan};
use super::testkit::{process, tools};

/// The longest time of all cases of one language: many times what they need, for a machine that compiles meanwhile.
const TIME_MAX: Duration = Duration::from_mins(5);

/// What the program of each language needs.
const PYTHON: &[&str] = &["quorate-client-python"];
const GO: &[&str] = &["go"];
const NODE: &[&str] = &["node", "quorate-client-node"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_client_for_asyncio_passes_each_case() {
    pass_each_case("python", "asyncio", PYTHON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_client_for_threads_passes_each_case() {
    pass_each_case("python", "threads", PYTHON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_client_passes_each_case() {
    pass_each_case("go", "plain", GO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_client_that_asks_replicas_passes_each_case() {
    pass_each_case("go", "routing", GO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_client_passes_each_case() {
    pass_each_case("node", "plain", NODE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_each_readme_run_in_an_empty_project() {
    let cluster = Cluster::start().await;
    for (language, programs) in [("python", PYTHON), ("go", GO), ("node", NODE)] {
        let Some(path) = tools::find(programs) else { continue };
        let readme = PathBuf::from(format!("clients/{language}/README.md"));
        let lines = std::iter::zip(["8001", "8002", "8003"], &cluster.nodes)
            .fold(first_block(&readme, language), |lines, (shown, node)| {
                lines.replace(&format!(":{shown}"), &format!(":{}", node.port))
            });
        let file = cluster.dir().join("pasted");
        super::testkit::cluster::write(&file, &lines);
        let mut paste = program(language, path);
        paste.arg("paste").arg(&file);
        let output = tokio::task::spawn_blocking(move || paste.output()).await.expect("no panic").expect("bash runs");
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && printed.contains("hello"), "{}: {printed}{errors}", readme.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_example_runs_in_an_empty_project() {
    let cluster = Cluster::start().await;
    let addresses = cluster.addresses().join(",");
    for (language, programs) in [("python", PYTHON), ("go", GO), ("node", NODE)] {
        let Some(path) = tools::find(programs) else { continue };
        for (example, last) in
            [("lock", "each page was printed once"), ("counter", "each counted once"), ("cache", "of 99")]
        {
            let mut run = program(language, path.clone());
            run.args(["example", example]).env("QUORATE_ADDRESS", &addresses);
            let output = tokio::task::spawn_blocking(move || run.output()).await.expect("no panic").expect("bash runs");
            let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let is_done = output.status.success() && printed.trim_end().ends_with(last);
            assert!(is_done, "{language}, {example}: {printed}{errors}");
        }
    }
}

/// The code that follows from the API is committed, so that nobody needs a generator to use a client.
#[test]
fn generated_code_of_the_clients_follows_from_the_api() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let api = read("api/api.proto");
    let public = api.split("\n// Between nodes.").next().expect("a text has a beginning");
    let lines = public.lines().filter(|line| !line.is_empty() && !line.trim_start().starts_with("//"));
    let lines = lines.map(|line| if line == "package api;" { "package quorate.api;" } else { line });
    let expected = lines.flat_map(|line| [line, "\n"]).collect::<String>() + &read("clients/rpc.proto");
    assert!(read("clients/api.proto") == expected, "clients/api.proto is behind api/api.proto: run clients/generate");
}

/// Plays the cases with a variant of the program of one language.
async fn pass_each_case(language: &str, variant: &str, programs: &[&str]) {
    let Some(path) = tools::find(programs) else { return };
    let began = Instant::now();
    let mut cluster = Cluster::start_as(&Plan { seed: 7, ..Plan::default() }).await;
    let mut program = program(language, path);
    program.args(["cases", variant]);
    let played = tokio::time::timeout(TIME_MAX, play(program, &mut cluster)).await;
    let passed = played.unwrap_or_else(|_| panic!("{language}, {variant}: longer than {TIME_MAX:?}"));
    println!("{language}, {variant}: {passed} cases passed in {:.1?}", began.elapsed());
}

/// The script that builds the client for a language and runs a program with it.
fn program(language: &str, path: OsString) -> Command {
    let mut program = Command::new("clients/conformance/run");
    // A test of the Go client asks the program where keys are.
    program.arg(language).env("PATH", path).env("QUORATE_PROGRAM", process::program());
    program
}

/// The first block of code in the language of a page.
fn first_block(page: &Path, language: &str) -> String {
    let text = std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let name = if language == "node" { "js" } else { language };
    let (_, block) = text.split_once(&format!("\n```{name}\n")).expect("the page has a block of code");
    block.split_once("\n```").expect("a block ends").0.to_owned() + "\n"
}

/// A program that ends with its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It fails where the program has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers the questions of a program until it ends. Returns how many cases it has passed.
async fn play(mut program: Command, cluster: &mut Cluster) -> usize {
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut program = Program(program.expect("bash runs"));
    let mut answers = program.0.stdin.take().expect("it is piped");
    let lines = BufReader::new(program.0.stdout.take().expect("it is piped")).lines();
    let (sender, mut questions) = mpsc::unbounded_channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let (mut fakes, mut passed, mut problems) = (None, 0, Vec::new());
    let (mut secured, mut is_secured) = (None, false);
    while let Some(line) = questions.recv().await {
        let asked: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let answer = match asked["ask"].as_str() {
            Some("start") => {
                let case = &asked["case"];
                fakes = if case["fakes"].is_array() { Some(Fakes::start(case).await) } else { None };
                is_secured = case["secured"].is_object();
                if is_secured {
                    if secured.is_none() {
                        secured = Some(Secured::start().await);
                    }
                    let mut given = secured.as_mut().expect("it has started").begin(case).await;
                    if case["secured"]["beside"] == "plain" {
                        let both = given["addresses"].as_array_mut().expect("a cluster has addresses");
                        both.extend(cluster.addresses().into_iter().map(Value::from));
                    }
                    given
                } else {
                    let addresses = fakes.as_ref().map_or_else(|| cluster.addresses(), |fakes| fakes.addresses.clone());
                    json!({ "addresses": addresses })
                }
            }
            Some("fault") => {
                fault(&asked, cluster, secured.as_mut().filter(|_| is_secured)).await;
                json!({})
            }
            Some("calls") => fakes.as_ref().expect("the case has fakes").asked(),
            Some("judge") => json!({ "problem": judge(&asked) }),
            Some("end") => {
                fakes = None;
                match asked["problem"].as_str() {
                    None => {
                        passed += 1;
                        println!("passed: {}", asked["case"]);
                    }
                    Some(problem) => problems.push(format!("{}: {problem}", asked["case"])),
                }
                if let Some(secured) = secured.as_mut().filter(|_| is_secured) {
                    bring_back(&mut secured.cluster);
                    secured.wait_all_linked().await;
                } else {
                    bring_back(cluster);
                    cluster.wait_all_linked().await;
                }
                json!({})
            }
            _ => panic!("the program asks {line}"),
        };
        answers.write_all(format!("{answer}\n").as_bytes()).expect("the program reads");
    }
    let status = program.0.wait().expect("a child can be waited for");
    assert!(problems.is_empty(), "{} cases failed, {passed} passed:\n{}", problems.len(), problems.join("\n"));
    assert!(status.success(), "the program ended with {status}");
    assert!(passed > 0, "the program played no case");
    passed
}

fn bring_back(cluster: &mut Cluster) {
    for node in &mut cluster.nodes {
        node.resume_or_start();
    }
}

async fn fault(asked: &Value, plain: &mut Cluster, secured: Option<&mut Secured>) {
    let index = asked["node"].as_u64().map_or(0, |node| usize::try_from(node).expect("a small number"));
    let cluster = match (asked["fault"].as_str(), secured) {
        (Some("wait"), None) => return plain.wait_all_linked().await,
        (Some("wait"), Some(secured)) => return secured.wait_all_linked().await,
        (Some("renew"), Some(secured)) => return secured.renew_token().await,
        (Some("revoke"), Some(secured)) => return secured.revoke_token(),
        (_, None) => plain,
        (_, Some(secured)) => &mut secured.cluster,
    };
    let node = &mut cluster.nodes[index];
    match asked["fault"].as_str() {
        Some("kill") => node.kill(),
        Some("pause") => node.pause(),
        Some("end") => {
            node.terminate().await;
        }
        Some("start") => node.resume_or_start(),
        _ => panic!("a case has no fault {asked}"),
    }
}

/// What is wrong with what a step found; null if nothing is.
fn judge(asked: &Value) -> Option<String> {
    let (step, found) = (&asked["step"], &asked["found"]);
    let expected = step.get("expect").cloned().unwrap_or_else(|| json!({}));
    let problem = if expected.get("error").is_none() && !found["error"].is_null() {
        Some(format!("it failed: {}", found["error"]))
    } else {
        difference(&expected, found, "")
    };
    let slow = || difference(step.get("took_ms")?, &asked["took_ms"], "took_ms");
    problem.or_else(slow).map(|problem| format!("step {}: {problem}; found {found}", asked["index"]))
}

/// How `found` differs from what is expected. An object that is expected names only the members that matter.
fn difference(expected: &Value, found: &Value, at: &str) -> Option<String> {
    let differs = || Some(format!("{at}: expected {expected}, not {found}"));
    match expected {
        Value::String(text) if text == "..." => {
            if found.is_null() || found == "" {
                differs()
            } else {
                None
            }
        }
        Value::Object(members) if members.contains_key("between") => {
            let bounds = (expected["between"][0].as_f64()?, expected["between"][1].as_f64()?);
            let is_between = found.as_f64().is_some_and(|found| bounds.0 <= found && found <= bounds.1);
            if is_between { None } else { differs() }
        }
        Value::Object(members) if members.contains_key("one_of") => {
            let is_one = expected["one_of"].as_array().is_some_and(|values| values.contains(found));
            if is_one { None } else { differs() }
        }
        Value::Object(members) if members.contains_key("has") => {
            let part = expected["has"].as_str().expect("a part of a text");
            if found.as_str().is_some_and(|text| text.contains(part)) { None } else { differs() }
        }
        Value::Object(members) => {
            if !found.is_object() {
                return differs();
            }
            members.iter().find_map(|(name, value)| difference(value, &found[name], &format!("{at}.{name}")))
        }
        Value::Array(items) => {
            let found = found.as_array().filter(|found| found.len() == items.len());
            let Some(found) = found else { return differs() };
            let mut pairs = std::iter::zip(items, found).enumerate();
            pairs.find_map(|(index, (item, found))| difference(item, found, &format!("{at}[{index}]")))
        }
        _ => {
            if expected == found {
                None
            } else {
                differs()
            }
        }
    }
}
