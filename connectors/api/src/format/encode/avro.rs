//! Rows as Avro, in the schema that their columns have.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, MapArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use serde_json::{Value, json};

use crate::format::column::sql_type;

/// A type of a schema, and whether it is a union with null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    nullable: bool,
    kind: ShapeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ShapeKind {
    Bool,
    /// Also days.
    Int(Option<&'static str>),
    /// Also times.
    Long(Option<&'static str>),
    Float,
    Double,
    Decimal(u8, i8),
    Text,
    Bytes,
    List(Box<Shape>),
    Map(Box<Shape>),
    Record(String, Vec<(String, Shape)>),
}

/// Why columns have no schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unwritable {
    pub(crate) column: String,
    pub(crate) what: String,
    pub(crate) help: String,
}

impl Shape {
    /// A record of these columns.
    pub(crate) fn record(name: &str, fields: &Fields) -> Result<Shape, Unwritable> {
        Ok(Shape { nullable: false, kind: fields_of(name, fields, "")? })
    }

    /// The record of a change whose rows are `self`.
    pub(crate) fn envelope(self) -> (Value, Shape) {
        let ShapeKind::Record(name, _) = &self.kind else { unreachable!("rows are records") };
        let (space, base) = name.rsplit_once('.').map_or(("", name.as_str()), |(space, base)| (space, base));
        let dot = if space.is_empty() { "" } else { "." };
        let json = json!({
            "type": "record",
            "name": format!("{space}{dot}{base}_change"),
            "fields": [
                { "name": "before", "type": ["null", self.json()], "default": null },
                { "name": "after", "type": ["null", name], "default": null },
                { "name": "op", "type": "string" },
                { "name": "ts_ms", "type": ["null", "long"], "default": null },
            ],
        });
        (json, self)
    }

    /// The schema.
    pub(crate) fn json(&self) -> Value {
        let logical = |of: &str, logical: &Option<&str>| match logical {
            Some(logical) => json!({ "type": of, "logicalType": logical }),
            None => json!(of),
        };
        let json = match &self.kind {
            ShapeKind::Bool => json!("boolean"),
            ShapeKind::Int(meaning) => logical("int", meaning),
            ShapeKind::Long(meaning) => logical("long", meaning),
            ShapeKind::Float => json!("float"),
            ShapeKind::Double => json!("double"),
            ShapeKind::Decimal(precision, scale) => {
                json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
            }
            ShapeKind::Text => json!("string"),
            ShapeKind::Bytes => json!("bytes"),
            ShapeKind::List(item) => json!({ "type": "array", "items": item.json() }),
            ShapeKind::Map(value) => json!({ "type": "map", "values": value.json() }),
            ShapeKind::Record(name, fields) => {
                let fields = fields.iter().map(|(name, shape)| match shape.nullable {
                    true => json!({ "name": name, "type": shape.json(), "default": null }),
                    false => json!({ "name": name, "type": shape.json() }),
                });
                json!({ "type": "record", "name": name, "fields": fields.collect::<Vec<_>>() })
            }
        };
        if self.nullable { json!(["null", json]) } else { json }
    }
}

/// Whether Avro takes a name.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn fields_of(name: &str, fields: &Fields, path: &str) -> Result<ShapeKind, Unwritable> {
    let mut shapes = Vec::with_capacity(fields.len());
    for field in fields {
        let column = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        if !is_name(field.name()) {
            return Err(Unwritable {
                column,
                what: "its name is none that Avro takes: letters, digits and _, no digit first".to_owned(),
                help: "give it another name in the query: SELECT .. AS name".to_owned(),
            });
        }
        shapes.push((field.name().clone(), shape(&format!("{name}_{}", field.name()), field, &column)?));
    }
    Ok(ShapeKind::Record(name.to_owned(), shapes))
}

fn shape(name: &str, field: &FieldRef, column: &str) -> Result<Shape, Unwritable> {
    let unwritable = |help: &str| Unwritable {
        column: column.to_owned(),
        what: format!("Avro has no type for {}", sql_type(field.data_type())),
        help: help.to_owned(),
    };
    let kind = match &plain(field.data_type()) {
        DataType::Boolean => ShapeKind::Bool,
        DataType::Int32 => match field.data_type() {
            DataType::Date32 => ShapeKind::Int(Some("date")),
            DataType::Time32(_) => ShapeKind::Int(Some("time-millis")),
            _ => ShapeKind::Int(None),
        },
        DataType::Int64 => ShapeKind::Long(match field.data_type() {
            DataType::Time64(_) => Some("time-micros"),
            DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => Some("timestamp-millis"),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Some("timestamp-micros"),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Some("timestamp-nanos"),
            _ => None,
        }),
        DataType::Float32 => ShapeKind::Float,
        DataType::Float64 => ShapeKind::Double,
        DataType::Decimal128(precision, scale) if *scale >= 0 => ShapeKind::Decimal(*precision, *scale),
        DataType::Utf8 => ShapeKind::Text,
        DataType::Binary => ShapeKind::Bytes,
        DataType::List(item) => ShapeKind::List(Box::new(shape(name, item, column)?)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 && plain(entry[0].data_type()) == DataType::Utf8 => {
                ShapeKind::Map(Box::new(shape(name, &entry[1], column)?))
            }
            _ => return Err(unwritable("the keys of a MAP must be VARCHAR")),
        },
        DataType::Struct(fields) => fields_of(name, fields, column)?,
        _ => return Err(unwritable("cast it in the query: to VARCHAR, or to a number")),
    };
    Ok(Shape { nullable: field.is_nullable(), kind })
}

