//! Connections that are held: idle, silent, or with something that never ends.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Doors, Made};

/// How many idle connections are tried, over all doors.
const IDLE: usize = 1_500;
/// How many slow ones, over the doors of a load.
const HELD: usize = 240;
/// The time between two bytes.
const BYTE_EVERY: Duration = Duration::from_millis(200);

/// A connection, if the system makes one in time: a door that is busy closing others may be late.
pub async fn open(address: &str) -> Option<TcpStream> {
    let stream = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await.ok()?.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Whether the node has closed a connection. What it said before is read.
pub fn is_closed(stream: &TcpStream) -> bool {
    let mut said = [0; 1_024];
    loop {
        match stream.try_read(&mut said) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Opens connections at all doors, and does nothing with them.
pub async fn idle(doors: Doors, until: Instant) -> Made {
    let all = [doors.grpc, doors.http, doors.redis, doors.lines, doors.monitoring];
    let mut made = Made::default();
    let mut streams = Vec::new();
    for number in 0..IDLE {
        if let Some(stream) = open(&all[number % all.len()]).await {
            made.connections += 1;
            streams.push(stream);
        }
    }
    let soon = Instant::now() + Duration::from_millis(500);
    tokio::time::sleep_until(until.max(soon).into()).await;
    made.closed = count(streams.iter().filter(|stream| is_closed(stream)).count());
    made.sent = made.connections;
    made
}

/// Begins the same at some doors on many connections, and goes on byte by byte, or not at all where the byte is 0.
pub async fn held(doors: Vec<String>, beginning: &'static [u8], byte: u8, until: Instant) -> Made {
    let mut made = Made::default();
    let mut streams = Vec::new();
    for number in 0..HELD {
        if let Some(mut stream) = open(&doors[number % doors.len()]).await
            && stream.write_all(beginning).await.is_ok()
        {
            made.connections += 1;
            streams.push(stream);
        }
    }
    while Instant::now() < until {
        tokio::time::sleep(BYTE_EVERY).await;
        for stream in streams.iter().filter(|_| byte != 0) {
            made.sent += u64::from(stream.try_write(&[byte]).is_ok());
        }
    }
    made.closed = count(streams.iter().filter(|stream| is_closed(stream)).count());
    made
}

pub fn count(count: usize) -> u64 {
    count.try_into().expect("a count fits")
}
