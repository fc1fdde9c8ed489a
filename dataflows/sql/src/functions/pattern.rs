//! Patterns of `LIKE ... ESCAPE` and `SIMILAR TO`, and what `REGEXP_REPLACE` puts in, brought into the forms that the
//! kernels know.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text};

/// `regexp_replacement(text)`.
pub(crate) const REPLACEMENT: &str = "regexp_replacement";

/// `like_pattern(pattern, escape)`, `similar_pattern(pattern, escape)`, `regexp_replacement(text)`.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name, body| Function::new(name, &[Kind::Text, Kind::Text], DataType::Utf8, body).build();
    let replacement = Function::new(REPLACEMENT, &[Kind::Text], DataType::Utf8, replacements).build();
    vec![function("like_pattern", like_patterns), function("similar_pattern", similar_patterns), replacement]
}

fn replacements(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    Ok(Arc::new(texts.iter().map(|text| text.map(replacement)).collect::<StringArray>()))
}

/// `\1` is a group, `\&` the whole match, `\\` a backslash.
fn replacement(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some('&') if c == '\\' => out.push_str("${0}"),
            Some(digit) if c == '\\' && digit.is_ascii_digit() => out.extend(["${", &digit.to_string(), "}"]),
            // What has no group is empty: the backslash is kept apart from digits, which would make it a group again.
            Some('\\') if c == '\\' => out.push_str("\\${_}"),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
    out
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
        if escape.chars().nth(1).is_some() {
            return Err(exec_datafusion_err!("'{escape}' is no escape: it is one character, or empty for none"));
        }
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
            // In front of a letter it makes what a backslash does in a regular expression: `\d` is a digit.
            c if Some(c) == escape => match chars.next()? {
                'm' => out.push_str("\\b{start}"),
                'M' => out.push_str("\\b{end}"),
                'y' => out.push_str("\\b"),
                'Y' => out.push_str("\\B"),
                letter if letter.is_ascii_alphanumeric() => out.extend(['\\', letter]),
                other => out.push_str(&regex::escape(&other.to_string())),
            },
            '\\' if bracket => out.push_str("\\\\"),
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
        assert_eq!(similar_pattern("#d##[\\]", Some('#')).as_deref(), Some("^(?s:\\d\\#[\\\\])$"));
        assert_eq!(replacement("<\\&|\\1|\\\\1|\\x>"), "<${0}|${1}|\\${_}1|\\x>");
        assert_eq!(similar_pattern("a%(b|c)_.", Some('\\')).as_deref(), Some("^(?s:a.*(b|c).\\.)$"));
    }
}
