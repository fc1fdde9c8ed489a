//! Epochs as they were: what each is made of, to go through them again.
//!
//! What comes of an epoch is a function of the rows that are in it, of the watermarks as of it, and of its number, which is the
//! clock. So this is all that is recorded: per epoch where reading stood after it, and what was known of time if that had
//! changed. Nothing is done per row. A job that is given a [`Script`] of such records opens exactly those epochs, in order, puts
//! exactly those rows into each, and goes by the watermarks that were recorded; then it stops, or goes on with epochs of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Time;
use crate::checkpoint::{Clock, Positions};

/// What an epoch was made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: Time,
    /// Of the partitions that gave it something, where reading them stood after it.
    pub read: Positions,
    /// What was known of time as of it; `None`: what was known before it.
    pub clock: Option<Clock>,
    /// It is the job's last: all inputs ended in it.
    pub last: bool,
}

/// Epochs that a job goes through again before it opens any of its own.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// In ascending order, without a gap from the state that the job goes on from.
    pub epochs: Vec<EpochRecord>,
    /// Whether the job opens no other epoch: it stays as of the last of these, and running unless that is its last.
    pub stops: bool,
}

impl Script {
    /// The last of its epochs; 0 if there are none.
    pub fn end(&self) -> Time {
        self.epochs.last().map_or(0, |record| record.epoch)
    }

    pub(crate) fn of(&self, epoch: Time) -> Option<&EpochRecord> {
        let place = self.epochs.binary_search_by_key(&epoch, |record| record.epoch).ok()?;
        self.epochs.get(place)
    }
}

/// Records a job's epochs, for a thread that takes them.
pub struct Recorder {
    recording: Mutex<Recording>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Recording {
    /// Opened and not taken yet.
    epochs: VecDeque<EpochRecord>,
    /// Per worker the last epoch that it has given to.
    given: Vec<Time>,
    /// The watermarks of this epoch and those before it are known.
    clocked: Time,
    clock: Clock,
    /// What was complete when this was looked at last.
    told: Time,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Nothing is recorded yet. `wake` is called on a worker's thread, and must be quick, when there is more to [take](Self::take).
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Recorder> {
        Arc::new(Recorder { recording: Mutex::default(), wake: Box::new(wake) })
    }

    /// Takes the epochs of which all is known, in order; each is given once.
    pub fn take(&self) -> Vec<EpochRecord> {
        let mut recording = self.lock();
        let complete = recording.complete();
        let count = recording.epochs.iter().take_while(|record| record.epoch <= complete).count();
        recording.epochs.drain(..count).collect()
    }

    /// So many workers begin; `clock` is what is known of time. Epochs up to `from` are known already.
    pub(crate) fn begin(&self, workers: usize, from: Time, clock: Clock) {
        *self.lock() = Recording { given: vec![from; workers], clocked: from, clock, told: from, epochs: VecDeque::new() };
    }

    pub(crate) fn opens(&self, epoch: Time, last: bool) {
        self.lock().epochs.push_back(EpochRecord { epoch, last, ..EpochRecord::default() });
    }

    /// A worker has given all that it will to `epoch`, and to those before it.
    pub(crate) fn gave(&self, worker: usize, epoch: Time, read: Positions) {
        let mut recording = self.lock();
        if let Some(record) = recording.of(epoch) {
            record.read.extend(read);
        }
        recording.given[worker] = recording.given[worker].max(epoch);
        self.tell(recording);
    }

    /// What is known of time as of `epoch`.
    pub(crate) fn clock(&self, epoch: Time, clock: Clock) {
        let mut recording = self.lock();
        if recording.clock != clock {
            recording.clock.clone_from(&clock);
            if let Some(record) = recording.of(epoch) {
                record.clock = Some(clock);
            }
        }
    }

    /// What is known of time as of this epoch and those before it will not change.
    pub(crate) fn clocked(&self, through: Time) {
        let mut recording = self.lock();
        if through > recording.clocked {
            recording.clocked = through;
            self.tell(recording);
        }
    }

    fn tell(&self, mut recording: MutexGuard<'_, Recording>) {
        let complete = recording.complete();
        let told = std::mem::replace(&mut recording.told, complete);
        let more = complete > told && recording.epochs.front().is_some_and(|first| first.epoch <= complete);
        drop(recording);
        if more {
            (self.wake)();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().expect("nothing panics under this lock")
    }
}

impl Recording {
    fn complete(&self) -> Time {
        self.given.iter().copied().min().unwrap_or(0).min(self.clocked)
    }

    fn of(&mut self, epoch: Time) -> Option<&mut EpochRecord> {
        let place = self.epochs.binary_search_by_key(&epoch, |record| record.epoch).ok()?;
        self.epochs.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_epoch_is_given_when_all_of_it_is_known() {
        let woken = Arc::new(AtomicUsize::new(0));
        let wakes = Arc::clone(&woken);
        let recorder = Recorder::new(move || {
            wakes.fetch_add(1, Ordering::SeqCst);
        });
        recorder.begin(2, 5, Clock::default());
        recorder.opens(7, false);
        recorder.opens(8, true);
        let read = Positions::from([((0, "p".to_owned()), "3".to_owned())]);
        recorder.gave(0, 7, read.clone());
        recorder.gave(1, 8, Positions::new());
        assert_eq!(recorder.take(), [], "its watermarks are not known");
        let clock = Clock { watermarks: vec![4], idle_since: vec![None] };
        recorder.clock(7, clock.clone());
        recorder.clock(8, clock.clone());
        recorder.clocked(7);
        assert_eq!(recorder.take(), [EpochRecord { epoch: 7, read, clock: Some(clock), last: false }]);
        recorder.clocked(Time::MAX);
        assert_eq!(recorder.take(), [], "a worker may give more to it");
        recorder.gave(0, 8, Positions::new());
        assert_eq!(recorder.take(), [EpochRecord { epoch: 8, last: true, ..EpochRecord::default() }]);
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
