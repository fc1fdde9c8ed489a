//! `fields.<column>.<property>`: what the columns of made-up rows hold.

use std::str::FromStr;

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use highwater_plan::{Diagnostic, Field, OptionEntry, parse_duration};

use super::field::{Generator, Kind, RULES};
use crate::format::column::{Column, sql_type};
use crate::format::{text, time};
use crate::source::SourceSpec;

/// The options of each column, for people.
pub(super) const COLUMN_FIELDS: &[Field] = &[
    Field { key: "fields.<column>.kind", about: "sequence, random, choice or now; by default now for times, random for others" },
    Field { key: "fields.<column>.start", about: "first value of a sequence: a number or a time; default 0" },
    Field {
        key: "fields.<column>.step",
        about: "between two values of a sequence: a number or a length of time; default 1, '1 s'",
    },
    Field { key: "fields.<column>.min", about: "smallest random number; default 0" },
    Field { key: "fields.<column>.max", about: "largest random number; default 999, or 1 for REAL and DOUBLE" },
    Field { key: "fields.<column>.length", about: "letters of a random text, most items of a list; default 10, 3" },
    Field { key: "fields.<column>.values", about: "what to choose from, with commas between" },
    Field {
        key: "fields.<column>.skew",
        about: "how much low numbers and first choices are preferred (Zipf's exponent); default 0",
    },
    Field { key: "fields.<column>.null_fraction", about: "how many values are NULL, from 0 to 1; default 0" },
    Field { key: "fields.<column>.max_delay", about: "how late a time may be, at random: rows come out of order; default none" },
];

const PROPERTIES: [&str; 10] = ["kind", "start", "step", "min", "max", "length", "values", "skew", "null_fraction", "max_delay"];

/// The options of one column.
struct Properties<'a> {
    spec: &'a SourceSpec,
    field: &'a FieldRef,
    /// Its name, with the structs it is in.
    path: String,
    entries: Vec<(&'a str, &'a OptionEntry)>,
}

/// Makes the generators of all physical columns.
pub(super) fn generators(spec: &SourceSpec, seed: u64) -> Result<Vec<Generator>, Diagnostic> {
    let mut used = vec![false; spec.options.entries.len()];
    let mut generators = Vec::new();
    for (index, field) in spec.schema.fields().iter().enumerate() {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        generators.push(generator(spec, field, field.name().clone(), seed, &mut used)?);
    }
    for (entry, used) in spec.options.entries.iter().zip(used) {
        if entry.key.starts_with("fields.") && !used {
            let columns: Vec<&str> = spec.schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Diagnostic::error("unknown-option", format!("unknown option '{}' for connector 'datagen'", entry.key))
                .at(entry.key_span.or(spec.options.span))
                .help(format!(
                    "fields.<column>.<property>, where <column> is one of {} and <property> one of {}",
                    columns.join(", "),
                    PROPERTIES.join(", ")
                )));
        }
    }
    Ok(generators)
}

fn generator(spec: &SourceSpec, field: &FieldRef, path: String, seed: u64, used: &mut [bool]) -> Result<Generator, Diagnostic> {
    let mut entries = Vec::new();
    for (index, entry) in spec.options.entries.iter().enumerate() {
        let property = entry.key.strip_prefix("fields.").and_then(|key| key.strip_prefix(path.as_str()));
        if let Some(property) = property.and_then(|property| property.strip_prefix('.'))
            && PROPERTIES.contains(&property)
        {
            used[index] = true;
            entries.push((property, entry));
        }
    }
    let children: Vec<&FieldRef> = match field.data_type() {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::List(item) => vec![item],
        _ => Vec::new(),
    };
    let children = children.into_iter().enumerate().map(|(index, child)| {
        let seed = seed.rotate_left(17).wrapping_add(index as u64 + 1).wrapping_mul(0x94d0_49bb_1331_11eb);
        generator(spec, child, format!("{path}.{}", child.name()), seed, used)
    });
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let properties = Properties { spec, field, path, entries };
    let null_fraction = properties.number("null_fraction", "a number from 0 to 1")?.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&null_fraction) {
        return Err(properties.invalid("null_fraction", "a number from 0 to 1"));
    }
    if null_fraction > 0.0 && !field.is_nullable() {
        return Err(properties.invalid("null_fraction", "0: the column is NOT NULL"));
    }
    Ok(Generator { kind: properties.kind()?, null_fraction, seed, children })
}

