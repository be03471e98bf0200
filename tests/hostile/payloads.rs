//! Requests that are too much: heads, bodies, what is in bodies, and their number.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use quorate::api::cluster_client::ClusterClient;
use quorate::api::{Entry, SetRequest, WatchRequest, entry, watch_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::frames::{
    CONTINUATION, END_HEADERS, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, WINDOW_UPDATE, data, field, frame, head,
    kinds,
};
use super::slow::{count, is_closed, open};
use super::{Doors, Made};

/// How long an answer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs the same on some tasks until a time, again and again.
async fn repeated<F>(tasks: usize, until: Instant, once: impl Fn() -> F) -> Made
where
    F: Future<Output = Made> + Send + 'static,
{
    let (mut running, mut all) = (JoinSet::new(), Made::default());
    for _ in 0..tasks {
        running.spawn(once());
    }
    while let Some(made) = running.join_next().await {
        all += made.expect("no panic");
        if Instant::now() < until {
            running.spawn(once());
        }
    }
    all
}

/// A connection of HTTP/2 on which the node has given its large windows, which it does after the first frames.
async fn open_h2(address: &str) -> Option<TcpStream> {
    let mut stream = open(address).await?;
    let mut beginning = PREFACE.to_vec();
    frame(&mut beginning, PING, 0, 0, b"windows?");
    stream.write_all(&beginning).await.ok()?;
    let (mut said, mut part) = (Vec::new(), [0; 4_096]);
    while !kinds(&said).0.contains(&WINDOW_UPDATE) {
        let read = tokio::time::timeout(ANSWER_TIME_MAX, stream.read(&mut part)).await.ok()?.ok()?;
        said.extend_from_slice(&part[..read]);
        if read == 0 {
            return None;
        }
    }
    Some(stream)
}

/// What a node says to these bytes on a connection of their own, until it closes that or is silent for a time.
async fn said(address: &str, bytes: &[u8], silent_for: Duration) -> (Vec<u8>, bool) {
    said_until(open(address).await, bytes, silent_for, |_| false).await
}

/// The same on a connection, until its answer `is_enough`.
async fn said_until(
    stream: Option<TcpStream>,
    bytes: &[u8],
    silent_for: Duration,
    is_enough: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, bool) {
    let Some(mut stream) = stream else { return (Vec::new(), true) };
    // The node may close before it has read all.
    let _ = tokio::time::timeout(silent_for, stream.write_all(bytes)).await;
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    while !is_enough(&answer) {
        match tokio::time::timeout(silent_for, stream.read(&mut part)).await {
            Ok(Ok(read)) if read > 0 => answer.extend_from_slice(&part[..read]),
            Ok(_) => return (answer, true),
            Err(_) => break,
        }
    }
    (answer, is_closed(&stream))
}

/// Heads of a MiB: of HTTP/2 in one frame after the other, and of HTTP/1.1.
pub async fn huge_heads(doors: Doors, until: Instant) -> Made {
    let mut h2 = PREFACE.to_vec();
    frame(&mut h2, HEADERS, 0, 1, &head("/api.Cluster/Get", &[]));
    for number in 0..128 {
        let mut block = Vec::new();
        field(&mut block, &format!("x-{number}"), &"x".repeat(8 << 10));
        let flags = if number == 127 { END_HEADERS } else { 0 };
        frame(&mut h2, CONTINUATION, flags, 1, &block);
    }
    let mut h1 = String::from("GET / HTTP/1.1\r\nhost: localhost\r\n");
    for number in 0..128 {
        let _ = write!(h1, "x-{number}: {}\r\n", "x".repeat(8 << 10));
    }
    let cases = Arc::new([
        (doors.grpc, h2.clone()),
        (doors.http.clone(), h2),
        (doors.http, format!("{h1}\r\n").into_bytes()),
        (doors.monitoring, format!("{h1}\r\n").into_bytes()),
    ]);
    repeated(4, until, || {
        let cases = Arc::clone(&cases);
        async move {
            let mut made = Made::default();
            for (address, bytes) in cases.iter() {
                let (answer, is_closed) = said(address, bytes, Duration::from_millis(300)).await;
                let ended = kinds(&answer).0.iter().any(|kind| [HEADERS, RST_STREAM, GOAWAY].contains(kind));
                let refused = is_closed || ended || answer.starts_with(b"HTTP/1.1 4");
                made.connections += 1;
                made.sent += 1;
                made.closed += u64::from(is_closed);
                made.refused += u64::from(refused);
            }
            made
        }
    })
    .await
}

/// Requests with large values of which more and more comes, and never all.
pub async fn endless_bodies(doors: Doors, until: Instant) -> Made {
    /// A window's worth on each connection of HTTP/2: 4 MiB for all its streams.
    const STREAMS: u32 = 13;
    const PART: usize = 300 << 10;
    let mut h2 = Vec::new();
    for number in 0..STREAMS {
        let stream = number * 2 + 1;
        frame(&mut h2, HEADERS, END_HEADERS, stream, &head("/api.Cluster/Set", &[]));
        let mut body = vec![0, 3, 0x80, 0, 0];
        body.resize(PART, b'x');
        data(&mut h2, stream, &body);
    }
    let mut h1 = b"PUT /endless HTTP/1.1\r\nhost: localhost\r\ncontent-length: 62914560\r\n\r\n".to_vec();
    h1.resize(8 << 20, b'x');
    let cases = Arc::new([(doors.grpc, h2), (doors.http, h1)]);
    // As long as it takes to fill the share of one address.
    let until = until.max(Instant::now() + Duration::from_secs(5));
    let mut tasks = JoinSet::new();
    for number in 0..120 {
        let cases = Arc::clone(&cases);
        tasks.spawn(async move {
            let (address, bytes) = &cases[number % 2];
            let mut made = Made::default();
            let is_h2 = number % 2 == 0;
            let opened = if is_h2 { open_h2(address).await } else { open(address).await };
            let Some(mut stream) = opened else { return made };
            made.connections = 1;
            let sent = tokio::time::timeout_at(until.into(), stream.write_all(bytes)).await;
            made.sent = if is_h2 { STREAMS.into() } else { 1 };
            let mut answer = Vec::new();
            let mut part = vec![0; 16 << 10];
            while let Ok(Ok(read)) = tokio::time::timeout_at(until.into(), stream.read(&mut part)).await {
                if read == 0 {
                    break;
                }
                answer.extend_from_slice(&part[..read]);
            }
            made.closed = u64::from(matches!(sent, Ok(Err(_))) || is_closed(&stream));
            made.refused = if is_h2 {
                // The status of a refusal stands in a head.
                count(kinds(&answer).0.split(|kind| *kind == HEADERS).count() - 1)
            } else {
                u64::from(answer.starts_with(b"HTTP/1.1 429"))
            };
            made
        });
    }
    let mut all = Made::default();
    while let Some(made) = tasks.join_next().await {
        all += made.expect("no panic");
    }
    all
}

/// Sends the same bytes on some connections, reads until a time, and counts the refusals: their status stands in a head.
async fn sent_on(connections: usize, address: &str, bytes: Vec<u8>, until: Instant) -> Made {
    let bytes = Arc::new(bytes);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (bytes, address) = (Arc::clone(&bytes), address.to_owned());
        tasks.spawn(async move {
            let Some(stream) = open_h2(&address).await else { return Made::default() };
            let (mut reader, mut writer) = stream.into_split();
            let writing = tokio::spawn(async move {
                let _ = tokio::time::timeout_at(until.into(), writer.write_all(&bytes)).await;
                // The connection stays open.
                writer
            });
            let (mut answer, mut part) = (Vec::new(), vec![0; 16 << 10]);
            while let Ok(Ok(read @ 1..)) = tokio::time::timeout_at(until.into(), reader.read(&mut part)).await {
                answer.extend_from_slice(&part[..read]);
            }
            drop(writing.await);
            let refused = count(kinds(&answer).0.split(|kind| *kind == HEADERS).count() - 1);
            Made { connections: 1, refused, ..Made::default() }
        });
    }
    let mut all = Made::default();
    while let Some(made) = tasks.join_next().await {
        all += made.expect("no panic");
    }
    all
}

