//! Values as keys that are ordered like them, and back.
//!
//! Values of at most eight bytes are words; all others, and values with what they are ordered by, are order-preserving row
//! bytes.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::*;
use arrow_row::{RowConverter, Rows as EncodedRows, SortField};
use std::sync::Arc;

use super::Rows;
use super::extreme::Side;
use crate::Diff;
use crate::words::{are_words, greatest, words};

/// Maps a column's values to ordered keys and back.
pub(super) trait Codec: Send + 'static {
    /// The least key is the default.
    type Key: Ord + Clone + Default + Send + 'static;

    /// Calls `take(group, key, diff)` for each row that counts.
    fn each(&self, rows: &Rows<'_>, take: impl FnMut(usize, Self::Key, Diff));

    /// The least or the greatest key of the rows that count, which are each added once.
    fn extreme(&self, rows: &Rows<'_>, side: Side) -> Option<Self::Key> {
        best_of(self, rows, side)
    }

    /// The values of these keys.
    fn column(&self, keys: Vec<Option<Self::Key>>) -> ArrayRef;

    /// About how many bytes a key takes.
    fn key_bytes() -> usize;

    /// The type of [`Codec::pack`].
    fn packed_type(&self) -> DataType;

    /// Keys as they travel between workers.
    fn pack(&self, keys: Vec<Option<Self::Key>>) -> ArrayRef;

    /// Calls `take(group, key)` for each key that [`Codec::pack`] was given.
    fn each_packed(&self, column: &ArrayRef, groups: &[u32], take: impl FnMut(usize, Self::Key));
}

/// [`Codec::extreme`], a key at a time.
fn best_of<C: Codec + ?Sized>(codec: &C, rows: &Rows<'_>, side: Side) -> Option<C::Key> {
    let mut best: Option<C::Key> = None;
    codec.each(rows, |_, key, _| {
        best = Some(match (best.take(), side) {
            (None, _) => key,
            (Some(best), Side::Least) => key.min(best),
            (Some(best), Side::Greatest) => key.max(best),
        });
    });
    best
}

/// Values of at most eight bytes as words in their order.
pub(super) struct Words {
    kind: WordKind,
    data_type: DataType,
}

#[derive(Clone, Copy)]
enum WordKind {
    Signed,
    Unsigned,
    Float32,
    Float64,
}

impl Words {
    /// For values of this type, if they are that short.
    pub(super) fn new(data_type: &DataType) -> Option<Self> {
        let kind = match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => WordKind::Signed,
            DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => WordKind::Signed,
            DataType::Timestamp(_, _) | DataType::Duration(_) => WordKind::Signed,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => WordKind::Unsigned,
            DataType::Float32 => WordKind::Float32,
            DataType::Float64 => WordKind::Float64,
            _ => return None,
        };
        Some(Words { kind, data_type: data_type.clone() })
    }
}

const SIGN: u64 = 1 << 63;

