//! Avro's binary encoding into columns, by a plan; what no column wants is skipped.
//!
//! Nothing is believed: lengths are checked against what is left, and items of arrays against a budget, because items without
//! bytes would otherwise cost nothing to claim.

use super::resolve::{Envelope, Node, Optional, Part, Plan, Record, Root, Step};
use super::schema::{Schema, Type, TypeId};
use crate::format::column::{Column, Fields, Values};
use crate::format::json::{Fault, null};
use crate::format::rows::Rows;
use crate::format::scalar::{self, Scalar};
use crate::format::text::Rules;

/// How deep a value may nest: recursive types are as deep as a message says.
const DEPTH_MAX: usize = 64;
/// How many items of arrays a message may have besides one a byte.
const ITEMS_FREE: usize = 4_096;

/// A position in a message.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
}

impl<'a> Cursor<'a> {
    /// At byte `at` of a message.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { bytes, at, items: bytes.len() + ITEMS_FREE }
    }

    /// Bytes before the position.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[cold]
    fn truncated(&self) -> Fault {
        Fault::new(self.at, "the message ends within a value")
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.truncated())?;
        self.at += 1;
        Ok(byte)
    }

    /// A zigzag number.
    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, Fault> {
        let first = self.byte()?;
        let mut value = u64::from(first & 0x7f);
        if first & 0x80 != 0 {
            let mut shift = 7;
            loop {
                let byte = self.byte()?;
                if shift == 63 && byte > 1 {
                    return Err(Fault::new(self.at, "a number has more than 64 bits"));
                }
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                shift += 7;
            }
        }
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or_else(|| self.truncated())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    /// Bytes after their length.
    #[inline]
    fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.long()?;
        self.take(usize::try_from(len).map_err(|_| Fault::new(self.at, "a length is negative"))?)
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Fault::new(self.at - 1, format!("expected a boolean, found {other}"))),
        }
    }

    /// Items of the next block of an array or map, and how many bytes they have if that is said; no items at the end.
    fn block(&mut self) -> Result<(usize, Option<usize>), Fault> {
        let count = self.long()?;
        let size = match count {
            0.. => None,
            _ => Some(usize::try_from(self.long()?).map_err(|_| Fault::new(self.at, "a block's size is negative"))?),
        };
        let count = usize::try_from(count.unsigned_abs()).ok().filter(|count| *count <= self.items);
        let count = count.ok_or_else(|| Fault::new(self.at, "an array has more items than its message has bytes"))?;
        self.items -= count;
        Ok((count, size))
    }

    /// Whether everything is read.
    fn end(&self) -> Result<(), Fault> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            more => Err(Fault::new(self.at, format!("the row ends, and {more} more bytes follow"))),
        }
    }

    fn skip(&mut self, schema: &Schema, id: TypeId, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(self.at, format!("values are nested more than {DEPTH_MAX} deep")));
        }
        match schema.get(id) {
            Type::Null | Type::Pending => {}
            Type::Bool => drop(self.boolean()?),
            Type::Int(..) | Type::Enum(_) => drop(self.long()?),
            Type::Float => drop(self.take(4)?),
            Type::Double => drop(self.take(8)?),
            Type::Bytes(_) => drop(self.sized()?),
            Type::Fixed { size, .. } => drop(self.take(*size)?),
            Type::Array(item) => self.skip_items(|cursor| cursor.skip(schema, *item, depth + 1))?,
            Type::Map(value) => self.skip_items(|cursor| {
                cursor.sized()?;
                cursor.skip(schema, *value, depth + 1)
            })?,
            Type::Union(branches) => {
                let at = self.branch(branches.len())?;
                self.skip(schema, branches[at], depth + 1)?;
            }
            Type::Record { fields, .. } => {
                for field in fields {
                    self.skip(schema, field.kind, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn skip_items(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        loop {
            match self.block()? {
                (0, _) => return Ok(()),
                (_, Some(size)) => drop(self.take(size)?),
                (count, None) => {
                    for _ in 0..count {
                        item(self)?;
                    }
                }
            }
        }
    }

    #[inline]
    fn branch(&mut self, branches: usize) -> Result<usize, Fault> {
        let branch = self.long()?;
        let at = usize::try_from(branch).ok().filter(|at| *at < branches);
        at.ok_or_else(|| Fault::new(self.at, format!("branch {branch} of a union that has {branches}")))
    }
}

/// Appends the row, or what the change does, of a message that is `bytes` from `start` on.
pub(crate) fn read(plan: &Plan, bytes: &[u8], start: usize, rows: &mut Rows) -> Result<(), Fault> {
    let mut cursor = Cursor::new(bytes, start);
    match &plan.rows {
        Root::Record(record) => rows.push(
            |fields, row, rules| {
                read_record(plan, record, &mut cursor, &mut fields.columns, row, rules)?;
                cursor.end()
            },
            |_| Ok(1),
        ),
        Root::Value(node) => rows.push(
            |fields, _, rules| {
                if let Some(column) = fields.columns.first_mut() {
                    read_named(plan, node, &mut cursor, column, rules)?;
                } else {
                    cursor.skip(&plan.schema, plan.schema.root(), 0)?;
                }
                cursor.end()
            },
            |_| Ok(1),
        ),
        Root::Change(envelope) => {
            let (op, before, after) = parts(plan, envelope, &mut cursor)?;
            rows.change(op, before, after, |fields, row, at, diff, rules| {
                let (part, name) = if diff > 0 { (&envelope.after, "after") } else { (&envelope.before, "before") };
                let mut cursor = Cursor::new(bytes, at);
                read_record(plan, &part.record, &mut cursor, &mut fields.columns, row, rules).map_err(|fault| fault.within(name))
            })
        }
    }
}

/// Appends the deletion of the row whose key is `bytes` from `start` on.
pub(crate) fn read_key(plan: &Plan, bytes: &[u8], start: usize, rows: &mut Rows) -> Result<(), Fault> {
    let mut cursor = Cursor::new(bytes, start);
    rows.delete(|fields: &mut Fields, row, rules, key| {
        match (&plan.rows, key) {
            (_, []) => return Err(Fault::new(0, "the table has no primary key that is read")),
            (Root::Record(record), _) => read_record(plan, record, &mut cursor, &mut fields.columns, row, rules)?,
            (Root::Value(node), [column]) => {
                fields.only(*column, rules, |column| read_named(plan, node, &mut cursor, column, rules))?;
            }
            _ => return Err(Fault::new(start, "expected a record with the columns of the primary key")),
        }
        cursor.end()
    })
}

/// The operation of a change, and where the row before and the row after begin.
type Parts<'a> = (Option<&'a str>, Option<usize>, Option<usize>);

/// Finds the parts of a change.
fn parts<'a>(plan: &Plan, envelope: &Envelope, cursor: &mut Cursor<'a>) -> Result<Parts<'a>, Fault> {
    let (mut op, mut before, mut after) = (None, None, None);
    let schema = &plan.schema;
    let begin = |part: &Optional, id: TypeId, cursor: &mut Cursor<'a>| -> Result<Option<usize>, Fault> {
        let whole = cursor.clone();
        let there = match part.branch {
            None => Some(cursor.at),
            Some(branch) => (cursor.long()? == branch).then_some(cursor.at),
        };
        cursor.at = whole.at;
        cursor.skip(schema, id, 0)?;
        Ok(there)
    };
    for step in &envelope.steps {
        match step {
            Part::Skip(id) => cursor.skip(schema, *id, 0)?,
            Part::Op(id, branch) => {
                let start = cursor.clone();
                let there = branch.is_none() || Some(cursor.long()?) == *branch;
                if there {
                    let at = cursor.at;
                    let text = std::str::from_utf8(cursor.sized()?);
                    op = Some(text.map_err(|_| Fault::new(at, "'op' is not UTF-8"))?);
                } else {
                    *cursor = start;
                    cursor.skip(schema, *id, 0)?;
                }
            }
            Part::Before(id) => before = begin(&envelope.before, *id, cursor)?,
            Part::After(id) => after = begin(&envelope.after, *id, cursor)?,
        }
    }
    cursor.end()?;
    Ok((op, before, after))
}

