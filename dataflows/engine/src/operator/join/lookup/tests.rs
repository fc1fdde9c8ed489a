//! What was given beside a table's rows stays, and is what a retraction takes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema};
use highwater_plan::{Beside, Map, OnError};

use super::*;
use crate::operator::sides::Errors;

fn schema(columns: usize) -> SchemaRef {
    let field = |index| Field::new(format!("c{index}"), DataType::Int64, true);
    Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
}

fn logic(append_only: [bool; 2]) -> Lookup {
    let map = Map { filters: vec![], exprs: None };
    let beside = Beside { on: vec![(0, 0)], nulls_equal: false, outer: true, residual: vec![], map };
    let errors = Errors { worker: 0, operator: "join".into(), relations: vec![], policy: OnError::Skip, fail: Arc::new(|_| {}) };
    let couples = Couples::new(&beside, [&schema(2), &schema(2)], schema(4), errors);
    Lookup::new(couples, &schema(2), append_only)
}

type Change = (i64, i64, i64);
type Given = BTreeMap<(i64, i64, Option<i64>), i64>;

fn delta(rows: &[Change]) -> Vec<Delta> {
    let column = |of: fn(&Change) -> i64| -> ArrayRef { Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>()) };
    let batch = RecordBatch::try_new(schema(2), vec![column(|row| row.0), column(|row| row.1)]).unwrap();
    vec![Delta::with_diffs(batch, rows.iter().map(|row| row.2).collect())]
}

fn apply(logic: &mut Lookup, epoch: Time, left: &[Change], right: &[Change]) -> Given {
    let mut output = Vec::new();
    logic.apply(epoch, &mut [delta(left), delta(right)], None, &mut output);
    let mut given = Given::new();
    for delta in output {
        let columns: Vec<_> = delta.rows.columns().iter().map(|column| column.as_primitive::<Int64Type>()).collect();
        for row in 0..delta.len() {
            let beside = columns[3].is_valid(row).then(|| columns[3].value(row));
            *given.entry((columns[0].value(row), columns[1].value(row), beside)).or_default() += delta.diff(row);
        }
    }
    given.retain(|_, diff| *diff != 0);
    given
}

#[test]
fn the_table_of_the_epochs_end_counts_and_later_changes_do_not() {
    let mut logic = logic([true, false]);
    assert_eq!(
        apply(&mut logic, 1, &[(1, 10, 1), (2, 20, 1)], &[(1, 100, 1)]),
        [((1, 10, Some(100)), 1), ((2, 20, None), 1)].into()
    );
    assert_eq!(apply(&mut logic, 2, &[], &[(1, 100, -1), (1, 101, 1), (2, 200, 1)]), Given::new());
    assert_eq!(apply(&mut logic, 3, &[(1, 11, 2), (2, 21, 1)], &[]), [((1, 11, Some(101)), 2), ((2, 21, Some(200)), 1)].into());
    assert_eq!(apply(&mut logic, 4, &[(1, 12, 1)], &[(1, 101, -1)]), [((1, 12, None), 1)].into());
    assert_eq!(logic.keys.len(), 1, "a key without rows is forgotten");
}

#[test]
fn a_retraction_takes_back_what_was_given() {
    let mut logic = logic([false, false]);
    apply(&mut logic, 1, &[(1, 10, 1)], &[(1, 100, 1)]);
    let given = apply(&mut logic, 2, &[(1, 10, 1)], &[(1, 100, -1), (1, 101, 1)]);
    assert_eq!(given, [((1, 10, Some(101)), 1)].into());
    assert_eq!(apply(&mut logic, 3, &[(1, 10, -1)], &[(1, 101, -1)]), [((1, 10, Some(101)), -1)].into());
    assert_eq!(apply(&mut logic, 4, &[(1, 10, -1), (1, 10, 1)], &[]), Given::new(), "nothing changed in this epoch");
    assert_eq!(apply(&mut logic, 5, &[(1, 10, -1)], &[]), [((1, 10, Some(100)), -1)].into());
    assert_eq!(logic.state().0, 0, "nothing is remembered of rows that are gone");
    assert_eq!(logic.memory.as_ref().unwrap().bytes, 0);
}

#[test]
fn rows_of_which_nothing_is_read_are_given_and_taken_back_too() {
    let map = Map { filters: vec![], exprs: Some(vec![highwater_plan::Expr::column(3, DataType::Int64, true)]) };
    let beside = Beside { on: vec![], nulls_equal: false, outer: false, residual: vec![], map };
    let errors = Errors { worker: 0, operator: "join".into(), relations: vec![], policy: OnError::Skip, fail: Arc::new(|_| {}) };
    let couples = Couples::new(&beside, [&schema(2), &schema(2)], schema(1), errors);
    let mut logic = Lookup::new(couples, &schema(2), [false, false]);
    let mut copies = |left: &[Change], right: &[Change]| {
        let mut output = Vec::new();
        logic.apply(1, &mut [delta(left), delta(right)], None, &mut output);
        output.iter().map(|delta| (0..delta.len()).map(|row| delta.diff(row)).sum::<i64>()).sum::<i64>()
    };
    assert_eq!(copies(&[(1, 10, 2)], &[(7, 70, 1), (8, 80, 1)]), 4);
    assert_eq!(copies(&[], &[(8, 80, -1)]), 0);
    assert_eq!(copies(&[(1, 10, -1), (2, 20, 1)], &[]), -1);
}
