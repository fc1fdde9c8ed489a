//! Jobs that are killed, and go on: the command as a process, ended by SIGKILL again and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::{CheckpointConfig, Highwater, JobOptions, RestoreFrom, RunningJob};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// A run that makes no progress for this long has stalled.
const PATIENCE: Duration = Duration::from_secs(180);

/// Aggregates that are taken back, windows that are closed, a join of changing sides, DISTINCT; one sink of rows that stay, one
/// of rows that change.
const JOB: &str = "
    CREATE SOURCE bids (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3),
                        WATERMARK FOR date_time AS date_time)
    WITH (connector = 'nexmark', type = 'bid', events = '150000', rate = 'RATE');
    CREATE MATERIALIZED VIEW totals AS
    SELECT auction % 50 AS a, count(*) AS n, sum(price) AS total, max(price) AS most, count(DISTINCT bidder % 20) AS d
    FROM bids GROUP BY auction % 50;
    CREATE MATERIALIZED VIEW closed AS
    SELECT window_start, auction, count(*) AS n FROM TUMBLE(TABLE bids, DESCRIPTOR(date_time), INTERVAL '2' SECOND)
    GROUP BY window_start, window_end, auction EMIT FINAL;
    CREATE MATERIALIZED VIEW beside AS
    SELECT t.a, t.n, s.n AS next FROM totals t JOIN totals s ON t.a + 1 = s.a;
    CREATE MATERIALIZED VIEW seen AS SELECT DISTINCT bidder % 1000 AS bidder FROM bids;
    CREATE SINK closed_out FROM closed WITH (connector = 'file', path = 'DIR/closed.jsonl');
    CREATE SINK totals_out FROM totals WITH (connector = 'file', path = 'DIR/totals.jsonl');
";

const VIEWS: [&str; 4] = ["totals", "closed", "beside", "seen"];

fn command(directory: &Path, job: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(directory).args(["run", job, "--name", "bids", "--no-http", "--until-end", "--quiet"]).args(arguments);
    for view in VIEWS {
        command.arg("--dump").arg(format!("{view}={view}.dump"));
    }
    command
}

fn write_job(directory: &Path, rate: u64) {
    let sql = JOB.replace("DIR", &directory.display().to_string()).replace("RATE", &rate.to_string());
    std::fs::write(directory.join("job.sql"), sql).unwrap();
}

#[track_caller]
fn check(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// What a sink's lines come to: each row once at most at any time, no epoch after a later one.
fn folded(path: &Path) -> BTreeMap<String, i64> {
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    let mut last = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let mut row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let fields = row.as_object_mut().unwrap();
        let sign = match fields.remove("op").as_ref().and_then(Value::as_str) {
            Some("-") => -1,
            _ => 1,
        };
        let epoch = fields.remove("epoch").and_then(|epoch| epoch.as_u64()).unwrap_or(last);
        assert!(epoch >= last, "epoch {epoch} after {last}");
        last = epoch;
        let count = rows.entry(row.to_string()).or_default();
        *count += sign;
        assert!((0..=1).contains(count), "{count} times {row}");
    }
    rows.retain(|_, count| *count != 0);
    rows
}

