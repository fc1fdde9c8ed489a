//! `state_ttl` of partitions without windows.

use super::{Partition, Table};
use crate::Time;

impl Table {
    /// Goes on to an epoch: forgets partitions that have expired by then.
    pub(in crate::operator::over) fn begin(&mut self, epoch: Time) {
        let Some(lives) = &mut self.lives else { return };
        for number in lives.begin(epoch, &self.keys) {
            let rows = self.partitions[number as usize].list.truncate(0);
            lives.ttl.expired(rows.len());
            for row in rows {
                self.given[row as usize] = None;
                self.failing.remove(&row);
                self.rows.drop(row);
            }
            self.partitions[number as usize] = Partition::default();
            self.keys.remove(number);
        }
        self.rows.sweep();
    }

    /// What was retracted and did not come in the same epoch either is a row that was forgotten.
    pub(super) fn forgive(&mut self) {
        let Some(lives) = &self.lives else { return };
        for ((partition, _), debt) in self.owed.drain() {
            lives.ttl.ignored(debt);
            self.partitions[partition as usize].owed = 0;
        }
    }
}
