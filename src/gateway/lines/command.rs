//! Commands: lines of words, parted by one space.
//!
//! Contract: reading never fails in silence. A line that is no command is answered in words, and the connection goes on.

use crate::types::{Content, Key, KeyError, Table, Ttl, Value};

/// Before the time to live at the end of a line.
const EXPIRE: &[u8] = b" EXPIRE ";

/// A command that is valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Create(Table),
    Get(Table, Key),
    /// Writes the value; where `is_new`, only if the key has none.
    Put {
        table: Table,
        key: Key,
        content: Content,
        ttl: Option<Ttl>,
        is_new: bool,
    },
    Delete(Table, Key),
}

/// A line that is answered without asking the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Other<'a> {
    /// A line of spaces, or of nothing.
    Empty,
    /// A token. It is part of no text that is shown.
    Auth(&'a str),
    /// No table can have this name.
    MissingTable,
    Unrecognized(String),
    Wrong(String),
    /// A browser or a client of HTTP. The bytes that follow could be a page's commands in disguise.
    Http,
}

impl Command {
    /// Reads a line without its end.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Other<'_>> {
        if line.iter().all(|byte| *byte == b' ') {
            return Err(Other::Empty);
        }
        if is_http(line) {
            return Err(Other::Http);
        }
        let (word, rest) = split(line);
        if word == b"AUTH" {
            let token = rest.and_then(|token| std::str::from_utf8(token).ok()).filter(|token| !token.is_empty());
            return Err(token.map_or_else(|| Other::Wrong("usage: AUTH token".to_owned()), Other::Auth));
        }
        let usage = match word {
            b"CREATE" => "CREATE table",
            b"GET" => "GET table key",
            b"PUTNEW" => "PUTNEW table key data",
            b"PUT" => "PUT table key data",
            b"DELETE" => "DELETE table key",
            _ => return Err(Other::Unrecognized(shown(word))),
        };
        let wrong = || Other::Wrong(format!("usage: {usage}"));
        let given = rest.filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
        let (table, rest) = split(given);
        if word == b"CREATE" {
            if table.is_empty() || rest.is_some() {
                return Err(wrong());
            }
            let name = std::str::from_utf8(table);
            let name = name.map_err(|_| Other::Wrong("the name of the table is not valid UTF-8".to_owned()))?;
            return Table::parse(name).map(Self::Create).map_err(|error| Other::Wrong(error.to_string()));
        }
        let rest = rest.filter(|rest| !rest.is_empty() && !table.is_empty()).ok_or_else(wrong)?;
        let (first, data) = split(rest);
        let name = if matches!(word, b"GET" | b"DELETE") { rest } else { first };
        let key = Key::new(name.to_vec());
        match word {
            b"GET" | b"DELETE" => {
                let table = existing(table)?;
                let key = key.map_err(|error| wrong_key(&error))?;
                Ok(if word == b"GET" { Self::Get(table, key) } else { Self::Delete(table, key) })
            }
            _ => {
                let data = data.filter(|_| !first.is_empty()).ok_or_else(wrong)?;
                let table = existing(table)?;
                let key = key.map_err(|error| wrong_key(&error))?;
                let (data, ttl) = expiring(data)?;
                Ok(Self::Put { table, key, content: Content::Value(value(data)), ttl, is_new: word == b"PUTNEW" })
            }
        }
    }
}

/// The first word, and what follows the space after it.
fn split(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    }
}

/// The table of a command. A table that can have no such name does not exist.
fn existing(name: &[u8]) -> Result<Table, Other<'static>> {
    let name = std::str::from_utf8(name).map_err(|_| Other::MissingTable)?;
    Table::parse(name).map_err(|_| Other::MissingTable)
}

fn wrong_key(error: &KeyError) -> Other<'static> {
    Other::Wrong(error.to_string())
}

/// The data, and its time to live where it ends in one. Only the last ` EXPIRE 5` counts.
fn expiring(data: &[u8]) -> Result<(&[u8], Option<Ttl>), Other<'static>> {
    let Some(at) = data.windows(EXPIRE.len()).rposition(|window| window == EXPIRE) else { return Ok((data, None)) };
    let (before, digits) = (&data[..at], &data[at + EXPIRE.len()..]);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok((data, None));
    }
    let millis = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let ttl = millis.and_then(Ttl::from_millis).ok_or_else(|| {
        Other::Wrong(format!("EXPIRE is {}: 1 to {} ms are accepted", shown(digits), Ttl::MAX.as_millis()))
    })?;
    Ok((before, Some(ttl)))
}

fn value(data: &[u8]) -> Value {
    let is_text = std::str::from_utf8(data).is_ok();
    let bytes = data.to_vec().into();
    if is_text { Value::Text(bytes) } else { Value::Binary(bytes) }
}

/// Whether a line is the first of a request of HTTP. No table has a slash in its name.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (_, target, version) = (words.next(), words.next(), words.next());
    target.is_some_and(|target| target.contains(&b'/'))
        && version.is_some_and(|version| version.starts_with(b"HTTP/"))
        && words.next().is_none()
}

