//! Keeping bodies: what is accepted is in the log before it is queued.
//!
//! Whoever finds nobody flushing flushes for all that wait by then; the others wait for him. So many clients share a flush.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

use super::keys::{Kept, Known};
use super::log::{Content, Entry, Log, LogError, Replay, Unsealed};
use super::queue::{self, Body, Taken};
use super::{Http, State};
use crate::source::{LogMode, Polled, PushError, PushRequest, PushSummary, Receipt, SourceError};

/// How long a push waits for the job's first checkpoint.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

/// The column of signs in rows that are kept as such.
const DIFF: &str = "$diff";

/// A body that waits to be kept.
pub(super) struct Pending {
    record: Unsealed,
    body: Body,
    known: Option<Arc<Known>>,
    kept: Kept,
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl From<LogError> for PushError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full { .. } => PushError::NoRoom(error.to_string()),
            _ => PushError::NotKept(error.to_string()),
        }
    }
}

impl Http {
    /// Waits until a body that is accepted would survive this process.
    pub(super) fn when_saved<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>, PushError> {
        let since = Instant::now();
        while self.log.is_some() && !state.saved && !state.closed {
            let Some(left) = BEGIN_WAIT.checked_sub(since.elapsed()) else {
                let why = "the job's first checkpoint is not durable yet, and without it rows would be lost with the process";
                return Err(PushError::NotKept(why.into()));
            };
            state = self.changed.wait_timeout(state, left).expect("nothing panics while it holds the queue").0;
        }
        if state.closed { Err(PushError::Closed) } else { Ok(state) }
    }

    /// Queues a body, as soon as it is kept: at once without a log, and a `record`.
    pub(super) fn keep(
        &self,
        mut state: MutexGuard<'_, State>,
        mut body: Body,
        known: Option<(Arc<Known>, Kept)>,
        record: Option<Unsealed>,
    ) -> Result<(), PushError> {
        state.queue.expect(&body);
        let (known, kept) = known.map_or_else(|| (None, Kept::default()), |(known, kept)| (Some(known), kept));
        let Some(record) = record else {
            body.number = state.next;
            state.next += 1;
            // Nobody else sets it.
            let _ = kept.set(Ok(()));
            state.queue.push(body);
            let waker = state.waker.clone();
            drop(state);
            waker.iter().for_each(|waker| waker());
            return Ok(());
        };
        state.pending.push(Pending { record, body, known, kept: Arc::clone(&kept) });
        self.wait_kept(state, &kept)
    }