/// The type that a column's values are written as.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 | DataType::Date32 | DataType::Time32(_) => {
            DataType::Int32
        }
        DataType::UInt32 | DataType::Time64(_) | DataType::Timestamp(..) => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        other => other.clone(),
    }
}

/// The values of one array.
#[derive(Debug)]
pub(crate) struct Writer {
    nullable: bool,
    array: ArrayRef,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanArray),
    Int(Int32Array),
    Long(Int64Array),
    Float(Float32Array),
    Double(Float64Array),
    Decimal(Decimal128Array),
    Text(StringArray),
    Bytes(BinaryArray),
    List(ListArray, Box<Writer>),
    Map(Box<(MapArray, StringArray, Writer)>),
    Record(Vec<Writer>),
}

impl Writer {
    /// Looks at the rows of a record's columns.
    pub(crate) fn record(shape: &Shape, columns: &[ArrayRef]) -> Result<Writer, ArrowError> {
        let ShapeKind::Record(_, fields) = &shape.kind else { unreachable!("rows are records") };
        let writers = fields.iter().zip(columns).map(|((_, shape), array)| Writer::new(shape, array));
        let rows = columns.first().map_or(0, |column| column.len());
        let array = Arc::new(arrow::array::NullArray::new(rows));
        Ok(Writer { nullable: false, array, values: Values::Record(writers.collect::<Result<_, _>>()?) })
    }

    fn new(shape: &Shape, array: &ArrayRef) -> Result<Writer, ArrowError> {
        // Times that are finer or coarser than their Avro type has them are made so first.
        let array = match array.data_type() {
            DataType::Time32(TimeUnit::Second) => &cast(array, &DataType::Time32(TimeUnit::Millisecond))?,
            DataType::Time64(TimeUnit::Nanosecond) => &cast(array, &DataType::Time64(TimeUnit::Microsecond))?,
            DataType::Timestamp(TimeUnit::Second, zone) => {
                &cast(array, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?
            }
            _ => array,
        };
        let to = plain(array.data_type());
        let array = if *array.data_type() == to { Arc::clone(array) } else { cast(array, &to)? };
        let values = match &shape.kind {
            ShapeKind::Bool => Values::Bool(array.as_boolean().clone()),
            ShapeKind::Int(_) => Values::Int(array.as_primitive().clone()),
            ShapeKind::Long(_) => Values::Long(array.as_primitive().clone()),
            ShapeKind::Float => Values::Float(array.as_primitive().clone()),
            ShapeKind::Double => Values::Double(array.as_primitive().clone()),
            ShapeKind::Decimal(..) => Values::Decimal(array.as_primitive().clone()),
            ShapeKind::Text => Values::Text(array.as_string().clone()),
            ShapeKind::Bytes => Values::Bytes(array.as_binary().clone()),
            ShapeKind::List(item) => {
                let list = array.as_list::<i32>();
                Values::List(list.clone(), Box::new(Writer::new(item, list.values())?))
            }
            ShapeKind::Map(value) => {
                let map = array.as_map();
                let keys = cast(map.keys(), &DataType::Utf8)?;
                Values::Map(Box::new((map.clone(), keys.as_string().clone(), Writer::new(value, map.values())?)))
            }
            ShapeKind::Record(_, fields) => {
                let children = fields.iter().zip(array.as_struct().columns());
                Values::Record(children.map(|((_, shape), child)| Writer::new(shape, child)).collect::<Result<_, _>>()?)
            }
        };
        Ok(Writer { nullable: shape.nullable, array, values })
    }

    /// Appends the value at `row`.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nullable {
            let null = self.array.is_null(row);
            long(i64::from(!null), out);
            if null {
                return;
            }
        }
        match &self.values {
            Values::Bool(array) => out.push(u8::from(array.value(row))),
            Values::Int(array) => long(i64::from(array.value(row)), out),
            Values::Long(array) => long(array.value(row), out),
            Values::Float(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Double(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Decimal(array) => sized(digits(&array.value(row).to_be_bytes()), out),
            Values::Text(array) => sized(array.value(row).as_bytes(), out),
            Values::Bytes(array) => sized(array.value(row), out),
            Values::List(array, items) => {
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                if start < end {
                    long((end - start) as i64, out);
                    (start..end).for_each(|item| items.write(item, out));
                }
                out.push(0);
            }
            Values::Map(map) => {
                let (array, keys, values) = &**map;
                let (start, end) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                if start < end {
                    long((end - start) as i64, out);
                    for entry in start..end {
                        sized(keys.value(entry).as_bytes(), out);
                        values.write(entry, out);
                    }
                }
                out.push(0);
            }
            Values::Record(fields) => fields.iter().for_each(|field| field.write(row, out)),
        }
    }
}

/// A zigzag number.
pub(crate) fn long(value: i64, out: &mut Vec<u8>) {
    let mut value = (value << 1 ^ value >> 63) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// As few bytes of two's complement as say the same.
fn digits(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, second, ..] = bytes {
        let spare = (*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0);
        if !spare {
            break;
        }
        bytes = &bytes[1..];
    }
    bytes
}
