//! Values as JSON text.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion_common::Result;

use super::super::cast as casts;

/// Appends the value at `row`; with `raw`, text is JSON already.
pub(super) fn write(array: &dyn Array, row: usize, out: &mut String) -> Result<()> {
    use std::fmt::Write;
    if array.data_type().is_null() || array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    macro_rules! number {
        ($kind:ty) => {
            write!(out, "{}", array.as_primitive::<$kind>().value(row))?
        };
    }
    match array.data_type() {
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row))?,
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), out)?,
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            if value.is_finite() { write!(out, "{value}")? } else { float(value.into(), out)? }
        }
        DataType::Decimal128(..) => out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Utf8 => quoted(array.as_string::<i32>().value(row), out),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            out.push('[');
            for item in list.value_offsets()[row]..list.value_offsets()[row + 1] {
                if item > list.value_offsets()[row] {
                    out.push(',');
                }
                write(list.values().as_ref(), item as usize, out)?;
            }
            out.push(']');
        }
        DataType::Struct(fields) if fields.len() == 1 && fields[0].name() == super::made::RAW => {
            out.push_str(array.as_struct().column(0).as_string::<i32>().value(row).trim());
        }
        DataType::Struct(fields) => {
            let rows = array.as_struct();
            out.push('{');
            for (place, (field, column)) in fields.iter().zip(rows.columns()).enumerate() {
                if place > 0 {
                    out.push(',');
                }
                quoted(field.name(), out);
                out.push(':');
                write(column.as_ref(), row, out)?;
            }
            out.push('}');
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let keys = casts::cast(map.keys(), &DataType::Utf8, true)?;
            let keys = keys.as_string::<i32>();
            out.push('{');
            for entry in map.value_offsets()[row]..map.value_offsets()[row + 1] {
                if entry > map.value_offsets()[row] {
                    out.push(',');
                }
                quoted(keys.value(entry as usize), out);
                out.push(':');
                write(map.values().as_ref(), entry as usize, out)?;
            }
            out.push('}');
        }
        DataType::Timestamp(..) => {
            let text = casts::cast(&array.slice(row, 1), &DataType::Utf8, true)?;
            quoted(&text.as_string::<i32>().value(0).replacen(' ', "T", 1), out);
        }
        DataType::Utf8View | DataType::LargeUtf8 => {
            quoted(cast(&array.slice(row, 1), &DataType::Utf8)?.as_string::<i32>().value(0), out)
        }
        _ => quoted(casts::cast(&array.slice(row, 1), &DataType::Utf8, true)?.as_string::<i32>().value(0), out),
    }
    Ok(())
}

fn float(value: f64, out: &mut String) -> Result<()> {
    use std::fmt::Write;
    match value {
        value if value.is_nan() => out.push_str("\"NaN\""),
        value if value.is_infinite() => out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
        value => write!(out, "{value}")?,
    }
    Ok(())
}

/// Appends text between quotes.
pub(super) fn quoted(text: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => write!(out, "\\u{:04x}", u32::from(c)).expect("writing to memory"),
            c => out.push(c),
        }
    }
    out.push('"');
}
