//! Frames as positions in a partition's list: which rows a row's frame holds, which rows a change concerns, and how many
//! rows no later change can concern.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::*;
use highwater_plan::{Frame, FrameBound, FrameUnits, OverCall, OverFunction};

use crate::operator::ordered::{List, Rows};

/// The row numbers of a partition with what orders them.
#[derive(Clone, Copy)]
pub(super) struct Ordered<'a> {
    pub(super) list: &'a List,
    pub(super) rows: &'a Rows,
}

impl Ordered<'_> {
    pub(super) fn len(self) -> usize {
        self.list.len()
    }

    /// The first position whose order value is not before these bytes.
    fn lower(self, order: &[u8]) -> usize {
        self.list.partition_point(|row| self.rows.key(row).order < order)
    }

    /// The first position whose order value is behind these bytes.
    fn upper(self, order: &[u8]) -> usize {
        self.list.partition_point(|row| self.rows.key(row).order <= order)
    }

    /// Where the peers of a position begin, and where they end.
    pub(super) fn peers(self, position: usize) -> (usize, usize) {
        let order = self.rows.key(self.list.get(position)).order;
        (self.lower(order), self.upper(order))
    }

    /// The begin of the peers so many groups before the group that begins at `start`.
    fn groups_back(self, mut start: usize, groups: i128) -> usize {
        for _ in 0..groups {
            if start == 0 {
                break;
            }
            start = self.peers(start - 1).0;
        }
        start
    }

    /// The end of the peers so many groups behind the group that ends at `end`.
    fn groups_on(self, mut end: usize, groups: i128) -> usize {
        for _ in 0..groups {
            if end >= self.len() {
                break;
            }
            end = self.peers(end).1;
        }
        end
    }
}

/// Bytes of order values at the ends of RANGE frames, row by row.
pub(super) struct Ranges {
    pub(super) start: Option<arrow_row::Rows>,
    pub(super) end: Option<arrow_row::Rows>,
}

/// The frame of the row at `position` as positions; `row` is its place among `ranges`.
pub(super) fn frame_of(frame: Frame, of: Ordered<'_>, position: usize, ranges: Option<(&Ranges, usize)>) -> (usize, usize) {
    let length = of.len();
    let (start, end) = match frame.units {
        FrameUnits::Rows => {
            let at = |offset: i128, more: i128| (position as i128 + offset + more).clamp(0, length as i128) as usize;
            let start = offset(frame.start).map_or(0, |offset| at(offset, 0));
            (start, offset(frame.end).map_or(length, |offset| at(offset, 1)))
        }
        FrameUnits::Groups => {
            let (first, last) = of.peers(position);
            let start = match offset(frame.start) {
                None => 0,
                Some(offset) if offset <= 0 => of.groups_back(first, -offset),
                Some(offset) => of.groups_on(last, offset - 1),
            };
            let end = match offset(frame.end) {
                None => length,
                Some(offset) if offset >= 0 => of.groups_on(last, offset),
                Some(offset) => of.groups_back(first, -offset - 1),
            };
            (start, end)
        }
        FrameUnits::Range => {
            let (ranges, row) = ranges.expect("frames of values come with their values");
            let start = ranges.start.as_ref().map_or(0, |rows| of.lower(rows.row(row).data()));
            (start, ranges.end.as_ref().map_or(length, |rows| of.upper(rows.row(row).data())))
        }
    };
    (start, end.max(start))
}

fn offset(bound: FrameBound) -> Option<i128> {
    match bound {
        FrameBound::Unbounded => None,
        FrameBound::Offset(offset) => Some(offset),
        FrameBound::Float(_) => unreachable!("only RANGE has differences of floats"),
    }
}

/// The rows whose result a change at `position` may change, from the first to behind the last; the row that came or went
/// is among the changes of `ranges` at `row`.
pub(super) fn concerned(call: &OverCall, of: Ordered<'_>, position: usize, ranges: Option<(&Ranges, usize)>) -> (usize, usize) {
    let length = of.len();
    let around = |back: i128, on: i128| {
        let place = position as i128;
        ((place - back).clamp(0, length as i128) as usize, (place + on).clamp(0, length as i128) as usize)
    };
    let frame = match &call.function {
        OverFunction::Ranking(_) => return (position.min(length), length),
        OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_) => return (0, length),
        OverFunction::Shift { offset, .. } => {
            let offset = i128::from(*offset);
            return around(offset.max(0) + 1, (-offset).max(0) + 2);
        }
        OverFunction::Nth { .. } | OverFunction::Aggregate(_) => call.frame,
    };
    match frame.units {
        FrameUnits::Rows => {
            let back = offset(frame.end).map_or(length as i128, |end| end.max(0) + 1);
            around(back, offset(frame.start).map_or(length as i128, |start| (-start).max(0) + 2))
        }
        FrameUnits::Groups => {
            // A group may have come or gone: one more on either side.
            let (first, last) = match length {
                0 => return (0, 0),
                _ => of.peers(position.min(length - 1)),
            };
            let start = offset(frame.end).map_or(0, |end| of.groups_back(first, end.max(0) + 1));
            (start, offset(frame.start).map_or(length, |start| of.groups_on(last, (-start).max(0) + 1)))
        }
        FrameUnits::Range => {
            let (ranges, row) = ranges.expect("frames of values come with their values");
            let start = ranges.start.as_ref().map_or(0, |rows| of.lower(rows.row(row).data()));
            (start, ranges.end.as_ref().map_or(length, |rows| of.upper(rows.row(row).data())))
        }
    }
}

