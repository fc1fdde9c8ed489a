//! The worker threads and the commands they follow.
//!
//! Every worker takes the same commands in the same order, builds the same dataflows, and then goes round: commands, each
//! job's ingestion, a step of timely, publication. A worker with nothing to do parks; it never spins.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_plan::OutputNames;
use highwater_turns::{Sleeper, Ticket, is_simulated, stepped};
use timely::worker::Worker;

use crate::alarm::Alarms;
use crate::checkpoint::Checkpoints;
use crate::first::read_first;
use crate::job::{EpochSink, JobHandle, JobShared, JobSpec, JobState};
use crate::operator::sides::{errors_schema, late_schema, rejects_schema};
use crate::pump::{EpochGate, Pump, PumpFeed, Pumped};
use crate::render::{render, sink_owner};
use crate::stats::JobStats;
use crate::view::ViewHandle;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Worker threads.
    pub workers: usize,
}

/// The engine cannot do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The worker threads could not be started.
    #[error("cannot start the workers: {0}")]
    Start(String),
    /// The engine was shut down, or a worker has died.
    #[error("the engine is not running")]
    Stopped,
}

/// Worker threads that run jobs.
pub struct Engine {
    workers: usize,
    commands: Mutex<Vec<Sender<Command>>>,
    threads: Threads,
    tickets: Arc<Vec<Ticket>>,
    next_job: AtomicU64,
    /// The first of timely's identifiers that no job has taken.
    next_identifier: AtomicUsize,
    guards: Mutex<Option<timely::communication::WorkerGuards<()>>>,
}

/// The workers' threads, to wake them: filled when they start.
type Threads = Arc<Vec<Mutex<Option<Sleeper>>>>;

#[derive(Clone)]
enum Command {
    Create(Arc<Creation>),
    Drop(u64),
    Shutdown,
}

/// What all workers need to build a job; each takes its own parts.
struct Creation {
    shared: Arc<JobShared>,
    gate: Arc<EpochGate>,
    /// Per feed its source, in the order of the marks.
    feeds: Vec<usize>,
    parts: Vec<Mutex<Option<Parts>>>,
    until_end: bool,
    /// From where on all workers name the channels of this job, whatever happened to them before.
    first_identifier: usize,
}

/// One worker's parts of a job.
struct Parts {
    feeds: Vec<PumpFeed>,
    sinks: Vec<Option<Box<dyn EpochSink>>>,
}

impl Engine {
    /// Starts the workers.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let workers = config.workers.max(1);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel()).unzip();
        let receivers: Arc<Vec<Mutex<Option<Receiver<Command>>>>> =
            Arc::new(receivers.into_iter().map(|receiver| Mutex::new(Some(receiver))).collect());
        let threads: Threads = Arc::new((0..workers).map(|_| Mutex::new(None)).collect());
        let known = Arc::clone(&threads);
        let tickets: Arc<Vec<Ticket>> = Arc::new((0..workers).map(|worker| Ticket::new(&format!("worker {worker}"))).collect());
        let turns = Arc::clone(&tickets);
        let timely = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
        let guards = timely::execute(timely, move |worker| {
            let index = worker.index();
            let receiver = receivers[index].lock().expect("taken once").take().expect("one worker per receiver");
            turns[index].run(|| {
                *known[index].lock().expect("set once") = Some(Sleeper::this());
                run(worker, &receiver);
            });
        })
        .map_err(EngineError::Start)?;
        Ok(Engine {
            workers,
            commands: Mutex::new(senders),
            threads,
            tickets,
            next_job: AtomicU64::new(1),
            next_identifier: AtomicUsize::new(0),
            guards: Mutex::new(Some(guards)),
        })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Wakes a worker that has parked because its feeds had nothing.
    pub fn waker(&self, worker: usize) -> Arc<dyn Fn() + Send + Sync> {
        let threads = Arc::clone(&self.threads);
        Arc::new(move || wake(&threads, worker))
    }

