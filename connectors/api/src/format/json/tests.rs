//! What JSON rows and changes become.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields as ArrowFields, Float64Type, Int64Type, IntervalUnit, Schema, TimeUnit,
};
use proptest::prelude::*;

use super::*;
use crate::format::encode;

const RULES: Rules = Rules { epoch: TimeUnit::Millisecond, key_only: false, refuses_unknown: false };

fn decoder(fields: &[(&str, DataType)], meaning: Meaning, key: &[usize]) -> JsonDecoder {
    let fields: Vec<Field> = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    JsonDecoder::new(&spec(Arc::new(Schema::new(fields)), key), meaning, RULES).expect("known types")
}

fn spec(schema: arrow::datatypes::SchemaRef, key: &[usize]) -> DecoderSpec {
    let used = (0..schema.fields().len()).collect();
    DecoderSpec { schema, used, primary_key: key.to_vec(), keeps_origin: false, defaults: Vec::new() }
}

fn arrays(decoder: &mut JsonDecoder) -> Vec<ArrayRef> {
    decoder.take().0.iter_mut().map(|column| column.take().expect("valid")).collect()
}

/// Decodes one value of a type; gives it back as JSON, or the reason why not.
fn one(data_type: DataType, value: &str) -> Result<String, String> {
    let mut decoder = decoder(&[("v", data_type.clone())], Meaning::Row, &[]);
    decoder.decode(format!("{{\"v\":{value}}}").as_bytes())?;
    let batch = arrow::record_batch::RecordBatch::try_from_iter([("v", arrays(&mut decoder).remove(0))]).expect("a batch");
    let mut text = Vec::new();
    encode::ndjson(&batch, &mut text).expect("it has JSON");
    let text = String::from_utf8(text).expect("UTF-8");
    let value = text.strip_prefix("{\"v\":").and_then(|text| text.strip_suffix("}\n"));
    Ok(value.expect("one field").to_string())
}

