//! Looks for partitions that appear while a job runs, and hands them to the feeds that are to read them.
//!
//! Asking a source for its partitions may wait for a broker, so it is done on a thread of its own; a feed looks into its mailbox
//! when it is asked for rows. A new partition holds the source's watermark where it is until it has given rows, or is idle.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_connectors::source::{Offset, PartitionId, SourceError, Waker};
use highwater_turns::{JoinHandle, Point, crash_point, spawn};

use crate::clock::Clock;
use crate::ingest::Partition;
use crate::open::OpenSource;
use crate::signal::Signal;
use crate::status::{Fault, PartitionStatus};

/// How long a wait goes on without looking whether the job has failed.
const SLICE: Duration = Duration::from_secs(1);

/// Partitions on their way to a feed.
#[derive(Default)]
pub(crate) struct Mailbox {
    any: AtomicBool,
    partitions: Mutex<Vec<Partition>>,
}

impl Mailbox {
    fn put(&self, partition: Partition) {
        self.partitions.lock().expect("nothing panics under this lock").push(partition);
        self.any.store(true, Ordering::Release);
    }

    /// What has come since this was asked last.
    pub(crate) fn take(&self) -> Vec<Partition> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.partitions.lock().expect("nothing panics under this lock"))
    }
}

/// A source whose partitions may become more.
pub(crate) struct Growing {
    /// Index into the job's sources.
    pub(crate) source: usize,
    pub(crate) every: Duration,
    pub(crate) known: BTreeSet<PartitionId>,
    /// Per feed its mailbox, the worker that it is on, and how that is woken.
    pub(crate) feeds: Vec<(Arc<Mailbox>, usize, Waker)>,
}

/// What a job's thread needs.
pub(crate) struct Discovery {
    pub(crate) job: String,
    pub(crate) sources: Arc<Vec<OpenSource>>,
    pub(crate) growing: Vec<Growing>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A job's thread. Dropping it ends the thread.
pub(crate) struct DiscoveryThread {
    stopped: Arc<Stopped>,
    thread: Option<JoinHandle>,
}

#[derive(Default)]
struct Stopped {
    stopped: AtomicBool,
    signal: Signal,
}

impl Drop for DiscoveryThread {
    fn drop(&mut self) {
        self.stopped.stopped.store(true, Ordering::Release);
        self.stopped.signal.notify();
        if let Some(thread) = self.thread.take() {
            // Nothing depends on how it ended.
            let _ = thread.join();
        }
    }
}

impl Discovery {
    /// Starts the thread.
    pub(crate) fn start(self) -> std::io::Result<DiscoveryThread> {
        let stopped = Arc::new(Stopped::default());
        let theirs = Arc::clone(&stopped);
        let thread = spawn(format!("partitions {}", self.job), move || self.run(&theirs))?;
        Ok(DiscoveryThread { stopped, thread: Some(thread) })
    }

    fn run(mut self, stop: &Stopped) {
        let mut due: Vec<Duration> = self.growing.iter().map(|growing| self.clock.elapsed() + growing.every).collect();
        let stopped = || stop.stopped.load(Ordering::Acquire).then_some(());
        while self.fault.reason().is_none() {
            let (clock, until) = (Arc::clone(&self.clock), self.clock.elapsed() + SLICE);
            let until = due.iter().copied().min().map_or(until, |due| due.min(until));
            let left = || until.checked_sub(clock.elapsed()).filter(|left| !left.is_zero());
            if stop.signal.wait(stopped, left).is_some() {
                return;
            }
            for (number, due) in due.iter_mut().enumerate() {
                if *due <= self.clock.elapsed() {
                    self.look(number);
                    *due = self.clock.elapsed() + self.growing[number].every;
                }
            }
        }
    }

    fn look(&mut self, number: usize) {
        let growing = &mut self.growing[number];
        let source = &self.sources[growing.source];
        let new = match source.opened.partitions() {
            Ok(partitions) => partitions.into_iter().filter(|id| !growing.known.contains(id)).collect::<Vec<_>>(),
            // Whoever reads the source says what is wrong with it.
            Err(error) => return tracing::debug!(job = self.job, source = source.name, %error, "looking for partitions failed"),
        };
        for id in new {
            crash_point(Point::PartitionFound);
            match open(source, growing, &id) {
                Ok(()) => {
                    tracing::info!(job = self.job, source = source.name, partition = %id, "a new partition is read");
                    growing.known.insert(id);
                }
                Err(error) if error.fatal => {
                    self.fault.set(format!("source '{}', partition '{id}': {}", source.name, error.message));
                }
                // It is tried again when they are looked for again.
                Err(error) => {
                    tracing::warn!(job = self.job, source = source.name, partition = %id, %error, "a new partition cannot be read");
                }
            }
        }
    }
}

fn open(source: &OpenSource, growing: &Growing, id: &PartitionId) -> Result<(), SourceError> {
    let position = growing.known.len();
    let (mailbox, worker, waker) = &growing.feeds[position % growing.feeds.len()];
    let status = Arc::new(PartitionStatus::new(id.to_string(), *worker));
    source.opened.resumes();
    let read = |id: &PartitionId, offset: Option<&Offset>, waker: Waker| source.opened.read(id, offset, waker);
    let partition = Partition::open(id.clone(), position as u32, Arc::clone(waker), Arc::clone(&status), None, read)?;
    source.add_partition(status);
    mailbox.put(partition);
    waker();
    Ok(())
}
