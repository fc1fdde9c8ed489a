//! A join with versions in checkpoints: left rows that wait, and the versions.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;
use highwater_plan::Micros;

use super::Versions;
use crate::Delta;
use crate::checkpoint::{Saved, Spread};
use crate::operator::groups::state_batch;
use crate::operator::join::couples::Couples;

/// What changed since the last checkpoint.
#[derive(Default)]
pub(crate) struct Log {
    /// Left rows that came.
    left: Vec<Delta>,
    /// Entries of key columns, a time, whether there is a version from then on, and its kept columns.
    versions: Vec<Delta>,
}

impl Log {
    /// Left rows have come.
    pub(super) fn waits(&mut self, delta: &Delta) {
        self.left.push(Delta::of(delta.rows.clone(), delta.diffs.clone()));
    }

    /// Versions were set, one after the other: the batch and row of each, its time, and whether it is one.
    pub(super) fn set(&mut self, couples: &Couples, deltas: &[Delta], set: &[(usize, usize, i64, bool)]) {
        // Those of one batch that follow each other.
        for part in set.chunk_by(|one, other| one.0 == other.0) {
            let rows = UInt32Array::from_iter_values(part.iter().map(|(_, row, ..)| *row as u32));
            let taken = deltas[part[0].0].take(&rows);
            let mut columns = taken.columns(&couples.on[1]);
            columns.push(Arc::new(Int64Array::from_iter_values(part.iter().map(|(_, _, time, _)| *time))));
            columns.push(Arc::new(BooleanArray::from_iter(part.iter().map(|(.., exists)| Some(*exists)))));
            columns.extend(taken.columns(&couples.kept[1]));
            self.versions.push(Delta::insert(state_batch(columns, part.len())));
        }
    }

    /// Versions are gone: their keys, which are still known, and times.
    pub(super) fn dropped(&mut self, versions: &Versions, gone: &[(u32, i64)]) {
        let (keys, times): (Vec<u32>, Vec<i64>) = gone.iter().copied().unzip();
        let mut columns = versions.keys.columns(&keys);
        columns.push(Arc::new(Int64Array::from(times)));
        columns.push(Arc::new(BooleanArray::new_null(gone.len())));
        columns.extend(versions.kept_types.iter().map(|data_type| new_null_array(data_type, gone.len())));
        let removed = vec![-1; gone.len()];
        self.versions.push(Delta::with_diffs(state_batch(columns, gone.len()), removed.into()));
    }

    /// Puts both tables into a checkpoint. `time`: the left column of times, of which those before `passed` do not wait.
    pub(super) fn save(&mut self, couples: &Couples, time: usize, passed: i64, saved: &mut Saved) {
        let wait = |delta: Delta| {
            let times = Micros::new(delta.rows.column(time)).expect("planners compare timestamps");
            let waits = BooleanBuffer::collect_bool(delta.len(), |row| times.value(row) >= passed);
            if waits.count_set_bits() == delta.len() { delta } else { delta.filter(&waits) }
        };
        let left = std::mem::take(&mut self.left).into_iter().map(wait).collect();
        saved.rows(0, Spread::ByColumns(couples.on[0].clone()), left, Some((time, passed.saturating_sub(1))));
        let keys = couples.on[1].len();
        let spread = Spread::ByColumns((0..keys).collect());
        saved.entries(1, keys + 1, spread, std::mem::take(&mut self.versions), None);
    }
}

impl Versions {
    /// Takes back versions, each once.
    pub(super) fn load(&mut self, delta: &Delta) {
        let columns = delta.rows.columns();
        let width = columns.len() - 2 - self.kept_types.len();
        let mut numbers = Vec::new();
        self.keys.intern(&columns[..width], delta.len(), &mut numbers);
        self.of.resize_with(self.keys.bound(), VecDeque::new);
        let times = columns[width].as_primitive::<Int64Type>().values();
        let exist = columns[width + 1].as_boolean();
        let kept: &[ArrayRef] = &columns[width + 2..];
        let encoded = (!kept.is_empty()).then(|| self.converter.convert_columns(kept).expect("the right columns"));
        for (row, key) in numbers.iter().enumerate() {
            let bytes = encoded.as_ref().map_or(&[][..], |encoded| encoded.row(row).data());
            let exists = exist.is_valid(row) && exist.value(row);
            self.set(*key, times[row], exists.then_some(bytes), i64::MIN, false);
        }
    }
}
