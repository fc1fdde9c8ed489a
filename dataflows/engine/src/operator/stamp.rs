//! `PROCTIME()`: each row with the epoch in which it came.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::SchemaRef;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::Delta;
use crate::delta::Parcel;
use crate::operator::DeltaStream;
use crate::stats::OperatorStats;

/// Appends the epoch as a column.
pub(crate) fn stamp<'scope>(input: DeltaStream<'scope>, schema: SchemaRef, stats: Arc<OperatorStats>) -> DeltaStream<'scope> {
    input.unary::<NoopBuilder<Parcel>, _, _, _>(Pipeline, &stats.name.clone(), move |_, _| {
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                stats.took(delta.len());
                let epoch = i64::try_from(*capability.time()).unwrap_or(i64::MAX);
                let mut columns = delta.rows.columns().to_vec();
                columns.push(Arc::new(TimestampMillisecondArray::from(vec![epoch; delta.len()])));
                let rows = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the input's columns and the epoch");
                let stamped = Delta { rows, ..delta };
                stats.gave(&stamped);
                output.session_with_builder(&capability).give_container(&mut Parcel(Some(stamped)));
            });
        }
    })
}
