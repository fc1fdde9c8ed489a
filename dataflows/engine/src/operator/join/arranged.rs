//! A join that keeps one side and reads the other from an arrangement that several joins share.
//!
//! Per epoch `dL x R_old`, then `L_new x dR`, as any join: `L` is this join's own side, `dR` are the arrangement's
//! changes of the epoch, and `R_old` is found in its trace by the hash of the key. A [`super::HashJoin`] is faster, so
//! this pays where the memory of a copy per join is worth more than that: for tables.
//!
//! "Stream" and "table" below are these two sides, whichever of them stands left.

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use highwater_plan::Join;

use super::layout::Layout;
use super::side::{NONE, Side};
use super::{BATCH_ROWS, Fresh};
use crate::arrangement::{SharedRows, SharedTrace};
use crate::keys::Keys;
use crate::operator::epoch::EpochLogic;
use crate::operator::map::Mapper;
use crate::{Delta, Diff, Time};

/// An inner equi-join of a stream with a shared table.
pub(crate) struct ArrangedJoin {
    /// The keys of the table's side are positions in its kept columns.
    layout: Layout,
    mapper: Mapper,
    /// Which side is the table.
    table: usize,
    /// Where the table's kept columns hold those that the output reads.
    read: Vec<usize>,
    trace: SharedTrace,
    keys: Keys,
    side: Side,
}

impl ArrangedJoin {
    /// Joins with the table on the side `table`, each of whose columns is the column `columns[..]` of the arranged
    /// relation; `mapper` takes left then right columns.
    pub(crate) fn new(
        join: &Join,
        inputs: [&SchemaRef; 2],
        append_only: [bool; 2],
        mapper: Mapper,
        table: usize,
        columns: &[usize],
        trace: SharedTrace,
    ) -> Self {
        let mut layout = Layout::new(join, inputs, append_only);
        let positions = |of: &[usize]| of.iter().map(|column| trace.position(columns[*column])).collect::<Vec<_>>();
        layout.on[table] = positions(&layout.on[table]);
        let read = positions(&layout.kept[table]);
        let side = Side::new(&layout.kept_types[1 - table], append_only[1 - table]);
        ArrangedJoin { keys: Keys::new(&layout.types), side, layout, mapper, table, read, trace }
    }

    /// Joins a change of the stream with the table as it was, then takes it into the stream's side.
    fn apply_stream(&mut self, epoch: Time, delta: &Delta, rows: &SharedRows, output: &mut Vec<Delta>) {
        let stream = 1 - self.table;
        let keys = delta.columns(&self.layout.on[stream]);
        let kept = delta.columns(&self.layout.kept[stream]);
        let mut matches = Matches::default();
        rows.probe(&keys, delta.len(), |probes, found| {
            for found in found.chunks(BATCH_ROWS) {
                let mut first = None;
                for (_, row) in probes {
                    if matches.fresh.len() + found.len() > BATCH_ROWS {
                        self.give(epoch, &mut matches, &kept, output);
                        first = None;
                    }
                    let first = *first.get_or_insert_with(|| matches.add_rows(found));
                    matches.add_pairs(*row, delta.diff(*row as usize), first, found);
                }
            }
        });
        self.give(epoch, &mut matches, &kept, output);
        let mut numbers = Vec::new();
        self.keys.intern(&keys, delta.len(), &mut numbers);
        self.side.resize(self.keys.bound());
        self.side.insert(&numbers, &kept, delta);
    }

    /// Joins a change of the table with the stream's side.
    fn apply_table(&self, epoch: Time, delta: &Delta, output: &mut Vec<Delta>) {
        let mut numbers = Vec::new();
        self.keys.find(&delta.columns(&self.layout.on[self.table]), delta.len(), &mut numbers);
        let fresh = Fresh { epoch, side: self.table, delta, numbers: &numbers, kept: delta.columns(&self.read) };
        fresh.join(&self.side, &self.layout, &self.mapper, output);
    }

    fn give(&self, epoch: Time, matches: &mut Matches<'_>, kept: &[ArrayRef], output: &mut Vec<Delta>) {
        let Matches { rows, stored, fresh, diffs } = std::mem::take(matches);
        if fresh.is_empty() {
            return;
        }
        let take = |column: &ArrayRef, at: &UInt32Array| compute::take(column, at, None).expect("rows of the batch");
        let positions = UInt32Array::from(fresh);
        let fresh = kept.iter().map(|column| take(column, &positions)).collect();
        let stored = match self.read.is_empty() {
            true => Vec::new(),
            false => {
                let table = self.trace.decode(rows.iter().copied());
                // As many pairs as rows: each row is in one of them, in order.
                let each_once = stored.len() == rows.len();
                let stored = UInt32Array::from(stored);
                let columns = self.read.iter().map(|column| table.column(*column));
                columns.map(|column| if each_once { column.clone() } else { take(column, &stored) }).collect()
            }
        };
        let rows = self.layout.pairs(1 - self.table, fresh, stored, positions.len());
        let inserts = diffs.iter().all(|diff| *diff == 1);
        let diffs = (!inserts).then(|| Int64Array::from(diffs));
        self.mapper.apply(epoch, Delta::of(rows, diffs), output);
    }

    /// Frees the numbers of keys that the stream's side has no rows of any more.
    fn forget_empty_keys(&mut self) {
        let mut emptied = self.side.take_emptied();
        emptied.sort_unstable();
        emptied.dedup();
        for number in emptied {
            if self.side.first(number) == NONE {
                self.keys.remove(number);
            }
        }
    }
}

impl EpochLogic for ArrangedJoin {
    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let [stream, table] = [1 - self.table, self.table].map(|side| {
            let deltas = std::mem::take(&mut inputs[side]).into_iter();
            deltas.map(|delta| self.layout.with_keys(delta, side)).filter(|delta| !delta.is_empty()).collect::<Vec<_>>()
        });
        if !stream.is_empty() {
            let rows = self.trace.before(epoch);
            stream.iter().for_each(|delta| self.apply_stream(epoch, delta, &rows, output));
        }
        table.iter().for_each(|delta| self.apply_table(epoch, delta, output));
        self.forget_empty_keys();
        // The next epoch is later: it reads the table as of this one or later.
        self.trace.advance(epoch);
    }

    /// The stream's side alone: the arrangement counts itself.
    fn state(&self) -> (usize, usize) {
        (self.side.len(), self.side.bytes() + self.keys.bytes())
    }
}

/// Matches that wait to be given as one batch.
#[derive(Default)]
struct Matches<'a> {
    /// Rows of the table, as bytes, each followed by others of its key.
    rows: Vec<&'a [u8]>,
    /// Per pair the table's row, as a position in `rows`.
    stored: Vec<u32>,
    /// Per pair the row of the change.
    fresh: Vec<u32>,
    diffs: Vec<Diff>,
}

impl<'a> Matches<'a> {
    /// Adds rows of the table; gives the position of the first.
    fn add_rows(&mut self, found: &[(&'a [u8], Diff)]) -> u32 {
        let first = self.rows.len() as u32;
        self.rows.extend(found.iter().map(|(row, _)| *row));
        first
    }

    /// Pairs a row of the change with rows that were added at `first`.
    fn add_pairs(&mut self, row: u32, diff: Diff, first: u32, found: &[(&'a [u8], Diff)]) {
        self.stored.extend(first..first + found.len() as u32);
        self.fresh.resize(self.fresh.len() + found.len(), row);
        self.diffs.extend(found.iter().map(|(_, times)| times * diff));
    }
}

#[cfg(test)]
mod tests;
