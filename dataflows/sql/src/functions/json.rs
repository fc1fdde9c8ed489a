//! JSON over text: `->`, `->>`, `#>`, `#>>`, the SQL/JSON functions, PostgreSQL's, and values made into JSON.
//!
//! What is taken out of JSON is a slice of the text, so numbers keep their digits and objects their blanks.

mod made;
mod path;
mod query;
mod scan;
mod write;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, Int64Builder, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use self::path::Path;
use self::scan::Invalid;
use super::{Function, Kind, column, text};

/// The functions. Arguments that stand behind are of any type where numbers and names both mean something.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    const TEXTS: &[Kind] = &[Kind::Text, Kind::Text];
    let texts = || DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let mut functions = vec![
        Function::new("json_get", &[Kind::Text, Kind::Any], DataType::Utf8, |args, rows| get(args, rows, false)).build(),
        Function::new("json_get_text", &[Kind::Text, Kind::Any], DataType::Utf8, |args, rows| get(args, rows, true)).build(),
        Function::new("json_get_path", TEXTS, DataType::Utf8, |args, rows| get_path(args, rows, false)).build(),
        Function::new("json_get_path_text", TEXTS, DataType::Utf8, |args, rows| get_path(args, rows, true)).build(),
        Function::new("json_value", TEXTS, DataType::Utf8, query::json_value).optional(&[Kind::Text; 4]).build(),
        Function::new("json_query", TEXTS, DataType::Utf8, query::json_query).optional(&[Kind::Text; 3]).build(),
        Function::new("json_exists", TEXTS, DataType::Boolean, query::json_exists).optional(&[Kind::Text]).build(),
        Function::new("is_json", TEXTS, DataType::Boolean, is_json).build(),
        Function::new("json_object_keys", &[Kind::Text], texts(), object_keys).build(),
        Function::new("json_array_elements", &[Kind::Text], texts(), |args, rows| elements(args, rows, false)).build(),
        Function::new("json_array_elements_text", &[Kind::Text], texts(), |args, rows| elements(args, rows, true)).build(),
        Function::new("json_unquote", &[Kind::Text], DataType::Utf8, unquote).build(),
    ];
    for name in ["json_extract_path", "jsonb_extract_path"] {
        functions.push(
            Function::new(name, TEXTS, DataType::Utf8, |args, rows| extract(args, rows, false)).variadic(Kind::Text).build(),
        );
    }
    for name in ["json_extract_path_text", "jsonb_extract_path_text"] {
        functions.push(
            Function::new(name, TEXTS, DataType::Utf8, |args, rows| extract(args, rows, true)).variadic(Kind::Text).build(),
        );
    }
    for name in ["json_typeof", "jsonb_typeof"] {
        functions.push(Function::new(name, &[Kind::Text], DataType::Utf8, type_of).build());
    }
    for name in ["json_array_length", "jsonb_array_length"] {
        functions.push(Function::new(name, &[Kind::Text], DataType::Int64, array_length).build());
    }
    for name in ["json_build_object", "jsonb_build_object", "json_object"] {
        functions.push(Function::new(name, &[], DataType::Utf8, build_object).variadic(Kind::Any).build());
    }
    for name in ["json_build_array", "jsonb_build_array", "json_array_with_nulls"] {
        functions.push(Function::new(name, &[], DataType::Utf8, made::array_with_nulls).variadic(Kind::Any).build());
    }
    for name in ["to_json", "to_jsonb", "row_to_json", "json_string", "json_quote"] {
        functions.push(Function::new(name, &[Kind::Any], DataType::Utf8, to_json).build());
    }
    functions.extend(made::functions());
    functions
}

fn invalid(text: &str) -> DataFusionError {
    let shown: String = text.chars().take(60).collect();
    exec_datafusion_err!("invalid JSON: {shown}{}", if shown.len() < text.len() { "..." } else { "" })
}

/// Per row what `find` finds in the first argument; `as_text` takes strings out of their quotes.
fn found(
    args: &[ColumnarValue],
    rows: usize,
    as_text: bool,
    mut find: impl for<'a> FnMut(&'a str, usize) -> Result<std::result::Result<Option<&'a str>, Invalid>>,
) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        if texts.is_null(row) {
            out.append_null();
            continue;
        }
        let json = texts.value(row);
        let value = find(json, row)?.map_err(|Invalid| invalid(json))?;
        match value {
            Some(value) if as_text => out.append_option(scan::text(value).map_err(|Invalid| invalid(json))?),
            value => out.append_option(value),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn get(args: &[ColumnarValue], rows: usize, as_text: bool) -> Result<ArrayRef> {
    let key = column(args, 1, rows)?;
    if key.data_type().is_integer() {
        let numbers = arrow::compute::cast(&key, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<arrow::datatypes::Int64Type>();
        return found(args, rows, as_text, |json, row| {
            Ok(match numbers.is_null(row) {
                true => Ok(None),
                false => scan::valid(json).and_then(|json| scan::item(json, numbers.value(row))),
            })
        });
    }
    let names = arrow::compute::cast(&key, &DataType::Utf8)?;
    let names = names.as_string::<i32>();
    found(args, rows, as_text, |json, row| {
        Ok(match names.is_null(row) {
            true => Ok(None),
            false => scan::valid(json).and_then(|json| scan::member(json, names.value(row))),
        })
    })
}

fn walk<'a, 'n>(json: &'a str, mut names: impl Iterator<Item = &'n str>) -> std::result::Result<Option<&'a str>, Invalid> {
    let mut value = scan::valid(json)?;
    Ok(loop {
        match names.next() {
            None => break Some(value),
            Some(name) => match path::step(value, name)? {
                Some(found) => value = found,
                None => break None,
            },
        }
    })
}

fn get_path(args: &[ColumnarValue], rows: usize, as_text: bool) -> Result<ArrayRef> {
    let paths = text(args, 1, rows)?;
    found(args, rows, as_text, |json, row| {
        if paths.is_null(row) {
            return Ok(Ok(None));
        }
        let written = paths.value(row);
        let Some(names) = Path::of_names(written) else { return exec_err!("'{written}' is no path: write '{{a,b,0}}'") };
        Ok(walk(json, names.iter().map(String::as_str)))
    })
}

fn extract(args: &[ColumnarValue], rows: usize, as_text: bool) -> Result<ArrayRef> {
    let names = (1..args.len()).map(|index| text(args, index, rows)).collect::<Result<Vec<_>>>()?;
    found(args, rows, as_text, |json, row| {
        if names.iter().any(|name| name.is_null(row)) {
            return Ok(Ok(None));
        }
        Ok(walk(json, names.iter().map(|name| name.value(row))))
    })
}

fn is_json(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, kinds) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let mut out = BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        if texts.is_null(row) {
            out.append_null();
            continue;
        }
        let wanted = kinds.value(row);
        let fits = |value: &str| match (wanted, scan::kind(value)) {
            ("value", _) => true,
            ("scalar", kind) => !matches!(kind, "object" | "array"),
            (wanted, kind) => wanted == kind,
        };
        out.append_value(scan::valid(texts.value(row)).is_ok_and(fits));
    }
    Ok(Arc::new(out.finish()))
}

