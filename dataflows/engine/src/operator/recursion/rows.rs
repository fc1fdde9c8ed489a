//! Rows of a recursion: into it, out of it, and through our expressions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_row::{RowConverter, SortField};
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::{AsCollection, VecCollection};
use highwater_plan::Origin;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::{Held, Row, Rows, Step};
use crate::delta::{OriginRows, Parcel};
use crate::operator::DeltaStream;
use crate::operator::map::Mapper;
use crate::stats::OperatorStats;
use crate::{Delta, Diff, Time};

/// Rows of one relation as bytes. Equal rows have equal bytes.
pub(crate) struct Codec {
    schema: SchemaRef,
    converter: RowConverter,
}

impl Codec {
    /// For rows with these columns.
    pub(crate) fn new(schema: &Schema) -> Self {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).expect("planners allow only columns that can be encoded");
        // What has been computed may be NULL where a base table has none.
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Codec { schema: Arc::new(Schema::new(nullable.collect::<Vec<_>>())), converter }
    }

    /// The columns of these rows.
    pub(crate) fn columns<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row))).expect("the bytes came from this encoding")
    }

    /// The rows as a batch.
    pub(crate) fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).expect("the relation's columns")
    }

    /// The bytes of a batch's rows.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> arrow_row::Rows {
        self.converter.convert_columns(columns).expect("the relation's columns")
    }
}

/// A stream's rows at the first step of their epochs.
pub(crate) fn encoded<'scope>(input: DeltaStream<'scope>, codec: Codec) -> VecCollection<'scope, Time, Row, Diff> {
    let stream = input.unary::<CapacityContainerBuilder<Vec<(Row, Time, Diff)>>, _, _, _>(Pipeline, "encode", move |_, _| {
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                let epoch = *capability.time();
                let rows = codec.encode(delta.rows.columns());
                let mut session = output.session(&capability);
                for row in 0..delta.len() {
                    session.give((rows.row(row).data().to_vec(), epoch, delta.diff(row)));
                }
            });
        }
    });
    stream.as_collection()
}

/// The rows of a recursion's binding, each epoch's changes once, when the epoch is complete. What a restored job computes once
/// more, up to the epoch that it was restored from, was given before.
pub(crate) fn decoded<'scope>(
    input: VecCollection<'scope, Time, Row, Diff>,
    codec: Codec,
    schema: SchemaRef,
    stats: Arc<OperatorStats>,
    held: Held,
) -> DeltaStream<'scope> {
    input.inner.unary_frontier::<NoopBuilder<Parcel>, _, _, _>(Pipeline, "decode", move |_, _| {
        let mut waiting: BTreeMap<Time, Waiting> = BTreeMap::new();
        let mut average = 0;
        let restored = stats.checkpoints.restore.as_ref().map(|restore| restore.epoch);
        move |(input, frontier), output| {
            input.for_each(|capability, data| {
                stats.took(data.len());
                for (row, epoch, diff) in data.drain(..) {
                    // A change may be of a later epoch than the message that brings it.
                    let entry = waiting
                        .entry(epoch)
                        .or_insert_with(|| Waiting { capability: capability.delayed(&epoch, 0), rows: Vec::new() });
                    entry.rows.push((row, diff));
                }
            });
            while let Some(first) = waiting.first_entry() {
                if frontier.less_equal(first.key()) {
                    break;
                }
                let given_before = restored.is_some_and(|restored| *first.key() <= restored);
                let Waiting { capability, mut rows } = first.remove();
                if given_before {
                    rows.clear();
                }
                consolidate(&mut rows);
                if !rows.is_empty() {
                    let bytes: usize = rows.iter().map(|(row, _)| row.len()).sum();
                    average = bytes / rows.len();
                    let columns = codec.columns(rows.iter().map(|(row, _)| &row[..]));
                    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
                    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
                        .expect("a binding's columns are nullable");
                    let diffs = Int64Array::from_iter_values(rows.iter().map(|(_, diff)| *diff));
                    let delta = Delta::with_diffs(batch, diffs);
                    stats.gave(&delta);
                    output.session_with_builder(&capability).give_container(&mut Parcel(Some(delta)));
                }
                let updates = held.updates();
                stats.holds(updates, updates * (average + UPDATE_BYTES));
            }
        }
    })
}

/// The changes of an epoch that is not complete.
struct Waiting {
    capability: Capability<Time>,
    rows: Vec<(Row, Diff)>,
}

/// What an update takes besides its row's bytes, about: its vector, time and multiplicity.
const UPDATE_BYTES: usize = 48;

/// Maps what `decode` makes of updates.
pub(crate) fn mapped<'scope, D>(
    input: VecCollection<'scope, Step, D, Diff>,
    decode: impl Fn(&[(D, Step, Diff)]) -> RecordBatch + 'static,
    mapper: Mapper,
    codec: Codec,
    stats: Arc<OperatorStats>,
) -> Rows<'scope>
where
    D: Clone + 'static,
{
    let stream = input.inner.unary::<CapacityContainerBuilder<Vec<(Row, Step, Diff)>>, _, _, _>(Pipeline, "map", move |_, _| {
        let mut mapped = Vec::new();
        move |input, output| {
            input.for_each(|capability, data| {
                stats.took(data.len());
                let mut session = output.session(&capability);
                let mut rest = &data[..];
                while let Some((_, first, _)) = rest.first() {
                    // Failing rows are kept by epoch.
                    let epoch = first.outer;
                    let run = rest.iter().take_while(|(_, step, _)| step.outer == epoch).count();
                    let (updates, later) = rest.split_at(run);
                    rest = later;
                    let diffs = Int64Array::from_iter_values(updates.iter().map(|(_, _, diff)| *diff));
                    // Through the map, a row's origin is its place among the updates.
                    let origin = OriginRows { source: 0, origin: Arc::new(Places), rows: None };
                    let delta = Delta::with_diffs(decode(updates), diffs).from_origin(Some(origin));
                    let Some(failed) = stats.guard(|| mapper.apply(epoch, delta, &mut mapped)) else {
                        mapped.clear();
                        return;
                    };
                    stats.error_rows.fetch_add(failed as u64, Ordering::Relaxed);
                    for delta in mapped.drain(..) {
                        let rows = codec.encode(delta.rows.columns());
                        let places = delta.origin.as_ref().and_then(|origin| origin.rows.as_ref());
                        for row in 0..delta.len() {
                            let place = places.map_or(row, |places| places.value(row) as usize);
                            let (_, step, diff) = &updates[place];
                            session.give((rows.row(row).data().to_vec(), *step, *diff));
                        }
                    }
                }
            });
        }
    });
    stream.as_collection()
}

/// Positions among updates: there are no source rows behind them.
#[derive(Debug)]
struct Places;

impl Origin for Places {
    fn rows(&self, _: &[u32]) -> Result<RecordBatch, ArrowError> {
        Err(ArrowError::NotYetImplemented("rows of a recursion are not source rows".into()))
    }
}
