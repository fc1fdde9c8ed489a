//! Messages of Protobuf: what fields they have, from a set of descriptors or from the text of a `.proto` file.

use std::collections::HashMap;
use std::path::Path;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use protox::Compiler;
use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::registry::Schema;

/// What a schema is called among the files that it imports.
const ROOT: &str = "highwater/schema.proto";

/// All messages of some files.
#[derive(Debug, Clone)]
pub struct Messages {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    names: HashMap<String, usize>,
    /// The messages that stand in the file itself, not in another, in order.
    top: Vec<usize>,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// With its package.
    pub name: String,
    /// In the order of their numbers.
    pub fields: Vec<Field>,
    /// Whether it is an entry of a map: a key, 1, and a value, 2.
    pub map_entry: bool,
    /// Messages that are declared in it, in order.
    nested: Vec<usize>,
}

/// A field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name in the text.
    pub name: String,
    /// What stands for it in a message.
    pub number: u32,
    /// What its values are.
    pub kind: FieldKind,
    /// Whether integers have 64 bits, not 32.
    pub wide: bool,
    /// Whether a message without it is none, as proto2 has it.
    pub required: bool,
    /// Whether it may come any number of times: a list, or a map.
    pub repeated: bool,
    /// Whether numbers of a list are written one after another in one piece.
    pub packed: bool,
    /// Whether a message tells if it has the field; else a field that is not there has its zero.
    pub presence: bool,
    /// What stands for a field that is not there, as proto2 has it.
    pub default: Option<String>,
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// `double`
    Double,
    /// `float`
    Float,
    /// `int32`, `int64`: short if they are small and positive.
    Int,
    /// `uint32`, `uint64`
    Uint,
    /// `sint32`, `sint64`: short if they are small.
    Sint,
    /// `fixed32`
    Fixed32,
    /// `fixed64`
    Fixed64,
    /// `sfixed32`
    Sfixed32,
    /// `sfixed64`
    Sfixed64,
    /// `bool`
    Bool,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// One of [`Messages::message`].
    Message(usize),
    /// One of [`Messages::enumeration`].
    Enum(usize),
    /// A message of proto2 without a length.
    Group,
}

/// An enum.
#[derive(Debug, Clone)]
pub struct Enum {
    /// With its package.
    pub name: String,
    /// Numbers and names, those first that count where several have one number.
    pub values: Vec<(i32, String)>,
}

