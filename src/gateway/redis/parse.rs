//! Requests as they arrive: arrays of bulk strings, or lines of words for people who type.
//!
//! Contract: what a request claims is judged before it is buffered. The parser keeps its place, so that bytes which arrive
//! one by one are looked at once. After an error the place of the next request is not known, and the connection ends.
//!
//! Short arguments are copied out, so that the buffer can be used again at once. Long ones share it.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::limits::{MESSAGE_BYTES_MAX, VALUE_BYTES_MAX};

/// The longest line: a request of words, or the length of an array or of an argument. Redis has the same.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;
/// The most arguments of a command, its name included.
pub(super) const ARGUMENTS_MAX: usize = 1_024;
/// The most arguments of a command with any number of keys.
pub(super) const ARGUMENTS_OF_MANY_MAX: usize = 20_001;
/// The most arguments of a request from somebody who is not known yet. Redis has the same.
pub(super) const STRANGER_ARGUMENTS_MAX: usize = 10;
/// The most bytes of such a request: so few are not counted against the buffer budget.
pub(super) const STRANGER_BYTES_MAX: usize = 16 << 10;
/// So many bytes are counted for an argument beside its own: its place in the list, and that of its copy.
pub(super) const ARGUMENT_BYTES: usize = 64;
/// Shorter arguments are copied.
const SHARED_BYTES_MIN: usize = 4 << 10;
/// So many bytes are read at once.
pub(super) const READ_BYTES: usize = 16 << 10;
/// A long argument gets room for so many more of its bytes at first, then for as many as have arrived.
const GROWTH_BYTES_MIN: usize = 64 << 10;
/// The longest word of a request that an error repeats.
const SHOWN_BYTES_MAX: usize = 128;

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// The text of an error, without its first word.
    Protocol(String),
    /// A browser or a client of HTTP. The bytes that follow could be a page's commands in disguise.
    Http,
    /// The start of a connection of TLS.
    Tls,
}

fn wrong(text: impl Into<String>) -> ParseError {
    ParseError::Protocol(text.into())
}

/// A request that is arriving.
#[derive(Debug, Default)]
pub(super) struct Parser {
    arguments: Vec<Bytes>,
    /// How many more arguments the array has.
    missing: usize,
    /// The length of the next argument, once it is known.
    length: Option<usize>,
    /// The bytes of the arguments, those on their way included.
    bytes: usize,
    /// The same of those that have arrived, with [`ARGUMENT_BYTES`] for each.
    held: usize,
    /// How much of the buffer has been searched for the end of a line.
    searched: usize,
    /// Whether whoever sends it is not known, and must be: then little is taken.
    pub(super) is_of_stranger: bool,
}

/// A line at the start of a buffer.
struct Line {
    length: usize,
    with_end: usize,
}

