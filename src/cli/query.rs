//! `highwater query`: a view's rows, once.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::Failure;
use super::client::{UrlArgs, address, agent, encode, success, unreachable};

const EXAMPLES: &str = r#"Examples:
  highwater query trending --limit 10
  highwater query hourly --where origin=JFK --where carrier=B6 --format csv
  highwater query 'bid$late' --min-epoch job:1731000000000
  highwater query --sql "SELECT origin, max(delay) AS worst FROM hourly GROUP BY origin ORDER BY worst DESC LIMIT 5"
  highwater query --sql "INSERT INTO airport VALUES ('JFK', 'New York')"

A query is answered at one moment: all views it reads at the same closed epoch.

Exit codes: 0 done, 2 wrong usage (an unknown column, a value of another type), 3 no server or no such view."#;

/// Arguments of `highwater query`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct QueryArgs {
    /// The view.
    #[arg(required_unless_present = "sql", conflicts_with = "sql")]
    view: Option<String>,
    /// SQL to run once: a query over views, or INSERT, UPDATE and DELETE on tables; `-` reads it from standard input.
    #[arg(long, value_name = "SQL", conflicts_with_all = ["conditions", "limit"])]
    sql: Option<String>,
    /// The job that is meant, if several have relations of these names.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    url: UrlArgs,
    /// Only rows whose column has this value; `column.is=null` for NULL. Several conditions must all hold.
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = condition)]
    conditions: Vec<(String, String)>,
    /// At most so many rows.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Wait until this epoch or token is in the view.
    #[arg(long, value_name = "TOKEN")]
    min_epoch: Option<String>,
    /// Wait for so long at most.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for people.
    Table,
    /// One JSON object a line.
    Json,
    /// CSV with a header line.
    Csv,
}

fn condition(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(column, _)| !column.is_empty());
    pair.map(|(column, value)| (column.to_string(), value.to_string())).ok_or_else(|| "expected COLUMN=VALUE".into())
}

/// Prints the view's or the query's rows.
pub(super) fn query(args: &QueryArgs) -> Result<(), Failure> {
    let accept = if args.format == Format::Csv { "text/csv" } else { "application/x-ndjson" };
    let response = match (&args.sql, &args.view) {
        (Some(sql), _) => {
            let mut path = format!("/v1/query?timeout_ms={}", args.timeout_ms);
            for (name, value) in [("min_epoch", &args.min_epoch), ("job", &args.job)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encode(value)));
                }
            }
            let sql = match sql.as_str() {
                "-" => {
                    io::read_to_string(io::stdin()).map_err(|error| Failure::Usage(format!("cannot read the query: {error}")))?
                }
                sql => sql.to_string(),
            };
            let request = agent().post(&address(&args.url, &path)).header("accept", accept).content_type("application/sql");
            request.send(&sql).map_err(|error| unreachable(&args.url, &error))?
        }
        (None, view) => {
            let url = address(&args.url, &view_path(args, view.as_deref().unwrap_or_default()));
            agent().get(&url).header("accept", accept).call().map_err(|error| unreachable(&args.url, &error))?
        }
    };
    let mut response = success(response)?;
    // What a change has done is one document, whatever was asked for.
    let document = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let mut stdout = io::stdout().lock();
    let printed = match args.format {
        Format::Table if !document => {
            let text = io::read_to_string(response.body_mut().as_reader());
            text.and_then(|text| stdout.write_all(table(&text).as_bytes()))
        }
        _ => io::copy(&mut response.body_mut().as_reader(), &mut stdout).map(|_| ()),
    };
    match printed.and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Unreachable(format!("the answer broke off: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Where the view's rows are, with the conditions.
fn view_path(args: &QueryArgs, view: &str) -> String {
    let place = match &args.job {
        Some(job) => format!("/v1/jobs/{}/views/{}", encode(job), encode(view)),
        None => format!("/v1/views/{}", encode(view)),
    };
    let mut path = format!("{place}?timeout_ms={}", args.timeout_ms);
    for (column, value) in &args.conditions {
        // `.eq` so that a column may be named like a parameter.
        let suffix = if column.ends_with(".is") { "" } else { ".eq" };
        path.push_str(&format!("&{}{suffix}={}", encode(column), encode(value)));
    }
    if let Some(limit) = args.limit {
        path.push_str(&format!("&limit={limit}"));
    }
    if let Some(token) = &args.min_epoch {
        path.push_str(&format!("&min_epoch={}", encode(token)));
    }
    path
}

/// A row's columns in their order, which a map would lose.
struct Row(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Row;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Row(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

/// NDJSON as a table: texts to the left, numbers to the right.
fn table(ndjson: &str) -> String {
    let rows: Vec<Row> = ndjson.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(first) = rows.first() else { return "no rows\n".into() };
    let names: Vec<&str> = first.0.iter().map(|(name, _)| name.as_str()).collect();
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.0.iter().map(|(_, value)| cell(value)).collect()).collect();
    let numbers: Vec<bool> =
        (0..names.len()).map(|column| rows.iter().all(|row| row.0.get(column).is_some_and(|(_, v)| v.is_number()))).collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            let widest = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(names[column].chars().count())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.enumerate().map(|(column, cell)| match numbers.get(column) {
            Some(true) => format!("{cell:>width$}", width = widths[column]),
            _ => format!("{cell:<width$}", width = widths.get(column).copied().unwrap_or(0)),
        });
        let text = padded.collect::<Vec<String>>().join("  ");
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut names.iter().copied());
    for row in &cells {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_the_order_of_columns() {
        let text = table("{\"video\":\"a\",\"count\":10}\n{\"video\":\"long\",\"count\":7}\n");
        assert_eq!(text, "video  count\na         10\nlong       7\n");
        assert_eq!(table(""), "no rows\n");
    }

    #[test]
    fn a_condition_needs_a_column() {
        assert_eq!(condition("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(condition("=x").is_err() && condition("x").is_err());
    }
}
