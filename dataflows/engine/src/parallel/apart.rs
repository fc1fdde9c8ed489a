//! Work on threads of its own, about as much at a time as there are cores, of what waits the largest first.
//!
//! What takes longest should not be begun last: then the other cores would have nothing to do at its end. And what is done at the
//! end should not be one core's alone: so a few more are begun than there are cores, and share those.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use highwater_turns::{Bell, lock, spawn};

use super::cores;

/// From so many rows on work is worth a thread.
pub(crate) const ROWS_APART: usize = 1 << 16;

/// How much is done at a time.
fn at_once() -> usize {
    cores() + cores().div_ceil(2)
}

/// Work that is done on a thread of its own.
pub(crate) struct Apart<T> {
    /// What came of it, or what it panicked with.
    done: Arc<Mutex<Option<std::thread::Result<T>>>>,
    /// Nobody waits for it any more.
    given_up: Arc<AtomicBool>,
}

/// Does work of this size on a thread of its own, in turn: so much [at a time](at_once), of what waits the largest first.
/// Here, if there can be no thread. `tell`: called when it is done.
pub(crate) fn apart<T: Send + 'static>(
    name: &str,
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
    tell: impl Fn() + Send + 'static,
) -> Apart<T> {
    let (done, given_up) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    let does = {
        let done = Arc::clone(&done);
        move || {
            // What it had is looked at by nobody after a panic.
            let result = catch_unwind(AssertUnwindSafe(work));
            *lock(&done) = Some(result);
            tell();
        }
    };
    // Of a thread that cannot be started the work is taken back.
    let slot = Arc::new(Mutex::new(Some(does)));
    let in_turn = {
        let (slot, given_up, place) = (Arc::clone(&slot), Arc::clone(&given_up), Place::new(size));
        move || {
            let _turn = place.turn();
            if !given_up.load(Ordering::Relaxed)
                && let Some(does) = lock(&slot).take()
            {
                does();
            }
        }
    };
    if spawn(name.to_owned(), in_turn).is_err() {
        let taken_back = lock(&slot).take();
        taken_back.into_iter().for_each(|does| does());
    }
    Apart { done, given_up }
}

impl<T> Apart<T> {
    /// What came of it, if it is done; a panic goes on here.
    pub(crate) fn result(self) -> Result<T, Self> {
        let done = lock(&self.done).take();
        match done {
            Some(Ok(result)) => Ok(result),
            Some(Err(panic)) => resume_unwind(panic),
            None => Err(self),
        }
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
        while guard.taken >= at_once() || guard.waiting.last() != Some(&self.0) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    /// Turns are of the whole process, and tests run side by side.
    static ALONE: Mutex<()> = Mutex::new(());

    /// Waits for work apart, as its caller is told of it.
    fn wait<T>(mut apart: Apart<T>, told: &Receiver<()>) -> T {
        loop {
            match apart.result() {
                Ok(result) => return result,
                Err(again) => apart = again,
            }
            told.recv_timeout(Duration::from_secs(60)).expect("it tells when it is done");
        }
    }

    fn told() -> (impl Fn() + Send + 'static, Receiver<()>) {
        let (tell, told) = channel();
        (move || _ = tell.send(()), told)
    }

    #[test]
    fn work_apart_is_done_in_turn_and_its_panics_go_on_where_it_is_asked_for() {
        let _alone = lock(&ALONE);
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let all: Vec<_> = (0..4 * at_once())
            .map(|number| {
                let (tell, told) = told();
                let work = move || {
                    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::yield_now();
                    RUNNING.fetch_sub(1, Ordering::SeqCst);
                    assert!(number != 1, "one of them fails");
                    (number, running)
                };
                (apart("test", 1, work, tell), told)
            })
            .collect();
        for (number, (apart, told)) in all.into_iter().enumerate() {
            match catch_unwind(AssertUnwindSafe(|| wait(apart, &told))) {
                Ok((of, running)) => assert!(of == number && number != 1 && running <= at_once(), "{number} {running}"),
                Err(_) => assert_eq!(number, 1),
            }
        }
    }

    #[test]
    fn what_waits_goes_on_with_the_largest() {
        let _alone = lock(&ALONE);
        let begun = Arc::new(Mutex::new(Vec::new()));
        // As much as may be is done until the end, one of them a little less long.
        let ends = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (tells, mut told): (Vec<_>, Vec<_>) = (0..at_once()).map(|_| told()).unzip();
        let busy = tells.into_iter().enumerate().map(|(core, tell)| {
            let end = Arc::clone(&ends[usize::from(core > 0)]);
            let work = move || {
                while !end.load(Ordering::Relaxed) {
                    std::thread::yield_now()
                }
            };
            apart("busy", usize::MAX, work, tell)
        });
        let mut all: Vec<_> = busy.collect();
        for size in [3, 1, 4, 1, 5, 9, 2, 6] {
            let (begun, (tell, tells)) = (Arc::clone(&begun), self::told());
            all.push(apart("test", size, move || lock(&begun).push(size), tell));
            told.push(tells);
        }
        while lock(&TURNS.0).taken < at_once() {
            std::thread::yield_now();
        }
        assert_eq!(*lock(&begun), [0; 0], "as much is done as may be");
        ends[0].store(true, Ordering::Relaxed);
        let small = all.split_off(at_once());
        small.into_iter().zip(told.split_off(at_once())).for_each(|(apart, told)| wait(apart, &told));
        ends[1].store(true, Ordering::Relaxed);
        all.into_iter().zip(told).for_each(|(apart, told)| wait(apart, &told));
        assert_eq!(*lock(&begun), [9, 6, 5, 4, 3, 2, 1, 1]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let _alone = lock(&ALONE);
        let end = Arc::new(AtomicBool::new(false));
        let all: Vec<_> = (0..at_once())
            .map(|_| {
                let (end, (tell, told)) = (Arc::clone(&end), told());
                let work = move || {
                    while !end.load(Ordering::Relaxed) {
                        std::thread::yield_now()
                    }
                };
                (apart("busy", usize::MAX, work, tell), told)
            })
            .collect();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        drop(apart("test", 2, move || begins.store(true, Ordering::Relaxed), || {}));
        let (tell, last) = told();
        let smaller = apart("test", 1, || (), tell);
        end.store(true, Ordering::Relaxed);
        all.into_iter().for_each(|(apart, told)| wait(apart, &told));
        wait(smaller, &last);
        assert!(!begun.load(Ordering::Relaxed), "its turn came before that of the smaller one");
    }
}
