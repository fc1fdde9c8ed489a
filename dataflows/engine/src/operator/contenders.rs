//! Drops rows that cannot be the extreme of their group any more.
//!
//! It stands before a join that keeps, of a stream that only grows, the rows that are the largest (or smallest) of their
//! group: `bid JOIN (SELECT max(price) .. FROM bid GROUP BY ..) ON price = max`. A row below one that was seen before can
//! never match, so it need not be windowed, sent or stored. What the join gives is unchanged: rows that it would refuse
//! (late, without a time, with a NULL key) pass through here and are refused there.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::DataType;

use super::epoch::EpochLogic;
use super::late::{RowWindows, Watermark};
use crate::checkpoint::Keeps;
use crate::keys::Keys;
use crate::words::{greatest, words};
use crate::{Delta, Time};

/// Which rows are compared, and how.
#[derive(Debug, Clone)]
pub(crate) struct Contest {
    /// The columns that name a group, besides its window.
    pub(crate) keys: Vec<usize>,
    /// The column that is compared: its values [are words](crate::words::are_words).
    pub(crate) value: usize,
    /// The largest wins, or else the smallest.
    pub(crate) greatest: bool,
    /// The rows' windows; `None`: groups live for ever.
    pub(crate) windows: Option<RowWindows>,
}

/// The operator.
pub(crate) struct Contenders {
    contest: Contest,
    key_types: Vec<DataType>,
    watermark: Watermark,
    lateness: i64,
    /// By window end; without windows one, at 0.
    groups: BTreeMap<i64, Groups>,
}

/// The best value per group.
struct Groups {
    keys: Keys,
    best: Vec<i64>,
}

impl Contenders {
    /// No rows seen; `key_types` are those of the keys.
    pub(crate) fn new(contest: Contest, key_types: Vec<DataType>, watermark: Watermark, lateness: i64) -> Self {
        Contenders { contest, key_types, watermark, lateness, groups: BTreeMap::new() }
    }

    fn take(&mut self, end: i64, delta: Delta, output: &mut Vec<Delta>) {
        let columns = delta.columns(&self.contest.keys);
        let value = delta.rows.column(self.contest.value);
        if value.null_count() > 0 || columns.iter().any(|column| column.null_count() > 0) {
            output.push(delta);
            return;
        }
        let types = &self.key_types;
        let groups = self.groups.entry(end).or_insert_with(|| Groups { keys: Keys::new(types), best: Vec::new() });
        let rows = match self.contest.greatest {
            true => groups.winners(&columns, words(value), |value| value),
            // No value is lost: the smallest becomes the largest.
            false => groups.winners(&columns, words(value), |value| !value),
        };
        if rows.len() == delta.len() {
            output.push(delta);
        } else if !rows.is_empty() {
            output.push(delta.take_with_origin(&UInt32Array::from(rows)));
        }
    }
}

impl Groups {
    /// The rows that are as good as the best of their group so far, these rows included.
    fn winners(&mut self, keys: &[ArrayRef], values: &[i64], rank: impl Fn(i64) -> i64) -> Vec<u32> {
        if keys.is_empty() {
            let found = greatest(values, &rank);
            let best = self.best.first().copied().unwrap_or(i64::MIN).max(found);
            self.best = vec![best];
            if found < best {
                return Vec::new();
            }
            let is_best = |(_, value): &(usize, &i64)| rank(**value) == best;
            return values.iter().enumerate().filter(is_best).map(|(row, _)| row as u32).collect();
        }
        let mut numbers = Vec::with_capacity(values.len());
        self.keys.intern(keys, values.len(), &mut numbers);
        self.best.resize(self.keys.bound(), i64::MIN);
        for (number, value) in numbers.iter().zip(values) {
            let best = &mut self.best[*number as usize];
            *best = rank(*value).max(*best);
        }
        let is_best = |row: &usize| rank(values[*row]) == self.best[numbers[*row] as usize];
        (0..values.len()).filter(is_best).map(|row| row as u32).collect()
    }
}

