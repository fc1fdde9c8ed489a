//! Which jobs are being restored, and how far each is: written by who restores, read by anyone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use highwater_engine::GivenBack;

use crate::clock::Clock;

/// How far the restoring of a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreInfo {
    /// The job.
    pub job: String,
    /// Bytes of its checkpoint that are read.
    pub bytes_done: u64,
    /// Bytes that there are to be read.
    pub bytes_total: u64,
    /// Rows that its operators were given back: it goes on when all of them have what they had.
    pub loaded_rows: u64,
    /// If the job was changed and what is new in it is being made: the rows that this took so far.
    pub rebuilding_rows: Option<u64>,
    /// Since it began.
    pub took: Duration,
}

/// The jobs of a process that are being restored.
#[derive(Default)]
pub(crate) struct Restores(Mutex<Vec<Arc<Restore>>>);

struct Restore {
    job: String,
    begun: Duration,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    given: OnceLock<Arc<GivenBack>>,
    rebuilds: AtomicBool,
    rows: AtomicU64,
}

/// One of them; it is over when this is dropped.
pub(crate) struct RestoreProgress<'a> {
    all: &'a Restores,
    own: Arc<Restore>,
}

impl Restores {
    pub(crate) fn begin(&self, job: &str, clock: &dyn Clock) -> RestoreProgress<'_> {
        let own = Arc::new(Restore {
            job: job.to_owned(),
            begun: clock.elapsed(),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            given: OnceLock::new(),
            rebuilds: AtomicBool::new(false),
            rows: AtomicU64::new(0),
        });
        self.lock().push(Arc::clone(&own));
        RestoreProgress { all: self, own }
    }

    pub(crate) fn list(&self, clock: &dyn Clock) -> Vec<RestoreInfo> {
        let info = |restore: &Arc<Restore>| RestoreInfo {
            job: restore.job.clone(),
            bytes_done: restore.bytes_done.load(Ordering::Relaxed),
            bytes_total: restore.bytes_total.load(Ordering::Relaxed),
            loaded_rows: restore.given.get().map_or(0, |given| given.rows.load(Ordering::Relaxed)),
            rebuilding_rows: restore.rebuilds.load(Ordering::Relaxed).then(|| restore.rows.load(Ordering::Relaxed)),
            took: clock.elapsed().saturating_sub(restore.begun),
        };
        self.lock().iter().map(info).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Restore>>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl RestoreProgress<'_> {
    /// So much of the checkpoint is read.
    pub(crate) fn read(&self, progress: highwater_store::Progress) {
        self.own.bytes_done.store(progress.bytes_done, Ordering::Relaxed);
        self.own.bytes_total.store(progress.bytes_total, Ordering::Relaxed);
    }

    /// Where what its operators were given back is counted.
    pub(crate) fn counts(&self, given: &Arc<GivenBack>) {
        let _ = self.own.given.set(Arc::clone(given));
    }

    /// What is new in the job is being made, of so many rows so far.
    pub(crate) fn rebuilding(&self, rows: u64) {
        self.own.rows.store(rows, Ordering::Relaxed);
        self.own.rebuilds.store(true, Ordering::Relaxed);
    }
}

impl Drop for RestoreProgress<'_> {
    fn drop(&mut self) {
        self.all.lock().retain(|other| !Arc::ptr_eq(other, &self.own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    #[test]
    fn a_restore_is_listed_while_it_lasts() {
        let (restores, clock) = (Restores::default(), ManualClock::default());
        clock.set_ms(5);
        let progress = restores.begin("orders", &clock);
        progress.read(highwater_store::Progress { bytes_done: 3, bytes_total: 9 });
        let given = Arc::new(GivenBack::default());
        progress.counts(&given);
        given.rows.store(5, Ordering::Relaxed);
        clock.set_ms(12);
        let listed = |rebuilding_rows| RestoreInfo {
            job: "orders".into(),
            bytes_done: 3,
            bytes_total: 9,
            loaded_rows: 5,
            rebuilding_rows,
            took: Duration::from_millis(7),
        };
        assert_eq!(restores.list(&clock), [listed(None)]);
        progress.rebuilding(40);
        assert_eq!(restores.list(&clock), [listed(Some(40))]);
        drop(progress);
        assert_eq!(restores.list(&clock), []);
    }
}
