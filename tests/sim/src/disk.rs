//! What happens to a process's disk: it is slow, full for a while, loses an answer, or the power fails around an operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use highwater_store::testing::{Fault, Watch};
use highwater_turns::{elapsed, pass, sleep};

use crate::baton::Baton;

/// How often what goes wrong, in a thousand operations, as long as the world is not calm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskFaults {
    pub(crate) refused: u64,
    pub(crate) answers_lost: u64,
    pub(crate) slow: u64,
    /// Becomes full so often, for a while.
    pub(crate) full: u64,
}

/// One process's disk.
pub(crate) struct DiskWatch {
    pub(crate) baton: Arc<Baton>,
    pub(crate) life: usize,
    pub(crate) faults: DiskFaults,
    /// Nothing goes wrong any more.
    pub(crate) calm: Arc<AtomicBool>,
    /// Until when, in microseconds, there is no room.
    pub(crate) full_until: AtomicU64,
}

impl Watch for DiskWatch {
    fn operation(&self, what: &str, path: &str) -> Option<Fault> {
        self.baton.say(format_args!("disk: {what} {path}"));
        pass();
        if !self.has_power() {
            return None;
        }
        if self.baton.dies_of_disk(self.life) {
            let fault = self.baton.draw(|random| random.pick(&[Fault::PowerBefore, Fault::PowerWithin, Fault::PowerAfter]));
            self.baton.kill(self.life, format_args!("{fault:?} of {what} {path}"));
            return Some(fault);
        }
        if self.calm.load(Ordering::SeqCst) {
            return None;
        }
        let DiskFaults { refused, answers_lost, slow, full } = self.faults;
        let [refused, lost, slow, full] =
            self.baton.draw(|random| [refused, answers_lost, slow, full].map(|per_mille| random.chance(per_mille)));
        if slow {
            sleep(Duration::from_micros(self.baton.draw(|random| random.between(1_000, 200_000))));
        }
        let now = elapsed().as_micros() as u64;
        if full {
            self.full_until.store(now + self.baton.draw(|random| random.between(10_000, 600_000)), Ordering::SeqCst);
        }
        let fault = match () {
            _ if !self.has_power() => return None,
            () if what != "delete" && (refused || now < self.full_until.load(Ordering::SeqCst)) => Fault::Refused,
            () if lost => Fault::AnswerLost,
            () => return None,
        };
        self.baton.say(format_args!("disk: {fault:?}"));
        Some(fault)
    }

    fn has_power(&self) -> bool {
        !self.baton.is_dead(self.life)
    }
}
