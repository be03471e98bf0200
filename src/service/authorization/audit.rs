//! The audit: a file with a line of JSON for each action of operators and administrators, and for each write if that is asked
//! for. Another file, [`REFUSALS`], has a line for each refusal: strangers can make any number of them, and those push out no action.
//!
//! Contract: an operation never waits for the file. Lines wait in a queue of [`LINES_MAX`]; those beyond are dropped, counted in
//! the metrics, and the next line that is written says how many. The file is replaced at [`FILE_BYTES_MAX`]: it and
//! [`OLD_FILES`] older ones, `FILE.1` the youngest, are kept. No line has a value or a secret.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracing::warn;

use crate::auth::{Holder, Needs, Right, Target};
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::service::request_metrics::Door;
use crate::tls::date;
use crate::traces;
use crate::types::Table;

use super::Asked;
use super::caller::{Caller, Shown};

/// The most lines that wait for the disk.
const LINES_MAX: usize = 4_096;
/// The size at which the file is replaced.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What the name of the file of refusals has at its end.
const REFUSALS: &str = ".refused";
/// How many files before it are kept.
const OLD_FILES: usize = 4;
/// So many bytes of a key or a prefix stand in a line.
const SHOWN_BYTES_MAX: usize = 256;
/// How long the end of the node waits for the lines that are left.
const END_TIME_MAX: Duration = Duration::from_millis(500);

/// The lines about a file that takes none.
static PROBLEM_LINES: LogLimit = LogLimit::new(1, Duration::from_mins(1));

/// The file of the audit cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("audit_file: cannot write {}: {error}", file.display())]
pub struct AuditError {
    file: PathBuf,
    error: io::Error,
}

/// The audit of one node.
pub struct Audit {
    actions: Queue,
    refusals: Queue,
    has_writes: bool,
}

/// The lines that wait for one file.
struct Queue {
    lines: Option<SyncSender<String>>,
    /// Lines that were dropped since the last one that was not.
    dropped: AtomicU64,
    metrics: Arc<Metrics>,
    ended: Mutex<Receiver<()>>,
}

/// The line of an operation that is under way.
pub(super) struct Line<'a> {
    audit: &'a Audit,
    fields: Json,
    began: Instant,
    is_ended: bool,
}

impl Audit {
    /// Opens the file, and writes to it from a thread of its own. `has_writes`: each write has a line too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(file: &Path, has_writes: bool, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let mut refusals = file.to_owned().into_os_string();
        refusals.push(REFUSALS);
        let actions = Queue::open(file, Arc::clone(&metrics))?;
        Ok(Self { actions, refusals: Queue::open(Path::new(&refusals), metrics)?, has_writes })
    }

    /// Whether an operation that needs this has a line when it was allowed.
    pub(super) fn takes(&self, needs: Needs) -> bool {
        match needs {
            Needs::Operator | Needs::OperatorOrNode | Needs::Everything | Needs::Keys(Right::Admin) => true,
            Needs::Keys(Right::Write) => self.has_writes,
            Needs::Nothing | Needs::Identity | Needs::Observer | Needs::Keys(Right::Read) => false,
        }
    }

    /// Writes that somebody was refused.
    pub(super) fn refuse(&self, caller: &Caller, holder: Option<&Holder>, asked: Asked<'_>, outcome: &str) {
        let mut line = line(caller, holder, asked);
        line["outcome"] = outcome.into();
        self.refusals.send(line);
    }

    /// Writes what has become of an operation.
    pub(super) fn write(&self, caller: &Caller, holder: Option<&Holder>, asked: Asked<'_>, outcome: &str) {
        let mut line = line(caller, holder, asked);
        line["outcome"] = outcome.into();
        self.actions.send(line);
    }

    /// The line of an operation that begins.
    pub(super) fn begin(&self, caller: &Caller, holder: &Holder, asked: Asked<'_>) -> Line<'_> {
        Line { audit: self, fields: line(caller, Some(holder), asked), began: Instant::now(), is_ended: false }
    }
}

impl Queue {
    /// Opens a file, and writes to it from a thread of its own.
    fn open(file: &Path, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let refused = |error| AuditError { file: file.to_owned(), error };
        let mut output = Output::open(file.to_owned(), FILE_BYTES_MAX).map_err(refused)?;
        let (queue, lines) = sync_channel::<String>(LINES_MAX);
        let (end, ended) = sync_channel(1);
        let of_thread = Arc::clone(&metrics);
        let write = move || {
            while let Ok(line) = lines.recv() {
                // Lines that wait together are written together.
                let all: Vec<String> = std::iter::once(line).chain(lines.try_iter().take(LINES_MAX)).collect();
                if let Err(error) = output.write(&all) {
                    of_thread.audit_lines_dropped.inc_by(all.len() as u64);
                    if let Some(left_out) = PROBLEM_LINES.pass(Instant::now()) {
                        let file = output.path.display();
                        warn!(%file, %error, left_out, "the audit cannot be written; its lines are lost until it can");
                    }
                }
            }
            let _ = end.send(());
        };
        std::thread::Builder::new().name("audit".to_owned()).spawn(write).map_err(refused)?;
        Ok(Self { lines: Some(queue), dropped: AtomicU64::new(0), metrics, ended: Mutex::new(ended) })
    }

