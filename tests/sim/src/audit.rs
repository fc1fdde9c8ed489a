//! What must be true, looked at while processes run and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_engine::JobState;

use crate::broker::EpochRows;
use crate::connector::rows_as_numbers;
use crate::input::Row;
use crate::process::Process;
use crate::world::World;

/// Whether a job may fail for this reason in a world where disks and brokers fail: it was taken over, or nobody knows what is durable.
pub(crate) fn may_fail(world: &World, why: &str) -> bool {
    let calm = world.calm.load(std::sync::atomic::Ordering::SeqCst);
    let taken_over = ["another process has taken over", "has taken job"];
    let disk = ["no space left", "the answer was lost", "may or may not have been written"];
    taken_over.iter().any(|text| why.contains(text))
        || (!calm && disk.iter().any(|text| why.contains(text)))
        || (!calm && why.contains("do not answer"))
}

/// What can be read of a running job: of each partition exactly the rows up to some row.
pub(crate) fn reads(world: &World, process: &Process) {
    let job = &process.job;
    if job.handle().closed() == 0 {
        return;
    }
    let open = job.handle().stats().epochs_open.load(std::sync::atomic::Ordering::Relaxed);
    // One more than that is the job's last epoch, which does not wait for room.
    if open > world.fate.epochs_in_flight as u64 + 1 {
        world.baton.fail(format!("{open} epochs are open, of at most {}", world.fate.epochs_in_flight));
    }
    let Ok(read) = job.snapshot(&["taken"], None, Duration::from_secs(5)) else { return };
    for row in rows_of(&read.views[0]) {
        if row[1] != row[2] + 1 {
            world.baton.fail(format!(
                "at epoch {}, partition {} has {} rows, the last is number {}",
                read.epoch, row[0], row[1], row[2]
            ));
        }
    }
}

fn rows_of(batches: &[arrow::array::RecordBatch]) -> Vec<Row> {
    batches.iter().flat_map(rows_as_numbers).collect()
}

/// What is there in the end, of a job that has come to its end.
pub(crate) fn results(world: &World, process: &Process) {
    let input = &world.brokers.input;
    let fail = |what: String| world.baton.fail(what);
    if let JobState::Failed(why) = process.job.state() {
        return fail(format!("the job has failed: {why}"));
    }
    let read = |view: &str| {
        let read = process.job.read_view(view, None, Duration::from_secs(60), &[], None);
        read.map(|read| rows_of_any(&read.batches)).unwrap_or_else(|error| {
            world.baton.fail(format!("{view} cannot be read: {error}"));
            Vec::new()
        })
    };
    // Rows that came too late for their window: the windows have all others.
    let rows = read("orders$late");
    let late: BTreeSet<i64> = rows.iter().map(|row| row[0]).collect();
    if late.len() < rows.len() {
        fail(format!("orders$late has {} rows of {} orders", rows.len(), late.len()));
    }
    if !world.fate.idle && !world.fate.grows {
        let straggles = |id: &i64| input.orders.iter().any(|order| order.id == *id && order.straggles);
        if let Some(id) = late.iter().find(|id| !straggles(id)) {
            fail(format!("order {id} is late and was not behind"));
        }
    }
    for topic in input.topics.keys() {
        let (rejects, expected) = (read(&format!("{topic}$rejects")).len(), input.rejected(topic));
        if rejects != expected {
            fail(format!("{topic}$rejects has {rejects} rows, of {expected}"));
        }
    }
    let once = |rows: BTreeSet<Row>| rows.into_iter().map(|row| (row, 1)).collect::<BTreeMap<Row, i64>>();
    for (view, topics) in world.fate.kind.views() {
        let expected = match view {
            "sums" => once(input.sums(&late)),
            "paid" => input.paid(),
            _ => once(input.customers()),
        };
        let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
        read(view).into_iter().for_each(|row| *rows.entry(row).or_default() += 1);
        differ(world, &format!("view {view}"), &rows, &expected);
        for (topic, exactly_once) in topics {
            let committed = world.brokers.committed(topic);
            // Rows that may come twice have no other changes here.
            let seen = || once(committed.iter().flat_map(|(_, rows)| rows).map(|(row, _)| row.clone()).collect());
            let published = if exactly_once { folded(&committed) } else { seen() };
            differ(world, &format!("sink {topic}"), &published, &expected);
        }
    }
}

/// As [`rows_as_numbers`]; what is no number is left out.
fn rows_of_any(batches: &[arrow::array::RecordBatch]) -> Vec<Row> {
    let numbers = |batch: &arrow::array::RecordBatch| {
        let is_number =
            |column: &usize| batch.column(*column).data_type().is_numeric() || batch.column(*column).data_type().is_temporal();
        let columns: Vec<usize> = (0..batch.num_columns()).filter(is_number).collect();
        rows_as_numbers(&batch.project(&columns).expect("they are its own"))
    };
    batches.iter().flat_map(numbers).collect()
}

/// All changes added up.
fn folded(committed: &[EpochRows]) -> BTreeMap<Row, i64> {
    let mut sum: BTreeMap<Row, i64> = BTreeMap::new();
    for (row, diff) in committed.iter().flat_map(|(_, rows)| rows) {
        *sum.entry(row.clone()).or_default() += diff;
    }
    sum.retain(|_, diff| *diff != 0);
    sum
}

fn differ(world: &World, what: &str, found: &BTreeMap<Row, i64>, expected: &BTreeMap<Row, i64>) {
    let all: BTreeSet<&Row> = found.keys().chain(expected.keys()).collect();
    let wrong: Vec<String> = all
        .into_iter()
        .filter(|row| found.get(*row) != expected.get(*row))
        .map(|row| format!("{row:?} {} times, not {}", found.get(row).unwrap_or(&0), expected.get(row).unwrap_or(&0)))
        .collect();
    if !wrong.is_empty() {
        world.baton.fail(format!("{what} is wrong: {}", wrong[..wrong.len().min(5)].join("; ")));
    }
}
