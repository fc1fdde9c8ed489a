//! Adds rows up on the worker that read them, before they are exchanged by key.
//!
//! A hot key then costs one row per worker and epoch, not one per event. What travels are states of groups ("partials"):
//! the keys, for windows the start of the pane (the stretch of time all of whose rows are in the same windows), how many
//! rows the state stands for, and each aggregate's columns. The operator behind the exchange adds partials instead of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use highwater_plan::{Aggregate, Grouping, Micros, WindowAssign, WindowKind, timestamp_from_micros};

use super::epoch::EpochLogic;
use super::groups::{Groups, PartialColumns};
use super::late::{LateGate, Watermark};
use super::windowed::split;
use crate::checkpoint::Keeps;
use crate::{Delta, Time};

/// How an aggregate is split in two.
pub(crate) struct Partials {
    aggregate: Aggregate,
    input: SchemaRef,
    append_only: bool,
    /// Of the batches that travel.
    pub(crate) schema: SchemaRef,
    /// Where the operator behind the exchange finds the states.
    pub(crate) columns: PartialColumns,
    /// The windows, if the operator assigns them.
    assign: Option<WindowAssign>,
}

impl Partials {
    /// How `aggregate` over rows of `input` is split, if all its aggregates have states that travel.
    pub(crate) fn of(aggregate: &Aggregate, input: &SchemaRef, append_only: bool) -> Option<Self> {
        let types = Groups::new(aggregate, input, append_only).partial_types()?;
        let assign = match &aggregate.grouping {
            Grouping::Keys => None,
            Grouping::Assign(assign) => Some(assign.clone()),
            Grouping::Session(_) | Grouping::Column { .. } => return None,
        };
        let mut fields: Vec<Field> = aggregate.keys.iter().map(|key| input.field(*key).clone()).collect();
        if assign.is_some() {
            fields.push(Field::new("pane", DataType::Timestamp(TimeUnit::Microsecond, None), false));
        }
        let rows = fields.len();
        fields.push(Field::new("rows", DataType::Int64, false));
        let states = fields.len();
        fields.extend(types.into_iter().flatten().map(|data_type| Field::new("state", data_type, true)));
        Some(Partials {
            aggregate: aggregate.clone(),
            input: Arc::clone(input),
            append_only,
            schema: Arc::new(Schema::new(fields)),
            columns: PartialColumns { rows, states },
            assign,
        })
    }

    /// The windows as the operator behind the exchange finds them: by the pane's start.
    pub(crate) fn assign(&self) -> Option<WindowAssign> {
        self.assign.as_ref().map(|assign| WindowAssign { kind: assign.kind, time: self.aggregate.keys.len() })
    }

    /// Length of a pane in microseconds: every window is made of whole panes.
    fn pane(kind: WindowKind) -> WindowKind {
        let (mut left, mut right) = (kind.size(), kind.slide());
        while right != 0 {
            (left, right) = (right, left % right);
        }
        WindowKind::Tumble { size: left, offset: kind.offset() }
    }
}

/// The local half of an aggregate.
pub(crate) struct Preaggregate {
    pub(crate) partials: Partials,
    /// Refuses late rows, while their source row is at hand.
    pub(crate) gate: Option<(LateGate, Watermark)>,
}

impl Preaggregate {
    fn groups(&self) -> Groups {
        Groups::new(&self.partials.aggregate, &self.partials.input, self.partials.append_only)
    }

    fn give(&self, groups: &Groups, pane: Option<i64>, output: &mut Vec<Delta>) {
        let mut columns = groups.partials();
        let rows = groups.len();
        if let Some(pane) = pane {
            let keys = self.partials.aggregate.keys.len();
            let start = timestamp_from_micros(Int64Array::from(vec![pane; rows]), self.partials.schema.field(keys).data_type());
            columns.insert(keys, start as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.partials.schema), columns, &options);
        output.push(Delta::insert(batch.expect("the partials' columns")));
    }
}

impl EpochLogic for Preaggregate {
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let deltas = std::mem::take(&mut inputs[0]);
        let deltas: Vec<Delta> = match &mut self.gate {
            None => deltas,
            Some((gate, watermark)) => {
                let kept = gate.at_once(deltas).into_iter().map(|delta| gate.split(epoch, delta, watermark.current)).collect();
                watermark.advance(watermarks);
                kept
            }
        };
        let mut numbers = Vec::new();
        let Some(assign) = &self.partials.assign else {
            let mut groups = self.groups();
            deltas.iter().for_each(|delta| groups.accumulate(delta, &mut numbers));
            if groups.len() > 0 {
                self.give(&groups, None, output);
            }
            return;
        };
        let pane = Partials::pane(assign.kind);
        let mut panes: BTreeMap<i64, Groups> = BTreeMap::new();
        for delta in &deltas {
            let times = Micros::new(delta.rows.column(assign.time)).expect("planners assign windows by timestamps");
            debug_assert_eq!(times.null_count(), 0, "the gate refuses rows without a time");
            let start = |row: usize, last: Option<i64>| {
                let time = times.value(row);
                match last {
                    Some(start) if start <= time && time < start + pane.size() => start,
                    _ => pane.last_start(time),
                }
            };
            for (start, part) in split(delta, start) {
                panes.entry(start).or_insert_with(|| self.groups()).accumulate(&part, &mut numbers);
            }
        }
        for (start, groups) in &panes {
            self.give(groups, Some(*start), output);
        }
    }
}
