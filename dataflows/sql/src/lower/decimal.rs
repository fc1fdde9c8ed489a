//! Arithmetic of decimals, whose overflows are called by their name. Quotients are a function of ours:
//! [`crate::functions::decimal_divide`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::BinaryExpr;

/// What a row says whose result has too many digits.
pub(super) const OVERFLOW: &str = "decimal overflow";

/// A sum, difference, product or remainder of decimals.
#[derive(Debug)]
pub(super) struct DecimalArithmetic(Arc<dyn PhysicalExpr>);

/// The expression, if it is arithmetic of decimals.
pub(super) fn decimal_arithmetic(binary: &BinaryExpr, schema: &Schema) -> Option<DecimalArithmetic> {
    matches!(binary.data_type(schema), Ok(DataType::Decimal128(..))).then(|| DecimalArithmetic(Arc::new(binary.clone())))
}

impl fmt::Display for DecimalArithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for DecimalArithmetic {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref() == other.0.as_ref()
    }
}

impl Eq for DecimalArithmetic {}

impl Hash for DecimalArithmetic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PhysicalExpr for DecimalArithmetic {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.0.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.0.evaluate(batch).map_err(named)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.0.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(DecimalArithmetic(Arc::clone(&self.0).with_new_children(children)?)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
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
