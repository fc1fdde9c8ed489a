//! Interval joins: what a join's conditions say of how far apart the times of a pair are.
//!
//! Each comparison is read as a sum: times with signs, and a length of time that is known up to a range (a month has 28 to
//! 31 days, a cast to seconds loses up to one). Where one time of each side is left with opposite signs, the comparison
//! bounds their difference. The conditions stay as they are; the bounds only say which rows can still match.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::Between;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use highwater_plan::{Diagnostic, JoinInterval, NodeId, Span, TimeColumn, TimeSource};

use crate::lower::Lowerer;
use crate::lower::expr::{as_column, span};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The bounds that conditions set to the difference of two event times, one of each side; those that are closest together
/// if there are several such pairs. `conditions` are over left then right columns, all of which must hold.
pub(super) fn interval(
    conditions: &[Expr],
    times: [&[Option<TimeColumn>]; 2],
    types: &DFSchema,
) -> Option<(JoinInterval, Option<Span>)> {
    let mut pairs: Vec<(Bounds, Option<Span>)> = Vec::new();
    for condition in conditions {
        for found in bounds(condition, times[0].len(), types) {
            match pairs.iter_mut().find(|(pair, _)| pair.columns == found.columns) {
                Some((pair, _)) => pair.tighten(&found),
                None => pairs.push((found, span(condition))),
            }
        }
    }
    let of = |(bounds, place): (Bounds, Option<Span>)| {
        let [left, right] = [0, 1].map(|side| times[side][bounds.columns[side]].as_ref());
        let (left, right) = (left?, right?);
        let sources = TimeSource::merged(left.sources.iter().chain(&right.sources));
        let known = !left.sources.is_empty() && !right.sources.is_empty();
        let kinds = [left.kind, right.kind];
        let Bounds { columns, lower, upper } = bounds;
        known.then_some((JoinInterval { columns, kinds, lower, upper, sources }, place))
    };
    let length = |(interval, _): &(JoinInterval, Option<Span>)| match (interval.lower, interval.upper) {
        (Some(lower), Some(upper)) => upper.saturating_sub(lower),
        _ => i64::MAX,
    };
    pairs.into_iter().filter_map(of).min_by_key(length)
}

/// `lower <= left - right <= upper`, in microseconds.
#[derive(Debug, PartialEq)]
struct Bounds {
    columns: [usize; 2],
    lower: Option<i64>,
    upper: Option<i64>,
}

