//! A batch on its way from a reader into epochs: judged by event time, then given whole or in pieces.
//!
//! A piece belongs to one epoch. The watermark of a piece is that of its own rows, so that cutting a batch into epochs of
//! one row gives the same history as reading those rows one by one. The receipt, the offset and the bytes go with the last
//! piece: before it, the batch has not been taken. How far it has is counted in rows as they were read, refused ones
//! included: whether a row is refused hangs on when it is read, which row it is does not. So a row that was refused is told of with
//! the piece that is done with it, and what did not decode, which is no row, with the last one: whoever reads the rest of the batch
//! again after a restart tells of neither twice.

use std::collections::VecDeque;

use arrow::array::BooleanArray;
use arrow::record_batch::RecordBatch;
use highwater_connectors::source::{Offset, PartitionId, Receipt, Reject, SourceBatch};
use highwater_engine::{Delta, OriginRows, Place};

use crate::event_time::{EventTime, Marks, Refused};
use crate::rejects::{rejects_batch, rows_as_json};

/// What is left of a batch.
pub(crate) struct Batch {
    delta: Delta,
    /// Per row the watermark's value; absent without a watermark.
    marks: Option<Marks>,
    /// Per row which of those read it was.
    read_as: ReadAs,
    partition: PartitionId,
    /// What did not decode.
    rejects: Vec<Reject>,
    /// Rows that were refused, by which of those read they were.
    refused: VecDeque<(u64, Reject)>,
    receipt: Option<Receipt>,
    offset: Offset,
    bytes: u64,
}

/// What one epoch gets of a batch.
pub(crate) struct Piece {
    /// Rows; absent if there are none.
    pub(crate) delta: Option<Delta>,
    /// Rejected rows that it is done with.
    pub(crate) rejects: Option<RecordBatch>,
    /// The largest watermark among the rows.
    pub(crate) mark: Option<i64>,
    /// How many rows, as they were read, of its batch are done with it; told if there are more.
    pub(crate) done: u64,
    /// What comes with the last piece.
    pub(crate) end: Option<End>,
    /// Where its first row stands; whose partition it is says so.
    pub(crate) place: Place,
}

/// The end of a batch.
pub(crate) struct End {
    /// To be told the epoch.
    pub(crate) receipt: Option<Receipt>,
    /// Where reading stands now.
    pub(crate) offset: Offset,
    /// Bytes of the whole batch.
    pub(crate) bytes: u64,
}

/// Which rows of a batch are left.
enum ReadAs {
    /// All from this one on.
    From(u64),
    /// These.
    Rows(Vec<u32>),
}

impl ReadAs {
    fn first(&self) -> u64 {
        match self {
            ReadAs::From(first) => *first,
            ReadAs::Rows(rows) => rows.first().map_or(0, |row| u64::from(*row)),
        }
    }

    fn without_first(self, rows: usize) -> Self {
        match self {
            ReadAs::From(first) => ReadAs::From(first + rows as u64),
            ReadAs::Rows(mut all) => ReadAs::Rows(all.split_off(rows)),
        }
    }
}

impl Batch {
    /// Judges what a reader gave. `source` is the index into [`highwater_plan::Job::sources`]; `skip`: so many of the first
    /// rows were given before the job was restored.
    pub(crate) fn new(
        source: usize,
        partition: &PartitionId,
        read: SourceBatch,
        skip: usize,
        event_time: Option<&EventTime>,
        wall_micros: i64,
    ) -> Self {
        let SourceBatch { rows, diffs, origin, rejects, offset, bytes, receipt } = read;
        let origin = origin.map(|origin| OriginRows { source, origin, rows: None });
        let mut delta = Delta::of(rows, diffs).from_origin(origin);
        let skip = skip.min(delta.len());
        if skip > 0 {
            delta = delta.slice(skip, delta.len() - skip);
        }
        let mut read_as = ReadAs::From(skip as u64);
        let (mut marks, mut refused) = (None, VecDeque::new());
        if let Some(judged) = event_time.map(|judge| judge.judge(&delta.rows, wall_micros)) {
            marks = Some(judged.marks);
            delta = delta.with_extent(judged.events, judged.extent);
            if !judged.refused.is_empty() {
                let rows = judged.refused.iter().map(|refused| skip as u64 + u64::from(refused.row));
                refused = rows.zip(refused_rows(&delta, &judged.refused, &offset)).collect();
                let keep = keep_mask(delta.len(), &judged.refused);
                read_as = ReadAs::Rows((0..delta.len()).filter(|row| keep.value(*row)).map(|row| (skip + row) as u32).collect());
                delta = delta.filter(keep.values());
                marks = marks.map(|marks| marks.filter(&keep));
            }
        }
        Batch { delta, marks, read_as, partition: partition.clone(), rejects, refused, receipt, offset, bytes }
    }

