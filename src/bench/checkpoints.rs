//! `highwater bench checkpoints`: what checkpoints cost, and how long a restore takes.
//!
//! **Cost.** Queries run at full speed over batches that are ready, without checkpoints and with them in turn. Batches are
//! given lap after lap, as events that go on where those before ended, until a run lasts for several checkpoints. A run is
//! compared with the one beside it, because a machine's speed changes from minute to minute, and every other pair is the other way
//! round.
//!
//! **Restore** ([`RestoreBench`]). A job with much state is saved and created again.

mod restore;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_engine::JobState;
use highwater_plan::Job;
use highwater_runtime::{CheckpointConfig, CheckpointInfo, CreateOptions, RunningJob, Runtime, RuntimeConfig};
use serde::Serialize;

pub use self::restore::{DISK_SHARE_MIN, RestoreBench, RestoreResult};
use super::BenchError;
use super::memory::Laps;
use super::nexmark::{Batches, Layout, compile, failed, giving, into_blackhole, prepared_batches, sql, with_source};

/// What checkpoints at an interval may cost, in percent of the events per second.
pub const COST_MAX_PERCENT: f64 = 10.0;

/// Fewer checkpoints in a run say little.
pub const CHECKPOINTS_MIN: f64 = 4.0;

/// Of so many events there is a whole number of each kind, and of ids that are hot.
const EVENTS_STEP: u64 = 5_000;

/// Microseconds of event time from one event to the next.
const EVENT_MICROS: i64 = 100;

/// What to run.
#[derive(Debug, Clone)]
pub struct CheckpointsBench {
    /// Names of queries of [`super::nexmark::NexmarkBench::all`]; empty: [`CheckpointsBench::QUERIES`].
    pub queries: Vec<String>,
    /// Events of a lap; rounded up to a multiple of 5,000.
    pub events: u64,
    /// About how long a run without checkpoints lasts: there are as many laps as that takes.
    pub length: Duration,
    /// Worker threads.
    pub workers: usize,
    /// From one checkpoint to the next.
    pub interval: Duration,
    /// How often each query is run each way; the medians count.
    pub repeats: usize,
    /// The directory in which checkpoints are kept for the time of a run; `None`: the system's for temporary files.
    pub location: Option<PathBuf>,
}

/// What one query came to.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointsResult {
    /// The query.
    pub query: String,
    /// Worker threads.
    pub workers: usize,
    /// Events of a run.
    pub events: u64,
    /// Seconds of a run without checkpoints, from creating the job until its last epoch was closed: the median.
    pub seconds: f64,
    /// Events per second without checkpoints: the median.
    pub without: f64,
    /// Events per second with checkpoints: the median.
    pub with: f64,
    /// The least and the most without.
    pub without_range: (f64, f64),
    /// The least and the most with.
    pub with_range: (f64, f64),
    /// What checkpoints cost, in percent of the events per second without: the median of what they cost in each pair of runs.
    pub cost_percent: f64,
    /// The least and the most that they cost in a pair.
    pub cost_range: (f64, f64),
    /// Checkpoints per run that were durable before its end: the mean.
    pub checkpoints: f64,
    /// Rows that a checkpoint says have changed: the mean.
    pub changed_rows: f64,
    /// Bytes of a checkpoint's changes before compression: the mean.
    pub changed_bytes: f64,
    /// Bytes of a checkpoint's file: the mean.
    pub file_bytes: f64,
    /// Milliseconds from asking for a checkpoint until it was durable: the mean.
    pub took_ms: f64,
    /// The most.
    pub took_ms_max: f64,
}

impl CheckpointsResult {
    /// Bytes of files per byte of changes.
    pub fn bytes_per_byte(&self) -> f64 {
        self.file_bytes / self.changed_bytes.max(1.0)
    }

    /// Milliseconds per million bytes of changes.
    pub fn ms_per_mb(&self) -> f64 {
        self.took_ms / (self.changed_bytes / 1e6).max(1e-6)
    }
}

/// What one run came to.
#[derive(Debug, Default)]
struct Run {
    seconds: f64,
    events: u64,
    taken: Vec<CheckpointInfo>,
}

