//! Expressions as the engine evaluates them: DataFusion's physical expressions behind [`Scalar`].

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, ExprSchemable, Operator};
use datafusion_physical_expr::expressions::BinaryExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use highwater_plan::{EvalError, Expr as PlanExpr, Scalar, Span};

use super::decimal::{OVERFLOW, decimal_arithmetic};
use super::expr::{as_column, columns, internal, span};
use super::temporal::reads_clock;
use super::text::text;
use crate::bind::{changing, sql_type};
use crate::diagnose::{Result, error};
use crate::functions::calls_proctime;
use crate::functions::cast::CastTo;

/// Compiles a positional expression over columns of these types.
pub(super) fn compile(expr: &Expr, types: &DFSchema, place: Option<Span>) -> Result<PlanExpr> {
    if calls_proctime(expr) {
        return Err(error("not-supported", "PROCTIME() cannot stand here")
            .at(span(expr).or(place))
            .help("select it in a view over the stream, and use its column"));
    }
    let data_type = expr.get_type(types).map_err(internal)?;
    let nullable = expr.nullable(types).map_err(internal)?;
    let place = span(expr).or(place);
    if reads_clock(expr) {
        return Err(changing("here it is no condition on rows", place));
    }
    if let Some(index) = as_column(expr) {
        return Ok(PlanExpr { span: place, ..PlanExpr::column(index, data_type, nullable) });
    }
    let leaves = Leaves::of(expr, types).map_err(internal)?;
    let scalar = Compiled {
        physical: physical(&leaves.rest, &leaves.types).map_err(internal)?,
        leaves: leaves.exprs.iter().map(|leaf| physical(leaf, types).map_err(internal)).collect::<Result<_>>()?,
        schema: Arc::new(all_nullable(leaves.types.as_arrow())),
        data_type: data_type.clone(),
        text: text(expr),
        free: is_free(expr),
    };
    Ok(PlanExpr {
        scalar: Arc::new(scalar),
        data_type,
        nullable,
        columns: columns(expr),
        fallible: is_fallible(expr, types),
        span: place,
    })
}

fn physical(expr: &Expr, types: &DFSchema) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
    let expr = create_physical_expr(expr, types, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    checked(expr, types.as_arrow())
}

/// An expression apart from the columns and fields of columns that it reads.
///
/// Kernels that choose among rows (`CASE`) copy the chosen rows of *all* columns they are given. So an expression is given
/// only what it reads: a field of a struct column rather than the struct.
struct Leaves {
    /// Over the input's columns.
    exprs: Vec<Expr>,
    /// Columns of the leaves.
    types: DFSchema,
    /// The expression over the leaves.
    rest: Expr,
}

impl Leaves {
    fn of(expr: &Expr, types: &DFSchema) -> datafusion_common::Result<Self> {
        let mut exprs: Vec<Expr> = Vec::new();
        let rest = expr.clone().transform_down(|expr| {
            if !is_free(&expr) {
                return Ok(Transformed::no(expr));
            }
            let index = exprs.iter().position(|leaf| *leaf == expr).unwrap_or_else(|| {
                exprs.push(expr.clone());
                exprs.len() - 1
            });
            Ok(Transformed::new(super::expr::at(index), true, TreeNodeRecursion::Jump))
        })?;
        let fields = exprs
            .iter()
            .enumerate()
            .map(|(index, leaf)| Ok(Field::new(format!("#{index}"), leaf.get_type(types)?, leaf.nullable(types)?)));
        let fields: Vec<Field> = fields.collect::<datafusion_common::Result<_>>()?;
        let types = DFSchema::try_from(Schema::new(fields))?;
        Ok(Leaves { exprs, types, rest: rest.data })
    }
}

/// A row that deletes a key may have NULL in columns that are declared NOT NULL.
fn all_nullable(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>())
}

/// Integer arithmetic that fails instead of wrapping, and decimal arithmetic that says so.
fn checked(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
    expr.transform_up(|expr| {
        Ok(match expr.downcast_ref::<BinaryExpr>() {
            Some(binary) => {
                let checked = binary.clone().with_fail_on_overflow(true);
                let decimal = decimal_arithmetic(&checked, schema);
                Transformed::yes(match decimal {
                    Some(decimal) => Arc::new(decimal) as Arc<dyn PhysicalExpr>,
                    None => Arc::new(checked),
                })
            }
            None => Transformed::no(expr),
        })
    })
    .data()
}

