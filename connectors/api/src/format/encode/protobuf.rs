//! Rows as Protobuf: in a message type that is given, or in one that is made of their columns.

use std::collections::HashMap;
use std::fmt::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field as Column, FieldRef};
use arrow::error::ArrowError;
use highwater_schemas::{Field, FieldKind, Message, Messages};

use super::avro::Unwritable;
use crate::format::avro::resolve::place;
use crate::format::column::sql_type;

/// How the columns of rows are written, in the order of the columns.
#[derive(Debug)]
pub(crate) struct Shape {
    fields: Vec<Part>,
}

/// A column and its field.
#[derive(Debug)]
struct Part {
    /// The column, with those it is in.
    column: String,
    number: u32,
    repeated: bool,
    packed: bool,
    /// Whether the field's zero is not written, because a message cannot tell that it was.
    implicit: bool,
    /// Whether a NULL cannot be written.
    needed: bool,
    kind: PartKind,
}

#[derive(Debug)]
enum PartKind {
    Number(FieldKind),
    Text,
    Bytes,
    /// Numbers by name.
    Enum(HashMap<String, i32>),
    Timestamp,
    /// A message whose field 1 is this.
    Wrapped(Box<Part>),
    Message(Shape),
    Map(Box<[Part; 2]>),
}

impl Shape {
    /// The columns in the fields of a message that have their names.
    pub(crate) fn of(messages: &Messages, id: usize, columns: &[FieldRef]) -> Result<Shape, Unwritable> {
        shape(messages, messages.message(id), columns, "")
    }
}

fn shape(messages: &Messages, message: &Message, columns: &[FieldRef], path: &str) -> Result<Shape, Unwritable> {
    let names: Vec<&str> = message.fields.iter().map(|field| field.name.as_str()).collect();
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let path = if path.is_empty() { column.name().clone() } else { format!("{path}.{}", column.name()) };
        let found = place(&names, column.name(), columns.iter().map(|column| column.name().as_str()));
        let Some(field) = found.map(|at| &message.fields[at]) else {
            return Err(Unwritable {
                column: path,
                what: format!("message {} has no such field", message.name),
                help: format!("add the field to the schema first, or leave the column out; there are: {}", names.join(", ")),
            });
        };
        fields.push(part(messages, field, column, path)?);
    }
    let required = message
        .fields
        .iter()
        .find(|field| field.required && !columns.iter().any(|column| column.name().eq_ignore_ascii_case(&field.name)));
    match required {
        None => Ok(Shape { fields }),
        Some(field) => Err(Unwritable {
            column: if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) },
            what: format!("message {} requires it, and there is no such column", message.name),
            help: "select it".to_owned(),
        }),
    }
}

fn part(messages: &Messages, field: &Field, column: &Column, path: String) -> Result<Part, Unwritable> {
    let unwritable = |path: String, what: &str| Unwritable {
        column: path,
        what: format!("it has type {}, and its field is {what}", sql_type(column.data_type())),
        help: "cast it in the query, or change the schema".to_owned(),
    };
    let made = |kind: PartKind, path: String| Part {
        column: path,
        number: field.number,
        repeated: field.repeated,
        packed: field.packed,
        implicit: !field.repeated && !field.presence,
        needed: field.required || (!field.repeated && !field.presence),
        kind,
    };
    if !field.repeated {
        let kind = kind(messages, field, column.data_type(), &path).map_err(|what| match what {
            Ok(inner) => inner,
            Err(what) => unwritable(path.clone(), what),
        })?;
        return Ok(made(kind, path));
    }
    match (column.data_type(), field.kind) {
        (DataType::Map(entries, _), FieldKind::Message(id)) if messages.message(id).map_entry => {
            let DataType::Struct(own) = entries.data_type() else { return Err(unwritable(path, "a map")) };
            let [key, value] = &messages.message(id).fields[..] else { return Err(unwritable(path, "a map")) };
            let key = part(messages, key, &own[0], format!("{path}.key"))?;
            let value = part(messages, value, &own[1], format!("{path}.value"))?;
            Ok(made(PartKind::Map(Box::new([key, value])), path))
        }
        (DataType::List(item), _) => {
            let kind = kind(messages, field, item.data_type(), &path).map_err(|what| match what {
                Ok(inner) => inner,
                Err(what) => unwritable(path.clone(), what),
            })?;
            Ok(made(kind, path))
        }
        _ => Err(unwritable(path, "repeated")),
    }
}

