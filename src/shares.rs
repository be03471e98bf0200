//! Fair shares of what a node has a bounded amount of: places for connections and for requests, and bytes.
//!
//! Contract: no pool is ever exceeded. An owner, which is an address or somebody with a token or a certificate, holds at most
//! half of what the other owners leave, or a fixed number where the operator has given one. So one owner never has all: where
//! `n` owners take what they can, the next one still finds the pool's size divided by 2 to the power of `n`. Whoever holds
//! nothing may have one thing that fits, however large.
//!
//! An account is remembered while it holds something, while somebody has it, or while its rate is not forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{
    BUFFERED_BYTES_MAX, CONNECTION_WAITS_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SECOND, HELLOS_MAX, LISTS_MAX,
    MONITORING_CONNECTIONS_MAX, SCANS_MAX, TOOLS_MAX, WATCHES_MAX,
};

/// What is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Places for connections, but for those to the monitoring port.
    Connections,
    /// Those of them that HTTP, lines and the Redis protocol may have.
    Gateways,
    /// Places for connections to the monitoring port.
    Monitoring,
    /// Requests in flight.
    Requests,
    /// The bytes of their keys and values.
    RequestBytes,
    /// Bytes of requests that arrive and of answers that leave.
    Buffers,
    /// Lists of the cluster's keys.
    Lists,
    /// Lists of one node's keys.
    Scans,
    /// Watches.
    Watches,
    /// Links of nodes that have not said who they are.
    Hellos,
    /// Calls of reflection and health checks over gRPC.
    Tools,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Connections,
        Self::Gateways,
        Self::Monitoring,
        Self::Requests,
        Self::RequestBytes,
        Self::Buffers,
        Self::Lists,
        Self::Scans,
        Self::Watches,
        Self::Hellos,
        Self::Tools,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Gateways => "gateway_connections",
            Self::Monitoring => "monitoring_connections",
            Self::Requests => "requests",
            Self::RequestBytes => "request_bytes",
            Self::Buffers => "buffers",
            Self::Lists => "lists",
            Self::Scans => "scans",
            Self::Watches => "watches",
            Self::Hellos => "hellos",
            Self::Tools => "tools",
        }
    }
}

/// Why somebody gets no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The pool is used up.
    UsedUp,
    /// The owner has its share.
    BeyondShare,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// The most connections of clients and peers.
    pub connections: usize,
    /// The most of them from one address; `None` for half of what the others leave.
    pub connections_of_address: Option<usize>,
    /// The most connections to the monitoring port.
    pub monitoring: usize,
    /// The most requests in flight.
    pub requests: usize,
    /// The most of them of one client; `None` for half of what the others leave.
    pub requests_of_client: Option<usize>,
    /// The most requests of one client in a second; `None` for any number.
    pub requests_of_client_per_second: Option<usize>,
    /// The most bytes of keys and values of requests in flight.
    pub request_bytes: usize,
}

impl Amounts {
    /// So many requests of so many bytes, and the usual amounts of all else.
    #[must_use]
    pub fn of_requests(requests: usize, request_bytes: usize) -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            connections_of_address: None,
            monitoring: MONITORING_CONNECTIONS_MAX,
            requests,
            requests_of_client: None,
            requests_of_client_per_second: None,
            request_bytes,
        }
    }
}

/// Whoever has a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Whoever is at this address. Of IPv6 it is the network of 64 bits, which one customer has as a whole.
    Address(IpAddr),
    /// Whoever is known by this name: the id of a token, or what a certificate says.
    Holder(Box<str>),
}

impl Owner {
    /// The owner of connections from this address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Something that all owners share.
#[derive(Debug)]
struct Pool {
    max: usize,
    /// The fixed share of one owner, if it is fixed.
    of_one: Option<usize>,
    used: AtomicUsize,
    refused_as_used_up: AtomicU64,
    refused_beyond_share: AtomicU64,
}

impl Pool {
    fn new(max: usize, of_one: Option<usize>) -> Self {
        Self {
            max,
            of_one,
            used: AtomicUsize::new(0),
            refused_as_used_up: AtomicU64::new(0),
            refused_beyond_share: AtomicU64::new(0),
        }
    }

