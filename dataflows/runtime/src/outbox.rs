//! What a sink is still to publish: epochs that are closed, in order, until their connector says that they are durable there.
//!
//! ```text
//! worker ── write(epoch) ──► Outbox ── up to the epoch that is released ──► publishing (a thread) ──► connector
//!                              │ ▲
//!              new since last  ▼ │ what was left
//!                            checkpoint
//! ```
//!
//! The queue is part of the job's state: a checkpoint has what its epoch and those before it left to publish. With
//! exactly-once delivery an epoch is released when a checkpoint that has it is durable, and published together with a record of
//! how far publishing got; so whoever restores the job knows what of the queue is out already. Otherwise an epoch is
//! released when it is recorded ([`crate::journal`]), or at once if the job has no checkpoints.
//!
//! A queue that grows beyond its bound stops the job's reading ([`crate::congestion`]) until it has shrunk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use highwater_connectors::sink::{Changes, EpochChanges};
use highwater_engine::{Delta, EpochSink, Time};
use highwater_turns::{Bell, elapsed};

use crate::congestion::Congestion;
use crate::sinks::SinkStatus;

/// Bytes that may wait before the job stops reading.
const BYTES_MAX: usize = 64 << 20;

/// Bytes that one publishing takes, about: a transaction of a broker has an end.
const PUBLISHED_BYTES: usize = 16 << 20;

/// The queue of one sink.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    changed: Bell,
    congestion: Arc<Congestion>,
    /// The sink's number, by which it congests the job.
    number: usize,
    status: Arc<SinkStatus>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many of `waiting`, from the end, are in no checkpoint yet.
    unsaved: usize,
    /// Epochs up to here may be published.
    released: Time,
    /// Epochs up to here were.
    published: Time,
    /// Nothing more is published.
    stopped: bool,
}

struct Waiting {
    changes: EpochChanges,
    bytes: usize,
}

impl Outbox {
    /// An empty queue. `waits`: epochs are not published before they are released; `number`: the sink's among the job's.
    pub(crate) fn new(waits: bool, number: usize, congestion: Arc<Congestion>, status: Arc<SinkStatus>) -> Arc<Self> {
        let released = if waits { 0 } else { Time::MAX };
        let queue = Mutex::new(Queue { released, ..Queue::default() });
        Arc::new(Outbox { queue, changed: Bell::default(), congestion, number, status })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics under this lock")
    }

    /// Queues what a checkpoint of `epoch` had left to publish, before anything else is queued.
    pub(crate) fn restore(&self, epoch: Time, left: Vec<EpochChanges>) {
        let mut queue = self.lock();
        left.into_iter().for_each(|changes| queue.push(changes));
        queue.unsaved = 0;
        queue.released = queue.released.max(epoch);
        self.tell(&queue);
    }

    fn write(&self, changes: EpochChanges) {
        let mut queue = self.lock();
        queue.push(changes);
        queue.unsaved += 1;
        self.tell(&queue);
    }

    /// What became of `epoch` and those before it since this was asked last, for a checkpoint; and up to which epoch all was
    /// published.
    pub(crate) fn save(&self, epoch: Time) -> (Vec<EpochChanges>, Time) {
        let mut queue = self.lock();
        let first = queue.waiting.len() - queue.unsaved;
        let saved: Vec<EpochChanges> = queue
            .waiting
            .range(first..)
            .map(|waiting| &waiting.changes)
            .take_while(|changes| changes.epoch <= epoch)
            .cloned()
            .collect();
        queue.unsaved -= saved.len();
        (saved, queue.published)
    }

    /// A checkpoint of `epoch` is durable: epochs up to it may be published.
    pub(crate) fn release(&self, epoch: Time) {
        let mut queue = self.lock();
        queue.released = queue.released.max(epoch);
        self.changed.ring();
    }

