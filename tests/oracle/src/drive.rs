//! Runs a job on an engine and writes down all that can be seen of it.
//!
//! The engine opens epochs by itself, so a script's steps are let through a gate: when step `k` is opened, every feed gives
//! its batches of that step, and their receipts tell which epochs they got. Then the driver waits until the last of those
//! epochs is closed and reads all views. In the other mode all steps are open from the start, several epochs are in flight,
//! and views are read at whatever epoch happens to be closed.
//!
//! At the end the changes of every epoch are read from the views' histories: so the content after *every* epoch is known,
//! whether the driver came by then or not.

mod arriving;
mod feed;
mod sink;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use highwater_engine::{
    Changed, Checkpoint, Engine, EngineConfig, FeedSpec, JobHandle, JobSpec, JobState, Restore, Time, ViewHandle, kept_operators,
};
use highwater_plan::{Job, OutputNames};

use self::arriving::State;
use self::feed::{ScriptedFeed, Stage};
use self::sink::Written;
use crate::history::{FeedHistory, History, Mark, TakenBatch};
use crate::multiset::Multiset;
use crate::script::Script;
use crate::value::{Row, rows_of};

/// Without a sign of life for this long the job has stalled.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rows that a view may have, copies counted: the naive evaluation keeps copies together, a reader gets each of them.
const ROWS_MAX: usize = 50_000;

/// All that was seen of a job.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// What it took, and in which epochs.
    pub history: History,
    /// The last closed epoch.
    pub closed: Time,
    /// Views read while the job ran.
    pub reads: Vec<Read>,
    /// Per view its changes.
    pub views: Vec<Vec<Change>>,
    /// Per view the changes of its `$errors`.
    pub errors: Vec<Vec<Change>>,
    /// Per view how many rows its `$errors` has at last, those from before the first epoch included.
    pub failed: Vec<i64>,
    /// Per source the changes of its `$late`.
    pub late: Vec<Vec<Change>>,
    /// Per sink what was written to it.
    pub sinks: Vec<Vec<Change>>,
    /// The checkpoints that were taken, one per restart.
    pub saved: Vec<Checkpoint>,
}

/// All views at one epoch.
#[derive(Debug, Clone)]
pub struct Read {
    /// The epoch.
    pub epoch: Time,
    /// Per view its rows.
    pub views: Vec<Multiset>,
}

/// What an epoch changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// The epoch.
    pub epoch: Time,
    /// Rows and multiplicities.
    pub rows: Vec<(Row, i64)>,
}

/// The engine did not do its part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// The job failed.
    #[error("the job failed: {0}")]
    Failed(String),
    /// Nothing happened any more.
    #[error("the job stalled in {0}")]
    Stalled(String),
    /// A view has more rows than anybody wants to look at.
    #[error("too many rows")]
    TooLarge,
    /// Something was seen that cannot be, whatever the job.
    #[error("{0}")]
    Broken(String),
}

/// Runs a job through its script. The job is dropped at the end.
pub fn drive(engine: &Engine, job: &Arc<Job>, script: &Script) -> Result<Observed, DriveError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let script = &script.begun_at(now, job);
    let written: Vec<Arc<Mutex<Vec<Change>>>> = job.sinks.iter().map(|_| Arc::default()).collect();
    let case = Case { job, script, stage: Arc::new(Stage::new(script)), written };
    let mut observed = Observed {
        views: vec![Vec::new(); job.views.len()],
        errors: vec![Vec::new(); job.views.len()],
        late: vec![Vec::new(); job.sources.len()],
        failed: vec![0; job.views.len()],
        ..Observed::default()
    };
    case.run(engine, None, 0, &script.restarts, &mut observed)?;
    for rows in case.written {
        let written = rows.lock().expect("sinks do not panic").clone();
        let closed = written.iter().map(|change| change.epoch).filter(|epoch| *epoch <= observed.closed);
        observed.history.seen.extend(closed);
        observed.sinks.push(written);
    }
    Ok(observed)
}

/// A job and its script.
struct Case<'a> {
    job: &'a Arc<Job>,
    script: &'a Script,
    stage: Arc<Stage>,
    written: Vec<Arc<Mutex<Vec<Change>>>>,
}

