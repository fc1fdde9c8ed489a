//! Rows by event time that are saved and restored: results go on from rows that are forgotten.

use arrow::array::{Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use highwater_plan::{TimeKind, TimeSource};

use super::*;
use crate::checkpoint::testing::Twins;
use crate::operator::exchange::Route;
use crate::operator::late::Watermark;
use crate::operator::sides::LateRows;
use crate::stats::JobStats;

fn timed_schema(calls: usize) -> SchemaRef {
    let mut types = vec![DataType::Int64, DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Int64];
    types.extend(vec![DataType::Int64; calls]);
    let field = |(index, data_type)| Field::new(format!("c{index}"), data_type, true);
    Arc::new(Schema::new(types.into_iter().enumerate().map(field).collect::<Vec<_>>()))
}

fn by_time(calls: &[(OverFunction, Frame)], emit: Emit, lateness: i64) -> Over {
    let call = |(function, frame): &(OverFunction, Frame)| OverCall {
        function: function.clone(),
        frame: *frame,
        data_type: DataType::Int64,
    };
    let over = plan::Over {
        partition: vec![0],
        order: vec![OrderColumn { column: 1, descending: false, nulls_first: false }],
        calls: calls.iter().map(call).collect(),
        closing: Some(plan::OverClosing::Time),
        emit,
    };
    let kind = TimeKind::WindowStart { size: 1 };
    let rows = RowWindows::Bound { column: 1, kind };
    let gate = LateGate {
        windows: rows.clone(),
        lateness,
        late: LateRows { worker: 0, operator: "over".into(), relations: vec![None], fallback: 0, before_images: false },
        errors: errors(),
        stats: Arc::default(),
        job: Arc::new(JobStats::new(1, Arc::default())),
        silent: false,
        admitted: None,
    };
    let windows = Windows { rows, kind, watermark: Watermark::of(vec![TimeSource::of(0)]), lateness, gate };
    Over::new(&over, &timed_schema(0), timed_schema(calls.len()), errors(), Some(Closing::Time(windows)))
}

#[test]
fn results_go_on_from_rows_that_are_forgotten() {
    let frame = |units, start, end| Frame { units, start, end };
    let all = frame(FrameUnits::Rows, FrameBound::Unbounded, FrameBound::Offset(0));
    let cases: [&[(OverFunction, Frame)]; 4] = [
        &[(sum(), all)],
        &[(OverFunction::Ranking(Ranking::RowNumber), all), (sum(), all)],
        &[(sum(), frame(FrameUnits::Rows, FrameBound::Offset(-2), FrameBound::Offset(0)))],
        &[
            (sum(), frame(FrameUnits::Range, FrameBound::Offset(-9), FrameBound::Offset(0))),
            (OverFunction::Shift { argument: 2, offset: -1, default: None }, all),
        ],
    ];
    for (case, calls) in cases.into_iter().enumerate() {
        for (emit, lateness) in [(Emit::Changes, 0), (Emit::Final, 0), (Emit::Final, 4)] {
            let make = || -> Box<dyn EpochLogic> { Box::new(by_time(calls, emit, lateness)) };
            let mut twins = Twins::new(vec![Route::ByColumns(vec![0])], &make);
            let mut random = crate::arrangement::random::Random::new(3);
            let (mut now, mut changes, mut restored) = (0, 0, 0);
            for epoch in 1..400 {
                let count = random.below(5) as usize;
                let rows: Vec<[i64; 3]> = (0..count)
                    .map(|_| [random.below(3) as i64, (now + random.below(12) as i64 - 3).max(0), random.below(4) as i64])
                    .collect();
                now += random.below(4) as i64;
                let column = |at: usize| rows.iter().map(move |row| row[at]);
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(Int64Array::from_iter_values(column(0))),
                    Arc::new(TimestampMicrosecondArray::from_iter_values(column(1))),
                    Arc::new(Int64Array::from_iter_values(column(2))),
                ];
                let batch = RecordBatch::try_new(timed_schema(0), columns).unwrap();
                let inputs = if rows.is_empty() { Vec::new() } else { vec![Delta::insert(batch)] };
                let watermark = random.one_in(2).then_some([now - 3]);
                changes += twins.step(epoch, &[inputs], watermark.as_ref().map(|watermark| &watermark[..])).len();
                if random.one_in(4) {
                    twins.save(epoch);
                    let (saved, kept) = (twins.saved_rows(), twins.kept_rows());
                    assert!(saved <= kept && saved < 150, "case {case}: {saved} rows are saved, {kept} kept");
                    if random.one_in(2) {
                        twins.restore();
                        restored += 1;
                    }
                }
            }
            assert!(changes > 300 && restored > 20, "case {case}: {changes} changes, restored {restored} times");
        }
    }
}

#[test]
fn what_time_has_freed_since_it_came_is_not_saved() {
    let frame = Frame { units: FrameUnits::Rows, start: FrameBound::Unbounded, end: FrameBound::Offset(0) };
    let mut over = by_time(&[(sum(), frame)], Emit::Changes, 0);
    let gate = over.gates().remove(0);
    gate.admitted = Some(std::cell::RefCell::default());
    for times in [[1, 4], [3, 2], [5, 3], [2, 2]] {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![0, 0])),
            Arc::new(TimestampMicrosecondArray::from(times.to_vec())),
            Arc::new(Int64Array::from(vec![1, 1])),
        ];
        gate.split(1, Delta::insert(RecordBatch::try_new(timed_schema(0), columns).unwrap()), i64::MIN);
    }
    gate.forget_admitted(0, 100);
    let admitted = |gate: &LateGate| gate.admitted.as_ref().map_or(0, |admitted| admitted.borrow().len());
    assert_eq!(admitted(gate), 4, "another column says nothing");
    gate.forget_admitted(1, 3);
    assert_eq!(admitted(gate), 4, "of the first one row is needed");
    gate.forget_admitted(1, 4);
    assert_eq!(admitted(gate), 2);
    assert_eq!(gate.take_admitted().iter().map(Delta::len).sum::<usize>(), 4);
    assert!(gate.take_admitted().is_empty());
}
