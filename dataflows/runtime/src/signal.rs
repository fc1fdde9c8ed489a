//! Wakes threads that wait for a job to get on.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Something happened; what, the waiting thread looks up itself.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    lock: Mutex<()>,
    happened: Condvar,
}

impl Signal {
    /// Wakes all who wait.
    pub(crate) fn notify(&self) {
        // Taking the lock means that nobody is between looking and waiting.
        drop(self.lock.lock().expect("nothing panics under this lock"));
        self.happened.notify_all();
    }

    /// Waits until `look` gives something, or until `left` says that no time is left; then `None`.
    ///
    /// `look` runs under the signal's lock: it must be quick and must not notify.
    pub(crate) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>, mut left: impl FnMut() -> Option<Duration>) -> Option<T> {
        let mut guard = self.lock.lock().expect("nothing panics under this lock");
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let left = left()?;
            (guard, _) = self.happened.wait_timeout(guard, left).expect("nothing panics under this lock");
        }
    }
}
