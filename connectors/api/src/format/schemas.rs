//! Which schema a message is written in: the one that its first bytes name in a registry, or the same for all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use highwater_plan::{Diagnostic, Field, OptionReader};
use highwater_schemas::{Answer, Credentials, Kind, Registry, RegistryConfig, RegistryError, Schema, Schemas};

use crate::resolved;
use crate::source::Waker;

/// The options that say where a registry is.
pub(crate) const REGISTRY_FIELDS: &[Field] = &[
    Field { key: "schema_registry", about: "http://host:port of a schema registry, several separated by commas" },
    Field { key: "schema_registry.user", about: "who asks the registry" },
    Field { key: "schema_registry.password", about: "the user's password" },
    Field { key: "schema_registry.token", about: "a bearer token, instead of a user" },
    Field { key: "schema_registry.subject", about: "the subject of the messages' values; default <topic>-value" },
    Field { key: "schema_registry.key_subject", about: "the subject of the messages' keys; default <topic>-key" },
    Field { key: "schema_registry.timeout", about: "how long an answer may take; default 5 s" },
    Field { key: "schema_registry.ca", about: "file of certificates (PEM) to trust" },
];

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A registry, and the names of what is in it.
#[derive(Clone)]
pub(crate) struct Subjects {
    pub(crate) schemas: Arc<Schemas>,
    value: Option<String>,
    key: Option<String>,
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subjects").field("registry", &self.schemas.registry().name()).finish_non_exhaustive()
    }
}

impl Subjects {
    /// Reads where the registry is; `None` without one.
    pub(crate) fn from_options(reader: &OptionReader<'_>) -> Result<Option<Subjects>, Diagnostic> {
        let Some(urls) = reader.optional("schema_registry") else {
            let without = REGISTRY_FIELDS.iter().find(|field| reader.optional(field.key).is_some());
            return match without {
                Some(field) => Err(reader.invalid(field.key, "an option 'schema_registry' beside it: where the registry is")),
                None => Ok(None),
            };
        };
        let place = reader.entry("schema_registry").and_then(|entry| entry.value_span);
        let option = |key: &str| reader.entry(key).map(|entry| Ok(resolved(entry, place)?.into_owned())).transpose();
        let (user, token) = (option("schema_registry.user")?, option("schema_registry.token")?);
        let credentials = match (user, token) {
            (Some(_), Some(_)) => return Err(reader.invalid("schema_registry.user", "a user or a token, not both")),
            (Some(user), None) => Some(Credentials::Basic(user, option("schema_registry.password")?.unwrap_or_default())),
            (None, token) => token.map(Credentials::Bearer),
        };
        let ca = reader.optional("schema_registry.ca").map(|path| {
            std::fs::read(path).map_err(|error| reader.invalid("schema_registry.ca", format!("a file that can be read: {error}")))
        });
        let timeout = reader.duration("schema_registry.timeout")?.unwrap_or(TIMEOUT);
        if timeout.is_zero() {
            return Err(reader.invalid("schema_registry.timeout", "more than nothing"));
        }
        let config =
            RegistryConfig { urls: urls.split(',').map(str::to_owned).collect(), credentials, timeout, ca: ca.transpose()? };
        // What stands there may have a password in it.
        let registry = Registry::new(config).map_err(|what| {
            let place = reader.invalid("schema_registry", "");
            Diagnostic { message: format!("option 'schema_registry' is no address of a registry: {what}"), ..place }
                .help("say schema_registry = 'http://host:port'")
        })?;
        let named = |key: &str| match reader.optional(key) {
            Some("") => Err(reader.invalid(key, "the name of a subject")),
            name => Ok(name.map(str::to_owned)),
        };
        Ok(Some(Subjects {
            schemas: Arc::new(Schemas::new(registry)),
            value: named("schema_registry.subject")?,
            key: named("schema_registry.key_subject")?,
        }))
    }

    pub(crate) fn value(&self, topic: &str) -> String {
        self.value.clone().unwrap_or_else(|| format!("{topic}-value"))
    }

    pub(crate) fn key(&self, topic: &str) -> String {
        self.key.clone().unwrap_or_else(|| format!("{topic}-key"))
    }

