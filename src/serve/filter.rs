//! `?column=value`: equality on any column, the value read as the column's type.

use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema};
use highwater_engine::Equals;
use std::sync::Arc;

use super::problem::{Code, Problem};
use super::query::Query;

/// Parameters that are not columns. A column that is named like one is asked for as `limit.eq=...`.
const RESERVED: [&str; 4] = ["limit", "min_epoch", "timeout_ms", "format"];

/// The conditions that a query puts on a view's columns.
///
/// `column=value` and `column.eq=value` are equality (`column=` is the empty string), `column.is=null` asks for NULL.
pub(crate) fn conditions(query: &Query, schema: &Schema) -> Result<Vec<Equals>, Problem> {
    let columns = query.0.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
    columns.map(|(name, value)| condition(schema, name, value)).collect()
}

fn condition(schema: &Schema, name: &str, value: &str) -> Result<Equals, Problem> {
    if let Ok(column) = schema.index_of(name) {
        return equals(schema, column, value);
    }
    if let Some(column) = name.strip_suffix(".eq").and_then(|name| schema.index_of(name).ok()) {
        return equals(schema, column, value);
    }
    if let Some(column) = name.strip_suffix(".is").and_then(|name| schema.index_of(name).ok()) {
        if value != "null" {
            let detail = format!("'{name}' can only be 'null', not '{value}'");
            return Err(Problem::new(Code::BadValue, detail));
        }
        return Ok(Equals { column, value: new_null_array(schema.field(column).data_type(), 1) });
    }
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    Err(Problem::new(Code::UnknownColumn, format!("no column '{name}'; columns: {}", columns.join(", "))))
}

fn equals(schema: &Schema, column: usize, value: &str) -> Result<Equals, Problem> {
    let field = schema.field(column);
    let value = parse(value, field.data_type()).ok_or_else(|| {
        let detail = format!("'{value}' is not a value of column '{}', which is {}", field.name(), field.data_type());
        Problem::new(Code::BadValue, detail)
    })?;
    Ok(Equals { column, value })
}

/// One value of a type from its text.
fn parse(text: &str, data_type: &DataType) -> Option<ArrayRef> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let value = cast_with_options(&text, data_type, &options).ok()?;
    (!value.is_null(0)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, TimeUnit};

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            Field::new("limit", DataType::Decimal128(10, 2), true),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        ])
    }

    fn check(query: &str) -> Result<Vec<(usize, String)>, String> {
        let query = Query::parse(query).expect("it is well formed");
        let shown = |equals: &Equals| {
            let text = arrow::util::display::array_value_to_string(&equals.value, 0).expect("it prints");
            (equals.column, text)
        };
        match conditions(&query, &schema()) {
            Ok(found) => Ok(found.iter().map(shown).collect()),
            Err(problem) => Err(format!("{problem:?}")),
        }
    }

    #[test]
    fn values_are_read_as_their_columns_types() {
        assert_eq!(check("id=7&limit=3"), Ok(vec![(0, "7".into())]));
        assert_eq!(check("name="), Ok(vec![(1, String::new())]));
        assert_eq!(check("name.is=null"), Ok(vec![(1, String::new())]));
        assert_eq!(check("at=2013-01-01T05:00:00"), Ok(vec![(2, "2013-01-01T05:00:00".into())]));
        assert_eq!(check("limit.eq=1.5"), Ok(vec![(3, "1.50".into())]));
    }

    #[test]
    fn wrong_values_and_columns_are_problems() {
        for wrong in ["id=x", "id=", "id=9223372036854775808", "at=yesterday", "nope=1", "id.is=7"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
