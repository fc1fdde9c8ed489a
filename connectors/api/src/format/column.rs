//! Columns under construction: decoders append values, a row that fails is rolled back, a batch is taken out.
//!
//! Arrow's own builders cannot forget values, so one bad row would cost its batch. These are plain vectors that can be
//! cut back to any length, and become Arrow arrays without copying. The children of a struct are filled lazily: a null
//! struct costs one bit, and its children catch up when the next value comes (a Nexmark line has two null structs).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, IntervalMonthDayNanoArray, ListArray,
    MapArray, NullArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalUnit, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::json::Keys;
use super::text::Rules;

/// A column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    /// Name and declared type.
    pub(crate) field: FieldRef,
    /// Values appended so far.
    pub(crate) len: usize,
    /// Whether it is of the primary key: it must stand also where only the key counts.
    pub(crate) is_key: bool,
    nulls: NullBufferBuilder,
    /// What stands here where an input does not have the column: text that decodes.
    default: Option<String>,
    /// The values, with a placeholder where null.
    pub(crate) values: Values,
}

/// The columns of a row or of a struct.
#[derive(Debug)]
pub(crate) struct Fields {
    /// In the schema's order.
    pub(crate) columns: Vec<Column>,
    /// The order in which JSON objects name them.
    pub(crate) keys: Keys,
}

impl Fields {
    /// Fields that are expected in the schema's order.
    pub(crate) fn new(columns: Vec<Column>) -> Fields {
        let keys = Keys::new(columns.iter().enumerate().map(|(index, column)| (column.field.name().as_str(), Some(index))));
        Fields { columns, keys }
    }

    /// Appends one column's value by `read`, and to the others what stands where only the key counts.
    pub(crate) fn only<E>(
        &mut self,
        column: usize,
        rules: &Rules,
        read: impl FnOnce(&mut Column) -> Result<(), E>,
    ) -> Result<(), E> {
        read(&mut self.columns[column])?;
        for (_, other) in self.columns.iter_mut().enumerate().filter(|(place, _)| *place != column) {
            super::json::null(other, rules).expect("a column that is not of the key has a placeholder");
        }
        Ok(())
    }

    /// Forgets all rows from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
    }
}

/// The values of a column, by what they mean.
#[derive(Debug)]
pub(crate) enum Values {
    Null,
    Bool(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Date(Vec<i32>),
    Time32(Vec<i32>, TimeUnit),
    Time64(Vec<i64>, TimeUnit),
    Timestamp(Vec<i64>, TimeUnit),
    Interval(Vec<IntervalMonthDayNano>),
    Text(VarBytes),
    Bytes(VarBytes),
    Struct(Fields),
    List {
        offsets: Vec<i32>,
        item: Box<Column>,
    },
    /// Entries are structs of a key and a value.
    Map {
        offsets: Vec<i32>,
        item: Box<Column>,
    },
}

/// Strings end to end.
#[derive(Debug)]
pub(crate) struct VarBytes {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

/// A column's type cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    /// The column, with the structs it is in.
    pub(crate) column: String,
    /// Its type.
    pub(crate) data_type: DataType,
}

/// Bytes that a batch's strings may have: Arrow's offsets are `i32`.
const VAR_BYTES_MAX: usize = i32::MAX as usize;

impl VarBytes {
    fn new(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        VarBytes { offsets, bytes: Vec::with_capacity(bytes) }
    }

    /// Appends a value; false if the batch's strings have no room for it.
    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) -> bool {
        if self.bytes.len() + value.len() > VAR_BYTES_MAX {
            return false;
        }
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len() as i32);
        true
    }

    fn push_empty(&mut self, count: usize) {
        let end = self.bytes.len() as i32;
        self.offsets.resize(self.offsets.len() + count, end);
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.bytes.truncate(self.offsets[len] as usize);
    }

    pub(crate) fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let fresh = VarBytes::new(self.offsets.len(), self.bytes.len());
        let VarBytes { offsets, bytes } = std::mem::replace(self, fresh);
        (OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes))
    }
}

