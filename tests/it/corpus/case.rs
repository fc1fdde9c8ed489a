//! One case of the corpus: its files, and how it is run.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater::{Highwater, JobOptions, RunningJob};
use highwater_connectors::format::encode;
use highwater_connectors::source::{PushFormat, PushRequest, Receipt};
use highwater_engine::JobState;
use serde::Deserialize;

use super::{compare, feed};

/// Longer than a step takes, even in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A case, read.
pub(super) struct Case {
    pub(super) name: String,
    /// All rows of its input.
    pub(super) rows: usize,
    /// Whether the answer depends on which rows share an epoch.
    pub(super) order_matters: bool,
    folder: PathBuf,
    sql: String,
    meta: Meta,
}

/// How rows are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Step by step, each waited for and compared.
    Steps,
    /// One by one.
    Rows,
    /// In as few epochs as the job likes.
    Once,
}

/// What is wrong with a case.
pub(super) struct Failure(pub(super) String);

#[derive(Deserialize)]
struct Meta {
    view: String,
    steps: Vec<Step>,
    tables: BTreeMap<String, Table>,
    order_dependent: bool,
}

#[derive(Deserialize)]
struct Step {
    table: String,
    events: usize,
}

#[derive(Deserialize)]
struct Table {
    format: String,
}

/// The cases, by name.
pub(super) fn all(corpus: &Path) -> Vec<Case> {
    let folders = fs::read_dir(corpus.join("cases")).expect("the corpus has cases");
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    folders.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(folder: PathBuf) -> Case {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let meta = read(&folder.join("meta.json"));
        let meta: Meta = serde_json::from_str(&meta).unwrap_or_else(|error| panic!("{name}: meta.json: {error}"));
        let sql = in_our_words(&read(&folder.join("job.sql")), &meta);
        let rows = meta.steps.iter().map(|step| step.events).sum();
        let order_matters = meta.order_dependent || sql.contains("WATERMARK");
        Case { name, rows, order_matters, folder, sql, meta }
    }

    /// Runs the case and compares the view after each step that is waited for and has an answer, and at the end.
    pub(super) fn run(&self, workers: usize, pace: Pace) -> Result<(), Failure> {
        // A panic is one case's failure, not the end of all.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.try_run(workers, pace)));
        let outcome = outcome.unwrap_or_else(|_| Err(failed("panicked")));
        outcome.map_err(|Failure(text)| Failure(format!("{workers} workers, {pace:?}: {text}")))
    }

    fn try_run(&self, workers: usize, pace: Pace) -> Result<(), Failure> {
        let end = feed::End::default();
        let highwater = Highwater::builder().workers(workers).registry(feed::registry(&end)).start().expect("workers start");
        // What the clock will still change, some thousand years from now, is not waited for.
        let job =
            highwater.create_job("case", &self.sql, JobOptions { until_end: true, ..JobOptions::default() }).map_err(failed)?;
        let mut inputs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for table in self.meta.tables.keys() {
            inputs.insert(table, input(&self.folder.join(format!("input/{table}.jsonl"))));
        }
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, step) in self.meta.steps.iter().enumerate() {
            let lines = &inputs[step.table.as_str()];
            let start = taken.entry(&step.table).or_default();
            let rows = &lines[*start..*start + step.events];
            *start += step.events;
            let bodies: Vec<String> = match pace {
                Pace::Rows => rows.to_vec(),
                Pace::Steps | Pace::Once => vec![rows.join("\n")],
            };
            for body in bodies {
                push(&job, &step.table, body, pace != Pace::Once)?;
            }
            if pace == Pace::Steps {
                self.compare(&job, &format!("expected.{}.jsonl", index + 1))?;
            }
        }
        end.come();
        let state = job.wait_over(Some(PATIENCE));
        if state != JobState::Finished {
            return Err(failed(format!("the job is {state:?}: {}", job.problems().join("; "))));
        }
        self.compare(&job, "expected.jsonl")
    }

    /// Compares the view with an answer, if there is one.
    fn compare(&self, job: &RunningJob, answer: &str) -> Result<(), Failure> {
        let Ok(expected) = fs::read_to_string(self.folder.join(answer)) else { return Ok(()) };
        let name = job.handle().views().iter().map(|view| view.name()).find(|name| name.eq_ignore_ascii_case(&self.meta.view));
        let name = name.ok_or_else(|| failed(format!("no view '{}'", self.meta.view)))?;
        let got = rows(job, name)?;
        let difference = compare::difference(&expected, &got);
        if difference.is_empty() {
            return Ok(());
        }
        Err(failed(format!("{answer}: {difference}{}", self.refused(job)?)))
    }

    /// Rows that were rejected, or failed an expression: the first of each kind.
    fn refused(&self, job: &RunningJob) -> Result<String, Failure> {
        let mut text = String::new();
        for view in job.handle().views().iter().filter(|view| view.is_side_relation() && !view.name().ends_with("$late")) {
            let rows = rows(job, view.name())?;
            if let Some(first) = rows.lines().next() {
                text.push_str(&format!("\n  {}: {} rows, the first: {first}", view.name(), rows.lines().count()));
            }
        }
        Ok(text)
    }
}

