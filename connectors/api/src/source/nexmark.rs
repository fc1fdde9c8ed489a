//! The Nexmark stream: an auction site's persons, auctions and bids, as a function of the event's number.
//!
//! Every event is made from its number alone, so the stream can be cut anywhere: into partitions, at a checkpoint, for one
//! column. Event n happens at 2015-07-15T00:00:00Z plus n / 10 ms. The same events as those of crate `nexmark` 0.2, whose
//! generator serves as the test's answer; here only what is wanted is drawn, straight into columns.

mod columns;
mod event;

use std::sync::Arc;
use std::time::Instant;

use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use highwater_plan::{Diagnostic, Field, OptionReader, Origin};

use self::columns::Columns;
use self::event::Kind;
use super::pace::Pace;
use super::{
    Backlog, COMMON_FIELDS, Offset, PartitionId, PartitionReader, Polled, Source, SourceBatch, SourceConnector, SourceError,
    SourceSpec, Waker,
};

/// `connector = 'nexmark'`.
#[derive(Debug, Clone, Copy)]
pub struct Nexmark;

const FIELDS: &[Field] = &[
    Field { key: "events", about: "how many events; without it the stream has no end" },
    Field { key: "rate", about: "events per second; without it as fast as they are taken" },
    Field { key: "partitions", about: "how many partitions; default the number of workers" },
    Field {
        key: "type",
        about: "all (event_type, person, auction and bid), or the columns of person, auction or bid; default all",
    },
];

/// Events of one partition that stand next to each other in the stream.
const BLOCK: u64 = 1_000;

#[derive(Debug)]
struct Stream {
    spec: SourceSpec,
    kind: Option<Kind>,
    events: Option<u64>,
    rate: Option<f64>,
    partitions: u64,
}

struct Reader {
    stream: Arc<Stream>,
    columns: Columns,
    /// The next event.
    next: u64,
    /// Events that this reader has passed, for its pace.
    passed: u64,
    pace: Pace,
}

impl SourceConnector for Nexmark {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn fields(&self) -> Vec<Field> {
        [FIELDS, COMMON_FIELDS].concat()
    }

    fn origin(&self) -> &'static [&'static str] {
        // In how many partitions the stream is decides which events each has.
        &["type", "partitions"]
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let reader = OptionReader::new(&spec.options, "connector 'nexmark'", &[FIELDS, COMMON_FIELDS])?;
        const KINDS: &[(&str, Option<Kind>)] =
            &[("all", None), ("person", Some(Kind::Person)), ("auction", Some(Kind::Auction)), ("bid", Some(Kind::Bid))];
        let kind = reader.choice("type", KINDS)?.flatten();
        let rate = reader.parsed::<f64>("rate", "events per second, more than 0")?;
        if rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            return Err(reader.invalid("rate", "events per second, more than 0"));
        }
        let partitions = reader.parsed::<u64>("partitions", "a number from 1")?.unwrap_or(spec.workers.max(1) as u64);
        if partitions == 0 {
            return Err(reader.invalid("partitions", "a number from 1"));
        }
        let events = reader.parsed::<u64>("events", "a number of events")?;
        // All columns are checked, not only those that are used.
        Columns::new(&spec.schema, kind).map_err(|error| error.at(spec.options.span))?;
        Ok(Box::new(Arc::new(Stream { spec: spec.clone(), kind, events, rate, partitions })))
    }
}

impl Source for Arc<Stream> {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok((0..self.partitions).map(|partition| PartitionId::new(partition.to_string())).collect())
    }

    fn read(&self, partition: &PartitionId, offset: Option<&Offset>, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let number = partition.0.parse::<u64>().ok().filter(|number| *number < self.partitions);
        let number = number.ok_or_else(|| SourceError::fatal(format!("nexmark has no partition '{partition}'")))?;
        let next = match offset {
            Some(offset) => self.position(offset)?,
            None => number * BLOCK,
        };
        let columns = Columns::new(&self.spec.used_schema(), self.kind).map_err(|error| SourceError::fatal(error.to_string()))?;
        let pace = Pace::start(self.rate.map(|rate| rate / self.partitions as f64));
        Ok(Box::new(Reader { stream: self.clone(), columns, next, passed: 0, pace }))
    }

    fn repeats(&self) -> bool {
        true
    }

    fn again(&self, partition: &PartitionId, until: &Offset, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let (spec, kind, partitions) = (self.spec.clone(), self.kind, self.partitions);
        let before = Stream { spec, kind, partitions, events: Some(self.position(until)?), rate: None };
        Arc::new(before).read(partition, None, waker)
    }

    fn bounded(&self) -> bool {
        self.events.is_some()
    }

    fn rows(&self) -> Option<u64> {
        self.events
    }
}

