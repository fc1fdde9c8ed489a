//! What stands in the topic, and what the sink refuses.

use highwater_broker::Broker;
use highwater_connectors::sink::{SinkConnector, SinkSpec};
use highwater_kafka::KafkaSink;
use highwater_plan::Diagnostic;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::{added, epoch, publisher, spec};
use crate::support::{Stored, admin, block_on, consume, delete_topic, topic, topic_with, unique, wait};

/// A topic with three replicas of which two must be in sync.
pub(super) fn create_replicated(brokers: &str, name: &str) {
    let new = NewTopic::new(name, 1, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
    wait("a replicated topic", || {
        let made = block_on(admin(brokers).create_topics([&new], &AdminOptions::new())).ok()?;
        made[0].as_ref().ok().map(|_| ())
    });
}

fn header<'a>(message: &'a Stored, key: &str) -> &'a str {
    let found = message.headers.iter().find(|(name, _)| name == key);
    found.map_or("-", |(_, value)| value)
}

#[test]
fn rows_by_key_and_where_they_came_from() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic_with(&brokers, "upsert", 5, &[("cleanup.policy", "compact")]);
    let updating = SinkSpec { key: Some(vec![0]), append_only: false, ..spec(&brokers, &topic, &unique("job"), &[]) };
    let mut sink = publisher(&updating);
    sink.take_over().unwrap();
    let first = epoch(5, &[(1, "a", 1), (2, "b", 1), (21, "c", 1)]);
    sink.publish(&[first, epoch(6, &[(1, "a", -1), (2, "b", -1), (1, "x", 1)])], 6).unwrap();
    let found = consume(&brokers, &topic, "read_committed");
    let mut told: Vec<String> = found
        .iter()
        .map(|message| {
            let (epoch, key) = (header(message, "highwater-epoch"), message.key.as_ref().unwrap());
            format!("{epoch} {key} {}", message.value.as_deref().unwrap_or("-"))
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            r#"5 {"id":1} {"id":1,"name":"a"}"#,
            r#"5 {"id":21} {"id":21,"name":"c"}"#,
            r#"5 {"id":2} {"id":2,"name":"b"}"#,
            r#"6 {"id":1} {"id":1,"name":"x"}"#,
            r#"6 {"id":2} -"#,
        ]
    );
    for message in &found {
        assert_eq!((header(message, "highwater-job"), header(message, "highwater-sink")), (&*updating.job, "out"));
        assert_eq!(header(message, "highwater-idempotency-key"), "-", "nothing comes twice");
        let hash = murmur2(message.key.as_ref().unwrap().as_bytes()) & 0x7fff_ffff;
        assert_eq!(message.partition as u32, hash % 5, "the partition that a Java producer takes");
    }
}

/// Kafka's own hash, with the values that its tests have.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (place, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * place);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[test]
fn the_hash_is_that_of_java() {
    assert_eq!(murmur2(b"21") as i32, -973_932_308);
    assert_eq!(murmur2(b"foobar") as i32, -790_332_482);
    assert_eq!(murmur2(b"abc") as i32, 479_470_107);
}

#[test]
fn at_least_once_says_which_message_it_is() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "at-least-once", 1);
    let spec = SinkSpec { checkpoints: false, ..spec(&brokers, &topic, &unique("job"), &[("key", "name")]) };
    let mut sink = publisher(&spec);
    assert_eq!(sink.take_over(), Ok(None));
    sink.publish(&[added(3, 0..2)], 3).unwrap();
    sink.publish(&[added(3, 0..2)], 3).unwrap();
    let keys: Vec<String> = consume(&brokers, &topic, "read_committed")
        .iter()
        .map(|message| header(message, "highwater-idempotency-key").to_owned())
        .collect();
    let once = [r#"3/0/{"name":"n0"}"#, r#"3/1/{"name":"n1"}"#];
    assert_eq!(keys, [once, once].concat());
}

#[test]
fn at_least_once_goes_on_after_an_outage() {
    let mut broker = Broker::start();
    let brokers = broker.bootstrap();
    let topic = topic(&brokers, "outage", 1);
    let mut sink = publisher(&SinkSpec { checkpoints: false, ..spec(&brokers, &topic, "job", &[]) });
    sink.take_over().unwrap();
    sink.publish(&[added(1, 0..2)], 1).unwrap();
    broker.stop();
    broker.restart();
    wait("publishing", || match sink.publish(&[added(2, 2..4)], 2) {
        Ok(()) => Some(()),
        Err(error) => (!error.fatal).then_some(()).map_or_else(|| panic!("{error}"), |()| None),
    });
    let mut found: Vec<Option<String>> = consume(&brokers, &topic, "read_committed").into_iter().map(|one| one.value).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 4);
}