impl Bounds {
    fn tighten(&mut self, other: &Bounds) {
        self.lower = self.lower.max(other.lower);
        self.upper = match (self.upper, other.upper) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// What a condition says of differences between a left time and a right time.
fn bounds(condition: &Expr, left_width: usize, types: &DFSchema) -> Vec<Bounds> {
    let compared = |left: &Expr, op: Operator, right: &Expr| comparison(left, op, right, left_width, types);
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            [left, right].into_iter().flat_map(|both| bounds(both, left_width, types)).collect()
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => compared(left, *op, right).into_iter().collect(),
        Expr::Between(Between { expr, negated: false, low, high }) => {
            [compared(expr, Operator::GtEq, low), compared(expr, Operator::LtEq, high)].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

fn comparison(left: &Expr, op: Operator, right: &Expr, left_width: usize, types: &DFSchema) -> Option<Bounds> {
    let difference = match (unit_of_difference(left), unit_of_difference(right)) {
        (Some(unit), None) => Sum::read(left, types)?.minus(&Sum::units(right, unit)?),
        (None, Some(unit)) => Sum::units(left, unit)?.minus(&Sum::read(right, types)?),
        _ => Sum::read(left, types)?.minus(&Sum::read(right, types)?),
    };
    let (left, right, sign) = match difference.times[..] {
        [(one, sign), (other, opposite)] if sign == -opposite && one < other => (one, other, sign),
        [(one, opposite), (other, sign)] if sign == -opposite => (other, one, sign),
        _ => return None,
    };
    if left >= left_width || right < left_width {
        return None;
    }
    let columns = [left, right - left_width];
    let Sum { low, high, .. } = difference;
    // Times are whole microseconds, where nothing was cut off.
    let strict = i64::from(low == high);
    // sign * (left - right) + rest compares with 0.
    let (at_most, at_least) = match op {
        Operator::LtEq => (Some(low.checked_neg()?), None),
        Operator::Lt => (Some(low.checked_neg()?.checked_sub(strict)?), None),
        Operator::GtEq => (None, Some(high.checked_neg()?)),
        Operator::Gt => (None, Some(high.checked_neg()?.checked_add(strict)?)),
        Operator::Eq => (Some(low.checked_neg()?), Some(high.checked_neg()?)),
        _ => return None,
    };
    let (lower, upper) = match sign {
        1 => (at_least, at_most),
        _ => (at_most.map(|bound| -bound), at_least.map(|bound| -bound)),
    };
    Some(Bounds { columns, lower, upper })
}

/// Times with signs, and a length between `low` and `high` microseconds.
#[derive(Debug, Clone, PartialEq)]
struct Sum {
    times: Vec<(usize, i64)>,
    low: i64,
    high: i64,
}

impl Sum {
    fn length(low: i64, high: i64) -> Sum {
        Sum { times: Vec::new(), low, high }
    }

    /// A number of units.
    fn units(expr: &Expr, unit: i64) -> Option<Sum> {
        let Expr::Literal(ScalarValue::Int64(Some(count)), _) = expr else { return None };
        let length = count.checked_mul(unit)?;
        Some(Sum::length(length, length))
    }

    fn read(expr: &Expr, types: &DFSchema) -> Option<Sum> {
        match expr {
            Expr::Column(_) => {
                let DataType::Timestamp(unit, _) = expr.get_type(types).ok()? else { return None };
                // Event times are compared in microseconds: what is finer is cut off.
                let finer = i64::from(unit == TimeUnit::Nanosecond);
                Some(Sum { times: vec![(as_column(expr)?, 1)], low: 0, high: finer })
            }
            Expr::Alias(alias) => Sum::read(&alias.expr, types),
            Expr::Cast(cast) => {
                use DataType::{Duration, Interval, Timestamp};
                let lost = match (cast.expr.get_type(types).ok()?, cast.field.data_type()) {
                    (Timestamp(from, _), Timestamp(to, _)) if micros(*to) > micros(from) => micros(*to),
                    (Timestamp(..), Timestamp(..)) | (Duration(_) | Interval(_), Interval(_)) => 0,
                    _ => return None,
                };
                Sum::read(&cast.expr, types)?.wider(lost, lost)
            }
            Expr::Literal(value, _) => {
                let (low, high) = literal(value)?;
                Some(Sum::length(low, high))
            }
            Expr::Negative(inner) => Some(Sum::length(0, 0).minus(&Sum::read(inner, types)?)),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (left, right) = (Sum::read(left, types)?, Sum::read(right, types)?);
                let sum = match op {
                    Operator::Plus => left.minus(&Sum::length(0, 0).minus(&right)),
                    Operator::Minus => left.minus(&right),
                    _ => return None,
                };
                // What is finer than the result's unit is cut off.
                let unit = match expr.get_type(types).ok()? {
                    DataType::Timestamp(unit, _) | DataType::Duration(unit) => micros(unit),
                    _ => 1,
                };
                let cut = if sum.low % unit == 0 && sum.high % unit == 0 { 0 } else { unit };
                sum.wider(cut, cut)
            }
            Expr::ScalarFunction(call) => match (call.func.name(), &call.args[..]) {
                ("date_trunc", [Expr::Literal(unit, _), time]) => {
                    Sum::read(time, types)?.wider(unit_length(unit.try_as_str()??)?, 0)
                }
                ("interval_length", [length]) => Sum::read(length, types),
                ("timestampdiff", [Expr::Literal(unit, _), from, to]) => {
                    let unit = unit_length(unit.try_as_str()??)?;
                    Sum::read(to, types)?.minus(&Sum::read(from, types)?).wider(unit, unit)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn minus(mut self, other: &Sum) -> Sum {
        for (column, sign) in &other.times {
            match self.times.iter().position(|time| *time == (*column, *sign)) {
                Some(same) => {
                    self.times.remove(same);
                }
                None => self.times.push((*column, -sign)),
            }
        }
        self.low = self.low.saturating_sub(other.high);
        self.high = self.high.saturating_sub(other.low);
        self
    }

    fn wider(self, below: i64, above: i64) -> Option<Sum> {
        Some(Sum { low: self.low.checked_sub(below)?, high: self.high.checked_add(above)?, ..self })
    }
}

/// The unit of a difference between two times that is a number, if that is what it is.
fn unit_of_difference(expr: &Expr) -> Option<i64> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match (call.func.name(), &call.args[..]) {
        ("timestampdiff", [Expr::Literal(unit, _), ..]) => fixed_length(unit.try_as_str()??),
        _ => None,
    }
}

/// Microseconds of a unit.
fn micros(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => SECOND,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
    }
}

fn fixed_length(unit: &str) -> Option<i64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" => DAY,
        "week" => 7 * DAY,
        _ => return None,
    })
}

/// The length of a unit, of the longest where they differ.
fn unit_length(unit: &str) -> Option<i64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "month" => 31 * DAY,
        "quarter" => 92 * DAY,
        "year" => 366 * DAY,
        fixed => fixed_length(fixed)?,
    })
}

