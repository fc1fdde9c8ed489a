//! `__trunc_years(n, time)`: the begin of the decade, century or millennium that a time is in, for `DATE_TRUNC`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{Datelike, NaiveDate, NaiveTime};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::time_pattern::civil;
use super::{Function, Gives, Kind, column, whole};

/// The name, which nobody writes.
pub(crate) const NAME: &str = "__trunc_years";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let gives = |found: &[DataType]| match found.get(1)? {
        DataType::Timestamp(_, zone) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        _ => None,
    };
    vec![Function::typed(NAME, &[Kind::Whole, Kind::Instant], Gives::From(gives), truncated).build()]
}

fn truncated(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let years = whole(args, 0, rows)?;
    let times = column(args, 1, rows)?;
    let zone = match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let times = arrow::compute::cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let begin = |row: usize| -> Result<Option<i64>> {
        if times.is_null(row) || years.is_null(row) {
            return Ok(None);
        }
        let out_of_range = || exec_datafusion_err!("timestamp out of range");
        let year = i64::from(civil(times.value(row)).ok_or_else(out_of_range)?.year());
        let length = years.value(row);
        // Centuries and millennia begin with a year that ends in 1.
        let begin = match length {
            10 => year.div_euclid(10) * 10,
            length => (year - 1).div_euclid(length) * length + 1,
        };
        let date = i32::try_from(begin).ok().and_then(|year| NaiveDate::from_ymd_opt(year, 1, 1)).ok_or_else(out_of_range)?;
        Ok(Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros()))
    };
    let begins = (0..rows).map(begin).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(TimestampMicrosecondArray::from(begins).with_timezone_opt(zone)))
}
