//! Opens what a job reads and writes: from its statements to feeds and sinks that the engine can run.
//!
//! Sources first, and sinks only when every source is open: opening a sink may create or empty something outside, which a
//! job that cannot run should not do. All mistakes of one kind are reported together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::datatypes::DataType;
use highwater_connectors::Registry;
use highwater_connectors::sink::{Delivery, SinkSpec, SinkTarget};
use highwater_connectors::source::{Offset, PartitionId, PushHandle, Source, SourceError, SourceLog, SourceSpec, Waker};
use highwater_engine::{EpochSink, FeedSpec, Time};
use highwater_plan::{Diagnostic, Job, SourceKind};

use crate::clock::Clock;
use crate::congestion::Congestion;
use crate::discovery::{Growing, Mailbox};
use crate::event_time::EventTime;
use crate::ingest::{Partition, SourceContext, SourceFeed, Stood};
use crate::options::SourceOptions;
use crate::outbox::{Outbox, OutboxSink};
use crate::publishing::Publishing;
use crate::pushed::Pushed;
use crate::signal::Signal;
use crate::sinks::{SinkStatus, WriterSink};
use crate::status::{Fault, PartitionInfo, PartitionStatus};

/// What opening needs besides the job.
pub(crate) struct Opening<'a> {
    /// The job's name.
    pub(crate) job: &'a str,
    /// The connectors there are.
    pub(crate) registry: &'a Registry,
    /// Wakes a worker, one per worker.
    pub(crate) wakers: Vec<Waker>,
    /// Stops the job's reading.
    pub(crate) fault: Arc<Fault>,
    /// Holds it up.
    pub(crate) congestion: Arc<Congestion>,
    /// Wakes whoever waits for the job.
    pub(crate) signal: Arc<Signal>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where sources keep what they accept, if the job has checkpoints.
    pub(crate) pushed: Option<&'a Pushed>,
    /// What it goes on from.
    pub(crate) resumed: Option<Resumed>,
    /// Whether sinks are opened.
    pub(crate) writes: bool,
}

/// What of a checkpoint concerns the outside.
#[derive(Default)]
pub(crate) struct Resumed {
    /// The checkpoint's epoch.
    pub(crate) epoch: Time,
    /// Per source, by its name, and partition where reading stood.
    pub(crate) positions: BTreeMap<(String, String), Stood>,
    pub(crate) beginnings: Beginnings,
}

/// What is known of where sources began, for partitions of which no position is known.
#[derive(Debug, Default)]
pub(crate) enum Beginnings {
    /// These had begun: what has appeared in them since is new. The others begin now.
    Known(BTreeSet<String>),
    /// The job goes from its beginning once more: the partitions that have a place in [`Resumed::positions`] were there.
    #[default]
    Again,
}

/// How a source is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Now,
    Before,
    Again,
}

/// What a job reads and writes, open.
pub(crate) struct Opened {
    /// For the engine.
    pub(crate) feeds: Vec<FeedSpec>,
    /// For the engine, one per [`Job::sinks`].
    pub(crate) sinks: Vec<Box<dyn EpochSink>>,
    /// For the running job, one per [`Job::sources`].
    pub(crate) sources: Vec<OpenSource>,
    /// For the running job, one per [`Job::sinks`].
    pub(crate) sink_statuses: Vec<Arc<SinkStatus>>,
    /// By the number of their sink, queues of those that are published, and who publishes them.
    pub(crate) outboxes: BTreeMap<usize, Arc<Outbox>>,
    pub(crate) publishing: Vec<Publishing>,
    /// Sources whose partitions may become more.
    pub(crate) growing: Vec<Growing>,
    /// What a person should know.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The largest number of rows that a source may give one epoch: the engine has to ask for so many.
    pub(crate) epoch_rows_max: usize,
}

/// A source of a running job.
pub(crate) struct OpenSource {
    pub(crate) name: String,
    pub(crate) kind: SourceKind,
    pub(crate) connector: String,
    pub(crate) bounded: bool,
    pub(crate) push: Option<Arc<dyn PushHandle>>,
    pub(crate) partitions: RwLock<Vec<Arc<PartitionStatus>>>,
    /// Kept open as long as the job: it may hold what its readers share.
    pub(crate) opened: Box<dyn Source>,
}

