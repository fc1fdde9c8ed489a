//! Avro with a schema registry, through a real broker.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use highwater_broker::{Broker, SchemaRegistry};
use highwater_connectors::sink::{EpochChanges, SinkConnector, SinkSpec};
use highwater_connectors::source::{SourceConnector, SourceSpec};
use highwater_kafka::{KafkaSink, KafkaSource};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::sink::{changes, epoch, publisher, spec};
use crate::support::{PATIENCE, Reading, Stand, open, producer, source_spec, topic, wait};

fn record(fields: Value) -> String {
    json!({ "type": "record", "name": "R", "fields": fields }).to_string()
}

/// A message as it stands in a topic: zero, the schema's id, the rest.
fn framed(id: u32, rest: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), rest].concat()
}

fn send(producer: &BaseProducer, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0);
    record.key = key;
    record.payload = value;
    producer.send(record).unwrap();
}

fn names(reading: &Reading) -> Vec<Option<String>> {
    let columns = reading.batches.iter().map(|batch| batch.rows.column_by_name("name").unwrap().as_string::<i32>().clone());
    columns.flat_map(|column| column.iter().map(|name| name.map(str::to_owned)).collect::<Vec<_>>()).collect()
}

fn avro(registry: &str) -> Vec<(&str, &str)> {
    vec![("format", "avro"), ("schema_registry", registry)]
}

#[test]
fn old_and_new_writers_share_a_topic_and_poison_is_rejected() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "evolved", 1);
    let subject = format!("{topic}-value");
    let old = registry.add(&subject, "AVRO", &record(json!([{ "name": "id", "type": "int" }])), Value::Null);
    let fields = json!([{ "name": "name", "type": ["null", "string"] }, { "name": "more", "type": "long" }, { "name": "id", "type": "long" }]);
    let new = registry.add(&subject, "AVRO", &record(fields), Value::Null);
    let other = registry.add("other", "AVRO", &record(json!([{ "name": "id", "type": "string" }])), Value::Null);
    let proto = registry.add("p", "PROTOBUF", "syntax = \"proto3\";", Value::Null);
    let producer = producer(&brokers);
    for message in [
        framed(old, &[2]),
        framed(new, &[2, 2, b'b', 6, 4]),
        framed(99, &[2]),
        framed(new, &[2, 2]),
        b"{\"id\":1}".to_vec(),
        framed(other, &[2, b'x']),
        framed(proto, &[2]),
        Vec::new(),
        framed(old, &[6]),
        framed(new, &[0, 6, 8]),
    ] {
        send(&producer, &topic, None, Some(&message));
    }
    producer.flush(PATIENCE).unwrap();
    let url = registry.url();
    let source = open(&brokers, &topic, &avro(&url));
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((got.ids.as_slice(), got.offset()), ([1, 2, 3, 4].as_slice(), "10"));
    assert_eq!(names(&got), [None, Some("b".to_owned()), None, None]);
    let expected = [
        "offset 2: schema 99 is not in the registry: Schema not found@2",
        "offset 3: column 'name': the message ends within a value at byte 7@3",
        "offset 4: expected a zero byte and the id of a schema in front, found '{\"id\"'@4",
        "offset 5: schema 3: column 'id': it has type BIGINT, and its field is string; declare it as VARCHAR@5",
        "offset 6: schema 4 is Protobuf, not Avro@6",
        "offset 7: expected a zero byte and the id of a schema in front, found ''@7",
    ];
    assert_eq!(got.rejects, expected);
    let raws: Vec<Vec<u8>> = got.batches.iter().flat_map(|batch| batch.rejects.iter().map(|reject| reject.raw.clone())).collect();
    assert_eq!(raws[1], framed(new, &[2, 2]));

    // From the middle, as a job that is started again: the same rows, and the schemas are asked for once.
    let asked = registry.requests();
    drop(got);
    let mut again = Reading::of(&*source, "0", Some("8"));
    again.until(Stand::AtEnd);
    assert_eq!((again.ids, registry.requests()), (vec![3, 4], asked));
}

