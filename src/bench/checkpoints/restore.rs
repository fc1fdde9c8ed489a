//! How long it takes until a job with much state is there again.
//!
//! A job keeps a table of orders, joins it with customers, counts per customer and shows the largest orders: state of an
//! upserted table, of both sides of a join, of groups, and of views. Some orders are changed after they were saved. Then the job
//! is created again and again from its last checkpoint, on each number of workers, and each time its files are read from the
//! disk: before that, and before it is measured how fast the disk gives them, the system forgets what it has of them in memory.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;

use super::Scratch;
use crate::bench::fed::FedJob;
use crate::bench::memory::Prepared;
use crate::bench::{BenchError, process};

const JOB: &str = "CREATE TABLE customers (id BIGINT PRIMARY KEY, region VARCHAR) WITH (connector = 'http');
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT, amount BIGINT, note VARCHAR, address VARCHAR) WITH (connector = 'http');
CREATE MATERIALIZED VIEW customers_orders AS
SELECT customer, COUNT(*) AS orders, SUM(amount) AS revenue, MAX(amount) AS largest FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW revenue AS
SELECT region, note, COUNT(*) AS orders, SUM(amount) AS revenue
FROM orders JOIN customers ON orders.customer = customers.id
GROUP BY region, note;
CREATE MATERIALIZED VIEW largest AS
SELECT id, customer, amount, address FROM orders WHERE amount >= 999000;";

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Orders that are given before the job has to have taken them.
const STEP_ROWS: usize = 64 * BATCH_ROWS;

/// Orders per customer.
const ORDERS: usize = 4;

/// How many files the changes are in.
const INCREMENTS: usize = 4;

/// How often it is looked whether files have been folded, and after what time again.
const FOLDS_MAX: usize = 10_000;
const FOLD_LOOK: Duration = Duration::from_millis(50);

/// Of so many orders one is changed once all are saved.
const CHANGED: usize = 20;

/// What an order comes to in columns of state besides its address, about.
const ORDER_BYTES: u64 = 112;

/// Bytes that are read at a time to tell how fast the disk is.
const READ_BYTES: usize = 1 << 20;

/// From this share of the speed of the disk on, a restore is as fast as it should be.
pub const DISK_SHARE_MIN: f64 = 0.5;

/// What to run.
#[derive(Debug, Clone)]
pub struct RestoreBench {
    /// About how much the job keeps, in bytes of columns.
    pub state_bytes: u64,
    /// Length of an order's address, which does not compress well.
    pub address_bytes: usize,
    /// Numbers of worker threads.
    pub workers: Vec<usize>,
    /// How often the job is restored; the median counts.
    pub repeats: usize,
    /// From one checkpoint to the next while the job is loaded.
    pub interval: Duration,
    /// As in [`super::CheckpointsBench`].
    pub location: Option<PathBuf>,
}

/// Restoring on one number of workers.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreResult {
    /// Worker threads.
    pub workers: usize,
    /// Orders that the job keeps.
    pub rows: usize,
    /// What the job was given back, in bytes of columns: each row once, and uncompressed.
    pub state_bytes: u64,
    /// What operators need for it, as they count.
    pub memory_bytes: u64,
    /// Bytes of the files that the checkpoint needs.
    pub file_bytes: u64,
    /// Seconds from creating the job until its views were readable: the median.
    pub seconds: f64,
    /// Seconds that the processors spent on it, all together: the median.
    pub cpu_seconds: f64,
    /// Bytes of state per second: the median.
    pub state_bytes_per_second: f64,
    /// Bytes of files per second: the median.
    pub file_bytes_per_second: f64,
    /// How fast one thread reads the same files, one after the other, from the disk: the median.
    pub disk_bytes_per_second: f64,
    /// The same if the system lets go of what was read, as restores have it do, and need not find memory for all of it.
    pub disk_once_bytes_per_second: f64,
    /// Resident set that restoring added at its peak, in bytes: the most.
    pub peak_bytes_added: u64,
}

impl RestoreResult {
    /// Bytes of state per second as a part of what the disk reads.
    pub fn disk_share(&self) -> f64 {
        self.state_bytes_per_second / self.disk_bytes_per_second
    }
}

