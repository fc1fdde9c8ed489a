//! Joins, groups and distinct rows inside a recursion: differential's operators over bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::compute::kernels::boolean::is_not_null;
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};
use differential_dataflow::AsCollection;
use differential_dataflow::trace::implementations::{KeyBuilder, KeySpine, ValBuilder, ValSpine};
use highwater_plan::{Aggregate, Join, JoinKind};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::rows::{Codec, mapped};
use super::{Held, KeyedRows, Row, Rows, Step};
use crate::operator::groups::Groups;
use crate::operator::map::Mapper;
use crate::stats::OperatorStats;
use crate::{Delta, Diff};

/// Rows under the bytes of their key columns. Without `nulls`, rows with a NULL in their key are left out.
fn keyed<'scope>(input: Rows<'scope>, schema: &SchemaRef, key: Vec<usize>, nulls: bool) -> KeyedRows<'scope> {
    let codec = Codec::new(schema);
    let fields = key.iter().map(|column| SortField::new(schema.field(*column).data_type().clone()));
    let converter = RowConverter::new(fields.collect()).expect("planners allow only columns that can be encoded");
    let stream =
        input.inner.unary::<CapacityContainerBuilder<Vec<((Row, Row), Step, Diff)>>, _, _, _>(Pipeline, "key", move |_, _| {
            move |input, output| {
                input.for_each(|capability, data| {
                    let columns = codec.columns(data.iter().map(|(row, _, _)| &row[..]));
                    let columns: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(&columns[*column])).collect();
                    let complete: Vec<_> = columns
                        .iter()
                        .filter(|column| !nulls && column.null_count() > 0)
                        .map(|column| is_not_null(column.as_ref()).expect("every column has a validity"))
                        .collect();
                    let keys = (!columns.is_empty()).then(|| converter.convert_columns(&columns).expect("the key's columns"));
                    let mut session = output.session(&capability);
                    for (index, (row, step, diff)) in data.drain(..).enumerate() {
                        if complete.iter().all(|column| column.value(index)) {
                            let key = keys.as_ref().map_or_else(Vec::new, |keys| keys.row(index).data().to_vec());
                            session.give(((key, row), step, diff));
                        }
                    }
                });
            }
        });
    stream.as_collection()
}

/// Each row once, if there is one.
pub(crate) fn distinct<'scope>(input: Rows<'scope>, held: &Held) -> Rows<'scope> {
    let arranged = input.arrange_by_self_named("distinct");
    held.count(&arranged);
    let thresholded = arranged.reduce_abelian::<_, KeyBuilder<Row, Step, Diff>, KeySpine<Row, Step, Diff>, _, _>(
        "distinct",
        // A row that is there less than not at all is not there.
        |_, input, output| {
            if input[0].1 > 0 {
                output.push(((), 1));
            }
        },
        |vec, key, updates| {
            vec.clear();
            vec.extend(updates.drain(..).map(|(value, time, diff)| ((key.clone(), value), time, diff)));
        },
    );
    held.count(&thresholded);
    thresholded.as_collection(|row, ()| row.clone())
}

/// A join of the kinds that a recursion may have, without conditions beside its keys unless it is inner.
pub(crate) fn join<'scope>(
    [left, right]: [Rows<'scope>; 2],
    join: &Join,
    schemas: [&SchemaRef; 2],
    mapper: Mapper,
    output: Codec,
    stats: Arc<OperatorStats>,
    held: &Held,
) -> Rows<'scope> {
    let (left_on, right_on) = join.on.iter().copied().unzip();
    let keyed_left = keyed(left.clone(), schemas[0], left_on, join.nulls_equal);
    let keyed_right = keyed(right, schemas[1], right_on, join.nulls_equal);
    let (left_codec, right_codec) = (Codec::new(schemas[0]), Codec::new(schemas[1]));
    let arranged_left = keyed_left.arrange_by_key_named("left");
    held.count(&arranged_left);
    if join.kind == JoinKind::Inner {
        let arranged_right = keyed_right.arrange_by_key_named("right");
        held.count(&arranged_right);
        let pairs = arranged_left.join_core(arranged_right, |_, left: &Row, right: &Row| Some((left.clone(), right.clone())));
        let both =
            arrow::datatypes::Schema::new(schemas.iter().flat_map(|schema| schema.fields().iter().cloned()).collect::<Vec<_>>());
        let both = Codec::new(&both);
        let decode = move |pairs: &[((Row, Row), Step, Diff)]| {
            let mut columns = left_codec.columns(pairs.iter().map(|((left, _), _, _)| &left[..]));
            columns.extend(right_codec.columns(pairs.iter().map(|((_, right), _, _)| &right[..])));
            both.batch(columns, pairs.len())
        };
        return mapped(pairs, decode, mapper, output, stats);
    }
    let keys = distinct(keyed_right.map(|(key, _)| key), held).map(|key| (key, Row::new())).arrange_by_key_named("keys");
    held.count(&keys);
    let matched = arranged_left.join_core(keys, |_, left: &Row, _: &Row| Some(left.clone()));
    let kept = match join.kind {
        JoinKind::Anti => left.concat(matched.negate()),
        _ => matched,
    };
    let decode = move |rows: &[(Row, Step, Diff)]| {
        left_codec.batch(left_codec.columns(rows.iter().map(|(row, _, _)| &row[..])), rows.len())
    };
    mapped(kept, decode, mapper, output, stats)
}

/// Groups and their aggregates; groups without rows have none. A result that cannot be represented fails the job.
pub(crate) fn aggregate<'scope>(
    input: Rows<'scope>,
    aggregate: &Aggregate,
    schema: &SchemaRef,
    output: Codec,
    fail: Arc<dyn Fn(String) + Send + Sync>,
    stats: Arc<OperatorStats>,
    held: &Held,
) -> Rows<'scope> {
    let arranged = keyed(input, schema, aggregate.keys.clone(), true).arrange_by_key_named("groups");
    held.count(&arranged);
    let (aggregate, schema) = (aggregate.clone(), Arc::clone(schema));
    let codec = Codec::new(&schema);
    let reduced = arranged.reduce_abelian::<_, ValBuilder<Row, Row, Step, Diff>, ValSpine<Row, Row, Step, Diff>, _, _>(
        "aggregate",
        move |_, input, given| {
            let columns = codec.columns(input.iter().map(|(row, _)| &row[..]));
            let diffs = Int64Array::from_iter_values(input.iter().map(|(_, diff)| *diff));
            let delta = Delta::with_diffs(codec.batch(columns, input.len()), diffs);
            let results = stats.guard(|| {
                let mut groups = Groups::new(&aggregate, &schema, false);
                groups.accumulate(&delta, &mut Vec::new());
                groups.results(false, false)
            });
            let Some(results) = results else { return };
            if let Some(failed) = results.failed.first() {
                fail(format!("{} in an aggregate of a recursive query", failed.reason));
                return;
            }
            let rows = output.encode(&results.columns);
            given.extend((0..results.rows).map(|row| (rows.row(row).data().to_vec(), 1)));
        },
        |vec, key, updates| {
            vec.clear();
            vec.extend(updates.drain(..).map(|(value, time, diff)| ((key.clone(), value), time, diff)));
        },
    );
    held.count(&reduced);
    reduced.as_collection(|_, row| row.clone())
}
