//! `PROCTIME()`: the epoch in which a row came. It is never called: lowering replaces it by a column that the engine fills.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{ExprSchema, Result, not_impl_err};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Its name.
pub(crate) const PROCTIME: &str = "proctime";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Proctime {
    signature: Signature,
}

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Proctime { signature: Signature::nullary(Volatility::Volatile) }))
}

/// Whether an expression is a call of it.
pub(crate) fn is_proctime(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == PROCTIME)
}

/// Whether an expression calls it somewhere.
pub(crate) fn calls_proctime(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(is_proctime(expr))).expect("searching does not fail")
}

impl ScalarUDFImpl for Proctime {
    fn name(&self) -> &str {
        PROCTIME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Millisecond, None))
    }

    fn is_nullable(&self, _: &[Expr], _: &dyn ExprSchema) -> bool {
        false
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        not_impl_err!("PROCTIME() is filled in by the engine")
    }
}
