//! Event time in a plan: which columns carry it, what windows exist, and the one unit (microseconds) it is compared in.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};

/// How rows are put into windows. All lengths are microseconds; windows are half open and aligned to the Unix epoch
/// plus `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Back to back windows.
    Tumble {
        /// Length.
        size: i64,
        /// Shift of the alignment.
        offset: i64,
    },
    /// A window of `size` starts every `slide`.
    Hop {
        /// Distance between two starts.
        slide: i64,
        /// Length.
        size: i64,
        /// Shift of the alignment.
        offset: i64,
    },
    /// Windows that grow: every `max` one starts, and from there one ends after each `step` until `max` is reached.
    Cumulate {
        /// Distance between two ends.
        step: i64,
        /// Length of the longest; a multiple of `step`.
        max: i64,
        /// Shift of the alignment.
        offset: i64,
    },
}

impl WindowKind {
    /// Length of a window in microseconds; of the longest where they differ.
    pub fn size(&self) -> i64 {
        match *self {
            WindowKind::Tumble { size, .. } | WindowKind::Hop { size, .. } => size,
            WindowKind::Cumulate { max, .. } => max,
        }
    }

    /// Distance between the ends of two windows in microseconds.
    pub fn slide(&self) -> i64 {
        match *self {
            WindowKind::Tumble { size, .. } => size,
            WindowKind::Hop { slide, .. } => slide,
            WindowKind::Cumulate { step, .. } => step,
        }
    }

    /// Shift of the windows' starts from multiples of the slide, in microseconds.
    pub fn offset(&self) -> i64 {
        match *self {
            WindowKind::Tumble { offset, .. } | WindowKind::Hop { offset, .. } | WindowKind::Cumulate { offset, .. } => offset,
        }
    }

    /// The last instant at or before `time` that is a multiple of the slide, shifted by the offset. For tumbling and
    /// hopping windows: start of the last window that holds `time`; the windows before it start one slide earlier each.
    pub fn last_start(&self, time: i64) -> i64 {
        let slide = self.slide();
        time - (time - self.offset()).rem_euclid(slide)
    }

    /// Start of the window that ends at `end`.
    pub fn start_of(&self, end: i64) -> i64 {
        match *self {
            WindowKind::Tumble { size, .. } | WindowKind::Hop { size, .. } => end - size,
            WindowKind::Cumulate { max, offset, .. } => {
                let last = end - 1;
                last - (last - offset).rem_euclid(max)
            }
        }
    }

    /// Ends of the first and last window that hold `time`, one slide apart each; `None` if it is in a gap between windows.
    pub fn ends(&self, time: i64) -> Option<(i64, i64)> {
        let (slide, last) = (self.slide(), self.last_start(time));
        match *self {
            WindowKind::Tumble { size, .. } | WindowKind::Hop { size, .. } => {
                let left = size - 1 - (time - last);
                (left >= 0).then(|| (last - left / slide * slide + size, last + size))
            }
            WindowKind::Cumulate { max, offset, .. } => Some((last + slide, time - (time - offset).rem_euclid(max) + max)),
        }
    }
}

/// What a time column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeKind {
    /// An event time that has a watermark.
    Event,
    /// The start of windows of this length (microseconds).
    WindowStart {
        /// Length of the windows.
        size: i64,
    },
    /// The (exclusive) end of windows of this length (microseconds).
    WindowEnd {
        /// Length of the windows.
        size: i64,
    },
}

impl TimeKind {
    /// How long after its value a time is over, in microseconds: the watermark says so when it has reached the sum. A window
    /// is over at its end; an event time when the watermark is after it, which may reach a time of which there are more rows.
    pub fn closes_after(self) -> i64 {
        match self {
            TimeKind::WindowStart { size } => size,
            TimeKind::WindowEnd { .. } => 0,
            TimeKind::Event => 1,
        }
    }
}

/// Stands for the clock as a [`TimeSource::source`]: processing time. Its watermark after epoch `e` is the millisecond
/// after `e`, because all rows to come have a later epoch; when all feeds have finished it is infinity.
pub const PROCESSING_TIME: usize = usize::MAX;

