//! Which rows may move the watermark, and how far: the watermark expression and the far-future guard.
//!
//! One row with a broken clock must not close every window. So a row whose event time is further ahead of the wall clock
//! than `max_ahead` is refused, like a row that cannot be decoded; so is a row on which the watermark expression fails. A
//! row whose event time is NULL passes and moves nothing.
//!
//! Expressions run over whole batches. Only if one fails is the batch halved until the rows at fault stand alone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use highwater_plan::{EvalError, Expr, Micros, Watermark, max_micros, micros_from_column};

use crate::clock::micros;
use crate::options::MaxAhead;

const IS_TIMESTAMP: &str = "opening the source checked that the watermark is a timestamp";

/// Judges the rows of one source by their event time.
pub(crate) struct EventTime {
    watermark: Watermark,
    max_ahead: Option<MaxAhead>,
}

/// What became of a batch's rows.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Per row what it moves the watermark to. Meaningless for refused rows.
    pub(crate) marks: Marks,
    /// The event times, as they stand in the batch if they are a column of it.
    pub(crate) events: ArrayRef,
    /// Their smallest and largest, in microseconds; `None` without any.
    pub(crate) extent: Option<(i64, i64)>,
    /// Rows that are refused, ascending.
    pub(crate) refused: Vec<Refused>,
}

/// Watermarks of rows: timestamps, in whatever unit they came, less a delay. NULL where a row moves nothing.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    times: ArrayRef,
    delay: i64,
    /// The largest time, where it is known already.
    max: Option<i64>,
}

impl Marks {
    /// The largest, in microseconds.
    pub(crate) fn max(&self) -> Option<i64> {
        self.max.or_else(|| max_micros(&self.times)).map(|time| time.saturating_sub(self.delay))
    }

    /// Those of a range of the rows.
    pub(crate) fn slice(&self, offset: usize, length: usize) -> Marks {
        Marks { times: self.times.slice(offset, length), delay: self.delay, max: None }
    }

    /// Those of the rows whose bit is set.
    pub(crate) fn filter(&self, keep: &BooleanArray) -> Marks {
        let times = compute::filter(&self.times, keep).expect("the mask has a bit per row");
        Marks { times, delay: self.delay, max: None }
    }
}

/// A refused row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its position in the batch.
    pub(crate) row: u32,
    /// Why.
    pub(crate) reason: String,
}

impl EventTime {
    /// A judge for a source with this watermark.
    ///
    /// Both expressions of `watermark` are timestamps: whoever opens the source has checked that.
    pub(crate) fn new(watermark: Watermark, max_ahead: Option<MaxAhead>) -> Self {
        EventTime { watermark, max_ahead }
    }

    /// Judges the rows of a batch, given the time on the wall.
    pub(crate) fn judge(&self, rows: &RecordBatch, wall_micros: i64) -> Judged {
        let mut refused = Vec::new();
        let events = self.evaluate(&self.watermark.event_time, rows, &mut refused);
        let extent = Micros::new(&events).expect(IS_TIMESTAMP).extent();
        let latest = extent.map(|(_, latest)| latest);
        let marks = match self.watermark.delay {
            Some(delay) => Marks { times: Arc::clone(&events), delay, max: latest },
            None => {
                let values = self.evaluate(&self.watermark.expr, rows, &mut refused);
                Marks { times: nulls_of_both(values, &events), delay: 0, max: None }
            }
        };
        self.refuse_far_future(&events, latest, wall_micros, &mut refused);
        refused.sort_by_key(|refused| refused.row);
        refused.dedup_by_key(|refused| refused.row);
        Judged { marks, events, extent, refused }
    }

    /// `latest` is the largest of `events`.
    fn refuse_far_future(&self, events: &ArrayRef, latest: Option<i64>, wall_micros: i64, refused: &mut Vec<Refused>) {
        let Some(max_ahead) = &self.max_ahead else { return };
        let limit = wall_micros.saturating_add(micros(max_ahead.length));
        if latest.is_none_or(|latest| latest <= limit) {
            return;
        }
        let events = micros_of(events);
        let ahead = (0..events.len()).filter(|row| events.is_valid(*row) && events.value(*row) > limit);
        refused.extend(ahead.map(|row| Refused {
            row: row as u32,
            reason: format!(
                "event time {} is more than {} ahead of the clock; raise max_ahead if this is meant",
                micros_as_text(events.value(row)),
                max_ahead.text
            ),
        }));
    }

