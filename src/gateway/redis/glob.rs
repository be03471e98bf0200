//! Patterns of keys: `*`, `?`, `[a-c]`, `[^a]` and `\` before a character that is meant as it is.
//!
//! Contract: the time is at most that of the product of both lengths, whatever the pattern.

use crate::types::KEY_BYTES_MAX;

/// The longest pattern, or patterns, of one command: as long as the longest key.
pub(super) const PATTERN_BYTES_MAX: usize = KEY_BYTES_MAX;

/// The error for a pattern of so many bytes, if it is too long.
pub(super) fn refusal(bytes: usize) -> Option<String> {
    (bytes > PATTERN_BYTES_MAX)
        .then(|| format!("ERR the pattern has {bytes} bytes: at most {PATTERN_BYTES_MAX} are accepted"))
}

/// Whether all of `text` fits `pattern`.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    // Where to go on if the rest does not fit: after the last star, and one byte further than last time.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            star = Some((after, left));
            rest = after;
            continue;
        }
        match (rest.is_empty(), left.split_first()) {
            (true, None) => return true,
            (false, Some((byte, after))) => {
                if let Some(next) = one(rest, *byte) {
                    (rest, left) = (next, after);
                    continue;
                }
            }
            _ => {}
        }
        let Some((after_star, skipped)) = star else { return false };
        let Some((_, skipped)) = skipped.split_first() else { return false };
        star = Some((after_star, skipped));
        (rest, left) = (after_star, skipped);
    }
}

/// The bytes that begin every text which fits `pattern`.
pub(super) fn prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| b"*?[\\".contains(byte));
    &pattern[..end.unwrap_or(pattern.len())]
}

/// The rest of the pattern after the part that stands for one byte; `None` if `byte` does not fit that part.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', after @ ..] => Some(after),
        [b'\\', escaped, after @ ..] => (*escaped == byte).then_some(after),
        [b'[', after @ ..] => class(after, byte),
        [first, after @ ..] => (*first == byte).then_some(after),
        [] => None,
    }
}

/// The rest of the pattern after a class of bytes; `None` if `byte` is not in it. A class without an end ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_negated, mut rest) = match pattern {
        [b'^', after @ ..] => (true, after),
        _ => (false, pattern),
    };
    let mut is_in = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', escaped, after @ ..] => {
                is_in |= *escaped == byte;
                after
            }
            [from, b'-', to, after @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                after
            }
            [single, after @ ..] => {
                is_in |= *single == byte;
                after
            }
        };
    }
    (is_in != is_negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_fit_as_in_redis() {
        for (pattern, fits, fits_not) in [
            ("*", vec!["", "a"], vec![]),
            ("a*", vec!["a", "ab"], vec!["", "ba"]),
            ("*a*b", vec!["ab", "xaxb", "aab b"], vec!["aba"]),
            ("h?llo", vec!["hello", "hallo"], vec!["hllo"]),
            ("h[ae]llo", vec!["hello", "hallo"], vec!["hillo"]),
            ("h[^e]llo", vec!["hallo"], vec!["hello"]),
            ("h[a-c]llo", vec!["hbllo"], vec!["hdllo"]),
            ("h[c-a]llo", vec!["hbllo"], vec!["hdllo"]),
            ("h\\*llo", vec!["h*llo"], vec!["hello"]),
            ("[\\]]", vec!["]"], vec!["\\"]),
            ("a[", vec![], vec!["a", "a["]),
            ("a[b", vec!["ab"], vec!["ac"]),
            ("", vec![""], vec!["a"]),
        ] {
            assert!(fits.iter().all(|text| matches(pattern.as_bytes(), text.as_bytes())), "{pattern}");
            assert!(!fits_not.iter().any(|text| matches(pattern.as_bytes(), text.as_bytes())), "{pattern}");
        }
        assert_eq!([prefix(b"ab*c"), prefix(b"ab"), prefix(b"a\\*"), prefix(b"*")], [&b"ab"[..], b"ab", b"a", b""]);
    }

    #[test]
    fn many_stars_take_little_time() {
        let (pattern, text) = ("a*".repeat(2_000), "a".repeat(4_000) + "b");
        assert!(matches(pattern.as_bytes(), text.as_bytes()));
        assert!(!matches((pattern + "c").as_bytes(), text.as_bytes()));
    }

    proptest! {
        #[test]
        fn texts_that_fit_begin_with_the_prefix(pattern in "[a-b*?\\[\\]^\\\\-]{0,8}", text in "[a-b]{0,6}") {
            if matches(pattern.as_bytes(), text.as_bytes()) {
                prop_assert!(text.as_bytes().starts_with(prefix(pattern.as_bytes())));
            }
        }
    }
}
