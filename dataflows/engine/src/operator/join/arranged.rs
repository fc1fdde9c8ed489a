//! A join that keeps one side and reads the other where several joins share it.
//!
//! Per epoch `dL x R_old`, then `L_new x dR`, as any join: `L` is this join's own side, `dR` are the shared side's
//! changes of the epoch, and `R_old` is what [`SharedRows`] has of the epochs before.
//!
//! "Stream" and "table" below are these two sides, whichever of them stands left.

use arrow::datatypes::SchemaRef;
use highwater_plan::Join;

use super::layout::Layout;
use super::shared::{Change, Reader, SharedRows};
use crate::checkpoint::Keeps;
use crate::operator::epoch::EpochLogic;
use crate::operator::map::Mapper;
use crate::{Delta, Time};

/// An inner equi-join of a stream with a shared table.
pub(crate) struct ArrangedJoin {
    /// The keys of the table's side are positions in its kept columns.
    layout: Layout,
    mapper: Mapper,
    /// Which side is the table.
    table: usize,
    /// Where the table's kept columns hold those that the output reads.
    read: Vec<usize>,
    reader: Reader,
}

impl ArrangedJoin {
    /// Joins with the table on the side `table`, each of whose columns is the column `columns[..]` of the shared
    /// relation; `mapper` takes left then right columns.
    pub(crate) fn new(
        join: &Join,
        inputs: [&SchemaRef; 2],
        append_only: [bool; 2],
        mapper: Mapper,
        table: usize,
        columns: &[usize],
        rows: SharedRows,
    ) -> Self {
        let mut layout = Layout::new(join, inputs, append_only);
        let positions = |of: &[usize]| of.iter().map(|column| rows.position(columns[*column])).collect::<Vec<_>>();
        layout.on[table] = positions(&layout.on[table]);
        let read = positions(&layout.kept[table]);
        let reader = rows.reader(&layout.kept_types[1 - table], append_only[1 - table]);
        ArrangedJoin { reader, layout, mapper, table, read }
    }

    /// Joins a change of one side with the other.
    fn join(&self, epoch: Time, side: usize, delta: &Delta, output: &mut Vec<Delta>) {
        let keys = delta.columns(&self.layout.on[side]);
        let kept = delta.columns(if side == self.table { &self.read } else { &self.layout.kept[side] });
        let change = Change { epoch, side, delta, keys: &keys, kept: &kept, read: &self.read };
        match side == self.table {
            true => self.reader.join_kept(&change, &self.layout, &self.mapper, output),
            false => self.reader.join(&change, &self.layout, &self.mapper, output),
        }
    }
}

impl EpochLogic for ArrangedJoin {
    fn keeps(&self) -> Keeps {
        Keeps::Inputs
    }

    fn keeps_input(&self, input: u32) -> bool {
        input as usize != self.table
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        let side = 1 - self.table;
        for delta in std::mem::take(&mut tables[side]) {
            let delta = self.layout.with_keys(delta, side);
            self.reader.insert(&delta.columns(&self.layout.on[side]), &delta.columns(&self.layout.kept[side]), &delta);
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let changed = inputs[self.table].iter().any(|delta| !delta.is_empty());
        for side in [1 - self.table, self.table] {
            for delta in std::mem::take(&mut inputs[side]) {
                let delta = self.layout.with_keys(delta, side);
                if !delta.is_empty() {
                    self.join(epoch, side, &delta, output);
                }
            }
        }
        self.reader.read(epoch, changed);
    }

    /// The stream's side alone: the shared one counts itself.
    fn state(&self) -> (usize, usize) {
        self.reader.state()
    }
}

#[cfg(test)]
mod tests;