/// Requests with heads of 28 KiB that nothing comes after. Those of health checks are among them.
pub async fn open_requests(doors: Doors, until: Instant) -> Made {
    const STREAMS: u32 = 1_500;
    let mut h2 = Vec::new();
    let large = "x".repeat(14 << 10);
    for number in 0..STREAMS {
        let path = if number % 2 == 0 { "/api.Cluster/Set" } else { "/grpc.health.v1.Health/Check" };
        let stream = number * 2 + 1;
        frame(&mut h2, HEADERS, 0, stream, &head(path, &[("x-a", &large)]));
        let mut more = Vec::new();
        field(&mut more, "x-b", &large);
        frame(&mut h2, CONTINUATION, END_HEADERS, stream, &more);
    }
    let until = until.max(Instant::now() + Duration::from_secs(5));
    let made = sent_on(24, &doors.grpc, h2, until).await;
    Made { sent: made.connections * u64::from(STREAMS), ..made }
}

/// Messages of which the five bytes come that claim 60 MiB.
pub async fn claims(doors: Doors, until: Instant) -> Made {
    const STREAMS: u32 = 1_000;
    let mut h2 = Vec::new();
    for number in 0..STREAMS {
        let stream = number * 2 + 1;
        frame(&mut h2, HEADERS, END_HEADERS, stream, &head("/api.Cluster/Set", &[]));
        data(&mut h2, stream, &[0, 3, 0xc0, 0, 0]);
    }
    let made = sent_on(4, &doors.grpc, h2, until.max(Instant::now() + Duration::from_secs(2))).await;
    Made { sent: made.connections * u64::from(STREAMS), ..made }
}

