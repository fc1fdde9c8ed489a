//! Made-up rows for any schema: to try a job out before its real source is there.
//!
//! A row is a function of the seed and its number, so a stream repeats exactly, and reading goes on where a checkpoint left
//! it; only columns of kind `now` take the clock's word. Each column has a sensible kind by its type, and options
//! `fields.<column>.*` to say more.

mod field;
mod options;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use highwater_plan::{Diagnostic, Field, OptionReader, Options, Origin};

use self::field::Generator;
use super::pace::Pace;
use super::{
    Backlog, COMMON_FIELDS, Offset, PartitionId, PartitionReader, Polled, Source, SourceBatch, SourceConnector, SourceError,
    SourceSpec, Waker,
};
use crate::format::BatchOrigin;
use crate::format::column::Column;

/// `connector = 'datagen'`.
#[derive(Debug, Clone, Copy)]
pub struct Datagen;

const FIELDS: &[Field] = &[
    Field { key: "rows", about: "how many rows; without it there is no end" },
    Field { key: "rate", about: "rows per second, or 'max'; default 1000" },
    Field { key: "seed", about: "a number: the same one gives the same rows; default 0" },
];

#[derive(Debug)]
struct Rows {
    spec: SourceSpec,
    rows: Option<u64>,
    rate: Option<f64>,
    /// One per physical column.
    generators: Vec<Generator>,
}

struct Reader {
    stream: Arc<Rows>,
    columns: Vec<(usize, Column)>,
    first: u64,
    next: u64,
    pace: Pace,
}

impl SourceConnector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn fields(&self) -> Vec<Field> {
        [FIELDS, options::COLUMN_FIELDS, COMMON_FIELDS].concat()
    }

    fn origin(&self) -> &'static [&'static str] {
        &["seed"]
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        // The columns' options have names of their own and are read by `options`.
        let entries = spec.options.entries.iter().filter(|entry| !entry.key.starts_with("fields."));
        let plain = Options { entries: entries.cloned().collect(), span: spec.options.span };
        let reader = OptionReader::new(&plain, "connector 'datagen'", &[FIELDS, options::COLUMN_FIELDS, COMMON_FIELDS])?;
        let rows = reader.parsed("rows", "a number of rows")?;
        let rate = match reader.optional("rate") {
            Some("max") => None,
            _ => Some(reader.parsed::<f64>("rate", "rows per second, more than 0, or 'max'")?.unwrap_or(1_000.0)),
        };
        if rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            return Err(reader.invalid("rate", "rows per second, more than 0, or 'max'"));
        }
        let seed = reader.parsed("seed", "a number")?.unwrap_or(0);
        let generators = options::generators(spec, seed)?;
        Ok(Box::new(Arc::new(Rows { spec: spec.clone(), rows, rate, generators })))
    }
}

impl Source for Arc<Rows> {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(vec![PartitionId::new("0")])
    }

    fn read(&self, _: &PartitionId, offset: Option<&Offset>, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let next = offset.map_or(Ok(0), number)?;
        let wanted = if self.spec.keeps_origin { (0..self.generators.len()).collect() } else { self.spec.used.clone() };
        let columns = wanted.into_iter().map(|index| {
            let field = self.spec.schema.fields()[index].clone();
            Column::new(field).map(|column| (index, column)).map_err(|error| SourceError::fatal(format!("{error:?}")))
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Box::new(Reader { stream: self.clone(), columns, first: next, next, pace: Pace::start(self.rate) }))
    }

    fn repeats(&self) -> bool {
        !self.generators.iter().any(Generator::follows_clock)
    }

    fn again(&self, partition: &PartitionId, until: &Offset, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let (spec, generators) = (self.spec.clone(), self.generators.clone());
        Arc::new(Rows { spec, generators, rows: Some(number(until)?), rate: None }).read(partition, None, waker)
    }

    fn bounded(&self) -> bool {
        self.rows.is_some()
    }

    fn rows(&self) -> Option<u64> {
        self.rows
    }
}

fn number(offset: &Offset) -> Result<u64, SourceError> {
    offset.0.parse().map_err(|_| SourceError::fatal(format!("'{}' is no row number of datagen", offset.0)))
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        if self.stream.rows.is_some_and(|rows| self.next >= rows) {
            return Ok(Polled::Finished);
        }
        let now = Instant::now();
        let (passed, due) = (self.next - self.first, self.pace.due(now));
        if passed >= due {
            return Ok(Polled::Pending(Some(self.pace.wait(passed, now))));
        }
        let left = self.stream.rows.map_or(u64::MAX, |rows| rows - self.next);
        let count = (due - passed).min(left).min(rows_max.max(1) as u64);
        let range = self.next..self.next + count;
        let wall_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        for (index, column) in &mut self.columns {
            self.stream.generators[*index].append(column, range.clone(), wall_us);
        }
        self.next += count;
        let batch = self.finish(count as usize);
        let (rows, origin) = batch.map_err(|error| SourceError::fatal(format!("building a datagen batch: {error}")))?;
        Ok(Polled::Batch(SourceBatch {
            rows,
            diffs: None,
            origin,
            rejects: Vec::new(),
            offset: Offset::new(self.next),
            bytes: 0,
            receipt: None,
        }))
    }

    fn backlog(&self) -> Option<Backlog> {
        let due = self.pace.due(Instant::now());
        (due < u64::MAX).then(|| Backlog { rows: due.saturating_sub(self.next - self.first), bytes: 0 })
    }
}

impl Reader {
    fn finish(&mut self, rows: usize) -> Result<(RecordBatch, Option<Arc<dyn Origin>>), ArrowError> {
        let arrays = self.columns.iter_mut().map(|(_, column)| column.take()).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let spec = &self.stream.spec;
        if !spec.keeps_origin {
            return Ok((RecordBatch::try_new_with_options(spec.used_schema(), arrays, &options)?, None));
        }
        let whole = RecordBatch::try_new_with_options(spec.schema.clone(), arrays, &options)?;
        Ok((whole.project(&spec.used)?, Some(Arc::new(BatchOrigin(whole)))))
    }
}

#[cfg(test)]
mod tests;