    fn send(&self, mut line: Json) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            line["dropped_before"] = dropped.into();
        }
        let Some(queue) = &self.lines else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(line.to_string()) {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
            self.metrics.audit_lines_dropped.inc();
        }
    }
}

impl Drop for Queue {
    /// Waits for the lines that are left, but not for a disk that hangs.
    fn drop(&mut self) {
        self.lines = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(END_TIME_MAX);
    }
}

impl Line<'_> {
    /// Ends it. Only the first end counts.
    pub(super) fn end(&mut self, outcome: &str) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let mut line = std::mem::take(&mut self.fields);
        line["outcome"] = outcome.into();
        line["took_ms"] = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).into();
        self.audit.actions.send(line);
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.end("CANCELLED");
    }
}

/// A line without its outcome.
fn line(caller: &Caller, holder: Option<&Holder>, asked: Asked<'_>) -> Json {
    let mut line = json!({
        "time": date::text(date::now()),
        "who": holder.map(|holder| &holder.name),
        "from": caller.address.map(|address| address.to_string()),
        "door": caller.door.map(Door::name),
        "method": asked.method,
    });
    match &caller.shown {
        Shown::Token(id, _) => line["token"] = id.as_str().into(),
        Shown::Certificate(facts) | Shown::Node(_, facts) => line["certificate"] = facts.subject.as_str().into(),
        Shown::NoMember(id) => line["certificate"] = id.as_str().into(),
        Shown::Nothing | Shown::NoToken | Shown::ThisNode => {}
    }
    if let Some(trace) = traces::current_trace() {
        line["trace_id"] = trace.into();
    }
    for (name, value) in asked.details {
        line[*name] = value.as_str().into();
    }
    let mut place = |table: &Table, name: &str, bytes: &[u8]| {
        line["table"] = table.as_str().into();
        // Control characters take six times their room, and many lines wait.
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
        line[name] = String::from_utf8_lossy(shown).into();
    };
    match asked.target {
        Target::Cluster => {}
        Target::Key(table, key) => place(table, "key", key),
        Target::Keys(table, prefix) => place(table, "prefix", prefix),
        Target::PartOf(table) => line["table"] = table.as_str().into(),
    }
    line
}

