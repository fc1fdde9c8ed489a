//! Random rows around the watermark against two nested loops, and state that stays flat. Rows are `(key, milliseconds)`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use highwater_plan::{EvalError, Expr, JoinKind, Map, OnError, Scalar, TimeKind, TimeSource};

use super::*;
use crate::operator::late::RowWindows;
use crate::operator::sides::{Errors, LateRows};
use crate::stats::{JobStats, OperatorStats};

const KINDS: [JoinKind; 7] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti, JoinKind::Mark];

type Row = (Option<i64>, Option<i64>);
type Output = BTreeMap<Vec<Option<i64>>, i64>;

/// Left less right time is between these, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Within(Option<i64>, Option<i64>);

impl Within {
    fn holds(self, left: Option<i64>, right: Option<i64>) -> bool {
        let (Some(left), Some(right)) = (left, right) else { return false };
        self.0.is_none_or(|lower| left - right >= lower) && self.1.is_none_or(|upper| left - right <= upper)
    }
}

impl Scalar for Within {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvalError> {
        let [left, right] = [1, 3].map(|column| rows.column(column).as_primitive::<TimestampMillisecondType>().clone());
        let value = |times: &TimestampMillisecondArray, row: usize| times.is_valid(row).then(|| times.value(row));
        let within = (0..rows.num_rows()).map(|row| Some(self.holds(value(&left, row), value(&right, row))));
        Ok(Arc::new(within.collect::<BooleanArray>()))
    }
}

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("within")
    }
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("t", time, true)]))
}

fn errors() -> Errors {
    Errors { worker: 0, operator: "join".into(), relations: vec![], policy: OnError::Skip, fail: Arc::new(|_| {}) }
}

struct Test {
    logic: IntervalJoin,
    late: Arc<OperatorStats>,
}

fn test(kind: JoinKind, within: Within, emit: Emit, append_only: bool, lateness: i64) -> Test {
    let map = Map { filters: vec![], exprs: None };
    let near = Expr {
        scalar: Arc::new(within),
        data_type: DataType::Boolean,
        nullable: false,
        columns: vec![1, 3],
        fallible: false,
        span: None,
    };
    let filters = Map { filters: vec![near.clone()], exprs: None };
    let interval = JoinInterval {
        columns: [1, 1],
        kinds: [TimeKind::Event; 2],
        lower: within.0.map(|ms| ms * 1_000),
        upper: within.1.map(|ms| ms * 1_000),
        sources: vec![TimeSource::of(0)],
    };
    // Of an inner join it is a condition of the result.
    let (residual, map) = if kind == JoinKind::Inner { (vec![], filters.clone()) } else { (vec![near], map) };
    let condition = (!residual.is_empty()).then(|| Mapper::new(filters, Arc::new(Schema::empty()), errors()));
    let mapper = Mapper::new(map.clone(), Arc::new(Schema::new(kind.columns(&schema(), &schema()))), errors());
    let interval_of = Some(interval.clone());
    let join = Join { kind, on: vec![(0, 0)], nulls_equal: false, residual, map, window: None, interval: interval_of, emit };
    let late: Arc<OperatorStats> = Arc::default();
    let gate = || LateGate {
        windows: RowWindows::Bound { column: 1, kind: TimeKind::Event },
        lateness,
        late: LateRows { worker: 0, operator: "join".into(), relations: vec![None], fallback: 0, before_images: false },
        errors: errors(),
        stats: Arc::clone(&late),
        job: Arc::new(JobStats::new(1, Arc::default())),
        silent: false,
        admitted: None,
    };
    let limits = Limits { watermark: Watermark::of(vec![TimeSource::of(0)]), lateness, gates: [gate(), gate()] };
    let inputs = [&schema(), &schema()];
    Test { logic: IntervalJoin::new(&join, &interval, inputs, [append_only; 2], mapper, condition, limits), late }
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let keys: Int64Array = rows.iter().map(|((key, _), _)| *key).collect();
    let times: TimestampMillisecondArray = rows.iter().map(|((_, time), _)| *time).collect();
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(times)]).unwrap();
    match rows.iter().all(|(_, diff)| *diff == 1) {
        true => Delta::insert(batch),
        false => Delta::with_diffs(batch, rows.iter().map(|(_, diff)| *diff).collect()),
    }
}