impl Parser {
    /// The next request in `buffer`: its words, at least one. `None` if it is not there yet. `takes_many` says whether the
    /// command of this name has any number of keys.
    pub(super) fn next(
        &mut self,
        buffer: &mut BytesMut,
        takes_many: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<Bytes>>, ParseError> {
        while self.missing == 0 {
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(line) = self.line(buffer, "too big mbulk count string")? else { return Ok(None) };
                    let count = number(&buffer[1..line.length]).map(|count| usize::try_from(count).unwrap_or(0));
                    buffer.advance(line.with_end);
                    let count = count.filter(|count| *count <= ARGUMENTS_OF_MANY_MAX);
                    let count = count.ok_or_else(|| wrong("invalid multibulk length"))?;
                    if self.is_of_stranger && count > STRANGER_ARGUMENTS_MAX {
                        return Err(wrong("unauthenticated multibulk length"));
                    }
                    // An array of nothing asks for nothing.
                    self.missing = count;
                    self.arguments = Vec::with_capacity(self.missing.min(16));
                    (self.bytes, self.held) = (0, 0);
                }
                Some(0x16) => return Err(ParseError::Tls),
                Some(_) => {
                    let Some(line) = self.line(buffer, "too big inline request")? else { return Ok(None) };
                    let text = &buffer[..line.length];
                    if is_http(text) {
                        return Err(ParseError::Http);
                    }
                    let words = words(text).ok_or_else(|| wrong("unbalanced quotes in request"))?;
                    buffer.advance(line.with_end);
                    if words.len() > ARGUMENTS_MAX {
                        return Err(wrong("too big inline request"));
                    }
                    if !words.is_empty() {
                        return Ok(Some(words));
                    }
                }
            }
        }
        while self.missing > 0 {
            let Some(argument) = self.argument(buffer)? else { return Ok(None) };
            if self.arguments.is_empty() && self.missing > ARGUMENTS_MAX && !takes_many(&argument) {
                return Err(wrong(format!("invalid multibulk length: at most {ARGUMENTS_MAX} arguments are accepted")));
            }
            self.held += argument.len() + ARGUMENT_BYTES;
            self.arguments.push(argument);
            self.missing -= 1;
        }
        self.held = 0;
        Ok(Some(std::mem::take(&mut self.arguments)))
    }

    /// Whether a part of a request has arrived.
    pub(super) fn is_amid(&self, buffer: &BytesMut) -> bool {
        self.missing > 0 || !buffer.is_empty()
    }

    /// How many bytes of the request that is arriving are held.
    pub(super) fn held(&self, buffer: &BytesMut) -> usize {
        self.held + buffer.len()
    }

    /// Makes room for the bytes that arrive next. A length that a request claims is no reason to take that much memory.
    pub(super) fn make_room(&self, buffer: &mut BytesMut) {
        let wanted = self.length.map_or(0, |length| (length + 2).saturating_sub(buffer.len()));
        let growth = buffer.len().max(GROWTH_BYTES_MIN);
        if wanted > READ_BYTES {
            buffer.reserve(wanted.min(growth));
        } else if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(READ_BYTES);
        }
    }

    /// The next argument of an array.
    fn argument(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, ParseError> {
        let length = if let Some(length) = self.length {
            length
        } else {
            match buffer.first() {
                None => return Ok(None),
                Some(b'$') => {}
                Some(other) => {
                    let shown = char::from(*other);
                    let shown = if shown.is_ascii_graphic() { shown } else { '?' };
                    return Err(wrong(format!("expected '$', got '{shown}'")));
                }
            }
            let Some(line) = self.line(buffer, "too big bulk count string")? else { return Ok(None) };
            let length = number(&buffer[1..line.length]).and_then(|length| usize::try_from(length).ok());
            buffer.advance(line.with_end);
            let length = length
                .filter(|length| *length <= VALUE_BYTES_MAX)
                .ok_or_else(|| wrong(format!("invalid bulk length: 0 to {VALUE_BYTES_MAX} bytes are accepted")))?;
            self.bytes += length;
            if self.is_of_stranger && self.bytes > STRANGER_BYTES_MAX {
                return Err(wrong("unauthenticated bulk length"));
            }
            if self.bytes > MESSAGE_BYTES_MAX {
                return Err(wrong(format!("a request of more than {MESSAGE_BYTES_MAX} bytes is not accepted")));
            }
            self.length = Some(length);
            length
        };
        if buffer.len() < length + 2 {
            return Ok(None);
        }
        if buffer[length..length + 2] != *b"\r\n" {
            return Err(wrong(format!("no CR LF after a bulk string of {length} bytes")));
        }
        self.length = None;
        let argument = if length < SHARED_BYTES_MIN {
            let argument = Bytes::copy_from_slice(&buffer[..length]);
            buffer.advance(length);
            argument
        } else {
            buffer.split_to(length).freeze()
        };
        buffer.advance(2);
        Ok(Some(argument))
    }

    /// The line at the start of the buffer; `None` if its end is not there yet.
    fn line(&mut self, buffer: &[u8], too_long: &str) -> Result<Option<Line>, ParseError> {
        let bytes_max = if self.is_of_stranger { STRANGER_BYTES_MAX } else { LINE_BYTES_MAX };
        let end = buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched).filter(|end| *end <= bytes_max) else {
            self.searched = buffer.len();
            return if buffer.len() > bytes_max { Err(wrong(too_long)) } else { Ok(None) };
        };
        self.searched = 0;
        let length = if buffer[..end].last() == Some(&b'\r') { end - 1 } else { end };
        Ok(Some(Line { length, with_end: end + 1 }))
    }
}

