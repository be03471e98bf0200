//! The two kinds of address: the one on which a node listens, and the one at which others reach it.
//!
//! Contract: a parsed address has a port from 1 to 65535. Files and variables may not give port 0: no other node's
//! cluster.yml could name a port that the system picks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The accepted values of a [`LocalAddress`], as an error says it.
pub(super) const LOCAL_ACCEPTED: &str =
    "IP:PORT or :PORT (every interface) with a port from 1 to 65535, such as 127.0.0.1:8001 or \":8001\"";

/// The accepted values of a [`RemoteAddress`], as an error says it.
pub(super) const REMOTE_ACCEPTED: &str = "HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:8001 or \
                                          quorate-1:8001, where the other nodes reach this one";

/// The longest host name in DNS, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The address on which a node listens: one interface or every interface, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The interface's address; `None` for every interface.
    ip: Option<IpAddr>,
    port: u16,
}

impl LocalAddress {
    /// This port of 127.0.0.1. With port 0, which no file can give, the system picks a port.
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

    /// The socket addresses to try to bind, in this order. Every interface is `[::]`, which accepts IPv4 too, and 0.0.0.0 on
    /// machines without IPv6.
    #[must_use]
    pub fn bind_candidates(&self) -> Vec<SocketAddr> {
        let every = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        match self.ip {
            Some(ip) => vec![SocketAddr::new(ip, self.port)],
            None => every.map(|ip| SocketAddr::new(ip, self.port)).to_vec(),
        }
    }

    /// Whether only this machine can connect to the address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.ip.is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The port, from 1 to 65535; 0 only from [`LocalAddress::loopback`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a node that listens here may be reached at `remote` without a proxy or an address translation. Names are not
    /// looked up: apart from `localhost` a name may stand for every address but a loopback address.
    pub(super) fn may_be(&self, remote: &RemoteAddress) -> bool {
        let ip = self.ip.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_unspecified());
        let same_host = match (ip, remote.host.parse::<IpAddr>()) {
            (None, _) => true,
            (Some(local), Ok(remote)) => local == remote.to_canonical(),
            (Some(local), Err(_)) => local.is_loopback() == (remote.host.trim_end_matches('.') == "localhost"),
        };
        same_host && self.port == remote.port
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

/// The address at which other nodes and clients reach a node: a host name or an IP address, and a port.
///
/// Host names are in lower case, so that equal addresses compare equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteAddress {
    /// An IPv6 address without its brackets.
    host: String,
    port: u16,
}

impl RemoteAddress {
    /// This port of 127.0.0.1.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port }
    }

    /// The address that `text` says, if it says one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = parse_port(port)?;
        let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => Some(IpAddr::V6(inner.parse().ok()?)),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        let host = match ip {
            // "Every interface" is no address of another machine.
            Some(ip) if ip.is_unspecified() => return None,
            Some(ip) => ip.to_string(),
            None if is_host_name(host) => host.to_ascii_lowercase(),
            None => return None,
        };
        Some(Self { host, port })
    }

    /// The same host with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// Whether only the node's own machine reaches it. Of names, that is certain for `localhost` alone.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => self.host.trim_end_matches('.') == "localhost",
        }
    }

    /// The host name, or the IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, from 1 to 65535.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// HOST:PORT as in a URL, with an IPv6 address in brackets.
impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A port in digits: `u16::from_str` would also accept a plus sign.
fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

/// Whether `text` is labels of letters, digits, hyphens and underscores (which container networks use), joined by dots. A
/// name whose last label is a number is refused: it is a mistyped IPv4 address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}
