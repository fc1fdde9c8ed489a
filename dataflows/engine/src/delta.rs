//! Updates on the move: an Arrow batch with signed multiplicities, all of one epoch.
//!
//! The epoch is the timely message's time, so it is no column. A missing diff column means that every row is added once,
//! which is most of what flows and costs nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use highwater_plan::{Micros, Origin};
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::Diff;
use crate::hash::hash_columns;

/// A batch of updates of one epoch.
#[derive(Debug, Clone)]
pub struct Delta {
    /// The rows.
    pub rows: RecordBatch,
    /// Per row its multiplicity, never NULL; absent: all +1.
    pub diffs: Option<Int64Array>,
    /// The source rows behind the rows, while they are one to one (until the first exchange, join or aggregate).
    pub origin: Option<OriginRows>,
    /// Of a time column, while it is passed on as it is; see [`Delta::extent`].
    pub(crate) extent: Option<Extent>,
}

/// The smallest and the largest instant of a time column: several operators ask for it, and it is a pass over all rows.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    column: ArrayRef,
    micros: Option<(i64, i64)>,
}

/// Which source rows stand behind a batch's rows.
#[derive(Debug, Clone)]
pub struct OriginRows {
    /// Index into [`highwater_plan::Job::sources`].
    pub source: usize,
    /// Gives back whole rows.
    pub origin: Arc<dyn Origin>,
    /// Positions in the origin per row; absent: the same positions.
    pub rows: Option<UInt32Array>,
}

impl OriginRows {
    /// The positions in the origin of these positions of the batch.
    pub(crate) fn positions(&self, rows: &[u32]) -> Vec<u32> {
        match &self.rows {
            None => rows.to_vec(),
            Some(positions) => rows.iter().map(|row| positions.value(*row as usize)).collect(),
        }
    }
}

impl Delta {
    /// Rows that are each added once.
    pub fn insert(rows: RecordBatch) -> Self {
        Delta::of(rows, None)
    }

    /// Rows with their multiplicities.
    pub fn with_diffs(rows: RecordBatch, diffs: Int64Array) -> Self {
        Delta::of(rows, Some(diffs))
    }

    /// Rows with their multiplicities, if they are not all +1.
    pub fn of(rows: RecordBatch, diffs: Option<Int64Array>) -> Self {
        debug_assert!(diffs.as_ref().is_none_or(|diffs| diffs.len() == rows.num_rows()), "one diff per row");
        Delta { rows, diffs, origin: None, extent: None }
    }

    /// The same updates, of these source rows.
    pub fn from_origin(self, origin: Option<OriginRows>) -> Self {
        Delta { origin, ..self }
    }

    /// The same updates, of which it is known that `column` (one of theirs, or it is of no use) has this
    /// [extent](Micros::extent).
    pub fn with_extent(self, column: ArrayRef, micros: Option<(i64, i64)>) -> Self {
        Delta { extent: Some(Extent { column, micros }), ..self }
    }

    /// The same updates, with what is known of the columns of `other`, some of which are theirs.
    pub(crate) fn with_extent_of(self, other: &Delta) -> Self {
        Delta { extent: other.extent.clone(), ..self }
    }

    /// The smallest and the largest value of a timestamp column, in microseconds; `None` if it has no value. It costs
    /// nothing if it is the column whose extent is known.
    pub(crate) fn extent(&self, column: usize) -> Option<(i64, i64)> {
        let column = self.rows.column(column);
        match &self.extent {
            Some(known) if Arc::ptr_eq(&known.column, column) => known.micros,
            _ => Micros::new(column).expect("planners take times from timestamps").extent(),
        }
    }

    /// What takes these updates back.
    pub(crate) fn negated(&self) -> Delta {
        let diffs = (0..self.len()).map(|row| -self.diff(row));
        Delta::with_diffs(self.rows.clone(), Int64Array::from_iter_values(diffs))
    }

    /// Number of updates.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no updates.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The multiplicity of the update at `row`.
    pub fn diff(&self, row: usize) -> Diff {
        self.diffs.as_ref().map_or(1, |diffs| diffs.value(row))
    }