/// Links on which most of a first message comes, and never all.
pub async fn unknown_links(doors: Doors, until: Instant) -> Made {
    /// A window's worth on each connection.
    const STREAMS: u32 = 2;
    let mut h2 = Vec::new();
    for number in 0..STREAMS {
        let stream = number * 2 + 1;
        frame(&mut h2, HEADERS, END_HEADERS, stream, &head("/api.Peer/Link", &[]));
        let mut body = vec![0, 0, 0x20, 0, 0];
        body.resize(1_900 << 10, b'x');
        data(&mut h2, stream, &body);
    }
    let until = until.max(Instant::now() + Duration::from_secs(4));
    let made = sent_on(150, &doors.grpc, h2, until).await;
    Made { sent: made.connections * u64::from(STREAMS), ..made }
}

/// Watches whose client reads nothing, while it writes values of 2 MiB to what they watch.
pub async fn unread_watches(doors: Doors, until: Instant) -> Made {
    const WATCHES: usize = 300;
    let mut writer = ClusterClient::new(channel(&doors.grpc).await);
    let mut watches = Vec::new();
    let until = until.max(Instant::now() + Duration::from_secs(3));
    for number in 0..WATCHES {
        // Small windows: the transport of this client takes little ahead.
        if number % 30 == 0 {
            let endpoint = Endpoint::from_shared(format!("http://{}", doors.grpc)).expect("it is well formed");
            let channel = endpoint.connect().await.expect("the node listens");
            watches.push((ClusterClient::new(channel), Vec::new()));
        }
        let (client, streams) = watches.last_mut().expect("one was added");
        let request =
            WatchRequest { keys: Some(watch_request::Keys::Key("watched".into())), values: true, ..Default::default() };
        streams.push(client.watch(request).await.expect("the node takes watches").into_inner());
    }
    let mut made = Made { connections: count(watches.len()), ..Made::default() };
    while Instant::now() < until {
        let content = Some(entry::Content::Binary(vec![b'h'; 2 << 20].into()));
        let entry = Some(Entry { key: "watched".into(), content });
        made.sent += 1;
        let _ = writer.set(SetRequest { entry, ..Default::default() }).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // They are read to their end, or to an event that has not come yet. The last of them found no room.
    for stream in watches.iter_mut().rev().flat_map(|(_, streams)| streams.iter_mut().rev()) {
        if made.refused > 0 {
            break;
        }
        loop {
            match tokio::time::timeout(Duration::from_millis(20), stream.message()).await {
                Ok(Ok(Some(_))) => {}
                Ok(Err(status)) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    made.refused += 1;
                    break;
                }
                Ok(Ok(None)) | Err(_) => break,
            }
        }
    }
    made
}

