//! TPC-H's 22 queries, and joins, subqueries and set operations that it does not ask, as views over tables that change.
//!
//! All tables are filled, changed and emptied in part over 50 epochs, in no order: a line item may come before its order,
//! its part or its nation. In the end each view holds what DuckDB answers over what is left (`tpch/answers.py`).

mod generate;

use std::sync::mpsc;
use std::time::Duration;

use highwater::{Highwater, JobOptions, RunningJob};
use highwater_connectors::format::encode;
use highwater_connectors::source::{PushFormat, PushRequest, Receipt};
use serde_json::{Map, Value};

use self::generate::{Changes, TABLES};
use crate::corpus::compare;

const PATIENCE: Duration = Duration::from_secs(300);

/// 0.01: 15,000 orders, 60,000 line items.
const SCALE: f64 = 0.01;

#[test]
fn views_over_changing_tables_hold_what_a_database_answers() {
    let changes = generate::changes(SCALE);
    if let Some(folder) = std::env::var_os("TPCH_DUMP") {
        return dump(&changes, &folder.into());
    }
    let text = [include_str!("tpch/tables.sql"), include_str!("tpch/queries.sql"), include_str!("tpch/more.sql")].concat();
    let highwater = Highwater::builder().workers(2).start().unwrap();
    let job = highwater.create_job("tpch", &text, JobOptions::default()).unwrap();
    let mut last = 0;
    for bodies in changes.epochs {
        for ((table, _), body) in TABLES.iter().zip(bodies) {
            last = last.max(push(&job, table, body));
        }
        assert!(job.wait_closed(last, PATIENCE) >= last, "an epoch is not closed: {}", job.problems().join("; "));
    }
    let (mut wrong, mut answered) = (Vec::new(), 0);
    for line in include_str!("tpch/answers.jsonl").lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let view = answer["view"].as_str().unwrap();
        let difference = compare::difference(&expected(&answer), &rows(&job, view));
        let errors = rows(&job, &format!("{view}$errors"));
        answered += 1;
        if !difference.is_empty() || !errors.is_empty() {
            wrong.push(format!("{view}: {difference} {errors}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(answered, text.matches("CREATE MATERIALIZED VIEW").count(), "every view has an answer");
}

/// Writes the tables as they are after all changes, for DuckDB.
fn dump(changes: &Changes, folder: &std::path::PathBuf) {
    std::fs::create_dir_all(folder).unwrap();
    for ((table, columns), rows) in TABLES.iter().zip(&changes.tables) {
        let value = |value: &String| if value == "null" { "NULL".to_string() } else { value.trim_matches('"').to_string() };
        let line = |row: &Vec<String>| row.iter().map(value).collect::<Vec<_>>().join(",") + "\n";
        let text = columns.join(",") + "\n" + &rows.iter().map(line).collect::<String>();
        std::fs::write(folder.join(format!("{table}.csv")), text).unwrap();
    }
}

/// Pushes changes of a table and gives the epoch they came with.
fn push(job: &RunningJob, table: &str, body: String) -> u64 {
    if body.is_empty() {
        return 0;
    }
    let (told, epoch) = mpsc::channel();
    let receipt = Receipt(Box::new(move |epoch| {
        let _ = told.send(epoch);
    }));
    let request = PushRequest { format: PushFormat::Ndjson, body: body.into_bytes(), idempotency_key: None };
    job.push(table, request, receipt).unwrap();
    epoch.recv_timeout(PATIENCE).unwrap()
}

/// An answer's rows as objects, one a line.
fn expected(answer: &Value) -> String {
    let names = answer["columns"].as_array().unwrap();
    let object = |row: &Value| {
        let pairs = names.iter().zip(row.as_array().unwrap());
        let object: Map<String, Value> = pairs.map(|(name, value)| (name.as_str().unwrap().into(), value.clone())).collect();
        Value::Object(object).to_string() + "\n"
    };
    answer["rows"].as_array().unwrap().iter().map(object).collect()
}

/// A view's rows as objects, one a line.
fn rows(job: &RunningJob, view: &str) -> String {
    let read = job.read_view(view, None, PATIENCE, &[], None).unwrap();
    let mut text = Vec::new();
    read.batches.iter().for_each(|batch| encode::ndjson(batch, &mut text).unwrap());
    String::from_utf8(text).unwrap()
}