impl Properties<'_> {
    fn kind(&self) -> Result<Kind, Diagnostic> {
        let data_type = self.field.data_type();
        let timed = matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Time32(_) | DataType::Time64(_));
        let kind = match self.get("kind") {
            Some(kind) => kind,
            None if self.get("values").is_some() => "choice",
            None if self.get("start").is_some() || self.get("step").is_some() => "sequence",
            None if timed => "now",
            None => "random",
        };
        match kind {
            "choice" => self.choice(),
            "now" if timed => Ok(Kind::Now { max_delay_us: self.duration_us("max_delay")?.unwrap_or(0) }),
            "sequence" if timed => Ok(Kind::Sequence {
                start: match self.get("start") {
                    Some(start) => time::parse_timestamp(start.as_bytes(), TimeUnit::Microsecond)
                        .ok_or_else(|| self.invalid("start", "a time such as '2024-05-01 12:00:00'"))?,
                    None => 0,
                },
                step: self.duration_us("step")?.unwrap_or(1_000_000),
                max_delay_us: self.duration_us("max_delay")?.unwrap_or(0),
            }),
            "sequence" if numeric(data_type) || *data_type == DataType::Utf8 => Ok(Kind::Sequence {
                start: self.number("start", "a whole number")?.unwrap_or(0),
                step: self.number("step", "a whole number")?.unwrap_or(1),
                max_delay_us: 0,
            }),
            "random" => self.random(),
            "now" | "sequence" => {
                Err(self.invalid("kind", format!("another kind: column '{}' is {}", self.path, sql_type(data_type))))
            }
            _ => Err(self.invalid("kind", "sequence, random, choice or now")),
        }
    }

    fn random(&self) -> Result<Kind, Diagnostic> {
        let skew = self.skew()?;
        Ok(match self.field.data_type() {
            DataType::Boolean => Kind::Boolean,
            DataType::Float32 | DataType::Float64 => self.real(1.0)?,
            DataType::Decimal128(precision, scale) => {
                // Below what the column's digits can hold.
                let limit = 10_f64.powi(i32::from(*precision) - i32::from(*scale));
                self.real(999.0_f64.min(limit * 0.99))?
            }
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView => Kind::Letters { length: self.number("length", "a number of letters")?.unwrap_or(10) },
            DataType::Struct(_) => Kind::Row,
            DataType::List(_) => Kind::Items { length: self.number("length", "a number of items")?.unwrap_or(3) },
            data_type if numeric(data_type) => {
                let (lowest, highest) = range(data_type);
                let min = self.number("min", "a whole number")?.unwrap_or(0);
                let max = self.number("max", "a whole number")?.unwrap_or(999.max(min).min(highest));
                if max > highest {
                    return Err(self.invalid("max", format!("a whole number up to {highest}")));
                }
                if min > max || min < lowest {
                    return Err(self.invalid("min", format!("a whole number from {lowest} to {max}")));
                }
                Kind::Integer { min, max, skew }
            }
            DataType::Timestamp(..) | DataType::Date32 => {
                return Err(self.invalid("kind", "now, sequence or choice for a column of times"));
            }
            DataType::Time32(_) | DataType::Time64(_) => Kind::Integer { min: 0, max: 86_399_999_999, skew },
            other => {
                let message =
                    format!("connector 'datagen' cannot make values of column '{}', which is {}", self.path, sql_type(other));
                return Err(Diagnostic::error("unsupported-type", message).at(self.spec.options.span));
            }
        })
    }

    fn real(&self, default_max: f64) -> Result<Kind, Diagnostic> {
        let min: f64 = self.number("min", "a number")?.unwrap_or(0.0);
        let max: f64 = self.number("max", "a number")?.unwrap_or(default_max.max(min));
        if min.is_nan() || max.is_nan() || min > max {
            return Err(self.invalid("min", format!("a number up to {max}")));
        }
        Ok(Kind::Real { min, max })
    }

    fn choice(&self) -> Result<Kind, Diagnostic> {
        let values: Vec<String> = self
            .get("values")
            .map(|values| values.split(',').map(|value| value.trim().to_string()).collect())
            .unwrap_or_default();
        if values.is_empty() {
            return Err(Diagnostic::error(
                "missing-option",
                format!("connector 'datagen' needs the option 'fields.{}.values'", self.path),
            )
            .at(self.spec.options.span)
            .help("list what to choose from, with commas between"));
        }
        let column = Column::new(self.field.clone());
        let mut column = column.map_err(|_| self.invalid("kind", "another kind for a column of this type"))?;
        for value in &values {
            text::push(&mut column, value.as_bytes(), &RULES).map_err(|what| self.invalid("values", what))?;
        }
        Ok(Kind::Choice { values, skew: self.skew()? })
    }

    fn skew(&self) -> Result<f64, Diagnostic> {
        let skew: f64 = self.number("skew", "a number from 0")?.unwrap_or(0.0);
        if skew >= 0.0 { Ok(skew) } else { Err(self.invalid("skew", "a number from 0")) }
    }

    fn get(&self, property: &str) -> Option<&str> {
        self.entry(property).map(|entry| entry.value.as_str())
    }

    fn entry(&self, property: &str) -> Option<&OptionEntry> {
        self.entries.iter().find(|(name, _)| *name == property).map(|(_, entry)| *entry)
    }

    fn number<T: FromStr>(&self, property: &str, expected: &str) -> Result<Option<T>, Diagnostic> {
        let Some(value) = self.get(property) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| self.invalid(property, expected))
    }

    fn duration_us(&self, property: &str) -> Result<Option<i64>, Diagnostic> {
        let Some(value) = self.get(property) else { return Ok(None) };
        let duration =
            parse_duration(value).ok_or_else(|| self.invalid(property, "a length of time such as '500 ms' or '10 s'"))?;
        Ok(Some(duration.as_micros() as i64))
    }

    fn invalid(&self, property: &str, expected: impl std::fmt::Display) -> Diagnostic {
        let value = self.get(property).unwrap_or_default();
        let message = format!("option 'fields.{}.{property}' of connector 'datagen' cannot be '{value}'", self.path);
        let place = self.entry(property).and_then(|entry| entry.value_span).or(self.spec.options.span);
        Diagnostic::error("invalid-option", message).at(place).help(format!("expected {expected}"))
    }
}

fn numeric(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating() || matches!(data_type, DataType::Decimal128(..))
}

fn range(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}
