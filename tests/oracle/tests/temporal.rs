//! Temporal filters: what passes follows the clock, to the epoch, under insertions and retractions.
//!
//! Rows are given times around the moment the test runs, so that some pass at once, some later, some never, and some
//! cease to. The engine is compared with the oracle, and both with the condition written out by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use highwater_oracle::case::{Outcome, compiled, run_alone};
use highwater_oracle::drive::Observed;
use highwater_oracle::generate::Random;
use highwater_oracle::script::{Batch, FeedScript, Script};
use highwater_oracle::value::{Row, Value};

/// Columns: `k`, `ts` in milliseconds (nullable).
const TABLE: &str = "CREATE TABLE t (k BIGINT, ts TIMESTAMP(3)) WITH (connector = 'http', format = 'changelog');\n";

type Condition = fn(ts: i64, now: i64) -> bool;

/// Conditions in SQL, and what they mean in milliseconds.
const CONDITIONS: [(&str, Condition); 10] = [
    ("ts > NOW() - INTERVAL '0.2' SECOND", |ts, now| ts > now - 200),
    ("ts >= NOW() - INTERVAL '200' MILLISECOND", |ts, now| ts >= now - 200),
    ("ts <= NOW()", |ts, now| ts <= now),
    ("NOW() > ts", |ts, now| now > ts),
    ("ts BETWEEN NOW() - INTERVAL '100' MILLISECOND AND NOW() + INTERVAL '100' MILLISECOND", |ts, now| {
        ts >= now - 100 && ts <= now + 100
    }),
    ("NOW() - ts < INTERVAL '150' MILLISECOND", |ts, now| now - ts < 150),
    (
        "date_bin(INTERVAL '100' MILLISECOND, ts, TIMESTAMP '1970-01-01') = date_bin(INTERVAL '100' MILLISECOND, NOW(), TIMESTAMP '1970-01-01')",
        |ts, now| ts.div_euclid(100) == now.div_euclid(100),
    ),
    ("ts > NOW() - INTERVAL '20' MILLISECOND * 5 OR k = 1", |_, _| true),
    ("ts <= NOW() AND ts > NOW() - INTERVAL '50' MILLISECOND", |ts, now| ts <= now && ts > now - 50),
    ("ts + INTERVAL '1' MONTH > NOW() + INTERVAL '1' MONTH - INTERVAL '100' MILLISECOND", |_, _| true),
];

fn wall() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn script(random: &mut Random) -> Script {
    let start = wall();
    let mut held: Vec<Row> = Vec::new();
    let mut batches = Vec::new();
    for step in 0..6 {
        let mut rows = Vec::new();
        for _ in 0..random.range(1, 6) {
            if !held.is_empty() && random.chance(35) {
                let row = held.swap_remove(random.below(held.len()));
                rows.push((row, -1));
            } else {
                let time = if random.chance(8) { Value::Null } else { Value::Int(start + random.range(-250, 350)) };
                let row: Row = vec![Value::Int(random.range(1, 3)), time].into();
                held.push(row.clone());
                rows.push((row, 1));
            }
        }
        batches.push(Batch { step, rows, idle: false });
    }
    let feed = FeedScript { source: "t".into(), worker: 0, batches, ends_with_rows: random.chance(50) };
    Script { feeds: vec![feed], awaited: random.chance(60), finishes: true, restarts: Vec::new() }
}

/// Whether every read of the first view holds just the rows for which the condition is true then.
fn judge(observed: &Observed, condition: Condition) {
    let epochs = observed.history.epochs();
    for read in observed.reads.iter().filter(|read| read.epoch > 0) {
        // What is closed may be a moment between two epochs: the clock stands at the one before.
        let now = *epochs.iter().rev().find(|epoch| **epoch <= read.epoch).unwrap() as i64;
        let mut wanted: BTreeMap<Row, i64> = BTreeMap::new();
        for batch in observed.history.feeds.iter().flat_map(|feed| &feed.batches).filter(|batch| batch.epoch <= read.epoch) {
            for (row, diff) in &batch.rows {
                if matches!(row[1], Value::Int(ts) if condition(ts, now)) {
                    *wanted.entry(row.clone()).or_default() += diff;
                }
            }
        }
        wanted.retain(|_, diff| *diff != 0);
        let got: BTreeMap<Row, i64> = read.views[0].iter().map(|(row, diff)| (row.clone(), diff)).collect();
        assert_eq!(got, wanted, "at epoch {}", read.epoch);
    }
}

#[test]
fn what_passes_follows_the_clock() {
    // They mostly wait for the clock.
    std::thread::scope(|scope| {
        for (number, (condition, meaning)) in CONDITIONS.into_iter().enumerate() {
            scope.spawn(move || check(number as u64, condition, meaning));
        }
    });
}

fn check(number: u64, condition: &str, meaning: Condition) {
    let by_hand = !condition.contains("OR k") && !condition.contains("MONTH");
    let sql = format!(
        "{TABLE}CREATE MATERIALIZED VIEW v AS SELECT k, ts FROM t WHERE {condition};
         CREATE MATERIALIZED VIEW w AS SELECT k, count(*) AS n, max(ts) AS last FROM t WHERE {condition} GROUP BY k;
         CREATE MATERIALIZED VIEW x AS SELECT a.k, b.ts FROM v AS a JOIN t AS b ON a.k = b.k WHERE b.ts > NOW() - INTERVAL '0.3' SECOND;
         CREATE MATERIALIZED VIEW y AS SELECT k, max(ts) AS last FROM t GROUP BY k HAVING max(ts) < NOW();"
    );
    let job = compiled(&sql).unwrap_or_else(|error| panic!("{condition}: {error}"));
    for workers in [1, 2, 4] {
        let script = script(&mut Random::new(number * 10 + workers as u64));
        match run_alone(workers, &job, &script) {
            Outcome::Right(seen) if by_hand => judge(&seen.observed, meaning),
            Outcome::Right(_) => {}
            Outcome::Skipped => panic!("the case is too large"),
            Outcome::Wrong(wrong) => panic!("{condition} on {workers} workers: {}\n{script}", wrong.fault),
        }
    }
}
