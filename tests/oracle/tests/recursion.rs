//! Recursive queries under insertions and retractions, cycles included: the engine equals naive steps at every epoch.
//!
//! Graphs are small, so that most of their paths meet and most retractions break something that was held up in two ways.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use highwater_engine::{Engine, EngineConfig};
use highwater_oracle::case::{Outcome, check, compiled, last_content, run};
use highwater_oracle::generate::Random;
use highwater_oracle::script::{Batch, FeedScript, Script};
use highwater_oracle::value::{Row, Value};

const EDGE: &str = "CREATE TABLE edge (a BIGINT, b BIGINT, w BIGINT) WITH (connector = 'http', format = 'changelog');\n";

/// Queries over `edge`, and whether cycles let them come to an end.
const QUERIES: [(&str, bool); 13] = [
    (
        "WITH RECURSIVE r AS (SELECT a, b FROM edge UNION SELECT r.a, e.b FROM r JOIN edge AS e ON r.b = e.a) SELECT * FROM r",
        true,
    ),
    // Twice itself.
    (
        "WITH RECURSIVE r AS (SELECT a, b FROM edge UNION SELECT x.a, y.b FROM r AS x JOIN r AS y ON x.b = y.a) SELECT * FROM r",
        true,
    ),
    // From one node, with a condition and an aggregate outside.
    (
        "WITH RECURSIVE r (n) AS (SELECT 1 UNION SELECT e.b FROM r JOIN edge AS e ON r.n = e.a WHERE e.w < 4) SELECT count(*) AS n FROM r",
        true,
    ),
    // Bounded by depth, every path counted.
    (
        "WITH RECURSIVE r AS (SELECT a, b, 1 AS d FROM edge UNION ALL SELECT r.a, e.b, d + 1 FROM r JOIN edge AS e ON r.b = e.a WHERE d < 4) SELECT a, b, d FROM r",
        true,
    ),
    // Paths without end on a cycle.
    (
        "WITH RECURSIVE r AS (SELECT a, b FROM edge UNION ALL SELECT r.a, e.b FROM r JOIN edge AS e ON r.b = e.a) SELECT * FROM r",
        false,
    ),
    // Rows that fail in some steps.
    (
        "WITH RECURSIVE r AS (SELECT a, w FROM edge UNION SELECT e.b, r.w / (e.w - 2) FROM r JOIN edge AS e ON r.a = e.a) SELECT a, w FROM r",
        true,
    ),
    // Two that define each other.
    (
        "WITH MUTUALLY RECURSIVE even (n BIGINT) AS (SELECT 1 UNION SELECT e.b FROM odd JOIN edge AS e ON odd.n = e.a), \
      odd (n BIGINT) AS (SELECT e.b FROM even JOIN edge AS e ON even.n = e.a) \
      SELECT 'even' AS kind, n FROM even UNION ALL SELECT 'odd', n FROM odd",
        false,
    ),
    (
        "WITH MUTUALLY RECURSIVE even (n BIGINT) AS (SELECT 1 UNION SELECT e.b FROM odd JOIN edge AS e ON odd.n = e.a), \
      odd (n BIGINT) AS (SELECT DISTINCT e.b FROM even JOIN edge AS e ON even.n = e.a) \
      SELECT even.n FROM even JOIN odd ON even.n = odd.n",
        true,
    ),
    // Shortest paths: an aggregate inside.
    (
        "WITH MUTUALLY RECURSIVE best (n BIGINT, w BIGINT) AS (SELECT n, min(w) FROM \
      (SELECT 1 AS n, 0 AS w UNION ALL SELECT e.b, best.w + e.w FROM best JOIN edge AS e ON best.n = e.a) AS p GROUP BY n) \
      SELECT n, w FROM best",
        true,
    ),
    // A few steps only.
    (
        "WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 3) r (a BIGINT, b BIGINT) AS \
      (SELECT a, b FROM edge UNION ALL SELECT r.a, e.b FROM r JOIN edge AS e ON r.b = e.a) SELECT a, b FROM r",
        true,
    ),
    // Negation inside: positions from which a move leads to a lost one, in graphs without cycles.
    (
        "WITH MUTUALLY RECURSIVE wins (n BIGINT) AS (SELECT DISTINCT a FROM edge AS e WHERE NOT EXISTS (SELECT 1 FROM wins WHERE wins.n = e.b)) \
      SELECT n FROM wins",
        false,
    ),
    // Inside another query, behind a plain one, used twice.
    (
        "SELECT x.n FROM (WITH RECURSIVE start AS (SELECT a FROM edge WHERE w = 1), r (n) AS (SELECT a FROM start UNION SELECT e.b FROM r JOIN edge AS e ON r.n = e.a) \
      SELECT p.n FROM r AS p JOIN r AS q ON p.n = q.n) AS x WHERE x.n > 1",
        true,
    ),
    // A recursion over a recursion.
    (
        "WITH RECURSIVE r AS (SELECT a, b FROM edge UNION SELECT r.a, e.b FROM r JOIN edge AS e ON r.b = e.a), \
      s (n) AS (SELECT a FROM r WHERE a = b UNION SELECT r.b FROM s JOIN r ON s.n = r.a) SELECT n FROM s",
        true,
    ),
];

