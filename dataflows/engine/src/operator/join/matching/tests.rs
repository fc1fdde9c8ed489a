//! Random changes of both sides, against two nested loops over what is there.

mod expiry;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use highwater_plan::{EvalError, Expr, Map, OnError, Scalar};

use super::*;
use crate::operator::sides::Errors;

const KINDS: [JoinKind; 6] = [JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti, JoinKind::Mark];

type Row = (Option<i64>, i64);
type Output = BTreeMap<Vec<Option<i64>>, i64>;

/// The sum of both rows' second columns is even.
#[derive(Debug)]
struct SumIsEven;

impl Scalar for SumIsEven {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvalError> {
        let [left, right] = [1, 3].map(|column| rows.column(column).as_primitive::<Int64Type>().clone());
        let even = (0..rows.num_rows()).map(|row| (left.value(row) + right.value(row)) % 2 == 0);
        Ok(Arc::new(even.collect::<Vec<bool>>().into_iter().map(Some).collect::<BooleanArray>()))
    }
}

impl std::fmt::Display for SumIsEven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sum is even")
    }
}

fn schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![field("k"), field("v")]))
}

fn errors() -> Errors {
    Errors { worker: 0, operator: "join".into(), relations: vec![], policy: OnError::Skip, fail: Arc::new(|_| {}) }
}

fn logic(kind: JoinKind, residual: bool, nulls_equal: bool) -> MatchingJoin {
    let (join, mapper, condition) = parts(kind, residual, nulls_equal);
    MatchingJoin::new(&join, [&schema(), &schema()], [false, false], mapper, condition, None)
}

fn parts(kind: JoinKind, residual: bool, nulls_equal: bool) -> (Join, Mapper, Option<Mapper>) {
    let columns = kind.columns(&schema(), &schema());
    let map = Map { filters: vec![], exprs: None };
    let even = Expr {
        scalar: Arc::new(SumIsEven),
        data_type: DataType::Boolean,
        nullable: false,
        columns: vec![1, 3],
        fallible: false,
        span: None,
    };
    let residual = if residual { vec![even] } else { vec![] };
    let condition = (!residual.is_empty())
        .then(|| Mapper::new(Map { filters: residual.clone(), exprs: None }, Arc::new(Schema::empty()), errors()));
    let join = Join {
        kind,
        on: vec![(0, 0)],
        nulls_equal,
        residual,
        map: map.clone(),
        window: None,
        interval: None,
        emit: Emit::Changes,
    };
    let mapper = Mapper::new(map, Arc::new(Schema::new(columns)), errors());
    (join, mapper, condition)
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let keys: Int64Array = rows.iter().map(|((key, _), _)| *key).collect();
    let values: Int64Array = rows.iter().map(|((_, value), _)| Some(*value)).collect();
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).unwrap();
    Delta::with_diffs(batch, rows.iter().map(|(_, diff)| *diff).collect())
}

fn take(deltas: Vec<Delta>, output: &mut Output) {
    for delta in deltas {
        for row in 0..delta.len() {
            let value = |column: &ArrayRef| match column.data_type() {
                _ if column.is_null(row) => None,
                DataType::Boolean => Some(i64::from(column.as_boolean().value(row))),
                _ => Some(column.as_primitive::<Int64Type>().value(row)),
            };
            let values: Vec<Option<i64>> = delta.rows.columns().iter().map(value).collect();
            *output.entry(values).or_default() += delta.diff(row);
        }
    }
    output.retain(|_, count| *count != 0);
}

