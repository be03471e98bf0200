//! Hostile loads of every kind against a real node, from one address, beside clients from another one that do nothing wrong.
//!
//! Contract: the others have no failed request, the node's memory grows by less than is stated for the kind, and the hostile side
//! is refused or cut off as docs/security.md says. How long the others wait is printed and not judged: machines differ.
//!
//! Each kind lasts for 2 seconds, or for `QUORATE_HOSTILE_SECONDS`. `QUORATE_HOSTILE_KINDS=ping,gzip` takes those whose names have
//! one of these parts.

#![cfg(all(feature = "server", target_os = "linux"))]

mod floods;
mod frames;
mod payloads;
mod polite;
mod slow;
#[path = "../testkit/mod.rs"]
mod testkit;

use std::fmt::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use polite::{Polite, Served};
use testkit::cluster::{Cluster, Plan};
use testkit::process::{command, memory_bytes};
use tokio::runtime::{Builder, Handle};

/// Few places, so that a load which fits into a test fills them: half of 1,000 connections and of 256 requests are for one address.
/// TLS is taken beside plain text, so that handshakes can be left unfinished.
const NODE_LINES: &str = "  connections_max: 1000\n  requests_in_flight_max: 256\n  insecure: true\n  \
                          tls_certificate: ca/node-1.crt\n  tls_key: ca/node-1.key\n  tls_ca: ca/ca.crt\n";
/// The connections that one address can have at once: half of 1,000, half of 64 for monitoring, and those that were accepted and are
/// being closed.
const HELD_MAX: u64 = 500 + 32 + 8;
/// Connections, streams and frames of a load beside its bytes.
const OVERHEAD_BYTES_MAX: u64 = 128 << 20;
/// The share of one client of the bytes that arrive and leave, and of those in flight.
const SHARE_BYTES_MAX: u64 = (256 << 20) + (128 << 20);
/// The frames of a flood that a node may answer on one connection: at first, and in a second. Twice as many as docs/security.md says,
/// because the time is not exact.
const FRAMES_ANSWERED_MAX: (f64, f64) = (2.0 * 256.0, 2.0 * 2_000.0);
/// How long a load may go on beyond its time, and others may wait for an answer.
const SLACK: Duration = Duration::from_secs(30);

/// Where a node is reached.
#[derive(Clone, Debug)]
pub struct Doors {
    /// gRPC.
    pub grpc: String,
    /// HTTP.
    pub http: String,
    /// Redis' protocol.
    pub redis: String,
    /// The line protocol.
    pub lines: String,
    /// Metrics and the status page.
    pub monitoring: String,
}

/// What a load has done.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Connections that were begun.
    pub connections: u64,
    /// Requests, frames or streams, whatever the load consists of.
    pub sent: u64,
    /// Connections that the node had closed at the end.
    pub closed: u64,
    /// Requests that were refused, and answers that said so.
    pub refused: u64,
    /// Frames that were answered, in floods whose answers are read.
    pub answered: u64,
}

impl std::ops::AddAssign for Made {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.sent += other.sent;
        self.closed += other.closed;
        self.refused += other.refused;
        self.answered += other.answered;
    }
}

type Loading = Pin<Box<dyn Future<Output = Made> + Send>>;

/// A kind of hostile load.
struct Load {
    kind: &'static str,
    /// The most memory by which the node may grow.
    growth_bytes_max: u64,
    /// How it must end.
    end: End,
    run: fn(Doors, Instant) -> Loading,
}

/// How the hostile side of a load must end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It holds no more connections than its share; the others are closed at once.
    Shared,
    /// Each connection is closed after this time.
    ClosedAfter(Duration),
    /// Connections are closed at once.
    Closed,
    /// Requests are refused.
    Refused,
    /// It waits for the node, which reads no more of its frames than it says.
    Slowed,
    /// It asks for nothing.
    Nothing,
}

