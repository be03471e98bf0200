//! contexts.yml: the clusters that the command line knows by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::RemoteAddress;
use super::error::{ConfigError, Problem};
use super::fields::Mapping;
use super::{File, yaml};

/// The keys of a context.
const KEYS: [&str; 5] = ["address", "ca", "cert", "key", "token_file"];

/// What an address of a context may be.
const ADDRESS: &str = "HOST:PORT with a port from 1 to 65535, or several separated by commas";

/// How to reach one cluster. Paths are absolute, or relative to the file's folder, with which they are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The addresses of nodes; empty if the context names none.
    pub addresses: Vec<String>,
    /// The CAs that are believed.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The key of that.
    pub key: Option<PathBuf>,
    /// The file of a token.
    pub token_file: Option<PathBuf>,
}

/// All contexts of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// The one that is used where none is named.
    pub current: Option<String>,
    /// Each by its name.
    pub contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads a contexts.yml.
    ///
    /// # Errors
    /// With the first value that is not accepted, and when `current` names no context.
    pub fn parse(file: File<'_>) -> Result<Self, ConfigError> {
        let root = yaml::parse(file.name, file.text, "contexts")?;
        let top = Mapping::root(file.name, &root, "one mapping with the keys contexts and current")?;
        top.refuse_unknown(&["contexts", "current"])?;
        let mut contexts = BTreeMap::new();
        if let Some(entry) = top.entry("contexts") {
            let named = top.below(entry, "a mapping of names to contexts")?;
            for entry in named.entries {
                let mapping = named.below(entry, "a mapping such as { address: n1.example:8001, ca: ca.crt }")?;
                contexts.insert(entry.key.clone(), context(&mapping)?);
            }
        }
        let accepted = "the name of one of the contexts";
        let current = top.entry("current").map(|entry| top.given(entry, accepted)).transpose()?;
        if let Some(given) = &current
            && !contexts.contains_key(&given.text)
        {
            return Err(given.error(Problem::Value { found: given.text.clone(), accepted: accepted.to_owned() }));
        }
        Ok(Self { current: current.map(|given| given.text), contexts })
    }

    /// The text of a contexts.yml in `folder`. Paths below that folder are relative to it.
    ///
    /// # Errors
    /// With the first path that is no UTF-8.
    pub fn to_yaml(&self, folder: &Path) -> Result<String, PathBuf> {
        // YAML takes the strings of JSON. What looks like a comment is written in another way: see `has_comments`.
        let quoted = |text: &str| Json::from(text).to_string().replace('#', "\\u0023");
        let mut text = String::new();
        if let Some(current) = &self.current {
            let _ = writeln!(text, "current: {}", quoted(current));
        }
        text.push_str(if self.contexts.is_empty() { "contexts: {}\n" } else { "contexts:\n" });
        for (name, Context { addresses, ca, cert, key, token_file }) in &self.contexts {
            let mut lines = String::new();
            if !addresses.is_empty() {
                let _ = writeln!(lines, "    address: {}", quoted(&addresses.join(",")));
            }
            for (word, path) in [("ca", ca), ("cert", cert), ("key", key), ("token_file", token_file)] {
                let Some(path) = path else { continue };
                let path = path.strip_prefix(folder).unwrap_or(path);
                let path = path.to_str().ok_or_else(|| path.to_path_buf())?;
                let _ = writeln!(lines, "    {word}: {}", quoted(path));
            }
            let name = quoted(name);
            let _ =
                if lines.is_empty() { writeln!(text, "  {name}: {{}}") } else { write!(text, "  {name}:\n{lines}") };
        }
        Ok(text)
    }

    /// Whether a text in YAML may have comments, which [`Self::parse`] drops. A text with ` #` within quotes may as well.
    #[must_use]
    pub fn has_comments(text: &str) -> bool {
        let mut lines = text.trim_start_matches('\u{feff}').split(['\n', '\r']);
        lines.any(|line| line.starts_with('#') || line.contains(" #") || line.contains("\t#"))
    }
}

