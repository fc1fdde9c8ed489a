//! SQL behaviour, case by case: `tests/slt/*.slt` in the form of sqllogictest, over HTTP against a real server.
//!
//! A file is a feature. A record of `CREATE` and `SET` statements is a job of the file's name, in place of the one before;
//! every other record is sent to `POST /v1/query`. Rows are those of the JSON answer: a space between values, `NULL`,
//! `(empty)` for the empty text; arrays, maps and rows as JSON; times without the zeros that end their fraction. Numbers with
//! a point are equal when their first eleven digits are. `statement error` and `query error` look for their regular
//! expression in the problem's detail and in what is rendered of its diagnostics.
//!
//! Expected rows are never written by this program: `tests/slt/expect.py` asks DuckDB; what DuckDB does not have stands
//! under a comment `by hand`. `SLT=join cargo test --test it slt` runs the files whose name contains 'join'.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use highwater::Limits;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sqllogictest::{DB, DBOutput, DefaultColumnType, Normalizer, QueryExpect, Record, Runner, StatementExpect};

use crate::jobs::root;
use crate::service::{Reply, Service};

/// The acceptance's number of cases; fewer means that some were lost.
const CASES_MIN: usize = 500;
/// Files that run at once: planning is what takes time, and it is done by one thread per request.
const THREADS: usize = 4;

#[test]
fn statements_and_queries_give_what_is_expected() {
    let filter = std::env::var("SLT").unwrap_or_default();
    let entries = fs::read_dir(root().join("tests/slt")).unwrap().map(|entry| entry.unwrap().path());
    let is_case = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "slt") && name(path).contains(&filter);
    let mut files: Vec<PathBuf> = entries.filter(is_case).collect();
    files.sort();
    assert!(!files.is_empty(), "no file's name contains '{filter}'");

    let limits = Limits { queries: 2 * THREADS, ..Limits::default() };
    let service = Arc::new(Service::with(limits));
    let (next, cases, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(files.len()) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (ran, differences) = run(&service, file);
                    cases.fetch_add(ran, Ordering::Relaxed);
                    wrong.lock().unwrap().extend(differences);
                }
            });
        }
    });
    let (cases, mut wrong) = (cases.into_inner(), wrong.into_inner().unwrap());
    wrong.sort();
    eprintln!("{cases} cases in {} files", files.len());
    assert!(wrong.is_empty(), "{} of {cases} cases are not as expected\n\n{}", wrong.len(), wrong.join("\n"));
    assert!(!filter.is_empty() || cases >= CASES_MIN, "there are {cases} cases, at least {CASES_MIN} are asked for");
}

/// Runs a file: how many cases it has, and what is not as expected.
fn run(service: &Arc<Service>, file: &Path) -> (usize, Vec<String>) {
    let job = name(file);
    let path = format!("tests/slt/{job}.slt");
    let records = match sqllogictest::parse_with_name::<DefaultColumnType>(&fs::read_to_string(file).unwrap(), path) {
        Ok(records) => records,
        Err(error) => return (0, vec![error.to_string()]),
    };
    let mut runner = Runner::new(|| {
        let (service, job) = (Arc::clone(service), job.clone());
        async move { Ok(Client { service, job }) }
    });
    runner.with_validator(same_rows);
    runner.with_column_validator(same_types);
    let cases = records.iter().filter(|record| is_case(record)).count();
    let mut wrong = Vec::new();
    for record in records {
        let creates = matches!(&record, Record::Statement { sql, expected: StatementExpect::Ok, .. } if is_job(sql));
        if let Err(error) = runner.run(record) {
            wrong.push(format!("{}: {}", error.location(), error.kind()));
            // Without its job nothing that follows means anything.
            if creates {
                break;
            }
        }
    }
    service.delete(&format!("/v1/jobs/{job}"));
    (cases, wrong)
}

/// Whether a record asks for something: rows, a number of rows, an error.
fn is_case(record: &Record<DefaultColumnType>) -> bool {
    match record {
        Record::Query { expected: QueryExpect::Results { .. } | QueryExpect::Error(_), .. } => true,
        Record::Statement { expected, .. } => !matches!(expected, StatementExpect::Ok),
        _ => false,
    }
}

/// Whether a text is a job's, not a script's.
fn is_job(sql: &str) -> bool {
    matches!(verb(sql).as_str(), "CREATE" | "SET")
}

