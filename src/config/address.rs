//! The two kinds of address: where a node listens, and where others reach it.
//!
//! Contract: a value that was parsed names a port from 1 to 65535. Port 0 is refused in files and variables: a port that
//! the system picks is one that nobody else's cluster.yml can name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is accepted as a [`LocalAddress`], as an error says it.
pub(super) const LOCAL_ACCEPTED: &str =
    "IP:PORT or :PORT (every interface) with a port from 1 to 65535, such as 127.0.0.1:8001 or \":8001\"";

/// What is accepted as a [`RemoteAddress`], as an error says it.
pub(super) const REMOTE_ACCEPTED: &str = "HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:8001 or \
                                          quorate-1:8001, where the other nodes reach this one";

/// The longest host name that DNS knows.
const HOST_BYTES_MAX: usize = 253;

/// Where a node listens: one interface or every one, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The interface; `None` for every one.
    ip: Option<IpAddr>,
    port: u16,
}

impl LocalAddress {
    /// A port of 127.0.0.1. Port 0, which no file can give, lets the system pick one.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(port) = text.strip_prefix(':') {
            return Some(Self { ip: None, port: parse_port(port)? });
        }
        let (_, port) = text.rsplit_once(':')?;
        let port = parse_port(port)?;
        let address: SocketAddr = text.parse().ok()?;
        Some(Self { ip: Some(address.ip()), port })
    }

    /// The socket addresses to bind, in this order, until one succeeds. Every interface is `[::]`, which takes IPv4 too,
    /// and 0.0.0.0 on machines without IPv6.
    #[must_use]
    pub fn bind_candidates(&self) -> Vec<SocketAddr> {
        let every = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        match self.ip {
            Some(ip) => vec![SocketAddr::new(ip, self.port)],
            None => every.map(|ip| SocketAddr::new(ip, self.port)).to_vec(),
        }
    }

    /// Whether only this machine can connect to it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.ip.is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// Where the other nodes, and clients, reach a node: a host name or an IP address, and a port.
///
/// Host names are kept in lower case, so that one address is not taken for two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteAddress {
    /// An IPv6 address without its brackets.
    host: String,
    port: u16,
}

impl RemoteAddress {
    /// A port of 127.0.0.1.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = parse_port(port)?;
        let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => Some(IpAddr::V6(inner.parse().ok()?)),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        let host = match ip {
            // Nobody reaches "every interface" of another machine.
            Some(ip) if ip.is_unspecified() => return None,
            Some(ip) => ip.to_string(),
            None if is_host_name(host) => host.to_ascii_lowercase(),
            None => return None,
        };
        Some(Self { host, port })
    }

    /// The host name, or the IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// As URLs want it: HOST:PORT, an IPv6 address in brackets.
impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Digits alone: `u16::from_str` would take a plus sign too.
fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

/// Labels of letters, digits, hyphens and underscores (container networks use them), joined by dots. A name whose last
/// label is a number is a mistyped IPv4 address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}
