//! Runs the part of a changed job whose state is not there, and takes the state that it comes to.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use highwater_connectors::Registry;
use highwater_connectors::source::{PartitionId, Source, SourceError, Waker};
use highwater_engine::{
    Checkpoint, Clock, Delta, Engine, EpochSink, FeedSpec, JobHandle, JobSpec, JobState, OperatorState, Time,
};
use highwater_plan::Job;

use super::feed::{ExcerptFeed, Progress, Until};
use super::{Change, Origin, SourceMeta};
use crate::checkpoints::CheckpointError;
use crate::clock::Clock as WallClock;
use crate::congestion::Congestion;
use crate::discovery::Mailbox;
use crate::event_time::EventTime;
use crate::ingest::{Partition, SourceContext, SourceFeed, Stood};
use crate::open::spec_of;
use crate::options::SourceOptions;
use crate::restoring::RestoreProgress;
use crate::signal::Signal;
use crate::status::{Fault, PartitionStatus};

/// How long a wait goes on without looking whether there is something to say.
const SLICE: Duration = Duration::from_millis(50);

/// What an excerpt needs of the runtime.
pub(crate) struct Rebuilding<'a> {
    pub(crate) name: &'a str,
    pub(crate) job: &'a Arc<Job>,
    pub(crate) change: &'a Change,
    pub(crate) engine: &'a Engine,
    pub(crate) registry: &'a Registry,
    pub(crate) clock: &'a Arc<dyn WallClock>,
    /// What the sources had said of time.
    pub(crate) until: &'a Clock,
    /// Where reading stood.
    pub(crate) stood: &'a BTreeMap<(String, String), Stood>,
    /// What was saved of the sources.
    pub(crate) sources: &'a [SourceMeta],
    /// The rows that are kept under the names of [`Change::given`] and [`Origin::Table`].
    pub(crate) kept: BTreeMap<String, Vec<Delta>>,
    /// Told how far it is.
    pub(crate) progress: &'a RestoreProgress<'a>,
}

/// What an excerpt came to.
pub(crate) struct Rebuilt {
    /// All changes of the state that it made are of this epoch or before it.
    pub(crate) epoch: Time,
    /// The state of the operators that had none.
    pub(crate) states: Vec<OperatorState>,
    /// What the new sinks would have got in all.
    pub(crate) sinks: BTreeMap<String, Vec<Delta>>,
    /// How many rows it took.
    pub(crate) rows: u64,
}

