//! Rows of `<source>$rejects`: rows that could not be decoded, or whose event time cannot be believed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, UInt32Array};
use arrow::compute;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::record_batch::RecordBatch;
use highwater_connectors::source::{PartitionId, Reject};
use highwater_engine::rejects_schema;
use highwater_plan::Origin;

/// Rejected rows of one partition as a batch of [`rejects_schema`].
pub(crate) fn rejects_batch(partition: &PartitionId, rejects: &[Reject]) -> RecordBatch {
    let text = |of: &dyn Fn(&Reject) -> String| -> ArrayRef {
        Arc::new(rejects.iter().map(|reject| Some(of(reject))).collect::<StringArray>())
    };
    let raw_bytes: Int64Array = rejects.iter().map(|reject| Some(reject.raw_bytes as i64)).collect();
    let columns: Vec<ArrayRef> = vec![
        text(&|_| partition.to_string()),
        text(&|reject| reject.offset.0.to_string()),
        text(&|reject| reject.reason.clone()),
        text(&|reject| String::from_utf8_lossy(&reject.raw).into_owned()),
        Arc::new(raw_bytes),
    ];
    RecordBatch::try_new(rejects_schema(), columns).expect("the columns are those of the schema")
}

/// The rows at these positions as JSON objects, one each: whole rows if there is an `origin`, else the decoded columns.
pub(crate) fn rows_as_json(rows: &RecordBatch, origin: Option<&dyn Origin>, positions: &[u32]) -> Vec<String> {
    let whole = origin.and_then(|origin| origin.rows(positions).ok());
    let taken = whole.map_or_else(|| compute::take_record_batch(rows, &UInt32Array::from(positions.to_vec())), Ok);
    let lines = taken.and_then(|taken| {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&taken)?;
        writer.finish()?;
        Ok(writer.into_inner())
    });
    // A type that JSON cannot hold must not hide that the row was refused.
    let text = lines.map_or_else(
        |error| format!("(cannot be shown: {error})\n").repeat(positions.len()),
        |lines| String::from_utf8_lossy(&lines).into_owned(),
    );
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.resize(positions.len(), String::new());
    lines
}
