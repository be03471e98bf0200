//! A page of the documents: its blocks, links, headings and the code in its text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The pages at the top; the rest are in docs/.
const AT_THE_TOP: [&str; 4] = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];

/// A page.
pub struct Page {
    /// Its path from the repository's top.
    pub name: String,
    /// Its fenced blocks.
    pub blocks: Vec<Block>,
    /// Its lines outside of fenced blocks, with their numbers.
    pub prose: Vec<(usize, String)>,
}

/// A fenced block.
pub struct Block {
    /// The number of its first line, the fence.
    pub line: usize,
    /// What follows the fence.
    pub language: String,
    /// How it is tested, or why its comment cannot be read; `None` without a comment.
    pub mark: Option<Result<Mark, String>>,
    /// Its content.
    pub lines: Vec<String>,
}

/// How a block is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whether and where it runs.
    pub mode: Mode,
    /// The code of the last command.
    pub exit: i32,
    /// Whether digits are compared.
    pub exact: bool,
    /// Commands that are left out.
    pub but_not: Vec<String>,
    /// The command that prints the block.
    pub of: String,
}

/// Whether and where a block runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the page's shell.
    Run,
    /// In the page's shell, beside three nodes.
    Cluster,
    /// Each command is started and left running.
    Background,
    /// Not at all.
    Skip,
    /// It is what a command of the block before it prints.
    Output,
}

impl Mark {
    fn new(mode: Mode) -> Self {
        Self { mode, exit: 0, exact: false, but_not: Vec::new(), of: String::new() }
    }

    /// Whether the block is what a command prints.
    pub fn is_output(&self) -> bool {
        self.mode == Mode::Output
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(command) = text.strip_prefix("output of ") {
            return Ok(Self { of: command.to_owned(), ..Self::new(Mode::Output) });
        }
        let mut parts = text.split(',').map(str::trim);
        let mode = match parts.next().unwrap_or("") {
            "run" => Mode::Run,
            "cluster" => Mode::Cluster,
            "background" => Mode::Background,
            "skip" => {
                let reason = text.split_once(',').map_or("", |(_, reason)| reason.trim());
                return if reason.len() < 10 {
                    Err("a block that is skipped needs a reason".to_owned())
                } else {
                    Ok(Self::new(Mode::Skip))
                };
            }
            other => return Err(format!("{other:?} is none of run, cluster, background, skip")),
        };
        let mut mark = Self::new(mode);
        for part in parts {
            if part == "exact" {
                mark.exact = true;
            } else if let Some(code) = part.strip_prefix("exit ") {
                mark.exit = code.parse().map_err(|_| format!("{part:?} has no exit code"))?;
            } else if let Some(command) = part.strip_prefix("but not: ") {
                mark.but_not.push(command.to_owned());
            } else {
                return Err(format!("{part:?} is no option of a test comment"));
            }
        }
        Ok(mark)
    }
}

impl Block {
    /// Whether it shows commands.
    pub fn is_commands(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "console" | "bash" | "shell")
    }

    /// Whether it shows a whole node.yml or cluster.yml.
    pub fn is_configuration(&self) -> bool {
        self.language == "yaml" && self.lines.iter().any(|line| line == "node:" || line == "cluster:")
    }

    /// Its content.
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// Its commands as they are typed, without comments, each with the lines that it is said to print.
    pub fn commands(&self) -> Vec<(String, Vec<String>)> {
        let mut commands: Vec<(String, Vec<String>)> = Vec::new();
        let mut goes_on = false;
        for line in &self.lines {
            let typed = if self.language == "console" {
                line.strip_prefix(if goes_on { "> " } else { "$ " })
            } else {
                let text = line.trim();
                (!text.is_empty() && !text.starts_with('#')).then_some(line.as_str())
            };
            match typed {
                Some(text) if goes_on => {
                    let (command, _) = commands.last_mut().expect("a command goes on");
                    command.push('\n');
                    command.push_str(without_comment(text));
                }
                Some(text) => commands.push((without_comment(text).to_owned(), Vec::new())),
                None if self.language == "console" => {
                    if let Some((_, output)) = commands.last_mut() {
                        output.push(line.clone());
                    }
                }
                None => {}
            }
            goes_on = typed.is_some_and(|text| text.ends_with('\\'));
        }
        commands
    }
}

/// A command without the comment behind it, which two spaces and a `#` begin.
fn without_comment(line: &str) -> &str {
    line.find("  # ").map_or(line, |end| &line[..end]).trim_end()
}

