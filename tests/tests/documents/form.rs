//! Lines and links.

use std::path::Path;

use crewfleet_tests::crews::checkout;

use super::page::Page;

const LONGEST_LINE: usize = 120;

#[test]
fn lines_are_short() {
    let mut long = vec![];
    for page in Page::all() {
        let unlimited = page.unlimited_lines();
        for (number, line) in (1..).zip(page.text.lines()) {
            let bare_link = line.split_whitespace().any(|word| word.starts_with("http"));
            if line.chars().count() > LONGEST_LINE && !unlimited.contains(&number) && !bare_link {
                long.push(page.place(number));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {LONGEST_LINE} characters: {long:#?}"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = vec![];
    for page in Page::all() {
        for (line, link) in page.links() {
            if link.starts_with("http") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.path.clone(),
                path => page.path.parent().unwrap().join(path),
            };
            let leads = checkout().join(&target).exists()
                && (heading.is_empty() || Page::at(&target).anchors().contains(heading));
            if !leads {
                dead.push(format!("{}: {link}", page.place(line)));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// What a newcomer needs in ten minutes; the rest has pages of its own.
#[test]
fn the_readme_is_short() {
    let lines = Page::at(Path::new("README.md")).text.lines().count();
    assert!(lines <= 150, "{lines} lines");
}
