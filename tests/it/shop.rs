//! A small shop for jobs that are saved and go on: a file of bids that grows, a table that is pushed to, files that sinks write.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use highwater::{CheckpointConfig, Highwater, JobOptions, RunningJob};

use crate::rows::{difference, of_ndjson, of_view};

/// What makes no progress for this long has stalled.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Where a job's files are: what it reads, its checkpoints, what it writes.
pub(crate) struct World {
    directory: tempfile::TempDir,
    bids: &'static str,
    lines: usize,
}

impl World {
    pub(crate) fn new() -> World {
        let world = World { directory: tempfile::tempdir().unwrap(), bids: "bids.jsonl", lines: 0 };
        std::fs::write(world.path("bids.jsonl"), "").unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// From now on bids go to another file, from the first on, and are read from there.
    pub(crate) fn bid_elsewhere(&mut self, file: &'static str) {
        (self.bids, self.lines) = (file, 0);
        std::fs::write(self.path(file), "").unwrap();
    }

    /// Bids of the next so many half seconds, some of them late for windows of two seconds.
    pub(crate) fn bid(&mut self, count: usize) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path(self.bids)).unwrap();
        for number in self.lines..self.lines + count {
            let at = if number % 7 == 3 { number.saturating_sub(4) } else { number };
            let (auction, bidder, price) = (number % 5, number * 31 % 17, number * 7919 % 1000);
            let (seconds, millis) = (at / 2 % 60, at % 2 * 500);
            let minutes = at / 120;
            writeln!(
                file,
                r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"at":"2026-01-01T00:{minutes:02}:{seconds:02}.{millis:03}"}}"#
            )
            .unwrap();
        }
        self.lines += count;
    }

    pub(crate) fn sql(&self, views: &str) -> String {
        let (directory, bids) = (self.directory.path().display(), self.bids);
        format!(
            "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
                                WATERMARK FOR at AS at - INTERVAL '2' SECOND)
             WITH (connector = 'file', path = '{directory}/{bids}', follow = 'true');
             CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR) WITH (connector = 'http');
             {views}"
        )
        .replace("DIR", &directory.to_string())
    }

    pub(crate) fn start(&self, workers: usize) -> Arc<Highwater> {
        let location = self.path("state").display().to_string();
        let checkpoints = CheckpointConfig { location, interval: Duration::from_millis(50), record: None };
        Highwater::builder().workers(workers).checkpoints(Some(checkpoints)).start().unwrap()
    }

    /// What a job of these views gives if it is started on what was bid and has these items.
    pub(crate) fn anew(&self, views: &str, items: &str) -> (Arc<Highwater>, Arc<RunningJob>) {
        let highwater = Highwater::builder().workers(2).start().unwrap();
        let sql = self.sql(views).replace("_out.jsonl", "_anew.jsonl");
        let job = highwater.create_job("anew", &sql, JobOptions::default()).unwrap();
        push(&job, items);
        self.wait_read(&job);
        (highwater, job)
    }

    pub(crate) fn wait_read(&self, job: &RunningJob) {
        let size = std::fs::metadata(self.path(self.bids)).unwrap().len();
        let started = Instant::now();
        let read = || {
            let sources = job.sources();
            let offset = sources.iter().find(|source| source.name == "bid").unwrap().partitions[0].offset.clone();
            offset.is_some_and(|offset| offset.starts_with(&format!("byte {size} ")))
        };
        while !read() {
            assert!(started.elapsed() < PATIENCE, "{:?}", job.state());
            std::thread::sleep(Duration::from_millis(5));
        }
        let opened = job.handle().stats().epoch_opened.load(Ordering::Acquire);
        assert!(job.wait_closed(opened, PATIENCE) >= opened, "{:?} {:?}", job.state(), job.problems());
    }
}

pub(crate) fn push(job: &RunningJob, rows: &str) {
    let (give, given) = std::sync::mpsc::channel();
    let format = highwater_connectors::source::PushFormat::Ndjson;
    let request = highwater_connectors::source::PushRequest { format, body: rows.as_bytes().to_vec(), idempotency_key: None };
    let receipt = highwater_connectors::source::Receipt(Box::new(move |epoch| give.send(epoch).unwrap()));
    assert_eq!(job.push("item", request, receipt).unwrap().rejected, 0);
    let epoch = given.recv_timeout(PATIENCE).unwrap();
    assert!(job.wait_closed(epoch, PATIENCE) >= epoch);
}

#[track_caller]
pub(crate) fn assert_equal(views: &[&str], job: &RunningJob, anew: &RunningJob) {
    for view in views {
        let differs = difference(&of_view(anew, view), &of_view(job, view));
        assert!(differs.is_empty(), "{view}: {differs}");
    }
}

pub(crate) fn stop(highwater: Arc<Highwater>, job: Arc<RunningJob>) {
    assert!(job.settle(PATIENCE), "{:?}", job.problems());
    highwater.runtime().shutdown();
}

/// What a sink's lines come to, with how often.
pub(crate) fn written(path: &Path) -> Vec<(String, i64)> {
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    for mut row in of_ndjson(&std::fs::read_to_string(path).unwrap()) {
        let sign = if row.remove("op") == Some("-".into()) { -1 } else { 1 };
        row.remove("epoch");
        *rows.entry(serde_json::to_string(&row).unwrap()).or_default() += sign;
    }
    rows.into_iter().filter(|(_, count)| *count != 0).collect()
}
