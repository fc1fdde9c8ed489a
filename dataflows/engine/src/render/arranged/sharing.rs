//! What is shared, as text.

use highwater_plan::SourceKind;
use highwater_plan::sharing::{SharedSide, needed, shared_sides};

use crate::render::plans::Plans;

/// One line per shared side.
fn check(plans: &Plans, expected: &[&str]) {
    let line = |side: &SharedSide| {
        let readers: Vec<String> = side.readers.iter().map(|reader| format!("{}.{}", reader.join, reader.side)).collect();
        format!("@{} by {:?} keeps {:?} for {}", side.node, side.key, side.columns, readers.join(" "))
    };
    assert_eq!(shared_sides(&plans.0).iter().map(line).collect::<Vec<_>>(), expected);
}

#[test]
fn a_table_of_two_joins_is_shared() {
    let mut plans = Plans::new();
    let (table, one, other) = (plans.table("t", 4), plans.stream("a", 2), plans.stream("b", 2));
    let left = plans.join([one, table], &[(0, 0)], &[1, 3]);
    let right = plans.join([table, other], &[(0, 1)], &[2, 4]);
    plans.view("v", left);
    check(&plans, &[]);
    plans.view("w", right);
    check(&plans, &["@0 by [0] keeps [0, 1, 2] for 3.1 4.0"]);
}

#[test]
fn the_key_is_the_same_columns_in_the_same_order() {
    let mut plans = Plans::new();
    let (table, stream) = (plans.table("t", 4), plans.stream("a", 2));
    for on in [[(0, 0), (1, 1)], [(1, 1), (0, 0)], [(0, 1), (1, 0)], [(1, 0), (0, 1)], [(0, 2), (1, 1)]] {
        let join = plans.join([stream, table], &on, &[0]);
        plans.view("v", join);
    }
    check(&plans, &["@0 by [0, 1] keeps [0, 1] for 2.1 5.1", "@0 by [1, 0] keeps [0, 1] for 3.1 4.1"]);
}

#[test]
fn streams_and_windows_are_not_shared() {
    let mut plans = Plans::new();
    let (stream, other) = (plans.stream("s", 2), plans.stream("a", 2));
    for column in [0, 1] {
        let join = plans.join([stream, other], &[(0, 0)], &[column]);
        plans.view("v", join);
    }
    check(&plans, &[]);
    let table = plans.table("t", 2);
    for column in [0, 1] {
        let join = plans.join([other, table], &[(0, 0)], &[column]);
        plans.windowed(join);
        plans.view("v", join);
    }
    check(&plans, &[]);
}

#[test]
fn a_table_without_a_key_is_shared_although_it_only_grows() {
    let mut plans = Plans::new();
    let table = plans.source("t", 2, SourceKind::Table, Vec::new());
    let stream = plans.stream("s", 2);
    for column in [0, 3] {
        let join = plans.join([stream, table], &[(0, 0)], &[column]);
        plans.view("v", join);
    }
    check(&plans, &["@0 by [0] keeps [0, 1] for 2.1 3.1"]);
}

#[test]
fn projections_are_seen_through_and_not_rendered() {
    let mut plans = Plans::new();
    let (table, stream) = (plans.table("t", 5), plans.stream("s", 2));
    let narrow = plans.project(table, &[3, 0]);
    let narrower = plans.project(narrow, &[1]);
    let other = plans.project(table, &[4, 2, 0]);
    let one = plans.join([stream, narrower], &[(0, 0)], &[2]);
    let two = plans.join([other, stream], &[(2, 0)], &[1]);
    plans.view("v", one);
    plans.view("w", two);
    check(&plans, &["@0 by [0] keeps [0, 2] for 5.1 6.0"]);
    let shared = shared_sides(&plans.0);
    assert_eq!(shared[0].readers[0].columns, [0]);
    assert_eq!(shared[0].readers[1].columns, [4, 2, 0]);
    assert_eq!(needed(&plans.0, &shared).into_iter().collect::<Vec<_>>(), [table, stream, one, two]);
    plans.view("x", narrow);
    assert!(needed(&plans.0, &shared_sides(&plans.0)).contains(&narrow));
}

#[test]
fn a_join_of_two_tables_reads_the_one_that_more_joins_read() {
    let mut plans = Plans::new();
    let (t, u, stream) = (plans.table("t", 2), plans.table("u", 2), plans.stream("s", 2));
    for inputs in [[t, u], [stream, u], [u, stream], [t, stream]] {
        let join = plans.join(inputs, &[(0, 0)], &[1]);
        plans.view("v", join);
    }
    // What is left of `t` is one join, which keeps it itself.
    check(&plans, &["@1 by [0] keeps [0, 1] for 3.1 4.1 5.0"]);
}

#[test]
fn a_join_of_two_tables_in_two_ways_reads_the_first() {
    let mut plans = Plans::new();
    let (t, u) = (plans.table("t", 2), plans.table("u", 2));
    for column in [1, 3] {
        let join = plans.join([t, u], &[(0, 0)], &[column]);
        plans.view("v", join);
    }
    check(&plans, &["@0 by [0] keeps [0, 1] for 2.0 3.0"]);
}

#[test]
fn a_join_of_a_table_with_itself_is_one_reader() {
    let mut plans = Plans::new();
    let table = plans.table("t", 2);
    let own = plans.join([table, table], &[(0, 0)], &[1, 3]);
    plans.view("v", own);
    check(&plans, &[]);
    let stream = plans.stream("s", 2);
    let other = plans.join([stream, table], &[(0, 0)], &[1]);
    plans.view("w", other);
    check(&plans, &["@0 by [0] keeps [0, 1] for 1.0 3.1"]);
}
