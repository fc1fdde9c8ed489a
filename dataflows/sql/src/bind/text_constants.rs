//! Texts that are compared with something else: in PostgreSQL `at > '2024-01-01'` reads the text as what `at` is.
//!
//! DataFusion would compare as texts, or as timestamps of nanoseconds, which end in the year 2262.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, cast};

pub(super) fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

/// A text as a value of the type that it is compared with.
pub(super) fn read(expr: Expr, beside: &DataType) -> Expr {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &expr else { return expr };
    let wanted = match beside.clone() {
        // No digit of the text is lost.
        DataType::Timestamp(unit, zone) => DataType::Timestamp(unit.max(TimeUnit::Microsecond), zone),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal128(precision, scale) => {
            let digits = text.trim().rsplit_once('.').map_or(0, |(_, fraction)| fraction.len());
            match i8::try_from(digits) {
                Ok(digits) if digits > scale && digits <= 38 => DataType::Decimal128(38, digits),
                _ => DataType::Decimal128(precision.max(38), scale),
            }
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
        found @ (DataType::Boolean
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Interval(_)
        | DataType::Binary
        | DataType::List(_)) => found,
        _ => return expr,
    };
    cast(expr, wanted)
}