impl End {
    fn check(self, made: &Made, lasted: Duration) -> Result<String, String> {
        let Made { connections, closed, refused, answered, .. } = *made;
        match self {
            Self::Shared if connections - closed > HELD_MAX => {
                Err(format!("{} connections are held", connections - closed))
            }
            Self::Shared if closed == 0 => Err("no connection was closed".to_owned()),
            Self::Shared => Ok(format!("{closed} closed at once")),
            Self::ClosedAfter(time) if lasted < time + Duration::from_secs(5) => {
                Ok(format!("{closed} closed so far; each is closed after {} s", time.as_secs()))
            }
            Self::ClosedAfter(_) if closed < connections => {
                Err(format!("{} connections are open after {lasted:?}", connections - closed))
            }
            Self::ClosedAfter(time) => Ok(format!("all {closed} closed after {} s", time.as_secs())),
            Self::Closed if closed == 0 => Err("no connection was closed".to_owned()),
            Self::Closed => Ok(format!("{closed} connections closed")),
            Self::Refused if refused == 0 => Err("nothing was refused".to_owned()),
            Self::Refused => Ok(format!("{refused} refused")),
            Self::Slowed => {
                let (at_first, per_second) = FRAMES_ANSWERED_MAX;
                // A second for the beginning and the end.
                let of_connection = at_first + per_second * (lasted.as_secs_f64() + 1.0);
                if answered as f64 > of_connection * connections as f64 {
                    return Err(format!("{answered} frames were answered on {connections} connections"));
                }
                Ok("waits for the node".to_owned())
            }
            Self::Nothing => Ok("asks for nothing".to_owned()),
        }
    }
}

/// Keeps both threads of the hostile side busy, as its loads do.
async fn busy(until: Instant) -> Made {
    let spin = move || {
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    };
    let other = tokio::spawn(async move { spin() });
    spin();
    other.await.expect("no panic");
    Made::default()
}

const GREETING: Duration = Duration::from_secs(5);