/// A source whose watermark says something of a time, and by how much the time may be behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSource {
    /// Index into [`crate::Job::sources`], or [`PROCESSING_TIME`].
    pub source: usize,
    /// By how much rows may come after the source's watermark has passed their time, in microseconds, never negative. An
    /// interval join gives a row when its match comes, which may be that much later.
    pub delay: i64,
}

impl TimeSource {
    /// A source whose own times these are.
    pub fn of(source: usize) -> Self {
        TimeSource { source, delay: 0 }
    }

    /// The same, with rows that may be so much later still.
    pub fn delayed(self, delay: i64) -> Self {
        TimeSource { delay: self.delay.saturating_add(delay), ..self }
    }

    /// Each source once, with its longest delay; ascending.
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a TimeSource>) -> Vec<TimeSource> {
        let mut sources: Vec<TimeSource> = all.into_iter().copied().collect();
        sources.sort_unstable_by_key(|time| (time.source, std::cmp::Reverse(time.delay)));
        sources.dedup_by_key(|time| time.source);
        sources
    }

    /// The watermark that the source's one, `watermark`, makes of it.
    pub fn watermark(self, watermark: i64) -> i64 {
        match watermark {
            // Nothing is known, or all is over: however late.
            i64::MIN | i64::MAX => watermark,
            watermark => watermark.saturating_sub(self.delay),
        }
    }
}

/// A column whose values the watermark says something about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TimeColumn {
    /// What its values are.
    pub kind: TimeKind,
    /// The sources whose watermarks bound it: the smallest of them counts. Ascending.
    pub sources: Vec<TimeSource>,
}

/// The values of a timestamp column in microseconds; NULLs stay NULLs. `None` if the column is not a timestamp.
pub fn micros_from_column(column: &ArrayRef) -> Option<arrow::array::Int64Array> {
    let DataType::Timestamp(unit, _) = column.data_type() else { return None };
    let (values, scale): (&arrow::buffer::ScalarBuffer<i64>, i64) = match unit {
        TimeUnit::Second => (column.as_primitive::<TimestampSecondType>().values(), 1_000_000),
        TimeUnit::Millisecond => (column.as_primitive::<TimestampMillisecondType>().values(), 1_000),
        TimeUnit::Microsecond => (column.as_primitive::<TimestampMicrosecondType>().values(), 1),
        TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().values(), 0),
    };
    let micros = match scale {
        1 => values.clone(),
        0 => values.iter().map(|value| value.div_euclid(1_000)).collect(),
        scale => values.iter().map(|value| value.saturating_mul(scale)).collect(),
    };
    Some(arrow::array::Int64Array::new(micros, column.nulls().cloned()))
}

/// A timestamp column read in microseconds, without a copy, or one of integers.
#[derive(Debug, Clone)]
pub struct Micros {
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
    /// Microseconds per unit; 0 for nanoseconds.
    scale: i64,
}

impl Micros {
    /// The column's values; `None` if it is neither a timestamp nor an integer. Integers are event times as they are: what
    /// one of them lasts does not matter to anyone.
    pub fn new(column: &ArrayRef) -> Option<Self> {
        let DataType::Timestamp(unit, _) = column.data_type() else {
            if !column.data_type().is_signed_integer() {
                return None;
            }
            let column = arrow::compute::cast(column, &DataType::Int64).ok()?;
            let values = column.as_primitive::<Int64Type>().values().clone();
            return Some(Micros { values, nulls: column.nulls().cloned(), scale: 1 });
        };
        let (values, scale) = match unit {
            TimeUnit::Second => (column.as_primitive::<TimestampSecondType>().values(), 1_000_000),
            TimeUnit::Millisecond => (column.as_primitive::<TimestampMillisecondType>().values(), 1_000),
            TimeUnit::Microsecond => (column.as_primitive::<TimestampMicrosecondType>().values(), 1),
            TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().values(), 0),
        };
        Some(Micros { values: values.clone(), nulls: column.nulls().cloned(), scale })
    }

    /// The value at `row`; meaningless where it is NULL.
    #[inline]
    pub fn value(&self, row: usize) -> i64 {
        self.scaled(self.values[row])
    }

    /// Whether the value at `row` is NULL.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of NULLs.
    pub fn null_count(&self) -> usize {
        self.nulls.as_ref().map_or(0, NullBuffer::null_count)
    }

    /// The smallest and the largest value, NULLs left out; `None` if there is no value.
    pub fn extent(&self) -> Option<(i64, i64)> {
        let (least, greatest) = match self.null_count() {
            0 => extent(&self.values)?,
            _ => (0..self.len()).filter(|row| !self.is_null(*row)).fold(None, |extent, row| {
                let value = self.values[row];
                Some(extent.map_or((value, value), |(least, greatest): (i64, i64)| (least.min(value), greatest.max(value))))
            })?,
        };
        Some((self.scaled(least), self.scaled(greatest)))
    }

    #[inline]
    fn scaled(&self, value: i64) -> i64 {
        if self.scale == 0 { value.div_euclid(1_000) } else { value.saturating_mul(self.scale) }
    }
}

