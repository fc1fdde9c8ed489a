//! Where the schemas of messages come from: a schema registry; and what those of Protobuf say.
//!
//! [`Registry`] asks, and waits for the answer. [`Schemas`] is for those who must not wait: it knows what was asked for before,
//! and a thread of its own asks for the rest.

mod cache;
mod http;
mod proto;
mod registry;

pub use cache::{Answer, Schemas, Waker};
pub use http::{Credentials, RegistryConfig};
pub use proto::{Enum, Field, FieldKind, Message, Messages};
pub use registry::{Kind, Reference, Registered, Registry, RegistryError, Schema};
