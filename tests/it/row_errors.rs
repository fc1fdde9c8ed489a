//! Rows on which an expression fails: kept in `$errors` with their message and place, and gone from there when they are
//! taken back.

use std::fs;

use highwater_engine::JobState;

use crate::jobs;
use crate::rows::{self, Row};

/// Expressions that fail on the bad row and not on the good one, and what is said of it.
const FAILURES: [(&str, &str); 14] = [
    ("i + 9223372036854775800", "integer overflow"),
    ("i * 1000000000000000000", "integer overflow"),
    ("i / z", "division by zero"),
    ("i % z", "division by zero"),
    ("d / z", "division by zero"),
    ("d * 100000000000000000000000000000000000.0", "decimal overflow"),
    ("CAST(s AS INT)", "cannot cast 'bad[' to INT"),
    ("CAST(i * 10000000000 AS INT)", "to INT"),
    ("s::date", "cannot cast 'bad[' to DATE"),
    ("CAST(s AS INTERVAL)", "cannot cast 'bad[' to INTERVAL"),
    ("REGEXP_EXTRACT('12', s, 0)", "invalid regular expression 'bad['"),
    ("TIMESTAMPADD(YEAR, i * 1000000, ts)", "timestamp out of range"),
    ("sqrt(z - 1)", "square root"),
    ("s -> 'a'", "invalid JSON"),
];

const BAD: &str = r#""i": 100, "z": 0, "d": 9999.99, "s": "bad[", "ts": "2024-02-29 00:00:00""#;

/// What a view and its errors hold after these lines of a changelog.
fn run(policy: &str, expression: &str, good: &str, lines: &[(char, &str)]) -> (Vec<Row>, Vec<Row>, JobState) {
    let directory = tempfile::tempdir().expect("a directory for the input");
    let input = directory.path().join("rows.jsonl");
    let mut text: String = lines.iter().map(|(op, row)| format!("{{\"op\": \"{op}\", {row}}}\n")).collect();
    text.push_str(&format!("{{\"op\": \"+\", {good}}}\n"));
    fs::write(&input, text).expect("the input can be written");
    let job = format!(
        "SET on_error = {policy};\nCREATE TABLE t (i BIGINT, z BIGINT, d DECIMAL(10, 2), s VARCHAR, ts TIMESTAMP(3))\n\
         WITH (connector = 'file', path = '{}', format = 'changelog');\n\
         CREATE MATERIALIZED VIEW v AS SELECT i,\n  {expression} AS x\nFROM t;",
        input.display()
    );
    let running = jobs::run("errors", &job, 2);
    let state = running.job.wait_over(Some(std::time::Duration::from_secs(60)));
    if state != JobState::Finished {
        return (Vec::new(), Vec::new(), state);
    }
    (rows::of_view(&running.job, "v"), rows::of_view(&running.job, "v$errors"), state)
}

/// A row on which an expression does not fail.
fn good(expression: &str) -> &'static str {
    match expression {
        "s -> 'a'" => r#""i": 1, "z": 1, "d": 0, "s": "{}", "ts": "2024-02-29 00:00:00""#,
        "s::date" => r#""i": 1, "z": 1, "d": 0, "s": "2024-02-29", "ts": "2024-02-29 00:00:00""#,
        "CAST(s AS INTERVAL)" => r#""i": 1, "z": 1, "d": 0, "s": "1 day", "ts": "2024-02-29 00:00:00""#,
        "TIMESTAMPADD(YEAR, i * 1000000, ts)" => r#""i": 0, "z": 1, "d": 0, "s": "7", "ts": "2024-02-29 00:00:00""#,
        "i * 1000000000000000000" | "CAST(i * 10000000000 AS INT)" => {
            r#""i": 0, "z": 1, "d": 0, "s": "7", "ts": "2024-02-29 00:00:00""#
        }
        _ => r#""i": 1, "z": 1, "d": 0, "s": "7", "ts": "2024-02-29 00:00:00""#,
    }
}

#[test]
fn a_row_that_fails_is_kept_with_its_place_and_goes_when_it_is_taken_back() {
    for (expression, message) in FAILURES {
        for policy in ["skip", "null"] {
            let (view, errors, _) = run(policy, expression, good(expression), &[('+', BAD)]);
            let [error] = &errors[..] else { panic!("{expression}, {policy}: the errors are {errors:?}") };
            let found = error["message"].as_str().expect("a message");
            assert!(found.contains(message), "{expression}: {found}");
            assert!(error["row"].as_str().expect("a row").contains("100"), "{expression}: {error:?}");
            assert_eq!(error["line"].as_i64(), Some(5), "{expression}: {error:?}");
            assert!(error["column"].as_i64().is_some_and(|column| column >= 3), "{expression}: {error:?}");
            let kept = view.iter().filter(|row| row["i"].as_i64() == Some(100)).collect::<Vec<_>>();
            match policy {
                "skip" => assert!(kept.is_empty() && view.len() == 1, "{expression}: {view:?}"),
                _ => assert!(kept.len() == 1 && kept[0]["x"].is_null() && view.len() == 2, "{expression}: {view:?}"),
            }
            let (view, errors, _) = run(policy, expression, good(expression), &[('+', BAD), ('-', BAD)]);
            assert_eq!((view.len(), errors.len()), (1, 0), "{expression}, {policy}: {view:?} {errors:?}");
        }
    }
}

#[test]
fn fail_stops_the_job() {
    let (.., state) = run("fail", "i / z", good("i / z"), &[('+', BAD)]);
    assert!(matches!(&state, JobState::Failed(message) if message.contains("division by zero")), "{state:?}");
}