/// Errors: what is wrong within the column, or what the field is.
fn kind(
    messages: &Messages,
    field: &Field,
    data_type: &DataType,
    path: &str,
) -> Result<PartKind, Result<Unwritable, &'static str>> {
    use DataType as T;
    let number = |fits: bool, name: &'static str| if fits { Ok(PartKind::Number(field.kind)) } else { Err(Err(name)) };
    let signed = data_type.is_signed_integer() || matches!(data_type, T::UInt8 | T::UInt16 | T::UInt32);
    let narrow = matches!(data_type, T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16);
    match field.kind {
        FieldKind::Bool => number(*data_type == T::Boolean, "bool"),
        FieldKind::Float => number(*data_type == T::Float32, "float"),
        FieldKind::Double => number(matches!(data_type, T::Float32 | T::Float64), "double"),
        FieldKind::Int | FieldKind::Sint | FieldKind::Sfixed32 | FieldKind::Sfixed64 => number(
            signed && (field.wide || narrow),
            if field.wide { "a signed number of 64 bits" } else { "a signed number of 32 bits" },
        ),
        FieldKind::Uint | FieldKind::Fixed32 | FieldKind::Fixed64 => {
            let fits = data_type.is_unsigned_integer() && (field.wide || *data_type != T::UInt64);
            number(fits, if field.wide { "an unsigned number of 64 bits" } else { "an unsigned number of 32 bits" })
        }
        FieldKind::String => match data_type {
            T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Decimal128(..) | T::Date32 | T::Time32(_) | T::Time64(_) => {
                Ok(PartKind::Text)
            }
            _ => Err(Err("string")),
        },
        FieldKind::Bytes => match data_type {
            T::Binary | T::LargeBinary | T::BinaryView | T::Utf8 => Ok(PartKind::Bytes),
            _ => Err(Err("bytes")),
        },
        FieldKind::Enum(id) => match data_type {
            T::Utf8 | T::LargeUtf8 | T::Utf8View => {
                let values = messages.enumeration(id).values.iter().map(|(number, name)| (name.clone(), *number));
                Ok(PartKind::Enum(values.collect()))
            }
            _ if narrow => Ok(PartKind::Number(FieldKind::Int)),
            _ => Err(Err("an enum")),
        },
        FieldKind::Message(id) => {
            let message = messages.message(id);
            match (data_type, message.name.as_str()) {
                (T::Timestamp(..), "google.protobuf.Timestamp") => Ok(PartKind::Timestamp),
                (T::Struct(children), _) => shape(messages, message, children, path).map(PartKind::Message).map_err(Ok),
                (_, name) if name.starts_with("google.protobuf.") && name.ends_with("Value") && message.fields.len() == 1 => {
                    let column = Column::new("value", data_type.clone(), true);
                    let inner = part(messages, &message.fields[0], &column, path.to_owned()).map_err(Ok)?;
                    // What is NULL has no message around it, either.
                    Ok(PartKind::Wrapped(Box::new(Part { needed: false, ..inner })))
                }
                _ => Err(Err("another message")),
            }
        }
        FieldKind::Group => Err(Err("a group")),
    }
}

/// A schema that has a field for each column, in their order.
pub(crate) fn derived(name: &str, columns: &[FieldRef]) -> Result<String, Unwritable> {
    let mut body = String::new();
    let mut imports = false;
    message(name, columns, "", 0, &mut body, &mut imports)?;
    let import = if imports { "import \"google/protobuf/timestamp.proto\";\n\n" } else { "" };
    Ok(format!("syntax = \"proto3\";\n\n{import}{body}"))
}

