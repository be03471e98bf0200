//! What a Rust file imports and names, read from its text.
//!
//! Caveat: this knows Rust's tokens, not its grammar. It finds `use` trees and the paths in the code; a path that a macro
//! puts together stays unseen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file's module and all its imports.
pub struct Source {
    pub path: PathBuf,
    /// From the crate's root, so `["protocol", "io"]`. Empty for lib.rs, `["main"]` for main.rs.
    pub module: Vec<String>,
    pub imports: Vec<Import>,
}

/// One path of a `use` item, or one that stands in the code.
pub struct Import {
    pub line: usize,
    pub root: Root,
    /// From the crate's root where the root is this crate.
    pub path: Vec<String>,
    /// Whether it stands in a module of tests, which no other module can import.
    pub in_tests: bool,
    /// Whether it stands in a `use` item. A path in the code may also begin at a name that the file imports.
    pub is_use: bool,
}

/// What a path begins at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Root {
    /// This crate.
    Crate,
    /// Another crate, or a name that the file itself defines.
    Other,
}

/// A token, and the line that it begins in. Comments, strings and numbers are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    Word(String),
    Mark(char),
}

/// The module that a file below `src/` is.
pub fn module_of(path: &Path) -> Vec<String> {
    let below = path.strip_prefix("src").unwrap_or(path).with_extension("");
    let mut module: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// Whether this is the name of a module of tests.
fn is_tests(module: &str) -> bool {
    module == "tests" || module.ends_with("_tests")
}

impl Source {
    /// Reads the file at `path`. `modules` are all modules that have a file.
    pub fn parse(path: &Path, text: &str, modules: &BTreeSet<Vec<String>>) -> Self {
        let module = module_of(path);
        let mut reader = Reader { tokens: tokens(text), at: 0, module: module.clone(), braces: Vec::new(), modules };
        Self { path: path.to_owned(), module, imports: reader.imports() }
    }

    /// Whether the whole file is a module of tests.
    pub fn is_of_tests(&self) -> bool {
        self.module.iter().any(|part| is_tests(part))
    }
}

struct Reader<'a> {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// Where the reader is: the file's module and the inline modules around.
    module: Vec<String>,
    /// For each open brace, whether it opened an inline module.
    braces: Vec<bool>,
    modules: &'a BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    fn imports(&mut self) -> Vec<Import> {
        let mut imports = Vec::new();
        while let Some((line, token)) = self.tokens.get(self.at).cloned() {
            self.at += 1;
            match token {
                Token::Word(word) if word == "mod" && self.mark(1) == Some('{') => {
                    let name = self.word().expect("a module has a name");
                    self.module.push(name);
                    self.at += 2;
                    self.braces.push(true);
                }
                Token::Mark('{') => self.braces.push(false),
                Token::Mark('}') => {
                    let closes_a_module = self.braces.pop() == Some(true);
                    if closes_a_module {
                        self.module.pop();
                    }
                }
                // `pub(in path)` names who may see an item, and imports nothing.
                Token::Word(word) if word == "pub" && self.mark(0) == Some('(') => {
                    while self.mark(0) != Some(')') {
                        self.at += 1;
                    }
                }
                Token::Word(word) if word == "use" && self.mark(0) != Some('<') => {
                    let mut paths = Vec::new();
                    self.tree(&mut Vec::new(), line, &mut paths);
                    imports.extend(paths.into_iter().map(|(line, path)| self.import(line, path)));
                }
                Token::Word(word) if self.is_path() && !self.continues_a_path() => {
                    let mut path = vec![word];
                    while self.is_path() {
                        self.at += 2;
                        path.extend(self.word());
                        self.at += 1;
                    }
                    // Other paths may begin at a name that the file imports, which was seen where it was imported.
                    let import = self.import(line, path);
                    imports.push(Import { is_use: false, ..import });
                }
                _ => {}
            }
        }
        imports
    }

    /// The paths of the `use` tree that begins here.
    fn tree(&mut self, prefix: &mut Vec<String>, line: usize, paths: &mut Vec<(usize, Vec<String>)>) {
        let depth = prefix.len();
        loop {
            let Some((line, token)) = self.tokens.get(self.at).cloned() else { return };
            match token {
                Token::Mark('{') => {
                    self.at += 1;
                    while self.tokens.get(self.at).is_some_and(|(_, token)| *token != Token::Mark('}')) {
                        self.tree(prefix, line, paths);
                        if self.mark(0) == Some(',') {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    prefix.truncate(depth);
                    return;
                }
                Token::Mark(',' | ';' | '}') => break,
                Token::Word(word) if word == "as" => self.at += 2,
                Token::Word(word) => {
                    prefix.push(word);
                    self.at += 1;
                }
                Token::Mark(_) => self.at += 1,
            }
        }
        paths.push((line, prefix.clone()));
        prefix.truncate(depth);
    }

    /// The path as it is from the crate's root.
    fn import(&self, line: usize, written: Vec<String>) -> Import {
        let in_tests = self.module.iter().any(|part| is_tests(part));
        let mut base = match written[0].as_str() {
            "crate" | "quorate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            first => {
                let mut child = self.module.clone();
                child.push(first.to_owned());
                if !self.modules.contains(&child) {
                    return Import { line, root: Root::Other, path: written, in_tests, is_use: true };
                }
                self.module.clone()
            }
        };
        for part in written {
            match part.as_str() {
                "crate" | "quorate" | "self" => {}
                "super" => drop(base.pop()),
                _ => base.push(part),
            }
        }
        Import { line, root: Root::Crate, path: base, in_tests, is_use: true }
    }

    /// Whether `::` and a word follow.
    fn is_path(&self) -> bool {
        let is_word = |token: &(usize, Token)| matches!(token.1, Token::Word(_));
        self.mark(0) == Some(':') && self.mark(1) == Some(':') && self.tokens.get(self.at + 2).is_some_and(is_word)
    }

    /// Whether `::` stands before the last token that was taken.
    fn continues_a_path(&self) -> bool {
        self.at >= 2 && self.tokens[self.at - 2].1 == Token::Mark(':')
    }

    fn word(&self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some((_, Token::Word(word))) => Some(word.clone()),
            _ => None,
        }
    }

    fn mark(&self, ahead: usize) -> Option<char> {
        match self.tokens.get(self.at + ahead) {
            Some((_, Token::Mark(mark))) => Some(*mark),
            _ => None,
        }
    }
}

