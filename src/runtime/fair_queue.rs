//! Whose request begins next, where several clients have many.
//!
//! Contract: while other clients send requests too, a client begins no more of its own while [`REQUESTS_AT_ONCE`] of them are under
//! way that began lately. Its further ones wait in the order in which they came, and the clients that have some take turns. So
//! others wait behind that many requests of one client, and not behind all that it has in flight. A client that is alone waits for
//! nothing, and neither does the node itself.
//!
//! Requests that began earlier do not count: they wait for a peer or for another request, and keep nobody from the processor.
//!
//! Bounds: admission bounds the requests that wait ([`super::NodeHandle`]). Each client begins as many in two windows at least. A
//! request waits until its deadline at most: then it begins all the same, and the protocol ends it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::REQUESTS_AT_ONCE;
use crate::shares::Account;

/// So long after a request of another client nobody counts as alone.
const SHARED_FOR: Duration = Duration::from_millis(200);
/// A request counts until the end of the window after the one in which it began.
pub(super) const WINDOW: Duration = Duration::from_millis(10);

/// The requests of one client, with their deadlines.
type Requests<T> = VecDeque<(Instant, T)>;

/// The requests that wait for their turn, by client.
pub(super) struct FairQueue<T> {
    waiting: VecDeque<(Arc<Account>, Requests<T>)>,
    /// How many wait in all.
    count: usize,
    /// The client whose request came last.
    last: Option<Arc<Account>>,
    /// Until then several clients share the node.
    shared_until: Option<Instant>,
    /// When the first window began.
    origin: Instant,
}

impl<T> FairQueue<T> {
    pub(super) fn new(origin: Instant) -> Self {
        Self { waiting: VecDeque::new(), count: 0, last: None, shared_until: None, origin }
    }

    /// Gives back a request of `account` that begins now: see [`Self::begin`]. Otherwise it waits, until `deadline` at most: see
    /// [`Self::next`].
    pub(super) fn enter(&mut self, account: &Arc<Account>, request: T, deadline: Instant, now: Instant) -> Option<T> {
        if !account.is_bounded() {
            return Some(request);
        }
        self.note(account, now);
        let waits = |(waiting, _): &&mut (Arc<Account>, _)| Arc::ptr_eq(waiting, account);
        if self.count > 0
            && let Some((_, requests)) = self.waiting.iter_mut().find(waits)
        {
            requests.push_back((deadline, request));
        } else if self.may_begin(account, now) {
            return Some(request);
        } else {
            self.waiting.push_back((Arc::clone(account), VecDeque::from([(deadline, request)])));
        }
        self.count += 1;
        None
    }

    /// The next request that has waited and begins now: see [`Self::begin`].
    pub(super) fn next(&mut self, now: Instant) -> Option<T> {
        let is_late = |requests: &Requests<T>| requests.front().is_some_and(|(deadline, _)| *deadline <= now);
        let mut clients = self.waiting.iter();
        let turn = clients.position(|(account, requests)| self.may_begin(account, now) || is_late(requests))?;
        let (account, mut requests) = self.waiting.remove(turn)?;
        let (_, next) = requests.pop_front()?;
        if !requests.is_empty() {
            self.waiting.push_back((account, requests));
        }
        self.count -= 1;
        Some(next)
    }

