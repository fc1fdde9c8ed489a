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

fn resumed(parts: &[Vec<Delta>], since: Time, limit: usize) -> Log {
    use crate::checkpoint::{Form, Spread, TableState, fold};
    let form = Form::Entries { keys: LOG_KEYS };
    let table = |changes: &Vec<Delta>| TableState {
        table: 0,
        form,
        spread: Spread::Anywhere,
        piece: crate::Piece::WHOLE,
        changes: changes.clone(),
        freed: None,
    };
    let tables: Vec<TableState> = parts.iter().map(table).collect();
    let log = Log::with_limits(limit, 1 << 20);
    log.resume(0, since, &fold(&tables, true), &rows(&[]).schema(), true);
    log
}

#[test]
fn what_was_saved_is_there_again_under_its_epochs() {
    let schema = rows(&[]).schema();
    let (one, other) = (Log::default(), Log::default());
    one.resume(0, 0, &[], &schema, true);
    other.resume(1, 0, &[], &schema, true);
    one.append(5, rows(&[1, 2]), None);
    one.append(9, rows(&[4]), None);
    one.append(6, rows(&[3]), Some(Int64Array::from(vec![2])));
    other.append(6, rows(&[7]), None);
    let first = [one.save(6, &schema), other.save(6, &schema)].concat();
    other.append(8, rows(&[1]), Some(Int64Array::from(vec![-1])));
    assert_eq!(one.save(6, &schema).len(), 0, "each row is given once");
    let second = [one.save(9, &schema), other.save(9, &schema)].concat();
    let at_six = resumed(std::slice::from_ref(&first), 6, 100);
    assert_eq!(all(&[at_six], Time::MAX), [1, 2, 3, 3, 7], "what came later is not in it");
    let log = [resumed(&[first, second], 9, 100)];
    assert_eq!((all(&log, 5), all(&log, 9)), (vec![1, 2], vec![2, 3, 3, 7, 4]), "a retraction finds its row");
    log[0].append(11, rows(&[2]), Some(Int64Array::from(vec![-1])));
    assert_eq!(all(&log, 11), [3, 3, 7, 4]);
    assert_eq!(changes(&log, 8, 11).map(drop), Err(Compacted { since: 9 }), "what was there is no change");
    assert_eq!(changes(&log, 9, 11).map(|changes| changes.len()), Ok(1));
}

#[test]
fn rows_that_were_dropped_are_in_no_checkpoint() {
    let schema = rows(&[]).schema();
    let log = Log::with_limits(32, 1 << 20);
    log.resume(3, 0, &[], &schema, true);
    let mut parts = Vec::new();
    for epoch in 1..=100 {
        log.append(epoch, rows(&[epoch as i64, -(epoch as i64)]), None);
        if epoch % 7 == 0 {
            parts.push(log.save(epoch, &schema));
        }
    }
    parts.push(log.save(100, &schema));
    let kept = all(std::slice::from_ref(&log), 100);
    let again = [resumed(&parts, 100, 32)];
    assert_eq!((all(&again, 100), kept.len() <= 32), (kept, true));
    // The restored rows are dropped like any, and so for those who are restored from them.
    for epoch in 101..=110 {
        again[0].append(epoch, rows(&[epoch as i64, -(epoch as i64)]), None);
    }
    parts.push(again[0].save(110, &schema));
    assert_eq!(all(&[resumed(&parts, 110, 32)], 110), all(&again, 110));
}