    /// Gives `count` more to an owner, who holds `held`.
    fn take(&self, held: &AtomicUsize, count: usize, is_bounded: bool) -> Result<(), Full> {
        let taken = self.try_take(held, count, is_bounded);
        match taken {
            Ok(()) => {}
            Err(Full::UsedUp) => _ = self.refused_as_used_up.fetch_add(1, Ordering::Relaxed),
            Err(Full::BeyondShare) => _ = self.refused_beyond_share.fetch_add(1, Ordering::Relaxed),
        }
        taken
    }

    fn try_take(&self, held: &AtomicUsize, count: usize, is_bounded: bool) -> Result<(), Full> {
        let mut why = Full::UsedUp;
        let grow = |own: usize| {
            let left = self.max.saturating_sub(self.used.load(Ordering::Relaxed).saturating_sub(own));
            let wanted = own.checked_add(count).filter(|wanted| *wanted <= left);
            let Some(wanted) = wanted else {
                why = Full::UsedUp;
                return None;
            };
            let share = self.of_one.unwrap_or(left.div_ceil(2));
            why = Full::BeyondShare;
            (!is_bounded || own == 0 || wanted <= share).then_some(wanted)
        };
        if held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            return Err(why);
        }
        let grow = |used: usize| used.checked_add(count).filter(|used| *used <= self.max);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            held.fetch_sub(count, Ordering::Relaxed);
            return Err(Full::UsedUp);
        }
        Ok(())
    }

    fn give_back(&self, held: &AtomicUsize, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
        held.fetch_sub(count, Ordering::Relaxed);
    }
}

/// How much of a pool is used, and what was refused of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// What is shared.
    pub kind: Kind,
    /// How much there is.
    pub max: usize,
    /// How much of it is held.
    pub used: usize,
    /// How often somebody got no more because it was used up.
    pub refused_as_used_up: u64,
    /// How often somebody got no more because it had its share.
    pub refused_beyond_share: u64,
}

#[derive(Debug)]
struct Pools {
    by_kind: [Pool; Kind::ALL.len()],
    per_second: Option<usize>,
    refused_as_too_fast: AtomicU64,
    connections_held_up: AtomicU64,
}

/// What one owner holds.
#[derive(Debug)]
pub struct Account {
    pools: Arc<Pools>,
    held: [AtomicUsize; Kind::ALL.len()],
    lately: Mutex<Lately>,
    /// Whether it is bounded by its share. The node itself is not.
    is_bounded: bool,
    requests: Mutex<Allowance>,
    /// Of new connections, where others have some.
    connections: Mutex<Allowance>,
}

/// The requests under way that began in the window of a number, and in the one before it.
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    window: u64,
    now: usize,
    before: usize,
}

/// How many an owner may begin now, and when that was counted. Less than none are owed.
#[derive(Debug)]
struct Allowance {
    left: f64,
    as_of: Instant,
}

/// A part of a pool, which is given back when this is dropped.
#[derive(Debug)]
pub struct Taken {
    account: Arc<Account>,
    kind: Kind,
    count: usize,
}

/// All owners of a node's pools.
#[derive(Debug)]
pub struct Accounts {
    pools: Arc<Pools>,
    by_owner: Mutex<HashMap<Owner, Arc<Account>>>,
    unbounded: Arc<Account>,
}

/// Below this number no account is looked at whether it can be forgotten.
const ACCOUNTS_KEPT: usize = 256;

impl Accounts {
    /// Nobody holds anything of these amounts yet.
    #[must_use]
    pub fn new(amounts: Amounts) -> Self {
        let pool = |kind| match kind {
            Kind::Connections => Pool::new(amounts.connections, amounts.connections_of_address),
            // Nodes and clients of gRPC do not lack places then.
            Kind::Gateways => Pool::new((amounts.connections / 2).max(1), amounts.connections_of_address),
            Kind::Monitoring => Pool::new(amounts.monitoring, None),
            Kind::Requests => Pool::new(amounts.requests, amounts.requests_of_client),
            Kind::RequestBytes => Pool::new(amounts.request_bytes, None),
            Kind::Buffers => Pool::new(BUFFERED_BYTES_MAX, None),
            Kind::Lists => Pool::new(LISTS_MAX, None),
            Kind::Scans => Pool::new(SCANS_MAX, None),
            Kind::Watches => Pool::new(WATCHES_MAX, None),
            Kind::Hellos => Pool::new(HELLOS_MAX, None),
            Kind::Tools => Pool::new(TOOLS_MAX, None),
        };
        let pools = Arc::new(Pools {
            by_kind: Kind::ALL.map(pool),
            per_second: amounts.requests_of_client_per_second,
            refused_as_too_fast: AtomicU64::new(0),
            connections_held_up: AtomicU64::new(0),
        });
        let unbounded = Arc::new(Account::new(Arc::clone(&pools), false));
        Self { pools, by_owner: Mutex::default(), unbounded }
    }

