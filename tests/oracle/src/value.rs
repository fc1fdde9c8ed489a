//! Values and rows as the oracle sees them: plain, ordered, comparable; and their way from and to Arrow.
//!
//! A value does not know its type: integers, dates and timestamps are the numbers they are stored as, decimals are
//! unscaled. The type is in the schema that comes with the rows. So a value is easy to print, to read back and to compare.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, NullArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray, UInt8Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type,
};

/// One value of a row.
#[derive(Debug, Clone)]
pub enum Value {
    /// NULL, which is smaller than every value and equal to itself.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// Integers, dates and timestamps.
    Int(i64),
    /// DECIMAL, unscaled.
    Decimal(i128),
    /// REAL and DOUBLE.
    Float(f64),
    /// VARCHAR.
    Text(Arc<str>),
    /// ARRAY.
    List(Arc<[Value]>),
}

/// The values of one row.
pub type Row = Arc<[Value]>;

impl Value {
    /// Text.
    pub fn text(text: &str) -> Self {
        Value::Text(Arc::from(text))
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The number of an integer, date or timestamp.
    ///
    /// # Panics
    ///
    /// If it is something else: the schema said that it is not.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => panic!("{other} is not an integer"),
        }
    }

    /// Whether it is true; NULL is not.
    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }

    /// The items of an array; NULL has none.
    ///
    /// # Panics
    ///
    /// If it is something else: the schema said that it is not.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Null => &[],
            Value::List(items) => items,
            other => panic!("{other} is not an array"),
        }
    }

    /// Whether they are equal, floats up to a relative error of 1e-9.
    pub fn is_near(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(one), Value::Float(other)) => {
                one == other || (one.is_nan() && other.is_nan()) || (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
            }
            (one, other) => one == other,
        }
    }

    /// Reads a value of this type as [`fmt::Display`] writes it.
    pub fn parse(text: &str, data_type: &DataType) -> Option<Value> {
        if text == "NULL" {
            return Some(Value::Null);
        }
        Some(match data_type {
            DataType::Boolean => Value::Bool(text.parse().ok()?),
            DataType::Float32 | DataType::Float64 => Value::Float(text.parse().ok()?),
            DataType::Decimal128(_, _) => Value::Decimal(text.parse().ok()?),
            DataType::Utf8 => Value::text(text.strip_prefix('\'')?.strip_suffix('\'')?),
            _ => Value::Int(text.parse().ok()?),
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::Decimal(_) => 3,
            Value::Float(_) => 4,
            Value::Text(_) => 5,
            Value::List(_) => 6,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::Int(one), Value::Int(other)) => one.cmp(other),
            (Value::Decimal(one), Value::Decimal(other)) => one.cmp(other),
            (Value::Float(one), Value::Float(other)) => plain(*one).total_cmp(&plain(*other)),
            (Value::Text(one), Value::Text(other)) => one.cmp(other),
            (Value::List(one), Value::List(other)) => one.cmp(other),
            (one, other) => one.rank().cmp(&other.rank()),
        }
    }
}

