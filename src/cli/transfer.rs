//! `quorate export` and `quorate import`: keys and values as lines of JSON.
//!
//! Contract: a line is what `quorate get KEY --json` prints. Both go on where an earlier run ended: an export behind the last
//! whole line of its file, an import at the line that it names when it ends.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::output::{report, say, write};
use super::serve::shutdown_on_signal;
use super::tables::InTable;
use super::{CliError, Exit, Global};
use crate::backup::line::{LINE_BYTES_MAX, Line, as_json};
use crate::client::{Acknowledged, Client, ClientError};

/// The writes of an import that are under way at once.
const IMPORTS_IN_FLIGHT: usize = 64;
/// The bytes of values that an import holds at once, beyond one value.
const IMPORT_BYTES_MAX: usize = 64 << 20;
/// The pause before a write is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Write keys and values to a file, as lines of JSON
///
/// A line is an object: key, value (or binary, in base64), version, and ttl_ms if it expires. Keys come in their order.
/// Each is read linearizably, at some moment of the export: an export is not one moment of the cluster.
///
/// With --resume, an export goes on behind the last whole line of its file.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate export > all.jsonl
  quorate export user: --output users.jsonl
  quorate export user: --output users.jsonl --resume
  quorate export --table sessions --output sessions.jsonl
  quorate --address new:8001 import all.jsonl")]
pub(super) struct Export {
    /// Export only keys that begin with this
    prefix: Option<String>,
    /// Write to this file; without it, or with -, to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on behind the last whole line of the file
    #[arg(long, requires = "output")]
    resume: bool,
    #[command(flatten)]
    table: InTable,
}

/// Write the keys and values of a file of JSON lines
///
/// A line is an object as export and get --json print it: key, value or binary (base64), and ttl_ms if it is to expire.
/// Other fields are ignored. A key that has a value already gets the new one. Of a key with several lines the last one counts.
///
/// A write that fails, or whose outcome is not known, is sent again for up to --timeout: to write a line twice does no harm.
/// If it fails for good, or at Ctrl-C, all lines before the one that is named are done. --from-line goes on there.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  quorate import all.jsonl
  quorate import all.jsonl --from-line 120001
  quorate import sessions.jsonl --table sessions
  quorate export --address old:8001 | quorate --address new:8001 import -")]
pub(super) struct Import {
    /// The file; - is stdin
    file: PathBuf,
    /// Skip the lines before this one; the first is 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    #[command(flatten)]
    table: InTable,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let file = self.output.filter(|file| file != Path::new("-"));
        let prefix = self.prefix.unwrap_or_default();
        let mut list = self.table.client(global)?.list(&prefix).values();
        let mut output: Box<dyn Write> = match &file {
            None if self.resume => return Err(CliError::bad_input("--resume needs a file: give --output FILE")),
            None => Box::new(BufWriter::with_capacity(64 << 10, Stdout)),
            Some(path) => {
                let cannot = |error| CliError::bad_input(format!("{}: cannot be written: {error}", path.display()));
                let mut opened = File::options().read(true).write(true).create(true).truncate(!self.resume).open(path);
                if self.resume
                    && let Ok(file) = &mut opened
                    && let Some(last) = last_key(file, path, &prefix)?
                {
                    list = list.start_after(last);
                }
                Box::new(BufWriter::new(opened.map_err(cannot)?))
            }
        };
        let progress = progress(None);
        let mut listing = list.stream();
        let mut failed = None;
        while let Some(listed) = listing.next().await {
            match listed {
                Ok(listed) => {
                    if let Err(error) = writeln!(output, "{}", as_json(&listed)) {
                        failed = Some(error);
                        break;
                    }
                    progress.inc(1);
                }
                Err(error) => {
                    let _ = output.flush();
                    let error = CliError::from(error);
                    let cure = file.as_ref().map_or("", |_| "\n--resume goes on where it ended");
                    return Err(CliError { message: error.message + cure, ..error });
                }
            }
        }
        progress.finish_and_clear();
        match failed.map_or_else(|| output.flush(), Err) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Done),
            Err(error) => Err(CliError::not_done(format!("the export cannot be written: {error}"))),
            Ok(()) => Ok(Exit::Done),
        }
    }
}

/// Stdout, through the one place where commands print.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The key of the last whole line. The text after it is cut off, and the file's position is at the end. A file that is no
/// export of `prefix` is left as it is.
fn last_key(file: &mut File, path: &Path, prefix: &str) -> Result<Option<String>, CliError> {
    let failed = |error: std::io::Error| CliError::bad_input(format!("{}: cannot be read: {error}", path.display()));
    let (mut whole_bytes, mut last) = (0_u64, None);
    let mut reader = BufReader::new(&mut *file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let json: Option<Json> = serde_json::from_slice(&line).ok();
        let key = json.as_ref().and_then(|json| json["key"].as_str()).filter(|key| key.starts_with(prefix));
        let Some(key) = key else {
            let of = if prefix.is_empty() { String::new() } else { format!(" of {prefix:?}") };
            let problem = format!("{}: its last lines are no export{of}: name another file", path.display());
            return Err(CliError::bad_input(problem));
        };
        last = Some(key.to_owned());
        whole_bytes += bytes as u64;
    }
    file.set_len(whole_bytes).map_err(failed)?;
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    Ok(last)
}

