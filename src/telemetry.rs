//! Metrics: every name with its unit in one table, and how they are written for Prometheus.
//!
//! Counters live where things happen (the engine's [`highwater_engine::JobStats`], the server's [`HttpCounters`]); nothing
//! is counted twice, and a scrape only reads and prints. That is why no metrics library is used: there is no registry to
//! keep in step with jobs that come and go.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use highwater_engine::{JobState, OperatorStats};
use highwater_runtime::{RestoreInfo, RunningJob};

/// A metric's kind, name and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Its name, the unit in it.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident $kind:literal $name:literal $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: Metric = Metric { kind: $kind, name: $name, help: $help };)*
        /// Every metric there is, in the order in which they are written.
        pub const METRICS: &[Metric] = &[$($ident,)*];
    };
}

metrics! {
    JOB_UP "gauge" "highwater_job_up" "1 while the job runs, 0 when it has finished or failed";
    EPOCHS_CLOSED "counter" "highwater_epochs_closed_total" "Epochs whose changes are in every view";
    EPOCHS_OPEN "gauge" "highwater_epochs_open" "Epochs that are open behind the outputs";
    EPOCH_LAG "gauge" "highwater_epoch_lag_ms" "Age of the last closed epoch while a later one is open, else 0";
    SOURCE_ROWS "counter" "highwater_source_rows_total" "Rows read, rejected ones included";
    SOURCE_BYTES "counter" "highwater_source_bytes_total" "Bytes read, rejected rows included";
    SOURCE_LATE "counter" "highwater_source_late_rows_total" "Rows refused by an operator because their windows were closed";
    SOURCE_REJECTED "counter" "highwater_source_rejected_rows_total" "Rows that could not be decoded or were too far ahead";
    SOURCE_BACKLOG_ROWS "gauge" "highwater_source_backlog_rows" "Rows known to wait before the source";
    SOURCE_BACKLOG_BYTES "gauge" "highwater_source_backlog_bytes" "Bytes known to wait before the source";
    SOURCE_LOG_BODIES "gauge" "highwater_source_log_bodies" "Accepted bodies that the source keeps on disk until a checkpoint has them";
    SOURCE_LOG_BYTES "gauge" "highwater_source_log_bytes" "Bytes of accepted bodies that the source keeps on disk";
    WATERMARK_LAG "gauge" "highwater_source_watermark_lag_ms" "How far the source's watermark is behind the clock";
    OPERATOR_ROWS_IN "counter" "highwater_operator_rows_in_total" "Changed rows taken by an operator";
    OPERATOR_ROWS_OUT "counter" "highwater_operator_rows_out_total" "Changed rows given by an operator";
    OPERATOR_BYTES_OUT "counter" "highwater_operator_bytes_out_total" "Bytes of Arrow buffers given by an operator";
    OPERATOR_QUEUED "gauge" "highwater_operator_queued_rows" "Rows that wait for their epoch to be complete";
    OPERATOR_STATE_ROWS "gauge" "highwater_operator_state_rows" "Rows, groups or batches kept by an operator";
    OPERATOR_STATE_BYTES "gauge" "highwater_operator_state_bytes" "Bytes kept by an operator";
    OPERATOR_LATE "counter" "highwater_operator_late_rows_total" "Rows an operator refused as late";
    OPERATOR_EXPIRED "counter" "highwater_operator_expired_rows_total" "Rows or groups an operator forgot after state_ttl";
    OPERATOR_EXPIRED_RETRACTIONS "counter" "highwater_operator_expired_retractions_total" "Retractions ignored because their rows were forgotten";
    OPERATOR_ERRORS "counter" "highwater_operator_error_rows_total" "Rows on which an expression failed";
    OPERATOR_BUSY "counter" "highwater_operator_busy_ms_total" "Time spent in an operator";
    VIEW_ROWS "gauge" "highwater_view_rows" "Rows of a view";
    VIEW_BYTES "gauge" "highwater_view_bytes" "Bytes of memory of a view";
    VIEW_DROPPED "counter" "highwater_view_dropped_rows_total" "Rows of a side relation that made room for newer ones";
    VIEW_ANOMALIES "counter" "highwater_view_anomalies_total" "Reads that met a row retracted more often than added";
    SINK_ROWS "counter" "highwater_sink_rows_total" "Changed rows written by a sink";
    SINK_WAITING_EPOCHS "gauge" "highwater_sink_waiting_epochs" "Closed epochs that wait to be published";
    SINK_WAITING_BYTES "gauge" "highwater_sink_waiting_bytes" "Bytes of changes that wait to be published";
    RESTORE_BYTES "gauge" "highwater_restore_bytes" "Bytes of its checkpoint that a job which is being restored has to read";
    RESTORE_BYTES_DONE "gauge" "highwater_restore_bytes_done" "Bytes of its checkpoint that it has read";
    RESTORE_LOADED "gauge" "highwater_restore_loaded_rows" "Rows that its operators were given back";
    RESTORE_REBUILDING "gauge" "highwater_restore_rebuilding_rows" "Rows that making what is new in a changed job took so far";
    CHECKPOINTS "counter" "highwater_checkpoints_total" "Checkpoints that are durable";
    CHECKPOINT_FAILURES "counter" "highwater_checkpoint_failures_total" "Checkpoints that could not be written";
    CHECKPOINT_AGE "gauge" "highwater_checkpoint_age_ms" "Time since the last checkpoint became durable";
    CHECKPOINT_DURATION "gauge" "highwater_checkpoint_duration_ms" "From asking for the last checkpoint until it was durable";
    CHECKPOINT_BYTES "gauge" "highwater_checkpoint_bytes" "Bytes of the last checkpoint: what changed since the one before";
    CHECKPOINT_TOTAL_BYTES "gauge" "highwater_checkpoint_total_bytes" "Bytes of all files that the last checkpoint needs";
    HTTP_REQUESTS "counter" "highwater_http_requests_total" "Requests answered, by route and status";
    HTTP_CONNECTIONS "gauge" "highwater_http_connections" "Connections open";
    HTTP_REFUSED "counter" "highwater_http_connections_refused_total" "Connections refused because there were too many";
    SUBSCRIBERS "gauge" "highwater_subscribers" "Subscribers of a view's changes";
    SUBSCRIBERS_LAGGED "counter" "highwater_subscribers_lagged_total" "Subscribers disconnected because they fell behind";
}

