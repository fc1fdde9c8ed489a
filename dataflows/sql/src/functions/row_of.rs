//! `__row_of(a, b)`: a row that is looked for in a subquery of several columns, as one value while it is planned.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::exec_err;
use datafusion_expr::{ScalarUDF, Signature, Volatility};

use super::{Function, Kind};

/// The name, which no query can write: names do not begin so.
pub(crate) const NAME: &str = "__row_of";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = Function::new(NAME, &[Kind::Any, Kind::Any], DataType::Boolean, |_, _| {
        exec_err!("a row is compared with a subquery column by column")
    });
    // Volatile: it must not be computed.
    vec![Function { signature: Signature::user_defined(Volatility::Volatile), ..function.variadic(Kind::Any) }.build()]
}
