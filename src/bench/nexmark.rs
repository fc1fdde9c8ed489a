//! `highwater bench nexmark`: the ready-made Nexmark jobs at full speed.
//!
//! Results go to a sink that counts them (`blackhole`), as in the published benchmarks: the cost of a served view is not
//! part of it. With `source = memory` the batches are ready before the clock starts, so the figure is the dataflow's own;
//! with `json` and `generator` the source's cost is part of the figure and is also measured alone.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_connectors::Registry;
use highwater_connectors::source::SourceSpec;
use highwater_engine::JobState;
use highwater_plan::{Job, OptionEntry, Options, Sink};
use highwater_runtime::{CreateOptions, Runtime, RuntimeConfig};
use serde::Serialize;

use super::BenchError;
use super::memory::{Laps, Memory, Prepared, prepare};
use super::process;

/// The queries there are, with their jobs.
const QUERIES: &[(&str, &str)] = &[
    ("q0", include_str!("../../dataflows/jobs/nexmark_q0/job.sql")),
    ("q1", include_str!("../../dataflows/jobs/nexmark_q1/job.sql")),
    ("q2", include_str!("../../dataflows/jobs/nexmark_q2/job.sql")),
    ("q3", include_str!("../../dataflows/jobs/nexmark_q3/job.sql")),
    ("q4", include_str!("../../dataflows/jobs/nexmark_q4/job.sql")),
    ("q5", include_str!("../../dataflows/jobs/nexmark_q5/job.sql")),
    ("q7", include_str!("../../dataflows/jobs/nexmark_q7/job.sql")),
    ("q8", include_str!("../../dataflows/jobs/nexmark_q8/job.sql")),
    ("q11", include_str!("../../dataflows/jobs/nexmark_q11/job.sql")),
    ("q15", include_str!("../../dataflows/jobs/nexmark_q15/job.sql")),
    ("q16", include_str!("../../dataflows/jobs/nexmark_q16/job.sql")),
    ("q17", include_str!("../../dataflows/jobs/nexmark_q17/job.sql")),
];

/// A count per auction in ten-second windows, over the sources of q0: not one of Nexmark's, but the plainest window.
const TUMBLE: &str = "CREATE MATERIALIZED VIEW tumble AS
SELECT auction, window_start, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end
EMIT FINAL;";

/// An interval join, which is not one of Nexmark's either: bids within ten seconds after their auction began.
const INTERVAL: &str = "CREATE MATERIALIZED VIEW interval AS
SELECT a.id, a.seller, b.bidder, b.price, b.dateTime
FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.dateTime + INTERVAL '10' SECOND;";

/// Queries over the sources of q0 that are not Nexmark's.
const MORE: &[(&str, &str)] = &[("tumble", TUMBLE), ("interval", INTERVAL)];

/// Persons, auctions and bids as three streams, in place of the ready-made jobs' one interleaved stream and its views.
const STREAMS: &str = "CREATE SOURCE person (
  id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR, dateTime TIMESTAMP(3),
  extra VARCHAR, WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (connector = 'nexmark', type = 'person');
CREATE SOURCE auction (
  id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP(3),
  expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (connector = 'nexmark', type = 'auction');
CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (connector = 'nexmark', type = 'bid');
";

/// How events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One stream of all three kinds, as the ready-made jobs read it: a struct per kind, two of them NULL in each row.
    Interleaved,
    /// A stream for each kind.
    Streams,
}

/// Where events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSource {
    /// Arrow batches that are ready before the clock starts.
    Memory,
    /// A file of JSON lines.
    Json,
    /// The generator.
    Generator,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct NexmarkBench {
    /// Names of queries; empty: all.
    pub queries: Vec<String>,
    /// Events per run.
    pub events: u64,
    /// Worker threads.
    pub workers: usize,
    /// Where events come from.
    pub source: EventSource,
    /// How they come; a file of JSON lines is always interleaved.
    pub layout: Layout,
}

/// What one query came to.
#[derive(Debug, Clone, Serialize)]
pub struct NexmarkResult {
    /// The query.
    pub query: String,
    /// Events that were read.
    pub events: u64,
    /// Worker threads.
    pub workers: usize,
    /// Seconds from creating the job until its last epoch was closed.
    pub seconds: f64,
    /// Events per second.
    pub events_per_second: f64,
    /// Seconds that reading the source alone takes; 0 if its batches were ready.
    pub source_seconds: f64,
    /// Updates that reached the sink.
    pub output_rows: u64,
    /// The most that operators said they kept, in bytes.
    pub state_bytes_max: u64,
    /// Resident set that the run added at its peak, in bytes.
    pub peak_bytes_added: u64,
    /// Epochs closed.
    pub epochs: u64,
    /// Half of the epochs took at most this many microseconds from opening to closing.
    pub epoch_us_p50: u64,
    /// 99 in 100 epochs took at most this.
    pub epoch_us_p99: u64,
    /// Upper ends in microseconds and counts of epochs.
    pub epoch_us_histogram: Vec<(u64, u64)>,
}

