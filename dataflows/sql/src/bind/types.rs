//! SQL type names to Arrow types.
//!
//! Timestamps without a precision are microseconds, strings are `Utf8`, and times with a zone are UTC: one rule for
//! columns and casts alike, which is why DataFusion's own mapping is not used.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion_common::Result as PlanResult;
use datafusion_expr::planner::TypePlanner;
use sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, Spanned, TimezoneInfo};

use crate::diagnose::{Result, closest, error, known_place};

/// Gives DataFusion our types, for CAST and typed literals.
#[derive(Debug)]
pub(crate) struct JobTypes;

impl TypePlanner for JobTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> PlanResult<Option<FieldRef>> {
        Ok(Some(Arc::new(Field::new("", data_type(sql_type)?, true))))
    }
}

const NAMES: [&str; 31] = [
    "BIGINT",
    "INT",
    "INTEGER",
    "SMALLINT",
    "TINYINT",
    "REAL",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "BOOLEAN",
    "VARCHAR",
    "TEXT",
    "STRING",
    "CHAR",
    "BYTES",
    "BYTEA",
    "VARBINARY",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
    "ARRAY",
    "ROW",
    "STRUCT",
    "TIMESTAMP_LTZ",
    "MAP",
    "JSON",
    "JSONB",
    "UUID",
];

/// The Arrow type of a SQL type.
pub(crate) fn data_type(sql_type: &SqlType) -> Result<DataType> {
    Ok(match sql_type {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Float(_) | SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 => DataType::Float64,
        SqlType::Decimal(info) | SqlType::Numeric(info) | SqlType::Dec(info) => decimal(info, sql_type)?,
        SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Text
        | SqlType::String(_)
        | SqlType::Character(_)
        | SqlType::CharacterVarying(_)
        | SqlType::CharVarying(_)
        | SqlType::Nvarchar(_) => DataType::Utf8,
        SqlType::Bytea | SqlType::Bytes(_) | SqlType::Varbinary(_) | SqlType::Binary(_) | SqlType::Blob(_) => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => time(*precision, sql_type)?,
        SqlType::Timestamp(precision, zone) => {
            let utc = matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz).then(|| Arc::from("UTC"));
            DataType::Timestamp(unit(*precision, sql_type)?, utc)
        }
        SqlType::Datetime(precision) => DataType::Timestamp(unit(*precision, sql_type)?, None),
        SqlType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Array(
            ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::SquareBracket(inner, _)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => DataType::List(Arc::new(Field::new_list_field(data_type(inner)?, true))),
        SqlType::Struct(fields, _) => {
            let mut out: Vec<Field> = Vec::with_capacity(fields.len());
            for field in fields {
                let Some(name) = &field.field_name else {
                    return Err(
                        error("unsupported-type", "each field of a ROW needs a name").help("write ROW<id BIGINT, name VARCHAR>")
                    );
                };
                out.push(Field::new(&name.value, data_type(&field.field_type)?, true));
            }
            DataType::Struct(Fields::from(out))
        }
        SqlType::Map(key, value) => map(data_type(key)?, data_type(value)?),
        SqlType::JSON | SqlType::JSONB | SqlType::Uuid => DataType::Utf8,
        // What has room for all of their values.
        SqlType::TinyIntUnsigned(_) | SqlType::UTinyInt => DataType::Int16,
        SqlType::SmallIntUnsigned(_) | SqlType::Int2Unsigned(_) | SqlType::USmallInt => DataType::Int32,
        SqlType::IntUnsigned(_) | SqlType::IntegerUnsigned(_) | SqlType::Int4Unsigned(_) => DataType::Int64,
        SqlType::Unsigned | SqlType::UnsignedInteger => DataType::Int64,
        SqlType::BigIntUnsigned(_) | SqlType::Int8Unsigned(_) | SqlType::UBigInt => DataType::Decimal128(20, 0),
        other => return unknown(other),
    })
}

/// A map with these types of keys and values; keys are never NULL.
pub(crate) fn map(key: DataType, value: DataType) -> DataType {
    let entry = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
}

fn unknown(sql_type: &SqlType) -> Result<DataType> {
    let mut name = sql_type.to_string();
    let mut span = None;
    if let SqlType::Custom(object, modifiers) = sql_type {
        name = object.to_string();
        span = known_place(object.span());
        if name.eq_ignore_ascii_case("timestamp_ltz") {
            let precision = modifiers.first().and_then(|precision| precision.parse().ok());
            return Ok(DataType::Timestamp(unit(precision, sql_type)?, Some(Arc::from("UTC"))));
        }
        let text = ["json", "jsonb", "uuid", "variant"];
        if text.iter().any(|text| name.eq_ignore_ascii_case(text)) {
            return Ok(DataType::Utf8);
        }
        const OTHERS: [(&str, DataType); 8] = [
            ("float32", DataType::Float32),
            ("float64", DataType::Float64),
            ("int16", DataType::Int16),
            ("int32", DataType::Int32),
            ("int64", DataType::Int64),
            ("signed", DataType::Int32),
            ("number", DataType::Decimal128(38, 10)),
            ("bool", DataType::Boolean),
        ];
        if let Some((_, found)) = OTHERS.iter().find(|(other, _)| modifiers.is_empty() && name.eq_ignore_ascii_case(other)) {
            return Ok(found.clone());
        }
        if name.eq_ignore_ascii_case("timestamptz") {
            return Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))));
        }
    }
    let help = match closest(&name, NAMES) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("types are {}", NAMES.join(", ")),
    };
    Err(error("unsupported-type", format!("type {name} is not supported")).at(span).help(help))
}

fn decimal(info: &ExactNumberInfo, sql_type: &SqlType) -> Result<DataType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if precision == 0 || precision > 38 || scale < 0 || scale as u64 > precision {
        return Err(error("unsupported-type", format!("type {sql_type} is not supported"))
            .help("a DECIMAL has 1 to 38 digits, of which 0 to all stand behind the point"));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

fn unit(precision: Option<u64>, sql_type: &SqlType) -> Result<TimeUnit> {
    match precision {
        Some(0) => Ok(TimeUnit::Second),
        Some(1..=3) => Ok(TimeUnit::Millisecond),
        None | Some(4..=6) => Ok(TimeUnit::Microsecond),
        Some(7..=9) => Ok(TimeUnit::Nanosecond),
        Some(_) => Err(error("unsupported-type", format!("type {sql_type} is not supported"))
            .help("the precision of a time is 0 (seconds), 3, 6 or 9 (nanoseconds)")),
    }
}

fn time(precision: Option<u64>, sql_type: &SqlType) -> Result<DataType> {
    Ok(match unit(precision, sql_type)? {
        unit @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(unit),
        unit => DataType::Time64(unit),
    })
}

/// A type as SQL writes it.
pub(crate) fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "VARCHAR".into(),
        DataType::Binary => "BYTES".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(unit, zone) => {
            let precision = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let zone = if zone.is_some() { " WITH TIME ZONE" } else { "" };
            format!("TIMESTAMP({precision}){zone}")
        }
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::Null => "NULL".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("ARRAY<{}>", sql_type(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                format!("MAP<{}, {}>", sql_type(entry[0].data_type()), sql_type(entry[1].data_type()))
            }
            other => other.to_string(),
        },
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), sql_type(field.data_type())));
            format!("ROW<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
