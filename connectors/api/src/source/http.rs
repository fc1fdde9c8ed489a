//! Rows that clients push: a bounded queue between their threads and the worker that reads.
//!
//! A body is decoded on the thread that brought it, so that its sender learns at once which rows were refused, and queued
//! as one unit: all its rows belong to one epoch. When the dataflow is behind, the queue fills up and pushes are refused
//! ([`PushError::Full`]): the sender waits, not this process's memory. A body that is sent twice with the same idempotency
//! key is taken once. The queue is not kept across restarts: a receipt means that the rows are in the dataflow.

mod keys;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use arrow::array::Int64Array;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_plan::{Diagnostic, Field, OptionReader};

use self::keys::{Keys, Known};
use self::queue::{Body, Queue};
use super::{
    Backlog, COMMON_FIELDS, Offset, PartitionId, PartitionReader, Polled, PushError, PushFormat, PushHandle, PushRequest,
    PushSummary, Receipt, Reject, Source, SourceConnector, SourceError, SourceSpec, Waker,
};
use crate::format::{Decoder, FORMAT_FIELDS, Format, json_objects};

/// `connector = 'http'`.
#[derive(Debug, Clone, Copy)]
pub struct HttpSource;

const FIELDS: &[Field] = &[
    Field { key: "queue_rows_max", about: "rows that may wait before pushes are refused; default 100000" },
    Field { key: "queue_bytes_max", about: "bytes of bodies that may wait before pushes are refused; default 67108864" },
    Field { key: "idempotency_keys_max", about: "how many idempotency keys are remembered; default 100000" },
    Field { key: "idempotency_retention", about: "how long idempotency keys are remembered; default '1 hour'" },
];

/// Reasons that a push's answer holds.
const REASONS_MAX: usize = 10;

struct Http {
    spec: SourceSpec,
    json: Format,
    csv: Format,
    queue_rows_max: u64,
    queue_bytes_max: u64,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    keys: Keys,
    waker: Option<Waker>,
    closed: bool,
}

impl SourceConnector for HttpSource {
    fn name(&self) -> &'static str {
        "http"
    }

    fn fields(&self) -> Vec<Field> {
        [FIELDS, FORMAT_FIELDS, COMMON_FIELDS].concat()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let reader = OptionReader::new(&spec.options, "connector 'http'", &[FIELDS, FORMAT_FIELDS, COMMON_FIELDS])?;
        let format = Format::from_options(&reader)?;
        let (json, csv) = (format.as_json(), format.as_csv());
        json.decoder(&spec.decoder_spec(), &spec.options)?;
        let keys_max = reader.parsed::<usize>("idempotency_keys_max", "a number")?.unwrap_or(100_000);
        let retention = reader.duration("idempotency_retention")?.unwrap_or(std::time::Duration::from_secs(3_600));
        Ok(Box::new(Opened(Arc::new(Http {
            spec: spec.clone(),
            json,
            csv,
            queue_rows_max: reader.parsed("queue_rows_max", "a number of rows")?.unwrap_or(100_000),
            queue_bytes_max: reader.parsed("queue_bytes_max", "a number of bytes")?.unwrap_or(64 << 20),
            state: Mutex::new(State {
                queue: Queue::default(),
                keys: Keys::new(keys_max, retention),
                waker: None,
                closed: false,
            }),
        }))))
    }
}

/// The source; when it goes, pushes are refused.
struct Opened(Arc<Http>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.state().closed = true;
    }
}

impl Source for Opened {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(vec![PartitionId::new("0")])
    }

    fn read(&self, _: &PartitionId, offset: Option<&Offset>, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let mut state = self.0.state();
        state.waker = Some(waker);
        // Bodies are counted on, so that offsets of one partition never repeat.
        if let Some(taken) = offset.and_then(|offset| offset.0.parse().ok()) {
            state.queue.resume(taken);
        }
        Ok(Box::new(Reader(self.0.clone())))
    }

    fn bounded(&self) -> bool {
        false
    }

    fn push_handle(&self) -> Option<Arc<dyn PushHandle>> {
        Some(self.0.clone())
    }
}

struct Reader(Arc<Http>);

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        let bodies = self.0.state().queue.take(rows_max);
        match bodies {
            Some(bodies) => queue::batch(bodies, &self.0.spec).map(Polled::Batch),
            None => Ok(Polled::Pending(None)),
        }
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(self.0.state().queue.depth())
    }
}

