//! `NOW()`: the epoch, as a timestamp in microseconds (UTC).
//!
//! It has no value while a job is planned and none per row: filters that compare with it become operators of their own,
//! and everywhere else it is refused. So it is never evaluated, and a planner that tries to gets an error.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Its name in plans; the other spellings are rewritten to it.
pub(crate) const NOW: &str = "now";

/// Its type.
pub(crate) fn now_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    // Stable, so that filters that use it move to where they save most.
    Arc::new(ScalarUDF::new_from_impl(Now { signature: Signature::nullary(Volatility::Stable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    signature: Signature,
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        NOW
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(now_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("NOW() has no value of its own")
    }
}
