//! What a job's epochs were made of, on a disk: so that they can be gone through again after a crash, and by `--from-epoch`.
//!
//! ```text
//! workers ── EpochRecord ──► Recorder ──► a thread: append, flush ──► at-least-once sinks publish what is durable here
//!                                              │                  └─► checkpoints are written of what is durable here
//!                    <store>/epochs/<job>/<run>/00000000000000000001.epochs
//! ```
//!
//! The thread takes all epochs that are complete, writes them as one group and flushes, so that many epochs share a flush when
//! there are many. What could not be written is tried again, and nothing is published meanwhile.

mod file;
mod held;
mod records;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use highwater_engine::{EpochRecord, Recorder, Script, Time};
use highwater_plan::Job;
use highwater_store::{StoreError, Writer};
use highwater_turns::{JoinHandle, spawn};

pub(crate) use self::file::Journal;
pub use self::file::JournalError;
use self::held::{Held, Passed};
use self::records::Kept;
pub(crate) use self::records::Recorded;
use crate::checkpoints::CheckpointStatus;
use crate::clock::Clock;
use crate::outbox::Outbox;
use crate::retry::backoff;
use crate::signal::Signal;
use crate::status::{Fault, LastError};

/// A wait that ends by being woken.
const LONG: Duration = Duration::from_secs(3_600);

/// How often it is looked whether a changed job has its first checkpoint.
const HELD_LOOK: Duration = Duration::from_millis(20);

/// How far the journal is, and how much of it is needed.
#[derive(Debug, Default)]
pub(crate) struct Journaled {
    /// Epochs up to here are durable.
    through: AtomicU64,
    /// Epochs up to here are in a durable checkpoint.
    saved: AtomicU64,
    /// There will be no more.
    over: AtomicBool,
}

impl Journaled {
    /// Whether nobody need wait for an epoch: it is durable, or never will be.
    pub(crate) fn has(&self, epoch: Time) -> bool {
        self.through.load(Ordering::Acquire) >= epoch || self.over.load(Ordering::Acquire)
    }

    /// A checkpoint of an epoch is durable.
    pub(crate) fn saved(&self, epoch: Time) {
        self.saved.store(epoch, Ordering::Release);
    }
}

/// What a job's thread needs.
pub(crate) struct Journaling {
    pub(crate) job: String,
    pub(crate) sources: Arc<Vec<String>>,
    pub(crate) recorder: Arc<Recorder>,
    /// Notified by the recorder.
    pub(crate) woken: Arc<Signal>,
    pub(crate) journal: Journal,
    pub(crate) journaled: Arc<Journaled>,
    /// What the store has of a job of this name is not this job's: a restart finds nothing before there is a checkpoint.
    pub(crate) fresh: bool,
    /// It is that of another text, from whose state the job goes on.
    pub(crate) changed: bool,
    /// Who has the job's checkpoints has its epochs.
    pub(crate) writer: Arc<Writer>,
    /// Of sinks that publish what is durable here.
    pub(crate) outboxes: Vec<Arc<Outbox>>,
    pub(crate) status: Arc<CheckpointStatus>,
    /// How long epochs are kept beyond what a restart needs.
    pub(crate) keep: Duration,
    pub(crate) fault: Arc<Fault>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A job's thread. Dropping it ends the thread when all that is complete is written.
pub(crate) struct JournalThread {
    stopped: Arc<AtomicBool>,
    woken: Arc<Signal>,
    thread: Option<JoinHandle>,
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.woken.notify();
        if let Some(thread) = self.thread.take() {
            // A panic there has failed the job already.
            let _ = thread.join();
        }
    }
}