#[test]
fn every_type_reads_what_it_can() {
    use DataType::*;
    let good = |data_type: DataType, value: &str, expected: &str| {
        assert_eq!(one(data_type.clone(), value).as_deref(), Ok(expected), "{value} as {data_type}");
    };
    let ms = Timestamp(TimeUnit::Millisecond, None);
    good(Int64, "-9223372036854775808", "-9223372036854775808");
    good(Int64, "\"42\"", "42");
    good(Int32, "1e3", "1000");
    good(Int16, "3.0", "3");
    good(Int8, "null", "null");
    good(UInt64, "18446744073709551615", "18446744073709551615");
    good(Float64, "1", "1.0");
    good(Float64, "0.1", "0.1");
    good(Float64, "\"NaN\"", "\"NaN\"");
    good(Float32, "\"-Infinity\"", "\"-Infinity\"");
    good(Float32, "0.1", "0.1");
    good(Boolean, "true", "true");
    good(Boolean, "\"false\"", "false");
    good(Utf8, r#""a\n\"\u00e9\ud83d\ude00""#, r#""a\n\"é😀""#);
    good(Utf8, "\"\"", "\"\"");
    good(Utf8, "1.50", "\"1.50\"");
    good(Utf8, "true", "\"true\"");
    good(Utf8, r#"[1, {"a":2}]"#, r#""[1, {\"a\":2}]""#);
    good(Utf8View, "\"view\"", "\"view\"");
    good(LargeUtf8, "\"large\"", "\"large\"");
    good(Decimal128(38, 2), "123456789012345678901234567890.125", "123456789012345678901234567890.13");
    good(Decimal128(10, 2), "\"1.5\"", "1.50");
    good(Decimal128(10, 2), "-1e2", "-100.00");
    good(Date32, "\"2024-02-29\"", "\"2024-02-29\"");
    good(Date32, "19000", "\"2022-01-08\"");
    good(Time64(TimeUnit::Microsecond), "\"01:02:03.5\"", "\"01:02:03.500000\"");
    good(ms.clone(), "\"2015-07-15 00:00:00.123\"", "\"2015-07-15T00:00:00.123\"");
    good(ms.clone(), "1436918400123", "\"2015-07-15T00:00:00.123\"");
    good(ms.clone(), "\"2015-07-15\"", "\"2015-07-15T00:00:00.000\"");
    good(Timestamp(TimeUnit::Second, None), "\"2015-07-15T02:00:00+02:00\"", "\"2015-07-15T00:00:00\"");
    good(Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "\"2015-07-15T00:00:00Z\"", "\"2015-07-15T00:00:00.000000Z\"");
    good(Timestamp(TimeUnit::Nanosecond, None), "\"1969-12-31T23:59:59.5\"", "\"1969-12-31T23:59:59.500000000\"");
    good(Binary, "\"aGk=\"", r#"{"$hex":"6869"}"#);
    good(Binary, r#"{ "$hex" : "6869" }"#, r#"{"$hex":"6869"}"#);
    good(Interval(IntervalUnit::MonthDayNano), r#"{"$interval_us":7200000000}"#, r#"{"$interval_us":7200000000}"#);
    let row = Struct(ArrowFields::from(vec![Field::new("a", Int64, true), Field::new("b", Utf8, true)]));
    good(row.clone(), r#"{"x":[{}],"b":"c"}"#, r#"{"a":null,"b":"c"}"#);
    good(List(Arc::new(Field::new("item", row, true))), r#"[null,{"a":1}]"#, r#"[null,{"a":1,"b":null}]"#);
    good(List(Arc::new(Field::new("item", Int64, true))), "[ ]", "[]");
    let entry = Struct(vec![Field::new("key", Utf8, false), Field::new("value", Int64, true)].into());
    let map = || Map(Arc::new(Field::new("entries", entry.clone(), false)), false);
    good(map(), r#"{ "b": 2, "a": null }"#, r#"{"b":2,"a":null}"#);
    good(map(), "{}", "{}");
    good(map(), "null", "null");
}

#[test]
fn what_does_not_fit_is_named_with_its_place() {
    use DataType::*;
    let bad = |data_type: DataType, value: &str, expected: &str| {
        assert_eq!(one(data_type, value), Err(expected.to_string()), "{value}");
    };
    bad(Int32, "2147483648", "column 'v': 2147483648 does not fit INT at byte 5");
    bad(Int64, "1.5", "column 'v': expected BIGINT, found 1.5, which is not whole at byte 5");
    bad(Int64, "\"12x\"", "column 'v': expected BIGINT, found '12x' at byte 5");
    bad(Int64, "true", "column 'v': expected BIGINT, found true at byte 5");
    bad(Int64, "{\"a\":1}", "column 'v': expected BIGINT, found the object {\"a\":1} at byte 5");
    bad(Int64, "[1]", "column 'v': expected BIGINT, found the array [1] at byte 5");
    bad(Boolean, "1", "column 'v': expected BOOLEAN, found the number 1 at byte 5");
    bad(Float64, "1e999", "column 'v': 1e999 does not fit DOUBLE at byte 5");
    bad(Decimal128(4, 2), "100", "column 'v': 100 does not fit DECIMAL(4, 2) at byte 5");
    bad(Date32, "\"2023-02-29\"", "column 'v': expected DATE, found '2023-02-29' at byte 5");
    bad(Date32, "20240101", "column 'v': expected DATE, found '20240101' at byte 5");
    bad(Binary, "\"a?\"", "column 'v': expected BYTEA, found 'a?' at byte 5");
    bad(Utf8, r#""\ud83d""#, "column 'v': not valid JSON: unexpected end of hex escape at byte 5");
    bad(Utf8, "\"a\tb\"", "column 'v': not valid JSON: control character in a string at byte 7");
    bad(Utf8, "\"", "column 'v': not valid JSON: string without an end at byte 5");
    bad(Int64, "01", "not valid JSON: expected ',' or '}', found '1' at byte 6");
    bad(Int64, "-", "column 'v': not valid JSON: expected a number, found '}' at byte 6");
    bad(Int64, "", "column 'v': not valid JSON: expected a value, found '}' at byte 5");
    bad(Int64, "1}x", "not valid JSON: expected the end, found 'x' at byte 7");
    let nested = Struct(ArrowFields::from(vec![Field::new("a", Int64, false)]));
    bad(nested.clone(), "{\"a\":\"x\"}", "column 'v.a': expected BIGINT, found 'x' at byte 10");
    bad(nested.clone(), "{}", "column 'v.a': missing, but the column is NOT NULL at byte 5");
    bad(nested, "{\"a\":null}", "column 'v.a': null, but the column is NOT NULL at byte 10");
    bad(
        Timestamp(TimeUnit::Nanosecond, None),
        "\"3000-01-01\"",
        "column 'v': expected TIMESTAMP such as '2024-05-01 12:00:00.000' or an epoch number, found '3000-01-01' at byte 5",
    );
}

#[test]
fn a_row_that_fails_leaves_nothing_behind() {
    let row =
        DataType::Struct(ArrowFields::from(vec![Field::new("x", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]));
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let mut decoder = decoder(&[("a", DataType::Utf8), ("r", row), ("l", list), ("z", DataType::Int64)], Meaning::Row, &[]);
    let records = [
        r#"{"a":"one","r":{"x":1,"s":"p"},"l":[1,2],"z":1}"#,
        r#"{"a":"bad","r":{"x":1,"s":"p"},"l":[1,2],"z":"no"}"#,
        r#"{"a":"bad","r":{"x":1,"s":7},"l":[1,"no"],"z":1}"#,
        r#"{"a":"bad","r":{"x":"no","s":"p"}}"#,
        r#"{"a":"bad","r":null,"l":null,"z":1"#,
        r#"{"z":2,"l":[],"r":null,"a":"two","unknown":{"deep":[1,2,{"er":null}]}}"#,
        "",
        "  ",
        r#"{"z":3,"r":{"s":"q"},"a":"x","a":"three","l":[9]}"#,
    ];
    let failed = records.iter().filter(|record| decoder.decode(record.as_bytes()).is_err()).count();
    assert_eq!((failed, decoder.rows()), (4, 3));
    let arrays = arrays(&mut decoder);
    let batch =
        arrow::record_batch::RecordBatch::try_from_iter(["a", "r", "l", "z"].into_iter().zip(arrays)).expect("equal lengths");
    let mut text = Vec::new();
    encode::ndjson(&batch, &mut text).expect("JSON");
    let expected = r#"{"a":"one","r":{"x":1,"s":"p"},"l":[1,2],"z":1}
{"a":"two","r":null,"l":[],"z":2}
{"a":"three","r":{"x":null,"s":"q"},"l":[9],"z":3}
"#;
    assert_eq!(String::from_utf8_lossy(&text), expected);
    assert_eq!(decoder.rows(), 0);
}

#[test]
fn a_null_struct_may_have_fields_that_are_not_null() {
    let row = DataType::Struct(ArrowFields::from(vec![
        Field::new("x", DataType::Int64, false),
        Field::new("s", DataType::Utf8, false),
    ]));
    let mut decoder = decoder(&[("r", row)], Meaning::Row, &[]);
    for record in [r#"{"r":null}"#, "{}", r#"{"r":{"x":1,"s":"a"}}"#, "{}"] {
        decoder.decode(record.as_bytes()).expect("a good record");
    }
    let array = arrays(&mut decoder).remove(0);
    assert_eq!((array.len(), array.null_count()), (4, 3));
    assert_eq!(array.as_struct().column(0).as_primitive::<Int64Type>().value(2), 1);
}

#[test]
fn bytes_that_are_no_json_object() {
    let mut decoder = decoder(&[("a", DataType::Int64)], Meaning::Row, &[]);
    for record in [&b"\xff"[..], b"{\"a\":\"\xff\"}", b"[1]", b"1", b"{", b"{\"a\"", b"{\"a\":1,}", b"\0\0\0", b"null"] {
        assert!(decoder.decode(record).is_err(), "{record:?}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(decoder.decode(deep.as_bytes()).expect_err("too deep").contains("nested deeper than 128 levels"));
    assert_eq!(decoder.rows(), 0);
}

#[test]
fn names_with_escapes_and_objects_used_as_maps() {
    let mut decoder = decoder(&[("a\"b", DataType::Int64), ("c", DataType::Int64)], Meaning::Row, &[]);
    for round in 0..200 {
        let record = format!(r#"{{ "k{round}" : 0 , "a\"b" : {round}, "\u0063":1 }}"#);
        decoder.decode(record.as_bytes()).expect("a good record");
    }
    let arrays = arrays(&mut decoder);
    assert_eq!(arrays[0].as_primitive::<Int64Type>().value(199), 199);
    assert_eq!(arrays[1].null_count(), 0);
}

fn changes(key: &[usize], records: &[&str]) -> Vec<String> {
    let mut decoder = decoder(&[("id", DataType::Int64), ("v", DataType::Utf8)], Meaning::Debezium, key);
    let mut out = Vec::new();
    for record in records {
        if let Err(error) = decoder.decode(record.as_bytes()) {
            out.push(error);
        }
    }
    let (columns, diffs) = decoder.take();
    let arrays: Vec<ArrayRef> = columns.iter_mut().map(|column| column.take().expect("valid")).collect();
    let (ids, values) = (arrays[0].as_primitive::<Int64Type>(), arrays[1].as_string::<i32>());
    for (row, diff) in diffs.expect("changes have diffs").iter().enumerate() {
        let value = if values.is_null(row) { "null" } else { values.value(row) };
        out.push(format!("{diff:+} {} {value}", ids.value(row)));
    }
    out
}

#[test]
fn debezium_without_a_key_is_a_bag() {
    let records = [
        r#"{"op":"c","before":null,"after":{"id":1,"v":"a"}}"#,
        r#"{"before":{"id":1,"v":"a"},"after":{"id":1,"v":"b"},"source":{"db":"x"},"op":"u"}"#,
        r#"{"schema":{"type":"struct","fields":[]},"payload":{"op":"r","before":null,"after":{"id":2,"v":"s"}}}"#,
        r#"{"op":"d","before":{"id":1,"v":"b"},"after":null}"#,
        "null",
        r#"{"op":"u","before":null,"after":{"id":1,"v":"b"}}"#,
        r#"{"op":"u","before":{"id":1,"v":"b"},"after":{"id":"x"}}"#,
        r#"{"op":"t"}"#,
        r#"{"id":1}"#,
        r#"{"op":"m"}"#,
    ];
    assert_eq!(
        changes(&[], &records),
        [
            "'before' is missing in a change with op 'u' at byte 0",
            "column 'after.id': expected BIGINT, found 'x' at byte 50",
            "op 't' (truncate) cannot be applied: delete the rows instead at byte 0",
            "expected a change with 'op', 'before' and 'after' at byte 0",
            "+1 1 a",
            "-1 1 a",
            "+1 1 b",
            "+1 2 s",
            "-1 1 b",
        ]
    );
}

#[test]
fn debezium_with_a_key_upserts() {
    let records = [
        r#"{"op":"u","before":null,"after":{"id":1,"v":"a"}}"#,
        r#"{"op":"u","before":{"id":1,"v":"a"},"after":{"id":1,"v":"b"}}"#,
        r#"{"op":"u","before":{"id":1},"after":{"id":2,"v":"c"}}"#,
        r#"{"op":"d","before":{"id":2}}"#,
    ];
    assert_eq!(changes(&[0], &records), ["+1 1 a", "+1 1 b", "-1 1 null", "+1 2 c", "-1 2 null"]);
}

#[test]
fn a_deleted_key_needs_no_other_column() {
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("v", DataType::Utf8, false),
        Field::new("r", DataType::Struct(ArrowFields::from(vec![Field::new("n", DataType::Int64, false)])), false),
    ];
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = JsonDecoder::new(&spec(Arc::clone(&schema), &[0]), Meaning::Debezium, RULES).expect("known types");
    decoder.decode(br#"{"op":"d","before":{"id":7}}"#).expect("the key is enough");
    let (columns, diffs) = decoder.take();
    let arrays = columns.iter_mut().map(|column| column.take().expect("valid")).collect();
    let batch = arrow::record_batch::RecordBatch::try_new(schema, arrays).expect("placeholders for what is NOT NULL");
    assert_eq!((batch.num_rows(), diffs), (1, Some(vec![-1])));
}

#[test]
fn a_key_alone_deletes_its_row() {
    let fields = [("id", DataType::Int64), ("v", DataType::Utf8)];
    let mut one = decoder(&fields, Meaning::Row, &[0]);
    one.decode(br#"{"id":1,"v":"a"}"#).expect("a row");
    delete(one.rows_mut(), br#"{"id":1}"#).expect("a key");
    delete(one.rows_mut(), b" 2 ").expect("the only column of the key");
    delete(one.rows_mut(), br#"{"schema":{"type":"struct"},"payload":{"id":3}}"#).expect("a key with its schema");
    for (key, reason) in [
        ("{}", "key: column 'id': missing, but the column is of the primary key at byte 0"),
        (r#"{"id":null}"#, "key: column 'id': null, but the column is of the primary key at byte 6"),
        (r#"{"id":4} x"#, "key: not valid JSON: expected the end"),
        ("", "byte 0"),
    ] {
        let error = delete(one.rows_mut(), key.as_bytes()).expect_err("not a key");
        assert!(error.contains(reason), "{key}: {error}");
    }
    one.decode(br#"{"id":5}"#).expect("a row");
    let (columns, diffs) = one.take();
    assert_eq!(diffs.expect("there are deletions"), [1, -1, -1, -1, 1]);
    let ids = columns[0].take().expect("valid");
    assert_eq!(ids.as_primitive::<Int64Type>().values(), &[1, 1, 2, 3, 5]);
    one.decode(br#"{"id":6}"#).expect("a row");
    assert_eq!(one.take().1, None, "without deletions there are no diffs");

    let mut two = decoder(&fields, Meaning::Row, &[0, 1]);
    assert!(delete(two.rows_mut(), b"7").expect_err("half a key").contains("an object with the columns of the primary key"));
    let mut none = decoder(&fields, Meaning::Row, &[]);
    assert!(delete(none.rows_mut(), b"7").expect_err("a stream").contains("no primary key"));
}

#[test]
fn signed_rows() {
    let mut decoder = decoder(&[("a", DataType::Int64)], Meaning::Signed, &[]);
    for record in [r#"{"a":1}"#, r#"{"op":"-","epoch":3,"a":1}"#, r#"{"a":2,"op":"+"}"#] {
        decoder.decode(record.as_bytes()).expect("a good record");
    }
    assert!(decoder.decode(br#"{"a":1,"op":"?"}"#).is_err());
    let (columns, diffs) = decoder.take();
    assert_eq!(columns.len(), 1);
    assert_eq!(columns[0].take().expect("valid").len(), 3);
    assert_eq!(diffs, Some(vec![1, -1, 1]));
    decoder.decode(br#"{"op":"-","a":5}"#).expect("the next batch");
    assert_eq!(decoder.take().1, Some(vec![-1]));
}

#[test]
fn bodies_of_objects() {
    let found =
        |body: &str| objects(body).map(|ranges| ranges.into_iter().map(|range| body[range].to_string()).collect::<Vec<_>>());
    assert_eq!(
        found(r#" [ {"a":1} , 2] {"b":[3]}{}[] "#),
        Ok(vec!["{\"a\":1}".into(), "2".into(), "{\"b\":[3]}".into(), "{}".into()])
    );
    assert_eq!(found(""), Ok(Vec::new()));
    for body in ["[", "[1,]", "{\"a\":1", "[1 2]", "]"] {
        assert!(found(body).is_err(), "{body}");
    }
}

fn all_types() -> Vec<(&'static str, DataType)> {
    let inner = DataType::Struct(ArrowFields::from(vec![
        Field::new("x", DataType::Int64, true),
        Field::new("y", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
    ]));
    vec![
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
        ("d", DataType::Decimal128(20, 3)),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("day", DataType::Date32),
        ("b", DataType::Binary),
        ("o", DataType::Boolean),
        ("r", inner),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        for meaning in [Meaning::Row, Meaning::Signed, Meaning::Debezium] {
            let mut decoder = decoder(&all_types(), meaning, &[0]);
            let _ = decoder.decode(&bytes);
            arrays(&mut decoder);
        }
    }

    #[test]
    fn damaged_rows_never_panic_and_leave_columns_equal(cuts in proptest::collection::vec((0_usize..200, any::<u8>()), 1..4)) {
        let mut decoder = decoder(&all_types(), Meaning::Row, &[]);
        let good = br#"{"i":1,"f":2.5,"s":"a\tb","d":1.5,"t":"2020-01-01T00:00:00","day":"2020-01-01","b":"aGk=","o":true,"r":{"x":1,"y":["p",null]}}"#;
        let mut bad = good.to_vec();
        for (at, byte) in cuts {
            let at = at % bad.len();
            bad[at] = byte;
        }
        decoder.decode(good).expect("a good row");
        let taken = usize::from(decoder.decode(&bad).is_ok());
        decoder.decode(good).expect("a good row");
        let arrays = arrays(&mut decoder);
        prop_assert!(arrays.iter().all(|array| array.len() == 2 + taken));
        prop_assert_eq!(arrays[8].as_struct().column(1).as_list::<i32>().value(1 + taken).len(), 2);
    }

    #[test]
    fn what_is_written_reads_back(
        i in any::<Option<i64>>(), f in any::<f64>(), s in ".{0,20}", d in -(10_i128.pow(19))..10_i128.pow(19),
        t in -62_000_000_000_000_000_i64..250_000_000_000_000_000, day in -700_000..700_000_i32,
        b in proptest::collection::vec(any::<u8>(), 0..9), items in proptest::collection::vec(any::<Option<String>>(), 0..4),
    ) {
        use arrow::array::*;
        let mut texts = ListBuilder::new(StringBuilder::new());
        items.iter().for_each(|item| texts.values().append_option(item.as_ref()));
        texts.append(true);
        let DataType::Struct(fields) = all_types()[8].1.clone() else { unreachable!("a struct") };
        let inner = StructArray::new(fields, vec![Arc::new(Int64Array::from(vec![i])) as ArrayRef, Arc::new(texts.finish())], None);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![i])),
            Arc::new(Float64Array::from(vec![f])),
            Arc::new(StringArray::from(vec![s])),
            Arc::new(Decimal128Array::from(vec![d]).with_precision_and_scale(20, 3).expect("fits")),
            Arc::new(TimestampMicrosecondArray::from(vec![t])),
            Arc::new(Date32Array::from(vec![day])),
            Arc::new(BinaryArray::from_vec(vec![&b])),
            Arc::new(BooleanArray::from(vec![i.is_some()])),
            Arc::new(inner),
        ];
        let fields: Vec<Field> = all_types().into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
        let batch = arrow::record_batch::RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch");
        let mut text = Vec::new();
        encode::ndjson(&batch, &mut text).expect("JSON");
        let mut decoder = decoder(&all_types(), Meaning::Row, &[]);
        decoder.decode(text.trim_ascii_end()).expect("what we wrote");
        let back = arrays(&mut decoder);
        for (column, (before, after)) in batch.columns().iter().zip(&back).enumerate() {
            if column == 1 && f.is_nan() {
                prop_assert!(after.as_primitive::<Float64Type>().value(0).is_nan());
            } else {
                prop_assert_eq!(before, after);
            }
        }
        prop_assert_eq!(back[3].as_primitive::<Decimal128Type>().value(0), d);
        prop_assert_eq!(back[5].as_primitive::<Date32Type>().value(0), day);
    }
}

/// The values of two columns after these records, or the first record's reason.
fn decoded(spec: &DecoderSpec, rules: Rules, records: &[&str]) -> Result<Vec<String>, String> {
    let mut decoder = JsonDecoder::new(spec, Meaning::Row, rules).expect("known types");
    for record in records {
        decoder.decode(record.as_bytes())?;
    }
    let columns = arrays(&mut decoder);
    let fields = spec.used.iter().map(|column| spec.schema.field(*column).clone()).collect::<Vec<_>>();
    let batch = arrow::record_batch::RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch");
    let mut text = Vec::new();
    encode::ndjson(&batch, &mut text).expect("it has JSON");
    Ok(String::from_utf8(text).expect("UTF-8").lines().map(str::to_string).collect())
}

fn two_columns() -> DecoderSpec {
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("Name", DataType::Utf8, true)];
    spec(Arc::new(Schema::new(fields)), &[])
}

#[test]
fn names_are_found_without_their_case() {
    let records = [
        r#"{"ID":1,"name":"a"}"#,
        r#"{"Id":2,"id":3,"NAME":"b"}"#,
        r#"{"id":4,"Id":5,"Name":"c","name":"d"}"#,
        r#"{"id":6,"other":{"id":7}}"#,
    ];
    let expected = [r#"{"id":1,"Name":"a"}"#, r#"{"id":3,"Name":"b"}"#, r#"{"id":4,"Name":"c"}"#, r#"{"id":6,"Name":null}"#];
    for _ in 0..2 {
        assert_eq!(decoded(&two_columns(), RULES, &records).expect("they decode"), expected);
    }
    // A column that nobody reads keeps its name, and what could be either of two is neither.
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("ID", DataType::Int64, true)];
    let mut spec = spec(Arc::new(Schema::new(fields)), &[]);
    spec.used = vec![0];
    let records = [r#"{"ID":1}"#, r#"{"Id":1}"#, r#"{"id":1}"#];
    assert_eq!(decoded(&spec, RULES, &records).expect("they decode"), [r#"{"id":null}"#, r#"{"id":null}"#, r#"{"id":1}"#]);
}

#[test]
fn unknown_fields_may_be_refused() {
    let strict = Rules { refuses_unknown: true, ..RULES };
    assert!(decoded(&two_columns(), strict, &[r#"{"id":1,"NAME":"a"}"#]).is_ok());
    let why = decoded(&two_columns(), strict, &[r#"{"id":1, "extra" : [1]}"#]).expect_err("a field too many");
    assert_eq!(why, "unknown field 'extra' (ignore_unknown_fields is false) at byte 9");
    let mut unread = two_columns();
    unread.used = vec![0];
    assert!(decoded(&unread, strict, &[r#"{"Name":"a","id":1}"#]).is_ok());
}

#[test]
fn what_is_missing_has_its_default() {
    let mut spec = two_columns();
    spec.defaults = vec![Some("7".into()), Some("none".into())];
    let records = [r#"{}"#, r#"{"id":null,"Name":"a"}"#, r#"{"id":1}"#];
    let expected = [r#"{"id":7,"Name":"none"}"#, r#"{"id":null,"Name":"a"}"#, r#"{"id":1,"Name":"none"}"#];
    assert_eq!(decoded(&spec, RULES, &records).expect("they decode"), expected);
}