impl RestoreBench {
    /// Loads and saves a job once, and restores it on each number of workers; `report` is called after each.
    pub fn run(&self, mut report: impl FnMut(&RestoreResult)) -> Result<Vec<RestoreResult>, BenchError> {
        let directory = Scratch::create(self.location.as_deref())?;
        let rows = (self.state_bytes / (ORDER_BYTES + self.address_bytes as u64)).max(1) as usize;
        let file_bytes = self.load(rows, &directory)?;
        let mut results = Vec::new();
        for &workers in &self.workers {
            let result = self.restore(workers, rows, file_bytes, &directory)?;
            report(&result);
            results.push(result);
        }
        Ok(results)
    }

    /// Gives the bytes of the files that the last checkpoint needs.
    fn load(&self, rows: usize, directory: &Scratch) -> Result<u64, BenchError> {
        // Its rows are kept in as many pieces: who has fewer workers, by a divisor, has no more to cut either.
        let workers = self.workers.iter().copied().max().unwrap_or(1);
        let job = FedJob::create_kept(JOB, workers, Some(directory.config(self.interval)))?;
        let customers = rows.div_ceil(ORDERS);
        let all: Vec<usize> = (0..customers).collect();
        job.give(all.chunks(BATCH_ROWS).map(|ids| ("customers", customer_batch(ids))))?;
        for start in (0..rows).step_by(STEP_ROWS) {
            let ids: Vec<usize> = (start..rows.min(start + STEP_ROWS)).collect();
            job.give(ids.chunks(BATCH_ROWS).map(|ids| ("orders", self.order_batch(ids, customers, 0))))?;
        }
        // As in a job that has run for a while: files have been folded, and what changed since is in several more.
        let (mut most, mut left) = (0, FOLDS_MAX);
        while most <= file_bytes(&job)? {
            most = most.max(file_bytes(&job)?);
            job.give([("orders", self.order_batch(&[0], customers, left))].into_iter())?;
            saved(&job)?;
            left = left.checked_sub(1).ok_or_else(|| BenchError("the job's files are not folded".into()))?;
            std::thread::sleep(FOLD_LOOK);
        }
        let changed: Vec<usize> = (0..rows).step_by(CHANGED).collect();
        for changed in changed.chunks(changed.len().div_ceil(INCREMENTS)) {
            job.give(changed.chunks(BATCH_ROWS).map(|ids| ("orders", self.order_batch(ids, customers, 1))))?;
            saved(&job)?;
        }
        let bytes = file_bytes(&job)?;
        job.shutdown();
        Ok(bytes)
    }

