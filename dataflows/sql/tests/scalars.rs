//! Compiled expressions on small batches: what they give, and how they fail.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use highwater_plan::{Expr, Map, Op};
use highwater_sql::{CompileOptions, compile};

/// The map of `SELECT exprs FROM t` with columns `a`, `b` (BIGINT), `s` (VARCHAR), `ts` (TIMESTAMP(3)) and `d` (DECIMAL).
fn map(settings: &str, select: &str) -> Map {
    let mut maps = maps(settings, select);
    assert_eq!(maps.len(), 1, "{select}");
    maps.remove(0)
}

/// The maps above the source, the lowest first.
fn maps(settings: &str, select: &str) -> Vec<Map> {
    let text = format!(
        "{settings}\nCREATE SOURCE t (a BIGINT, b BIGINT, s VARCHAR, ts TIMESTAMP(3), d DECIMAL(10, 2)) WITH (connector = 'file');\n\
         CREATE MATERIALIZED VIEW everything AS SELECT * FROM t;\nCREATE MATERIALIZED VIEW v AS SELECT {select} FROM t;"
    );
    let job = compile(&text, &CompileOptions::default()).unwrap_or_else(|errors| panic!("{select}: {}", errors[0]));
    let view = job.view("v").expect("the view was compiled");
    let mut node = &job.plan.nodes[view.node];
    let mut maps = Vec::new();
    while let Op::Map(map) = &node.op {
        maps.insert(0, map.clone());
        node = &job.plan.nodes[node.inputs[0]];
    }
    maps
}

fn expr(settings: &str, select: &str) -> Expr {
    map(settings, &format!("{select} AS x")).exprs.expect("the map projects").remove(0)
}

fn batch(rows: &[(Option<i64>, Option<i64>, Option<&str>)]) -> RecordBatch {
    let a: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let b: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1)));
    let s: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2)));
    let ts: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_436_918_401_500; rows.len()]));
    let d = Decimal128Array::from(vec![250; rows.len()]).with_precision_and_scale(10, 2).expect("two digits fit");
    let columns = [("a", a), ("b", b), ("s", s), ("ts", ts), ("d", Arc::new(d) as ArrayRef)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .expect("columns are equally long")
}

/// Each row's value as text, or the error. What is used twice is computed in a map of its own, below.
fn evaluate(settings: &str, select: &str, rows: &[(Option<i64>, Option<i64>, Option<&str>)]) -> Result<Vec<String>, String> {
    let mut columns = batch(rows);
    for map in maps(settings, &format!("{select} AS x")) {
        let mut results = Vec::new();
        for (index, expr) in map.exprs.expect("the map projects").iter().enumerate() {
            let array = expr.scalar.evaluate(&columns).map_err(|e| e.message)?;
            assert_eq!(array.len(), rows.len(), "{select}: constants are expanded");
            assert_eq!(*array.data_type(), expr.data_type, "{select}");
            results.push((index.to_string(), array, true));
        }
        columns = RecordBatch::try_from_iter_with_nullable(results).expect("columns are equally long");
    }
    let text = arrow::compute::cast(columns.column(0), &DataType::Utf8).expect("everything can be shown");
    Ok(text.as_string::<i32>().iter().map(|value| value.unwrap_or("NULL").to_string()).collect())
}

fn one(select: &str) -> String {
    evaluate("", select, &[(Some(7), Some(2), Some("12/ab"))]).unwrap_or_else(|e| panic!("{select}: {e}")).remove(0)
}

fn fails(select: &str, row: (Option<i64>, Option<i64>, Option<&str>)) -> String {
    evaluate("", select, &[row]).expect_err(select)
}

#[test]
fn failures_are_named() {
    assert_eq!(fails("a + b", (Some(i64::MAX), Some(1), None)), "integer overflow");
    assert_eq!(fails("a - b", (Some(i64::MIN), Some(1), None)), "integer overflow");
    assert_eq!(fails("a * b", (Some(i64::MAX), Some(2), None)), "integer overflow");
    assert_eq!(fails("-a", (Some(i64::MIN), None, None)), "integer overflow");
    assert_eq!(fails("a / b", (Some(1), Some(0), None)), "division by zero");
    assert_eq!(fails("a % b", (Some(1), Some(0), None)), "division by zero");
    assert_eq!(fails("CAST(s AS BIGINT)", (None, None, Some("abc"))), "cannot cast 'abc' to BIGINT");
    assert_eq!(fails("CAST(a AS INT)", (Some(1 << 40), None, None)), "cannot cast 1099511627776 to INT");
}

#[test]
fn nulls_do_not_fail() {
    let rows = [(None, Some(0), None), (Some(6), Some(3), Some("5"))];
    assert_eq!(evaluate("", "a / nullif(b, 0)", &rows), Ok(vec!["NULL".into(), "2".into()]));
    assert_eq!(evaluate("", "TRY_CAST(s AS BIGINT)", &rows), Ok(vec!["NULL".into(), "5".into()]));
}

