//! `ARRAY_PREPEND` with its arguments in either order: PostgreSQL's `(item, array)` and Flink's `(array, item)`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_functions_nested::expr_fn::array_prepend;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Prepend {
    signature: Signature,
}

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(Prepend { signature: Signature::user_defined(Volatility::Immutable) }))]
}

/// Whether the array stands first.
fn array_first(found: &[DataType]) -> Option<bool> {
    let item_of = |list: &DataType, item: &DataType| match list {
        DataType::List(of) => of.data_type() == item || (of.data_type().is_nested() == item.is_nested()),
        _ => false,
    };
    match found {
        [item, list] if item_of(list, item) => Some(false),
        [list, item] if item_of(list, item) => Some(true),
        _ => None,
    }
}

/// The types of an item and an array that can hold it: of two numbers the wider one's.
fn together(item: &DataType, of: &FieldRef) -> (DataType, DataType) {
    let numbers = item.is_numeric() && of.data_type().is_numeric();
    let wider = numbers.then(|| comparison_coercion(item, of.data_type())).flatten();
    let common = wider.unwrap_or_else(|| of.data_type().clone());
    let list = Field::new(of.name(), common.clone(), of.is_nullable());
    (common, DataType::List(Arc::new(list)))
}

impl ScalarUDFImpl for Prepend {
    fn name(&self) -> &str {
        "array_prepend"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, found: &[DataType]) -> Result<DataType> {
        match array_first(found) {
            Some(true) => Ok(found[0].clone()),
            Some(false) => Ok(found[1].clone()),
            None => plan_err!("write array_prepend(item, array), or array_prepend(array, item)"),
        }
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        match (array_first(found), found) {
            (Some(true), [DataType::List(of), item]) => {
                let (item, list) = together(item, of);
                Ok(vec![list, item])
            }
            (Some(false), [item, DataType::List(of)]) => {
                let (item, list) = together(item, of);
                Ok(vec![item, list])
            }
            _ => plan_err!("write array_prepend(item, array), or array_prepend(array, item)"),
        }
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let types = args.iter().map(|arg| arg.get_type(context.schema())).collect::<Result<Vec<_>>>()?;
        let mut args = args.into_iter();
        let (Some(first), Some(second)) = (args.next(), args.next()) else {
            return exec_err!("array_prepend takes two arguments");
        };
        Ok(ExprSimplifyResult::Simplified(match array_first(&types) {
            Some(true) => array_prepend(second, first),
            _ => array_prepend(first, second),
        }))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("array_prepend is another function once it is planned")
    }
}