impl Case<'_> {
    /// Runs the job from a step on until it ends or is to be restarted; then goes on with a new engine.
    fn run(
        &self,
        engine: &Engine,
        state: Option<State>,
        from: usize,
        restarts: &[(usize, usize)],
        observed: &mut Observed,
    ) -> Result<(), DriveError> {
        let (restore, arriving) = state.map(State::split).unzip();
        let (since, restored) = (restore.as_ref().map_or(0, |restore| restore.epoch), restore.is_some());
        let handle = self.create(engine, restore, !restarts.is_empty())?;
        arriving.into_iter().for_each(|tables| tables.arrive());
        let run = Run { engine, job: self.job, script: self.script, stage: &self.stage, handle: &handle };
        if restored {
            // Rows of one feed in an epoch in which another has not said yet how far it is would count in other windows.
            let restated = || self.stage.restated().is_some_and(|epoch| handle.closed() >= epoch);
            run.wait("going on", restated)?;
        }
        let dropped = || engine.drop_job(handle.id()).map_err(|error| DriveError::Failed(error.to_string()));
        if let Some(((after, workers), rest)) = restarts.split_first().filter(|_| self.script.awaited) {
            let ended = self.script.finishes && *after > self.script.steps();
            let finished = || run.wait("finishing", || handle.state() == JobState::Finished);
            let given = run.steps(from..*after, observed).and_then(|()| if ended { finished() } else { Ok(()) });
            let saved = given.and_then(|()| run.checkpoint());
            if let Some(checkpoint) = saved? {
                run.collect(since, checkpoint.epoch, observed)?;
                dropped()?;
                for rows in &self.written {
                    rows.lock().expect("sinks do not panic").retain(|change| change.epoch <= checkpoint.epoch);
                }
                let next =
                    Engine::start(EngineConfig { workers: *workers }).map_err(|error| DriveError::Failed(error.to_string()))?;
                observed.saved.push(checkpoint);
                let kept = kept_operators(self.job).map_err(|error| DriveError::Failed(error.to_string()))?;
                let state = State::new(&observed.saved, *workers, kept, *after as u64);
                return self.run(&next, Some(state), *after, rest, observed);
            }
            let seen = run.through(*after, since, observed);
            dropped()?;
            return seen;
        }
        let seen = run.through(from, since, observed);
        dropped()?;
        seen
    }

    fn create(&self, engine: &Engine, restore: Option<Restore>, checkpoints: bool) -> Result<JobHandle, DriveError> {
        let Case { job, script, stage, written } = self;
        let feeds = script.feeds.iter().enumerate().map(|(index, feed)| {
            let source =
                job.sources.iter().position(|source| source.name == feed.source).expect("a script's sources are the job's");
            let position = restore.as_ref().and_then(|restore| restore.positions.get(&(source, index.to_string())));
            let position = position.map(|position| position.parse().expect("a scripted feed gave it"));
            let scripted = ScriptedFeed::new(index, feed, &job.sources[source], source, script, Arc::clone(stage), position);
            FeedSpec { source, worker: feed.worker, bounded: false, feed: Box::new(scripted) }
        });
        let feeds = feeds.collect();
        let sinks = written.iter().map(|rows| Box::new(Written::new(Arc::clone(rows))) as _).collect();
        let job = Arc::clone(job);
        let spec = JobSpec {
            name: "case".into(),
            job,
            feeds,
            sinks,
            until_end: false,
            checkpoints,
            restore,
            script: Default::default(),
            recorder: None,
            excerpt: None,
        };
        let handle = engine.create(spec).map_err(|error| DriveError::Failed(error.to_string()))?;
        let signal = Arc::clone(stage);
        handle.listen(move |_, _| signal.tell());
        Ok(handle)
    }
}

struct Run<'a> {
    engine: &'a Engine,
    job: &'a Job,
    script: &'a Script,
    stage: &'a Arc<Stage>,
    handle: &'a JobHandle,
}

