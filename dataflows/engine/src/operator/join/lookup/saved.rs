//! Beside which right rows left rows were given, in checkpoints.
//!
//! A table of entries: the left row, the place of its group among the row's, and of the right row in that; then how many
//! copies the group has, how often the right row was there (NULL: there was none), and the right row.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array, new_null_array};
use arrow::datatypes::Int64Type;

use super::{Given, Memory, bytes_of};
use crate::checkpoint::{Saved, Spread};
use crate::operator::groups::state_batch;
use crate::operator::join::couples::Couples;
use crate::{Delta, Diff};

/// What changed since the last checkpoint.
#[derive(Default)]
pub(super) struct Log {
    pub(super) right: Vec<Delta>,
    /// Left rows that were touched, and how many right rows each of their groups had in the last checkpoint.
    left: BTreeMap<Box<[u8]>, Vec<usize>>,
}

/// A right row, and how often it was there.
type RightRow = (Box<[u8]>, Diff);

/// An entry's places, and what is there unless it is gone.
struct Entry<'a> {
    row: &'a [u8],
    group: i64,
    place: i64,
    there: Option<(Diff, Option<&'a RightRow>)>,
}

impl Log {
    /// A left row is about to change.
    pub(super) fn changes(&mut self, row: &[u8], given: &[Given]) {
        if !self.left.contains_key(row) {
            self.left.insert(row.into(), given.iter().map(entries_of).collect());
        }
    }
}

/// A group that stands beside nothing is an entry all the same.
fn entries_of(given: &Given) -> usize {
    given.beside.len().max(1)
}

impl Memory {
    /// Puts the right side's changes and what is remembered into a checkpoint.
    pub(super) fn save(&mut self, couples: &Couples, saved: &mut Saved) {
        let Some(log) = self.log.as_mut().map(std::mem::take) else { return };
        saved.rows(1, Spread::ByColumns(couples.on[1].clone()), log.right, None);
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for (row, before) in &log.left {
            let now = self.rows.get(row).map_or(&[][..], Vec::as_slice);
            for (group, had) in before.iter().enumerate() {
                let has = now.get(group).map_or(0, entries_of);
                let entry = |place: usize| Entry { row, group: group as i64, place: place as i64, there: None };
                gone.extend((has..*had).map(entry));
            }
            for (group, given) in now.iter().enumerate() {
                let entry = |place: usize| {
                    let there = Some((given.copies, given.beside.get(place)));
                    Entry { row, group: group as i64, place: place as i64, there }
                };
                there.extend((0..entries_of(given)).map(entry));
            }
        }
        let place = |column: &usize| self.columns.binary_search(column).expect("compared columns are remembered");
        let spread = Spread::ByColumns(couples.on[0].iter().map(place).collect());
        let keys = self.left_columns(&[]).len() + 2;
        saved.entries(2, keys, spread, vec![self.entries(couples, &gone), self.entries(couples, &there)], None);
    }

    fn entries(&self, couples: &Couples, entries: &[Entry<'_>]) -> Delta {
        let integers =
            |of: &dyn Fn(&Entry<'_>) -> Option<i64>| -> ArrayRef { Arc::new(entries.iter().map(of).collect::<Int64Array>()) };
        let mut columns = self.left_columns(&entries.iter().map(|entry| entry.row).collect::<Vec<_>>());
        columns.push(integers(&|entry| Some(entry.group)));
        columns.push(integers(&|entry| Some(entry.place)));
        columns.push(integers(&|entry| entry.there.map(|(copies, _)| copies)));
        columns.push(integers(&|entry| Some(entry.there?.1?.1)));
        let rows: Vec<Option<&[u8]>> = entries.iter().map(|entry| Some(&*entry.there?.1?.0)).collect();
        if !couples.kept_types[1].is_empty() {
            let parser = self.right.parser();
            let whole = rows.iter().flatten().map(|row| parser.parse(row));
            let whole = self.right.convert_rows(whole).expect("the bytes came from this converter");
            let mut next = 0;
            let places: UInt32Array = rows
                .iter()
                .map(|row| {
                    row.map(|_| {
                        next += 1;
                        next - 1
                    })
                })
                .collect();
            let take = |column: &ArrayRef| match column.len() {
                0 => new_null_array(column.data_type(), places.len()),
                _ => arrow::compute::take(column, &places, None).expect("places are within the column"),
            };
            columns.extend(whole.iter().map(take));
        }
        let diff = |entry: &Entry<'_>| if entry.there.is_some() { 1 } else { -1 };
        Delta::with_diffs(state_batch(columns, entries.len()), entries.iter().map(diff).collect())
    }

    fn left_columns(&self, rows: &[&[u8]]) -> Vec<ArrayRef> {
        let parser = self.left.parser();
        self.left.convert_rows(rows.iter().map(|row| parser.parse(row))).expect("the bytes came from this converter")
    }

    /// Takes back what is remembered.
    pub(super) fn load(&mut self, given: &[Delta]) {
        /// Per group its copies, and by their places the right rows.
        type Groups = BTreeMap<i64, (Diff, BTreeMap<i64, RightRow>)>;
        let mut rows: BTreeMap<Box<[u8]>, Groups> = BTreeMap::new();
        let width = self.left_columns(&[]).len();
        for delta in given {
            let columns = delta.rows.columns();
            let left = self.left.convert_columns(&columns[..width]).expect("the left columns");
            let integers = |column: usize| columns[width + column].as_primitive::<Int64Type>();
            let (groups, places, copies, diffs) = (integers(0), integers(1), integers(2), integers(3));
            let kept = &columns[width + 4..];
            let right = (!kept.is_empty()).then(|| self.right.convert_columns(kept).expect("the right columns"));
            for row in 0..delta.len() {
                let groups = rows.entry(left.row(row).data().into()).or_default().entry(groups.value(row));
                let group = groups.or_insert_with(|| (copies.value(row), BTreeMap::new()));
                if diffs.is_valid(row) {
                    let bytes = right.as_ref().map_or(&[][..], |right| right.row(row).data());
                    group.1.insert(places.value(row), (bytes.into(), diffs.value(row)));
                }
            }
        }
        for (row, groups) in rows {
            let group = |(copies, beside): (Diff, BTreeMap<i64, RightRow>)| Given {
                copies,
                beside: Rc::from(beside.into_values().collect::<Vec<_>>()),
            };
            let given: Vec<Given> = groups.into_values().map(group).collect();
            self.bytes += bytes_of(&row, &given);
            self.rows.insert(row, given);
        }
    }
}
