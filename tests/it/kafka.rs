//! From Kafka to Kafka over a real broker, with the command as a process that is killed.

mod formats;
mod mocked;
mod repeated;
mod secure;
mod started;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use highwater::{CheckpointConfig, Highwater, JobOptions, RestoreFrom, RunningJob};
use highwater_broker::Broker;
use highwater_engine::JobState;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// A run that makes no progress for this long has stalled.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many messages, and how often the job that reads them is killed; in CI more of both.
fn size() -> (u64, u32) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let messages = number("HIGHWATER_KAFKA_MESSAGES").unwrap_or(60_000);
    (messages, number("HIGHWATER_KAFKA_KILLS").unwrap_or(8) as u32)
}

fn highwater(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(directory).arg("run").args(arguments).args(["--no-http", "--until-end", "--quiet"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end; what it said.
#[track_caller]
fn finish(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Runs for so long at most, counted from when `begun` holds; whether it had to be killed.
#[track_caller]
fn killed_after(mut command: Command, begun: impl Fn() -> bool, limit: Duration) -> bool {
    let mut child: Child = command.spawn().unwrap();
    let mut started = None;
    while started.is_none_or(|started: Instant| started.elapsed() < limit) {
        if started.is_none() && begun() {
            started = Some(Instant::now());
        }
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            assert!(status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// The bids of the Nexmark stream, written to a topic by a job of ours.
fn fill(directory: &Path, brokers: &str, topic: &str, messages: u64) {
    let sql = format!(
        "CREATE SOURCE bids (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3))
         WITH (connector = 'nexmark', type = 'bid', events = '{messages}');
         CREATE SINK out AS SELECT auction, bidder, price, date_time FROM bids
         WITH (connector = 'kafka', brokers = '{brokers}', topic = '{topic}', delivery = 'at_least_once');"
    );
    std::fs::write(directory.join("fill.sql"), sql).unwrap();
    finish(highwater(directory, &["fill.sql"]));
}

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW windows AS
    SELECT window_start, auction % 20 AS a, count(*) AS n, sum(price) AS total
    FROM TUMBLE(TABLE bids, DESCRIPTOR(date_time), INTERVAL '1' SECOND) GROUP BY window_start, window_end, auction % 20;
    CREATE MATERIALIZED VIEW people AS SELECT DISTINCT bidder % 200 AS bidder FROM bids;
    CREATE MATERIALIZED VIEW totals AS SELECT bidder % 200 AS bidder, count(*) AS n, max(price) AS most FROM bids GROUP BY bidder % 200;
    CREATE MATERIALIZED VIEW joined AS SELECT p.bidder, t.n, t.most FROM people p JOIN totals t ON p.bidder = t.bidder;
";

/// Fills a topic of bids, dumps what [`VIEWS`] of it are when read at once without sinks (`*.once`), and leaves the text of the job
/// that writes their changes to topics (`job.sql`). All topics end in `suffix`.
fn prepare(directory: &Path, broker: &Broker, delivery: &str, suffix: &str, messages: u64) {
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let bids = format!("bids{suffix}");
    tools.create_topic(&bids, 3);
    fill(directory, &brokers, &bids, messages);
    let source = |more: &str| {
        format!(
            "CREATE SOURCE bids (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3),
                                 WATERMARK FOR date_time AS date_time - INTERVAL '1' MINUTE)
             WITH (connector = 'kafka', brokers = '{brokers}', topic = '{bids}', until_end = 'true'{more});"
        )
    };
    std::fs::write(directory.join("once.sql"), source("") + VIEWS).unwrap();
    finish(highwater(directory, &["once.sql", "--dump", "windows=windows.once", "--dump", "joined=joined.once"]));
    let mut sinks = String::new();
    for view in ["windows", "joined"] {
        tools.create_topic(&format!("{view}{suffix}"), 1);
        sinks += &format!(
            "CREATE SINK {view}_out FROM {view} WITH (connector = 'kafka', brokers = '{brokers}', topic = '{view}{suffix}',
             format = 'changelog', delivery = '{delivery}');"
        );
    }
    // Small epochs make a run long enough to be killed in, on however fast a machine.
    let slow = format!(", epoch_rows_max = '{}'", (messages / 4_000).max(5));
    std::fs::write(directory.join("job.sql"), source(&slow) + VIEWS + &sinks).unwrap();
}

/// What a topic of changes comes to. Each row is there once at most at any time, and no epoch comes after a later one: with
/// one partition, any duplicate or gap shows.
fn folded(lines: &[String]) -> BTreeMap<String, i64> {
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    let mut last = 0;
    for line in lines {
        let mut row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let fields = row.as_object_mut().unwrap();
        let sign = if fields.remove("op").unwrap() == "-" { -1 } else { 1 };
        let epoch = fields.remove("epoch").unwrap().as_u64().unwrap();
        assert!(epoch >= last, "epoch {epoch} after {last}");
        last = epoch;
        let count = rows.entry(row.to_string()).or_default();
        *count += sign;
        assert!((0..=1).contains(count), "{count} times {row}");
    }
    rows.retain(|_, count| *count != 0);
    rows
}

#[test]
fn from_kafka_to_kafka_exactly_once_through_kills() {
    let broker = Broker::shared();
    let tools = broker.tools();
    let folder = tempfile::tempdir().unwrap();
    let (messages, kills_wanted) = size();
    prepare(folder.path(), broker, "exactly_once", "", messages);
    let mut random = StdRng::seed_from_u64(11);
    let (mut kills, mut midway, started) = (0, 0, Instant::now());
    let newest = || {
        let text = std::fs::read_to_string(folder.path().join("state/jobs/job/newest")).unwrap_or_default();
        text.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    loop {
        assert!(started.elapsed() < PATIENCE * 10, "{kills} kills");
        let workers = random.gen_range(1..=3).to_string();
        let arguments =
            ["job.sql", "--name", "job", "--checkpoints", "state", "--checkpoint-interval", "100ms", "--workers", &workers];
        let before = newest();
        // Every second one is killed at any time, the others soon after a checkpoint, on however slow a machine.
        let any_time = kills % 2 == 0;
        let limit = match any_time {
            _ if kills >= kills_wanted => PATIENCE,
            true => Duration::from_millis(random.gen_range(300..2_500)),
            false => Duration::from_millis(random.gen_range(0..300)),
        };
        let begun = || any_time || kills >= kills_wanted || newest() > before + 1;
        if !killed_after(highwater(folder.path(), &arguments), begun, limit) {
            break;
        }
        kills += 1;
        // One number is its claim.
        midway += u32::from(newest() > before + 1);
    }
    assert!(midway > 0, "of {kills} kills none came between two checkpoints");
    // It had finished; going on from there gives the views, and nothing new to anybody.
    let dumps = ["--dump", "windows=windows.dump", "--dump", "joined=joined.dump"];
    let said =
        finish(highwater(folder.path(), &[&["job.sql", "--name", "job", "--checkpoints", "state"][..], &dumps[..]].concat()));
    assert!(said.contains("restored"), "{said}");
    for view in ["windows", "joined"] {
        let read = |file: String| {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let once = read(format!("{view}.once"));
        assert_eq!(read(format!("{view}.dump")), once, "{view}");
        let rows = folded(&tools.read_committed(view));
        let once: BTreeMap<String, i64> =
            once.iter().map(|line| (serde_json::from_str::<Value>(line).unwrap().to_string(), 1)).collect();
        assert_eq!(rows, once, "{view} after {kills} kills");
    }
    eprintln!("{messages} events, {kills} kills, {midway} of them after a checkpoint");
}

/// How long the broker is away; in CI as long as a careless restart takes.
fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("CI").is_some() { 60 } else { 5 })
}

#[test]
fn an_outage_more_partitions_and_a_topic_that_is_deleted_lose_nothing() {
    let mut broker = Broker::start();
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let folder = tempfile::tempdir().unwrap();
    tools.create_topic("visits", 2);
    tools.create_topic("counts", 1);
    let location = folder.path().join("state").display().to_string();
    let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(100), record: None };
    let start = || Highwater::builder().workers(2).checkpoints(Some(checkpoints.clone())).start().unwrap();
    let sql = format!(
        "CREATE SOURCE visits (page VARCHAR, n BIGINT)
         WITH (connector = 'kafka', brokers = '{brokers}', topic = 'visits', discovery_interval = '300ms');
         CREATE MATERIALIZED VIEW counts AS SELECT page, count(*) AS visits, sum(n) AS total FROM visits GROUP BY page;
         CREATE SINK counts_out FROM counts WITH (connector = 'kafka', brokers = '{brokers}', topic = 'counts', format = 'changelog',
         delivery = 'exactly_once');"
    );
    let highwater = start();
    let job = highwater.create_job("visits", &sql, JobOptions::default()).unwrap();
    let visits = |job: &RunningJob| -> u64 {
        let rows = crate::rows::of_view(job, "counts");
        rows.iter().map(|row| row["visits"].as_u64().unwrap()).sum()
    };
    let mut sent = 0;
    let mut send = |count: u64| {
        let line = |number: u64| format!("{{\"page\":\"p{}\",\"n\":{number}}}\n", number % 7);
        tools.write("visits", &(sent..sent + count).map(line).collect::<String>());
        sent += count;
        sent
    };
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "{what}: {:?} {:?}", job.state(), job.problems());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let all = send(500);
    wait("read", &|| visits(&job) == all);

    broker.stop();
    wait("told", &|| job.problems().iter().any(|problem| problem.contains("visits")));
    std::thread::sleep(outage());
    assert_eq!(job.state(), JobState::Running, "an outage is no end");
    assert_eq!(visits(&job), all, "what was read is served meanwhile");
    broker.restart();
    let all = send(500);
    wait("read after the outage", &|| visits(&job) == all);

    tools.set_partitions("visits", 5);
    wait("partitions", &|| job.sources()[0].partitions.len() == 5);
    let all = send(500);
    wait("read of all partitions", &|| visits(&job) == all);
    assert!(job.settle(PATIENCE), "{:?}", job.problems());
    let lines = |job: &RunningJob| -> BTreeMap<String, i64> {
        let rows = crate::rows::of_view(job, "counts");
        rows.iter().map(|row| (serde_json::to_value(row).unwrap().to_string(), 1)).collect()
    };
    assert_eq!(folded(&tools.read_committed("counts")), lines(&job));

    // A topic that is gone ends the job, which says so; what it came to stays, and is what a later start finds.
    let before = lines(&job);
    tools.delete_topic("visits");
    let JobState::Failed(reason) = job.wait_over(Some(PATIENCE)) else { panic!("{:?}", job.state()) };
    assert!(reason.contains("visits"), "{reason}");
    assert_eq!(lines(&job), before);
    highwater.runtime().shutdown();
    drop((job, highwater));
    let highwater = start();
    let refused = highwater.create_job("visits", &sql, JobOptions::default()).err().unwrap().to_string();
    assert!(refused.contains("topic 'visits'"), "{refused}");
    highwater.runtime().shutdown();
}

#[test]
fn a_second_version_reads_from_the_beginning_while_the_first_goes_on() {
    let broker = Broker::shared();
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let folder = tempfile::tempdir().unwrap();
    tools.create_topic("orders", 2);
    let location = folder.path().join("state").display().to_string();
    let checkpoints = Some(CheckpointConfig { location, interval: Duration::from_millis(100), record: None });
    let highwater = Highwater::builder().workers(2).checkpoints(checkpoints).start().unwrap();
    let version = |number: u32, aggregate: &str| {
        tools.create_topic(&format!("totals{number}"), 1);
        format!(
            "CREATE SOURCE orders (item VARCHAR, n BIGINT)
             WITH (connector = 'kafka', brokers = '{brokers}', topic = 'orders', start = 'earliest');
             CREATE MATERIALIZED VIEW totals AS SELECT item, {aggregate} AS total FROM orders GROUP BY item;
             CREATE SINK out FROM totals WITH (connector = 'kafka', brokers = '{brokers}', topic = 'totals{number}',
             format = 'changelog', delivery = 'exactly_once');"
        )
    };
    let send = |from: u64, count: u64| {
        let line = |number: u64| format!("{{\"item\":\"i{}\",\"n\":{number}}}\n", number % 5);
        tools.write("orders", &(from..from + count).map(line).collect::<String>());
    };
    let total =
        |job: &RunningJob| -> u64 { crate::rows::of_view(job, "totals").iter().map(|row| row["total"].as_u64().unwrap()).sum() };
    let wait = |job: &RunningJob, wanted: u64| {
        let started = Instant::now();
        while total(job) != wanted {
            assert!(started.elapsed() < PATIENCE, "{} of {wanted}: {:?}", total(job), job.problems());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    send(0, 300);
    let first = highwater.create_job("orders", &version(1, "sum(n)"), JobOptions::default()).unwrap();
    wait(&first, (0..300).sum());
    let second = highwater.create_job("orders-2", &version(2, "count(*)"), JobOptions::default()).unwrap();
    wait(&second, 300);
    send(300, 100);
    wait(&first, (0..400).sum());
    wait(&second, 400);
    assert!(first.settle(PATIENCE) && second.settle(PATIENCE));
    highwater.runtime().drop_job("orders").unwrap();
    for (number, job) in [(1, &first), (2, &second)] {
        let rows = folded(&tools.read_committed(&format!("totals{number}")));
        assert_eq!(rows.len(), 5, "{rows:?}");
        assert_eq!(job.problems(), Vec::<String>::new());
    }

    // A third one is the second, changed: it takes over what is equal and reads the topic once more for the rest.
    assert!(second.settle(PATIENCE));
    highwater.runtime().savepoint("orders-2", "before").unwrap();
    let restore = RestoreFrom::Named { job: Some("orders-2".into()), name: "before".into() };
    let more =
        version(3, "count(*)") + "CREATE MATERIALIZED VIEW least AS SELECT item, min(n) AS least FROM orders GROUP BY item;";
    let options = JobOptions { restore, upgrade: true, ..JobOptions::default() };
    let third = highwater.create_job("orders-3", &more, options).unwrap();
    let report = third.upgrade().unwrap();
    let from = |what: &str| report.rebuilt.iter().find(|part| part.what == what).and_then(|part| part.from.clone());
    assert_eq!(from("view least").as_deref(), Some("source orders, read again from its start"));
    let least: BTreeMap<String, u64> = crate::rows::of_view(&third, "least")
        .iter()
        .map(|row| (row["item"].as_str().unwrap().to_owned(), row["least"].as_u64().unwrap()))
        .collect();
    assert_eq!(least.into_values().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    send(400, 50);
    wait(&third, 450);
    highwater.runtime().shutdown();
}