    fn evaluate(&self, expr: &Expr, rows: &RecordBatch, refused: &mut Vec<Refused>) -> ArrayRef {
        match expr.scalar.evaluate(rows) {
            Ok(values) => values,
            Err(_) => {
                let mut values = Vec::with_capacity(rows.num_rows());
                self.evaluate_parts(expr, rows, &mut values, refused);
                Arc::new(TimestampMicrosecondArray::from(values))
            }
        }
    }

    /// Halves `rows` until the rows at fault stand alone; appends a value per row.
    fn evaluate_parts(&self, expr: &Expr, rows: &RecordBatch, values: &mut Vec<Option<i64>>, refused: &mut Vec<Refused>) {
        match evaluate_micros(expr, rows) {
            Ok(part) => values.extend(part.iter()),
            Err(error) if rows.num_rows() <= 1 => {
                let reason = format!("the watermark of '{}' fails on this row: {error}", self.watermark.column);
                refused.push(Refused { row: values.len() as u32, reason });
                values.push(None);
            }
            Err(_) => {
                let half = rows.num_rows() / 2;
                self.evaluate_parts(expr, &rows.slice(0, half), values, refused);
                self.evaluate_parts(expr, &rows.slice(half, rows.num_rows() - half), values, refused);
            }
        }
    }
}

fn evaluate_micros(expr: &Expr, rows: &RecordBatch) -> Result<Int64Array, EvalError> {
    Ok(micros_of(&expr.scalar.evaluate(rows)?))
}

fn micros_of(column: &ArrayRef) -> Int64Array {
    micros_from_column(column).expect(IS_TIMESTAMP)
}

/// `marks`, NULL where `events` is NULL too.
fn nulls_of_both(marks: ArrayRef, events: &ArrayRef) -> ArrayRef {
    if events.null_count() == 0 {
        return marks;
    }
    let nulls = NullBuffer::union(marks.nulls(), events.nulls());
    let data = marks.to_data().into_builder().nulls(nulls).build();
    make_array(data.expect("only the validity was changed"))
}

fn micros_as_text(micros: i64) -> String {
    let text = array_value_to_string(&TimestampMicrosecondArray::from(vec![micros]), 0);
    text.unwrap_or_else(|_| format!("{micros} us after 1970"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{rows_at, watermark, watermark_that_fails_on};

    const DAY: i64 = 86_400_000_000;

    fn one_day() -> Option<MaxAhead> {
        Some(MaxAhead { length: Duration::from_secs(86_400), text: "1 day".into() })
    }

    #[test]
    fn a_row_from_the_far_future_is_refused_with_its_remedy() {
        let judge = EventTime::new(watermark(4), one_day());
        let judged = judge.judge(&rows_at(&[Some(10), Some(DAY + 10), Some(DAY + 11), None]), 10);
        assert_eq!(judged.refused.len(), 1);
        assert_eq!(judged.refused[0].row, 2);
        assert_eq!(
            judged.refused[0].reason,
            "event time 1970-01-02T00:00:00.000011 is more than 1 day ahead of the clock; raise max_ahead if this is meant"
        );
        assert_eq!(judged.marks.slice(0, 1).max(), Some(6));
        assert_eq!(judged.marks.slice(1, 1).max(), Some(DAY + 6));
        assert_eq!(judged.marks.slice(3, 1).max(), None, "a row without event time moves nothing");
    }

    #[test]
    fn without_a_limit_nothing_is_too_far() {
        let judged = EventTime::new(watermark(0), None).judge(&rows_at(&[Some(i64::MAX)]), 0);
        assert_eq!(judged.refused, []);
    }

    #[test]
    fn rows_on_which_the_watermark_fails_are_found_one_by_one() {
        let judge = EventTime::new(watermark_that_fails_on(&[3, 7]), one_day());
        let judged = judge.judge(&rows_at(&(0..9).map(Some).collect::<Vec<_>>()), 0);
        let rows: Vec<u32> = judged.refused.iter().map(|refused| refused.row).collect();
        assert_eq!(rows, [3, 7]);
        assert_eq!(judged.refused[0].reason, "the watermark of 'time' fails on this row: 3 is not to be had");
        assert_eq!(judged.marks.slice(8, 1).max(), Some(8));
    }

    #[test]
    fn an_empty_batch_moves_nothing() {
        let judged = EventTime::new(watermark(4), one_day()).judge(&rows_at(&[]), 0);
        assert_eq!((judged.marks.max(), judged.refused.len()), (None, 0));
    }
}
