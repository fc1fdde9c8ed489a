//! What becomes of each row of a stream that is out of order, late, broken, or from the future: worked out by hand.
//!
//! Every row is an epoch of its own, so the watermark moves with every row and each fate can be told from the lines above
//! it. Nothing is unaccounted for: rows in = rows counted + late + rejected + without a time.

use std::fs;

use crate::jobs;
use crate::rows::{self, Row};

/// Minutes of readings; the watermark is ten seconds behind the latest row. On the right of each row: its fate, given the
/// watermark (W) after the row above it. A minute is closed when its end is at or before W.
const READINGS: &[(&str, Fate)] = &[
    // The first row: W is still nowhere.
    (r#"{"id": 1, "at": "2024-05-01 12:00:05"}"#, Counted), // W becomes 11:59:55
    (r#"{"id": 2, "at": "2024-05-01 12:00:50"}"#, Counted), // W 12:00:40
    // Out of order, and behind W, but its minute is open until 12:01:00.
    (r#"{"id": 3, "at": "2024-05-01 12:00:20"}"#, Counted),
    (r#"{"id": 4, "at": "2024-05-01 12:01:05"}"#, Counted), // W 12:00:55
    (r#"{"id": 5, "at": "2024-05-01 12:00:59.999"}"#, Counted),
    (r#"{"id": 6, "at": "2024-05-01 12:00:00"}"#, Counted),
    (r#"{"id": 7, "at": "2024-05-01 12:01:10"}"#, Counted), // W 12:01:00: the first minute is closed
    (r#"{"id": 8, "at": "2024-05-01 12:00:59"}"#, Late),
    // Windows are half open: this is the next minute.
    (r#"{"id": 9, "at": "2024-05-01 12:01:00"}"#, Counted),
    (r#"{"id": 10, "at": "2024-05-01 12:01:"#, Rejected),
    (r#"{"id": "eleven", "at": "2024-05-01 12:01:20"}"#, Rejected),
    (r#"{"id": 12, "at": "yesterday"}"#, Rejected),
    // More than a day ahead of the clock on the wall: refused, and W stays.
    (r#"{"id": 13, "at": "9999-01-01 00:00:00"}"#, Rejected),
    (r#"{"id": 14, "at": "2024-05-01 12:01:30"}"#, Counted), // W 12:01:20
    (r#"{"id": 15, "at": "2024-05-01 12:03:00"}"#, Counted), // W 12:02:50: the second minute is closed
    // Nobody was in the third minute yet, but it is open until 12:03:00.
    (r#"{"id": 16, "at": "2024-05-01 12:02:59.999"}"#, Counted),
    (r#"{"id": 17, "at": "2024-05-01 12:01:59"}"#, Late),
    (r#"{"id": 18, "at": "2024-05-01 12:00:01"}"#, Late),
    (r#"{"id": 19, "at": "2024-05-01 12:02:00"}"#, Counted),
    (r#"{"id": 20, "at": "1970-01-01 00:00:00"}"#, Late),
    (r#"{"id": 21, "at": "2024-05-01 12:03:59"}"#, Counted), // W 12:03:49: the third minute is closed
    (r#"{"id": 22, "at": "2024-05-01 12:02:30"}"#, Late),
    // In no minute at all.
    (r#"{"id": 23, "at": null}"#, Timeless),
    (r#"{"id": 24, "at": "2024-05-01 12:03:10"}"#, Counted),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Counted,
    Late,
    Rejected,
    Timeless,
}
use Fate::{Counted, Late, Rejected, Timeless};

/// Rows 1, 2, 3, 5, 6; rows 4, 7, 9, 14; rows 16, 19; rows 15, 21, 24.
const MINUTES: &str = r#"
{"window_start": "2024-05-01T12:00:00", "readings": 5, "ids": 17}
{"window_start": "2024-05-01T12:01:00", "readings": 4, "ids": 34}
{"window_start": "2024-05-01T12:02:00", "readings": 2, "ids": 35}
{"window_start": "2024-05-01T12:03:00", "readings": 3, "ids": 60}"#;

/// Each with W when it came, and the minute it missed.
const LATE: &str = r#"
{"id": 8, "at": "2024-05-01T12:00:59", "late_watermark": "2024-05-01T12:01:00", "late_from": "2024-05-01T12:00:00", "late_to": "2024-05-01T12:01:00", "late_windows": 1}
{"id": 17, "at": "2024-05-01T12:01:59", "late_watermark": "2024-05-01T12:02:50", "late_from": "2024-05-01T12:01:00", "late_to": "2024-05-01T12:02:00", "late_windows": 1}
{"id": 18, "at": "2024-05-01T12:00:01", "late_watermark": "2024-05-01T12:02:50", "late_from": "2024-05-01T12:00:00", "late_to": "2024-05-01T12:01:00", "late_windows": 1}
{"id": 20, "at": "1970-01-01T00:00:00", "late_watermark": "2024-05-01T12:02:50", "late_from": "1970-01-01T00:00:00", "late_to": "1970-01-01T00:01:00", "late_windows": 1}
{"id": 22, "at": "2024-05-01T12:02:30", "late_watermark": "2024-05-01T12:03:49", "late_from": "2024-05-01T12:02:00", "late_to": "2024-05-01T12:03:00", "late_windows": 1}"#;

/// What rejected rows hold, and what their reasons say.
const REASONS: [(&str, &str); 4] = [
    ("\"id\": 10", "string without an end"),
    ("eleven", "column 'id'"),
    ("yesterday", "column 'at'"),
    ("9999-01-01", "ahead of the clock"),
];

const TUMBLE: &str = "SELECT window_start, count(*) AS readings, sum(id) AS ids
  FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";

#[test]
fn every_row_has_the_fate_worked_out_by_hand() {
    for (workers, emit) in [(1, "EMIT CHANGES"), (1, "EMIT FINAL"), (2, "EMIT CHANGES"), (4, "EMIT FINAL")] {
        let outcome = run("", TUMBLE, emit, 10, &lines(READINGS), workers);
        outcome.check(MINUTES, LATE);

        let fates = |fate: Fate| READINGS.iter().filter(|(_, of)| *of == fate).count();
        let counted: i64 = outcome.result.iter().map(|row| row["readings"].as_i64().expect("a count")).sum();
        assert_eq!(counted, fates(Counted) as i64);
        assert_eq!(outcome.late.len(), fates(Late));
        assert_eq!(outcome.rejects.len(), fates(Rejected));
        assert_eq!(outcome.errors.len(), fates(Timeless));
        let sum = counted as usize + outcome.late.len() + outcome.rejects.len() + outcome.errors.len();
        assert_eq!(sum, READINGS.len(), "nothing is unaccounted for");

        for (raw, reason) in REASONS {
            let found = outcome.rejects.iter().find(|row| text(row, "raw").contains(raw));
            let found = found.unwrap_or_else(|| panic!("no reject with {raw} in {:?}", outcome.rejects));
            assert!(text(found, "reason").contains(reason), "{raw} was rejected because {}", text(found, "reason"));
        }
        assert!(text(&outcome.errors[0], "row").contains("23"), "{:?}", outcome.errors);
    }
}

/// With a minute of allowed lateness a window takes rows until W is a minute past its end: rows 8, 17 and 22 count, by
/// correcting what was out; rows 18 and 20 are too late for that as well.
#[test]
fn allowed_lateness_corrects_closed_windows() {
    let minutes = r#"
{"window_start": "2024-05-01T12:00:00", "readings": 6, "ids": 25}
{"window_start": "2024-05-01T12:01:00", "readings": 5, "ids": 51}
{"window_start": "2024-05-01T12:02:00", "readings": 3, "ids": 57}
{"window_start": "2024-05-01T12:03:00", "readings": 3, "ids": 60}"#;
    let late: Vec<&str> = LATE.lines().filter(|line| line.contains(r#""id": 18"#) || line.contains(r#""id": 20"#)).collect();
    for (workers, emit) in [(1, "EMIT CHANGES"), (2, "EMIT FINAL")] {
        let outcome = run("SET allowed_lateness = '1 minute';", TUMBLE, emit, 10, &lines(READINGS), workers);
        outcome.check(minutes, &late.join("\n"));
    }
}

/// A row in several windows counts in those that are open and is late in the others. Windows of a minute, every half
/// minute; the watermark is the latest row.
#[test]
fn a_row_may_be_late_in_some_of_its_windows_only() {
    let input = [
        r#"{"id": 1, "at": "2024-05-01 12:00:10"}"#, // counts in 11:59:30 and 12:00:00
        r#"{"id": 2, "at": "2024-05-01 12:00:40"}"#, // counts in 12:00:00 and 12:00:30; closes 11:59:30
        r#"{"id": 3, "at": "2024-05-01 12:00:20"}"#, // misses 11:59:30, counts in 12:00:00
        r#"{"id": 4, "at": "2024-05-01 12:01:30"}"#, // counts in 12:01:00 and 12:01:30; closes up to 12:00:30
        r#"{"id": 5, "at": "2024-05-01 12:00:25"}"#, // misses 11:59:30 and 12:00:00
        r#"{"id": 6, "at": "2024-05-01 12:01:10"}"#, // misses 12:00:30, counts in 12:01:00
    ];
    let windows = r#"
{"window_start": "2024-05-01T11:59:30", "readings": 1, "ids": 1}
{"window_start": "2024-05-01T12:00:00", "readings": 3, "ids": 6}
{"window_start": "2024-05-01T12:00:30", "readings": 1, "ids": 2}
{"window_start": "2024-05-01T12:01:00", "readings": 2, "ids": 10}
{"window_start": "2024-05-01T12:01:30", "readings": 1, "ids": 4}"#;
    let late = r#"
{"id": 3, "at": "2024-05-01T12:00:20", "late_watermark": "2024-05-01T12:00:40", "late_from": "2024-05-01T11:59:30", "late_to": "2024-05-01T12:00:30", "late_windows": 1}
{"id": 5, "at": "2024-05-01T12:00:25", "late_watermark": "2024-05-01T12:01:30", "late_from": "2024-05-01T11:59:30", "late_to": "2024-05-01T12:01:00", "late_windows": 2}
{"id": 6, "at": "2024-05-01T12:01:10", "late_watermark": "2024-05-01T12:01:30", "late_from": "2024-05-01T12:00:30", "late_to": "2024-05-01T12:01:30", "late_windows": 1}"#;
    let hop = TUMBLE.replace("TUMBLE", "HOP").replace("INTERVAL '1' MINUTE", "INTERVAL '30' SECOND, INTERVAL '1' MINUTE");
    for (workers, emit) in [(1, "EMIT CHANGES"), (1, "EMIT FINAL"), (2, "EMIT CHANGES"), (4, "EMIT FINAL")] {
        let outcome = run("", &hop, emit, 0, &input.join("\n"), workers);
        outcome.check(windows, late);
        let counted: i64 = outcome.result.iter().map(|row| row["readings"].as_i64().expect("a count")).sum();
        let missed: i64 = outcome.late.iter().map(|row| row["late_windows"].as_i64().expect("a count")).sum();
        assert_eq!(counted + missed, 2 * input.len() as i64, "each row is in two windows");
    }
}

/// What a job holds at its end.
struct Outcome {
    what: String,
    result: Vec<Row>,
    late: Vec<Row>,
    rejects: Vec<Row>,
    errors: Vec<Row>,
}

impl Outcome {
    fn check(&self, result: &str, late: &str) {
        let what = &self.what;
        let difference = rows::difference(&rows::of_ndjson(result.trim()), &self.result);
        assert!(difference.is_empty(), "{what}: {difference}");
        let known = |row: &Row| {
            let mut row = row.clone();
            assert!(row.remove("late_operator").is_some_and(|operator| operator != ""), "{what}: the operator is named");
            assert!(row.remove("late_row").is_some_and(|row| row.is_null()), "{what}: the columns are at hand");
            row
        };
        let known: Vec<Row> = self.late.iter().map(known).collect();
        let difference = rows::difference(&rows::of_ndjson(late.trim()), &known);
        assert!(difference.is_empty(), "{what}, late rows: {difference}");
    }
}

/// Runs a query over a file of readings, one row per epoch, with a watermark that is `bound` seconds behind.
fn run(settings: &str, query: &str, emit: &str, bound: u32, input: &str, workers: usize) -> Outcome {
    let directory = tempfile::tempdir().expect("a directory for the input");
    let path = directory.path().join("readings.jsonl");
    fs::write(&path, input).expect("the input can be written");
    let text = format!(
        "SET epoch_rows_max = 1; {settings}
         CREATE SOURCE reading (
           id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '{bound}' SECOND
         ) WITH (connector = 'file', path = '{}', max_ahead = '1 day');
         CREATE MATERIALIZED VIEW readings AS {query} {emit};",
        path.display()
    );
    let running = jobs::run("lateness", &text, workers);
    let job = jobs::finish(&running);
    Outcome {
        what: format!("{workers} workers, {emit}, {settings}"),
        result: rows::of_view(job, "readings"),
        late: rows::of_view(job, "reading$late"),
        rejects: rows::of_view(job, "reading$rejects"),
        errors: rows::of_view(job, "readings$errors"),
    }
}

fn lines(readings: &[(&str, Fate)]) -> String {
    let lines: Vec<&str> = readings.iter().map(|(line, _)| *line).collect();
    lines.join("\n")
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("no text '{column}' in {row:?}"))
}
