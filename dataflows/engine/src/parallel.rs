//! Work on many items at once: fork and join.

mod apart;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{LazyLock, Mutex, PoisonError};

pub(crate) use self::apart::{Apart, ROWS_APART, apart};

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
}
