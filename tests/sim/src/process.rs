//! One life of the process: a runtime with the job, over its own view of the disk and the brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_engine::JobState;
use highwater_runtime::{CheckpointConfig, CreateOptions, RunningJob, Runtime, RuntimeConfig};
use highwater_store::Policy;
use highwater_turns::{elapsed, sleep};

use crate::audit;
use crate::baton::Death;
use crate::connector::registry;
use crate::disk::DiskWatch;
use crate::world::World;

/// The job's name.
pub(crate) const JOB: &str = "orders";

/// Simulated time within which a job comes to its end when nothing goes wrong any more.
const END_WAIT: Duration = Duration::from_secs(300);

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(120);

/// Why a process is not watched any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was killed.
    Dead,
    /// The job has failed: why.
    Failed(String),
    /// The job has finished.
    Finished,
    /// It still runs.
    OutOfPatience,
}

/// A running process.
pub(crate) struct Process {
    life: usize,
    runtime: Arc<Runtime>,
    pub(crate) job: Arc<RunningJob>,
}

impl Process {
    /// Starts one; `None` if it did not come up, for a reason that is allowed.
    pub(crate) fn start(world: &World, workers: usize, death: Death) -> Option<Process> {
        let life = world.baton.begin_life(death);
        let watch = DiskWatch {
            baton: Arc::clone(&world.baton),
            life,
            faults: world.fate.disk,
            calm: Arc::clone(&world.calm),
            full_until: AtomicU64::new(0),
        };
        let disk = world.disk.watched(Arc::new(watch));
        let store = match disk.store() {
            Ok(store) => store,
            Err(error) => {
                world.baton.say(format_args!("no store: {error}"));
                return None;
            }
        };
        let checkpoints = Some(CheckpointConfig { location: "disk:".into(), interval: world.fate.interval, record: None });
        let config = RuntimeConfig { workers, registry: registry(&world.brokers, life), checkpoints };
        let runtime = Runtime::start_on(config, Some((store, Policy { files: world.fate.fold_files, growth: 2.0 })))
            .expect("threads can be started");
        let (text, job) = world.fate.kind.job(world.fate.idle);
        let mut job = job.clone();
        job.settings.epoch_rows_max = world.fate.epoch_rows_max;
        job.settings.epochs_in_flight = world.fate.epochs_in_flight;
        match runtime.create(JOB, text, job, CreateOptions::default()) {
            Ok(job) => {
                world
                    .baton
                    .say(format_args!("{workers} workers go on from {:?}", job.checkpoints().and_then(|info| info.restored)));
                Some(Process { life, runtime, job })
            }
            Err(error) => {
                let error = error.to_string();
                world.baton.say(format_args!("the job does not start: {error}"));
                if !world.baton.is_dead(life) && !audit::may_fail(world, &error) {
                    world.baton.fail(format!("the job does not start: {error}"));
                }
                runtime.shutdown();
                None
            }
        }
    }

    pub(crate) fn life(&self) -> usize {
        self.life
    }

    /// How it is.
    fn state(&self, world: &World) -> Option<Ended> {
        if world.baton.is_dead(self.life) {
            return Some(Ended::Dead);
        }
        match self.job.state() {
            JobState::Running => None,
            JobState::Finished => Some(Ended::Finished),
            JobState::Failed(why) => {
                world.baton.say(format_args!("the job has failed: {why}"));
                if !audit::may_fail(world, &why) {
                    world.baton.fail(format!("the job of life {} has failed: {why}", self.life));
                }
                Some(Ended::Failed(why))
            }
            JobState::Dropped => {
                world.baton.fail("the job was dropped by nobody".into());
                Some(Ended::Finished)
            }
        }
    }

    /// Looks at it until it has ended or so much time has passed.
    pub(crate) fn watch(&self, world: &World, patience: Duration) -> Ended {
        let until = elapsed() + patience;
        loop {
            if let Some(ended) = self.state(world) {
                return ended;
            }
            if elapsed() >= until {
                return Ended::OutOfPatience;
            }
            audit::reads(world, self);
            sleep(LOOK_EVERY.min(until.saturating_sub(elapsed())));
        }
    }

    /// Waits until everything is read, saved and published. Processes that it has replaced do not keep it from that.
    pub(crate) fn come_to_the_end(&self, world: &World) {
        let until = elapsed() + END_WAIT;
        loop {
            let ended = self.watch(world, Duration::from_millis(200));
            let over = match ended {
                Ended::Finished => true,
                Ended::OutOfPatience => {
                    let opened = self.job.handle().stats().epoch_opened.load(Ordering::Relaxed);
                    let closed = |epoch| self.job.wait_closed(epoch, Duration::from_secs(60)) >= epoch;
                    let read = !world.brokers.bounded && world.brokers.all_read(self.life);
                    read && closed(opened) && self.job.settle(Duration::from_secs(60))
                }
                ended => return world.baton.fail(format!("nothing goes wrong any more, and yet: {ended:?}")),
            };
            if elapsed() > until {
                let problems = self.job.problems().join("; ");
                world.baton.fail(format!("the job does not come to its end: {problems}"));
            }
            if over || elapsed() > until {
                return;
            }
        }
    }

    /// Ends it, dead or not: its threads must all come to their end.
    pub(crate) fn end(self, world: &World) {
        self.runtime.shutdown();
        world.baton.say(format_args!("life {} is over", self.life));
    }
}