    /// Waits for something to publish: epochs, and up to which one they are all. `None` when nothing more is to be published.
    pub(crate) fn next(&self) -> Option<(Vec<EpochChanges>, Time)> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            let (mut bytes, mut through) = (0, 0);
            let released = queue.released;
            let mut next: Vec<EpochChanges> = Vec::new();
            for waiting in queue.waiting.iter().take_while(|waiting| waiting.changes.epoch <= released) {
                if bytes > 0 && bytes + waiting.bytes > PUBLISHED_BYTES {
                    break;
                }
                bytes += waiting.bytes;
                through = waiting.changes.epoch;
                next.push(waiting.changes.clone());
            }
            if !next.is_empty() {
                return Some((next, through));
            }
            queue = self.changed.wait(&self.queue, queue, None);
        }
    }

    /// Epochs up to `through` are durable at their connector's.
    pub(crate) fn published(&self, through: Time) {
        let mut queue = self.lock();
        while let Some(first) = queue.waiting.front()
            && first.changes.epoch <= through
        {
            let first = queue.waiting.pop_front().expect("there is a first one");
            queue.bytes -= first.bytes;
        }
        // Of at-least-once sinks: what was published before any checkpoint had it need not be saved.
        queue.unsaved = queue.unsaved.min(queue.waiting.len());
        queue.published = queue.published.max(through);
        self.tell(&queue);
    }

    /// Nothing more is to be published.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.ring();
    }

    /// Waits until all that is released is published, as long as there is time or nothing has stopped it; whether it is.
    pub(crate) fn drained(&self, wait: Duration) -> bool {
        !self.wait_while(wait, |queue| !queue.stopped && queue.is_released()).is_released()
    }

    /// Whether of the epochs up to `through`, which all were written, nothing waits.
    pub(crate) fn has_published(&self, through: Time) -> bool {
        self.lock().waiting.front().is_none_or(|first| first.changes.epoch > through)
    }

    /// Waits for so long, or until nothing more is to be published; whether that is so.
    pub(crate) fn stopped(&self, wait: Duration) -> bool {
        self.wait_while(wait, |queue| !queue.stopped).stopped
    }

    fn wait_while(&self, wait: Duration, busy: impl Fn(&Queue) -> bool) -> MutexGuard<'_, Queue> {
        let mut queue = self.lock();
        if busy(&queue) && !wait.is_zero() {
            let end = elapsed() + wait;
            while busy(&queue)
                && let Some(left) = end.checked_sub(elapsed()).filter(|left| !left.is_zero())
            {
                queue = self.changed.wait(&self.queue, queue, Some(left));
            }
        }
        queue
    }

    fn tell(&self, queue: &Queue) {
        {
            let mut status = self.status.lock();
            status.waiting_bytes = queue.bytes as u64;
            status.waiting_epochs = queue.waiting.len() as u64;
            status.epoch = Some(queue.published).filter(|epoch| *epoch > 0).or(status.epoch);
        }
        self.congestion.set(self.number, queue.bytes > BYTES_MAX);
        self.changed.ring();
    }
}

impl Queue {
    /// Whether something waits that may be published.
    fn is_released(&self) -> bool {
        self.waiting.front().is_some_and(|first| first.changes.epoch <= self.released)
    }

    fn push(&mut self, changes: EpochChanges) {
        let bytes = changes.changes.iter().map(|changes| bytes_of(&changes.rows)).sum();
        self.bytes += bytes;
        self.waiting.push_back(Waiting { changes, bytes });
    }
}

/// What a batch keeps in memory, about: slices of one batch share it.
fn bytes_of(rows: &RecordBatch) -> usize {
    rows.columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
        .sum()
}

/// The worker's end of a queue.
pub(crate) struct OutboxSink(pub(crate) Arc<Outbox>);

impl EpochSink for OutboxSink {
    fn write(&mut self, epoch: Time, changes: &[Delta]) -> Result<(), String> {
        let changes = changes.iter().map(|delta| Changes { rows: delta.rows.clone(), diffs: delta.diffs.clone() }).collect();
        self.0.write(EpochChanges { epoch, changes });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows_at;

    fn outbox(waits: bool) -> Arc<Outbox> {
        let status = Arc::new(SinkStatus::new("out".into(), "kafka".into()));
        Outbox::new(waits, 0, Arc::new(Congestion::new(Vec::new())), status)
    }

    fn epoch(epoch: Time) -> EpochChanges {
        EpochChanges { epoch, changes: vec![Changes { rows: rows_at(&[Some(1)]), diffs: None }] }
    }

    fn epochs(changes: &[EpochChanges]) -> Vec<Time> {
        changes.iter().map(|changes| changes.epoch).collect()
    }

    #[test]
    fn an_epoch_is_published_when_its_checkpoint_is_durable() {
        let outbox = outbox(true);
        [3, 5, 8].into_iter().for_each(|at| outbox.write(epoch(at)));
        let (saved, published) = outbox.save(6);
        assert_eq!((epochs(&saved), published), (vec![3, 5], 0));
        outbox.release(6);
        let (next, through) = outbox.next().expect("released");
        assert_eq!((epochs(&next), through), (vec![3, 5], 5));
        assert!(!outbox.drained(Duration::ZERO));
        outbox.published(5);
        assert!(outbox.drained(Duration::ZERO));
        let (saved, published) = outbox.save(9);
        assert_eq!((epochs(&saved), published), (vec![8], 5));
        outbox.stop();
        assert!(outbox.next().is_none());
    }

    #[test]
    fn who_waits_for_nothing_publishes_at_once_and_saves_what_is_left() {
        let outbox = outbox(false);
        [3, 5].into_iter().for_each(|at| outbox.write(epoch(at)));
        assert_eq!(epochs(&outbox.next().expect("closed").0), [3, 5]);
        outbox.published(3);
        assert!(outbox.has_published(4) && !outbox.has_published(5), "what comes after it is not waited for");
        let (saved, published) = outbox.save(9);
        assert_eq!((epochs(&saved), published), (vec![5], 3));
        assert_eq!(epochs(&outbox.next().expect("it is still to be published").0), [5]);
    }

    #[test]
    fn what_a_checkpoint_had_left_comes_first() {
        let outbox = outbox(true);
        outbox.restore(5, vec![epoch(3), epoch(5)]);
        outbox.write(epoch(7));
        assert_eq!(epochs(&outbox.next().expect("their checkpoint is durable").0), [3, 5]);
        assert_eq!(epochs(&outbox.save(9).0), [7]);
    }
}
