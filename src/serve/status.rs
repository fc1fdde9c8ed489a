//! A job as `GET /v1/jobs/{name}` tells it: where its sources stand, what its operators hold, what is wrong.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_connectors::source::Backlog;
use highwater_engine::{JobState, OperatorStats};
use highwater_plan::SourceKind;
use highwater_runtime::{
    CheckpointInfo, LastError, PartitionInfo, PartitionState, RestoreInfo, RunningJob, SinkInfo, SourceInfo, StatePart, Upgrade,
};
use serde_json::{Value, json};

use super::problem::diagnostic_json;
use super::views::describe;
use crate::telemetry::{epoch_lag_ms, watermark_lag_ms};

/// A state as clients see it.
pub(crate) fn state_name(state: &JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Finished => "finished",
        JobState::Failed(_) => "failed",
        JobState::Dropped => "dropped",
    }
}

/// A job in a list.
pub(crate) fn summary(job: &RunningJob) -> Value {
    let stats = job.handle().stats();
    let state = job.state();
    let failure = match &state {
        JobState::Failed(reason) => Some(reason.as_str()),
        _ => None,
    };
    let views = job.handle().views();
    let views: Vec<&str> = views.iter().filter(|view| !view.is_side_relation()).map(|view| view.name()).collect();
    json!({
        "job": job.name(),
        "state": state_name(&state),
        "failure": failure,
        "created_ms": millis(job.created()),
        "epoch": job.handle().closed(),
        "epoch_lag_ms": epoch_lag_ms(job),
        "epochs_open": stats.epochs_open.load(Relaxed),
        "epochs_closed": stats.epochs_closed.load(Relaxed),
        "rows": stats.sources.iter().map(|source| source.rows.load(Relaxed)).sum::<u64>(),
        "views": views,
    })
}

/// A job in a list that is being restored.
pub(crate) fn restoring(restore: &RestoreInfo) -> Value {
    json!({
        "job": restore.job,
        "state": "restoring",
        "bytes_done": restore.bytes_done,
        "bytes_total": restore.bytes_total,
        "loaded_rows": restore.loaded_rows,
        "rebuilding_rows": restore.rebuilding_rows,
        "seconds": restore.took.as_secs_f64(),
    })
}

/// Everything about a job.
pub(crate) fn report(job: &RunningJob) -> Value {
    let mut report = summary(job);
    let views: Vec<Value> = job.handle().views().iter().map(|view| describe(job, view)).collect();
    let sources: Vec<Value> = job.sources().iter().enumerate().map(|(index, info)| source(job, index, info)).collect();
    let details = json!({
        "sql": highwater_plan::masked(job.text()),
        "views": views,
        "sources": sources,
        "sinks": job.sinks().iter().map(sink).collect::<Vec<Value>>(),
        "checkpoints": job.checkpoints().as_ref().map(checkpoints),
        "upgrade": job.upgrade().map(upgrade),
        "operators": operators(&job.handle().stats().operators()),
        "warnings": job.warnings().iter().map(diagnostic_json).collect::<Vec<Value>>(),
        "problems": job.problems(),
    });
    if let (Value::Object(report), Value::Object(details)) = (&mut report, details) {
        report.extend(details);
    }
    report
}

fn source(job: &RunningJob, index: usize, info: &SourceInfo) -> Value {
    let stats = job.handle().stats();
    let counters = stats.sources.get(index);
    let watermark = counters.map(|counters| counters.watermark.load(Relaxed));
    json!({
        "source": info.name,
        "kind": match info.kind { SourceKind::Source => "source", SourceKind::Table => "table" },
        "connector": info.connector,
        "bounded": info.bounded,
        "pushable": info.pushable,
        "rows": counters.map(|counters| counters.rows.load(Relaxed)),
        "late_rows": counters.map(|counters| counters.late_rows.load(Relaxed)),
        "rejected_rows": counters.map(|counters| counters.rejected_rows.load(Relaxed)),
        "watermark": watermark.and_then(time),
        "watermark_lag_ms": watermark.and_then(watermark_lag_ms),
        "backlog": info.backlog.map(backlog),
        "log": info.log.map(|log| json!({ "bodies": log.rows, "bytes": log.bytes })),
        "partitions": info.partitions.iter().map(partition).collect::<Vec<Value>>(),
    })
}