impl Run<'_> {
    /// Gives some steps, one after the other.
    fn steps(&self, steps: Range<usize>, observed: &mut Observed) -> Result<(), DriveError> {
        for step in steps {
            self.open(step + 1);
            self.await_step(step)?;
            observed.reads.push(self.read()?);
        }
        Ok(())
    }

    /// The job's state, if it can be saved.
    fn checkpoint(&self) -> Result<Option<Checkpoint>, DriveError> {
        let taken: Arc<Mutex<Option<Result<Checkpoint, String>>>> = Arc::default();
        let (gives, signal) = (Arc::clone(&taken), Arc::clone(self.stage));
        self.handle.checkpoint(Box::new(move |checkpoint| {
            *gives.lock().expect("nothing panics under this lock") = Some(checkpoint);
            signal.tell();
        }));
        let is_there = || taken.lock().expect("nothing panics under this lock").is_some();
        self.wait("saving", is_there)?;
        match taken.lock().expect("nothing panics under this lock").take() {
            Some(Ok(checkpoint)) => {
                self.wait("closing the checkpoint", || self.handle.closed() >= checkpoint.epoch)?;
                Ok(Some(checkpoint))
            }
            Some(Err(why)) if why.contains("cannot be saved yet") => Ok(None),
            other => Err(DriveError::Broken(format!("no checkpoint: {other:?}"))),
        }
    }

    fn through(&self, from: usize, since: Time, observed: &mut Observed) -> Result<(), DriveError> {
        let steps = self.script.steps() + usize::from(self.script.finishes);
        if self.script.awaited {
            self.steps(from..steps, observed)?;
        } else {
            self.open(steps);
            let mut last = 0;
            while !self.is_through(steps) {
                self.wait("reading along", || self.handle.closed() > last || self.is_through(steps))?;
                last = self.handle.closed();
                if last > 0 && observed.reads.len() < 12 {
                    observed.reads.push(self.read()?);
                }
            }
            observed.reads.push(self.read()?);
        }
        if self.script.finishes {
            self.wait("finishing", || self.handle.state() == JobState::Finished)?;
            observed.reads.push(self.read()?);
        }
        observed.closed = self.handle.closed();
        observed.history = self.history(observed.closed);
        self.collect(since, observed.closed, observed)?;
        // The clock changes content in epochs of its own.
        let changed = observed.views.iter().chain(&observed.errors).flatten().map(|change| change.epoch);
        observed.history.seen = changed.collect();
        Ok(())
    }

    /// Writes down what the epochs in `(since, closed]` changed.
    fn collect(&self, since: Time, closed: Time, observed: &mut Observed) -> Result<(), DriveError> {
        let changes = |name: &str| self.changes(name, since, closed);
        for (view, (changed, errors)) in self.job.views.iter().zip(observed.views.iter_mut().zip(&mut observed.errors)) {
            changed.extend(changes(&view.name)?);
            errors.extend(changes(&OutputNames::errors(&view.name))?);
        }
        for (view, sum) in self.job.views.iter().zip(&mut observed.failed) {
            let errors = self.view(&OutputNames::errors(&view.name))?.at(closed);
            let errors = errors.map_err(|error| DriveError::Broken(format!("{}: {error}", view.name)))?;
            let failed: usize = errors.read(&[], Some(ROWS_MAX + 1)).iter().map(RecordBatch::num_rows).sum();
            if failed > ROWS_MAX {
                return Err(DriveError::TooLarge);
            }
            *sum = failed as i64;
        }
        for (source, late) in self.job.sources.iter().zip(&mut observed.late) {
            let name = OutputNames::late(&source.name);
            late.extend(changes(&name)?);
            // What came before a job was restored is there as well.
            let all: Multiset = late.iter().flat_map(|change| change.rows.iter().cloned()).collect();
            let all: Multiset = all.iter().filter(|(_, diff)| *diff > 0).map(|(row, diff)| (row.clone(), diff)).collect();
            let there = self.view(&name)?.at(closed).map_err(|error| DriveError::Broken(format!("{name}: {error}")))?;
            let there = there.read(&[], Some(ROWS_MAX + 1)).iter().flat_map(rows_of).map(|row| (row, 1)).collect::<Multiset>();
            if there != all {
                let (there, all) = (there.show(), all.show());
                return Err(DriveError::Broken(format!("{name} has\n{there}and was given\n{all}")));
            }
        }
        for view in &self.job.views {
            let anomalies = self.view(&view.name)?.anomalies();
            if anomalies > 0 {
                return Err(DriveError::Broken(format!("view {} was found to retract more than it has", view.name)));
            }
        }
        Ok(())
    }

    /// Lets all feeds give the steps before `steps`.
    fn open(&self, steps: usize) {
        self.stage.open(steps);
        (0..self.engine.workers()).for_each(|worker| self.engine.waker(worker)());
    }

    /// Waits until all that belongs to a step is closed.
    fn await_step(&self, step: usize) -> Result<(), DriveError> {
        self.wait("giving a step", || self.stage.taken(step + 1).is_some())?;
        let last = self.stage.taken(step + 1).expect("just waited for");
        self.wait("closing a step", || self.handle.closed() >= last)
    }

    fn is_through(&self, steps: usize) -> bool {
        self.stage.taken(steps).is_some_and(|last| self.handle.closed() >= last)
    }

    fn wait(&self, doing: &str, done: impl Fn() -> bool) -> Result<(), DriveError> {
        match self.stage.wait(PATIENCE, || done() || self.failed().is_some()) {
            true => self.failed().map_or(Ok(()), |why| Err(DriveError::Failed(why))),
            false => Err(DriveError::Stalled(format!("{doing}, closed epoch {}", self.handle.closed()))),
        }
    }

    fn failed(&self) -> Option<String> {
        match self.handle.state() {
            JobState::Failed(why) => Some(why),
            _ => None,
        }
    }

    fn view(&self, name: &str) -> Result<&Arc<ViewHandle>, DriveError> {
        self.handle.view(name).ok_or_else(|| DriveError::Broken(format!("there is no relation {name}")))
    }

    /// All views at one closed epoch.
    fn read(&self) -> Result<Read, DriveError> {
        loop {
            let epoch = self.handle.closed();
            let views = self.job.views.iter().map(|view| Ok(self.view(&view.name)?.at(epoch))).collect::<Result<Vec<_>, _>>()?;
            let Ok(views) = views.into_iter().collect::<Result<Vec<_>, _>>() else { continue };
            let rows = |batches: Vec<RecordBatch>| match batches.iter().map(RecordBatch::num_rows).sum() {
                0..=ROWS_MAX => Ok(batches.iter().flat_map(rows_of).map(|row| (row, 1)).collect()),
                _ => Err(DriveError::TooLarge),
            };
            let views = views.iter().map(|view| rows(view.read(&[], Some(ROWS_MAX + 1)))).collect::<Result<_, _>>()?;
            // Scripts take back only what they gave, so no view has a row less than none.
            for view in &self.job.views {
                if self.view(&view.name)?.anomalies() > 0 {
                    return Err(DriveError::Broken(format!("{}: a row was retracted more often than added", view.name)));
                }
            }
            return Ok(Read { epoch, views });
        }
    }

    fn changes(&self, name: &str, since: Time, closed: Time) -> Result<Vec<Change>, DriveError> {
        let view = self.view(name)?;
        let changes = view.changes(since, closed).map_err(|error| DriveError::Broken(format!("{name}: {error}")))?;
        let mut last = since;
        let mut all = Vec::new();
        for Changed { epoch, rows, diffs } in changes {
            if epoch <= last || epoch > closed || rows.num_rows() == 0 {
                return Err(DriveError::Broken(format!("{name}: the changes of epoch {epoch} stand after those of {last}")));
            }
            last = epoch;
            let rows: Vec<(Row, i64)> = rows_of(&rows).into_iter().zip(diffs.values().iter().copied()).collect();
            if rows.iter().any(|(_, diff)| *diff == 0) || diffs.null_count() > 0 {
                return Err(DriveError::Broken(format!("{name}: a change of epoch {epoch} changes nothing")));
            }
            all.push(Change { epoch, rows });
        }
        Ok(all)
    }

    fn history(&self, closed: Time) -> History {
        let receipts = self.stage.state().receipts.clone();
        let feeds = self.script.feeds.iter().enumerate().map(|(index, feed)| {
            let source = self.job.sources.iter().position(|source| source.name == feed.source).expect("it was found before");
            let taken = receipts.iter().filter(|((of, _), _)| *of == index);
            let batches = taken.map(|((_, number), epoch)| {
                let batch = feed.batches.get(*number);
                let last = number + 1 >= feed.batches.len() + usize::from(!feed.ends_with_rows);
                let mark = match batch.is_some_and(|batch| batch.idle) {
                    _ if last && self.script.finishes => Mark::Finished,
                    true => Mark::Idle,
                    false => Mark::Active,
                };
                TakenBatch { epoch: *epoch, rows: batch.map(|batch| batch.rows.clone()).unwrap_or_default(), mark }
            });
            FeedHistory { source, batches: batches.filter(|batch| batch.epoch <= closed).collect() }
        });
        let feeds = feeds.collect();
        let ended = (self.handle.state() == JobState::Finished).then_some(closed);
        History { feeds, ended, seen: Vec::new() }
    }
}
