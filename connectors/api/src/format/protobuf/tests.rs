//! What messages of Protobuf become.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema as ArrowSchema, TimeUnit};
use arrow::record_batch::RecordBatch;
use highwater_plan::{OptionReader, Options};
use highwater_schemas::{Kind, Messages, Schema};
use proptest::prelude::*;
use serde_json::Value;

use super::super::messages::Messages as FormatMessages;
use super::*;
use crate::format::encode::protobuf::{Shape, Writer, derived};
use crate::format::testing::json;
use crate::format::{Decoder, FORMAT_FIELDS, Format, message_fields};

const DESCRIPTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/format/protobuf/fixtures.bin");

fn spec(fields: Vec<Field>) -> DecoderSpec {
    DecoderSpec {
        used: (0..fields.len()).collect(),
        schema: Arc::new(ArrowSchema::new(fields)),
        primary_key: Vec::new(),
        keeps_origin: false,
        defaults: Vec::new(),
    }
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(field("item", item)))
}

fn map(value: DataType) -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), field("value", value)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

fn inner() -> DataType {
    DataType::Struct(vec![field("x", DataType::Int64), field("y", DataType::Utf8)].into())
}

/// The columns of the fixtures.
fn columns() -> Vec<Field> {
    use DataType::*;
    [
        ("d", Float64),
        ("f", Float32),
        ("i", Int32),
        ("l", Int64),
        ("u", UInt64),
        ("si", Int32),
        ("sl", Int64),
        ("fi", UInt32),
        ("sfl", Int64),
        ("b", Boolean),
        ("s", Utf8),
        ("y", Binary),
        ("state", Utf8),
        ("number", Int32),
        ("maybe", Int64),
        ("inner", inner()),
        ("inners", list(inner())),
        ("list", list(Int64)),
        ("texts", list(Utf8)),
        ("counts", map(Int64)),
        ("rows", map(inner())),
        ("left", Utf8),
        ("right", Int64),
        ("at", Timestamp(TimeUnit::Microsecond, None)),
        ("took", Interval(IntervalUnit::MonthDayNano)),
        ("wrapped", Int64),
        ("raw", Binary),
        ("states", list(Utf8)),
        ("packed", list(Int32)),
    ]
    .map(|(name, data_type)| field(name, data_type))
    .to_vec()
}

fn format(more: &[(&str, &str)]) -> (Format, Options) {
    let pairs = [("format", "protobuf"), ("protobuf.descriptor_file", DESCRIPTORS)];
    let options = Options::from_pairs(pairs.into_iter().chain(more.iter().copied()));
    let fields = message_fields();
    let reader = OptionReader::new(&options, "a test", &[FORMAT_FIELDS, &fields]).expect("known options");
    (Format::of_messages(&reader).expect("a format"), options)
}

fn decoder(spec: &DecoderSpec, more: &[(&str, &str)]) -> Decoder {
    let (format, options) = format(more);
    format.check(spec, &options).expect("the columns fit");
    format.decoder(spec, &options).expect("known types")
}

/// Messages of Google's library, and the rows they are.
fn fixtures() -> Vec<(Vec<u8>, Value)> {
    let lines = include_str!("fixtures.jsonl").lines();
    let one = |line: &str| {
        let case: Value = serde_json::from_str(line).expect("a fixture");
        let message = case["message"].as_str().expect("a text");
        (crate::format::text::hex(message.as_bytes()).expect("hexadecimal digits"), case["row"].clone())
    };
    lines.map(one).collect()
}

/// A decoder of the text of a `.proto` file.
fn of_text(text: &str, name: Option<&str>, spec: &DecoderSpec) -> ProtobufDecoder {
    let schema = Schema { kind: Kind::Protobuf, text: text.to_owned(), references: Vec::new() };
    let messages = FormatMessages {
        values: None,
        keys: None,
        raw_keys: false,
        protobuf: Some(Arc::new(Messages::compile(&schema).expect("it compiles"))),
        protobuf_message: name.map(str::to_owned),
        little: false,
    };
    let rules = Rules { epoch: TimeUnit::Millisecond, key_only: false, refuses_unknown: false };
    ProtobufDecoder::new(spec, rules, &messages).expect("known types")
}

fn taken(decoder: &mut ProtobufDecoder, spec: &DecoderSpec) -> Vec<Value> {
    let arrays = decoder.take().0.iter_mut().map(|column| column.take().expect("valid")).collect();
    json(&RecordBatch::try_new(spec.schema.clone(), arrays).expect("a batch"))
}