impl NexmarkBench {
    /// The names of all queries.
    pub fn all() -> Vec<&'static str> {
        QUERIES.iter().chain(MORE).map(|(name, _)| *name).collect()
    }

    /// Runs the queries one after another; `report` is called after each.
    pub fn run(&self, mut report: impl FnMut(&NexmarkResult)) -> Result<Vec<NexmarkResult>, BenchError> {
        let names: Vec<String> = match self.queries.is_empty() {
            true => Self::all().iter().map(|name| name.to_string()).collect(),
            false => self.queries.clone(),
        };
        let json = match self.source {
            EventSource::Json => Some(JsonFile::write(self.events)?),
            EventSource::Memory | EventSource::Generator => None,
        };
        let mut results = Vec::new();
        for name in &names {
            let result = self.query(name, json.as_ref())?;
            report(&result);
            results.push(result);
        }
        Ok(results)
    }

    fn query(&self, name: &str, json: Option<&JsonFile>) -> Result<NexmarkResult, BenchError> {
        let text = sql(name, self.layout)?;
        let job = compile(&text)?;
        let job = into_blackhole(with_source(job, self.events, json));
        let mut registry = Registry::builtin();
        let mut source_seconds = 0.0;
        if self.source == EventSource::Memory {
            registry = prepared(&job, self.workers)?;
        } else {
            let started = Instant::now();
            read_all(&job, &registry, self.workers)?;
            source_seconds = started.elapsed().as_secs_f64();
        }
        let runtime = Runtime::start(RuntimeConfig { workers: self.workers, registry, checkpoints: None }).map_err(failed)?;
        process::reset_peak();
        let before = process::resident_bytes();
        let started = Instant::now();
        let running =
            runtime.create(name, &text, job, CreateOptions { until_end: true, ..CreateOptions::default() }).map_err(failed)?;
        let stats = Arc::clone(running.handle().stats());
        let watch = Watch::start(Arc::clone(&stats));
        let state = running.wait_over(None);
        let seconds = started.elapsed().as_secs_f64();
        let state_bytes_max = watch.stop();
        if state != JobState::Finished {
            return Err(BenchError(format!("query {name} did not finish: {state:?}")));
        }
        let events: u64 = stats.sources.iter().map(|source| source.rows.load(Ordering::Relaxed)).sum();
        let sinks = stats.operators().into_iter().filter(|operator| operator.name.starts_with("sink "));
        let result = NexmarkResult {
            query: name.to_owned(),
            events,
            workers: self.workers,
            seconds,
            events_per_second: events as f64 / seconds,
            source_seconds,
            output_rows: sinks.map(|sink| sink.rows_in.load(Ordering::Relaxed)).sum(),
            state_bytes_max,
            peak_bytes_added: process::peak_bytes().saturating_sub(before),
            epochs: stats.epochs_closed.load(Ordering::Relaxed),
            epoch_us_p50: stats.epoch_latency.quantile(0.5).as_micros() as u64,
            epoch_us_p99: stats.epoch_latency.quantile(0.99).as_micros() as u64,
            epoch_us_histogram: stats
                .epoch_latency
                .buckets()
                .into_iter()
                .map(|(upper, count)| (upper.as_micros() as u64, count))
                .collect(),
        };
        runtime.shutdown();
        Ok(result)
    }
}

pub(super) fn sql(name: &str, layout: Layout) -> Result<String, BenchError> {
    const VIEW: &str = "CREATE MATERIALIZED VIEW";
    let find = |queries: &'static [(&'static str, &'static str)]| {
        queries.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    };
    let more = find(MORE);
    let Some(text) = more.map(|_| QUERIES[0].1).or_else(|| find(QUERIES)) else {
        return Err(BenchError(format!("unknown query '{name}'; there are {}", NexmarkBench::all().join(", "))));
    };
    let (sources, _) = text.split_once(VIEW).expect("every job has a view");
    let query = more.unwrap_or(&text[sources.len()..]);
    let sources = match layout {
        Layout::Interleaved => sources,
        Layout::Streams => STREAMS,
    };
    Ok(format!("{sources}{query}"))
}

pub(super) fn compile(text: &str) -> Result<Job, BenchError> {
    crate::app::compile(text).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(|error| error.render("job.sql", text)).collect();
        BenchError(texts.join("\n"))
    })
}

pub(super) fn failed(error: impl std::fmt::Debug) -> BenchError {
    BenchError(format!("{error:?}"))
}

