//! What the random jobs have found once, made small. Each must stay found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::mem::ManuallyDrop;
use std::sync::Arc;

use highwater_engine::{Engine, EngineConfig};
use highwater_oracle::case::{Outcome, check, compiled, last_content, run};
use highwater_oracle::script::Script;

const STREAM: &str = "CREATE SOURCE s (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
    WITH (connector = 'http', format = 'json');";

/// A window's result was taken to have as many rows as its first column, and there was none.
#[test]
fn r01_final_windows_without_keys_and_aggregates() {
    let sql = format!(
        "{STREAM} CREATE MATERIALIZED VIEW v AS
         SELECT window_start, window_end FROM TUMBLE(s, ts, INTERVAL '2' SECOND) GROUP BY window_start, window_end EMIT FINAL;"
    );
    check(&sql, "feed s @0\n 0 + 1 | 500\n 0 + 2 | 5000");
}

/// A plan said that final windows are never corrected; with allowed lateness they are.
#[test]
fn r02_final_windows_with_allowed_lateness_are_corrected() {
    let sql = format!(
        "SET allowed_lateness = '5 s'; {STREAM}
         CREATE MATERIALIZED VIEW v AS SELECT window_end, count(*) AS n, max(k) AS most
         FROM TUMBLE(s, ts, INTERVAL '2' SECOND) GROUP BY window_end EMIT FINAL;
         CREATE MATERIALIZED VIEW w AS SELECT max(n) AS n FROM v;
         CREATE SINK o FROM v WITH (connector = 'stdout');"
    );
    check(&sql, "feed s @0\n 0 + 1 | 500\n 1 + 2 | 4000\n 2 + 3 | 700\n 3 + 4 | 800");
}

/// A column of a union can be NULL if it can be in any branch.
#[test]
fn r03_a_union_is_nullable_where_one_branch_is() {
    let sql = "CREATE TABLE t (k BIGINT, a VARCHAR) WITH (connector = 'http', format = 'changelog');
        CREATE MATERIALIZED VIEW v AS SELECT 'x' AS c FROM t UNION ALL SELECT a AS c FROM t;";
    check(sql, "feed t @0\n 0 + 1 | NULL\n 0 + 2 | 'b'\n 1 - 1 | NULL\n 1 + 1 | NULL\n 1 + 1 | NULL");
}

/// A late row that opens a closed window within the allowed lateness waited for the next move of the watermark.
#[test]
fn r04_a_late_window_is_given_at_once() {
    let sql = format!(
        "SET allowed_lateness = '5 s'; {STREAM}
         CREATE MATERIALIZED VIEW v AS SELECT k, window_end, count(*) AS n
         FROM TUMBLE(s, ts, INTERVAL '1' SECOND) GROUP BY k, window_end EMIT FINAL;"
    );
    check(&sql, "feed s @0\n 0 + 1 | 4000\n 1 + 2 | 1500\n 2 + 3 | 1600\n 3 + 3 | 900");
}

/// Windows that are finer than their time column had their bounds cut off, so that two had the same.
#[test]
fn r05_windows_are_not_finer_than_their_time() {
    let sql = "CREATE SOURCE s (k BIGINT, ts TIMESTAMP(0), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
        WITH (connector = 'http', format = 'json');
        CREATE MATERIALIZED VIEW v AS SELECT window_start, window_end, count(*) AS n
        FROM HOP(s, ts, INTERVAL '500' MILLISECOND, INTERVAL '1500' MILLISECOND) GROUP BY window_start, window_end;";
    if compiled(sql).is_ok() {
        check(sql, "feed s @0\n 0 + 1 | 10\n 0 + 1 | 11");
    }
}

