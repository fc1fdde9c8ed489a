//! Epochs that are not recorded yet, of a job whose text was changed.

use highwater_engine::{EpochRecord, Time};

/// Holds epochs until the first checkpoint of the changed job: a restart before that goes on from what was saved of the old text,
/// whose partitions may have other names, and to which they do not belong. Those that the checkpoint has nobody needs.
#[derive(Debug)]
pub(super) struct Held {
    /// `None`: nothing is held any more.
    waiting: Option<Vec<EpochRecord>>,
}

/// What is to be recorded now.
#[derive(Debug, PartialEq)]
pub(super) struct Passed {
    /// Epochs.
    pub(super) records: Vec<EpochRecord>,
    /// They come after this one, whatever was recorded before.
    pub(super) after: Option<Time>,
}

impl Held {
    /// `changed`: whether the job goes on from the state of another text.
    pub(super) fn new(changed: bool) -> Self {
        Held { waiting: changed.then(Vec::new) }
    }

    /// The last epoch that is held, if any is.
    pub(super) fn last(&self) -> Option<Time> {
        Some(self.waiting.as_ref()?.last()?.epoch)
    }

    /// Takes what is complete; gives what is to be recorded, given the newest checkpoint of this start, or nothing before there is one.
    pub(super) fn pass(&mut self, records: Vec<EpochRecord>, saved: Option<Time>) -> Option<Passed> {
        let Some(mut waiting) = self.waiting.take() else { return Some(Passed { records, after: None }) };
        waiting.extend(records);
        let Some(saved) = saved else {
            self.waiting = Some(waiting);
            return None;
        };
        waiting.retain(|record| record.epoch > saved);
        Some(Passed { records: waiting, after: Some(saved) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(numbers: &[Time]) -> Vec<EpochRecord> {
        numbers.iter().map(|epoch| EpochRecord { epoch: *epoch, ..EpochRecord::default() }).collect()
    }

    #[test]
    fn what_the_first_checkpoint_of_a_changed_job_has_is_not_recorded() {
        let mut held = Held::new(true);
        assert_eq!((held.pass(epochs(&[3, 5]), None), held.last()), (None, Some(5)));
        assert_eq!((held.pass(epochs(&[8]), None), held.last()), (None, Some(8)));
        assert_eq!(held.pass(epochs(&[9]), Some(5)), Some(Passed { records: epochs(&[8, 9]), after: Some(5) }));
        assert_eq!(held.pass(epochs(&[12]), Some(9)), Some(Passed { records: epochs(&[12]), after: None }));
        assert_eq!(held.last(), None);
    }

    #[test]
    fn of_a_job_that_is_as_it_was_nothing_is_held() {
        let mut held = Held::new(false);
        assert_eq!(held.pass(epochs(&[3]), None), Some(Passed { records: epochs(&[3]), after: None }));
    }
}
