//! What the source says when something is missing, wrong or away.

use highwater_broker::Broker;
use highwater_plan::Diagnostic;

use crate::support::{Reading, Stand, cut_log, delete_topic, open, produce, refused, rows, source_spec, topic, unique, wait};

#[test]
fn options_are_refused_with_a_remedy() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "options", 1);
    let said = |error: Diagnostic| format!("{}: {}", error.message, error.help.unwrap_or_default());
    let with = |more: &[(&str, &str)]| said(refused(&source_spec(&brokers, &topic, more)));
    for (key, value, expected) in [
        ("start", "yesterday", "expected earliest, latest, committed, a time"),
        ("start", "7:3", "has no partition 7"),
        ("start", "committed", "an option 'group'"),
        ("isolation", "dirty", "read_committed, read_uncommitted"),
        ("csv.header", "true", "messages have no header"),
        ("key.format", "avro", "json"),
        ("format", "xml", "json, csv, debezium, changelog"),
        ("strat", "latest", "valid options"),
        ("properties.auto.offset.reset", "latest", "say start"),
        ("properties.enable.partition.eof", "false", "idleness"),
        ("properties.fetch.min.bytes", "many", "property 'fetch.min.bytes' cannot be 'many'"),
        ("properties.fetch.minimum", "1", "fetch.minimum"),
        ("properties.sasl.jaas.config", "my password", "property 'sasl.jaas.config' cannot be what it is"),
        #[cfg(not(feature = "tls"))]
        ("properties.security.protocol", "SASL_SSL", "--features tls"),
        #[cfg(not(feature = "tls"))]
        ("properties.sasl.mechanism", "SCRAM-SHA-256", "--features tls"),
        #[cfg(not(feature = "tls"))]
        ("properties.ssl.ca.location", "ca.pem", "--features tls"),
    ] {
        let said = with(&[(key, value)]);
        assert!(said.contains(expected), "{key} = {value}: {said}");
    }
    let missing = unique("missing");
    let error = refused(&source_spec(&brokers, &missing, &[]));
    assert_eq!((error.code, error.message), ("unknown-topic", format!("there is no topic '{missing}'")));
    let again = refused(&source_spec(&brokers, &missing, &[]));
    assert_eq!(again.code, "unknown-topic", "asking does not make it");
    let error = refused(&source_spec("127.0.0.1:1", &topic, &[]));
    assert_eq!(error.code, "broker-unreachable");
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
    // As in Flink.
    open(&brokers, &topic, &[("properties.group.id", "g"), ("properties.fetch.min.bytes", "1")]);
}

#[test]
fn an_offset_that_the_log_does_not_have_is_fatal() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "range", 1);
    produce(&brokers, &topic, 0, rows(0..20));
    cut_log(&brokers, &topic, 0, 10);
    let source = open(&brokers, &topic, &[]);
    let said = Reading::of(&*source, "0", Some("5")).until_fatal();
    assert!(said.contains(&format!("partition 0 of topic '{topic}'")), "{said}");
    assert!(said.contains("offset 5 is not in its log, which has 10 to 20") && said.contains("retention"), "{said}");
    assert!(said.contains("without its checkpoint"), "{said}");
    let source = open(&brokers, &topic, &[]);
    let said = Reading::of(&*source, "0", Some("21")).until_fatal();
    assert!(said.contains("offset 21 is not in its log, which has 10 to 20"), "{said}");
    let source = open(&brokers, &topic, &[]);
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    assert_eq!(reading.ids, (10..20).collect::<Vec<_>>(), "the earliest that there is");
    let mut end = Reading::of(&*open(&brokers, &topic, &[]), "0", Some("20"));
    end.until(Stand::AtEnd);
    assert!(end.ids.is_empty());
}

#[test]
fn a_topic_that_is_deleted_is_fatal() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "deleted", 1);
    produce(&brokers, &topic, 0, rows(0..3));
    let source = open(&brokers, &topic, &[("properties.topic.metadata.refresh.interval.ms", "500")]);
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    delete_topic(&brokers, &topic);
    let said = reading.until_fatal();
    assert!(said.contains(&format!("partition 0 of topic '{topic}'")) && said.contains("the topic was deleted"), "{said}");
    assert_eq!(reading.ids, [0, 1, 2]);
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let mut broker = Broker::start();
    let brokers = broker.bootstrap();
    let topic = topic(&brokers, "away", 2);
    produce(&brokers, &topic, 0, rows(0..3));
    let source = open(&brokers, &topic, &[]);
    let (mut zero, mut empty) = (Reading::of(&*source, "0", None), Reading::of(&*source, "1", None));
    zero.until(Stand::AtEnd);
    empty.until(Stand::AtEnd);
    broker.stop();
    zero.until(Stand::Failed);
    empty.until(Stand::Failed);
    let said = wait("the reason", || {
        zero.step().unwrap();
        zero.errors.last().filter(|said| said.contains(&brokers)).cloned()
    });
    assert!(said.contains(&format!("partition 0 of topic '{topic}'")), "{said}");
    assert_eq!(zero.step(), Ok(Stand::Failed), "as long as it is away");
    broker.restart();
    produce(&brokers, &topic, 0, rows(3..6));
    zero.until_rows(6);
    assert_eq!(zero.ids, [0, 1, 2, 3, 4, 5]);
    zero.until(Stand::AtEnd);
    wait("the end of the other partition", || (empty.step() == Ok(Stand::AtEnd)).then_some(()));
    assert!(empty.ids.is_empty() && zero.rejects.is_empty());
}
