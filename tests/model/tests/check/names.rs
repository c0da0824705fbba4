//! The rules name code that exists.

use std::fs;
use std::path::{Path, PathBuf};

use crewfleet_model::rules::RULES;
use walkdir::WalkDir;

/// Where the code is, from the workspace's folder.
const SOURCES: [&str; 3] = ["worker/src", "shared", "producer"];

struct Source {
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = SOURCES.iter().flat_map(|folder| WalkDir::new(root.join(folder)));
    let paths = files.map(|file| file.expect("a folder of the workspace").into_path());
    let rust = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| Source {
        text: fs::read_to_string(&path).expect("a source file"),
        path,
    })
    .collect()
}

impl Source {
    fn has(&self, words: &str) -> bool {
        let ends = |at: usize| {
            let next = self.text[at + words.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        };
        self.text.match_indices(words).any(|(at, _)| ends(at))
    }

    fn defines(&self, item: &str) -> bool {
        let kinds = ["fn", "struct", "enum", "const", "trait", "type"];
        kinds.iter().any(|kind| self.has(&format!("{kind} {item}")))
    }

    /// Whether it is a module, or inside of one, or holds a type's methods.
    fn is_in(&self, place: &str) -> bool {
        let stem = |part: &Path| part.file_stem().is_some_and(|stem| stem == place);
        let of_type = || self.has(&format!("impl {place}")) || self.has(&format!("impl<'_> {place}"));
        self.path.ancestors().any(stem) || of_type() || self.has(&format!("for {place}"))
    }
}

#[test]
fn each_rule_names_code_that_exists() {
    let sources = sources();
    let mut unknown = Vec::new();
    for (rule, name) in RULES
        .iter()
        .flat_map(|rule| rule.code.iter().map(move |name| (rule, name)))
    {
        let (place, item) = name.split_once("::").expect("a name with its place");
        let known = sources
            .iter()
            .any(|source| source.is_in(place) && source.defines(item));
        if !known {
            unknown.push(format!("{name}, of the rule {:?}", rule.says));
        }
    }
    assert!(
        unknown.is_empty(),
        "moved or renamed? Mend their names in src/rules.rs: {unknown:#?}"
    );
}
