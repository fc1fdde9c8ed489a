//! JSON from lists and pairs: what `JSON_ARRAYAGG` and `JSON_OBJECTAGG` give of the values that they collected, and JSON that
//! goes into other JSON as it is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Builder, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::path::Path;
use super::{Invalid, build_object, built, scan, write};
use crate::functions::{Function, Kind, column, text};

/// The one field of what [`write`] takes as JSON that is written already.
pub(super) const RAW: &str = "(json)";

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new("json_raw", &[Kind::Text], DataType::Struct(raw_fields()), json_raw).build(),
        Function::new("json", &[Kind::Text], DataType::Utf8, json).build(),
        Function::new("parse_json", &[Kind::Text], DataType::Utf8, json).build(),
        Function::new("json_list", &[Kind::Any], DataType::Utf8, json_list).build(),
        Function::new("json_pairs", &[Kind::Any], DataType::Utf8, json_pairs).build(),
        Function::new("json_array", &[], DataType::Utf8, array_without_nulls).variadic(Kind::Any).build(),
        Function::new("json_object_absent", &[], DataType::Utf8, object_without_nulls).variadic(Kind::Any).build(),
        Function::new("json_length", &[Kind::Text], DataType::Int64, json_length).optional(&[Kind::Text]).build(),
    ]
}

fn raw_fields() -> Fields {
    Fields::from(vec![Field::new(RAW, DataType::Utf8, true)])
}

/// Text as JSON that is no string, for [`write`] alone.
fn json_raw(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    for json in texts.iter().flatten() {
        if scan::valid(json).is_err() {
            return Err(super::invalid(json));
        }
    }
    let nulls = texts.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(raw_fields(), vec![Arc::new(texts)], nulls)?))
}

/// Text that is looked at whether it is JSON, and stays as it is.
fn json(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    match texts.iter().flatten().find(|json| scan::valid(json).is_err()) {
        Some(wrong) => Err(super::invalid(wrong)),
        None => Ok(Arc::new(texts)),
    }
}

/// The items of a list as a JSON array; of no list an empty one.
fn json_list(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let lists = column(args, 0, rows)?;
    let Some(lists) = lists.as_list_opt::<i32>() else { return exec_err!("a JSON array is made of a list") };
    let mut out = StringBuilder::with_capacity(rows, rows * 32);
    let mut json = String::new();
    for row in 0..rows {
        json.clear();
        match lists.is_null(row) {
            true => json.push_str("[]"),
            false => write::write(lists, row, &mut json)?,
        }
        out.append_value(&json);
    }
    Ok(Arc::new(out.finish()))
}

/// The pairs of a list as a JSON object; of a name that comes twice the last pair counts.
fn json_pairs(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let lists = column(args, 0, rows)?;
    let Some(lists) = lists.as_list_opt::<i32>() else { return exec_err!("a JSON object is made of a list of pairs") };
    let Some(pairs) = lists.values().as_struct_opt() else { return exec_err!("a JSON object is made of pairs") };
    let (Some(names), values) = (pairs.column(0).as_string_opt::<i32>(), pairs.column(1)) else {
        return exec_err!("a name in a JSON object is text");
    };
    let offsets = lists.value_offsets();
    let mut out = StringBuilder::with_capacity(rows, rows * 32);
    let mut json = String::new();
    for row in 0..rows {
        json.clear();
        json.push('{');
        let mut kept: Vec<usize> = Vec::new();
        if lists.is_valid(row) {
            for pair in offsets[row] as usize..offsets[row + 1] as usize {
                if names.is_null(pair) {
                    return exec_err!("a name in a JSON object cannot be NULL");
                }
                // Without an order pairs stand in the order of their names; with one, names may come again anywhere.
                match kept.iter_mut().rev().find(|other| names.value(**other) == names.value(pair)) {
                    Some(other) => *other = pair,
                    None => kept.push(pair),
                }
            }
        }
        for (place, pair) in kept.into_iter().enumerate() {
            if place > 0 {
                json.push(',');
            }
            write::quoted(names.value(pair), &mut json);
            json.push(':');
            write::write(values.as_ref(), pair, &mut json)?;
        }
        json.push('}');
        out.append_value(&json);
    }
    Ok(Arc::new(out.finish()))
}

/// `JSON_ARRAY(a, b)`: NULLs are left out.
fn array_without_nulls(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let columns = (0..args.len()).map(|index| column(args, index, rows)).collect::<Result<Vec<_>>>()?;
    let mut out = StringBuilder::with_capacity(rows, rows * 32);
    let mut json = String::new();
    for row in 0..rows {
        json.clear();
        json.push('[');
        for values in columns.iter().filter(|values| !values.data_type().is_null() && values.is_valid(row)) {
            if json.len() > 1 {
                json.push(',');
            }
            write::write(values.as_ref(), row, &mut json)?;
        }
        json.push(']');
        out.append_value(&json);
    }
    Ok(Arc::new(out.finish()))
}

/// `JSON_OBJECT(name VALUE x, .. ABSENT ON NULL)`.
fn object_without_nulls(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let columns = (0..args.len()).map(|index| column(args, index, rows)).collect::<Result<Vec<_>>>()?;
    if columns.chunks_exact(2).all(|pair| !pair[1].data_type().is_null() && pair[1].null_count() == 0) {
        return build_object(args, rows);
    }
    // Which members are there differs from row to row, so each row is an object of its own.
    let mut out = StringBuilder::with_capacity(rows, rows * 32);
    for row in 0..rows {
        let there = columns.chunks_exact(2).filter(|pair| !pair[1].data_type().is_null() && pair[1].is_valid(row));
        let one: Vec<ColumnarValue> =
            there.flat_map(|pair| [0, 1].map(|part| ColumnarValue::Array(pair[part].slice(row, 1)))).collect();
        match one.is_empty() {
            true => out.append_value("{}"),
            false => out.append_value(build_object(&one, 1)?.as_string::<i32>().value(0)),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// How many members or items the value at a path has; 1 for what is neither an object nor an array.
fn json_length(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let paths = if args.len() > 1 { Some(text(args, 1, rows)?) } else { None };
    let mut out = Int64Builder::with_capacity(rows);
    for row in 0..rows {
        let missing = paths.as_ref().is_some_and(|paths| paths.is_null(row));
        if texts.is_null(row) || missing {
            out.append_null();
            continue;
        }
        let found = match &paths {
            None => scan::valid(texts.value(row)).ok(),
            Some(paths) => {
                let written = paths.value(row);
                let Some(path) = Path::parse(written) else { return exec_err!("'{written}' is no JSON path that is supported") };
                path.find(texts.value(row)).ok().and_then(|values| values.first().copied())
            }
        };
        let length = |value: &str| -> std::result::Result<i64, Invalid> {
            let mut count = 0;
            let nested = scan::items(value, |_| count += 1)? || scan::members(value, |_, _| count += 1)?;
            Ok(if nested { count } else { 1 })
        };
        out.append_option(found.and_then(|value| length(value).ok()));
    }
    Ok(Arc::new(out.finish()))
}

/// What keeps NULLs is built as PostgreSQL's `json_build_array` is.
pub(super) fn array_with_nulls(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let columns = (0..args.len()).map(|index| column(args, index, rows)).collect::<Result<Vec<_>>>()?;
    built(rows, '[', ']', columns.len(), |place, row, json| write::write(columns[place].as_ref(), row, json))
}
