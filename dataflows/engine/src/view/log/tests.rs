//! Logs: order, bounds, retractions.

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;

fn rows(values: &[i64]) -> RecordBatch {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("why", DataType::Utf8, true)];
    let why = StringArray::from_iter_values(values.iter().map(|value| format!("because {value}")));
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(values.to_vec())), Arc::new(why)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit")
}

fn values(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn all(logs: &[Log], epoch: Time) -> Vec<i64> {
    values(&read(logs, epoch, &[], None, &AtomicU64::new(0)))
}

#[test]
fn rows_come_in_the_order_of_epochs_workers_and_arrival() {
    let logs = [Log::default(), Log::default()];
    logs[1].append(5, rows(&[1, 2]), None);
    logs[0].append(7, rows(&[3]), None);
    logs[0].append(5, rows(&[4]), None);
    logs[0].append(7, rows(&[3]), None);
    assert!(all(&logs, 4).is_empty());
    assert_eq!(all(&logs, 6), [4, 1, 2]);
    assert_eq!(all(&logs, 7), [4, 1, 2, 3, 3]);
    let limited = read(&logs, 7, &[], Some(2), &AtomicU64::new(0));
    assert_eq!(values(&limited), [4, 1]);
    let three = Equals { column: 0, value: Arc::new(Int64Array::from(vec![3])) };
    assert_eq!(values(&read(&logs, 7, &[three], None, &AtomicU64::new(0))), [3, 3]);
}

#[test]
fn a_retracted_row_goes_where_it_first_came() {
    let logs = [Log::default(), Log::default()];
    logs[0].append(1, rows(&[1, 2, 1]), None);
    logs[1].append(2, rows(&[3, 1]), Some(Int64Array::from(vec![2, -1])));
    logs[0].append(3, rows(&[2]), Some(Int64Array::from(vec![-1])));
    assert_eq!(all(&logs, 1), [1, 2, 1]);
    assert_eq!(all(&logs, 2), [1, 2, 3, 3]);
    assert_eq!(all(&logs, 3), [1, 3, 3]);
    let changed = changes(&logs, 1, 3).expect("nothing was dropped");
    let part = |changed: &Changed| (changed.epoch, values(std::slice::from_ref(&changed.rows)), changed.diffs.values().to_vec());
    assert_eq!(changed.iter().map(part).collect::<Vec<_>>(), [(2, vec![3, 1], vec![2, -1]), (3, vec![2], vec![-1])]);
    assert_eq!(changes(&logs, 3, 9).expect("nothing was dropped").len(), 0);
}

#[test]
fn the_oldest_rows_make_room_and_are_counted() {
    let log = Log::with_limits(1_000, usize::MAX);
    for value in 0..5_000 {
        log.append(value as Time, rows(&[value]), None);
    }
    assert!(log.rows() <= 1_000 && log.rows() >= 900, "whole blocks go: {}", log.rows());
    assert_eq!(log.rows() as u64 + log.dropped(), 5_000);
    let logs = [log];
    let kept = all(&logs, 5_000);
    assert_eq!(kept, (logs[0].dropped() as i64..5_000).collect::<Vec<_>>());
    let since = logs[0].dropped() - 1;
    assert_eq!(changes(&logs, since - 1, 5_000).map(|_| ()), Err(Compacted { since }));
    assert_eq!(changes(&logs, since, 5_000).map(|changed| changed.len()), Ok(kept.len()));
}

#[test]
fn bytes_are_bounded_too_and_small_appends_become_blocks() {
    let log = Log::with_limits(usize::MAX, 100_000);
    for value in 0..20_000 {
        log.append(value as Time / 10, rows(&[value]), None);
        assert!(log.bytes() <= 100_000);
    }
    assert!(log.dropped() > 0);
    assert!(log.load().0.len() < 40, "{} blocks", log.load().0.len());
    let whole = Log::with_limits(usize::MAX, usize::MAX);
    whole.append(1, rows(&(0..20_000).collect::<Vec<_>>()), None);
    assert!(whole.load().0.iter().all(|block| block.rows.num_rows() <= BLOCK_ROWS_MAX));
    assert_eq!(all(&[whole], 1), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn a_retraction_of_a_dropped_row_is_no_anomaly() {
    let log = Log::with_limits(2, usize::MAX);
    log.append(1, rows(&[1, 2]), None);
    log.append(2, rows(&[3]), None);
    log.append(3, rows(&[1]), Some(Int64Array::from(vec![-1])));
    let anomalies = AtomicU64::new(0);
    let read = read(std::slice::from_ref(&log), 3, &[], None, &anomalies);
    assert!(log.dropped() > 0);
    assert!(!values(&read).contains(&1));
    assert_eq!(anomalies.into_inner(), 0);
}