impl Values {
    fn new(field: &Field, path: &str) -> Result<Values, Unsupported> {
        let child = |field: &FieldRef| Column::within(field.clone(), path);
        Ok(match field.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::I8(Vec::new()),
            DataType::Int16 => Values::I16(Vec::new()),
            DataType::Int32 => Values::I32(Vec::new()),
            DataType::Int64 => Values::I64(Vec::new()),
            DataType::UInt8 => Values::U8(Vec::new()),
            DataType::UInt16 => Values::U16(Vec::new()),
            DataType::UInt32 => Values::U32(Vec::new()),
            DataType::UInt64 => Values::U64(Vec::new()),
            DataType::Float32 => Values::F32(Vec::new()),
            DataType::Float64 => Values::F64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(unit) => Values::Time32(Vec::new(), *unit),
            DataType::Time64(unit) => Values::Time64(Vec::new(), *unit),
            DataType::Timestamp(unit, _) => Values::Timestamp(Vec::new(), *unit),
            DataType::Interval(IntervalUnit::MonthDayNano) => Values::Interval(Vec::new()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Values::Text(VarBytes::new(0, 0)),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Values::Bytes(VarBytes::new(0, 0)),
            DataType::Struct(fields) => Values::Struct(Fields::new(fields.iter().map(child).collect::<Result<_, _>>()?)),
            DataType::List(item) => Values::List { offsets: vec![0], item: Box::new(child(item)?) },
            DataType::Map(entries, _) => Values::Map { offsets: vec![0], item: Box::new(child(entries)?) },
            other => return Err(Unsupported { column: path.to_string(), data_type: other.clone() }),
        })
    }
}

impl Column {
    /// An empty column for a field.
    pub(crate) fn new(field: FieldRef) -> Result<Column, Unsupported> {
        Column::within(field, "")
    }

    fn within(field: FieldRef, parent: &str) -> Result<Column, Unsupported> {
        let path = if parent.is_empty() { field.name().clone() } else { format!("{parent}.{}", field.name()) };
        let values = Values::new(&field, &path)?;
        Ok(Column { field, len: 0, is_key: false, nulls: NullBufferBuilder::new(0), default: None, values })
    }

    /// The column with what stands in it where an input does not have it.
    pub(crate) fn with_default(mut self, default: Option<String>) -> Column {
        self.default = default;
        self
    }

    /// Appends the default, if there is one.
    ///
    /// Errors: the default is not of the column's type.
    pub(crate) fn push_default(&mut self, rules: &Rules) -> Result<bool, String> {
        let Some(default) = self.default.take() else { return Ok(false) };
        let done = match self.values {
            Values::Struct(_) | Values::List { .. } => super::json::decode_field(self, default.as_bytes(), rules),
            _ => super::text::push(self, default.as_bytes(), rules),
        };
        self.default = Some(default);
        done.map(|()| true)
    }

    /// Counts the value that was just pushed to [`Column::values`].
    #[inline]
    pub(crate) fn pushed(&mut self) {
        self.nulls.append_non_null();
        self.len += 1;
    }

    /// Whether the value at `row` is there.
    pub(crate) fn is_valid(&self, row: usize) -> bool {
        self.nulls.is_valid(row)
    }

    /// Appends nulls.
    pub(crate) fn push_nulls(&mut self, count: usize) {
        if count == 1 {
            self.nulls.append_null();
        } else {
            self.nulls.append_n_nulls(count);
        }
        self.len += count;
        let len = self.len;
        match &mut self.values {
            // The children catch up later.
            Values::Null | Values::Struct(_) => {}
            Values::Bool(values) => values.append_n(count, false),
            Values::I8(values) => values.resize(len, 0),
            Values::I16(values) => values.resize(len, 0),
            Values::I32(values) | Values::Date(values) | Values::Time32(values, _) => values.resize(len, 0),
            Values::I64(values) | Values::Time64(values, _) | Values::Timestamp(values, _) => values.resize(len, 0),
            Values::U8(values) => values.resize(len, 0),
            Values::U16(values) => values.resize(len, 0),
            Values::U32(values) => values.resize(len, 0),
            Values::U64(values) => values.resize(len, 0),
            Values::F32(values) => values.resize(len, 0.0),
            Values::F64(values) => values.resize(len, 0.0),
            Values::Decimal { values, .. } => values.resize(len, 0),
            Values::Interval(values) => values.resize(len, IntervalMonthDayNano::ZERO),
            Values::Text(values) | Values::Bytes(values) => values.push_empty(count),
            Values::List { offsets, item } | Values::Map { offsets, item } => offsets.resize(len + 1, item.len as i32),
        }
    }