fn context(mapping: &Mapping<'_>) -> Result<Context, ConfigError> {
    mapping.refuse_unknown(&KEYS)?;
    let text = |key: &str, accepted: &str| {
        mapping.entry(key).map(|entry| mapping.given(entry, accepted)).transpose().map(|given| given.map(|it| it.text))
    };
    let folder = mapping.file.parent().unwrap_or(Path::new(""));
    let path = |key| text(key, "the path of a file").map(|path| path.map(|path| folder.join(path)));
    let addresses = text("address", ADDRESS)?;
    for address in addresses.iter().flat_map(|all| all.split(',')).map(str::trim) {
        if RemoteAddress::parse(address).is_none()
            && let Some(entry) = mapping.entry("address")
        {
            let problem = Problem::Value { found: address.to_owned(), accepted: ADDRESS.to_owned() };
            return Err(mapping.given(entry, ADDRESS)?.error(problem));
        }
    }
    match (mapping.entry("cert"), mapping.entry("key")) {
        (Some(_), None) => return Err(mapping.missing("key", "the key of the certificate", None)),
        (None, Some(_)) => return Err(mapping.missing("cert", "the certificate of the key", None)),
        (None, None) | (Some(_), Some(_)) => {}
    }
    Ok(Context {
        addresses: addresses.iter().flat_map(|all| all.split(',')).map(|one| one.trim().to_owned()).collect(),
        ca: path("ca")?,
        cert: path("cert")?,
        key: path("key")?,
        token_file: path("token_file")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Contexts, String> {
        Contexts::parse(File { name: Path::new("etc/contexts.yml"), text }).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_of_a_context_are_those_of_its_file() {
        let text = "current: prod\ncontexts:\n  prod: { address: \"n1:8001, n2:8001\", ca: ca.crt, cert: /abs.crt, key: k }\n  dev: {}\n";
        let read = parse(text).unwrap();
        assert_eq!(read.current.as_deref(), Some("prod"));
        let prod = &read.contexts["prod"];
        assert_eq!(prod.addresses, ["n1:8001", "n2:8001"]);
        assert_eq!(
            (prod.ca.as_deref(), prod.cert.as_deref()),
            (Some(Path::new("etc/ca.crt")), Some(Path::new("/abs.crt")))
        );
        assert_eq!(read.contexts["dev"], Context::default());
    }

    #[test]
    fn written_contexts_read_as_themselves() {
        let path = |text: &str| Some(PathBuf::from(text));
        let prod = Context {
            addresses: vec!["n1:8001".to_owned(), "[::1]:8002".to_owned()],
            ca: path("etc/ca.crt"),
            cert: path("/abs/\"a\": b.crt"),
            key: path("etc/../key"),
            token_file: path("etc/my #1/null"),
        };
        let named = |name: &str, context: &Context| (name.to_owned(), context.clone());
        let contexts = BTreeMap::from([named("prod", &prod), named("~", &Context::default()), named("x: y", &prod)]);
        let written = Contexts { current: Some("x: y".to_owned()), contexts };
        let text = written.to_yaml(Path::new("etc")).unwrap();
        assert!(text.contains("ca: \"ca.crt\""), "{text}");
        assert_eq!(parse(&text).unwrap(), written);
        assert!(!Contexts::has_comments(&text), "{text}");
        let none = Contexts::default();
        assert_eq!(parse(&none.to_yaml(Path::new("etc")).unwrap()).unwrap(), none);
    }

    #[test]
    fn comments_are_found() {
        for (text, has) in [
            ("a: b # why", true),
            ("# why\na: b", true),
            ("a: \"n1:8001\"\nb: c#d\n", false),
            ("\u{feff}# why", true),
            ("a: b\r# why", true),
        ] {
            assert_eq!(Contexts::has_comments(text), has, "{text}");
        }
    }

    #[test]
    fn mistake_names_its_place() {
        for (text, message) in [
            (
                "contexts: { a: { adress: \"n1:1\" } }",
                "etc/contexts.yml:1: contexts.a.adress: unknown key (did you mean address?): accepted are address, ca, cert, \
                 key, token_file",
            ),
            (
                "contexts:\n  a:\n    address: \"n1:8001,n2\"",
                "etc/contexts.yml:3: contexts.a.address: \"n2\" is not accepted: give HOST:PORT with a port from 1 to 65535, or \
                 several separated by commas",
            ),
            (
                "contexts:\n  a:\n    cert: a.crt",
                "etc/contexts.yml:2: contexts.a.key: missing: give the key of the certificate",
            ),
            (
                "current: b\ncontexts: { a: {} }",
                "etc/contexts.yml:1: current: \"b\" is not accepted: give the name of one of the contexts",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), message);
        }
    }
}
