//! Patterns of `LIKE ... ESCAPE` and `SIMILAR TO`, brought into the forms that the kernels know.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text};

/// `like_pattern(pattern, escape)`, `similar_pattern(pattern, escape)`.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name, body| Function::new(name, &[Kind::Text, Kind::Text], DataType::Utf8, body).build();
    vec![function("like_pattern", like_patterns), function("similar_pattern", similar_patterns)]
}

fn like_patterns(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    patterns(args, rows, like_pattern)
}

fn similar_patterns(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    patterns(args, rows, similar_pattern)
}

fn patterns(args: &[ColumnarValue], rows: usize, translate: fn(&str, Option<char>) -> Option<String>) -> Result<ArrayRef> {
    let (patterns, escapes) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut last: Option<(String, String, String)> = None;
    for row in 0..rows {
        if patterns.is_null(row) || escapes.is_null(row) {
            out.append_null();
            continue;
        }
        let (pattern, escape) = (patterns.value(row), escapes.value(row));
        if last.as_ref().is_none_or(|(before, with, _)| before != pattern || with != escape) {
            let translated = translate(pattern, escape.chars().next());
            let translated =
                translated.ok_or_else(|| exec_datafusion_err!("pattern '{pattern}' ends with its escape character"))?;
            last = Some((pattern.to_string(), escape.to_string(), translated));
        }
        out.append_value(last.as_ref().map_or("", |(_, _, translated)| translated));
    }
    Ok(Arc::new(out.finish()))
}

/// With a backslash as the escape character.
fn like_pattern(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            out.push('\\');
            out.push(chars.next()?);
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    Some(out)
}

/// As a regular expression: `%` and `_` are LIKE's, `|`, `*`, `+`, `?`, `{}`, `()` and `[]` those of regular expressions.
fn similar_pattern(pattern: &str, escape: Option<char>) -> Option<String> {
    let mut out = String::from("^(?s:");
    let mut chars = pattern.chars();
    let mut bracket = false;
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => out.push_str(&regex::escape(&chars.next()?.to_string())),
            '[' => {
                bracket = true;
                out.push('[');
            }
            ']' => {
                bracket = false;
                out.push(']');
            }
            c if bracket => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '.' | '^' | '$' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_translated() {
        assert_eq!(like_pattern("10!%\\", Some('!')).as_deref(), Some("10\\%\\\\"));
        assert_eq!(like_pattern("10!", Some('!')), None);
        assert_eq!(similar_pattern("a%(b|c)_.", Some('\\')).as_deref(), Some("^(?s:a.*(b|c).\\.)$"));
    }
}