    fn restore(&self, workers: usize, rows: usize, file_bytes: u64, directory: &Scratch) -> Result<RestoreResult, BenchError> {
        let (mut times, mut cpu_times, mut speeds, mut speeds_once) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut state_bytes, mut memory_bytes, mut peak_bytes_added) = (0, 0, 0);
        let unreadable = |error| BenchError(format!("cannot read the checkpoint: {error}"));
        for _ in 0..self.repeats.max(1) {
            let files = files(&directory.0).map_err(unreadable)?;
            files.iter().try_for_each(|file| forget(file)).map_err(unreadable)?;
            speeds.push(read_speed(&files, false).map_err(unreadable)?);
            files.iter().try_for_each(|file| forget(file)).map_err(unreadable)?;
            speeds_once.push(read_speed(&files, true).map_err(unreadable)?);
            files.iter().try_for_each(|file| forget(file)).map_err(unreadable)?;
            // What the job before this one had is given back to the system by whoever needs memory next. Nobody who comes back has that to
            // do, so another job does it.
            FedJob::create(JOB, workers)?.shutdown();
            process::reset_peak();
            let before = process::resident_bytes();
            let (started, cpu_before) = (Instant::now(), process::cpu_seconds());
            // None is due while this is timed.
            let job = FedJob::create_kept(JOB, workers, Some(directory.config(Duration::from_secs(3_600))))?;
            let info = job.job().checkpoints().unwrap_or_default();
            let restored = info.restored.ok_or_else(|| BenchError("the job was not restored".into()))?;
            let closed = job.job().wait_closed(restored + 1, Duration::from_secs(3_600));
            times.push(started.elapsed().as_secs_f64());
            cpu_times.push(process::cpu_seconds() - cpu_before);
            peak_bytes_added = peak_bytes_added.max(process::peak_bytes().saturating_sub(before));
            if closed <= restored {
                return Err(BenchError(format!("the job did not go on: {:?}", job.job().state())));
            }
            let found = job.rows("customers_orders")?;
            if found != rows.div_ceil(ORDERS) {
                return Err(BenchError(format!("the restored view has {found} rows instead of {}", rows.div_ceil(ORDERS))));
            }
            let operators = job.stats().operators();
            memory_bytes = operators.iter().map(|operator| operator.state_bytes.load(Ordering::Relaxed)).sum();
            state_bytes = info.restored_bytes;
            job.shutdown();
        }
        let (seconds, disk_bytes_per_second) = (median(times), median(speeds));
        Ok(RestoreResult {
            workers,
            rows,
            state_bytes,
            memory_bytes,
            file_bytes,
            seconds,
            cpu_seconds: median(cpu_times),
            state_bytes_per_second: state_bytes as f64 / seconds,
            file_bytes_per_second: file_bytes as f64 / seconds,
            disk_bytes_per_second,
            disk_once_bytes_per_second: median(speeds_once),
            peak_bytes_added,
        })
    }

    /// Made-up orders, a function of their number and of how often they were changed.
    fn order_batch(&self, ids: &[usize], customers: usize, turn: usize) -> Prepared {
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("paid by card {}", id % 16))));
        let addresses: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| self.address(*id))));
        let columns = [
            ("id", ints(ids, |id| id)),
            ("customer", ints(ids, |id| id.wrapping_mul(7_919) % customers)),
            ("amount", ints(ids, |id| (id.wrapping_mul(0x9e37_79b9) >> 7).wrapping_add(turn * 31) % 1_000_000)),
            ("note", notes),
            ("address", addresses),
        ];
        Prepared::insert(RecordBatch::try_from_iter(columns).expect("columns of one length"))
    }

    fn address(&self, id: usize) -> String {
        let mut random = SmallRng::seed_from_u64(id as u64);
        (0..self.address_bytes).map(|_| char::from(b'a' + (random.next_u32() % 26) as u8)).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes of the files of the job's last checkpoint.
fn file_bytes(job: &FedJob) -> Result<u64, BenchError> {
    let info = job.job().checkpoints().ok_or_else(|| BenchError("the job has no checkpoints".into()))?;
    Ok(info.total_bytes)
}

fn saved(job: &FedJob) -> Result<(), BenchError> {
    match job.job().settle(Duration::from_secs(3_600)) {
        true => Ok(()),
        false => Err(BenchError(format!("the job was not saved: {}", job.job().problems().join("; ")))),
    }
}

/// The files below a directory.
fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    Ok(files)
}

/// Has the system forget what it has of a file in memory.
fn forget(file: &Path) -> std::io::Result<()> {
    let file = File::open(file)?;
    file.sync_all()?;
    forget_from(&file, 0, None)
}

/// Where the system cannot be asked to, files are read from its memory. `bytes`: how many, if not all.
fn forget_from(file: &File, offset: u64, bytes: Option<NonZeroU64>) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(file, offset, bytes, rustix::fs::Advice::DontNeed)?;
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, bytes);
    Ok(())
}

/// Bytes per second of reading files, one after the other; `once`: what was read is let go of.
fn read_speed(files: &[PathBuf], once: bool) -> std::io::Result<f64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    let started = Instant::now();
    for file in files {
        let mut file = File::open(file)?;
        let mut at = 0;
        while let Some(read) = NonZeroU64::new(file.read(&mut buffer)? as u64) {
            if once {
                forget_from(&file, at, Some(read))?;
            }
            at += read.get();
        }
        bytes += at;
    }
    Ok(bytes as f64 / started.elapsed().as_secs_f64().max(1e-9))
}

fn ints(ids: &[usize], of: impl Fn(usize) -> usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| of(*id) as i64)))
}

fn customer_batch(ids: &[usize]) -> Prepared {
    let regions: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("region {}", id % 8))));
    Prepared::insert(
        RecordBatch::try_from_iter([("id", ints(ids, |id| id)), ("region", regions)]).expect("columns of one length"),
    )
}
