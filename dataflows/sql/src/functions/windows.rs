//! Ranking functions that count in BIGINT, as in PostgreSQL and Flink; DataFusion's are unsigned.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, not_impl_err};
use datafusion_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion_physical_expr::PhysicalExpr;

/// All of them.
pub(crate) fn all() -> Vec<Arc<WindowUDF>> {
    let none = Signature::nullary(Volatility::Immutable);
    let buckets = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    let functions = [("row_number", &none), ("rank", &none), ("dense_rank", &none), ("ntile", &buckets)];
    let function =
        |(name, signature): (&'static str, &Signature)| Arc::new(WindowUDF::from(Ranking { name, signature: signature.clone() }));
    functions.into_iter().map(function).collect()
}

/// A function that is planned here and computed by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Ranking {
    name: &'static str,
    signature: Signature,
}

impl WindowUDFImpl for Ranking {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        not_impl_err!("{}() is computed by the engine", self.name)
    }

    fn field(&self, field: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(field.name(), DataType::Int64, false)))
    }

    fn limit_effect(&self, _: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::None
    }
}
