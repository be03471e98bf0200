//! The network between nodes: TCP connections through this process, so that each direction between two nodes can be cut,
//! delayed and throttled on its own, without privileges.
//!
//! Contract: every ordered pair of nodes has a port of its own, at which the first node reaches the second. A connection
//! carries bytes in both directions. Each direction obeys its own [`Wire`], whichever node opened the connection. As with real
//! TCP, a receiver gets a prefix of the bytes that were sent: no bytes follow lost ones, and the end of a stream waits behind
//! a cut as bytes do.
//!
//! Caveat: the proxy sees no packets. A connection to a node that is cut off is accepted, and then silent.

use std::convert::Infallible;
use std::time::Duration;

use rand::RngExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// The most bytes of one read: few, so that a throttled wire carries a slow stream and no bursts.
const CHUNK_BYTES: usize = 16 << 10;
/// The most chunks that wait on a wire, 4 MiB in all. Beyond it the sender waits, as at a full socket buffer.
const CHUNKS_WAITING_MAX: usize = 256;
/// How late a timer may fire, and how far a throttled wire may catch up: one chunk may take less than a tick of the timer.
const TIMER_LATE_MAX: Duration = Duration::from_millis(5);

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// They arrive.
    #[default]
    Open,
    /// They arrive once the wire is open again, as retransmissions do.
    Stalled,
    /// They are lost, and so are later bytes of the same connection, even once the wire is open again. Neither side is told:
    /// the connection is reset only after its sender has given it up.
    Lost,
    /// Every connection over the wire is reset at once, and so is every new one.
    Reset,
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Whether bytes pass.
    pub flow: Flow,
    /// The delay of each byte, and up to half as much again at random.
    pub delay: Duration,
    /// The bytes that pass in a second, on each connection.
    pub bytes_per_second: Option<u32>,
}

impl Wire {
    /// A wire with the faults of both.
    pub fn worst(self, other: Self) -> Self {
        let rates = [self.bytes_per_second, other.bytes_per_second];
        Self {
            flow: self.flow.max(other.flow),
            delay: self.delay.max(other.delay),
            bytes_per_second: rates.into_iter().flatten().min(),
        }
    }
}

/// The wires between some nodes. They close when it is dropped.
#[derive(Debug)]
pub struct Network {
    nodes: usize,
    ports: Vec<u16>,
    wires: Vec<watch::Sender<Wire>>,
    _listeners: JoinSet<Infallible>,
}

impl Network {
    /// Opens wires between nodes that listen on these ports of loopback, now or later.
    pub async fn new(node_ports: &[u16]) -> Self {
        let nodes = node_ports.len();
        let wires: Vec<watch::Sender<Wire>> =
            std::iter::repeat_with(|| watch::Sender::new(Wire::default())).take(nodes * nodes).collect();
        let mut listeners = JoinSet::new();
        let mut ports = Vec::new();
        for from in 0..nodes {
            for to in 0..nodes {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
                ports.push(listener.local_addr().expect("it is bound").port());
                let (there, back) = (wires[from * nodes + to].subscribe(), wires[to * nodes + from].subscribe());
                listeners.spawn(listen(listener, node_ports[to], there, back));
            }
        }
        Self { nodes, ports, wires, _listeners: listeners }
    }

    /// The port at which `from` reaches `to`.
    pub fn port(&self, from: usize, to: usize) -> u16 {
        self.ports[from * self.nodes + to]
    }

    /// Sets the wire from one node to another.
    pub fn set(&self, from: usize, to: usize, wire: Wire) {
        self.wires[from * self.nodes + to].send_replace(wire);
    }
}

async fn listen(
    listener: TcpListener,
    target: u16,
    there: watch::Receiver<Wire>,
    back: watch::Receiver<Wire>,
) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((opened, _)) => {
                    connections.spawn(connect(opened, target, there.clone(), back.clone()));
                }
                // The process has no descriptor left at the moment.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Joins `opened` to the listener on `target`.
async fn connect(opened: TcpStream, target: u16, there: watch::Receiver<Wire>, mut back: watch::Receiver<Wire>) {
    if let Ok(reached) = TcpStream::connect(("127.0.0.1", target)).await {
        join(opened, reached, there, back).await;
    } else {
        // A refusal travels on the wire of the answers.
        passes(&mut back).await;
        reset(&opened);
    }
}

