//! The oracle itself, on examples worked out by hand.

use crate::case::{check, last_content};

const STREAM: &str = "CREATE SOURCE s (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
    WITH (connector = 'http', format = 'json');";

/// Works it out, and has the engine agree.
fn holds(sql: &str, script: &str, expected: &[&str]) {
    assert_eq!(last_content(sql, script), expected);
    check(sql, script);
}

#[test]
fn a_late_row_counts_only_in_windows_that_are_open() {
    let sql = format!(
        "{STREAM} CREATE MATERIALIZED VIEW v AS SELECT window_end, count(*) AS n, sum(k) AS total
         FROM HOP(s, ts, INTERVAL '1' SECOND, INTERVAL '2' SECOND) GROUP BY window_end;"
    );
    // After step 0 the watermark is 3000. In step 1 the windows of 2500 end at 3000 and 4000: the first is closed.
    let script = "feed s @0\n 0 + 1 | 500\n 0 + 2 | 4000\n 1 + 10 | 2500\n 1 + 20 | 900";
    holds(&sql, script, &["+1 1000 | 1 | 1", "+1 2000 | 1 | 1", "+1 4000 | 1 | 10", "+1 5000 | 1 | 2", "+1 6000 | 1 | 2"]);
}

#[test]
fn a_final_window_is_given_when_the_watermark_has_reached_its_end() {
    let sql = format!(
        "{STREAM} CREATE MATERIALIZED VIEW v AS SELECT window_end, count(*) AS n
         FROM TUMBLE(s, ts, INTERVAL '2' SECOND) GROUP BY window_end EMIT FINAL;"
    );
    let script = "dropped\nfeed s @0\n 0 + 1 | 500\n 1 + 1 | 2999";
    holds(&sql, script, &[]);
    holds(&sql, &format!("{script}\n 2 + 1 | 3000"), &["+1 2000 | 1"]);
}

#[test]
fn the_slowest_feed_holds_the_watermark_back() {
    let sql = format!(
        "{STREAM} CREATE MATERIALIZED VIEW v AS SELECT window_end, count(*) AS n
         FROM TUMBLE(s, ts, INTERVAL '2' SECOND) GROUP BY window_end EMIT FINAL;"
    );
    let script = "dropped\nfeed s @0\n 0 + 1 | 500\n 0 + 1 | 9000\nfeed s @1\n 0 + 1 | 3500\n 1 + 1 | 2100";
    holds(&sql, script, &["+1 2000 | 1"]);
}

#[test]
fn the_last_row_of_a_key_counts() {
    let sql = "CREATE TABLE t (k BIGINT PRIMARY KEY, n INT) WITH (connector = 'http', format = 'json');
        CREATE MATERIALIZED VIEW v AS SELECT k, n FROM t;";
    let script = "feed t @0\n 0 + 1 | 5\n 0 + 1 | 6\n 0 + 2 | 1\n 1 - 2 | 77\n 1 + 3 | NULL\n 1 - 4 | 4";
    holds(sql, script, &["+1 1 | 6", "+1 3 | NULL"]);
}

#[test]
fn null_keys_join_nothing_and_copies_multiply() {
    let sql = "CREATE TABLE a (k BIGINT, x VARCHAR) WITH (connector = 'http', format = 'changelog');
        CREATE TABLE b (k BIGINT, y VARCHAR) WITH (connector = 'http', format = 'changelog');
        CREATE MATERIALIZED VIEW v AS SELECT x, y FROM a JOIN b ON a.k = b.k;";
    let script = "feed a @0\n 0 + 1 | 'p'\n 0 + 1 | 'p'\n 0 + NULL | 'q'\n 1 + 2 | 'r'\n 2 - 2 | 'r'
        feed b @1\n 0 + NULL | 's'\n 1 + 1 | 't'\n 1 + 1 | 't'\n 1 + 2 | 'u'\n 2 - 1 | 't'";
    holds(sql, script, &["+2 'p' | 't'"]);
}

#[test]
fn aggregates_of_no_values_are_null_and_distinct_values_count_once() {
    let sql = "CREATE TABLE t (k BIGINT, n INT) WITH (connector = 'http', format = 'changelog');
        CREATE MATERIALIZED VIEW v AS
        SELECT k, count(*) AS a, count(n) AS b, sum(n) AS c, count(DISTINCT n) AS d, avg(DISTINCT n) AS e, max(n) AS f FROM t GROUP BY k;";
    let script = "feed t @0\n 0 + 1 | 3\n 0 + 1 | 3\n 0 + 1 | 4\n 0 + 2 | NULL\n 0 + 3 | 1\n 1 - 3 | 1\n 1 - 1 | 4\n 1 + 1 | 6";
    holds(sql, script, &["+1 1 | 3 | 3 | 12 | 2 | 4.5 | 6", "+1 2 | 1 | 0 | NULL | 0 | NULL | NULL"]);
}

#[test]
fn a_row_that_fails_is_left_out_and_counted() {
    let sql = "CREATE TABLE t (k BIGINT) WITH (connector = 'http', format = 'changelog');
        CREATE MATERIALIZED VIEW v AS SELECT 6 / k AS q FROM t;";
    let script = "feed t @0\n 0 + 2\n 0 + 0\n 0 + NULL\n 0 + 0\n 1 - 0";
    holds(sql, script, &["+1 NULL", "+1 3"]);
}
