//! The frames of one connection of HTTP/2 as they arrive, and how fast they are read.
//!
//! Contract: frames that ask for nothing, such as PING, SETTINGS and RST_STREAM, cost their sender an allowance. It grows with time, by
//! [`FRAMES_PER_SECOND`], or less where an address has many connections ([`ADDRESS_FRAMES_PER_SECOND`]). It grows with answers too: by
//! a frame for each [`ANSWER_BYTES`], because windows are opened and round trips are measured while they are read. The answer to a
//! PING is smaller by far.
//!
//! A connection without allowance is not read until it has some again, so that TCP holds its client up. Nothing is refused, and
//! nothing is lost. A connection is also read for one turn at a time, so that it does not keep a processor from others.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::limits::{ADDRESS_FRAMES_PER_SECOND, FRAMES_PER_SECOND, FRAMES_SAVED_MAX};
use crate::shares::{Account, Kind};

/// What a client says first.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, kind, flags and stream.
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
/// A frame of data with fewer bytes, and without an end, brings nothing: a message of gRPC has so many before it.
const DATA_BYTES_MIN: usize = 5;
/// The bytes of answers for which a client may send one frame. Each answer has more: some libraries send a PING after each.
const ANSWER_BYTES: usize = 64;
/// What a new connection may send: whoever closes one and opens the next gains little.
const FRAMES_AT_FIRST: usize = 256;
/// What a request costs that is taken back or refused: a node does more for it than for a PING.
const REQUEST_COST: usize = 4;
/// Requests that are refused make their connection wait no longer.
const REFUSED_WAIT_MAX: Duration = Duration::from_millis(250);
/// How much is read at a time from a connection that has little allowance left.
pub(crate) const SLOW_READ_BYTES: usize = 2 << 10;
/// With less than so many saved frames it has little left.
const FRAMES_SAVED_MIN: f64 = 64.0;
/// How much of a connection is read before others have their turn.
const TURN_BYTES: usize = 64 << 10;
/// How many of its frames.
const TURN_FRAMES: usize = 256;

/// Tells frames apart.
#[derive(Debug)]
enum Scan {
    /// So many bytes of the greeting have passed.
    Greeting(usize),
    /// The first bytes of a frame, and how many of them have passed.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are left.
    Payload(usize),
    /// This is no HTTP/2.
    Other,
}

/// How many frames have begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Passed {
    all: usize,
    /// What those of them cost that ask for nothing.
    cost: usize,
}

impl Scan {
    /// Reads on.
    fn pass(&mut self, mut bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        while !bytes.is_empty() {
            let read = match self {
                Self::Other => break,
                Self::Greeting(before) => {
                    let rest = &GREETING[*before..];
                    let read = rest.len().min(bytes.len());
                    if rest[..read] != bytes[..read] {
                        *self = Self::Other;
                        break;
                    }
                    *before += read;
                    if *before == GREETING.len() {
                        *self = Self::Head([0; HEAD_BYTES], 0);
                    }
                    read
                }
                Self::Head(head, before) => {
                    let read = (HEAD_BYTES - *before).min(bytes.len());
                    head[*before..*before + read].copy_from_slice(&bytes[..read]);
                    *before += read;
                    if *before == HEAD_BYTES {
                        let [a, b, c, kind, flags, ..] = *head;
                        let length = u32::from_be_bytes([0, a, b, c]) as usize;
                        passed.all += 1;
                        passed.cost += cost(kind, flags, length);
                        *self = if length == 0 { Self::Head([0; HEAD_BYTES], 0) } else { Self::Payload(length) };
                    }
                    read
                }
                Self::Payload(left) => {
                    let read = (*left).min(bytes.len());
                    *left -= read;
                    if *left == 0 {
                        *self = Self::Head([0; HEAD_BYTES], 0);
                    }
                    read
                }
            };
            bytes = &bytes[read..];
        }
        passed
    }
}

/// What a frame costs: nothing, unless it asks for nothing.
fn cost(kind: u8, flags: u8, length: usize) -> usize {
    match kind {
        DATA => usize::from(length < DATA_BYTES_MIN && flags & END_STREAM == 0),
        HEADERS => 0,
        RST_STREAM => REQUEST_COST,
        _ => 1,
    }
}

