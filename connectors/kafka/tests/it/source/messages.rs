//! Messages that are not just a row: keys alone, what does not decode, what stands around a message.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use highwater_broker::Broker;
use highwater_connectors::source::{SourceConnector, SourceSpec};
use highwater_kafka::KafkaSource;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use crate::support::{PATIENCE, Reading, Stand, producer, refused, send, source_spec, topic};

fn table(brokers: &str, topic: &str, more: &[(&str, &str)]) -> SourceSpec {
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)];
    SourceSpec { schema: Arc::new(Schema::new(fields)), primary_key: vec![0], ..source_spec(brokers, topic, more) }
}

fn read(spec: &SourceSpec) -> Reading {
    let source = KafkaSource.open(spec).unwrap();
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    reading
}

#[test]
fn a_message_without_a_value_deletes_its_keys_row() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "tombstones", 1);
    let producer = producer(&brokers);
    for (key, value) in [
        (Some(r#"{"id":1}"#), Some(r#"{"id":1,"name":"a"}"#)),
        (Some(r#"{"id":1}"#), None),
        (Some("2"), None),
        (Some(r#"{"id":"x"}"#), None),
        (None, None),
        (Some("3"), Some(r#"{"id":3,"name":"c"}"#)),
    ] {
        send(&producer, &topic, 0, key, value);
    }
    producer.flush(PATIENCE).unwrap();
    let got = read(&table(&brokers, &topic, &[]));
    assert_eq!((got.ids, got.diffs), (vec![1, 1, 2, 3], vec![1, -1, -1, 1]));
    assert_eq!(got.rejects.len(), 2, "{:?}", got.rejects);
    assert!(got.rejects[0].starts_with("offset 3: key: column 'id': expected BIGINT"), "{}", got.rejects[0]);
    assert_eq!(got.rejects[1], "offset 4: a message with neither key nor value@4");

    let got = read(&source_spec(&brokers, &topic, &[]));
    assert_eq!((got.ids, got.rejects.len()), (vec![1, 3], 4));
    assert!(got.rejects[0].contains("there is no primary key"), "{}", got.rejects[0]);

    // After a deletion Debezium sends the key alone, for the topic's compaction: a table does not mind, a bag need not know.
    let got = read(&source_spec(&brokers, &topic, &[("format", "debezium")]));
    assert_eq!(got.rejects.len(), 2, "the two that are no changes: {:?}", got.rejects);
}

#[test]
fn what_does_not_decode_is_rejected_with_its_offset() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "poison", 1);
    let producer = producer(&brokers);
    let long = format!("{{\"id\":5,\"name\":\"{}\"}}", "y".repeat(5_000));
    for value in ["{\"id\":1}", "{\"id\":", "", "{\"id\":\"x\"}", &long, "{\"id\":6}"] {
        send(&producer, &topic, 0, None, Some(value));
    }
    producer.flush(PATIENCE).unwrap();
    let got = read(&source_spec(&brokers, &topic, &[("row_bytes_max", "2000")]));
    assert_eq!((got.ids.as_slice(), got.offset.as_ref().unwrap().0.as_ref()), ([1, 6].as_slice(), "6"));
    let starts = [
        "offset 1: column 'id': not valid JSON",
        "offset 2: the message is empty@2",
        "offset 3: column 'id'",
        "offset 4: longer than",
    ];
    assert_eq!(got.rejects.len(), starts.len());
    for (reject, start) in got.rejects.iter().zip(starts) {
        assert!(reject.starts_with(start), "{reject}");
    }
}

#[test]
fn columns_take_what_stands_around_a_message() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "metadata", 2);
    let producer = producer(&brokers);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("abc") })
        .insert(Header { key: "none", value: None::<&str> });
    let record = BaseRecord::to(&topic).partition(1).timestamp(1_700_000_000_123).headers(headers);
    producer.send(record.key("k1").payload("{\"id\":7,\"key\":\"of the row\"}")).unwrap();
    let record: BaseRecord<'_, [u8], str> = BaseRecord::to(&topic).partition(1);
    producer.send(record.key(&[0xff]).payload("{\"id\":8}")).unwrap();
    producer.flush(PATIENCE).unwrap();

    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false);
    let columns = [
        ("t", DataType::Utf8, Some("topic")),
        ("id", DataType::Int64, None),
        ("p", DataType::Int32, Some("partition")),
        ("o", DataType::Int64, Some("offset")),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, None), Some("timestamp")),
        ("key", DataType::Binary, Some("key")),
        ("h", map, Some("headers")),
        ("json", DataType::Utf8, Some("headers")),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, data_type, _)| Field::new(*name, data_type.clone(), true)).collect();
    let spec = SourceSpec {
        schema: Arc::new(Schema::new(fields)),
        used: vec![1, 3, 4, 5, 6, 7],
        metadata: columns.iter().map(|(.., key)| key.map(str::to_owned)).collect(),
        keeps_origin: true,
        ..source_spec(&brokers, &topic, &[])
    };
    let source = KafkaSource.open(&spec).unwrap();
    let mut reading = Reading::of(&*source, "1", None);
    reading.until(Stand::AtEnd);
    let batch =
        arrow::compute::concat_batches(&spec.used_schema(), reading.batches.iter().map(|batch| &batch.rows).collect::<Vec<_>>())
            .unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert_eq!(column("id").as_primitive::<Int64Type>().values(), &[7, 8]);
    assert_eq!(column("o").as_primitive::<Int64Type>().values(), &[0, 1]);
    let at = arrow::compute::cast(column("at"), &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
    assert_eq!(at.as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_123_000);
    assert_eq!(column("key").as_binary::<i32>().value(0), b"k1");
    assert_eq!(column("key").as_binary::<i32>().value(1), [0xff]);
    let pairs = column("h").as_map().value(0);
    assert_eq!(pairs.column(0).as_string::<i32>().value(0), "trace");
    assert_eq!((pairs.column(1).as_string::<i32>().value(0), pairs.column(1).is_null(1)), ("abc", true));
    assert_eq!(column("h").as_map().value(1).len(), 0);
    assert_eq!(column("json").as_string::<i32>().value(0), r#"{"none":null,"trace":"abc"}"#);

    let given: Vec<_> = reading.batches.iter().filter(|batch| batch.rows.num_rows() > 0).collect();
    let origin = given.last().unwrap().origin.as_ref().unwrap();
    let whole = origin.rows(&[given.last().unwrap().rows.num_rows() as u32 - 1]).unwrap();
    assert_eq!(whole.num_columns(), 8);
    assert_eq!(whole.column(0).as_string::<i32>().value(0), topic);
    assert_eq!(whole.column(1).as_primitive::<Int64Type>().value(0), 8);
    assert_eq!(whole.column(2).as_primitive::<Int32Type>().value(0), 1);

    // A key that is no text is no VARCHAR.
    let text = SourceSpec { metadata: vec![None, Some("key".into())], ..source_spec(&brokers, &topic, &[]) };
    let source = KafkaSource.open(&text).unwrap();
    let mut reading = Reading::of(&*source, "1", None);
    reading.until(Stand::AtEnd);
    assert_eq!(
        (reading.ids, reading.rejects),
        (vec![7], vec!["offset 1: the key is not UTF-8; declare its column as BYTEA@1".to_owned()])
    );
    let error = refused(&SourceSpec { metadata: vec![Some("ofset".into())], ..source_spec(&brokers, &topic, &[]) });
    assert!(error.help.unwrap().contains("topic, partition, offset, timestamp, key, headers"));
    let error = refused(&SourceSpec { metadata: vec![Some("topic".into())], ..source_spec(&brokers, &topic, &[]) });
    assert!(error.message.contains("column 'id' takes the metadata 'topic', which is VARCHAR"), "{error}");
}