impl OpenSource {
    /// Its partitions, in the order in which they were found.
    pub(crate) fn partitions(&self) -> Vec<PartitionInfo> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|partition| partition.lock().clone()).collect()
    }

    /// Its partitions, by their names.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        self.partitions().into_iter().map(|partition| (self.name.clone(), partition.id)).collect()
    }

    /// One more has appeared.
    pub(crate) fn add_partition(&self, status: Arc<PartitionStatus>) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).push(status);
    }
}

impl Opening<'_> {
    /// Opens the sources and sinks of `job`.
    pub(crate) fn open(&self, job: &Job) -> Result<Opened, Vec<Diagnostic>> {
        let mut opened = Opened {
            feeds: Vec::new(),
            sinks: Vec::new(),
            sources: Vec::new(),
            sink_statuses: Vec::new(),
            outboxes: BTreeMap::new(),
            publishing: Vec::new(),
            growing: Vec::new(),
            warnings: Vec::new(),
            epoch_rows_max: if job.sources.is_empty() { job.settings.epoch_rows_max } else { 1 },
        };
        // Opening a sink may empty it: that is not done for a job of which another one is wrong.
        if self.writes {
            gather(job.sinks.iter().map(|sink| self.registry.validate_sink(&self.sink_spec(sink))))?;
        }
        let sources = 0..job.sources.len();
        gather(sources.map(|source| self.open_source(job, source, &mut opened)))?;
        if !self.writes {
            return Ok(opened);
        }
        gather(job.sinks.iter().enumerate().map(|(number, sink)| self.open_sink(number, sink, &mut opened)))?;
        Ok(opened)
    }

    fn open_source(&self, job: &Job, index: usize, opened: &mut Opened) -> Result<(), Diagnostic> {
        let statement = &job.sources[index];
        let options = SourceOptions::read(&statement.name, &statement.options)?;
        check_watermark(statement)?;
        opened.warnings.extend(idle_timeout_without_watermark(statement, &options));
        let workers = self.wakers.len();
        let begins = self.begins(&statement.name);
        let log = self.log_of(statement, begins)?;
        let spec = SourceSpec { log, ..spec_of(statement, self.split_for(&statement.name)) };
        let source = self.registry.open_source(&spec)?;
        if self.pushed.is_some() && spec.log.is_none() && source.push_handle().is_some() {
            opened.warnings.push(not_kept(statement));
        }
        let cannot_read = |error: SourceError| cannot_read(statement, error);
        let partitions = source.partitions().map_err(cannot_read)?;
        match begins {
            Begins::Now => source.check()?,
            Begins::Before => source.resumes(),
            Begins::Again => {}
        }

        let epoch_rows_max = options.epoch_rows_max.unwrap_or(job.settings.epoch_rows_max);
        let context = Arc::new(SourceContext {
            source: index,
            name: statement.name.clone(),
            job: self.job.to_owned(),
            bounded: source.bounded(),
            idle_timeout: options.idle_timeout.filter(|_| statement.watermark.is_some()),
            event_time: statement.watermark.clone().map(|watermark| EventTime::new(watermark, options.max_ahead)),
            epoch_rows_max,
            fault: Arc::clone(&self.fault),
            congestion: Arc::clone(&self.congestion),
            clock: Arc::clone(&self.clock),
        });
        let statuses: Vec<Arc<PartitionStatus>> = partitions
            .iter()
            .enumerate()
            .map(|(position, id)| Arc::new(PartitionStatus::new(id.to_string(), worker_of(position, workers))))
            .collect();
        let mut readers: Vec<Vec<Partition>> = workers_that_read(partitions.len(), workers).map(|_| Vec::new()).collect();
        let mut read = |(position, id): (usize, &PartitionId)| {
            let worker = worker_of(position, workers);
            let open = |id: &PartitionId, offset: Option<&Offset>, waker: Waker| source.read(id, offset, waker);
            let stood = self.stood(&statement.name, id);
            let (waker, status) = (Arc::clone(&self.wakers[worker]), Arc::clone(&statuses[position]));
            readers[worker].push(Partition::open(id.clone(), position as u32, waker, status, stood, open).map_err(cannot_read)?);
            Ok(())
        };
        let was_there = |(_, id): &(usize, &PartitionId)| begins != Begins::Again || self.stood(&statement.name, id).is_some();
        let (first, later): (Vec<_>, Vec<_>) = partitions.iter().enumerate().partition(was_there);
        first.into_iter().try_for_each(&mut read)?;
        if begins == Begins::Again {
            source.resumes();
        }
        later.into_iter().try_for_each(&mut read)?;
        let mut feeds = Vec::new();
        for (worker, mut readers) in readers.into_iter().enumerate() {
            readers.sort_by_key(Partition::number);
            let mailbox = Arc::new(Mailbox::default());
            feeds.push((Arc::clone(&mailbox), worker, Arc::clone(&self.wakers[worker])));
            let feed = Box::new(SourceFeed::new(Arc::clone(&context), readers, mailbox));
            opened.feeds.push(FeedSpec { source: index, worker, bounded: source.bounded(), feed });
        }
        if let Some(every) = source.grows() {
            opened.growing.push(Growing { source: index, every, known: partitions.into_iter().collect(), feeds });
        }
        opened.epoch_rows_max = opened.epoch_rows_max.max(epoch_rows_max);
        opened.sources.push(OpenSource {
            name: statement.name.clone(),
            kind: statement.kind,
            connector: statement.options.get("connector").unwrap_or_default().to_owned(),
            bounded: source.bounded(),
            push: source.push_handle(),
            partitions: RwLock::new(statuses),
            opened: source,
        });
        Ok(())
    }

    fn log_of(&self, source: &highwater_plan::Source, begins: Begins) -> Result<Option<SourceLog>, Diagnostic> {
        let log = |pushed: &Pushed| match begins {
            Begins::Now => pushed.new_log(&source.name),
            Begins::Before | Begins::Again => pushed.log(&source.name),
        };
        let log = self.pushed.map(log).transpose();
        log.map(Option::flatten)
            .map_err(|error| Diagnostic::error("source-unavailable", error.to_string()).at(source.options.span.or(source.span)))
    }

    /// In how many partitions a source that can be split at will is: as many as there are workers, or were when the job was
    /// saved.
    fn split_for(&self, source: &str) -> usize {
        let saved =
            self.resumed.as_ref().map_or(0, |resumed| resumed.positions.keys().filter(|(name, _)| name == source).count());
        if saved > 0 { saved } else { self.wakers.len() }
    }

    fn begins(&self, source: &str) -> Begins {
        match self.resumed.as_ref().map(|resumed| &resumed.beginnings) {
            None => Begins::Now,
            Some(Beginnings::Again) => Begins::Again,
            Some(Beginnings::Known(known)) if known.contains(source) => Begins::Before,
            Some(Beginnings::Known(_)) => Begins::Now,
        }
    }

    fn stood(&self, source: &str, partition: &PartitionId) -> Option<Stood> {
        self.resumed.as_ref()?.positions.get(&(source.to_owned(), partition.to_string())).cloned()
    }

    fn sink_spec(&self, sink: &highwater_plan::Sink) -> SinkSpec {
        sink_spec(self.job, sink, self.pushed.is_some(), self.resumed.is_some())
    }

    fn open_sink(&self, number: usize, sink: &highwater_plan::Sink, opened: &mut Opened) -> Result<(), Diagnostic> {
        let spec = self.sink_spec(sink);
        let target = self.registry.open_sink(&spec)?;
        let connector = sink.options.get("connector").unwrap_or_default().to_owned();
        let status = Arc::new(SinkStatus::new(sink.name.clone(), connector));
        opened.sink_statuses.push(Arc::clone(&status));
        opened.sinks.push(match target {
            SinkTarget::Writer(writer) => Box::new(WriterSink::new(writer, self.job.to_owned(), status, Arc::clone(&self.clock))),
            SinkTarget::Publisher(publisher) => {
                let delivery = spec.delivery(true)?;
                // Nothing is published that a restart would not find again.
                let waits = delivery == Delivery::ExactlyOnce || self.pushed.is_some();
                let outbox = Outbox::new(waits, number, Arc::clone(&self.congestion), Arc::clone(&status));
                opened.outboxes.insert(number, Arc::clone(&outbox));
                opened.publishing.push(Publishing {
                    publisher,
                    outbox: Arc::clone(&outbox),
                    job: self.job.to_owned(),
                    status,
                    fault: Arc::clone(&self.fault),
                    signal: Arc::clone(&self.signal),
                    clock: Arc::clone(&self.clock),
                    restored: self.resumed.as_ref().map(|resumed| resumed.epoch),
                    exactly_once: delivery == Delivery::ExactlyOnce,
                });
                Box::new(OutboxSink(outbox))
            }
        });
        Ok(())
    }
}

