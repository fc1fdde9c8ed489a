//! Every scalar function, operator and cast against known results: `expressions/*.txt`, one case a line.
//!
//! A line is `expression ==> result`, or `expression ==> result :: TYPE`; `! message` for one that fails on the row and
//! `!! message` for one that does not compile. Results come from the documentation of PostgreSQL and Flink, or from
//! running PostgreSQL; each expression is evaluated over a row, a row of NULLs and the row again, and over no rows.

mod values;

use highwater_plan::Op;
use highwater_sql::{CompileOptions, compile};
use values::{columns, declaration, show};

/// What an expression gives of the three rows, and its type.
fn evaluate(expression: &str) -> Result<(Vec<String>, String), String> {
    let text = format!(
        "CREATE SOURCE t ({}) WITH (connector = 'file');\n\
         CREATE MATERIALIZED VIEW everything AS SELECT * FROM t;\nCREATE MATERIALIZED VIEW v AS SELECT {expression} AS x FROM t;",
        declaration()
    );
    let job = compile(&text, &CompileOptions::default()).map_err(|errors| {
        let first = &errors[0];
        format!("! {}{}", first.message, first.help.iter().map(|help| format!(" ({help})")).collect::<String>())
    })?;
    let mut node = &job.plan.nodes[job.view("v").expect("the view was compiled").node];
    let mut maps = Vec::new();
    while let Op::Map(map) = &node.op {
        maps.insert(0, map.clone());
        node = &job.plan.nodes[node.inputs[0]];
    }
    let mut data_type = String::new();
    let mut results = Vec::new();
    for rows in [columns(true), columns(false)] {
        let mut batch = rows;
        for map in &maps {
            let mut outputs = Vec::new();
            for (index, expr) in map.exprs.as_ref().expect("the map projects").iter().enumerate() {
                let array = expr.scalar.evaluate(&batch).map_err(|e| e.message)?;
                assert_eq!(*array.data_type(), expr.data_type, "{expression}: the type is as planned");
                outputs.push((index.to_string(), array, true));
            }
            batch = arrow::record_batch::RecordBatch::try_from_iter_with_nullable(outputs).expect("columns are equally long");
        }
        data_type = values::type_name(batch.column(0).data_type());
        results.extend(show(batch.column(0)));
    }
    Ok((results, data_type))
}

/// Why a case fails, if it does.
fn judge(case: &str) -> Option<String> {
    let (expression, expected) = case.split_once("==>").expect("a case has an arrow");
    let (expression, expected) = (expression.trim(), expected.trim());
    let (expected, wanted_type) = match expected.rsplit_once(" :: ") {
        Some((expected, wanted)) => (expected.trim(), Some(wanted.trim())),
        None => (expected, None),
    };
    let found = std::panic::catch_unwind(|| evaluate(expression));
    let found = match found {
        Ok(found) => found,
        Err(_) => return Some(format!("{expression}: panicked")),
    };
    if let Some(message) = expected.strip_prefix('!') {
        return match found {
            Err(found)
                if found.contains(message.trim())
                    || found.trim_start_matches("! ").contains(message.trim_start_matches('!').trim()) =>
            {
                None
            }
            other => Some(format!("{expression}: expected the error '{message}', found {other:?}")),
        };
    }
    match found {
        Err(message) => Some(format!("{expression}: expected {expected}, failed: {message}")),
        Ok((found, _)) if found.len() != 3 => Some(format!("{expression}: {} results for three rows", found.len())),
        Ok((found, _)) if found[0] != expected => Some(format!("{expression}: expected {expected}, found {}", found[0])),
        Ok((found, _)) if found[0] != found[2] => {
            Some(format!("{expression}: two equal rows give {} and {}", found[0], found[2]))
        }
        Ok((_, data_type)) => wanted_type
            .filter(|wanted| *wanted != data_type)
            .map(|wanted| format!("{expression}: expected type {wanted}, found {data_type}")),
    }
}

fn check(name: &str) {
    let path = format!("{}/tests/expressions/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let cases: Vec<&str> = text.lines().filter(|line| line.contains("==>") && !line.starts_with('#')).collect();
    let failures: Vec<String> = cases.iter().filter_map(|case| judge(case)).collect();
    assert!(failures.is_empty(), "{} of {} cases of {name} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn numbers() {
    check("numbers");
}

#[test]
fn text() {
    check("text");
}

#[test]
fn times() {
    check("times");
}

#[test]
fn casts() {
    check("casts");
}

#[test]
fn conditions() {
    check("conditions");
}

#[test]
fn json() {
    check("json");
}

#[test]
fn nested() {
    check("nested");
}

#[test]
fn every_kind_of_failure_is_one_of_the_row() {
    for expression in [
        "i / zero",
        "n % zero",
        "big + i",
        "big * i",
        "d / zero",
        "CAST(s AS INT)",
        "CAST(big AS INT)",
        "s::date",
        "s::timestamp",
        "s::interval",
        "CAST(d * 1000 AS DECIMAL(5, 2))",
        "CAST(f * 1e20 AS BIGINT)",
        "sqrt(j)",
        "REGEXP_EXTRACT(num, s || '[', 0)",
        "TO_TIMESTAMP(s)",
        "TO_TIMESTAMP(big)",
        "TIMESTAMPADD(YEAR, big, ts)",
        "s -> 'a'",
        "ts AT TIME ZONE s",
    ] {
        match evaluate(expression) {
            Err(message) => assert!(!message.starts_with('!'), "{expression} does not compile: {message}"),
            Ok(found) => panic!("{expression} gives {found:?}"),
        }
    }
}