    /// The latest schema of a subject, if there is one; `Err`: the registry does not tell this user.
    pub(crate) fn latest(&self, subject: &str) -> Result<Latest, String> {
        match self.schemas.registry().latest(subject) {
            Ok(latest) => Ok(Latest::Known(latest.id, latest.schema)),
            Err(RegistryError::Unreachable(why)) => Ok(Latest::Silent(why)),
            Err(RegistryError::Unknown(_)) => Ok(Latest::None),
            Err(RegistryError::Forbidden(why) | RegistryError::Refused(why)) => Err(why),
        }
    }
}

/// What a registry says of a subject.
pub(crate) enum Latest {
    /// The id and the schema of its latest version.
    Known(u32, Schema),
    /// There is no such subject.
    None,
    /// Nothing: it does not answer.
    Silent(String),
}

/// Whether a message can be decoded now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can, or never will.
    Ready,
    /// Its schema is asked for; the waker is called.
    Waiting,
    /// Its schema is asked for again and again: what went wrong last.
    Failed(String),
}

/// Where messages' schemas come from.
#[derive(Debug, Clone)]
pub(crate) enum Whence {
    /// Each message has a zero byte and the id of its schema in front.
    Registry(Subjects),
    /// All have this one, and nothing in front.
    Fixed(Arc<Schema>),
}

/// What was made of each schema that was met: how its messages are decoded.
pub(crate) struct Plans<P> {
    whence: Whence,
    kind: Kind,
    /// By the schema's id; 0 if all have the same.
    plans: HashMap<u32, Result<P, String>, RandomState>,
}

impl<P> fmt::Debug for Plans<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plans").field("whence", &self.whence).finish_non_exhaustive()
    }
}

/// How many plans are kept: a topic has few, but bytes that are no messages may name any.
const PLANS_MAX: usize = 1_000;

impl<P> Plans<P> {
    pub(crate) fn new(whence: Whence, kind: Kind) -> Plans<P> {
        Plans { whence, kind, plans: HashMap::default() }
    }

    /// Whether the message's schema is known.
    #[inline]
    pub(crate) fn readiness(&self, message: &[u8], waker: &Waker) -> Readiness {
        let Whence::Registry(subjects) = &self.whence else { return Readiness::Ready };
        match id(message) {
            Ok(id) if !self.plans.contains_key(&id) => match subjects.schemas.get(id, waker) {
                Answer::Known(_) | Answer::Unknown(_) => Readiness::Ready,
                Answer::Coming => Readiness::Waiting,
                Answer::Failed(why) => Readiness::Failed(why),
            },
            _ => Readiness::Ready,
        }
    }

    /// How the message is decoded, and where what it has in front ends. `make` makes a plan of a schema.
    #[inline]
    pub(crate) fn of(
        &mut self,
        message: &[u8],
        make: impl FnOnce(&Schema) -> Result<P, String>,
    ) -> Result<(&mut P, usize), String> {
        let (id, start) = match &self.whence {
            Whence::Registry(_) => (id(message)?, PREFIX_BYTES),
            Whence::Fixed(_) => (0, 0),
        };
        if !self.plans.contains_key(&id) {
            let plan = self.plan(id, make)?;
            if self.plans.len() >= PLANS_MAX {
                self.plans.clear();
            }
            self.plans.insert(id, plan);
        }
        match self.plans.get_mut(&id).expect("it was just made") {
            Ok(plan) => Ok((plan, start)),
            Err(why) => Err(why.clone()),
        }
    }

    /// What is made of a schema; errors are not kept, plans that cannot be are.
    fn plan(&self, id: u32, make: impl FnOnce(&Schema) -> Result<P, String>) -> Result<Result<P, String>, String> {
        let schema = match &self.whence {
            Whence::Fixed(schema) => return Ok(make(schema)),
            Whence::Registry(subjects) => match subjects.schemas.known(id) {
                Some(Ok(schema)) => schema,
                Some(Err(why)) => return Err(format!("schema {id} is not in the registry: {why}")),
                None => return Err(format!("schema {id} was not asked for")),
            },
        };
        if schema.kind != self.kind {
            return Ok(Err(format!("schema {id} is {:?}, not {:?}", schema.kind, self.kind)));
        }
        Ok(make(&schema).map_err(|why| format!("schema {id}: {why}")))
    }
}

/// Bytes in front of a message whose schema is in a registry.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The id in front of a message.
#[inline]
fn id(message: &[u8]) -> Result<u32, String> {
    match message {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(format!(
            "expected a zero byte and the id of a schema in front, found '{}'",
            super::text::excerpt(&message[..message.len().min(PREFIX_BYTES)])
        )),
    }
}
