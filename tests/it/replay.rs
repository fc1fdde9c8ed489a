//! Epochs that were recorded, run again: the same rows at the same epochs, on any number of workers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::{CheckpointConfig, Highwater, JobOptions, ReplayOptions, RunningJob, ScriptOptions};
use highwater_connectors::format::encode;
use highwater_connectors::source::{PushFormat, PushRequest, Receipt};
use serde_json::Value;

/// A run that makes no progress for this long has stalled.
const PATIENCE: Duration = Duration::from_secs(180);

/// Windows that rows are late for, an outer join, windows of the clock, a view that is given at intervals, and a source that
/// becomes idle: what comes of these hangs on when rows were read.
const JOB: &str = "
    CREATE SOURCE readings (sensor BIGINT, value BIGINT, at TIMESTAMP(3), p AS PROCTIME(),
                            WATERMARK FOR at AS at - INTERVAL '2' SECOND)
    WITH (connector = 'file', path = 'DIR/in/readings-*.jsonl', follow = 'true', idle_timeout = '50 ms', epoch_rows_max = '20');
    CREATE SOURCE names (sensor BIGINT, name VARCHAR) WITH (connector = 'file', path = 'DIR/in/names.jsonl', follow = 'true');
    CREATE MATERIALIZED VIEW closed AS
    SELECT window_start, sensor, count(*) AS n, sum(value) AS total
    FROM TUMBLE(TABLE readings, DESCRIPTOR(at), INTERVAL '5' SECOND) GROUP BY window_start, window_end, sensor EMIT FINAL;
    CREATE MATERIALIZED VIEW counted AS SELECT sensor, count(*) AS windows, sum(n) AS n FROM closed GROUP BY sensor;
    CREATE MATERIALIZED VIEW named AS
    SELECT r.sensor, n.name, count(*) AS n, sum(r.value) AS total
    FROM readings r LEFT JOIN names n ON r.sensor = n.sensor GROUP BY r.sensor, n.name;
    CREATE MATERIALIZED VIEW ticked AS
    SELECT window_start, count(*) AS n FROM TUMBLE(TABLE readings, DESCRIPTOR(p), INTERVAL '1' SECOND)
    GROUP BY window_start, window_end;
    CREATE MATERIALIZED VIEW held AS SELECT sensor % 2 AS odd, count(*) AS n FROM readings GROUP BY sensor % 2
    EMIT EVERY INTERVAL '1' SECOND;
    CREATE SINK closed_out FROM closed WITH (connector = 'file', path = 'DIR/closed_out.jsonl');
    CREATE SINK counted_out FROM counted WITH (connector = 'file', path = 'DIR/counted_out.jsonl');
    CREATE SINK named_out FROM named WITH (connector = 'file', path = 'DIR/named_out.jsonl');
    CREATE SINK ticked_out FROM ticked WITH (connector = 'file', path = 'DIR/ticked_out.jsonl');
    CREATE SINK held_out FROM held WITH (connector = 'file', path = 'DIR/held_out.jsonl');
";

/// Sinks whose lines have epochs.
const CHANGING: [&str; 4] = ["counted_out", "named_out", "ticked_out", "held_out"];

fn highwater(directory: &Path, workers: usize) -> Arc<Highwater> {
    let location = directory.join("state").display().to_string();
    let record = Some(Duration::from_secs(3_600));
    let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(100), record };
    Highwater::builder().workers(workers).checkpoints(Some(checkpoints)).start().unwrap()
}

fn append(directory: &Path, file: &str, lines: impl Iterator<Item = String>) {
    let path = directory.join("in").join(file);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(lines.map(|line| line + "\n").collect::<String>().as_bytes()).unwrap();
}

/// Twenty readings from second `from` on, of which some are far behind the others.
fn readings(from: i64, count: i64) -> impl Iterator<Item = String> {
    (0..count).map(move |number| {
        let second = if number % 7 == 3 { (from - 20).max(0) } else { from + number % 6 };
        let sensor = number % 5;
        format!(
            r#"{{"sensor": {sensor}, "value": {}, "at": "2024-05-01 12:{:02}:{:02}"}}"#,
            from + number,
            second / 60,
            second % 60
        )
    })
}

