//! The accumulators of several calls over one table of groups.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::AggregateCall;

use super::{Accumulator, Output, Rows, call_rows, distinct, plain};
use crate::Delta;

/// One accumulator per call, but one for all calls with `DISTINCT` over the same columns.
pub(crate) struct Accumulators {
    calls: Vec<AggregateCall>,
    shared: Vec<Shared>,
}

/// An accumulator and the calls, by position, whose results it gives, in this order.
struct Shared {
    calls: Vec<usize>,
    accumulator: Box<dyn Accumulator>,
}

/// The accumulator of one call over an input with this schema; `append_only`: no update ever retracts.
pub(crate) fn accumulator(call: &AggregateCall, input: &SchemaRef, append_only: bool) -> Box<dyn Accumulator> {
    let mut one = Accumulators::new(std::slice::from_ref(call), input, append_only);
    one.shared.pop().expect("one call has one accumulator").accumulator
}

/// What calls with `DISTINCT` tell apart: the columns of their arguments, and of their order.
type Values = (Vec<usize>, Vec<usize>);

impl Accumulators {
    /// For calls over an input with this schema; `append_only`: no update ever retracts.
    ///
    /// Calls with `DISTINCT` over the same columns keep their values together, each with its own count of copies: the eight
    /// `count(DISTINCT ..) FILTER (..)` of two columns keep two sets of values.
    pub(crate) fn new(calls: &[AggregateCall], input: &SchemaRef, append_only: bool) -> Self {
        let mut shared: Vec<Shared> = Vec::new();
        let mut together: Vec<(Values, Vec<usize>)> = Vec::new();
        for (position, call) in calls.iter().enumerate() {
            match call.argument.filter(|_| call.distinct && !call.function.ignores_copies()) {
                None => shared.push(Shared { calls: vec![position], accumulator: plain(call, input, append_only) }),
                Some(argument) => {
                    let arguments = [&[argument], &call.further[..]].concat();
                    let order: Vec<usize> = call.order.iter().map(|key| key.column).collect();
                    let columns = (arguments, order);
                    match together.iter_mut().find(|(known, _)| *known == columns) {
                        Some((_, positions)) => positions.push(position),
                        None => together.push((columns, vec![position])),
                    }
                }
            }
        }
        for ((arguments, order), positions) in together {
            let types = arguments.iter().chain(&order).map(|column| input.field(*column).data_type().clone()).collect();
            let inner = positions.iter().map(|position| plain(&calls[*position], input, append_only)).collect();
            let distinct = distinct::Distinct::new(types, arguments.len() - 1, inner);
            shared.push(Shared { calls: positions, accumulator: Box::new(distinct) });
        }
        Accumulators { calls: calls.to_vec(), shared }
    }

    /// Makes room for groups up to `groups`.
    pub(crate) fn resize(&mut self, groups: usize) {
        self.shared.iter_mut().for_each(|shared| shared.accumulator.resize(groups));
    }

    /// Applies a batch: row `i` belongs to group `groups[i]`.
    pub(crate) fn update(&mut self, delta: &Delta, groups: &[u32]) {
        self.each(delta, groups, |accumulator, rows| accumulator.update(rows));
    }

    /// [`Accumulators::update`] where every row belongs to `group`, added once each.
    pub(crate) fn update_one(&mut self, group: u32, delta: &Delta, groups: &[u32]) {
        self.each(delta, groups, |accumulator, rows| accumulator.update_one(group, rows));
    }

    fn each(&mut self, delta: &Delta, groups: &[u32], update: impl Fn(&mut dyn Accumulator, &Rows<'_>)) {
        for shared in &mut self.shared {
            match shared.calls[..] {
                [call] => update(shared.accumulator.as_mut(), &call_rows(&self.calls[call], delta, groups)),
                _ => {
                    let rows: Vec<Rows<'_>> =
                        shared.calls.iter().map(|call| call_rows(&self.calls[*call], delta, groups)).collect();
                    shared.accumulator.update_all(&rows);
                }
            }
        }
    }

    /// Adds `other`'s group `theirs[i]` to this one's group `ours[i]`. `other` is of the same calls.
    pub(crate) fn merge(&mut self, ours: &[u32], other: &Accumulators, theirs: &[u32]) {
        for (shared, other) in self.shared.iter_mut().zip(&other.shared) {
            shared.accumulator.merge(ours, other.accumulator.as_ref(), theirs);
        }
    }

    /// Per call the results of these groups.
    pub(crate) fn outputs(&self, groups: &[u32]) -> Vec<Output> {
        let mut outputs: Vec<Option<Output>> = self.calls.iter().map(|_| None).collect();
        for shared in &self.shared {
            for (call, output) in shared.calls.iter().zip(shared.accumulator.outputs(groups)) {
                outputs[*call] = Some(output);
            }
        }
        outputs.into_iter().map(|output| output.expect("every call has an accumulator")).collect()
    }

    /// Forgets a group.
    pub(crate) fn clear(&mut self, group: u32) {
        self.shared.iter_mut().for_each(|shared| shared.accumulator.clear(group));
    }

    /// About how many bytes they keep.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.iter().map(|shared| shared.accumulator.bytes()).sum()
    }

    /// Per accumulator the types of the columns in which its states travel; `None` if those of one cannot.
    pub(crate) fn partial_types(&self) -> Option<Vec<Vec<DataType>>> {
        self.shared.iter().map(|shared| shared.accumulator.partial_types()).collect()
    }

    /// The states of these groups: the columns of all accumulators, in the order of their types.
    pub(crate) fn partials(&self, groups: &[u32]) -> Vec<ArrayRef> {
        self.shared.iter().flat_map(|shared| shared.accumulator.partial(groups)).collect()
    }

    /// Adds states that [`Accumulators::partials`] gave: row `i` to group `groups[i]`.
    pub(crate) fn update_partials(&mut self, groups: &[u32], mut columns: &[ArrayRef]) {
        for shared in &mut self.shared {
            let width = shared.accumulator.partial_types().expect("states were given as columns").len();
            let (states, rest) = columns.split_at(width);
            shared.accumulator.update_partial(groups, states);
            columns = rest;
        }
    }
}