fn partition(info: &PartitionInfo) -> Value {
    json!({
        "partition": info.id,
        "worker": info.worker,
        "state": match info.state {
            PartitionState::Active => "active",
            PartitionState::Idle => "idle",
            PartitionState::Finished => "finished",
            PartitionState::Failed => "failed",
        },
        "offset": info.offset,
        "rows": info.rows,
        "rejected_rows": info.rejected_rows,
        "bytes": info.bytes,
        "watermark": info.watermark.and_then(time),
        "watermark_lag_ms": info.watermark.and_then(watermark_lag_ms),
        "backlog": info.backlog.map(backlog),
        "last_error": info.last_error.as_ref().map(last_error),
    })
}

fn sink(info: &SinkInfo) -> Value {
    json!({
        "sink": info.name,
        "connector": info.connector,
        "rows": info.rows,
        "epoch": info.epoch,
        "waiting_epochs": info.waiting_epochs,
        "waiting_bytes": info.waiting_bytes,
        "last_error": info.last_error.as_ref().map(last_error),
    })
}

fn checkpoints(info: &CheckpointInfo) -> Value {
    json!({
        "location": info.location,
        "restored_epoch": info.restored,
        "restored_rows": info.restored.map(|_| info.restored_rows),
        "restored_bytes": info.restored.map(|_| info.restored_bytes),
        "epoch": info.epoch,
        "at": info.epoch.and_then(|_| time(info.wall_micros)),
        "count": info.count,
        "changed_rows": info.rows,
        "changed_bytes": info.bytes,
        "total_bytes": info.total_bytes,
        "took_ms": info.took.as_secs_f64() * 1e3,
        "last_error": info.last_error.as_ref().map(last_error),
    })
}

fn upgrade(upgrade: &Upgrade) -> Value {
    let part = |part: &StatePart| json!({ "what": part.what, "from": part.from, "rows": part.rows, "bytes": part.bytes });
    let parts = |parts: &[StatePart]| parts.iter().map(part).collect::<Vec<Value>>();
    json!({
        "reused": parts(&upgrade.reused),
        "rebuilt": parts(&upgrade.rebuilt),
        "dropped": parts(&upgrade.dropped),
        "moved": upgrade.moved,
        "grown": upgrade.grown,
    })
}

fn backlog(backlog: Backlog) -> Value {
    json!({ "rows": backlog.rows, "bytes": backlog.bytes })
}

fn last_error(error: &LastError) -> Value {
    json!({ "message": error.message, "count": error.count, "at": time(error.wall_micros), "passed": error.passed })
}

/// Operators summed over their workers, in the plan's order.
fn operators(stats: &[std::sync::Arc<OperatorStats>]) -> Value {
    let mut operators: BTreeMap<(usize, &str), Vec<&OperatorStats>> = BTreeMap::new();
    for operator in stats {
        operators.entry((operator.node, &operator.name)).or_default().push(operator);
    }
    operators
        .into_iter()
        .map(|((node, name), workers)| {
            let sum = |field: fn(&OperatorStats) -> &std::sync::atomic::AtomicU64| -> u64 {
                workers.iter().map(|worker| field(worker).load(Relaxed)).sum()
            };
            json!({
                "node": node,
                "operator": name,
                "workers": workers.len(),
                "rows_in": sum(|worker| &worker.rows_in),
                "rows_out": sum(|worker| &worker.rows_out),
                "bytes_out": sum(|worker| &worker.bytes_out),
                "queued_rows": sum(|worker| &worker.queued_rows),
                "state_rows": sum(|worker| &worker.state_rows),
                "state_bytes": sum(|worker| &worker.state_bytes),
                "late_rows": sum(|worker| &worker.late_rows),
                "expired_rows": sum(|worker| &worker.expired_rows),
                "expired_retractions": sum(|worker| &worker.expired_retractions),
                "error_rows": sum(|worker| &worker.error_rows),
                "busy_ms": sum(|worker| &worker.busy_ns) / 1_000_000,
            })
        })
        .collect()
}

/// Microseconds since 1970 as text; `None` for what is no moment (nothing known yet).
fn time(micros: i64) -> Option<String> {
    match micros {
        i64::MIN => None,
        i64::MAX => Some("end".into()),
        micros => {
            let moment = arrow::temporal_conversions::timestamp_us_to_datetime(micros)?;
            Some(moment.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}
