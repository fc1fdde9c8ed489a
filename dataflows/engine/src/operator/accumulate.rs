//! Aggregate functions as columns of state: one entry per group, updated a batch at a time.
//!
//! Every accumulator takes signed multiplicities, so that a retraction is an update like any other. The choice among them
//! goes by the function, the argument's type, and whether the input ever retracts.

mod bits;
mod codec;
mod count;
mod counted;
mod decimal;
mod distinct;
mod extreme;
mod gathered;
mod mode;
mod quantile;
mod set;
mod sketch;
mod statistic;
mod sum;
mod truth;

use std::any::Any;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::{AggregateCall, AggregateConstant, AggregateFunction};

pub(crate) use self::set::{Accumulators, accumulator};
use crate::{Delta, Diff};

/// One aggregate over all groups of a table.
pub(crate) trait Accumulator: Send {
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

    /// For an accumulator of several calls (see [`Accumulators`]): applies a batch, as each call sees it.
    fn update_all(&mut self, rows: &[Rows<'_>]) {
        debug_assert_eq!(rows.len(), 1, "it is of one call");
        self.update(&rows[0]);
    }

    /// For an accumulator of several calls: the results of each.
    fn outputs(&self, groups: &[u32]) -> Vec<Output> {
        vec![self.output(groups)]
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
    /// Further arguments.
    pub(crate) further: Vec<ArrayRef>,
    /// What the group's rows are ordered by.
    pub(crate) order: Vec<ArrayRef>,
    /// Only rows where it is true count.
    pub(crate) filter: Option<&'a BooleanArray>,
    /// Multiplicities; absent: all +1.
    pub(crate) diffs: Option<&'a [Diff]>,
}

impl<'a> Rows<'a> {
    /// Rows that are each added once, of one argument or none.
    pub(crate) fn of(groups: &'a [u32], argument: Option<&'a ArrayRef>) -> Self {
        Rows { groups, argument, further: Vec::new(), order: Vec::new(), filter: None, diffs: None }
    }

    /// Calls `take(row, group, diff)` for each row that counts: the filter is true and no argument is NULL.
    #[inline]
    pub(crate) fn for_each(&self, take: impl FnMut(usize, usize, Diff)) {
        let first = self.argument.and_then(|argument| argument.nulls());
        if self.further.is_empty() {
            return self.for_each_of(first, take);
        }
        let nulls = self.further.iter().fold(first.cloned(), |nulls, column| NullBuffer::union(nulls.as_ref(), column.nulls()));
        self.for_each_of(nulls.as_ref(), take);
    }

    /// Calls `take(row, group, diff)` for each row where the filter is true and these are no NULLs.
    #[inline]
    pub(crate) fn for_each_of(&self, nulls: Option<&NullBuffer>, mut take: impl FnMut(usize, usize, Diff)) {
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
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) && self.passes(row) {
                take(row, *group as usize, self.diff(row));
            }
        }
    }

    /// Whether the filter is true.
    pub(crate) fn passes(&self, row: usize) -> bool {
        self.filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
    }

    /// The row's multiplicity.
    pub(crate) fn diff(&self, row: usize) -> Diff {
        self.diffs.map_or(1, |diffs| diffs[row])
    }
}

/// The accumulator of a call, `DISTINCT` left aside, over an input with this schema; `append_only`: no update ever retracts.
fn plain(call: &AggregateCall, input: &SchemaRef, append_only: bool) -> Box<dyn Accumulator> {
    use AggregateFunction as F;
    let type_of = |column: usize| input.field(column).data_type().clone();
    let argument = || type_of(call.argument.expect("only count has no argument"));
    let order = || -> Vec<(DataType, SortOptions)> {
        let options =
            |key: &highwater_plan::OrderColumn| SortOptions { descending: key.descending, nulls_first: key.nulls_first };
        call.order.iter().map(|key| (type_of(key.column), options(key))).collect()
    };
    let descending = call.order.first().is_some_and(|key| key.descending);
    let fraction = || match call.constant {
        Some(AggregateConstant::Fraction(fraction)) => fraction,
        _ => unreachable!("planners give percentiles a fraction"),
    };
    match call.function {
        F::Count => Box::new(count::Count::default()),
        F::Sum => sum::sum(argument(), call.data_type.clone()),
        F::Avg => sum::average(argument(), call.data_type.clone()),
        F::Min => extreme::extreme(argument(), extreme::Side::Least, append_only),
        F::Max => extreme::extreme(argument(), extreme::Side::Greatest, append_only),
        F::BoolAnd => Box::new(truth::Truth::new(truth::Wanted::All)),
        F::BoolOr => Box::new(truth::Truth::new(truth::Wanted::Some)),
        F::BitAnd => bits::bits(bits::Operation::And, call.data_type.clone(), append_only),
        F::BitOr => bits::bits(bits::Operation::Or, call.data_type.clone(), append_only),
        F::BitXor => bits::bits(bits::Operation::Xor, call.data_type.clone(), append_only),
        F::Statistic(statistic) => Box::new(statistic::Statistics::new(statistic)),
        F::First => extreme::placed(&argument(), &order(), extreme::Side::Least, append_only),
        F::Last => extreme::placed(&argument(), &order(), extreme::Side::Greatest, append_only),
        F::Array => Box::new(gathered::Gathered::list(&order(), &argument(), call.data_type.clone())),
        F::Text => match &call.constant {
            Some(AggregateConstant::Separator(separator)) => {
                Box::new(gathered::Gathered::text(&order(), &argument(), separator.clone()))
            }
            _ => unreachable!("planners give string_agg a separator"),
        },
        F::PercentileCont => quantile::continuous(fraction(), descending),
        F::PercentileDisc => quantile::discrete(&argument(), fraction(), descending),
        F::ApproxPercentile => Box::new(sketch::Sketch::new(fraction(), descending)),
        F::Mode => mode::mode(&argument(), descending),
    }
}

/// The columns that a call reads from a batch.
fn call_rows<'a>(call: &AggregateCall, delta: &'a Delta, groups: &'a [u32]) -> Rows<'a> {
    Rows {
        groups,
        argument: call.argument.map(|column| delta.rows.column(column)),
        further: delta.columns(&call.further),
        order: call.order.iter().map(|key| delta.rows.column(key.column).clone()).collect(),
        filter: call.filter.map(|column| delta.rows.column(column).as_boolean()),
        diffs: delta.diff_values(),
    }
}