impl Page {
    fn parse(name: String, text: &str) -> Self {
        let mut page = Self { name, blocks: Vec::new(), prose: Vec::new() };
        let mut open: Option<(Block, usize)> = None;
        let mut mark = None;
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            if let Some((block, indent)) = &mut open {
                if trimmed.starts_with("```") {
                    page.blocks.extend(open.take().map(|(block, _)| block));
                } else {
                    block.lines.push(line.get(*indent..).unwrap_or("").to_owned());
                }
            } else if let Some(language) = trimmed.strip_prefix("```") {
                let language = language.trim().to_owned();
                let block = Block { line: index + 1, language, mark: mark.take(), lines: Vec::new() };
                open = Some((block, line.len() - trimmed.len()));
            } else {
                if let Some(comment) = trimmed.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix("-->")) {
                    mark = Some(Mark::parse(comment.trim()));
                } else if !trimmed.is_empty() {
                    mark = None;
                }
                page.prose.push((index + 1, line.to_owned()));
            }
        }
        assert!(open.is_none(), "{}: a block does not end", page.name);
        page
    }

    /// The targets of its links and pictures, with the numbers of their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in &self.prose {
            let parts = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            links.extend(parts.map(|(target, _)| (*number, target.to_owned())));
            let parts = line.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"'));
            links.extend(parts.map(|(target, _)| (*number, target.to_owned())));
            if line.starts_with('[')
                && let Some((_, target)) = line.split_once("]: ")
            {
                links.push((*number, target.trim().to_owned()));
            }
        }
        links
    }

    /// `target`, which is relative to this page, from the repository's top.
    pub fn resolve(&self, target: &str) -> String {
        let folder = Path::new(&self.name).parent().unwrap_or(Path::new(""));
        let mut path = PathBuf::new();
        for component in folder.join(target).components() {
            match component {
                Component::ParentDir => {
                    path.pop();
                }
                Component::CurDir => {}
                other => path.push(other),
            }
        }
        path.display().to_string()
    }

    /// The anchors of its headings, as GitHub makes them.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        headings
            .map(|(_, line)| {
                let text = line.trim_start_matches('#').trim().to_lowercase();
                let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
                let times = seen.entry(anchor.clone()).or_insert(0);
                *times += 1;
                if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
            })
            .collect()
    }

    /// The code in its text (between backticks), with the numbers of the lines.
    pub fn code(&self) -> Vec<(usize, String)> {
        let mut code = Vec::new();
        for (number, line) in &self.prose {
            let spans = line.split('`').skip(1).step_by(2);
            code.extend(spans.map(|span| (*number, span.to_owned())));
        }
        code
    }
}

/// All pages.
pub fn all() -> Vec<Page> {
    let mut names: Vec<PathBuf> = AT_THE_TOP.iter().map(PathBuf::from).collect();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(super::top().join(&folder)).expect("the folder of documents can be listed") {
            let name = folder.join(entry.expect("an entry can be read").file_name());
            if super::top().join(&name).is_dir() {
                folders.push(name);
            } else if name.extension().is_some_and(|extension| extension == "md") {
                names.push(name);
            }
        }
    }
    names.sort();
    let read = |name: &PathBuf| {
        let text =
            fs::read_to_string(super::top().join(name)).unwrap_or_else(|error| panic!("{}: {error}", name.display()));
        Page::parse(name.display().to_string(), &text)
    };
    names.iter().map(read).collect()
}

#[test]
fn page_is_read_as_it_is_shown() {
    let text = "# A heading, or two\n<!-- test: run, exit 1, but not: make install -->\n```console\n$ a \\\n> b  # c\nout\n```\n\
                [x](../y.md#z) `code`\n";
    let page = Page::parse("docs/page.md".to_owned(), text);
    let block = &page.blocks[0];
    let mark = Mark { exit: 1, but_not: vec!["make install".to_owned()], ..Mark::new(Mode::Run) };
    assert_eq!(block.mark, Some(Ok(mark)));
    assert_eq!(block.commands(), [("a \\\nb".to_owned(), vec!["out".to_owned()])]);
    assert_eq!(page.links(), [(8, "../y.md#z".to_owned())]);
    assert_eq!(page.resolve("../y.md"), "y.md");
    assert_eq!(page.code(), [(8, "code".to_owned())]);
    assert!(page.anchors().contains("a-heading-or-two"));
    assert!(Mark::parse("skip").is_err() && Mark::parse("run, twice").is_err() && Mark::parse("walk").is_err());
}
