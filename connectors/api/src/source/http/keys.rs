//! Bodies that were seen, by their idempotency key.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ahash::AHashMap;

use super::log::{Content, Entry, Unsealed};
use crate::source::{PushError, PushSummary, Receipt};

/// Whether a body is kept: empty until that is known.
pub(super) type Kept = Arc<OnceLock<Result<(), PushError>>>;

/// The last keys, as many and as long as the options say. Times are milliseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Keys {
    keys_max: usize,
    retention: u64,
    known: AHashMap<Arc<str>, Arc<Known>>,
    /// Oldest first; may have bodies that are no longer known.
    order: VecDeque<Arc<Known>>,
}

/// A body that was taken, or is being taken.
#[derive(Debug)]
pub(super) struct Known {
    key: Arc<str>,
    at: u64,
    /// Of the body; 0 until it is kept.
    number: AtomicU64,
    kept: Kept,
    summary: PushSummary,
    outcome: Mutex<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    /// Its rows wait, and so do these.
    Waiting(Vec<Receipt>),
    /// Its rows belong to this epoch.
    Taken(u64),
}

impl Keys {
    /// Remembers nothing yet.
    pub(super) fn new(keys_max: usize, retention: Duration) -> Self {
        let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        Keys { keys_max, retention, known: AHashMap::new(), order: VecDeque::new() }
    }

    /// The body that came with a key.
    pub(super) fn find(&mut self, key: &str, now: u64) -> Option<Arc<Known>> {
        self.forget(now, self.keys_max);
        self.known.get(key).cloned()
    }

    /// The body of this number, if it came with this key.
    pub(super) fn numbered(&self, key: &str, number: u64) -> Option<Arc<Known>> {
        self.known.get(key).filter(|known| known.number.load(Ordering::Relaxed) == number).cloned()
    }

    /// Remembers a body by a key that is not known.
    pub(super) fn insert(&mut self, key: &str, summary: PushSummary, now: u64, kept: Kept) -> Arc<Known> {
        self.forget(now, self.keys_max.saturating_sub(1));
        self.add(key, summary, now, 0, kept, Outcome::Waiting(Vec::new()))
    }

    /// Remembers a body from before the restart, whose rows are in the restored state as of an epoch, or will be replayed.
    pub(super) fn restore(&mut self, entry: Entry, epoch: Option<u64>) {
        let Some(key) = &entry.key else { return };
        let outcome = epoch.map_or_else(|| Outcome::Waiting(Vec::new()), Outcome::Taken);
        self.add(key, entry.summary, entry.at, entry.number, Arc::new(OnceLock::from(Ok(()))), outcome);
    }

    fn add(&mut self, key: &str, summary: PushSummary, at: u64, number: u64, kept: Kept, outcome: Outcome) -> Arc<Known> {
        let key: Arc<str> = key.into();
        let (number, outcome) = (AtomicU64::new(number), Mutex::new(outcome));
        let known = Arc::new(Known { key: Arc::clone(&key), at, number, kept, summary, outcome });
        self.known.insert(key, Arc::clone(&known));
        self.order.push_back(Arc::clone(&known));
        known
    }

    /// Forgets a body that could not be kept.
    pub(super) fn remove(&mut self, known: &Arc<Known>) {
        if self.is_known(known) {
            self.known.remove(&known.key);
        }
    }

    /// The keys of bodies up to a number, oldest first, as the log keeps them.
    pub(super) fn of_released(&mut self, upto: u64, now: u64) -> Vec<Unsealed> {
        self.forget(now, self.keys_max);
        let mut entries = Vec::new();
        for known in self.order.iter().filter(|known| self.is_known(known)) {
            let number = known.number.load(Ordering::Relaxed);
            if (1..=upto).contains(&number) {
                let (key, summary) = (Some(known.key.to_string()), known.summary.clone());
                let entry = Entry { number, at: known.at, content: Content::Released, key, summary, body: Vec::new() };
                entries.extend(Unsealed::new(&entry));
            }
        }
        entries
    }

    fn is_known(&self, known: &Arc<Known>) -> bool {
        self.known.get(&known.key).is_some_and(|other| Arc::ptr_eq(other, known))
    }

    /// Forgets what is too old, and the oldest beyond `count`.
    fn forget(&mut self, now: u64, count: usize) {
        while let Some(oldest) = self.order.front() {
            if self.known.len() <= count && now.saturating_sub(oldest.at) < self.retention {
                break;
            }
            if self.is_known(oldest) {
                self.known.remove(&oldest.key);
            }
            self.order.pop_front();
        }
    }
}

impl Known {
    /// What was answered.
    pub(super) fn summary(&self) -> PushSummary {
        self.summary.clone()
    }

    /// Whether it is kept.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// It is kept as the body of this number.
    pub(super) fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// Tells `receipt` the epoch: at once, or when it is known.
    pub(super) fn wait(&self, receipt: Receipt) {
        let epoch = match &mut *self.outcome.lock().expect("nothing panics while it holds an outcome") {
            Outcome::Waiting(receipts) => return receipts.push(receipt),
            Outcome::Taken(epoch) => *epoch,
        };
        (receipt.0)(epoch);
    }

    /// Says which epoch the rows belong to.
    pub(super) fn settle(&self, epoch: u64) {
        let mut outcome = self.outcome.lock().expect("nothing panics while it holds an outcome");
        let before = std::mem::replace(&mut *outcome, Outcome::Taken(epoch));
        drop(outcome);
        if let Outcome::Waiting(receipts) = before {
            receipts.into_iter().for_each(|receipt| (receipt.0)(epoch));
        }
    }
}