impl Journaling {
    /// Starts the thread.
    pub(crate) fn start(mut self) -> std::io::Result<JournalThread> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (woken, flag) = (Arc::clone(&self.woken), Arc::clone(&stopped));
        let name = format!("epochs {}", self.job);
        let thread = spawn(name, move || {
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(&flag)));
            if run.is_err() {
                self.fault.set("recording epochs panicked".into());
            }
            self.journaled.over.store(true, Ordering::Release);
            self.signal.notify();
        })?;
        Ok(JournalThread { stopped, woken, thread: Some(thread) })
    }

    fn run(&mut self, stopped: &AtomicBool) {
        self.wrote();
        let mut held = Held::new(self.changed);
        loop {
            let more = || {
                // Looked at first: what is complete when the job is stopped is written, what comes after that is not.
                let over = stopped.load(Ordering::Acquire);
                let records = self.recorder.take();
                (over || !records.is_empty()).then_some((over, records))
            };
            let wait = if held.last().is_some() { HELD_LOOK } else { LONG };
            let end = self.clock.elapsed() + wait;
            let left = || end.checked_sub(self.clock.elapsed()).filter(|left| !left.is_zero());
            let (over, records) = match self.woken.wait(more, left) {
                Some(more) => more,
                None if held.last().is_none() => continue,
                None => (false, Vec::new()),
            };
            let saved = self.status.lock().epoch;
            let Some(Passed { records, after }) = held.pass(records, saved) else {
                if over {
                    return;
                }
                if let Some(last) = held.last() {
                    // The first checkpoint does not wait for them.
                    self.journaled.through.store(last, Ordering::Release);
                    self.signal.notify();
                }
                continue;
            };
            if let Some(after) = after {
                self.journal.begin_after(after);
            }
            if !self.write(&records, stopped) {
                return;
            }
            match self.writer.check_owner() {
                Ok(()) => self.wrote(),
                Err(error @ StoreError::Fenced { .. }) => {
                    self.fault.set(format!("its epochs cannot be recorded: {error}"));
                    return;
                }
                // The next ones, or a checkpoint, let sinks publish them.
                Err(error) => tracing::warn!(job = self.job, %error, "it is not known whose the job is"),
            }
            if over {
                return;
            }
            let wall_ms = u64::try_from(self.clock.wall_micros() / 1_000).unwrap_or(0);
            let kept = wall_ms.saturating_sub(u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX));
            let free = self.journaled.saved.load(Ordering::Acquire).min(kept);
            if let Err(error) = self.journal.prune(free) {
                tracing::warn!(job = self.job, %error, "recorded epochs that nobody needs are not deleted");
            }
        }
    }

    /// Writes until it goes well; whether it did before the job was stopped.
    fn write(&mut self, records: &[EpochRecord], stopped: &AtomicBool) -> bool {
        let records: Vec<Kept> = records.iter().map(|record| Kept::new(record, &self.sources)).collect();
        let mut failures = 0;
        loop {
            let error = match self.journal.append(&records) {
                Ok(()) => {
                    if failures > 0 {
                        LastError::pass(&mut self.status.lock().last_error);
                    }
                    return true;
                }
                Err(error @ JournalError::Taken { .. }) => match self.writer.check_owner() {
                    // It is that of a process that was replaced and did not know it.
                    Ok(()) => {
                        self.journal.skip();
                        continue;
                    }
                    Err(fenced @ StoreError::Fenced { .. }) => {
                        self.fault.set(format!("its epochs cannot be recorded: {fenced}"));
                        return false;
                    }
                    Err(_) => error,
                },
                Err(error) => error,
            };
            if LastError::record(&mut self.status.lock().last_error, &error.to_string(), self.clock.wall_micros()) {
                tracing::error!(job = self.job, %error, "recording epochs failed");
            }
            if self.journal.is_broken() {
                self.fault.set(format!("its epochs cannot be recorded: {error}"));
                return false;
            }
            failures += 1;
            let end = self.clock.elapsed() + backoff(failures);
            let over = || stopped.load(Ordering::Acquire).then_some(());
            let left = || end.checked_sub(self.clock.elapsed()).filter(|left| !left.is_zero());
            if self.woken.wait(over, left).is_some() {
                return false;
            }
        }
    }

    /// All that was complete is durable, and whoever takes the job over finds it, since nobody had when it was. What is published
    /// must be found again by a restart: not before there is a checkpoint to start from.
    fn wrote(&self) {
        let through = self.journal.last();
        self.journaled.through.store(through, Ordering::Release);
        if !self.fresh || self.status.lock().epoch.is_some() {
            self.outboxes.iter().for_each(|outbox| outbox.release(through));
        }
        self.signal.notify();
    }
}