/// A float's bits in the order of the values: NaN last, as PostgreSQL has it.
#[inline]
pub(super) fn float_word(value: f64) -> u64 {
    let value = if value.is_nan() { f64::NAN } else { value };
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

pub(super) fn word_float(word: u64) -> f64 {
    f64::from_bits(if word & SIGN != 0 { word & !SIGN } else { !word })
}

impl Codec for Words {
    type Key = u64;

    #[inline]
    fn each(&self, rows: &Rows<'_>, mut take: impl FnMut(usize, u64, Diff)) {
        let column = rows.argument.expect("the function has an argument");
        macro_rules! words {
            ($kind:ty, $word:expr) => {{
                let values = column.as_primitive::<$kind>().values();
                rows.for_each(|row, group, diff| take(group, $word(values[row]), diff))
            }};
        }
        let signed = |value: i64| (value as u64) ^ SIGN;
        let array = column.as_ref();
        match self.kind {
            WordKind::Float32 => words!(Float32Type, |value| float_word(f64::from(value))),
            WordKind::Float64 => words!(Float64Type, float_word),
            WordKind::Unsigned => match array.data_type() {
                DataType::UInt8 => words!(UInt8Type, u64::from),
                DataType::UInt16 => words!(UInt16Type, u64::from),
                DataType::UInt32 => words!(UInt32Type, u64::from),
                _ => words!(UInt64Type, |value| value),
            },
            WordKind::Signed => match array.data_type() {
                DataType::Int8 => words!(Int8Type, |value| signed(i64::from(value))),
                DataType::Int16 => words!(Int16Type, |value| signed(i64::from(value))),
                DataType::Int32 => words!(Int32Type, |value| signed(i64::from(value))),
                DataType::Date32 => words!(Date32Type, |value| signed(i64::from(value))),
                DataType::Time32(TimeUnit::Second) => words!(Time32SecondType, |value| signed(i64::from(value))),
                DataType::Time32(_) => words!(Time32MillisecondType, |value| signed(i64::from(value))),
                DataType::Int64 => words!(Int64Type, signed),
                DataType::Date64 => words!(Date64Type, signed),
                DataType::Time64(TimeUnit::Microsecond) => words!(Time64MicrosecondType, signed),
                DataType::Time64(_) => words!(Time64NanosecondType, signed),
                DataType::Timestamp(TimeUnit::Second, _) => words!(TimestampSecondType, signed),
                DataType::Timestamp(TimeUnit::Millisecond, _) => words!(TimestampMillisecondType, signed),
                DataType::Timestamp(TimeUnit::Microsecond, _) => words!(TimestampMicrosecondType, signed),
                DataType::Timestamp(TimeUnit::Nanosecond, _) => words!(TimestampNanosecondType, signed),
                DataType::Duration(TimeUnit::Second) => words!(DurationSecondType, signed),
                DataType::Duration(TimeUnit::Millisecond) => words!(DurationMillisecondType, signed),
                DataType::Duration(TimeUnit::Microsecond) => words!(DurationMicrosecondType, signed),
                _ => words!(DurationNanosecondType, signed),
            },
        }
    }

    fn extreme(&self, rows: &Rows<'_>, side: Side) -> Option<u64> {
        let column = rows.argument.expect("the function has an argument");
        if column.null_count() > 0 || rows.filter.is_some() || column.is_empty() || !are_words(column.data_type()) {
            return best_of(self, rows, side);
        }
        let values = words(column);
        // No value is lost: the smallest becomes the largest.
        let best = if side == Side::Least { !greatest(values, |value| !value) } else { greatest(values, |value| value) };
        Some((best as u64) ^ SIGN)
    }

    fn column(&self, keys: Vec<Option<u64>>) -> ArrayRef {
        let nulls = keys.iter().any(Option::is_none).then(|| NullBuffer::from_iter(keys.iter().map(Option::is_some)));
        let words = keys.into_iter().map(|key| key.unwrap_or_default()).map(|key| match self.kind {
            WordKind::Signed => key ^ SIGN,
            WordKind::Unsigned => key,
            WordKind::Float64 => word_float(key).to_bits(),
            WordKind::Float32 => u64::from((word_float(key) as f32).to_bits()),
        });
        crate::keys::column_of_words(words, nulls, &self.data_type)
    }

    fn key_bytes() -> usize {
        24
    }
    fn packed_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn pack(&self, keys: Vec<Option<u64>>) -> ArrayRef {
        self.column(keys)
    }

    fn each_packed(&self, column: &ArrayRef, groups: &[u32], mut take: impl FnMut(usize, u64)) {
        self.each(&Rows::of(groups, Some(column)), |group, key, _| take(group, key));
    }
}

/// Values as row bytes.
pub(super) struct Encoded {
    converter: RowConverter,
    data_type: DataType,
}

impl Encoded {
    pub(super) fn new(data_type: &DataType) -> Self {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())]);
        let converter = converter.expect("planners allow such functions only over types that have an order");
        Encoded { converter, data_type: data_type.clone() }
    }
}

impl Codec for Encoded {
    type Key = Box<[u8]>;

    fn each(&self, rows: &Rows<'_>, mut take: impl FnMut(usize, Box<[u8]>, Diff)) {
        let column = rows.argument.expect("the function has an argument");
        let encoded = self.converter.convert_columns(std::slice::from_ref(column)).expect("the column has the converter's type");
        rows.for_each(|row, group, diff| take(group, Box::from(encoded.row(row).data()), diff));
    }

    fn column(&self, keys: Vec<Option<Box<[u8]>>>) -> ArrayRef {
        decoded_last(&self.converter, std::slice::from_ref(&self.data_type), &keys)
    }

    fn key_bytes() -> usize {
        48
    }

    fn packed_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn pack(&self, keys: Vec<Option<Box<[u8]>>>) -> ArrayRef {
        self.column(keys)
    }

    fn each_packed(&self, column: &ArrayRef, groups: &[u32], mut take: impl FnMut(usize, Box<[u8]>)) {
        self.each(&Rows::of(groups, Some(column)), |group, key, _| take(group, key));
    }
}

/// Values behind what they are ordered by, as row bytes; NULLs are values too.
pub(super) struct Tuple {
    converter: RowConverter,
    types: Vec<DataType>,
}

