//! From Kafka to Kafka over a real broker, with the command as a process that is killed.

mod formats;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use highwater_broker::Broker;
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
    let (brokers, tools) = (broker.bootstrap(), broker.tools());
    let folder = tempfile::tempdir().unwrap();
    let (messages, kills_wanted) = size();
    tools.create_topic("bids", 3);
    fill(folder.path(), &brokers, "bids", messages);

    let source = |start: &str| {
        format!(
            "CREATE SOURCE bids (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3),
                                 WATERMARK FOR date_time AS date_time - INTERVAL '1' MINUTE)
             WITH (connector = 'kafka', brokers = '{brokers}', topic = 'bids', until_end = 'true'{start});"
        )
    };
    // What the same rows give at once, without sinks.
    std::fs::write(folder.path().join("once.sql"), source("") + VIEWS).unwrap();
    finish(highwater(folder.path(), &["once.sql", "--dump", "windows=windows.once", "--dump", "joined=joined.once"]));

    let mut sinks = String::new();
    for view in ["windows", "joined"] {
        tools.create_topic(view, 1);
        sinks += &format!(
            "CREATE SINK {view}_out FROM {view} WITH (connector = 'kafka', brokers = '{brokers}', topic = '{view}',
             format = 'changelog', delivery = 'exactly_once');"
        );
    }
    // Small epochs make a run long enough to be killed in, on however fast a machine.
    let slow = format!(", epoch_rows_max = '{}'", (messages / 4_000).max(5));
    std::fs::write(folder.path().join("job.sql"), source(&slow) + VIEWS + &sinks).unwrap();
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
