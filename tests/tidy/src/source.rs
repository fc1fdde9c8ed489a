//! What a file of Rust may look like.

use crate::report;
use crate::repository::rust_files;

/// Longer files have a seam that was not looked for; comfortable is half of it.
const LINES_MAX: usize = 640;

#[test]
fn every_file_says_what_it_is() {
    let silent = rust_files().into_iter().filter(|file| !file.text().trim_start().starts_with("//!"));
    report(silent.map(|file| format!("{}: begin with a `//!` comment that says what the file is", file.path)).collect());
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long = rust_files().into_iter().filter(|file| file.lines().count() > LINES_MAX);
    report(long.map(|file| format!("{}: {} lines; the limit is {LINES_MAX}", file.path, file.lines().count())).collect());
}

#[test]
fn nothing_unfinished_is_left_behind() {
    // In pieces, so that this file does not name what it forbids.
    let forbidden = [
        [concat!("#[", "ignore"), "a test runs or does not exist"],
        [concat!("to", "do!("), "finish it, or give an error that says what is not there"],
        [concat!("unimpl", "emented!("), "finish it, or give an error that says what is not there"],
        [concat!("db", "g!("), "use tracing"],
        [concat!("FIX", "ME"), "fix it, or open an issue and name it"],
    ];
    let mut wrong = Vec::new();
    for file in rust_files() {
        for (number, line) in file.lines() {
            for [what, instead] in forbidden {
                if line.contains(what) {
                    wrong.push(format!("{}:{number} has `{what}`: {instead}", file.path));
                }
            }
        }
    }
    report(wrong);
}

#[test]
fn what_cannot_fail_says_why() {
    let unwrap = concat!(".un", "wrap()");
    let mut wrong = Vec::new();
    for file in rust_files() {
        for (number, _) in file.code().filter(|(_, line)| line.contains(unwrap)) {
            wrong.push(format!("{}:{number} has `{unwrap}`: write expect(\"why it holds\")", file.path));
        }
    }
    report(wrong);
}

/// What waits, starts a thread or asks for the time by itself, and where that changes nothing that a simulation looks at.
const OUTSIDE_TURNS: &[(&str, &[&str], &str)] = &[
    ("dataflows/engine/src/arrangement/arranger.rs", &["Instant::now"], "how long an operator works is only measured"),
    ("dataflows/engine/src/operator/map.rs", &["Instant::now"], "as above"),
    ("dataflows/engine/src/operator/epoch.rs", &["Instant::now"], "as above"),
    ("dataflows/engine/src/parallel.rs", &["thread::scope"], "fork and join, and the results are put in order"),
    ("dataflows/runtime/src/evaluate.rs", &["Instant::now"], "a query is no job"),
];

#[test]
fn jobs_wait_where_a_simulation_sees_it() {
    let words =
        ["Instant::now", "SystemTime::now", "thread::sleep", "thread::spawn", "thread::Builder", "thread::scope", "Condvar"];
    let mut wrong = Vec::new();
    for file in rust_files() {
        let ours = ["dataflows/engine/src/", "dataflows/runtime/src/"].iter().any(|folder| file.path.starts_with(folder));
        if !ours {
            continue;
        }
        let allowed = OUTSIDE_TURNS.iter().find(|(path, ..)| *path == file.path).map_or(&[][..], |(_, words, _)| words);
        for (number, line) in file.code() {
            for word in words.iter().filter(|word| line.contains(**word) && !allowed.contains(word)) {
                wrong.push(format!("{}:{number} has `{word}`: use what dataflows/turns has for it", file.path));
            }
        }
    }
    report(wrong);
}
