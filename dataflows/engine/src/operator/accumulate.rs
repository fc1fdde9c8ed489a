//! Aggregate functions as columns of state: one entry per group, updated a batch at a time.
//!
//! Every accumulator takes signed multiplicities, so that a retraction is an update like any other. The choice among them
//! ([`accumulator`]) goes by the function, the argument's type, and whether the input ever retracts.

mod count;
mod distinct;
mod extreme;
mod sum;

use std::any::Any;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::{AggregateCall, AggregateFunction};

use crate::{Delta, Diff};

/// One aggregate over all groups of a table.
pub(crate) trait Accumulator {
    /// Makes room for groups up to `groups`.
    fn resize(&mut self, groups: usize);

    /// Applies a batch: row `i` belongs to group `rows.groups[i]`.
    fn update(&mut self, rows: &Rows<'_>);

    /// [`Accumulator::update`] where every row belongs to `group`, added once each.
    fn update_one(&mut self, _group: u32, rows: &Rows<'_>) {
        self.update(rows);
    }

    /// Adds `other`'s group `theirs[i]` to this one's group `ours[i]`. `other` is of the same call.
    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]);

    /// The results of these groups, and the positions (in `groups`) of those that cannot be represented, with the reason.
    fn output(&self, groups: &[u32]) -> Output;

    /// Forgets a group.
    fn clear(&mut self, group: u32);

    /// About how many bytes it keeps.
    fn bytes(&self) -> usize;

    /// For [`Accumulator::merge`].
    fn as_any(&self) -> &dyn Any;

    /// The types of the columns that [`Accumulator::partial`] gives; `None` if a group's state cannot travel in columns.
    fn partial_types(&self) -> Option<Vec<DataType>> {
        None
    }

    /// The state of these groups as columns.
    fn partial(&self, _groups: &[u32]) -> Vec<ArrayRef> {
        unreachable!("only asked for with partial types")
    }

    /// Adds states that [`Accumulator::partial`] gave: row `i` to group `groups[i]`.
    fn update_partial(&mut self, _groups: &[u32], _columns: &[ArrayRef]) {
        unreachable!("only asked for with partial types")
    }
}

/// The results of an accumulator.
pub(crate) struct Output {
    pub(crate) values: ArrayRef,
    /// Positions whose result cannot be represented (they are NULL in `values`), and why.
    pub(crate) failed: Vec<(usize, &'static str)>,
}

impl From<ArrayRef> for Output {
    fn from(values: ArrayRef) -> Self {
        Output { values, failed: Vec::new() }
    }
}

/// A batch as an accumulator sees it.
pub(crate) struct Rows<'a> {
    /// The group of each row.
    pub(crate) groups: &'a [u32],
    /// The argument; `None` for `count(*)`.
    pub(crate) argument: Option<&'a ArrayRef>,
    /// Only rows where it is true count.
    pub(crate) filter: Option<&'a BooleanArray>,
    /// Multiplicities; absent: all +1.
    pub(crate) diffs: Option<&'a [Diff]>,
}

impl Rows<'_> {
    /// Calls `take(row, group, diff)` for each row that counts: the filter is true and the argument is not NULL.
    #[inline]
    pub(crate) fn for_each(&self, mut take: impl FnMut(usize, usize, Diff)) {
        let nulls = self.argument.and_then(|argument| argument.nulls());
        if nulls.is_none() && self.filter.is_none() {
            match self.diffs {
                None => self.groups.iter().enumerate().for_each(|(row, group)| take(row, *group as usize, 1)),
                Some(diffs) => {
                    self.groups.iter().zip(diffs).enumerate().for_each(|(row, (group, diff))| take(row, *group as usize, *diff));
                }
            }
            return;
        }
        for (row, group) in self.groups.iter().enumerate() {
            let counts = nulls.is_none_or(|nulls| nulls.is_valid(row))
                && self.filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if counts {
                take(row, *group as usize, self.diffs.map_or(1, |diffs| diffs[row]));
            }
        }
    }
}

/// The accumulator for a call over an input with this schema; `append_only`: no update ever retracts.
pub(crate) fn accumulator(call: &AggregateCall, input: &SchemaRef, append_only: bool) -> Box<dyn Accumulator> {
    let argument = call.argument.map(|column| input.field(column).data_type().clone());
    let distinct =
        call.distinct && matches!(call.function, AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Avg);
    let inner = plain(call, argument.as_ref(), append_only);
    match argument {
        Some(argument) if distinct => Box::new(distinct::Distinct::new(argument, inner)),
        _ => inner,
    }
}

fn plain(call: &AggregateCall, argument: Option<&DataType>, append_only: bool) -> Box<dyn Accumulator> {
    let argument = || argument.expect("only count has no argument").clone();
    match call.function {
        AggregateFunction::Count => Box::new(count::Count::default()),
        AggregateFunction::Sum => sum::sum(argument(), call.data_type.clone()),
        AggregateFunction::Avg => sum::average(argument(), call.data_type.clone()),
        AggregateFunction::Min => extreme::extreme(argument(), extreme::Side::Least, append_only),
        AggregateFunction::Max => extreme::extreme(argument(), extreme::Side::Greatest, append_only),
    }
}

/// The columns that a call reads from a batch.
pub(crate) fn call_rows<'a>(call: &AggregateCall, delta: &'a Delta, groups: &'a [u32]) -> Rows<'a> {
    Rows {
        groups,
        argument: call.argument.map(|column| delta.rows.column(column)),
        filter: call.filter.map(|column| delta.rows.column(column).as_boolean()),
        diffs: delta.diff_values(),
    }
}