impl EpochLogic for Contenders {
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn apply(&mut self, _epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let closed = self.watermark.current.saturating_sub(self.lateness);
        for delta in std::mem::take(&mut inputs[0]) {
            let Some(windows) = &self.contest.windows else {
                self.take(0, delta, output);
                continue;
            };
            if windows.times(&delta).null_count() > 0 {
                output.push(delta);
                continue;
            }
            let size = match windows {
                RowWindows::Assign(assign) => assign.kind.size(),
                RowWindows::Bound { .. } => 0,
            };
            for (key, part) in windows.split(&delta) {
                let end = key + size;
                match end > closed || self.watermark.current == i64::MIN {
                    true => self.take(end, part, output),
                    false => output.push(part),
                }
            }
        }
        self.watermark.advance(watermarks);
        if self.contest.windows.is_some() {
            let closed = self.watermark.current.saturating_sub(self.lateness);
            self.groups = self.groups.split_off(&closed.saturating_add(1));
        }
    }

    fn state(&self) -> (usize, usize) {
        let bytes = |groups: &Groups| groups.keys.bytes() + groups.best.capacity() * size_of::<i64>();
        self.groups.values().fold((0, 0), |(rows, total), groups| (rows + groups.best.len(), total + bytes(groups)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, TimestampMillisecondArray};
    use arrow::datatypes::{Field, Schema};
    use highwater_plan::{TimeSource, WindowAssign, WindowKind};

    use super::*;

    fn rows(rows: &[(i64, i64, i64)]) -> Delta {
        let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0));
        let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let values = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
        let field = |name: &str, array: &dyn Array| Field::new(name, array.data_type().clone(), true);
        let schema = Schema::new(vec![field("t", &times), field("k", &keys), field("v", &values)]);
        Delta::insert(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times), Arc::new(keys), Arc::new(values)]).unwrap())
    }

    fn passed(contenders: &mut Contenders, epoch: Time, delta: Delta, watermark: Option<i64>) -> Vec<(i64, i64)> {
        let mut output = Vec::new();
        let watermarks = watermark.map(|watermark| vec![watermark]);
        contenders.apply(epoch, &mut [vec![delta]], watermarks.as_deref(), &mut output);
        let row = |delta: &Delta, row: usize| {
            let column = |index: usize| words(delta.rows.column(index))[row];
            (column(0), column(2))
        };
        output.iter().flat_map(|delta| (0..delta.len()).map(move |index| row(delta, index))).collect()
    }

    fn tumbling(keys: Vec<usize>, greatest: bool) -> Contenders {
        let kind = WindowKind::Tumble { size: 10_000, offset: 0 };
        let windows = Some(RowWindows::Assign(WindowAssign { kind, time: 0 }));
        let types = keys.iter().map(|_| DataType::Int64).collect();
        Contenders::new(Contest { keys, value: 2, greatest, windows }, types, Watermark::of(vec![TimeSource::of(0)]), 0)
    }

    #[test]
    fn only_the_best_so_far_of_each_window_pass_ties_included() {
        let mut contenders = tumbling(Vec::new(), true);
        let first = rows(&[(1, 0, 5), (2, 0, 7), (3, 0, 7), (11, 0, 1)]);
        assert_eq!(passed(&mut contenders, 1, first, Some(2_000)), [(2, 7), (3, 7), (11, 1)]);
        assert_eq!(passed(&mut contenders, 2, rows(&[(4, 0, 6), (5, 0, 7), (12, 0, 3)]), None), [(5, 7), (12, 3)]);
        assert_eq!(contenders.state().0, 2);
    }

    #[test]
    fn groups_are_compared_apart_and_the_smallest_may_win() {
        let mut contenders = tumbling(vec![1], false);
        let first = rows(&[(1, 1, i64::MIN), (2, 2, 9), (3, 2, 8), (4, 1, i64::MAX)]);
        assert_eq!(passed(&mut contenders, 1, first, None), [(1, i64::MIN), (3, 8)]);
        assert_eq!(passed(&mut contenders, 2, rows(&[(5, 2, 10), (6, 3, 10)]), None), [(6, 10)]);
    }

    #[test]
    fn late_rows_pass_and_closed_windows_are_forgotten() {
        let mut contenders = tumbling(Vec::new(), true);
        assert_eq!(passed(&mut contenders, 1, rows(&[(1, 0, 5)]), Some(10_000)), [(1, 5)]);
        assert_eq!(contenders.state().0, 0);
        assert_eq!(passed(&mut contenders, 2, rows(&[(2, 0, 1), (3, 0, 2)]), None), [(2, 1), (3, 2)]);
    }
}
