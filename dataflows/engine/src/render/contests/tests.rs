//! Which joins are thinned, and where.

use super::*;
use crate::render::plans::Plans;
use highwater_plan::sharing::needed;

/// Where rows are dropped, with the keys and the value compared.
fn found(plans: &Plans) -> Vec<(NodeId, usize, Vec<usize>, usize)> {
    let found = contests(&plans.0, &needed(&plans.0, &[]));
    found.into_iter().map(|placed| (placed.reader, placed.place, placed.contest.keys, placed.contest.value)).collect()
}

#[test]
fn a_stream_joined_with_its_own_maximum_is_thinned_below_its_projections() {
    let mut plans = Plans::new();
    let stream = plans.stream("s", 3);
    let own = plans.project(stream, &[2, 1, 0]);
    let max = plans.max(stream, &[0], 1);
    let join = plans.join([own, max], &[(2, 0), (1, 1)], &[0, 1, 2]);
    plans.view("v", join);
    // The stream itself has another reader, so the projection's input is the lowest place.
    assert_eq!(found(&plans), [(own, 0, vec![0], 1)]);
}

#[test]
fn the_aggregate_may_stand_on_the_left_and_behind_a_projection() {
    let mut plans = Plans::new();
    let stream = plans.stream("s", 2);
    let max = plans.max(stream, &[0], 1);
    let turned = plans.project(max, &[1, 0]);
    let join = plans.join([turned, stream], &[(0, 1), (1, 0)], &[2, 3]);
    plans.view("v", join);
    assert_eq!(found(&plans), [(join, 1, vec![0], 1)]);
}

#[test]
fn other_rows_other_columns_and_updating_rows_are_left_alone() {
    let mut plans = Plans::new();
    let stream = plans.stream("s", 2);
    let filtered = plans.filter(stream, 0);
    let of_some = plans.max(filtered, &[0], 1);
    let one = plans.join([stream, of_some], &[(0, 0), (1, 1)], &[0]);
    let all = plans.max(stream, &[0], 1);
    let crossed = plans.join([stream, all], &[(1, 0), (0, 1)], &[0]);
    let without_key = plans.join([stream, all], &[(1, 1)], &[0]);
    let table = plans.table("t", 2);
    let of_table = plans.max(table, &[0], 1);
    let updating = plans.join([table, of_table], &[(0, 0), (1, 1)], &[0]);
    for (index, join) in [one, crossed, without_key, updating].into_iter().enumerate() {
        plans.view(&format!("v{index}"), join);
    }
    assert_eq!(found(&plans), []);
}

#[test]
fn the_same_filter_on_both_sides_is_the_same_rows() {
    let mut plans = Plans::new();
    let stream = plans.stream("s", 2);
    let (one, other) = (plans.filter(stream, 0), plans.filter(stream, 0));
    let max = plans.max(other, &[0], 1);
    let join = plans.join([one, max], &[(0, 0), (1, 1)], &[0]);
    plans.view("v", join);
    assert_eq!(found(&plans), [(join, 0, vec![0], 1)]);
}
