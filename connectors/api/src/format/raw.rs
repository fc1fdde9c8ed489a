//! A message as it is: the whole of it is the value of the only column.
//!
//! As Flink has it: text is UTF-8, numbers are big-endian (or little, if the statement says so), a truth value is a byte.

use arrow::datatypes::DataType;

use super::DecoderSpec;
use super::column::{Column, Unsupported, Values};
use super::rows::Rows;
use super::scalar;
use super::text::Rules;

/// Decodes messages into one column.
#[derive(Debug)]
pub(crate) struct RawDecoder {
    rows: Rows,
    little: bool,
}

/// Whether a column can be a whole message.
pub(crate) fn fits(data_type: &DataType) -> bool {
    use DataType as T;
    let number = data_type.is_integer() || matches!(data_type, T::Float32 | T::Float64 | T::Boolean);
    number || matches!(data_type, T::Utf8 | T::Binary)
}

impl RawDecoder {
    pub(crate) fn new(spec: &DecoderSpec, rules: Rules, little: bool) -> Result<RawDecoder, Unsupported> {
        Ok(RawDecoder { rows: Rows::new(spec, None, rules, false)?, little })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn decode(&mut self, message: &[u8]) -> Result<(), String> {
        let (before, little) = (self.rows.len(), self.little);
        let pushed = self
            .rows
            .push(|fields, _, _| fields.columns.first_mut().map_or(Ok(()), |column| put(column, message, little)), |_| Ok(1));
        pushed.inspect_err(|_| self.rows.truncate(before))
    }

    pub(crate) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    pub(crate) fn take(&mut self) -> (&mut [Column], Option<Vec<i64>>) {
        self.rows.take()
    }
}

/// Deletes the row whose key is `key` as it is: the value of the only column of the primary key.
pub(crate) fn delete(rows: &mut Rows, key: &[u8], little: bool) -> Result<(), String> {
    let before = rows.len();
    let deleted = rows.delete(|fields, _, rules, columns| match columns {
        [column] => fields.only(*column, rules, |column| put(column, key, little)),
        [] => Err("the table has no primary key that is read".to_owned()),
        _ => Err("the table's primary key has several columns, and the key is raw".to_owned()),
    });
    deleted.map_err(|what: String| {
        rows.truncate(before);
        format!("key: {what}")
    })
}

/// Appends a message as the column's value.
fn put(column: &mut Column, message: &[u8], little: bool) -> Result<(), String> {
    fn number<const N: usize>(message: &[u8], little: bool) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = message.try_into().ok()?;
        if little {
            bytes.reverse();
        }
        Some(bytes)
    }
    let name = column.field.name().clone();
    let within = |what: String| format!("column '{name}': {what}");
    let pushed = match &mut column.values {
        Values::Text(_) | Values::Bytes(_) => {
            let text = matches!(column.values, Values::Text(_)) && std::str::from_utf8(message).is_err();
            if text {
                return Err(within("the message is not UTF-8; declare the column as BYTEA".to_owned()));
            }
            return scalar::put_bytes(column, message).map_err(within);
        }
        Values::Bool(values) => match message {
            [byte] => {
                values.append(*byte != 0);
                Some(())
            }
            _ => None,
        },
        Values::I8(values) => number(message, little).map(|bytes| values.push(i8::from_be_bytes(bytes))),
        Values::I16(values) => number(message, little).map(|bytes| values.push(i16::from_be_bytes(bytes))),
        Values::I32(values) => number(message, little).map(|bytes| values.push(i32::from_be_bytes(bytes))),
        Values::I64(values) => number(message, little).map(|bytes| values.push(i64::from_be_bytes(bytes))),
        Values::U8(values) => number(message, little).map(|bytes| values.push(u8::from_be_bytes(bytes))),
        Values::U16(values) => number(message, little).map(|bytes| values.push(u16::from_be_bytes(bytes))),
        Values::U32(values) => number(message, little).map(|bytes| values.push(u32::from_be_bytes(bytes))),
        Values::U64(values) => number(message, little).map(|bytes| values.push(u64::from_be_bytes(bytes))),
        Values::F32(values) => number(message, little).map(|bytes| values.push(f32::from_be_bytes(bytes))),
        Values::F64(values) => number(message, little).map(|bytes| values.push(f64::from_be_bytes(bytes))),
        _ => None,
    };
    match pushed {
        Some(()) => {
            column.pushed();
            Ok(())
        }
        None => {
            let expected = super::column::sql_type(column.field.data_type());
            Err(within(format!("a message of {} bytes is no {expected}", message.len())))
        }
    }
}