/// How far a frame of values reaches behind the current row, if it does, in units of the order column.
fn reach(bound: FrameBound) -> i128 {
    match bound {
        FrameBound::Offset(offset) => offset.max(0),
        FrameBound::Float(_) | FrameBound::Unbounded => 0,
    }
}

/// How many rows of a partition are final when no row before `watermark` will come: a prefix. `time` gives a row's time and
/// `unit` the microseconds of the order column's unit.
pub(super) fn finals(calls: &[OverCall], of: Ordered<'_>, watermark: i64, unit: f64, time: impl Fn(u32) -> i64) -> usize {
    let passed = of.list.partition_point(|row| time(row) < watermark);
    if watermark == i64::MAX {
        return passed;
    }
    let of_call = |call: &OverCall| {
        let rows = |rows: i128| passed - (rows.clamp(0, passed as i128) as usize);
        match &call.function {
            OverFunction::Shift { offset, .. } => rows(i128::from(*offset)),
            OverFunction::Nth { .. } | OverFunction::Aggregate(_) => match (call.frame.units, call.frame.end) {
                (_, FrameBound::Unbounded) => 0,
                (FrameUnits::Rows, FrameBound::Offset(end)) => rows(end),
                (FrameUnits::Groups, FrameBound::Offset(end)) if passed > 0 && end > 0 => of.groups_back(passed, end),
                (FrameUnits::Range, end) => {
                    let reach = micros(reach(end), unit);
                    of.list.partition_point(|row| time(row).saturating_add(reach) < watermark)
                }
                _ => passed,
            },
            _ => passed,
        }
    };
    calls.iter().map(of_call).min().unwrap_or(passed)
}

/// Units of a column as microseconds, rounded up.
pub(super) fn micros(units: i128, unit: f64) -> i64 {
    if unit >= 1.0 {
        i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(unit as i64)
    } else {
        let per_micro = (1.0 / unit).round() as i128;
        i64::try_from((units + per_micro - 1).div_euclid(per_micro)).unwrap_or(i64::MAX)
    }
}

/// A column of order values moved by a bound, behind being larger, or smaller if `descending`; `None` for no bound.
pub(super) fn moved(values: &ArrayRef, bound: FrameBound, descending: bool, negated: bool) -> Option<ArrayRef> {
    let sign = if descending != negated { -1 } else { 1 };
    match bound {
        FrameBound::Unbounded => None,
        // The row itself, among floats.
        FrameBound::Offset(_) if values.data_type().is_floating() => Some(ArrayRef::clone(values)),
        FrameBound::Offset(offset) => Some(moved_by(values, offset * sign)),
        FrameBound::Float(offset) => Some(match values.data_type() {
            DataType::Float32 => {
                let values = values.as_primitive::<Float32Type>();
                Arc::new(values.unary::<_, Float32Type>(|value| (f64::from(value) + offset * sign as f64) as f32))
            }
            _ => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| value + offset * sign as f64)),
        }),
    }
}

/// The largest and smallest values stand for what lies beyond them.
fn moved_by(values: &ArrayRef, by: i128) -> ArrayRef {
    fn each<T: ArrowPrimitiveType>(values: &ArrayRef, by: i128) -> ArrayRef
    where
        T::Native: TryFrom<i128> + Into<i128>,
    {
        let values: &PrimitiveArray<T> = values.as_primitive();
        let moved = values.unary::<_, T>(|value| {
            let sum = value.into().saturating_add(by);
            T::Native::try_from(sum).unwrap_or(if by < 0 { T::Native::MIN_TOTAL_ORDER } else { T::Native::MAX_TOTAL_ORDER })
        });
        Arc::new(moved.with_data_type(values.data_type().clone()))
    }
    match values.data_type() {
        DataType::Int8 => each::<Int8Type>(values, by),
        DataType::Int16 => each::<Int16Type>(values, by),
        DataType::Int32 => each::<Int32Type>(values, by),
        DataType::Int64 => each::<Int64Type>(values, by),
        DataType::UInt8 => each::<UInt8Type>(values, by),
        DataType::UInt16 => each::<UInt16Type>(values, by),
        DataType::UInt32 => each::<UInt32Type>(values, by),
        DataType::UInt64 => each::<UInt64Type>(values, by),
        DataType::Date32 => each::<Date32Type>(values, by),
        DataType::Decimal128(_, _) => each::<Decimal128Type>(values, by),
        DataType::Timestamp(TimeUnit::Second, _) => each::<TimestampSecondType>(values, by),
        DataType::Timestamp(TimeUnit::Millisecond, _) => each::<TimestampMillisecondType>(values, by),
        DataType::Timestamp(TimeUnit::Microsecond, _) => each::<TimestampMicrosecondType>(values, by),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => each::<TimestampNanosecondType>(values, by),
        other => unreachable!("planners allow no RANGE over {other}"),
    }
}