#[test]
fn a_registry_that_is_away_is_waited_for() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "away", 1);
    let schema = record(json!([{ "name": "id", "type": "long" }]));
    let id = registry.add(&format!("{topic}-value"), "AVRO", &schema, Value::Null);
    let producer = producer(&brokers);
    for number in 1..=100_u8 {
        send(&producer, &topic, None, Some(&framed(id, &[number % 64 * 2])));
    }
    producer.flush(PATIENCE).unwrap();
    registry.set_away(true);
    let url = registry.url();
    let source = open(&brokers, &topic, &avro(&url));
    let mut got = Reading::of(&*source, "0", None);
    wait("the reader to say that it waits", || {
        got.step().unwrap();
        got.errors.last().is_some_and(|error| error.contains("waiting for the schema") && error.contains("away")).then_some(())
    });
    assert!(got.errors.last().unwrap().contains(&format!("offset 0 of topic '{topic}', partition 0")), "{:?}", got.errors);
    assert_eq!((got.ids.len(), got.rejects.len(), got.offset.is_none()), (0, 0, true), "nothing is lost or refused meanwhile");
    let woken = got.woken.load(std::sync::atomic::Ordering::Relaxed);
    registry.set_away(false);
    got.until(Stand::AtEnd);
    assert_eq!((got.ids.len(), got.rejects.len(), got.offset()), (100, 0, "100"));
    assert!(got.woken.load(std::sync::atomic::Ordering::Relaxed) > woken, "who waits is woken");
}

#[test]
fn keys_are_avro_as_well() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "keys", 1);
    let key = registry.add(&format!("{topic}-key"), "AVRO", &record(json!([{ "name": "id", "type": "int" }])), Value::Null);
    let bare = registry.add("bare", "AVRO", "\"long\"", Value::Null);
    let fields = json!([{ "name": "id", "type": "long" }, { "name": "name", "type": "string" }]);
    let value = registry.add(&format!("{topic}-value"), "AVRO", &record(fields), Value::Null);
    let producer = producer(&brokers);
    send(&producer, &topic, Some(&framed(key, &[2])), Some(&framed(value, &[2, 2, b'a'])));
    send(&producer, &topic, Some(&framed(key, &[2])), None);
    send(&producer, &topic, Some(&framed(bare, &[4])), None);
    send(&producer, &topic, Some(&framed(value, &[6])), None);
    producer.flush(PATIENCE).unwrap();
    let url = registry.url();
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, false)];
    let table =
        SourceSpec { schema: Arc::new(Schema::new(fields)), primary_key: vec![0], ..source_spec(&brokers, &topic, &avro(&url)) };
    let source = KafkaSource.open(&table).unwrap();
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((got.ids, got.diffs), (vec![1, 1, 2], vec![1, -1, -1]));
    assert_eq!(got.rejects, ["offset 3: key: column 'name': the message ends within a value at byte 6@3"]);
}

#[test]
fn what_a_statement_says_wrong_is_told_when_it_is_made() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "mistaken", 1);
    let schema = record(json!([{ "name": "id", "type": "string" }, { "name": "name", "type": "string" }]));
    registry.add(&format!("{topic}-value"), "AVRO", &schema, Value::Null);
    let url = registry.url();
    let told = |more: &[(&str, &str)]| {
        let opened = KafkaSource.open(&source_spec(&brokers, &topic, more));
        let error = opened.and_then(|source| source.check()).expect_err("it is a mistake");
        format!("{}: {}; {}", error.code, error.message, error.help.unwrap_or_default())
    };
    assert_eq!(
        told(&avro(&url)),
        format!(
            "schema-mismatch: schema 1 of subject '{topic}-value' does not fit column 'id': it has type BIGINT, and its field is \
             string; declare it as VARCHAR"
        )
    );
    let elsewhere = [avro(&url), vec![("schema_registry.subject", "elsewhere")]].concat();
    let checked = |more: &[(&str, &str)]| open(&brokers, &topic, more).check();
    assert_eq!(checked(&elsewhere), Ok(()), "nothing is known of this subject");
    assert!(told(&[("format", "avro")]).contains("schema_registry = 'http://host:port'"));
    assert!(told(&[("format", "avro"), ("schema_registry", "localhost")]).contains("expected http://host:port"));
    assert!(told(&[("format", "json"), ("schema_registry", &url)]).contains("avro, debezium-avro or protobuf"));
    assert!(told(&[("format", "avro"), ("schema_registry.user", "x")]).contains("where the registry is"));
    assert!(told(&[("format", "raw")]).contains("a message in format 'raw' is one column, and 2 are declared"));
    registry.require("Bearer secret");
    let error = told(&avro(&url));
    assert!(error.starts_with("registry-refused") && error.contains("Unauthorized"), "{error}");
    let nobody = [("format", "avro"), ("schema_registry", "http://127.0.0.1:1")];
    assert_eq!(checked(&nobody), Ok(()), "an outage is no mistake of the statement");
}

