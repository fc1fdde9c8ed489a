//! Work on threads of its own, as much at a time as there are cores, the largest first.
//!
//! What takes longest should not be begun last: then the other cores would have nothing to do at its end. So while a worker finds
//! out what there is to do, nothing of it begins ([`Held`]).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use highwater_turns::{Bell, JoinHandle, is_simulated, lock, spawn};

use super::cores;

/// From so many rows on work is worth a thread.
pub(crate) const ROWS_APART: usize = 1 << 16;

/// Work that is done on a thread of its own.
pub(crate) struct Apart<T> {
    done: Arc<Mutex<Option<T>>>,
    /// Nobody waits for it any more.
    given_up: Arc<AtomicBool>,
    thread: Option<JoinHandle>,
}

/// Does work of this size on a thread of its own, in turn: as much at a time as there are cores, of what waits the largest first.
/// Here, if there can be no thread.
pub(crate) fn apart<T: Send + 'static>(name: &str, size: usize, work: impl FnOnce() -> T + Send + 'static) -> Apart<T> {
    let (done, given_up) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    // Of a thread that cannot be started the work is taken back.
    let slot = Arc::new(Mutex::new(Some(work)));
    let in_turn = {
        let (done, slot, given_up) = (Arc::clone(&done), Arc::clone(&slot), Arc::clone(&given_up));
        let place = Place::new(size);
        move || {
            let _turn = place.turn();
            if given_up.load(Ordering::Relaxed) {
                return;
            }
            let work = lock(&slot).take().expect("it is taken back only if there is no thread");
            let result = work();
            *lock(&done) = Some(result);
        }
    };
    let thread = spawn(name.to_owned(), in_turn).ok();
    if thread.is_none()
        && let Some(work) = lock(&slot).take()
    {
        *lock(&done) = Some(work());
    }
    Apart { done, given_up, thread }
}

impl<T> Apart<T> {
    /// What came of it; a panic goes on here. Nothing is [held](Held) by this thread from there on.
    pub(crate) fn wait(mut self) -> T {
        Held::end();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        lock(&self.done).take().expect("it is done")
    }
}

impl<T> Drop for Apart<T> {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Turns {
    taken: usize,
    /// By how many threads everything is held.
    held: usize,
    /// Sizes, and numbers that tell them apart: of equal ones the first has the highest.
    waiting: BTreeSet<(usize, u64)>,
    next: u64,
}

/// Whose turn it is, and a bell for when that changes.
static TURNS: LazyLock<(Mutex<Turns>, Bell)> = LazyLock::new(Default::default);

fn change<R>(change: impl FnOnce(&mut Turns) -> R) -> R {
    let (turns, changed) = &*TURNS;
    let result = change(&mut lock(turns));
    changed.ring();
    result
}

/// A place among those that wait. Whoever drops it without its turn no longer waits.
struct Place((usize, u64));

impl Place {
    fn new(size: usize) -> Self {
        change(|turns| {
            turns.next += 1;
            let place = (size, u64::MAX - turns.next);
            turns.waiting.insert(place);
            Place(place)
        })
    }

    fn turn(self) -> Turn {
        let (turns, changed) = &*TURNS;
        let mut guard = lock(turns);
        while guard.held > 0 || guard.taken >= cores() || guard.waiting.last() != Some(&self.0) {
            guard = changed.wait(turns, guard, None);
        }
        guard.taken += 1;
        drop(guard);
        // Its place is free from here on, and the next one may see whether it is theirs.
        drop(self);
        Turn
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        change(|turns| turns.waiting.remove(&self.0));
    }
}

/// One of those that may work apart at a time.
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        change(|turns| turns.taken -= 1);
    }
}

thread_local! {
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

/// While there is one nothing begins apart, so that all is known of which the largest is to be first. It ends when the thread that
/// made it has much to do itself ([`Held::end_before`]) or waits ([`Held::end`]), or when it is dropped.
pub(crate) struct Held;

impl Held {
    pub(crate) fn new() -> Self {
        // In a simulation nothing is apart, and simulations that run side by side have nothing in common.
        if !is_simulated() && !HOLDS.replace(true) {
            change(|turns| turns.held += 1);
        }
        Held
    }

    /// This thread is to be busy with so many rows: if they are many, the others need not wait for it.
    pub(crate) fn end_before(rows: usize) {
        if rows >= ROWS_APART {
            Held::end();
        }
    }

    /// This thread is to wait for what is done apart.
    pub(crate) fn end() {
        if HOLDS.replace(false) {
            change(|turns| turns.held -= 1);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        Held::end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Turns are of the whole process, and tests run side by side.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn work_apart_is_done_in_turn_and_its_panics_go_on_where_it_is_waited_for() {
        let _alone = lock(&ALONE);
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let all: Vec<_> = (0..4 * cores())
            .map(|number| {
                apart("test", 1, move || {
                    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::yield_now();
                    RUNNING.fetch_sub(1, Ordering::SeqCst);
                    assert!(number != 1, "one of them fails");
                    (number, running)
                })
            })
            .collect();
        for (number, apart) in all.into_iter().enumerate() {
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| apart.wait())) {
                Ok((of, running)) => assert!(of == number && number != 1 && running <= cores(), "{number} {running}"),
                Err(_) => assert_eq!(number, 1),
            }
        }
    }

    #[test]
    fn what_waits_begins_with_the_largest() {
        let _alone = lock(&ALONE);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let held = Held::new();
        // All cores but one are busy until the end.
        let end = Arc::new(AtomicBool::new(false));
        let busy = |_| {
            let end = Arc::clone(&end);
            apart("busy", usize::MAX, move || {
                while !end.load(Ordering::Relaxed) {
                    std::thread::yield_now()
                }
            })
        };
        let busy: Vec<_> = (1..cores()).map(busy).collect();
        let of_size = |size| {
            let begun = Arc::clone(&begun);
            apart("test", size, move || lock(&begun).push(size))
        };
        let all: Vec<_> = [3, 1, 4, 1, 5, 9, 2, 6].into_iter().map(of_size).collect();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(*lock(&begun), [0; 0], "nothing begins while it is held");
        drop(held);
        all.into_iter().for_each(Apart::wait);
        end.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(Apart::wait);
        assert_eq!(*lock(&begun), [9, 6, 5, 4, 3, 2, 1, 1]);
    }

    #[test]
    fn who_has_much_to_do_holds_nothing() {
        let _alone = lock(&ALONE);
        let held = Held::new();
        Held::end_before(ROWS_APART - 1);
        assert!(HOLDS.get());
        Held::end_before(ROWS_APART);
        assert!(!HOLDS.get());
        drop(held);
        assert_eq!(lock(&TURNS.0).held, 0, "it is ended once");
    }

    #[test]
    fn whoever_waits_for_work_holds_nothing() {
        let _alone = lock(&ALONE);
        let held = Held::new();
        assert_eq!(apart("test", 1, || 7).wait(), 7);
        drop(held);
        assert_eq!(apart("test", 1, || 8).wait(), 8);
    }
}
