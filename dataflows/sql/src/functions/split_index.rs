//! `SPLIT_INDEX(text, separator, index)`: the part at a 0-based index, NULL if there is none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text, whole};

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Function::new("split_index", &[Kind::Text, Kind::Text, Kind::Whole], DataType::Utf8, split_index).build()
}

fn split_index(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, separators, indexes) = (text(args, 0, rows)?, text(args, 1, rows)?, whole(args, 2, rows)?);
    let mut out = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        if texts.is_null(row) || separators.is_null(row) || indexes.is_null(row) {
            out.append_null();
            continue;
        }
        out.append_option(part(texts.value(row), separators.value(row), indexes.value(row)));
    }
    Ok(Arc::new(out.finish()))
}

fn part<'a>(text: &'a str, separator: &str, index: i64) -> Option<&'a str> {
    let index = usize::try_from(index).ok()?;
    let [byte] = separator.as_bytes() else {
        return if separator.is_empty() { (index == 0).then_some(text) } else { text.split(separator).nth(index) };
    };
    let mut start = 0;
    let mut found = 0;
    for end in memchr::memchr_iter(*byte, text.as_bytes()) {
        if found == index {
            return Some(&text[start..end]);
        }
        found += 1;
        start = end + 1;
    }
    (found == index).then(|| &text[start..])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{call, constant, strings};
    use super::*;

    #[test]
    fn parts_beyond_the_last_are_null() {
        let urls = strings(&[Some("a/b/c"), Some("x"), None, Some("")]);
        let found = call(split_index, &[urls.clone(), constant("/"), constant(1i64)], 4);
        assert_eq!(found, [Some("b".into()), None, None, None]);
        let found = call(split_index, &[urls, constant("/"), constant(-1i64)], 4);
        assert_eq!(found, [None, None, None, None]);
        let long = strings(&[Some("a--b--c")]);
        assert_eq!(call(split_index, &[long, constant("--"), constant(2i64)], 1), [Some("c".into())]);
    }
}