/// What a connector is told of a sink of a job, which may have checkpoints, and go on from one.
pub fn sink_spec(job: &str, sink: &highwater_plan::Sink, checkpoints: bool, resumes: bool) -> SinkSpec {
    SinkSpec {
        job: job.to_owned(),
        name: sink.name.clone(),
        schema: Arc::clone(&sink.schema),
        key: sink.key.clone(),
        append_only: sink.append_only,
        emit: sink.emit,
        options: sink.options.clone(),
        checkpoints,
        resumes,
    }
}

/// Which worker reads the partition at this position.
fn worker_of(position: usize, workers: usize) -> usize {
    position % workers
}

/// The workers that need a feed. A source without partitions has one, too: something must say that it has ended, or that
/// it has not.
fn workers_that_read(partitions: usize, workers: usize) -> std::ops::Range<usize> {
    0..partitions.clamp(1, workers)
}

/// What a connector is told of a source that keeps nothing of its own, in so many partitions if that is for us to say.
pub(crate) fn spec_of(source: &highwater_plan::Source, workers: usize) -> SourceSpec {
    SourceSpec {
        name: source.name.clone(),
        schema: Arc::clone(&source.schema),
        used: source.used.clone(),
        primary_key: source.primary_key.clone(),
        defaults: source.defaults.clone(),
        metadata: source.metadata.clone(),
        options: source.options.clone(),
        keeps_origin: source.keeps_late_rows,
        workers,
        log: None,
    }
}

