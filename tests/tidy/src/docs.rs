//! What must be explained: every error code, metric, connector option and setting has its place in docs/, and nothing is
//! explained that does not exist.

use std::collections::BTreeSet;

use crate::report;
use crate::repository::{read, rust_files};

#[test]
fn every_error_code_is_explained() {
    let mut used = BTreeSet::new();
    for file in rust_files().into_iter().filter(|file| !file.path.starts_with("dataflows/plan/")) {
        let code: Vec<&str> = file.code().map(|(_, line)| line.trim()).collect();
        // One line, because a code may stand below the call that it is an argument of.
        let code = code.join(" ");
        for call in ["error(", "warning("] {
            used.extend(code.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')).filter_map(code_of));
        }
    }
    // `Name 404 "code" "title" ...`: what HTTP answers with.
    let problems = read("src/serve/problem.rs");
    for line in problems.lines().filter(|line| line.ends_with(';')) {
        let mut words = line.split_whitespace().skip(1);
        if words.next().is_some_and(|status| status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit())) {
            used.extend(words.next().and_then(|word| word.strip_prefix('"')).and_then(code_of_word));
        }
    }
    // The plan crate's own errors, about options.
    used.extend(["unknown-option", "missing-option", "invalid-option"].map(String::from));
    let told = sections("docs/errors.md");
    let code: Vec<String> = rust_files().iter().map(|file| file.text().to_string()).collect();
    let named = |name: &String| code.iter().any(|text| text.contains(&format!("\"{name}\"")));
    used.extend(told.iter().filter(|name| named(name)).cloned());
    compare("docs/errors.md", &told, &used, "error code");
}

#[test]
fn every_metric_is_explained() {
    let telemetry = read("src/telemetry.rs");
    let used = telemetry.split("\"highwater_").skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
    let used: BTreeSet<String> = used.map(|name| format!("highwater_{name}")).collect();
    let told: BTreeSet<String> = quoted("docs/metrics.md").into_iter().filter(|word| word.starts_with("highwater_")).collect();
    compare("docs/metrics.md", &told, &used, "metric");
}

#[test]
fn every_connector_option_is_explained() {
    let mut used = BTreeSet::new();
    for file in rust_files().into_iter().filter(|file| file.path.starts_with("connectors/")) {
        let code: Vec<&str> = file.code().map(|(_, line)| line.trim()).collect();
        for rest in code.join(" ").split("Field { key: \"").skip(1) {
            used.extend(rest.split('"').next().map(str::to_string));
        }
    }
    let told = quoted("docs/connectors.md");
    report(used.difference(&told).map(|option| format!("docs/connectors.md does not explain `{option}`")).collect());
}

#[test]
fn every_setting_is_explained() {
    let settings = read("dataflows/sql/src/bind/settings.rs");
    let names = settings.split("const NAMES").nth(1).and_then(|rest| rest.split(';').nth(1)).unwrap_or_default();
    let names: BTreeSet<String> = names.split('"').skip(1).step_by(2).map(str::to_string).collect();
    assert!(!names.is_empty(), "dataflows/sql/src/bind/settings.rs has a table of names");
    let told = quoted("docs/sql.md");
    report(names.difference(&told).map(|name| format!("docs/sql.md does not explain SET {name}")).collect());
}

fn compare(page: &str, told: &BTreeSet<String>, used: &BTreeSet<String>, what: &str) {
    let untold = used.difference(told).map(|name| format!("{page} does not explain the {what} `{name}`"));
    let stale = told.difference(used).map(|name| format!("{page} explains the {what} `{name}`, which does not exist"));
    report(untold.chain(stale).collect());
}

/// The code that a string literal begins with, if it is one and an argument follows.
fn code_of(literal: &str) -> Option<String> {
    let (word, rest) = literal.split_once('"')?;
    if rest.trim_start().starts_with(',') { is_code(word).then(|| word.to_string()) } else { None }
}

fn code_of_word(literal: &str) -> Option<String> {
    let word = literal.split('"').next()?;
    is_code(word).then(|| word.to_string())
}

fn is_code(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Names of the sections of a page: "### `name`".
fn sections(page: &str) -> BTreeSet<String> {
    let text = read(page);
    let headings = text.lines().filter_map(|line| line.strip_prefix("### `"));
    headings.filter_map(|rest| rest.split('`').next()).map(str::to_string).collect()
}

/// Everything that a page has between backticks.
fn quoted(page: &str) -> BTreeSet<String> {
    read(page).split('`').skip(1).step_by(2).map(str::to_string).collect()
}
