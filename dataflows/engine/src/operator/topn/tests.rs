//! The first rows of partitions, with retractions, against sorting everything anew.

mod expiry;

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema};
use highwater_plan::{OrderColumn, Ranking};

use super::*;
use crate::Diff;

/// Partition, order column, another; largest order first.
fn spec(ranking: Ranking, first: u64, last: u64, numbered: bool) -> plan::TopN {
    plan::TopN {
        partition: vec![0],
        order: vec![OrderColumn { column: 1, descending: true, nulls_first: false }],
        ranking,
        first,
        last,
        numbered,
        window: None,
        emit: Emit::Changes,
    }
}

fn schema(columns: usize) -> SchemaRef {
    let field = |index| Field::new(format!("c{index}"), DataType::Int64, true);
    Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
}

fn operator(spec: &plan::TopN, growing: bool) -> TopN {
    TopN::new(spec, &schema(3), growing, schema(3 + usize::from(spec.numbered)), None)
}

fn delta(rows: &[([i64; 3], Diff)]) -> Delta {
    let columns = (0..3).map(|column| -> ArrayRef {
        Arc::new(rows.iter().map(|(row, _)| Some(row[column]).filter(|value| *value != -1)).collect::<Int64Array>())
    });
    let batch = RecordBatch::try_new(schema(3), columns.collect()).unwrap();
    Delta::with_diffs(batch, rows.iter().map(|(_, diff)| *diff).collect::<Vec<_>>().into())
}

/// What an epoch gives, sorted; -1 is NULL.
fn given(operator: &mut TopN, rows: &[([i64; 3], Diff)]) -> Vec<(Vec<i64>, Diff)> {
    let mut output = Vec::new();
    operator.apply(1, &mut [vec![delta(rows)]], None, &mut output);
    let mut all = Vec::new();
    for delta in &output {
        for row in 0..delta.len() {
            let value = |column: &ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                if column.is_null(row) { -1 } else { column.value(row) }
            };
            all.push((delta.rows.columns().iter().map(value).collect(), delta.diff(row)));
        }
    }
    all.sort();
    all
}

#[test]
fn the_best_rows_move_up_when_one_goes() {
    let mut top = operator(&spec(Ranking::RowNumber, 1, 2, false), false);
    let rows = [([1, 10, 0], 1), ([1, 30, 0], 1), ([1, 20, 0], 1), ([2, 5, 0], 1)];
    assert_eq!(given(&mut top, &rows), [(vec![1, 20, 0], 1), (vec![1, 30, 0], 1), (vec![2, 5, 0], 1)]);
    assert_eq!(given(&mut top, &[([1, 15, 0], 1)]), []);
    assert_eq!(given(&mut top, &[([1, 30, 0], -1)]), [(vec![1, 15, 0], 1), (vec![1, 30, 0], -1)]);
    assert_eq!(given(&mut top, &[([2, 5, 0], -1)]), [(vec![2, 5, 0], -1)]);
    assert_eq!(top.state().0, 3);
}

#[test]
fn numbers_are_corrected_behind_a_change() {
    let mut top = operator(&spec(Ranking::RowNumber, 1, 3, true), false);
    given(&mut top, &[([1, 10, 0], 1), ([1, 30, 0], 1)]);
    assert_eq!(given(&mut top, &[([1, 20, 0], 1)]), [(vec![1, 10, 0, 2], -1), (vec![1, 10, 0, 3], 1), (vec![1, 20, 0, 2], 1)]);
}

#[test]
fn ties_are_ended_by_the_whole_row() {
    for growing in [false, true] {
        let mut top = operator(&spec(Ranking::RowNumber, 1, 1, false), growing);
        assert_eq!(given(&mut top, &[([1, 7, 5], 1)]), [(vec![1, 7, 5], 1)]);
        assert_eq!(given(&mut top, &[([1, 7, 6], 1)]), []);
        assert_eq!(given(&mut top, &[([1, 7, 4], 1)]), [(vec![1, 7, 4], 1), (vec![1, 7, 5], -1)]);
    }
}

#[test]
fn ranks_keep_peers_together() {
    let rows = [([1, 9, 0], 1), ([1, 9, 1], 1), ([1, 8, 0], 1), ([1, 8, 1], 1), ([1, 7, 0], 1)];
    for growing in [false, true] {
        let mut top = operator(&spec(Ranking::Rank, 1, 3, true), growing);
        let numbers: Vec<i64> = given(&mut top, &rows).iter().map(|(row, _)| row[3]).collect();
        assert_eq!(numbers, [3, 3, 1, 1]);
        let mut top = operator(&spec(Ranking::DenseRank, 1, 2, true), growing);
        let numbers: Vec<i64> = given(&mut top, &rows).iter().map(|(row, _)| row[3]).collect();
        assert_eq!(numbers, [2, 2, 1, 1]);
        assert_eq!(given(&mut top, &[([1, 6, 0], 1)]), []);
        let expected: Vec<(Vec<i64>, Diff)> = vec![
            (vec![1, 8, 0, 2], -1),
            (vec![1, 8, 1, 2], -1),
            (vec![1, 9, 0, 1], -1),
            (vec![1, 9, 0, 2], 1),
            (vec![1, 9, 1, 1], -1),
            (vec![1, 9, 1, 2], 1),
            (vec![1, 10, 0, 1], 1),
        ];
        assert_eq!(given(&mut top, &[([1, 10, 0], 1)]), expected);
    }
}