/// The readers of a union saw the type of its first branch, not the common one.
#[test]
fn r06_readers_of_a_union_see_its_type() {
    let sql = "CREATE SOURCE a (k BIGINT, ts TIMESTAMP(3)) WITH (connector = 'http', format = 'json');
        CREATE SOURCE b (k BIGINT, ts TIMESTAMP(6)) WITH (connector = 'http', format = 'json');
        CREATE MATERIALIZED VIEW u AS SELECT ts AS t FROM a UNION ALL SELECT ts AS t FROM b;
        CREATE MATERIALIZED VIEW v AS SELECT min(t) AS first FROM u;";
    check(sql, "feed a @0\n 0 + 1 | 1500\nfeed b @0\n 0 + 1 | 2000000");
}

/// Commands stopped at a worker on which a job had panicked, so the others never heard of the end. The worker lives on now,
/// and so does the engine until it is told to end.
#[test]
fn r07_an_engine_ends_although_a_job_has_panicked() {
    // Any job that panics would do; a feed whose rows are not the source's does for ever.
    let engine = Engine::start(EngineConfig { workers: 3 }).unwrap();
    let sql = format!("{STREAM} CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM s GROUP BY k;");
    let job = compiled(&sql).unwrap();
    let handle = engine.create(panicking::spec(job)).unwrap();
    panicking::wait_for_failure(&engine, &handle);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        engine.shutdown();
        std::mem::forget(engine);
        let _ = sender.send(());
    });
    assert!(receiver.recv_timeout(std::time::Duration::from_secs(10)).is_ok(), "shutdown does not come back");
}

/// `IS [NOT] DISTINCT FROM` took everything up to the closing parenthesis as its right side.
#[test]
fn r08_is_distinct_from_binds_closer_than_and() {
    let sql = "CREATE TABLE t (k BIGINT, ok BOOLEAN) WITH (connector = 'http', format = 'changelog');
        CREATE MATERIALIZED VIEW v AS SELECT k FROM t WHERE ok IS NOT DISTINCT FROM FALSE AND k = 1;";
    assert_eq!(last_content(sql, "feed t @0\n 0 + 1 | false\n 0 + 1 | true\n 0 + 2 | false"), ["+1 1"]);
}

/// Two aggregates that differ by a cast had the same name.
#[test]
fn r09_aggregates_that_differ_by_a_cast() {
    let sql = "CREATE TABLE t (k BIGINT) WITH (connector = 'http', format = 'changelog');
        CREATE MATERIALIZED VIEW v AS SELECT sum(k) AS a, sum(CAST(k AS INT)) AS b FROM t;";
    let script = "feed t @0\n 0 + 1\n 0 + 7\n 1 - 7\n 1 + 5\n 1 + NULL";
    assert_eq!(last_content(sql, script), ["+1 6 | 6"]);
    check(sql, script);
}

/// After columns that nobody reads were left out, the branches of a union had different numbers of columns.
#[test]
fn r10_branches_of_a_union_are_equally_wide() {
    let sql = "CREATE TABLE a (k BIGINT, x VARCHAR) WITH (connector = 'http', format = 'changelog');
        CREATE TABLE b (k BIGINT) WITH (connector = 'http', format = 'changelog');
        CREATE VIEW u AS SELECT upper(x) AS c, k AS d FROM a WHERE x <> 'b' UNION ALL SELECT 'b' AS c, k AS d FROM b;
        CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM u;";
    check(sql, "feed a @0\n 0 + 1 | 'a'\nfeed b @1\n 0 + 1");
}

/// A table that several joins pair with everything, and read no column of, was arranged as rows without a number.
#[test]
fn r12_a_shared_side_of_which_no_column_is_read() {
    let sql = "CREATE TABLE a (k BIGINT) WITH (connector = 'http', format = 'changelog');
        CREATE SOURCE b (k BIGINT) WITH (connector = 'http', format = 'json');
        CREATE VIEW c AS SELECT k, count(*) AS n FROM a GROUP BY k;
        CREATE MATERIALIZED VIEW v AS SELECT b.k AS k FROM c JOIN b ON TRUE;
        CREATE MATERIALIZED VIEW w AS SELECT b.k + 1 AS k FROM c JOIN b ON TRUE;";
    check(sql, "feed a @0\n 0 + 1\n 0 + 2\n 1 - 1\nfeed b @1\n 0 + 7\n 1 + 8");
}

