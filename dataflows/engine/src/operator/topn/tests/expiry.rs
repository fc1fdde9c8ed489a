//! Partitions that expire.

use super::*;
use crate::operator::lives::tests::{counted, ttl};

fn at(operator: &mut TopN, epoch: Time, rows: &[([i64; 3], Diff)]) -> Vec<(Vec<i64>, Diff)> {
    let mut output = Vec::new();
    operator.apply(epoch, &mut [vec![delta(rows)]], None, &mut output);
    let mut all = Vec::new();
    for delta in &output {
        for row in 0..delta.len() {
            let value = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(row);
            all.push((delta.rows.columns().iter().map(value).collect(), delta.diff(row)));
        }
    }
    all.sort();
    all
}

#[test]
fn a_partition_begins_anew_and_results_stay() {
    for growing in [false, true] {
        let (ttl, stats) = ttl(80);
        let mut top = operator(&spec(Ranking::RowNumber, 1, 1, false), growing).that_expire(ttl);
        assert_eq!(at(&mut top, 1_000, &[([1, 30, 0], 1), ([2, 30, 0], 1)]).len(), 2);
        assert_eq!(at(&mut top, 1_080, &[([1, 20, 0], 1)]), [], "it is touched, and its best stays");
        assert_eq!(at(&mut top, 1_100, &[([2, 10, 0], 1)]), [(vec![2, 10, 0], 1)], "the other one had expired");
        assert_eq!(counted(&stats).0, 1);
        assert_eq!(at(&mut top, 1_300, &[]), []);
        assert_eq!(top.state().0, 0, "without rows too");
    }
}

#[test]
fn rows_that_were_forgotten_are_not_taken_back() {
    let (ttl, stats) = ttl(80);
    let mut top = operator(&spec(Ranking::RowNumber, 1, 2, true), false).that_expire(ttl);
    at(&mut top, 1_000, &[([1, 30, 0], 1), ([1, 20, 0], 1)]);
    assert_eq!(at(&mut top, 1_200, &[([1, 30, 0], -1)]), []);
    assert_eq!((counted(&stats), top.state().0), ((2, 1), 0));
    assert_eq!(at(&mut top, 1_200, &[([1, 10, 0], 1)]), [(vec![1, 10, 0, 1], 1)]);
    assert_eq!(at(&mut top, 1_210, &[([1, 20, 0], -1), ([1, 5, 0], 1)]), [(vec![1, 5, 0, 2], 1)]);
    assert_eq!(counted(&stats), (2, 2));
    // A row of the same epoch is taken back whichever comes first.
    assert_eq!(at(&mut top, 1_220, &[([1, 40, 0], -1), ([1, 40, 0], 1)]), []);
    assert_eq!(counted(&stats), (2, 2));
}
