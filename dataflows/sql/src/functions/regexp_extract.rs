//! `REGEXP_EXTRACT(text, pattern [, group])`: the group's first match, NULL without one; group 0 is the whole match.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};
use regex::Regex;

use super::{Function, Kind, text, whole};

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    let required = &[Kind::Text, Kind::Text];
    Function { optional: &[Kind::Whole], ..Function::new("regexp_extract", required, DataType::Utf8, regexp_extract) }.build()
}

fn regexp_extract(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, patterns) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let groups = if args.len() > 2 { Some(whole(args, 2, rows)?) } else { None };
    let mut out = StringBuilder::with_capacity(rows, rows * 8);
    let mut compiled: Option<(&str, Regex, regex::CaptureLocations)> = None;
    for row in 0..rows {
        let group = match &groups {
            Some(groups) if groups.is_null(row) => None,
            Some(groups) => usize::try_from(groups.value(row)).ok(),
            None => Some(0),
        };
        let (false, false, Some(group)) = (texts.is_null(row), patterns.is_null(row), group) else {
            out.append_null();
            continue;
        };
        let pattern = patterns.value(row);
        if compiled.as_ref().is_none_or(|(last, ..)| *last != pattern) {
            let regex = Regex::new(pattern).map_err(|_| exec_datafusion_err!("invalid regular expression '{pattern}'"))?;
            let locations = regex.capture_locations();
            compiled = Some((pattern, regex, locations));
        }
        let (_, regex, locations) = compiled.as_mut().expect("compiled above");
        let found = texts.value(row);
        let matched = regex.captures_read(locations, found).and_then(|_| locations.get(group));
        out.append_option(matched.map(|(start, end)| &found[start..end]));
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{call, constant, strings};
    use super::*;

    #[test]
    fn groups_are_counted_from_the_whole_match() {
        let urls = strings(&[Some("x?channel_id=12&y"), Some("none"), None]);
        let pattern = constant("(&|^|\\?)channel_id=([^&]*)");
        let found = call(regexp_extract, &[urls.clone(), pattern.clone(), constant(2i64)], 3);
        assert_eq!(found, [Some("12".into()), None, None]);
        let found = call(regexp_extract, &[urls, pattern], 3);
        assert_eq!(found, [Some("?channel_id=12".into()), None, None]);
    }

    #[test]
    fn a_bad_pattern_is_an_error() {
        let error = regexp_extract(&[strings(&[Some("x")]), constant("(")], 1).expect_err("the pattern is not closed");
        assert_eq!(error.strip_backtrace(), "Execution error: invalid regular expression '('");
    }
}