/// The tokens of `text` with their lines.
pub fn tokens(text: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let next = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
        let from = at;
        match chars[at] {
            '/' if next(1) == '/' => at = end_of_line(&chars, at),
            '/' if next(1) == '*' => at = end_of_comment(&chars, at),
            '"' => at = end_of_string(&chars, at),
            // A lifetime or a label is no character: 'a without a quote after it.
            '\'' if next(1) == '\\' => at = end_of_quoted(&chars, at + 2, '\''),
            '\'' if next(2) == '\'' => at += 3,
            character if character == '_' || character.is_alphanumeric() => {
                while at < chars.len() && (chars[at] == '_' || chars[at].is_alphanumeric()) {
                    at += 1;
                }
                let word: String = chars[from..at].iter().collect();
                let quote = chars.get(at).copied().unwrap_or('\0');
                if matches!(word.as_str(), "r" | "br" | "cr") && matches!(quote, '"' | '#') && is_raw(&chars, at) {
                    at = end_of_raw_string(&chars, at);
                } else if matches!(word.as_str(), "b" | "c") && quote == '"' {
                    at = end_of_string(&chars, at);
                } else if !word.starts_with(|first: char| first.is_ascii_digit()) {
                    tokens.push((line, Token::Word(word)));
                }
            }
            character => {
                if !character.is_whitespace() {
                    tokens.push((line, Token::Mark(character)));
                }
                at += 1;
            }
        }
        line += chars[from..at.min(chars.len())].iter().filter(|character| **character == '\n').count();
    }
    tokens
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|character| *character == '\n').map_or(chars.len(), |length| from + length)
}

fn end_of_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from + 2, 1);
    while at < chars.len() && depth > 0 {
        match (chars[at], chars.get(at + 1)) {
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(chars: &[char], quote: usize) -> usize {
    end_of_quoted(chars, quote + 1, '"')
}

/// After the next `quote` that no backslash precedes.
fn end_of_quoted(chars: &[char], from: usize, quote: char) -> usize {
    // A character such as '\'' begins at its escaped one.
    let mut at = if quote == '\'' { from + 1 } else { from };
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Whether a raw string begins at the hashes or the quote here, and not a raw word as `r#type`.
fn is_raw(chars: &[char], from: usize) -> bool {
    chars[from..].iter().find(|character| **character != '#') == Some(&'"')
}

fn end_of_raw_string(chars: &[char], from: usize) -> usize {
    let hashes = chars[from..].iter().take_while(|character| **character == '#').count();
    let mut at = from + hashes + 1;
    while at < chars.len() {
        let is_end = chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        at += 1;
        if is_end {
            return at + hashes;
        }
    }
    at
}
