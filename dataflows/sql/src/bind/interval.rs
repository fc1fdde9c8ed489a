//! Constant intervals that DataFusion has no words for: multiples such as `INTERVAL '1 day' * 365`, for which its types have no
//! product, and PostgreSQL's texts.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use sqlparser::ast::{BinaryOperator, Expr, Interval, Value};

use crate::functions::cast::parse_interval;

/// The product, if it is one of an interval and a whole number and can be written down.
pub(super) fn product(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<String> {
    if *op != BinaryOperator::Multiply {
        return None;
    }
    let (interval, times) = match (left, right) {
        (Expr::Interval(interval), times) | (times, Expr::Interval(interval)) => (interval, times),
        _ => return None,
    };
    let Expr::Value(times) = times else { return None };
    let Value::Number(times, _) = &times.value else { return None };
    let times: i32 = times.parse().ok()?;
    let one = parse_interval_month_day_nano(&text(interval)?).ok()?;
    let months = one.months.checked_mul(times)?;
    let days = one.days.checked_mul(times)?;
    let nanos = one.nanoseconds.checked_mul(i64::from(times))?;
    Some(written(months, days, nanos))
}

/// `INTERVAL '1 day 02:03:04'` and other texts of PostgreSQL's that DataFusion does not read, as it reads them.
pub(super) fn plainer(interval: &Interval) -> Option<String> {
    let text = text(interval).filter(|_| interval.leading_field.is_none())?;
    if parse_interval_month_day_nano(&text).is_ok() {
        return None;
    }
    let length = parse_interval(&text)?;
    Some(written(length.months, length.days, length.nanoseconds))
}

fn written(months: i32, days: i32, nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    format!("{months} months {days} days {sign}{}.{:09} seconds", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// `INTERVAL '2' HOUR` as `2 HOUR`.
fn text(interval: &Interval) -> Option<String> {
    let Expr::Value(value) = &*interval.value else { return None };
    let Value::SingleQuotedString(value) = &value.value else { return None };
    if interval.last_field.is_some() || interval.leading_precision.is_some() {
        return None;
    }
    Some(match &interval.leading_field {
        Some(unit) => format!("{value} {unit}"),
        None => value.clone(),
    })
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::GenericDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn folded(text: &str) -> Option<String> {
        let expr = Parser::new(&GenericDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_expr());
        let Ok(Expr::BinaryOp { left, op, right }) = expr else { panic!("{text} is an operator") };
        product(&left, &op, &right)
    }

    #[test]
    fn intervals_are_multiplied_part_by_part() {
        assert_eq!(folded("INTERVAL '1 day' * 365").as_deref(), Some("0 months 365 days 0.000000000 seconds"));
        assert_eq!(folded("3 * INTERVAL '-1.5' SECOND").as_deref(), Some("0 months 0 days -4.500000000 seconds"));
        assert_eq!(folded("INTERVAL '2' MONTH * 6").as_deref(), Some("12 months 0 days 0.000000000 seconds"));
        assert_eq!(folded("INTERVAL '1 month' * 2147483647 ").as_deref(), Some("2147483647 months 0 days 0.000000000 seconds"));
        assert_eq!(folded("INTERVAL '2 month' * 2147483647 "), None, "too long");
        assert_eq!(folded("INTERVAL '1 day' + 3"), None);
    }
}
