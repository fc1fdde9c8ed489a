//! `TIMESTAMPADD(unit, count, time)` with a count that varies; a constant count is planned as an interval.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Months};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text, whole};

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    let result = DataType::Timestamp(TimeUnit::Microsecond, None);
    Function::new("timestampadd", &[Kind::Text, Kind::Whole, Kind::Time], result, timestampadd).build()
}

fn timestampadd(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (units, counts) = (text(args, 0, rows)?, whole(args, 1, rows)?);
    let times = arrow::compute::cast(&args[2].to_array(rows)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut out = TimestampMicrosecondBuilder::with_capacity(rows);
    for row in 0..rows {
        if units.is_null(row) || counts.is_null(row) || times.is_null(row) {
            out.append_null();
            continue;
        }
        out.append_value(later(units.value(row), counts.value(row), times.value(row))?);
    }
    Ok(Arc::new(out.finish()))
}

fn later(unit: &str, count: i64, time: i64) -> Result<i64> {
    const SECOND: i64 = 1_000_000;
    let length = match unit {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" => 86_400 * SECOND,
        "week" => 7 * 86_400 * SECOND,
        "month" => return months_later(count, time),
        "quarter" => return months_later(count.checked_mul(3).ok_or_else(out_of_range)?, time),
        "year" => return months_later(count.checked_mul(12).ok_or_else(out_of_range)?, time),
        _ => return exec_err!("unknown unit of time '{unit}'"),
    };
    count.checked_mul(length).and_then(|length| time.checked_add(length)).ok_or_else(out_of_range)
}

fn months_later(count: i64, time: i64) -> Result<i64> {
    let months = u32::try_from(count.unsigned_abs()).map(Months::new).map_err(|_| out_of_range())?;
    let time = DateTime::from_timestamp_micros(time).ok_or_else(out_of_range)?;
    let later = if count < 0 { time.checked_sub_months(months) } else { time.checked_add_months(months) };
    Ok(later.ok_or_else(out_of_range)?.timestamp_micros())
}

fn out_of_range() -> DataFusionError {
    exec_datafusion_err!("timestamp out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_keep_to_the_calendar() {
        let day = 86_400_000_000;
        // 1970-01-31 and a month is 1970-02-28.
        assert_eq!(later("month", 1, 30 * day).ok(), Some(58 * day));
        assert_eq!(later("hour", -24, day).ok(), Some(0));
        assert!(later("day", i64::MAX, 0).is_err());
    }
}
