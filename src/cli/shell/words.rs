//! A line as words, by the rules of a POSIX shell without its variables, patterns and operators.
//!
//! Blanks part words. Single quotes keep everything. In double quotes, and outside of quotes, a backslash takes the next
//! character as it is. Only in double quotes `\n` and `\t` are a line end and a tab: a line has no other way to say them.

/// A word that is not finished, as far as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) word: String,
    /// Where it begins in the line, with its quote.
    pub(super) start: usize,
    /// The quote that is still open.
    pub(super) quote: Option<char>,
}

/// The words of a line.
///
/// # Errors
/// When a quote is not closed, or the last character is a backslash.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, open, is_escaping) = scan(line);
    if let Some(quote) = open.as_ref().and_then(|open| open.quote) {
        return Err(format!("a quote is not closed: add {quote} at the end of the word"));
    }
    if is_escaping {
        return Err("the line ends with a backslash: remove it, or write two".to_owned());
    }
    words.extend(open.map(|open| open.word));
    Ok(words)
}

/// The words before the end of the line, and the one that the end is in: a new one after a blank.
pub(super) fn before_cursor(line: &str) -> (Vec<String>, Open) {
    let (words, open, _) = scan(line);
    (words, open.unwrap_or(Open { start: line.len(), ..Open::default() }))
}

/// A word as it can be typed.
pub(super) fn quoted(word: &str, quote: Option<char>) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=@%+".contains(c);
    match quote {
        Some('\'') if !word.contains('\'') => format!("'{word}'"),
        None if !word.is_empty() && word.chars().all(is_plain) => word.to_owned(),
        None if !word.contains('\'') => format!("'{word}'"),
        _ => {
            let mut text = String::from("\"");
            for character in word.chars() {
                match character {
                    '\n' => text.push_str("\\n"),
                    '\t' => text.push_str("\\t"),
                    '"' | '\\' => text.extend(['\\', character]),
                    other => text.push(other),
                }
            }
            text + "\""
        }
    }
}

/// All words that have ended, the one at the end of the line, and whether that ends with a backslash.
fn scan(line: &str) -> (Vec<String>, Option<Open>, bool) {
    let (mut words, mut open, mut is_escaping) = (Vec::new(), None::<Open>, false);
    for (at, character) in line.char_indices() {
        if open.is_none() && character.is_whitespace() {
            continue;
        }
        let of_word = open.get_or_insert_with(|| Open { start: at, ..Open::default() });
        if std::mem::take(&mut is_escaping) {
            of_word.word.push(match (of_word.quote, character) {
                (Some(_), 'n') => '\n',
                (Some(_), 't') => '\t',
                (_, other) => other,
            });
            continue;
        }
        match (of_word.quote, character) {
            (Some(quote), end) if end == quote => of_word.quote = None,
            (None | Some('"'), '\\') => is_escaping = true,
            (None, '\'' | '"') => of_word.quote = Some(character),
            (None, blank) if blank.is_whitespace() => words.extend(open.take().map(|open| open.word)),
            _ => of_word.word.push(character),
        }
    }
    (words, open, is_escaping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, words) in [
            ("", &[][..]),
            ("  get  a ", &["get", "a"]),
            ("set k ''", &["set", "k", ""]),
            (r#"set k "a b" 'c "d"' e\ f"#, &["set", "k", "a b", "c \"d\"", "e f"]),
            (r#"set k "a\nb\t\"\\""#, &["set", "k", "a\nb\t\"\\"]),
            (r"set k 'a\nb'", &["set", "k", r"a\nb"]),
            ("a'b'\"c\"", &["abc"]),
            ("雪 片", &["雪", "片"]),
        ] {
            assert_eq!(
                split(line).as_deref(),
                Ok(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..])
            );
        }
        assert!(split("set k 'a").unwrap_err().contains('\''));
        assert!(split(r"set k a\").unwrap_err().contains("backslash"));
    }

    #[test]
    fn cursor_is_in_a_word_or_after_a_blank() {
        let at = |line: &str| {
            let (words, open) = before_cursor(line);
            (words.len(), open.word, open.start)
        };
        assert_eq!(at("ge"), (0, "ge".into(), 0));
        assert_eq!(at("get "), (1, String::new(), 4));
        assert_eq!(at("get 'a b"), (1, "a b".into(), 4));
        assert_eq!(before_cursor("get 'a b").1.quote, Some('\''));
    }

    #[test]
    fn quoted_word_is_read_as_it_was() {
        for word in ["", "a", "a b", "it's", "\"", "a\nb", "\\", "雪", "$HOME", "#a"] {
            for quote in [None, Some('\''), Some('"')] {
                assert_eq!(split(&quoted(word, quote)), Ok(vec![word.to_owned()]), "{word:?} {quote:?}");
            }
        }
    }
}