    /// The multiplicities, if they are not all +1.
    pub(crate) fn diff_values(&self) -> Option<&[Diff]> {
        self.diffs.as_ref().map(|diffs| diffs.values().as_ref())
    }

    /// The multiplicities.
    pub(crate) fn to_diffs(&self) -> Vec<Diff> {
        self.diff_values().map_or_else(|| vec![1; self.len()], <[Diff]>::to_vec)
    }

    /// Per row the hash of its first `columns` columns.
    pub(crate) fn hashes(&self, columns: usize) -> Vec<u64> {
        let mut hashes = Vec::new();
        hash_columns(&self.rows.columns()[..columns], self.len(), &mut hashes);
        hashes
    }

    /// These columns of the batch.
    pub(crate) fn columns(&self, indices: &[usize]) -> Vec<ArrayRef> {
        indices.iter().map(|index| Arc::clone(self.rows.column(*index))).collect()
    }

    /// The updates of several batches of one schema, without their origins.
    ///
    /// # Panics
    ///
    /// If there is no batch.
    pub(crate) fn concat(deltas: &[Delta]) -> Delta {
        let rows = compute::concat_batches(deltas[0].rows.schema_ref(), deltas.iter().map(|delta| &delta.rows));
        let diffs = deltas.iter().flat_map(|delta| (0..delta.len()).map(|row| delta.diff(row)));
        let diffs = deltas.iter().any(|delta| delta.diffs.is_some()).then(|| Int64Array::from_iter_values(diffs));
        Delta::of(rows.expect("batches of one schema"), diffs)
    }

    /// The updates whose bit is set, origin included.
    pub fn filter(&self, keep: &BooleanBuffer) -> Delta {
        let predicate = arrow::array::BooleanArray::new(keep.clone(), None);
        let filter = compute::FilterBuilder::new(&predicate).optimize().build();
        let rows = filter.filter_record_batch(&self.rows).expect("the predicate has a bit per row");
        let diffs = self.diffs.as_ref().map(|diffs| {
            let kept = filter.filter(diffs).expect("the predicate has a bit per row");
            Int64Array::from(kept.to_data())
        });
        let origin = self.origin.as_ref().map(|origin| OriginRows {
            rows: Some(match &origin.rows {
                Some(rows) => UInt32Array::from(filter.filter(rows).expect("the predicate has a bit per row").to_data()),
                None => keep.set_indices().map(|row| row as u32).collect(),
            }),
            ..origin.clone()
        });
        Delta::of(rows, diffs).from_origin(origin)
    }

    /// The updates at these positions, without their origin.
    pub fn take(&self, positions: &UInt32Array) -> Delta {
        let take = |column: &ArrayRef| compute::take(column, positions, None).expect("positions are within the batch");
        // Rows may have no columns.
        let options = RecordBatchOptions::new().with_row_count(Some(positions.len()));
        let columns = self.rows.columns().iter().map(take).collect();
        let rows = RecordBatch::try_new_with_options(self.rows.schema(), columns, &options).expect("columns of the batch");
        let diffs = self.diffs.as_ref().map(|diffs| {
            let taken = compute::take(diffs, positions, None).expect("positions are within the batch");
            Int64Array::from(taken.to_data())
        });
        Delta::of(rows, diffs)
    }

    /// The updates at these positions, origin included.
    pub(crate) fn take_with_origin(&self, positions: &UInt32Array) -> Delta {
        let origin = self
            .origin
            .as_ref()
            .map(|origin| OriginRows { rows: Some(UInt32Array::from(origin.positions(positions.values()))), ..origin.clone() });
        self.take(positions).from_origin(origin)
    }

    /// A range of the updates, origin included.
    pub fn slice(&self, offset: usize, length: usize) -> Delta {
        let origin = self.origin.as_ref().map(|origin| OriginRows {
            rows: Some(match &origin.rows {
                Some(rows) => rows.slice(offset, length),
                None => (offset as u32..(offset + length) as u32).collect(),
            }),
            ..origin.clone()
        });
        let diffs = self.diffs.as_ref().map(|diffs| diffs.slice(offset, length));
        Delta::of(self.rows.slice(offset, length), diffs).from_origin(origin)
    }
}

/// A [`Delta`] as timely moves it; empty after it was taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parcel(pub(crate) Option<Delta>);