    /// Rows that are left.
    pub(crate) fn rows(&self) -> usize {
        self.delta.len()
    }

    /// Whether all rows must be in one epoch: somebody waits to be told which.
    pub(crate) fn whole(&self) -> bool {
        self.receipt.is_some()
    }

    /// Takes the first `rows_max` rows; the rest, if there is one, is given back.
    pub(crate) fn cut(mut self, rows_max: usize) -> (Piece, Option<Batch>) {
        let rows = self.rows();
        if rows <= rows_max {
            let rejects = self.rejected_before(None);
            let mark = self.marks.as_ref().and_then(Marks::max);
            let delta = (rows > 0).then_some(self.delta);
            let end = End { receipt: self.receipt, offset: self.offset, bytes: self.bytes };
            return (Piece { delta, rejects, mark, done: 0, end: Some(end), place: Place::default() }, None);
        }
        let mark = self.marks.as_ref().and_then(|marks| marks.slice(0, rows_max).max());
        let delta = (rows_max > 0).then(|| self.delta.slice(0, rows_max));
        self.marks = self.marks.map(|marks| marks.slice(rows_max, rows - rows_max));
        self.delta = self.delta.slice(rows_max, rows - rows_max);
        self.read_as = self.read_as.without_first(rows_max);
        let done = self.read_as.first();
        let rejects = self.rejected_before(Some(done));
        (Piece { delta, rejects, mark, done, end: None, place: Place::default() }, Some(self))
    }

    /// Takes what was rejected before this row; all of it, if there are no more rows.
    fn rejected_before(&mut self, row: Option<u64>) -> Option<RecordBatch> {
        let mut rejects = if row.is_none() { std::mem::take(&mut self.rejects) } else { Vec::new() };
        let refused = self.refused.partition_point(|(refused, _)| row.is_none_or(|row| *refused < row));
        rejects.extend(self.refused.drain(..refused).map(|(_, reject)| reject));
        (!rejects.is_empty()).then(|| rejects_batch(&self.partition, &rejects))
    }
}

impl Piece {
    /// Rows given.
    pub(crate) fn rows(&self) -> usize {
        self.delta.as_ref().map_or(0, Delta::len)
    }

    /// Rows given or rejected.
    pub(crate) fn rows_and_rejects(&self) -> usize {
        self.rows() + self.rejects.as_ref().map_or(0, RecordBatch::num_rows)
    }
}

fn refused_rows(delta: &Delta, refused: &[Refused], offset: &Offset) -> Vec<Reject> {
    let positions: Vec<u32> = refused.iter().map(|refused| refused.row).collect();
    let origin = delta.origin.as_ref().map(|origin| origin.origin.as_ref());
    // A row that was decoded does not know its own offset any more, only where its batch ended.
    let before = Offset::new(format_args!("before {offset}", offset = offset.0));
    let lines = rows_as_json(&delta.rows, origin, &positions);
    lines.iter().zip(refused).map(|(line, row)| Reject::new(line.as_bytes(), before.clone(), &row.reason)).collect()
}

