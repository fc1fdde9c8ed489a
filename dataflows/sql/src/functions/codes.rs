//! Other ways to write a value down: `BIN`, `HEX`, `UNHEX`, `URL_ENCODE`, `URL_DECODE`, and text as the bytes of a charset.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Gives, Kind, bytes, column, text, whole};

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let digits = |found: &[DataType]| match found {
        [DataType::Utf8 | DataType::Binary | DataType::Null] => Some(DataType::Utf8),
        [number] if number.is_integer() => Some(DataType::Utf8),
        _ => None,
    };
    vec![
        Function::new("bin", &[Kind::Whole], DataType::Utf8, bin).build(),
        Function::typed("hex", &[Kind::Any], Gives::From(digits), hex).build(),
        Function::new("unhex", &[Kind::Text], DataType::Binary, unhex).build(),
        Function::new("url_encode", &[Kind::Text], DataType::Utf8, url_encode).build(),
        Function::new("url_decode", &[Kind::Text], DataType::Utf8, url_decode).build(),
        Function::new("charset_encode", &[Kind::Text, Kind::Text], DataType::Binary, charset_encode).build(),
        Function::new("charset_decode", &[Kind::Bytes, Kind::Text], DataType::Utf8, charset_decode).build(),
    ]
}

/// Whether this names a charset that text can be encoded in.
pub(crate) fn is_charset(name: &str) -> bool {
    charset(name).is_some()
}

#[derive(Clone, Copy, PartialEq)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    /// `true`: the high byte first.
    Utf16(bool),
    /// With a mark of the order in front.
    Utf16Marked,
}

fn charset(name: &str) -> Option<Charset> {
    Some(match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Charset::Ascii,
        "ISO-8859-1" | "LATIN1" => Charset::Latin1,
        "UTF-8" | "UTF8" => Charset::Utf8,
        "UTF-16BE" => Charset::Utf16(true),
        "UTF-16LE" => Charset::Utf16(false),
        "UTF-16" => Charset::Utf16Marked,
        _ => return None,
    })
}