/// The job over this many events, from the generator or a file.
pub(super) fn with_source(mut job: Job, events: u64, json: Option<&JsonFile>) -> Job {
    for source in &mut job.sources {
        let kind = source.options.get("type").unwrap_or("all").to_owned();
        let pairs: Vec<(&str, String)> = match json {
            None => vec![("connector", "nexmark".into()), ("type", kind), ("events", events.to_string())],
            Some(file) => {
                vec![("connector", "file".into()), ("format", "json".into()), ("path", file.path.display().to_string())]
            }
        };
        let entry = |(key, value): (&str, String)| OptionEntry { key: key.into(), value, key_span: None, value_span: None };
        source.options = Options { entries: pairs.into_iter().map(entry).collect(), span: None };
    }
    job
}

/// The job with its views replaced by sinks that count.
pub(super) fn into_blackhole(mut job: Job) -> Job {
    for view in std::mem::take(&mut job.views) {
        job.sinks.push(Sink {
            append_only: job.plan.nodes[view.node].properties.append_only,
            name: view.name,
            node: view.node,
            schema: view.schema,
            key: Some(view.key),
            emit: view.emit,
            options: Options::from_pairs([("connector", "blackhole")]),
            span: None,
        });
    }
    job
}

fn spec(source: &highwater_plan::Source, workers: usize) -> SourceSpec {
    SourceSpec {
        name: source.name.clone(),
        schema: Arc::clone(&source.schema),
        used: source.used.clone(),
        primary_key: source.primary_key.clone(),
        defaults: source.defaults.clone(),
        metadata: Vec::new(),
        options: source.options.clone(),
        keeps_origin: source.keeps_late_rows,
        workers,
        log: None,
    }
}

/// The batches of a job's sources, by source and partition.
pub(super) type Batches = HashMap<String, Arc<Vec<Vec<Prepared>>>>;

/// A registry whose `nexmark` gives batches that are ready.
fn prepared(job: &Job, workers: usize) -> Result<Registry, BenchError> {
    Ok(giving(prepared_batches(job, workers)?, Laps::ONE))
}

/// Reads all sources of a job to their end.
pub(super) fn prepared_batches(job: &Job, workers: usize) -> Result<Batches, BenchError> {
    let builtin = Registry::builtin();
    let mut batches = HashMap::new();
    for source in &job.sources {
        let opened = builtin.open_source(&spec(source, workers)).map_err(failed)?;
        batches.insert(source.name.clone(), Arc::new(prepare(opened.as_ref()).map_err(failed)?));
    }
    Ok(batches)
}

/// A registry whose `nexmark` gives these batches.
pub(super) fn giving(batches: Batches, laps: Laps) -> Registry {
    let mut registry = Registry::default();
    Registry::builtin().sinks_into(&mut registry);
    registry.add_source(Arc::new(Memory { name: "nexmark", batches, laps }));
    registry
}

/// Reads all sources to their end, for the time that this takes.
fn read_all(job: &Job, registry: &Registry, workers: usize) -> Result<(), BenchError> {
    for source in &job.sources {
        let opened = registry.open_source(&spec(source, workers)).map_err(failed)?;
        prepare(opened.as_ref()).map_err(failed)?;
    }
    Ok(())
}

/// The stream as a file of JSON lines, removed when dropped.
pub(super) struct JsonFile {
    path: PathBuf,
}

impl JsonFile {
    fn write(events: u64) -> Result<Self, BenchError> {
        let path = std::env::temp_dir().join(format!("highwater-nexmark-{}-{events}.jsonl", std::process::id()));
        let file = JsonFile { path };
        let select = "CREATE SINK lines AS SELECT event_type, person, auction, bid FROM nexmark WITH (connector = 'blackhole');";
        let (sources, _) = QUERIES[0].1.split_once("CREATE VIEW").expect("the job declares its source first");
        let text = format!("{sources}{select}");
        let mut job = with_source(compile(&text)?, events, None);
        let target = file.path.display().to_string();
        job.sinks[0].options = Options::from_pairs([("connector", "file"), ("path", target.as_str()), ("format", "json")]);
        let runtime =
            Runtime::start(RuntimeConfig { workers: 1, registry: Registry::builtin(), checkpoints: None }).map_err(failed)?;
        let running =
            runtime.create("lines", &text, job, CreateOptions { until_end: true, ..CreateOptions::default() }).map_err(failed)?;
        let state = running.wait_over(None);
        runtime.shutdown();
        if state != JobState::Finished {
            return Err(BenchError(format!("cannot write {}: {state:?}", file.path.display())));
        }
        Ok(file)
    }
}

impl Drop for JsonFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Looks at the operators' state while a job runs.
struct Watch {
    done: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(stats: Arc<highwater_engine::JobStats>) -> Self {
        let (done, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, seen) = (Arc::clone(&done), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let now: u64 = stats.operators().iter().map(|operator| operator.state_bytes.load(Ordering::Relaxed)).sum();
                seen.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Watch { done, most, thread }
    }

    fn stop(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}
