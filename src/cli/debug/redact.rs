//! What is taken out of files before they are part of a bundle.
//!
//! Caveat: where a line may hold a secret and cannot be read for sure, more of it goes than the secret.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// What stands where something was.
const REMOVED: &str = "(removed)";

/// Parts of the names of settings whose values are secrets, or say where one is.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "token", "credential", "private"];

/// How a token of Quorate begins.
const TOKEN: &str = "qrt_";

/// The fields of log lines, and of lines of the audit, that hold a key or the beginning of some.
const KEYS: [&str; 2] = ["key", "prefix"];

/// What each event of a log that is no JSON has on its first line.
const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "level="];

/// Any text without tokens and private keys in PEM.
pub(super) fn without_credentials(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut is_in_key = false;
    for line in text.lines() {
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        // Only the end of the text was taken, and it begins amid a key.
        if !is_in_key && line.contains("-----END") && line.contains("PRIVATE KEY") {
            kept = format!("{REMOVED}\n");
            continue;
        }
        if begins {
            kept += REMOVED;
            kept.push('\n');
        } else if !is_in_key {
            kept += &without_tokens(line);
            kept.push('\n');
        }
        is_in_key = (is_in_key || begins) && !line.contains("-----END");
    }
    kept
}

fn without_tokens(line: &str) -> String {
    let (mut kept, mut rest) = (String::new(), line);
    while let Some((before, token)) = rest.split_once(TOKEN) {
        kept += before;
        kept += TOKEN;
        kept += REMOVED;
        rest = token.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    }
    kept + rest
}

/// A configuration file without the values of secrets, and without comments, which may hold any.
pub(super) fn without_secrets(text: &str) -> String {
    let mut kept = String::new();
    // How far the name of the last secret is indented: its value may go on below it.
    let mut secret_indent: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
        let is_blank = line.trim().is_empty();
        if secret_indent.is_some_and(|secret| is_blank || indent > secret) {
            continue;
        }
        secret_indent = None;
        let content = without_comment(line);
        if let Some(at) = secret_name_ends(content) {
            let _ = writeln!(kept, "{}: {REMOVED}", &content[..at]);
            secret_indent = Some(indent);
        } else {
            kept += &without_logins(content);
            kept.push('\n');
        }
    }
    kept
}

/// Where the name of the first secret of a line ends.
fn secret_name_ends(content: &str) -> Option<usize> {
    let mut ends = content.char_indices().filter(|(_, character)| matches!(character, ':' | '=')).map(|(at, _)| at);
    ends.find(|at| {
        let before = content[..*at].trim_end_matches([' ', '"', '\'']);
        let name = before.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).next();
        is_secret(&name.unwrap_or_default().to_ascii_lowercase())
    })
}

fn is_secret(name: &str) -> bool {
    name == "key" || name.ends_with("_key") || SECRETS.iter().any(|part| name.contains(part))
}

/// The line up to a comment, which begins with `#` behind a space and outside of quotation marks.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') if before.is_whitespace() => return line[..at].trim_end(),
            // Within a word it is an apostrophe.
            (None, '"' | '\'') if before.is_whitespace() || "{[,:=".contains(before) => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
        before = character;
    }
    line
}

/// URLs without the user and the password in them.
fn without_logins(line: &str) -> String {
    let Some((scheme, rest)) = line.split_once("://") else { return line.to_owned() };
    let host_ends = rest.find(['/', '"', ' ']).unwrap_or(rest.len());
    let (host, behind) = rest.split_at(host_ends);
    let host = host.rfind('@').map_or_else(|| host.to_owned(), |at| format!("{REMOVED}{}", &host[at..]));
    format!("{scheme}://{host}{}", without_logins(behind))
}

/// A log without the keys that some lines name. A key may hold any characters, line breaks too. So all behind it goes, where the
/// line is no JSON, and lines after it up to the next event.
pub(super) fn without_keys(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.lines() {
        let line = without_colours(line);
        let value_begins = |part: &str| KEYS.iter().filter_map(|name| field_begins(part, name)).min();
        let json = line.find('{').and_then(|at| Some((&line[..at], serde_json::from_str::<Json>(&line[at..]).ok()?)));
        // A key itself may end like JSON.
        if let Some((before, mut json)) = json.filter(|(before, _)| value_begins(before).is_none()) {
            remove_keys(&mut json);
            let _ = writeln!(kept, "{before}{json}");
            goes_on = false;
            continue;
        }
        if goes_on && !LEVELS.iter().any(|level| line.contains(level)) {
            continue;
        }
        let key = value_begins(&line);
        goes_on = key.is_some();
        let _ = match key {
            Some(at) => writeln!(kept, "{}{REMOVED}", &line[..at]),
            None => writeln!(kept, "{line}"),
        };
    }
    kept
}

/// Where the value of the field `name` begins in a line of a log.
fn field_begins(line: &str, name: &str) -> Option<usize> {
    let (pair, quoted) = (format!("{name}="), format!("\"{name}\":"));
    let is_part = |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut pairs = line.match_indices(&pair).filter(|(at, _)| !is_part(*at)).map(|(at, _)| at + pair.len());
    let quoted = line.find(&quoted).map(|at| at + quoted.len());
    pairs.next().into_iter().chain(quoted).min()
}

