//! The windows that a time falls in, and rows with windows.

use arrow::datatypes::SchemaRef;
use highwater_plan::{TimeKind, WindowAssign, WindowKind};

use crate::multiset::Multiset;
use crate::value::{Row, Value, micros, timestamp};

/// The windows `[start, end)` that hold a time: those whose start is the offset plus a multiple of the slide.
pub(super) fn windows(kind: &WindowKind, time: i64) -> Vec<(i64, i64)> {
    if let WindowKind::Cumulate { step, max, offset } = *kind {
        let start = (time - offset).div_euclid(max) * max + offset;
        return (1..=max / step).map(|steps| (start, start + steps * step)).filter(|(_, end)| time < *end).collect();
    }
    let (size, slide, offset) = (kind.size(), kind.slide(), kind.offset());
    // The first multiple whose window ends after the time, and then on until one starts after it.
    let first = (time - size - offset).div_euclid(slide) + 1;
    (first..)
        .map(|number| number * slide + offset)
        .take_while(|start| *start <= time)
        .map(|start| (start, start + size))
        .collect()
}

/// The start of the window that ends then.
pub(super) fn start_of(kind: &WindowKind, end: i64) -> i64 {
    let own = windows(kind, end - 1).into_iter().find(|(_, other)| *other == end);
    own.expect("a window holds its last instant").0
}

/// The end of the window of which a column holds this bound.
pub(super) fn end_of(kind: TimeKind, bound: i64) -> i64 {
    match kind {
        TimeKind::WindowStart { size } => bound + size,
        TimeKind::WindowEnd { .. } => bound,
        // A time is over when the watermark is after it.
        TimeKind::Event => bound + 1,
    }
}

/// How many rows have no time: they are errors.
pub(super) fn without_time(rows: &Multiset, assign: &WindowAssign) -> i64 {
    rows.iter().filter(|(row, _)| row[assign.time].is_null()).map(|(_, diff)| diff).sum()
}

/// Rows with `window_start`, `window_end` and `window_time`, once per window; rows without a time are in none.
pub(super) fn assigned(rows: &Multiset, assign: &WindowAssign, schema: &SchemaRef) -> Multiset {
    let data_type = schema.field(assign.time).data_type();
    let mut all = Multiset::default();
    for (row, diff) in rows.iter() {
        let Some(time) = micros(&row[assign.time], data_type) else { continue };
        for (start, end) in windows(&assign.kind, time) {
            let bounds = [start, end, end - 1_000].map(|bound| timestamp(bound, data_type));
            let with_bounds: Row = row.iter().cloned().chain(bounds).collect::<Vec<Value>>().into();
            all.add(with_bounds, diff);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopping_windows_need_not_be_multiples_of_the_slide() {
        let kind = WindowKind::Hop { slide: 4, size: 10, offset: 1 };
        assert_eq!(windows(&kind, 9), [(1, 11), (5, 15), (9, 19)]);
        assert_eq!(windows(&kind, 12), [(5, 15), (9, 19)]);
        assert_eq!(windows(&kind, -3), [(-11, -1), (-7, 3), (-3, 7)]);
    }

    #[test]
    fn growing_windows_share_a_start() {
        let kind = WindowKind::Cumulate { step: 4, max: 12, offset: 1 };
        assert_eq!(windows(&kind, 1), [(1, 5), (1, 9), (1, 13)]);
        assert_eq!(windows(&kind, 9), [(1, 13)]);
        assert_eq!(windows(&kind, 0), [(-11, 1)]);
        assert_eq!((start_of(&kind, 13), start_of(&kind, 17)), (1, 13));
    }
}
