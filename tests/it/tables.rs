//! Tables: what stands in them, whichever partition said it, and what becomes of rows whose windows are closed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::jobs;
use crate::rows::{self, Row};

/// Files of different lengths with the same keys: of each key the row furthest down in its file counts, and of those that
/// are equally far the one in the last file.
#[test]
fn upserts_of_a_key_in_several_files_have_one_order_on_any_number_of_workers() {
    const FILES: usize = 5;
    let directory = tempfile::tempdir().unwrap();
    let mut last: BTreeMap<usize, ((usize, usize), usize)> = BTreeMap::new();
    for file in 0..FILES {
        let mut text = String::new();
        for number in 0..40 + file * 7 {
            let (key, value) = ((number * 7 + file * 3) % 23, file * 1_000 + number);
            writeln!(text, "{{\"k\": {key}, \"v\": {value}}}").unwrap();
            let before = last.entry(key).or_default();
            *before = (*before).max(((number, file), value));
        }
        fs::write(directory.path().join(format!("{file}.jsonl")), text).unwrap();
    }
    let expected: String = last.iter().map(|(key, (_, value))| format!("{{\"k\": {key}, \"v\": {value}}}\n")).collect();
    let sql = format!(
        "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT) WITH (connector = 'file', path = '{}/*.jsonl');
         CREATE MATERIALIZED VIEW v AS SELECT k, v FROM t;",
        directory.path().display()
    );
    for workers in [1, 2, 4] {
        let running = jobs::run("tables", &sql, workers);
        let difference = rows::difference(&rows::of_ndjson(&expected), &rows::of_view(jobs::finish(&running), "v"));
        assert!(difference.is_empty(), "{workers} workers: {difference}");
    }
}

/// A row of a table is late if its own window is closed; that the row which it replaces was in a closed one does not matter.
#[test]
fn the_row_before_an_update_is_not_late() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.jsonl");
    let input = [
        r#"{"k": 1, "at": "2024-05-01 12:00:10"}"#,
        r#"{"k": 2, "at": "2024-05-01 12:00:20"}"#,
        r#"{"k": 3, "at": "2024-05-01 12:02:00"}"#, // 12:00 and 12:01 are closed
        r#"{"k": 1, "at": "2024-05-01 12:02:10"}"#, // from a closed window into an open one: counts there
        r#"{"k": 3, "at": "2024-05-01 12:01:30"}"#, // from an open one into a closed one: is late, and gone from where it was
        r#"{"k": 3, "at": "2024-05-01 12:02:30"}"#, // replaces a row that was late
    ];
    fs::write(&path, input.join("\n")).unwrap();
    let minutes = r#"{"window_start": "2024-05-01T12:00:00", "rows": 2, "keys": 3}
{"window_start": "2024-05-01T12:02:00", "rows": 2, "keys": 4}"#;
    for (workers, emit) in [(1, "CHANGES"), (2, "FINAL")] {
        let sql = format!(
            "SET epoch_rows_max = 1;
             CREATE TABLE t (k BIGINT PRIMARY KEY, at TIMESTAMP(3), WATERMARK FOR at AS at)
               WITH (connector = 'file', path = '{}');
             CREATE MATERIALIZED VIEW now AS SELECT k, at FROM t;
             CREATE MATERIALIZED VIEW minutes AS SELECT window_start, count(*) AS rows, sum(k) AS keys
               FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end EMIT {emit};",
            path.display()
        );
        let running = jobs::run("tables", &sql, workers);
        let job = jobs::finish(&running);
        let check = |expected: &str, got: &[Row]| {
            let difference = rows::difference(&rows::of_ndjson(expected), got);
            assert!(difference.is_empty(), "{workers} workers, EMIT {emit}: {difference}");
        };
        check(minutes, &rows::of_view(job, "minutes"));
        let now = "{\"k\": 1, \"at\": \"2024-05-01T12:02:10\"}\n{\"k\": 2, \"at\": \"2024-05-01T12:00:20\"}\n";
        check(&format!("{now}{{\"k\": 3, \"at\": \"2024-05-01T12:02:30\"}}"), &rows::of_view(job, "now"));
        let late = rows::of_view(job, "t$late");
        assert_eq!(late.len(), 1, "{late:?}");
        assert_eq!(late[0]["late_row"].as_str().unwrap(), "{\"k\":3,\"at\":\"2024-05-01T12:01:30\"}", "{late:?}");
    }
}