/// A lookup remembered the first column of left rows that have none.
#[test]
fn r13_a_lookup_of_rows_without_columns() {
    let sql = "CREATE TABLE a (k BIGINT) WITH (connector = 'http', format = 'changelog');
        CREATE SOURCE b (k BIGINT) WITH (connector = 'http', format = 'json');
        CREATE MATERIALIZED VIEW v AS SELECT b.k FROM (SELECT k, count(*) AS n FROM a GROUP BY k) AS c
        JOIN b FOR SYSTEM_TIME AS OF PROCTIME() ON b.k > 0;";
    check(sql, "feed a @0\n 0 + 1\n 1 + 2\n 2 - 1\nfeed b @1\n 0 + 7\n 1 + 8");
}

/// A job that ends with its bounded feeds, while others still give, ends on every worker in the same epoch.
#[test]
fn r11_bounded_feeds_end_a_job_while_others_still_give() {
    // Never dropped: its workers may have died, and then a failure would wait for them.
    let engine = ManuallyDrop::new(Engine::start(EngineConfig { workers: 3 }).unwrap());
    let sql = format!("{STREAM} CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM s GROUP BY k;");
    let job = compiled(&sql).unwrap();
    for round in 0..300 {
        let handle = engine.create(endless::spec(Arc::clone(&job))).unwrap();
        assert!(endless::ends(&handle), "round {round}: the job is {:?}", handle.state());
        engine.drop_job(handle.id()).unwrap();
    }
}

mod endless {
    use std::sync::Arc;
    use std::time::Duration;

    use highwater_engine::{
        Delta, Feed, FeedBatch, FeedPoll, FeedSpec, FeedState, JobHandle, JobSpec, JobState, PartitionPosition,
    };
    use highwater_oracle::value::{Row, Value, batch_of};
    use highwater_plan::Job;

    /// Gives a row at every second poll, `left` times.
    struct Rows {
        job: Arc<Job>,
        left: usize,
        bounded: bool,
        pause: bool,
    }

    impl Feed for Rows {
        fn positions(&self) -> Vec<PartitionPosition> {
            Vec::new()
        }

        fn poll(&mut self, _rows_max: usize) -> FeedPoll {
            self.pause = !self.pause;
            if self.pause || self.left == 0 {
                return FeedPoll::Pending(Some(Duration::ZERO));
            }
            self.left -= 1;
            let source = &self.job.sources[0];
            let row: Row = source.used.iter().map(|_| Value::Int(1)).collect();
            let schema = Arc::new(source.schema.project(&source.used).unwrap());
            let deltas = vec![Delta::insert(batch_of(&schema, &[row]).unwrap())];
            let state = if self.bounded && self.left == 0 { FeedState::Finished } else { FeedState::Active(0) };
            FeedPoll::Ready(FeedBatch { deltas, rejects: Vec::new(), state, receipts: Vec::new(), place: Default::default() })
        }
    }

    /// One feed that ends and two that do not, each on its own worker.
    pub(super) fn spec(job: Arc<Job>) -> JobSpec {
        let feed = |worker: usize, bounded: bool| {
            let rows = Rows { job: Arc::clone(&job), left: if bounded { 5 } else { usize::MAX }, bounded, pause: false };
            FeedSpec { source: 0, worker, bounded, feed: Box::new(rows) }
        };
        let feeds = vec![feed(0, true), feed(1, false), feed(2, false)];
        JobSpec {
            name: "endless".into(),
            job,
            feeds,
            sinks: Vec::new(),
            until_end: true,
            checkpoints: false,
            restore: None,
            script: Default::default(),
            recorder: None,
            excerpt: None,
        }
    }

