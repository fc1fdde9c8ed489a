//! `x AT TIME ZONE zone`: a time with zone as the zone's clock shows it, a clock's time in a zone as a time with zone (UTC).

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, Offset, TimeZone};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Gives, Kind, column, text, unexpected};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let result = |found: &[DataType]| match found.first()? {
        DataType::Timestamp(unit, None) => Some(DataType::Timestamp(*unit, Some("UTC".into()))),
        DataType::Timestamp(unit, Some(_)) => Some(DataType::Timestamp(*unit, None)),
        _ => None,
    };
    vec![Function::typed("at_time_zone", &[Kind::Instant, Kind::Text], Gives::From(result), at_time_zone).build()]
}

fn at_time_zone(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (times, zones) = (column(args, 0, rows)?, text(args, 1, rows)?);
    let DataType::Timestamp(unit, zone) = times.data_type().clone() else { return Err(unexpected(&times)) };
    let plain = cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
    let plain = plain.as_primitive::<TimestampMicrosecondType>();
    let mut known: Option<(String, Tz)> = None;
    let mut moved = Vec::with_capacity(rows);
    for row in 0..rows {
        if plain.is_null(row) || zones.is_null(row) {
            moved.push(None);
            continue;
        }
        let name = zones.value(row);
        if known.as_ref().is_none_or(|(before, _)| before != name) {
            let zone = name.parse::<Tz>().map_err(|_| exec_datafusion_err!("unknown time zone '{name}'"))?;
            known = Some((name.to_string(), zone));
        }
        let zone = &known.as_ref().expect("set above").1;
        moved.push(Some(shifted(plain.value(row), zone, plain.timezone().is_some())?));
    }
    let result = if zone.is_some() { None } else { Some(Arc::from("UTC")) };
    let array = PrimitiveArray::<TimestampMicrosecondType>::from_iter(moved).with_timezone_opt(result.clone());
    Ok(cast(&array, &DataType::Timestamp(unit, result))?)
}

/// From UTC to the zone's clock, or back. A time that a clock skips is read with the offset before the change, of one that it
/// shows twice the later is taken, as PostgreSQL does.
fn shifted(micros: i64, zone: &Tz, to_clock: bool) -> Result<i64> {
    let out_of_range = || exec_datafusion_err!("timestamp out of range");
    let time = DateTime::from_timestamp_micros(micros).ok_or_else(out_of_range)?.naive_utc();
    let offset = |offset: &<Tz as TimeZone>::Offset| i64::from(offset.fix().local_minus_utc()) * 1_000_000;
    if to_clock {
        return micros.checked_add(offset(&zone.offset_from_utc_datetime(&time))).ok_or_else(out_of_range);
    }
    let seconds = match zone.offset_from_local_datetime(&time) {
        LocalResult::Single(found) => offset(&found),
        LocalResult::Ambiguous(_, later) => offset(&later),
        LocalResult::None => offset(&zone.offset_from_utc_datetime(&(time - chrono::TimeDelta::days(1)))),
    };
    micros.checked_sub(seconds).ok_or_else(out_of_range)
}