#[test]
fn expressions_fail_whatever_becomes_of_the_row() {
    // With on_error = null the engine takes NULL and keeps the row in $errors: so it has to hear of it.
    let rows = [(Some(1), Some(0), Some("abc"))];
    assert_eq!(evaluate("SET on_error = null;", "a / b", &rows), Err("division by zero".into()));
    assert_eq!(evaluate("SET on_error = null;", "CAST(s AS BIGINT)", &rows), Err("cannot cast 'abc' to BIGINT".into()));
}

#[test]
fn functions_give_what_their_names_say() {
    for (select, expected) in [
        ("MOD(a, b)", "1"),
        ("a / b", "3"),
        ("0.5 * a", "3.5"),
        ("d * 2", "5.00"),
        ("upper(s)", "12/AB"),
        ("SPLIT_INDEX(s, '/', 1)", "ab"),
        ("SPLIT_INDEX(s, '/', b)", "NULL"),
        ("REGEXP_EXTRACT(s, '([0-9]+)/', 1)", "12"),
        ("COUNT_CHAR(s, 'a')", "1"),
        ("DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss')", "2015-07-15 00:00:01"),
        ("HOUR(ts)", "0"),
        ("SECOND(ts)", "1"),
        ("YEAR(ts)", "2015"),
        ("EXTRACT(MONTH FROM ts)", "7"),
        ("CAST(FLOOR(ts TO MINUTE) AS VARCHAR)", "2015-07-15 00:00:00"),
        ("CAST(TIMESTAMPADD(DAY, 1, ts) AS VARCHAR)", "2015-07-16 00:00:01.5"),
        ("CAST(TIMESTAMPADD(HOUR, b, ts) AS VARCHAR)", "2015-07-15 02:00:01.5"),
        ("TIMESTAMPDIFF(MINUTE, ts, TIMESTAMPADD(HOUR, 1, ts))", "60"),
        ("CASE WHEN a > 5 THEN 'big' ELSE 'small' END", "big"),
        ("COALESCE(NULLIF(s, '12/ab'), 'none')", "none"),
        ("s LIKE '12%'", "true"),
        ("a IN (1, 7)", "true"),
        ("a BETWEEN 1 AND 6", "false"),
        ("substr(s, 2, 2)", "2/"),
        ("substring(s FROM 4)", "ab"),
        ("s || '!'", "12/ab!"),
        ("character_length(s)", "5"),
        ("abs(b - a)", "5"),
        ("CAST(a AS DOUBLE) / b", "3.5"),
        ("random() < 2", "true"),
        ("1 + 1", "2"),
    ] {
        assert_eq!(one(select), expected, "{select}");
    }
}

#[test]
fn a_constant_fills_the_batch() {
    let rows = [(Some(1), None, None); 3];
    assert_eq!(evaluate("", "'x'", &rows), Ok(vec!["x".into(); 3]));
    assert_eq!(evaluate("", "'x'", &[]), Ok(Vec::new()));
}

#[test]
fn what_is_known_of_an_expression() {
    let product = expr("", "b * a");
    assert_eq!((product.columns.as_slice(), product.fallible), (&[0, 1][..], true));
    let span = product.span.expect("columns have places");
    assert_eq!((span.start.line, span.start.column, span.end.column), (4, 38, 42));
    assert!(!expr("", "a > b AND s LIKE 'x%'").fallible);
    assert!(!expr("", "CAST(a AS VARCHAR)").fallible);
    assert!(expr("", "CAST(s AS INT)").fallible);
    assert_eq!(expr("", "b").as_column(), Some(1));
}

#[test]
fn rows_pass_when_all_filters_are_true() {
    let map = map("", "a FROM t WHERE a > b AND s = 'x'; CREATE VIEW rest AS SELECT a");
    let rows = batch(&[(Some(2), Some(1), Some("x")), (Some(1), Some(2), Some("x")), (None, Some(2), Some("x"))]);
    let passed: Vec<Vec<Option<bool>>> = map
        .filters
        .iter()
        .map(|filter| filter.scalar.evaluate(&rows).expect("comparisons do not fail").as_boolean().iter().collect())
        .collect();
    assert!(passed.contains(&vec![Some(true), Some(false), None]), "{passed:?}");
}

#[test]
fn a_long_chain_of_conditions_compiles() {
    let chain = (0..400).map(|n| format!("a = {n} AND b = 1")).collect::<Vec<_>>().join(" OR ");
    let map = map("", &format!("a FROM t WHERE {chain}; CREATE VIEW rest AS SELECT a"));
    let passed = map.filters.iter().all(|filter| {
        let array = filter.scalar.evaluate(&batch(&[(Some(399), Some(1), None)])).expect("comparisons do not fail");
        array.as_boolean().value(0)
    });
    assert!(passed);
}

#[test]
fn sums_of_integers_stay_integers() {
    let sum = expr("", "a + 1");
    let array = sum.scalar.evaluate(&batch(&[(Some(1), None, None)])).expect("it fits");
    assert_eq!(array.as_primitive::<Int64Type>().value(0), 2);
}
