//! Windows that are saved and restored: what is saved follows what is kept, whoever refuses late rows.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use highwater_plan::{AggregateCall, AggregateFunction, TimeSource};

use super::*;
use crate::checkpoint::testing::Twins;
use crate::operator::exchange::Route;

fn schema(types: &[DataType]) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| Field::new(format!("c{index}"), data_type.clone(), true);
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// The largest value by key in windows: of values that may go, and so without states that travel, or not.
fn largest(kind: WindowKind, emit: Emit, append_only: bool) -> Windowed {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let aggregate = Aggregate {
        keys: vec![0],
        calls: vec![AggregateCall::of(AggregateFunction::Max, Some(2), DataType::Int64)],
        grouping: Grouping::Assign(WindowAssign { kind, time: 1 }),
        emit,
    };
    Windowed::new(WindowedSpec {
        aggregate,
        input: schema(&[DataType::Int64, time.clone(), DataType::Int64]),
        append_only,
        schema: schema(&[DataType::Int64, time.clone(), time, DataType::Int64]),
        errors: Errors {
            worker: 0,
            operator: "windows".into(),
            relations: Vec::new(),
            policy: OnError::Skip,
            fail: Arc::new(|message| panic!("{message}")),
        },
        watermark: Watermark::of(vec![TimeSource::of(0)]),
        lateness: 0,
        gate: None,
        partials: None,
    })
}

#[test]
fn what_is_saved_of_windows_stays_as_much_as_is_open() {
    let kinds = [WindowKind::Tumble { size: 10, offset: 0 }, WindowKind::Hop { slide: 5, size: 20, offset: 0 }];
    for (kind, emit, append_only) in kinds.iter().flat_map(|kind| {
        [(Emit::Changes, false), (Emit::Final, false), (Emit::Final, true)].map(|(emit, grows)| (*kind, emit, grows))
    }) {
        let make = || -> Box<dyn EpochLogic> { Box::new(largest(kind, emit, append_only)) };
        let mut twins = Twins::new(vec![Route::ByColumns(vec![0])], &make);
        let mut random = crate::arrangement::random::Random::new(9);
        let (mut now, mut changes, mut restored) = (100, 0, 0);
        for epoch in 1..600 {
            // Late rows were refused before the exchange: none is before the watermark of the epoch before.
            let rows: Vec<[i64; 3]> = (0..random.below(4))
                .map(|_| [random.below(2) as i64, now + random.below(8) as i64, random.below(5) as i64])
                .collect();
            now += random.below(4) as i64;
            let column = |at: usize| rows.iter().map(move |row| row[at]);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(column(0))),
                Arc::new(TimestampMicrosecondArray::from_iter_values(column(1))),
                Arc::new(Int64Array::from_iter_values(column(2))),
            ];
            let time = DataType::Timestamp(TimeUnit::Microsecond, None);
            let batch = RecordBatch::try_new(schema(&[DataType::Int64, time, DataType::Int64]), columns).unwrap();
            let inputs = if rows.is_empty() { Vec::new() } else { vec![Delta::insert(batch)] };
            changes += twins.step(epoch, &[inputs], Some(&[now])).len();
            if random.one_in(4) {
                twins.save(epoch);
                // Rows of the last 20 microseconds, of which less than two come in each.
                assert!(twins.saved_rows() < 80, "{kind:?} {emit:?}: {} rows are saved", twins.saved_rows());
                if random.one_in(2) {
                    twins.restore();
                    restored += 1;
                }
            }
        }
        assert!(changes > 100 && restored > 20, "{kind:?}: {changes} changes, restored {restored} times");
    }
}