#[inline]
fn read_named(plan: &Plan, node: &Node, cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    read_value(plan, node, cursor, column, rules).map_err(|fault| fault.within(column.field.name()))
}

fn read_record(
    plan: &Plan,
    record: &Record,
    cursor: &mut Cursor<'_>,
    columns: &mut [Column],
    row: usize,
    rules: &Rules,
) -> Result<(), Fault> {
    for step in &record.steps {
        match step {
            Step::Read(at, node) => read_named(plan, node, cursor, &mut columns[*at], rules)?,
            Step::Skip(id) => cursor.skip(&plan.schema, *id, 0)?,
        }
    }
    for at in &record.missing {
        let column = &mut columns[*at];
        debug_assert_eq!(column.len, row, "no field fills it");
        absent(column, rules).map_err(|what| Fault::new(cursor.at, what).within(column.field.name()))?;
    }
    Ok(())
}

/// Appends what stands in a column that a record does not have.
pub(crate) fn absent(column: &mut Column, rules: &Rules) -> Result<(), String> {
    if !rules.key_only && column.push_default(rules)? {
        return Ok(());
    }
    null(column, rules).map_err(|what| format!("missing{}", what.strip_prefix("null").unwrap_or(what)))
}

fn read_value(plan: &Plan, node: &Node, cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let at = cursor.at;
    let put = match node {
        Node::Int(scalar) => {
            let value = cursor.long()?;
            match *scalar {
                Scalar::Timestamp(unit) => scalar::put_timestamp(column, value, unit),
                Scalar::Time(unit) => scalar::put_time(column, value, unit),
                Scalar::Date => scalar::put_date(column, value),
                _ => scalar::put_int(column, value, rules),
            }
        }
        Node::Bytes(scalar) => {
            let bytes = cursor.sized()?;
            match *scalar {
                Scalar::Text => scalar::put_text(column, bytes, rules),
                Scalar::Decimal(scale) => scalar::put_decimal(column, bytes, scale),
                _ => scalar::put_bytes(column, bytes),
            }
        }
        Node::Union(branches) => {
            let branch = cursor.branch(branches.len())?;
            return match &branches[branch] {
                Ok(node) => read_value(plan, node, cursor, column, rules),
                Err(misfit) => Err(Fault::new(at, format!("branch {branch} of its union does not fit: {misfit}"))),
            };
        }
        Node::Null => null(column, rules).map_err(str::to_owned),
        Node::Bool => {
            let value = cursor.boolean()?;
            scalar::put_bool(column, value)
        }
        Node::Float => scalar::put_float(column, f32::from_le_bytes(cursor.array()?)),
        Node::Double => scalar::put_double(column, f64::from_le_bytes(cursor.array()?)),
        Node::Fixed { size, scalar } => fixed(cursor.take(*size)?, *scalar, column, rules),
        Node::Enum(symbols) => {
            let symbol = cursor.long()?;
            let found = usize::try_from(symbol).ok().and_then(|at| symbols.get(at));
            let found = found.ok_or_else(|| Fault::new(at, format!("symbol {symbol} of an enum that has {}", symbols.len())))?;
            scalar::put_text(column, found.as_bytes(), rules)
        }
        Node::Array(node) => return array(plan, node, cursor, column, rules),
        Node::Map(node) => return map(plan, node, cursor, column, rules),
        Node::Record(record) => {
            let row = column.len;
            let Values::Struct(fields) = &mut column.values else { unreachable!("a record was resolved against a ROW") };
            fields.columns.iter_mut().for_each(|child| child.pad_to(row));
            read_record(plan, record, cursor, &mut fields.columns, row, rules)?;
            column.pushed();
            return Ok(());
        }
    };
    put.map_err(|what| Fault::new(at, what))
}