/// Age of the last closed epoch in milliseconds while a later one is open, else 0: an idle job is not behind.
pub fn epoch_lag_ms(job: &RunningJob) -> u64 {
    let closed = job.handle().closed();
    let opened = job.handle().stats().epoch_opened.load(Relaxed);
    // Before the first epoch is closed, the oldest open one is as old as the job.
    let since = if closed == 0 { millis(job.created()) } else { closed };
    if closed >= opened || job.state() != JobState::Running { 0 } else { millis(SystemTime::now()).saturating_sub(since) }
}

/// How far a watermark (microseconds) is behind the clock; `None` if nothing is known or the source has ended.
pub fn watermark_lag_ms(watermark: i64) -> Option<i64> {
    let known = watermark != i64::MIN && watermark != i64::MAX;
    known.then(|| (millis(SystemTime::now()) as i64).saturating_sub(watermark.div_euclid(1_000)))
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What the server counts.
#[derive(Debug, Default)]
pub struct HttpCounters {
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
    connections: AtomicU64,
    refused: AtomicU64,
    lagged: AtomicU64,
}

/// A connection that counts until dropped.
pub struct CountedConnection<'a>(&'a AtomicU64);

impl Drop for CountedConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl HttpCounters {
    /// Counts an answer. Routes are names, not paths: there are few.
    pub fn answered(&self, route: &'static str, status: u16) {
        *self.answered.lock().expect("counting does not panic").entry((route, status)).or_default() += 1;
    }