/// Publishes epochs.
fn publish(spec: &SinkSpec, epochs: &[EpochChanges]) {
    let mut publisher = publisher(spec);
    wait("the sink to be taken over", || match publisher.take_over() {
        Ok(_) => Some(()),
        Err(error) => {
            assert!(!error.fatal, "{error}");
            None
        }
    });
    publisher.publish(epochs, epochs.last().unwrap().epoch).unwrap();
}

#[test]
fn what_a_sink_writes_a_source_reads() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "round", 1);
    let url = registry.url();
    let sink = SinkSpec { key: Some(vec![0]), append_only: false, ..spec(&brokers, &topic, "avro-round", &avro(&url)) };
    let epochs = [epoch(1, &[(1, "a", 1), (2, "b", 1)]), epoch(2, &[(1, "a", -1), (1, "c", 1), (2, "b", -1)])];
    publish(&sink, &epochs);
    let value: Value = serde_json::from_str(&registry.versions(&format!("{topic}-value"))[0]).unwrap();
    assert_eq!((&value["name"], &value["fields"][1]["type"]), (&json!("out"), &json!(["null", "string"])));
    assert_eq!(registry.versions(&format!("{topic}-key")).len(), 1);

    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)];
    let table =
        SourceSpec { schema: Arc::new(Schema::new(fields)), primary_key: vec![0], ..source_spec(&brokers, &topic, &avro(&url)) };
    let source = KafkaSource.open(&table).unwrap();
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((&got.ids, &got.diffs), (&vec![1, 2, 1, 2], &vec![1, 1, 1, -1]), "{:?}", got.rejects);
    assert_eq!(names(&got)[..3], [Some("a".to_owned()), Some("b".to_owned()), Some("c".to_owned())]);

    // A sink of other columns, whose schema does not go with this one, is refused before it writes anything.
    let fields = vec![Field::new("id", DataType::Utf8, false)];
    let other = SinkSpec { schema: Arc::new(Schema::new(fields)), ..sink.clone() };
    for error in [KafkaSink.validate(&other).err(), KafkaSink.open(&other).err()] {
        let error = error.expect("the registry refuses it");
        assert_eq!(error.code, "registry-refused");
        assert!(error.message.contains("does not take the schema of the sink's columns"), "{}", error.message);
    }
}

#[test]
fn keys_may_be_raw_beside_any_values() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "raw-keys", 1);
    let url = registry.url();
    let options = [avro(&url), vec![("key.format", "raw"), ("key", "name")]].concat();
    let sink = SinkSpec { key: Some(vec![1]), append_only: false, ..spec(&brokers, &topic, "raw-keys", &options) };
    publish(&sink, &[epoch(1, &[(1, "a", 1), (2, "b", 1)]), epoch(2, &[(1, "a", -1)])]);
    assert!(registry.versions(&format!("{topic}-key")).is_empty());
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, false)];
    let table = SourceSpec {
        schema: Arc::new(Schema::new(fields)),
        primary_key: vec![1],
        ..source_spec(&brokers, &topic, &options[..options.len() - 1])
    };
    let source = KafkaSource.open(&table).unwrap();
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((&got.diffs, &got.rejects), (&vec![1, 1, -1], &Vec::<String>::new()));
    assert_eq!(names(&got), ["a", "b", "a"].map(|name| Some(name.to_owned())));
    // One that is NULL would be the same as one that is empty.
    let ids = arrow::array::Int64Array::from(vec![1]);
    let none = arrow::array::StringArray::from(vec![None::<&str>]);
    let rows = arrow::array::RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as arrow::array::ArrayRef, true),
        ("name", Arc::new(none), true),
    ]);
    let changes = highwater_connectors::sink::Changes { rows: rows.unwrap(), diffs: None };
    let mut publisher = publisher(&sink);
    publisher.take_over().unwrap();
    let error = publisher.publish(&[EpochChanges { epoch: 3, changes: vec![changes] }], 3).expect_err("there is no such key");
    assert!(error.fatal && error.message.contains("a raw key cannot be"), "{error}");
}

#[test]
fn changes_of_debezium_go_out_and_come_back() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "changes", 1);
    let url = registry.url();
    let options = [("format", "debezium-avro"), ("schema_registry", url.as_str())];
    registry.set_away(true);
    let sink = SinkSpec { append_only: false, ..spec(&brokers, &topic, "avro-changes", &options) };
    // The sink opens without the registry, and publishing waits for it.
    let mut publisher = publisher(&sink);
    let error = publisher.take_over().expect_err("the registry is away");
    assert!(!error.fatal && error.message.contains("away"), "{error}");
    registry.set_away(false);
    publisher.take_over().unwrap();
    publisher
        .publish(&[EpochChanges { epoch: 1, changes: vec![changes(&[(1, "a", 1), (2, "b", 2), (1, "a", -1)])] }], 1)
        .unwrap();
    let source = open(&brokers, &topic, &options);
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((got.ids, got.diffs), (vec![1, 2, 2, 1], vec![1, 1, 1, -1]), "{:?}", got.rejects);
}

