//! Changes as JSON: Debezium's envelopes.
//!
//! A message is read twice: once to find its parts (the operation often comes last), once to decode what the operation
//! needs.

use std::ops::Range;

use super::cursor::{Cursor, Fault};

/// The parts of a change.
#[derive(Debug, Default)]
pub(crate) struct Envelope {
    /// `c`, `r`, `u`, `d`, ...
    pub(crate) op: Option<String>,
    /// The row before.
    pub(crate) before: Option<Range<usize>>,
    /// The row after.
    pub(crate) after: Option<Range<usize>>,
}

/// Finds the parts of a change in `text`; none if the message is null, which marks a deleted key in a compacted topic.
pub(crate) fn envelope(text: &str) -> Result<Option<Envelope>, Fault> {
    let mut cursor = Cursor::new(text);
    let mut range = 0..text.len();
    // One level of `{"schema":..,"payload":..}` is looked through.
    for _ in 0..2 {
        let mut found = Envelope::default();
        let mut payload = None;
        if cursor.peek() == Some(b'n') {
            cursor.skip()?;
            return Ok(None);
        }
        each_field(&mut cursor, |name, start, end| match name {
            b"op" => found.op = Some(text[start..end].trim_matches('"').to_string()),
            b"before" => found.before = object_at(text, start, end),
            b"after" => found.after = object_at(text, start, end),
            b"payload" => payload = Some(start..end),
            _ => {}
        })?;
        cursor.end()?;
        match payload {
            Some(payload) if found.op.is_none() => {
                range = payload;
                cursor = Cursor::within(text, range.clone());
            }
            _ => return Ok(Some(found)),
        }
    }
    Err(Fault::new(range.start, "expected a change with 'op', found another 'payload'"))
}

/// Where the key's fields stand in a message's key: in its `payload`, if it is `{"schema":..,"payload":..}`, else the whole.
pub(crate) fn key(text: &str) -> Result<Range<usize>, Fault> {
    let mut cursor = Cursor::new(text);
    let (mut schema, mut payload, mut fields) = (false, None, 0);
    if cursor.peek() == Some(b'{') {
        each_field(&mut cursor, |name, start, end| {
            fields += 1;
            match name {
                b"schema" => schema = true,
                b"payload" => payload = Some(start..end),
                _ => {}
            }
        })?;
        cursor.end()?;
    }
    Ok(payload.filter(|_| schema && fields == 2).unwrap_or(0..text.len()))
}

fn object_at(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    text[start..end].starts_with('{').then_some(start..end)
}

/// Calls `field` with the name and place of each field's value.
fn each_field(cursor: &mut Cursor<'_>, mut field: impl FnMut(&[u8], usize, usize)) -> Result<(), Fault> {
    cursor.expect(b'{', "an object")?;
    if cursor.peek() == Some(b'}') {
        cursor.take(b'}');
        return Ok(());
    }
    loop {
        if cursor.peek() != Some(b'"') {
            return Err(cursor.unexpected("a field name"));
        }
        let name = cursor.string()?;
        cursor.expect(b':', "':'")?;
        cursor.peek();
        let start = cursor.at();
        cursor.skip()?;
        field(name.bytes(), start, cursor.at());
        cursor.peek();
        if cursor.take(b'}') {
            return Ok(());
        }
        cursor.expect(b',', "',' or '}'")?;
    }
}
