//! Server-Sent Events of a view: the bytes.
//!
//! An event's `id` is the token of the epoch that is complete with it, so a client that reconnects with it (browsers do
//! so by themselves) continues exactly there. Events in the middle of a snapshot or of a large epoch have no id.

use arrow::array::Int64Array;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_connectors::format::encode::RowWriter;
use highwater_engine::{Changed, JobState};
use highwater_plan::Epoch;
use serde_json::json;
use warp::hyper::body::Bytes;

use super::status::state_name;
use super::token::Token;

/// About how large an event may get before its epoch is cut in parts.
const EVENT_BYTES: usize = 256 * 1024;

/// The first thing a subscriber is sent: how long to wait before it reconnects.
pub(crate) fn hello() -> Bytes {
    Bytes::from_static(b"retry: 1000\n\n")
}

/// One epoch's changes, retractions first, in one or more events.
pub(crate) fn changes(job: &str, changed: &Changed) -> Vec<Bytes> {
    match changes_or_error(job, changed) {
        Ok(parts) => parts,
        Err(error) => vec![failure(&Token::new(job, changed.epoch).to_string(), &error)],
    }
}

fn changes_or_error(job: &str, changed: &Changed) -> Result<Vec<Bytes>, ArrowError> {
    let Changed { epoch, rows, diffs } = changed;
    let writer = RowWriter::new(rows)?;
    let (retracted, added): (Vec<usize>, Vec<usize>) = (0..rows.num_rows()).partition(|row| diffs.value(*row) < 0);
    let mut parts = Vec::new();
    let mut part = Part::new(job, *epoch);
    for row in retracted.into_iter().chain(added) {
        if part.bytes.len() > EVENT_BYTES {
            parts.push(std::mem::replace(&mut part, Part::new(job, *epoch)).finish(false));
        }
        part.row(&writer, row, diffs);
    }
    parts.push(part.finish(true));
    Ok(parts)
}

/// An event of changes that is being written.
struct Part {
    token: String,
    bytes: Vec<u8>,
    any: bool,
}

impl Part {
    fn new(job: &str, epoch: Epoch) -> Self {
        let token = Token::new(job, epoch).to_string();
        let bytes = format!("event: changes\ndata: {{\"epoch\":{epoch},\"changes\":[").into_bytes();
        Part { token, bytes, any: false }
    }

    fn row(&mut self, writer: &RowWriter<'_>, row: usize, diffs: &Int64Array) {
        let diff = diffs.value(row);
        if std::mem::replace(&mut self.any, true) {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(if diff < 0 { b"{\"op\":\"-\"" } else { b"{\"op\":\"+\"" });
        if diff.unsigned_abs() != 1 {
            self.bytes.extend_from_slice(format!(",\"count\":{}", diff.unsigned_abs()).as_bytes());
        }
        self.bytes.extend_from_slice(b",\"row\":");
        writer.write_object(row, &mut self.bytes);
        self.bytes.push(b'}');
    }

    fn finish(self, complete: bool) -> Bytes {
        finish(self.bytes, complete, &self.token)
    }
}

/// A piece of a snapshot.
pub(crate) fn snapshot(job: &str, epoch: Epoch, rows: Option<&RecordBatch>, complete: bool) -> Bytes {
    let token = Token::new(job, epoch).to_string();
    let mut bytes = format!("event: snapshot\ndata: {{\"epoch\":{epoch},\"rows\":[").into_bytes();
    if let Some(rows) = rows {
        let writer = match RowWriter::new(rows) {
            Ok(writer) => writer,
            Err(error) => return failure(&token, &error),
        };
        for row in 0..rows.num_rows() {
            if row > 0 {
                bytes.push(b',');
            }
            writer.write_object(row, &mut bytes);
        }
    }
    finish(bytes, complete, &token)
}

/// Closes the list of rows, and says whether the epoch is complete with it.
fn finish(mut bytes: Vec<u8>, complete: bool, token: &str) -> Bytes {
    bytes.extend_from_slice(format!("],\"complete\":{complete}}}\n").as_bytes());
    if complete {
        bytes.extend_from_slice(format!("id: {token}\n").as_bytes());
    }
    bytes.push(b'\n');
    bytes.into()
}

/// Everything up to this epoch has been sent.
pub(crate) fn progress(job: &str, epoch: Epoch) -> Bytes {
    with_token("progress", job, epoch)
}

/// The subscriber fell behind; its connection ends with this.
pub(crate) fn lagged(job: &str, epoch: Epoch) -> Bytes {
    with_token("lagged", job, epoch)
}

fn with_token(event: &str, job: &str, epoch: Epoch) -> Bytes {
    let token = Token::new(job, epoch);
    format!("event: {event}\nid: {token}\ndata: {{\"epoch\":{epoch}}}\n\n").into()
}

/// What was sent before does not count any more; a snapshot follows.
pub(crate) fn reset(reason: &str) -> Bytes {
    format!("event: reset\ndata: {}\n\n", json!({ "reason": reason })).into()
}

/// The job is over: nothing will follow.
pub(crate) fn end(job: &str, epoch: Epoch, state: &JobState) -> Bytes {
    let token = Token::new(job, epoch);
    let reason = match state {
        JobState::Failed(reason) => Some(reason.as_str()),
        _ => None,
    };
    let data = json!({ "epoch": epoch, "state": state_name(state), "reason": reason });
    format!("event: end\nid: {token}\ndata: {data}\n\n").into()
}

fn failure(token: &str, error: &ArrowError) -> Bytes {
    let data = json!({ "detail": format!("the rows cannot be written as JSON: {error}") });
    format!("event: error\nid: {token}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use std::sync::Arc;

    fn rows(names: &[&str]) -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter([("name", names)]).expect("one column")
    }

    #[test]
    fn an_epoch_is_one_event_with_retractions_first() {
        let changed = Changed { epoch: 7, rows: rows(&["a\nb", "c"]), diffs: Int64Array::from(vec![2, -1]) };
        let parts = changes("hot", &changed);
        let expected = "event: changes\ndata: {\"epoch\":7,\"changes\":[{\"op\":\"-\",\"row\":{\"name\":\"c\"}},{\"op\":\"+\",\"count\":2,\"row\":{\"name\":\"a\\nb\"}}],\"complete\":true}\nid: hot:7\n\n";
        assert_eq!(parts, [Bytes::from_static(expected.as_bytes())]);
    }

    #[test]
    fn a_large_epoch_has_an_id_only_at_its_end() {
        let large = "x".repeat(EVENT_BYTES);
        let changed = Changed { epoch: 7, rows: rows(&[&large, &large, "z"]), diffs: Int64Array::from(vec![1, 1, 1]) };
        let parts = changes("hot", &changed);
        let has_id = |part: &Bytes| String::from_utf8_lossy(part).contains("\nid: hot:7\n");
        assert_eq!(parts.iter().map(has_id).collect::<Vec<bool>>(), [false, false, true]);
    }

    #[test]
    fn an_empty_snapshot_is_complete() {
        let event = snapshot("hot", 7, None, true);
        let expected = "event: snapshot\ndata: {\"epoch\":7,\"rows\":[],\"complete\":true}\nid: hot:7\n\n";
        assert_eq!(event, Bytes::from_static(expected.as_bytes()));
    }
}
