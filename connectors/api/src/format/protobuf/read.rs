//! Protobuf's binary encoding into columns, by a plan.
//!
//! Fields come in any order, and any number of times: of a number the last counts, of a message all together, which is what
//! their bytes one after another mean. A column is filled when its field comes, cut back when it comes again, and what is left
//! in the end has what stands for absence.

use std::ops::Range;

use arrow::datatypes::TimeUnit;
use highwater_schemas::FieldKind;

use super::resolve::{Absent, Node, Plan, Record, Slot};
use crate::format::avro::read::absent;
use crate::format::column::{Column, Values};
use crate::format::json::Fault;
use crate::format::rows::Rows;
use crate::format::scalar;
use crate::format::text::Rules;

/// How deep messages may nest.
const DEPTH_MAX: usize = 64;

/// A position in a message.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

/// A value as it stands in a message.
enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8], Range<usize>),
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], range: Range<usize>) -> Cursor<'a> {
        Cursor { bytes, at: range.start, end: range.end }
    }

    #[cold]
    fn truncated(&self) -> Fault {
        Fault::new(self.at, "the message ends within a value")
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Fault> {
        let (mut value, mut shift) = (0, 0);
        loop {
            if self.at >= self.end {
                return Err(self.truncated());
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            if shift == 63 && byte > 1 {
                return Err(Fault::new(self.at, "a number has more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn take(&mut self, len: usize) -> Result<Range<usize>, Fault> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.end).ok_or_else(|| self.truncated())?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    fn field(&mut self, depth: usize) -> Result<Option<(u32, Option<Wire<'a>>)>, Fault> {
        if self.at == self.end {
            return Ok(None);
        }
        let at = self.at;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| Fault::new(at, format!("{} is no number of a field", key >> 3)))?;
        let wire = match key & 7 {
            0 => Some(Wire::Varint(self.varint()?)),
            1 => Some(Wire::Fixed64(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| self.truncated())?;
                let range = self.take(len)?;
                Some(Wire::Bytes(&self.bytes[range.clone()], range))
            }
            3 => {
                self.group(number, depth)?;
                None
            }
            5 => Some(Wire::Fixed32(self.array()?)),
            other => return Err(Fault::new(at, format!("field {number} has the wire type {other}, which there is not"))),
        };
        Ok(Some((number, wire)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let range = self.take(N)?;
        Ok(self.bytes[range].try_into().expect("as many bytes as were asked for"))
    }

    /// Skips a group, whose beginning was read.
    fn group(&mut self, number: u32, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(too_deep(self.at));
        }
        loop {
            let at = self.at;
            if self.varint()? == u64::from(number) << 3 | 4 {
                return Ok(());
            }
            self.at = at;
            if self.field(depth + 1)?.is_none() {
                return Err(self.truncated());
            }
        }
    }
}

#[cold]
fn too_deep(at: usize) -> Fault {
    Fault::new(at, format!("values are nested more than {DEPTH_MAX} deep"))
}

/// Appends the row of a message that is `bytes` from `start` on.
pub(crate) fn read(plan: &Plan, bytes: &[u8], start: usize, rows: &mut Rows) -> Result<(), Fault> {
    if let Some(why) = &plan.refused {
        return Err(Fault::from(why.clone()));
    }
    let mut pieces = Vec::new();
    rows.push(
        |fields, row, rules| {
            let mut reader = Reader { rules, refuses_unknown: plan.refuses_unknown, pieces: &mut pieces };
            reader.record(&plan.record, bytes, start..bytes.len(), &mut fields.columns, row, 0)
        },
        |_| Ok(1),
    )
}

/// Where a value stands: in which bytes, at which of them, in how many messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Place<'_> {
    fn within(self) -> Self {
        Place { depth: self.depth + 1, ..self }
    }
}

struct Reader<'a> {
    rules: &'a Rules,
    refuses_unknown: bool,
    /// Where messages stand that are fields of those that are being read.
    pieces: &'a mut Vec<(usize, Range<usize>)>,
}

impl Reader<'_> {
    fn record(
        &mut self,
        record: &Record,
        bytes: &[u8],
        range: Range<usize>,
        columns: &mut [Column],
        row: usize,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(too_deep(range.start));
        }
        let (start, first) = (range.start, self.pieces.len());
        let mut cursor = Cursor::new(bytes, range);
        loop {
            let at = cursor.at;
            let Some((number, wire)) = cursor.field(depth)? else { break };
            let Some(slot) = record.field(number) else {
                if self.refuses_unknown {
                    return Err(Fault::new(at, format!("field {number} is not in the schema")));
                }
                continue;
            };
            let (Some(column), Some(wire)) = (slot.column, wire) else { continue };
            let column = &mut columns[column];
            self.field(slot, wire, column, row, Place { bytes, at, depth }).map_err(|fault| fault.within(column.field.name()))?;
        }
        self.messages(record, bytes, columns, row, first, depth)?;
        for slot in record.fields() {
            let Some(column) = slot.column else { continue };
            let column = &mut columns[column];
            if column.len == row {
                self.finish(slot, column, start).map_err(|what| Fault::new(start, what).within(column.field.name()))?;
            }
        }
        for at in &record.missing {
            let column = &mut columns[*at];
            absent(column, self.rules).map_err(|what| Fault::new(start, what).within(column.field.name()))?;
        }
        Ok(())
    }

    /// A field's value, once of perhaps several times.
    fn field(&mut self, slot: &Slot, wire: Wire<'_>, column: &mut Column, row: usize, place: Place<'_>) -> Result<(), Fault> {
        match &slot.node {
            Node::Skip => Ok(()),
            Node::List(node) => {
                let Values::List { item, .. } = &mut column.values else { unreachable!("a list was resolved against one") };
                self.items(node, wire, item, place)
            }
            Node::Map(key, value) => {
                let Values::Map { item, .. } = &mut column.values else { unreachable!("a map was resolved against one") };
                self.entry((key, value), wire, item, place)
            }
            Node::Record(_) | Node::Timestamp | Node::Duration | Node::Wrapped(_) => {
                let Wire::Bytes(_, range) = wire else { return Err(wrong(place.at)) };
                self.pieces.push((slot.column.expect("the caller looked"), range));
                Ok(())
            }
            node => {
                if column.len > row {
                    column.truncate(row);
                }
                self.value(node, wire, column, place)
            }
        }
    }

    /// The messages that are fields of a message, each in all of its pieces.
    fn messages(
        &mut self,
        record: &Record,
        bytes: &[u8],
        columns: &mut [Column],
        row: usize,
        first: usize,
        depth: usize,
    ) -> Result<(), Fault> {
        if self.pieces.len() == first {
            return Ok(());
        }
        for slot in record.fields() {
            let Some(at) = slot.column else { continue };
            let mut own = self.pieces[first..].iter().filter(|(column, _)| *column == at).map(|(_, range)| range.clone());
            let Some(range) = own.next() else { continue };
            let more: Vec<Range<usize>> = own.collect();
            let column = &mut columns[at];
            debug_assert_eq!(column.len, row, "messages are put into columns here alone");
            let read = if more.is_empty() {
                let place = Place { bytes, at: range.start, depth };
                self.value(&slot.node, Wire::Bytes(&bytes[range.clone()], range), column, place)
            } else {
                let whole: Vec<u8> = std::iter::once(range.clone()).chain(more).flat_map(|range| bytes[range].to_vec()).collect();
                let wire = Wire::Bytes(&whole, 0..whole.len());
                self.value(&slot.node, wire, column, Place { bytes: &whole, at: range.start, depth })
            };
            read.map_err(|fault| fault.within(column.field.name()))?;
        }
        self.pieces.truncate(first);
        Ok(())
    }

    /// One item of a list, or several in one piece.
    fn items(&mut self, node: &Node, wire: Wire<'_>, item: &mut Column, place: Place<'_>) -> Result<(), Fault> {
        let kind = match node {
            Node::Number(kind) => *kind,
            Node::Enum(_) => FieldKind::Int,
            node => return self.value(node, wire, item, place),
        };
        let Wire::Bytes(_, range) = wire else { return self.value(node, wire, item, place) };
        let mut cursor = Cursor::new(place.bytes, range);
        while cursor.at < cursor.end {
            let wire = match kind {
                FieldKind::Double | FieldKind::Fixed64 | FieldKind::Sfixed64 => Wire::Fixed64(cursor.array()?),
                FieldKind::Float | FieldKind::Fixed32 | FieldKind::Sfixed32 => Wire::Fixed32(cursor.array()?),
                _ => Wire::Varint(cursor.varint()?),
            };
            self.value(node, wire, item, place)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (key_node, value_node): (&Node, &Node),
        wire: Wire<'_>,
        entries: &mut Column,
        place: Place<'_>,
    ) -> Result<(), Fault> {
        let Wire::Bytes(_, range) = wire else { return Err(wrong(place.at)) };
        let row = entries.len;
        let Values::Struct(fields) = &mut entries.values else { unreachable!("a map's entries are structs") };
        let [key, value] = &mut fields.columns[..] else { unreachable!("a map's entry is a key and a value") };
        key.truncate(row);
        value.truncate(row);
        let mut cursor = Cursor::new(place.bytes, range);
        while let Some((number, wire)) = cursor.field(place.depth)? {
            let (column, node) = match number {
                1 => (&mut *key, key_node),
                2 => (&mut *value, value_node),
                _ => continue,
            };
            let Some(wire) = wire else { continue };
            column.truncate(row);
            self.value(node, wire, column, place.within())?;
        }
        for (column, node) in [(key, key_node), (value, value_node)] {
            if column.len == row {
                zero(node, column, self.rules).map_err(|what| Fault::new(place.at, what))?;
            }
        }
        entries.pushed();
        Ok(())
    }

    fn value(&mut self, node: &Node, wire: Wire<'_>, column: &mut Column, place: Place<'_>) -> Result<(), Fault> {
        let (Place { bytes, at, depth }, rules) = (place, self.rules);
        let put = match (node, wire) {
            (Node::Number(kind), wire) => return number(*kind, wire, column, at, rules),
            (Node::Bytes(scalar::Scalar::Text), Wire::Bytes(text, _)) => scalar::put_text(column, text, rules),
            (Node::Bytes(_), Wire::Bytes(bytes, _)) => scalar::put_bytes(column, bytes),
            (Node::Enum(names), Wire::Varint(value)) => put_enum(names.as_ref(), value as i32, column, rules),
            (Node::Record(record), Wire::Bytes(_, range)) => {
                let row = column.len;
                let Values::Struct(fields) = &mut column.values else { unreachable!("a message was resolved against a ROW") };
                fields.columns.iter_mut().for_each(|child| child.pad_to(row));
                self.record(record, bytes, range, &mut fields.columns, row, depth + 1)?;
                column.pushed();
                return Ok(());
            }
            (Node::Timestamp | Node::Duration, Wire::Bytes(_, range)) => {
                let (seconds, nanos) = seconds_and_nanos(bytes, range, depth)?;
                put_seconds(matches!(node, Node::Timestamp), seconds, nanos, column)
            }
            (Node::Wrapped(inner), Wire::Bytes(_, range)) => {
                let row = column.len;
                let mut cursor = Cursor::new(bytes, range);
                while let Some((number, wire)) = cursor.field(depth)? {
                    if let (1, Some(wire)) = (number, wire) {
                        column.truncate(row);
                        self.value(inner, wire, column, place.within())?;
                    }
                }
                if column.len == row { zero(inner, column, rules) } else { Ok(()) }
            }
            _ => return Err(wrong(at)),
        };
        put.map_err(|what| Fault::new(at, what))
    }

    /// What stands for a field that did not come, or the end of a list that did.
    fn finish(&mut self, slot: &Slot, column: &mut Column, start: usize) -> Result<(), String> {
        match &slot.node {
            Node::List(_) | Node::Map(..) => {
                let (Values::List { offsets, item } | Values::Map { offsets, item }) = &mut column.values else {
                    unreachable!("lists and maps were resolved against them")
                };
                let end =
                    i32::try_from(item.len).map_err(|_| format!("the batch's arrays have more than 2^31 items, {start}"))?;
                offsets.push(end);
                column.pushed();
                Ok(())
            }
            node => match &slot.absent {
                Absent::Zero => zero(node, column, self.rules),
                Absent::Null => absent(column, self.rules),
                Absent::Text(text) => scalar::put_text(column, text.as_bytes(), self.rules),
                Absent::Bytes(bytes) => scalar::put_bytes(column, bytes),
            },
        }
    }
}

#[cold]
fn wrong(at: usize) -> Fault {
    Fault::new(at, "the field is not written as its type is; the message has another schema")
}

fn number(kind: FieldKind, wire: Wire<'_>, column: &mut Column, at: usize, rules: &Rules) -> Result<(), Fault> {
    let put = match (kind, wire) {
        (FieldKind::Int, Wire::Varint(value)) => scalar::put_int(column, value as i64, rules),
        (FieldKind::Uint, Wire::Varint(value)) => scalar::put_unsigned(column, value, rules),
        (FieldKind::Sint, Wire::Varint(value)) => scalar::put_int(column, (value >> 1) as i64 ^ -((value & 1) as i64), rules),
        (FieldKind::Bool, Wire::Varint(value)) => scalar::put_bool(column, value != 0),
        (FieldKind::Fixed64, Wire::Fixed64(bytes)) => scalar::put_unsigned(column, u64::from_le_bytes(bytes), rules),
        (FieldKind::Sfixed64, Wire::Fixed64(bytes)) => scalar::put_int(column, i64::from_le_bytes(bytes), rules),
        (FieldKind::Fixed32, Wire::Fixed32(bytes)) => scalar::put_int(column, u32::from_le_bytes(bytes).into(), rules),
        (FieldKind::Sfixed32, Wire::Fixed32(bytes)) => scalar::put_int(column, i32::from_le_bytes(bytes).into(), rules),
        (FieldKind::Double, Wire::Fixed64(bytes)) => scalar::put_double(column, f64::from_le_bytes(bytes)),
        (FieldKind::Float, Wire::Fixed32(bytes)) => scalar::put_float(column, f32::from_le_bytes(bytes)),
        _ => return Err(wrong(at)),
    };
    put.map_err(|what| Fault::new(at, what))
}

fn put_enum(
    names: Option<&std::collections::HashMap<i32, String>>,
    value: i32,
    column: &mut Column,
    rules: &Rules,
) -> Result<(), String> {
    match names.map(|names| names.get(&value)) {
        None => scalar::put_int(column, value.into(), rules),
        Some(Some(name)) => scalar::put_text(column, name.as_bytes(), rules),
        // A newer writer may know more of them.
        Some(None) => scalar::put_text(column, value.to_string().as_bytes(), rules),
    }
}

/// Appends what a field has that was not written because it is that.
fn zero(node: &Node, column: &mut Column, rules: &Rules) -> Result<(), String> {
    match node {
        Node::Enum(names) => put_enum(names.as_ref(), 0, column, rules),
        Node::Bytes(_) => scalar::put_bytes(column, b""),
        Node::Number(FieldKind::Bool) => scalar::put_bool(column, false),
        Node::Number(FieldKind::Double) => scalar::put_double(column, 0.0),
        Node::Number(FieldKind::Float) => scalar::put_float(column, 0.0),
        Node::Number(_) => scalar::put_int(column, 0, rules),
        _ => absent(column, rules),
    }
}

fn seconds_and_nanos(bytes: &[u8], range: Range<usize>, depth: usize) -> Result<(i64, i64), Fault> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut cursor = Cursor::new(bytes, range);
    while let Some((number, wire)) = cursor.field(depth)? {
        match (number, wire) {
            (1, Some(Wire::Varint(value))) => seconds = value as i64,
            (2, Some(Wire::Varint(value))) => nanos = i64::from(value as i32),
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

fn put_seconds(timestamp: bool, seconds: i64, nanos: i64, column: &mut Column) -> Result<(), String> {
    if !timestamp {
        let all = seconds.checked_mul(1_000_000_000).and_then(|all| all.checked_add(nanos));
        let all = all.ok_or_else(|| format!("a duration of {seconds} seconds does not fit INTERVAL"))?;
        return scalar::put_interval(column, 0, 0, all);
    }
    // As fine as the column: nanoseconds since 1970 end in 2262.
    let finest = match &column.values {
        Values::Timestamp(_, unit) => *unit,
        _ => TimeUnit::Microsecond,
    };
    let per_second = crate::format::time::units_per_second(finest);
    let units = seconds.checked_mul(per_second).and_then(|all| all.checked_add(nanos.div_euclid(1_000_000_000 / per_second)));
    match units {
        Some(units) => scalar::put_timestamp(column, units, finest),
        None => Err(format!("a time of {seconds} seconds since 1970 does not fit TIMESTAMP")),
    }
}
