//! The thread that reads what the store has on disk, and verifies it: from time to time, and when an operator orders it.
//!
//! Contract: it reads at the pace of its settings, which may change at any time. It ends within a step of reading. What is damaged
//! is remembered by the store itself ([`crate::storage::watched`]); a pass ends at the first damage, because the node is then
//! replaced whole.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use crate::limits::{SCRUB_BYTES_PER_SECOND_DEFAULT, SCRUB_EVERY_SECONDS_DEFAULT};
use crate::metrics::Metrics;
use crate::storage::{ScrubPlace, Store, StoreError};

use super::handle::{Inner, NodeHandle};

/// The time between two looks whether a pass is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often a pass goes on after the disk could not be read, and after which time.
const FAILURES_MAX: u32 = 10;
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The time between a pass that could not read the store and the next one, unless somebody orders one.
const AFTER_FAILED: Duration = Duration::from_hours(1);

/// How a node scrubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// The most bytes of keys and values that it reads in a second.
    pub bytes_per_second: usize,
    /// The time between two passes; `None` for none but those that are ordered.
    pub every: Option<Duration>,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        let every = Some(Duration::from_secs(SCRUB_EVERY_SECONDS_DEFAULT as u64));
        Self { bytes_per_second: SCRUB_BYTES_PER_SECOND_DEFAULT, every }
    }
}

/// How far a node's scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Whether it reads now.
    pub is_running: bool,
    /// The bytes of keys and values that it has read so far, or in the last pass.
    pub bytes: u64,
    /// How many passes have ended since the start, well or not.
    pub passes: u64,
    /// The time since the end of the last pass that has read everything and met no damage.
    pub clean_since: Option<Duration>,
}

/// What the thread and those who ask share.
#[derive(Debug)]
pub(super) struct Scrubber {
    state: Mutex<State>,
    /// Something in it has changed.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    settings: ScrubSettings,
    is_ordered: bool,
    is_running: bool,
    is_ending: bool,
    bytes: u64,
    passes: u64,
    clean_at: Option<Instant>,
    /// When the last pass ended, where the store could not be read.
    failed_at: Option<Instant>,
    /// When the next step may begin, by the pace.
    next_step: Instant,
}

