//! A schema registry as Confluent's protocol has it, which Apicurio, Karapace and Redpanda speak as well.

use serde::Deserialize;
use serde_json::json;

use crate::http::{Client, RegistryConfig, segment};

/// How many schemas one schema may refer to, directly or not.
const REFERENCES_MAX: usize = 256;

/// Asks a registry, and waits for the answer.
pub struct Registry {
    client: Client,
}

/// What language a schema is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Avro: JSON.
    Avro,
    /// Protobuf: the text of a `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Avro => "AVRO",
            Kind::Protobuf => "PROTOBUF",
            Kind::Json => "JSON",
        }
    }
}

/// A schema with everything that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The language of all of it.
    pub kind: Kind,
    /// The schema.
    pub text: String,
    /// What it refers to, directly or not, those first that others refer to.
    pub references: Vec<Reference>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name that it is referred to by: what a `.proto` file imports.
    pub name: String,
    /// The schema.
    pub text: String,
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What messages name the schema by.
    pub id: u32,
    /// The version.
    pub version: u32,
    /// The schema.
    pub schema: Schema,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers, or nothing that can be understood: this may pass.
    #[error("{0}")]
    Unreachable(String),
    /// The registry does not tell this user.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such subject, version or schema.
    #[error("{0}")]
    Unknown(String),
    /// The registry does not take this schema: it is incompatible with another one, or no schema.
    #[error("{0}")]
    Refused(String),
}

/// A schema in an answer.
#[derive(Deserialize)]
struct Answer {
    id: Option<u32>,
    version: Option<u32>,
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Pointer>,
}

#[derive(Deserialize)]
struct Pointer {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl Registry {
    /// A registry at an address; nothing is asked yet. Errors: what is wrong with the address.
    pub fn new(config: RegistryConfig) -> Result<Registry, String> {
        Ok(Registry { client: Client::new(config)? })
    }

    /// Its address, for people.
    pub fn name(&self) -> String {
        self.client.name()
    }

    /// The schema that messages name by `id`.
    pub fn schema(&self, id: u32) -> Result<Schema, RegistryError> {
        let answer: Answer = self.client.get(&format!("/schemas/ids/{id}"))?;
        self.complete(answer)
    }

    /// The latest version of a subject.
    pub fn latest(&self, subject: &str) -> Result<Registered, RegistryError> {
        let answer: Answer = self.client.get(&format!("/subjects/{}/versions/latest", segment(subject)))?;
        let (id, version) = answer.id.zip(answer.version).ok_or_else(|| self.odd("a version without id or number"))?;
        Ok(Registered { id, version, schema: self.complete(answer)? })
    }

    /// Makes a schema the latest version of a subject, unless it is one already; its id.
    pub fn register(&self, subject: &str, schema: &Schema) -> Result<u32, RegistryError> {
        let id: Id = self.client.post(&format!("/subjects/{}/versions", segment(subject)), &body(schema))?;
        Ok(id.id)
    }

    /// The id of a schema that is a version of a subject.
    pub fn find(&self, subject: &str, schema: &Schema) -> Result<u32, RegistryError> {
        let id: Id = self.client.post(&format!("/subjects/{}", segment(subject)), &body(schema))?;
        Ok(id.id)
    }

    /// Whether a schema could be registered: what speaks against it; nothing of a subject that there is not.
    pub fn objections(&self, subject: &str, schema: &Schema) -> Result<Vec<String>, RegistryError> {
        let path = format!("/compatibility/subjects/{}/versions/latest?verbose=true", segment(subject));
        match self.client.post::<Verdict>(&path, &body(schema)) {
            Ok(Verdict { is_compatible: true, .. }) | Err(RegistryError::Unknown(_)) => Ok(Vec::new()),
            Ok(Verdict { messages, .. }) if messages.is_empty() => Ok(vec!["it is not compatible".to_owned()]),
            Ok(Verdict { messages, .. }) => Ok(messages),
            Err(error) => Err(error),
        }
    }

    fn complete(&self, answer: Answer) -> Result<Schema, RegistryError> {
        let kind = match answer.kind.as_deref() {
            None | Some("AVRO") => Kind::Avro,
            Some("PROTOBUF") => Kind::Protobuf,
            Some("JSON") => Kind::Json,
            Some(other) => return Err(self.odd(&format!("a schema of type {other}"))),
        };
        let mut references = Vec::new();
        self.follow(answer.references, &mut references, 0)?;
        Ok(Schema { kind, text: answer.schema, references })
    }

    fn follow(&self, pointers: Vec<Pointer>, into: &mut Vec<Reference>, depth: usize) -> Result<(), RegistryError> {
        for Pointer { name, subject, version } in pointers {
            if into.iter().any(|known| known.name == name) {
                continue;
            }
            if depth > 32 || into.len() >= REFERENCES_MAX {
                return Err(self.odd("a schema that refers to more others than are followed"));
            }
            let answer: Answer = self.client.get(&format!("/subjects/{}/versions/{version}", segment(&subject)))?;
            self.follow(answer.references, into, depth + 1)?;
            into.push(Reference { name, text: answer.schema });
        }
        Ok(())
    }

    fn odd(&self, what: &str) -> RegistryError {
        RegistryError::Unreachable(format!("schema registry {}: it answered with {what}", self.name()))
    }
}

fn body(schema: &Schema) -> serde_json::Value {
    json!({ "schema": schema.text, "schemaType": schema.kind.name() })
}
