//! Every flight that left New York in 2013, 328,521 rows up to 21.7 hours out of order, against answers computed by DuckDB.
//!
//! The data lies beside the clone (`../shared/flights`) and not in it. Where it is missing these tests say so and pass,
//! except in CI, which has it. The job is the one in `dataflows/jobs/flight_delays`, pointed at all of the data.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use highwater::{RunningJob, ServeConfig, Server};
use highwater_engine::JobState;

use crate::jobs::{self, Running};
use crate::rows;

/// Flights in the data.
const FLIGHTS: u64 = 328_521;
/// Rows of one pushed body.
const BODY_ROWS: usize = 10_000;

const VIEWS: [&str; 3] = ["hourly", "carriers", "wet"];

#[test]
fn from_the_file_at_once() {
    let Some(data) = Data::find() else { return };
    for workers in [1, 2] {
        let departures = data.source("departures.csv.gz");
        let running = jobs::run("flights", &data.job(&departures), workers);
        data.check(jobs::finish(&running));
    }
}

#[test]
fn followed_line_by_line() {
    let Some(data) = Data::find() else { return };
    let directory = tempfile::tempdir().expect("a directory for the growing file");
    let path = directory.path().join("departures.csv");
    let lines = data.departures();
    let mut file = fs::File::create(&path).expect("a file");
    let (header, rest) = lines.split_once('\n').expect("a header");
    writeln!(file, "{header}").expect("a line is written");

    let source = format!("connector = 'file', path = '{}', format = 'csv', follow = 'true'", path.display());
    let running = jobs::start("flights", &data.job(&source), 2, false);
    for line in rest.split_inclusive('\n') {
        // One write each: the reader may find any number of lines, and the beginning of the next.
        file.write_all(line.as_bytes()).expect("a line is written");
    }
    wait_for_rows(&running);
    data.check(&running.job);
}

#[test]
fn pushed_over_http() {
    let Some(data) = Data::find() else { return };
    let running = jobs::start("flights", &data.job("connector = 'http'"), 2, false);
    let config = ServeConfig { address: ([127, 0, 0, 1], 0).into(), ..ServeConfig::default() };
    let server = Server::start(running.highwater.clone(), config).expect("a free port");
    let url = format!("{}/v1/sources/departure?wait=visible", server.url());
    let lines = data.departures();
    let (header, rest) = lines.split_once('\n').expect("a header");
    let rows: Vec<&str> = rest.lines().collect();
    let mut accepted = 0;
    for body in rows.chunks(BODY_ROWS) {
        let body = format!("{header}\n{}\n", body.join("\n"));
        let mut response = ureq::post(&url).content_type("text/csv").send(&body).expect("the rows are taken");
        let answer: serde_json::Value = response.body_mut().read_json().expect("the answer is JSON");
        assert_eq!(answer["rejected"], 0, "{answer}");
        accepted += answer["accepted"].as_u64().expect("a number of rows");
    }
    assert_eq!(accepted, FLIGHTS);
    // The last answer said that its rows are visible: there is nothing to wait for.
    data.check(&running.job);
}

/// A tight bound closes hours for good. Row by row it is known which flights that leaves out; with larger epochs the
/// watermark moves less often and fewer are late, but never is one lost.
///
/// All rows, an epoch each, take minutes in a debug build: without CI in the environment only the first 20,000 do, and
/// what is late of those was counted with twelve lines of Python.
#[test]
fn a_tight_bound_leaves_out_what_is_late_and_loses_nothing() {
    let Some(data) = Data::find() else { return };
    let directory = tempfile::tempdir().expect("a directory for the first rows");
    let first = directory.path().join("first.csv");
    let lines: Vec<String> = data.departures().split_inclusive('\n').take(20_001).map(str::to_owned).collect();
    fs::write(&first, lines.concat()).expect("the rows can be written");
    for (hours, late) in [("1", 611), ("4", 27), ("24", 0)] {
        data.check_late(&first, hours, true, 20_000, Some(late));
    }
    let all = data.0.join("departures.csv.gz");
    data.check_late(&all, "1", false, FLIGHTS, None);
    if std::env::var_os("CI").is_some() || !cfg!(debug_assertions) {
        data.check_late(&all, "1", true, FLIGHTS, Some(16_029));
    }
}

/// Where the data is.
struct Data(PathBuf);

