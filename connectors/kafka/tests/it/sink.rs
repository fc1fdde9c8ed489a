//! The sink on a real broker.

mod exactly_once;
mod messages;

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use highwater_connectors::sink::{Changes, EpochChanges, Publisher, SinkConnector, SinkSpec, SinkTarget};
use highwater_kafka::KafkaSink;
use highwater_plan::{Emit, Options};

/// `(id BIGINT, name VARCHAR)` into a topic, only ever added to, exactly once.
pub(crate) fn spec(brokers: &str, topic: &str, job: &str, more: &[(&str, &str)]) -> SinkSpec {
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    let pairs = [("connector", "kafka"), ("brokers", brokers), ("topic", topic)];
    SinkSpec {
        job: job.into(),
        name: "out".into(),
        schema: Arc::new(Schema::new(fields)),
        key: None,
        append_only: true,
        emit: Emit::Changes,
        options: Options::from_pairs(pairs.into_iter().chain(more.iter().copied())),
        resumes: false,
        checkpoints: true,
    }
}

pub(crate) fn publisher(spec: &SinkSpec) -> Box<dyn Publisher> {
    match KafkaSink.open(spec).unwrap() {
        SinkTarget::Publisher(publisher) => publisher,
        SinkTarget::Writer(_) => panic!("it is published"),
    }
}

pub(crate) fn changes(rows: &[(i64, &str, i64)]) -> Changes {
    let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let names = StringArray::from_iter_values(rows.iter().map(|row| row.1));
    let rows_of = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("name", Arc::new(names) as _)]);
    let diffs = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    Changes { rows: rows_of.unwrap(), diffs: Some(diffs) }
}

pub(crate) fn epoch(epoch: u64, rows: &[(i64, &str, i64)]) -> EpochChanges {
    EpochChanges { epoch, changes: vec![changes(rows)] }
}

/// An epoch that adds these rows.
fn added(number: u64, ids: std::ops::Range<i64>) -> EpochChanges {
    let names: Vec<String> = ids.clone().map(|id| format!("n{id}")).collect();
    epoch(number, &ids.zip(&names).map(|(id, name)| (id, name.as_str(), 1)).collect::<Vec<_>>())
}