/// The text of a client, so that it can stand in an answer: no control characters, and the beginning alone.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{DRAWN_BYTES_MAX, mutated};

    fn key(text: &str) -> Key {
        Key::new(text.to_owned()).unwrap()
    }

    fn table(name: &str) -> Table {
        Table::parse(name).unwrap()
    }

    fn get(table_name: &str, name: &str) -> Command {
        Command::Get(table(table_name), key(name))
    }

    fn put(name: &str, data: &'static str, millis: Option<u64>, is_new: bool) -> Command {
        let (table, ttl) = (Table::Default, millis.and_then(Ttl::from_millis));
        Command::Put { table, key: key(name), content: Content::Value(Value::Text(data.into())), ttl, is_new }
    }

    #[test]
    fn each_line_is_a_command_or_says_what_is_wrong() {
        let wrong = |text: &str| Err(Other::Wrong(text.to_owned()));
        for (line, expected) in [
            ("GET default a", Ok(get("default", "a"))),
            ("GET default a b  c ", Ok(get("default", "a b  c "))),
            ("GET t k", Ok(get("t", "k"))),
            ("GET Default k", Ok(get("Default", "k"))),
            ("DELETE größe a b", Ok(Command::Delete(table("größe"), key("a b")))),
            ("PUTNEW default k some  data ", Ok(put("k", "some  data ", None, true))),
            ("PUT default k {\"a\": \"\\r\\n\"}", Ok(put("k", "{\"a\": \"\\r\\n\"}", None, false))),
            ("PUT default k ", Ok(put("k", "", None, false))),
            ("PUT default k v EXPIRE 5", Ok(put("k", "v", Some(5), false))),
            ("PUTNEW default k v EXPIRE 4 EXPIRE 5", Ok(put("k", "v EXPIRE 4", Some(5), true))),
            ("PUT default k v EXPIRE soon", Ok(put("k", "v EXPIRE soon", None, false))),
            ("PUT default k EXPIRE 5", Ok(put("k", "EXPIRE 5", None, false))),
            ("PUT default k v EXPIRE 0", wrong("EXPIRE is 0: 1 to 315360000000 ms are accepted")),
            ("PUT default k v EXPIRE 315360000001", wrong("EXPIRE is 315360000001: 1 to 315360000000 ms are accepted")),
            ("PUT default k", wrong("usage: PUT table key data")),
            ("PUTNEW default", wrong("usage: PUTNEW table key data")),
            ("GET default", wrong("usage: GET table key")),
            ("GET default ", wrong("usage: GET table key")),
            ("GET", wrong("usage: GET table key")),
            ("DELETE  a", wrong("usage: DELETE table key")),
            ("CREATE", wrong("usage: CREATE table")),
            ("CREATE a b", wrong("usage: CREATE table")),
            ("CREATE ", wrong("usage: CREATE table")),
            ("CREATE a ", wrong("usage: CREATE table")),
            ("CREATE default", Ok(Command::Create(Table::Default))),
            ("CREATE t", Ok(Command::Create(table("t")))),
            (
                "CREATE a/b",
                wrong("the name of the table holds '/': spaces, control characters and slashes are not accepted"),
            ),
            ("GET a/b k", Err(Other::MissingTable)),
            ("PUT a\tb k v", Err(Other::MissingTable)),
            ("", Err(Other::Empty)),
            ("   ", Err(Other::Empty)),
            ("get default a", Err(Other::Unrecognized("get".to_owned()))),
            (" GET default a", Err(Other::Unrecognized(String::new()))),
            ("AUTH qrt_a_b", Err(Other::Auth("qrt_a_b"))),
            ("AUTH", wrong("usage: AUTH token")),
            ("AUTH ", wrong("usage: AUTH token")),
            ("GET / HTTP/1.1", Err(Other::Http)),
            ("POST /x HTTP/1.0", Err(Other::Http)),
            ("GET default HTTP/1.1", Ok(get("default", "HTTP/1.1"))),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), expected, "{line:?}");
        }
        let long = format!("GET default {}", "k".repeat(4_097));
        assert!(matches!(Command::parse(long.as_bytes()), Err(Other::Wrong(text)) if text.contains("4097")));
        let binary = Command::parse(b"PUT default k \xff");
        assert!(matches!(binary, Ok(Command::Put { content: Content::Value(Value::Binary(_)), .. })));
        assert!(matches!(Command::parse(b"GET default \xff"), Err(Other::Wrong(text)) if text.contains("UTF-8")));
        assert_eq!(Command::parse(b"GET \xff k"), Err(Other::MissingTable));
        assert!(matches!(Command::parse(b"CREATE \xff"), Err(Other::Wrong(text)) if text.contains("UTF-8")));
    }

    proptest! {
        #[test]
        fn any_line_is_answered_by_one_line(line in prop::collection::vec(any::<u8>(), 0..80), word in "(PUT|GET|CREATE)? ?") {
            let line = [word.into_bytes(), line].concat();
            if let Err(Other::Unrecognized(text) | Other::Wrong(text)) = Command::parse(&line) {
                prop_assert!(!text.contains(['\r', '\n']), "{text:?}");
            }
        }
    }

    #[test]
    fn fuzz_lines() {
        let seeds: [&[u8]; 6] = [
            b"GET default a b",
            b"PUT default k v EXPIRE 5",
            b"PUTNEW default k {\"a\": 1} EXPIRE 315360000000",
            b"DELETE default \xc3\xbc",
            b"CREATE default",
            b"POST /x HTTP/1.1",
        ];
        bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
            let line = mutated(&seeds, bytes);
            if let Err(Other::Unrecognized(text) | Other::Wrong(text)) = Command::parse(&line) {
                assert!(!text.contains(['\r', '\n']) && text.len() < 1_000, "{text:?}");
            }
        });
    }
}