#[test]
fn a_growing_input_keeps_only_what_counts() {
    let mut top = operator(&spec(Ranking::RowNumber, 1, 2, false), true);
    let rows: Vec<([i64; 3], Diff)> = (0..100).map(|value| ([value % 3, value, 0], 1)).collect();
    assert_eq!(given(&mut top, &rows).len(), 6);
    assert_eq!(top.state().0, 6);
}

#[test]
fn copies_count_each() {
    let mut top = operator(&spec(Ranking::RowNumber, 2, 3, true), false);
    assert_eq!(given(&mut top, &[([1, 5, 0], 3)]), [(vec![1, 5, 0, 2], 1), (vec![1, 5, 0, 3], 1)]);
    assert_eq!(given(&mut top, &[([1, 5, 0], -2)]), [(vec![1, 5, 0, 2], -1), (vec![1, 5, 0, 3], -1)]);
}

#[test]
fn copies_share_their_rank() {
    for growing in [true, false] {
        for (ranking, expected) in [(Ranking::RowNumber, 1), (Ranking::Rank, 3), (Ranking::DenseRank, 3)] {
            let mut top = operator(&spec(ranking, 1, 1, false), growing);
            let copies: Diff = given(&mut top, &[([1, 10, 0], 3)]).iter().map(|(_, diff)| diff).sum();
            assert_eq!(copies, expected, "{ranking:?}, growing: {growing}");
        }
    }
}

#[test]
fn a_row_retracted_before_it_comes_leaves_no_trace() {
    let mut top = operator(&spec(Ranking::RowNumber, 1, 2, false), false);
    assert_eq!(given(&mut top, &[([1, 5, 0], -1)]), []);
    assert_eq!(given(&mut top, &[([1, 5, 0], 2)]), [(vec![1, 5, 0], 1)]);
    assert_eq!(given(&mut top, &[([1, 5, 0], -1)]), [(vec![1, 5, 0], -1)]);
    assert_eq!(top.state().0, 0);
}

/// Against sorting all rows anew at every epoch.
#[test]
fn changes_add_up_to_the_sorted_rows() {
    let mut seed = 11u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for (ranking, growing) in
        [Ranking::RowNumber, Ranking::Rank, Ranking::DenseRank].into_iter().flat_map(|r| [(r, false), (r, true)])
    {
        let spec = spec(ranking, 1 + random(2), 2 + random(4), true);
        let mut top = operator(&spec, growing);
        let mut rows: Vec<[i64; 3]> = Vec::new();
        let mut content: std::collections::BTreeMap<Vec<i64>, Diff> = std::collections::BTreeMap::new();
        for _ in 0..60 {
            let mut changes = Vec::new();
            for _ in 0..random(8) {
                if !growing && !rows.is_empty() && random(2) == 0 {
                    changes.push((rows.swap_remove(random(rows.len() as u64) as usize), -1));
                } else {
                    let row = [random(3) as i64, random(6) as i64 - 1, random(3) as i64];
                    rows.push(row);
                    changes.push((row, 1));
                }
            }
            for (row, diff) in given(&mut top, &changes) {
                *content.entry(row).or_default() += diff;
            }
            content.retain(|_, diff| *diff != 0);
            let mut expected: std::collections::BTreeMap<Vec<i64>, Diff> = std::collections::BTreeMap::new();
            for partition in 0..3 {
                let mut sorted: Vec<[i64; 3]> = rows.iter().copied().filter(|row| row[0] == partition).collect();
                // Largest first, NULL last; then the rest.
                sorted.sort_by_key(|row| (-row[1], row[2]));
                let (mut dense, mut rank) = (0, 0);
                for (position, row) in sorted.iter().enumerate() {
                    if position == 0 || sorted[position - 1][1] != row[1] {
                        (dense, rank) = (dense + 1, position as u64 + 1);
                    }
                    let number = match ranking {
                        Ranking::RowNumber => position as u64 + 1,
                        Ranking::Rank => rank,
                        Ranking::DenseRank => dense,
                    };
                    if (spec.first..=spec.last).contains(&number) {
                        *expected.entry([&row[..], &[number as i64]].concat()).or_default() += 1;
                    }
                }
            }
            assert_eq!(content, expected, "{ranking:?}, growing: {growing}");
        }
    }
}
