//! Random changes of both sides, against a search of all that is there.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};
use highwater_plan::{Beside, Map, OnError};

use super::*;
use crate::operator::sides::Errors;

type Row = (Option<i64>, Option<i64>, i64);
type Rows = BTreeMap<Row, i64>;
type Output = BTreeMap<Vec<Option<i64>>, i64>;

fn schema(columns: usize) -> SchemaRef {
    let field = |index| Field::new(format!("c{index}"), DataType::Int64, true);
    Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
}

fn logic(outer: bool, comparison: Comparison) -> NearestJoin {
    let map = Map { filters: vec![], exprs: None };
    let beside = Beside { on: vec![(0, 0)], nulls_equal: false, outer, residual: vec![], map };
    let errors = Errors { worker: 0, operator: "join".into(), relations: vec![], policy: OnError::Skip, fail: Arc::new(|_| {}) };
    let couples = Couples::new(&beside, [&schema(3), &schema(3)], schema(6), errors);
    NearestJoin::new(&Nearest { beside, left: 1, right: 1, comparison }, couples)
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let keys: Int64Array = rows.iter().map(|((key, ..), _)| *key).collect();
    let times: Int64Array = rows.iter().map(|((_, time, _), _)| *time).collect();
    let values: Int64Array = rows.iter().map(|((.., value), _)| Some(*value)).collect();
    let batch = RecordBatch::try_new(schema(3), vec![Arc::new(keys), Arc::new(times), Arc::new(values)]).unwrap();
    Delta::with_diffs(batch, rows.iter().map(|(_, diff)| *diff).collect())
}

fn take(deltas: Vec<Delta>, output: &mut Output) {
    for delta in deltas {
        for row in 0..delta.len() {
            let value = |column: &ArrayRef| column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row));
            *output.entry(delta.rows.columns().iter().map(value).collect()).or_default() += delta.diff(row);
        }
    }
    output.retain(|_, diff| *diff != 0);
}

fn expected(sides: &[Rows; 2], outer: bool, comparison: Comparison) -> Output {
    let mut output = Output::new();
    for (left, copies) in &sides[0] {
        let fits = |right: &&Row| {
            let (Some(one), Some(other), Some(key)) = (left.1, right.1, left.0) else { return false };
            let fits = match comparison {
                Comparison::Less => one < other,
                Comparison::LessOrEqual => one <= other,
                Comparison::Greater => one > other,
                Comparison::GreaterOrEqual => one >= other,
            };
            fits && right.0 == Some(key)
        };
        let distance = |right: &&Row| (left.1.unwrap() - right.1.unwrap()).abs();
        let best = sides[1].keys().filter(fits).min_by_key(|right| (distance(right), right.2));
        let values = |row: &Row| [row.0, row.1, Some(row.2)];
        match best {
            Some(right) => *output.entry([values(left), values(right)].concat()).or_default() += copies,
            None if outer => *output.entry([values(left), [None; 3]].concat()).or_default() += copies,
            None => {}
        }
    }
    output
}

fn check(outer: bool, comparison: Comparison, mut seed: u64) {
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut logic = logic(outer, comparison);
    let mut sides: [Rows; 2] = Default::default();
    let mut output = Output::new();
    for epoch in 1..200 {
        let mut inputs: Vec<Vec<Delta>> = vec![Vec::new(), Vec::new()];
        for (side, deltas) in inputs.iter_mut().enumerate() {
            let mut changes = Vec::new();
            for _ in 0..random(5) {
                let known: Vec<Row> = sides[side].keys().copied().collect();
                let (row, diff) = if !known.is_empty() && random(100) < 45 {
                    (known[random(known.len() as u64) as usize], -1)
                } else {
                    let key = (random(12) > 0).then(|| random(3) as i64);
                    let time = (random(12) > 0).then(|| random(10) as i64);
                    ((key, time, random(3) as i64), 1)
                };
                *sides[side].entry(row).or_default() += diff;
                sides[side].retain(|_, copies| *copies != 0);
                changes.push((row, diff));
            }
            let rest = changes.split_off(changes.len() / 2);
            deltas.extend([changes, rest].iter().filter(|part| !part.is_empty()).map(|part| delta(part)));
        }
        let mut given = Vec::new();
        logic.apply(epoch, &mut inputs, None, &mut given);
        take(given, &mut output);
        assert_eq!(output, expected(&sides, outer, comparison), "epoch {epoch} of {comparison:?}, outer {outer}");
    }
    let mut rest: Vec<Vec<Delta>> =
        sides.iter().map(|rows| vec![delta(&rows.iter().map(|(row, copies)| (*row, -copies)).collect::<Vec<_>>())]).collect();
    let mut given = Vec::new();
    logic.apply(200, &mut rest, None, &mut given);
    take(given, &mut output);
    assert_eq!(output, Output::new());
    assert_eq!((logic.state().0, logic.bytes, logic.keys.len()), (0, 0, 0), "nothing is kept of nothing");
}

#[test]
fn the_nearest_row_is_found_whatever_changes() {
    for (seed, comparison) in
        [Comparison::Less, Comparison::LessOrEqual, Comparison::Greater, Comparison::GreaterOrEqual].into_iter().enumerate()
    {
        for outer in [false, true] {
            check(outer, comparison, seed as u64 * 2 + u64::from(outer));
        }
    }
}

#[test]
fn values_of_every_type_keep_their_order() {
    use arrow::array::{Date32Array, Decimal128Array, Float64Array, Int16Array, TimestampMillisecondArray, UInt64Array};
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int16Array::from(vec![i16::MIN, -1, 0, i16::MAX])),
        Arc::new(UInt64Array::from(vec![0, 1, u64::MAX - 1, u64::MAX])),
        Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, -1.5, 1e-300, f64::NAN])),
        Arc::new(
            Decimal128Array::from(vec![-(10i128.pow(38) - 1), -1, 1, 10i128.pow(38) - 1])
                .with_precision_and_scale(38, 0)
                .unwrap(),
        ),
        Arc::new(TimestampMillisecondArray::from(vec![i64::MIN, -1, 0, i64::MAX])),
        Arc::new(Date32Array::from(vec![i32::MIN, -1, 0, i32::MAX])),
    ];
    for column in columns {
        let values = ordered(&column, false);
        assert!(values.is_sorted() && values.iter().all(Option::is_some), "{}: {values:?}", column.data_type());
        assert!(ordered(&column, true).iter().rev().is_sorted(), "{}", column.data_type());
    }
    let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
    let zeros = ordered(&zeros, false);
    assert_eq!(zeros[0], zeros[1]);
}
