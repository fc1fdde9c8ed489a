//! `highwater bench recompute`: what it saves to apply a change rather than to compute everything again.
//!
//! A view joins orders with customers and aggregates per region. After N orders are loaded, 1, 10 and 1,000 of them are
//! changed (same key, another amount), and the time is taken until the view shows it. Beside it stands the time that a
//! fresh job takes from N orders to the same view.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde::Serialize;

use super::BenchError;
use super::fed::FedJob;
use super::memory::Prepared;

const JOB: &str = "CREATE TABLE customers (id BIGINT PRIMARY KEY, region VARCHAR) WITH (connector = 'http');
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT, amount BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW revenue AS
SELECT region, COUNT(*) AS orders, SUM(amount) AS revenue, MAX(amount) AS largest
FROM orders JOIN customers ON orders.customer = customers.id
GROUP BY region;";

const REGIONS: [&str; 8] = ["north", "south", "east", "west", "alps", "coast", "lakes", "isles"];

/// What to run.
#[derive(Debug, Clone)]
pub struct RecomputeBench {
    /// How many orders are loaded; one result per size.
    pub sizes: Vec<usize>,
    /// How many are changed at once.
    pub changes: Vec<usize>,
    /// How often each change is timed; the median counts.
    pub repeats: usize,
    /// Worker threads.
    pub workers: usize,
}

impl Default for RecomputeBench {
    fn default() -> Self {
        RecomputeBench { sizes: vec![10_000, 100_000, 1_000_000], changes: vec![1, 10, 1_000], repeats: 21, workers: 1 }
    }
}

/// One size and number of changes.
#[derive(Debug, Clone, Serialize)]
pub struct RecomputeResult {
    /// Orders loaded.
    pub rows: usize,
    /// Orders changed at once.
    pub changed: usize,
    /// Median microseconds until the view shows the change.
    pub update_us: f64,
    /// Microseconds for a fresh job to compute the view from all orders (median of three).
    pub recompute_us: f64,
    /// How many times faster the update is.
    pub ratio: f64,
}

impl RecomputeBench {
    /// Runs all sizes; `report` is called after each result.
    pub fn run(&self, mut report: impl FnMut(&RecomputeResult)) -> Result<Vec<RecomputeResult>, BenchError> {
        let mut results = Vec::new();
        for &rows in &self.sizes {
            let orders = Orders { rows, customers: (rows / 10).max(1) };
            let recompute = median((0..3).map(|_| orders.compute(self.workers)).collect::<Result<_, _>>()?);
            let job = FedJob::create(JOB, self.workers)?;
            job.give(orders.batches().into_iter())?;
            for &changed in &self.changes {
                let changed = changed.min(rows);
                let times = (0..self.repeats).map(|turn| orders.change(&job, turn, changed)).collect::<Result<_, _>>()?;
                let update = median(times);
                let result = RecomputeResult {
                    rows,
                    changed,
                    update_us: update.as_secs_f64() * 1e6,
                    recompute_us: recompute.as_secs_f64() * 1e6,
                    ratio: recompute.as_secs_f64() / update.as_secs_f64(),
                };
                report(&result);
                results.push(result);
            }
            job.shutdown();
        }
        Ok(results)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Made-up orders, a function of their number.
struct Orders {
    rows: usize,
    customers: usize,
}

impl Orders {
    fn batch(&self, ids: impl Iterator<Item = usize> + Clone, turn: usize) -> Prepared {
        let ints = |value: &dyn Fn(usize) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(ids.clone().map(value))) };
        let columns = [
            ("id", ints(&|id| id as i64)),
            ("customer", ints(&|id| (id % self.customers) as i64)),
            ("amount", ints(&|id| ((id * 7_919 + turn * 31) % 10_000) as i64)),
        ];
        Prepared::insert(RecordBatch::try_from_iter(columns).expect("columns of one length"))
    }

    fn customer_batch(&self) -> Prepared {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..self.customers as i64));
        let regions: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..self.customers).map(|id| REGIONS[id % REGIONS.len()])));
        Prepared::insert(RecordBatch::try_from_iter([("id", ids), ("region", regions)]).expect("columns of one length"))
    }

    /// The time from creating a job until its view holds all orders.
    fn compute(&self, workers: usize) -> Result<Duration, BenchError> {
        let batches = self.batches();
        let started = Instant::now();
        let job = FedJob::create(JOB, workers)?;
        job.give(batches.into_iter())?;
        let took = started.elapsed();
        job.shutdown();
        Ok(took)
    }

    /// Everything that is loaded, by source.
    fn batches(&self) -> Vec<(&'static str, Prepared)> {
        let starts = (0..self.rows).step_by(8_192);
        let orders = starts.map(|start| ("orders", self.batch(start..(start + 8_192).min(self.rows), 0)));
        std::iter::once(("customers", self.customer_batch())).chain(orders).collect()
    }

    /// The time until the view shows that `changed` orders have another amount.
    fn change(&self, job: &FedJob, turn: usize, changed: usize) -> Result<Duration, BenchError> {
        let step = (self.rows / changed).max(1);
        let ids = (0..changed).map(|index| (index * step + turn) % self.rows);
        let batch = self.batch(ids, turn + 1);
        let started = Instant::now();
        job.give(std::iter::once(("orders", batch)))?;
        Ok(started.elapsed())
    }
}
