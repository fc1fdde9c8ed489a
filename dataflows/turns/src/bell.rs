//! A condition variable, and locks that are held while others run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::simulation::{Place, here, pass};

/// Wakes threads that wait for what a mutex guards to change.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Condvar,
    /// So that bells have different addresses.
    _place: u8,
}

impl Bell {
    /// Wakes all who wait.
    pub fn ring(&self) {
        self.rung.notify_all();
        if let Some(here) = here() {
            here.simulation.wakes(here.thread, self.place());
        }
    }

    /// Lets go of `guard` until the bell is rung, or so much time has passed; may come back earlier.
    ///
    /// Panics if a thread has panicked while it held the mutex.
    pub fn wait<'a, T>(&self, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>, longest: Option<Duration>) -> MutexGuard<'a, T> {
        const WHOLE: &str = "nothing panics under a lock that is waited for";
        if let Some(here) = here() {
            // Nobody runs between these two.
            drop(guard);
            here.simulation.waits(here.thread, self.place(), longest);
            return mutex.lock().expect(WHOLE);
        }
        match longest {
            Some(longest) => self.rung.wait_timeout(guard, longest).expect(WHOLE).0,
            None => self.rung.wait(guard).expect(WHOLE),
        }
    }

    fn place(&self) -> Place {
        Place::Bell(std::ptr::from_ref(self).addr())
    }
}

/// Takes a lock that another thread may hold while it waits for a disk. Whether somebody panicked under it does not matter.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if here().is_some() {
        loop {
            if let Some(guard) = try_lock(mutex) {
                return guard;
            }
            pass();
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock if nobody has it. Whether somebody panicked under it does not matter.
pub fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