#[test]
fn a_row_too_large_is_fatal_and_leaves_nothing() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic_with(&brokers, "large", 1, &[("max.message.bytes", "2000")]);
    let large = "x".repeat(5_000);
    let huge = "x".repeat(2_000_000);
    for (delivery, text) in [("exactly_once", &large), ("exactly_once", &huge), ("at_least_once", &large)] {
        let mut sink = publisher(&spec(&brokers, &topic, &unique("job"), &[("delivery", delivery)]));
        sink.take_over().unwrap();
        let error = sink.publish(&[epoch(1, &[(1, "a", 1), (2, text, 1)])], 1).unwrap_err();
        assert!(error.fatal, "{error}");
        assert!(error.message.contains(&format!("topic '{topic}'")) && error.message.contains("max.message.bytes"), "{error}");
        if delivery == "exactly_once" {
            assert!(consume(&brokers, &topic, "read_committed").is_empty());
            wait("publishing the rest", || sink.publish(&[epoch(1, &[(1, "a", 1)])], 1).ok());
            assert_eq!(consume(&brokers, &topic, "read_committed").len(), 1);
            block_on(admin(&brokers).delete_records(
                &{
                    let mut all = rdkafka::TopicPartitionList::new();
                    all.add_partition_offset(&topic, 0, rdkafka::Offset::End).unwrap();
                    all
                },
                &AdminOptions::new(),
            ))
            .unwrap();
        }
    }
}

#[test]
fn what_cannot_be_published_is_refused_before() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "refused", 1);
    let said = |error: Diagnostic| format!("{}: {}", error.message, error.help.unwrap_or_default());
    let refused = |spec: &SinkSpec| said(KafkaSink.validate(spec).expect_err("it cannot be opened"));
    let plain = |more: &[(&str, &str)]| spec(&brokers, &topic, "job", more);
    for (key, value, expected) in [
        ("format", "xml", "json, changelog, upsert, debezium, avro"),
        ("format", "upsert", "name them with key"),
        ("key", "id,nobody", "there is no 'nobody'"),
        ("key", "id,id", "each column once"),
        ("partitioner", "mine", "murmur2, crc32, fnv1a, random"),
        ("transaction_timeout", "10 ms", "at least 1 second"),
        ("delivery", "twice", "exactly_once or at_least_once"),
        ("progress_topic", &topic, "a topic of its own"),
        ("properties.transactional.id", "x", "no two run at once"),
        ("properties.acks", "1", "all in-sync replicas"),
        ("properties.compression.type", "best", "property 'compression.type' cannot be 'best'"),
        ("topics", "x", "valid options"),
    ] {
        let said = refused(&plain(&[(key, value)]));
        assert!(said.contains(expected), "{key} = {value}: {said}");
    }
    let updating = |key: Option<Vec<usize>>, more: &[(&str, &str)]| SinkSpec { append_only: false, key, ..plain(more) };
    assert!(refused(&updating(None, &[("format", "json")])).contains("upsert, changelog or debezium"));
    let said = refused(&updating(Some(vec![0]), &[("format", "upsert"), ("key", "name")]));
    assert!(said.contains("a row is identified by id"), "{said}");
    for format in ["upsert", "changelog", "debezium"] {
        KafkaSink.validate(&updating(Some(vec![0]), &[("format", format)])).unwrap();
    }
    let missing = unique("missing");
    for _ in 0..2 {
        let error = KafkaSink.validate(&spec(&brokers, &missing, "job", &[])).unwrap_err();
        assert_eq!((error.code, error.message), ("unknown-topic", format!("there is no topic '{missing}'")));
    }
    // Brokers that cannot be reached from where a job is looked at are not its mistake; those of one that is started are.
    let nowhere = spec("127.0.0.1:1", &topic, "job", &[]);
    KafkaSink.validate(&nowhere).unwrap();
    assert_eq!(KafkaSink.open(&nowhere).err().unwrap().code, "broker-unreachable");
    let error = KafkaSink.validate(&SinkSpec { checkpoints: false, ..plain(&[("delivery", "exactly_once")]) });
    assert_eq!(error.unwrap_err().code, "needs-checkpoints");
}

#[test]
fn a_topic_that_is_deleted_is_no_silent_loss() {
    let broker = Broker::start_with(&[("auto.create.topics.enable", "false")]);
    let brokers = broker.bootstrap();
    let topic = topic(&brokers, "gone", 1);
    let mut sink = publisher(&spec(&brokers, &topic, "job", &[("properties.topic.metadata.propagation.max.ms", "1000")]));
    sink.take_over().unwrap();
    sink.publish(&[added(1, 0..1)], 1).unwrap();
    delete_topic(&brokers, &topic);
    let error = wait("an error", || sink.publish(&[added(2, 1..2)], 2).err().filter(|error| error.fatal));
    assert!(error.message.contains(&format!("topic '{topic}'")) && error.message.contains("create it"), "{error}");
}
