//! Frames of HTTP/2 without an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::frames::{CONTINUATION, END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, field, frame, head};
use super::slow::{count, open};
use super::{Doors, Made};

/// How many connections flood at once.
const CONNECTIONS: usize = 8;
/// Frames that are written together.
const FRAMES: u32 = 100;

/// The next frames of a flood on a connection, from the number of frames before.
type Next = fn(&mut Vec<u8>, u32);

/// Requests that are taken back at once.
pub fn resets(bytes: &mut Vec<u8>, before: u32) {
    let block = head("/api.Cluster/Get", &[]);
    for number in before..before + FRAMES {
        let stream = number * 2 + 1;
        frame(bytes, HEADERS, END_HEADERS, stream, &block);
        frame(bytes, RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    }
}

pub fn pings(bytes: &mut Vec<u8>, _: u32) {
    for _ in 0..FRAMES {
        frame(bytes, PING, 0, 0, b"hostile!");
    }
}

/// Settings that change a window back and forth, each of which must be answered.
pub fn settings(bytes: &mut Vec<u8>, _: u32) {
    for number in 0..FRAMES {
        frame(bytes, SETTINGS, 0, 0, &[0, 4, 0, 0, 0x80, u8::from(number % 2 == 0)]);
    }
}

/// A head that goes on and on: first in large parts, then in empty ones.
pub fn continuations(bytes: &mut Vec<u8>, before: u32) {
    if before == 0 {
        frame(bytes, HEADERS, 0, 1, &head("/api.Cluster/Get", &[]));
    }
    for number in before..before + FRAMES {
        let mut block = Vec::new();
        if before < 10 * FRAMES {
            field(&mut block, &format!("x-{number}"), &"x".repeat(8 << 10));
        }
        frame(bytes, CONTINUATION, 0, 1, &block);
    }
}

/// Whether answers are read, and how many bytes one has.
#[derive(Clone, Copy)]
pub enum Answers {
    Unread,
    Read { bytes: u64 },
}

/// The answer to a PING.
pub const OF_PING: Answers = Answers::Read { bytes: 17 };
/// The answer to SETTINGS.
pub const OF_SETTINGS: Answers = Answers::Read { bytes: 9 };

/// Runs a flood on some connections at a time, and opens a new one for each that the node closes.
pub async fn run(doors: Doors, until: Instant, next: Next, answers: Answers) -> Made {
    let mut connections = JoinSet::new();
    for number in 0..CONNECTIONS {
        let address = if number % 2 == 0 { doors.grpc.clone() } else { doors.http.clone() };
        connections.spawn(async move {
            let mut made = Made::default();
            while Instant::now() < until {
                let Some(stream) = open(&address).await else { continue };
                made.connections += 1;
                let (mut reader, mut writer) = stream.into_split();
                let answered = Arc::new(AtomicU64::new(0));
                let reading = Arc::clone(&answered);
                let reading = tokio::spawn(async move {
                    let mut said = vec![0; 64 << 10];
                    if let Answers::Read { .. } = answers {
                        while let Ok(read @ 1..) = reader.read(&mut said).await {
                            reading.fetch_add(count(read), Ordering::Relaxed);
                        }
                    }
                    // The other side stays open where nothing is read.
                    reader
                });
                let (mut bytes, mut before) = (PREFACE.to_vec(), 0);
                while Instant::now() < until && before < u32::MAX / 4 {
                    next(&mut bytes, before);
                    // A node that does not read holds the flood up.
                    match tokio::time::timeout_at(until.into(), writer.write_all(&bytes)).await {
                        Ok(Ok(())) => made.sent += u64::from(FRAMES),
                        Ok(Err(_)) => {
                            made.closed += 1;
                            break;
                        }
                        Err(_) => break,
                    }
                    bytes.clear();
                    before += FRAMES;
                }
                reading.abort();
                if let Answers::Read { bytes } = answers {
                    made.answered += answered.load(Ordering::Relaxed) / bytes;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            made
        });
    }
    let mut all = Made::default();
    while let Some(made) = connections.join_next().await {
        all += made.expect("no panic");
    }
    all
}