fn not_kept(source: &highwater_plan::Source) -> Diagnostic {
    let message = format!(
        "rows pushed to '{}' survive this process from the next checkpoint on, not from when they are accepted: the checkpoints \
         are not in a directory of this machine",
        source.name
    );
    Diagnostic::warning("not-durable", message)
        .at(source.options.span.or(source.span))
        .help("keep the checkpoints in a directory, or let clients send again what was accepted since the last one")
}

fn check_watermark(source: &highwater_plan::Source) -> Result<(), Diagnostic> {
    let Some(watermark) = &source.watermark else { return Ok(()) };
    for expr in [&watermark.event_time, &watermark.expr] {
        if !matches!(expr.data_type, DataType::Timestamp(..)) {
            let message = format!("the watermark of '{}' is no timestamp but {}", watermark.column, expr.data_type);
            return Err(Diagnostic::error("watermark-type", message).at(expr.span.or(source.span)));
        }
    }
    Ok(())
}

fn idle_timeout_without_watermark(source: &highwater_plan::Source, options: &SourceOptions) -> Option<Diagnostic> {
    let entry = source.options.entry("idle_timeout").filter(|_| options.idle_timeout.is_some() && source.watermark.is_none())?;
    let message = format!("'idle_timeout' has no effect: source '{}' has no watermark", source.name);
    Some(
        Diagnostic::warning("unused-option", message)
            .at(entry.key_span.or(source.span))
            .help("add WATERMARK FOR, or leave it out"),
    )
}

fn cannot_read(source: &highwater_plan::Source, error: SourceError) -> Diagnostic {
    let message = format!("source '{}' cannot be read: {}", source.name, error.message);
    Diagnostic::error("source-unavailable", message).at(source.options.span.or(source.span))
}

/// All errors, or none.
fn gather(results: impl Iterator<Item = Result<(), Diagnostic>>) -> Result<(), Vec<Diagnostic>> {
    let errors: Vec<Diagnostic> = results.filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_go_round_the_workers() {
        let workers: Vec<usize> = (0..5).map(|position| worker_of(position, 3)).collect();
        assert_eq!(workers, [0, 1, 2, 0, 1]);
        assert_eq!(workers_that_read(5, 3), 0..3);
        assert_eq!(workers_that_read(2, 3), 0..2);
        assert_eq!(workers_that_read(0, 3), 0..1);
    }
}