impl Accountable for Parcel {
    fn record_count(&self) -> i64 {
        self.0.as_ref().map_or(0, |delta| delta.len() as i64)
    }
}

/// Between processes a parcel is an Arrow IPC stream; diffs are a last column. Origins stay behind.
impl ContainerBytes for Parcel {
    fn from_bytes(bytes: Bytes) -> Self {
        let (head, body) = bytes.split_at(16);
        let word = |range: std::ops::Range<usize>| u64::from_le_bytes(head[range].try_into().expect("eight bytes"));
        let (length, has_diffs) = (word(0..8) as usize, word(8..16) == 1);
        if length == 0 {
            return Parcel(None);
        }
        let mut reader = arrow::ipc::reader::StreamReader::try_new(&body[..length], None).expect("a peer sends Arrow IPC");
        let mut rows = reader.next().expect("a parcel has one batch").expect("a peer sends Arrow IPC");
        let diffs = has_diffs.then(|| {
            let column = rows.remove_column(rows.num_columns() - 1);
            Int64Array::from(column.to_data())
        });
        Parcel(Some(Delta::of(rows, diffs)))
    }

    fn length_in_bytes(&self) -> usize {
        16 + encode(self).len().next_multiple_of(8)
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let body = encode(self);
        let has_diffs = u64::from(self.0.as_ref().is_some_and(|delta| delta.diffs.is_some()));
        let padding = [0u8; 8];
        let pad = body.len().next_multiple_of(8) - body.len();
        for part in [&(body.len() as u64).to_le_bytes()[..], &has_diffs.to_le_bytes()[..], &body, &padding[..pad]] {
            writer.write_all(part).expect("timely gives as many bytes as were asked for");
        }
    }
}

fn encode(parcel: &Parcel) -> Vec<u8> {
    let mut body = Vec::new();
    let Some(delta) = &parcel.0 else { return body };
    let rows = match &delta.diffs {
        None => delta.rows.clone(),
        Some(diffs) => {
            let mut fields = delta.rows.schema().fields().to_vec();
            fields.push(Arc::new(arrow::datatypes::Field::new("diff", arrow::datatypes::DataType::Int64, false)));
            let mut columns = delta.rows.columns().to_vec();
            columns.push(Arc::new(diffs.clone()) as ArrayRef);
            RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).expect("one diff per row")
        }
    };
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut body, &rows.schema()).expect("writing to memory");
    writer.write(&rows).expect("writing to memory");
    writer.finish().expect("writing to memory");
    drop(writer);
    body
}

/// How many rows are there after these changes.
pub(crate) fn net(deltas: &[Delta]) -> usize {
    let net: Diff = deltas.iter().map(|delta| delta.diff_values().map_or(delta.len() as Diff, |diffs| diffs.iter().sum())).sum();
    net.max(0) as usize
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMillisecondArray;
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn rows_without_columns_are_taken_as_well() {
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap();
        let taken = Delta::with_diffs(rows, vec![1, 2, 3].into()).take(&UInt32Array::from(vec![2, 0]));
        assert_eq!((taken.len(), taken.diff(0), taken.diff(1)), (2, 3, 1));
    }

    #[test]
    fn what_is_known_of_a_column_is_not_taken_for_another() {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![3, 1, 7]));
        let other: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![4, 4, 4]));
        let field = |name: &str| Field::new(name, times.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field("t"), field("u")]));
        let rows = RecordBatch::try_new(schema, vec![Arc::clone(&times), other]).unwrap();
        // A false statement, to see where it is believed.
        let delta = Delta::insert(rows).with_extent(times, Some((0, 0)));
        assert_eq!(delta.extent(0), Some((0, 0)));
        assert_eq!(delta.extent(1), Some((4_000, 4_000)));
        assert_eq!(delta.slice(0, 2).extent(0), Some((1_000, 3_000)));
        assert_eq!(delta.filter(&BooleanBuffer::from(vec![false, true, false])).extent(0), Some((1_000, 1_000)));
        assert_eq!(delta.take_with_origin(&UInt32Array::from(vec![2])).extent(0), Some((7_000, 7_000)));
    }
}
