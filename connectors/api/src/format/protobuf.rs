//! Protobuf into columns: a message is a row.
//!
//! The fields of a message type are resolved against the columns once ([`resolve`]); then messages go straight from bytes into
//! columns ([`read`]). A field that a message does not have is its column's DEFAULT, or its own default, or NULL; one whose
//! absence cannot be told (proto3 without `optional`) is its zero.

pub(crate) mod read;
pub(crate) mod resolve;

use highwater_schemas::{Kind, Messages, Schema};

use self::resolve::Plan;
use super::DecoderSpec;
use super::avro::resolve::{Misfit, Target};
use super::column::{Column, Unsupported};
use super::rows::Rows;
use super::schemas::{Plans, Readiness};
use super::text::Rules;
use crate::source::Waker;

/// Decodes messages of Protobuf into columns.
#[derive(Debug)]
pub(crate) struct ProtobufDecoder {
    rows: Rows,
    target: Target,
    /// Which message, if the statement says so.
    name: Option<String>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// All messages are this one.
    Fixed(Box<Plan>),
    /// Of each schema the messages, and the plans of those that were met, by their path.
    Registry(Plans<Met>),
}

#[derive(Debug)]
struct Met {
    messages: Messages,
    plans: Vec<(Vec<usize>, Result<Plan, String>)>,
}

/// How deep messages of a schema may be nested in each other where one is named.
const PATH_MAX: usize = 32;

impl ProtobufDecoder {
    pub(crate) fn new(spec: &DecoderSpec, rules: Rules, messages: &super::messages::Messages) -> Result<Self, Unsupported> {
        let target = super::avro::target(spec, &rules);
        let name = messages.protobuf_message.clone();
        let source = match (&messages.protobuf, &messages.values) {
            (Some(all), _) => {
                let plan = expected(all, name.as_deref()).and_then(|id| Plan::new(all, id, &target));
                // Whether it fits is looked at when the source is opened.
                Source::Fixed(Box::new(plan.unwrap_or_else(|misfit| Plan::refusing(misfit.to_string()))))
            }
            (None, whence) => {
                let whence = whence.clone().expect("messages of Protobuf have schemas from somewhere");
                Source::Registry(Plans::new(whence, Kind::Protobuf))
            }
        };
        Ok(ProtobufDecoder { rows: Rows::new(spec, None, rules, false)?, target, name, source })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether the schema of a message is known.
    #[inline]
    pub(crate) fn readiness(&self, value: Option<&[u8]>, waker: &Waker) -> Readiness {
        match (&self.source, value) {
            (Source::Registry(plans), Some(value)) => plans.readiness(value, waker),
            _ => Readiness::Ready,
        }
    }

    /// Decodes a message.
    pub(crate) fn decode(&mut self, message: &[u8]) -> Result<(), String> {
        let rows = self.rows.len();
        let (plan, start) = match &mut self.source {
            Source::Fixed(plan) => (&**plan, 0),
            Source::Registry(plans) => {
                let (met, start) = plans.of(message, compiled)?;
                let (path, start) = path(message, start)?;
                (met.plan(path, self.name.as_deref(), &self.target)?, start)
            }
        };
        read::read(plan, message, start, &mut self.rows).map_err(|fault| {
            self.rows.truncate(rows);
            fault.to_string()
        })
    }

    pub(crate) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    pub(crate) fn take(&mut self) -> (&mut [Column], Option<Vec<i64>>) {
        self.rows.take()
    }
}

fn compiled(schema: &Schema) -> Result<Met, String> {
    let messages = Messages::compile(schema).map_err(|what| format!("it is not understood: {what}"))?;
    Ok(Met { messages, plans: Vec::new() })
}

impl Met {
    fn plan(&mut self, path: Vec<usize>, name: Option<&str>, target: &Target) -> Result<&Plan, String> {
        let at = match self.plans.iter().position(|(known, _)| *known == path) {
            Some(at) => at,
            None => {
                let plan = match self.messages.at(&path) {
                    None => return Err(format!("its schema has no message at {path:?}")),
                    Some(id) => {
                        let own = &self.messages.message(id).name;
                        match name {
                            Some(name) if self.messages.find(name) != Some(id) => {
                                Err(format!("the message is '{own}', not '{name}'"))
                            }
                            _ => Plan::new(&self.messages, id, target).map_err(|misfit| misfit.to_string()),
                        }
                    }
                };
                self.plans.push((path, plan));
                self.plans.len() - 1
            }
        };
        self.plans[at].1.as_ref().map_err(Clone::clone)
    }
}

/// Which message of its schema a message is: numbers, outermost first, after how many there are; and where they end.
fn path(message: &[u8], start: usize) -> Result<(Vec<usize>, usize), String> {
    let mut cursor = super::avro::read::Cursor::new(message, start);
    let mut number = || cursor.long().map_err(|_| "the message ends within the path of its type".to_owned());
    let count = number()?;
    // The first message of the file has the shorter name of no path at all.
    if count == 0 {
        return Ok((vec![0], cursor.at()));
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= PATH_MAX);
    let count = count.ok_or("the path of the message's type is longer than any")?;
    let mut path = Vec::with_capacity(count);
    for _ in 0..count {
        path.push(usize::try_from(number()?).map_err(|_| "the path of the message's type has a negative number".to_owned())?);
    }
    Ok((path, cursor.at()))
}

/// The message that all of a schema are: the one that is named, or the only one.
pub(crate) fn expected(messages: &Messages, name: Option<&str>) -> Result<usize, Misfit> {
    let misfit = |what: String| {
        let help = format!("say protobuf.message = '...': one of {}", messages.names().join(", "));
        Misfit { column: String::new(), what, help }
    };
    match (name, &messages.names()[..]) {
        (Some(name), _) => messages.find(name).ok_or_else(|| misfit(format!("there is no message '{name}'"))),
        (None, [_]) => messages.at(&[0]).ok_or_else(|| misfit("there is no message".to_owned())),
        (None, names) => Err(misfit(format!("there are {} messages", names.len()))),
    }
}

/// Looks whether the columns of `spec` fit the messages of a schema.
pub(crate) fn check(messages: &Messages, name: Option<&str>, target: &Target) -> Result<(), Misfit> {
    Plan::new(messages, expected(messages, name)?, target).map(drop)
}

#[cfg(test)]
mod tests;