    /// Starts a job; it runs beside the others without disturbing them.
    pub fn create(&self, spec: JobSpec) -> Result<JobHandle, EngineError> {
        let id = self.next_job.fetch_add(1, Ordering::Relaxed);
        let job = Arc::clone(&spec.job);
        let ends = |source: usize| {
            let mut feeds = spec.feeds.iter().filter(|feed| feed.source == source).peekable();
            feeds.peek().is_some() && feeds.all(|feed| feed.bounded)
        };
        let bounded: Vec<bool> = (0..job.sources.len()).map(ends).collect();
        let given = spec.excerpt.as_ref().map_or(0, |excerpt| excerpt.given.len());
        let threads = Arc::clone(&self.threads);
        let wake_all: Arc<dyn Fn() + Send + Sync> =
            Arc::new(move || (0..threads.len()).for_each(|worker| wake(&threads, worker)));
        let restored = spec.restore.as_ref().map_or(0, |restore| restore.epoch);
        if let Some(recorder) = &spec.recorder {
            let known = spec.script.epochs.iter().rev().find_map(|record| record.clock.clone());
            let known = known.or_else(|| spec.restore.as_ref().map(|restore| restore.clock.clone()));
            recorder.begin(self.workers, restored.max(spec.script.end()), known.unwrap_or_default());
        }
        spec.restore.iter().for_each(|restore| restore.wakes(Arc::clone(&wake_all)));
        let checkpoints = Arc::new(Checkpoints::new(spec.checkpoints, self.workers, spec.restore));
        let shared = Arc::new(JobShared {
            id,
            name: spec.name.clone(),
            views: relations(&job, self.workers),
            stats: Arc::new(JobStats::new(job.sources.len() + given, checkpoints)),
            alarms: Alarms::default(),
            published: (0..self.workers).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::new(JobState::Running),
            listeners: Mutex::new(Vec::new()),
            first: [read_first(&job, &bounded), vec![BTreeSet::new(); given]].concat(),
            wake_all: Arc::clone(&wake_all),
            job: Arc::clone(&job),
            excerpt: spec.excerpt,
            script: spec.script,
            recorder: spec.recorder,
        });
        let bounded = spec.feeds.iter().filter(|feed| feed.bounded).count();
        let until = if spec.until_end && bounded > 0 { bounded } else { spec.feeds.len() };
        let (stats, recorder) = (Arc::clone(&shared.stats), shared.recorder.clone());
        let gate = Arc::new(EpochGate::new(job.settings.epochs_in_flight, until, restored, stats, recorder, wake_all));
        let feeds = spec.feeds.iter().map(|feed| feed.source).collect();
        let mut parts: Vec<Parts> = (0..self.workers).map(|_| Parts { feeds: Vec::new(), sinks: Vec::new() }).collect();
        for (index, feed) in spec.feeds.into_iter().enumerate() {
            let ends_job = feed.bounded || !(spec.until_end && bounded > 0);
            let pump = PumpFeed { index: index as u32, source: feed.source, ends_job, feed: feed.feed };
            parts[feed.worker % self.workers].feeds.push(pump);
        }
        for (index, sink) in spec.sinks.into_iter().enumerate() {
            let mut sink = Some(sink);
            for (worker, parts) in parts.iter_mut().enumerate() {
                let owns = worker == sink_owner(index, self.workers);
                parts.sinks.push(if owns { sink.take() } else { None });
            }
        }
        let stopped = Arc::downgrade(&shared);
        shared.stats.breaker.set(move |reason| {
            if let Some(job) = stopped.upgrade() {
                job.set_state(JobState::Failed(reason));
            }
        });
        let parts = parts.into_iter().map(|parts| Mutex::new(Some(parts))).collect();
        let identifiers = identifiers_of(&job);
        self.send(|| {
            let first_identifier = self.next_identifier.fetch_add(identifiers, Ordering::Relaxed);
            let shared = Arc::clone(&shared);
            Command::Create(Arc::new(Creation { shared, gate, feeds, parts, until_end: spec.until_end, first_identifier }))
        })?;
        Ok(JobHandle { shared })
    }

    /// Ends a job and frees its state. Unknown jobs are ignored.
    pub fn drop_job(&self, id: u64) -> Result<(), EngineError> {
        self.send(|| Command::Drop(id))
    }

    /// Ends all jobs and joins the workers.
    pub fn shutdown(&self) {
        let _ = self.send(|| Command::Shutdown);
        if let Some(guards) = self.guards.lock().expect("joined once").take() {
            self.tickets.iter().for_each(Ticket::wait);
            for result in guards.join() {
                if let Err(message) = result {
                    tracing::error!(message, "a worker died");
                }
            }
        }
    }

