//! Every ready-made job (`dataflows/jobs/*`) is planned and run, and must hold what was computed without Highwater.
//!
//! A folder holds `job.sql`; `plan.txt`, what `highwater explain` says of it; `input/`, unless the rows are made up; and
//! `expected/`, one file per view: `VIEW.jsonl` with its rows, or `VIEW.json` with their number and hash. A job whose rows
//! differ from run to run has a `replay.sql` as well, the same job over recorded rows.
//!
//! `UPDATE=1` writes `plan.txt` anew; expected rows are only ever written by `dataflows/jobs/batch.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::{Highwater, JobOptions, RunningJob};
use highwater_engine::JobState;
use serde::Deserialize;

use crate::rows;

/// What is known of a view with too many rows to keep.
#[derive(Deserialize)]
struct Summary {
    rows: usize,
    hash: String,
    hash_columns: Vec<String>,
}

#[test]
fn plans_are_as_recorded() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for folder in folders() {
        let recorded = folder.join("plan.txt");
        for text in ["job.sql", "replay.sql"].map(|name| folder.join(name)).iter().filter(|path| path.exists()) {
            let plan = highwater_plan::explain(&compile(text));
            if update {
                fs::write(&recorded, &plan).expect("a plan can be written");
            }
            let wanted = fs::read_to_string(&recorded).unwrap_or_default();
            if plan != wanted {
                wrong.push(format!("{}: the plan is\n{plan}and was\n{wanted}", text.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}UPDATE=1 records the plans as they are", wrong.join("\n"));
}

#[test]
fn results_are_as_computed_by_others_on_one_worker() {
    check_all(1);
}

#[test]
fn results_are_as_computed_by_others_on_two_workers() {
    check_all(2);
}

#[test]
fn results_are_as_computed_by_others_on_four_workers() {
    check_all(4);
}

#[test]
fn nexmark_from_a_json_file_gives_the_same() {
    let stream = Stream::write();
    let mut wrong = Vec::new();
    for (folder, text) in stream.jobs(&stream.file) {
        wrong.extend(check(&folder, &text, 2));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Event n happens at n / 10 ms and the watermark stays 4 s behind: what is displaced by less than 40,000 places is not late.
#[test]
fn nexmark_shuffled_within_the_bound_gives_the_same() {
    use rand::{Rng, SeedableRng};
    let stream = Stream::write();
    let text = read(&stream.file);
    let mut random = rand::rngs::SmallRng::seed_from_u64(13);
    let mut lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    lines.sort_by_cached_key(|(place, _)| place + random.gen_range(0..39_000));
    assert!(lines.windows(2).filter(|pair| pair[0].0 > pair[1].0).count() > 50_000, "the stream is well shuffled");
    let shuffled = stream.file.with_file_name("shuffled.jsonl");
    let lines: Vec<&str> = lines.into_iter().map(|(_, line)| line).collect();
    fs::write(&shuffled, lines.join("\n")).expect("the stream can be written");
    let mut wrong = Vec::new();
    for (folder, text) in stream.jobs(&shuffled) {
        wrong.extend(check(&folder, &text, 2));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The Nexmark stream as a file of JSON lines.
struct Stream {
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Stream {
    const GENERATOR: &str = "connector = 'nexmark', events = '200000'";

    fn write() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the stream");
        let file = directory.path().join("nexmark.jsonl");
        let text = read(&root().join("dataflows/jobs/nexmark_q0/job.sql"));
        let source = &text[..text.find("CREATE VIEW").expect("the source is followed by its views")];
        assert!(source.contains(Self::GENERATOR), "the stream is declared as elsewhere");
        let write = format!(
            "{source}CREATE SINK events WITH (connector = 'file', path = '{}') AS
               SELECT event_type, person, auction, bid FROM nexmark;",
            file.display()
        );
        finish(&run("write", &write, 1));
        Stream { file, _directory: directory }
    }

    /// The Nexmark jobs that are a function of the stream, reading it from `file`.
    fn jobs<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = (PathBuf, String)> + 'a {
        let queries = folders().into_iter().filter(|folder| name(folder).starts_with("nexmark_"));
        queries.filter_map(move |folder| {
            let text = read(&folder.join("job.sql"));
            let from_file = format!("connector = 'file', path = '{}'", file.display());
            text.contains(Self::GENERATOR).then(|| (folder, text.replace(Self::GENERATOR, &from_file)))
        })
    }
}

/// What q10 writes is what it holds: the columns of the path and those of the lines together.
#[test]
fn nexmark_q10_is_written_by_day_and_minute() {
    let directory = tempfile::tempdir().expect("a directory for the files");
    let folder = root().join("dataflows/jobs/nexmark_q10");
    // Seconds in place of minutes, because the events of a minute are many.
    let few = "connector = 'nexmark', events = '30000'";
    let text = read(&folder.join("job.sql")).replace(Stream::GENERATOR, few).replace("'HH:mm'", "'HH:mm:ss'");
    let sink = format!(
        "CREATE SINK files FROM q10 WITH (connector = 'file', path = '{}/q10', partition_by = 'dt, hm');",
        directory.path().display()
    );
    let running = run("q10", &format!("{text}{sink}"), 2);
    let held = rows::of_view(finish(&running), "q10");
    let mut written = Vec::new();
    for day in fs::read_dir(directory.path().join("q10")).expect("there are days") {
        let day = day.expect("a day").path();
        for minute in fs::read_dir(&day).expect("there are minutes") {
            let minute = minute.expect("a minute").path();
            let value = |path: &Path, column: &str| {
                let named = name(path);
                named.strip_prefix(column).unwrap_or_else(|| panic!("{named}")).replace("%3A", ":")
            };
            for mut row in rows::of_ndjson(&read(&minute.join("part.jsonl"))) {
                assert!(!row.contains_key("dt") && !row.contains_key("hm"), "{row:?}");
                row.insert("dt".into(), value(&day, "dt=").into());
                row.insert("hm".into(), value(&minute, "hm=").into());
                written.push(row);
            }
        }
    }
    let minutes: std::collections::BTreeSet<String> = held.iter().map(|row| row["hm"].to_string()).collect();
    assert!(minutes.len() > 1, "{minutes:?}");
    let difference = rows::difference(&held, &written);
    assert!(difference.is_empty(), "{difference}");
}

/// Runs every job to its end and compares its views.
fn check_all(workers: usize) {
    let mut wrong = Vec::new();
    for folder in folders() {
        let replay = folder.join("replay.sql");
        let text = read(&if replay.exists() { replay } else { folder.join("job.sql") });
        wrong.extend(check(&folder, &text, workers));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the results of a folder's job.
fn check(folder: &Path, text: &str, workers: usize) -> Vec<String> {
    let start = Instant::now();
    let running = run(&name(folder), text, workers);
    let job = finish(&running);
    let mut wrong = Vec::new();
    for view in job.handle().views() {
        let rows = rows::of_view(job, view.name());
        let difference = if view.is_side_relation() {
            // Nothing is late, rejected or failing in these jobs.
            rows::difference(&[], &rows)
        } else {
            difference(folder, view.name(), &rows)
        };
        if !difference.is_empty() {
            wrong.push(format!("{}, {workers} workers, view {}: {difference}", name(folder), view.name()));
        }
    }
    eprintln!("{} with {workers} workers: {:.1} s", name(folder), start.elapsed().as_secs_f64());
    wrong
}

fn difference(folder: &Path, view: &str, got: &[rows::Row]) -> String {
    let expected = folder.join("expected").join(view);
    if let Ok(text) = fs::read_to_string(expected.with_extension("jsonl")) {
        return rows::difference(&rows::of_ndjson(&text), got);
    }
    let text = read(&expected.with_extension("json"));
    let wanted: Summary = serde_json::from_str(&text).expect("a summary has rows, hash and hash_columns");
    let hash = rows::hash(got, &wanted.hash_columns);
    if (got.len(), &hash) == (wanted.rows, &wanted.hash) {
        return String::new();
    }
    format!("{} rows with hash {hash}, expected {} with {}", got.len(), wanted.rows, wanted.hash)
}

/// A job, and the process's part that keeps it running.
pub(crate) struct Running {
    pub(crate) highwater: Arc<Highwater>,
    pub(crate) job: Arc<RunningJob>,
}

/// Starts a job that ends with its bounded sources.
pub(crate) fn run(name: &str, text: &str, workers: usize) -> Running {
    start(name, text, workers, true)
}

/// Starts a job.
pub(crate) fn start(name: &str, text: &str, workers: usize, until_end: bool) -> Running {
    let highwater = Highwater::builder().workers(workers).start().expect("workers start");
    let job = highwater.create_job(name, text, JobOptions { until_end, ..JobOptions::default() });
    let job = job.unwrap_or_else(|error| panic!("job {name}: {error}"));
    Running { highwater, job }
}

/// Waits for a job's end.
pub(crate) fn finish(running: &Running) -> &RunningJob {
    let job = &running.job;
    let state = job.wait_over(Some(Duration::from_secs(600)));
    assert_eq!(state, JobState::Finished, "job {}: {:?}", job.name(), job.problems());
    job
}

fn compile(path: &Path) -> highwater_plan::Job {
    let text = read(path);
    highwater::app::compile(&text).unwrap_or_else(|diagnostics| {
        let rendered: Vec<String> = diagnostics.iter().map(|wrong| wrong.render(&path.display().to_string(), &text)).collect();
        panic!("{}", rendered.join("\n"))
    })
}

/// The folders of jobs, by name.
fn folders() -> Vec<PathBuf> {
    let jobs = root().join("dataflows/jobs");
    let entries = fs::read_dir(&jobs).expect("the jobs are beside the crates");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "there are ready-made jobs");
    folders
}

/// This clone. Asked when the test runs: clones that share a build directory share this binary, too.
pub(crate) fn root() -> PathBuf {
    let built = || env!("CARGO_MANIFEST_DIR").into();
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built))
}

fn name(folder: &Path) -> String {
    folder.file_name().expect("a folder has a name").to_string_lossy().into_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}