fn wait_for(mut child: Child, limit: Duration) -> Option<Output> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if child.try_wait().unwrap().is_some() {
            return Some(child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn lines(path: &Path) -> Vec<String> {
    let mut lines: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_job_that_is_killed_again_and_again_gives_what_it_gives_undisturbed() {
    gives_what_it_gives_undisturbed("state", &[], 12);
}

#[cfg(feature = "cloud")]
#[test]
fn a_job_whose_checkpoints_are_in_a_bucket_is_killed_as_well() {
    let bucket = highwater_broker::Bucket::start();
    let environment = bucket.options().map(|(key, value)| (key.to_uppercase(), value));
    gives_what_it_gives_undisturbed("s3://bucket/some/prefix", &environment, 6);
}

/// Kills a job up to so many times, which keeps its checkpoints there.
fn gives_what_it_gives_undisturbed(location: &str, environment: &[(String, String)], mut left: u32) {
    let (undisturbed, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_job(undisturbed.path(), 10_000_000);
    check(&command(undisturbed.path(), "job.sql", &[]).output().unwrap());

    write_job(killed.path(), 40_000);
    let mut random = StdRng::seed_from_u64(7);
    let (mut kills, started) = (0, Instant::now());
    let said = loop {
        assert!(started.elapsed() < PATIENCE, "{kills} kills");
        let workers = random.gen_range(1..=4).to_string();
        let arguments = ["--checkpoints", location, "--checkpoint-interval", "100ms", "--workers", &workers];
        let mut run = command(killed.path(), "job.sql", &arguments);
        run.envs(environment.iter().map(|(key, value)| (key, value)));
        let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let limit = if left > 0 { Duration::from_millis(random.gen_range(200..1_500)) } else { PATIENCE };
        let Some(output) = wait_for(child, limit) else {
            (kills, left) = (kills + 1, left - 1);
            continue;
        };
        break check(&output);
    };
    assert!(said.contains("restored from the checkpoint of epoch"), "{said}");
    assert!(kills >= 3, "{kills} kills");
    for view in VIEWS {
        let dump = format!("{view}.dump");
        assert_eq!(lines(&killed.path().join(&dump)), lines(&undisturbed.path().join(&dump)), "{view}");
    }
    let (once, again) = (undisturbed.path(), killed.path());
    assert_eq!(lines(&again.join("closed.jsonl")), lines(&once.join("closed.jsonl")));
    assert_eq!(folded(&again.join("totals.jsonl")), folded(&once.join("totals.jsonl")));

    // A job that had finished has nothing more to say.
    let before = std::fs::read_to_string(again.join("totals.jsonl")).unwrap();
    let mut over = command(again, "job.sql", &["--checkpoints", location]);
    check(&over.envs(environment.iter().map(|(key, value)| (key, value))).output().unwrap());
    assert_eq!(std::fs::read_to_string(again.join("totals.jsonl")).unwrap(), before);
    assert_eq!(lines(&again.join("totals.dump")), lines(&once.join("totals.dump")));
}

#[test]
fn another_job_does_not_go_on_from_a_checkpoint_and_a_damaged_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    write_job(directory.path(), 10_000_000);
    let run = |job: &str, more: &[&str]| {
        let arguments = [&["--checkpoints", "state"], more].concat();
        command(directory.path(), job, &arguments).output().unwrap()
    };
    check(&run("job.sql", &[]));

    let text = std::fs::read_to_string(directory.path().join("job.sql")).unwrap();
    std::fs::write(directory.path().join("other.sql"), text.replace("auction % 50", "auction % 40")).unwrap();
    let refused = run("other.sql", &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("another version of job 'bids'") && said.contains("--fresh"), "{said}");
    check(&run("other.sql", &["--fresh"]));

    // Names of columns and the layout of the text are no difference.
    let renamed = text.replace("auction % 50", "auction % 40").replace("SELECT DISTINCT", "SELECT\n  DISTINCT");
    std::fs::write(directory.path().join("other.sql"), renamed).unwrap();
    let said = check(&run("other.sql", &[]));
    assert!(said.contains("restored"), "{said}");

    let data = directory.path().join("state/jobs/bids/data");
    let file = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&file, bytes).unwrap();
    let refused = run("other.sql", &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.contains(&name) && said.contains("is damaged"), "{said}");
}

/// A process that keeps checkpoints below a directory.
fn keeping(directory: &Path, workers: usize) -> Arc<Highwater> {
    let location = directory.join("state").display().to_string();
    let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(50), record: None };
    Highwater::builder().workers(workers).checkpoints(Some(checkpoints)).start().unwrap()
}

const ORDERS: &str = "
    CREATE TABLE orders (id BIGINT PRIMARY KEY, item VARCHAR, n BIGINT) WITH (connector = 'http');
    CREATE MATERIALIZED VIEW sold AS SELECT item, sum(n) AS n FROM orders GROUP BY item;
";

fn push(job: &RunningJob, rows: &str) {
    let (give, given) = std::sync::mpsc::channel();
    let request = highwater_connectors::source::PushRequest {
        format: highwater_connectors::source::PushFormat::Ndjson,
        body: rows.as_bytes().to_vec(),
        idempotency_key: None,
    };
    let receipt = highwater_connectors::source::Receipt(Box::new(move |epoch| give.send(epoch).unwrap()));
    assert_eq!(job.push("orders", request, receipt).unwrap().rejected, 0);
    let epoch = given.recv_timeout(PATIENCE).unwrap();
    assert!(job.wait_closed(epoch, PATIENCE) >= epoch);
}

fn sold(job: &RunningJob) -> Vec<String> {
    let rows = crate::rows::of_view(job, "sold");
    let mut rows: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn a_service_goes_on_with_its_jobs_and_savepoints_stay() {
    let directory = tempfile::tempdir().unwrap();
    let first = keeping(directory.path(), 2);
    let job = first.create_job("shop", ORDERS, JobOptions::default()).unwrap();
    let gone = first.create_job("gone", ORDERS, JobOptions::default()).unwrap();
    push(&gone, r#"{"id":1,"item":"pen","n":1}"#);
    push(&job, "{\"id\":1,\"item\":\"pen\",\"n\":1}\n{\"id\":2,\"item\":\"ink\",\"n\":5}\n");
    let made = first.runtime().savepoint("shop", "early").unwrap();
    assert!(made.epoch.is_some_and(|epoch| epoch > 0) && made.savepoint);
    push(&job, r#"{"id":1,"item":"pen","n":3}"#);
    let now = vec![r#"{"item":"ink","n":5}"#.to_owned(), r#"{"item":"pen","n":3}"#.to_owned()];
    assert_eq!(sold(&job), now);
    assert!(job.settle(PATIENCE) && gone.settle(PATIENCE));
    first.runtime().drop_job("gone").unwrap();
    first.runtime().shutdown();
    drop((first, job, gone));

    let second = keeping(directory.path(), 3);
    let back = second.bring_back().unwrap();
    let names: Vec<&str> = back.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["shop"], "one was dropped");
    let job = second.runtime().job("shop").unwrap();
    assert_eq!(sold(&job), now);
    // Upserts still find the rows that they replace.
    push(&job, r#"{"id":2,"item":"pen","n":2}"#);
    assert_eq!(sold(&job), [r#"{"item":"pen","n":5}"#]);

    // Another job goes on from where this one was, and neither disturbs the other.
    let restore = RestoreFrom::Named { job: Some("shop".into()), name: "early".into() };
    let other = second.create_job("again", ORDERS, JobOptions { restore, ..JobOptions::default() }).unwrap();
    assert_eq!(sold(&other), [r#"{"item":"ink","n":5}"#, r#"{"item":"pen","n":1}"#]);
    push(&other, r#"{"id":1,"item":"ink","n":1}"#);
    assert_eq!(sold(&other), [r#"{"item":"ink","n":6}"#]);
    assert_eq!(sold(&job), [r#"{"item":"pen","n":5}"#]);

    let kept = second.runtime().kept_checkpoints("shop").unwrap();
    assert!(kept.iter().any(|kept| kept.savepoint && kept.name == "early" && kept.problem.is_none()), "{kept:?}");
    let unknown = RestoreFrom::Named { job: Some("shop".into()), name: "late".into() };
    let refused = second.create_job("third", ORDERS, JobOptions { restore: unknown, ..JobOptions::default() });
    assert!(refused.err().unwrap().to_string().contains("has no savepoint `late`"));
    second.runtime().delete_savepoint("shop", "early").unwrap();
    assert!(!second.runtime().kept_checkpoints("shop").unwrap().iter().any(|kept| kept.savepoint));
    second.runtime().shutdown();
}

#[test]
fn several_jobs_come_back_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..7).map(|number| format!("shop-{number}")).collect();
    let first = keeping(directory.path(), 2);
    for (number, name) in names.iter().enumerate() {
        let job = first.create_job(name, ORDERS, JobOptions::default()).unwrap();
        push(&job, &format!(r#"{{"id":1,"item":"pen","n":{number}}}"#));
        assert!(job.settle(PATIENCE));
    }
    first.runtime().shutdown();

    let second = keeping(directory.path(), 2);
    let returning = second.returning().unwrap();
    assert_eq!(returning.names(), names);
    assert_eq!(second.runtime().returning(), names);
    let refused = second.create_job("shop-3", ORDERS, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("is being created, brought back or dropped"), "{refused}");
    returning.bring_back(&|name, job| assert!(job.is_ok(), "{name}: {}", job.err().unwrap()));
    assert!(second.runtime().returning().is_empty());
    for (number, name) in names.iter().enumerate() {
        let job = second.runtime().job(name).unwrap();
        assert_eq!(sold(&job), [format!(r#"{{"item":"pen","n":{number}}}"#)]);
    }
    // They are back: there is nothing to be brought.
    assert!(second.bring_back().unwrap().is_empty());
    second.runtime().shutdown();
}

#[test]
fn one_process_at_a_time_has_a_job() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (keeping(directory.path(), 1), keeping(directory.path(), 1));
    let old = first.create_job("shop", ORDERS, JobOptions::default()).unwrap();
    push(&old, r#"{"id":1,"item":"pen","n":1}"#);
    assert!(old.settle(PATIENCE));
    let new = second.create_job("shop", ORDERS, JobOptions::default()).unwrap();
    assert_eq!(sold(&new), [r#"{"item":"pen","n":1}"#]);
    // The first finds out when it writes its next checkpoint.
    let state = old.wait_over(Some(PATIENCE));
    let highwater_engine::JobState::Failed(reason) = state else { panic!("{state:?}") };
    assert!(reason.contains("has taken job shop over"), "{reason}");
    push(&new, r#"{"id":2,"item":"pen","n":1}"#);
    assert!(new.settle(PATIENCE));
    assert_eq!(sold(&new), [r#"{"item":"pen","n":2}"#]);
}

/// Two joins and two groupings that differ in the names of their columns alone: each has state of its own.
const TWINS: &str = "
    CREATE TABLE orders (id BIGINT PRIMARY KEY, item VARCHAR, n BIGINT) WITH (connector = 'http');
    CREATE MATERIALIZED VIEW sold AS SELECT item, sum(n) AS n FROM orders GROUP BY item;
    CREATE MATERIALIZED VIEW again AS SELECT item AS what, sum(n) AS much FROM orders GROUP BY item;
    CREATE MATERIALIZED VIEW pairs AS SELECT a.id, b.id AS other FROM orders a JOIN orders b ON a.item = b.item;
    CREATE MATERIALIZED VIEW twins AS SELECT a.id AS one, b.id AS two FROM orders a JOIN orders b ON a.item = b.item;
";

#[test]
fn what_differs_in_names_alone_is_restored_apart_and_a_view_that_is_gone_is_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let first = keeping(directory.path(), 2);
    let job = first.create_job("shop", TWINS, JobOptions::default()).unwrap();
    push(&job, "{\"id\":1,\"item\":\"pen\",\"n\":1}\n{\"id\":2,\"item\":\"pen\",\"n\":5}\n");
    assert!(job.settle(PATIENCE));
    first.runtime().shutdown();
    drop((first, job));

    let second = keeping(directory.path(), 3);
    let without = TWINS.lines().filter(|line| !line.contains("VIEW twins")).collect::<Vec<_>>().join("\n");
    let refused = second.create_job("shop", &without, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("gone: view twins"), "{refused}");
    let job = second.create_job("shop", TWINS, JobOptions::default()).unwrap();
    push(&job, r#"{"id":1,"item":"ink","n":3}"#);
    let rows = |view: &str| crate::rows::of_view(&job, view).len();
    assert_eq!(sold(&job), [r#"{"item":"ink","n":3}"#, r#"{"item":"pen","n":5}"#]);
    assert_eq!((rows("again"), rows("pairs"), rows("twins")), (2, 2, 2));
    second.runtime().shutdown();
}

#[test]
fn a_job_that_only_sees_time_pass_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let highwater = keeping(directory.path(), 2);
    let sql = format!(
        "CREATE SOURCE orders (id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at)
         WITH (connector = 'http', idle_timeout = '50ms', max_ahead = 'none');
         CREATE MATERIALIZED VIEW sold AS
         SELECT window_start, count(*) AS n FROM TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' SECOND)
         GROUP BY window_start, window_end;
         CREATE MATERIALIZED VIEW recent AS SELECT count(*) AS n FROM orders WHERE at + INTERVAL '1' SECOND > NOW();
         CREATE SINK out FROM sold WITH (connector = 'file', path = '{}/out.jsonl') EMIT FINAL;",
        directory.path().display()
    );
    let job = highwater.create_job("clock", &sql, JobOptions::default()).unwrap();
    push(&job, "{\"id\":1,\"at\":\"2026-01-01 00:00:00\"}\n{\"id\":2,\"at\":\"2026-01-01 00:00:00.100\"}\n");
    // The window closes by the clock, and its row is published.
    let started = Instant::now();
    while std::fs::read_to_string(directory.path().join("out.jsonl")).map_or(0, |text| text.lines().count()) < 1 {
        assert!(started.elapsed() < PATIENCE, "{:?}", job.problems());
        std::thread::sleep(Duration::from_millis(20));
    }
    let written = || {
        let count = job.checkpoints().unwrap().count;
        (count, job.handle().closed())
    };
    // However long it takes until all is quiet: then there are many intervals without a checkpoint, and epochs go on.
    let quiet = || {
        let before = written();
        std::thread::sleep(Duration::from_secs(2));
        let after = written();
        before.0 == after.0 && before.1 < after.1
    };
    while !quiet() {
        assert!(started.elapsed() < PATIENCE, "{:?}", written());
    }
    highwater.runtime().shutdown();
}