    /// Gives all workers a command; the lock makes its order the same for all.
    fn send(&self, command: impl FnOnce() -> Command) -> Result<(), EngineError> {
        let senders = self.commands.lock().expect("sending does not panic");
        let command = command();
        // A worker that has died does not keep the others from being told.
        let mut sent = Ok(());
        for sender in senders.iter() {
            sent = sender.send(command.clone()).map_err(|_| EngineError::Stopped).and(sent);
        }
        (0..self.workers).for_each(|worker| wake(&self.threads, worker));
        sent
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn wake(threads: &Threads, worker: usize) {
    if let Some(thread) = threads[worker].lock().expect("set once").as_ref() {
        thread.wake();
    }
}

/// The relations that readers see: views, then `$late` and `$rejects` per source, `$errors` per view and sink.
pub(crate) fn relations(job: &highwater_plan::Job, workers: usize) -> Vec<Arc<ViewHandle>> {
    let views =
        job.views.iter().map(|view| ViewHandle::arranged(view.name.clone(), Arc::clone(&view.schema), view.key.clone(), workers));
    let late =
        job.sources.iter().map(|source| ViewHandle::log(OutputNames::late(&source.name), late_schema(&source.schema), workers));
    let rejects = job.sources.iter().map(|source| ViewHandle::log(OutputNames::rejects(&source.name), rejects_schema(), workers));
    let outputs = job.views.iter().map(|view| &view.name).chain(job.sinks.iter().map(|sink| &sink.name));
    let errors = outputs.map(|name| ViewHandle::log(OutputNames::errors(name), errors_schema(), workers));
    views.chain(late).chain(rejects).chain(errors).map(Arc::new).collect()
}

/// How many of timely's identifiers a job may take, at most.
fn identifiers_of(job: &highwater_plan::Job) -> usize {
    const EACH: usize = 128;
    EACH * (8 + job.plan.nodes.len() + job.sources.len() + job.views.len() + job.sinks.len())
}

/// A worker's life.
fn run(worker: &mut Worker, commands: &Receiver<Command>) {
    let mut jobs: BTreeMap<u64, (usize, Pump)> = BTreeMap::new();
    let mut known: Vec<Arc<JobShared>> = Vec::new();
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| {
        while follow(worker, commands, &mut jobs, &mut known) {
            let mut busy = false;
            let mut rest: Option<Duration> = None;
            for (_, pump) in jobs.values_mut() {
                match guarded(pump, Pump::pump).unwrap_or(Pumped::Busy) {
                    Pumped::Busy => busy = true,
                    Pumped::Idle(None) => {}
                    Pumped::Idle(Some(wait)) => rest = Some(rest.map_or(wait, |rest| rest.min(wait))),
                }
            }
            let rest = if busy { None } else { Some(rest.unwrap_or(Duration::from_secs(1))) };
            match rest {
                // Timely itself parks, which a simulation must do in its place.
                Some(rest) if !is_simulated() => worker.step_or_park(Some(rest)),
                _ => worker.step(),
            };
            for (_, pump) in jobs.values_mut() {
                let _ = guarded(pump, Pump::publish);
            }
            if is_simulated() {
                // While an epoch is open, other workers send what nobody is told of.
                stepped(rest.filter(|_| jobs.values().all(|(_, pump)| !pump.has_open_epochs())));
            }
        }
    }));
    if let Err(panic) = lived {
        // It came from between the operators, so it cannot be said of which job it was.
        known.iter().for_each(|job| job.stats.breaker.stop(&*panic, "a worker"));
        std::panic::resume_unwind(panic);
    }
}

/// A step of a job's ingestion: a panic in it, of a connector for example, stops the job and no other.
fn guarded<R>(pump: &mut Pump, step: impl FnOnce(&mut Pump) -> R) -> Option<R> {
    let shared = Arc::clone(pump.shared());
    // A job that was stopped gives up what it has, whatever state that is in.
    match std::panic::catch_unwind(AssertUnwindSafe(|| step(pump))) {
        Ok(done) => Some(done),
        Err(panic) => {
            shared.stats.breaker.stop(&*panic, "the ingestion");
            None
        }
    }
}

/// Follows the commands that have come; false means the end.
fn follow(
    worker: &mut Worker,
    commands: &Receiver<Command>,
    jobs: &mut BTreeMap<u64, (usize, Pump)>,
    known: &mut Vec<Arc<JobShared>>,
) -> bool {
    while let Ok(command) = commands.try_recv() {
        match command {
            Command::Create(creation) => {
                let parts = creation.parts[worker.index()].lock().expect("taken once").take().expect("one part per worker");
                let shared = &creation.shared;
                // Workers find each other's channels by numbers that they count alone; a dataflow that one of them did
                // not come to the end of would leave them apart for ever.
                while worker.peek_identifier() < creation.first_identifier {
                    worker.new_identifier();
                }
                let dataflow = worker.next_dataflow_index();
                let rendered = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    worker.dataflow_named(&shared.name, |scope| render(scope, shared, parts.sinks, &creation.feeds))
                }));
                let rendered = match rendered {
                    Ok(rendered) => rendered,
                    Err(panic) => {
                        shared.stats.breaker.stop(&*panic, "building the dataflow");
                        continue;
                    }
                };
                let gate = Arc::clone(&creation.gate);
                let pump = Pump::new(worker.index(), Arc::clone(shared), gate, parts.feeds, rendered, creation.until_end);
                known.push(Arc::clone(shared));
                jobs.insert(shared.id, (dataflow, pump));
            }
            Command::Drop(id) => {
                if let Some((dataflow, pump)) = jobs.remove(&id) {
                    pump.shared().set_state(JobState::Dropped);
                    drop(pump);
                    worker.drop_dataflow(dataflow);
                }
                known.retain(|job| job.id != id);
            }
            Command::Shutdown => {
                for (_, (dataflow, pump)) in std::mem::take(jobs) {
                    pump.shared().set_state(JobState::Dropped);
                    drop(pump);
                    worker.drop_dataflow(dataflow);
                }
                return false;
            }
        }
    }
    true
}