    /// Whether it finishes before long.
    pub(super) fn ends(handle: &JobHandle) -> bool {
        let (sender, receiver) = std::sync::mpsc::channel();
        handle.listen(move |_, _| {
            let _ = sender.send(());
        });
        let mut silent = 0;
        while handle.state() == JobState::Running && silent < 100 {
            silent = if receiver.recv_timeout(Duration::from_millis(100)).is_ok() { 0 } else { silent + 1 };
        }
        handle.state() == JobState::Finished
    }
}

mod panicking {
    use std::sync::Arc;
    use std::time::Duration;

    use highwater_engine::{Engine, Feed, FeedPoll, FeedSpec, JobHandle, JobSpec, JobState, PartitionPosition};
    use highwater_plan::Job;

    struct Panics;

    impl Feed for Panics {
        fn positions(&self) -> Vec<PartitionPosition> {
            Vec::new()
        }

        fn poll(&mut self, _rows_max: usize) -> FeedPoll {
            panic!("this feed panics on purpose");
        }
    }

    /// A job whose feed panics on the first worker.
    pub(super) fn spec(job: Arc<Job>) -> JobSpec {
        let feeds = vec![FeedSpec { source: 0, worker: 0, bounded: false, feed: Box::new(Panics) }];
        JobSpec {
            name: "panics".into(),
            job,
            feeds,
            sinks: Vec::new(),
            until_end: false,
            checkpoints: false,
            restore: None,
            script: Default::default(),
            recorder: None,
            excerpt: None,
        }
    }

    pub(super) fn wait_for_failure(engine: &Engine, handle: &JobHandle) {
        let (sender, receiver) = std::sync::mpsc::channel();
        handle.listen(move |_, state| {
            if matches!(state, JobState::Failed(_)) {
                let _ = sender.send(());
            }
        });
        engine.waker(0)();
        while !matches!(handle.state(), JobState::Failed(_)) {
            let _ = receiver.recv_timeout(Duration::from_millis(100));
        }
        engine.drop_job(handle.id()).expect("only the job has failed");
    }
}

/// Runs are independent of what an engine ran before.
#[test]
fn an_engine_runs_one_job_after_another() {
    let engine = Engine::start(EngineConfig { workers: 2 }).unwrap();
    let sql = format!("{STREAM} CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM s GROUP BY k;");
    let job = compiled(&sql).unwrap();
    let script = Script::parse("feed s @0\n 0 + 1 | 500\n 1 + 1 | 600\nfeed s @1\n 0 + 1 | 500", &job).unwrap();
    for _ in 0..5 {
        assert!(matches!(run(&engine, &job, &script), Outcome::Right(_)));
    }
}

