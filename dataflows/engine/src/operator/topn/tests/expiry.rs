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

#[test]
fn restored_partitions_go_on_and_what_cannot_count_is_not_saved() {
    use crate::checkpoint::testing::{Life, Twins};
    use crate::operator::exchange::Route;
    for ranking in [Ranking::RowNumber, Ranking::Rank, Ranking::DenseRank] {
        for (growing, expires) in [(true, false), (true, true), (false, true)] {
            let make = || -> Box<dyn EpochLogic> {
                let top = operator(&spec(ranking, 1, 2, true), growing);
                Box::new(if expires { top.that_expire(ttl(80).0) } else { top })
            };
            let mut twins = Twins::new(vec![Route::ByColumns(vec![0])], &make);
            // Of ranks there are as many rows as have equal order values: here six distinct ones at most.
            let kept = if growing { 6 * 3 } else { 30 * 3 };
            let life = Life { retracts: vec![!growing], keys: 6, values: 30, apart: 40, saved_max: 6 * kept + 6 * 9 };
            let rows = |rows: &[(i64, i64, i64)]| {
                delta(&rows.iter().map(|(key, value, diff)| ([*key, value / 3, value % 3], *diff)).collect::<Vec<_>>())
            };
            assert!(life.live(&mut twins, &rows) > 30, "{ranking:?}");
        }
    }
}
