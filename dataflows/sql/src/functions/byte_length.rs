//! `OCTET_LENGTH(bytes)` and `BIT_LENGTH(bytes)`: of a text those of its UTF-8. DataFusion's know texts only, and its
//! `LENGTH` counts bytes as the characters that they may be.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, bytes};

/// `LENGTH` of bytes is this one.
pub(crate) const NAME: &str = "octet_length";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let octets = Function::new(NAME, &[Kind::Bytes], DataType::Int32, |args, rows| length(args, rows, 1)).build();
    let bits = Function::new("bit_length", &[Kind::Bytes], DataType::Int32, |args, rows| length(args, rows, 8)).build();
    vec![octets, bits]
}

fn length(args: &[ColumnarValue], rows: usize, unit: i32) -> Result<ArrayRef> {
    let length = |value: &[u8]| {
        let length = i32::try_from(value.len()).ok().and_then(|length| length.checked_mul(unit));
        length.ok_or_else(|| exec_datafusion_err!("the length is out of the range of INT"))
    };
    let lengths = bytes(args, 0, rows)?.iter().map(|value| value.map(length).transpose()).collect::<Result<Int32Array>>()?;
    Ok(Arc::new(lengths))
}