    /// Waits until it is known whether a body is kept; does the work if nobody does.
    pub(super) fn wait_kept<'a>(&'a self, mut state: MutexGuard<'a, State>, kept: &Kept) -> Result<(), PushError> {
        loop {
            if let Some(result) = kept.get() {
                return result.clone();
            }
            state = if state.flushing {
                self.changed.wait(state).expect("nothing panics while it holds the queue")
            } else {
                self.flush(state)
            };
        }
    }

    /// Keeps all bodies that wait for it.
    fn flush<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(log) = &self.log else { return state };
        state.flushing = true;
        let (first, pending) = (state.next, std::mem::take(&mut state.pending));
        drop(state);
        let (records, rest): (Vec<Unsealed>, Vec<_>) =
            pending.into_iter().map(|Pending { record, body, known, kept }| (record, (body, known, kept))).unzip();
        let result = log.lock().unwrap_or_else(PoisonError::into_inner).append(first, &records).map_err(PushError::from);
        if let Err(error) = &result {
            tracing::error!(source = self.spec.name, %error, bodies = records.len(), "pushed rows are refused");
        }
        drop(records);
        let mut state = self.state();
        for ((mut body, known, kept), number) in rest.into_iter().zip(first..) {
            if result.is_ok() {
                known.iter().for_each(|known| known.set_number(number));
                body.number = number;
                state.queue.push(body);
                state.next = number + 1;
            } else {
                known.iter().for_each(|known| state.keys.remove(known));
                state.queue.forgo(&body);
            }
            // Nobody else sets it.
            let _ = kept.set(result.clone());
        }
        state.flushing = false;
        self.changed.notify_all();
        if let Some(waker) = state.waker.clone() {
            waker();
        }
        state
    }

    /// What is kept of a body; `None` without a log.
    pub(super) fn record(
        &self,
        content: Content,
        key: Option<&str>,
        summary: &PushSummary,
        body: Vec<u8>,
    ) -> Result<Option<Unsealed>, PushError> {
        if self.log.is_none() {
            return Ok(None);
        }
        let (key, summary) = (key.map(str::to_owned), summary.clone());
        let entry = Entry { number: 0, at: now(), content, key, summary, body };
        let record = Unsealed::new(&entry).ok_or_else(|| PushError::Malformed("the body is longer than 4 GiB".into()))?;
        Ok(Some(record))
    }

    /// Gives again what was accepted after a body.
    pub(super) fn replayed(&self, replay: &mut Replay, rows_max: usize) -> Result<Option<Polled>, SourceError> {
        let failed = |error: LogError| SourceError::fatal(error.to_string());
        let (mut bodies, mut rows) = (Vec::new(), 0);
        while rows < rows_max.max(1) {
            let Some(entry) = replay.next().map_err(failed)? else { break };
            let number = entry.number;
            let remedy = "declare its columns as they were then, or go on from a checkpoint that has it";
            let unfit = |error| {
                SourceError::fatal(format!("body {number}, which was accepted before, does not fit any more: {error}; {remedy}"))
            };
            let body = self.decode_again(entry).map_err(unfit)?;
            rows += body.rows.num_rows().max(1);
            bodies.push(body);
        }
        Taken::new(bodies).map(|taken| queue::batch(taken, &self.spec).map(Polled::Batch)).transpose()
    }

    fn decode_again(&self, entry: Entry) -> Result<Body, PushError> {
        let known = entry.key.as_deref().and_then(|key| self.state().keys.numbered(key, entry.number));
        let mut body = match entry.content {
            Content::Pushed(format) => self.decode(&PushRequest { format, body: entry.body, idempotency_key: None })?.0,
            Content::Rows => {
                let (rows, diffs) = unpack(&entry.body).map_err(|error| PushError::Malformed(error.to_string()))?;
                self.body_of(rows, diffs)?
            }
            Content::Released => return Err(PushError::Malformed("it has no rows".into())),
        };
        body.number = entry.number;
        body.receipt = known.map(|known| Receipt(Box::new(move |epoch| known.settle(epoch))));
        Ok(body)
    }

    /// Goes on after a body: remembers the keys there are, and gives what is to be replayed.
    pub(super) fn resume(&self, after: u64) -> Result<Option<Replay>, SourceError> {
        let log = self.log.as_ref().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.state();
        state.next = state.next.max(after + 1);
        let (Some(mut log), Some(found)) = (log, state.found.take()) else { return Ok(None) };
        let failed = |error: LogError| SourceError::fatal(error.to_string());
        let found = log.take_back(after).map_err(failed)?.unwrap_or(found);
        let epoch = self.spec.log.as_ref().and_then(|log| match log.mode {
            LogMode::Accept { resumed, .. } => resumed,
            LogMode::Again => None,
        });
        let (first, last) = found.bodies.unwrap_or((u64::MAX, 0));
        let mut gone = first != u64::MAX && after + 1 < first;
        for entry in found.keyed {
            state.next = state.next.max(entry.number + 1);
            match entry.number {
                number if number <= after => state.keys.restore(entry, epoch),
                number if number >= first => state.keys.restore(entry, None),
                // Neither its rows nor it are here any more: who sends it again is not told that it is there.
                _ => gone = true,
            }
        }
        state.next = state.next.max(last + 1);
        if gone {
            tracing::warn!(
                source = self.spec.name,
                after,
                "rows that were accepted after this checkpoint are no longer in the log, because a later checkpoint had them"
            );
            let keys = state.keys.of_released(after.min(first - 1), now());
            log.write_keys(&keys).map_err(failed)?;
        }
        if last < after {
            // The numbers of the bodies in a log have no gaps.
            let keys = &mut state.keys;
            log.release(after, |upto| keys.of_released(upto, now())).map_err(failed)?;
        }
        let bodies = last.saturating_sub(after.max(first.saturating_sub(1)));
        if bodies > 0 {
            tracing::info!(source = self.spec.name, bodies, "bodies that were accepted after the checkpoint are replayed");
        }
        Ok(Some(log.replay(after)))
    }

    /// Lets go of bodies up to a number.
    pub(super) fn release(&self, upto: u64) {
        let Some(log) = &self.log else { return };
        let mut log: MutexGuard<'_, Log> = log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = log.release(upto, |upto| self.state().keys.of_released(upto, now())) {
            tracing::warn!(source = self.spec.name, %error, "accepted rows that are saved stay in the log");
        }
    }
}

/// Rows and their signs as an Arrow stream.
pub(super) fn pack(rows: &RecordBatch, diffs: &Int64Array) -> Result<Vec<u8>, ArrowError> {
    let fields =
        rows.schema().fields().iter().cloned().chain([Arc::new(Field::new(DIFF, DataType::Int64, true))]).collect::<Vec<_>>();
    let columns = rows.columns().iter().cloned().chain([Arc::new(diffs.clone()) as ArrayRef]).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn unpack(bytes: &[u8]) -> Result<(RecordBatch, Int64Array), ArrowError> {
    let none = || ArrowError::IpcError("it holds no rows".into());
    let batch = StreamReader::try_new(bytes, None)?.next().ok_or_else(none)??;
    let (diffs, columns) = batch.columns().split_last().ok_or_else(none)?;
    let diffs = diffs.as_primitive_opt::<Int64Type>().ok_or_else(none)?.clone();
    let rows = batch.project(&(0..columns.len()).collect::<Vec<_>>())?;
    Ok((rows, diffs))
}