#[test]
fn what_another_library_writes_is_read() {
    let spec = spec(columns());
    let mut reader = decoder(&spec, &[]);
    let mut compiled = of_text(include_str!("fixtures.proto"), Some("fixtures.Row"), &spec);
    for (message, row) in fixtures() {
        reader.decode(&message).expect("a message");
        assert_eq!(json(&reader.take().expect("columns").rows), std::slice::from_ref(&row));
        compiled.decode(&message).expect("a message");
        assert_eq!(taken(&mut compiled, &spec), [row]);
    }
    // Of some columns only.
    let some = DecoderSpec { used: vec![3, 16, 20], ..spec };
    let mut reader = decoder(&some, &[("protobuf.message", "Row")]);
    let (message, row) = fixtures().remove(1);
    reader.decode(&message).expect("a message");
    let got = json(&reader.take().expect("columns").rows).remove(0);
    assert_eq!((&got["l"], &got["inners"], &got["rows"]), (&row["l"], &row["inners"], &row["rows"]));
}

#[test]
fn what_the_schema_says_of_an_absent_field_is_of_the_columns_type() {
    let text = r#"syntax = "proto2";
        enum State { NEW = 0; PAID = 3; }
        message R {
          optional State number = 1 [default = PAID];
          optional State name = 2 [default = PAID];
          optional string text = 3 [default = "a\\b"];
          optional string as_bytes = 4 [default = "a\\b"];
          optional bytes as_text = 5 [default = "x\ty"];
          optional bool yes = 6 [default = true];
          optional double most = 7 [default = inf];
        }"#;
    let columns = [
        ("number", DataType::Int32),
        ("name", DataType::Utf8),
        ("text", DataType::Utf8),
        ("as_bytes", DataType::Binary),
        ("as_text", DataType::Utf8),
        ("yes", DataType::Boolean),
        ("most", DataType::Float64),
    ];
    let spec = spec(columns.map(|(name, data_type)| field(name, data_type)).to_vec());
    let mut reader = of_text(text, Some("R"), &spec);
    reader.decode(&[]).expect("nothing is a message");
    let expected = serde_json::json!({
        "number": 3, "name": "PAID", "text": "a\\b", "as_bytes": {"$hex": "615c62"}, "as_text": "x\ty", "yes": true, "most": "Infinity",
    });
    assert_eq!(taken(&mut reader, &spec), [expected]);
}

#[test]
fn fields_come_in_any_order_and_more_than_once() {
    let text = r#"syntax = "proto2";
        message R {
          optional int64 id = 1;
          optional string name = 2 [default = "nobody"];
          optional bytes raw = 6 [default = "a\001\n"];
          optional I inner = 3;
          repeated int32 list = 4;
          optional group Old = 5 { optional int32 x = 1; }
        }
        message I { optional int64 x = 1; optional int64 y = 2; }"#;
    let row = DataType::Struct(vec![field("x", DataType::Int64), field("y", DataType::Int64)].into());
    let spec = DecoderSpec {
        defaults: vec![Some("7".into()), None, None, None, None],
        ..spec(vec![
            field("id", DataType::Int64),
            field("name", DataType::Utf8),
            field("inner", row),
            field("list", list(DataType::Int64)),
            field("raw", DataType::Binary),
        ])
    };
    let mut reader = of_text(text, Some("R"), &spec);
    // list 1; inner.x 1; id 5; group; list packed 2, 3; inner.y 2; unknown 99; id 6; inner.x 9
    let message =
        [0x20, 1, 0x1a, 2, 8, 1, 8, 5, 0x2b, 8, 1, 0x2c, 0x22, 2, 2, 3, 0x1a, 2, 0x10, 2, 0x98, 6, 1, 8, 6, 0x1a, 2, 8, 9];
    reader.decode(&message).expect("a message");
    reader.decode(&[]).expect("nothing is a message");
    let expected = [
        serde_json::json!({"id": 6, "name": "nobody", "inner": {"x": 9, "y": 2}, "list": [1, 2, 3], "raw": {"$hex": "61010a"}}),
        serde_json::json!({"id": 7, "name": "nobody", "inner": null, "list": [], "raw": {"$hex": "61010a"}}),
    ];
    assert_eq!(taken(&mut reader, &spec), expected);
    for (message, expected) in [
        (&[8][..], "the message ends within a value at byte 1"),
        (&[0x12, 5, b'a'], "the message ends within a value"),
        (&[0x12, 1, 0xff], "column 'name': a text is not UTF-8"),
        (&[0x0a, 0], "column 'id': the field is not written as its type is"),
        (&[0x2b, 8, 1], "the message ends within a value"),
        (&[0x0f], "wire type 7"),
        (&[0, 0], "0 is no number of a field"),
        (&[0x1a, 3, 8, 1, 8], "column 'inner': the message ends within a value"),
    ] {
        let error = reader.decode(message).expect_err("no message");
        assert!(error.contains(expected) || error.contains("column 'inner"), "{error}");
        assert_eq!(reader.rows(), 0);
    }
    let deep = (0..200).fold(Vec::new(), |inner, _| [&[0x2b], inner.as_slice(), &[0x2c]].concat());
    assert!(reader.decode(&deep).expect_err("too deep").contains("nested more than"));
}