/// A float as all that SQL says are equal are written: one zero, one NaN.
fn plain(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Bool(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::Decimal(value) => value.fmt(f),
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Text(value) => write!(f, "'{value}'"),
            Value::List(items) => write!(f, "[{}]", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// A row as text: values between bars.
pub fn show(row: &[Value]) -> String {
    row.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ")
}

/// The rows of a batch.
///
/// # Panics
///
/// If a column's type is none that jobs of the oracle use.
pub fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().map(values_of).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

/// A batch of these rows.
///
/// Errors: a NULL in a column that has none.
pub fn batch_of(schema: &Arc<Schema>, rows: &[Row]) -> Result<RecordBatch, String> {
    let column = |(index, field): (usize, &Arc<Field>)| column_of(rows.iter().map(|row| &row[index]), field.data_type());
    let columns: Vec<ArrayRef> = schema.fields().iter().enumerate().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| error.to_string())
}

/// The values of a column.
pub fn values_of(column: &ArrayRef) -> Vec<Value> {
    macro_rules! numbers {
        ($kind:ty, $value:expr) => {{
            let column = column.as_primitive::<$kind>();
            column.iter().map(|value| value.map_or(Value::Null, $value)).collect()
        }};
    }
    match column.data_type() {
        DataType::Null => vec![Value::Null; column.len()],
        DataType::Boolean => column.as_boolean().iter().map(|value| value.map_or(Value::Null, Value::Bool)).collect(),
        DataType::Int8 => numbers!(Int8Type, |value| Value::Int(value.into())),
        DataType::Int16 => numbers!(Int16Type, |value| Value::Int(value.into())),
        DataType::Int32 => numbers!(Int32Type, |value| Value::Int(value.into())),
        DataType::Int64 => numbers!(Int64Type, Value::Int),
        DataType::Date32 => numbers!(Date32Type, |value| Value::Int(value.into())),
        DataType::Float32 => numbers!(Float32Type, |value| Value::Float(value.into())),
        DataType::Float64 => numbers!(Float64Type, Value::Float),
        DataType::Decimal128(_, _) => numbers!(Decimal128Type, Value::Decimal),
        DataType::Timestamp(TimeUnit::Second, _) => numbers!(TimestampSecondType, Value::Int),
        DataType::Timestamp(TimeUnit::Millisecond, _) => numbers!(TimestampMillisecondType, Value::Int),
        DataType::Timestamp(TimeUnit::Microsecond, _) => numbers!(TimestampMicrosecondType, Value::Int),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => numbers!(TimestampNanosecondType, Value::Int),
        DataType::Utf8 => column.as_string::<i32>().iter().map(|value| value.map_or(Value::Null, Value::text)).collect(),
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            lists.iter().map(|items| items.map_or(Value::Null, |items| Value::List(values_of(&items).into()))).collect()
        }
        DataType::UInt8 => numbers!(UInt8Type, |value| Value::Int(value.into())),
        other => panic!("the oracle has no values of type {other}"),
    }
}

/// A column of these values.
fn column_of<'a>(values: impl ExactSizeIterator<Item = &'a Value>, data_type: &DataType) -> ArrayRef {
    let int = |value: &Value| (!value.is_null()).then(|| value.int());
    let float = |value: &Value| match value {
        Value::Float(value) => Some(*value),
        _ => None,
    };
    macro_rules! narrow {
        ($array:ty, $native:ty) => {
            Arc::new(values.map(|value| int(value).map(|value| value as $native)).collect::<$array>())
        };
    }
    match data_type {
        DataType::Null => Arc::new(NullArray::new(values.len())),
        DataType::Boolean => Arc::new(
            values
                .map(|value| match value {
                    Value::Bool(value) => Some(*value),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        DataType::Int8 => narrow!(Int8Array, i8),
        DataType::Int16 => narrow!(Int16Array, i16),
        DataType::Int32 => narrow!(Int32Array, i32),
        DataType::Int64 => narrow!(Int64Array, i64),
        DataType::Date32 => narrow!(Date32Array, i32),
        DataType::Float32 => Arc::new(values.map(|value| float(value).map(|value| value as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(values.map(float).collect::<Float64Array>()),
        DataType::Decimal128(precision, scale) => {
            let values = values.map(|value| match value {
                Value::Decimal(value) => Some(*value),
                _ => None,
            });
            let values: Decimal128Array = values.collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale).expect("the type was made by a planner"))
        }
        DataType::Timestamp(unit, zone) => {
            let values: Vec<Option<i64>> = values.map(int).collect();
            match unit {
                TimeUnit::Second => timestamps::<TimestampSecondType>(values, zone),
                TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(values, zone),
                TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(values, zone),
                TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(values, zone),
            }
        }
        DataType::Utf8 => Arc::new(
            values
                .map(|value| match value {
                    Value::Text(value) => Some(value.to_string()),
                    _ => None,
                })
                .collect::<StringArray>(),
        ),
        DataType::List(item) => {
            let lists: Vec<&Value> = values.collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.items().len()));
            let items: Vec<&Value> = lists.iter().flat_map(|list| list.items()).collect();
            let nulls = NullBuffer::from_iter(lists.iter().map(|list| !list.is_null()));
            let items = column_of(items.into_iter(), item.data_type());
            Arc::new(ListArray::new(Arc::clone(item), offsets, items, Some(nulls)))
        }
        DataType::UInt8 => narrow!(UInt8Array, u8),
        other => panic!("the oracle has no values of type {other}"),
    }
}

fn timestamps<T: ArrowTimestampType>(values: Vec<Option<i64>>, zone: &Option<Arc<str>>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(values).with_timezone_opt(zone.clone()))
}

/// Microseconds of one unit of a timestamp type; below a microsecond, the negated number of units in one.
fn micros_per_unit(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => -1_000,
        other => panic!("{other} is not a timestamp"),
    }
}

/// A timestamp of this type in microseconds; NULL has none.
pub fn micros(value: &Value, data_type: &DataType) -> Option<i64> {
    if value.is_null() {
        return None;
    }
    Some(match micros_per_unit(data_type) {
        nanos if nanos < 0 => value.int().div_euclid(-nanos),
        scale => value.int() * scale,
    })
}

/// The timestamp of this type at a time in microseconds.
pub fn timestamp(micros: i64, data_type: &DataType) -> Value {
    Value::Int(match micros_per_unit(data_type) {
        nanos if nanos < 0 => micros * -nanos,
        scale => micros.div_euclid(scale),
    })
}
