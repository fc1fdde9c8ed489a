//! `PARSE_URL(url, part [, key])`: HOST, PATH, QUERY (or one of its values), REF, PROTOCOL, AUTHORITY, USERINFO, FILE.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = Function::new("parse_url", &[Kind::Text, Kind::Text], DataType::Utf8, parse_url);
    vec![function.optional(&[Kind::Text]).build()]
}

fn parse_url(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (urls, parts) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let keys = if args.len() > 2 { Some(text(args, 2, rows)?) } else { None };
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        if urls.is_null(row) || parts.is_null(row) || keys.as_ref().is_some_and(|keys| keys.is_null(row)) {
            out.append_null();
            continue;
        }
        out.append_option(part(urls.value(row), parts.value(row), keys.as_ref().map(|keys| keys.value(row))));
    }
    Ok(Arc::new(out.finish()))
}

fn part<'a>(url: &'a str, wanted: &str, key: Option<&str>) -> Option<&'a str> {
    let (protocol, rest) = url.split_once("://")?;
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (rest, None),
    };
    let (before, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let path_at = before.find('/').unwrap_or(before.len());
    let (authority, path) = before.split_at(path_at);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    match wanted {
        "PROTOCOL" => Some(protocol),
        "AUTHORITY" => Some(authority),
        "USERINFO" => user,
        "HOST" => Some(host.rsplit_once(':').map_or(host, |(host, _)| host)),
        "PATH" => Some(path),
        "FILE" => Some(&rest[path_at..]),
        "REF" => fragment,
        "QUERY" => match key {
            None => query,
            Some(key) => query?.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')),
        },
        _ => None,
    }
}