static LOADS: [Load; 24] = [
    // Without it nobody knows which part of a time is the node's, and which the machine's.
    Load {
        kind: "none: processors that others use",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Nothing,
        run: |_, until| Box::pin(busy(until)),
    },
    Load {
        kind: "idle connections",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Shared,
        run: |doors, until| Box::pin(slow::idle(doors, until)),
    },
    Load {
        kind: "silent connections",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::ClosedAfter(GREETING),
        // As long as it takes to see that they are closed.
        run: |doors, until| {
            let until = until.max(Instant::now() + 2 * GREETING + Duration::from_secs(1));
            Box::pin(slow::held([doors.grpc, doors.http, doors.monitoring].into(), b"", 0, until))
        },
    },
    Load {
        kind: "slow heads (HTTP/1.1)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::ClosedAfter(Duration::from_mins(2)),
        run: |doors, until| {
            Box::pin(slow::held(
                [doors.http, doors.monitoring].into(),
                b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ",
                b'x',
                until,
            ))
        },
    },
    Load {
        kind: "preface alone (h2)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::ClosedAfter(Duration::from_secs(30)),
        run: |doors, until| Box::pin(slow::held([doors.grpc, doors.http].into(), frames::PREFACE, 0, until)),
    },
    Load {
        kind: "unfinished handshakes (TLS)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::ClosedAfter(GREETING),
        run: |doors, until| {
            let doors = [doors.grpc, doors.http, doors.redis, doors.lines, doors.monitoring];
            Box::pin(slow::held(doors.into(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0, until))
        },
    },
    Load {
        kind: "half commands (Redis)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::ClosedAfter(Duration::from_mins(5)),
        run: |doors, until| {
            Box::pin(slow::held([doors.redis].into(), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n", b'x', until))
        },
    },
    Load {
        kind: "half lines",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::ClosedAfter(Duration::from_mins(1)),
        run: |doors, until| Box::pin(slow::held([doors.lines].into(), b"PUT default k ", b'x', until)),
    },
    Load {
        kind: "rapid reset (h2)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Slowed,
        run: |doors, until| Box::pin(floods::run(doors, until, floods::resets, floods::OF_SETTINGS)),
    },
    Load {
        kind: "pings (h2)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Slowed,
        run: |doors, until| Box::pin(floods::run(doors, until, floods::pings, floods::OF_PING)),
    },
    Load {
        kind: "pings, answers unread (h2)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Slowed,
        run: |doors, until| Box::pin(floods::run(doors, until, floods::pings, floods::Answers::Unread)),
    },
    Load {
        kind: "settings (h2)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Slowed,
        run: |doors, until| Box::pin(floods::run(doors, until, floods::settings, floods::OF_SETTINGS)),
    },
    Load {
        kind: "endless headers (CONTINUATION)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Closed,
        run: |doors, until| Box::pin(floods::run(doors, until, floods::continuations, floods::OF_SETTINGS)),
    },
    Load {
        kind: "huge lists of headers",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::huge_heads(doors, until)),
    },
    Load {
        kind: "heads without bodies (h2)",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::open_requests(doors, until)),
    },
    Load {
        kind: "claimed lengths (gRPC)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::claims(doors, until)),
    },
    Load {
        kind: "links without a hello",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::unknown_links(doors, until)),
    },
    Load {
        kind: "bodies without an end",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::endless_bodies(doors, until)),
    },
    Load {
        kind: "gzip bombs",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::gzip_bombs(doors, until)),
    },
    Load {
        kind: "deep JSON",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::deep_json(doors, until)),
    },
    Load {
        kind: "huge counts (Redis)",
        growth_bytes_max: OVERHEAD_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::redis_counts(doors, until)),
    },
    Load {
        kind: "huge counts (protobuf)",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::protobuf_counts(doors, until)),
    },
    Load {
        kind: "watches that are not read",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::unread_watches(doors, until)),
    },
    Load {
        kind: "2,000 requests in flight",
        growth_bytes_max: OVERHEAD_BYTES_MAX + SHARE_BYTES_MAX,
        end: End::Refused,
        run: |doors, until| Box::pin(payloads::many_in_flight(doors, until)),
    },
];

/// A row of the table.
struct Row {
    kind: &'static str,
    made: Made,
    growth: u64,
    growth_max: u64,
    others: Served,
    verdict: Result<String, String>,
}

/// Threads for the tasks of one side, so that no side waits for those of the other one.
fn threads(name: &str, count: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(count).thread_name(name).enable_all();
    builder
}