/// Carries bytes in both directions until both have ended, or a reset.
async fn join(
    mut opened: TcpStream,
    mut reached: TcpStream,
    there: watch::Receiver<Wire>,
    back: watch::Receiver<Wire>,
) {
    // Only wires may delay bytes.
    if opened.set_nodelay(true).and_then(|()| reached.set_nodelay(true)).is_err() {
        return;
    }
    let (mut there_resets, mut back_resets) = (there.clone(), back.clone());
    let ended_well = {
        let (opened_read, opened_write) = opened.split();
        let (reached_read, reached_write) = reached.split();
        let carried = async {
            tokio::try_join!(carry(opened_read, reached_write, there), carry(reached_read, opened_write, back))
        };
        tokio::select! {
            carried = carried => carried.is_ok(),
            () = resets(&mut there_resets) => false,
            () = resets(&mut back_resets) => false,
        }
    };
    if !ended_well {
        reset(&opened);
        reset(&reached);
    }
}

/// Bytes of the connection were lost.
struct Broken;

/// Bytes on their way.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// Carries the bytes of one direction, and then its end.
async fn carry(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    wire: watch::Receiver<Wire>,
) -> Result<(), Broken> {
    let (queue, waiting) = mpsc::channel(CHUNKS_WAITING_MAX);
    let ((), delivered) = tokio::join!(take(from, queue, wire.clone()), deliver(to, waiting, wire));
    delivered
}

async fn take(mut from: impl AsyncRead + Unpin, queue: mpsc::Sender<Chunk>, wire: watch::Receiver<Wire>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut due = Instant::now();
    // The stream of a killed process ends with an error. It is passed on as a normal end.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let delay = wire.borrow().delay;
        let jittered = if delay.is_zero() { delay } else { delay.mul_f64(rand::rng().random_range(1.0..1.5)) };
        due = due.max(Instant::now() + jittered);
        if queue.send(Chunk { due, bytes: buffer[..count].to_vec() }).await.is_err() {
            return;
        }
    }
}

async fn deliver(
    mut to: impl AsyncWrite + Unpin,
    mut waiting: mpsc::Receiver<Chunk>,
    mut wire: watch::Receiver<Wire>,
) -> Result<(), Broken> {
    let mut is_broken = false;
    let mut free_at = Instant::now();
    while let Some(Chunk { due, bytes }) = waiting.recv().await {
        sleep_until(due).await;
        if passes(&mut wire).await == Passage::Lost {
            while waiting.recv().await.is_some() {}
            is_broken = true;
            break;
        }
        if to.write_all(&bytes).await.is_err() {
            // The receiver is gone. Its sender learns that on the other wire, and further bytes are dropped here.
            while waiting.recv().await.is_some() {}
            return Ok(());
        }
        let rate = wire.borrow().bytes_per_second;
        if let Some(rate) = rate {
            let takes = Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
            free_at = free_at.max(Instant::now() - TIMER_LATE_MAX) + takes;
            sleep_until(free_at).await;
        }
    }
    if is_broken || passes(&mut wire).await == Passage::Lost {
        drop(wire.wait_for(|wire| wire.flow == Flow::Open).await);
        return Err(Broken);
    }
    // A receiver that is gone needs no end.
    drop(to.shutdown().await);
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Free,
    Lost,
}

/// Waits until the wire carries or loses bytes.
async fn passes(wire: &mut watch::Receiver<Wire>) -> Passage {
    match wire.wait_for(|wire| wire.flow != Flow::Stalled).await.map(|wire| wire.flow) {
        Ok(Flow::Lost) => Passage::Lost,
        _ => Passage::Free,
    }
}

/// Waits until the wire resets its connections.
async fn resets(wire: &mut watch::Receiver<Wire>) {
    drop(wire.wait_for(|wire| wire.flow == Flow::Reset).await);
}

/// Lets the connection end with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    // A connection that has ended cannot be reset, and needs no reset.
    drop(stream.set_zero_linger());
}
