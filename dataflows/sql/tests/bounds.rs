//! Long texts: what is only long is planned, and what would be too much is refused, neither with a stack that overflows.

use highwater_plan::{Diagnostic, explain};
use highwater_sql::{CompileOptions, Script, compile};

const TABLE: &str = "CREATE TABLE t (v BIGINT, w BIGINT);\n";

fn plan(query: &str) -> Result<String, Diagnostic> {
    let text = format!("{TABLE}CREATE MATERIALIZED VIEW mv AS {query};");
    compile(&text, &CompileOptions::default()).map(|job| explain(&job)).map_err(|mut errors| errors.remove(0))
}

fn refused(query: &str) -> (String, String, u64) {
    let error = plan(query).expect_err("it is more than can be planned");
    let span = error.span.expect("it has a place");
    assert!(error.help.is_some(), "{error:?}");
    (error.code.to_string(), error.message.clone(), span.start.line)
}

fn chain(word: &str, length: usize, term: impl Fn(usize) -> String) -> String {
    (0..length).map(term).collect::<Vec<_>>().join(word)
}

#[test]
fn a_chain_of_full_joins_grows_by_a_column_with_each() {
    let joined = |joins: usize| {
        let joins: String = (1..=joins).map(|join| format!("\nFULL JOIN t t{join} USING (v)")).collect();
        plan(&format!("SELECT v, count(*) AS n FROM t{joins} GROUP BY v")).expect("a chain is planned").len()
    };
    // It was four times as much for two joins more.
    let (some, twice) = (joined(12), joined(24));
    assert!(twice < 5 * some, "{some} characters of plan for 12 joins, {twice} for 24");
}

#[test]
fn a_long_or_and_a_long_list_are_planned() {
    let or = chain(" OR ", 5_000, |term| format!("v = {term} AND w = {term}"));
    let found = plan(&format!("SELECT v FROM t WHERE {or}")).expect("a chain of OR is planned");
    assert!(found.contains("4999"), "{found}");
    let list = chain(", ", 10_000, |term| term.to_string());
    let found = plan(&format!("SELECT v FROM t WHERE v IN ({list})")).expect("a list is planned");
    assert!(found.contains("9999"), "{found}");
}

#[test]
fn what_is_too_deep_is_said_at_its_place() {
    for query in [
        format!("SELECT\n{}v{} AS x FROM t", "(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT\n{} AS x FROM t", chain(" + ", 100_000, |_| "v".into())),
        format!("SELECT v FROM t WHERE\nv{}", " IS NOT NULL".repeat(50_000)),
        format!("SELECT v FROM t WHERE\n{}v > 1", "NOT ".repeat(5_000)),
        format!("SELECT * FROM\n{}SELECT v FROM t{}", "(SELECT * FROM ".repeat(1_000), ") AS x".repeat(1_000)),
    ] {
        let (code, message, line) = refused(&query);
        assert_eq!((code.as_str(), line), ("too-deep", 3), "{message}");
    }
}

#[test]
fn what_is_too_wide_is_said_at_its_place() {
    let unions = chain(" UNION ALL ", 501, |branch| format!("SELECT v FROM t WHERE v = {branch}"));
    let (code, message, line) = refused(&format!("\n{unions}"));
    assert_eq!((code.as_str(), line), ("too-large", 3), "{message}");
    assert_eq!(message, "501 queries are one set operation, at most 500 can be planned");
    let joins: String = (0..200).map(|join| format!("\nJOIN t t{join} USING (v)")).collect();
    let (code, message, line) = refused(&format!("SELECT v FROM t{joins}"));
    assert_eq!((code.as_str(), line), ("too-large", 2), "{message}");
    assert_eq!(message, "201 relations are joined, at most 200 can be planned");
}

#[test]
fn scripts_have_the_same_bounds() {
    let sum = chain(" + ", 100_000, |_| "1".into());
    for text in [format!("SELECT {sum}"), format!("INSERT INTO t VALUES ({sum}, 1)"), format!("DELETE FROM t WHERE v = {sum}")] {
        let error = Script::parse(&text).expect_err("it is too deep");
        assert_eq!(error.code, "too-deep", "{error:?}");
    }
}
