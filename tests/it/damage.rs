//! Checkpoints whose files are flipped, cut and removed: what a job that is to go on from them does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater::{CheckpointConfig, Highwater, JobOptions, RestoreFrom};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::rows::{Row, of_view};
use crate::shop::{World, push, stop};

const JOB: &str = "
    CREATE MATERIALIZED VIEW per_window AS
    SELECT window_start, auction, max(price) AS top FROM TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '2' SECOND)
    GROUP BY window_start, window_end, auction;
    CREATE MATERIALIZED VIEW named AS SELECT i.name, b.price, b.bidder FROM bid b JOIN item i ON b.auction = i.id;
    CREATE SINK out FROM per_window WITH (connector = 'file', path = 'DIR/out.jsonl') EMIT FINAL;
";

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Changes a file; how, for people. `None`: it is as it was.
fn damage(path: &Path, random: &mut StdRng) -> Option<String> {
    let mut bytes = std::fs::read(path).unwrap();
    match random.gen_range(0..5) {
        0 => {
            std::fs::remove_file(path).unwrap();
            Some("removed".into())
        }
        _ if bytes.is_empty() => None,
        1 => {
            let length = random.gen_range(0..bytes.len());
            bytes.truncate(length);
            std::fs::write(path, bytes).unwrap();
            Some(format!("cut to {length} bytes"))
        }
        2 => {
            let (start, length) = (random.gen_range(0..bytes.len()), random.gen_range(1..64));
            let end = bytes.len().min(start + length);
            bytes[start..end].fill(0);
            std::fs::write(path, bytes).unwrap();
            Some(format!("zeros from {start} to {end}"))
        }
        _ => {
            let (at, bit) = (random.gen_range(0..bytes.len()), random.gen_range(0..8));
            bytes[at] ^= 1 << bit;
            std::fs::write(path, bytes).unwrap();
            Some(format!("bit {bit} of byte {at}"))
        }
    }
}

#[test]
fn a_damaged_file_is_named_or_makes_no_difference() {
    let rounds = if std::env::var_os("CI").is_some() { 500 } else { 60 };
    let mut world = World::new();
    world.bid(200);
    let first = world.start(2);
    let sql = world.sql(JOB);
    let job = first.create_job("shop", &sql, JobOptions::default()).unwrap();
    push(&job, "{\"id\":1,\"name\":\"pen\"}\n{\"id\":2,\"name\":\"ink\"}\n");
    world.wait_read(&job);
    first.runtime().savepoint("shop", "kept").unwrap();
    world.bid(50);
    world.wait_read(&job);
    let rows = |job: &highwater::RunningJob| -> Vec<Vec<Row>> {
        let view = |view: &&str| {
            let mut rows = of_view(job, view);
            rows.sort_by_key(|row| serde_json::to_string(row).unwrap());
            rows
        };
        ["per_window", "named"].iter().map(view).collect()
    };
    let expected = rows(&job);
    stop(first, job);

    let (saved, state) = (world.path("saved"), world.path("state"));
    std::fs::rename(&state, &saved).unwrap();
    let mut all = Vec::new();
    files(&saved, &mut all);
    all.sort();
    let mut random = StdRng::seed_from_u64(5);
    let (mut refused, mut sound) = (0, 0);
    for round in 0..rounds {
        copy(&saved, &state);
        let file = all.choose(&mut random).unwrap().strip_prefix(&saved).unwrap();
        let Some(how) = damage(&state.join(file), &mut random) else { continue };
        // A savepoint's is named by the savepoint's name.
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let checkpoints =
            CheckpointConfig { location: state.display().to_string(), interval: Duration::from_secs(60), record: None };
        let mut refuse = |said: String| {
            assert!(said.contains(&name), "round {round}: {name}, {how}: {said}");
            refused += 1;
        };
        let highwater = match Highwater::builder().checkpoints(Some(checkpoints)).start() {
            Ok(highwater) => highwater,
            Err(error) => {
                refuse(error.to_string());
                std::fs::remove_dir_all(&state).unwrap();
                continue;
            }
        };
        let (name_of_job, restore, sql) = match random.gen_bool(0.2) {
            false => ("shop", RestoreFrom::Newest, sql.clone()),
            true => {
                let restore = RestoreFrom::Named { job: Some("shop".into()), name: "kept".into() };
                ("again", restore, sql.replace("out.jsonl", &format!("out{round}.jsonl")))
            }
        };
        match highwater.create_job(name_of_job, &sql, JobOptions { restore, ..JobOptions::default() }) {
            Ok(job) => {
                // From the savepoint what came after it is read again.
                world.wait_read(&job);
                assert_eq!(rows(&job), expected, "round {round}: {name}, {how}");
                sound += 1;
            }
            Err(error) => refuse(error.to_string()),
        }
        highwater.runtime().shutdown();
        std::fs::remove_dir_all(&state).unwrap();
    }
    assert!(refused > rounds / 5 && sound > 0, "{refused} refused, {sound} made no difference");
    eprintln!("{refused} were refused, {sound} made no difference");
}