#[test]
fn messages_of_protobuf_go_out_and_come_back() {
    let (brokers, registry) = (Broker::shared().bootstrap(), SchemaRegistry::start());
    let topic = topic(&brokers, "protobuf", 1);
    let url = registry.url();
    let options = [("format", "protobuf"), ("schema_registry", url.as_str())];
    let sink = spec(&brokers, &topic, "protobuf-round", &options);
    publish(&sink, &[epoch(1, &[(1, "a", 1), (-2, "", 1)])]);
    let subject = format!("{topic}-value");
    let text = "syntax = \"proto3\";\n\nmessage out {\n  optional int64 id = 1;\n  optional string name = 2;\n}\n";
    assert_eq!(registry.versions(&subject), [text]);

    // Somebody makes the next version: what is written goes into its fields, whatever their numbers.
    let next = "syntax = \"proto3\"; import \"more.proto\"; message First { More more = 1; } message Row { string name = 7; sint64 id = 9; }";
    registry.add("more", "PROTOBUF", "syntax = \"proto3\"; message More {}", Value::Null);
    let more = json!([{ "name": "more.proto", "subject": "more", "version": 1 }]);
    registry.add(&subject, "PROTOBUF", next, more);
    let named = [options.as_slice(), &[("protobuf.message", "Row")]].concat();
    publish(&spec(&brokers, &topic, "protobuf-next", &named), &[epoch(1, &[(-3, "c", 1)])]);
    let error = KafkaSink.validate(&sink).expect_err("the first message is another");
    assert!(error.message.contains("message First has no such field"), "{}", error.message);

    let source = open(&brokers, &topic, &options);
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((&got.ids, &got.rejects), (&vec![1, -2, -3], &Vec::<String>::new()));
    assert_eq!(names(&got), ["a", "", "c"].map(|name| Some(name.to_owned())));
    drop(got);

    // A source that wants one message rejects the others.
    let one = open(&brokers, &topic, &named);
    let mut got = Reading::of(&*one, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!((&got.ids, got.rejects.len()), (&vec![-3], 2));
    assert!(got.rejects[0].contains("the message is 'out', not 'Row'"), "{:?}", got.rejects);
}

#[test]
fn raw_messages_are_a_column() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "raw", 1);
    let raw = [("format", "raw"), ("key", "id")];
    let mut sink = spec(&brokers, &topic, "raw-round", &raw);
    sink.schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]));
    publish(&sink, &[epoch(1, &[(1, "  ", 1), (2, "{}", 1), (3, "", 1)])]);
    let fields = vec![Field::new("id", DataType::Utf8, false), Field::new("k", DataType::Binary, true)];
    let source = SourceSpec {
        schema: Arc::new(Schema::new(fields)),
        metadata: vec![None, Some("key".into())],
        used: vec![0, 1],
        ..source_spec(&brokers, &topic, &raw[..1])
    };
    let source = KafkaSource.open(&source).unwrap();
    let mut reader = source.read(&highwater_connectors::source::PartitionId::new("0"), None, Arc::new(|| {})).unwrap();
    let (mut texts, mut keys) = (Vec::new(), Vec::new());
    wait("three messages", || {
        if let highwater_connectors::source::Polled::Batch(batch) = reader.poll(100).unwrap() {
            texts.extend(batch.rows.column(0).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()));
            keys.extend(batch.rows.column(1).as_binary::<i32>().iter().map(|key| key.unwrap().to_vec()));
        }
        (texts.len() == 3).then_some(())
    });
    assert_eq!(texts, ["  ", "{}", ""]);
    assert_eq!(keys, [1_i64, 2, 3].map(|id| id.to_be_bytes().to_vec()));
    let numbers = SourceSpec {
        schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)])),
        used: vec![0],
        ..source_spec(&brokers, &topic, &raw[..1])
    };
    let source = KafkaSource.open(&numbers).unwrap();
    let mut got = Reading::of(&*source, "0", None);
    got.until(Stand::AtEnd);
    assert_eq!(got.rejects.len(), 3);
    assert!(got.rejects[0].starts_with("offset 0: column 'id': a message of 2 bytes is no BIGINT"), "{:?}", got.rejects);
}