fn fixed(bytes: &[u8], scalar: Scalar, column: &mut Column, rules: &Rules) -> Result<(), String> {
    match scalar {
        Scalar::Decimal(scale) => scalar::put_decimal(column, bytes, scale),
        Scalar::Interval => {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes.try_into().expect("a duration has 12 bytes");
            let number = |bytes: [u8; 4]| u32::from_le_bytes(bytes);
            let (months, days) = (i32::try_from(number([a, b, c, d])), i32::try_from(number([e, f, g, h])));
            let (Ok(months), Ok(days)) = (months, days) else { return Err("a duration is longer than any INTERVAL".to_owned()) };
            scalar::put_interval(column, months, days, i64::from(number([i, j, k, l])) * 1_000_000)
        }
        Scalar::Text => {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&digits[..4], &digits[4..6], &digits[6..8], &digits[8..10], &digits[10..]];
            scalar::put_text(column, parts.map(<[String]>::concat).join("-").as_bytes(), rules)
        }
        _ => scalar::put_bytes(column, bytes),
    }
}

fn array(plan: &Plan, node: &Node, cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let Values::List { offsets, item } = &mut column.values else { unreachable!("an array was resolved against one") };
    loop {
        let (count, _) = cursor.block()?;
        if count == 0 {
            break;
        }
        for _ in 0..count {
            read_value(plan, node, cursor, item, rules)?;
        }
    }
    let end = i32::try_from(item.len).map_err(|_| Fault::new(cursor.at, "the batch's arrays have more than 2^31 items"))?;
    offsets.push(end);
    column.pushed();
    Ok(())
}

fn map(plan: &Plan, node: &Node, cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let Values::Map { offsets, item } = &mut column.values else { unreachable!("a map was resolved against one") };
    loop {
        let (count, _) = cursor.block()?;
        if count == 0 {
            break;
        }
        for _ in 0..count {
            let row = item.len;
            let Values::Struct(fields) = &mut item.values else { unreachable!("a map's entries are structs") };
            let [key, value] = &mut fields.columns[..] else { unreachable!("a map's entry is a key and a value") };
            key.truncate(row);
            value.truncate(row);
            let at = cursor.at;
            scalar::put_text(key, cursor.sized()?, rules).map_err(|what| Fault::new(at, what))?;
            read_value(plan, node, cursor, value, rules)?;
            item.pushed();
        }
    }
    let end = i32::try_from(item.len).map_err(|_| Fault::new(cursor.at, "the batch's maps have more than 2^31 entries"))?;
    offsets.push(end);
    column.pushed();
    Ok(())
}
