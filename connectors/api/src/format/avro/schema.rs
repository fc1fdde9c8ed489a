//! An Avro schema: its JSON text as types that refer to each other by number.

use std::collections::HashMap;
use std::fmt::Write;

use arrow::datatypes::TimeUnit;
use serde_json::Value;

use crate::format::scalar::Scalar;

/// How deep types may be written in each other.
const DEPTH_MAX: usize = 64;

/// A type of a schema.
pub(crate) type TypeId = usize;

/// A schema: types, the first of which stands for the whole.
#[derive(Debug)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: TypeId,
}

/// A type: how its values are written, and what they mean.
#[derive(Debug)]
pub(crate) enum Type {
    Null,
    Bool,
    /// `int` and `long`, which are written alike, and which of the two it is.
    Int(Scalar, &'static str),
    Float,
    Double,
    /// `bytes` and `string`.
    Bytes(Scalar),
    Fixed {
        size: usize,
        scalar: Scalar,
        uuid: bool,
    },
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record {
        name: String,
        fields: Vec<Field>,
    },
    /// A name whose type is not read yet.
    Pending,
}

/// A field of a record.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: TypeId,
}

impl Schema {
    /// Reads a schema, after others that have types it names. Errors: what is wrong with it.
    pub(crate) fn parse(references: &[&str], text: &str) -> Result<Schema, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        let mut root = 0;
        for text in references.iter().chain([&text]) {
            let json: Value = match serde_json::from_str(text) {
                Ok(json) => json,
                // A registry gives the text of a primitive type without its quotes.
                Err(_) if PRIMITIVES.contains(&text.trim()) => Value::String(text.trim().to_owned()),
                Err(error) => return Err(format!("it is no JSON: {error}")),
            };
            root = parser.read(&json, "", 0)?;
        }
        Ok(Schema { types: parser.types, root })
    }

    /// The type that the whole is of.
    pub(crate) fn root(&self) -> TypeId {
        self.root
    }

    /// A type.
    #[inline]
    pub(crate) fn get(&self, id: TypeId) -> &Type {
        &self.types[id]
    }

    /// A type for people.
    pub(crate) fn name(&self, id: TypeId) -> String {
        let mut text = String::new();
        self.write_name(id, 0, &mut text);
        text
    }

    fn write_name(&self, id: TypeId, depth: usize, out: &mut String) {
        let name = match self.get(id) {
            _ if depth > 4 => "..",
            Type::Null | Type::Pending => "null",
            Type::Bool => "boolean",
            Type::Float => "float",
            Type::Double => "double",
            Type::Int(Scalar::Int, name) => name,
            Type::Int(scalar, _) | Type::Bytes(scalar) => match scalar {
                Scalar::Date => "date",
                Scalar::Time(TimeUnit::Millisecond) => "time-millis",
                Scalar::Time(_) => "time-micros",
                Scalar::Timestamp(TimeUnit::Millisecond) => "timestamp-millis",
                Scalar::Timestamp(TimeUnit::Nanosecond) => "timestamp-nanos",
                Scalar::Timestamp(_) => "timestamp-micros",
                Scalar::Decimal(_) => "decimal",
                Scalar::Text => "string",
                _ => "bytes",
            },
            Type::Fixed { scalar: Scalar::Decimal(_), .. } => "decimal",
            Type::Fixed { scalar: Scalar::Interval, .. } => "duration",
            Type::Fixed { uuid: true, .. } => "uuid",
            Type::Fixed { .. } => "fixed",
            Type::Enum(_) => "enum",
            Type::Array(item) | Type::Map(item) => {
                let array = matches!(self.get(id), Type::Array(_));
                out.push_str(if array { "array of " } else { "map of " });
                return self.write_name(*item, depth + 1, out);
            }
            Type::Union(branches) => {
                out.push_str("union of ");
                for (place, branch) in branches.iter().enumerate() {
                    out.push_str(if place > 0 { ", " } else { "" });
                    self.write_name(*branch, depth + 1, out);
                }
                return;
            }
            Type::Record { name, .. } => {
                let _ = write!(out, "record {name}");
                return;
            }
        };
        out.push_str(name);
    }
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