/// A plan said that a session's key and end are unique; what a retraction leaves of one may end where a closed one did.
#[test]
fn what_is_left_of_a_session_may_equal_a_closed_one() {
    let sql = "CREATE TABLE c (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '0' SECOND)
         WITH (connector = 'http', format = 'changelog');
         CREATE MATERIALIZED VIEW v AS SELECT k, window_start, window_end, count(*) AS n
         FROM SESSION(c, ts, k, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end;
         CREATE MATERIALIZED VIEW w AS SELECT * FROM SESSION(c, ts, k, INTERVAL '10' SECOND);";
    check(
        sql,
        "feed c @0\n 0 + 1 | 15000\n 1 + 2 | 25000\n 2 + 2 | 30000\n 3 + 1 | 25000\n 4 + 1 | 15000\n 5 - 1 | 25000\n 6 + 2 | 60000",
    );
}

/// `LAG` over several rows that came together did not renew all that moved behind them.
#[test]
fn r14_rows_behind_copies_move_with_all_of_them() {
    let sql = format!("{STREAM} CREATE MATERIALIZED VIEW v AS SELECT k, LAG(k, 2, k) OVER (ORDER BY ts) AS before FROM s;");
    check(&sql, "feed s @0\n 0 + 2 | 969\n 0 + 3 | 1077\n 0 + 3 | 1114\n 1 + 3 | 1000\n 1 + 3 | 1000\n 1 + 3 | 1000");
}

/// Rows without a time match each other where NULLs are equal; they were let go as if their times were far apart.
#[test]
fn r15_nulls_are_equal_in_times_too() {
    let sql = format!(
        "{STREAM} CREATE MATERIALIZED VIEW v AS SELECT l.k AS a, r.k AS b FROM s AS l FULL JOIN s AS r ON l.ts IS NOT DISTINCT FROM r.ts;
         CREATE MATERIALIZED VIEW w AS SELECT l.k AS a, r.k AS b FROM s AS l JOIN s AS r ON l.ts IS NOT DISTINCT FROM r.ts;"
    );
    let script = "feed s @0\n 0 + 1 | NULL\n 0 + 3 | 500\n 1 + 2 | NULL\n 2 + 4 | 9000";
    let mut both = last_content(&sql, script);
    both.sort();
    assert_eq!(both, ["+1 1 | 1", "+1 1 | 2", "+1 2 | 1", "+1 2 | 2", "+1 3 | 3", "+1 4 | 4"]);
    check(&sql, script);
}

/// That a key of a table ends was remembered for longer if the watermark had passed it already, until it moved again.
#[test]
fn r16_the_end_of_a_key_is_forgotten_in_its_epoch() {
    let sql = "CREATE TABLE p (k BIGINT PRIMARY KEY, x BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
         WITH (connector = 'http', format = 'json');
         CREATE MATERIALIZED VIEW v AS SELECT l.ts, r.x FROM p AS l JOIN p FOR SYSTEM_TIME AS OF l.ts AS r ON l.k = r.k;";
    check(sql, "feed p @0\n 0 + 2 | 0 | 10000\n 1 - 1 | 1 | 5000\n 2 - 1 | 2 | 4000");
    // What is refused of deletions is counted like any other row.
    check(sql, "feed p @0\n 0 - 1 | 0 | NULL\n 1 + 1 | 1 | 9000\n 2 + 2 | 1 | 20000\n 3 - 1 | 2 | 4000");
}

/// Failing rows that are there before the first epoch cannot be seen in changes, but they can be read.
#[test]
fn r17_rows_that_fail_before_the_first_epoch() {
    let sql = format!("{STREAM} CREATE MATERIALIZED VIEW v AS SELECT 1 / n AS c FROM (SELECT count(*) AS n FROM s) AS q;");
    check(&sql, "feed s @0\n 0 /\n 1 + 1 | 500");
}

/// A version on which an expression fails is an error once and for all, and ends the version before it. That its row is
/// deleted took an error back that nobody had, and if the deletion itself failed, the row stayed.
#[test]
fn r18_a_version_that_fails_is_an_error_once() {
    let sql = "CREATE SOURCE s (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'http', format = 'json');
         CREATE TABLE p (k BIGINT PRIMARY KEY, x BIGINT NOT NULL, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
         WITH (connector = 'http', format = 'json');
         CREATE VIEW w AS SELECT k, 12 / x AS y, ts FROM p;
         CREATE MATERIALIZED VIEW v AS SELECT s.k, s.ts, w.y FROM s LEFT JOIN w FOR SYSTEM_TIME AS OF s.ts ON s.k = w.k;";
    let script = "feed p @0\n 0 + 1 | 3 | 1000\n 1 + 1 | 0 | 2000\n 2 + 1 | 4 | 3000\n 3 - 1 | 0 | 4000\n 4 + 2 | 1 | 5000\n\
         feed s @0\n 0 + 1 | 1500\n 0 + 1 | 2500\n 0 + 1 | 3500\n 0 + 1 | 4500\n 5 + 1 | 6000";
    let wanted = ["+1 1 | 1500 | 4", "+1 1 | 2500 | NULL", "+1 1 | 3500 | 3", "+1 1 | 4500 | NULL", "+1 1 | 6000 | NULL"];
    assert_eq!(last_content(sql, script), wanted);
    check(sql, script);
}