/// A request to write so many zeros, as gzip makes it, after its five bytes.
fn bomb(zeros: usize) -> Vec<u8> {
    let content = Some(entry::Content::Binary(vec![0; zeros].into()));
    let request = SetRequest { entry: Some(Entry { key: "bomb".into(), content }), ..Default::default() };
    let mut gzip =
        Command::new("gzip").arg("-9c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip runs");
    let mut stdin = gzip.stdin.take().expect("it is piped");
    let writing = std::thread::spawn(move || stdin.write_all(&request.encode_to_vec()));
    let packed = gzip.wait_with_output().expect("gzip ends").stdout;
    writing.join().expect("no panic").expect("gzip reads");
    let mut message = vec![1];
    message.extend_from_slice(&u32::try_from(packed.len()).expect("it is short").to_be_bytes());
    message.extend_from_slice(&packed);
    message
}

/// Messages of 60 KiB that become 60 MiB, on streams that do not end, and more of them that become 70 MiB, which are too much. HTTP takes
/// no compression.
pub async fn gzip_bombs(doors: Doors, until: Instant) -> Made {
    const STREAMS: u32 = 40;
    let [bomb, too_large] = [60, 70].map(|mib| bomb(mib << 20));
    let mut h2 = Vec::new();
    for number in 0..STREAMS {
        let stream = number * 2 + 1;
        frame(&mut h2, HEADERS, END_HEADERS, stream, &head("/api.Cluster/Set", &[("grpc-encoding", "gzip")]));
        data(&mut h2, stream, if number % 8 == 7 { &too_large } else { &bomb });
    }
    let h1 = b"PUT /bomb HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b"
        .to_vec();
    let bytes = Arc::new((h2, h1));
    repeated(2, until, || {
        let (bytes, doors) = (Arc::clone(&bytes), doors.clone());
        async move {
            let stream = open_h2(&doors.grpc).await;
            let heads = |answer: &[u8]| kinds(answer).0.split(|kind| *kind == HEADERS).count() - 1;
            let too_large = STREAMS as usize / 8;
            let (answer, _) = said_until(stream, &bytes.0, ANSWER_TIME_MAX, |answer| heads(answer) >= too_large).await;
            let refused = count(heads(&answer));
            assert!(refused > 0, "bombs are refused");
            let stream = open(&doors.http).await;
            let (answer, _) =
                said_until(stream, &bytes.1, ANSWER_TIME_MAX, |answer| answer.windows(4).any(|end| end == b"\r\n\r\n"))
                    .await;
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert!(text.starts_with("HTTP/1.1 415"), "{text:?}");
            Made { connections: 2, sent: u64::from(STREAMS) + 1, refused: refused + 1, ..Made::default() }
        }
    })
    .await
}