fn verb(sql: &str) -> String {
    sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase()
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// A client that speaks of one job.
struct Client {
    service: Arc<Service>,
    job: String,
}

/// What a problem document says.
#[derive(Debug)]
struct Told(String);

impl Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

impl DB for Client {
    type Error = Told;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Told> {
        let (service, job) = (&self.service, &self.job);
        if is_job(sql) {
            service.delete(&format!("/v1/jobs/{job}"));
            good(service.create(job, sql))?;
            return Ok(DBOutput::StatementComplete(0));
        }
        let asked = format!("/v1/query?job={job}&timeout_ms=60000&format=ndjson");
        let reply = good(service.post(&asked, &[("content-type", "application/sql")], sql.as_bytes()))?;
        if matches!(verb(sql).as_str(), "INSERT" | "UPDATE" | "DELETE") {
            let rows = reply.json()["rows"].as_u64().unwrap_or_else(|| panic!("no count: {}", reply.text()));
            return Ok(DBOutput::StatementComplete(rows));
        }
        let rows: Vec<Vec<Value>> = reply.text().lines().map(row).collect();
        let types = (0..rows.first().map_or(0, Vec::len)).map(|column| common_type(rows.iter().map(|row| &row[column])));
        let types = types.collect();
        Ok(DBOutput::Rows {
            types,
            rows: rows.into_iter().map(|row| row.into_iter().map(|value| value.text).collect()).collect(),
        })
    }
}

/// The answer, if it is what was asked for.
fn good(reply: Reply) -> Result<Reply, Told> {
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    let document = reply.json();
    let told = ["detail", "rendered"].map(|field| document[field].as_str().unwrap_or_default().to_string());
    Err(Told(told.join("\n").trim_end().to_string()))
}

/// A value as cases write it, and what it looks like.
struct Value {
    text: String,
    kind: DefaultColumnType,
}

/// The values of a line of JSON, in the order of their columns.
fn row(line: &str) -> Vec<Value> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<Value>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Vec<Value>, A::Error> {
            let mut values = Vec::new();
            while let Some((_, raw)) = fields.next_entry::<String, Box<RawValue>>()? {
                values.push(value(raw.get()));
            }
            Ok(values)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(line);
    reader.deserialize_map(InOrder).unwrap_or_else(|error| panic!("{error} in {line}"))
}

fn value(json: &str) -> Value {
    use DefaultColumnType::{Any, FloatingPoint, Integer, Text};
    let text = |text: String| if text.is_empty() { "(empty)".into() } else { text };
    match json.as_bytes()[0] {
        b'n' => Value { text: "NULL".into(), kind: Any },
        b'"' => Value { text: text(plain(&serde_json::from_str::<String>(json).unwrap())), kind: Text },
        b'-' | b'0'..=b'9' if json.contains(['.', 'e', 'E']) => Value { text: json.into(), kind: FloatingPoint },
        b'-' | b'0'..=b'9' => Value { text: json.into(), kind: Integer },
        _ => Value { text: json.into(), kind: Text },
    }
}

/// A text; a time or timestamp without the zeros that end its fraction.
fn plain(text: &str) -> String {
    let digit_for_zero = |(have, want): (u8, u8)| if want == b'0' { have.is_ascii_digit() } else { have == want };
    let is = |shape: &str| text.len() > shape.len() && text.bytes().zip(shape.bytes()).all(digit_for_zero);
    if !is("0000-00-00T00:00:00.") && !is("00:00:00.") {
        return text.to_string();
    }
    let (text, zone) = text.strip_suffix('Z').map_or((text, ""), |text| (text, "Z"));
    format!("{}{zone}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The type of a column by its values.
fn common_type<'a>(values: impl Iterator<Item = &'a Value>) -> DefaultColumnType {
    let mut common = DefaultColumnType::Any;
    for value in values.filter(|value| value.kind != DefaultColumnType::Any) {
        match common {
            DefaultColumnType::Any => common = value.kind.clone(),
            _ if common != value.kind => return DefaultColumnType::Text,
            _ => {}
        }
    }
    common
}

/// `?` is any type, alone it is any number of columns; a column of NULLs has any, and without rows there is nothing to see.
#[allow(clippy::ptr_arg, reason = "sqllogictest says what it takes")]
fn same_types(actual: &Vec<DefaultColumnType>, expected: &Vec<DefaultColumnType>) -> bool {
    let any = |kind: &DefaultColumnType| *kind == DefaultColumnType::Any;
    let same = |(actual, expected)| any(actual) || any(expected) || actual == expected;
    actual.is_empty()
        || matches!(expected[..], [DefaultColumnType::Any])
        || (actual.len() == expected.len() && actual.iter().zip(expected).all(same))
}

fn same_rows(_: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<String>>();
    let same_line = |(row, line): (&Vec<String>, &String)| {
        let (row, line) = (words(&row.join(" ")), words(line));
        row.len() == line.len() && row.iter().zip(&line).all(|(actual, expected)| same(actual, expected))
    };
    actual.len() == expected.len() && actual.iter().zip(expected).all(same_line)
}

/// Whether two words are the same, or two numbers with a point that are as good as equal.
fn same(actual: &str, expected: &str) -> bool {
    let number = |word: &str| word.contains(['.', 'e']).then(|| word.parse::<f64>().ok()).flatten();
    match (number(actual), number(expected)) {
        _ if actual == expected => true,
        (Some(actual), Some(expected)) => (actual - expected).abs() <= 1e-11 * actual.abs().max(expected.abs()),
        _ => false,
    }
}