/// A length of time: at least and at most so many microseconds.
fn literal(value: &ScalarValue) -> Option<(i64, i64)> {
    let exact = |micros: i64| Some((micros, micros));
    let of_nanos = |nanos: i128| {
        let floor = i64::try_from(nanos.div_euclid(1_000)).ok()?;
        Some((floor, floor.checked_add(i64::from(nanos.rem_euclid(1_000) != 0))?))
    };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(length)) => {
            let (low, high) = months(length.months);
            let (nanos_low, nanos_high) = of_nanos(i128::from(length.nanoseconds))?;
            let days = i64::from(length.days).checked_mul(DAY)?;
            Some((low.checked_add(days)?.checked_add(nanos_low)?, high.checked_add(days)?.checked_add(nanos_high)?))
        }
        ScalarValue::IntervalDayTime(Some(length)) => {
            exact(i64::from(length.days).checked_mul(DAY)?.checked_add(i64::from(length.milliseconds) * 1_000)?)
        }
        ScalarValue::IntervalYearMonth(Some(count)) => Some(months(*count)),
        ScalarValue::DurationSecond(Some(count)) => exact(count.checked_mul(SECOND)?),
        ScalarValue::DurationMillisecond(Some(count)) => exact(count.checked_mul(1_000)?),
        ScalarValue::DurationMicrosecond(Some(count)) => exact(*count),
        ScalarValue::DurationNanosecond(Some(count)) => of_nanos(i128::from(*count)),
        // The length of an interval, as it is compared: nanoseconds.
        ScalarValue::Decimal128(Some(nanos), _, 0) => of_nanos(*nanos),
        _ => None,
    }
}

/// A number of months is at least and at most so many microseconds.
fn months(count: i32) -> (i64, i64) {
    let (short, long) = (i64::from(count) * 28 * DAY, i64::from(count) * 31 * DAY);
    (short.min(long), short.max(long))
}

