//! One row with a column of every type, and values as text.

use std::sync::Arc;

use arrow::array::Int64Builder;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, ListBuilder, MapBuilder, StringArray, StringBuilder, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, new_empty_array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

const JSON: &str = r#"{"a": 1, "b": {"c": [10, 20, "x"]}, "d": "text", "e": null, "f": true, "g": 1.50, "k.l": "dot"}"#;

/// 2024-02-29 13:14:15.678.
const MILLIS: i64 = 1_709_212_455_678;

/// The source's columns.
pub(crate) fn declaration() -> &'static str {
    "b BOOLEAN, tiny TINYINT, small SMALLINT, n INT, i BIGINT, j BIGINT, zero BIGINT, big BIGINT, r REAL, f DOUBLE, \
     d DECIMAL(10, 2), e DECIMAL(5, 3), s VARCHAR, csv VARCHAR, num VARCHAR, js VARCHAR, by BYTES, dt DATE, tm TIME, \
     ts TIMESTAMP(3), us TIMESTAMP(6), tz TIMESTAMP_LTZ(3), iv INTERVAL, arr ARRAY<BIGINT>, words ARRAY<VARCHAR>, \
     m MAP<VARCHAR, BIGINT>, rw ROW<id BIGINT, name VARCHAR>, nan DOUBLE, minus_zero DOUBLE"
}

/// The row, a row of NULLs and the row again; or no rows.
pub(crate) fn columns(rows: bool) -> RecordBatch {
    let columns = row().into_iter().map(|(name, array)| {
        let nulls = new_null_array(array.data_type(), 1);
        let array = match rows {
            true => arrow::compute::concat(&[array.as_ref(), nulls.as_ref(), array.as_ref()]).expect("one type"),
            false => new_empty_array(array.data_type()),
        };
        (name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("equally long")
}

fn row() -> Vec<(&'static str, ArrayRef)> {
    let decimal = |value: i128, precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).expect("it fits"))
    };
    let mut arr = ListBuilder::new(Int64Builder::new());
    arr.append_value([Some(10), Some(20), None, Some(30)]);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("x"), Some("y"), Some("z")]);
    let names = arrow::array::MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new());
    for (key, value) in [("k1", 1), ("k2", 2)] {
        map.keys().append_value(key);
        map.values().append_value(value);
    }
    map.append(true).expect("as many keys as values");
    let fields = Fields::from(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
    let parts: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec!["one"]))];
    let interval = IntervalMonthDayNano::new(0, 1, (2 * 3600 + 3 * 60 + 4) * 1_000_000_000);
    vec![
        ("b", Arc::new(BooleanArray::from(vec![true])) as ArrayRef),
        ("tiny", Arc::new(Int8Array::from(vec![5]))),
        ("small", Arc::new(Int16Array::from(vec![300]))),
        ("n", Arc::new(Int32Array::from(vec![42]))),
        ("i", Arc::new(Int64Array::from(vec![7]))),
        ("j", Arc::new(Int64Array::from(vec![-3]))),
        ("zero", Arc::new(Int64Array::from(vec![0]))),
        ("big", Arc::new(Int64Array::from(vec![i64::MAX]))),
        ("r", Arc::new(Float32Array::from(vec![1.5]))),
        ("f", Arc::new(Float64Array::from(vec![2.5]))),
        ("d", decimal(12_345, 10, 2)),
        ("e", decimal(-1_555, 5, 3)),
        ("s", Arc::new(StringArray::from(vec!["hello world"]))),
        ("csv", Arc::new(StringArray::from(vec!["a,b,c"]))),
        ("num", Arc::new(StringArray::from(vec!["42"]))),
        ("js", Arc::new(StringArray::from(vec![JSON]))),
        ("by", Arc::new(BinaryArray::from(vec![&[0x00u8, 0xff][..]]))),
        ("dt", Arc::new(Date32Array::from(vec![19_782]))),
        ("tm", Arc::new(Time64MicrosecondArray::from(vec![(13 * 3600 + 14 * 60 + 15) * 1_000_000]))),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![MILLIS]))),
        ("us", Arc::new(TimestampMicrosecondArray::from(vec![MILLIS * 1_000 + 901]))),
        ("tz", Arc::new(TimestampMillisecondArray::from(vec![MILLIS]).with_timezone("UTC"))),
        ("iv", Arc::new(IntervalMonthDayNanoArray::from(vec![interval]))),
        ("arr", Arc::new(arr.finish())),
        ("words", Arc::new(words.finish())),
        ("m", Arc::new(map.finish())),
        ("rw", Arc::new(StructArray::new(fields, parts, None))),
        ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
        ("minus_zero", Arc::new(Float64Array::from(vec![-0.0]))),
    ]
}

/// Each value as text.
pub(crate) fn show(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::default()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).expect("everything can be shown");
    (0..array.len()).map(|row| if array.is_null(row) { "NULL".into() } else { formatter.value(row).to_string() }).collect()
}

/// A type by its short name.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "BIGINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Utf8 => "VARCHAR".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        other => other.to_string(),
    }
}
