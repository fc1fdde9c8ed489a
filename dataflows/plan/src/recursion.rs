//! Recursive queries: relations defined by themselves.
//!
//! All bindings of a recursion start empty. In each step every one is computed anew from the inputs and from the bindings of
//! the step before; when a step changes nothing, that is the result. It is the result as of every epoch, for whatever the
//! inputs hold then: a row that holds up itself, and is held up by nothing else any more, goes.

use arrow::datatypes::SchemaRef;

use crate::{NodeId, Plan};

/// Relations that are defined by themselves and by each other.
#[derive(Debug, Clone)]
pub struct Recursion {
    /// What depends on the bindings. Its leaves are [`crate::Op::Entry`] and [`crate::Op::Binding`].
    pub body: Plan,
    /// The relations.
    pub bindings: Vec<Binding>,
    /// How many steps there may be.
    pub limit: u64,
    /// What happens when there are still changes after them.
    pub at_limit: AtLimit,
}

/// One relation of a recursion.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Its name, for people.
    pub name: String,
    /// The node of the body that computes it.
    pub root: NodeId,
    /// Its columns.
    pub schema: SchemaRef,
}

/// What happens when a recursion has not come to an end after as many steps as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtLimit {
    /// The job stops and says so.
    Fail,
    /// What the last step has given is the result.
    Return,
}
