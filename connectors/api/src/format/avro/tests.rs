//! What messages of Avro become, and what rows become as Avro.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array,
    ListArray, MapArray, StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, TimeUnit};
use arrow::record_batch::RecordBatch;
use highwater_plan::{OptionReader, Options};
use proptest::prelude::*;
use serde_json::Value;

use crate::format::encode::avro::{Shape, Writer};
use crate::format::testing::json;
use crate::format::{Decoded, Decoder, DecoderSpec, FORMAT_FIELDS, Format, encode, message_fields};

fn spec(fields: Vec<Field>, key: &[usize]) -> DecoderSpec {
    DecoderSpec {
        used: (0..fields.len()).collect(),
        schema: Arc::new(ArrowSchema::new(fields)),
        primary_key: key.to_vec(),
        keeps_origin: false,
        defaults: Vec::new(),
    }
}

/// The format and its options: messages of one schema.
fn format(schema: &str, more: &[(&str, &str)]) -> (Format, Options) {
    let name = if more.iter().any(|(key, _)| *key == "format") { vec![] } else { vec![("format", "avro")] };
    let options = Options::from_pairs(name.into_iter().chain([("avro.schema", schema)]).chain(more.iter().copied()));
    let fields = message_fields();
    let reader = OptionReader::new(&options, "a test", &[FORMAT_FIELDS, &fields]).expect("known options");
    (Format::of_messages(&reader).expect("a format"), options)
}

fn decoder(schema: &str, more: &[(&str, &str)], spec: &DecoderSpec) -> Decoder {
    let (format, options) = format(schema, more);
    format.check(spec, &options).expect("the columns fit");
    format.decoder(spec, &options).expect("known types")
}

/// Why the columns do not fit.
fn refused(schema: &str, fields: Vec<Field>) -> String {
    let (format, options) = format(schema, &[]);
    let error = format.check(&spec(fields, &[]), &options).expect_err("the columns do not fit");
    assert_eq!(error.code, "schema-mismatch");
    format!("{}; {}", error.message, error.help.unwrap_or_default())
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// A type by the name that the fixtures have for it.
fn named(name: &str) -> DataType {
    let inner = || DataType::Struct(vec![field("x", DataType::Int64), field("y", DataType::Utf8)].into());
    match name {
        "BOOLEAN" => DataType::Boolean,
        "INT" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "REAL" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "VARCHAR" => DataType::Utf8,
        "BYTEA" => DataType::Binary,
        "DECIMAL" => DataType::Decimal128(20, 2),
        "DATE" => DataType::Date32,
        "TIME" => DataType::Time64(TimeUnit::Microsecond),
        "TIMESTAMP" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "BIGINT[]" => DataType::List(Arc::new(field("item", DataType::Int64))),
        "MAP" => map_type(DataType::Int64),
        "ROW" => inner(),
        "ROW[]" => DataType::List(Arc::new(field("item", inner()))),
        other => panic!("{other}"),
    }
}

fn map_type(value: DataType) -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), field("value", value)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

fn unhex(text: &str) -> Vec<u8> {
    crate::format::text::hex(text.as_bytes()).expect("hexadecimal digits")
}

fn read_all(decoder: &mut Decoder, messages: &[Vec<u8>]) -> Decoded {
    for message in messages {
        decoder.decode(message).unwrap_or_else(|error| panic!("{error}"));
    }
    decoder.take().expect("columns")
}

#[test]
fn what_another_library_writes_is_read() {
    for line in include_str!("fixtures.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("a fixture");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let list = |key: &str| case[key].as_array().expect("a list").clone();
        let columns = list("columns").iter().map(|pair| field(&text(&pair[0]), named(&text(&pair[1])))).collect();
        let mut decoder = decoder(&text(&case["schema"]), &[], &spec(columns, &[]));
        let messages: Vec<Vec<u8>> = list("messages").iter().map(|message| unhex(&text(message))).collect();
        let rows = read_all(&mut decoder, &messages).rows;
        assert_eq!(json(&rows), list("rows"), "{}", case["name"]);
        // Whatever is cut off, the row fails alone.
        for message in messages {
            for end in 0..message.len() {
                let error = decoder.decode(&message[..end]).expect_err("a part is no message");
                assert!(error.contains("at byte"), "{error}");
            }
            decoder.decode(&[message.as_slice(), &[0]].concat()).expect_err("more than a message is none");
            decoder.decode(&message).expect("it disturbs no other");
            assert_eq!(decoder.take().expect("columns").rows.num_rows(), 1);
        }
    }
}

