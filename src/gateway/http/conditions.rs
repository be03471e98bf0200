//! Conditional requests (RFC 9110, 13): `If-Match` and `If-None-Match`.
//!
//! Contract: a tag is a key's version, in quotes. A condition of a write becomes one of the protocol's, which judges it as
//! it writes. Tags that are no version of this cluster match nothing.

use axum::http::{HeaderMap, HeaderName, header};

use crate::types::{Condition, Version};
use crate::wire::version::VersionText;

use super::problem::Problem;

/// The tag of a version.
pub(super) fn etag(version: &str) -> String {
    // Versions are letters, digits, `-` and `_`, all of which may stand in a tag.
    format!("\"{version}\"")
}

/// The conditions of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The tags that one of the two headers names.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: any value.
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    /// Without its quotes.
    text: String,
}

/// The verdict of the conditions on a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Holds,
    /// `If-Match` does not hold.
    Failed,
    /// `If-None-Match` does not hold: the reader has the value already.
    NotModified,
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let tags = |name: HeaderName| {
            let mut lines = Vec::new();
            for line in headers.get_all(&name) {
                lines.push(line.to_str().map_err(|_| unreadable(name.as_str()))?);
            }
            if lines.is_empty() { Ok(None) } else { tags(name.as_str(), &lines.join(",")).map(Some) }
        };
        Ok(Self { if_match: tags(header::IF_MATCH)?, if_none_match: tags(header::IF_NONE_MATCH)? })
    }

    /// The conditions of an operation of a batch, where both may stand in a field.
    pub(super) fn of_fields(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self, Problem> {
        let if_match = if_match.map(|text| tags("if_match", text)).transpose()?;
        let if_none_match = if_none_match.map(|text| tags("if_none_match", text)).transpose()?;
        Ok(Self { if_match, if_none_match })
    }

    pub(super) fn are_none(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Whether the condition is one of those that a waiting reader gives.
    pub(super) fn has_if_none_match(&self) -> bool {
        self.if_none_match.is_some()
    }

    /// Judges the read of a value that has this version.
    pub(super) fn judge(&self, version: &str) -> Judgement {
        let is_named = |tags: &Tags, weakly: bool| match tags {
            Tags::Any => true,
            Tags::Listed(tags) => tags.iter().any(|tag| tag.text == version && (weakly || !tag.is_weak)),
        };
        if self.if_match.as_ref().is_some_and(|tags| !is_named(tags, false)) {
            return Judgement::Failed;
        }
        if self.if_none_match.as_ref().is_some_and(|tags| is_named(tags, true)) {
            return Judgement::NotModified;
        }
        Judgement::Holds
    }

    /// The condition of a write; `None` without any. A deletion `needs_value` in any case.
    pub(super) fn of_write(&self, versions: VersionText, needs_value: bool) -> Option<Condition> {
        let known = |tags: &[Tag], weakly: bool| -> Vec<Version> {
            let tags = tags.iter().filter(|tag| weakly || !tag.is_weak);
            tags.filter_map(|tag| versions.decode(&tag.text).ok()).collect()
        };
        let never = Condition::Among(Vec::new());
        Some(match (&self.if_match, &self.if_none_match) {
            (None, None) => return None,
            (None, Some(Tags::Any)) if !needs_value => Condition::Absent,
            // A value that is there and is not: there is none.
            (_, Some(Tags::Any)) => never,
            (Some(Tags::Any), None) => Condition::Present,
            (Some(Tags::Listed(tags)), None) => Condition::Among(known(tags, false)),
            (Some(Tags::Listed(tags)), Some(Tags::Listed(others))) => {
                let others = known(others, true);
                let mut among = known(tags, false);
                among.retain(|version| !others.contains(version));
                Condition::Among(among)
            }
            (if_match, Some(Tags::Listed(others))) => {
                Condition::NotAmong { versions: known(others, true), needs_value: needs_value || if_match.is_some() }
            }
        })
    }
}

fn unreadable(name: &str) -> Problem {
    let detail = format!("{name} cannot be read: give *, or tags in quotes, separated by commas, such as \"AQID\"");
    Problem::invalid_header(detail)
}

/// Reads `*` or a list of tags. Commas may stand in tags, and a list may have empty places.
fn tags(name: &str, text: &str) -> Result<Tags, Problem> {
    if text.trim() == "*" {
        return Ok(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = text.trim_start();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
        let (text, after) =
            quoted.strip_prefix('"').and_then(|opened| opened.split_once('"')).ok_or_else(|| unreadable(name))?;
        rest = after.trim_start_matches([' ', '\t']);
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) || !(rest.is_empty() || rest.starts_with(',')) {
            return Err(unreadable(name));
        }
        tags.push(Tag { is_weak, text: text.to_owned() });
    }
    if tags.is_empty() { Err(unreadable(name)) } else { Ok(Tags::Listed(tags)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated_text};
    use crate::types::{Clock, NodeId, Stamp};

    fn version(counter: u64) -> Version {
        let stamp = Stamp { clock: Clock { epoch: 1, counter }, writer: NodeId::new("1").unwrap() };
        Version::new(stamp, None)
    }

    fn texts() -> VersionText {
        VersionText::of_cluster(7)
    }

    fn tag(counter: u64) -> String {
        etag(&texts().encode(&version(counter)))
    }

    fn conditions(if_match: Option<&str>, if_none_match: Option<&str>) -> Conditions {
        Conditions::of_fields(if_match, if_none_match).unwrap()
    }

    #[test]
    fn conditions_of_a_write_are_those_of_the_protocol() {
        let (one, two) = (tag(1), tag(2));
        let both = format!("{one}, W/{two},, \"foreign,with-a-comma\"");
        let among = |counters: &[u64]| Condition::Among(counters.iter().map(|counter| version(*counter)).collect());
        let not_among = |counters: &[u64], needs_value| Condition::NotAmong {
            versions: counters.iter().map(|counter| version(*counter)).collect(),
            needs_value,
        };
        for (if_match, if_none_match, of_put, of_delete) in [
            (None, Some("*"), Condition::Absent, among(&[])),
            (Some("*"), None, Condition::Present, Condition::Present),
            (Some(one.as_str()), None, among(&[1]), among(&[1])),
            (Some(both.as_str()), None, among(&[1]), among(&[1])),
            (None, Some(both.as_str()), not_among(&[1, 2], false), not_among(&[1, 2], true)),
            (Some("*"), Some(one.as_str()), not_among(&[1], true), not_among(&[1], true)),
            (Some(both.as_str()), Some(one.as_str()), among(&[]), among(&[])),
            (Some("*"), Some("*"), among(&[]), among(&[])),
        ] {
            let conditions = conditions(if_match, if_none_match);
            assert_eq!(conditions.of_write(texts(), false), Some(of_put), "{if_match:?} {if_none_match:?}");
            assert_eq!(conditions.of_write(texts(), true), Some(of_delete), "{if_match:?} {if_none_match:?}");
        }
        assert_eq!(Conditions::default().of_write(texts(), true), None);
    }

    #[test]
    fn reads_are_judged_strongly_and_weakly() {
        let (one, two) = (texts().encode(&version(1)), texts().encode(&version(2)));
        let weak = format!("W/{}", tag(1));
        for (if_match, if_none_match, expected) in [
            (Some(tag(1)), None, [Judgement::Holds, Judgement::Failed]),
            (Some(weak.clone()), None, [Judgement::Failed, Judgement::Failed]),
            (None, Some(weak), [Judgement::NotModified, Judgement::Holds]),
            (None, Some("*".to_owned()), [Judgement::NotModified, Judgement::NotModified]),
            (Some("*".to_owned()), Some(tag(2)), [Judgement::Holds, Judgement::NotModified]),
        ] {
            let conditions = conditions(if_match.as_deref(), if_none_match.as_deref());
            assert_eq!([&one, &two].map(|version| conditions.judge(version)), expected, "{conditions:?}");
        }
    }

    #[test]
    fn lists_that_cannot_be_read_are_refused() {
        for text in ["", ",", "a", "\"a", "*, \"a\"", "\"a\" \"b\"", "w/\"a\"", "W/a", "\"a b\"", "\"a\"b"] {
            assert_eq!(tags("If-Match", text).unwrap_err().kind, "invalid-header", "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_or_is_refused(text in "[W/\"*, a-c]{0,30}") {
            let _ = tags("If-Match", &text);
        }
    }

    #[test]
    fn fuzz_conditions() {
        let versions = VersionText::of_cluster(0);
        let known = versions.encode(&Version::absent());
        let (tag, weak) = (etag(&known), format!("W/{}, *", etag(&known)));
        let seeds = ["*", "\"a,b\", W/\"c\", ,\"\"", tag.as_str(), weak.as_str()];
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let (one, other) = bytes.split_at(bytes.len() / 2);
            let (one, other) = (mutated_text(&seeds, one), mutated_text(&seeds, other));
            match Conditions::of_fields(Some(&one), Some(&other)) {
                Ok(conditions) => {
                    let _ = conditions.judge(&known);
                    for is_deletion in [false, true] {
                        assert!(conditions.of_write(versions, is_deletion).is_some(), "{one:?} {other:?}");
                    }
                }
                Err(problem) => assert_eq!(problem.kind, "invalid-header", "{one:?} {other:?}"),
            }
        });
    }
}