/// A directory of recorded epochs, with what a job that goes on from `epoch` has to go through again.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    pub(crate) script: Script,
}

/// Opens the journal of a run of a job that goes on from `restored` (0: from nothing). `replays`: what was recorded after that
/// happened, and is gone through again; otherwise it is forgotten.
pub(crate) fn open(
    directory: PathBuf,
    job: &Job,
    restored: Time,
    replays: bool,
    partitions: Vec<(String, String)>,
) -> Result<Opened, JournalError> {
    let (mut journal, recorded) = match Journal::open(directory.clone(), restored) {
        // Whoever goes on from another checkpoint than the newest needs nothing of it; this is how to go on without it.
        Err(error @ JournalError::Damaged { .. }) if !replays => {
            tracing::warn!(%error, "what was recorded of the job's epochs is deleted, since it does not go on from there");
            Journal::forget(&directory)?;
            Journal::open(directory.clone(), restored)?
        }
        opened => opened?,
    };
    let later = recorded.bounds().is_some_and(|(_, last)| last > restored);
    if replays && later && !recorded.has_state_of(restored) {
        return Err(JournalError::Gap { directory, epoch: restored });
    }
    let epochs = if replays { recorded.script(job, restored, Time::MAX) } else { Vec::new() };
    let script = Script { epochs, stops: false };
    journal.go_on(restored.max(script.end()), partitions);
    Ok(Opened { journal, script })
}

/// Whether all partitions that a script reads are there.
pub(crate) fn missing_partition(script: &Script, job: &Job, there: &[(String, String)]) -> Option<(String, String)> {
    let mut named = script.epochs.iter().flat_map(|record| record.read.keys());
    named.find_map(|(source, partition)| {
        let source = job.sources.get(*source).map_or("", |source| source.name.as_str());
        let is_there = there.iter().any(|(known, id)| known == source && id == partition);
        (!is_there).then(|| (source.to_owned(), partition.clone()))
    })
}

#[cfg(test)]
mod tests {
    use highwater_engine::EpochRecord;

    use super::*;
    use crate::testing::connector::job;

    #[test]
    fn a_restart_goes_through_what_follows_its_checkpoint_unless_it_is_damaged_or_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, job) = (folder.path().join("run"), job("s", "v", None, &[]));
        let begin = |restored: Time, replays: bool| open(directory.clone(), &job, restored, replays, Vec::new());
        let mut opened = begin(0, false).unwrap();
        for epoch in [3, 5, 8] {
            let read = [((0, "p".to_owned()), format!("0 {epoch} - x"))].into();
            let record = EpochRecord { epoch, read, ..EpochRecord::default() };
            opened.journal.append(&[Kept::new(&record, &Arc::new(vec!["s".to_owned()]))]).unwrap();
        }
        let epochs = |opened: &Opened| opened.script.epochs.iter().map(|record| record.epoch).collect::<Vec<_>>();
        let again = begin(3, true).unwrap();
        assert_eq!((epochs(&again), again.journal.last()), (vec![5, 8], 8));
        let there = [("s".to_owned(), "p".to_owned())];
        assert_eq!(missing_partition(&again.script, &job, &there), None);
        assert_eq!(missing_partition(&again.script, &job, &[]), Some(there[0].clone()));
        assert!(matches!(begin(4, true), Err(JournalError::Gap { epoch: 4, .. })));
        assert!(begin(9, true).unwrap().script.epochs.is_empty(), "nothing was recorded for a while");
        assert!(begin(3, false).unwrap().script.epochs.is_empty());

        let file = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(begin(3, true), Err(JournalError::Damaged { path, .. }) if path == file));
        let opened = begin(3, false).unwrap();
        assert!(opened.script.epochs.is_empty() && opened.journal.last() == 3);
        assert!(begin(3, true).is_ok());
    }
}
