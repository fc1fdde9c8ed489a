//! Groups that expire.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use highwater_plan::{AggregateCall, AggregateFunction, Emit, Grouping};

use super::*;
use crate::operator::lives::tests::{counted, ttl};
use crate::stats::OperatorStats;

/// `SELECT k, sum(v) GROUP BY k` with 80 milliseconds to live.
struct Sums {
    logic: Grouped,
    stats: Arc<OperatorStats>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["k", "v"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn delta((k, v, diff): (i64, i64, i64)) -> Delta {
    let column = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let batch = RecordBatch::try_new(schema(), vec![column(k), column(v)]).unwrap();
    Delta::with_diffs(batch, vec![diff].into())
}

impl Sums {
    fn new(append_only: bool) -> Self {
        Self::of(AggregateFunction::Sum, append_only)
    }

    fn of(function: AggregateFunction, append_only: bool) -> Self {
        let sum = AggregateCall {
            function,
            argument: Some(1),
            further: Vec::new(),
            order: Vec::new(),
            constant: None,
            filter: None,
            distinct: false,
            data_type: DataType::Int64,
        };
        let aggregate = Aggregate { keys: vec![0], grouping: Grouping::Keys, calls: vec![sum], emit: Emit::Changes };
        let errors = Errors {
            worker: 0,
            operator: "aggregate".into(),
            relations: Vec::new(),
            policy: OnError::Skip,
            fail: Arc::new(|message| panic!("{message}")),
        };
        let (ttl, stats) = ttl(80);
        let logic = Grouped::new(&aggregate, &schema(), append_only, schema(), errors, true, None).that_expire(ttl);
        Sums { logic, stats }
    }

    /// What an epoch gives, every change in a batch of its own.
    fn at(&mut self, epoch: Time, changes: &[(i64, i64, i64)]) -> Vec<(i64, i64, i64)> {
        let mut output = Vec::new();
        self.logic.apply(epoch, &mut [changes.iter().copied().map(delta).collect()], None, &mut output);
        let mut given = Vec::new();
        for delta in &output {
            let column = |at: usize| delta.rows.column(at).as_primitive::<Int64Type>();
            given.extend((0..delta.len()).map(|row| (column(0).value(row), column(1).value(row), delta.diff(row))));
        }
        given.sort_unstable();
        given
    }
}

#[test]
fn a_group_begins_anew_and_its_result_stays() {
    let mut sums = Sums::new(true);
    assert_eq!(sums.at(1_000, &[(1, 10, 1), (2, 10, 1)]), [(1, 10, 1), (2, 10, 1)]);
    assert_eq!(sums.at(1_080, &[(1, 1, 1)]), [(1, 10, -1), (1, 11, 1)]);
    assert_eq!(sums.at(1_100, &[(1, 1, 1), (2, 1, 1)]), [(1, 11, -1), (1, 12, 1), (2, 1, 1)]);
    assert_eq!(counted(&sums.stats), (1, 0));
    assert_eq!(sums.at(1_300, &[]), []);
    assert_eq!((counted(&sums.stats), sums.logic.state().0), ((3, 0), 0));
}

#[test]
fn a_retraction_of_what_was_forgotten_is_ignored() {
    let mut sums = Sums::new(false);
    sums.at(1_000, &[(1, 10, 1), (1, 20, 1)]);
    assert_eq!(sums.at(1_200, &[(1, 10, -1)]), [], "nothing is there to take it from");
    assert_eq!((counted(&sums.stats), sums.logic.state().0), ((1, 1), 0));
    assert_eq!(sums.at(1_200, &[(1, 20, -1), (1, 25, 1)]), [(1, 25, 1)], "a change is what comes");
    assert_eq!(sums.at(1_210, &[(2, 7, -1), (2, 7, 1), (2, 7, 1)]), [(2, 7, 1)], "what comes and goes is one row");
    assert_eq!(counted(&sums.stats), (1, 2));
    assert_eq!(sums.at(1_220, &[(1, 25, -1), (1, 5, -1)]), [(1, 25, -1)], "more than there was");
    assert_eq!(counted(&sums.stats), (1, 3));
    assert_eq!(sums.at(1_230, &[(1, 3, 1)]), [(1, 3, 1)]);
}

#[test]
fn restored_groups_expire_as_if_nothing_had_been() {
    use crate::checkpoint::testing::{Life, Twins};
    use crate::operator::exchange::Route;
    // The state of a largest value that may go does not travel: then the group's rows are saved.
    let cases = [(AggregateFunction::Sum, false), (AggregateFunction::Sum, true), (AggregateFunction::Max, false)];
    for (function, append_only) in cases {
        let make = || -> Box<dyn EpochLogic> { Box::new(Sums::of(function, append_only).logic) };
        let mut twins = Twins::new(vec![Route::ByColumns(vec![0])], &make);
        // A group is saved once or with five rows, and for each of nine generations in which it may have been touched.
        let life = Life { retracts: vec![!append_only], keys: 12, values: 5, apart: 30, saved_max: 12 * (5 + 9) };
        let delta = |rows: &[(i64, i64, i64)]| Delta::concat(&rows.iter().copied().map(delta).collect::<Vec<_>>());
        assert!(life.live(&mut twins, &delta) > 300);
    }
}