impl Tuple {
    /// `order`: types of the columns by which values are ordered, and how. Equal ones are in the order of the values.
    pub(super) fn new(order: &[(DataType, SortOptions)], value: &DataType) -> Self {
        let ordered = order.iter().map(|(data_type, options)| SortField::new_with_options(data_type.clone(), *options));
        let last = SortOptions { descending: false, nulls_first: false };
        let fields = ordered.chain([SortField::new_with_options(value.clone(), last)]).collect();
        let types = order.iter().map(|(data_type, _)| data_type).chain([value]).cloned().collect();
        Tuple { converter: RowConverter::new(fields).expect("planners allow only types that have an order"), types }
    }

    /// The bytes of each row.
    pub(super) fn encoded(&self, rows: &Rows<'_>) -> EncodedRows {
        let mut columns = rows.order.clone();
        columns.push(Arc::clone(rows.argument.expect("the function has an argument")));
        self.converter.convert_columns(&columns).expect("the columns have the converter's types")
    }

    /// The values of these bytes.
    pub(super) fn values<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> ArrayRef {
        let parser = self.converter.parser();
        let mut columns =
            self.converter.convert_rows(keys.map(|key| parser.parse(key))).expect("the bytes came from this converter");
        columns.pop().expect("the value is the last column")
    }
}

impl Codec for Tuple {
    type Key = Box<[u8]>;

    fn each(&self, rows: &Rows<'_>, mut take: impl FnMut(usize, Box<[u8]>, Diff)) {
        let encoded = self.encoded(rows);
        rows.for_each_of(None, |row, group, diff| take(group, Box::from(encoded.row(row).data()), diff));
    }

    fn column(&self, keys: Vec<Option<Box<[u8]>>>) -> ArrayRef {
        decoded_last(&self.converter, &self.types, &keys)
    }

    fn key_bytes() -> usize {
        64
    }

    fn packed_type(&self) -> DataType {
        DataType::Binary
    }

    fn pack(&self, keys: Vec<Option<Box<[u8]>>>) -> ArrayRef {
        Arc::new(keys.iter().map(Option::as_deref).collect::<BinaryArray>())
    }

    fn each_packed(&self, column: &ArrayRef, groups: &[u32], mut take: impl FnMut(usize, Box<[u8]>)) {
        let keys = column.as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            if keys.is_valid(row) {
                take(*group as usize, Box::from(keys.value(row)));
            }
        }
    }
}

/// The last column of these rows; NULL for none.
fn decoded_last(converter: &RowConverter, types: &[DataType], keys: &[Option<Box<[u8]>>]) -> ArrayRef {
    if keys.is_empty() {
        return arrow::array::new_empty_array(types.last().expect("there is a value"));
    }
    let nulls: Vec<ArrayRef> = types.iter().map(|data_type| arrow::array::new_null_array(data_type, 1)).collect();
    let null = converter.convert_columns(&nulls).expect("NULLs have the converter's types");
    let parser = converter.parser();
    let rows = keys.iter().map(|key| parser.parse(key.as_deref().unwrap_or_else(|| null.row(0).data())));
    let mut columns = converter.convert_rows(rows).expect("the bytes came from this converter");
    columns.pop().expect("there is a value")
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, Int64Array};

    use super::*;

    /// What [`Codec::extreme`] finds at both ends, as a column gives it back.
    fn ends(column: ArrayRef, filter: Option<&BooleanArray>) -> ArrayRef {
        let codec = Words::new(column.data_type()).unwrap();
        let groups = vec![0; column.len()];
        let rows = Rows { filter, ..Rows::of(&groups, Some(&column)) };
        codec.column([Side::Least, Side::Greatest].map(|side| codec.extreme(&rows, side)).to_vec())
    }

    #[test]
    fn extremes_are_found_however_the_values_are_read() {
        let values = Arc::new(Int64Array::from(vec![5, i64::MIN, -3, 9, i64::MAX, 0, 1]));
        assert_eq!(ends(values.clone(), None).as_primitive::<Int64Type>().values(), &[i64::MIN, i64::MAX]);
        let some = BooleanArray::from(vec![true, false, true, true, false, true, true]);
        assert_eq!(ends(values, Some(&some)).as_primitive::<Int64Type>().values(), &[-3, 9]);
        let with_null = Arc::new(Int64Array::from(vec![None, Some(-3), Some(9), None]));
        assert_eq!(ends(with_null, None).as_primitive::<Int64Type>().values(), &[-3, 9]);
        let nothing = Arc::new(Int64Array::from(vec![None, None]));
        assert_eq!(ends(nothing, None).null_count(), 2);
        assert_eq!(ends(Arc::new(Int64Array::from(Vec::<i64>::new())), None).null_count(), 2);
        let floats = Arc::new(Float64Array::from(vec![-0.5, f64::NAN, 2.0]));
        let floats = ends(floats, None);
        let floats = floats.as_primitive::<Float64Type>();
        assert!(floats.value(0) == -0.5 && floats.value(1).is_nan(), "NaN is the greatest");
    }
}