/// A whole number in decimal, as Redis reads it: no plus sign, and no leading zeros.
pub(super) fn number(text: &[u8]) -> Option<i64> {
    if let [digit @ b'0'..=b'9'] = text {
        return Some(i64::from(digit - b'0'));
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The text of a client, so that it can stand in an answer: no control characters, and the beginning alone.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether a line is one of a request of HTTP. Its target is a path, an address or a star: `SET k HTTP/1.1` has none.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (first, second, third) = (words.next().unwrap_or_default(), words.next(), words.next());
    let is_target =
        |word: &[u8]| word.first() == Some(&b'/') || word == b"*" || word.windows(3).any(|part| part == b"://");
    first.eq_ignore_ascii_case(b"post")
        || first.eq_ignore_ascii_case(b"host:")
        || second.is_some_and(is_target)
            && third.is_some_and(|version| version.starts_with(b"HTTP/"))
            && words.next().is_none()
}

/// The words of a line, parted by spaces. A word may be in quotes; in double quotes it may have escapes. `None` if a quote
/// has no end, or does not end its word.
fn words(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0);
        let Some(start) = start else { return Some(words) };
        rest = &rest[start..];
        let mut word = Vec::new();
        loop {
            match rest {
                [] => break,
                [first, ..] if first.is_ascii_whitespace() || *first == 0 => break,
                [quote @ (b'"' | b'\''), after @ ..] => {
                    rest = quoted(*quote, after, &mut word)?;
                    if rest.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return None;
                    }
                    break;
                }
                [first, after @ ..] => {
                    word.push(*first);
                    rest = after;
                }
            }
        }
        words.push(word.into());
    }
}

