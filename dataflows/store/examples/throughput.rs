//! Writes, restores and folds a large state, against what the disk itself does in the same run.
//!
//! ```text
//! cargo run --release -p highwater-store --example throughput -- <directory> [MiB of rows, 2048]
//! ```
//!
//! Rows are those of an aggregate: two integer keys, a short text, a decimal sum, a count and a multiplicity. "raw" is Arrow's
//! memory, "stored" what lies on the disk. Before each reading the files are dropped from the page cache (`POSIX_FADV_DONTNEED`
//! by way of `dd`), so that the disk is read and not memory.
#![allow(clippy::print_stdout, reason = "its results are what it prints")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, Decimal128Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use highwater_store::{Checkpoint, Keep, Options, ReadOptions, Section, Span, Store};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The service's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH_ROWS: usize = 8_192;
const SECTION_BYTES: usize = 32 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("give a directory on the disk to measure")?).join("highwater-throughput");
    let mib: usize = arguments.next().map_or(Ok(2_048), |mib| mib.parse())?;
    fs::create_dir_all(&folder)?;
    let outcome = measure(&folder, mib);
    fs::remove_dir_all(&folder)?;
    outcome
}

fn measure(folder: &Path, mib: usize) -> Result<(), Box<dyn Error>> {
    let mut random = SmallRng::seed_from_u64(1);
    let sections: Vec<Section> = (0..(mib << 20) / SECTION_BYTES).map(|number| section(&mut random, number)).collect();
    let raw: u64 = sections.iter().map(raw_bytes).sum();
    let job = Store::create(folder.join("store").to_str().ok_or("the path must be UTF-8")?)?.job("throughput")?;
    let writer = job.claim(Options::default())?;

    let started = Instant::now();
    let manifest =
        writer.commit(Checkpoint { epoch: 1, meta: serde_json::json!({}), sections: sections.clone(), keep: Keep::None })?;
    let took = started.elapsed();
    let stored = manifest.bytes();
    println!("state: {} rows, {} raw, {} stored", manifest.files[0].rows, mb(raw), mb(stored));
    println!("commit, durable:           {}", rate(raw, stored, took));

    let path = folder.join("store/jobs/throughput").join(&manifest.files[0].path);
    let plain = folder.join("plain");
    let written = write_plainly(&plain, raw)?;
    println!("the disk, written:         {}", rate(raw, raw, written));
    for round in 1..=3 {
        forget(&plain)?;
        let disk = read_plainly(&plain)?;
        println!("the disk, read ({round}):      {}", rate(raw, raw, disk));
        for threads in [1, std::thread::available_parallelism()?.get()] {
            forget(&path)?;
            let started = Instant::now();
            let mut rows = 0;
            for section in job.read(&manifest, ReadOptions::default().threads(threads))? {
                rows += section?.rows();
            }
            let took = started.elapsed();
            assert_eq!(rows, manifest.files[0].rows);
            let share = disk.as_secs_f64() / took.as_secs_f64();
            println!("restore ({round}), {threads} thread(s): {}, {share:.2} of the disk", rate(raw, stored, took));
        }
    }
    drop(fs::remove_file(&plain));

    let mut last = manifest;
    let increment: Vec<Section> = (0..16).map(|number| slice(&sections[number % sections.len()])).collect();
    let (changed, started) = (increment.iter().map(raw_bytes).sum::<u64>(), Instant::now());
    for epoch in 2..=9 {
        last = writer.commit(Checkpoint { epoch, meta: serde_json::json!({}), sections: increment.clone(), keep: Keep::All })?;
    }
    let stored = last.files[1].bytes;
    println!("increment of 16 sections:  {} (mean of 8)", rate(changed, stored, started.elapsed() / 8));

    let started = Instant::now();
    let compacted = writer.compact(Span::All, &|fold, sections| {
        let (schema, batches) = (sections[0].schema.clone(), sections.into_iter().flat_map(|section| section.batches).collect());
        Ok(vec![Section::new(fold.key, schema, batches)])
    })?;
    let compacted = compacted.ok_or("there is something to fold")?;
    println!("fold {} files:             {}", compacted.files, rate(raw + 8 * changed, compacted.bytes_read, started.elapsed()));
    Ok(())
}

fn section(random: &mut SmallRng, number: usize) -> Section {
    let schema = Arc::new(Schema::new(vec![
        Field::new("auction", DataType::Int64, false),
        Field::new("window", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("sum", DataType::Decimal128(38, 2), true),
        Field::new("count", DataType::Int64, false),
        Field::new("diff", DataType::Int64, false),
    ]));
    let mut batches = Vec::new();
    let mut bytes = 0;
    while bytes < SECTION_BYTES {
        let mut column =
            |range: std::ops::Range<i64>| Int64Array::from_iter_values((0..BATCH_ROWS).map(|_| random.gen_range(range.clone())));
        let (auctions, windows, counts) = (column(0..1 << 40), column(0..1_000), column(1..10_000));
        let names = StringArray::from_iter_values((0..BATCH_ROWS).map(|_| format!("auction {:x}", random.r#gen::<u32>())));
        let sums = Decimal128Array::from_iter_values((0..BATCH_ROWS).map(|_| i128::from(random.gen_range(0..1i64 << 34))));
        let sums = sums.with_precision_and_scale(38, 2).expect("38 digits are allowed");
        let diffs = Int64Array::from(vec![1; BATCH_ROWS]);
        let columns: Vec<Arc<dyn Array>> =
            vec![Arc::new(auctions), Arc::new(windows), Arc::new(names), Arc::new(sums), Arc::new(counts), Arc::new(diffs)];
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns of one length");
        bytes += batch.get_array_memory_size();
        batches.push(batch);
    }
    Section::new(format!("aggregate/{number:05}"), schema, batches)
}

/// One batch of a section.
fn slice(section: &Section) -> Section {
    Section::new(section.key.clone(), section.schema.clone(), section.batches[..1].to_vec())
}

fn raw_bytes(section: &Section) -> u64 {
    section.batches.iter().map(|batch| batch.get_array_memory_size() as u64).sum()
}

fn write_plainly(path: &Path, bytes: u64) -> std::io::Result<Duration> {
    // Not zeros, which some disks do not store.
    let mut random = SmallRng::seed_from_u64(2);
    let block: Vec<u8> = (0..8 << 20).map(|_| random.r#gen()).collect();
    let started = Instant::now();
    let mut file = File::create(path)?;
    let mut left = bytes as usize;
    while left > 0 {
        let now = left.min(block.len());
        file.write_all(&block[..now])?;
        left -= now;
    }
    file.sync_all()?;
    Ok(started.elapsed())
}

fn read_plainly(path: &Path) -> std::io::Result<Duration> {
    let mut block = vec![0; 8 << 20];
    let started = Instant::now();
    let mut file = File::open(path)?;
    while file.read(&mut block)? > 0 {}
    Ok(started.elapsed())
}

/// Drops a file from the page cache.
fn forget(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut dd = Command::new("dd");
    dd.arg(format!("of={}", path.display())).args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
    let status = dd.status()?;
    if status.success() { Ok(()) } else { Err("dd cannot drop a file from the page cache".into()) }
}

fn mb(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn rate(raw: u64, stored: u64, took: Duration) -> String {
    let per_second = |bytes: u64| bytes as f64 / took.as_secs_f64() / 1e6;
    format!("{:.3} s, {:.0} MB/s raw, {:.0} MB/s stored", took.as_secs_f64(), per_second(raw), per_second(stored))
}
