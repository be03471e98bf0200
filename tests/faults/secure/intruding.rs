//! Those who must be refused: strangers, those with a token that nobody made, or one that was revoked, and those with a
//! certificate of somebody else's CA.
//!
//! A node that reaches a majority refuses a revoked token within two seconds. Under faults it may reach none, and the one who
//! asks cannot see that. So an administrator asks each node again and again for the list of tokens, which the node reads from a
//! majority. A node that answers each of these at once has reached one all the while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quorate::auth::Token;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::tokens::Revoked;
use super::{ADMINISTRATION_TIME_MAX, LATE_MAX, REFUSED_WITHIN, Secure, Who, lock};
use crate::asking::{Kind, Miss, Wish};
use crate::doors::{Door, Node, Response, Security, ask};
use crate::pass::{Issued, Pass};
use crate::testkit::requests::Ask;
use crate::testkit::tls::Believes;

/// A node that answers the administrator within this time reaches a majority.
const AT_ONCE: Duration = Duration::from_millis(400);
/// How long an intruder waits.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(400);
/// The pause of an intruder at one node.
const PAUSE: Duration = Duration::from_millis(100);
/// The revoked tokens that are still tried.
const REVOKED_TRIED: usize = 6;

/// The key that nobody may write.
const STRANGE: &str = "strange";

/// Somebody who must be refused.
#[derive(Clone, Copy, Debug)]
enum Intruder {
    /// Without a token.
    Stranger,
    /// With a token that nobody made.
    Forger,
    /// With a certificate of another CA.
    Foreigner,
}

/// What an intruder is told.
#[derive(Debug)]
pub(super) enum Told {
    Refused,
    /// The node is away, or not ready.
    Nothing,
    /// What a node must not say.
    Wrong(String),
}

impl Secure {
    /// Asks each node for what it must refuse, until `over`.
    pub(super) async fn intrude(&self, mut random: StdRng, over: &AtomicBool) {
        let at_each: Vec<_> = (0..self.places.len())
            .map(|at| self.intrude_at(at, StdRng::seed_from_u64(random.random()), over))
            .collect();
        join_all(at_each).await;
    }

