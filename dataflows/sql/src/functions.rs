//! Functions of Flink's and PostgreSQL's dialects that DataFusion lacks or defines otherwise.
//!
//! Each scalar function takes whole columns; constant arguments (patterns, separators) are looked at once per batch, varying ones are
//! allowed wherever that means something.

mod age;
mod aggregates;
pub(crate) mod any_op;
mod array_item;
mod array_prepend;
mod as_written;
mod byte_length;
pub(crate) mod cast;
mod codes;
mod count_char;
mod date_format;
pub(crate) mod decimal_divide;
mod digest;
mod div;
mod instant;
pub(crate) mod interval;
mod json;
mod map;
mod multiset;
mod now;
pub(crate) mod only_row;
mod parse_url;
mod parts;
mod pattern;
pub(crate) mod plain_float;
mod printf;
mod proctime;
mod regexp_extract;
mod regexp_match;
mod regexp_more;
mod round_even;
mod row_of;
mod split_index;
mod strftime;
mod time_pattern;
mod timestampadd;
mod timestampdiff;
mod to_char;
mod trunc_years;
mod typeof_;
mod windows;
mod with_ties;
mod zone;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type, IntervalUnit, TimeUnit};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

pub(crate) use self::aggregates::{ALIASES as AGGREGATE_ALIASES, all as aggregates, is_aggregate};
pub(crate) use self::as_written::NAME as AS_WRITTEN;
pub(crate) use self::byte_length::NAME as BYTE_LENGTH;
pub(crate) use self::codes::is_charset;
pub(crate) use now::{NOW, now_type};
pub(crate) use pattern::REPLACEMENT;
pub(crate) use proctime::{PROCTIME, calls_proctime, is_proctime};
pub(crate) use round_even::NAME as ROUND_EVEN;
pub(crate) use row_of::NAME as ROW_OF;
pub(crate) use trunc_years::NAME as TRUNC_YEARS;
pub(crate) use windows::all as windows;
pub(crate) use with_ties::WITH_TIES;

/// All scalar functions of this module.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![
        as_written::function(),
        count_char::function(),
        date_format::function(),
        now::function(),
        regexp_extract::function(),
        split_index::function(),
        timestampadd::function(),
        timestampdiff::function(),
        with_ties::function(),
        proctime::function(),
    ];
    for more in [
        age::functions(),
        any_op::functions(),
        array_item::functions(),
        array_prepend::functions(),
        byte_length::functions(),
        codes::functions(),
        decimal_divide::functions(),
        digest::functions(),
        div::functions(),
        instant::functions(),
        interval::functions(),
        strftime::functions(),
        json::functions(),
        map::functions(),
        multiset::functions(),
        parse_url::functions(),
        parts::functions(),
        pattern::functions(),
        printf::functions(),
        regexp_match::functions(),
        regexp_more::functions(),
        round_even::functions(),
        row_of::functions(),
        to_char::functions(),
        trunc_years::functions(),
        typeof_::functions(),
        zone::functions(),
    ] {
        functions.extend(more);
    }
    functions
}

/// A function of this module by name.
pub(crate) fn function(name: &str) -> Arc<ScalarUDF> {
    all().into_iter().find(|function| function.name() == name).expect("the function is one of this module")
}

/// How a function of this module is called.
pub(crate) fn usage(name: &str) -> Option<String> {
    let Some(function) = all().into_iter().find(|function| function.name() == name) else { return aggregates::usage(name) };
    Some(function.inner().downcast_ref::<Function>()?.usage())
}

/// What an argument must be; it is cast to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    /// A timestamp of any unit; dates and text become microseconds.
    Time,
    /// What has parts such as an hour: a time of any kind, a date, an interval; text is a timestamp.
    Moment,
    /// A timestamp of any unit, its zone kept.
    Instant,
    /// Any number, as a double.
    Number,
    /// An interval.
    Length,
    /// Bytes; text is its bytes.
    Bytes,
    /// Whatever it is.
    Any,
}

/// The type of what a function gives.
enum Gives {
    Always(DataType),
    /// From the types of the arguments; `None` if they do not fit.
    From(fn(&[DataType]) -> Option<DataType>),
}

type Body = fn(&[ColumnarValue], usize) -> Result<ArrayRef>;
type Simplify = fn(Vec<Expr>) -> Expr;

/// A function with fixed kinds of arguments.
struct Function {
    name: &'static str,
    signature: Signature,
    required: &'static [Kind],
    optional: &'static [Kind],
    /// What may follow, any number of times.
    variadic: Option<Kind>,
    result: Gives,
    body: Body,
    simplify: Option<Simplify>,
}

impl Function {
    fn new(name: &'static str, required: &'static [Kind], result: DataType, body: Body) -> Self {
        Function::typed(name, required, Gives::Always(result), body)
    }