/// Per text what `each` makes of it.
fn per_text(args: &[ColumnarValue], rows: usize, mut each: impl FnMut(&str) -> Result<Option<String>>) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        match texts.is_valid(row) {
            true => out.append_option(each(texts.value(row))?),
            false => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn bin(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let numbers = whole(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    for number in &numbers {
        match number {
            Some(number) => {
                write!(out, "{number:b}")?;
                out.append_value("");
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn hex(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let values = column(args, 0, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    if values.data_type().is_integer() {
        let numbers = arrow::compute::cast(&values, &DataType::Int64)?;
        for number in numbers.as_primitive::<Int64Type>() {
            match number {
                Some(number) => {
                    write!(out, "{number:X}")?;
                    out.append_value("");
                }
                None => out.append_null(),
            }
        }
        return Ok(Arc::new(out.finish()));
    }
    let values = arrow::compute::cast(&values, &DataType::Binary)?;
    for value in values.as_binary::<i32>() {
        match value {
            Some(bytes) => {
                bytes.iter().try_for_each(|byte| write!(out, "{byte:02X}"))?;
                out.append_value("");
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// NULL for what are no hexadecimal digits.
fn unhex(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let texts = text(args, 0, rows)?;
    let mut out = BinaryBuilder::with_capacity(rows, rows * 8);
    for digits in &texts {
        out.append_option(digits.and_then(bytes_of));
    }
    Ok(Arc::new(out.finish()))
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    // An odd number of digits lacks its first, which is 0.
    let odd = if digits.len().is_multiple_of(2) { "" } else { "0" };
    let digits: Vec<u8> = odd.bytes().chain(digits.bytes()).collect();
    digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

fn url_encode(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    per_text(args, rows, |text| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
                b' ' => out.push('+'),
                byte => write!(out, "%{byte:02X}")?,
            }
        }
        Ok(Some(out))
    })
}

/// NULL for what is not encoded so.
fn url_decode(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    per_text(args, rows, |text| Ok(url_decoded(text)))
}

fn url_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn charset_encode(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (texts, charsets) = (text(args, 0, rows)?, text(args, 1, rows)?);
    let mut out = BinaryBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        if texts.is_null(row) || charsets.is_null(row) {
            out.append_null();
            continue;
        }
        let Some(charset) = charset(charsets.value(row)) else { return exec_err!("unknown charset '{}'", charsets.value(row)) };
        out.append_value(encoded(texts.value(row), charset));
    }
    Ok(Arc::new(out.finish()))
}

/// What the charset has no sign for becomes a question mark.
fn encoded(text: &str, charset: Charset) -> Vec<u8> {
    let narrow = |limit: u32| text.chars().map(|c| if u32::from(c) < limit { u32::from(c) as u8 } else { b'?' }).collect();
    let wide = |high_first: bool| {
        text.encode_utf16().flat_map(|unit| if high_first { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect::<Vec<u8>>()
    };
    match charset {
        Charset::Ascii => narrow(0x80),
        Charset::Latin1 => narrow(0x100),
        Charset::Utf8 => text.as_bytes().to_vec(),
        Charset::Utf16(high_first) => wide(high_first),
        Charset::Utf16Marked => [&[0xFE, 0xFF][..], &wide(true)].concat(),
    }
}

fn charset_decode(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (values, charsets) = (bytes(args, 0, rows)?, text(args, 1, rows)?);
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    for row in 0..rows {
        if values.is_null(row) || charsets.is_null(row) {
            out.append_null();
            continue;
        }
        let Some(charset) = charset(charsets.value(row)) else { return exec_err!("unknown charset '{}'", charsets.value(row)) };
        out.append_value(decoded(values.value(row), charset));
    }
    Ok(Arc::new(out.finish()))
}

/// What is no sign of the charset becomes the replacement character.
fn decoded(bytes: &[u8], charset: Charset) -> String {
    let wide = |bytes: &[u8], high_first: bool| {
        let unit = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            if high_first { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        };
        String::from_utf16_lossy(&bytes.chunks_exact(2).map(unit).collect::<Vec<u16>>())
    };
    match charset {
        Charset::Ascii => {
            bytes.iter().map(|byte| if *byte < 0x80 { char::from(*byte) } else { char::REPLACEMENT_CHARACTER }).collect()
        }
        Charset::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Charset::Utf16(high_first) => wide(bytes, high_first),
        Charset::Utf16Marked => match bytes {
            [0xFF, 0xFE, rest @ ..] => wide(rest, false),
            [0xFE, 0xFF, rest @ ..] => wide(rest, true),
            rest => wide(rest, true),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::tests::{call, constant, strings};

    #[test]
    fn addresses() {
        let encoded = call(url_encode, &[strings(&[Some("a b/ü*"), None])], 2);
        assert_eq!(encoded, [Some("a+b%2F%C3%BC*".to_string()), None]);
        let decoded = call(url_decode, &[strings(&[Some("a+b%2F%C3%BC*"), Some("%"), Some("%zz"), Some("%+1"), Some("%ff")])], 5);
        assert_eq!(decoded, [Some("a b/ü*".to_string()), None, None, None, None]);
    }

    #[test]
    fn charsets_there_and_back() {
        for charset in ["UTF-8", "utf-16", "UTF-16LE", "UTF-16BE", "ISO-8859-1"] {
            let bytes = charset_encode(&[strings(&[Some("né")]), constant(charset)], 1).expect("the charset is known");
            let back = call(charset_decode, &[ColumnarValue::Array(bytes), constant(charset)], 1);
            assert_eq!(back, [Some("né".to_string())], "{charset}");
        }
        let bytes = charset_encode(&[strings(&[Some("né")]), constant("US-ASCII")], 1).expect("the charset is known");
        assert_eq!(bytes.as_binary::<i32>().value(0), b"n?");
    }

    #[test]
    fn digits() {
        assert_eq!(bytes_of("4d79"), Some(b"My".to_vec()));
        assert_eq!(bytes_of("f4d"), Some(vec![0x0f, 0x4d]));
        assert_eq!(bytes_of("xy"), None);
    }
}
