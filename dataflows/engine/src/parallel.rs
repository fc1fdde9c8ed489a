//! Work on many items at once: fork and join.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use highwater_turns::{Bell, JoinHandle, lock, spawn};

/// How many threads run at a time: asked once, for the system reads files to answer.
pub(crate) fn cores() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *CORES
}

/// The results of `work` on all items, in their order, made by as many threads as there are cores, but at most `threads`.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = cores().min(items.len()).min(threads);
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        while let Some((index, item)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?))) {
            done.push((index, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        let mut done = some();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The results of `work` on all items, in no order, made by so many threads while further items come; or the first error that
/// comes instead of one.
pub(crate) fn as_they_come<T: Send, R: Send, E>(
    items: impl Iterator<Item = Result<T, E>>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Result<Vec<R>, E> {
    let (give, taken) = channel();
    let (taken, done) = (Mutex::new(taken), Mutex::new(Vec::new()));
    let take = || taken.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    let some = || {
        while let Some(item) = take() {
            let result = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(some);
        }
        // Whoever takes lives until this is dropped, unless it panicked, which the scope passes on.
        let give = give;
        for item in items {
            let _ = give.send(item?);
        }
        Ok(())
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Work that is done on a thread of its own.
pub(crate) struct Apart<T> {
    done: Arc<Mutex<Option<T>>>,
    /// Nobody waits for it any more.
    given_up: Arc<AtomicBool>,
    thread: Option<JoinHandle>,
}

/// Does work on a thread of its own, in turn: as much at a time as there are cores. Here, if there can be no thread.
pub(crate) fn apart<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Apart<T> {
    let (done, given_up) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    // Of a thread that cannot be started the work is taken back.
    let slot = Arc::new(Mutex::new(Some(work)));
    let in_turn = {
        let (done, slot, given_up) = (Arc::clone(&done), Arc::clone(&slot), Arc::clone(&given_up));
        move || {
            let _turn = Turn::wait();
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
    /// What came of it; a panic goes on here.
    pub(crate) fn wait(mut self) -> T {
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

/// One of those that may work apart at a time.
struct Turn;

/// How many are taken, and a bell for when one is free again.
static TURNS: LazyLock<(Mutex<usize>, Bell)> = LazyLock::new(Default::default);

impl Turn {
    fn wait() -> Self {
        let (taken, free) = &*TURNS;
        let mut guard = lock(taken);
        while *guard >= cores() {
            guard = free.wait(taken, guard, None);
        }
        *guard += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (taken, free) = &*TURNS;
        *lock(taken) -= 1;
        free.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_come_are_worked_on_until_one_is_an_error() {
        let mut done = as_they_come((0..100).map(Ok::<u32, String>), 3, |item| item * 2).unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).map(|item| item * 2).collect::<Vec<_>>());
        let failing = (0..100).map(|item| if item == 50 { Err("fifty") } else { Ok(item) });
        assert_eq!(as_they_come(failing, 2, |item: u32| item), Err("fifty"));
    }

    #[test]
    fn work_apart_is_done_in_turn_and_its_panics_go_on_where_it_is_waited_for() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let all: Vec<_> = (0..4 * cores())
            .map(|number| {
                apart("test", move || {
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
}