impl Failure {
    /// What is written down of it.
    pub(super) fn first_line(&self) -> String {
        let text = self.0.split_once(": ").map_or(self.0.as_str(), |(_, rest)| rest);
        text.lines().next().unwrap_or_default().chars().take(160).collect::<String>().trim_end().to_string()
    }
}

fn failed(error: impl ToString) -> Failure {
    Failure(error.to_string())
}

/// Pushes rows and, if asked to, waits until the views have them.
fn push(job: &RunningJob, table: &str, body: String, wait: bool) -> Result<(), Failure> {
    let (told, epoch) = std::sync::mpsc::channel();
    let receipt = Receipt(Box::new(move |epoch| {
        let _ = told.send(epoch);
    }));
    let request = PushRequest { format: PushFormat::Ndjson, body: body.into_bytes(), idempotency_key: None };
    // A table that the view does not read is no source of the plan's, and is not fed.
    let source = job.sources().into_iter().find(|source| source.name.eq_ignore_ascii_case(table));
    let source = source.ok_or_else(|| failed(format!("no source '{table}'")))?;
    job.push(&source.name, request, receipt).map_err(failed)?;
    if !wait {
        return Ok(());
    }
    let epoch = epoch.recv_timeout(PATIENCE).map_err(|_| failed(format!("{}: rows are not taken", job.problems().join("; "))))?;
    match job.wait_closed(epoch, PATIENCE) {
        closed if closed >= epoch => Ok(()),
        closed => Err(failed(format!("epoch {epoch} is not closed, the job is at {closed}: {}", job.problems().join("; ")))),
    }
}

/// A view's rows, one JSON object a line.
fn rows(job: &RunningJob, view: &str) -> Result<String, Failure> {
    let read = job.read_view(view, None, PATIENCE, &[], None).map_err(failed)?;
    let mut text = Vec::new();
    for batch in &read.batches {
        encode::ndjson(batch, &mut text).map_err(failed)?;
    }
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// The lines of an input; one that is a link in the corpus may be a file that holds the link's text.
fn input(path: &Path) -> Vec<String> {
    let text = read(path);
    if text.starts_with("../") && !text.contains('\n') {
        return input(&path.parent().expect("a file is in a folder").join(text));
    }
    text.lines().map(str::to_string).collect()
}

/// The case's SQL with what is not SQL: where a table's rows come from, and how they are written.
fn in_our_words(sql: &str, meta: &Meta) -> String {
    let mut text = String::from("SET sql.identifiers = 'lower';\n");
    let mut rest = sql;
    while let Some(at) = find_word(rest, "CREATE TABLE") {
        let open = at + rest[at..].find('(').expect("a table has columns");
        let close = open + matching(&rest[open..]);
        let name = rest[at + "CREATE TABLE".len()..open].trim().trim_matches('"');
        let known = meta.tables.iter().find(|(table, _)| table.eq_ignore_ascii_case(name));
        let format = match known.map(|(_, table)| table.format.as_str()) {
            Some("debezium") => "debezium",
            Some("rows") | None => "json",
            Some(other) => panic!("table {name}: unknown format {other}"),
        };
        text.push_str(&rest[..=close]);
        text.push_str(&format!(" WITH (connector = 'http', format = '{format}')"));
        rest = &rest[close + 1..];
    }
    text + rest
}

fn find_word(text: &str, words: &str) -> Option<usize> {
    text.to_ascii_uppercase().find(words)
}

/// The place of the parenthesis that closes the one at the start.
fn matching(text: &str) -> usize {
    let mut depth = 0;
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    panic!("a parenthesis is not closed in {text}")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}