impl Lowerer<'_> {
    /// Rows of one side are kept for ever where a difference of times is bounded on one side only.
    pub(super) fn warn_of_half_interval(&mut self, interval: &JoinInterval, inputs: [NodeId; 2], place: Option<Span>) {
        if interval.is_bounded() {
            return;
        }
        let names = [0, 1].map(|side| {
            let schema = &self.graph.nodes[inputs[side]].schema;
            schema.field(interval.columns[side]).name().clone()
        });
        let (kept, side, other) = match interval.lower {
            None => (0, "left", "right"),
            Some(_) => (1, "right", "left"),
        };
        let message = format!(
            "{side} rows of this join are kept for ever: nothing says how long after their '{}' the '{}' of a {other} row may be",
            names[kept],
            names[1 - kept]
        );
        let warning = Diagnostic::warning("one-sided-interval", message)
            .at(place.or_else(|| self.join_place()))
            .help("bound the times from both sides, as in a.at BETWEEN b.at AND b.at + INTERVAL '1' HOUR");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, IntervalMonthDayNano, Schema};
    use datafusion_expr::{cast, lit};

    use super::*;
    use crate::lower::expr::at;
    use crate::lower::graph::typed;

    /// Two columns a side: milliseconds, then nanoseconds.
    fn of(condition: Expr) -> Vec<(Option<i64>, Option<i64>)> {
        let time = |unit| Field::new("t", DataType::Timestamp(unit, None), true);
        let side = Schema::new(vec![time(TimeUnit::Millisecond), time(TimeUnit::Nanosecond)]);
        let types = typed([&side, &side]).expect("two schemas");
        bounds(&condition, 2, &types).into_iter().map(|found| (found.lower, found.upper)).collect()
    }

    fn length(months: i32, seconds: i64) -> Expr {
        lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, 0, seconds * 1_000_000_000))))
    }

    #[test]
    fn differences_are_read_from_either_side() {
        let second = Some(SECOND);
        assert_eq!(of(at(0).lt_eq(at(2) + length(0, 1))), [(None, second)]);
        assert_eq!(of(at(0).lt(at(2) + length(0, 1))), [(None, Some(SECOND - 1))]);
        assert_eq!(of((at(2) + length(0, 1)).gt_eq(at(0))), [(None, second)]);
        assert_eq!(of((at(0) - length(0, 1)).lt_eq(at(2))), [(None, second)]);
        assert_eq!(of((at(0) - at(2)).lt_eq(length(0, 1))), [(None, second)]);
        assert_eq!(of((at(2) - at(0)).gt_eq(-length(0, 1))), [(None, second)]);
        assert_eq!(of(at(2).lt_eq(at(0) + length(0, 1))), [(Some(-SECOND), None)]);
        assert_eq!(of(at(0).eq(at(2))), [(Some(0), Some(0))]);
        let between = Expr::Between(Between::new(Box::new(at(0)), false, Box::new(at(2) - length(0, 2)), Box::new(at(2))));
        assert_eq!(of(between), [(Some(-2 * SECOND), None), (None, Some(0))]);
    }

    #[test]
    fn what_is_cut_off_makes_bounds_wider() {
        assert_eq!(of(at(1).eq(at(3))), [(Some(-1), Some(1))]);
        let seconds = |column| cast(at(column), DataType::Timestamp(TimeUnit::Second, None));
        assert_eq!(of(seconds(0).eq(seconds(2))), [(Some(-2 * SECOND), Some(2 * SECOND))]);
        assert_eq!(of(at(0).lt_eq(at(2) + length(1, 0))), [(None, Some(31 * DAY))]);
        assert_eq!(of(at(0).gt_eq(at(2) + length(1, 0))), [(Some(28 * DAY), None)]);
    }

    #[test]
    fn what_is_no_difference_of_both_sides_bounds_nothing() {
        assert_eq!(of(at(0).lt_eq(at(1))), []);
        assert_eq!(of((at(0) + length(0, 1)).lt_eq(at(0))), []);
        assert_eq!(of(at(0).not_eq(at(2))), []);
        assert_eq!(of(at(0).lt_eq(at(2)).or(at(0).gt(at(3)))), []);
    }
}
