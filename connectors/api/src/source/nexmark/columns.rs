//! Events into the columns that a statement declares, whichever those are.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use highwater_plan::Diagnostic;

use super::event::{self, Event, Field, Holds, Kind};
use crate::format::column::{Column, Values, sql_type};

/// Columns under construction.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<(Part, Column)>,
    /// The only kind that gives rows; none if all do.
    kind: Option<Kind>,
    /// How deep events of each kind must be drawn; by kind.
    depths: [u8; 3],
    event: Event,
    rows: usize,
}

/// What a column holds.
#[derive(Debug)]
enum Part {
    /// 0, 1 or 2.
    EventType,
    /// The fields of events of a kind, null for others.
    Struct(Kind, Vec<Field>),
    /// A field of the only kind.
    Flat(Field),
}

impl Columns {
    /// Columns of a schema, matched by name; case and underscores make no difference.
    ///
    /// Errors: a column that the stream does not have, or not with this type.
    pub(super) fn new(schema: &SchemaRef, kind: Option<Kind>) -> Result<Columns, Diagnostic> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut depths = [0; 3];
        for declared in schema.fields() {
            let part = match kind {
                Some(kind) => Part::Flat(flat(kind, declared.name(), declared.data_type(), "")?),
                None => whole(declared.name(), declared.data_type())?,
            };
            match &part {
                Part::EventType => {}
                Part::Flat(field) => {
                    let depth = &mut depths[kind.expect("flat fields are of a kind") as usize];
                    *depth = field.depth.max(*depth);
                }
                Part::Struct(kind, fields) => {
                    let deepest = fields.iter().map(|field| field.depth).max().unwrap_or(0);
                    depths[*kind as usize] = deepest.max(depths[*kind as usize]);
                }
            }
            let column =
                Column::new(declared.clone()).map_err(|_| wrong_type(declared.name(), declared.data_type(), "another"))?;
            columns.push((part, column));
        }
        Ok(Columns { columns, kind, depths, event: Event::default(), rows: 0 })
    }

    /// Appends a row for an event; false if events of its kind give none.
    pub(super) fn push(&mut self, number: u64) -> bool {
        let kind = event::kind(number);
        if self.kind.is_some_and(|only| only != kind) {
            return false;
        }
        let Columns { columns, depths, event, rows, .. } = self;
        event.draw(number, depths[kind as usize]);
        for (part, column) in columns {
            match part {
                Part::EventType => push_number(column, kind as i64),
                Part::Flat(field) => push(column, field, event),
                Part::Struct(of, fields) if *of == kind => {
                    let Values::Struct(children) = &mut column.values else { unreachable!("checked in whole()") };
                    for (child, field) in children.columns.iter_mut().zip(fields) {
                        child.pad_to(*rows);
                        push(child, field, event);
                    }
                    column.pushed();
                }
                Part::Struct(..) => column.push_nulls(1),
            }
        }
        self.rows += 1;
        true
    }

    /// Takes out the columns.
    pub(super) fn take(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows = 0;
        self.columns.iter_mut().map(|(_, column)| column.take()).collect()
    }
}

fn push(column: &mut Column, field: &Field, event: &Event) {
    match (field.holds, &mut column.values) {
        (Holds::Text, Values::Text(values)) => {
            let pushed = values.push(&event.texts[field.slot]);
            assert!(pushed, "a batch of nexmark texts stays below 2 GiB");
            column.pushed();
        }
        (Holds::Time, Values::Timestamp(values, unit)) => {
            let ms = event.numbers[field.slot];
            values.push(match unit {
                TimeUnit::Second => ms.div_euclid(1_000),
                TimeUnit::Millisecond => ms,
                TimeUnit::Microsecond => ms * 1_000,
                TimeUnit::Nanosecond => ms * 1_000_000,
            });
            column.pushed();
        }
        (Holds::Number, _) => push_number(column, event.numbers[field.slot]),
        _ => unreachable!("checked in flat()"),
    }
}

fn push_number(column: &mut Column, number: i64) {
    match &mut column.values {
        Values::I64(values) => values.push(number),
        Values::I32(values) => values.push(number as i32),
        _ => unreachable!("checked in flat() and whole()"),
    }
    column.pushed();
}

/// Finds a column of the whole stream.
fn whole(name: &str, data_type: &DataType) -> Result<Part, Diagnostic> {
    let kind = match plain(name).as_str() {
        "eventtype" => {
            return match data_type {
                DataType::Int32 | DataType::Int64 => Ok(Part::EventType),
                other => Err(wrong_type(name, other, "INT")),
            };
        }
        "person" => Kind::Person,
        "auction" => Kind::Auction,
        "bid" => Kind::Bid,
        _ => {
            return Err(Diagnostic::error("invalid-schema", format!("connector 'nexmark' has no column '{name}'"))
                .help("columns: event_type, person, auction, bid; or set the option 'type' to person, auction or bid"));
        }
    };
    let DataType::Struct(children) = data_type else {
        let fields: Vec<&str> = event::fields(kind).iter().map(|field| field.name).collect();
        return Err(wrong_type(name, data_type, &format!("ROW<{}>", fields.join(", "))));
    };
    let fields = children.iter().map(|child| flat(kind, child.name(), child.data_type(), &format!("{name}.")));
    Ok(Part::Struct(kind, fields.collect::<Result<_, _>>()?))
}

/// Finds a field of a kind.
fn flat(kind: Kind, name: &str, data_type: &DataType, path: &str) -> Result<Field, Diagnostic> {
    let fields = event::fields(kind);
    let Some(field) = fields.iter().find(|field| plain(field.name) == plain(name)) else {
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        return Err(Diagnostic::error("invalid-schema", format!("connector 'nexmark' has no column '{path}{name}'"))
            .help(format!("columns: {}", names.join(", "))));
    };
    let expected = match (field.holds, data_type) {
        (Holds::Number, DataType::Int64 | DataType::Int32)
        | (Holds::Time, DataType::Timestamp(..))
        | (Holds::Text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => return Ok(*field),
        (Holds::Number, _) => "BIGINT",
        (Holds::Time, _) => "TIMESTAMP(3)",
        (Holds::Text, _) => "VARCHAR",
    };
    Err(wrong_type(&format!("{path}{name}"), data_type, expected))
}

fn plain(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').collect::<String>().to_ascii_lowercase()
}

fn wrong_type(name: &str, found: &DataType, expected: &str) -> Diagnostic {
    let message = format!("column '{name}' of connector 'nexmark' cannot be {}", sql_type(found));
    Diagnostic::error("invalid-schema", message).help(format!("declare it as {expected}"))
}