impl CheckpointsBench {
    /// The queries that are run if none are named.
    pub const QUERIES: [&'static str; 6] = ["q3", "q4", "q5", "q7", "q8", "tumble"];

    /// Runs the queries one after another; `report` is called after each.
    pub fn run(&self, mut report: impl FnMut(&CheckpointsResult)) -> Result<Vec<CheckpointsResult>, BenchError> {
        let names: Vec<&str> = match self.queries.is_empty() {
            true => Self::QUERIES.to_vec(),
            false => self.queries.iter().map(String::as_str).collect(),
        };
        let mut results = Vec::new();
        for name in names {
            let result = self.query(name)?;
            report(&result);
            results.push(result);
        }
        Ok(results)
    }

    fn query(&self, name: &str) -> Result<CheckpointsResult, BenchError> {
        let events = self.events.max(1).next_multiple_of(EVENTS_STEP);
        let text = sql(name, Layout::Streams)?;
        let job = with_source(compile(&text)?, events, None);
        let batches = prepared_batches(&job, self.workers)?;
        let job = into_blackhole(job);
        let query = Query { name, text: &text, job: &job, batches: &batches, events, workers: self.workers };
        let laps = self.laps(&query)?;
        let (mut without, mut with, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for repeat in 0..self.repeats.max(1) {
            if repeat % 2 == 0 {
                without.push(query.run(laps, None)?);
            }
            let directory = Scratch::create(self.location.as_deref())?;
            let run = query.run(laps, Some(directory.config(self.interval)))?;
            drop(directory);
            taken.extend(run.taken.iter().cloned());
            with.push(run);
            if repeat % 2 == 1 {
                without.push(query.run(laps, None)?);
            }
        }
        let runs = with.len() as f64;
        let costs = without.iter().zip(&with).map(|(without, with)| (1.0 - with.speed() / without.speed()) * 100.0);
        let costs = sorted(costs);
        let (without_all, with_all) = (sorted(without.iter().map(Run::speed)), sorted(with.iter().map(Run::speed)));
        let middle = |sorted: &[f64]| sorted[sorted.len() / 2];
        let ends = |sorted: &[f64]| (sorted[0], sorted[sorted.len() - 1]);
        let mean = |of: fn(&CheckpointInfo) -> f64| taken.iter().map(of).sum::<f64>() / taken.len().max(1) as f64;
        let ms = |info: &CheckpointInfo| info.took.as_secs_f64() * 1e3;
        let events = without[0].events;
        Ok(CheckpointsResult {
            query: name.to_owned(),
            workers: self.workers,
            events,
            seconds: events as f64 / middle(&without_all),
            without: middle(&without_all),
            with: middle(&with_all),
            without_range: ends(&without_all),
            with_range: ends(&with_all),
            cost_percent: middle(&costs),
            cost_range: ends(&costs),
            checkpoints: taken.len() as f64 / runs,
            changed_rows: mean(|info| info.rows as f64),
            changed_bytes: mean(|info| info.raw_bytes as f64),
            file_bytes: mean(|info| info.bytes as f64),
            took_ms: mean(|info| info.took.as_secs_f64() * 1e3),
            took_ms_max: taken.iter().map(ms).fold(0.0, f64::max),
        })
    }
}

impl CheckpointsBench {
    /// How many laps take as long as a run is to last: from a run that lasts for a good part of that, for in a short one most of the
    /// time is what it takes to begin.
    fn laps(&self, query: &Query<'_>) -> Result<u64, BenchError> {
        let length = self.length.as_secs_f64();
        let mut laps = 1;
        loop {
            let seconds = query.run(laps, None)?.seconds;
            let wanted = (laps as f64 * length / seconds).ceil().max(1.0) as u64;
            if seconds >= length / 3.0 || wanted <= laps {
                return Ok(wanted);
            }
            laps = wanted;
        }
    }
}

/// A query that is run again and again.
struct Query<'a> {
    name: &'a str,
    text: &'a str,
    job: &'a Job,
    batches: &'a Batches,
    /// Of a lap.
    events: u64,
    workers: usize,
}

impl Query<'_> {
    fn run(&self, laps: u64, checkpoints: Option<CheckpointConfig>) -> Result<Run, BenchError> {
        let name = self.name;
        let scale = (self.events / EVENTS_STEP) as i64;
        let laps = Laps { count: laps, micros: self.events as i64 * EVENT_MICROS, growth, scale };
        let registry = giving(self.batches.clone(), laps);
        let runtime = Runtime::start(RuntimeConfig { workers: self.workers, registry, checkpoints }).map_err(failed)?;
        let options = CreateOptions { until_end: true, ..CreateOptions::default() };
        let job = self.job.clone();
        let started = Instant::now();
        let running = runtime.create(name, self.text, job, options).map_err(failed)?;
        let mut run = Run::default();
        // The job goes on until its last checkpoint is durable; what is timed is its events.
        while running.handle().state() == JobState::Running && running.state() == JobState::Running {
            std::thread::sleep(LOOK);
            run.look(&running);
        }
        run.seconds = started.elapsed().as_secs_f64();
        let rows = running.handle().stats().sources.iter().map(|source| source.rows.load(Ordering::Relaxed));
        run.events = rows.sum();
        let state = running.wait_over(None);
        runtime.shutdown();
        if state != JobState::Finished {
            return Err(BenchError(format!("query {name} did not finish: {state:?}")));
        }
        Ok(run)
    }
}

/// By how many ids grow while [`EVENTS_STEP`] events pass: of 50 events, one is a person and three are auctions.
fn growth(source: &str, column: &str) -> i64 {
    match (source, column) {
        ("person", "id") | ("auction", "seller") | ("bid", "bidder") => 100,
        ("auction", "id") | ("bid", "auction") => 300,
        _ => 0,
    }
}

/// Time between two looks at a running job.
const LOOK: Duration = Duration::from_millis(2);

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

impl Run {
    /// Events per second.
    fn speed(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    fn look(&mut self, running: &RunningJob) {
        let Some(info) = running.checkpoints() else { return };
        if info.count > self.taken.last().map_or(0, |last| last.count) {
            self.taken.push(info);
        }
    }
}

/// A directory of this run's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn create(location: Option<&Path>) -> Result<Self, BenchError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let parent = location.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("highwater-bench-{}-{number}", std::process::id()));
        let created = std::fs::create_dir_all(&parent).and_then(|()| std::fs::create_dir(&path));
        created.map_err(|error| BenchError(format!("cannot create {}: {error}", path.display())))?;
        Ok(Scratch(path))
    }

    fn config(&self, interval: Duration) -> CheckpointConfig {
        CheckpointConfig { location: self.0.display().to_string(), interval, record: None }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
