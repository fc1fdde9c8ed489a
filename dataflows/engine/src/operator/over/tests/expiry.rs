//! Partitions that expire.

use super::*;
use crate::operator::lives::tests::{counted, ttl};

#[test]
fn a_partition_begins_anew_and_ignores_what_it_forgot() {
    let (ttl, stats) = ttl(80);
    let all = Frame { units: FrameUnits::Rows, start: FrameBound::Unbounded, end: FrameBound::Offset(0) };
    let mut over = operator(&[(sum(), all)]).that_expire(ttl);
    let mut at = |epoch: Time, rows: &[([i64; 3], Diff)]| {
        let mut output = Vec::new();
        over.apply(epoch, &mut [vec![delta(rows)]], None, &mut output);
        let mut all: Vec<(Vec<i64>, Diff)> = Vec::new();
        for delta in &output {
            let value = |column: &ArrayRef, row: usize| column.as_primitive::<Int64Type>().value(row);
            let values = |row: usize| delta.rows.columns().iter().map(|column| value(column, row)).collect();
            all.extend((0..delta.len()).map(|row| (values(row), delta.diff(row))));
        }
        (all, over.state().0)
    };
    assert_eq!(at(1_000, &[([1, 1, 10], 1)]), (vec![(vec![1, 1, 10, 10], 1)], 1));
    assert_eq!(at(1_050, &[([1, 2, 20], 1)]), (vec![(vec![1, 2, 20, 30], 1)], 2));
    assert_eq!(at(1_300, &[([1, 1, 10], -1)]), (vec![], 0));
    assert_eq!(at(1_300, &[([1, 3, 5], 1)]), (vec![(vec![1, 3, 5, 5], 1)], 1));
    assert_eq!(at(1_310, &[([1, 2, 20], -1)]), (vec![], 1));
    assert_eq!(at(1_320, &[([1, 3, 5], -1)]), (vec![(vec![1, 3, 5, 5], -1)], 0));
    assert_eq!(counted(&stats), (2, 2));
}

#[test]
fn restored_partitions_expire_as_if_nothing_had_been() {
    use crate::checkpoint::testing::{Life, Twins};
    use crate::operator::exchange::Route;
    let all = Frame { units: FrameUnits::Rows, start: FrameBound::Unbounded, end: FrameBound::Offset(0) };
    let make = || -> Box<dyn EpochLogic> { Box::new(operator(&[(sum(), all)]).that_expire(ttl(80).0)) };
    let mut twins = Twins::new(vec![Route::ByColumns(vec![0])], &make);
    let life = Life { retracts: vec![true], keys: 8, values: 20, apart: 40, saved_max: 8 * 20 + 8 * 9 };
    let rows = |rows: &[(i64, i64, i64)]| {
        delta(&rows.iter().map(|(key, value, diff)| ([*key, *value, value % 7], *diff)).collect::<Vec<_>>())
    };
    assert!(life.live(&mut twins, &rows) > 300);
}