    /// Appends a value that stands for nothing, but is not null: zero, the empty string.
    pub(crate) fn push_placeholder(&mut self) {
        let row = self.len;
        self.push_nulls(1);
        self.nulls.truncate(row);
        self.nulls.append_non_null();
        if let Values::Struct(children) = &mut self.values {
            for child in &mut children.columns {
                child.pad_to(row);
                if child.field.is_nullable() { child.push_nulls(1) } else { child.push_placeholder() }
            }
        }
    }

    /// Appends nulls until there are `len` values.
    #[inline]
    pub(crate) fn pad_to(&mut self, len: usize) {
        if self.len < len {
            self.push_nulls(len - self.len);
        }
    }

    /// Forgets all values from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Null => {}
            Values::Struct(children) => children.columns.iter_mut().for_each(|child| child.truncate(len)),
            _ if self.len <= len => {}
            Values::Bool(values) => values.truncate(len),
            Values::I8(values) => values.truncate(len),
            Values::I16(values) => values.truncate(len),
            Values::I32(values) | Values::Date(values) | Values::Time32(values, _) => values.truncate(len),
            Values::I64(values) | Values::Time64(values, _) | Values::Timestamp(values, _) => values.truncate(len),
            Values::U8(values) => values.truncate(len),
            Values::U16(values) => values.truncate(len),
            Values::U32(values) => values.truncate(len),
            Values::U64(values) => values.truncate(len),
            Values::F32(values) => values.truncate(len),
            Values::F64(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::Interval(values) => values.truncate(len),
            Values::Text(values) | Values::Bytes(values) => values.truncate(len),
            Values::List { .. } | Values::Map { .. } => {}
        }
        // A list's item may be ahead of its offsets when an element has failed.
        if let Values::List { offsets, item } | Values::Map { offsets, item } = &mut self.values {
            offsets.truncate(len + 1);
            item.truncate(*offsets.last().expect("a list has its first offset") as usize);
        }
        if self.len > len {
            self.nulls.truncate(len);
            self.len = len;
        }
    }

    /// Whether two rows hold the same value, null being equal to null.
    pub(crate) fn equal(&self, left: usize, right: usize) -> bool {
        let valid = self.is_valid(left);
        if valid != self.is_valid(right) {
            return false;
        }
        if !valid {
            return true;
        }
        match &self.values {
            Values::Null => true,
            Values::Bool(values) => values.get_bit(left) == values.get_bit(right),
            Values::I8(values) => values[left] == values[right],
            Values::I16(values) => values[left] == values[right],
            Values::I32(values) | Values::Date(values) | Values::Time32(values, _) => values[left] == values[right],
            Values::I64(values) | Values::Time64(values, _) | Values::Timestamp(values, _) => values[left] == values[right],
            Values::U8(values) => values[left] == values[right],
            Values::U16(values) => values[left] == values[right],
            Values::U32(values) => values[left] == values[right],
            Values::U64(values) => values[left] == values[right],
            Values::F32(values) => values[left].to_bits() == values[right].to_bits(),
            Values::F64(values) => values[left].to_bits() == values[right].to_bits(),
            Values::Decimal { values, .. } => values[left] == values[right],
            Values::Interval(values) => values[left] == values[right],
            Values::Text(values) | Values::Bytes(values) => values.get(left) == values.get(right),
            Values::Struct(children) => children.columns.iter().all(|child| child.equal(left, right)),
            Values::List { .. } | Values::Map { .. } => false,
        }
    }

    /// Takes out all values as an array of the declared type; the column is empty again.
    ///
    /// Errors: strings that are not UTF-8, which decoders check before; times that Arrow refuses.
    pub(crate) fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = std::mem::take(&mut self.len);
        let nulls = self.nulls.finish();
        let data_type = self.field.data_type();
        Ok(match &mut self.values {
            Values::Null => Arc::new(NullArray::new(len)),
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::I8(values) => primitive::<Int8Type>(values, nulls, data_type),
            Values::I16(values) => primitive::<Int16Type>(values, nulls, data_type),
            Values::I32(values) => primitive::<Int32Type>(values, nulls, data_type),
            Values::I64(values) => primitive::<Int64Type>(values, nulls, data_type),
            Values::U8(values) => primitive::<UInt8Type>(values, nulls, data_type),
            Values::U16(values) => primitive::<UInt16Type>(values, nulls, data_type),
            Values::U32(values) => primitive::<UInt32Type>(values, nulls, data_type),
            Values::U64(values) => primitive::<UInt64Type>(values, nulls, data_type),
            Values::F32(values) => primitive::<Float32Type>(values, nulls, data_type),
            Values::F64(values) => primitive::<Float64Type>(values, nulls, data_type),
            Values::Decimal { values, .. } => {
                Arc::new(Decimal128Array::new(emptied(values).into(), nulls).with_data_type(data_type.clone()))
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls, data_type),
            Values::Time32(values, TimeUnit::Second) => primitive::<Time32SecondType>(values, nulls, data_type),
            Values::Time32(values, _) => primitive::<Time32MillisecondType>(values, nulls, data_type),
            Values::Time64(values, TimeUnit::Nanosecond) => primitive::<Time64NanosecondType>(values, nulls, data_type),
            Values::Time64(values, _) => primitive::<Time64MicrosecondType>(values, nulls, data_type),
            Values::Timestamp(values, unit) => match unit {
                TimeUnit::Second => primitive::<TimestampSecondType>(values, nulls, data_type),
                TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(values, nulls, data_type),
                TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(values, nulls, data_type),
                TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(values, nulls, data_type),
            },
            Values::Interval(values) => Arc::new(IntervalMonthDayNanoArray::new(emptied(values).into(), nulls)),
            Values::Text(values) => {
                let (offsets, bytes) = values.take();
                as_declared(Arc::new(StringArray::try_new(offsets, bytes, nulls)?), data_type)?
            }
            Values::Bytes(values) => {
                let (offsets, bytes) = values.take();
                as_declared(Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?), data_type)?
            }
            Values::Struct(children) => {
                let DataType::Struct(fields) = data_type else { unreachable!("struct values have a struct type") };
                let take = |child: &mut Column| {
                    child.pad_to(len);
                    child.take()
                };
                let arrays = children.columns.iter_mut().map(take).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?)
            }
            Values::List { offsets, item } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let DataType::List(field) = data_type else { unreachable!("list values have a list type") };
                Arc::new(ListArray::try_new(field.clone(), OffsetBuffer::new(offsets.into()), item.take()?, nulls)?)
            }
            Values::Map { offsets, item } => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let DataType::Map(field, sorted) = data_type else { unreachable!("map values have a map type") };
                let entries = item.take()?;
                Arc::new(MapArray::try_new(field.clone(), offsets, entries.as_struct().clone(), nulls, *sorted)?)
            }
        })
    }
}

/// Takes the values, leaving a vector with as much room.
fn emptied<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(emptied(values).into(), nulls).with_data_type(data_type.clone()))
}

fn as_declared(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == data_type { Ok(array) } else { cast(&array, data_type) }
}

/// A field's type as SQL writes it.
pub(crate) fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_type(field.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::List(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                format!("MAP<{}, {}>", sql_type(entry[0].data_type()), sql_type(entry[1].data_type()))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}