impl Stream {
    /// The number of the next event, from `event 123000 of 4 partitions`.
    fn position(&self, offset: &Offset) -> Result<u64, SourceError> {
        let words: Vec<&str> = offset.0.split(' ').collect();
        let parsed = match words.as_slice() {
            ["event", event, "of", partitions, "partitions"] => event.parse().ok().zip(partitions.parse::<u64>().ok()),
            _ => None,
        };
        match parsed {
            Some((event, partitions)) if partitions == self.partitions => Ok(event),
            Some((_, partitions)) => Err(SourceError::fatal(format!(
                "nexmark was read in {partitions} partitions, not {}: go on with partitions = '{partitions}'",
                self.partitions
            ))),
            None => Err(SourceError::fatal(format!("'{}' is no position in nexmark", offset.0))),
        }
    }

    fn ended(&self, event: u64) -> bool {
        self.events.is_some_and(|events| event >= events)
    }

    /// The event of the same partition that follows `event`.
    fn after(&self, event: u64) -> u64 {
        let next = event + 1;
        if next.is_multiple_of(BLOCK) { next + (self.partitions - 1) * BLOCK } else { next }
    }
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        if self.stream.ended(self.next) {
            return Ok(Polled::Finished);
        }
        let now = Instant::now();
        let due = self.pace.due(now);
        if self.passed >= due {
            return Ok(Polled::Pending(Some(self.pace.wait(self.passed, now))));
        }
        let mut numbers = Vec::new();
        // Of a rare kind only a part of the wanted rows is found in this many events.
        let passed_max = due.min(self.passed.saturating_add(64 * rows_max.max(1) as u64));
        let mut rows = 0;
        while rows < rows_max.max(1) && self.passed < passed_max && !self.stream.ended(self.next) {
            let event = self.next;
            if self.columns.push(event) {
                rows += 1;
                if self.stream.spec.keeps_origin {
                    numbers.push(event);
                }
            }
            self.passed += 1;
            self.next = self.stream.after(event);
        }
        let batch = finish(&mut self.columns, &self.stream.spec.used_schema(), rows);
        let rows = batch.map_err(|error| SourceError::fatal(format!("building a nexmark batch: {error}")))?;
        let origin = || Arc::new(Numbers { stream: self.stream.clone(), numbers }) as Arc<dyn Origin>;
        Ok(Polled::Batch(SourceBatch {
            rows,
            diffs: None,
            origin: self.stream.spec.keeps_origin.then(origin),
            rejects: Vec::new(),
            offset: Offset::new(format_args!("event {} of {} partitions", self.next, self.stream.partitions)),
            bytes: 0,
            receipt: None,
        }))
    }

    fn backlog(&self) -> Option<Backlog> {
        let due = self.pace.due(Instant::now());
        (due < u64::MAX).then(|| Backlog { rows: due.saturating_sub(self.passed), bytes: 0 })
    }
}

fn finish(columns: &mut Columns, schema: &arrow::datatypes::SchemaRef, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns.take()?, &options)
}

/// Makes whole rows again from their events' numbers.
#[derive(Debug)]
struct Numbers {
    stream: Arc<Stream>,
    numbers: Vec<u64>,
}

impl Origin for Numbers {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        let schema = &self.stream.spec.schema;
        let mut columns = Columns::new(schema, self.stream.kind).map_err(|error| ArrowError::SchemaError(error.to_string()))?;
        for row in rows {
            columns.push(self.numbers[*row as usize]);
        }
        finish(&mut columns, schema, rows.len())
    }
}

#[cfg(test)]
mod tests;