fn type_of(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 8);
    for json in &texts {
        match json {
            None => out.append_null(),
            Some(json) => out.append_value(scan::kind(scan::valid(json).map_err(|Invalid| invalid(json))?)),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn array_length(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = Int64Builder::with_capacity(rows);
    for json in &texts {
        let Some(json) = json else {
            out.append_null();
            continue;
        };
        let mut count = 0;
        let array = scan::valid(json).and_then(|json| scan::items(json, |_| count += 1)).map_err(|Invalid| invalid(json))?;
        if !array {
            return exec_err!("cannot get the array length of JSON that is no array");
        }
        out.append_value(count);
    }
    Ok(Arc::new(out.finish()))
}

fn elements(args: &[ColumnarValue], rows: usize, as_text: bool) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = ListBuilder::new(StringBuilder::new());
    for json in &texts {
        let Some(json) = json else {
            out.append_null();
            continue;
        };
        let mut failed = false;
        let array = scan::valid(json).and_then(|json| {
            scan::items(json, |item| match as_text {
                false => out.values().append_value(item),
                true => match scan::text(item) {
                    Ok(text) => out.values().append_option(text),
                    Err(Invalid) => failed = true,
                },
            })
        });
        match array {
            Ok(true) if !failed => out.append(true),
            Ok(false) => return exec_err!("cannot go through the items of JSON that is no array"),
            _ => return Err(invalid(json)),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn object_keys(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = ListBuilder::new(StringBuilder::new());
    for json in &texts {
        let Some(json) = json else {
            out.append_null();
            continue;
        };
        let object = scan::valid(json)
            .and_then(|json| scan::members(json, |name, _| out.values().append_option(scan::text(name).ok().flatten())));
        match object {
            Ok(true) => out.append(true),
            Ok(false) => return exec_err!("cannot get the keys of JSON that is no object"),
            Err(Invalid) => return Err(invalid(json)),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn unquote(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    for text in &texts {
        match text {
            Some(quoted) if quoted.starts_with('"') => {
                let value = scan::valid(quoted).and_then(scan::text).map_err(|Invalid| invalid(quoted))?;
                out.append_option(value);
            }
            other => out.append_option(other),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn to_json(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let values = column(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut json = String::new();
    for row in 0..rows {
        if values.is_null(row) {
            out.append_null();
            continue;
        }
        json.clear();
        write::write(values.as_ref(), row, &mut json)?;
        out.append_value(&json);
    }
    Ok(Arc::new(out.finish()))
}

/// Names and values by turns.
fn build_object(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    if !args.len().is_multiple_of(2) {
        return exec_err!("a JSON object takes a value for each name");
    }
    let columns = (0..args.len()).map(|index| column(args, index, rows)).collect::<Result<Vec<_>>>()?;
    let mut pairs = Vec::with_capacity(columns.len() / 2);
    for pair in columns.chunks_exact(2) {
        let names = super::cast::cast(&pair[0], &DataType::Utf8, false)?;
        pairs.push((names, Arc::clone(&pair[1])));
    }
    built(rows, '{', '}', pairs.len(), |place, row, json| {
        let (names, values) = &pairs[place];
        if names.is_null(row) {
            return exec_err!("a name in a JSON object cannot be NULL");
        }
        write::quoted(names.as_string::<i32>().value(row), json);
        json.push(':');
        write::write(values.as_ref(), row, json)
    })
}

fn built(
    rows: usize,
    open: char,
    close: char,
    parts: usize,
    mut part: impl FnMut(usize, usize, &mut String) -> Result<()>,
) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(rows, rows * 32);
    let mut json = String::new();
    for row in 0..rows {
        json.clear();
        json.push(open);
        for place in 0..parts {
            if place > 0 {
                json.push(',');
            }
            part(place, row, &mut json)?;
        }
        json.push(close);
        out.append_value(&json);
    }
    Ok(Arc::new(out.finish()))
}
