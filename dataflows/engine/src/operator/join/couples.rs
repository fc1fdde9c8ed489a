//! Left rows beside right rows, or beside NULLs: what joins in time give.
//!
//! A group is a left row with a multiplicity. It is given once beside each right row that it matches and, if the join is
//! outer, once beside NULLs when it matches none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, NullArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use highwater_plan::{Beside, Map};

use super::layout::{kept_columns, pair_fields};
use crate::operator::map::Mapper;
use crate::operator::sides::Errors;
use crate::{Delta, Diff, Time};

/// Which columns are compared, kept and given.
pub(crate) struct Couples {
    /// Key columns per side.
    pub(super) on: [Vec<usize>; 2],
    /// Their types.
    pub(super) types: Vec<DataType>,
    pub(super) nulls_equal: bool,
    pub(super) outer: bool,
    /// Columns of each side that the residual, the filters or the output read, ascending.
    pub(super) kept: [Vec<usize>; 2],
    pub(super) kept_types: [Vec<DataType>; 2],
    widths: [usize; 2],
    /// Left then right columns; those that nothing reads have type Null.
    schema: SchemaRef,
    residual: Option<Mapper>,
    mapper: Mapper,
}

/// Pair `i` is group `groups[i]` beside row `i` of the kept columns `right`, `diffs[i]` times (absent: once).
pub(super) struct Pairs {
    pub(super) groups: Vec<u32>,
    pub(super) right: Vec<ArrayRef>,
    pub(super) diffs: Option<Vec<Diff>>,
}

impl Couples {
    /// For inputs with these schemas and an output with `output`.
    pub(crate) fn new(beside: &Beside, inputs: [&SchemaRef; 2], output: SchemaRef, errors: Errors) -> Self {
        let widths = inputs.map(|input| input.fields().len());
        let mut read = vec![beside.map.exprs.is_none(); widths[0] + widths[1]];
        let exprs = beside.residual.iter().chain(&beside.map.filters).chain(beside.map.exprs.iter().flatten());
        exprs.flat_map(|expr| &expr.columns).for_each(|column| read[*column] = true);
        let kept = kept_columns(&read, widths);
        let types = |side: usize, columns: &[usize]| {
            columns.iter().map(|column| inputs[side].field(*column).data_type().clone()).collect()
        };
        let schema: SchemaRef = Arc::new(Schema::new(pair_fields(inputs, &read)));
        let residual = (!beside.residual.is_empty()).then(|| {
            let map = Map { filters: beside.residual.clone(), exprs: None };
            Mapper::new(map, Arc::clone(&schema), errors.clone())
        });
        let (left, right): (Vec<usize>, Vec<usize>) = beside.on.iter().copied().unzip();
        Couples {
            types: types(0, &left),
            on: [left, right],
            nulls_equal: beside.nulls_equal,
            outer: beside.outer,
            kept_types: [types(0, &kept[0]), types(1, &kept[1])],
            kept,
            widths,
            schema,
            residual,
            mapper: Mapper::new(beside.map.clone(), output, errors),
        }
    }

    /// The rows of a side that can match at all.
    pub(super) fn comparable_of(&self, delta: &Delta, side: usize) -> Delta {
        let delta = Delta::of(delta.rows.clone(), delta.diffs.clone());
        match self.comparable(&delta, side) {
            Some(comparable) => delta.filter(&comparable),
            None => delta,
        }
    }

    /// Which rows of a side can match at all: NULL keys match nothing, unless NULLs are equal. `None`: all.
    pub(super) fn comparable(&self, delta: &Delta, side: usize) -> Option<BooleanBuffer> {
        let nulls = || self.on[side].iter().filter_map(|column| delta.rows.column(*column).nulls());
        if self.nulls_equal || nulls().all(|nulls| nulls.null_count() == 0) {
            return None;
        }
        Some(nulls().fold(BooleanBuffer::new_set(delta.len()), |valid, nulls| &valid & nulls.inner()))
    }

    /// Gives pairs; `left` are the kept columns of the groups. Groups that match are noted in `matched`.
    pub(super) fn pairs(
        &self,
        epoch: Time,
        left: &[ArrayRef],
        Pairs { groups, right, diffs }: Pairs,
        matched: &mut [bool],
        output: &mut Vec<Delta>,
    ) {
        if groups.is_empty() {
            return;
        }
        let groups = UInt32Array::from(groups);
        let mut pairs = self.delta(left, &groups, right, diffs);
        match &self.residual {
            None => groups.values().iter().for_each(|group| matched[*group as usize] = true),
            Some(residual) => {
                let passed = residual.holds(epoch, &pairs);
                passed.set_indices().for_each(|pair| matched[groups.value(pair) as usize] = true);
                pairs = pairs.filter(&passed);
            }
        }
        if !pairs.is_empty() {
            self.mapper.apply(epoch, pairs, output);
        }
    }

    /// Gives groups beside NULLs.
    pub(super) fn alone(
        &self,
        epoch: Time,
        left: &[ArrayRef],
        groups: Vec<u32>,
        diffs: Option<Vec<Diff>>,
        output: &mut Vec<Delta>,
    ) {
        if groups.is_empty() {
            return;
        }
        let nulls = self.kept_types[1].iter().map(|data_type| new_null_array(data_type, groups.len())).collect();
        let rows = self.delta(left, &UInt32Array::from(groups), nulls, diffs);
        self.mapper.apply(epoch, rows, output);
    }

    /// Gives those groups of `rows` that `matched` nothing beside NULLs, if the join is outer.
    pub(super) fn unmatched(
        &self,
        epoch: Time,
        left: &[ArrayRef],
        matched: &[bool],
        diffs: Option<&[Diff]>,
        output: &mut Vec<Delta>,
    ) {
        if !self.outer {
            return;
        }
        let alone: Vec<u32> = (0..matched.len() as u32).filter(|group| !matched[*group as usize]).collect();
        let diffs = diffs.map(|diffs| alone.iter().map(|group| diffs[*group as usize]).collect());
        self.alone(epoch, left, alone, diffs, output);
    }

    fn delta(&self, left: &[ArrayRef], groups: &UInt32Array, right: Vec<ArrayRef>, diffs: Option<Vec<Diff>>) -> Delta {
        let rows = groups.len();
        let unread: ArrayRef = Arc::new(NullArray::new(rows));
        let mut columns = vec![unread; self.widths[0] + self.widths[1]];
        for (column, values) in self.kept[0].iter().zip(left) {
            columns[*column] = compute::take(values, groups, None).expect("groups are rows of the left columns");
        }
        for (column, values) in self.kept[1].iter().zip(right) {
            columns[self.widths[0] + column] = values;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).expect("the join's columns");
        Delta::of(rows, diffs.map(Int64Array::from))
    }
}
