//! The two text formats of metrics, and the choice between them.
//!
//! Source: the Prometheus exposition format 0.0.4, OpenMetrics 1.0.0, and HTTP content negotiation (RFC 9110, 12.5.1).

use std::fmt;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus's own, which every reader understands.
    Classic,
    /// OpenMetrics, for a reader that asks for it.
    OpenMetrics,
}

impl Format {
    /// The format for a reader with this `Accept` header: OpenMetrics only if the reader names it and prefers it, or likes
    /// both as much.
    pub(super) fn of(accept: &str) -> Self {
        let quality = |names: &[&str]| {
            let ranges = accept.split(',').map(range);
            ranges.filter(|(name, _)| names.contains(&name.as_str())).map(|(_, quality)| quality).fold(0.0, f32::max)
        };
        let open_metrics = quality(&["application/openmetrics-text"]);
        if open_metrics > 0.0 && open_metrics >= quality(&["text/plain", "text/*", "*/*"]) {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(super) fn encode(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        match self {
            Self::Classic => prometheus_text::encode(&mut encoded, registry)?,
            Self::OpenMetrics => text::encode(&mut encoded, registry)?,
        }
        Ok(encoded)
    }
}

/// One media range of an `Accept` header, and its quality, 0 to 1.
fn range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (name, quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_follows_the_readers_wish() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", Format::Classic),
            ("*/*", Format::Classic),
            ("text/plain;version=0.0.4", Format::Classic),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Classic),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0, text/plain", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Classic),
            ("application/openmetrics-text;q=0", Format::Classic),
            ("application/openmetrics-text;q=x", Format::Classic),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }
}
