//! Avro into columns: rows, or changes as Debezium has them, each in the schema of its writer.
//!
//! A schema is read and resolved against the columns once ([`resolve`]); then its rows go straight from bytes into columns
//! ([`read`]). The crates that there are were looked at: `apache-avro` makes a tree of every row, and `arrow-avro` gives up a
//! batch for one bad row in it.

pub(crate) mod read;
pub(crate) mod resolve;
pub(crate) mod schema;

use highwater_schemas::Kind;

use self::resolve::{Misfit, Plan, Target};
use self::schema::Schema;
use super::DecoderSpec;
use super::column::{Column, Unsupported};
use super::rows::Rows;
use super::schemas::{Plans, Readiness, Whence};
use super::text::Rules;
use crate::source::Waker;

/// Decodes Avro into columns.
#[derive(Debug)]
pub(crate) struct AvroDecoder {
    rows: Rows,
    /// Whether records are changes.
    changes: bool,
    target: Target,
    values: Plans<Plan>,
    /// How keys are decoded, if they are Avro.
    keys: Option<Plans<Plan>>,
}

impl AvroDecoder {
    pub(crate) fn new(
        spec: &DecoderSpec,
        changes: bool,
        rules: Rules,
        values: Whence,
        keys: Option<Whence>,
    ) -> Result<AvroDecoder, Unsupported> {
        Ok(AvroDecoder {
            rows: Rows::new(spec, None, rules, changes)?,
            changes,
            target: target(spec, &rules),
            values: Plans::new(values, Kind::Avro),
            keys: keys.map(|keys| Plans::new(keys, Kind::Avro)),
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether the schemas of a message are known.
    #[inline]
    pub(crate) fn readiness(&self, value: Option<&[u8]>, key: Option<&[u8]>, waker: &Waker) -> Readiness {
        match (value, key, &self.keys) {
            (Some(value), ..) => self.values.readiness(value, waker),
            (None, Some(key), Some(keys)) => keys.readiness(key, waker),
            _ => Readiness::Ready,
        }
    }

    /// Decodes a message.
    pub(crate) fn decode(&mut self, message: &[u8]) -> Result<(), String> {
        let (target, changes) = (&self.target, self.changes);
        let (plan, start) =
            self.values.of(message, |schema| resolve(schema, target, changes).map_err(|misfit| misfit.to_string()))?;
        let rows = self.rows.len();
        read::read(plan, message, start, &mut self.rows).map_err(|fault| {
            self.rows.truncate(rows);
            fault.to_string()
        })
    }

    /// Deletes a key's row; `None`: keys are not Avro.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Result<(), String>> {
        self.keys.is_some().then(|| self.delete_by_record(key))
    }

    fn delete_by_record(&mut self, key: &[u8]) -> Result<(), String> {
        let keys = self.keys.as_mut().expect("the caller looked");
        let (target, columns) = (&self.target, self.rows.key());
        let (plan, start) = keys.of(key, |schema| {
            let target = Target { key_only: Some(columns.to_vec()), refuses_unknown: false, ..target.clone() };
            resolve(schema, &target, false).map_err(|misfit| misfit.to_string())
        })?;
        let rows = self.rows.len();
        read::read_key(plan, key, start, &mut self.rows).map_err(|fault| {
            self.rows.truncate(rows);
            format!("key: {fault}")
        })
    }

    pub(crate) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    pub(crate) fn take(&mut self) -> (&mut [Column], Option<Vec<i64>>) {
        self.rows.take()
    }
}

/// The columns that a decoder of `spec` fills.
pub(crate) fn target(spec: &DecoderSpec, rules: &Rules) -> Target {
    let fields = spec.schema.fields().iter().enumerate();
    let columns = fields.map(|(index, field)| (field.clone(), spec.used.iter().position(|used| *used == index)));
    Target {
        columns: columns.collect(),
        defaults: spec.defaults.iter().map(Option::is_some).collect(),
        refuses_unknown: rules.refuses_unknown,
        key_only: None,
    }
}

/// How messages of a schema are read; errors say what does not fit.
pub(crate) fn resolve(schema: &highwater_schemas::Schema, target: &Target, changes: bool) -> Result<Plan, Misfit> {
    let references: Vec<&str> = schema.references.iter().map(|reference| reference.text.as_str()).collect();
    let schema = Schema::parse(&references, &schema.text).map_err(|what| Misfit {
        column: String::new(),
        what: format!("the schema is not understood: {what}"),
        help: "register one that is Avro".to_owned(),
    })?;
    if changes { Plan::changes(schema, target) } else { Plan::rows(schema, target) }
}

#[cfg(test)]
pub(crate) mod tests;