fn keep_mask(rows: usize, refused: &[Refused]) -> BooleanArray {
    let mut keep = vec![true; rows];
    for refused in refused {
        keep[refused.row as usize] = false;
    }
    BooleanArray::from(keep)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use arrow::array::{AsArray, Int64Array};

    use super::*;
    use crate::testing::{WholeRows, batch_at, receipt, times, watermark};

    fn judged(read: SourceBatch) -> Batch {
        judged_after(read, 0)
    }

    fn judged_after(read: SourceBatch, skip: usize) -> Batch {
        let judge = EventTime::new(watermark(0), Some(crate::testing::max_ahead(1_000)));
        Batch::new(3, &PartitionId::new("p"), read, skip, Some(&judge), 0)
    }

    fn pieces(mut batch: Batch, rows_max: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let (piece, rest) = batch.cut(rows_max);
            pieces.push(piece);
            match rest {
                Some(rest) => batch = rest,
                None => return pieces,
            }
        }
    }

    #[test]
    fn pieces_keep_diffs_origins_and_their_own_watermarks() {
        let mut read = batch_at(&[Some(5), Some(9), Some(2_000), Some(7), None]);
        read.diffs = Some(Int64Array::from(vec![1, -1, 1, 1, -1]));
        read.origin = Some(Arc::new(WholeRows(read.rows.clone())));
        let pieces = pieces(judged(read), 2);
        let seen: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let delta = piece.delta.as_ref().unwrap();
                let origin = delta.origin.as_ref().unwrap();
                assert_eq!(origin.source, 3);
                let positions = origin.rows.as_ref().unwrap().values().to_vec();
                (times(&delta.rows), delta.diffs.as_ref().unwrap().values().to_vec(), positions, piece.mark)
            })
            .collect();
        assert_eq!(
            seen,
            [(vec![Some(5), Some(9)], vec![1, -1], vec![0, 1], Some(9)), (vec![Some(7), None], vec![1, -1], vec![3, 4], Some(7)),]
        );
        let rejects = pieces[0].rejects.as_ref().unwrap();
        assert_eq!(rejects.num_rows(), 1);
        assert_eq!(rejects.column(1).as_string::<i32>().value(0), "before 5");
        assert_eq!(rejects.column(3).as_string::<i32>().value(0), r#"{"time":"1970-01-01T00:00:00.002","whole":true}"#);
        assert!(pieces[1].rejects.is_none());
    }

    #[test]
    fn a_batch_whose_rest_is_read_again_tells_of_each_reject_once() {
        let read = || {
            let mut read = batch_at(&[Some(1), Some(2_000), Some(2), Some(3), Some(2_001), Some(4)]);
            read.rejects = vec![Reject::new(b"x", Offset::new(0), "not json")];
            read
        };
        let rejected =
            |pieces: &[Piece]| -> Vec<usize> { pieces.iter().map(|piece| piece.rows_and_rejects() - piece.rows()).collect() };
        let first = pieces(judged(read()), 1);
        assert_eq!(
            rejected(&first),
            [1, 0, 1, 1],
            "each refused row with the piece before it, what did not decode with the last"
        );
        for (given, piece) in first.iter().enumerate().take(3) {
            let before: usize = rejected(&first[..=given]).iter().sum();
            let again = pieces(judged_after(read(), piece.done as usize), 1);
            assert_eq!(before + rejected(&again).iter().sum::<usize>(), 3, "done with {} rows", piece.done);
        }
    }

    #[test]
    fn the_receipt_and_the_offset_come_with_the_last_row() {
        let told = Arc::new(AtomicU64::new(0));
        let mut read = batch_at(&[Some(1), Some(2), Some(3)]);
        read.receipt = Some(receipt(&told));
        let pieces = pieces(judged(read), 2);
        assert!(pieces[0].end.is_none());
        let end = pieces.into_iter().nth(1).unwrap().end.unwrap();
        assert_eq!((end.offset, end.bytes), (Offset::new(3), 30));
        (end.receipt.unwrap().0)(17);
        assert_eq!(told.load(Ordering::SeqCst), 17);
    }

    #[test]
    fn a_batch_of_rejects_alone_is_one_piece_without_rows() {
        let mut read = batch_at(&[]);
        read.rejects = vec![Reject::new(b"x\xff", Offset::new(4), "not json")];
        let pieces = pieces(judged(read), 1);
        assert_eq!((pieces.len(), pieces[0].rows(), pieces[0].rows_and_rejects()), (1, 0, 1));
        assert!(pieces[0].delta.is_none());
        let rejects = pieces[0].rejects.as_ref().unwrap();
        assert_eq!(rejects.column(3).as_string::<i32>().value(0), "x\u{fffd}");
        assert_eq!(rejects.column(4).as_primitive::<arrow::datatypes::Int64Type>().value(0), 2);
    }
}
