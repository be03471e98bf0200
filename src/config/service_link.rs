//! The environment variables that Kubernetes sets in each container for each Service of its namespace.
//!
//! Source: Kubernetes, "Service: Discovering services: Environment variables". For a Service called `quorate-node` they
//! begin with `QUORATE_NODE_`, as the variables that override node.yml do. For one called `quorate-node-metrics` they begin
//! with `QUORATE_NODE_METRICS_`.

use std::net::IpAddr;

/// Whether a variable that is called [`super::VARIABLE_PREFIX`] and `name` has the shape of a service link. Both name and
/// value must fit: `QUORATE_NODE_PORT=8001` is a mistake of a person.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    // The Service's name may go on before this part.
    (0..parts.len()).any(|start| match parts[start..] {
        ["SERVICE", "HOST"] => is_ip(value),
        // A port may have a name.
        ["SERVICE", "PORT", ..] => is_port(value),
        ["PORT"] => is_url(value),
        ["PORT", port, protocol] => is_port(port) && is_protocol(protocol) && is_url(value),
        ["PORT", port, protocol, detail] => {
            is_port(port)
                && is_protocol(protocol)
                && match detail {
                    "PROTO" => is_protocol(value),
                    "PORT" => is_port(value),
                    "ADDR" => is_ip(value),
                    _ => false,
                }
        }
        _ => false,
    })
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_protocol(text: &str) -> bool {
    ["tcp", "udp", "sctp"].iter().any(|protocol| text.eq_ignore_ascii_case(protocol))
}

/// Such as tcp://10.96.3.4:8001.
fn is_url(text: &str) -> bool {
    let Some((protocol, address)) = text.split_once("://") else {
        return false;
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    is_protocol(protocol) && is_ip(host.trim_start_matches('[').trim_end_matches(']')) && is_port(port)
}
