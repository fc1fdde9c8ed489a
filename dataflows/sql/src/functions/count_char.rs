//! `COUNT_CHAR(text, character)`: how often the character stands in the text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Builder};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text};

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Function::new("count_char", &[Kind::Text, Kind::Text], DataType::Int64, count_char).build()
}

fn count_char(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, characters) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let mut out = Int64Builder::with_capacity(rows);
    for row in 0..rows {
        if texts.is_null(row) || characters.is_null(row) {
            out.append_null();
            continue;
        }
        let text = texts.value(row);
        let count = match (characters.value(row).chars().next(), characters.value(row).as_bytes()) {
            (None, _) => 0,
            (Some(_), [byte]) => memchr::memchr_iter(*byte, text.as_bytes()).count(),
            (Some(character), _) => text.chars().filter(|found| *found == character).count(),
        };
        out.append_value(count as i64);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{call, constant, strings};
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        let texts = strings(&[Some("abcabc"), Some("ééa"), None]);
        assert_eq!(call(count_char, &[texts.clone(), constant("c")], 3), [Some("2".into()), Some("0".into()), None]);
        assert_eq!(call(count_char, &[texts, constant("é")], 3), [Some("0".into()), Some("2".into()), None]);
    }
}