    /// Counts a connection for as long as the result lives.
    pub fn connection(&self) -> CountedConnection<'_> {
        self.connections.fetch_add(1, Relaxed);
        CountedConnection(&self.connections)
    }

    /// Counts a connection that was refused.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Counts a subscriber that fell behind.
    pub fn lagged(&self) {
        self.lagged.fetch_add(1, Relaxed);
    }
}

/// Samples, grouped by metric as the text format wants them.
#[derive(Debug, Default)]
pub struct Text {
    samples: BTreeMap<&'static str, String>,
}

impl Text {
    /// Adds a sample.
    pub fn sample(&mut self, metric: Metric, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let out = self.samples.entry(metric.name).or_default();
        out.push_str(metric.name);
        for (place, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if place == 0 { '{' } else { ',' };
            let _ = write!(out, "{open}{name}=\"{value}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(out, "{close} {value}");
    }

    /// The whole text, metrics in the order of [`METRICS`].
    pub fn finish(self) -> String {
        let mut text = String::new();
        for Metric { kind, name, help } in METRICS {
            if let Some(samples) = self.samples.get(name) {
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
            }
        }
        text
    }
}

/// Writes how far jobs are that are being restored.
pub fn restores(text: &mut Text, restores: &[RestoreInfo]) {
    for restore in restores {
        let name = ("job", restore.job.as_str());
        text.sample(RESTORE_BYTES, &[name], restore.bytes_total);
        text.sample(RESTORE_BYTES_DONE, &[name], restore.bytes_done);
        text.sample(RESTORE_LOADED, &[name], restore.loaded_rows);
        if let Some(rows) = restore.rebuilding_rows {
            text.sample(RESTORE_REBUILDING, &[name], rows);
        }
    }
}

/// Writes the metrics of all jobs.
pub fn jobs(text: &mut Text, jobs: &[Arc<RunningJob>]) {
    for job in jobs {
        let stats = job.handle().stats();
        let name = ("job", job.name());
        text.sample(JOB_UP, &[name], u8::from(job.state() == JobState::Running));
        text.sample(EPOCHS_CLOSED, &[name], stats.epochs_closed.load(Relaxed));
        text.sample(EPOCHS_OPEN, &[name], stats.epochs_open.load(Relaxed));
        text.sample(EPOCH_LAG, &[name], epoch_lag_ms(job));
        sources(text, job);
        operators(text, job.name(), &stats.operators());
        for view in job.handle().views() {
            let labels = [name, ("view", view.name())];
            text.sample(VIEW_ROWS, &labels, view.rows());
            text.sample(VIEW_BYTES, &labels, view.bytes());
            text.sample(VIEW_ANOMALIES, &labels, view.anomalies());
            if view.is_side_relation() {
                text.sample(VIEW_DROPPED, &labels, view.dropped());
            }
        }
        for sink in job.sinks() {
            let labels = [name, ("sink", sink.name.as_str())];
            text.sample(SINK_ROWS, &labels, sink.rows);
            text.sample(SINK_WAITING_EPOCHS, &labels, sink.waiting_epochs);
            text.sample(SINK_WAITING_BYTES, &labels, sink.waiting_bytes);
        }
        if let Some(checkpoints) = job.checkpoints() {
            text.sample(CHECKPOINTS, &[name], checkpoints.count);
            text.sample(CHECKPOINT_FAILURES, &[name], checkpoints.last_error.as_ref().map_or(0, |error| error.count));
            text.sample(CHECKPOINT_DURATION, &[name], checkpoints.took.as_millis());
            text.sample(CHECKPOINT_BYTES, &[name], checkpoints.bytes);
            text.sample(CHECKPOINT_TOTAL_BYTES, &[name], checkpoints.total_bytes);
            if checkpoints.epoch.is_some() {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let age = now.saturating_sub(u128::from(checkpoints.wall_micros.unsigned_abs() / 1_000));
                text.sample(CHECKPOINT_AGE, &[name], age);
            }
        }
    }
}

fn sources(text: &mut Text, job: &RunningJob) {
    let stats = job.handle().stats();
    for (info, counters) in job.sources().iter().zip(&stats.sources) {
        let labels = [("job", job.name()), ("source", info.name.as_str())];
        text.sample(SOURCE_ROWS, &labels, counters.rows.load(Relaxed));
        text.sample(SOURCE_BYTES, &labels, info.partitions.iter().map(|partition| partition.bytes).sum::<u64>());
        text.sample(SOURCE_LATE, &labels, counters.late_rows.load(Relaxed));
        text.sample(SOURCE_REJECTED, &labels, counters.rejected_rows.load(Relaxed));
        if let Some(backlog) = info.backlog {
            text.sample(SOURCE_BACKLOG_ROWS, &labels, backlog.rows);
            text.sample(SOURCE_BACKLOG_BYTES, &labels, backlog.bytes);
        }
        if let Some(log) = info.log {
            text.sample(SOURCE_LOG_BODIES, &labels, log.rows);
            text.sample(SOURCE_LOG_BYTES, &labels, log.bytes);
        }
        if let Some(lag) = watermark_lag_ms(counters.watermark.load(Relaxed)) {
            text.sample(WATERMARK_LAG, &labels, lag);
        }
    }
}

fn operators(text: &mut Text, job: &str, operators: &[Arc<OperatorStats>]) {
    for operator in operators {
        let (node, worker) = (operator.node.to_string(), operator.worker.to_string());
        let labels = [("job", job), ("node", node.as_str()), ("operator", operator.name.as_str()), ("worker", worker.as_str())];
        for (metric, value) in [
            (OPERATOR_ROWS_IN, &operator.rows_in),
            (OPERATOR_ROWS_OUT, &operator.rows_out),
            (OPERATOR_BYTES_OUT, &operator.bytes_out),
            (OPERATOR_QUEUED, &operator.queued_rows),
            (OPERATOR_STATE_ROWS, &operator.state_rows),
            (OPERATOR_STATE_BYTES, &operator.state_bytes),
            (OPERATOR_LATE, &operator.late_rows),
            (OPERATOR_EXPIRED, &operator.expired_rows),
            (OPERATOR_EXPIRED_RETRACTIONS, &operator.expired_retractions),
            (OPERATOR_ERRORS, &operator.error_rows),
        ] {
            text.sample(metric, &labels, value.load(Relaxed));
        }
        text.sample(OPERATOR_BUSY, &labels, operator.busy_ns.load(Relaxed) / 1_000_000);
    }
}

/// Writes the server's metrics; `subscribers` are job, view and how many.
pub fn http(text: &mut Text, counters: &HttpCounters, subscribers: Vec<(String, String, usize)>) {
    for ((route, status), count) in counters.answered.lock().expect("counting does not panic").iter() {
        text.sample(HTTP_REQUESTS, &[("route", route), ("status", &status.to_string())], count);
    }
    text.sample(HTTP_CONNECTIONS, &[], counters.connections.load(Relaxed));
    text.sample(HTTP_REFUSED, &[], counters.refused.load(Relaxed));
    for (job, view, count) in subscribers {
        text.sample(SUBSCRIBERS, &[("job", &job), ("view", &view)], count);
    }
    text.sample(SUBSCRIBERS_LAGGED, &[], counters.lagged.load(Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_counters_end_in_total() {
        let names: std::collections::BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();
        text.sample(VIEW_ROWS, &[("job", "a\"b\\c"), ("view", "v\n")], 3);
        let expected = "# HELP highwater_view_rows Rows of a view\n# TYPE highwater_view_rows gauge\nhighwater_view_rows{job=\"a\\\"b\\\\c\",view=\"v\\n\"} 3\n";
        assert_eq!(text.finish(), expected);
    }
}