impl Rebuilding<'_> {
    /// Runs the excerpt to where the job stood.
    pub(crate) fn run(mut self) -> Result<Rebuilt, CheckpointError> {
        let failed = |why: String| CheckpointError::Rebuilding { job: self.name.to_owned(), why };
        let signal = Arc::new(Signal::default());
        let fault = Arc::new(Fault::new(Arc::clone(&signal)));
        let progress = Arc::new(Progress::default());
        let mut opened = Vec::new();
        let feeds = self.feeds(&progress, &fault, &mut opened).map_err(failed)?;
        let taken: Vec<Arc<Taken>> = self.job.sinks.iter().map(|_| Arc::default()).collect();
        let sinks = taken.iter().map(|taken| Box::new(Taking(Arc::clone(taken))) as Box<dyn EpochSink>);
        let failed = |why: String| CheckpointError::Rebuilding { job: self.name.to_owned(), why };
        let spec = JobSpec {
            name: format!("{} (rebuilding)", self.name),
            job: Arc::clone(self.job),
            feeds,
            sinks: sinks.collect(),
            checkpoints: true,
            restore: None,
            until_end: false,
            script: Default::default(),
            recorder: None,
            excerpt: Some(self.change.excerpt.clone()),
        };
        let handle = self.engine.create(spec).map_err(|error| failed(error.to_string()))?;
        let told = Arc::clone(&signal);
        handle.listen(move |_, _| told.notify());
        fault.attach(handle.clone());
        let done = self.take(&handle, &progress, &signal);
        // Its feeds may be reading: they are done with before the sources are closed.
        let _ = self.engine.drop_job(handle.id());
        for_a_while(&signal, || (handle.state() != JobState::Running).then_some(()));
        let checkpoint = done.map_err(failed)?;
        let is_missing = |state: &OperatorState| {
            let operator = (state.operator.node, state.operator.name.clone());
            self.change.missing.contains(&operator)
        };
        let named = self.job.sinks.iter().zip(taken).filter(|(sink, _)| self.change.new_sinks.contains(&sink.name));
        Ok(Rebuilt {
            epoch: checkpoint.epoch,
            states: checkpoint.states.into_iter().filter(is_missing).collect(),
            sinks: named.map(|(sink, taken)| (sink.name.clone(), taken.all(sink.append_only))).collect(),
            rows: rows_of(&handle),
        })
    }

    /// Waits until all rows are in, and takes the state after them.
    fn take(&self, handle: &JobHandle, progress: &Progress, signal: &Arc<Signal>) -> Result<Checkpoint, String> {
        let over = || -> Option<Result<(), String>> {
            match handle.state() {
                JobState::Failed(why) => Some(Err(why)),
                JobState::Dropped => Some(Err("it was stopped".into())),
                _ => None,
            }
        };
        let say = || self.progress.rebuilding(rows_of(handle));
        loop {
            let in_all = || over().or_else(|| progress.is_done().then_some(Ok(())));
            if let Some(done) = for_a_while(signal, in_all) {
                done?;
                break;
            }
            say();
        }
        let (send, taken) = channel();
        let told = Arc::clone(signal);
        handle.checkpoint(Box::new(move |checkpoint| {
            // Nobody waits any more if the job has failed.
            let _ = send.send(checkpoint);
            told.notify();
        }));
        let checkpoint = loop {
            let come = || taken.try_recv().ok().or_else(|| over().and_then(Result::err).map(Err));
            match for_a_while(signal, come) {
                Some(checkpoint) => break checkpoint?,
                None => say(),
            }
        };
        loop {
            let closed = || over().or_else(|| (handle.closed() >= checkpoint.epoch).then_some(Ok(())));
            if let Some(done) = for_a_while(signal, closed) {
                return done.map(|()| checkpoint);
            }
            say();
        }
    }

    /// Every source has a feed, so that its watermark comes to what it was.
    fn feeds(
        &mut self,
        progress: &Arc<Progress>,
        fault: &Arc<Fault>,
        opened: &mut Vec<Arc<dyn Source>>,
    ) -> Result<Vec<FeedSpec>, String> {
        let workers = self.engine.workers();
        let until = |source: usize| self.until.watermarks.get(source).copied().unwrap_or(i64::MIN);
        let mut feeds = Vec::new();
        for (index, source) in self.job.sources.iter().enumerate() {
            let kept = match self.change.sources.get(&index) {
                Some(Origin::Again) => {
                    feeds.extend(self.again(index, until(index), progress, fault, opened)?);
                    continue;
                }
                Some(Origin::Table(key)) => {
                    let kept = self.kept.get(key).cloned().unwrap_or_default();
                    let known = self.sources.iter().find(|known| known.name == source.name);
                    let known = known.map(|known| known.used.as_slice()).unwrap_or_default();
                    kept.iter().map(|delta| widened(delta, known, source)).collect::<Result<_, _>>()?
                }
                _ => Vec::new(),
            };
            let feed = Box::new(ExcerptFeed::kept(kept, until(index), progress));
            feeds.push(FeedSpec { source: index, worker: index % workers, bounded: false, feed });
        }
        for (index, (node, key)) in self.change.excerpt.given.iter().zip(&self.change.given).enumerate() {
            let schema = &self.job.plan.nodes[*node].schema;
            let kept = self.kept.remove(key).unwrap_or_default();
            let rows = kept.into_iter().map(|delta| under(schema, &delta)).collect::<Result<_, _>>()?;
            let feed = Box::new(ExcerptFeed::kept(rows, i64::MIN, progress));
            let source = self.job.sources.len() + index;
            feeds.push(FeedSpec { source, worker: index % workers, bounded: false, feed });
        }
        Ok(feeds)
    }

    /// A source, as far as it had been read.
    fn again(
        &self,
        index: usize,
        until: i64,
        progress: &Arc<Progress>,
        fault: &Arc<Fault>,
        opened: &mut Vec<Arc<dyn Source>>,
    ) -> Result<Vec<FeedSpec>, String> {
        let statement = &self.job.sources[index];
        let stood: Vec<(PartitionId, &Stood)> = self
            .stood
            .iter()
            .filter(|((source, _), _)| *source == statement.name)
            .map(|((_, partition), stood)| (PartitionId::new(partition), stood))
            .collect();
        let text = |error: &dyn std::fmt::Display| format!("source '{}': {error}", statement.name);
        let options = SourceOptions::read(&statement.name, &statement.options).map_err(|error| text(&error))?;
        let source = self.registry.open_source(&spec_of(statement, stood.len().max(1))).map_err(|error| text(&error))?;
        let source: Arc<dyn Source> = Arc::from(source);
        opened.push(Arc::clone(&source));
        let workers = self.engine.workers();
        let context = Arc::new(SourceContext {
            source: index,
            name: statement.name.clone(),
            job: self.name.to_owned(),
            bounded: true,
            idle_timeout: None,
            event_time: statement.watermark.clone().map(|watermark| EventTime::new(watermark, options.max_ahead)),
            epoch_rows_max: options.epoch_rows_max.unwrap_or(self.job.settings.epoch_rows_max),
            fault: Arc::clone(fault),
            congestion: Arc::new(Congestion::new(Vec::new())),
            clock: Arc::clone(self.clock),
        });
        let mut feeds = Vec::new();
        for (position, (id, stood)) in stood.into_iter().enumerate() {
            let worker = position % workers;
            let waker: Waker = self.engine.waker(worker);
            let open = |id: &PartitionId, _: Option<&_>, waker: Waker| {
                let before = match &stood.offset {
                    Some(offset) => Some(source.again(id, offset, Arc::clone(&waker))?),
                    None => None,
                };
                let (source, id, offset) = (Arc::clone(&source), id.clone(), stood.offset.clone());
                let after = move || source.read(&id, offset.as_ref(), waker);
                Ok::<_, SourceError>(Box::new(Until::new(before, stood.done_after, Box::new(after))) as Box<_>)
            };
            let status = Arc::new(PartitionStatus::new(id.to_string(), worker));
            let partition = Partition::open(id, position as u32, waker, status, None, open).map_err(|error| text(&error))?;
            let feed = SourceFeed::new(Arc::clone(&context), vec![partition], Arc::new(Mailbox::default()));
            let feed = Box::new(ExcerptFeed::again(feed, until, progress));
            feeds.push(FeedSpec { source: index, worker, bounded: false, feed });
        }
        Ok(feeds)
    }
}

