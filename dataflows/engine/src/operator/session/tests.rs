//! Sessions by hand: rows are `(key, milliseconds, value)`, the gap is ten milliseconds.

use std::sync::Mutex;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use highwater_plan::{Aggregate, AggregateCall, AggregateFunction, Grouping, OnError, TimeSource};

use super::aggregate::SessionAggregate;
use super::assign::SessionAssigner;
use super::*;
use crate::operator::epoch::EpochLogic;

const MS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn schema(fields: &[DataType]) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| Field::new(format!("c{index}"), data_type.clone(), true);
    Arc::new(Schema::new(fields.iter().enumerate().map(field).collect::<Vec<_>>()))
}

fn input() -> SchemaRef {
    schema(&[DataType::Int64, MS, DataType::Int64])
}

fn delta(rows: &[(i64, i64, i64, Diff)]) -> Delta {
    let column = |of: fn(&(i64, i64, i64, Diff)) -> i64| rows.iter().map(of);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(column(|row| row.0))),
        Arc::new(TimestampMillisecondArray::from_iter_values(column(|row| row.1))),
        Arc::new(Int64Array::from_iter_values(column(|row| row.2))),
    ];
    let batch = RecordBatch::try_new(input(), columns).expect("columns fit");
    Delta::with_diffs(batch, Int64Array::from_iter_values(rows.iter().map(|row| row.3)))
}

/// The operator, and how many rows it found late.
struct Test {
    logic: Box<dyn EpochLogic>,
    stats: Arc<OperatorStats>,
    epoch: Time,
}

fn spec(lateness: i64) -> (SessionSpec, Arc<OperatorStats>) {
    let stats: Arc<OperatorStats> = Arc::default();
    let errors =
        Errors { worker: 0, operator: "test".into(), relations: Vec::new(), policy: OnError::Skip, fail: Arc::new(|_| {}) };
    let late = LateRows { worker: 0, operator: "test".into(), relations: vec![None], fallback: 0, before_images: false };
    let refused = Refused { late, errors, stats: Arc::clone(&stats), job: Arc::new(JobStats::new(1, Arc::default())) };
    let assign = SessionAssign { gap: 10_000, time: 1, partition: vec![0] };
    (SessionSpec { assign, watermark: Watermark::of(vec![TimeSource::of(0)]), lateness, refused }, stats)
}

fn aggregate(emit: Emit, append_only: bool, lateness: i64) -> Test {
    let (spec, stats) = spec(lateness);
    let call = |function, distinct| AggregateCall { distinct, ..AggregateCall::of(function, Some(2), DataType::Int64) };
    let aggregate = Aggregate {
        keys: vec![0],
        calls: vec![call(AggregateFunction::Sum, false), call(AggregateFunction::Count, !append_only)],
        grouping: Grouping::Session(spec.assign.clone()),
        emit,
    };
    let output = schema(&[DataType::Int64, MS, MS, DataType::Int64, DataType::Int64]);
    let logic = Box::new(SessionAggregate::new(spec, &aggregate, &input(), append_only, output));
    Test { logic, stats, epoch: 0 }
}

impl Test {
    /// What changes with these rows and then this watermark (milliseconds): rows and multiplicities, sorted.
    fn step(&mut self, rows: &[(i64, i64, i64, Diff)], watermark: Option<i64>) -> Vec<(Vec<i64>, Diff)> {
        self.epoch += 1;
        let mut output = Vec::new();
        let inputs = if rows.is_empty() { Vec::new() } else { vec![delta(rows)] };
        let watermark = watermark.map(|ms| [ms * 1_000]);
        self.logic.apply(self.epoch, &mut [inputs], watermark.as_ref().map(|watermark| &watermark[..]), &mut output);
        let mut all = Vec::new();
        for delta in &output {
            for row in 0..delta.len() {
                let value = |column: &ArrayRef| match column.data_type() {
                    DataType::Int64 => column.as_primitive::<Int64Type>().value(row),
                    _ => column.as_primitive::<TimestampMillisecondType>().value(row),
                };
                all.push((delta.rows.columns().iter().map(value).collect(), delta.diff(row)));
            }
        }
        all.sort();
        all
    }

    fn late(&self) -> u64 {
        self.stats.late_rows.load(Ordering::Relaxed)
    }
}

