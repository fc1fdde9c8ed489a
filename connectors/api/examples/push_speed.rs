//! How many bodies a second are accepted and kept: `cargo run --release --example push_speed [DIRECTORY]`.
//!
//! Each client pushes a body of ten rows, waits until it is on the disk, and pushes the next.

#![allow(clippy::print_stdout, reason = "an example's output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema};
use highwater_connectors::Registry;
use highwater_connectors::source::{LogMode, PartitionId, Polled, PushFormat, PushRequest, Receipt, SourceLog, SourceSpec};
use highwater_plan::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into).join("push_speed");
    for kept in [false, true] {
        for clients in [1, 8, 64] {
            // What an earlier run left is not read again.
            let _ = std::fs::remove_dir_all(&directory);
            let log = kept.then(|| SourceLog {
                directory: directory.clone(),
                mode: LogMode::Accept { resumed: Some(0), keep: Duration::ZERO },
            });
            let bodies = bodies_per_second(clients, log)?;
            println!("{} {clients:3} clients: {bodies:8.0} bodies/s", if kept { "kept    " } else { "not kept" });
        }
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn bodies_per_second(clients: usize, log: Option<SourceLog>) -> Result<f64, Box<dyn std::error::Error>> {
    const TIME: Duration = Duration::from_secs(3);
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    let source = Registry::builtin().open_source(&SourceSpec {
        name: "rows".into(),
        schema: Arc::new(schema),
        used: vec![0, 1],
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs([("connector", "http")]),
        keeps_origin: false,
        workers: 1,
        log,
    })?;
    let mut reader = source.read(&PartitionId::new("0"), None, Arc::new(|| {}))?;
    let push = source.push_handle().ok_or("it is pushed to")?;
    let body: Vec<u8> = (0..10).flat_map(|id| format!("{{\"id\":{id},\"name\":\"name {id}\"}}\n").into_bytes()).collect();
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let request = PushRequest { format: PushFormat::Ndjson, body: body.clone(), idempotency_key: None };
                    if push.push(request, Receipt(Box::new(|_| {}))).is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while started.elapsed() < TIME {
            if !matches!(reader.poll(100_000), Ok(Polled::Batch(_))) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    Ok(done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}