/// How fast the frames of one connection are read.
#[derive(Debug)]
pub(crate) struct Frames {
    scan: Scan,
    /// What the address of the connection holds.
    account: Arc<Account>,
    /// How many frames may be read at once. Less than none are owed.
    saved: f64,
    /// When that was so.
    as_of: Instant,
    /// The bytes of answers that no frame was sent for.
    answered: usize,
    turn: Turn,
    pause: Option<Pin<Box<Sleep>>>,
}

/// What was read since others had their turn.
#[derive(Debug, Default)]
struct Turn {
    bytes: usize,
    frames: usize,
}

impl Frames {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        let (scan, turn) = (Scan::Greeting(0), Turn::default());
        Self { scan, account, saved: FRAMES_AT_FIRST as f64, as_of: Instant::now(), answered: 0, turn, pause: None }
    }

    /// Whether the connection may be read now.
    pub(crate) fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.turn.bytes >= TURN_BYTES || self.turn.frames >= TURN_FRAMES {
            self.turn = Turn::default();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether little is to be read at a time, so that what is owed stays small.
    pub(crate) fn is_slow(&mut self) -> bool {
        if self.saved < FRAMES_SAVED_MIN {
            self.save(Instant::now());
        }
        self.saved < FRAMES_SAVED_MIN
    }

    /// There is nothing to read.
    pub(crate) fn wait(&mut self) {
        self.turn = Turn::default();
    }

    /// Counts what was read. So many requests were refused meanwhile, which count as frames that ask for nothing. Whether nothing is
    /// read for a while now.
    pub(crate) fn read(&mut self, bytes: &[u8], refused: usize) -> bool {
        if let Scan::Other = self.scan {
            return false;
        }
        let Passed { all, cost } = self.scan.pass(bytes);
        self.turn.bytes += bytes.len();
        self.turn.frames += all;
        if cost + refused > 0
            && let Some(pause) = self.charge(cost, refused * REQUEST_COST, Instant::now())
        {
            self.account.hold_up();
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        self.pause.is_some()
    }

    /// Counts what was written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.answered = self.answered.saturating_add(bytes).min(FRAMES_SAVED_MAX * ANSWER_BYTES);
    }

    /// Takes the cost of frames and of refused requests from what was saved; how long to wait, if more than that is owed.
    fn charge(&mut self, cost: usize, refused: usize, now: Instant) -> Option<Duration> {
        let paid = cost.min(self.answered / ANSWER_BYTES);
        self.answered -= paid * ANSWER_BYTES;
        let per_second = self.save(now);
        self.saved -= (cost - paid) as f64;
        // Many requests may have been refused together. That makes its client wait, but not until its other requests are late.
        let least = self.saved.min(-REFUSED_WAIT_MAX.as_secs_f64() * per_second);
        self.saved = (self.saved - refused as f64).max(least);
        (self.saved < 0.0).then(|| Duration::from_secs_f64(-self.saved / per_second))
    }

    /// Adds what has been saved since that was asked last; how much that is in a second.
    fn save(&mut self, now: Instant) -> f64 {
        let connections = self.account.held(Kind::Connections).max(1);
        let per_second = (ADDRESS_FRAMES_PER_SECOND as f64 / connections as f64).min(FRAMES_PER_SECOND as f64);
        let passed = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.as_of = now;
        self.saved = (self.saved + passed * per_second).min(FRAMES_SAVED_MAX as f64);
        per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{Accounts, Amounts, Owner};

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD_BYTES + length, b'x');
        frame
    }

    fn frames() -> Frames {
        let accounts = Accounts::new(Amounts::of_requests(1, 1));
        Frames::new(accounts.of(Owner::of_address([127, 0, 0, 1].into())))
    }

    #[test]
    fn frames_that_ask_for_nothing_are_counted_wherever_the_bytes_are_cut() {
        let parts = [
            GREETING.to_vec(),
            frame(4, 0, 0),
            frame(HEADERS, 4, 40),
            frame(DATA, 0, 300),
            frame(DATA, 0, 4),
            frame(DATA, END_STREAM, 0),
            frame(PING, 0, 8),
            frame(RST_STREAM, 0, 4),
            frame(99, 0, 20_000),
            frame(9, 0, 0),
        ];
        let bytes = parts.concat();
        for cut in [1, 2, 7, 9, 10, 24, 1_000, bytes.len()] {
            let mut scan = Scan::Greeting(0);
            let passed = bytes.chunks(cut).fold(Passed::default(), |before, part| {
                let passed = scan.pass(part);
                Passed { all: before.all + passed.all, cost: before.cost + passed.cost }
            });
            assert_eq!(passed, Passed { all: 9, cost: 5 + REQUEST_COST }, "{cut}");
        }
    }

    #[test]
    fn what_is_no_http2_is_not_counted() {
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"PRI x", b"\0\0\x08\x06\0\0\0\0\0"] {
            let mut scan = Scan::Greeting(0);
            assert_eq!(scan.pass(other), Passed::default());
            assert_eq!(scan.pass(&frame(PING, 0, 8)), Passed::default());
            assert!(matches!(scan, Scan::Other));
        }
    }

    #[test]
    fn flood_is_read_at_the_rate_that_is_allowed() {
        let (mut frames, begin) = (frames(), Instant::now());
        assert_eq!(frames.charge(FRAMES_AT_FIRST, 0, begin), None);
        let (mut now, mut passed) = (begin, 0);
        while now < begin + Duration::from_secs(10) {
            passed += 100;
            now += frames.charge(60, 40, now).unwrap_or_default();
        }
        assert!((10 * FRAMES_PER_SECOND..=10 * FRAMES_PER_SECOND + 200).contains(&passed), "{passed}");
        // Whoever is silent saves up, and no more than the most.
        now += Duration::from_secs(100);
        assert_eq!(frames.charge(FRAMES_SAVED_MAX, 0, now), None);
        assert!(frames.charge(1, 0, now).is_some());
    }

    #[test]
    fn connections_of_one_address_share_what_it_may_send() {
        let accounts = Accounts::new(Amounts::of_requests(1, 1));
        let account = accounts.of(Owner::of_address([127, 0, 0, 1].into()));
        let now = Instant::now();
        let wait = |connections: usize| {
            let _places = account.take(Kind::Connections, connections).unwrap();
            Frames::new(Arc::clone(&account)).charge(FRAMES_AT_FIRST + 1_000, 0, now).unwrap().as_secs_f64()
        };
        for (connections, seconds) in [(1, 0.5), (10, 0.5), (20, 1.0), (1_000, 50.0)] {
            assert!((wait(connections) - seconds).abs() < 0.01 * seconds, "{connections}");
        }
    }

    #[test]
    fn answers_pay_for_the_frames_that_open_windows() {
        let (mut frames, now) = (frames(), Instant::now());
        for _ in 0..100 {
            frames.wrote(1_000 * ANSWER_BYTES);
            assert_eq!(frames.charge(1_000, 0, now), None);
        }
        // An answer to a PING has 17 bytes.
        let mut passed = 0;
        while frames.charge(1, 0, now).is_none() {
            passed += 1;
            frames.wrote(17);
        }
        assert!((FRAMES_AT_FIRST..FRAMES_AT_FIRST * 3 / 2).contains(&passed), "{passed}");
        // What says that a request was refused does not pay for it.
        frames.wrote(1 << 30);
        assert!(frames.charge(0, 1, now).is_some());
        assert_eq!(frames.charge(0, 1_000_000, now), Some(REFUSED_WAIT_MAX));
    }

    #[tokio::test]
    async fn connection_is_read_for_one_turn_at_a_time() {
        let mut frames = frames();
        let ready = |frames: &mut Frames| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            frames.poll_turn(&mut context).is_ready()
        };
        assert!(!frames.read(GREETING, 0));
        assert!(!frames.read(&frame(DATA, 0, TURN_BYTES), 0));
        assert!(!ready(&mut frames) && ready(&mut frames));
        for _ in 0..TURN_FRAMES {
            assert!(!frames.read(&frame(HEADERS, 0, 1), 0));
        }
        assert!(!ready(&mut frames) && ready(&mut frames));
        // A flood waits longer than a turn.
        let waits = (0..2 * FRAMES_AT_FIRST).filter(|_| frames.read(&frame(PING, 0, 8), 0)).count();
        assert!(waits > FRAMES_AT_FIRST / 2, "{waits}");
        assert!(!ready(&mut frames) && !ready(&mut frames));
    }
}
