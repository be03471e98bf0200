//! What is taken out of files before they are part of a bundle.

use serde_json::Value as Json;

/// What stands where something was.
const REMOVED: &str = "(removed)";

/// Parts of the names of settings whose values are secrets.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "token", "credential", "private"];

/// A configuration file without the values of secrets, and without comments, which may hold any.
pub(super) fn without_secrets(text: &str) -> String {
    let line = |line: &str| {
        let content = without_comment(line);
        let Some((name, value)) = content.split_once(':') else { return content.to_owned() };
        let is_secret = SECRETS.iter().any(|part| name.to_ascii_lowercase().contains(part));
        if is_secret && !value.trim().is_empty() { format!("{name}: {REMOVED}") } else { without_login(content) }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// The line up to a comment, which begins with `#` behind a space and outside of quotation marks.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') if before.is_whitespace() => return line[..at].trim_end(),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
        before = character;
    }
    line
}

/// A URL without the user and the password in it.
fn without_login(line: &str) -> String {
    let Some((scheme, rest)) = line.split_once("://") else { return line.to_owned() };
    let host_ends = rest.find(['/', '"', ' ']).unwrap_or(rest.len());
    match rest[..host_ends].rfind('@') {
        Some(at) => format!("{scheme}://{REMOVED}{}", &rest[at..]),
        None => line.to_owned(),
    }
}

/// A log without the keys that some lines name. A key may hold any characters, so that all behind it on its line goes too, where
/// the line is no JSON.
pub(super) fn without_keys(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with('{')
            && let Ok(mut json) = serde_json::from_str::<Json>(line)
        {
            remove_keys(&mut json);
            return json.to_string();
        }
        match line
            .find("key=")
            .filter(|at| *at == 0 || !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            Some(at) => format!("{}key={REMOVED}", &line[..at]),
            None => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

fn remove_keys(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            for (name, value) in fields {
                if name == "key" {
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
    fn secrets_of_a_configuration_are_removed() {
        let text = "node:\n  id: 1 # hunter2\n  tls_Password: \"hunter2 # x\"\n  auth_tokens: hunter2\n  # token: hunter2\n  \
                    private_key: hunter2\n  proxy: \"http://bob:hunter2@h:1/x\"\n  secret:\n  data_dir: \"./a#b\"\n";
        let redacted = without_secrets(text);
        assert!(!redacted.contains("hunter2"), "{redacted}");
        let lines: Vec<&str> = redacted.lines().map(str::trim).collect();
        assert_eq!(lines[1], "id: 1");
        assert_eq!(lines[2], "tls_Password: (removed)");
        assert_eq!(lines[6], "proxy: \"http://(removed)@h:1/x\"");
        assert_eq!((lines[7], lines[8]), ("secret:", "data_dir: \"./a#b\""));
    }

    #[test]
    fn keys_in_a_log_are_removed() {
        let text = "ERROR could not read a record error=it is damaged key=bob's card left_out=0\n\
                    INFO linked peer=2 keys=3 monkey=4\n\
                    {\"level\":\"ERROR\",\"key\":\"bob's card\",\"spans\":[{\"key\":\"bob\"}],\"keys\":3}\n\
                    {\"broken\": key=bob\n";
        let redacted = without_keys(text);
        assert!(!redacted.contains("bob"), "{redacted}");
        let lines: Vec<&str> = redacted.lines().collect();
        assert_eq!(lines[0], "ERROR could not read a record error=it is damaged key=(removed)");
        assert_eq!(lines[1], "INFO linked peer=2 keys=3 monkey=4");
        assert!(lines[2].contains("\"keys\":3"), "{redacted}");
    }
}