    /// The account of the node itself, which has no share of its own: what is left is for it.
    #[must_use]
    pub fn unbounded(&self) -> &Arc<Account> {
        &self.unbounded
    }

    /// The account of `owner`.
    #[must_use]
    pub fn of(&self, owner: Owner) -> Arc<Account> {
        let mut by_owner = self.by_owner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = by_owner.get(&owner) {
            return Arc::clone(account);
        }
        // As many look-ups are between two such looks as there are accounts.
        if by_owner.len() >= ACCOUNTS_KEPT && by_owner.len() == by_owner.capacity() {
            let now = Instant::now();
            by_owner.retain(|_, account| Arc::strong_count(account) > 1 || account.has_rate(now));
        }
        let account = Arc::new(Account::new(Arc::clone(&self.pools), true));
        by_owner.insert(owner, Arc::clone(&account));
        account
    }

    /// How much is used of everything.
    pub fn report(&self) -> impl Iterator<Item = PoolReport> {
        Kind::ALL.into_iter().zip(&self.pools.by_kind).map(|(kind, pool)| PoolReport {
            kind,
            max: pool.max,
            used: pool.used.load(Ordering::Relaxed),
            refused_as_used_up: pool.refused_as_used_up.load(Ordering::Relaxed),
            refused_beyond_share: pool.refused_beyond_share.load(Ordering::Relaxed),
        })
    }

    /// How many requests were refused because their clients sent too many in a second.
    #[must_use]
    pub fn refused_as_too_fast(&self) -> u64 {
        self.pools.refused_as_too_fast.load(Ordering::Relaxed)
    }

    /// How often a connection was not read for a while, because too many of its frames asked for nothing, or because its address
    /// opened too many connections.
    #[must_use]
    pub fn connections_held_up(&self) -> u64 {
        self.pools.connections_held_up.load(Ordering::Relaxed)
    }
}

impl Account {
    fn new(pools: Arc<Pools>, is_bounded: bool) -> Self {
        let allowance = |per_second: usize| Mutex::new(Allowance { left: per_second as f64, as_of: Instant::now() });
        let (requests, connections) = (allowance(pools.per_second.unwrap_or(0)), allowance(CONNECTIONS_PER_SECOND));
        Self { pools, held: Default::default(), lately: Mutex::default(), is_bounded, requests, connections }
    }

    /// Nothing of a pool yet.
    #[must_use]
    pub fn nothing(self: &Arc<Self>, kind: Kind) -> Taken {
        Taken { account: Arc::clone(self), kind, count: 0 }
    }

    /// So much of a pool.
    ///
    /// # Errors
    /// [`Full`]: nothing was taken.
    pub fn take(self: &Arc<Self>, kind: Kind, count: usize) -> Result<Taken, Full> {
        let mut taken = self.nothing(kind);
        taken.grow(count)?;
        Ok(taken)
    }

    /// How much there is of a pool, for all.
    #[must_use]
    pub fn max(&self, kind: Kind) -> usize {
        self.pools.by_kind[kind as usize].max
    }

    /// How much of a pool this owner holds.
    #[must_use]
    pub fn held(&self, kind: Kind) -> usize {
        self.held[kind as usize].load(Ordering::Relaxed)
    }

    /// Whether it is bounded by its share. The node itself is not.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// How many of its requests are under way that began in the window of this number, or in the one before it.
    #[must_use]
    pub fn begun_lately(&self, window: u64) -> usize {
        let lately = self.lately().in_window(window);
        lately.now + lately.before
    }

