//! Rows that clients push: a bounded queue between their threads and the worker that reads.
//!
//! A body is decoded on the thread that brought it, so that its sender learns at once which rows were refused, and queued
//! as one unit: all its rows belong to one epoch. When the dataflow is behind, the queue fills up and pushes are refused
//! ([`PushError::Full`]): the sender waits, not this process's memory. A body that is sent twice with the same idempotency
//! key is taken once.
//!
//! With a [log](super::SourceLog) a body is on the disk before it is queued: who is told that it was taken finds its rows after a
//! restart, and its key known. Bodies are numbered, and their numbers are the source's offsets: a job that goes on from a
//! checkpoint is given what was accepted after it, and the log lets go of what a durable checkpoint has: at once, or when it was
//! kept for as long as recorded epochs are, which are run again with their rows.

mod keep;
mod keys;
mod log;
mod past;
mod queue;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow::array::{Int64Array, new_null_array};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_plan::{Diagnostic, Field, OptionReader};

use self::keep::{Pending, now, pack};
use self::keys::{Kept, Keys, Known};
use self::log::{Content, Found, Log, Replay};
use self::past::Past;
use self::queue::{Body, Queue};
use super::{
    Backlog, COMMON_FIELDS, LogMode, Offset, PartitionId, PartitionReader, Polled, PushError, PushFormat, PushHandle,
    PushRequest, PushSummary, Receipt, Reject, Source, SourceConnector, SourceError, SourceLog, SourceSpec, Waker,
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
    /// Locked before the state, never while it is held.
    log: Option<Mutex<Log>>,
    /// How large the log was when nobody had it last.
    log_size: Mutex<Backlog>,
    state: Mutex<State>,
    /// Told when the state has become another one for those who push.
    changed: Condvar,
}

struct State {
    queue: Queue,
    keys: Keys,
    waker: Option<Waker>,
    closed: bool,
    /// The number of the next body.
    next: u64,
    /// What the log held when it was opened, until reading begins.
    found: Option<Found>,
    /// What is kept now belongs to a job that goes on after this process.
    saved: bool,
    /// Bodies that are to be kept with the next flush.
    pending: Vec<Pending>,
    flushing: bool,
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
        let mode = spec.log.as_ref().map(|log| log.mode);
        let opened = match (&spec.log, mode) {
            (Some(log), Some(LogMode::Accept { keep, .. })) => Log::open(&log.directory, keep).map(Some),
            _ => Ok(None),
        };
        let (log, found) = opened
            .map_err(|error| {
                let message = format!("source '{}' cannot be pushed to: {error}", spec.name);
                Diagnostic::error("source-unavailable", message).at(spec.options.span)
            })?
            .unzip();
        Ok(Box::new(Opened(Arc::new(Http {
            spec: spec.clone(),
            log: log.map(Mutex::new),
            log_size: Mutex::default(),
            changed: Condvar::new(),
            json,
            csv,
            queue_rows_max: reader.parsed("queue_rows_max", "a number of rows")?.unwrap_or(100_000),
            queue_bytes_max: reader.parsed("queue_bytes_max", "a number of bytes")?.unwrap_or(64 << 20),
            state: Mutex::new(State {
                queue: Queue::default(),
                keys: Keys::new(keys_max, retention),
                waker: None,
                closed: mode == Some(LogMode::Again),
                next: 1,
                found,
                saved: matches!(mode, Some(LogMode::Accept { resumed: Some(_), .. })),
                pending: Vec::new(),
                flushing: false,
            }),
        }))))
    }
}

/// The source; when it goes, pushes are refused.
struct Opened(Arc<Http>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

impl Source for Opened {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(vec![PartitionId::new("0")])
    }

    fn read(&self, _: &PartitionId, offset: Option<&Offset>, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let after = match offset {
            None => 0,
            Some(offset) => offset.0.parse().map_err(|_| {
                SourceError::fatal(format!("source '{}': '{}' is no number of a body", self.0.spec.name, offset.0))
            })?,
        };
        if let Some(SourceLog { directory, mode: LogMode::Again }) = &self.0.spec.log {
            return Ok(Box::new(Past::new(Arc::clone(&self.0), directory, after)?));
        }
        self.0.state().waker = Some(waker);
        let replay = self.0.resume(after)?;
        Ok(Box::new(Reader { http: self.0.clone(), replay }))
    }

    fn saved(&self) {
        self.0.state().saved = true;
        self.0.changed.notify_all();
    }

    fn committed(&self, positions: &[(PartitionId, Offset)]) {
        positions.iter().filter_map(|(_, offset)| offset.0.parse().ok()).for_each(|upto| self.0.release(upto));
    }

    fn bounded(&self) -> bool {
        false
    }

    fn push_handle(&self) -> Option<Arc<dyn PushHandle>> {
        Some(self.0.clone())
    }
}

