//! Names of jobs that are not free although no job runs under them: one is being created or dropped, or will be brought back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_turns::Bell;

/// The names of a process.
#[derive(Default)]
pub(crate) struct Reserved {
    state: Mutex<State>,
    /// A name has become free.
    freed: Bell,
}

#[derive(Debug, Default)]
struct State {
    /// With whether a job of that name will be brought back.
    names: BTreeMap<String, bool>,
    /// No more is begun.
    closed: bool,
}

/// A name that is nobody else's as long as this lives.
pub struct Reservation {
    name: String,
    all: Arc<Reserved>,
}

impl Reservation {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.all.lock().names.remove(&self.name);
        self.all.freed.ring();
    }
}

impl Reserved {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name; `None` if another one has it. `returns`: a job of this name will be brought back.
    pub(crate) fn take(self: &Arc<Self>, name: &str, returns: bool) -> Option<Reservation> {
        let mut state = self.lock();
        if state.names.contains_key(name) {
            return None;
        }
        state.names.insert(name.to_owned(), returns);
        Some(Reservation { name: name.to_owned(), all: Arc::clone(self) })
    }

    /// The names of jobs that will be brought back.
    pub(crate) fn returning(&self) -> Vec<String> {
        self.lock().names.iter().filter(|(_, returns)| **returns).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// From here on nothing is begun; waits until what was begun is done with.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        while !state.names.is_empty() {
            state = self.freed.wait(&self.state, state, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_ones_until_he_is_done() {
        let all = Arc::<Reserved>::default();
        let first = all.take("a", true).unwrap();
        assert!(all.take("a", false).is_none());
        let second = all.take("b", false).unwrap();
        assert_eq!((first.name(), all.returning()), ("a", vec!["a".to_owned()]));
        drop(first);
        assert!(all.returning().is_empty() && all.take("a", false).is_some());
        let closes = Arc::clone(&all);
        let closing = std::thread::spawn(move || closes.close());
        while !all.is_closed() {
            std::thread::yield_now();
        }
        assert!(!closing.is_finished());
        drop(second);
        closing.join().unwrap();
    }
}
