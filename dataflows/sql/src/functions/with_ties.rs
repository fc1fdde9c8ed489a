//! The mark that `FETCH FIRST n ROWS WITH TIES` leaves in a plan: DataFusion knows only limits.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::exec_err;
use datafusion_expr::{ScalarUDF, Signature, Volatility};

use super::{Function, Kind};

/// The name of the mark.
pub(crate) const WITH_TIES: &str = "__with_ties";

/// The mark.
pub(super) fn function() -> Arc<ScalarUDF> {
    let function =
        Function::new(WITH_TIES, &[Kind::Whole], DataType::Int64, |_, _| exec_err!("WITH TIES belongs to FETCH FIRST"));
    // Volatile: it must not be computed.
    Function { signature: Signature::user_defined(Volatility::Volatile), ..function }.build()
}
