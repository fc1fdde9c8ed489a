//! What is encoded, and that it reads back.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use arrow::record_batch::RecordBatch;

use super::*;

fn batch(name: &str, array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([(name, array, true)]).expect("one column")
}

fn json(array: impl Array + 'static) -> String {
    let mut text = Vec::new();
    ndjson(&batch("v", Arc::new(array)), &mut text).expect("it has JSON");
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn json_keeps_what_sql_means() {
    assert_eq!(
        json(Float64Array::from(vec![1.5, f64::NAN, f64::INFINITY, -0.0])),
        "{\"v\":1.5}\n{\"v\":\"NaN\"}\n{\"v\":\"Infinity\"}\n{\"v\":-0.0}\n"
    );
    assert_eq!(json(StringArray::from(vec![Some("a\"\\\n\u{1}é"), None])), "{\"v\":\"a\\\"\\\\\\n\\u0001é\"}\n{\"v\":null}\n");
    let decimal = Decimal128Array::from(vec![Some(-5), None]).with_precision_and_scale(10, 2).expect("fits");
    assert_eq!(json(decimal), "{\"v\":-0.05}\n{\"v\":null}\n");
    assert_eq!(json(TimestampSecondArray::from(vec![0])), "{\"v\":\"1970-01-01T00:00:00\"}\n");
    assert_eq!(json(TimestampMillisecondArray::from(vec![1]).with_timezone("UTC")), "{\"v\":\"1970-01-01T00:00:00.001Z\"}\n");
    assert_eq!(json(TimestampNanosecondArray::from(vec![-1])), "{\"v\":\"1969-12-31T23:59:59.999999999\"}\n");
    assert_eq!(json(DurationMillisecondArray::from(vec![7])), "{\"v\":{\"$interval_us\":7000}}\n");
    assert_eq!(json(DictionaryArray::<Int32Type>::from_iter(["a", "a"])), "{\"v\":\"a\"}\n{\"v\":\"a\"}\n");
    assert_eq!(
        json(StringViewArray::from(vec!["a view of a string that is not short"])),
        "{\"v\":\"a view of a string that is not short\"}\n"
    );
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(json(list.slice(1, 2)), "{\"v\":null}\n{\"v\":[]}\n");
    assert_eq!(json(list), "{\"v\":[1,null]}\n{\"v\":null}\n{\"v\":[]}\n");
}

#[test]
fn names_are_escaped_and_leading_fields_come_first() {
    let batch = batch("a\"b", Arc::new(Int32Array::from(vec![1])));
    let mut text = Vec::new();
    ndjson_with(&batch, |row, out| out.extend_from_slice(format!("\"epoch\":7,\"diff\":{row}").as_bytes()), &mut text)
        .expect("JSON");
    assert_eq!(String::from_utf8_lossy(&text), "{\"epoch\":7,\"diff\":0,\"a\\\"b\":1}\n");
}

#[test]
fn csv_tells_null_from_empty() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), Some(""), None, Some("plain")]));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(0), None, None, None]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![None, Some(&[1, 255]), None, None]));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([None, Some(vec![Some(1), Some(2)]), None, None]);
    let columns: [(&str, ArrayRef); 4] = [("text", texts), ("at", times), ("by,te", bytes), ("list", Arc::new(list))];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).expect("equal lengths");
    let mut text = Vec::new();
    csv(&batch, true, &mut text).expect("CSV");
    let expected =
        "text,at,\"by,te\",list\n\"a,\"\"b\"\"\n\",1970-01-01T00:00:00.000,,\n\"\",,\\x01ff,\"[1,2]\"\n,,,\nplain,,,\n";
    assert_eq!(String::from_utf8_lossy(&text), expected);
}

#[test]
fn types_without_json_are_refused() {
    let array = new_empty_array(&DataType::Decimal256(50, 1));
    assert!(ndjson(&batch("v", array), &mut Vec::new()).is_err());
}