/// Whether it is a column or a field of a struct column: evaluated without touching a row.
fn is_free(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => {
            call.args.first().is_some_and(is_free) && call.args[1..].iter().all(|arg| matches!(arg, Expr::Literal(..)))
        }
        _ => false,
    }
}

/// A compiled expression.
#[derive(Debug)]
struct Compiled {
    /// Over the leaves.
    physical: Arc<dyn PhysicalExpr>,
    /// Over the input.
    leaves: Vec<Arc<dyn PhysicalExpr>>,
    /// Of the leaves.
    schema: SchemaRef,
    data_type: DataType,
    text: String,
    free: bool,
}

impl fmt::Display for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Scalar for Compiled {
    fn evaluate(&self, batch: &RecordBatch) -> std::result::Result<ArrayRef, EvalError> {
        let rows = batch.num_rows();
        let leaves = self.leaves.iter().map(|leaf| leaf.evaluate(batch).and_then(|value| value.into_array(rows)));
        let value = leaves.collect::<std::result::Result<Vec<_>, _>>().and_then(|leaves| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let leaves = RecordBatch::try_new_with_options(Arc::clone(&self.schema), leaves, &options)?;
            unless_panics(self.physical.as_ref(), &leaves)
        });
        let array = value.map_err(|e| EvalError { message: message(&e) })?;
        if *array.data_type() == self.data_type {
            return Ok(array);
        }
        arrow::compute::cast(&array, &self.data_type).map_err(|e| EvalError { message: message(&e.into()) })
    }

    fn is_free(&self) -> bool {
        self.free
    }
}

/// Evaluates; a function that panics fails on its rows, because a panic would end the worker and with it every job.
///
/// Some kernels compute with what is in an array under its NULLs, which may be any value, and panic on it. So they are
/// asked a second time, with a valid value there.
fn unless_panics(expr: &dyn PhysicalExpr, leaves: &RecordBatch) -> datafusion_common::Result<ArrayRef> {
    let rows = leaves.num_rows();
    let attempt = |leaves: &RecordBatch| {
        catch_unwind(AssertUnwindSafe(|| expr.evaluate(leaves).and_then(|value| value.into_array(rows)))).ok()
    };
    if let Some(result) = attempt(leaves) {
        return result;
    }
    let columns = leaves.columns().iter().map(valid_under_nulls).collect::<std::result::Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let leaves = RecordBatch::try_new_with_options(leaves.schema(), columns, &options)?;
    let panicked = || Err(DataFusionError::Execution("a function panicked on this row; please report it".into()));
    attempt(&leaves).unwrap_or_else(panicked)
}

/// The same array, with one of its valid values under each NULL.
fn valid_under_nulls(array: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
    let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(Arc::clone(array)) };
    let Some(valid) = nulls.valid_indices().next() else { return Ok(new_null_array(array.data_type(), array.len())) };
    let from = (0..array.len()).map(|row| if nulls.is_valid(row) { row as u32 } else { valid as u32 });
    take(array.as_ref(), &UInt32Array::new(from.collect(), Some(nulls.clone())), None)
}