/// Lists within lists within lists, and objects.
pub async fn deep_json(doors: Doors, until: Instant) -> Made {
    let request = |what: &str, body: &str| {
        let head = "host: localhost\r\nconnection: close\r\ncontent-type: application/json";
        format!("{what} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let (lists, objects) = ("[".repeat(1 << 20), "{\"a\":".repeat(100_000));
    let requests = Arc::new([
        request("POST /v1/batch", &lists),
        request("PUT /v1/members", &lists),
        request("PUT /v1/tables/deep", &objects),
    ]);
    repeated(4, until, || {
        let (requests, address) = (Arc::clone(&requests), doors.http.clone());
        async move {
            let mut made = Made::default();
            for request in requests.iter() {
                let (answer, is_closed) = said(&address, request, ANSWER_TIME_MAX).await;
                // A connection may be closed before all is sent, and its answer is then lost.
                let is_refused = answer.starts_with(b"HTTP/1.1 4") || answer.is_empty();
                assert!(is_closed && is_refused, "{:?}", String::from_utf8_lossy(&answer));
                made.connections += 1;
                made.sent += 1;
                made.closed += 1;
                made.refused += u64::from(!answer.is_empty());
            }
            made
        }
    })
    .await
}

/// What a request of Redis claims, before any of it is there.
pub async fn redis_counts(doors: Doors, until: Instant) -> Made {
    const CASES: [&[u8]; 6] = [
        b"*1000000000\r\n",
        b"*-9223372036854775808\r\n*20002\r\n",
        b"*2\r\n$3\r\nGET\r\n$1000000000\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$62914561\r\n",
        b"*20001\r\n$3\r\nGET\r\n",
        b"*99999999999999999999999999\r\n",
    ];
    repeated(8, until, || {
        let address = doors.redis.clone();
        async move {
            let mut made = Made::default();
            for case in CASES {
                let (answer, is_closed) = said(&address, case, ANSWER_TIME_MAX).await;
                let text = String::from_utf8_lossy(&answer).into_owned();
                assert!(
                    text.contains("-ERR Protocol error") && is_closed,
                    "{:?}: {text:?}",
                    String::from_utf8_lossy(case)
                );
                made.connections += 1;
                made.sent += 1;
                made.closed += 1;
                made.refused += 1;
            }
            made
        }
    })
    .await
}

/// Messages as their bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("the address is well formed");
    endpoint.connect().await.expect("the node listens")
}

/// Lists of 8 million empty elements, each of which takes a hundred times its two bytes once it is decoded.
pub async fn protobuf_counts(doors: Doors, until: Instant) -> Made {
    let keys = Bytes::from(b"\x0a\0".repeat(8 << 20));
    repeated(3, until, || {
        let (address, keys) = (doors.grpc.clone(), keys.clone());
        async move {
            let mut made = Made { connections: 1, ..Made::default() };
            let mut grpc = Grpc::new(channel(&address).await);
            for path in ["/api.Cluster/BatchWrite", "/api.Cluster/BatchGet", "/api.Members/Change"] {
                grpc.ready().await.expect("the node is there");
                let mut request = Request::new(keys.clone());
                request.set_timeout(ANSWER_TIME_MAX);
                let status =
                    grpc.unary(request, PathAndQuery::from_static(path), Raw).await.expect_err("it is too much");
                assert!(!matches!(status.code(), Code::Internal | Code::Unknown), "{path}: {status:?}");
                made.sent += 1;
                made.refused += 1;
            }
            made
        }
    })
    .await
}

/// Writes of 4 KiB, 2,000 at a time by one client.
pub async fn many_in_flight(doors: Doors, until: Instant) -> Made {
    const CONNECTIONS: u64 = 4;
    const AT_ONCE: usize = 500;
    let (sent, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let channel = channel(&doors.grpc).await;
        for number in 0..AT_ONCE {
            let (mut client, sent, refused) =
                (ClusterClient::new(channel.clone()), Arc::clone(&sent), Arc::clone(&refused));
            tasks.spawn(async move {
                while Instant::now() < until {
                    let content = Some(entry::Content::Binary(vec![b'h'; 4 << 10].into()));
                    let entry = Some(Entry { key: format!("hostile-{number}"), content });
                    let mut request = Request::new(SetRequest { entry, ..Default::default() });
                    request.set_timeout(Duration::from_secs(5));
                    sent.fetch_add(1, Ordering::Relaxed);
                    if let Err(status) = client.set(request).await
                        && status.code() == Code::ResourceExhausted
                    {
                        assert!(status.message().contains("this client"), "{status}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    Made {
        connections: CONNECTIONS,
        sent: sent.load(Ordering::Relaxed),
        refused: refused.load(Ordering::Relaxed),
        ..Made::default()
    }
}
