//! What goes by the clock comes in time although no further row does.

use std::time::{Duration, Instant};

use highwater::{Highwater, JobOptions, RunningJob};
use highwater_connectors::format::encode;
use highwater_connectors::source::{PushFormat, PushRequest, Receipt};
use highwater_engine::JobState;

const PATIENCE: Duration = Duration::from_secs(20);

const VISITS: &str = "CREATE SOURCE visit (page VARCHAR, p AS PROCTIME()) WITH (connector = 'http', format = 'json');
    CREATE MATERIALIZED VIEW stamped AS SELECT page, p FROM visit;";

fn push(job: &RunningJob, rows: &str) {
    let request = PushRequest { format: PushFormat::Ndjson, body: rows.as_bytes().to_vec(), idempotency_key: None };
    job.push("visit", request, Receipt(Box::new(|_| {}))).unwrap();
}

fn rows(job: &RunningJob, view: &str) -> String {
    let read = job.read_view(view, None, PATIENCE, &[], None).unwrap();
    let mut text = Vec::new();
    read.batches.iter().for_each(|batch| encode::ndjson(batch, &mut text).unwrap());
    String::from_utf8(text).unwrap()
}

/// The view's rows, once there are some.
fn rows_when_there(job: &RunningJob, view: &str) -> String {
    let start = Instant::now();
    loop {
        let rows = rows(job, view);
        if !rows.is_empty() {
            return rows;
        }
        assert!(start.elapsed() < PATIENCE, "{view} stays empty; the job is {:?}", job.state());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn windows_of_processing_time_close_by_the_clock() {
    for workers in [1, 2] {
        let highwater = Highwater::builder().workers(workers).start().unwrap();
        let sql = format!(
            "{VISITS}
             CREATE MATERIALIZED VIEW tumbled AS SELECT page, count(*) AS n
             FROM TUMBLE(TABLE visit, DESCRIPTOR(p), INTERVAL '1' SECOND) GROUP BY page, window_start, window_end EMIT FINAL;
             CREATE MATERIALIZED VIEW sessions AS SELECT page, count(*) AS n
             FROM visit GROUP BY page, SESSION(p, INTERVAL '1' SECOND) EMIT FINAL;
             CREATE MATERIALIZED VIEW rows AS SELECT page FROM TUMBLE(visit, p, INTERVAL '1' SECOND) EMIT FINAL;"
        );
        let job = highwater.create_job("visits", &sql, JobOptions::default()).unwrap();
        push(&job, "{\"page\":\"a\"}\n{\"page\":\"a\"}\n{\"page\":\"b\"}\n");
        assert_eq!(rows_when_there(&job, "stamped").lines().count(), 3);
        let mut closed = [rows_when_there(&job, "tumbled"), rows_when_there(&job, "sessions")];
        for rows in &mut closed {
            let mut lines: Vec<&str> = rows.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines, [r#"{"page":"a","n":2}"#, r#"{"page":"b","n":1}"#]);
        }
        assert_eq!(rows_when_there(&job, "rows").lines().count(), 3);
        // Nothing is due any more: no epoch is opened for its own sake.
        let opened = job.handle().closed();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(job.handle().closed(), opened);
        assert_eq!(job.state(), JobState::Running);
    }
}

#[test]
fn changes_held_back_for_an_interval_are_given_after_it() {
    let highwater = Highwater::builder().workers(2).start().unwrap();
    let sql = format!(
        "{VISITS} CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS n FROM visit GROUP BY page
         EMIT EVERY INTERVAL '0.5' SECOND;"
    );
    let job = highwater.create_job("visits", &sql, JobOptions::default()).unwrap();
    for _ in 0..5 {
        push(&job, "{\"page\":\"a\"}\n");
    }
    rows_when_there(&job, "pages");
    let view = job.handle().views().iter().find(|view| view.name() == "pages").unwrap();
    let start = Instant::now();
    while rows(&job, "pages").trim() != r#"{"page":"a","n":5}"# {
        assert!(start.elapsed() < PATIENCE, "the changes are not given: {}", rows(&job, "pages"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let changes = view.changes(0, job.handle().closed()).unwrap();
    let intervals: Vec<u64> = changes.iter().map(|change| change.epoch / 500).collect();
    let mut once = intervals.clone();
    once.dedup();
    assert_eq!(intervals, once, "changes are given at most once in an interval");
}