    fn typed(name: &'static str, required: &'static [Kind], result: Gives, body: Body) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Function { name, signature, required, optional: &[], variadic: None, result, body, simplify: None }
    }

    fn optional(self, optional: &'static [Kind]) -> Self {
        Function { optional, ..self }
    }

    fn variadic(self, kind: Kind) -> Self {
        Function { variadic: Some(kind), ..self }
    }

    fn build(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(self))
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, found: &[DataType]) -> Result<DataType> {
        match &self.result {
            Gives::Always(result) => Ok(result.clone()),
            Gives::From(result) => match result(found) {
                Some(result) => Ok(result),
                None => plan_err!("{}", self.usage()),
            },
        }
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let mut kinds: Vec<Kind> = self.required.iter().chain(self.optional).copied().collect();
        if let Some(kind) = self.variadic {
            kinds.resize(kinds.len().max(found.len()), kind);
        }
        let fits = (self.required.len()..=kinds.len()).contains(&found.len());
        let coerced: Option<Vec<DataType>> = found.iter().zip(&kinds).map(|(found, kind)| coerced(found, *kind)).collect();
        match coerced {
            Some(types) if fits => Ok(types),
            // DataFusion names the function and the types itself.
            _ => plan_err!("{}", self.usage()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&args.args, args.number_rows).map(ColumnarValue::Array)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.simplify {
            Some(simplify) => ExprSimplifyResult::Simplified(simplify(args)),
            None => ExprSimplifyResult::Original(args),
        })
    }
}

impl Function {
    fn usage(&self) -> String {
        let word = |kind: &Kind| match kind {
            Kind::Text => "string",
            Kind::Whole => "integer",
            Kind::Time | Kind::Instant | Kind::Moment => "timestamp",
            Kind::Number => "number",
            Kind::Length => "interval",
            Kind::Bytes => "bytes",
            Kind::Any => "value",
        };
        let expected: Vec<&str> = self.required.iter().map(word).collect();
        let optional: String = self.optional.iter().map(|kind| format!(" [, {}]", word(kind))).collect();
        let more = if self.variadic.is_some() { ", ..." } else { "" };
        format!("write {}({}{optional}{more})", self.name, expected.join(", "))
    }
}

fn coerced(found: &DataType, kind: Kind) -> Option<DataType> {
    match (kind, found) {
        (_, DataType::Null) => Some(match kind {
            Kind::Text => DataType::Utf8,
            Kind::Whole => DataType::Int64,
            Kind::Time | Kind::Instant | Kind::Moment => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::Number => DataType::Float64,
            Kind::Length => DataType::Interval(IntervalUnit::MonthDayNano),
            Kind::Bytes => DataType::Binary,
            Kind::Any => DataType::Null,
        }),
        (Kind::Any, found) => Some(found.clone()),
        (Kind::Moment, DataType::Utf8) => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        (Kind::Moment, found) if found.is_temporal() => Some(found.clone()),
        (Kind::Number, found) if found.is_numeric() => Some(DataType::Float64),
        (Kind::Length, DataType::Interval(_) | DataType::Duration(_)) => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
        // A text's bytes are its UTF-8: not those that it would be cast to, where `\\` and `\\x` mean something.
        (Kind::Bytes, found @ (DataType::Binary | DataType::Utf8)) => Some(found.clone()),
        (Kind::Instant, DataType::Timestamp(unit, zone)) => Some(DataType::Timestamp(*unit, zone.clone())),
        (Kind::Text, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => Some(DataType::Utf8),
        (Kind::Whole, found) if found.is_integer() => Some(DataType::Int64),
        (Kind::Time, DataType::Timestamp(unit, _)) => Some(DataType::Timestamp(*unit, None)),
        (Kind::Time | Kind::Instant, DataType::Date32 | DataType::Date64 | DataType::Utf8) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        _ => None,
    }
}

/// An argument as a column of strings.
fn text(args: &[ColumnarValue], index: usize, rows: usize) -> Result<StringArray> {
    let array = args[index].to_array(rows)?;
    array.as_string_opt::<i32>().cloned().ok_or_else(|| unexpected(&array))
}

/// An argument as a column of integers.
fn whole(args: &[ColumnarValue], index: usize, rows: usize) -> Result<Int64Array> {
    let array = args[index].to_array(rows)?;
    array.as_primitive_opt::<Int64Type>().cloned().ok_or_else(|| unexpected(&array))
}

/// An argument as a column.
fn column(args: &[ColumnarValue], index: usize, rows: usize) -> Result<ArrayRef> {
    args[index].to_array(rows)
}

/// An argument of [`Kind::Bytes`] as a column of bytes.
fn bytes(args: &[ColumnarValue], index: usize, rows: usize) -> Result<BinaryArray> {
    let array = column(args, index, rows)?;
    let bytes = arrow::compute::cast(&array, &DataType::Binary)?;
    bytes.as_binary_opt::<i32>().cloned().ok_or_else(|| unexpected(&array))
}

fn unexpected(array: &ArrayRef) -> DataFusionError {
    exec_datafusion_err!("unexpected argument of type {}", array.data_type())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use datafusion_common::ScalarValue;

    /// Calls a function's body on columns and constants.
    pub(crate) fn call(body: Body, args: &[ColumnarValue], rows: usize) -> Vec<Option<String>> {
        let array = body(args, rows).expect("the arguments fit");
        let array = arrow::compute::cast(&array, &DataType::Utf8).expect("everything can be shown");
        array.as_string::<i32>().iter().map(|value| value.map(str::to_string)).collect()
    }

    /// A column of strings.
    pub(crate) fn strings(values: &[Option<&str>]) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())))
    }

    /// A constant.
    pub(crate) fn constant(value: impl Into<ScalarValue>) -> ColumnarValue {
        ColumnarValue::Scalar(value.into())
    }
}