/// The file, and its size.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl Output {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file: BufWriter::new(file), bytes, bytes_max })
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            if self.bytes >= self.bytes_max {
                self.file.flush()?;
                self.replace()?;
            }
            self.file.write_all(line.as_bytes())?;
            self.file.write_all(b"\n")?;
            self.bytes += line.len() as u64 + 1;
        }
        self.file.flush()
    }

    /// Moves each file on by one, the oldest over the edge, and begins anew.
    fn replace(&mut self) -> io::Result<()> {
        let old = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // Opened first: where that fails nothing has moved, and older files are not pushed out by later tries.
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let next = Self::open(fresh.clone(), self.bytes_max)?;
        // Without the file itself an earlier try has got so far, or somebody has moved it away.
        if self.path.try_exists()? {
            for number in (1..OLD_FILES).rev() {
                match fs::rename(old(number), old(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::rename(&self.path, old(1))?;
        }
        fs::rename(&fresh, &self.path)?;
        *self = Self { path: self.path.clone(), ..next };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::auth::{Grant, Proof, SecretHash, TokenId};
    use crate::types::{SpanId, TraceContext, TraceId};
    use crate::wire::method::{GET, MEMBERS_CHANGE, SET};

    fn holder() -> Holder {
        let (id, proof) = (TokenId::new("a1").unwrap(), Proof::Secret(SecretHash::OF_NOBODY));
        Holder { id, name: "ada".into(), proof, grants: vec![Grant::EVERYTHING], created: 0 }
    }

    fn lines(file: &Path) -> Vec<Json> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn lines_say_who_from_where_what_and_the_outcome() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("audit.jsonl");
        let audit = Audit::open(&file, false, Arc::default()).unwrap();
        let token = crate::auth::Token::new().unwrap();
        let caller = Caller::of_token(Door::Redis, Some("127.0.0.1:9".parse().unwrap()), &token.reveal());
        let key = Target::Key(&Table::Default, b"k");
        let context = TraceContext { trace: TraceId(0xabc), span: SpanId(1) };
        traces::within_now(Some(context), || {
            let line = line(&caller, None, Asked::of(&SET, key));
            assert_eq!(line["trace_id"], format!("{:0>32}", "abc"), "lines of a traced operation name its trace");
        });
        audit.refuse(&caller, None, Asked::of(&GET, key), "UNAUTHENTICATED");
        audit.begin(&caller, &holder(), Asked::of(&MEMBERS_CHANGE, Target::Cluster)).end("OK");
        drop(audit.begin(&caller, &holder(), Asked::of(&SET, key)));
        drop(audit);
        let (refused, lines) = (lines(&dir.path().join("audit.jsonl.refused")), lines(&file));
        let expected = json!({"who": null, "from": "127.0.0.1:9", "door": "redis", "method": "Cluster/Get", "table": "default",
            "key": "k", "token": token.id().as_str(), "outcome": "UNAUTHENTICATED"});
        let mut first = refused[0].clone();
        first.as_object_mut().unwrap().remove("time");
        assert_eq!(first, expected);
        assert_eq!((&lines[0]["who"], &lines[0]["outcome"]), (&json!("ada"), &json!("OK")));
        assert_eq!((refused.len(), lines.len(), &lines[1]["outcome"]), (1, 2, &json!("CANCELLED")));
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&token.reveal()), "no secret");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn long_keys_are_cut() {
        let key = [1_u8; 4_000];
        let line = line(&Caller::default(), None, Asked::of(&GET, Target::Key(&Table::Default, &key)));
        assert_eq!(line["key"].as_str().unwrap().len(), SHOWN_BYTES_MAX);
        assert!(line.to_string().len() < 2_000, "{line}");
    }

    #[test]
    fn files_are_bounded_and_the_youngest_stay() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("audit");
        let mut output = Output::open(file.clone(), 100).unwrap();
        for number in 0..100 {
            output.write(&[format!("{{\"line\": {number:>28}}}")]).unwrap();
        }
        drop(output);
        let mut kept: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        kept.sort();
        assert_eq!(kept.len(), 1 + OLD_FILES, "{kept:?}");
        assert!(kept.iter().all(|file| fs::metadata(file).unwrap().len() <= 140));
        assert_eq!(lines(&file).last().unwrap()["line"], 99);
        assert!(lines(&kept[1])[0]["line"].as_u64() > lines(&kept[2])[0]["line"].as_u64(), "{kept:?}");
    }

    #[test]
    fn file_that_cannot_be_replaced_pushes_out_no_older_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("audit");
        let mut output = Output::open(file.clone(), 10).unwrap();
        let line = |number: u32| [format!("{{\"line\": {number:>28}}}")];
        for number in 0..3 {
            output.write(&line(number)).unwrap();
        }
        // A folder in the place of the next file: it cannot be opened.
        let obstacle = dir.path().join("audit.new");
        fs::create_dir(&obstacle).unwrap();
        for number in 3..9 {
            output.write(&line(number)).unwrap_err();
        }
        fs::remove_dir(&obstacle).unwrap();
        output.write(&line(9)).unwrap();
        let of = |name: &str| lines(&dir.path().join(name))[0]["line"].clone();
        assert_eq!(["audit", "audit.1", "audit.2", "audit.3"].map(of), [9, 2, 1, 0].map(Json::from));
        // The file was moved away: the next one begins without it.
        fs::rename(&file, dir.path().join("elsewhere")).unwrap();
        output.write(&line(10)).unwrap();
        assert_eq!(["audit", "audit.1"].map(of), [10, 2].map(Json::from));
    }

    #[test]
    fn full_queue_drops_lines_counts_them_and_says_so_later() {
        let (queue, waiting) = sync_channel(1);
        let (_end, ended) = sync_channel(1);
        let metrics: Arc<Metrics> = Arc::default();
        let dropped = AtomicU64::new(0);
        let queue = Queue { lines: Some(queue), dropped, metrics: Arc::clone(&metrics), ended: Mutex::new(ended) };
        for _ in 0..4 {
            queue.send(json!({}));
        }
        assert_eq!(metrics.audit_lines_dropped.get(), 3);
        assert!(!waiting.recv().unwrap().contains("dropped"));
        queue.send(json!({}));
        assert!(waiting.recv().unwrap().contains("\"dropped_before\":3"));
        drop(waiting);
    }

    #[test]
    fn file_that_cannot_be_written_is_named() {
        let error = Audit::open(Path::new("/nowhere/audit"), false, Arc::default()).err().unwrap().to_string();
        assert!(error.starts_with("audit_file: cannot write /nowhere/audit"), "{error}");
    }
}