#[test]
fn a_row_between_two_sessions_joins_them() {
    for append_only in [true, false] {
        let mut test = aggregate(Emit::Changes, append_only, 0);
        let two = test.step(&[(1, 0, 5, 1), (1, 20, 7, 1), (2, 20, 9, 1)], None);
        assert_eq!(two, [(vec![1, 0, 10, 5, 1], 1), (vec![1, 20, 30, 7, 1], 1), (vec![2, 20, 30, 9, 1], 1)]);
        let one = test.step(&[(1, 10, 1, 1)], None);
        assert_eq!(one, [(vec![1, 0, 10, 5, 1], -1), (vec![1, 0, 30, 13, 3], 1), (vec![1, 20, 30, 7, 1], -1)]);
        assert_eq!(test.step(&[], Some(30)), [], "closing changes nothing that is visible");
        assert_eq!(test.logic.state().0, 0, "and frees all");
    }
}

#[test]
fn a_retraction_splits_a_session_shortens_it_or_ends_it() {
    let mut test = aggregate(Emit::Changes, false, 0);
    test.step(&[(1, 0, 5, 1), (1, 8, 5, 1), (1, 16, 7, 1), (1, 24, 1, 1)], None);
    let split = test.step(&[(1, 8, 5, -1)], None);
    assert_eq!(split, [(vec![1, 0, 10, 5, 1], 1), (vec![1, 0, 34, 18, 3], -1), (vec![1, 16, 34, 8, 2], 1)]);
    assert_eq!(test.step(&[(1, 24, 1, -1)], None), [(vec![1, 16, 26, 7, 1], 1), (vec![1, 16, 34, 8, 2], -1)]);
    assert_eq!(test.step(&[(1, 0, 5, -1), (1, 16, 7, -1)], None).len(), 2);
    assert_eq!(test.logic.state().0, 0);
    assert_eq!((test.step(&[(1, 0, 5, -1)], None).len(), test.late()), (0, 1), "it is not there any more");
}

#[test]
fn a_final_session_is_given_once_when_it_ends() {
    for append_only in [true, false] {
        let mut test = aggregate(Emit::Final, append_only, 0);
        assert_eq!(test.step(&[(1, 0, 5, 1)], Some(9)), []);
        assert_eq!(test.step(&[(1, 6, 5, 1)], Some(15)), [], "it has grown");
        assert_eq!(test.step(&[(2, 6, 1, 1)], Some(16)).len(), 2, "the row of key 2 made a session as of the epoch before");
        assert_eq!(test.step(&[(1, 6, 5, 1)], None), []);
        assert_eq!((test.late(), test.logic.state().0), (1, 0));
    }
}

#[test]
fn an_old_row_is_not_late_where_its_session_is_open() {
    for append_only in [true, false] {
        let mut test = aggregate(Emit::Changes, append_only, 0);
        test.step(&[(1, 20, 1, 1)], Some(25));
        test.step(&[(1, 4, 1, 1)], None);
        assert_eq!(test.late(), 1, "its own session would have ended at 14");
        assert_eq!(test.step(&[(1, 3, 1, 1), (1, 12, 1, 1)], None).len(), 2, "together they reach the open one");
        assert_eq!(test.late(), 1);
    }
}

#[test]
fn within_the_allowed_lateness_a_given_session_is_corrected() {
    for append_only in [true, false] {
        let mut test = aggregate(Emit::Final, append_only, 5_000);
        assert_eq!(test.step(&[(1, 0, 5, 1)], Some(12)), [(vec![1, 0, 10, 5, 1], 1)]);
        assert_eq!(test.step(&[(1, 1, 6, 1)], None), [(vec![1, 0, 10, 5, 1], -1), (vec![1, 0, 11, 11, 2], 1)]);
        assert_eq!(test.step(&[(1, 9, 7, 1)], None), [(vec![1, 0, 11, 11, 2], -1)], "it is open again");
        assert_eq!(test.step(&[], Some(19)), [(vec![1, 0, 19, 18, 3], 1)]);
        assert_eq!(test.step(&[], Some(24)), []);
        assert_eq!((test.logic.state().0, test.late()), (0, 0));
    }
}

#[test]
fn rows_are_given_anew_when_their_session_changes() {
    let (spec, stats) = spec(0);
    let output = schema(&[DataType::Int64, MS, DataType::Int64, MS, MS]);
    let mut test = Test { logic: Box::new(SessionAssigner::new(spec, &input(), output)), stats, epoch: 0 };
    assert_eq!(test.step(&[(1, 0, 5, 1), (1, 30, 6, 1)], None), [(vec![1, 0, 5, 0, 10], 1), (vec![1, 30, 6, 30, 40], 1)]);
    assert_eq!(test.step(&[(1, 0, 7, 1)], None), [(vec![1, 0, 7, 0, 10], 1)], "the bounds are the same");
    let grown = test.step(&[(1, 4, 8, 1), (1, 0, 5, -1)], None);
    let old = [(vec![1, 0, 5, 0, 10], -1), (vec![1, 0, 7, 0, 10], -1)];
    assert_eq!(grown, [old.as_slice(), &[(vec![1, 0, 7, 0, 14], 1), (vec![1, 4, 8, 0, 14], 1)]].concat());
    assert_eq!(test.step(&[], Some(50)), []);
    assert_eq!(test.logic.state().0, 0);
}

