//! The documents are true of the program: each command in them is run, each name in them exists, each link leads somewhere.
//!
//! Convention: a fenced block of commands (`sh` or `console`) has a comment before it that says how it is tested.
//!
//! | comment | the test |
//! |---|---|
//! | `<!-- test: run -->` | runs the block in bash, after the page's earlier blocks, in the same shell |
//! | `<!-- test: cluster -->` | the same, beside three nodes of `examples/3-local-nodes` that run from the page's start |
//! | `<!-- test: background -->` | starts each command of the block, and ends it with the page |
//! | `<!-- test: skip, REASON -->` | leaves the block out |
//! | `<!-- test: output of COMMAND -->` | a `text` block: what COMMAND of the block before it prints |
//!
//! Options follow after a comma: `exit 1` (the code of the last command; else each ends with 0), `exact` (digits are
//! compared too), `but not: COMMAND` (leaves one command out).
//!
//! In a `console` block a line that begins with `$ ` is a command, and the lines after it are what it prints. A number
//! stands for any number, `...` for anything, and a line of `...` for any number of lines. A `sh` block shows no output, so
//! that it can be pasted whole. It has no comments, because zsh takes them for commands.
//! The ports 8001 to 8009, 8101 to 8109, 8201 to 8209, 8301 to 8309 and 9001 to 9009 stand for ports that are free. YAML
//! blocks go through `quorate config check`.

#![cfg(feature = "server")]

mod names;
mod page;
mod shell;
#[path = "../testkit/mod.rs"]
mod testkit;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use page::{Mark, Mode, Page};
use shell::Sandbox;

/// Languages of blocks that are shown and not run.
const SHOWN: [&str; 9] = ["text", "yaml", "rust,no_run", "proto", "python", "ini", "json", "toml", "promql"];

#[test]
fn each_block_names_its_language_and_how_it_is_tested() {
    let mut problems = Vec::new();
    for page in page::all() {
        for block in &page.blocks {
            let at = format!("{}:{}", page.name, block.line);
            match (block.is_commands(), &block.mark) {
                (true, None) => {
                    problems.push(format!("{at}: commands without a comment <!-- test: ... --> before them"));
                }
                (true, Some(Err(problem))) => problems.push(format!("{at}: {problem}")),
                (false, Some(mark)) if !(block.language == "text" && mark.as_ref().is_ok_and(Mark::is_output)) => {
                    problems
                        .push(format!("{at}: only sh and console blocks have a test comment, and text with an output"));
                }
                (false, None) if !SHOWN.contains(&block.language.as_str()) => {
                    problems.push(format!(
                        "{at}: language {:?} is none of sh, console, {}",
                        block.language,
                        SHOWN.join(", ")
                    ));
                }
                (true, Some(Ok(mark))) if mark.is_output() => problems.push(format!("{at}: an output is a text block")),
                (true, Some(Ok(_))) if block.language == "sh" && block.lines.iter().any(|line| has_comment(line)) => {
                    problems.push(format!("{at}: a comment in a block of commands, which zsh takes for a command"));
                }
                (_, Some(Ok(_))) | (false, _) => {}
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn each_relative_link_leads_somewhere() {
    let pages = page::all();
    let mut problems = Vec::new();
    for page in &pages {
        for (line, target) in page.links() {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) =
                target.split_once('#').map_or((target.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let name = if file.is_empty() { page.name.clone() } else { page.resolve(file) };
            if !Path::new(&name).exists() {
                problems.push(format!("{}:{line}: {target} does not exist", page.name));
                continue;
            }
            let Some(anchor) = anchor else { continue };
            let has_it =
                pages.iter().find(|other| other.name == name).is_some_and(|other| other.anchors().contains(anchor));
            if !has_it {
                problems.push(format!("{}:{line}: {target}: there is no such heading", page.name));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// mdBook turns the pages that docs/SUMMARY.md names into HTML, and no others. A link to another page would lead nowhere.
#[test]
fn book_has_every_page_and_every_page_that_a_chapter_links_to() {
    let pages = page::all();
    let summary = pages.iter().find(|page| page.name == "docs/SUMMARY.md").expect("the book has a summary");
    let chapters: BTreeSet<String> = summary.links().iter().map(|(_, target)| summary.resolve(target)).collect();
    let is_page = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "md");
    let mut missing = BTreeSet::new();
    for page in pages.iter().filter(|page| page.name != summary.name) {
        if page.name.starts_with("docs/") && !chapters.contains(&page.name) {
            missing.insert(page.name.clone());
        }
        if chapters.contains(&page.name) {
            let linked = page.links().into_iter().map(|(_, target)| target).filter(|target| !target.contains("://"));
            let linked = linked
                .filter_map(|target| Some(page.resolve(target.split('#').next().filter(|file| !file.is_empty())?)));
            missing.extend(linked.filter(|name| is_page(name) && !chapters.contains(name)));
        }
    }
    assert!(missing.is_empty(), "docs/SUMMARY.md does not name {missing:?}");
    assert!(chapters.len() > 10, "{chapters:?}");
}

#[test]
fn each_name_is_one_of_the_program() {
    let program = names::Program::ask();
    let problems: Vec<String> = page::all().iter().flat_map(|page| program.problems(page)).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// docs/architecture.md says where things are and why each dependency is there: none may be missing.
#[test]
fn each_module_and_dependency_is_explained() {
    let page = fs::read_to_string(top().join("docs/architecture.md")).expect("the page can be read");
    let named: BTreeSet<&str> = page.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).collect();
    let missing: Vec<String> = names::modules()
        .into_iter()
        .chain(names::dependencies())
        .filter(|name| !named.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/architecture.md does not name {}", missing.join(", "));
}

#[test]
fn each_configuration_is_accepted() {
    let sandbox = Sandbox::new();
    let mut problems = String::new();
    let mut checked = 0;
    for page in page::all() {
        for block in page.blocks.iter().filter(|block| block.is_configuration()) {
            checked += 1;
            if let Err(problem) = sandbox.check_configuration(&block.text()) {
                let _ = writeln!(problems, "{}:{}: {problem}", page.name, block.line);
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
    assert!(checked > 0, "no page shows a configuration file");
}

#[test]
fn each_command_does_what_its_page_says() {
    let mut problems = String::new();
    let (mut commands, mut skipped) = (0, 0);
    for page in page::all() {
        let blocks = page.blocks.iter().filter_map(|block| block.mark.as_ref()?.as_ref().ok());
        skipped += blocks.filter(|mark| mark.mode == Mode::Skip).count();
        match Sandbox::new().run(&page) {
            Ok(ran) => commands += ran,
            Err(problem) => {
                let _ = writeln!(problems, "{}: {problem}\n", page.name);
            }
        }
    }
    println!("{commands} commands were run, {skipped} blocks skipped for the reasons that they bear");
    assert!(problems.is_empty(), "\n{problems}");
    assert!(commands > 0, "no page shows a command");
}

/// The repository's top folder, where tests run.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a line of a block that is pasted has a comment.
fn has_comment(line: &str) -> bool {
    line.trim_start().starts_with('#') || line.contains("  # ")
}

/// Whether `page` shows commands that are to be run.
fn has_commands(page: &Page) -> bool {
    let mut marks = page.blocks.iter().filter_map(|block| block.mark.as_ref()?.as_ref().ok());
    marks.any(|mark| mark.mode != Mode::Skip)
}
