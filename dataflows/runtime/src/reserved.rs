//! Names of jobs that somebody has to himself: a job of that name is being created, changed or dropped, or will be brought back.

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

/// What a name is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A job of that name begins, or ends.
    Begins,
    /// A saved job of that name will be brought back.
    Returns,
    /// The job of that name goes on as another version of itself.
    Changes,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Purpose>,
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

    /// Takes a name; `None` if another one has it.
    pub(crate) fn take(self: &Arc<Self>, name: &str, purpose: Purpose) -> Option<Reservation> {
        let mut state = self.lock();
        if state.names.contains_key(name) {
            return None;
        }
        Some(self.taken(&mut state, name, purpose))
    }

    /// Takes a name as soon as no other one has it.
    pub(crate) fn wait_for(self: &Arc<Self>, name: &str, purpose: Purpose) -> Reservation {
        let mut state = self.lock();
        while state.names.contains_key(name) {
            state = self.freed.wait(&self.state, state, None);
        }
        self.taken(&mut state, name, purpose)
    }

    fn taken(self: &Arc<Self>, state: &mut State, name: &str, purpose: Purpose) -> Reservation {
        state.names.insert(name.to_owned(), purpose);
        Reservation { name: name.to_owned(), all: Arc::clone(self) }
    }

    /// The names that are taken for this.
    pub(crate) fn names(&self, purpose: Purpose) -> Vec<String> {
        self.lock().names.iter().filter(|(_, of)| **of == purpose).map(|(name, _)| name.clone()).collect()
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
        let first = all.take("a", Purpose::Returns).unwrap();
        assert!(all.take("a", Purpose::Begins).is_none());
        let second = all.take("b", Purpose::Begins).unwrap();
        assert_eq!((first.name(), all.names(Purpose::Returns)), ("a", vec!["a".to_owned()]));
        assert!(all.names(Purpose::Changes).is_empty());
        drop(first);
        assert!(all.names(Purpose::Returns).is_empty() && all.take("a", Purpose::Begins).is_some());
        let closes = Arc::clone(&all);
        let closing = std::thread::spawn(move || closes.close());
        while !all.is_closed() {
            std::thread::yield_now();
        }
        assert!(!closing.is_finished());
        drop(second);
        closing.join().unwrap();
    }

    #[test]
    fn who_waits_for_a_name_gets_it() {
        let all = Arc::<Reserved>::default();
        // At the end, too: who is not told that a job is dropped finds it again at the next start.
        for ends in [false, true] {
            all.lock().closed = ends;
            let first = all.take("a", Purpose::Changes).unwrap();
            let waits = Arc::clone(&all);
            let waiting = std::thread::spawn(move || waits.wait_for("a", Purpose::Begins));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished() && all.names(Purpose::Begins).is_empty());
            drop(first);
            let second = waiting.join().unwrap();
            assert_eq!((second.name(), all.names(Purpose::Begins)), ("a", vec!["a".to_owned()]));
        }
    }
}
