//! Tests of the store from outside: what was committed is what is read, whatever happened in between.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

mod compaction;
mod crashes;
mod damage;
mod places;
mod retention;
mod round_trip;
#[cfg(feature = "cloud")]
mod s3;
mod writers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use highwater_store::{Checkpoint, JobStore, Keep, Manifest, Options, ReadOptions, Result, Section, StoreError, Writer};

/// The columns of what these tests store: a row, and how often it is there.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("row", DataType::Utf8, false), Field::new("diff", DataType::Int64, false)]))
}

/// Changes of rows as a section.
fn section<'a>(key: &str, changes: impl IntoIterator<Item = (&'a str, i64)>) -> Section {
    let (rows, diffs): (Vec<&str>, Vec<i64>) = changes.into_iter().unzip();
    let batch =
        RecordBatch::try_new(schema(), vec![Arc::new(StringArray::from(rows)), Arc::new(Int64Array::from(diffs))]).unwrap();
    Section::new(key, schema(), vec![batch])
}

fn increment(epoch: u64, sections: Vec<Section>) -> Checkpoint {
    Checkpoint { epoch, meta: serde_json::json!({ "epoch": epoch }), sections, keep: Keep::All }
}

/// The state that a checkpoint comes to: per key each row and how often it is there.
type State = BTreeMap<String, BTreeMap<String, i64>>;

fn add(state: &mut State, section: &Section) {
    let rows = state.entry(section.key.clone()).or_default();
    for batch in &section.batches {
        let (names, diffs) = (batch.column(0), batch.column(1));
        let names = names.as_any().downcast_ref::<StringArray>().unwrap();
        let diffs = diffs.as_any().downcast_ref::<Int64Array>().unwrap();
        for (name, diff) in names.iter().zip(diffs) {
            let count = rows.entry(name.unwrap().to_string()).or_default();
            *count += diff.unwrap();
            if *count == 0 {
                rows.remove(name.unwrap());
            }
        }
    }
    state.retain(|_, rows| !rows.is_empty());
}

fn state_of(job: &JobStore, manifest: &Manifest) -> Result<State> {
    let mut state = State::new();
    for section in job.read(manifest, ReadOptions::default().threads(2))? {
        add(&mut state, &section?);
    }
    Ok(state)
}

/// The newest checkpoint's state and epoch; nothing if there is none.
fn newest(job: &JobStore) -> Result<(u64, State)> {
    match job.latest()? {
        Some(manifest) => Ok((manifest.epoch, state_of(job, &manifest)?)),
        None => Ok((0, State::new())),
    }
}

/// Options whose clock counts, and whose process has a number that tells it from others.
fn options(pid: u32) -> Options {
    let clock = Arc::new(AtomicU64::new(1_000));
    Options { retain: 3, host: "testhost".into(), pid, now_ms: Arc::new(move || clock.fetch_add(1, Ordering::Relaxed)) }
}

fn keys(job: &JobStore, manifest: &Manifest) -> Vec<String> {
    job.read(manifest, ReadOptions::default()).unwrap().map(|section| section.unwrap().key).collect()
}

/// A writer of a job in a new store in memory.
fn fresh(name: &str) -> (JobStore, Writer) {
    let job = highwater_store::Store::create("memory://").unwrap().job(name).unwrap();
    let writer = job.claim(options(1)).unwrap();
    (job, writer)
}