impl Scrubber {
    /// Starts the thread for `store`.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub(super) fn start(
        store: Arc<dyn Store>,
        settings: ScrubSettings,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let scrubber = Arc::new(Self::new(settings));
        let shared = Arc::clone(&scrubber);
        let run = move || {
            // So that the nodes of a cluster do not all read at the same time.
            let part = rand::random_range(0.75..1.0);
            while shared.wait_until_due(&*store, part) {
                shared.pass(&*store, &metrics);
            }
        };
        let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(run).expect("a thread can be started");
        (scrubber, thread)
    }

    fn new(settings: ScrubSettings) -> Self {
        let state = State {
            settings,
            is_ordered: false,
            is_running: false,
            is_ending: false,
            bytes: 0,
            passes: 0,
            clean_at: None,
            failed_at: None,
            next_step: Instant::now(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves no half-changed state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the thread to end.
    pub(super) fn end(&self) {
        self.state().is_ending = true;
        self.changed.notify_all();
    }

    /// Other settings.
    fn configure(&self, settings: ScrubSettings) {
        self.state().settings = settings;
        self.changed.notify_all();
    }

    /// Orders a pass, unless one is under way. Returns its number.
    fn order(&self) -> u64 {
        let mut state = self.state();
        state.is_ordered |= !state.is_running;
        self.changed.notify_all();
        state.passes + 1
    }

    fn report(&self) -> ScrubReport {
        let state = self.state();
        ScrubReport {
            // One that is ordered begins at once.
            is_running: state.is_running || state.is_ordered,
            bytes: state.bytes,
            passes: state.passes,
            clean_since: state.clean_at.map(|at| at.elapsed()),
        }
    }

    /// Waits until the next pass is due, and begins it. False once the thread is to end.
    fn wait_until_due(&self, store: &dyn Store, part: f64) -> bool {
        loop {
            let (is_damaged, scrubbed_at) = (store.damage().is_some(), store.scrubbed_at());
            let mut state = self.state();
            // More damage would change nothing.
            let is_due = !is_damaged && state.is_due(scrubbed_at, part);
            if state.is_ending {
                return false;
            }
            if is_due || state.is_ordered {
                (state.is_ordered, state.is_running, state.bytes) = (false, true, 0);
                return true;
            }
            drop(self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Reads everything.
    fn pass(&self, store: &dyn Store, metrics: &Metrics) {
        info!("a scrub begins: all that the store has on disk is read and verified");
        let (mut place, mut failures) = (ScrubPlace::default(), 0);
        let mut failed_at = None;
        let is_clean = loop {
            let piece = store.scrub(place.clone(), &mut |bytes| {
                metrics.scrubbed_bytes.inc_by(bytes);
                self.took(bytes)
            });
            match piece {
                Ok(None) => break true,
                Ok(Some(next)) => {
                    failures = if next == place { failures } else { 0 };
                    place = next;
                }
                Err(StoreError::Damaged { message }) => {
                    error!(what = message, "the scrub has met damage");
                    break false;
                }
                Err(error) if failures < FAILURES_MAX => {
                    warn!(%error, "the scrub could not read the store, and tries on");
                    failures += 1;
                    self.pause(Instant::now() + AGAIN_AFTER);
                }
                Err(error) => {
                    error!(%error, again_after = ?AFTER_FAILED, "the scrub is given up: the store cannot be read");
                    failed_at = Some(Instant::now());
                    break false;
                }
            }
            if self.state().is_ending {
                return;
            }
        };
        metrics.scrubs.inc();
        let mut state = self.state();
        state.is_running = false;
        state.passes += 1;
        (state.clean_at, state.failed_at) = (is_clean.then(Instant::now), failed_at);
        if is_clean {
            info!(bytes = state.bytes, "the scrub has read everything, and met no damage");
        }
    }

    /// So many bytes were read. Waits as the pace says; false once the thread is to end.
    fn took(&self, bytes: u64) -> bool {
        let mut state = self.state();
        state.bytes += bytes;
        #[allow(clippy::cast_precision_loss, reason = "a pace needs few digits")]
        let time = Duration::from_secs_f64(bytes as f64 / state.settings.bytes_per_second.max(1) as f64);
        // What was not used is not saved up.
        state.next_step = state.next_step.max(Instant::now()) + time;
        let until = state.next_step;
        drop(state);
        self.pause(until)
    }

    /// Waits until then. False once the thread is to end.
    fn pause(&self, until: Instant) -> bool {
        let mut state = self.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.is_ending || left.is_zero() {
                return !state.is_ending;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Whether a pass is due in an undamaged store that was read whole at `scrubbed_at`, by this part of the usual time.
    fn is_due(&self, scrubbed_at: Option<SystemTime>, part: f64) -> bool {
        let every = self.settings.every.map(|every| every.mul_f64(part));
        match (self.failed_at, self.clean_at) {
            // However it was begun, it is not done.
            (Some(failed_at), _) => failed_at.elapsed() >= AFTER_FAILED,
            // The disk may not take the note of a pass.
            (None, Some(at)) if at.elapsed() < every.unwrap_or(AFTER_FAILED).min(AFTER_FAILED) => false,
            _ => is_due(scrubbed_at, every),
        }
    }
}

/// Whether a pass is due, the last of which ended `at`.
fn is_due(at: Option<SystemTime>, every: Option<Duration>) -> bool {
    // Damage was met since then, and the process has started anew.
    if at == Some(SystemTime::UNIX_EPOCH) {
        return true;
    }
    let (Some(at), Some(every)) = (at, every) else { return false };
    // A clock of the system that went back makes none due.
    at.elapsed().is_ok_and(|age| age >= every)
}

impl NodeHandle {
    /// Orders a scrub, unless one is under way. It has ended once the report says as many passes as this returns.
    #[must_use]
    pub fn scrub_now(&self) -> u64 {
        self.inner.scrubber.order()
    }

    /// How far the scrub is.
    #[must_use]
    pub fn scrub_report(&self) -> ScrubReport {
        self.inner.scrubber.report()
    }

    /// From now on the node scrubs so.
    pub fn configure_scrub(&self, settings: ScrubSettings) {
        self.inner.scrubber.configure(settings);
    }
}

impl Drop for Inner {
    /// The thread must not outlive those who could end it.
    fn drop(&mut self) {
        self.scrubber.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStore;
    use crate::types::StoreId;

    #[test]
    fn pass_is_due_when_the_last_one_is_old_enough() {
        let day = Duration::from_hours(24);
        let ago = |age: Duration| SystemTime::now().checked_sub(age);
        assert!(is_due(ago(day), Some(day)) && !is_due(ago(day / 2), Some(day)));
        assert!(!is_due(ago(day), None) && !is_due(None, Some(day)));
        assert!(is_due(Some(SystemTime::UNIX_EPOCH), None), "damage was met");
        assert!(!is_due(SystemTime::now().checked_add(day), Some(Duration::ZERO)), "a clock that went back");
    }

    #[test]
    fn pass_that_failed_is_made_again_after_an_hour() {
        let scrubber = Scrubber::new(ScrubSettings { every: None, ..ScrubSettings::default() });
        let mut state = scrubber.state();
        assert!(!state.is_due(None, 1.0));
        let now = Instant::now();
        state.failed_at = Some(now);
        assert!(!state.is_due(Some(SystemTime::UNIX_EPOCH), 1.0), "not at once, however old the last one is");
        // A machine that has just started has no such instant.
        if let Some(earlier) = now.checked_sub(AFTER_FAILED) {
            state.failed_at = Some(earlier);
            assert!(state.is_due(None, 1.0), "although none is due by itself");
        }
        (state.failed_at, state.clean_at) = (None, Some(now));
        assert!(!state.is_due(Some(SystemTime::UNIX_EPOCH), 1.0), "the note of the pass is not on the disk");
    }

    #[test]
    fn ordered_pass_has_a_number_and_ends() {
        let settings = ScrubSettings { bytes_per_second: 1 << 20, every: None };
        let (scrubber, thread) = Scrubber::start(Arc::new(MemoryStore::new(StoreId(1))), settings, Arc::default());
        for number in 1..3 {
            assert_eq!(scrubber.order(), number);
            while scrubber.report().passes < number {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(scrubber.report().clean_since.is_some() && !scrubber.report().is_running);
        }
        scrubber.end();
        thread.join().unwrap();
    }

    #[test]
    fn pace_is_kept_until_the_end() {
        let scrubber = Scrubber::new(ScrubSettings { bytes_per_second: 1_000, every: None });
        let began = Instant::now();
        assert!(scrubber.took(50) && scrubber.took(50));
        assert!(began.elapsed() >= Duration::from_millis(95), "{:?}", began.elapsed());
        scrubber.end();
        assert!(!scrubber.took(1_000_000));
    }
}