fn for_a_while<T>(signal: &Signal, look: impl FnMut() -> Option<T>) -> Option<T> {
    let mut left = Some(SLICE);
    signal.wait(look, || left.take())
}

fn rows_of(handle: &JobHandle) -> u64 {
    handle.stats().sources.iter().map(|source| source.rows.load(Ordering::Relaxed)).sum()
}

/// Rows of a table as it is declared now: columns that it did not have then have their default, or are NULL.
fn widened(delta: &Delta, known: &[String], source: &highwater_plan::Source) -> Result<Delta, String> {
    let rows = delta.rows.num_rows();
    let column = |column: &usize| -> Result<ArrayRef, String> {
        let field = &source.schema.fields()[*column];
        if let Some(position) = known.iter().position(|name| name == field.name()) {
            let kept = delta.rows.columns().get(position).filter(|kept| kept.data_type() == field.data_type());
            return kept.cloned().ok_or_else(|| format!("column {} of table {} has another type now", field.name(), source.name));
        }
        match source.defaults.get(*column).and_then(Option::as_ref) {
            None => Ok(new_null_array(field.data_type(), rows)),
            Some(default) => {
                let texts = StringArray::from_iter_values(std::iter::repeat_n(default, rows));
                cast(&texts, field.data_type()).map_err(|error| format!("the DEFAULT of column {}: {error}", field.name()))
            }
        }
    };
    let columns = source.used.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let fields: Vec<_> = source.used.iter().map(|column| Arc::clone(&source.schema.fields()[*column])).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())?;
    Ok(Delta::of(rows, delta.diffs.clone()))
}

/// Rows under the schema of the node that gives them.
fn under(schema: &SchemaRef, delta: &Delta) -> Result<Delta, String> {
    let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), delta.rows.columns().to_vec(), &options);
    Ok(Delta::of(rows.map_err(|error| error.to_string())?, delta.diffs.clone()))
}

/// What a sink would write.
#[derive(Default)]
struct Taken(Mutex<Vec<Delta>>);

impl Taken {
    /// All of it, added up unless rows are only added.
    fn all(&self, append_only: bool) -> Vec<Delta> {
        let changes = std::mem::take(&mut *self.0.lock().expect("nothing panics under this lock"));
        if append_only { changes } else { added_up(changes) }
    }
}

fn added_up(changes: Vec<Delta>) -> Vec<Delta> {
    let (form, spread, piece) = (highwater_engine::Form::Rows, highwater_engine::Spread::One, highwater_engine::Piece::WHOLE);
    highwater_engine::fold(&[highwater_engine::TableState { table: 0, form, spread, piece, changes, freed: None }], true)
}

struct Taking(Arc<Taken>);

impl EpochSink for Taking {
    fn write(&mut self, _: Time, changes: &[Delta]) -> Result<(), String> {
        let changes = changes.iter().map(|delta| Delta::of(delta.rows.clone(), delta.diffs.clone()));
        self.0.0.lock().expect("nothing panics under this lock").extend(changes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}