#[test]
fn what_cannot_fit_is_told_before_any_row() {
    let refused = |fields: Vec<Field>, more: &[(&str, &str)]| {
        let (format, options) = format(more);
        let error = format.check(&spec(fields), &options).expect_err("it does not fit");
        assert_eq!(error.code, "schema-mismatch");
        format!("{}; {}", error.message, error.help.unwrap_or_default())
    };
    for (name, data_type, expected) in [
        ("s", DataType::Int64, "column 's': it has type BIGINT, and its field is string; declare it as VARCHAR"),
        ("d", DataType::Float32, "its field is double; declare it as DOUBLE"),
        ("list", DataType::Int64, "its field is repeated int32 or int64; declare it as an array"),
        ("counts", DataType::Utf8, "its field is map; declare it as MAP"),
        ("at", DataType::Utf8, "its field is message google.protobuf.Timestamp; declare it as TIMESTAMP"),
        ("inner", DataType::Int64, "declare it as ROW<..> with the fields that are read, or BYTEA"),
        ("inner", DataType::Struct(vec![field("x", DataType::Utf8)].into()), "column 'inner.x': it has type VARCHAR"),
        ("state", DataType::Boolean, "its field is enum fixtures.Row.State"),
    ] {
        let error = refused(vec![field(name, data_type)], &[]);
        assert!(error.contains(expected), "{error}");
    }
    let error = refused(vec![Field::new("nobody", DataType::Int64, false)], &[]);
    assert!(error.contains("column 'nobody': it is NOT NULL, and message fixtures.Row has no such field"), "{error}");
    let error = refused(columns(), &[("protobuf.message", "Other")]);
    assert!(error.contains("there is no message 'Other'; say protobuf.message = '...': one of fixtures.Row"), "{error}");
}

#[test]
fn a_registered_message_says_which_of_its_schema_it_is() {
    let server = highwater_broker::SchemaRegistry::start();
    let text = r#"syntax = "proto3"; message A { message B { int64 id = 1; } string id = 1; } message C { int64 id = 1; }"#;
    let id = server.add("t-value", "PROTOBUF", text, Value::Null);
    let url = server.url();
    let options = Options::from_pairs([("format", "protobuf"), ("schema_registry", url.as_str())]);
    let fields = message_fields();
    let reader = OptionReader::new(&options, "a test", &[FORMAT_FIELDS, &fields]).expect("known options");
    let format = Format::of_messages(&reader).expect("a format");
    let spec = spec(vec![field("id", DataType::Int64)]);
    format.check_registered(&spec, &["t"], &options).expect("each message says what it is");
    let mut decoder = format.decoder(&spec, &options).expect("known types");
    let framed = |rest: &[u8]| [&[0], id.to_be_bytes().as_slice(), rest].concat();
    let (sender, woken) = std::sync::mpsc::channel();
    let waker: Waker = Arc::new(move || sender.send(()).expect("the test waits"));
    while decoder.readiness(Some(&framed(&[0])), None, &waker) != Readiness::Ready {
        woken.recv_timeout(std::time::Duration::from_secs(180)).expect("the registry answers");
    }
    // C, then A.B.
    decoder.decode(&framed(&[2, 2, 8, 5])).expect("a message");
    decoder.decode(&framed(&[4, 0, 0, 8, 6])).expect("a message");
    for (message, expected) in [
        (&[0, 10, 0][..], "column 'id': it has type BIGINT, and its field is string"),
        (&[2, 8, 8, 5], "its schema has no message at [4]"),
        (&[2], "the message ends within the path of its type"),
        (&[0xff, 0xff, 3], "the path of the message's type is longer than any"),
    ] {
        let error = decoder.decode(&framed(message)).expect_err("no message");
        assert!(error.contains(expected), "{error}");
    }
    let rows = decoder.take().expect("columns").rows;
    assert_eq!(json(&rows), [serde_json::json!({"id": 5}), serde_json::json!({"id": 6})]);
}

/// The messages that a sink writes for a batch, in a message type of `text`.
fn written(text: &str, name: &str, batch: &RecordBatch) -> Result<Vec<Vec<u8>>, String> {
    let schema = Schema { kind: Kind::Protobuf, text: text.to_owned(), references: Vec::new() };
    let messages = Messages::compile(&schema)?;
    let fields: Vec<_> = batch.schema_ref().fields().iter().cloned().collect();
    let id = messages.find(name).expect("the message is there");
    let shape =
        Shape::of(&messages, id, &fields).map_err(|refused| format!("{}: {}; {}", refused.column, refused.what, refused.help))?;
    let writer = Writer::new(&shape, batch.columns()).map_err(|error| error.to_string())?;
    let message = |row| {
        let mut out = Vec::new();
        writer.write(row, &mut out);
        out
    };
    Ok((0..batch.num_rows()).map(message).collect())
}

