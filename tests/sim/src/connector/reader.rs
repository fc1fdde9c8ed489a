//! Reads a topic: batches of any size, stalls, errors, rows that do not decode, partitions that appear.

use std::sync::Arc;
use std::time::Duration;

use highwater_connectors::source::{
    Offset, PartitionId, PartitionReader, Polled, Reject, Source, SourceBatch, SourceError, Waker,
};

use crate::broker::{Brokers, Refusal};
use crate::input::{Entry, Whole};

pub(super) struct Topic {
    pub(super) brokers: Arc<Brokers>,
    pub(super) life: usize,
    pub(super) topic: String,
    /// The columns that the job reads.
    pub(super) used: Vec<usize>,
}

fn away(refusal: Refusal) -> SourceError {
    SourceError::passing(format!("the brokers do not answer: {refusal:?}"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, SourceError> {
    text.parse().map_err(|_| SourceError::fatal(format!("'{text}' is no number")))
}

impl Source for Topic {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        let partitions = self.brokers.partitions(self.life, &self.topic).map_err(away)?;
        Ok(partitions.into_iter().map(|partition| PartitionId::new(partition.to_string())).collect())
    }

    fn read(
        &self,
        partition: &PartitionId,
        offset: Option<&Offset>,
        waker: Waker,
    ) -> Result<Box<dyn PartitionReader>, SourceError> {
        let partition = number(&partition.0)?;
        let next = offset.map_or(Ok(0), |offset| number(&offset.0))?;
        self.brokers.begin_reading(self.life, &self.topic, partition, next, waker);
        let (brokers, topic, used) = (Arc::clone(&self.brokers), self.topic.clone(), self.used.clone());
        Ok(Box::new(Reader { brokers, life: self.life, topic, partition, used, next }))
    }

    fn bounded(&self) -> bool {
        self.brokers.bounded
    }

    fn grows(&self) -> Option<Duration> {
        self.brokers.grows
    }

    fn committed(&self, positions: &[(PartitionId, Offset)]) {
        for (partition, offset) in positions {
            if let (Ok(partition), Ok(offset)) = (number(&partition.0), number(&offset.0)) {
                self.brokers.trim(self.life, &self.topic, partition, offset);
            }
        }
    }
}

struct Reader {
    brokers: Arc<Brokers>,
    life: usize,
    topic: String,
    partition: usize,
    used: Vec<usize>,
    /// The offset of the next entry.
    next: usize,
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        let stalls = self.brokers.reads(self.life).map_err(away)?;
        let draw = |low, high| self.brokers.baton.draw(|random| random.between(low, high));
        let (log, end) =
            (&self.brokers.input.topics[self.topic.as_str()][self.partition], self.brokers.end(&self.topic, self.partition));
        if stalls {
            return Ok(Polled::Waiting(Some(Duration::from_micros(draw(100, 500_000)))));
        }
        if self.next == end {
            self.brokers.has_read(self.life, &self.topic, self.partition, self.next);
            let over = end == log.entries.len();
            return Ok(match over {
                true if self.brokers.bounded => Polled::Finished,
                // Whoever brings the entries wakes the reader.
                _ => Polled::Pending(None),
            });
        }
        // What was asked for is about what is wanted: a batch that is too large is cut.
        let wanted = draw(1, 24).min(4 * rows_max.max(1) as u64) as usize;
        let to = end.min(self.next + wanted);
        let whole = log.rows_of(self.next, to);
        let rows = whole.project(&self.used).expect("the columns are the source's");
        let poison = (self.next..to).filter(|offset| log.entries[*offset] == Entry::Poison);
        let rejects = poison.map(|offset| Reject::new(b"poison", Offset::new(offset), "it is no row")).collect();
        self.brokers.baton.say(format_args!("reads {}/{} from {} to {to}", self.topic, self.partition, self.next));
        self.next = to;
        let offset = Offset::new(to);
        Ok(Polled::Batch(SourceBatch {
            rows,
            diffs: None,
            origin: Some(Arc::new(Whole(whole))),
            rejects,
            offset,
            bytes: 0,
            receipt: None,
        }))
    }
}
