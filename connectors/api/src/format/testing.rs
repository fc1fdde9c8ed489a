//! What the tests of several formats share.

use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::encode;

/// Rows as JSON objects.
pub(super) fn json(batch: &RecordBatch) -> Vec<Value> {
    let mut text = Vec::new();
    encode::ndjson(batch, &mut text).expect("it has JSON");
    serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>().expect("JSON")
}