impl Test {
    fn step(&mut self, epoch: Time, sides: &[Vec<(Row, i64)>; 2], watermark: Option<i64>, output: &mut Output) -> Vec<i64> {
        let mut inputs: Vec<Vec<Delta>> = sides.iter().map(|rows| rows.chunks(3).map(delta).collect::<Vec<Delta>>()).collect();
        let mut given = Vec::new();
        let watermark = watermark.map(|ms| [ms.saturating_mul(1_000)]);
        self.logic.apply(epoch, &mut inputs, watermark.as_ref().map(|watermark| &watermark[..]), &mut given);
        let mut diffs = Vec::new();
        for delta in given {
            for row in 0..delta.len() {
                let value = |column: &ArrayRef| match column.data_type() {
                    _ if column.is_null(row) => None,
                    DataType::Boolean => Some(i64::from(column.as_boolean().value(row))),
                    DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(row)),
                    _ => Some(column.as_primitive::<TimestampMillisecondType>().value(row)),
                };
                let values: Vec<Option<i64>> = delta.rows.columns().iter().map(value).collect();
                *output.entry(values).or_default() += delta.diff(row);
                diffs.push(delta.diff(row));
            }
        }
        output.retain(|_, count| *count != 0);
        diffs
    }
}

/// What is there of these rows when the watermark is this.
fn expected(kind: JoinKind, within: Within, sides: &[BTreeMap<Row, i64>; 2], told: impl Fn(usize, i64) -> bool) -> Output {
    let mut output = Output::new();
    let matches = |l: &Row, r: &Row| l.0 == r.0 && l.0.is_some() && within.holds(l.1, r.1);
    for (l, l_count) in &sides[0] {
        let found: Vec<_> = sides[1].iter().filter(|(r, _)| matches(l, r)).collect();
        for (r, r_count) in found.iter().filter(|_| kind.gives_pairs()) {
            *output.entry(vec![l.0, l.1, r.0, r.1]).or_default() += l_count * *r_count;
        }
        let alone = match (kind, found.is_empty()) {
            (JoinKind::Semi, false) => vec![l.0, l.1],
            _ if !l.1.is_none_or(|time| told(0, time)) => continue,
            (JoinKind::Left | JoinKind::Full, true) => vec![l.0, l.1, None, None],
            (JoinKind::Anti, true) => vec![l.0, l.1],
            (JoinKind::Mark, none) => vec![l.0, l.1, Some(i64::from(!none))],
            _ => continue,
        };
        *output.entry(alone).or_default() += l_count;
    }
    for (r, r_count) in &sides[1] {
        let none = !sides[0].keys().any(|l| matches(l, r)) && r.1.is_none_or(|time| told(1, time));
        if none && matches!(kind, JoinKind::Right | JoinKind::Full) {
            *output.entry(vec![None, None, r.0, r.1]).or_default() += r_count;
        }
    }
    output
}