    async fn intrude_at(&self, at: usize, mut random: StdRng, over: &AtomicBool) {
        let administrator = self.administrator(&[at], AT_ONCE);
        // Since when it has reached a majority.
        let mut reaches: Option<Instant> = None;
        while !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let listed = tokio::time::timeout(AT_ONCE, administrator.list_tokens()).await;
            reaches = if matches!(listed, Ok(Ok(_))) { reaches.or(Some(asked)) } else { None };
            let revoked: Vec<Revoked> = lock(&self.revoked).iter().rev().take(REVOKED_TRIED).cloned().collect();
            if let Some(revoked) = revoked.choose(&mut random) {
                let door = *Door::ALL.choose(&mut random).expect("there are some");
                let called = Instant::now();
                match self.try_revoked(at, door, revoked).await {
                    Told::Refused => {}
                    // Nothing is known of how long the node has been away.
                    Told::Nothing => reaches = None,
                    Told::Wrong(what) => {
                        let since = reaches.map(|reaches| called.saturating_duration_since(reaches.max(revoked.at)));
                        if since.is_some_and(|since| since > REFUSED_WITHIN + LATE_MAX) {
                            self.complain(format!(
                                "{:?} was revoked {:?} before, and node {at} has reached a majority for {since:?}: {what}",
                                revoked.token,
                                called.saturating_duration_since(revoked.at)
                            ));
                        }
                        self.count("requests with a revoked token that a node did not know of yet");
                    }
                }
            }
            if random.random_bool(0.3) {
                let who =
                    *[Intruder::Stranger, Intruder::Forger, Intruder::Foreigner].choose(&mut random).expect("some");
                let door = *Door::ALL.choose(&mut random).expect("there are some");
                if let Told::Wrong(what) = self.try_as(who, at, door).await {
                    self.complain(what);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks with a revoked token.
    pub(super) async fn try_revoked(&self, at: usize, door: Door, revoked: &Revoked) -> Told {
        let told = self.try_with(at, door, &Pass::of(&revoked.token), "late").await;
        if matches!(told, Told::Refused) {
            self.count("refusals of revoked tokens");
        }
        told
    }

    async fn try_as(&self, who: Intruder, at: usize, door: Door) -> Told {
        match who {
            Intruder::Stranger => {
                let told = self.try_with(at, door, &Pass::default(), STRANGE).await;
                if matches!(told, Told::Refused) {
                    self.count("refusals without a token");
                }
                told
            }
            Intruder::Forger => {
                let forged = Issued::new(Token::new().expect("the system gives random bytes"));
                let told = self.try_with(at, door, &Pass::of(&forged), STRANGE).await;
                if matches!(told, Told::Refused) {
                    self.count("refusals of wrong tokens");
                }
                told
            }
            Intruder::Foreigner => self.try_foreign(at, door).await,
        }
    }

    /// Shows a certificate of somebody else's CA to a listener.
    async fn try_foreign(&self, at: usize, door: Door) -> Told {
        let place = &self.places[at];
        let address = match door {
            Door::Grpc => place.address.clone(),
            Door::Http1 | Door::Http2 => format!("127.0.0.1:{}", place.ports.http),
            Door::Lines => format!("127.0.0.1:{}", place.ports.lines),
            Door::Redis => format!("127.0.0.1:{}", place.ports.redis),
        };
        let file = |kind: &str| self.dir.join(format!("foreign/client-mallory.{kind}"));
        let foreign = Believes::new(&self.dir.join("clients.crt")).with_certificate(file("crt"), file("key"));
        if tokio::time::timeout(ANSWER_TIME_MAX, foreign.is_refused(&address))
            .await
            .is_ok_and(|said| said.unwrap_or(false))
        {
            self.count("handshakes refused");
            return Told::Refused;
        }
        // It may have been accepted, or the node is away. With a token that counts, a node that accepts it answers.
        let pass = &self.passes[&Who::Keys];
        let node = Node::new(&place.address, place.ports, Some(Security { tls: &foreign, pass }));
        match self.ask_at(&node, door, STRANGE).await {
            Ok(said) => Told::Wrong(format!("node {at} serves {door:?} with a certificate of another CA: {said:?}")),
            Err(_) => Told::Nothing,
        }
    }

    async fn try_with(&self, at: usize, door: Door, pass: &Pass, key: &str) -> Told {
        match self.ask_at(&self.node(at, pass), door, key).await {
            Err(Miss::Refused(_) | Miss::Revoked(_)) => Told::Refused,
            Err(Miss::Failed(_) | Miss::Unknown(_)) => Told::Nothing,
            Err(miss @ Miss::Defect(_)) => Told::Wrong(format!("an intruder at node {at} by {door:?}: {miss}")),
            Ok(said) => Told::Wrong(format!("an intruder at node {at} by {door:?} is answered with {said:?}")),
        }
    }

    /// Asks a node by a door, now to read and now to write.
    async fn ask_at(&self, node: &Node, door: Door, key: &str) -> Result<Response, Miss> {
        let number = self.fresh_number();
        let asked = if number.is_multiple_of(2) { Ask::Get } else { Ask::Set };
        let wish = Wish { key: key.to_owned(), kind: Kind::Counter, ask: asked, number, is_resend: false, door };
        ask(node, &wish, ANSWER_TIME_MAX, ANSWER_TIME_MAX).await
    }

    /// Waits until each node refuses the token that was revoked last.
    pub(super) async fn wait_refused(&self) {
        let Some(revoked) = lock(&self.revoked).last().cloned() else { return };
        for at in self.everywhere() {
            while !matches!(self.try_revoked(at, Door::Grpc, &revoked).await, Told::Refused) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Without faults, each door of each node refuses every intruder, and a token that was revoked long enough ago.
    pub(crate) async fn refuses_all(&self) -> Result<(), String> {
        let revoked: Vec<Revoked> = lock(&self.revoked).iter().rev().take(REVOKED_TRIED).cloned().collect();
        let doors = self.everywhere().into_iter().flat_map(|at| Door::ALL.map(|door| (at, door)));
        for (at, door) in doors {
            for who in [Intruder::Stranger, Intruder::Forger, Intruder::Foreigner] {
                until_refused(Duration::ZERO, async || self.try_as(who, at, door).await)
                    .await
                    .map_err(|what| format!("{who:?} at node {at} by {door:?}, without a fault: {what}"))?;
            }
            for revoked in &revoked {
                let left = (REFUSED_WITHIN + LATE_MAX).saturating_sub(revoked.at.elapsed());
                until_refused(left, async || self.try_revoked(at, door, revoked).await)
                    .await
                    .map_err(|what| format!("a revoked token at node {at} by {door:?}, without a fault: {what}"))?;
            }
        }
        let administrator = self.administrator(&self.everywhere(), 5 * ADMINISTRATION_TIME_MAX);
        match administrator.get(STRANGE).await {
            Ok(None) => self.problem(),
            found => Err(format!("nobody who is known has written {STRANGE:?}, and a read of it ends with {found:?}")),
        }
    }
}

/// Tries until it is refused. A machine that does other things meanwhile may leave a try or two unanswered.
async fn until_refused(within: Duration, mut attempt: impl AsyncFnMut() -> Told) -> Result<(), String> {
    let (began, mut unanswered) = (Instant::now(), 0);
    loop {
        match attempt().await {
            Told::Refused => return Ok(()),
            Told::Nothing if unanswered < 10 => unanswered += 1,
            Told::Wrong(_) if began.elapsed() < within => {}
            told => return Err(format!("{told:?} after {:?}", began.elapsed())),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
