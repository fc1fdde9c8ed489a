//! Wakes threads that wait for a job to get on.

use std::sync::Mutex;
use std::time::Duration;

use highwater_turns::Bell;

/// Something happened; what, the waiting thread looks up itself.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    lock: Mutex<()>,
    happened: Bell,
}

impl Signal {
    /// Wakes all who wait.
    pub(crate) fn notify(&self) {
        // Taking the lock means that nobody is between looking and waiting.
        drop(self.lock.lock().expect("nothing panics under this lock"));
        self.happened.ring();
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
            guard = self.happened.wait(&self.lock, guard, Some(left));
        }
    }
}
