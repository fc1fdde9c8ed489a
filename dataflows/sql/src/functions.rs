//! Functions of Flink's and PostgreSQL's dialects that DataFusion lacks or defines otherwise.
//!
//! Each scalar function takes whole columns; constant arguments (patterns, separators) are looked at once per batch, varying ones are
//! allowed wherever that means something.

mod aggregates;
mod as_written;
mod count_char;
mod date_format;
mod now;
pub(crate) mod only_row;
mod parts;
mod proctime;
mod regexp_extract;
mod split_index;
mod timestampadd;
mod timestampdiff;
mod windows;
mod with_ties;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

pub(crate) use self::aggregates::{ALIASES as AGGREGATE_ALIASES, all as aggregates, is_aggregate};
pub(crate) use self::as_written::NAME as AS_WRITTEN;
pub(crate) use now::{NOW, now_type};
pub(crate) use proctime::{PROCTIME, calls_proctime, is_proctime};
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
    functions.extend(parts::functions());
    functions
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
}

type Body = fn(&[ColumnarValue], usize) -> Result<ArrayRef>;
type Simplify = fn(Vec<Expr>) -> Expr;

/// A function with fixed kinds of arguments.
struct Function {
    name: &'static str,
    signature: Signature,
    required: &'static [Kind],
    optional: &'static [Kind],
    result: DataType,
    body: Body,
    simplify: Option<Simplify>,
}

impl Function {
    fn new(name: &'static str, required: &'static [Kind], result: DataType, body: Body) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Function { name, signature, required, optional: &[], result, body, simplify: None }
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

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let kinds: Vec<Kind> = self.required.iter().chain(self.optional).copied().collect();
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
            Kind::Time => "timestamp",
        };
        let expected: Vec<&str> = self.required.iter().map(word).collect();
        let optional: String = self.optional.iter().map(|kind| format!(" [, {}]", word(kind))).collect();
        format!("write {}({}{optional})", self.name, expected.join(", "))
    }
}

fn coerced(found: &DataType, kind: Kind) -> Option<DataType> {
    match (kind, found) {
        (_, DataType::Null) => Some(match kind {
            Kind::Text => DataType::Utf8,
            Kind::Whole => DataType::Int64,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
        }),
        (Kind::Text, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => Some(DataType::Utf8),
        (Kind::Whole, found) if found.is_integer() => Some(DataType::Int64),
        (Kind::Time, DataType::Timestamp(unit, _)) => Some(DataType::Timestamp(*unit, None)),
        (Kind::Time, DataType::Date32 | DataType::Date64 | DataType::Utf8) => {
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
