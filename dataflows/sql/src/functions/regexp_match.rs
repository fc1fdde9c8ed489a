//! `REGEXP_MATCH(text, pattern [, flags])`: the groups of the first match, or the whole of it where the pattern has none.
//!
//! DataFusion gives an empty text for a group that takes no part in the match; PostgreSQL gives NULL, which is not the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::regexp_more::Pattern;
use super::{Function, Kind, text};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let texts = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    vec![Function::new("regexp_match", &[Kind::Text, Kind::Text], texts, groups).optional(&[Kind::Text]).build()]
}

fn groups(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, patterns) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let flags = if args.len() > 2 { Some(text(args, 2, rows)?) } else { None };
    let (mut out, mut regex, mut flagged) = (ListBuilder::new(StringBuilder::new()), Pattern::new(), String::new());
    for row in 0..rows {
        if texts.is_null(row) || patterns.is_null(row) || flags.as_ref().is_some_and(|flags| flags.is_null(row)) {
            out.append_null();
            continue;
        }
        let pattern = match flags.as_ref().map_or("", |flags| flags.value(row)) {
            "" => patterns.value(row),
            flags => {
                if let Some(unknown) = flags.chars().find(|flag| !matches!(flag, 'i' | 'm' | 's' | 'x')) {
                    return Err(exec_datafusion_err!("regexp_match knows the flags i, m, s and x, not '{unknown}'"));
                }
                flagged.clear();
                flagged.push_str("(?");
                flagged.push_str(flags);
                flagged.push(')');
                flagged.push_str(patterns.value(row));
                &flagged
            }
        };
        let Some(found) = regex.get(pattern)?.captures(texts.value(row)) else {
            out.append_null();
            continue;
        };
        let first = usize::from(found.len() > 1);
        for group in found.iter().skip(first) {
            out.values().append_option(group.map(|group| group.as_str()));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}
