//! Wakes threads that wait for a job to get on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Duration;

use highwater_turns::Bell;

/// Something happened; what, the waiting thread looks up itself.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    lock: Mutex<()>,
    happened: Bell,
    /// How many wait for an epoch to be closed.
    for_epochs: AtomicUsize,
}

impl Signal {
    /// Wakes all who wait.
    pub(crate) fn notify(&self) {
        // Taking the lock means that nobody is between looking and waiting.
        drop(self.lock.lock().expect("nothing panics under this lock"));
        self.happened.ring();
    }

    /// An epoch was closed: wakes all who wait, if any of them waits for that. There are thousands a second, and waking a thread
    /// costs the worker that does it more than a small epoch.
    pub(crate) fn notify_closed(&self) {
        // Either the count of who waits is seen here, or what was closed is seen there.
        fence(Ordering::SeqCst);
        if self.for_epochs.load(Ordering::SeqCst) > 0 {
            self.notify();
        }
    }

    /// As [`Signal::wait`], of somebody who looks at which epochs are closed.
    pub(crate) fn wait_closed<T>(&self, look: impl FnMut() -> Option<T>, left: impl FnMut() -> Option<Duration>) -> Option<T> {
        self.for_epochs.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let found = self.wait(look, left);
        self.for_epochs.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Waits until `look` gives something, or until `left` says that no time is left; then `None`.
    ///
    /// `look` runs under the signal's lock: it must be quick and must not notify. Epochs that are closed do not wake it:
    /// [`Signal::wait_closed`].
    pub(crate) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>, mut left: impl FnMut() -> Option<Duration>) -> Option<T> {
        let mut guard = self.lock.lock().expect("nothing panics under this lock");
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let left = left()?;
            guard = self.happened.wait(&self.lock, guard, Some(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn who_waits_for_an_epoch_is_woken_by_it_and_nobody_else_is() {
        let (signal, closed, looks) = (Arc::new(Signal::default()), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let over = Arc::new(AtomicU64::new(0));
        let other = {
            let (signal, looks, over) = (Arc::clone(&signal), Arc::clone(&looks), Arc::clone(&over));
            thread::spawn(move || {
                let look = || {
                    looks.fetch_add(1, Ordering::SeqCst);
                    (over.load(Ordering::SeqCst) == 1).then_some(())
                };
                signal.wait(look, || Some(PATIENCE))
            })
        };
        while looks.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        (0..1_000).for_each(|_| signal.notify_closed());
        for epoch in 1..=100 {
            let waits = {
                let (signal, closed) = (Arc::clone(&signal), Arc::clone(&closed));
                thread::spawn(move || {
                    let look = || (closed.load(Ordering::Acquire) >= epoch).then_some(());
                    signal.wait_closed(look, || Some(PATIENCE))
                })
            };
            closed.store(epoch, Ordering::Release);
            signal.notify_closed();
            assert_eq!(waits.join().unwrap(), Some(()), "epoch {epoch}");
        }
        // It looked when it began to wait, and at most as often as somebody waited for an epoch.
        assert!(looks.load(Ordering::SeqCst) <= 101, "{looks:?}");
        over.store(1, Ordering::SeqCst);
        signal.notify();
        assert_eq!(other.join().unwrap(), Some(()));
    }
}
