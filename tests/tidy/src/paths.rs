//! What texts may name: paths that exist, and no place on the machine where they were written.

use crate::report;
use crate::repository::{files, read, root};

/// Texts whose paths must exist.
const TEXTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];
/// How the paths of this repository begin.
const TOPS: [&str; 8] = ["src/", "dataflows/", "connectors/", "benches/", "tests/", "docs/", ".ci/", ".cargo/"];
/// A file that is larger belongs beside the repository, not in it.
const BYTES_MAX: u64 = 1 << 20;

#[test]
fn paths_that_texts_name_exist() {
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| TEXTS.contains(&file.path.as_str()) || file.path.starts_with("docs/")) {
        for path in named(file.text()) {
            if !exists(&path) {
                wrong.push(format!("{} names {path}, which does not exist", file.path));
            }
        }
    }
    for text in TEXTS {
        if read(text).is_empty() {
            wrong.push(format!("{text} is missing"));
        }
    }
    report(wrong);
}

#[test]
fn documentation_that_code_names_exists() {
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| file.path.ends_with(".rs")) {
        for path in named(file.text()).into_iter().filter(|path| path.starts_with("docs/")) {
            if !exists(&path) {
                wrong.push(format!("{} names {path}, which does not exist", file.path));
            }
        }
    }
    report(wrong);
}

#[test]
fn no_file_is_large() {
    let large = files().into_iter().filter(|file| file.bytes > BYTES_MAX);
    report(large.map(|file| format!("{}: {} bytes; the limit is {BYTES_MAX}", file.path, file.bytes)).collect());
}

#[test]
fn no_text_names_a_place_on_its_writers_machine() {
    // In pieces, so that this file does not name what it forbids.
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut wrong = Vec::new();
    for file in files() {
        for (number, line) in file.lines() {
            for place in places.iter().filter(|place| line.contains(**place)) {
                wrong.push(format!("{}:{number} names {place}", file.path));
            }
        }
    }
    report(wrong);
}

/// Words of a text that are paths of this repository.
fn named(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "._-/*{},<>".contains(c);
    let words = text.split(|c: char| !is_path(c)).map(|word| word.trim_end_matches(['.', ',']));
    words.filter(|word| TOPS.iter().any(|top| word.starts_with(top))).map(str::to_string).collect()
}

/// Whether a path exists; `*`, `<name>` and `{a,b}` stand for what is not checked.
fn exists(path: &str) -> bool {
    let end = path.find(['*', '<', '{']).unwrap_or(path.len());
    let known = if end < path.len() { path[..end].rsplit_once('/').map_or("", |(folder, _)| folder) } else { path };
    root().join(known).exists()
}

#[test]
fn paths_are_found_in_prose() {
    let text = "See `src/serve/`, [the tests](tests/it/jobs.rs), and `dataflows/jobs/<name>/job.sql`.";
    assert_eq!(named(text), ["src/serve/", "tests/it/jobs.rs", "dataflows/jobs/<name>/job.sql"]);
    assert!(exists("dataflows/jobs/<name>/job.sql") && exists("tests/tidy/src/*.rs") && !exists("src/nothing.rs"));
}
