//! One value of any type as JSON: arrays are looked at once, then rows are written without asking for their types again.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use crate::format::{decimal, time};

/// The values of one array.
pub(super) enum Writer<'a> {
    Null,
    Bool(&'a BooleanArray),
    I8(&'a PrimitiveArray<Int8Type>),
    I16(&'a PrimitiveArray<Int16Type>),
    I32(&'a PrimitiveArray<Int32Type>),
    I64(&'a PrimitiveArray<Int64Type>),
    U8(&'a PrimitiveArray<UInt8Type>),
    U16(&'a PrimitiveArray<UInt16Type>),
    U32(&'a PrimitiveArray<UInt32Type>),
    U64(&'a PrimitiveArray<UInt64Type>),
    F32(&'a PrimitiveArray<Float32Type>),
    F64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a Decimal128Array, i8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time32(&'a [i32], TimeUnit, &'a dyn Array),
    Time64(&'a [i64], TimeUnit, &'a dyn Array),
    /// Units, and whether it is a time in UTC.
    Timestamp(&'a [i64], TimeUnit, bool, &'a dyn Array),
    /// Microseconds of an interval.
    Interval(Box<dyn Fn(usize) -> i128 + 'a>, &'a dyn Array),
    Struct(&'a StructArray, Vec<(Vec<u8>, Writer<'a>)>),
    List(&'a ListArray, Box<Writer<'a>>),
    /// Keys and values.
    Map(&'a MapArray, Box<Writer<'a>>, Box<Writer<'a>>),
    /// An array of a type that is written as another.
    Cast(ArrayRef),
}

/// `"name":`, escaped.
pub(super) fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    push_json(&name, &mut key);
    key.push(b':');
    key
}

impl<'a> Writer<'a> {
    /// Looks at an array; errors are types that have no JSON.
    pub(super) fn new(array: &'a dyn Array) -> Result<Writer<'a>, ArrowError> {
        Ok(match array.data_type() {
            DataType::Null => Writer::Null,
            DataType::Boolean => Writer::Bool(array.as_boolean()),
            DataType::Int8 => Writer::I8(array.as_primitive()),
            DataType::Int16 => Writer::I16(array.as_primitive()),
            DataType::Int32 => Writer::I32(array.as_primitive()),
            DataType::Int64 => Writer::I64(array.as_primitive()),
            DataType::UInt8 => Writer::U8(array.as_primitive()),
            DataType::UInt16 => Writer::U16(array.as_primitive()),
            DataType::UInt32 => Writer::U32(array.as_primitive()),
            DataType::UInt64 => Writer::U64(array.as_primitive()),
            DataType::Float32 => Writer::F32(array.as_primitive()),
            DataType::Float64 => Writer::F64(array.as_primitive()),
            DataType::Decimal128(_, scale) => Writer::Decimal(array.as_primitive::<Decimal128Type>(), *scale),
            DataType::Utf8 => Writer::Text(array.as_string()),
            DataType::Binary => Writer::Bytes(array.as_binary()),
            DataType::Date32 => Writer::Date(array.as_primitive()),
            DataType::Time32(unit) => {
                let values = match unit {
                    TimeUnit::Second => array.as_primitive::<Time32SecondType>().values(),
                    _ => array.as_primitive::<Time32MillisecondType>().values(),
                };
                Writer::Time32(values, *unit, array)
            }
            DataType::Time64(unit) => {
                let values = match unit {
                    TimeUnit::Nanosecond => array.as_primitive::<Time64NanosecondType>().values(),
                    _ => array.as_primitive::<Time64MicrosecondType>().values(),
                };
                Writer::Time64(values, *unit, array)
            }
            DataType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
                };
                Writer::Timestamp(values, *unit, zone.is_some(), array)
            }
            DataType::Interval(unit) => Writer::Interval(interval(array, *unit), array),
            DataType::Duration(unit) => Writer::Interval(duration(array, *unit), array),
            DataType::Struct(fields) => {
                let array = array.as_struct();
                let children = fields.iter().zip(array.columns());
                let children = children.map(|(field, child)| Ok((key(field.name()), Writer::new(child.as_ref())?)));
                Writer::Struct(array, children.collect::<Result<_, ArrowError>>()?)
            }
            DataType::List(_) => {
                let array = array.as_list::<i32>();
                Writer::List(array, Box::new(Writer::new(array.values().as_ref())?))
            }
            DataType::Map(..) => {
                let array = array.as_map();
                let (keys, values) = (Writer::new(array.keys().as_ref())?, Writer::new(array.values().as_ref())?);
                Writer::Map(array, Box::new(keys), Box::new(values))
            }
            other => Writer::Cast(cast(array, &plainer(other)?)?),
        })
    }

    /// Whether the value is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Writer::Null => true,
            Writer::Bool(array) => array.is_null(row),
            Writer::I8(array) => array.is_null(row),
            Writer::I16(array) => array.is_null(row),
            Writer::I32(array) => array.is_null(row),
            Writer::I64(array) => array.is_null(row),
            Writer::U8(array) => array.is_null(row),
            Writer::U16(array) => array.is_null(row),
            Writer::U32(array) => array.is_null(row),
            Writer::U64(array) => array.is_null(row),
            Writer::F32(array) => array.is_null(row),
            Writer::F64(array) => array.is_null(row),
            Writer::Decimal(array, _) => array.is_null(row),
            Writer::Text(array) => array.is_null(row),
            Writer::Bytes(array) => array.is_null(row),
            Writer::Date(array) => array.is_null(row),
            Writer::Time32(.., array) => array.is_null(row),
            Writer::Time64(.., array) | Writer::Timestamp(.., array) | Writer::Interval(_, array) => array.is_null(row),
            Writer::Struct(array, _) => array.is_null(row),
            Writer::List(array, _) => array.is_null(row),
            Writer::Map(array, ..) => array.is_null(row),
            Writer::Cast(array) => array.is_null(row),
        }
    }

    /// The value, if it is text.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        match self {
            Writer::Text(array) => Some(array.value(row)),
            Writer::Cast(array) => array.as_string_opt::<i32>().map(|array| array.value(row)),
            _ => None,
        }
    }

    /// The value, if it is bytes.
    pub(super) fn bytes(&self, row: usize) -> Option<&[u8]> {
        match self {
            Writer::Bytes(array) => Some(array.value(row)),
            Writer::Cast(array) => array.as_binary_opt::<i32>().map(|array| array.value(row)),
            _ => None,
        }
    }

    /// Appends the value as JSON.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match self {
            Writer::Null => {}
            Writer::Bool(array) => push_json(&array.value(row), out),
            Writer::I8(array) => push_json(&array.value(row), out),
            Writer::I16(array) => push_json(&array.value(row), out),
            Writer::I32(array) => push_json(&array.value(row), out),
            Writer::I64(array) => push_json(&array.value(row), out),
            Writer::U8(array) => push_json(&array.value(row), out),
            Writer::U16(array) => push_json(&array.value(row), out),
            Writer::U32(array) => push_json(&array.value(row), out),
            Writer::U64(array) => push_json(&array.value(row), out),
            Writer::F32(array) if array.value(row).is_finite() => push_json(&array.value(row), out),
            Writer::F32(array) => out.extend_from_slice(not_finite(f64::from(array.value(row)))),
            Writer::F64(array) if array.value(row).is_finite() => push_json(&array.value(row), out),
            Writer::F64(array) => out.extend_from_slice(not_finite(array.value(row))),
            Writer::Decimal(array, scale) => decimal::write(array.value(row), *scale, out),
            Writer::Text(array) => push_json(array.value(row), out),
            Writer::Bytes(array) => {
                out.extend_from_slice(b"{\"$hex\":\"");
                push_hex(array.value(row), out);
                out.extend_from_slice(b"\"}");
            }
            Writer::Date(array) => quoted(out, |out| time::write_date(i64::from(array.value(row)), out)),
            Writer::Time32(values, unit, _) => quoted(out, |out| time::write_time(i64::from(values[row]), *unit, out)),
            Writer::Time64(values, unit, _) => quoted(out, |out| time::write_time(values[row], *unit, out)),
            Writer::Timestamp(values, unit, zoned, _) => quoted(out, |out| {
                time::write_timestamp(values[row], *unit, out);
                if *zoned {
                    out.push(b'Z');
                }
            }),
            Writer::Interval(micros, _) => out.extend_from_slice(format!("{{\"$interval_us\":{}}}", micros(row)).as_bytes()),
            Writer::Struct(_, children) => {
                out.push(b'{');
                for (place, (key, child)) in children.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    child.write(row, out);
                }
                out.push(b'}');
            }
            Writer::List(array, items) => {
                out.push(b'[');
                let (start, end) = (array.value_offsets()[row], array.value_offsets()[row + 1]);
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    items.write(item as usize, out);
                }
                out.push(b']');
            }
            Writer::Map(array, keys, values) => {
                out.push(b'{');
                let (start, end) = (array.value_offsets()[row], array.value_offsets()[row + 1]);
                for entry in start..end {
                    if entry > start {
                        out.push(b',');
                    }
                    let key = out.len();
                    keys.write(entry as usize, out);
                    // Names are text, whatever the keys are.
                    if out.get(key) != Some(&b'"') {
                        out.insert(key, b'"');
                        out.push(b'"');
                    }
                    out.push(b':');
                    values.write(entry as usize, out);
                }
                out.push(b'}');
            }
            Writer::Cast(array) => match Writer::new(array.as_ref()) {
                Ok(writer) => writer.write(row, out),
                Err(_) => out.extend_from_slice(b"null"),
            },
        }
    }
}