struct Parser {
    types: Vec<Type>,
    /// By full name.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, kind: Type) -> TypeId {
        self.types.push(kind);
        self.types.len() - 1
    }

    fn read(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<TypeId, String> {
        if depth > DEPTH_MAX {
            return Err(format!("its types are nested more than {DEPTH_MAX} deep"));
        }
        match json {
            Value::String(name) => self.named(name, namespace, json),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.read(branch, namespace, depth + 1)).collect::<Result<_, _>>()?;
                Ok(self.add(Type::Union(branches)))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, json, namespace, depth),
                // {"type": {"type": ...}}: what stands inside.
                Some(inner) => self.read(inner, namespace, depth + 1),
                None => Err("a type has no \"type\"".to_owned()),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    /// A primitive type or a type that has a name; `json` may say what its values mean.
    fn named(&mut self, name: &str, namespace: &str, json: &Value) -> Result<TypeId, String> {
        let kind = match name {
            "null" => Type::Null,
            "boolean" => Type::Bool,
            "int" => Type::Int(meaning_of_int(json, false), "int"),
            "long" => Type::Int(meaning_of_int(json, true), "long"),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(decimal(json).unwrap_or(Scalar::Bytes)),
            "string" => Type::Bytes(Scalar::Text),
            name => {
                let full = full_name(name, namespace);
                let found = self.names.get(&full).or_else(|| self.names.get(name));
                return found.copied().ok_or_else(|| format!("the type '{full}' is not defined"));
            }
        };
        Ok(self.add(kind))
    }

    fn complex(&mut self, kind: &str, json: &Value, namespace: &str, depth: usize) -> Result<TypeId, String> {
        let part = |key: &str| json.get(key).ok_or_else(|| format!("a type '{kind}' has no \"{key}\""));
        match kind {
            "array" => {
                let item = self.read(part("items")?, namespace, depth + 1)?;
                Ok(self.add(Type::Array(item)))
            }
            "map" => {
                let value = self.read(part("values")?, namespace, depth + 1)?;
                Ok(self.add(Type::Map(value)))
            }
            "record" | "error" | "enum" | "fixed" => {
                let name = part("name")?.as_str().ok_or("a name is no text")?;
                let own = json.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                let full = full_name(name, own);
                let namespace = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                // Known before its fields are read: a record may have itself in it.
                let id = self.add(Type::Pending);
                if self.names.insert(full.clone(), id).is_some() {
                    return Err(format!("the type '{full}' is defined twice"));
                }
                self.types[id] = match kind {
                    "enum" => {
                        let symbols = part("symbols")?.as_array().ok_or("\"symbols\" is no array")?;
                        let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                        Type::Enum(symbols.collect::<Option<_>>().ok_or("a symbol is no text")?)
                    }
                    "fixed" => fixed(json, part("size")?)?,
                    _ => {
                        let fields = part("fields")?.as_array().ok_or("\"fields\" is no array")?;
                        let fields = fields.iter().map(|field| self.field(field, &namespace, depth));
                        Type::Record { name: full, fields: fields.collect::<Result<_, String>>()? }
                    }
                };
                Ok(id)
            }
            name => self.named(name, namespace, json),
        }
    }

    fn field(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<Field, String> {
        let name = json.get("name").and_then(Value::as_str).ok_or("a field has no \"name\"")?;
        let kind = json.get("type").ok_or_else(|| format!("the field '{name}' has no \"type\""))?;
        // What a type means may stand beside it, too.
        let kind = match kind {
            Value::String(_) if json.get("logicalType").is_some() => {
                self.complex(kind.as_str().unwrap_or_default(), json, namespace, depth + 1)
            }
            kind => self.read(kind, namespace, depth + 1),
        };
        Ok(Field { name: name.to_owned(), kind: kind? })
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn logical(json: &Value) -> &str {
    json.get("logicalType").and_then(Value::as_str).unwrap_or_default()
}

/// What an integer means. Connect and Debezium say it in a name of their own.
fn meaning_of_int(json: &Value, long: bool) -> Scalar {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond};
    match (logical(json), long) {
        ("date", false) => Scalar::Date,
        ("time-millis", false) => Scalar::Time(Millisecond),
        ("time-micros", true) => Scalar::Time(Microsecond),
        ("timestamp-millis" | "local-timestamp-millis", true) => Scalar::Timestamp(Millisecond),
        ("timestamp-micros" | "local-timestamp-micros", true) => Scalar::Timestamp(Microsecond),
        ("timestamp-nanos" | "local-timestamp-nanos", true) => Scalar::Timestamp(Nanosecond),
        _ => match (json.get("connect.name").and_then(Value::as_str).unwrap_or_default(), long) {
            ("io.debezium.time.Date", _) => Scalar::Date,
            ("io.debezium.time.Time", _) => Scalar::Time(Millisecond),
            ("io.debezium.time.MicroTime", true) => Scalar::Time(Microsecond),
            ("io.debezium.time.NanoTime", true) => Scalar::Time(Nanosecond),
            ("io.debezium.time.Timestamp", true) => Scalar::Timestamp(Millisecond),
            ("io.debezium.time.MicroTimestamp", true) => Scalar::Timestamp(Microsecond),
            ("io.debezium.time.NanoTimestamp", true) => Scalar::Timestamp(Nanosecond),
            _ => Scalar::Int,
        },
    }
}

fn decimal(json: &Value) -> Option<Scalar> {
    let scale = json.get("scale").map_or(Some(0), Value::as_i64)?;
    (logical(json) == "decimal")
        .then_some(Scalar::Decimal(i32::try_from(scale).ok().filter(|scale| (0..=1_000).contains(scale))?))
}

fn fixed(json: &Value, size: &Value) -> Result<Type, String> {
    let size = size.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or("\"size\" is no number of bytes")?;
    let scalar = match logical(json) {
        "decimal" => decimal(json).unwrap_or(Scalar::Bytes),
        "duration" if size == 12 => Scalar::Interval,
        "uuid" if size == 16 => Scalar::Text,
        _ => Scalar::Bytes,
    };
    Ok(Type::Fixed { size, scalar, uuid: scalar == Scalar::Text })
}