    /// Counts a request that begins in the window of this number. Windows do not go back.
    pub fn begin(&self, window: u64) {
        let mut lately = self.lately();
        *lately = lately.in_window(window);
        lately.now += 1;
    }

    /// Counts a request that has ended, and began in that window.
    pub fn end(&self, window: u64) {
        let mut lately = self.lately();
        if lately.window == window {
            lately.now = lately.now.saturating_sub(1);
        } else if lately.window == window + 1 {
            lately.before = lately.before.saturating_sub(1);
        }
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts that a connection of this owner is not read for a while.
    pub fn hold_up(&self) {
        self.pools.connections_held_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts requests against the rate of this owner.
    ///
    /// # Errors
    /// With the most requests in a second: nothing was counted. A batch may go beyond it, and those after it wait longer.
    pub fn pass(&self, requests: usize) -> Result<(), usize> {
        let Some(per_second) = self.pools.per_second.filter(|_| self.is_bounded) else { return Ok(()) };
        let mut allowance = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        allowance.fill(per_second, Instant::now());
        if allowance.left < 1.0 {
            self.pools.refused_as_too_fast.fetch_add(1, Ordering::Relaxed);
            return Err(per_second);
        }
        allowance.left -= requests as f64;
        Ok(())
    }

    /// Counts a new connection, and says how long it waits: not at all, unless other owners have connections too, and this one
    /// opens more than [`CONNECTIONS_PER_SECOND`]. [`CONNECTION_WAITS_MAX`] bounds it.
    #[must_use]
    pub fn open_connection(&self, now: Instant) -> Duration {
        let used = self.pools.by_kind[Kind::Connections as usize].used.load(Ordering::Relaxed);
        if !self.is_bounded || used <= self.held(Kind::Connections) {
            return Duration::ZERO;
        }
        let mut allowance = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        allowance.fill(CONNECTIONS_PER_SECOND, now);
        let (per_second, longest) = (CONNECTIONS_PER_SECOND as f64, CONNECTION_WAITS_MAX.as_secs_f64());
        allowance.left = (allowance.left - 1.0).max(-longest * per_second);
        Duration::from_secs_f64((-allowance.left / per_second).max(0.0))
    }

    /// Whether it has begun requests or connections so lately that its rate counts.
    fn has_rate(&self, now: Instant) -> bool {
        let counts = |allowance: &Mutex<Allowance>, per_second: usize| {
            let mut allowance = allowance.lock().unwrap_or_else(PoisonError::into_inner);
            allowance.fill(per_second, now);
            allowance.left < per_second as f64
        };
        self.pools.per_second.is_some_and(|per_second| counts(&self.requests, per_second))
            || counts(&self.connections, CONNECTIONS_PER_SECOND)
    }
}

impl Lately {
    fn in_window(self, window: u64) -> Self {
        match window.saturating_sub(self.window) {
            0 => self,
            1 => Self { window, now: 0, before: self.now },
            _ => Self { window, now: 0, before: 0 },
        }
    }
}

impl Allowance {
    fn fill(&mut self, per_second: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.left = (self.left + passed * per_second as f64).min(per_second as f64);
        self.as_of = now;
    }
}

impl Taken {
    /// Takes more of the same pool.
    ///
    /// # Errors
    /// [`Full`]: nothing more was taken.
    pub fn grow(&mut self, count: usize) -> Result<(), Full> {
        let (pool, held) = (&self.account.pools.by_kind[self.kind as usize], &self.account.held[self.kind as usize]);
        pool.take(held, count, self.account.is_bounded)?;
        self.count += count;
        Ok(())
    }

    /// Whose it is.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// A part of it, which is given back on its own.
    #[must_use]
    pub fn split(&mut self, count: usize) -> Self {
        let count = count.min(self.count);
        self.count -= count;
        Self { account: Arc::clone(&self.account), kind: self.kind, count }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.count > 0 {
            let kind = self.kind as usize;
            self.account.pools.by_kind[kind].give_back(&self.account.held[kind], self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accounts(requests: usize) -> Accounts {
        Accounts::new(Amounts::of_requests(requests, 1_000))
    }

    fn owner(number: u8) -> Owner {
        Owner::of_address(IpAddr::from([10, 0, 0, number]))
    }

    /// All that an account gets of a pool, one by one, and why it gets no more.
    fn all_of(account: &Arc<Account>, kind: Kind) -> (Vec<Taken>, Full) {
        let mut taken = Vec::new();
        loop {
            match account.take(kind, 1) {
                Ok(one) => taken.push(one),
                Err(why) => return (taken, why),
            }
        }
    }

    #[test]
    fn each_owner_gets_half_of_what_the_others_leave() {
        let accounts = accounts(1_024);
        let mut held = Vec::new();
        for (number, expected) in [(1, 512), (2, 256), (3, 128), (4, 64)] {
            let (taken, why) = all_of(&accounts.of(owner(number)), Kind::Requests);
            assert_eq!((taken.len(), why), (expected, Full::BeyondShare));
            held.push(taken);
        }
        // The node itself may have the rest.
        let (taken, why) = all_of(accounts.unbounded(), Kind::Requests);
        assert_eq!((taken.len(), why), (64, Full::UsedUp));
        drop(taken);
        // What one gives back is for all.
        drop(held.remove(0));
        assert_eq!(all_of(&accounts.of(owner(5)), Kind::Requests).0.len(), 288);
        let report = accounts.report().find(|report| report.kind == Kind::Requests).unwrap();
        assert_eq!((report.max, report.refused_as_used_up, report.refused_beyond_share), (1_024, 1, 5));
        assert_eq!(report.used, 256 + 128 + 64);
    }

    #[test]
    fn whoever_holds_nothing_may_have_one_thing_that_fits() {
        let accounts = accounts(1);
        let one = accounts.of(owner(1));
        let place = one.take(Kind::Requests, 1).unwrap();
        assert_eq!(accounts.of(owner(2)).take(Kind::Requests, 1).unwrap_err(), Full::UsedUp);
        drop(place);
        let bytes = one.take(Kind::RequestBytes, 1_000).unwrap();
        assert_eq!(one.take(Kind::RequestBytes, 1).unwrap_err(), Full::UsedUp);
        drop(bytes);
        assert_eq!(one.take(Kind::RequestBytes, 1_001).unwrap_err(), Full::UsedUp);
        let _first = one.take(Kind::RequestBytes, 100).unwrap();
        assert_eq!(one.take(Kind::RequestBytes, 401).unwrap_err(), Full::BeyondShare);
        assert!(one.take(Kind::RequestBytes, 400).is_ok());
        let none = self::accounts(0);
        assert_eq!(none.of(owner(1)).take(Kind::Requests, 1).unwrap_err(), Full::UsedUp);
    }

    #[test]
    fn fixed_share_takes_the_place_of_the_half() {
        let amounts = Amounts { requests_of_client: Some(10), ..Amounts::of_requests(16, 1_000) };
        let accounts = Accounts::new(amounts);
        let (one, why) = all_of(&accounts.of(owner(1)), Kind::Requests);
        assert_eq!((one.len(), why), (10, Full::BeyondShare));
        let (other, why) = all_of(&accounts.of(owner(2)), Kind::Requests);
        assert_eq!((other.len(), why), (6, Full::UsedUp));
    }

    #[test]
    fn parts_are_given_back_on_their_own() {
        let accounts = accounts(8);
        let one = accounts.of(owner(1));
        let mut all = one.take(Kind::RequestBytes, 500).unwrap();
        let part = all.split(100);
        let used = || accounts.report().find(|report| report.kind == Kind::RequestBytes).unwrap().used;
        drop(all);
        assert_eq!(used(), 100);
        drop(part);
        assert_eq!(used(), 0);
    }

    #[test]
    fn rate_lets_a_second_of_requests_through_and_then_as_many_as_it_says() {
        let amounts = Amounts { requests_of_client_per_second: Some(20), ..Amounts::of_requests(8, 8) };
        let accounts = Accounts::new(amounts);
        let one = accounts.of(owner(1));
        for _ in 0..20 {
            one.pass(1).unwrap();
        }
        assert_eq!(one.pass(1), Err(20));
        assert_eq!(accounts.of(owner(1)).pass(1), Err(20), "the account is the same one");
        assert_eq!(accounts.of(owner(2)).pass(1), Ok(()));
        assert_eq!(accounts.unbounded().pass(1_000), Ok(()));
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(one.pass(100), Ok(()), "a batch is not cut");
        assert_eq!(one.pass(1), Err(20));
        assert_eq!(accounts.refused_as_too_fast(), 3);
    }

    #[test]
    fn new_connections_of_one_address_wait_where_others_have_some() {
        let accounts = accounts(8);
        let (one, other) = (accounts.of(owner(1)), accounts.of(owner(2)));
        let now = Instant::now();
        let waits = |account: &Account, now| account.open_connection(now).as_millis();
        let _own = one.take(Kind::Connections, 5).unwrap();
        assert!((0..3 * CONNECTIONS_PER_SECOND).all(|_| waits(&one, now) == 0), "it is alone");
        let _others = other.take(Kind::Connections, 1).unwrap();
        assert!((0..CONNECTIONS_PER_SECOND).all(|_| waits(&one, now) == 0));
        assert_eq!((0..3).map(|_| waits(&one, now)).collect::<Vec<_>>(), [1, 2, 3]);
        let longest = CONNECTION_WAITS_MAX.as_millis();
        assert_eq!((0..5_000).map(|_| waits(&one, now)).max(), Some(longest));
        assert_eq!((waits(&other, now), waits(accounts.unbounded(), now)), (0, 0));
        assert_eq!(waits(&one, now + CONNECTION_WAITS_MAX + Duration::from_millis(1)), 0, "it is forgotten with time");
        assert!(one.has_rate(now) && !one.has_rate(now + Duration::from_secs(2)));
    }

    #[test]
    fn network_of_64_bits_is_one_owner_and_mapped_addresses_are_what_they_map() {
        let of = |text: &str| Owner::of_address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn accounts_that_hold_nothing_are_forgotten() {
        let accounts = accounts(8);
        let kept = accounts.of(owner(1));
        for number in 0..100_000_u32 {
            drop(accounts.of(Owner::of_address(IpAddr::from(number.to_be_bytes()))));
        }
        assert!(accounts.by_owner.lock().unwrap().len() < 4 * ACCOUNTS_KEPT);
        assert!(Arc::ptr_eq(&kept, &accounts.of(owner(1))));
    }

    proptest! {
        #[test]
        fn no_owner_ever_has_more_than_its_share_and_nothing_is_lost(
            steps in prop::collection::vec((0_u8..4, 1_usize..200, any::<bool>()), 1..200),
        ) {
            let accounts = accounts(8);
            let mut held: [Vec<Taken>; 4] = Default::default();
            for (number, count, gives) in steps {
                let of_owner = &mut held[usize::from(number)];
                if gives {
                    of_owner.pop();
                } else if let Ok(taken) = accounts.of(owner(number)).take(Kind::RequestBytes, count) {
                    of_owner.push(taken);
                    let sums: Vec<usize> =
                        held.iter().map(|taken| taken.iter().map(|taken| taken.count).sum()).collect();
                    let others: usize = sums.iter().sum::<usize>() - sums[usize::from(number)];
                    let is_one = held[usize::from(number)].len() == 1;
                    prop_assert!(is_one || sums[usize::from(number)] <= (1_000_usize - others).div_ceil(2));
                    prop_assert!(sums.iter().sum::<usize>() <= 1_000);
                }
            }
            drop(held);
            prop_assert_eq!(accounts.report().map(|report| report.used).sum::<usize>(), 0);
        }
    }

    #[test]
    fn many_threads_never_exceed_a_pool() {
        let accounts = Arc::new(accounts(8));
        std::thread::scope(|scope| {
            for number in 0..4 {
                let accounts = Arc::clone(&accounts);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let account = accounts.of(owner(number % 2));
                        let taken = account.take(Kind::Requests, 1);
                        let used = accounts.report().find(|report| report.kind == Kind::Requests).unwrap().used;
                        assert!(used <= 8, "{used}");
                        drop(taken);
                    }
                });
            }
        });
        assert_eq!(accounts.report().map(|report| report.used).sum::<usize>(), 0);
    }
}
