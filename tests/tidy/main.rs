//! Rules of the source tree that the compiler does not keep, checked on the text of the files.
//!
//! Contract: reads files below the package and nothing else. It links nothing of Quorate, so it takes a second.
//!
//! | test | rule |
//! |---|---|
//! | `modules_import_only_lower_layers` | [`layers::LAYERS`]: no import upward or sideways |
//! | `pure_modules_use_no_other_crate` | [`layers::PURE`]: no runtime, clock or random number by way of a crate |
//! | `protocol_has_no_import_cycle` | inside `protocol/`: no cycle between files, no import of a parent |
//! | `files_are_short` | [`LINES_MAX`] |
//! | `retired_words_are_gone` | [`words`]: one word for one thing |
//! | `only_the_testkit_is_reached_by_path` | test programs and measurements share code in one place |
//!
//! clippy.toml bans clocks, threads, locks and channels inside `protocol/`: clippy sees types, and text does not show
//! them.
//!
//! A change that cannot keep a rule at once lists the exception in [`open`]. An entry that nothing needs any more fails
//! the test, so that the list only shrinks.

mod layers;
mod open;
mod source;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{Import, Root, Source, Token};

/// The longest file that a reader can keep in mind.
const LINES_MAX: usize = 800;

/// What a rule found. `open` lists it by its key; the text tells a person what to do.
struct Breach {
    key: String,
    text: String,
}

/// Fails with every breach that `open` does not list, and with every entry of `open` that no breach needs.
fn assert_none(rule: &str, breaches: &[Breach], open: &[&str]) {
    let new = breaches.iter().filter(|breach| !open.contains(&breach.key.as_str()));
    let mut problems: Vec<String> = new.map(|breach| breach.text.clone()).collect();
    let found: BTreeSet<&str> = breaches.iter().map(|breach| breach.key.as_str()).collect();
    let unused = open.iter().filter(|key| !found.contains(*key));
    problems.extend(unused.map(|key| format!("tests/tidy/open.rs: nothing needs {key:?} any more: remove the entry")));
    problems.dedup();
    assert!(problems.is_empty(), "{rule}: {} to mend\n{}\n", problems.len(), problems.join("\n"));
}

/// All files at and below `paths`, relative to the package, in order.
fn files(paths: &[&str]) -> Vec<PathBuf> {
    fn collect(path: PathBuf, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for entry in entries {
                collect(entry.expect("a folder can be listed").path(), found);
            }
        } else if path.exists() {
            found.push(path);
        }
    }
    // Cargo starts tests in the folder of the package.
    let mut found = Vec::new();
    for path in paths {
        collect(path.into(), &mut found);
    }
    found.sort();
    found
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|extension| extensions.iter().any(|accepted| extension == *accepted))
}

fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    files(folders).into_iter().filter(|path| has_extension(path, &["rs"])).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of `src/` with what it imports.
fn sources() -> Vec<Source> {
    let paths = rust_files(&["src"]);
    let modules: BTreeSet<Vec<String>> = paths.iter().map(|path| source::module_of(path)).collect();
    assert!(modules.len() > 50, "only {} modules were found: is this the package's folder?", modules.len());
    paths.iter().map(|path| Source::parse(path, &read(path), &modules)).collect()
}

#[test]
fn modules_import_only_lower_layers() {
    let mut breaches = Vec::new();
    for source in sources() {
        let Some(from) = source.module.first() else { continue };
        let file = source.path.display();
        let Some(own) = layers::layer_of(from) else {
            let text = format!("{file}: the module {from} has no layer: add it to tests/tidy/layers.rs");
            breaches.push(Breach { key: file.to_string(), text });
            continue;
        };
        for Import { path, line, .. } in source.imports.iter().filter(|import| import.root == Root::Crate) {
            let Some(name) = path.first() else { continue };
            let to = layers::home_of(name);
            let fault = match layers::layer_of(to) {
                _ if to == from || layers::SIDEWAYS.contains(&(from, to)) => continue,
                Some(layer) if layer < own => continue,
                Some(layer) if layer == own => format!("stands beside it on layer {own}"),
                Some(layer) => format!("stands above it: layer {layer} over {own}"),
                None => "has no layer".to_owned(),
            };
            breaches.push(Breach {
                key: format!("{file}: {to}"),
                text: format!(
                    "{file}:{line}: {from} imports crate::{}, but {to} {fault}. Move the item to a lower layer, or hand \
                     it in as a parameter (layers: tests/tidy/layers.rs, docs/architecture.md)",
                    path.join("::")
                ),
            });
        }
    }
    assert_none("imports between layers", &breaches, open::IMPORTS);
}