#[test]
fn random_changes_leave_what_all_rows_at_once_would_make() {
    let random = Mutex::new(crate::arrangement::random::Random::new(7));
    let below = |limit: u64| random.lock().expect("one thread").below(limit) as i64;
    let (mut stepwise, mut held) = (aggregate(Emit::Changes, false, 0), Vec::new());
    let mut content: std::collections::BTreeMap<Vec<i64>, Diff> = Default::default();
    for _ in 0..200 {
        let mut rows = Vec::new();
        for _ in 0..below(6) {
            if !held.is_empty() && below(2) == 0 {
                let (key, time, value): (i64, i64, i64) = held.swap_remove(below(held.len() as u64) as usize);
                rows.push((key, time, value, -1));
            } else {
                let row = (below(2), below(200), below(3));
                held.push(row);
                rows.push((row.0, row.1, row.2, 1));
            }
        }
        for (row, diff) in stepwise.step(&rows, None) {
            *content.entry(row).or_default() += diff;
        }
        content.retain(|_, diff| *diff != 0);
        let all: Vec<(i64, i64, i64, Diff)> = held.iter().map(|row| (row.0, row.1, row.2, 1)).collect();
        let at_once = aggregate(Emit::Changes, false, 0).step(&all, None);
        assert_eq!(content.clone().into_iter().collect::<Vec<_>>(), at_once);
    }
}

#[test]
fn restored_sessions_go_on_as_if_nothing_had_been() {
    use crate::checkpoint::testing::{Make, Twins};
    use crate::operator::exchange::Route;
    let makes: [(&str, bool, Box<Make<'_>>); 5] = [
        ("changes", false, Box::new(|| aggregate(Emit::Changes, false, 0).logic)),
        ("changes of states", true, Box::new(|| aggregate(Emit::Changes, true, 3_000).logic)),
        ("final", false, Box::new(|| aggregate(Emit::Final, false, 5_000).logic)),
        ("final states", true, Box::new(|| aggregate(Emit::Final, true, 5_000).logic)),
        (
            "rows",
            false,
            Box::new(|| {
                let output = schema(&[DataType::Int64, MS, DataType::Int64, MS, MS]);
                Box::new(SessionAssigner::new(spec(0).0, &input(), output))
            }),
        ),
    ];
    for (name, growing, make) in &makes {
        let mut random = crate::arrangement::random::Random::new(5);
        let mut twins = Twins::new(vec![Route::ByColumns(vec![0])], &**make);
        let (mut held, mut now, mut changes, mut restored) = (Vec::new(), 0, 0, 0);
        for epoch in 1..600 {
            let mut rows: Vec<(i64, i64, i64, Diff)> = Vec::new();
            for _ in 0..random.below(5) {
                if !growing && !held.is_empty() && random.below(3) == 0 {
                    let (key, time, value): (i64, i64, i64) = held.swap_remove(random.below(held.len() as u64) as usize);
                    rows.push((key, time, value, -1));
                } else {
                    let time = (now + random.below(40) as i64 - 15).max(0);
                    let row = (random.below(3) as i64, time, random.below(3) as i64);
                    held.push(row);
                    rows.push((row.0, row.1, row.2, 1));
                }
            }
            now += random.below(6) as i64;
            let inputs = if rows.is_empty() { Vec::new() } else { vec![delta(&rows)] };
            let watermark = random.one_in(2).then_some([(now - 10) * 1_000]);
            changes += twins.step(epoch, &[inputs], watermark.as_ref().map(|watermark| &watermark[..])).len();
            if random.one_in(4) {
                twins.save(epoch);
                assert!(twins.saved_rows() <= twins.kept_rows(), "{name}: {} of {}", twins.saved_rows(), twins.kept_rows());
                if random.one_in(2) {
                    twins.restore();
                    restored += 1;
                }
            }
        }
        assert!(changes > 60 && restored > 20, "{name}: {changes} changes, restored {restored} times");
    }
}