fn next(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// Compares with nested loops after every epoch, with rows that are late, without times, and without keys.
fn compare(kind: JoinKind, within: Within, emit: Emit, append_only: bool, lateness: i64) {
    let mut test = test(kind, within, emit, append_only, lateness * 1_000);
    let mut sides: [BTreeMap<Row, i64>; 2] = Default::default();
    let (mut output, mut seed, mut watermark, mut late) = (Output::new(), 11, i64::MIN, 0);
    for epoch in 1..60u64 {
        let now = epoch as i64 * 90;
        let closed = watermark.saturating_sub(lateness);
        let mut changes: [Vec<(Row, i64)>; 2] = Default::default();
        for (side, rows) in sides.iter_mut().enumerate() {
            for _ in 0..next(&mut seed, 6) {
                let key = (next(&mut seed, 10) > 0).then(|| next(&mut seed, 3) as i64);
                let time = (next(&mut seed, 12) > 0).then(|| now - next(&mut seed, 500) as i64);
                let known: Vec<Row> = rows.keys().copied().collect();
                let retracts = !append_only && !known.is_empty() && next(&mut seed, 3) == 0;
                let (row, diff) = match retracts {
                    true => (known[next(&mut seed, known.len() as u64) as usize], -1),
                    false => ((key, time), 1),
                };
                changes[side].push((row, diff));
                if row.1.is_some_and(|time| time < closed) {
                    // Rows without a key are missed only where they are given without a match.
                    let asked = row.0.is_some() || kind.keeps()[side] || (kind == JoinKind::Semi && side == 0);
                    late += u64::from(asked);
                    continue;
                }
                *rows.entry(row).or_default() += diff;
                rows.retain(|_, count| *count != 0);
            }
        }
        let moves = (next(&mut seed, 3) > 0).then(|| now - 250);
        watermark = watermark.max(moves.unwrap_or(i64::MIN));
        test.step(epoch, &changes, moves, &mut output);
        let reaches = |side: usize, time: i64| {
            let last = if side == 0 { within.0.map(|lower| time - lower) } else { within.1.map(|upper| time + upper) };
            last.is_some_and(|last| last.max(time) < watermark)
        };
        let told = |side: usize, time: i64| emit == Emit::Changes || reaches(side, time);
        let wanted = expected(kind, within, &sides, told);
        assert_eq!(output, wanted, "{kind:?} {within:?} {emit:?} append_only={append_only} lateness={lateness} epoch={epoch}");
        assert_eq!(test.late.late_rows.load(std::sync::atomic::Ordering::Relaxed), late, "{kind:?} {within:?} late rows");
    }
    assert!(late > 0 || lateness > 0, "some rows are late");
}

#[test]
fn every_kind_equals_nested_loops() {
    let bounds = [Within(Some(-200), Some(700)), Within(Some(0), Some(0)), Within(Some(300), Some(400))];
    for kind in KINDS {
        for within in bounds {
            for (append_only, lateness) in [(true, 0), (false, 0), (false, 120)] {
                compare(kind, within, Emit::Changes, append_only, lateness);
                if kind.keeps() != [false, false] {
                    compare(kind, within, Emit::Final, append_only, lateness);
                }
            }
        }
    }
}

#[test]
fn a_bound_on_one_side_is_enough_to_match_right() {
    for within in [Within(Some(0), None), Within(None, Some(100))] {
        for kind in KINDS {
            compare(kind, within, Emit::Changes, false, 0);
        }
    }
}

#[test]
fn contradicting_bounds_match_nothing() {
    compare(JoinKind::Full, Within(Some(100), Some(-100)), Emit::Changes, true, 0);
}

#[test]
fn with_emit_final_a_row_is_given_once() {
    for kind in [JoinKind::Left, JoinKind::Full, JoinKind::Anti, JoinKind::Mark] {
        let mut test = test(kind, Within(Some(-200), Some(700)), Emit::Final, true, 0);
        let (mut output, mut seed) = (Output::new(), 3);
        for epoch in 1..200u64 {
            let now = epoch as i64 * 90;
            let row = |seed: &mut u64| ((Some(next(seed, 3) as i64), Some(now - next(seed, 200) as i64)), 1);
            let changes = [0, 1].map(|_| (0..3).map(|_| row(&mut seed)).collect::<Vec<_>>());
            let diffs = test.step(epoch, &changes, Some(now - 250), &mut output);
            assert!(diffs.iter().all(|diff| *diff > 0), "{kind:?}");
        }
    }
}

#[test]
fn state_stays_flat() {
    for kind in KINDS {
        for append_only in [true, false] {
            let mut test = test(kind, Within(Some(-1_000), Some(4_000)), Emit::Changes, append_only, 0);
            let mut rows = Vec::new();
            for epoch in 1..150u64 {
                let now = epoch as i64 * 1_000;
                let side = |offset: i64| (0..10).map(|row| ((Some(row % 4), Some(now + row * 90 + offset)), 1)).collect();
                test.step(epoch, &[side(0), side(37)], Some(now - 500), &mut Output::new());
                rows.push(test.logic.state().0);
            }
            // A left row matches for a second, a right one for four; a slice is an eighth of both, and out of order is half a
            // second more.
            let most = rows[20..].iter().max().unwrap();
            assert!(*most < 10 * 10, "{kind:?} append_only={append_only}: {most} rows are kept");
            test.step(500, &Default::default(), Some(i64::MAX / 1_000), &mut Output::new());
            assert_eq!(test.logic.state().0, 0, "{kind:?}: the end frees all");
        }
    }
}

#[test]
fn of_one_bound_the_other_side_is_freed() {
    let mut test = test(JoinKind::Inner, Within(Some(0), None), Emit::Changes, true, 0);
    let mut output = Output::new();
    for epoch in 1..1_000u64 {
        let now = epoch as i64 * 1_000;
        let row = |key: i64| vec![((Some(key), Some(now)), 1)];
        test.step(epoch, &[row(1), row(2)], Some(now), &mut output);
    }
    // Left rows only look back, and are kept for a slice; right rows may always have a match.
    let (rows, _) = test.logic.state();
    assert!((1_000..1_100).contains(&rows), "{rows} rows are kept");
}
