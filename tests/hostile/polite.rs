//! Clients that do nothing wrong: one at each door, from an address of their own.
//!
//! Each asks again and again, with a little time between, and opens a new connection now and then: a full door must take it.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate::api::cluster_client::ClusterClient;
use quorate::api::{Entry, GetRequest, SetRequest, entry};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use super::Doors;
use super::testkit::redis::framed;

/// Where the others come from. Linux has all of 127.0.0.0/8 on loopback.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long one request may take: far longer than any, for a machine that compiles meanwhile.
const TIME_MAX: Duration = Duration::from_secs(15);
/// After so many requests a client opens a new connection.
const REQUESTS_OF_CONNECTION: usize = 16;
const PAUSE: Duration = Duration::from_millis(3);

/// The clients, while they run.
pub struct Polite {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Served>>,
}

/// How clients were served.
#[derive(Clone, Debug, Default)]
pub struct Served {
    pub times: Vec<Duration>,
    pub failed: Vec<String>,
}

impl Served {
    pub fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// A connection to a door.
enum Connection {
    Grpc(ClusterClient<Channel>),
    Http(BufReader<TcpStream>),
    Redis(BufReader<TcpStream>),
    Lines(BufReader<TcpStream>),
    Monitoring(BufReader<TcpStream>),
}

#[derive(Clone, Copy, Debug)]
enum Door {
    Grpc,
    Http,
    Redis,
    Lines,
    Monitoring,
}

impl Polite {
    /// Starts them on threads of their own.
    pub fn start(doors: &Doors, threads: &Handle) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let addresses = [
            (Door::Grpc, &doors.grpc),
            (Door::Http, &doors.http),
            (Door::Redis, &doors.redis),
            (Door::Lines, &doors.lines),
            (Door::Monitoring, &doors.monitoring),
        ];
        let client = |(door, address): (Door, &String)| threads.spawn(run(door, address.clone(), Arc::clone(&ends)));
        let clients = addresses.into_iter().map(client).collect();
        Self { ends, clients }
    }

    /// How they were served, until a time from now.
    pub async fn stop_after(self, time: Duration) -> Served {
        tokio::time::sleep(time).await;
        self.ends.store(true, Ordering::Relaxed);
        let mut all = Served::default();
        for client in self.clients {
            let Served { times, failed } = client.await.expect("no panic");
            all.times.extend(times);
            all.failed.extend(failed);
        }
        all
    }
}

async fn run(door: Door, address: String, ends: Arc<AtomicBool>) -> Served {
    let mut served = Served::default();
    let mut connection = None;
    let mut number = 0_usize;
    while !ends.load(Ordering::Relaxed) && served.failed.len() < 10 {
        if number.is_multiple_of(REQUESTS_OF_CONNECTION) {
            connection = None;
        }
        number += 1;
        let began = Instant::now();
        let asked = tokio::time::timeout(TIME_MAX, async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => open_at(door, &address).await?,
            };
            open.ask(number).await?;
            Ok::<_, Error>(open)
        });
        match asked.await {
            Ok(Ok(open)) => {
                served.times.push(began.elapsed());
                connection = Some(open);
            }
            Ok(Err(error)) => served.failed.push(format!("{door:?} {number}: {error}")),
            Err(_) => served.failed.push(format!("{door:?} {number}: no answer in {TIME_MAX:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
    served
}

async fn open_at(door: Door, address: &str) -> Result<Connection> {
    if let Door::Grpc = door {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("the address is well formed");
        let endpoint = endpoint.local_address(Some(IpAddr::V4(ADDRESS)));
        return Ok(Connection::Grpc(ClusterClient::new(endpoint.connect().await.map_err(Error::other)?)));
    }
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(ADDRESS), 0))?;
    let stream = socket.connect(address.parse().expect("it is an address")).await?;
    stream.set_nodelay(true)?;
    let stream = BufReader::new(stream);
    Ok(match door {
        Door::Grpc => unreachable!("it was handled"),
        Door::Http => Connection::Http(stream),
        Door::Redis => Connection::Redis(stream),
        Door::Lines => Connection::Lines(stream),
        Door::Monitoring => Connection::Monitoring(stream),
    })
}

impl Connection {
    /// Writes or reads a key of its own, and looks at the answer.
    async fn ask(&mut self, number: usize) -> Result<()> {
        let writes = number % 2 == 1;
        let value = format!("v{}", number - usize::from(!writes));
        match self {
            Self::Grpc(client) if writes => {
                let content = Some(entry::Content::Value(value));
                let entry = Some(Entry { key: "polite-grpc".into(), content });
                client.set(SetRequest { entry, ..Default::default() }).await.map(drop).map_err(Error::other)
            }
            Self::Grpc(client) => {
                let request = GetRequest { key: "polite-grpc".into(), ..Default::default() };
                let answer = client.get(request).await.map_err(Error::other)?.into_inner();
                let content = answer.entry.and_then(|entry| entry.content);
                expect(&format!("{content:?}"), &value)
            }
            Self::Http(stream) => {
                let (method, body) = if writes { ("PUT", value.as_str()) } else { ("GET", "") };
                let head = format!(
                    "{method} /v1/tables/default/keys/polite-http HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let (status, answer) = http(stream, &head).await?;
                expect(&status, " 20")?;
                if writes { Ok(()) } else { expect(&answer, &value) }
            }
            Self::Redis(stream) => {
                let words: &[&[u8]] =
                    if writes { &[b"SET", b"polite-redis", value.as_bytes()] } else { &[b"GET", b"polite-redis"] };
                stream.write_all(&framed(words)).await?;
                let mut answer = line(stream).await?;
                if answer.starts_with('$') {
                    answer = line(stream).await?;
                }
                expect(&answer, if writes { "+OK" } else { &value })
            }
            Self::Lines(stream) => {
                let text = if writes {
                    format!("PUT default polite-lines {value}\n")
                } else {
                    "GET default polite-lines\n".into()
                };
                stream.write_all(text.as_bytes()).await?;
                let answer = line(stream).await?;
                expect(&answer, if writes { "ok" } else { &value })
            }
            Self::Monitoring(stream) => {
                let (status, answer) = http(stream, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
                expect(&status, " 200")?;
                expect(&answer, "ready")
            }
        }
    }
}

fn expect(answer: &str, part: &str) -> Result<()> {
    if answer.contains(part) { Ok(()) } else { Err(Error::other(format!("{answer:?} has no {part:?}"))) }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut text = String::new();
    if stream.read_line(&mut text).await? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

/// The first line of an answer, and its body.
async fn http(stream: &mut BufReader<TcpStream>, request: &str) -> Result<(String, String)> {
    stream.write_all(request.as_bytes()).await?;
    let status = line(stream).await?;
    let mut length = 0;
    loop {
        let head = line(stream).await?.to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        if let Some(text) = head.strip_prefix("content-length:") {
            length = text.trim().parse().map_err(Error::other)?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