struct Reader {
    http: Arc<Http>,
    /// What was accepted before the restart comes first.
    replay: Option<Replay>,
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        if let Some(replay) = &mut self.replay {
            match self.http.replayed(replay, rows_max)? {
                Some(polled) => return Ok(polled),
                None => self.replay = None,
            }
        }
        let bodies = self.http.state().queue.take(rows_max);
        match bodies {
            Some(bodies) => queue::batch(bodies, &self.http.spec).map(Polled::Batch),
            None => Ok(Polled::Pending(None)),
        }
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(self.http.state().queue.depth())
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
        Ok((Body { rows: decoded.rows, diffs: decoded.diffs, rejects, bytes, receipt: None, number: 0 }, summary))
    }

    /// Rows that are columns already, those of the source by their names: kept rows may be of a time when it had others.
    fn body_of(&self, rows: RecordBatch, diffs: Int64Array) -> Result<Body, PushError> {
        let malformed = |error: ArrowError| PushError::Malformed(error.to_string());
        let column = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| match rows.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            None if field.is_nullable() && self.spec.defaults.get(index).is_none_or(Option::is_none) => {
                Ok(new_null_array(field.data_type(), rows.num_rows()))
            }
            found => {
                let had = found.map_or_else(|| "did not have".to_owned(), |column| format!("had as {}", column.data_type()));
                let (name, data_type) = (field.name(), field.data_type());
                Err(PushError::Malformed(format!("the table has a column {name} of type {data_type}, which the rows {had}")))
            }
        };
        let columns = self.spec.schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.spec.schema.clone(), columns).map_err(malformed)?;
        let rows = if self.spec.keeps_origin { rows } else { rows.project(&self.spec.used).map_err(malformed)? };
        let bytes = rows.get_array_memory_size() as u64;
        Ok(Body { rows, diffs: Some(diffs), rejects: Vec::new(), bytes, receipt: None, number: 0 })
    }

    /// Answers a body that is known as the first time.
    fn answer_again(&self, state: MutexGuard<'_, State>, known: &Known, done: Receipt) -> Result<PushSummary, PushError> {
        self.wait_kept(state, known.kept())?;
        known.wait(done);
        Ok(PushSummary { duplicate: true, ..known.summary() })
    }
}

impl PushHandle for Http {
    fn push(&self, request: PushRequest, done: Receipt) -> Result<PushSummary, PushError> {
        let key = request.idempotency_key.clone();
        {
            let mut state = self.when_saved(self.state())?;
            if let Some(known) = key.as_deref().and_then(|key| state.keys.find(key, now())) {
                return self.answer_again(state, &known, done);
            }
            // Before the work of decoding: a full queue refuses without it.
            self.full(&state, 1, request.body.len() as u64)?;
        }
        let (mut body, summary) = self.decode(&request)?;
        let record = self.record(Content::Pushed(request.format), key.as_deref(), &summary, request.body)?;
        let mut state = self.when_saved(self.state())?;
        if let Some(known) = key.as_deref().and_then(|key| state.keys.find(key, now())) {
            return self.answer_again(state, &known, done);
        }
        self.full(&state, summary.accepted, body.bytes)?;
        let known = key.map(|key| {
            let kept = Kept::default();
            (state.keys.insert(&key, summary.clone(), now(), Arc::clone(&kept)), kept)
        });
        body.receipt = Some(match &known {
            None => done,
            Some((known, _)) => {
                known.wait(done);
                let known = Arc::clone(known);
                Receipt(Box::new(move |epoch| known.settle(epoch)))
            }
        });
        self.keep(state, body, known, record)?;
        Ok(summary)
    }

    fn push_rows(&self, rows: RecordBatch, diffs: Int64Array, done: Receipt) -> Result<(), PushError> {
        let content = match &self.log {
            Some(_) => pack(&rows, &diffs).map_err(|error| PushError::Malformed(error.to_string()))?,
            None => Vec::new(),
        };
        let record = self.record(Content::Rows, None, &PushSummary::default(), content)?;
        let mut body = self.body_of(rows, diffs)?;
        body.receipt = Some(done);
        let state = self.when_saved(self.state())?;
        self.full(&state, body.rows.num_rows() as u64, body.bytes)?;
        self.keep(state, body, None, record)
    }

    fn depth(&self) -> Backlog {
        self.state().queue.depth()
    }

    fn kept(&self) -> Option<Backlog> {
        let log = self.log.as_ref()?;
        let mut size = self.log_size.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has it may be waiting for the disk: who only looks does not.
        if let Ok(log) = log.try_lock() {
            *size = log.size();
        }
        Some(*size)
    }
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