#[test]
fn pure_modules_use_no_other_crate() {
    let dependencies = dependencies();
    let mut breaches = Vec::new();
    for source in sources() {
        let pure = layers::PURE.iter().find(|(module, _)| source.module.first().is_some_and(|first| first == module));
        let Some((module, crates)) = pure else { continue };
        for Import { path, line, is_use, .. } in source.imports.iter().filter(|import| import.root == Root::Other) {
            let name = path[0].as_str();
            let is_a_crate = *is_use && !name.starts_with(char::is_uppercase) || dependencies.contains(name);
            if !is_a_crate || crates.contains(&name) {
                continue;
            }
            let file = source.path.display();
            breaches.push(Breach {
                key: format!("{file}: {name}"),
                text: format!(
                    "{file}:{line}: {module} uses {}, but it is pure and may use {} alone. Time, chance and I/O come to \
                     it as inputs (list: PURE in tests/tidy/layers.rs)",
                    path.join("::"),
                    crates.join(", ")
                ),
            });
        }
    }
    assert_none("crates in pure modules", &breaches, open::CRATES);
}

/// The names of all dependencies, as code writes them.
fn dependencies() -> BTreeSet<String> {
    let manifest = read(Path::new("Cargo.toml"));
    let of_dependencies =
        |section: &&str| section.starts_with("dependencies]") || section.starts_with("dev-dependencies]");
    let sections = manifest.split("\n[").filter(of_dependencies);
    let names = sections.flat_map(str::lines).filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn protocol_has_no_import_cycle() {
    let sources: Vec<Source> =
        sources().into_iter().filter(|source| source.module.starts_with(&["protocol".into()])).collect();
    let modules: BTreeSet<&[String]> = sources.iter().map(|source| source.module.as_slice()).collect();
    let mut breaches = Vec::new();
    let mut edges: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_of_tests()) {
        let file = source.path.display();
        let own = source.module.as_slice();
        for Import { path, line, .. } in
            source.imports.iter().filter(|import| import.root == Root::Crate && !import.in_tests)
        {
            // The file that the path leads into: the longest part of the path that is one.
            let to = (1..=path.len()).rev().find_map(|length| modules.get(&path[..length]).copied());
            let Some(to) = to.filter(|to| *to != own) else { continue };
            if own.starts_with(to) {
                breaches.push(Breach {
                    key: format!("{file}: {}", to.join("::")),
                    text: format!(
                        "{file}:{line}: imports crate::{} by way of its parent. A parent re-exports its children; \
                         import the file that defines the item, or move the item from the parent to a file",
                        path.join("::")
                    ),
                });
            } else {
                edges.entry(own).or_default().insert(to);
            }
            if to.starts_with(own) {
                edges.entry(own).or_default().insert(to);
            }
        }
    }
    for cycle in cycles(&edges) {
        let names: Vec<String> = cycle.iter().map(|module| module.join("::")).collect();
        breaches.push(Breach {
            key: format!("cycle: {}", names.join(" ")),
            text: format!("{} import each other. Move what they share to a file of its own", names.join(", ")),
        });
    }
    assert_none("imports inside protocol", &breaches, open::PROTOCOL);
}

