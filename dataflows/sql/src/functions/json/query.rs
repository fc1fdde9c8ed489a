//! `JSON_VALUE`, `JSON_QUERY` and `JSON_EXISTS`, with what they do where nothing is found or something is wrong.
//!
//! The clauses are further arguments: words for the behaviour, and the defaults as text. A path in `lax` mode (the default)
//! finds nothing where a step leads nowhere; in `strict` mode that is an error, as what is no JSON is in both.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBuilder, StringArray, StringBuilder};
use datafusion_common::{Result, exec_datafusion_err, exec_err};
use datafusion_expr::ColumnarValue;

use super::path::Path;
use super::scan;
use crate::functions::text;

/// What a path finds in a document.
enum Found<'a> {
    /// Document or path is NULL.
    Null,
    /// What is no JSON, or a strict path that leads nowhere.
    Wrong,
    Nothing,
    Values(Vec<&'a str>),
}

fn by_path(args: &[ColumnarValue], rows: usize, mut take: impl FnMut(usize, Found<'_>, bool) -> Result<()>) -> Result<()> {
    let (texts, paths) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let mut known: Option<(&str, Path)> = None;
    for row in 0..rows {
        if texts.is_null(row) || paths.is_null(row) {
            take(row, Found::Null, false)?;
            continue;
        }
        let written = paths.value(row);
        if known.as_ref().is_none_or(|(before, _)| *before != written) {
            let path = Path::parse(written)
                .ok_or_else(|| exec_datafusion_err!("'{written}' is no JSON path that is supported: write '$.a.b[0]'"))?;
            known = Some((written, path));
        }
        let Some((_, path)) = &known else { continue };
        let found = match path.find(texts.value(row)) {
            Err(_) => Found::Wrong,
            Ok(values) if !values.is_empty() => Found::Values(values),
            Ok(_) if path.strict => Found::Wrong,
            Ok(_) => Found::Nothing,
        };
        take(row, found, path.strict)?;
    }
    Ok(())
}

/// What stands for a value that is not there, from the words of ON EMPTY or ON ERROR.
struct Otherwise {
    words: Option<StringArray>,
    defaults: Option<StringArray>,
}

impl Otherwise {
    fn new(args: &[ColumnarValue], rows: usize, word: usize, default: usize) -> Result<Self> {
        let column = |index: usize| if index < args.len() { text(args, index, rows).map(Some) } else { Ok(None) };
        Ok(Otherwise { words: column(word)?, defaults: column(default)? })
    }

    fn at(&self, row: usize, what: &str) -> Result<Option<Cow<'_, str>>> {
        let word = self.words.as_ref().map_or("null", |words| words.value(row));
        match word {
            "error" => exec_err!("{what}"),
            "array" => Ok(Some("[]".into())),
            "object" => Ok(Some("{}".into())),
            "default" => {
                Ok(self.defaults.as_ref().filter(|defaults| defaults.is_valid(row)).map(|defaults| defaults.value(row).into()))
            }
            _ => Ok(None),
        }
    }
}

const NOTHING: &str = "the path finds nothing";
const WRONG: &str = "the text is no JSON, or the path leads to no such value";

/// `json_value(json, path [, on empty, on error, default on empty, default on error])`: a number, string or truth value.
pub(super) fn json_value(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (empty, wrong) = (Otherwise::new(args, rows, 2, 4)?, Otherwise::new(args, rows, 3, 5)?);
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    by_path(args, rows, |row, found, strict| {
        match found {
            Found::Null => out.append_null(),
            Found::Nothing => out.append_option(empty.at(row, NOTHING)?),
            Found::Wrong => out.append_option(wrong.at(row, WRONG)?),
            Found::Values(values) => match values[..] {
                [value] if !value.starts_with(['{', '[']) => match scan::text(value) {
                    Ok(text) => out.append_option(text),
                    Err(_) => out.append_option(wrong.at(row, WRONG)?),
                },
                // Flink counts an object as nothing unless the path is strict; PostgreSQL as an error. Both are NULL if no
                // clause says otherwise.
                [_] if !strict && args.len() <= 2 => out.append_null(),
                _ => out.append_option(wrong.at(row, "the path leads to an object, an array or several values")?),
            },
        }
        Ok(())
    })?;
    Ok(Arc::new(out.finish()))
}

/// `json_query(json, path [, wrapper, on empty, on error])`: an object or an array.
pub(super) fn json_query(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let wrappers = if args.len() > 2 { Some(text(args, 2, rows)?) } else { None };
    let (empty, wrong) = (Otherwise::new(args, rows, 3, usize::MAX)?, Otherwise::new(args, rows, 4, usize::MAX)?);
    let mut out = StringBuilder::with_capacity(rows, rows * 32);
    by_path(args, rows, |row, found, strict| {
        let wrapper = wrappers.as_ref().map_or("without", |wrappers| wrappers.value(row));
        match found {
            Found::Null => out.append_null(),
            Found::Nothing => out.append_option(empty.at(row, NOTHING)?),
            Found::Wrong => out.append_option(wrong.at(row, WRONG)?),
            Found::Values(values) => match values[..] {
                [value] => {
                    let nested = value.starts_with(['{', '[']);
                    match wrapper {
                        "unconditional" => out.append_value(format!("[{value}]")),
                        "conditional" if !value.starts_with('[') => out.append_value(format!("[{value}]")),
                        _ if nested => out.append_value(value),
                        _ if strict => out.append_option(wrong.at(row, "the path leads to no object and no array")?),
                        _ => out.append_option(empty.at(row, "the path leads to no object and no array")?),
                    }
                }
                _ => out.append_value(format!("[{}]", values.join(","))),
            },
        }
        Ok(())
    })?;
    Ok(Arc::new(out.finish()))
}

/// `json_exists(json, path [, on error])`.
pub(super) fn json_exists(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let words = if args.len() > 2 { Some(text(args, 2, rows)?) } else { None };
    let mut out = BooleanBuilder::with_capacity(rows);
    by_path(args, rows, |row, found, _| {
        match found {
            Found::Null => out.append_null(),
            Found::Nothing => out.append_value(false),
            Found::Values(_) => out.append_value(true),
            Found::Wrong => match words.as_ref().map_or("false", |words| words.value(row)) {
                "error" => return exec_err!("{WRONG}"),
                "unknown" => out.append_null(),
                word => out.append_value(word == "true"),
            },
        }
        Ok(())
    })?;
    Ok(Arc::new(out.finish()))
}