fn script(random: &mut Random, cycles: bool) -> Script {
    let mut held: Vec<Row> = Vec::new();
    let mut batches = Vec::new();
    for step in 0..random.range(3, 7) as usize {
        let mut rows = Vec::new();
        for _ in 0..random.range(1, 5) {
            if !held.is_empty() && random.chance(40) {
                rows.push((held.swap_remove(random.below(held.len())), -1));
            } else {
                let (from, to) = (random.range(1, 5), random.range(1, 5));
                let (from, to) = if cycles { (from, to) } else { (from.min(to), from.max(to) + 1) };
                let from = if random.chance(5) { Value::Null } else { Value::Int(from) };
                let row: Row = vec![from, Value::Int(to), Value::Int(random.range(1, 4))].into();
                held.push(row.clone());
                rows.push((row, 1));
            }
        }
        batches.push(Batch { step, rows, idle: false });
    }
    let feed = FeedScript { source: "edge".into(), worker: 0, batches, ends_with_rows: random.chance(50) };
    Script { feeds: vec![feed], awaited: random.chance(50), finishes: random.chance(80), restarts: Vec::new() }
}

#[test]
fn recursion_equals_naive_steps() {
    let rounds = std::env::var("HIGHWATER_ORACLE_CASES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    std::thread::scope(|scope| {
        for workers in [1, 2, 4] {
            scope.spawn(move || {
                // Never dropped: its workers may have died.
                let engine = std::mem::ManuallyDrop::new(Engine::start(EngineConfig { workers }).unwrap());
                let mut skipped = 0;
                for (number, (query, cycles)) in QUERIES.into_iter().enumerate() {
                    let sql = format!("{EDGE}CREATE MATERIALIZED VIEW v AS {query};");
                    let job = compiled(&sql).unwrap_or_else(|error| panic!("{query}: {error}"));
                    for round in 0..rounds {
                        let script = script(&mut Random::new(round * 100 + number as u64), cycles);
                        match run(&engine, &job, &script) {
                            Outcome::Right(_) => {}
                            Outcome::Skipped => skipped += 1,
                            Outcome::Wrong(wrong) => panic!("{query} on {workers} workers: {}\n{script}", wrong.fault),
                        }
                    }
                }
                assert!(skipped * 4 < rounds * QUERIES.len() as u64, "{skipped} runs were too large");
            });
        }
    });
}

/// Rows that only hold up each other go.
#[test]
fn a_cycle_does_not_hold_itself_up() {
    let sql = format!(
        "{EDGE}CREATE MATERIALIZED VIEW v AS
         WITH RECURSIVE r (n) AS (SELECT b FROM edge WHERE a = 0 UNION SELECT e.b FROM r JOIN edge AS e ON r.n = e.a WHERE e.a <> 0)
         SELECT n FROM r;"
    );
    let script = "feed edge @0\n 0 + 0 | 1 | 1\n 0 + 1 | 2 | 1\n 0 + 2 | 3 | 1\n 0 + 3 | 1 | 1";
    assert_eq!(last_content(&sql, script), ["+1 1", "+1 2", "+1 3"]);
    let cut = format!("{script}\n 1 - 0 | 1 | 1");
    assert_eq!(last_content(&sql, &cut), Vec::<String>::new());
    check(&sql, &cut);
}

/// Without an end it is an error of the job, not a loop.
#[test]
fn a_recursion_without_end_fails_the_job() {
    for (query, why) in [
        (
            "WITH RECURSIVE n AS (SELECT b AS i FROM edge UNION SELECT i + 1 FROM n) SELECT i FROM n",
            "has not come to an end after 50 steps",
        ),
        (
            "WITH RECURSIVE r AS (SELECT a, b FROM edge UNION ALL SELECT r.a, e.b FROM r JOIN edge AS e ON r.b = e.a) SELECT * FROM r",
            "has not come to an end after 50 steps",
        ),
    ] {
        let sql = format!("SET recursion_limit = 50; {EDGE}CREATE MATERIALIZED VIEW v AS {query};");
        let job = compiled(&sql).unwrap();
        let script = Script::parse("feed edge @0\n 0 + 1 | 1 | 1\n 1 + 1 | 2 | 1", &job).unwrap();
        for workers in [1, 2] {
            let engine = std::mem::ManuallyDrop::new(Engine::start(EngineConfig { workers }).unwrap());
            match run(&engine, &job, &script) {
                Outcome::Wrong(wrong) => assert!(wrong.fault.to_string().contains(why), "{}", wrong.fault),
                other => panic!("{query} came to an end: {other:?}"),
            }
        }
    }
}

/// A row that doubles with every step is noticed before its number wraps around to none.
#[test]
fn a_row_that_multiplies_without_end_fails_the_job() {
    let sql = format!(
        "{EDGE}CREATE MATERIALIZED VIEW v AS
         WITH RECURSIVE r AS (SELECT a, b FROM edge UNION ALL SELECT r.a, e.b FROM r JOIN edge AS e ON r.b = e.a) SELECT * FROM r;"
    );
    let job = compiled(&sql).unwrap();
    let script = Script::parse("feed edge @0\n 0 + 1 | 1 | 1\n 0 + 1 | 1 | 2", &job).unwrap();
    let engine = std::mem::ManuallyDrop::new(Engine::start(EngineConfig { workers: 1 }).unwrap());
    match run(&engine, &job, &script) {
        Outcome::Wrong(wrong) => assert!(wrong.fault.to_string().contains("the same row again"), "{}", wrong.fault),
        other => panic!("it came to an end: {other:?}"),
    }
}