fn message(
    name: &str,
    columns: &[FieldRef],
    path: &str,
    depth: usize,
    out: &mut String,
    imports: &mut bool,
) -> Result<(), Unwritable> {
    let indent = "  ".repeat(depth);
    // Writing into a text does not fail.
    let _ = writeln!(out, "{indent}message {name} {{");
    let mut fields = String::new();
    for (at, column) in columns.iter().enumerate() {
        let path = if path.is_empty() { column.name().clone() } else { format!("{path}.{}", column.name()) };
        if !super::avro::is_name(column.name()) {
            return Err(Unwritable {
                column: path,
                what: "its name is none that Protobuf takes: letters, digits and _, no digit first".to_owned(),
                help: "give it another name in the query: SELECT .. AS name".to_owned(),
            });
        }
        let mut nested = |item: &DataType, out: &mut String| -> Result<String, Unwritable> {
            if let DataType::Struct(children) = item {
                let name = format!("Row{}", at + 1);
                message(&name, children, &path, depth + 1, out, imports)?;
                return Ok(name);
            }
            let found = scalar(item);
            *imports |= found == Some("google.protobuf.Timestamp");
            found.map(str::to_owned).ok_or_else(|| Unwritable {
                column: path.clone(),
                what: format!("Protobuf has no type for {}", sql_type(item)),
                help: "cast it in the query: to VARCHAR, or to a number".to_owned(),
            })
        };
        let kind = match column.data_type() {
            DataType::List(item) => format!("repeated {}", nested(item.data_type(), out)?),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(own) if own.len() == 2 => {
                    format!("map<{}, {}>", nested(own[0].data_type(), out)?, nested(own[1].data_type(), out)?)
                }
                other => nested(other, out)?,
            },
            other => {
                let kind = nested(other, out)?;
                let message = matches!(other, DataType::Struct(_) | DataType::Timestamp(..));
                if column.is_nullable() && !message { format!("optional {kind}") } else { kind }
            }
        };
        let _ = writeln!(fields, "{indent}  {kind} {} = {};", column.name(), at + 1);
    }
    let _ = writeln!(out, "{fields}{indent}}}");
    Ok(())
}

fn scalar(data_type: &DataType) -> Option<&'static str> {
    use DataType as T;
    Some(match data_type {
        T::Boolean => "bool",
        T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 => "int32",
        T::Int64 | T::UInt32 => "int64",
        T::UInt64 => "uint64",
        T::Float32 => "float",
        T::Float64 => "double",
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Decimal128(..) | T::Date32 | T::Time32(_) | T::Time64(_) => "string",
        T::Binary | T::LargeBinary | T::BinaryView => "bytes",
        T::Timestamp(..) => "google.protobuf.Timestamp",
        _ => return None,
    })
}

/// The values of a record's columns.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    fields: Vec<Values<'a>>,
}

/// The values of one column, or of all items of one.
#[derive(Debug)]
struct Values<'a> {
    part: &'a Part,
    /// The column, by whose nulls and offsets rows are found.
    column: ArrayRef,
    items: Items<'a>,
}

