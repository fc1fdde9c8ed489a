//! Bodies that were seen, by their idempotency key.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ahash::AHashMap;

use crate::source::{PushSummary, Receipt};

/// The last keys, as many and as long as the options say.
#[derive(Debug)]
pub(super) struct Keys {
    keys_max: usize,
    retention: Duration,
    known: AHashMap<Arc<str>, Known>,
    order: VecDeque<(Instant, Arc<str>)>,
}

/// A body that was taken.
#[derive(Debug, Clone)]
pub(super) struct Known {
    summary: Arc<PushSummary>,
    outcome: Arc<Mutex<Outcome>>,
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
        Keys { keys_max, retention, known: AHashMap::new(), order: VecDeque::new() }
    }

    /// The body that came with a key.
    pub(super) fn find(&mut self, key: &str, now: Instant) -> Option<Known> {
        self.forget(now, self.keys_max);
        self.known.get(key).cloned()
    }

    /// Remembers a body by a key that is not known.
    pub(super) fn insert(&mut self, key: String, summary: PushSummary, now: Instant) -> Known {
        self.forget(now, self.keys_max.saturating_sub(1));
        let known = Known { summary: Arc::new(summary), outcome: Arc::new(Mutex::new(Outcome::Waiting(Vec::new()))) };
        let key: Arc<str> = key.into();
        self.known.insert(key.clone(), known.clone());
        self.order.push_back((now, key));
        known
    }

    /// Forgets what is too old, and the oldest beyond `count`.
    fn forget(&mut self, now: Instant, count: usize) {
        while let Some((at, key)) = self.order.front() {
            if self.order.len() <= count && now.duration_since(*at) < self.retention {
                break;
            }
            self.known.remove(key);
            self.order.pop_front();
        }
    }
}

impl Known {
    /// What was answered.
    pub(super) fn summary(&self) -> PushSummary {
        self.summary.as_ref().clone()
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
