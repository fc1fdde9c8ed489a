//! `state_ttl` of partitions without windows.

use super::{Partition, Table};
use crate::{Delta, Time};

impl Table {
    /// Goes on to an epoch: forgets partitions that have expired by then.
    pub(in crate::operator::over) fn begin(&mut self, epoch: Time) {
        let Some(lives) = &mut self.lives else { return };
        let expired = lives.begin(epoch, &self.keys);
        for number in &expired {
            let rows = self.partitions[*number as usize].list.truncate(0);
            lives.ttl.expired(rows.len());
            for row in rows {
                if let Some(log) = &mut self.log {
                    log.add(*number, row, -1);
                }
                self.given[row as usize] = None;
                self.failing.remove(&row);
                self.rows.drop(row);
            }
            self.partitions[*number as usize] = Partition::default();
        }
        if let Some(log) = &mut self.log {
            log.note(&self.rows, &self.keys);
        }
        expired.into_iter().for_each(|number| self.keys.remove(number));
        self.rows.sweep();
    }

    /// Takes back when partitions were touched, whose rows were loaded.
    pub(in crate::operator::over) fn load_lives(&mut self, epoch: Time, touched: &[Delta]) {
        if let Some(lives) = &mut self.lives {
            lives.load(epoch, touched, &self.keys);
        }
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
