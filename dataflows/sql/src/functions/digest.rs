//! `MD5`, `SHA1`, `SHA224` to `SHA512` of text or bytes, as hexadecimal digits; `SHA2(value, bits)`.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::{Function, Kind, bytes, whole};

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name, body| Function::new(name, &[Kind::Bytes], DataType::Utf8, body).build();
    vec![
        function("md5", digest::<Md5>),
        function("sha1", digest::<Sha1>),
        function("sha224", digest::<Sha224>),
        function("sha256", digest::<Sha256>),
        function("sha384", digest::<Sha384>),
        function("sha512", digest::<Sha512>),
        Function::new("sha2", &[Kind::Bytes, Kind::Whole], DataType::Utf8, sha2).build(),
    ]
}

fn digest<D: Digest>(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let values = bytes(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 2 * <D as Digest>::output_size());
    for row in 0..rows {
        if values.is_null(row) {
            out.append_null();
            continue;
        }
        for byte in D::digest(values.value(row)) {
            write!(out, "{byte:02x}")?;
        }
        out.append_value("");
    }
    Ok(Arc::new(out.finish()))
}

fn sha2(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let bits = whole(args, 1, rows)?;
    let Some(first) = bits.iter().flatten().next() else { return Ok(Arc::new(StringBuilder::new().finish_null(rows))) };
    if bits.iter().any(|other| other != Some(first)) {
        return exec_err!("the number of bits of SHA2 must be the same for all rows");
    }
    match first {
        224 => digest::<Sha224>(&args[..1], rows),
        256 | 0 => digest::<Sha256>(&args[..1], rows),
        384 => digest::<Sha384>(&args[..1], rows),
        512 => digest::<Sha512>(&args[..1], rows),
        other => exec_err!("SHA2 has 224, 256, 384 or 512 bits, not {other}"),
    }
}

/// A column of NULLs.
trait Nulls {
    fn finish_null(self, rows: usize) -> arrow::array::StringArray;
}

impl Nulls for StringBuilder {
    fn finish_null(mut self, rows: usize) -> arrow::array::StringArray {
        self.append_nulls(rows);
        self.finish()
    }
}