/// The sets of modules that all reach each other, of two and more.
fn cycles<'a>(edges: &BTreeMap<&'a [String], BTreeSet<&'a [String]>>) -> BTreeSet<Vec<&'a [String]>> {
    let reach = |from: &'a [String]| {
        let mut reached: BTreeSet<&'a [String]> = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            next.extend(edges.get(module).into_iter().flatten().copied().filter(|to| reached.insert(to)));
        }
        reached
    };
    let reached: BTreeMap<&[String], BTreeSet<&[String]>> = edges.keys().map(|from| (*from, reach(from))).collect();
    let both_ways = |from: &'a [String]| -> Vec<&'a [String]> {
        let back = |to: &&&'a [String]| reached.get(**to).is_some_and(|further| further.contains(from));
        reached[from].iter().filter(back).copied().collect()
    };
    edges.keys().map(|from| both_ways(from)).filter(|cycle| cycle.len() > 1).collect()
}

#[test]
fn files_are_short() {
    let mut breaches = Vec::new();
    for path in rust_files(&["src", "tests", "benches", "examples", "tools", "build.rs"]) {
        let lines = read(&path).lines().count();
        if lines > LINES_MAX {
            let file = path.display();
            let text =
                format!("{file} has {lines} lines, and at most {LINES_MAX} may be: give each of its jobs a file");
            breaches.push(Breach { key: file.to_string(), text });
        }
    }
    assert_none("long files", &breaches, open::FILES);
}

#[test]
fn retired_words_are_gone() {
    let mut breaches = Vec::new();
    for path in files(words::SEARCHED) {
        if path.starts_with("tests/tidy") || !(path.extension().is_none() || has_extension(&path, words::EXTENSIONS)) {
            continue;
        }
        let text = read(&path);
        let file = path.display();
        let mut found = |line: usize, word: &str, instead: &str| {
            breaches.push(Breach {
                key: word.to_owned(),
                text: format!("{file}:{line}: {word:?} is retired: {instead} (list: tests/tidy/words.rs)"),
            });
        };
        let of_pages = if has_extension(&path, &["md"]) { words::IN_PAGES } else { &[] };
        for (index, line) in text.lines().enumerate() {
            // The wire's name of an event.
            if line.contains("::Put(api::WatchPut") {
                continue;
            }
            for word in words_of(line) {
                let mut retired = words::EVERYWHERE.iter().chain(of_pages);
                if let Some((word, instead)) = retired.find(|(retired, _)| *retired == word) {
                    found(index + 1, word, instead);
                }
            }
        }
        if has_extension(&path, &["rs"]) {
            for (line, token) in source::tokens(&text) {
                let Token::Word(name) = token else { continue };
                if let Some((name, instead)) = words::NAMES.iter().find(|(retired, _)| *retired == name) {
                    found(line, name, instead);
                }
            }
        }
    }
    assert_none("retired words", &breaches, open::WORDS);
}

/// The words of a line as an editor would find them whole.
fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| character != '_' && !character.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[test]
fn only_the_testkit_is_reached_by_path() {
    let mut breaches = Vec::new();
    for path in rust_files(&["src", "tests", "benches", "examples", "tools"]) {
        if path.starts_with("tests/tidy") {
            continue;
        }
        for (index, line) in read(&path).lines().enumerate() {
            // Examples are whole programs for people; a test may run one as a part of itself.
            let is_example = line.contains("\"../examples/") && path.starts_with("tests");
            if line.trim_start().starts_with("#[path") && !line.contains("testkit/mod.rs\"") && !is_example {
                let file = path.display();
                breaches.push(Breach {
                    key: format!("{file}: {}", line.trim()),
                    text: format!(
                        "{file}:{}: {} ties two programs together: move what they share to tests/testkit/",
                        index + 1,
                        line.trim()
                    ),
                });
            }
        }
    }
    assert_none("#[path]", &breaches, open::PATHS);
}

#[test]
fn layers_follow_the_documentation() {
    let page = read(Path::new("docs/architecture.md"));
    let missing = |(module, layer): &&(&str, usize)| {
        let is_row =
            |line: &str| line.starts_with(&format!("| {layer} |")) && words_of(line).any(|word| word == *module);
        !page.lines().any(is_row)
    };
    let absent = layers::LAYERS.iter().filter(missing).map(|(module, layer)| Breach {
        key: (*module).to_owned(),
        text: format!("docs/architecture.md: no row \"| {layer} | … |\" of the table of layers names {module}"),
    });
    assert_none("layers in docs/architecture.md", &absent.collect::<Vec<_>>(), open::DOCUMENTED);
}
