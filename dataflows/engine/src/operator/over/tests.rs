//! Results of rows around a row, with retractions.

mod expiry;
mod saved;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use highwater_plan::{
    AggregateCall, AggregateFunction, Frame, FrameBound, FrameUnits, OrderColumn, OverCall, OverFunction, Ranking,
};

use super::*;
use crate::Diff;

fn schema(columns: usize) -> SchemaRef {
    let field = |index| Field::new(format!("c{index}"), DataType::Int64, true);
    Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
}

fn errors() -> Errors {
    Errors {
        worker: 0,
        operator: "over".into(),
        relations: Vec::new(),
        policy: OnError::Skip,
        fail: Arc::new(|message| panic!("{message}")),
    }
}

/// Partition, order column, value.
fn operator(calls: &[(OverFunction, Frame)]) -> Over {
    let call = |(function, frame): &(OverFunction, Frame)| OverCall {
        function: function.clone(),
        frame: *frame,
        data_type: DataType::Int64,
    };
    let over = plan::Over {
        partition: vec![0],
        order: vec![OrderColumn { column: 1, descending: false, nulls_first: false }],
        calls: calls.iter().map(call).collect(),
        closing: None,
        emit: Emit::Changes,
    };
    Over::new(&over, &schema(3), schema(3 + calls.len()), errors(), None)
}

fn sum() -> OverFunction {
    OverFunction::Aggregate(AggregateCall {
        function: AggregateFunction::Sum,
        argument: Some(2),
        further: Vec::new(),
        order: Vec::new(),
        constant: None,
        filter: None,
        distinct: false,
        data_type: DataType::Int64,
    })
}

fn rows(start: i128, end: i128) -> Frame {
    Frame { units: FrameUnits::Rows, start: FrameBound::Offset(start), end: FrameBound::Offset(end) }
}

fn delta(changes: &[([i64; 3], Diff)]) -> Delta {
    let columns =
        (0..3).map(|column| -> ArrayRef { Arc::new(changes.iter().map(|(row, _)| Some(row[column])).collect::<Int64Array>()) });
    let batch = RecordBatch::try_new(schema(3), columns.collect()).unwrap();
    Delta::with_diffs(batch, changes.iter().map(|(_, diff)| *diff).collect::<Vec<_>>().into())
}

/// What an epoch gives, sorted; NULL is -1.
fn given(operator: &mut Over, changes: &[([i64; 3], Diff)]) -> Vec<(Vec<i64>, Diff)> {
    let mut output = Vec::new();
    operator.apply(1, &mut [vec![delta(changes)]], None, &mut output);
    let mut all: BTreeMap<Vec<i64>, Diff> = BTreeMap::new();
    for delta in &output {
        for row in 0..delta.len() {
            let value = |column: &ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                if column.is_null(row) { -1 } else { column.value(row) }
            };
            *all.entry(delta.rows.columns().iter().map(value).collect()).or_default() += delta.diff(row);
        }
    }
    all.into_iter().filter(|(_, diff)| *diff != 0).collect()
}

#[test]
fn a_change_gives_only_the_rows_whose_frame_holds_it() {
    let mut over = operator(&[(sum(), rows(-1, 0))]);
    let many: Vec<([i64; 3], Diff)> = (0..2_000).map(|at| ([0, at * 10, 1], 1)).collect();
    assert_eq!(given(&mut over, &many).len(), 2_000);
    assert_eq!(
        given(&mut over, &[([0, 9_995, 5], 1)]),
        [(vec![0, 9_995, 5, 6], 1), (vec![0, 10_000, 1, 2], -1), (vec![0, 10_000, 1, 6], 1)]
    );
    assert_eq!(given(&mut over, &[([0, 9_995, 5], -1)]).len(), 3);
    assert_eq!(over.state().0, 2_000);
}

#[test]
fn running_sums_go_on_from_the_row_before() {
    let running = Frame { units: FrameUnits::Groups, start: FrameBound::Unbounded, end: FrameBound::Offset(0) };
    let mut over = operator(&[(sum(), running), (OverFunction::Ranking(Ranking::RowNumber), Frame::WHOLE)]);
    given(&mut over, &[([0, 1, 10], 1), ([0, 3, 30], 1), ([1, 1, 7], 1)]);
    assert_eq!(
        given(&mut over, &[([0, 2, 20], 1)]),
        [(vec![0, 2, 20, 30, 2], 1), (vec![0, 3, 30, 40, 2], -1), (vec![0, 3, 30, 60, 3], 1)]
    );
    // Peers have one sum.
    assert_eq!(
        given(&mut over, &[([0, 3, 31], 1)]),
        [(vec![0, 3, 30, 60, 3], -1), (vec![0, 3, 30, 91, 3], 1), (vec![0, 3, 31, 91, 4], 1)]
    );
}

#[test]
fn what_stands_behind_copies_moves_with_all_of_them() {
    let lag = OverFunction::Shift { argument: 2, offset: -2, default: Some(2) };
    let mut over = operator(&[(lag, Frame::WHOLE)]);
    given(&mut over, &[([0, 1, 1], 1), ([0, 3, 3], 1), ([0, 4, 4], 1)]);
    // 1, then 2 three times, then 3 and 4: each row has the value of the second before it, or its own.
    assert_eq!(
        given(&mut over, &[([0, 2, 2], 1), ([0, 2, 2], 1), ([0, 2, 2], 1)]),
        [
            (vec![0, 2, 2, 1], 1),
            (vec![0, 2, 2, 2], 2),
            (vec![0, 3, 3, 2], 1),
            (vec![0, 3, 3, 3], -1),
            (vec![0, 4, 4, 1], -1),
            (vec![0, 4, 4, 2], 1),
        ]
    );
    assert_eq!(given(&mut over, &[([0, 2, 2], -1)]), [(vec![0, 2, 2, 2], -1)]);
    assert_eq!(
        given(&mut over, &[([0, 2, 2], -2)]),
        [
            (vec![0, 2, 2, 1], -1),
            (vec![0, 2, 2, 2], -1),
            (vec![0, 3, 3, 2], -1),
            (vec![0, 3, 3, 3], 1),
            (vec![0, 4, 4, 1], 1),
            (vec![0, 4, 4, 2], -1),
        ]
    );
}

#[test]
fn a_row_retracted_before_it_comes_leaves_no_trace() {
    let mut over = operator(&[(sum(), rows(-1, 0))]);
    assert_eq!(given(&mut over, &[([0, 1, 1], -1)]), []);
    assert_eq!(given(&mut over, &[([0, 1, 1], 1)]), []);
    assert_eq!(over.state().0, 0);
    assert_eq!(given(&mut over, &[([0, 1, 1], 2)]), [(vec![0, 1, 1, 1], 1), (vec![0, 1, 1, 2], 1)]);
    assert_eq!(given(&mut over, &[([0, 1, 1], -1)]), [(vec![0, 1, 1, 2], -1)]);
}
