//! Requests that web pages make a browser send.
//!
//! A browser sends a plain POST without asking first, and sends credentials that its user gave before. A page of any site could
//! therefore write to a node on the reader's own machine. And a page whose name is made to point at this machine ("DNS rebinding") could
//! read as well. The first is refused by `Origin`, the second by `Host`.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::problem::Problem;

/// The headers that pages may read of an answer.
const EXPOSED: HeaderValue = HeaderValue::from_static("ETag, Link, Quorate-TTL, Retry-After");
/// The headers that pages may send.
const ACCEPTED: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID, Quorate-TTL");

/// Which pages may call, and by which names.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    /// Whether only this machine reaches the listener.
    pub(super) is_loopback: bool,
    /// Names that the node goes by, in lower case.
    pub(super) hosts: Vec<String>,
    /// Origins whose pages may call, in lower case.
    pub(super) listed: Vec<String>,
}

impl Origins {
    /// Refuses what a foreign page may have sent.
    pub(super) fn check(&self, head: &Parts) -> Result<(), Problem> {
        let asked = asked(head)?;
        if let Some(asked) = &asked
            && !self.goes_by(asked)
        {
            let detail = format!(
                "nothing was done: this node does not go by the name {:?}. Ask for localhost or an address, or name the host \
                 in http_hosts of node.yml",
                asked.host()
            );
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "foreign-host", detail));
        }
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let Some(origin) = head.headers.get(header::ORIGIN) else { return Ok(()) };
        if self.is_listed(origin) || asked.is_some_and(|asked| is_same(origin, &asked)) {
            return Ok(());
        }
        let detail = "nothing was done: the request comes from a page of another origin; name the origin in \
                      http_cors_origins of node.yml if its pages may write";
        Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail))
    }

    /// Adds what a browser needs to hand the answer to a page of a listed origin.
    pub(super) fn allow(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        if self.listed.is_empty() {
            return;
        }
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN).filter(|origin| self.is_listed(origin)) else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && let Some(methods) = answer.get(header::ALLOW).cloned()
        {
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ACCEPTED);
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }

    fn is_listed(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.listed.contains(&origin.to_ascii_lowercase()))
    }

    fn goes_by(&self, asked: &Authority) -> bool {
        if !self.is_loopback && self.hosts.is_empty() {
            return true;
        }
        let host = asked.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let host = host.to_ascii_lowercase();
        host == "localhost" || host.parse::<IpAddr>().is_ok() || self.hosts.contains(&host)
    }
}

/// The host and port that the client asked for. Only HTTP/1.0 has requests without it.
fn asked(head: &Parts) -> Result<Option<Authority>, Problem> {
    if let Some(authority) = head.uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let mut given = head.headers.get_all(header::HOST).iter();
    match (given.next(), given.next()) {
        (Some(host), None) => {
            let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            let accepted = |authority: &Authority| !authority.as_str().contains('@');
            let refused = || Problem::invalid_header("Host cannot be read: give HOST or HOST:PORT");
            authority.filter(accepted).map(Some).ok_or_else(refused)
        }
        (None, _) if head.version == Version::HTTP_10 => Ok(None),
        _ => Err(Problem::invalid_header("Host must be given, once")),
    }
}

/// Whether a page of `origin` comes from `asked` itself.
fn is_same(origin: &HeaderValue, asked: &Authority) -> bool {
    let Some((_, of_origin)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let without_port = |text: &str| text.strip_suffix(":80").unwrap_or(text).to_ascii_lowercase();
    without_port(of_origin) == without_port(asked.as_str())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(method: &str, host: &str, origin: Option<&str>) -> Parts {
        let mut request = Request::builder().method(method).uri("/k").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn foreign_pages_do_not_write_and_foreign_names_do_nothing() {
        let origins =
            Origins { is_loopback: true, hosts: vec!["db.example".to_owned()], listed: vec!["https://a.b".to_owned()] };
        for (method, host, origin, kind) in [
            ("PUT", "localhost:8101", None, None),
            ("PUT", "127.0.0.1:8101", None, None),
            ("PUT", "[::1]:8101", None, None),
            ("PUT", "DB.example.", None, None),
            ("GET", "evil.example:8101", None, Some("foreign-host")),
            ("OPTIONS", "localhost.evil.example", None, Some("foreign-host")),
            ("PUT", "localhost:8101", Some("http://localhost:8101"), None),
            ("PUT", "localhost:8101", Some("http://localhost:3000"), Some("foreign-origin")),
            ("POST", "localhost:8101", Some("null"), Some("foreign-origin")),
            ("DELETE", "localhost:8101", Some("https://A.b"), None),
            ("GET", "localhost:8101", Some("http://evil.example"), None),
            ("GET", "user@localhost", None, Some("invalid-header")),
            ("GET", "", None, Some("invalid-header")),
        ] {
            let refused = origins.check(&parts(method, host, origin)).err().map(|problem| problem.kind);
            assert_eq!(refused, kind, "{method} {host} {origin:?}");
        }
        let open = Origins { is_loopback: false, hosts: Vec::new(), listed: Vec::new() };
        assert!(open.check(&parts("GET", "any.example", None)).is_ok(), "nobody says which names are right");
    }

    #[test]
    fn pages_of_listed_origins_get_what_a_browser_asks_for() {
        let origins = Origins { is_loopback: true, hosts: Vec::new(), listed: vec!["https://a.b".to_owned()] };
        let preflight = |origin: &str| {
            let mut request = parts("OPTIONS", "localhost", Some(origin)).headers;
            request.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
            let mut answer = HeaderMap::new();
            answer.insert(header::ALLOW, HeaderValue::from_static("GET, PUT"));
            origins.allow(&request, &mut answer);
            answer
        };
        let answer = preflight("https://a.b");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.b");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, PUT");
        assert!(!preflight("https://other").contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}
