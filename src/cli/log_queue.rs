//! A queue between the process and its log, so that a log that nobody reads holds nothing up.
//!
//! Contract: to log never waits. A thread of its own writes the lines, in order. Where [`LINES_MAX`] lines wait already,
//! further lines are dropped and counted, and a line of the log says how many once there is room.
//!
//! Caveat: the end of a process waits for the lines that are left, but for no more than [`FLUSH_TIME_MAX`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait. A line has about 200 bytes, and a few kilobytes where it names a long key.
const LINES_MAX: usize = 4_096;
/// The time between two lines that say how many were dropped.
const TELL_DROPPED_EVERY: Duration = Duration::from_secs(1);
/// How long the end of a process waits for its log.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// The end of the queue that takes lines. Clones feed the same queue.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// Writes out the lines that are left when it is dropped, as far as [`FLUSH_TIME_MAX`] allows.
#[derive(Debug)]
#[must_use = "the log is flushed when this is dropped"]
pub(super) struct FlushOnDrop(LogQueue);

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// All lines before this one are written once the sender is dropped.
    Flush(SyncSender<()>),
}

impl LogQueue {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (entries, received) = sync_channel(LINES_MAX);
        let queue = Self { entries, dropped: Arc::default() };
        let dropped = Arc::clone(&queue.dropped);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(sink, &received, &dropped))?;
        Ok(queue)
    }

    /// The guard that flushes the queue.
    pub(super) fn flush_on_drop(&self) -> FlushOnDrop {
        FlushOnDrop(self.clone())
    }

    /// Waits until the lines so far are written, for [`FLUSH_TIME_MAX`] at most.
    fn flush(&self) {
        let give_up_at = Instant::now() + FLUSH_TIME_MAX;
        let (written, is_written) = sync_channel(0);
        let mut entry = Entry::Flush(written);
        while let Err(TrySendError::Full(refused)) = self.entries.try_send(entry) {
            if Instant::now() >= give_up_at {
                return;
            }
            entry = refused;
            std::thread::sleep(Duration::from_millis(5));
        }
        // Nothing is ever sent: it ends when the other end is dropped, or in time.
        let _ = is_written.recv_timeout(give_up_at.saturating_duration_since(Instant::now()));
    }
}

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Takes one line with each call, as the formatters of `tracing` write them.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn write_all(mut sink: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    let (mut told, mut tell_at) = (0, Instant::now());
    loop {
        let total = dropped.load(Ordering::Relaxed);
        if total > told && Instant::now() >= tell_at {
            (told, tell_at) = (total, Instant::now() + TELL_DROPPED_EVERY);
            // The total, so that no count is lost if this line is dropped too.
            warn!(lines_dropped_in_all = total, "the log is not read as fast as it is written: lines were dropped");
        }
        let entry =
            if total > told { entries.recv_timeout(TELL_DROPPED_EVERY) } else { entries.recv().map_err(Into::into) };
        match entry {
            // There is nowhere to report a log that cannot be written.
            Ok(Entry::Line(line)) => _ = sink.write_all(&line),
            Ok(Entry::Flush(written)) => drop(written),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;

    /// A sink that nobody reads until its gate is opened.
    struct Gated {
        gate: Receiver<()>,
        is_open: bool,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_open {
                self.is_open = self.gate.recv().is_ok();
            }
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_that_nobody_reads_holds_nothing_up_and_counts_what_it_drops() {
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut queue = LogQueue::start(Gated { gate, is_open: false, written: Arc::clone(&written) }).unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(queue.clone()).finish();
        for number in 0..3 * LINES_MAX {
            writeln!(queue, "line {number}").unwrap();
        }
        // `writeln!` may write a line in parts, of which each is an entry.
        let dropped = queue.dropped.load(Ordering::Relaxed);
        assert!(dropped >= 2 * LINES_MAX as u64 - 1, "{dropped} were dropped");
        let began = Instant::now();
        drop(queue.flush_on_drop());
        assert!(began.elapsed() < 4 * FLUSH_TIME_MAX, "the end does not wait for it for good");

        open.send(()).unwrap();
        drop(queue.flush_on_drop());
        tracing::subscriber::with_default(subscriber, || tracing::info!("after it"));
        drop(queue.flush_on_drop());
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(written.starts_with("line 0\nline 1\n"), "lines keep their order");
        assert!(written.contains("after it"), "lines are written again");
    }
}