impl Http {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the queue")
    }

    fn full(&self, state: &State, rows: u64, bytes: u64) -> Result<(), PushError> {
        let depth = state.queue.depth();
        // A body that is larger than the whole queue is taken when nothing else waits.
        let full = depth.rows + rows > self.queue_rows_max || depth.bytes + bytes > self.queue_bytes_max;
        if full && depth != Backlog::default() { Err(PushError::Full { rows: depth.rows }) } else { Ok(()) }
    }

    /// Decodes a body's rows.
    fn decode(&self, request: &PushRequest) -> Result<(Body, PushSummary), PushError> {
        // A worker that was refused a row as late asks for all of it, so all of it is decoded.
        let mut spec = self.spec.decoder_spec();
        spec.keeps_origin = false;
        if self.spec.keeps_origin {
            spec.used = (0..spec.schema.fields().len()).collect();
        }
        let format = if request.format == PushFormat::Csv { &self.csv } else { &self.json };
        let malformed = |error: Diagnostic| PushError::Malformed(error.to_string());
        let mut rows =
            Rows { decoder: format.decoder(&spec, &self.spec.options).map_err(malformed)?, format, rejects: Vec::new() };
        match request.format {
            PushFormat::Json => {
                let text = std::str::from_utf8(&request.body);
                let text =
                    text.map_err(|error| PushError::Malformed(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
                for (index, range) in json_objects(text).map_err(PushError::Malformed)?.into_iter().enumerate() {
                    rows.push(&request.body[range], || format!("row {}", index + 1));
                }
            }
            PushFormat::Ndjson => rows.push_lines(&request.body, 0),
            PushFormat::Csv => {
                let (header, rest) = split_record(format, &request.body);
                rows.decoder.set_header(header).map_err(PushError::Malformed)?;
                rows.push_lines(rest, 1);
            }
        }
        let Rows { mut decoder, rejects, .. } = rows;
        let decoded = decoder.take().map_err(|error| PushError::Malformed(error.to_string()))?;
        let summary = PushSummary {
            accepted: decoded.rows.num_rows() as u64,
            rejected: rejects.len() as u64,
            reasons: rejects.iter().take(REASONS_MAX).map(|reject| reject.reason.clone()).collect(),
            duplicate: false,
        };
        let bytes = request.body.len() as u64;
        Ok((Body { rows: decoded.rows, diffs: decoded.diffs, rejects, bytes, receipt: None }, summary))
    }
}

impl PushHandle for Http {
    fn push(&self, request: PushRequest, done: Receipt) -> Result<PushSummary, PushError> {
        let key = request.idempotency_key.clone();
        {
            let mut state = self.state();
            if state.closed {
                return Err(PushError::Closed);
            }
            if let Some(known) = key.as_deref().and_then(|key| state.keys.find(key, Instant::now())) {
                return Ok(answer_again(state, known, done));
            }
            // Before the work of decoding: a full queue refuses without it.
            self.full(&state, 1, request.body.len() as u64)?;
        }
        let (mut body, summary) = self.decode(&request)?;
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        if let Some(known) = key.as_deref().and_then(|key| state.keys.find(key, Instant::now())) {
            return Ok(answer_again(state, known, done));
        }
        self.full(&state, summary.accepted, body.bytes)?;
        let known = key.map(|key| state.keys.insert(key, summary.clone(), Instant::now()));
        body.receipt = Some(match known {
            None => done,
            Some(known) => {
                known.wait(done);
                Receipt(Box::new(move |epoch| known.settle(epoch)))
            }
        });
        state.queue.push(body);
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker();
        }
        Ok(summary)
    }

    fn push_rows(&self, rows: RecordBatch, diffs: Int64Array, done: Receipt) -> Result<(), PushError> {
        let malformed = |error: ArrowError| PushError::Malformed(error.to_string());
        let rows = RecordBatch::try_new(self.spec.schema.clone(), rows.columns().to_vec()).map_err(malformed)?;
        let rows = if self.spec.keeps_origin { rows } else { rows.project(&self.spec.used).map_err(malformed)? };
        let bytes = rows.get_array_memory_size() as u64;
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        self.full(&state, rows.num_rows() as u64, bytes)?;
        state.queue.push(Body { rows, diffs: Some(diffs), rejects: Vec::new(), bytes, receipt: Some(done) });
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker();
        }
        Ok(())
    }

    fn depth(&self) -> Backlog {
        self.state().queue.depth()
    }
}

/// Answers a body that is known as the first time.
fn answer_again(state: MutexGuard<'_, State>, known: Known, done: Receipt) -> PushSummary {
    drop(state);
    known.wait(done);
    PushSummary { duplicate: true, ..known.summary() }
}

/// Rows and rejects of a body.
struct Rows<'a> {
    decoder: Decoder,
    format: &'a Format,
    rejects: Vec<Reject>,
}

impl Rows<'_> {
    fn push(&mut self, record: &[u8], place: impl Fn() -> String) {
        let max = self.format.row_bytes_max();
        let done = if record.len() > max {
            Err(format!("longer than row_bytes_max = {max} bytes"))
        } else {
            self.decoder.decode(record)
        };
        if let Err(reason) = done {
            let place = place();
            let reason = format!("{place}: {reason}");
            self.rejects.push(Reject::new(record, Offset::new(place), reason));
        }
    }

    fn push_lines(&mut self, mut body: &[u8], mut line: u64) {
        while !body.is_empty() {
            let (record, rest) = split_record(self.format, body);
            line += 1;
            self.push(record, || format!("line {line}"));
            line += memchr::memchr_iter(b'\n', record).count() as u64;
            body = rest;
        }
    }
}

fn split_record<'a>(format: &Format, body: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (record, rest) = match format.record_end(body) {
        Some(end) => (&body[..end], &body[end + 1..]),
        None => (body, &body[body.len()..]),
    };
    (record.strip_suffix(b"\r").unwrap_or(record), rest)
}

#[cfg(test)]
mod tests;
