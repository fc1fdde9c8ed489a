//! The two lists of cases that do not pass: `case: why`, a line each; `#` begins a comment.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const HEAD: &str = "# Cases that do not pass yet, and the first line of what is wrong.\n\
                    # UPDATE=1 cargo test --test it corpus\n";

/// Cases whose answer is not ours, with the reason.
pub(super) fn exceptions() -> BTreeMap<String, String> {
    read("exceptions.txt")
}

/// Cases that do not pass yet.
pub(super) struct Pending(BTreeMap<String, String>);

impl Pending {
    pub(super) fn read() -> Pending {
        Pending(read("pending.txt"))
    }

    pub(super) fn get(&self, case: &str) -> Option<&str> {
        self.0.get(case).map(String::as_str)
    }

    /// Writes the list anew: of `cases`, those that are `failing`.
    pub(super) fn replace<'a>(&mut self, cases: impl Iterator<Item = &'a str>, failing: BTreeMap<String, String>) {
        for case in cases {
            self.0.remove(case);
        }
        self.0.extend(failing);
        let lines: Vec<String> = self.0.iter().map(|(case, why)| format!("{case}: {why}\n")).collect();
        fs::write(path("pending.txt"), format!("{HEAD}{}", lines.concat())).expect("the list can be written");
    }
}

fn read(name: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path(name)).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (case, why) = line.split_once(": ").unwrap_or_else(|| panic!("{name}: expected 'case: reason', found '{line}'"));
            (case.to_string(), why.to_string())
        })
        .collect()
}

fn path(name: &str) -> PathBuf {
    crate::jobs::root().join("tests/it/corpus").join(name)
}
