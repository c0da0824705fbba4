//! A Markdown file of the checkout.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crewfleet_tests::crews::checkout;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use walkdir::WalkDir;

/// Folders that are not the project's own, and the reports of a crew under test.
const NOT_OURS: [&str; 5] = [
    ".git",
    ".crewfleet",
    "target",
    "node_modules",
    "tests/images/shop/output",
];

/// A page.
pub(crate) struct Page {
    /// From the checkout.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A code block.
pub(crate) struct Block {
    pub(crate) line: usize,
    /// What stands behind the fence; nothing for an indented block.
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Page {
    /// Every page of the project.
    pub(crate) fn all() -> Vec<Self> {
        let ours = |path: &Path| NOT_OURS.iter().all(|other| !path.starts_with(other));
        let within = |path: &Path| path.strip_prefix(checkout()).unwrap_or(path).to_owned();
        let entries = WalkDir::new(checkout())
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| ours(&within(entry.path())));
        let pages: Vec<Self> = entries
            .map(|entry| within(entry.expect("a readable folder").path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .map(|path| Self::at(&path))
            .collect();
        assert!(pages.len() > 30, "only {} pages", pages.len());
        pages
    }

    /// One of them.
    pub(crate) fn at(path: &Path) -> Self {
        let text = fs::read_to_string(checkout().join(path)).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        Self {
            path: path.to_owned(),
            text,
        }
    }

    /// Where a place of the text is, for a message.
    pub(crate) fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn events(&self) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    /// Its code blocks, in order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = vec![];
        let mut open = false;
        for (event, range) in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let line = self.line(range.start);
                    blocks.push(Block {
                        line,
                        language,
                        text: String::new(),
                    });
                    open = true;
                }
                Event::End(TagEnd::CodeBlock) => open = false,
                Event::Text(text) if open => blocks.last_mut().unwrap().text.push_str(&text),
                _ => {}
            }
        }
        blocks
    }

    /// The texts between backticks, with their lines.
    pub(crate) fn spans(&self) -> Vec<(usize, String)> {
        let spans = self.events().filter_map(|(event, range)| match event {
            Event::Code(text) => Some((self.line(range.start), text.to_string())),
            _ => None,
        });
        spans.collect()
    }

    /// Where its links and images lead, with their lines.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let links = self.events().filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((self.line(range.start), dest_url.to_string()))
            }
            _ => None,
        });
        links.collect()
    }

    /// The names of its headings in links, as GitHub makes them.
    pub(crate) fn anchors(&self) -> HashSet<String> {
        let mut anchors = HashSet::new();
        let mut heading: Option<String> = None;
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let text = heading.take().unwrap_or_default().to_lowercase();
                    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                    anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
                }
                _ => {}
            }
        }
        anchors
    }

    /// The lines of tables and code blocks, which may be as long as they are.
    pub(crate) fn unlimited_lines(&self) -> HashSet<usize> {
        let wide = self.events().filter_map(|(event, range)| match event {
            Event::Start(Tag::CodeBlock(_) | Tag::Table(_)) => Some(range),
            _ => None,
        });
        wide.flat_map(|range| self.line(range.start)..=self.line(range.end.saturating_sub(1)))
            .collect()
    }
}