/// A line as it was before a terminal's colours were put into it: they stand between a name and its `=`.
fn without_colours(line: &str) -> String {
    let (mut kept, mut rest) = (String::new(), line);
    while let Some((before, colour)) = rest.split_once("\x1b[") {
        kept += before;
        let end = colour.find(|c: char| c.is_ascii_alphabetic()).map_or(colour.len(), |at| at + 1);
        rest = &colour[end..];
    }
    kept + rest
}

fn remove_keys(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            for (name, value) in fields {
                if KEYS.contains(&name.as_str()) {
                    *value = REMOVED.into();
                } else {
                    remove_keys(value);
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(remove_keys),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_whose_beginning_was_cut_off_is_removed() {
        let text = "MIGHAgEAMBMGByqG\n-----END PRIVATE KEY-----\nstarted\n-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\nended\n";
        assert_eq!(without_credentials(text), "(removed)\nstarted\n(removed)\nended\n");
    }

    #[test]
    fn secrets_of_a_configuration_are_removed() {
        let text = "node:\n  id: 1 # hunter2\n  tls_Password: \"hunter2 # x\"\n  auth_tokens: hunter2\n  # token: hunter2\n  \
                    private_key: hunter2\n  proxy: \"http://bob:hunter2@h:1/x\"\n  secret:\n  data_dir: \"./a#b\"\n";
        let redacted = without_secrets(text);
        assert!(!redacted.contains("hunter2"), "{redacted}");
        let lines: Vec<&str> = redacted.lines().map(str::trim).collect();
        assert_eq!(lines[1], "id: 1");
        assert_eq!(lines[2], "tls_Password: (removed)");
        assert_eq!(lines[6], "proxy: \"http://(removed)@h:1/x\"");
        assert_eq!((lines[7], lines[8]), ("secret: (removed)", "data_dir: \"./a#b\""));
    }

    #[test]
    fn secrets_on_lines_of_their_own_and_within_a_line_are_removed() {
        let text = "passwords:\n- hunter2\n\n- hunter2\nname: bob's # hunter2\nowner: { id: 1, token: hunter2 }\n\
                    credential: |\n  hunter2\n  hunter2: x\nQUORATE_TOKEN=hunter2\nrepair_keys_per_second: 9\n";
        let redacted = without_secrets(text);
        let expected = "passwords: (removed)\nname: bob's\nowner: { id: 1, token: (removed)\ncredential: (removed)\n\
                        QUORATE_TOKEN: (removed)\nrepair_keys_per_second: 9\n";
        assert_eq!(redacted, expected);
    }

    #[test]
    fn contexts_and_files_of_a_node_lose_their_tokens_and_keys() {
        let contexts = "current: prod\ncontexts:\n  prod:\n    address: n1:8001\n    ca: prod/ca.crt\n    key: prod/ada.key\n    \
                        token_file: prod/ada.token\n  test:\n    address: n2:8001\n";
        let redacted = without_secrets(contexts);
        let expected = contexts.replace("prod/ada.key", REMOVED).replace("prod/ada.token", REMOVED);
        assert_eq!(redacted, expected);
        let node = "node:\n  id: 1\n  tls_certificate: node-1.crt\n  tls_key: node-1.key\n  authorization: true\n";
        assert_eq!(without_secrets(node), node.replace("node-1.key", REMOVED));
    }

    #[test]
    fn tokens_and_private_keys_are_removed_from_any_file() {
        let token = crate::auth::Token::new().unwrap();
        let text = format!("refused {} twice, \"{}\"\n{}\n", token.reveal(), token.reveal(), token.reveal());
        assert_eq!(without_credentials(&text), "refused qrt_(removed) twice, \"qrt_(removed)\"\nqrt_(removed)\n");
        let pem = "a\n-----BEGIN EC PRIVATE KEY-----\nMHcC\nAQEE\n-----END EC PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nMIIB\n\
                   -----END CERTIFICATE-----\n";
        let redacted = without_credentials(pem);
        assert_eq!(redacted, "a\n(removed)\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    }

    #[test]
    fn keys_in_a_log_are_removed() {
        let text = "ERROR could not read a record error=it is damaged key=bob's card left_out=0\n\
                    INFO linked peer=2 keys=3 monkey=4\n\
                    {\"level\":\"ERROR\",\"key\":\"bob's card\",\"spans\":[{\"key\":\"bob\"}],\"keys\":3}\n\
                    {\"broken\": key=bob\n\
                    Nov 27 h quorate[7]: {\"prefix\":\"bob\",\"who\":\"ada\"}\n\
                    {\"key\":\"bob, and the line is cut of\n";
        let redacted = without_keys(text);
        assert!(!redacted.contains("bob"), "{redacted}");
        let lines: Vec<&str> = redacted.lines().collect();
        assert_eq!(lines[0], "ERROR could not read a record error=it is damaged key=(removed)");
        assert_eq!(lines[1], "INFO linked peer=2 keys=3 monkey=4");
        assert!(lines[2].contains("\"keys\":3"), "{redacted}");
        assert_eq!(lines[4], "Nov 27 h quorate[7]: {\"prefix\":\"(removed)\",\"who\":\"ada\"}");
    }

    #[test]
    fn keys_with_line_breaks_and_colours_are_removed() {
        let text = "\x1b[31mERROR\x1b[0m could not read \x1b[3mkey\x1b[0m\x1b[2m=\x1b[0mbob\nbob too left_out=0\nWARN slow\nas ever\n";
        assert_eq!(without_keys(text), "ERROR could not read key=(removed)\nWARN slow\nas ever\n");
    }
}
