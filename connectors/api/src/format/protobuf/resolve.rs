//! A message type against columns: decided once.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field as Column, FieldRef, IntervalUnit, TimeUnit};
use highwater_schemas::{Field, FieldKind, Message, Messages};

use crate::format::avro::resolve::{Misfit, Target, place};
use crate::format::column::sql_type;
use crate::format::scalar::{Scalar, is_bytes};

/// How messages of a type are read into columns.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) record: Record,
    /// Why no message can be read.
    pub(crate) refused: Option<String>,
    pub(crate) refuses_unknown: bool,
}

/// How the fields of a message are read, by number.
#[derive(Debug)]
pub(crate) struct Record {
    fields: Vec<Slot>,
    /// Where in `fields` the low numbers are; 0 if nowhere, else one more.
    low: Vec<u16>,
    high: HashMap<u32, usize>,
    /// Columns that no field fills.
    pub(crate) missing: Vec<usize>,
}

/// A field and its column.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None`: the field is known, and skipped.
    pub(crate) column: Option<usize>,
    pub(crate) node: Node,
    /// What to put where a message lacks the field.
    pub(crate) absent: Absent,
}

/// What stands for a field that a message does not have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Absent {
    /// The column's default, or NULL.
    Null,
    /// Nothing was written because it is zero, or empty.
    Zero,
    /// What the schema says, as text.
    Text(String),
    /// What the schema says of a field of bytes.
    Bytes(Vec<u8>),
}

