//! Regular expressions that give arrays: `REGEXP_SPLIT_TO_ARRAY(text, pattern)`, `REGEXP_EXTRACT_ALL(text, pattern [, group])`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};
use regex::Regex;

use super::{Function, Kind, text, whole};

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let texts = || DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let split = Function::new("regexp_split_to_array", &[Kind::Text, Kind::Text], texts(), split).build();
    let all = Function::new("regexp_extract_all", &[Kind::Text, Kind::Text], texts(), extract_all);
    vec![split, all.optional(&[Kind::Whole]).build()]
}

/// A regular expression, compiled anew only when it changes.
pub(super) struct Pattern(Option<(String, Regex)>);

impl Pattern {
    pub(super) fn new() -> Self {
        Pattern(None)
    }

    pub(super) fn get(&mut self, pattern: &str) -> Result<&Regex> {
        if self.0.as_ref().is_none_or(|(known, _)| known != pattern) {
            let regex = Regex::new(pattern).map_err(|_| exec_datafusion_err!("invalid regular expression '{pattern}'"))?;
            self.0 = Some((pattern.to_string(), regex));
        }
        Ok(&self.0.as_ref().expect("just made").1)
    }
}

fn split(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, patterns) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let (mut out, mut regex) = (ListBuilder::new(StringBuilder::new()), Pattern::new());
    for row in 0..rows {
        if texts.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        let text = texts.value(row);
        let mut begin = 0;
        for found in regex.get(patterns.value(row))?.find_iter(text) {
            // Nothing that is found at an end of the text divides it.
            if !found.is_empty() || (found.start() > 0 && found.end() < text.len()) {
                out.values().append_value(&text[begin..found.start()]);
                begin = found.end();
            }
        }
        out.values().append_value(&text[begin..]);
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn extract_all(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, patterns) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let groups = if args.len() > 2 { Some(whole(args, 2, rows)?) } else { None };
    let (mut out, mut regex) = (ListBuilder::new(StringBuilder::new()), Pattern::new());
    for row in 0..rows {
        if texts.is_null(row) || patterns.is_null(row) || groups.as_ref().is_some_and(|groups| groups.is_null(row)) {
            out.append_null();
            continue;
        }
        let regex = regex.get(patterns.value(row))?;
        // Without a number the first group, or the whole match where there is none.
        let first = usize::from(regex.captures_len() > 1);
        let group = groups.as_ref().map_or(first, |groups| groups.value(row).max(0) as usize);
        for found in regex.captures_iter(texts.value(row)) {
            out.values().append_option(found.get(group).map(|found| found.as_str()));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}
