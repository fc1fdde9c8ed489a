//! Epochs that were recorded, once more: every worker goes through all of them, in order, before it opens any other.

use std::time::Duration;

use super::{Pump, Pumped};
use crate::job::JobState;
use crate::{Again, Time};

impl Pump {
    /// Goes on with the job's script; `None` when that is done and epochs of its own follow.
    pub(super) fn pump_again(&mut self) -> Option<Pumped> {
        let shared = std::sync::Arc::clone(&self.shared);
        let Some(record) = shared.script.epochs.get(self.again) else {
            return shared.script.stops.then_some(Pumped::Idle(None));
        };
        self.first = false;
        if !self.gate.enter_again(record) {
            return Some(Pumped::Idle(None));
        }
        let (mut waits, mut wait) = (false, None::<Duration>);
        for position in 0..self.feeds.len() {
            loop {
                match self.feeds[position].feed.again(record) {
                    Again::Ready(batch) => {
                        let (receipts, _) = self.give(record.epoch, vec![(position, batch)]);
                        receipts.into_iter().for_each(|receipt| receipt(record.epoch));
                    }
                    Again::Pending(again) => {
                        waits = true;
                        wait = [wait, again].into_iter().flatten().min();
                        break;
                    }
                    Again::Done => break,
                    Again::Failed(why) => {
                        let source = shared.job.sources.get(self.feeds[position].source);
                        let source = source.map_or("", |source| source.name.as_str());
                        let epoch = record.epoch;
                        let why = format!("epoch {epoch} cannot be gone through again: source '{source}': {why}");
                        shared.set_state(JobState::Failed(why));
                        return Some(Pumped::Idle(None));
                    }
                }
            }
        }
        if waits {
            return Some(Pumped::Idle(wait));
        }
        self.again += 1;
        if record.last {
            self.finish(Vec::new());
        } else {
            self.send(record.epoch, Vec::new());
        }
        Some(Pumped::Busy)
    }

    /// Tells the recorder what the feeds gave to `epoch`.
    pub(super) fn record(&mut self, epoch: Time) {
        let Some(recorder) = self.shared.recorder.clone() else { return };
        let mut read = crate::checkpoint::Positions::new();
        for running in &mut self.feeds {
            let source = running.source;
            read.extend(running.feed.moved().into_iter().map(|moved| ((source, moved.partition), moved.position)));
        }
        if self.shared.script.of(epoch).is_none() {
            recorder.gave(self.worker, epoch, read);
        }
    }
}