/// The smallest and the largest value. Several at a time: a chain of comparisons that wait for each other is what costs.
fn extent(values: &[i64]) -> Option<(i64, i64)> {
    const LANES: usize = 4;
    let first = *values.first()?;
    let (mut least, mut greatest) = ([first; LANES], [first; LANES]);
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            least[lane] = least[lane].min(chunk[lane]);
            greatest[lane] = greatest[lane].max(chunk[lane]);
        }
    }
    let least = least.iter().chain(rest).copied().min()?;
    let greatest = greatest.iter().chain(rest).copied().max()?;
    Some((least, greatest))
}

/// The largest value of a timestamp column in microseconds; `None` if it has no value or is not a timestamp.
pub fn max_micros(column: &ArrayRef) -> Option<i64> {
    Some(Micros::new(column)?.extent()?.1)
}

/// A timestamp column of type `data_type` from microseconds.
///
/// # Panics
///
/// If `data_type` is not a timestamp: planners check that.
pub fn timestamp_from_micros(micros: arrow::array::Int64Array, data_type: &DataType) -> ArrayRef {
    use std::sync::Arc;
    let DataType::Timestamp(unit, zone) = data_type else { panic!("a window bound has type {data_type}") };
    let (_, values, nulls) = micros.into_parts();
    let scale =
        |divisor: i64| -> arrow::buffer::ScalarBuffer<i64> { values.iter().map(|value| value.div_euclid(divisor)).collect() };
    let zone = zone.clone();
    macro_rules! timestamps {
        ($kind:ty, $values:expr) => {
            Arc::new(arrow::array::PrimitiveArray::<$kind>::new($values, nulls).with_timezone_opt(zone)) as ArrayRef
        };
    }
    match unit {
        TimeUnit::Second => timestamps!(TimestampSecondType, scale(1_000_000)),
        TimeUnit::Millisecond => timestamps!(TimestampMillisecondType, scale(1_000)),
        TimeUnit::Microsecond => timestamps!(TimestampMicrosecondType, values),
        TimeUnit::Nanosecond => {
            timestamps!(TimestampNanosecondType, values.iter().map(|value| value.saturating_mul(1_000)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extent_of_a_column_leaves_nulls_out() {
        let micros = |values: Vec<Option<i64>>| {
            let column: ArrayRef = std::sync::Arc::new(arrow::array::TimestampMillisecondArray::from(values));
            Micros::new(&column).expect("a timestamp").extent()
        };
        assert_eq!(micros((0..100).map(|value| Some((value * 37) % 100 - 7)).collect()), Some((-7_000, 92_000)));
        assert_eq!(micros(vec![None, Some(3), Some(-1), None]), Some((-1_000, 3_000)));
        assert_eq!(micros(vec![None]), None);
        assert_eq!(micros(Vec::new()), None);
    }

    #[test]
    fn windows_align_to_the_offset_before_1970_too() {
        let tumble = WindowKind::Tumble { size: 10, offset: 3 };
        assert_eq!(tumble.last_start(3), 3);
        assert_eq!(tumble.last_start(2), -7);
        assert_eq!(tumble.last_start(-8), -17);
        let hop = WindowKind::Hop { slide: 2, size: 10, offset: 0 };
        assert_eq!(hop.last_start(-1), -2);
    }
}
