//! Publishes to a topic, as the publisher of `connectors/kafka` does: what became of a transaction is never guessed. If that is not
//! known, the sink is taken over anew and the progress record read, unless somebody else has claimed it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use highwater_connectors::sink::{EpochChanges, PublishError, Publisher};
use highwater_turns::pass;

use crate::broker::{Brokers, EpochRows, Refusal};
use crate::input::Row;

pub(super) struct Publishes {
    brokers: Arc<Brokers>,
    life: usize,
    topic: String,
    exactly_once: bool,
    /// The number to publish with; `None`: it is not known whether the last transaction was committed.
    owner: Option<u64>,
    /// Drawn when the sink is taken over: tells this process's records from others'.
    claim: u64,
    published: Option<u64>,
}

impl Publishes {
    pub(super) fn new(brokers: Arc<Brokers>, life: usize, topic: String, exactly_once: bool) -> Self {
        Publishes { brokers, life, topic, exactly_once, owner: None, claim: 0, published: None }
    }

    fn failed(&self, refusal: Refusal) -> PublishError {
        match refusal {
            Refusal::Fenced => PublishError::fatal(format!("topic {}: another process has taken over", self.topic)),
            _ => PublishError::passing(format!("topic {}: {refusal:?}", self.topic)),
        }
    }

    /// Finds out how far publishing got after an answer was lost.
    fn reclaim(&mut self) -> Result<(), PublishError> {
        self.check_claim()?;
        let owner = self.brokers.take_over(self.life, &self.topic).map_err(|refusal| self.failed(refusal))?;
        pass();
        self.check_claim()?;
        self.owner = Some(owner);
        Ok(())
    }

    fn check_claim(&mut self) -> Result<(), PublishError> {
        let (claim, progress) = self.brokers.progress(self.life, &self.topic).map_err(|refusal| self.failed(refusal))?;
        if claim != self.claim {
            return Err(self.failed(Refusal::Fenced));
        }
        self.published = progress;
        Ok(())
    }

    fn commit(&mut self, epochs: Vec<EpochRows>, progress: Option<u64>) -> Result<(), Refusal> {
        let owner = self.owner.expect("it is taken over before");
        pass();
        let committed = self.brokers.commit(self.life, &self.topic, (owner, self.claim), epochs, progress);
        pass();
        match committed {
            Ok(()) => self.published = progress,
            Err(Refusal::NoAnswer | Refusal::Fenced) => self.owner = None,
            Err(_) => {}
        }
        committed
    }

    fn publish_once(&mut self, epochs: &[EpochChanges], through: u64) -> Result<(), PublishError> {
        if self.owner.is_none() {
            self.reclaim()?;
        }
        if self.published.is_some_and(|published| published >= through) {
            return Ok(());
        }
        let new = epochs.iter().filter(|epoch| self.published.is_none_or(|published| epoch.epoch > published));
        let rows = new.map(rows_of).collect();
        self.commit(rows, Some(through)).map_err(|refusal| match refusal {
            // Another process, or this one's earlier try: the record knows.
            Refusal::Fenced => self.failed(Refusal::NoAnswer),
            refusal => self.failed(refusal),
        })
    }
}

impl Publisher for Publishes {
    fn take_over(&mut self) -> Result<Option<u64>, PublishError> {
        if !self.exactly_once {
            return Ok(None);
        }
        pass();
        self.claim = self.brokers.baton.draw(|random| random.next());
        let owner = self.brokers.take_over(self.life, &self.topic).map_err(|refusal| self.failed(refusal))?;
        pass();
        let (_, progress) = self.brokers.progress(self.life, &self.topic).map_err(|refusal| self.failed(refusal))?;
        self.owner = Some(owner);
        match self.commit(Vec::new(), progress) {
            Ok(()) => Ok(self.published),
            // Tried again from the beginning, with a new number.
            Err(_) => Err(self.failed(Refusal::NoAnswer)),
        }
    }

    fn publish(&mut self, epochs: &[EpochChanges], through: u64) -> Result<(), PublishError> {
        if self.exactly_once {
            return self.publish_once(epochs, through);
        }
        pass();
        let appended = self.brokers.append(self.life, &self.topic, epochs.iter().map(rows_of).collect());
        appended.map_err(|refusal| self.failed(refusal))
    }
}

fn rows_of(epoch: &EpochChanges) -> EpochRows {
    let rows = epoch.changes.iter().flat_map(|changes| {
        let diff = |row: usize| changes.diffs.as_ref().map_or(1, |diffs| diffs.value(row));
        rows_as_numbers(&changes.rows).into_iter().enumerate().map(|(row, values)| (values, diff(row))).collect::<Vec<_>>()
    });
    (epoch.epoch, rows.collect())
}

/// Rows of numbers and times; timestamps in microseconds.
pub(crate) fn rows_as_numbers(rows: &RecordBatch) -> Vec<Row> {
    let number = |column: &Arc<dyn Array>| {
        let column = match column.data_type() {
            DataType::Timestamp(_, zone) => {
                let micros = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone.clone());
                cast(column, &micros).expect("a timestamp is one in microseconds")
            }
            _ => Arc::clone(column),
        };
        cast(&column, &DataType::Int64).expect("the columns of the job are numbers and times")
    };
    let columns: Vec<_> = rows.columns().iter().map(number).collect();
    let row = |row: usize| columns.iter().map(|column| column.as_primitive::<Int64Type>().value(row)).collect();
    (0..rows.num_rows()).map(row).collect()
}