/// Whether some input can make it fail; unsure means yes.
fn is_fallible(expr: &Expr, types: &DFSchema) -> bool {
    let mut fallible = false;
    let walk = expr.apply(|expr| {
        fallible |= match expr {
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => true,
                Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom
                | Operator::And
                | Operator::Or => false,
                _ => true,
            },
            Expr::Cast(cast) => {
                let from = cast.expr.get_type(types);
                !from.is_ok_and(|from| always_fits(&from, cast.field.data_type()))
            }
            Expr::ScalarFunction(call) if let Some(cast) = call.func.inner().downcast_ref::<CastTo>() => {
                !cast.safe && cast.to != DataType::Utf8
            }
            Expr::ScalarFunction(call) => !matches!(
                call.func.name(),
                "plain_float" | "get_field" | "named_struct" | "coalesce" | "nullif" | "lower" | "upper" | "character_length"
            ),
            Expr::Negative(_) | Expr::HigherOrderFunction(_) => true,
            _ => false,
        };
        Ok(if fallible { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.expect("walking does not fail");
    fallible
}

fn always_fits(from: &DataType, to: &DataType) -> bool {
    if from == to || matches!(to, DataType::Utf8) {
        return true;
    }
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    match (from, to) {
        (DataType::Null, _) => true,
        (from, DataType::Float64 | DataType::Float32) if from.is_numeric() => true,
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => width(from) <= width(to),
        (from, DataType::Decimal128(precision, scale)) if from.is_signed_integer() => {
            let digits = [3, 5, 10, 19][width(from).trailing_zeros() as usize];
            i16::from(*precision) - i16::from(*scale) >= digits
        }
        _ => false,
    }
}

/// An evaluation error in a few words.
fn message(e: &DataFusionError) -> String {
    match e {
        DataFusionError::ArrowError(e, _) => arrow_message(e),
        DataFusionError::Context(_, e) | DataFusionError::Diagnostic(_, e) => message(e),
        DataFusionError::Shared(e) => message(e),
        DataFusionError::External(e) => match e.downcast_ref::<ArrowError>() {
            Some(e) => arrow_message(e),
            None => e.to_string(),
        },
        other => {
            let text = other.strip_backtrace();
            let text = ["Execution error: ", "Error during planning: ", "Internal error: ", "This feature is not implemented: "]
                .iter()
                .find_map(|prefix| text.strip_prefix(prefix).map(str::to_string))
                .unwrap_or(text);
            plain(text.lines().next().unwrap_or_default())
        }
    }
}

fn arrow_message(e: &ArrowError) -> String {
    match e {
        ArrowError::DivideByZero => "division by zero".into(),
        ArrowError::ArithmeticOverflow(text) if text == OVERFLOW => OVERFLOW.into(),
        ArrowError::ArithmeticOverflow(_) => "integer overflow".into(),
        ArrowError::ExternalError(e) => match e.downcast_ref::<DataFusionError>() {
            Some(e) => message(e),
            None => plain(&e.to_string()),
        },
        ArrowError::CastError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::ParseError(text) => cast_message(text).unwrap_or_else(|| plain(text)),
        other => plain(&other.to_string()),
    }
}

/// "Cannot cast string 'abc' to value of Int64 type" with SQL's name of the type.
fn cast_message(text: &str) -> Option<String> {
    let string = text.strip_prefix("Cannot cast string ").and_then(|rest| rest.rsplit_once(" to value of "));
    let number = || text.strip_prefix("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type "));
    let (value, rest) = string.or_else(number)?;
    let name = rest.strip_suffix(" type").unwrap_or(rest);
    let name = name.parse::<DataType>().map_or(name.to_string(), |data_type| sql_type(&data_type));
    Some(format!("cannot cast {value} to {name}"))
}

fn plain(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    if text.contains("Overflow happened on") {
        return "integer overflow".into();
    }
    if text.contains("to store in a Decimal128 of precision") || text.contains("overflows for output scale") {
        return "decimal overflow".into();
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "evaluation failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, TimestampMicrosecondArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::TimestampMicrosecondType;
    use datafusion_common::Column;
    use datafusion_expr::lit;

    use super::*;

    #[test]
    fn what_is_under_a_null_does_not_matter() {
        // Cutting the least value to an hour leaves the range, which panics where overflows are checked.
        let values =
            TimestampMicrosecondArray::new(vec![3_600_000_001, i64::MIN].into(), Some(NullBuffer::from(vec![true, false])));
        let batch = RecordBatch::try_from_iter([("#0", Arc::new(values) as ArrayRef)]).expect("a column");
        let types = DFSchema::try_from(batch.schema()).expect("a schema");
        let cut = datafusion_functions::datetime::date_trunc().call(vec![lit("hour"), Expr::Column(Column::from_name("#0"))]);
        for rows in [batch.clone(), batch.slice(1, 1)] {
            let cut = compile(&cut, &types, None).expect("it compiles").scalar.evaluate(&rows).expect("it does not fail");
            let cut = cut.as_primitive::<TimestampMicrosecondType>();
            assert_eq!(cut.iter().next(), Some((rows.num_rows() == 2).then_some(3_600_000_000)));
            assert!(cut.is_null(rows.num_rows() - 1));
        }
    }
}