/// Gives this thread less of the processors: a hostile client has its own, and is not to take those of the node and of others.
fn step_back() {
    // It names the process and the thread. Without the program the table has longer times.
    let thread = std::fs::read_link("/proc/thread-self").expect("this system has its threads there");
    let thread = thread.file_name().expect("it is the number of the thread");
    let _ = Command::new("renice")
        .args(["-n", "15", "-p"])
        .arg(thread)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[test]
fn others_are_served_and_memory_is_bounded_under_hostile_loads() {
    let made = |mut builder: Builder| builder.build().expect("the system has threads");
    let mut hostile = threads("hostile", 2);
    hostile.on_thread_start(step_back);
    let (hostile, others) = (made(hostile), made(threads("others", 1)));
    made(threads("test", 1)).block_on(run_all(hostile.handle(), others.handle()));
    hostile.shutdown_background();
}

async fn run_all(hostile: &Handle, others: &Handle) {
    let seconds = std::env::var("QUORATE_HOSTILE_SECONDS").map_or(2, |text| text.parse().expect("it is a number"));
    let kinds = std::env::var("QUORATE_HOSTILE_KINDS").unwrap_or_default();
    let lasts = Duration::from_secs(seconds);
    raise_files();
    let plan = Plan { ids: vec!["1"], replica_count: 1, doors: true, node_lines: NODE_LINES, ..Plan::default() };
    let mut cluster = Cluster::prepare(&plan);
    make_certificates(cluster.dir());
    cluster.start_all();
    cluster.wait_all_online().await;
    let node = &cluster.nodes[0];
    let doors = Doors {
        grpc: node.address(),
        http: node.http_address(),
        redis: node.redis_address(),
        lines: node.line_address(),
        monitoring: format!("127.0.0.1:{}", node.metrics_port),
    };
    let process = node.process_id();
    let alone = Polite::start(&doors, others).stop_after(lasts).await;
    assert!(alone.failed.is_empty(), "others alone: {:?}", alone.failed);
    let mut rows = Vec::new();
    let is_asked = |load: &&Load| kinds.split(',').any(|part| load.kind.contains(part));
    for Load { kind, growth_bytes_max, end, run } in LOADS.iter().filter(is_asked) {
        let before = memory(process, "VmRSS");
        forget_peak(process);
        let (others, began) = (Polite::start(&doors, others), Instant::now());
        let load = hostile.spawn(run(doors.clone(), began + lasts));
        let made = tokio::time::timeout(lasts + SLACK, load).await;
        let made = made.unwrap_or_else(|_| panic!("{kind}: the load does not end")).expect("no panic");
        let others = others.stop_after(Duration::ZERO).await;
        let growth = memory(process, "VmHWM").saturating_sub(before);
        let verdict = end.check(&made, began.elapsed());
        let row = Row { kind, made, growth, growth_max: *growth_bytes_max, others, verdict };
        println!("{}", line(&row, &alone));
        rows.push(row);
    }
    println!("\n{}", table(&rows, &alone));
    for Row { kind, growth, growth_max, others, verdict, .. } in &rows {
        assert!(others.failed.is_empty(), "{kind}: others failed: {:?}", others.failed);
        assert!(growth < growth_max, "{kind}: the node has grown by {} MiB", growth >> 20);
        assert!(verdict.is_ok(), "{kind}: {verdict:?}");
    }
    let after = Polite::start(&doors, others).stop_after(Duration::from_millis(500)).await;
    assert!(after.failed.is_empty(), "afterwards: {:?}", after.failed);
    cluster.nodes[0].terminate().await;
}

/// Enough open files for all connections of a load.
fn raise_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the system tells its limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 16), hard).expect("a limit can be raised to the hard one");
}

fn make_certificates(dir: &Path) {
    let folder = dir.join("ca").display().to_string();
    for arguments in
        [&["ca", "init", &folder, "--cluster", "quorate"][..], &["ca", "issue", "node", "1", "--dir", &folder]]
    {
        let output = command().args(arguments).output().expect("the program runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn memory(process: u32, line: &str) -> u64 {
    memory_bytes(process, line).expect("this system tells the memory of a process")
}

/// Lets the peak of a process's memory begin anew.
fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the process is this test's own");
}

fn table(rows: &[Row], alone: &Served) -> String {
    let head = "| kind | connections | sent | memory | others' p99 alone | beside | times | others failed | the hostile side |";
    let mut text = format!("{head}\n|---|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        writeln!(text, "{}", line(row, alone)).expect("a string takes text");
    }
    text
}

fn line(row: &Row, alone: &Served) -> String {
    let (with, without) = (row.others.p99(), alone.p99());
    let verdict = match &row.verdict {
        Ok(text) => text.clone(),
        Err(text) => format!("WRONG: {text}"),
    };
    format!(
        "| {} | {} | {} | +{} MiB of {} | {without:.1?} | {with:.1?} | {:.1} | {} of {} | {verdict} |",
        row.kind,
        row.made.connections,
        row.made.sent,
        row.growth >> 20,
        row.growth_max >> 20,
        with.as_secs_f64() / without.as_secs_f64().max(1e-6),
        row.others.failed.len(),
        row.others.times.len() + row.others.failed.len(),
    )
}