impl Messages {
    /// Reads what `protoc --descriptor_set_out --include_imports` has written. Errors: it is something else, or lacks imports.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Messages, String> {
        let set = FileDescriptorSet::decode(bytes).map_err(|error| format!("it is no set of file descriptors: {error}"))?;
        let last = set.file.last().map(|file| file.name().to_owned());
        Messages::new(&set, &last.unwrap_or_default())
    }

    /// Compiles a schema with what it refers to. Errors: where the text makes no sense.
    pub fn compile(schema: &Schema) -> Result<Messages, String> {
        let mut compiler = Compiler::with_file_resolver(Texts(schema.clone()));
        compiler.include_imports(true);
        compiler.open_file(ROOT).map_err(|error| error.to_string())?;
        Messages::new(&compiler.file_descriptor_set(), ROOT)
    }

    fn new(set: &FileDescriptorSet, root: &str) -> Result<Messages, String> {
        let mut messages = Messages { messages: Vec::new(), enums: Vec::new(), names: HashMap::new(), top: Vec::new() };
        let mut enums = HashMap::new();
        for file in &set.file {
            for message in &file.message_type {
                let id = messages.declare(message, file.package(), &mut enums);
                if file.name() == root {
                    messages.top.push(id);
                }
            }
            for one in &file.enum_type {
                messages.declare_enum(one, file.package(), &mut enums);
            }
        }
        for file in &set.file {
            for message in &file.message_type {
                messages.define(message, file.package(), file.syntax(), &enums)?;
            }
        }
        Ok(messages)
    }

    fn declare(&mut self, message: &DescriptorProto, scope: &str, enums: &mut HashMap<String, usize>) -> usize {
        let name = within(scope, message.name());
        let id = self.messages.len();
        let map_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
        self.messages.push(Message { name: name.clone(), fields: Vec::new(), map_entry, nested: Vec::new() });
        self.names.insert(name.clone(), id);
        let nested = message.nested_type.iter().map(|nested| self.declare(nested, &name, enums)).collect();
        self.messages[id].nested = nested;
        for one in &message.enum_type {
            self.declare_enum(one, &name, enums);
        }
        id
    }

    fn declare_enum(&mut self, one: &EnumDescriptorProto, scope: &str, enums: &mut HashMap<String, usize>) {
        let name = within(scope, one.name());
        enums.insert(name.clone(), self.enums.len());
        let values = one.value.iter().map(|value| (value.number(), value.name().to_owned())).collect();
        self.enums.push(Enum { name, values });
    }

    fn define(
        &mut self,
        message: &DescriptorProto,
        scope: &str,
        syntax: &str,
        enums: &HashMap<String, usize>,
    ) -> Result<(), String> {
        let name = within(scope, message.name());
        let mut fields = message
            .field
            .iter()
            .map(|field| self.field(field, syntax, enums).map_err(|what| format!("field {}.{}: {what}", name, field.name())))
            .collect::<Result<Vec<_>, _>>()?;
        fields.sort_by_key(|field| field.number);
        let id = self.names[&name];
        self.messages[id].fields = fields;
        message.nested_type.iter().try_for_each(|nested| self.define(nested, &name, syntax, enums))
    }

    fn field(&self, field: &FieldDescriptorProto, syntax: &str, enums: &HashMap<String, usize>) -> Result<Field, String> {
        let type_name = field.type_name().trim_start_matches('.');
        let kind = match field.r#type() {
            Type::Double => FieldKind::Double,
            Type::Float => FieldKind::Float,
            Type::Int32 | Type::Int64 => FieldKind::Int,
            Type::Uint32 | Type::Uint64 => FieldKind::Uint,
            Type::Sint32 | Type::Sint64 => FieldKind::Sint,
            Type::Fixed32 => FieldKind::Fixed32,
            Type::Fixed64 => FieldKind::Fixed64,
            Type::Sfixed32 => FieldKind::Sfixed32,
            Type::Sfixed64 => FieldKind::Sfixed64,
            Type::Bool => FieldKind::Bool,
            Type::String => FieldKind::String,
            Type::Bytes => FieldKind::Bytes,
            Type::Group => FieldKind::Group,
            Type::Message => {
                let id = self.names.get(type_name);
                FieldKind::Message(*id.ok_or_else(|| format!("the message '{type_name}' is in none of the files"))?)
            }
            Type::Enum => {
                let id = enums.get(type_name);
                FieldKind::Enum(*id.ok_or_else(|| format!("the enum '{type_name}' is in none of the files"))?)
            }
        };
        let repeated = field.label() == Label::Repeated;
        let number = matches!(kind, FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) | FieldKind::Group);
        let packed = field.options.as_ref().and_then(|options| options.packed).unwrap_or(syntax == "proto3");
        let presence = !repeated
            && (syntax != "proto3"
                || field.proto3_optional()
                || field.oneof_index.is_some()
                || matches!(kind, FieldKind::Message(_) | FieldKind::Group));
        Ok(Field {
            name: field.name().to_owned(),
            number: u32::try_from(field.number()).map_err(|_| "its number is negative".to_owned())?,
            kind,
            wide: matches!(field.r#type(), Type::Int64 | Type::Uint64 | Type::Sint64 | Type::Fixed64 | Type::Sfixed64),
            required: field.label() == Label::Required,
            repeated,
            packed: repeated && packed && !number,
            presence,
            default: field.default_value.clone(),
        })
    }

    /// A message.
    pub fn message(&self, id: usize) -> &Message {
        &self.messages[id]
    }

    /// An enum.
    pub fn enumeration(&self, id: usize) -> &Enum {
        &self.enums[id]
    }

    /// The message of a name: with its package, or without it where that is not ambiguous.
    pub fn find(&self, name: &str) -> Option<usize> {
        if let Some(id) = self.names.get(name) {
            return Some(*id);
        }
        let mut same = (0..self.messages.len()).filter(|id| {
            let full = &self.messages[*id].name;
            full.strip_suffix(name).is_some_and(|scope| scope.ends_with('.'))
        });
        match (same.next(), same.next()) {
            (Some(id), None) => Some(id),
            _ => None,
        }
    }

    /// The message at a path: the number of a message in the file itself, then of one in that, and so on.
    pub fn at(&self, path: &[usize]) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        let first = *self.top.get(*first)?;
        rest.iter().try_fold(first, |id, at| {
            // Entries of maps are declared in a message, too, and are counted.
            self.messages[id].nested.get(*at).copied()
        })
    }

    /// The path that [`Messages::at`] takes to a message that stands in the file itself.
    pub fn path(&self, id: usize) -> Option<Vec<usize>> {
        fn below(all: &Messages, among: &[usize], id: usize) -> Option<Vec<usize>> {
            among.iter().enumerate().find_map(|(at, one)| match *one == id {
                true => Some(vec![at]),
                false => below(all, &all.messages[*one].nested, id).map(|path| [vec![at], path].concat()),
            })
        }
        below(self, &self.top, id)
    }

    /// The names of the messages that stand in the file itself.
    pub fn names(&self) -> Vec<&str> {
        self.top.iter().map(|id| self.messages[*id].name.as_str()).collect()
    }
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// A schema as files.
struct Texts(Schema);

