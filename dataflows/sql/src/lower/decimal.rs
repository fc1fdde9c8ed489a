//! Arithmetic of decimals: quotients by way of 256 bits, and overflows called by their name.
//!
//! A quotient has four digits more behind the point than its dividend. To get them the dividend is first multiplied by a
//! power of ten, which leaves little room in 128 bits: a quotient of two sums would not fit although it is small.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Decimal128Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, FieldRef, Schema, i256};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::{DataFusionError, Result, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::BinaryExpr;

/// What a row says whose result has too many digits.
pub(super) const OVERFLOW: &str = "decimal overflow";

/// A sum, difference, product, quotient or remainder of decimals.
#[derive(Debug)]
pub(super) struct DecimalArithmetic {
    binary: Arc<dyn PhysicalExpr>,
    division: Option<Division>,
}

/// Types of a quotient.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Division {
    precision: u8,
    scale: i8,
    /// Digits by which the dividend is shifted first.
    shift: u8,
}

/// The expression, if it is arithmetic of decimals.
pub(super) fn decimal_arithmetic(binary: &BinaryExpr, schema: &Schema) -> Option<DecimalArithmetic> {
    let DataType::Decimal128(precision, scale) = binary.data_type(schema).ok()? else { return None };
    let (left, right) = (binary.left().data_type(schema).ok()?, binary.right().data_type(schema).ok()?);
    let (DataType::Decimal128(_, left), DataType::Decimal128(_, right)) = (left, right) else { return None };
    let shift = u8::try_from(i16::from(scale) - i16::from(left) + i16::from(right)).ok();
    let division = (*binary.op() == Operator::Divide).then_some(shift).flatten();
    let division = division.map(|shift| Division { precision, scale, shift });
    Some(DecimalArithmetic { binary: Arc::new(binary.clone()), division })
}

impl Division {
    fn quotients(&self, left: &Decimal128Array, right: &Decimal128Array) -> Result<Decimal128Array> {
        let overflow = || DataFusionError::from(ArrowError::ArithmeticOverflow(OVERFLOW.into()));
        let power = i256::from_i128(10).checked_pow(u32::from(self.shift)).ok_or_else(overflow)?;
        let limit = 10_i128.pow(u32::from(self.precision.min(DECIMAL128_MAX_PRECISION)));
        let quotient = |row: usize| {
            if left.is_null(row) || right.is_null(row) {
                return Ok(None);
            }
            let divisor = right.value(row);
            if divisor == 0 {
                return Err(ArrowError::DivideByZero.into());
            }
            let shifted = i256::from_i128(left.value(row)).checked_mul(power).ok_or_else(overflow)?;
            let quotient = shifted.checked_div(i256::from_i128(divisor)).and_then(i256::to_i128).ok_or_else(overflow)?;
            if quotient.unsigned_abs() >= limit.unsigned_abs() { Err(overflow()) } else { Ok(Some(quotient)) }
        };
        let quotients = (0..left.len()).map(quotient).collect::<Result<Decimal128Array>>()?;
        Ok(quotients.with_precision_and_scale(self.precision, self.scale)?)
    }
}

impl fmt::Display for DecimalArithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.binary.fmt(f)
    }
}

impl PartialEq for DecimalArithmetic {
    fn eq(&self, other: &Self) -> bool {
        self.binary.as_ref() == other.binary.as_ref() && self.division == other.division
    }
}

impl Eq for DecimalArithmetic {}

impl Hash for DecimalArithmetic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.binary.hash(state);
        self.division.hash(state);
    }
}

impl PhysicalExpr for DecimalArithmetic {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.binary.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.binary.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.binary.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let Some(division) = &self.division else { return self.binary.evaluate(batch).map_err(named) };
        let [left, right] = self.binary.children()[..] else { return internal_err!("a quotient has two sides") };
        let rows = batch.num_rows();
        let (left, right) = (left.evaluate(batch)?.into_array(rows)?, right.evaluate(batch)?.into_array(rows)?);
        let quotients = division.quotients(left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>())?;
        Ok(ColumnarValue::Array(Arc::new(quotients)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.binary.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let binary = Arc::clone(&self.binary).with_new_children(children)?;
        Ok(Arc::new(DecimalArithmetic { binary, division: self.division.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.binary.fmt_sql(f)
    }
}

/// An overflow says what overflowed; what went wrong below it has a name already.
fn named(e: DataFusionError) -> DataFusionError {
    match &e {
        DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::ArithmeticOverflow(_)) => {
            ArrowError::ArithmeticOverflow(OVERFLOW.into()).into()
        }
        _ => e,
    }
}
