//! Casts with PostgreSQL's meaning where Arrow's is another: texts of times, numbers and arrays, rounding instead of cutting
//! off, rows by position.

mod interval;
mod parse;
mod text;

pub(crate) use self::interval::parse_interval;

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, PrimitiveBuilder, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, TimeUnit,
};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

pub(crate) use parse::timestamp_in;

use crate::bind::sql_type;

/// Whether a cast is ours rather than Arrow's.
pub(crate) fn is_ours(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (from, to) if from == to => false,
        (T::Utf8, to) => {
            to.is_signed_integer()
                || to.is_floating()
                || matches!(
                    to,
                    T::Decimal128(..)
                        | T::Boolean
                        | T::Date32
                        | T::Time32(_)
                        | T::Time64(_)
                        | T::Timestamp(..)
                        | T::Binary
                        | T::List(_)
                )
                || matches!(to, T::Interval(IntervalUnit::MonthDayNano))
        }
        (
            T::Float32
            | T::Float64
            | T::Timestamp(..)
            | T::Time32(_)
            | T::Time64(_)
            | T::Interval(_)
            | T::Duration(_)
            | T::Binary
            | T::List(_)
            | T::Struct(_)
            | T::Map(..),
            T::Utf8,
        ) => true,
        (T::Float32 | T::Float64 | T::Decimal128(..), to) if to.is_signed_integer() => true,
        // A number beside a time counts milliseconds since 1970.
        (number, T::Timestamp(..)) | (T::Timestamp(..), number) if number.is_numeric() => true,
        (number, T::Binary) if number.is_signed_integer() => true,
        (T::List(from), T::List(to)) => is_ours(from.data_type(), to.data_type()),
        (T::Struct(from), T::Struct(to)) => from.len() == to.len(),
        _ => false,
    }
}

/// A cast as a call.
pub(crate) fn call(expr: Expr, to: &DataType, safe: bool) -> Expr {
    ScalarUDF::new_from_impl(CastTo::new(to.clone(), safe)).call(vec![expr])
}

/// A cast to a type; `safe`: NULL for what does not fit.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CastTo {
    signature: Signature,
    pub(crate) to: DataType,
    pub(crate) safe: bool,
    /// As Arrow casts.
    raw: bool,
}

impl CastTo {
    fn new(to: DataType, safe: bool) -> Self {
        CastTo { signature: Signature::any(1, Volatility::Immutable), to, safe, raw: false }
    }
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        if self.safe { "try_cast" } else { "cast" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        if self.raw {
            return Ok(ColumnarValue::Array(arrow::compute::cast(&array, &self.to)?));
        }
        cast(&array, &self.to, self.safe).map(ColumnarValue::Array)
    }
}

/// A column as one of another type.
///
/// Errors: a value that does not fit, named with the type, unless `safe`.
pub(crate) fn cast(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (from, to) if !is_ours(from, to) => {
            let options = CastOptions { safe, ..CastOptions::default() };
            Ok(cast_with_options(array, to, &options)?)
        }
        (from, DataType::Timestamp(..)) if from.is_numeric() => {
            let millis = cast(array, &DataType::Int64, safe)?;
            let times = cast_with_options(&millis, &DataType::Timestamp(TimeUnit::Millisecond, None), &CastOptions::default())?;
            Ok(cast_with_options(&times, to, &CastOptions { safe, ..CastOptions::default() })?)
        }
        (DataType::Timestamp(..), to) if to.is_numeric() => {
            let millis = cast_with_options(array, &DataType::Timestamp(TimeUnit::Millisecond, None), &CastOptions::default())?;
            let millis = cast_with_options(&millis, &DataType::Int64, &CastOptions::default())?;
            Ok(cast_with_options(&millis, to, &CastOptions { safe, ..CastOptions::default() })?)
        }
        (from, DataType::Binary) if from.is_signed_integer() => big_endian(array),
        (DataType::Utf8, to) => parse::parsed(array.as_string(), to, safe),
        (_, DataType::Utf8) => Ok(Arc::new(text::texts(array)?)),
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = cast(list.values(), item.data_type(), safe)?;
            Ok(Arc::new(ListArray::new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let rows = array.as_struct();
            let columns = rows.columns().iter().zip(fields).map(|(column, field)| cast(column, field.data_type(), safe));
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, rows.nulls().cloned())?))
        }
        (_, DataType::Int8) => rounded::<Int8Type>(array, to, safe),
        (_, DataType::Int16) => rounded::<Int16Type>(array, to, safe),
        (_, DataType::Int32) => rounded::<Int32Type>(array, to, safe),
        (_, DataType::Int64) => rounded::<Int64Type>(array, to, safe),
        (from, to) => Err(exec_datafusion_err!("cannot cast {} to {}", sql_type(from), sql_type(to))),
    }
}

/// Integers as the bytes that they take, the most significant first.
fn big_endian(array: &ArrayRef) -> Result<ArrayRef> {
    let width = array.data_type().primitive_width().unwrap_or(8);
    let values = arrow::compute::cast(array, &DataType::Int64)?;
    let bytes = values.as_primitive::<Int64Type>().iter().map(|value| value.map(|value| value.to_be_bytes()));
    Ok(Arc::new(bytes.map(|bytes| bytes.map(|bytes| bytes[8 - width..].to_vec())).collect::<BinaryArray>()))
}

/// A number as the instant so many microseconds after 1970: for watermarks and frames, which compare.
pub(crate) fn instant_of(number: Expr) -> Expr {
    raw(number, DataType::Timestamp(TimeUnit::Microsecond, None))
}

/// What is stored as a value of another type, whatever it means there.
pub(crate) fn raw(value: Expr, to: DataType) -> Expr {
    ScalarUDF::new_from_impl(CastTo { raw: true, ..CastTo::new(to, false) }).call(vec![value])
}

/// Floats to the nearest integer, halves to the even one; decimals' halves away from zero.
fn rounded<T: ArrowPrimitiveType>(array: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    if let DataType::Decimal128(_, scale) = array.data_type() {
        let one = 10i128.pow(scale.unsigned_abs().into());
        let values = array.as_primitive::<Decimal128Type>();
        let whole = |row: usize| match values.value(row) {
            value if *scale > 0 => Some((value.abs() + one / 2) / one * value.signum()),
            value => value.checked_mul(one),
        };
        return integers::<T>(array, to, safe, whole, |row| values.value_as_string(row));
    }
    let values = arrow::compute::cast(array, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let whole =
        |row: usize| Some(values.value(row).round_ties_even()).filter(|value| value.abs() < 1e30).map(|value| value as i128);
    integers::<T>(array, to, safe, whole, |row| values.value(row).to_string())
}

fn integers<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    to: &DataType,
    safe: bool,
    whole: impl Fn(usize) -> Option<i128>,
    shown: impl Fn(usize) -> String,
) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let mut out = PrimitiveBuilder::<T>::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        match whole(row).and_then(|value| T::Native::try_from(value).ok()) {
            Some(value) => out.append_value(value),
            None if safe => out.append_null(),
            None => return Err(exec_datafusion_err!("cannot cast {} to {}", shown(row), sql_type(to))),
        }
    }
    Ok(Arc::new(out.finish()))
}