impl Data {
    fn find() -> Option<Data> {
        let folder = crate::jobs::root().join("../shared/flights");
        if folder.is_dir() {
            return Some(Data(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "CI needs {}", folder.display());
        eprintln!("skipped: {} is not here", folder.display());
        None
    }

    /// The ready-made job over all flights; `departures` are the options of its source.
    fn job(&self, departures: &str) -> String {
        let text = include_str!("../../dataflows/jobs/flight_delays/job.sql");
        let sample =
            |file: &str| format!("connector = 'file',\n  path = 'dataflows/jobs/flight_delays/input/{file}',\n  format = 'csv'");
        let mut out = text.to_string();
        for (file, options) in [
            ("departures.csv", departures.to_string()),
            ("weather.csv", self.source("weather.csv.gz")),
            ("airlines.csv", self.source("airlines.csv")),
        ] {
            assert!(out.contains(&sample(file)), "the job reads its sample of {file}");
            out = out.replace(&sample(file), &options);
        }
        out
    }

    /// Runs only the hours of the job, with a bound of so many hours, over `rows` rows of a file.
    fn check_late(&self, departures: &Path, hours: &str, row_by_row: bool, rows: u64, late: Option<u64>) {
        let options = format!("connector = 'file', path = '{}', format = 'csv'", departures.display());
        let text = self.job(&options);
        let source = &text[..text.find("CREATE TABLE airline").expect("the source is followed by a table")];
        let view = &text[text.find("CREATE MATERIALIZED VIEW hourly").expect("the view of hours")..];
        let view = &view[..=view.find(';').expect("a statement ends")];
        let day = "INTERVAL '24' HOUR";
        assert!(source.contains(day), "the job's bound is a day");
        let source = source.replace(day, &format!("INTERVAL '{hours}' HOUR"));
        let settings = if row_by_row { "SET epoch_rows_max = 1;" } else { "" };

        let running = jobs::run("flights", &format!("{settings} {source} {view}"), 1);
        let job = jobs::finish(&running);
        let hourly = rows::of_view(job, "hourly");
        let counted: u64 = hourly.iter().map(|hour| hour["departures"].as_u64().expect("a count")).sum();
        let kept = rows::of_view(job, "departure$late").len() as u64;
        eprintln!("a bound of {hours} h {settings} {counted} counted, {kept} late");
        assert_eq!(counted + kept, rows);
        if let Some(late) = late {
            assert_eq!(kept, late);
        }
    }

    fn source(&self, file: &str) -> String {
        format!("connector = 'file', path = '{}', format = 'csv'", self.0.join(file).display())
    }

    fn departures(&self) -> String {
        self.unpack("departures.csv.gz")
    }

    fn unpack(&self, file: &str) -> String {
        let unpacked = Command::new("gzip").arg("-dc").arg(self.0.join(file)).output().expect("gzip runs");
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
        String::from_utf8(unpacked.stdout).expect("the data is UTF-8")
    }

    /// Compares the job's views with the expected ones.
    fn check(&self, job: &RunningJob) {
        for view in VIEWS {
            let expected = rows::of_ndjson(&self.unpack(&format!("{view}.expected.jsonl.gz")));
            let difference = rows::difference(&expected, &rows::of_view(job, view));
            assert!(difference.is_empty(), "{view}: {difference}");
        }
        let late = rows::difference(&[], &rows::of_view(job, "departure$late"));
        assert!(late.is_empty(), "a day's bound loses nothing: {late}");
    }
}

/// Waits until every flight has been read and is in the views.
fn wait_for_rows(running: &Running) {
    let job = &running.job;
    let deadline = Instant::now() + Duration::from_secs(300);
    let read = || {
        let sources = job.sources();
        let departure = sources.iter().find(|source| source.name == "departure").expect("the job has the source");
        departure.partitions.iter().map(|partition| partition.rows).sum::<u64>()
    };
    while read() < FLIGHTS {
        assert_eq!(job.state(), JobState::Running, "{:?}", job.problems());
        assert!(Instant::now() < deadline, "{} of {FLIGHTS} rows read", read());
        job.wait_closed(job.handle().closed() + 1, Duration::from_millis(100));
    }
    let opened = job.handle().stats().epoch_opened.load(Ordering::Acquire);
    assert!(job.wait_closed(opened, Duration::from_secs(60)) >= opened, "what was read reaches the views");
}
