//! Wake-ups: operators whose result changes as the clock goes on, though no row comes.
//!
//! An operator says as of which epoch it has something to do ([`crate::operator::epoch::EpochLogic::wake_at`]). The pump of
//! its worker opens an epoch then; every worker hears of every epoch through the ticks, so that the operator is asked in
//! the first epoch that is not before its time, whoever opened it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::Time;

/// When one operator on one worker has something to do.
#[derive(Debug)]
pub(crate) struct Alarm {
    worker: usize,
    at: AtomicU64,
}

impl Alarm {
    /// Sets or clears it.
    pub(crate) fn set(&self, at: Option<Time>) {
        self.at.store(at.unwrap_or(Time::MAX), Ordering::Release);
    }

    fn at(&self) -> Option<Time> {
        Some(self.at.load(Ordering::Acquire)).filter(|at| *at != Time::MAX)
    }
}

/// The alarms of a job.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Mutex<Vec<Arc<Alarm>>>);

impl Alarms {
    /// An alarm for an operator on a worker, not set.
    pub(crate) fn add(&self, worker: usize) -> Arc<Alarm> {
        let alarm = Arc::new(Alarm { worker, at: AtomicU64::new(Time::MAX) });
        self.0.lock().expect("alarms are added without panicking").push(Arc::clone(&alarm));
        alarm
    }

    /// The earliest of a worker's alarms.
    pub(crate) fn next(&self, worker: usize) -> Option<Time> {
        let alarms = self.0.lock().expect("alarms are added without panicking");
        alarms.iter().filter(|alarm| alarm.worker == worker).filter_map(|alarm| alarm.at()).min()
    }

    /// Whether there are operators that may set one.
    pub(crate) fn any(&self) -> bool {
        !self.0.lock().expect("alarms are added without panicking").is_empty()
    }

    /// Whether one is set on any worker.
    pub(crate) fn any_set(&self) -> bool {
        self.0.lock().expect("alarms are added without panicking").iter().any(|alarm| alarm.at().is_some())
    }
}
