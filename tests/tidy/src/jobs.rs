//! What a ready-made job's folder holds: it is an example, a golden test and a page of the README at once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::report;
use crate::repository::{read, root};

const JOBS: &str = "dataflows/jobs";

fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(JOBS)).expect("there are ready-made jobs").flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn job_folders_are_complete() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let mut complain = |what: String| wrong.push(format!("{JOBS}/{name}: {what}"));
        let job = text(&folder, "job.sql");
        if !job.starts_with("-- ") {
            complain("job.sql begins with a comment that says what it shows".into());
        }
        if text(&folder, "plan.txt").is_empty() {
            complain("plan.txt is missing; UPDATE=1 cargo test --test it jobs::plans writes it".into());
        }
        let made_up = job.contains("connector = 'datagen'");
        let replay = text(&folder, "replay.sql");
        if made_up == replay.is_empty() {
            complain("replay.sql is for jobs whose rows differ from run to run, the same job over recorded rows".into());
        }
        if !made_up && !job.contains("connector = 'nexmark'") && !folder.join("input").is_dir() {
            complain("input/ is missing".into());
        }
        for path in paths(&job).into_iter().chain(paths(&replay)) {
            if !path.starts_with(&format!("{JOBS}/{name}/input/")) || !root().join(path).is_file() {
                complain(format!("'{path}' is no file of its input/"));
            }
        }
        let views = views(&job);
        if views.is_empty() {
            complain("job.sql has no materialized view".into());
        }
        let expected = |view: &str| ["jsonl", "json"].map(|ending| folder.join("expected").join(format!("{view}.{ending}")));
        for view in views.iter().filter(|view| !expected(view).iter().any(|path| path.is_file())) {
            complain(format!("expected/{view}.jsonl is missing"));
        }
        for path in fs::read_dir(folder.join("expected")).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if !views.iter().any(|view| expected(view).contains(&path)) {
                complain(format!("{} is the result of no view", path.display()));
            }
        }
        if !read("README.md").contains(&format!("{JOBS}/{name}")) && !name.starts_with("nexmark_") {
            complain("README.md does not mention it".into());
        }
    }
    report(wrong);
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default()
}

/// The values of `path = '...'`.
fn paths(sql: &str) -> Vec<&str> {
    sql.split("path = '").skip(1).filter_map(|rest| rest.split('\'').next()).collect()
}

/// The names of materialised views.
fn views(sql: &str) -> Vec<&str> {
    let names = sql.split("CREATE MATERIALIZED VIEW ").skip(1);
    names.filter_map(|rest| rest.split_whitespace().next()).collect()
}