fn expected(kind: JoinKind, residual: bool, nulls_equal: bool, sides: &[BTreeMap<Row, i64>; 2]) -> Output {
    let mut output = Output::new();
    let matches = |l: &Row, r: &Row| l.0 == r.0 && (nulls_equal || l.0.is_some()) && (!residual || (l.1 + r.1) % 2 == 0);
    for (l, l_count) in &sides[0] {
        let found: Vec<_> = sides[1].iter().filter(|(r, _)| matches(l, r)).collect();
        for (r, r_count) in &found {
            if kind.gives_pairs() {
                *output.entry(vec![l.0, Some(l.1), r.0, Some(r.1)]).or_default() += l_count * *r_count;
            }
        }
        let alone = match (kind, found.is_empty()) {
            (JoinKind::Left | JoinKind::Full, true) => vec![l.0, Some(l.1), None, None],
            (JoinKind::Semi, false) | (JoinKind::Anti, true) => vec![l.0, Some(l.1)],
            (JoinKind::Mark, none) => vec![l.0, Some(l.1), Some(i64::from(!none))],
            _ => continue,
        };
        *output.entry(alone).or_default() += l_count;
    }
    for (r, r_count) in &sides[1] {
        let none = !sides[0].keys().any(|l| matches(l, r));
        if none && matches!(kind, JoinKind::Right | JoinKind::Full) {
            *output.entry(vec![None, None, r.0, Some(r.1)]).or_default() += r_count;
        }
    }
    output
}

fn next(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn every_kind_equals_nested_loops_under_retractions() {
    for kind in KINDS {
        for (residual, nulls_equal) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut logic = logic(kind, residual, nulls_equal);
            let mut sides: [BTreeMap<Row, i64>; 2] = Default::default();
            let (mut output, mut seed) = (Output::new(), 7);
            for epoch in 1..120 {
                let mut inputs = vec![Vec::new(), Vec::new()];
                for side in [0, 1] {
                    for _ in 0..next(&mut seed, 3) {
                        let mut changes: Vec<(Row, i64)> = Vec::new();
                        for _ in 0..next(&mut seed, 5) {
                            let key = next(&mut seed, 4);
                            let row = ((key > 0).then_some(key as i64), next(&mut seed, 3) as i64);
                            let count = sides[side].entry(row).or_default();
                            let diff = if *count > 0 && next(&mut seed, 100) < 55 { -1 } else { 1 };
                            *count += diff;
                            changes.push((row, diff));
                        }
                        // Within an epoch a retraction may stand before what it retracts.
                        changes.reverse();
                        inputs[side].push(delta(&changes));
                    }
                    sides[side].retain(|_, count| *count != 0);
                }
                let mut given = Vec::new();
                logic.apply(epoch, &mut inputs, None, &mut given);
                take(given, &mut output);
                let wanted = expected(kind, residual, nulls_equal, &sides);
                assert_eq!(output, wanted, "{kind:?} residual={residual} nulls_equal={nulls_equal} epoch={epoch}");
            }
        }
    }
}

#[test]
fn a_key_whose_rows_are_gone_is_forgotten() {
    for kind in KINDS {
        for residual in [false, true] {
            let mut logic = logic(kind, residual, false);
            for (epoch, diff) in [(1, 1), (2, -1)] {
                for key in 0..500 {
                    let row = ((Some(key), 2), diff);
                    let mut inputs = vec![vec![delta(&[row])], vec![delta(&[row])]];
                    logic.apply(epoch * 1_000 + key as u64, &mut inputs, None, &mut Vec::new());
                }
            }
            assert_eq!(logic.state().0, 0, "{kind:?} residual={residual}");
        }
    }
}

#[test]
fn a_match_that_stays_costs_nothing() {
    let mut logic = logic(JoinKind::Semi, false, false);
    let mut given = Vec::new();
    let left: Vec<(Row, i64)> = (0..100).map(|value| ((Some(1), value), 1)).collect();
    logic.apply(1, &mut [vec![delta(&left)], vec![delta(&[((Some(1), 0), 1)])]], None, &mut given);
    given.clear();
    logic.apply(2, &mut [vec![], vec![delta(&[((Some(1), 1), 1), ((Some(1), 0), -1)])]], None, &mut given);
    assert!(given.is_empty(), "the key still has a match");
}