impl FileResolver for Texts {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let reference = self.0.references.iter().find(|reference| reference.name == name);
        match (reference, name) {
            (Some(reference), _) => File::from_source(name, &reference.text),
            (None, ROOT) => File::from_source(name, &self.0.text),
            (None, name) => GoogleFileResolver::new().open_file(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Kind, Reference};

    fn schema(text: &str, references: &[(&str, &str)]) -> Schema {
        let references =
            references.iter().map(|(name, text)| Reference { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
        Schema { kind: Kind::Protobuf, text: text.to_owned(), references }
    }

    #[test]
    fn texts_are_compiled_with_what_they_import() {
        let text = r#"
            syntax = "proto3";
            package shop;
            import "money.proto";
            import "google/protobuf/timestamp.proto";
            message Order {
              message Line { string sku = 1; map<string, int64> counts = 2; }
              enum State { NEW = 0; PAID = 1; }
              repeated Line lines = 5;
              int64 id = 1;
              optional int32 maybe = 2;
              State state = 3;
              common.Money price = 4;
              google.protobuf.Timestamp at = 6;
              repeated sint32 numbers = 7;
            }
            message Other {}
        "#;
        let money = r#"syntax = "proto2"; package common; message Money { optional int64 units = 1 [default = 7]; repeated int32 parts = 2; }"#;
        let messages = Messages::compile(&schema(text, &[("money.proto", money)])).expect("it compiles");
        assert_eq!(messages.names(), ["shop.Order", "shop.Other"]);
        let order = messages.message(messages.at(&[0]).expect("the first"));
        let names: Vec<&str> = order.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["id", "maybe", "state", "price", "lines", "at", "numbers"]);
        let presence: Vec<bool> = order.fields.iter().map(|field| field.presence).collect();
        assert_eq!(presence, [false, true, false, true, false, true, false]);
        assert!(order.fields[6].packed && order.fields[6].repeated);
        let FieldKind::Enum(state) = order.fields[2].kind else { panic!("an enum") };
        assert_eq!(messages.enumeration(state).values, [(0, "NEW".to_owned()), (1, "PAID".to_owned())]);
        let line = messages.message(messages.at(&[0, 0]).expect("a nested one"));
        assert_eq!(line.name, "shop.Order.Line");
        let FieldKind::Message(entry) = line.fields[1].kind else { panic!("a map") };
        assert!(messages.message(entry).map_entry);
        let money = messages.message(messages.find("Money").expect("of its last name"));
        assert_eq!(money.fields[0].default.as_deref(), Some("7"));
        assert!(money.fields[0].presence && !money.fields[1].packed);
        for path in [&[0][..], &[1], &[0, 0]] {
            assert_eq!(messages.path(messages.at(path).expect("it is there")).as_deref(), Some(path));
        }
        assert_eq!(messages.path(messages.find("Money").expect("it is there")), None, "it stands in another file");
        assert!(messages.at(&[2]).is_none() && messages.at(&[0, 7]).is_none() && messages.find("Nobody").is_none());
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let error = Messages::compile(&schema("syntax = \"proto3\"; message A { B b = 1; }", &[])).expect_err("there is no B");
        assert!(error.contains('B'), "{error}");
        let error = Messages::compile(&schema("syntax = \"proto3\"; import \"x.proto\";", &[])).expect_err("there is no file");
        assert!(error.contains("x.proto"), "{error}");
        assert!(Messages::from_descriptor_set(b"\x0a\xff").is_err());
    }
}