impl Import {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let client = self.table.client(global)?;
        let name = self.file.display().to_string();
        let (input, bytes): (Box<dyn BufRead>, _) = if self.file == Path::new("-") {
            (Box::new(BufReader::new(std::io::stdin())), None)
        } else {
            let opened = File::open(&self.file).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (bytes, file) =
                opened.map_err(|error| CliError::bad_input(format!("{name}: cannot be opened: {error}")))?;
            (Box::new(BufReader::with_capacity(1 << 20, file)), Some(bytes))
        };
        let mut importer = Importer {
            client,
            retry_for: global.timeout,
            name,
            input,
            progress: progress(bytes),
            line: 0,
            from_line: self.from_line,
            put_back: None,
            written: 0,
        };
        let interrupted = shutdown_on_signal()?;
        while !interrupted.is_cancelled() {
            if importer.step().await? {
                continue;
            }
            importer.progress.finish_and_clear();
            let written = importer.written;
            if global.json {
                report(&format!("{}\n", json!({ "written": written })), "done");
            } else {
                say(&format!("{written} {} written", if written == 1 { "key" } else { "keys" }));
            }
            return Ok(Exit::Done);
        }
        let (written, next) = (importer.written, importer.next());
        Err(CliError::not_done(format!(
            "interrupted, with {written} keys written: the lines before {next} are done, and --from-line {next} goes on there"
        )))
    }
}

/// An import that is under way.
struct Importer {
    client: Client,
    /// How long a write whose outcome is not known is sent again.
    retry_for: Duration,
    name: String,
    input: Box<dyn BufRead>,
    progress: ProgressBar,
    /// The number of the line that was read last.
    line: u64,
    from_line: u64,
    /// A line that was read and belongs to the next step.
    put_back: Option<(u64, Line)>,
    written: u64,
}

impl Importer {
    /// Writes the next lines, all at once. `false` at the end.
    async fn step(&mut self) -> Result<bool, CliError> {
        let first = self.next();
        let mut keys = std::collections::BTreeSet::new();
        let mut writes = JoinSet::new();
        let mut bytes = 0;
        let mut problem = None;
        while writes.len() < IMPORTS_IN_FLIGHT && bytes < IMPORT_BYTES_MAX {
            let (number, line) = match self.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            };
            // The lines of one key are written one after the other.
            if !keys.insert(line.key.clone()) {
                self.put_back = Some((number, line));
                break;
            }
            bytes += line.value.bytes().len();
            let (client, retry_for) = (self.client.clone(), self.retry_for);
            writes.spawn(async move {
                let result = write_line(&line, &client, retry_for).await;
                (number, line.key, result)
            });
        }
        let is_empty = writes.is_empty();
        while let Some(ended) = writes.join_next().await {
            let Ok((number, key, result)) = ended else { continue };
            match result {
                Ok(_) => self.written += 1,
                Err(error) => {
                    let error = CliError::from(error);
                    let Self { name, .. } = self;
                    let message = format!(
                        "{name}:{number}: key {key:?}: {}\nthe lines before {first} are done: --from-line {first} goes on \
                         there",
                        error.message
                    );
                    // It comes before what is wrong with a line behind it.
                    problem = Some(CliError { message, ..error });
                }
            }
        }
        problem.map_or(Ok(!is_empty), Err)
    }

    /// The number of the first line that is not written yet, between two steps.
    fn next(&self) -> u64 {
        self.put_back.as_ref().map_or(self.line + 1, |(number, _)| *number)
    }

    fn next_line(&mut self) -> Result<Option<(u64, Line)>, CliError> {
        if let Some(line) = self.put_back.take() {
            return Ok(Some(line));
        }
        loop {
            let mut text = Vec::new();
            let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
            let bytes = read.map_err(|error| CliError::bad_input(format!("{}: cannot be read: {error}", self.name)))?;
            if bytes == 0 {
                return Ok(None);
            }
            self.progress.inc(bytes as u64);
            self.line += 1;
            if self.line < self.from_line || text.trim_ascii().is_empty() {
                continue;
            }
            let line = Line::parse(&text).map_err(|problem| {
                let Self { name, line, .. } = self;
                CliError::bad_input(format!(
                    "{name}:{line}: {problem}\nthe lines before it are done; correct it, and go on with --from-line {line}"
                ))
            })?;
            return Ok(Some((self.line, line)));
        }
    }
}

/// Writes a line, again for `retry_for` while the outcome is not known.
async fn write_line(line: &Line, client: &Client, retry_for: Duration) -> Result<Acknowledged, ClientError> {
    let began = Instant::now();
    loop {
        let mut set = client.set(&line.key, line.value.clone());
        if let Some(ttl) = line.ttl {
            set = set.ttl(ttl);
        }
        match set.await {
            Err(ClientError::OutcomeUnknown { .. }) if began.elapsed() < retry_for => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// A bar on stderr if that is a terminal: of bytes, or of keys if their number is not known.
pub(super) fn progress(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {bytes}/{total_bytes} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} keys, {per_sec}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar
}