    /// Every request that waits.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.count = 0;
        std::mem::take(&mut self.waiting).into_iter().flat_map(|(_, requests)| requests).map(|(_, request)| request)
    }

    /// Counts a request of `account` that begins. Returns its window, which [`Account::end`] wants.
    pub(super) fn begin(&self, account: &Account, now: Instant) -> u64 {
        let window = self.window(now);
        account.begin(window);
        window
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn note(&mut self, account: &Arc<Account>, now: Instant) {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, account)) {
            return;
        }
        if self.last.replace(Arc::clone(account)).is_some() {
            self.shared_until = Some(now + SHARED_FOR);
        }
    }

    fn may_begin(&self, account: &Account, now: Instant) -> bool {
        self.shared_until.is_none_or(|until| now >= until) || account.begun_lately(self.window(now)) < REQUESTS_AT_ONCE
    }

    fn window(&self, now: Instant) -> u64 {
        // In thousands of years it does not overflow.
        u64::try_from(now.saturating_duration_since(self.origin).as_millis() / WINDOW.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::shares::{Accounts, Amounts, Owner};

    struct Clients {
        queue: FairQueue<u32>,
        accounts: Accounts,
        now: Instant,
        /// That of the requests that enter.
        deadline: Instant,
    }

    impl Clients {
        fn new() -> Self {
            let (accounts, now) = (Accounts::new(Amounts::of_requests(2_048, 1_000)), Instant::now());
            Self { queue: FairQueue::new(now), accounts, now, deadline: now + Duration::from_secs(5) }
        }

        fn client(&self, number: u8) -> Arc<Account> {
            self.accounts.of(Owner::of_address(IpAddr::from([10, 0, 0, number])))
        }

        /// Whether a request begins at once.
        fn begins(&mut self, client: &Arc<Account>, request: u32) -> bool {
            let begins = self.queue.enter(client, request, self.deadline, self.now).is_some();
            if begins {
                self.queue.begin(client, self.now);
            }
            begins
        }

        /// Those that begin after they have waited: of the first client below 5,000, and of the other one above.
        fn next(&mut self, clients: [&Arc<Account>; 2]) -> Vec<u32> {
            let mut begun = Vec::new();
            while let Some(request) = self.queue.next(self.now) {
                self.queue.begin(clients[usize::from(request >= 5_000)], self.now);
                begun.push(request);
            }
            begun
        }
    }

    const MOST: u32 = 64;

    #[test]
    fn client_alone_waits_for_nothing() {
        let mut clients = Clients::new();
        let one = clients.client(1);
        assert!((0..1_000).all(|request| clients.begins(&one, request)));
        assert_eq!((one.begun_lately(0), clients.queue.len()), (1_000, 0));
    }

    #[test]
    fn clients_that_share_a_node_have_so_many_each() {
        let mut clients = Clients::new();
        let (one, other) = (clients.client(1), clients.client(2));
        assert!(clients.begins(&other, 9_000));
        let begun = (0..1_000).filter(|request| clients.begins(&one, *request)).count();
        assert_eq!((begun, clients.queue.len()), (REQUESTS_AT_ONCE, 1_000 - REQUESTS_AT_ONCE));
        // The other one begins at once, as often as it likes, until it has as many.
        assert!((1..MOST).all(|request| clients.begins(&other, 9_000 + request)));
        assert!(!clients.begins(&other, 9_064));
        assert!(clients.next([&one, &other]).is_empty());
        // Each request that ends makes room for the next one, in the order in which they came, and clients take turns.
        one.end(0);
        assert_eq!(clients.next([&one, &other]), [MOST]);
        for _ in 0..3 {
            one.end(0);
            other.end(0);
        }
        assert_eq!(clients.next([&one, &other]), [9_064, MOST + 1, MOST + 2, MOST + 3]);
        // One that comes does not overtake those that wait.
        one.end(0);
        assert!(!clients.begins(&one, 1_001));
        assert_eq!(clients.next([&one, &other]), [MOST + 4]);
        let all: Vec<u32> = clients.queue.take_all().collect();
        assert_eq!((all.len(), all[0], all.last(), clients.queue.len()), (932, MOST + 5, Some(&1_001), 0));
    }

    #[test]
    fn requests_that_began_long_ago_hold_up_nothing() {
        let mut clients = Clients::new();
        let (one, other) = (clients.client(1), clients.client(2));
        clients.begins(&other, 9_000);
        for request in 0..200 {
            clients.begins(&one, request);
        }
        clients.now += WINDOW;
        clients.begins(&other, 9_001);
        assert!(clients.next([&one, &other]).is_empty());
        clients.now += WINDOW;
        assert_eq!(clients.next([&one, &other]), (MOST..2 * MOST).collect::<Vec<_>>());
        // The end of an earlier one makes no room.
        one.end(0);
        assert!(clients.next([&one, &other]).is_empty());
        one.end(2);
        assert_eq!(clients.next([&one, &other]), [2 * MOST]);
    }

    #[test]
    fn requests_wait_until_their_deadline_at_most() {
        let mut clients = Clients::new();
        let (one, other) = (clients.client(1), clients.client(2));
        clients.begins(&other, 9_000);
        clients.deadline = clients.now + Duration::from_millis(7);
        for request in 0..200 {
            clients.begins(&one, request);
        }
        assert!(clients.next([&one, &other]).is_empty());
        clients.now = clients.deadline;
        assert_eq!(clients.next([&one, &other]), (MOST..200).collect::<Vec<_>>());
    }

    #[test]
    fn client_is_alone_again_soon_after_the_others_last_request() {
        let mut clients = Clients::new();
        let (one, other) = (clients.client(1), clients.client(2));
        assert!(clients.begins(&other, 9_000));
        for request in 0..1_000 {
            clients.begins(&one, request);
        }
        clients.now += SHARED_FOR;
        assert_eq!(clients.next([&one, &other]), (MOST..1_000).collect::<Vec<_>>());
        assert_eq!(clients.queue.len(), 0);
        assert!(clients.begins(&one, 1_000));
    }

    #[test]
    fn node_itself_never_waits_and_makes_nobody_wait() {
        let mut clients = Clients::new();
        let (one, node) = (clients.client(1), Arc::clone(clients.accounts.unbounded()));
        assert!((0..1_000).all(|request| clients.begins(&one, request) && clients.begins(&node, request)));
    }
}