#[test]
fn what_is_read_is_written_as_another_library_does() {
    // An interval, a message as bytes and a number without a name have no way back.
    let kept: Vec<usize> =
        (0..columns().len()).filter(|at| !["took", "raw", "states"].contains(&columns()[*at].name().as_str())).collect();
    let spec = DecoderSpec { used: kept, ..spec(columns()) };
    let mut reader = decoder(&spec, &[]);
    for (message, _) in fixtures() {
        reader.decode(&message).expect("a message");
        let rows = reader.take().expect("columns").rows;
        let again = written(include_str!("fixtures.proto"), "Row", &rows).expect("every column has a field");
        reader.decode(&again[0]).expect("a message");
        assert_eq!(json(&reader.take().expect("columns").rows), json(&rows));
        // Google's library writes fields in the order of their numbers, as the columns stand; the first that is left out is 25.
        let took = message.windows(2).position(|pair| pair == [0xca, 1]).unwrap_or(0);
        assert_eq!(again[0][..took], message[..took]);
    }
}

#[test]
fn what_has_no_message_is_refused() {
    let batch = |name: &str, array: arrow::array::ArrayRef| {
        RecordBatch::try_from_iter_with_nullable([(name, array, true)]).expect("a batch")
    };
    let text = "syntax = \"proto3\"; message M { int64 id = 1; int32 narrow = 2; repeated int64 list = 3; E e = 4; optional string s = 5; enum E { A = 0; } }";
    let ids = |values: Vec<Option<i64>>| -> arrow::array::ArrayRef { Arc::new(arrow::array::Int64Array::from(values)) };
    let texts = |value: &str| -> arrow::array::ArrayRef { Arc::new(arrow::array::StringArray::from(vec![value])) };
    assert_eq!(written(text, "M", &batch("id", ids(vec![Some(1), Some(0)]))), Ok(vec![vec![8, 1], vec![]]));
    let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([Some(1), None])]);
    for (batch, expected) in [
        (batch("id", ids(vec![None])), "column 'id' has a NULL, which its field of Protobuf cannot have"),
        (batch("narrow", ids(vec![Some(1)])), "narrow: it has type BIGINT, and its field is a signed number of 32 bits"),
        (batch("nobody", ids(vec![Some(1)])), "nobody: message M has no such field; add the field to the schema first"),
        (batch("list", ids(vec![Some(1)])), "list: it has type BIGINT, and its field is repeated"),
        (batch("list", Arc::new(list)), "column 'list' has a NULL among its items"),
        (batch("e", texts("B")), "column 'e' has 'B', which its enum does not have"),
        (batch("s", ids(vec![Some(1)])), "s: it has type BIGINT, and its field is string"),
    ] {
        let error = written(text, "M", &batch).expect_err("it cannot be written");
        assert!(error.contains(expected), "{error}");
    }
    let required = "syntax = \"proto2\"; message M { required int64 id = 1; optional int64 x = 2; }";
    let error = written(required, "M", &batch("x", ids(vec![Some(1)]))).expect_err("id is required");
    assert!(error.contains("id: message M requires it"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_in_a_schema_of_the_columns_is_read_back(
        seeds in proptest::collection::vec((any::<i64>(), ".{0,9}", any::<Option<bool>>()), 1..12)
    ) {
        let whole = super::super::avro::tests::batch(&seeds);
        // Items of lists and values of maps cannot be NULL.
        let kept: Vec<usize> = (0..whole.num_columns()).filter(|at| !["list", "map"].contains(&whole.schema().field(*at).name().as_str())).collect();
        let batch = whole.project(&kept).expect("columns");
        let fields: Vec<_> = batch.schema_ref().fields().iter().cloned().collect();
        let text = derived("rows", &fields).expect("every type has a field");
        let messages = written(&text, "rows", &batch).expect("what was derived fits");
        let spec = spec(fields.iter().map(|field| field.as_ref().clone()).collect());
        let mut reader = of_text(&text, Some("rows"), &spec);
        for message in &messages {
            reader.decode(message).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
        prop_assert_eq!(taken(&mut reader, &spec), json(&batch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..400, flip in any::<u8>()) {
        let mut reader = decoder(&spec(columns()), &[]);
        let whole = fixtures().remove(1).0;
        let mut damaged = whole.clone();
        let place = at % damaged.len();
        damaged[place] ^= flip;
        let mut rows = 0;
        for message in [&bytes, &damaged, &whole[..place].to_vec(), &whole] {
            rows += usize::from(reader.decode(message).is_ok());
            prop_assert_eq!(reader.rows(), rows);
        }
        prop_assert_eq!(reader.take().expect("columns").rows.num_rows(), rows);
    }
}