#[test]
fn old_and_new_schemas_fill_the_same_columns() {
    let columns = || vec![field("id", DataType::Int64), field("Name", DataType::Utf8), Field::new("n", DataType::Int32, false)];
    let spec = DecoderSpec { defaults: vec![None, None, Some("7".into())], ..spec(columns(), &[]) };
    let old = record(r#"{"name":"id","type":"int"},{"name":"gone","type":"string"}"#);
    let mut reader = decoder(&old, &[], &spec);
    assert_eq!(json(&read_all(&mut reader, &[vec![2, 2, b'x']]).rows), [serde_json::json!({"id": 1, "Name": null, "n": 7})]);
    let new =
        record(r#"{"name":"n","type":["null","long"]},{"name":"NAME","type":["null","string"]},{"name":"id","type":"long"}"#);
    let mut reader = decoder(&new, &[], &spec);
    assert_eq!(
        json(&read_all(&mut reader, &[vec![2, 10, 2, 2, b'a', 4]]).rows),
        [serde_json::json!({"id": 2, "Name": "a", "n": 5})]
    );
    let error = reader.decode(&[0, 0, 4]).expect_err("n is NOT NULL");
    assert!(error.contains("column 'n': null, but the column is NOT NULL"), "{error}");
    let error = reader.decode(&[2, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0, 4]).expect_err("it is too large");
    assert!(error.contains("does not fit INT"), "{error}");
    let error = reader.decode(&[6, 0, 4]).expect_err("there are two branches");
    assert!(error.contains("branch 3 of a union that has 2"), "{error}");
}

#[test]
fn what_cannot_fit_is_told_before_any_row() {
    let of = |kind: &str| record(&format!(r#"{{"name":"v","type":{kind}}}"#));
    let check = |kind: &str, data_type: DataType, expected: &str| {
        let error = refused(&of(kind), vec![field("v", data_type)]);
        assert!(error.contains("column 'v'") && error.contains(expected), "{error}");
    };
    check(r#""string""#, DataType::Int64, "it has type BIGINT, and its field is string; declare it as VARCHAR");
    check(r#""double""#, DataType::Float32, "it has type REAL, and its field is double; declare it as DOUBLE");
    check(r#"["null","boolean"]"#, DataType::Utf8, "it has type VARCHAR, and its field is boolean");
    check(r#"{"type":"array","items":"long"}"#, DataType::Int64, "its field is array of long");
    check(r#"{"type":"array","items":"string"}"#, named("BIGINT[]"), "it has type BIGINT, and its field is string");
    check(r#"{"type":"map","values":"long"}"#, DataType::Utf8, "its field is map of long");
    check(r#"{"type":"long","logicalType":"timestamp-millis"}"#, DataType::Date32, "its field is timestamp-millis");
    let nested = r#"{"type":"record","name":"I","fields":[{"name":"x","type":"string"}]}"#;
    let error = refused(&of(nested), vec![field("v", named("ROW"))]);
    assert!(error.contains("column 'v.x': it has type BIGINT, and its field is string"), "{error}");
    check(nested, DataType::Utf8, "its field is record I");
    let error = refused(&of(r#""long""#), vec![Field::new("w", DataType::Int64, false)]);
    assert!(error.contains("column 'w': it is NOT NULL, and record R has no such field; there are: v"), "{error}");
    let error = refused(r#""long""#, vec![field("v", DataType::Int64), field("w", DataType::Int64)]);
    assert!(error.contains("which cannot be several columns"), "{error}");

    let (strict, options) = format(&of(r#""long""#), &[("ignore_unknown_fields", "false")]);
    let error = strict.check(&spec(vec![field("x", DataType::Int64)], &[]), &options).expect_err("v is not declared");
    assert!(error.message.contains("no column is declared for the field 'v'"), "{error}");
}

#[test]
fn schemas_that_are_none_are_refused() {
    for (text, expected) in [
        ("{", "no JSON"),
        ("7", "is no type"),
        (r#""nothing""#, "the type 'nothing' is not defined"),
        (r#"{"type":"array"}"#, "has no \"items\""),
        (r#"{"type":"record","name":"a","fields":[{"name":"b"}]}"#, "the field 'b' has no \"type\""),
        (r#"["null",{"type":"fixed","name":"f","size":-1}]"#, "\"size\""),
        (r#"[{"type":"enum","name":"f","symbols":[]},{"type":"fixed","name":"f","size":1}]"#, "defined twice"),
    ] {
        let options = Options::from_pairs([("format", "avro"), ("avro.schema", text)]);
        let fields = message_fields();
        let reader = OptionReader::new(&options, "a test", &[FORMAT_FIELDS, &fields]).expect("known options");
        let error = Format::of_messages(&reader).expect_err("it is no schema").help.unwrap_or_default();
        assert!(error.contains(expected), "{error}");
    }
    let deep = "[".repeat(100) + &"]".repeat(100);
    assert!(super::schema::Schema::parse(&[], &deep).expect_err("too deep").contains("nested"));
}

#[test]
fn types_that_have_themselves_in_them_are_skipped() {
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    let schema = record(&format!(r#"{{"name":"l","type":{list}}},{{"name":"id","type":"long"}}"#));
    let mut reader = decoder(&schema, &[], &spec(vec![field("id", DataType::Int64)], &[]));
    let rows = read_all(&mut reader, &[[vec![2; 10], vec![0, 14]].concat()]).rows;
    assert_eq!(json(&rows), [serde_json::json!({"id": 7})]);
    let error = reader.decode(&[vec![2; 100_000], vec![0, 14]].concat()).expect_err("too deep");
    assert!(error.contains("nested more than"), "{error}");
    // Items without bytes would be endless.
    let schema = record(r#"{"name":"a","type":{"type":"array","items":"null"}}"#);
    let mut reader = decoder(&schema, &[], &spec(vec![field("b", DataType::Int64)], &[]));
    let error = reader.decode(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]).expect_err("too many");
    assert!(error.contains("more items than"), "{error}");
}

#[test]
fn changes_are_those_of_debezium() {
    let row = r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"long"},{"name":"v","type":["null","string"]}]}"#;
    let schema = format!(
        r#"{{"type":"record","name":"Envelope","fields":[{{"name":"before","type":["null",{row}]}},{{"name":"after","type":["null","Value"]}},
        {{"name":"source","type":["null","string"]}},{{"name":"op","type":"string"}}]}}"#
    );
    let columns = || vec![Field::new("id", DataType::Int64, false), field("v", DataType::Utf8)];
    let value = |id: i64, v: &str| {
        let mut out = vec![2];
        encode::avro::long(id, &mut out);
        out.push(2);
        encode::avro::sized(v.as_bytes(), &mut out);
        out
    };
    let change = |before: Option<Vec<u8>>, after: Option<Vec<u8>>, op: &str| {
        let mut out = before.unwrap_or(vec![0]);
        out.extend(after.unwrap_or(vec![0]));
        out.extend([2, 2, b's']);
        encode::avro::sized(op.as_bytes(), &mut out);
        out
    };
    let messages = [
        change(None, Some(value(1, "a")), "c"),
        change(Some(value(1, "a")), Some(value(1, "b")), "u"),
        change(Some(value(1, "b")), Some(value(2, "c")), "u"),
        change(Some(value(2, "c")), None, "d"),
    ];
    let diffs = |decoded: &Decoded| decoded.diffs.as_ref().expect("changes have signs").values().to_vec();
    let ids = |decoded: &Decoded| json(&decoded.rows).iter().map(|row| row["id"].as_i64().expect("an id")).collect::<Vec<_>>();
    let mut bag = decoder(&schema, &[("format", "debezium-avro")], &spec(columns(), &[]));
    let all = read_all(&mut bag, &messages);
    assert_eq!((ids(&all), diffs(&all)), (vec![1, 1, 1, 1, 2, 2], vec![1, -1, 1, -1, 1, -1]));
    let mut table = decoder(&schema, &[("format", "debezium-avro")], &spec(columns(), &[0]));
    let all = read_all(&mut table, &messages);
    assert_eq!((ids(&all), diffs(&all)), (vec![1, 1, 1, 2, 2], vec![1, 1, -1, 1, -1]));
    for (message, expected) in [
        (change(None, None, "c"), "'after' is missing"),
        (change(None, None, "x"), "'op' is one of c, r, u, d, found 'x'"),
        (change(None, None, "t"), "truncate"),
    ] {
        let error = table.decode(&message).expect_err("no change");
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(table.rows(), 0);
    table.delete(br#"{"id":9}"#).expect("keys are JSON without a registry");
    assert_eq!(diffs(&table.take().expect("columns")), [-1]);
}

/// Rows of every type, as many as there are seeds, with nulls.
pub(crate) fn batch(seeds: &[(i64, String, Option<bool>)]) -> RecordBatch {
    let n = seeds.len();
    let numbers = || seeds.iter().map(|(number, ..)| *number);
    let nullable = |index: usize| seeds[index].2.is_some();
    let nulls = NullBuffer::from((0..n).map(nullable).collect::<Vec<_>>());
    let ids = Int64Array::from_iter_values(numbers());
    let names = StringArray::from_iter_values(seeds.iter().map(|(_, text, _)| text));
    let inner: Fields = vec![Field::new("x", DataType::Int64, false), field("y", DataType::Utf8)].into();
    let ys = StringArray::from_iter(seeds.iter().map(|(_, text, flag)| flag.map(|_| text)));
    let structs = StructArray::new(inner, vec![Arc::new(ids.clone()) as ArrayRef, Arc::new(ys) as ArrayRef], Some(nulls.clone()));
    // Two items in every second row.
    let offsets = OffsetBuffer::from_lengths((0..n).map(|row| 2 * (row % 2)));
    let item = Arc::new(field("item", DataType::Int64));
    let items = Int64Array::from_iter(numbers().take(2 * (n / 2)).map(|number| (number % 3 != 0).then_some(number)));
    let lists = ListArray::new(item, offsets.clone(), Arc::new(items), None);
    let DataType::Map(entries_field, _) = map_type(DataType::Utf8) else { unreachable!("a map") };
    let keys = StringArray::from_iter_values((0..2 * (n / 2)).map(|key| format!("k{key}")));
    let values = StringArray::from_iter((0..2 * (n / 2)).map(|key| (key % 5 != 0).then(|| format!("v{key}"))));
    let DataType::Struct(entry) = entries_field.data_type() else { unreachable!("entries") };
    let entries = StructArray::new(entry.clone(), vec![Arc::new(keys), Arc::new(values)], None);
    let maps = MapArray::new(entries_field, offsets, entries, None, false);
    let decimals = Decimal128Array::from_iter(numbers().map(|number| Some(i128::from(number) * 1_000_003)));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(ids), false),
        ("name", Arc::new(names), false),
        ("flag", Arc::new(BooleanArray::from_iter(seeds.iter().map(|(.., flag)| *flag))), true),
        ("tiny", Arc::new(Int8Array::from_iter_values(numbers().map(|number| number as i8))), false),
        ("big", Arc::new(UInt64Array::from_iter_values(numbers().map(|number| number as u64))), true),
        ("real", Arc::new(Float32Array::from_iter_values(numbers().map(|number| number as f32))), true),
        ("double", Arc::new(Float64Array::from_iter(seeds.iter().map(|(n, _, flag)| flag.map(|_| *n as f64 / 7.0)))), true),
        ("bytes", Arc::new(BinaryArray::from_iter_values(seeds.iter().map(|(_, text, _)| text.as_bytes()))), true),
        ("dec", Arc::new(decimals.with_precision_and_scale(30, 4).expect("it fits")), true),
        ("day", Arc::new(Date32Array::from_iter_values(numbers().map(|number| (number % 100_000) as i32))), true),
        ("time", Arc::new(Time64MicrosecondArray::from_iter_values(numbers().map(|n| n.rem_euclid(86_400_000_000)))), true),
        ("ms", Arc::new(TimestampMillisecondArray::from_iter_values(numbers())), true),
        ("us", Arc::new(TimestampMicrosecondArray::from_iter(seeds.iter().map(|(n, _, flag)| flag.map(|_| *n)))), true),
        ("row", Arc::new(structs), true),
        ("list", Arc::new(lists), false),
        ("map", Arc::new(maps), true),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    let arrays = columns.into_iter().map(|(_, array, _)| array).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).expect("a batch")
}

fn written(batch: &RecordBatch) -> (String, Vec<Vec<u8>>) {
    let shape = Shape::record("rows", batch.schema_ref().fields()).expect("every type has a schema");
    let writer = Writer::record(&shape, batch.columns()).expect("a writer");
    let message = |row| {
        let mut out = Vec::new();
        writer.write(row, &mut out);
        out
    };
    (shape.json().to_string(), (0..batch.num_rows()).map(message).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(seeds in proptest::collection::vec((any::<i64>(), ".{0,9}", any::<Option<bool>>()), 1..12)) {
        let batch = batch(&seeds);
        let (schema, messages) = written(&batch);
        let spec = spec(batch.schema_ref().fields().iter().map(|field| field.as_ref().clone()).collect(), &[]);
        let mut reader = decoder(&schema, &[], &spec);
        let read = read_all(&mut reader, &messages).rows;
        prop_assert_eq!(json(&read), json(&batch));
        // Of some columns only; the others are skipped.
        let some = DecoderSpec { used: vec![1, 6, 13, 15], ..spec };
        let read = read_all(&mut decoder(&schema, &[], &some), &messages).rows;
        prop_assert_eq!(json(&read), json(&batch.project(&some.used).expect("columns")));
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..200, flip in any::<u8>()) {
        let batch = batch(&[(77, "text".into(), Some(true)), (-5, String::new(), None)]);
        let (schema, messages) = written(&batch);
        let spec = spec(batch.schema_ref().fields().iter().map(|field| field.as_ref().clone()).collect(), &[]);
        let mut reader = decoder(&schema, &[], &spec);
        let mut rows = 0;
        let mut damaged = messages[1].clone();
        let place = at % damaged.len();
        damaged[place] ^= flip;
        for message in [&bytes, &damaged, &messages[0]] {
            rows += usize::from(reader.decode(message).is_ok());
            prop_assert_eq!(reader.rows(), rows);
        }
        prop_assert_eq!(reader.take().expect("columns").rows.num_rows(), rows);
    }
}