#[derive(Debug)]
enum Items<'a> {
    Bool(BooleanArray),
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Float(Float32Array),
    Double(Float64Array),
    Text(StringArray),
    Bytes(BinaryArray),
    /// Units since 1970, and how many are a second.
    Timestamp(Int64Array, i64),
    Wrapped(Box<Values<'a>>),
    Message(Writer<'a>),
    Map(Box<[Values<'a>; 2]>),
}

impl<'a> Writer<'a> {
    /// Looks at the rows of columns. Errors: values that no message can have.
    pub(crate) fn new(shape: &'a Shape, columns: &[ArrayRef]) -> Result<Writer<'a>, ArrowError> {
        Writer::within(shape, columns, None)
    }

    /// `rows`: which rows count.
    fn within(shape: &'a Shape, columns: &[ArrayRef], rows: Option<&NullBuffer>) -> Result<Writer<'a>, ArrowError> {
        let fields = shape.fields.iter().zip(columns).map(|(part, column)| Values::of(part, column, rows));
        Ok(Writer { fields: fields.collect::<Result<_, _>>()? })
    }

    /// Appends the message of a row.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        self.fields.iter().for_each(|field| field.write(row, out));
    }
}

impl Part {
    fn refused(&self, what: impl std::fmt::Display) -> ArrowError {
        ArrowError::InvalidArgumentError(format!("column '{}' has {what}", self.column))
    }

    fn no_nulls(&self, array: &ArrayRef, rows: Option<&NullBuffer>, what: &str) -> Result<(), ArrowError> {
        let counts = |row: usize| rows.is_none_or(|rows| rows.is_valid(row));
        if array.null_count() == 0 || !(0..array.len()).any(|row| array.is_null(row) && counts(row)) {
            return Ok(());
        }
        Err(self.refused(format!("{what}, which its field of Protobuf cannot have: COALESCE it, or make the field optional")))
    }
}

impl<'a> Values<'a> {
    fn of(part: &'a Part, column: &ArrayRef, rows: Option<&NullBuffer>) -> Result<Values<'a>, ArrowError> {
        if let (PartKind::Map(parts), DataType::Map(..)) = (&part.kind, column.data_type()) {
            let map = column.as_map();
            part.no_nulls(map.values(), None, "a NULL among its values")?;
            let [key, value] = &**parts;
            let items = Items::Map(Box::new([Values::of(key, map.keys(), None)?, Values::of(value, map.values(), None)?]));
            return Ok(Values { part, column: column.clone(), items });
        }
        let values = match column.data_type() {
            DataType::List(_) if part.repeated => {
                let values = column.as_list::<i32>().values();
                part.no_nulls(values, None, "a NULL among its items")?;
                values.clone()
            }
            _ => {
                if part.needed {
                    part.no_nulls(column, rows, "a NULL")?;
                }
                column.clone()
            }
        };
        let as_type = |data_type: &DataType| cast(&values, data_type);
        let items = match &part.kind {
            PartKind::Number(kind) => match kind {
                FieldKind::Bool => Items::Bool(values.as_boolean().clone()),
                FieldKind::Float => Items::Float(values.as_primitive().clone()),
                FieldKind::Double => Items::Double(as_type(&DataType::Float64)?.as_primitive().clone()),
                FieldKind::Uint | FieldKind::Fixed32 | FieldKind::Fixed64 => {
                    Items::Unsigned(as_type(&DataType::UInt64)?.as_primitive().clone())
                }
                _ => Items::Signed(as_type(&DataType::Int64)?.as_primitive().clone()),
            },
            PartKind::Text => Items::Text(as_type(&DataType::Utf8)?.as_string().clone()),
            PartKind::Bytes => Items::Bytes(as_type(&DataType::Binary)?.as_binary().clone()),
            PartKind::Enum(numbers) => {
                let names = as_type(&DataType::Utf8)?;
                let number = |name: Option<&str>| {
                    let unknown = |name: &str| part.refused(format!("'{name}', which its enum does not have"));
                    name.map(|name| numbers.get(name).map(|number| i64::from(*number)).ok_or_else(|| unknown(name))).transpose()
                };
                let found = names.as_string::<i32>().iter().map(number).collect::<Result<Vec<_>, _>>()?;
                Items::Signed(found.into())
            }
            PartKind::Timestamp => {
                let DataType::Timestamp(unit, _) = values.data_type() else { unreachable!("it was looked at") };
                let per_second = crate::format::time::units_per_second(*unit);
                Items::Timestamp(as_type(&DataType::Int64)?.as_primitive().clone(), per_second)
            }
            PartKind::Wrapped(inner) => Items::Wrapped(Box::new(Values::of(inner, &values, None)?)),
            PartKind::Message(shape) => {
                let rows = values.as_struct();
                Items::Message(Writer::within(shape, rows.columns(), rows.nulls())?)
            }
            PartKind::Map(_) => unreachable!("a map was resolved against one"),
        };
        Ok(Values { part, column: column.clone(), items })
    }

    /// Appends the field as it is in a row: nothing where it is NULL or has no items.
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.column.is_null(row) {
            return;
        }
        if !self.part.repeated {
            if !(self.part.implicit && self.is_zero(row)) {
                self.item(row, true, out);
            }
            return;
        }
        let offsets = match self.column.data_type() {
            DataType::Map(..) => self.column.as_map().value_offsets(),
            _ => self.column.as_list::<i32>().value_offsets(),
        };
        let items = offsets[row] as usize..offsets[row + 1] as usize;
        if self.part.packed && !items.is_empty() {
            tag(self.part.number, 2, out);
            sized(out, |out| items.for_each(|item| self.item(item, false, out)));
        } else {
            items.for_each(|item| self.item(item, true, out));
        }
    }

    fn is_zero(&self, row: usize) -> bool {
        match &self.items {
            Items::Bool(array) => !array.value(row),
            Items::Signed(array) => array.value(row) == 0,
            Items::Unsigned(array) => array.value(row) == 0,
            Items::Float(array) => array.value(row).to_bits() == 0,
            Items::Double(array) => array.value(row).to_bits() == 0,
            Items::Text(array) => array.value(row).is_empty(),
            Items::Bytes(array) => array.value(row).is_empty(),
            Items::Timestamp(..) | Items::Wrapped(_) | Items::Message(_) | Items::Map(_) => false,
        }
    }

    /// Appends one value, with the field's number in front if that is asked for.
    fn item(&self, at: usize, tagged: bool, out: &mut Vec<u8>) {
        let number = self.part.number;
        let kind = match &self.part.kind {
            PartKind::Number(kind) => *kind,
            _ => FieldKind::Int,
        };
        let mut lead = |wire: u32| {
            if tagged {
                tag(number, wire, out);
            }
        };
        match &self.items {
            Items::Bool(array) => {
                lead(0);
                out.push(u8::from(array.value(at)));
            }
            Items::Signed(array) => {
                let value = array.value(at);
                match kind {
                    FieldKind::Sfixed32 => {
                        lead(5);
                        out.extend_from_slice(&(value as i32).to_le_bytes());
                    }
                    FieldKind::Sfixed64 => {
                        lead(1);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                    FieldKind::Sint => {
                        lead(0);
                        varint((value << 1 ^ value >> 63) as u64, out);
                    }
                    _ => {
                        lead(0);
                        varint(value as u64, out);
                    }
                }
            }
            Items::Unsigned(array) => {
                let value = array.value(at);
                match kind {
                    FieldKind::Fixed32 => {
                        lead(5);
                        out.extend_from_slice(&(value as u32).to_le_bytes());
                    }
                    FieldKind::Fixed64 => {
                        lead(1);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                    _ => {
                        lead(0);
                        varint(value, out);
                    }
                }
            }
            Items::Float(array) => {
                lead(5);
                out.extend_from_slice(&array.value(at).to_le_bytes());
            }
            Items::Double(array) => {
                lead(1);
                out.extend_from_slice(&array.value(at).to_le_bytes());
            }
            Items::Text(array) => {
                lead(2);
                sized(out, |out| out.extend_from_slice(array.value(at).as_bytes()));
            }
            Items::Bytes(array) => {
                lead(2);
                sized(out, |out| out.extend_from_slice(array.value(at)));
            }
            Items::Timestamp(array, per_second) => {
                lead(2);
                let (seconds, rest) = (array.value(at).div_euclid(*per_second), array.value(at).rem_euclid(*per_second));
                sized(out, |out| {
                    for (number, value) in [(1, seconds), (2, rest * (1_000_000_000 / per_second))] {
                        if value != 0 {
                            tag(number, 0, out);
                            varint(value as u64, out);
                        }
                    }
                });
            }
            Items::Wrapped(inner) => {
                lead(2);
                sized(out, |out| inner.write(at, out));
            }
            Items::Message(message) => {
                lead(2);
                sized(out, |out| message.write(at, out));
            }
            Items::Map(entry) => {
                lead(2);
                let [key, value] = &**entry;
                sized(out, |out| {
                    key.write(at, out);
                    value.write(at, out);
                });
            }
        }
    }
}

fn tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire), out);
}

fn varint(value: u64, out: &mut Vec<u8>) {
    let (bytes, len) = digits(value);
    out.extend_from_slice(&bytes[..len]);
}

/// The bytes of a number, and how many there are.
fn digits(mut value: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut len) = ([0; 10], 0);
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        len += 1;
        value >>= 7;
    }
    bytes[len] = value as u8;
    (bytes, len + 1)
}

/// Appends what `write` appends, after how many bytes that are.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let (bytes, len) = digits((out.len() - start) as u64);
    out.splice(start..start, bytes[..len].iter().copied());
}

/// What stands in front of a message to say which of its schema it is.
pub(crate) fn path(path: &[usize], out: &mut Vec<u8>) {
    if path == [0] {
        out.push(0);
        return;
    }
    super::avro::long(path.len() as i64, out);
    path.iter().for_each(|at| super::avro::long(*at as i64, out));
}