/// How a value is read into a column.
#[derive(Debug)]
pub(crate) enum Node {
    Skip,
    Number(FieldKind),
    Bytes(Scalar),
    /// Names by number; in a column of numbers the number itself.
    Enum(Option<HashMap<i32, String>>),
    Record(Box<Record>),
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.protobuf.Duration`
    Duration,
    /// `google.protobuf.Int64Value` and the like: the field 1 of a message.
    Wrapped(Box<Node>),
    List(Box<Node>),
    /// How keys and values are read.
    Map(Box<Node>, Box<Node>),
}

impl Plan {
    /// Resolves the fields of a message.
    pub(crate) fn new(messages: &Messages, id: usize, target: &Target) -> Result<Plan, Misfit> {
        let Target { columns, defaults, refuses_unknown, .. } = target;
        let resolver = Resolver { messages };
        let record = resolver.record(messages.message(id), columns, defaults, "")?;
        Ok(Plan { record, refused: None, refuses_unknown: *refuses_unknown })
    }

    /// Reads nothing.
    pub(crate) fn refusing(why: String) -> Plan {
        let record = Record { fields: Vec::new(), low: Vec::new(), high: HashMap::new(), missing: Vec::new() };
        Plan { record, refused: Some(why), refuses_unknown: false }
    }
}

/// Numbers below this are found without hashing.
const LOW: u32 = 256;

impl Record {
    fn new(slots: Vec<(u32, Slot)>, missing: Vec<usize>) -> Record {
        let (mut low, mut high) = (Vec::new(), HashMap::new());
        let mut fields = Vec::with_capacity(slots.len());
        for (number, slot) in slots {
            let at = fields.len();
            if number < LOW && at < usize::from(u16::MAX) {
                low.resize(low.len().max(number as usize + 1), 0);
                low[number as usize] = at as u16 + 1;
            } else {
                high.insert(number, at);
            }
            fields.push(slot);
        }
        Record { fields, low, high, missing }
    }

    /// The field of a number.
    #[inline]
    pub(crate) fn field(&self, number: u32) -> Option<&Slot> {
        match self.low.get(number as usize) {
            Some(0) => None,
            Some(at) => Some(&self.fields[usize::from(*at) - 1]),
            None => self.high.get(&number).map(|at| &self.fields[*at]),
        }
    }

    pub(crate) fn fields(&self) -> &[Slot] {
        &self.fields
    }
}

struct Resolver<'a> {
    messages: &'a Messages,
}

impl Resolver<'_> {
    fn record(
        &self,
        message: &Message,
        columns: &[(FieldRef, Option<usize>)],
        defaults: &[bool],
        path: &str,
    ) -> Result<Record, Misfit> {
        let names: Vec<&str> = columns.iter().map(|(column, _)| column.name().as_str()).collect();
        let mut filled = vec![false; columns.len()];
        let mut slots = Vec::with_capacity(message.fields.len());
        for field in &message.fields {
            let found = place(&names, &field.name, message.fields.iter().map(|field| field.name.as_str()));
            let skipped = Slot { column: None, node: Node::Skip, absent: Absent::Null };
            let slot = match found.filter(|at| !filled[*at]) {
                None => skipped,
                Some(at) => {
                    filled[at] = true;
                    let (column, used) = &columns[at];
                    let path = if path.is_empty() { column.name().clone() } else { format!("{path}.{}", column.name()) };
                    let node = self.field(field, column, &path)?;
                    let absent = match &field.default {
                        Some(default) => self.default(field, default, &node),
                        None if field.presence => Absent::Null,
                        None => Absent::Zero,
                    };
                    used.map_or(skipped, |used| Slot { column: Some(used), node, absent })
                }
            };
            slots.push((field.number, slot));
        }
        let mut missing = Vec::new();
        for (at, (column, used)) in columns.iter().enumerate().filter(|(at, _)| !filled[*at]) {
            if !column.is_nullable() && !defaults.get(at).copied().unwrap_or(false) {
                let there: Vec<&str> = message.fields.iter().map(|field| field.name.as_str()).collect();
                return Err(Misfit {
                    column: if path.is_empty() { column.name().clone() } else { format!("{path}.{}", column.name()) },
                    what: format!("it is NOT NULL, and message {} has no such field", message.name),
                    help: format!("there are: {}; give it a DEFAULT, or declare it without NOT NULL", there.join(", ")),
                });
            }
            missing.extend(*used);
        }
        Ok(Record::new(slots, missing))
    }

    /// What a field is that is not there, by what the schema says.
    fn default(&self, field: &Field, default: &str, node: &Node) -> Absent {
        match (field.kind, node) {
            (FieldKind::Bytes, _) => Absent::Bytes(unescaped(default)),
            // A name of the enum; the column has numbers.
            (FieldKind::Enum(id), Node::Enum(None)) => {
                let values = &self.messages.enumeration(id).values;
                let number = values.iter().find(|(_, name)| name == default).map_or(0, |(number, _)| *number);
                Absent::Text(number.to_string())
            }
            _ => Absent::Text(default.to_owned()),
        }
    }

    fn field(&self, field: &Field, column: &Column, path: &str) -> Result<Node, Misfit> {
        if !field.repeated {
            return self.value(field.kind, column, path);
        }
        if let FieldKind::Message(id) = field.kind
            && let entry = self.messages.message(id)
            && entry.map_entry
            && let [key, value] = &entry.fields[..]
        {
            return match column.data_type() {
                DataType::Map(entries, _) => match entries.data_type() {
                    DataType::Struct(own) if own.len() == 2 => {
                        let key = self.value(key.kind, &own[0], path)?;
                        Ok(Node::Map(Box::new(key), Box::new(self.value(value.kind, &own[1], path)?)))
                    }
                    _ => Err(self.misfit(field.kind, "map", column, path, "MAP<.., ..>")),
                },
                _ => Err(self.misfit(field.kind, "map", column, path, "MAP<.., ..>")),
            };
        }
        match column.data_type() {
            DataType::List(item) => Ok(Node::List(Box::new(self.value(field.kind, item, path)?))),
            _ => Err(self.misfit(field.kind, "repeated", column, path, "an array, such as VARCHAR[]")),
        }
    }

    fn value(&self, kind: FieldKind, column: &Column, path: &str) -> Result<Node, Misfit> {
        let data_type = column.data_type();
        let scalar = |scalar: Scalar, node: Node| match scalar.fits(data_type) {
            true => Ok(node),
            false => Err(self.misfit(kind, "", column, path, scalar.remedy())),
        };
        match kind {
            FieldKind::Double => scalar(Scalar::Double, Node::Number(kind)),
            FieldKind::Float => scalar(Scalar::Float, Node::Number(kind)),
            FieldKind::Bool => scalar(Scalar::Bool, Node::Number(kind)),
            FieldKind::String => scalar(Scalar::Text, Node::Bytes(Scalar::Text)),
            FieldKind::Bytes => scalar(Scalar::Bytes, Node::Bytes(Scalar::Bytes)),
            FieldKind::Enum(id) => {
                let one = self.messages.enumeration(id);
                if data_type.is_integer() {
                    return Ok(Node::Enum(None));
                }
                let mut names = HashMap::new();
                for (number, name) in &one.values {
                    names.entry(*number).or_insert_with(|| name.clone());
                }
                scalar(Scalar::Text, Node::Enum(Some(names)))
            }
            FieldKind::Message(id) => self.message(id, kind, column, path),
            FieldKind::Group => Err(self.misfit(kind, "", column, path, "nothing: groups are skipped; leave the column out")),
            _ => scalar(Scalar::Int, Node::Number(kind)),
        }
    }

    fn message(&self, id: usize, kind: FieldKind, column: &Column, path: &str) -> Result<Node, Misfit> {
        let message = self.messages.message(id);
        let data_type = column.data_type();
        if is_bytes(data_type) {
            return Ok(Node::Bytes(Scalar::Bytes));
        }
        match message.name.strip_prefix("google.protobuf.") {
            Some("Timestamp") if Scalar::Timestamp(TimeUnit::Nanosecond).fits(data_type) && !data_type.is_integer() => {
                return Ok(Node::Timestamp);
            }
            Some("Duration") if matches!(data_type, DataType::Interval(IntervalUnit::MonthDayNano)) => return Ok(Node::Duration),
            Some(name)
                if name.ends_with("Value")
                    && message.fields.len() == 1
                    && message.fields[0].name == "value"
                    && !message.fields[0].repeated
                    && !matches!(message.fields[0].kind, FieldKind::Message(_))
                    && !matches!(data_type, DataType::Struct(_)) =>
            {
                return Ok(Node::Wrapped(Box::new(self.value(message.fields[0].kind, column, path)?)));
            }
            _ => {}
        }
        let DataType::Struct(children) = data_type else {
            let remedy = match message.name.as_str() {
                "google.protobuf.Timestamp" => "TIMESTAMP",
                "google.protobuf.Duration" => "INTERVAL",
                _ => "ROW<..> with the fields that are read, or BYTEA",
            };
            return Err(self.misfit(kind, "", column, path, remedy));
        };
        let columns: Vec<_> = children.iter().enumerate().map(|(at, child)| (child.clone(), Some(at))).collect();
        Ok(Node::Record(Box::new(self.record(message, &columns, &[], path)?)))
    }

    fn misfit(&self, kind: FieldKind, around: &str, column: &Column, path: &str, remedy: &str) -> Misfit {
        let name = match kind {
            FieldKind::Message(_) if around == "map" => String::new(),
            FieldKind::Message(id) => format!("message {}", self.messages.message(id).name),
            FieldKind::Enum(id) => format!("enum {}", self.messages.enumeration(id).name),
            FieldKind::Int => "int32 or int64".to_owned(),
            FieldKind::Uint => "uint32 or uint64".to_owned(),
            FieldKind::Sint => "sint32 or sint64".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let field = format!("{around} {name}");
        Misfit {
            column: path.to_owned(),
            what: format!("it has type {}, and its field is {}", sql_type(column.data_type()), field.trim()),
            help: format!("declare it as {remedy}"),
        }
    }
}

/// The default of a field of bytes, which descriptors have with escapes as of C.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(first @ b'0'..=b'7') => {
                let mut value = u32::from(first - b'0');
                for _ in 0..2 {
                    match bytes.peek() {
                        Some(digit @ b'0'..=b'7') => value = value * 8 + u32::from(digit - b'0'),
                        _ => break,
                    }
                    bytes.next();
                }
                out.push(value as u8);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}
