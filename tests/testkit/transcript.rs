//! What a client and a node say to each other over the Redis protocol, written down as text.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The longest text of one request or answer.
const LINE_CHARS_MAX: usize = 160;

/// A port that passes everything to a node and back, and writes it down.
pub struct Recorder {
    pub port: u16,
    chunks: Arc<Mutex<Vec<Chunk>>>,
}

/// Bytes that went one way at once.
struct Chunk {
    connection: usize,
    is_request: bool,
    bytes: Vec<u8>,
}

impl Recorder {
    /// Passes connections on to the node at `node_port`, for as long as the test runs.
    pub async fn start(node_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let chunks = Arc::default();
        let recorder = Self { port, chunks: Arc::clone(&chunks) };
        tokio::spawn(async move {
            for connection in 1.. {
                let (client, _) = listener.accept().await.expect("it listens");
                let node = TcpStream::connect(("127.0.0.1", node_port)).await.expect("the node listens");
                let ((from_client, to_client), (from_node, to_node)) = (client.into_split(), node.into_split());
                tokio::spawn(pass(from_client, to_node, Arc::clone(&chunks), connection, true));
                tokio::spawn(pass(from_node, to_client, Arc::clone(&chunks), connection, false));
            }
        });
        recorder
    }

    /// A request or an answer a line, each after the number of its connection.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut rests = std::collections::BTreeMap::<(usize, bool), Vec<u8>>::new();
        for chunk in &*self.chunks.lock().expect("nobody panics with it") {
            let rest = rests.entry((chunk.connection, chunk.is_request)).or_default();
            rest.extend_from_slice(&chunk.bytes);
            while let Some((frame, length)) = frame(rest, chunk.is_request) {
                rest.drain(..length);
                let sign = if chunk.is_request { '>' } else { '<' };
                let mut short: String = frame.chars().take(LINE_CHARS_MAX).collect();
                if short.len() < frame.len() {
                    short.push('…');
                }
                writeln!(text, "{} {sign} {short}", chunk.connection).expect("a string takes it");
            }
        }
        assert!(rests.values().all(Vec::is_empty), "only whole frames went over the wire: {rests:?}");
        text
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    chunks: Arc<Mutex<Vec<Chunk>>>,
    connection: usize,
    is_request: bool,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer[..read].to_vec();
        chunks.lock().expect("nobody panics with it").push(Chunk { connection, is_request, bytes });
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The other side may have closed first.
    let _ = to.shutdown().await;
}

/// The first frame of RESP2 or RESP3 in `bytes` as text, and its length; `None` if it is not all there.
fn frame(bytes: &[u8], is_request: bool) -> Option<(String, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, rest) = bytes[..end].split_first()?;
    let (rest, mut at) = (String::from_utf8_lossy(rest).into_owned(), end + 2);
    let count = rest.parse::<usize>();
    let mut items = |count: usize| {
        let mut items = Vec::new();
        for _ in 0..count {
            let (item, length) = frame(&bytes[at..], is_request)?;
            at += length;
            items.push(item);
        }
        Some(items)
    };
    let text = match (kind, count) {
        (b'_', _) | (b'$' | b'*', Err(_)) => "nil".to_owned(),
        (b'$' | b'=', Ok(length)) => {
            let value = bytes.get(at..at + length)?;
            bytes.get(at + length + 1)?;
            at += length + 2;
            let value = value.escape_ascii().to_string();
            if is_request && !value.is_empty() && !value.contains(' ') { value } else { format!("\"{value}\"") }
        }
        (b'*', Ok(count)) if is_request => items(count)?.join(" "),
        (b'*', Ok(count)) => format!("[{}]", items(count)?.join(", ")),
        (b'~', Ok(count)) => format!("set[{}]", items(count)?.join(", ")),
        (b'%', Ok(count)) => {
            let items = items(2 * count)?;
            let pairs = items.chunks_exact(2).map(|pair| format!("{}: {}", pair[0], pair[1]));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        (kind, _) => format!("{}{rest}", char::from(*kind)),
    };
    Some((text, at))
}