/// The type of which a value of a rarer type is written.
fn plainer(data_type: &DataType) -> Result<DataType, ArrowError> {
    Ok(match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        other => return Err(ArrowError::NotYetImplemented(format!("writing values of type {other} as JSON"))),
    })
}

const DAY_US: i128 = 86_400_000_000;

/// Microseconds; a month counts as 30 days, as PostgreSQL has it when it compares.
fn interval<'a>(array: &'a dyn Array, unit: IntervalUnit) -> Box<dyn Fn(usize) -> i128 + 'a> {
    match unit {
        IntervalUnit::MonthDayNano => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |row| {
                let value = array.value(row);
                let days = i128::from(value.months) * 30 + i128::from(value.days);
                days * DAY_US + i128::from(value.nanoseconds) / 1_000
            })
        }
        IntervalUnit::DayTime => {
            let array = array.as_primitive::<IntervalDayTimeType>();
            Box::new(move |row| i128::from(array.value(row).days) * DAY_US + i128::from(array.value(row).milliseconds) * 1_000)
        }
        IntervalUnit::YearMonth => {
            let array = array.as_primitive::<IntervalYearMonthType>();
            Box::new(move |row| i128::from(array.value(row)) * 30 * DAY_US)
        }
    }
}

fn duration<'a>(array: &'a dyn Array, unit: TimeUnit) -> Box<dyn Fn(usize) -> i128 + 'a> {
    let values: &[i64] = match unit {
        TimeUnit::Second => array.as_primitive::<DurationSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().values(),
    };
    let per_second = i128::from(time::units_per_second(unit));
    Box::new(move |row| i128::from(values[row]) * 1_000_000 / per_second)
}

/// A number, truth value or string.
fn push_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a scalar has JSON, and a vector takes it");
}

fn not_finite(value: f64) -> &'static [u8] {
    if value.is_nan() {
        b"\"NaN\""
    } else if value > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends hexadecimal digits.
pub(super) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}
