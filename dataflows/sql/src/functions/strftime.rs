//! `FORMAT_DATE`, `FORMAT_TIME`, `FORMAT_TIMESTAMP` and their `PARSE_` counterparts: BigQuery's and Feldera's, the format first,
//! with strftime's `%Y-%m-%d`.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, Timelike};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Gives, Kind, text};

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const TIME: DataType = DataType::Time64(TimeUnit::Microsecond);

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let shown = |found: &[DataType]| match found.get(1)? {
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) | DataType::Null => {
            Some(DataType::Utf8)
        }
        _ => None,
    };
    let format = |name| Function::typed(name, &[Kind::Text, Kind::Any], Gives::From(shown), format).build();
    vec![
        format("format_date"),
        format("format_time"),
        format("format_timestamp"),
        Function::new("parse_date", &[Kind::Text, Kind::Text], DataType::Date32, parse_date).build(),
        Function::new("parse_time", &[Kind::Text, Kind::Text], TIME, parse_time).build(),
        Function::new("parse_timestamp", &[Kind::Text, Kind::Text], TIMESTAMP, parse_timestamp).build(),
    ]
}

/// A compiled format; most calls have one for all rows.
#[derive(Default)]
struct Format {
    written: Option<String>,
    items: Vec<Item<'static>>,
}

impl Format {
    fn of(&mut self, format: &str) -> Result<&[Item<'static>]> {
        if self.written.as_deref() != Some(format) {
            let items = StrftimeItems::new(format).parse_to_owned();
            self.items = items.map_err(|_| exec_datafusion_err!("'{format}' is no format of times: write %Y, %m, %d ..."))?;
            self.written = Some(format.to_string());
        }
        Ok(&self.items)
    }
}

fn format(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let formats = text(args, 0, rows)?;
    let found = args[1].to_array(rows)?;
    // A time of day is shown as one of the first day there is; that day can only be seen in formats that ask for it.
    let times = match found.data_type() {
        DataType::Time32(_) | DataType::Time64(_) => {
            let times = arrow::compute::cast(&arrow::compute::cast(&found, &TIME)?, &DataType::Int64)?;
            arrow::compute::cast(&times, &TIMESTAMP)?
        }
        _ => arrow::compute::cast(&found, &TIMESTAMP)?,
    };
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut out = StringBuilder::with_capacity(rows, rows * 10);
    let (mut format, mut words) = (Format::default(), String::new());
    for row in 0..rows {
        if times.is_null(row) || formats.is_null(row) {
            out.append_null();
            continue;
        }
        let items = format.of(formats.value(row))?;
        let time =
            DateTime::from_timestamp_micros(times.value(row)).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?;
        words.clear();
        write!(words, "{}", time.naive_utc().format_with_items(items.iter()))
            .map_err(|_| exec_datafusion_err!("a time cannot be shown as '{}'", formats.value(row)))?;
        out.append_value(&words);
    }
    Ok(Arc::new(out.finish()))
}

/// Goes through texts; what a format does not fit is an error of the row.
fn parsed<T>(
    args: &[ColumnarValue],
    rows: usize,
    what: &str,
    read: impl Fn(&Parsed) -> Option<T>,
    mut take: impl FnMut(Option<T>),
) -> Result<()> {
    let (formats, texts) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let mut format = Format::default();
    for row in 0..rows {
        if texts.is_null(row) || formats.is_null(row) {
            take(None);
            continue;
        }
        let items = format.of(formats.value(row))?;
        let mut parts = Parsed::new();
        let value = parse(&mut parts, texts.value(row), items.iter()).ok().and_then(|()| read(&parts));
        let refused = || exec_datafusion_err!("'{}' is no {what} as '{}'", texts.value(row), formats.value(row));
        take(Some(value.ok_or_else(refused)?));
    }
    Ok(())
}

fn parse_date(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let mut out = Date32Builder::with_capacity(rows);
    let days = |parts: &Parsed| {
        let date = parts.to_naive_date().ok()?;
        i32::try_from(date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days()).ok()
    };
    parsed(args, rows, "date", days, |days| out.append_option(days))?;
    Ok(Arc::new(out.finish()))
}

fn parse_time(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let mut out = Time64MicrosecondBuilder::with_capacity(rows);
    let micros = |parts: &Parsed| {
        let time = parts.to_naive_time().ok()?;
        Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000))
    };
    parsed(args, rows, "time of day", micros, |micros| out.append_option(micros))?;
    Ok(Arc::new(out.finish()))
}

/// An offset that the text carries (`%z`) is read and means nothing, as for any TIMESTAMP; without a time of day it is midnight.
fn parse_timestamp(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let mut out = TimestampMicrosecondBuilder::with_capacity(rows);
    let micros = |parts: &Parsed| {
        let whole = parts.to_naive_datetime_with_offset(0).ok();
        let time =
            whole.or_else(|| parts.hour_div_12().is_none().then(|| parts.to_naive_date().ok())?.map(|date| date.into()))?;
        Some(time.and_utc().timestamp_micros())
    };
    parsed(args, rows, "timestamp", micros, |micros| out.append_option(micros))?;
    Ok(Arc::new(out.finish()))
}
