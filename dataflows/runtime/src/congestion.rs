//! Whether a job has to stop reading because something behind it, that is no operator, is full.
//!
//! Operators hold epochs back by themselves; queues beside the dataflow, which checkpoints must go past, cannot.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_connectors::source::Waker;

/// What is full.
pub(crate) struct Congestion {
    full: Mutex<BTreeSet<usize>>,
    any: AtomicBool,
    /// Wake the workers, which read again.
    wakers: Vec<Waker>,
}

impl Congestion {
    /// Nothing is full.
    pub(crate) fn new(wakers: Vec<Waker>) -> Self {
        Congestion { full: Mutex::default(), any: AtomicBool::new(false), wakers }
    }

    /// Says of the queue of this number whether it is full.
    pub(crate) fn set(&self, number: usize, full: bool) {
        let mut all = self.full.lock().expect("nothing panics under this lock");
        let changed = if full { all.insert(number) } else { all.remove(&number) };
        let any = !all.is_empty();
        self.any.store(any, Ordering::Release);
        drop(all);
        if changed && !any {
            self.wakers.iter().for_each(|wake| wake());
        }
    }

    /// Whether nothing may be read.
    pub(crate) fn is_set(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}