#[track_caller]
fn wait_for_rows(job: &RunningJob, rows: u64) {
    let started = Instant::now();
    let read = || job.sources().iter().flat_map(|source| &source.partitions).map(|partition| partition.rows).sum::<u64>();
    while read() < rows {
        assert!(started.elapsed() < PATIENCE, "{} of {rows}; the job is {:?}: {:?}", read(), job.state(), job.problems());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a sink, sorted within their epochs; those of these epochs if they say theirs.
fn lines(path: &Path, (first, last): (u64, u64)) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines: Vec<(u64, String)> = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let epoch = row["epoch"].as_u64().unwrap();
        lines.extend((first <= epoch && epoch <= last).then(|| (epoch, row.to_string())));
    }
    lines.sort_unstable();
    lines
}

fn view(job: &RunningJob, name: &str) -> Vec<String> {
    let read = job.read_view(name, None, PATIENCE, &[], None).unwrap();
    let mut text = Vec::new();
    read.batches.iter().for_each(|batch| encode::ndjson(batch, &mut text).unwrap());
    let mut lines: Vec<String> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn recorded_epochs_give_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    std::fs::create_dir(directory.join("in")).unwrap();
    let sql = JOB.replace("DIR", &directory.display().to_string());
    std::fs::write(directory.join("job.sql"), &sql).unwrap();
    append(directory, "names.jsonl", (0..3).map(|sensor| format!(r#"{{"sensor": {sensor}, "name": "s{sensor}"}}"#)));
    append(directory, "readings-0.jsonl", readings(0, 40));
    append(directory, "readings-1.jsonl", readings(3, 40));

    let first = highwater(directory, 2);
    let job = first.create_job("job", &sql, JobOptions::default()).unwrap();
    let (mut rows, mut saved) = (83, 0);
    wait_for_rows(&job, rows);
    for round in 0..12 {
        append(directory, &format!("readings-{}.jsonl", round % 2), readings(10 + round * 4, 50));
        rows += 50;
        wait_for_rows(&job, rows);
        if round == 5 {
            assert!(job.settle(PATIENCE));
            saved = first.runtime().savepoint("job", "middle").unwrap().epoch.unwrap();
            append(directory, "names.jsonl", std::iter::once(r#"{"sensor": 3, "name": "s3"}"#.to_owned()));
            rows += 1;
        }
        // Meanwhile sources become idle, and watermarks go on.
        std::thread::sleep(Duration::from_millis(120));
    }
    // Held back until the next interval.
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(job.settle(PATIENCE));
    let last = job.checkpoints().unwrap().epoch.unwrap();
    let late = view(&job, "readings$late").len();
    assert!(late > 0, "no row was late, so that nothing shows that replays know which are");
    let in_between = lines(&directory.join("named_out.jsonl"), (saved + 1, last))[0].0;

    for (workers, from, base) in [(1, 1, 0), (3, 1, 0), (1, in_between, saved), (3, in_between, saved)] {
        let again = highwater(directory, workers);
        let into = directory.join(format!("again-{workers}-{base}"));
        let (first, _) = bounds(&again, &sql);
        let from = from.max(first);
        let options = ReplayOptions { from, to: Some(last), into: Some(into.clone()) };
        // The first run is still going on.
        let replayed = again.replay_job("job", &sql, &options).unwrap();
        assert!(replayed.wait(PATIENCE).unwrap());
        assert_eq!((replayed.base, replayed.epochs.1), (base, last));
        for sink in CHANGING {
            let (once, again) = (directory.join(format!("{sink}.jsonl")), into.join(format!("{sink}.jsonl")));
            let once = lines(&once, (from, last));
            assert!(once.len() > 2, "{sink} had nothing to say");
            assert_eq!(lines(&again, (0, u64::MAX)), once, "{sink} on {workers} workers from {from}");
        }
        if base == 0 {
            // Rows that stay have no epoch.
            let sorted = |path: &Path, strip: bool| {
                let mut rows: Vec<String> = Vec::new();
                for line in std::fs::read_to_string(path).unwrap().lines() {
                    let mut row: Value = serde_json::from_str(line).unwrap();
                    if strip {
                        let fields = row.as_object_mut().unwrap();
                        assert_eq!(fields.remove("op").unwrap(), "+");
                        fields.remove("epoch").unwrap();
                    }
                    rows.push(row.to_string());
                }
                rows.sort_unstable();
                rows
            };
            let (once, again) =
                (sorted(&directory.join("closed_out.jsonl"), false), sorted(&into.join("closed_out.jsonl"), true));
            // The first run goes on, and closes more windows meanwhile.
            let mut left = once.iter();
            assert!(again.iter().all(|row| left.any(|known| known == row)), "{again:?} is not in {once:?}");
            let windows = folded(&directory.join("counted_out.jsonl"), last).into_keys().map(|row| {
                let row: Value = serde_json::from_str(&row).unwrap();
                row["windows"].as_u64().unwrap()
            });
            assert_eq!(windows.sum::<u64>(), again.len() as u64);
        }
        assert_eq!(view(&replayed.job, "readings$late").len(), late, "on {workers} workers from {from}");
        again.runtime().end_replay(&replayed);
    }
    drop(job);
    drop(first);

    // The command says the same, and what it has when it has not what is asked for.
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(directory).args(["run", "job.sql", "--name", "job", "--checkpoints", "state"]);
        let output = command.args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let newest = || std::fs::read_to_string(directory.join("state/jobs/job/newest")).unwrap();
    let before = newest();
    let (from, to) = (in_between.to_string(), last.to_string());
    let more = ["--from-epoch", &from, "--to-epoch", &to, "--replay-into", "said", "--dump", "named=named.dump"];
    let (code, said) = command(&more);
    assert_eq!(code, Some(0), "{said}");
    for sink in CHANGING {
        let once = lines(&directory.join(format!("{sink}.jsonl")), (in_between, last));
        assert_eq!(lines(&directory.join("said").join(format!("{sink}.jsonl")), (0, u64::MAX)), once, "{sink}");
    }
    let dumped: BTreeMap<String, i64> = folded(&directory.join("named_out.jsonl"), last);
    assert_eq!(std::fs::read_to_string(directory.join("named.dump")).unwrap().lines().count(), dumped.len());
    let (code, said) = command(&more);
    assert!(code == Some(1) && said.contains("_out.jsonl exists: choose another directory"), "{said}");
    let (code, said) = command(&["--from-epoch", "17"]);
    assert!(code == Some(1) && said.contains("are recorded, and 17 is not among them"), "{said}");
    assert_eq!(newest(), before, "a replay changes nothing of what is saved");
}

/// Pushes a row; the epoch that it is in.
fn push(job: &RunningJob, number: u64) -> u64 {
    let (give, given) = std::sync::mpsc::channel();
    let body = format!(r#"{{"number": {number}}}"#).into_bytes();
    let request = PushRequest { format: PushFormat::Ndjson, body, idempotency_key: None };
    job.push("rows", request, Receipt(Box::new(move |epoch| give.send(epoch).unwrap()))).unwrap();
    given.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_restart_puts_what_no_checkpoint_has_into_the_epochs_that_it_was_in() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let sql = format!(
        "CREATE SOURCE rows (number BIGINT) WITH (connector = 'http');
         CREATE MATERIALIZED VIEW counted AS SELECT number, count(*) AS n FROM rows GROUP BY number;
         CREATE SINK out FROM counted WITH (connector = 'file', path = '{}');",
        directory.join("out.jsonl").display()
    );
    let start = |workers: usize| {
        let location = directory.join("state").display().to_string();
        // Only the first checkpoint is taken without being asked for.
        let (interval, record) = (Duration::from_secs(3_600), Some(Duration::from_secs(3_600)));
        let checkpoints = CheckpointConfig { location, interval, record };
        let highwater = Highwater::builder().workers(workers).checkpoints(Some(checkpoints)).start().unwrap();
        let job = highwater.create_job("job", &sql, JobOptions::default()).unwrap();
        (job, highwater)
    };
    let mut epochs: Vec<(u64, u64)> = Vec::new();
    for (workers, numbers) in [(2, 0..40), (1, 40..60), (3, 60..61)] {
        let (job, highwater) = start(workers);
        for number in numbers {
            epochs.push((push(&job, number), number));
        }
        // All of it is recorded; none of it is in a checkpoint.
        job.wait_closed(epochs[epochs.len() - 1].0, PATIENCE);
        drop(job);
        drop(highwater);
    }
    let (job, _highwater) = start(2);
    let last = epochs[epochs.len() - 1].0;
    assert!(job.wait_closed(last, PATIENCE) >= last, "{:?}", job.state());
    assert!(job.settle(PATIENCE));
    let said: Vec<(u64, u64)> = lines(&directory.join("out.jsonl"), (0, u64::MAX))
        .iter()
        .map(|(epoch, line)| (*epoch, serde_json::from_str::<Value>(line).unwrap()["number"].as_u64().unwrap()))
        .collect();
    assert_eq!(said, epochs);
}

const PUSHED: &str = "
    CREATE SOURCE rows (number BIGINT, good BIGINT) WITH (connector = 'http');
    CREATE TABLE goods (id BIGINT PRIMARY KEY, name VARCHAR) WITH (connector = 'http', readable = 'true');
    CREATE MATERIALIZED VIEW named AS
    SELECT g.name, count(*) AS n, sum(r.number) AS total FROM rows r LEFT JOIN goods g ON r.good = g.id GROUP BY g.name;
    CREATE SINK out FROM named WITH (connector = 'file', path = 'DIR/out.jsonl');
";

/// Pushes a few rows of which one is none, and changes a table by a body and by statements; the last epoch of these.
fn push_round(highwater: &Highwater, job: &RunningJob, round: u64) -> u64 {
    let mut epoch = 0;
    for number in round * 10..round * 10 + 5 {
        let body = format!("{{\"number\": {number}, \"good\": {}}}\n{{\"number\": \"x\"}}\n", number % 4);
        let good = format!("{{\"id\": {}, \"name\": \"g{}\"}}\n", number % 4, number % 6);
        for (source, body) in [("rows", body), ("goods", good)] {
            let (give, given) = std::sync::mpsc::channel();
            let request = PushRequest { format: PushFormat::Ndjson, body: body.into_bytes(), idempotency_key: None };
            job.push(source, request, Receipt(Box::new(move |epoch| give.send(epoch).unwrap()))).unwrap();
            epoch = given.recv_timeout(PATIENCE).unwrap();
        }
    }
    assert!(job.wait_closed(epoch, PATIENCE) >= epoch);
    let statement = format!("UPDATE goods SET name = 'u{round}' WHERE id = 1; DELETE FROM goods WHERE id = 2;");
    let options = ScriptOptions { job: None, min_epoch: None, timeout: PATIENCE, rows_max: 10 };
    highwater.run_script(&statement, &options).unwrap();
    assert!(job.settle(PATIENCE));
    job.checkpoints().unwrap().epoch.unwrap()
}

#[test]
fn rows_that_were_pushed_are_in_the_epochs_that_they_were_in() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let sql = PUSHED.replace("DIR", &directory.display().to_string());
    let mut saved = 0;
    for (round, workers) in [2, 1, 3].into_iter().enumerate() {
        let highwater = highwater(directory, workers);
        let job = highwater.create_job("job", &sql, JobOptions::default()).unwrap();
        push_round(&highwater, &job, 2 * round as u64);
        if round == 1 {
            saved = highwater.runtime().savepoint("job", "middle").unwrap().epoch.unwrap();
        }
        push_round(&highwater, &job, 2 * round as u64 + 1);
    }
    let first = highwater(directory, 2);
    let job = first.create_job("job", &sql, JobOptions::default()).unwrap();
    let last = push_round(&first, &job, 6);
    let rejected = view(&job, "rows$rejects");
    assert_eq!(rejected.len(), 35);

    // The job goes on meanwhile.
    let replay = |workers: usize, from: u64, into: &str| {
        let again = highwater(directory, workers);
        let options = ReplayOptions { from, to: Some(last), into: Some(directory.join(into)) };
        let replayed = again.replay_job("job", &sql, &options).unwrap();
        push_round(&first, &job, 7);
        let done = replayed.wait(PATIENCE);
        let rejects = done.is_ok().then(|| view(&replayed.job, "rows$rejects"));
        again.runtime().end_replay(&replayed);
        done.map(|done| (done, replayed.base, rejects))
    };
    let begin = bounds(&first, &sql).0;
    let once = lines(&directory.join("out.jsonl"), (0, last));
    for (workers, from, base) in [(1, begin, 0), (3, begin, 0), (1, saved + 1, saved), (2, saved + 1, saved)] {
        let into = format!("again-{workers}-{base}");
        assert_eq!(replay(workers, from, &into), Ok((true, base, Some(rejected.clone()))));
        let once: Vec<_> = once.iter().filter(|(epoch, _)| *epoch >= from).cloned().collect();
        assert!(once.len() > 10, "{once:?}");
        assert_eq!(lines(&directory.join(into).join("out.jsonl"), (0, u64::MAX)), once, "on {workers} workers from {from}");
    }

    // What is no longer kept is said, and what is kept can be had.
    let run = std::fs::read_dir(directory.join("state/pushed/job")).unwrap().next().unwrap().unwrap().path();
    let files = || std::fs::read_dir(run.join("rows")).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = files().filter(|path| path.extension().is_some_and(|extension| extension == "saved")).collect();
    kept.sort_unstable();
    assert_eq!(kept.len(), 3, "a file for each start before this one: {kept:?}");
    std::fs::remove_file(&kept[0]).unwrap();
    let said = replay(2, begin, "gone").unwrap_err();
    assert!(said.contains("source 'rows'") && said.contains("rows after body 0 are no longer kept (the next is body "), "{said}");
    assert_eq!(replay(2, saved + 1, "kept"), Ok((true, saved, Some(rejected))));
}

/// The first and the last epoch that is recorded, as an error says them.
fn bounds(highwater: &Highwater, sql: &str) -> (u64, u64) {
    let options = ReplayOptions { from: 1, to: None, into: None };
    let Err(error) = highwater.replay_job("job", sql, &options) else { panic!("epoch 1 was long ago") };
    let said = error.to_string();
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.trim_end_matches(',').parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// What a sink's lines come to as of an epoch.
fn folded(path: &Path, last: u64) -> BTreeMap<String, i64> {
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    for (_, line) in lines(path, (0, last)) {
        let mut row: Value = serde_json::from_str(&line).unwrap();
        let fields = row.as_object_mut().unwrap();
        let sign = if fields.remove("op").unwrap() == "-" { -1 } else { 1 };
        fields.remove("epoch").unwrap();
        *rows.entry(row.to_string()).or_default() += sign;
    }
    rows.retain(|_, count| *count != 0);
    rows
}

#[test]
fn a_source_that_is_added_again_has_nothing_of_what_it_was_before() {
    let folder = tempfile::tempdir().unwrap();
    let view = |source: &str| {
        format!(
            "CREATE SOURCE {source} (number BIGINT) WITH (connector = 'http');
             CREATE MATERIALIZED VIEW of_{source} AS SELECT number, count(*) AS n FROM {source} GROUP BY number;"
        )
    };
    let both = view("rows") + &view("others");
    let run = |sql: &str, number: Option<u64>| {
        let highwater = highwater(folder.path(), 2);
        let job = highwater.create_job("job", sql, JobOptions { upgrade: true, ..JobOptions::default() }).unwrap();
        if let Some(number) = number {
            let epoch = push(&job, number);
            assert!(job.wait_closed(epoch, PATIENCE) >= epoch && job.settle(PATIENCE));
        }
        assert!(job.settle(PATIENCE));
        if sql.contains("of_rows") { self::view(&job, "of_rows") } else { Vec::new() }
    };
    assert_eq!(run(&both, Some(7)).len(), 1);
    assert!(run(&view("others"), None).is_empty());
    assert_eq!(run(&both, None), Vec::<String>::new());
    // It is the same as long as it is there.
    assert_eq!(run(&both, Some(8)).len(), 1);
    assert_eq!(run(&both, None).len(), 1);
}
