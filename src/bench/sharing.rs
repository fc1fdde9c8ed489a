//! `highwater bench sharing`: what it saves that the views of a job keep a table that they all join only once.
//!
//! Every view joins the same stream of orders with the same table of customers, and aggregates by another column of it.
//! All of them in one job arrange the table once; each of them in a job of its own keeps it itself. Compared are the state,
//! the time to load the table, to change rows of it, and to take orders: of the one job, and of the others together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde::Serialize;

use super::BenchError;
use super::fed::FedJob;
use super::memory::Prepared;

/// What to run.
#[derive(Debug, Clone)]
pub struct SharingBench {
    /// How many views join the table; one result for each.
    pub views: Vec<usize>,
    /// Rows of the table.
    pub rows: usize,
    /// Orders that are joined with it.
    pub orders: usize,
    /// Worker threads.
    pub workers: usize,
}

impl Default for SharingBench {
    fn default() -> Self {
        SharingBench { views: vec![1, 2, 4, 8], rows: 200_000, orders: 500_000, workers: 1 }
    }
}

/// What a number of views cost in one job, and in a job each.
#[derive(Debug, Clone, Serialize)]
pub struct SharingResult {
    /// Views.
    pub views: usize,
    /// All in one job.
    pub together: SharingCost,
    /// Each in a job of its own, summed.
    pub apart: SharingCost,
}

/// What views cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SharingCost {
    /// Seconds to load the table.
    pub load_seconds: f64,
    /// Seconds until a thousand changed rows of the table show in all views that are counted.
    pub change_seconds: f64,
    /// Seconds to take the orders.
    pub orders_seconds: f64,
    /// Bytes of state with the table and the orders.
    pub state_bytes: u64,
}

/// The columns that views group by, one each; more views begin again.
const GROUPS: [&str; 8] = ["region", "language", "tier", "branch", "segment", "currency", "channel", "agent"];

const CHANGED: usize = 1_000;

impl SharingBench {
    /// Runs all numbers of views; `report` is called after each.
    pub fn run(&self, mut report: impl FnMut(&SharingResult)) -> Result<Vec<SharingResult>, BenchError> {
        let mut results = Vec::new();
        for &views in &self.views {
            let together = self.cost(0..views)?;
            let mut apart = SharingCost::default();
            for view in 0..views {
                let one = self.cost(view..view + 1)?;
                apart.load_seconds += one.load_seconds;
                apart.change_seconds += one.change_seconds;
                apart.orders_seconds += one.orders_seconds;
                apart.state_bytes += one.state_bytes;
            }
            let result = SharingResult { views, together, apart };
            report(&result);
            results.push(result);
        }
        Ok(results)
    }

    /// What a job with these views costs.
    fn cost(&self, views: std::ops::Range<usize>) -> Result<SharingCost, BenchError> {
        let job = FedJob::create(&sql(views), self.workers)?;
        let load_seconds = timed(|| job.give(self.customers().into_iter().map(|batch| ("customers", batch))))?;
        let orders_seconds = timed(|| job.give(self.orders().into_iter().map(|batch| ("orders", batch))))?;
        let mut changes = Vec::new();
        for turn in 1..=CHANGES {
            let step = (self.rows / CHANGED).max(1);
            let ids: Vec<usize> = (0..CHANGED.min(self.rows)).map(|index| (index * step + turn) % self.rows).collect();
            changes.push(timed(|| job.give(std::iter::once(("customers", customers(&ids, turn)))))?);
        }
        let state_bytes = job.stats().operators().iter().map(|operator| operator.state_bytes.load(Ordering::Relaxed)).sum();
        job.shutdown();
        changes.sort_unstable();
        let change_seconds = changes[changes.len() / 2].as_secs_f64();
        let (load_seconds, orders_seconds) = (load_seconds.as_secs_f64(), orders_seconds.as_secs_f64());
        Ok(SharingCost { load_seconds, change_seconds, orders_seconds, state_bytes })
    }

    fn customers(&self) -> Vec<Prepared> {
        let ids: Vec<usize> = (0..self.rows).collect();
        ids.chunks(BATCH_ROWS).map(|ids| customers(ids, 0)).collect()
    }

    fn orders(&self) -> Vec<Prepared> {
        let ids: Vec<usize> = (0..self.orders).collect();
        ids.chunks(BATCH_ROWS).map(|ids| orders(ids, self.rows)).collect()
    }
}

/// How often changes are timed; the median counts.
const CHANGES: usize = 11;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// A job with these views.
fn sql(views: std::ops::Range<usize>) -> String {
    let mut text = String::from(
        "CREATE TABLE customers (id BIGINT PRIMARY KEY, region VARCHAR, language VARCHAR, tier BIGINT, branch BIGINT, \
         segment BIGINT, currency BIGINT, channel BIGINT, agent BIGINT) \
         WITH (connector = 'http');\n\
         CREATE SOURCE orders (id BIGINT, customer BIGINT, amount BIGINT) WITH (connector = 'http');\n",
    );
    for view in views {
        let group = GROUPS[view % GROUPS.len()];
        text += &format!(
            "CREATE MATERIALIZED VIEW v{view} AS SELECT {group}, count(*) AS orders, sum(amount) AS revenue \
             FROM orders JOIN customers ON orders.customer = customers.id GROUP BY {group};\n"
        );
    }
    text
}

/// Made-up customers, a function of their number and of how often they were changed.
fn customers(ids: &[usize], turn: usize) -> Prepared {
    let ints =
        |of: &dyn Fn(usize) -> usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| of(*id) as i64))) };
    let words = |prefix: &str, of: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("{prefix}{}", (id + turn) % of))))
    };
    let mut columns = vec![("id", ints(&|id| id)), ("region", words("region ", 8)), ("language", words("language ", 20))];
    for (index, column) in GROUPS.into_iter().enumerate().skip(2) {
        columns.push((column, ints(&move |id| (id + turn) % (5 * index))));
    }
    Prepared::insert(RecordBatch::try_from_iter(columns).expect("columns of one length"))
}

fn orders(ids: &[usize], customers: usize) -> Prepared {
    let ints =
        |of: &dyn Fn(usize) -> usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| of(*id) as i64))) };
    let columns =
        [("id", ints(&|id| id)), ("customer", ints(&|id| id * 7_919 % customers)), ("amount", ints(&|id| id * 31 % 10_000))];
    Prepared::insert(RecordBatch::try_from_iter(columns).expect("columns of one length"))
}

fn timed(run: impl FnOnce() -> Result<(), BenchError>) -> Result<Duration, BenchError> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}