/// Reads to the end of a quoted word, and returns what follows.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let is_double = quote == b'"';
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    loop {
        match rest {
            [] => return None,
            [byte, after @ ..] if *byte == quote => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if is_double && digit(*high).is_some() && digit(*low).is_some() => {
                word.push(digit(*high)? << 4 | digit(*low)?);
                rest = after;
            }
            [b'\\', escaped, after @ ..] if is_double => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};

    /// All requests in `input`, which arrives in pieces of `piece` bytes, and the error at its end.
    fn parse_in(input: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, Option<ParseError>) {
        let (mut parser, mut buffer, mut requests) = (Parser::default(), BytesMut::new(), Vec::new());
        for piece in input.chunks(piece) {
            parser.make_room(&mut buffer);
            buffer.extend_from_slice(piece);
            loop {
                match parser.next(&mut buffer, |name| name.eq_ignore_ascii_case(b"mget")) {
                    Ok(Some(request)) => requests.push(request.iter().map(|word| word.to_vec()).collect()),
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn parse(input: &[u8]) -> (Vec<Vec<String>>, Option<String>) {
        let (requests, error) = parse_in(input, usize::MAX);
        let text = |word: Vec<u8>| String::from_utf8(word).unwrap();
        let requests = requests.into_iter().map(|words| words.into_iter().map(text).collect()).collect();
        let error = error.map(|error| match error {
            ParseError::Protocol(text) => text,
            other => format!("{other:?}"),
        });
        (requests, error)
    }

    fn framed(words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    #[test]
    fn strangers_are_read_little_of() {
        let parse = |input: &str| {
            let (mut parser, mut buffer) = (Parser::default(), BytesMut::from(input.as_bytes()));
            parser.is_of_stranger = true;
            parser.next(&mut buffer, |_| true)
        };
        let refused = |text: &str| Err(wrong(text));
        let most = "x".repeat(STRANGER_BYTES_MAX - 4);
        assert!(parse(&format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{most}\r\n", most.len())).unwrap().is_some());
        assert_eq!(
            parse(&format!("*2\r\n$4\r\nAUTH\r\n${}\r\n", most.len() + 1)),
            refused("unauthenticated bulk length")
        );
        assert_eq!(parse("*10\r\n"), Ok(None));
        assert_eq!(parse("*11\r\n"), refused("unauthenticated multibulk length"));
        assert_eq!(parse(&"x".repeat(STRANGER_BYTES_MAX + 1)), refused("too big inline request"));
    }

    #[test]
    fn requests_are_read_or_the_error_says_why_not() {
        for (input, expected, error) in [
            ("*2\r\n$3\r\nGET\r\n$1\r\na\r\n", vec![vec!["GET", "a"]], None),
            (
                "*1\r\n$4\r\nPING\r\n*0\r\n*-1\r\nPING\r\n\r\n\nping x\n",
                vec![vec!["PING"], vec!["PING"], vec!["ping", "x"]],
                None,
            ),
            ("SET k \"a b\\n\\x41\\\"\" 'it\\'s \\n'\r\n", vec![vec!["SET", "k", "a b\nA\"", "it's \\n"]], None),
            ("  get   a  \n", vec![vec!["get", "a"]], None),
            ("SET k \"\"\n", vec![vec!["SET", "k", ""]], None),
            ("SET k \"a\n", vec![], Some("unbalanced quotes in request")),
            ("SET k \"a\"b\n", vec![], Some("unbalanced quotes in request")),
            ("*x\r\n", vec![], Some("invalid multibulk length")),
            ("*20002\r\n", vec![], Some("invalid multibulk length")),
            ("*1025\r\n$3\r\nGET\r\n", vec![], Some("invalid multibulk length: at most 1024 arguments are accepted")),
            ("*1025\r\n$4\r\nMGET\r\n", vec![], None),
            ("*1\r\nPING\r\n", vec![], Some("expected '$', got 'P'")),
            ("*1\r\n$-1\r\n", vec![], Some("invalid bulk length: 0 to 62914560 bytes are accepted")),
            ("*1\r\n$62914561\r\n", vec![], Some("invalid bulk length: 0 to 62914560 bytes are accepted")),
            ("*1\r\n$4\r\nPINGxx", vec![], Some("no CR LF after a bulk string of 4 bytes")),
            ("GET / HTTP/1.1\r\n", vec![], Some("Http")),
            ("OPTIONS * HTTP/1.1\r\n", vec![], Some("Http")),
            ("PUT http://localhost/ HTTP/1.1\r\n", vec![], Some("Http")),
            ("SET k HTTP/1.1\r\n", vec![vec!["SET", "k", "HTTP/1.1"]], None),
            ("POST /\r\n", vec![], Some("Http")),
            ("Host: localhost\r\n", vec![], Some("Http")),
            ("\u{16}\u{3}\u{1}", vec![], Some("Tls")),
        ] {
            let expected: Vec<Vec<String>> =
                expected.into_iter().map(|words| words.into_iter().map(str::to_owned).collect()).collect();
            assert_eq!(parse(input.as_bytes()), (expected, error.map(str::to_owned)), "{input:?}");
        }
        let two_large = format!("*3\r\n$3\r\nSET\r\n$62914560\r\n{}\r\n$62914560\r\n", "x".repeat(62_914_560));
        let error = parse(two_large.as_bytes()).1.unwrap();
        assert_eq!(error, "a request of more than 67108864 bytes is not accepted");
        for (start, text) in [("", "inline request"), ("*", "mbulk count string"), ("*1\r\n$", "bulk count string")] {
            let long = format!("{start}{}", "1".repeat(LINE_BYTES_MAX + 1));
            assert_eq!(parse(long.as_bytes()), (vec![], Some(format!("too big {text}"))));
        }
    }

    #[test]
    fn claimed_length_takes_no_memory() {
        let (mut parser, mut buffer) = (Parser::default(), BytesMut::new());
        buffer.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$60000000\r\nx");
        assert_eq!(parser.next(&mut buffer, |_| false), Ok(None));
        parser.make_room(&mut buffer);
        assert!(buffer.capacity() < 256 << 10, "{}", buffer.capacity());
        assert!(parser.is_amid(&buffer) && parser.held(&buffer) == 4 + ARGUMENT_BYTES);
    }

    #[test]
    fn empty_arguments_are_counted() {
        let (mut parser, mut buffer) = (Parser::default(), BytesMut::new());
        buffer.extend_from_slice(b"*1001\r\n$4\r\nMGET\r\n");
        buffer.extend_from_slice("$0\r\n\r\n".repeat(999).as_bytes());
        assert_eq!(parser.next(&mut buffer, |_| true), Ok(None));
        assert_eq!(parser.held(&buffer), 4 + 1_000 * ARGUMENT_BYTES);
        buffer.extend_from_slice(b"$0\r\n\r\n");
        assert!(parser.next(&mut buffer, |_| true).unwrap().is_some_and(|words| words.len() == 1_001));
        assert_eq!(parser.held(&buffer), 0);
    }

    #[test]
    fn numbers_are_strict() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn requests_are_read_in_pieces_of_any_size(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 0..5),
            long in prop::collection::vec(any::<u8>(), 4_000..5_000),
            piece in 1_usize..50,
        ) {
            let mut requests = requests;
            requests.push(vec![b"SET".to_vec(), long]);
            let input: Vec<u8> = requests.iter().flat_map(|words| framed(words)).collect();
            prop_assert_eq!(parse_in(&input, piece), (requests, None));
        }

        #[test]
        fn any_bytes_are_read_alike_in_one_piece_and_in_many(
            parts in prop::collection::vec(
                prop_oneof![
                    "[*$]-?[0-9]{1,3}(\r\n|\n)?",
                    "[a-z\"'\\\\ ]{0,8}(\r\n)?",
                    Just("*1\r\n$1\r\na\r\n".to_owned()),
                    ".{0,4}",
                ],
                0..8,
            ),
            piece in 1_usize..9,
        ) {
            let input = parts.concat().into_bytes();
            prop_assert_eq!(parse_in(&input, piece), parse_in(&input, usize::MAX));
        }

        #[test]
        fn noise_is_read_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
            if let (_, Some(ParseError::Protocol(text))) = parse_in(&input, 7) {
                prop_assert!(!text.contains(['\r', '\n']), "{text:?}");
            }
        }
    }

    #[test]
    fn fuzz_requests_of_redis() {
        let seeds: [&[u8]; 5] = [
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            b"SET k \"a b\\n\\x41\" 'it\\'s'\r\nPING\n",
            b"*0\r\n*-1\r\n*1\r\n$0\r\n\r\n",
            b"*1048576\r\n$4\r\nMGET\r\n$536870912\r\n",
            b"GET / HTTP/1.1\r\n\x16\x03\x01",
        ];
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let input = mutated(&seeds, bytes);
            let whole = parse_in(&input, usize::MAX);
            for piece in [1, 7] {
                assert_eq!(parse_in(&input, piece), whole, "bytes that arrive one by one mean the same");
            }
            if let Some(ParseError::Protocol(text)) = whole.1 {
                assert!(!text.contains(['\r', '\n']) && text.len() < 1_000, "{text:?}");
            }
        });
    }
}
