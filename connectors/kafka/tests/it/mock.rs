//! What goes wrong between us and brokers, one thing at a time, on brokers that do it when told: librdkafka's own, in this process.
//!
//! They cannot take back what was written in a transaction: what is delivered exactly once is shown on a real broker.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use highwater_connectors::sink::{EpochChanges, PublishError, Publisher};
use highwater_connectors::source::{Offset, PartitionId};
use highwater_kafka::Lines;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use RDKafkaRespErr::*;

use crate::sink::{epoch, publisher, spec};
use crate::support::{PATIENCE, Reading, Stand, Stored, consume, open, produce, rows, unique, values, wait};

type Mock = MockCluster<'static, DefaultProducerContext>;

/// Brokers, and a topic with so many partitions.
fn start(brokers: i32, partitions: i32) -> (Mock, String, String) {
    let mock = MockCluster::new(brokers).unwrap();
    let topic = unique("mocked");
    mock.create_topic(&topic, partitions, brokers).unwrap();
    let addresses = mock.bootstrap_servers();
    (mock, addresses, topic)
}

fn taken_over(brokers: &str, topic: &str, more: &[(&str, &str)]) -> Box<dyn Publisher> {
    let mut sink = publisher(&spec(brokers, topic, &unique("job"), more));
    assert_eq!(sink.take_over(), Ok(None));
    sink
}

const AT_LEAST_ONCE: (&str, &str) = ("delivery", "at_least_once");

fn three(number: u64) -> EpochChanges {
    let first = number as i64 * 10;
    epoch(number, &[(first, "a", 1), (first + 1, "b", 1), (first + 2, "c", 1)])
}

/// Publishes, and again after each error that may pass; gives these.
fn publish(sink: &mut dyn Publisher, number: u64) -> Vec<String> {
    let mut errors = Vec::new();
    wait("publishing", || match sink.publish(&[three(number)], number) {
        Ok(()) => Some(()),
        Err(PublishError { fatal: true, message }) => panic!("{message}, after {errors:?}"),
        Err(error) => {
            errors.push(error.message);
            None
        }
    });
    errors
}

#[test]
fn what_brokers_ask_to_be_tried_again_is() {
    let (mock, brokers, topic) = start(3, 1);
    let mut sink = taken_over(&brokers, &topic, &[AT_LEAST_ONCE]);
    let passing = [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for (number, error) in passing.into_iter().enumerate() {
        mock.request_errors(RDKafkaApiKey::Produce, &[error, error]);
        assert_eq!(publish(&mut *sink, number as u64), Vec::<String>::new(), "{error:?}");
    }
    assert_eq!(values(&brokers, &topic, "read_committed").len(), 3 * passing.len());
}

#[test]
fn what_no_waiting_changes_ends_the_sink() {
    let (mock, brokers, topic) = start(1, 1);
    let cases = [
        (RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "give the user of the sink that right"),
        (RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "raise the topic's max.message.bytes"),
        (RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "the brokers refuse a row"),
    ];
    for (code, remedy) in cases {
        let mut sink = taken_over(&brokers, &topic, &[AT_LEAST_ONCE]);
        mock.request_errors(RDKafkaApiKey::Produce, &[code; 8]);
        let error = sink.publish(&[three(1)], 1).unwrap_err();
        mock.clear_request_errors(RDKafkaApiKey::Produce);
        assert!(error.fatal && error.message.contains(remedy), "{error}");
        assert!(error.message.contains(&format!("topic '{topic}'")), "{error}");
    }
}

#[test]
fn who_writes_lines_is_told_which_were_not_written() {
    let (mock, brokers, topic) = start(1, 1);
    let lines = Lines::new(&brokers, &[]).unwrap();
    let write = |text: &[u8]| lines.write(&topic, text, None, |_| {});
    assert_eq!(write(b"a\n\nb\n"), Ok(2));
    mock.request_errors(RDKafkaApiKey::Produce, &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 8]);
    let error = write(b"c\nd\n").unwrap_err();
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    // It stops where it learns of it.
    let all = ["1 of 1 messages of the first 1", "2 of 2 messages of the first 2"];
    assert!(all.iter().any(|all| error.starts_with(&format!("{all} lines were not written to topic '{topic}'"))), "{error}");
    assert!(error.contains("authorization failed"), "{error}");
    let error = write(b"e\n\xff\nf\n").unwrap_err();
    assert!(error.starts_with("line 2: "), "{error}");
    assert!(error.ends_with(&format!("; messages written to topic '{topic}' before it: 1")), "{error}");
    assert_eq!(values(&brokers, &topic, "read_committed"), ["a", "b", "e"]);
}

#[test]
fn a_lost_acknowledgement_repeats_messages_with_their_idempotency_keys() {
    let (mock, brokers, topic) = start(1, 1);
    let mut sink = taken_over(&brokers, &topic, &[AT_LEAST_ONCE, ("properties.socket.timeout.ms", "1000")]);
    publish(&mut *sink, 1);
    // The broker writes, and its answer comes too late.
    mock.broker_round_trip_time(-1, Duration::from_secs(3)).unwrap();
    let (told, done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let errors = publish(&mut *sink, 2);
        told.send(()).unwrap();
        publish(&mut *sink, 3);
        errors
    });
    assert!(done.recv_timeout(Duration::from_millis(2_500)).is_err(), "it knows of nothing yet");
    mock.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    thread.join().unwrap();
    let stored = consume(&brokers, &topic, "read_committed");
    let key = |message: &Stored| {
        let header = message.headers.iter().find(|(name, _)| name == "highwater-idempotency-key");
        (header.unwrap().1.clone(), message.value.clone())
    };
    let distinct: BTreeSet<_> = stored.iter().map(key).collect();
    assert_eq!(distinct.len(), 9, "each row has one key, however often it came: {distinct:?}");
    assert_eq!(distinct.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len(), 9);
}

#[test]
fn a_sink_follows_its_partitions_leader() {
    let (mock, brokers, topic) = start(3, 1);
    let mut sink = taken_over(&brokers, &topic, &[AT_LEAST_ONCE]);
    for (number, leader) in [1, 2, 3, 1].into_iter().enumerate() {
        mock.partition_leader(&topic, 0, Some(leader)).unwrap();
        assert_eq!(publish(&mut *sink, number as u64), Vec::<String>::new());
    }
    assert_eq!(values(&brokers, &topic, "read_committed").len(), 12);
}

#[test]
fn coordinators_that_are_away_are_waited_for() {
    let (mock, brokers, topic) = start(3, 1);
    let away = [RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS];
    // Of producers, which have a number by which what they send again is known.
    let mut sink = taken_over(&brokers, &topic, &[AT_LEAST_ONCE]);
    mock.request_errors(RDKafkaApiKey::InitProducerId, &away);
    assert_eq!(publish(&mut *sink, 1), Vec::<String>::new());
    // Of groups.
    let options = [("group", "told"), ("start", "committed")];
    let source = open(&brokers, &topic, &options);
    mock.request_errors(RDKafkaApiKey::FindCoordinator, &[away[0], away[0]]);
    mock.request_errors(RDKafkaApiKey::OffsetFetch, &away);
    let mut said = Vec::new();
    wait("where the group stands", || match source.read(&PartitionId::new("0"), None, Arc::new(|| {})) {
        Err(error) if error.fatal => panic!("{error}"),
        Err(error) => {
            said.push(error.message);
            None
        }
        Ok(_) => Some(()),
    });
    assert!(said.iter().all(|said| said.contains("looking where reading starts") && said.contains("oordinator")), "{said:?}");
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    assert_eq!(reading.ids, [10, 11, 12]);
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &away);
    source.committed(&[(PartitionId::new("0"), Offset::new(2))]);
    wait("the group to be told", || {
        let mut reading = Reading::of(&*open(&brokers, &topic, &options), "0", None);
        reading.until(Stand::AtEnd);
        (reading.ids == [12]).then_some(())
    });
}

#[test]
fn a_source_follows_its_partitions_leader_and_waits_for_one() {
    let (mock, brokers, topic) = start(3, 1);
    mock.partition_leader(&topic, 0, Some(1)).unwrap();
    produce(&brokers, &topic, 0, rows(0..5));
    let source = open(&brokers, &topic, &[("properties.topic.metadata.refresh.interval.ms", "500")]);
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    mock.partition_leader(&topic, 0, Some(2)).unwrap();
    produce(&brokers, &topic, 0, rows(5..10));
    reading.until_rows(10);
    // One that is away.
    mock.partition_leader(&topic, 0, Some(3)).unwrap();
    mock.broker_down(3).unwrap();
    reading.until(Stand::Failed);
    let said = reading.errors.last().unwrap().clone();
    assert!(said.contains(&format!("partition 0 of topic '{topic}'")), "{said}");
    mock.broker_up(3).unwrap();
    produce(&brokers, &topic, 0, rows(10..15));
    reading.until_rows(15);
    assert_eq!(reading.ids, (0..15).collect::<Vec<_>>());
}

#[test]
fn errors_while_fetching_lose_nothing() {
    let (mock, brokers, topic) = start(1, 1);
    produce(&brokers, &topic, 0, rows(0..5));
    let source = open(&brokers, &topic, &[]);
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    let passing = [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        // Looked at: the log has that offset.
        RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    for (number, error) in passing.into_iter().enumerate() {
        let first = number as i64 * 5 + 5;
        mock.request_errors(RDKafkaApiKey::Fetch, &[error, error]);
        produce(&brokers, &topic, 0, rows(first..first + 5));
        wait(&format!("rows after {error:?}"), || {
            reading.step().unwrap_or_else(|error| panic!("{error}"));
            (reading.ids.len() >= first as usize + 5).then_some(())
        });
        assert_eq!(reading.ids, (0..first + 5).collect::<Vec<_>>(), "{error:?}");
    }
}

#[test]
fn a_user_who_may_not_read_is_told() {
    let (mock, brokers, topic) = start(1, 1);
    produce(&brokers, &topic, 0, rows(0..5));
    let source = open(&brokers, &topic, &[]);
    mock.request_errors(RDKafkaApiKey::Fetch, &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 16]);
    let said = Reading::of(&*source, "0", None).until_fatal();
    assert!(said.contains(&format!("topic '{topic}'")) && said.contains("the right to read the topic"), "{said}");
}

#[test]
fn a_broker_that_is_away_is_told_and_waited_for() {
    let (mock, brokers, topic) = start(1, 1);
    produce(&brokers, &topic, 0, rows(0..5));
    let source = open(&brokers, &topic, &[]);
    let mut reading = Reading::of(&*source, "0", None);
    reading.until(Stand::AtEnd);
    mock.broker_down(-1).unwrap();
    reading.until(Stand::Failed);
    mock.broker_up(-1).unwrap();
    produce(&brokers, &topic, 0, rows(5..7));
    reading.until_rows(7);
    reading.until(Stand::AtEnd);
    assert_eq!(reading.ids, (0..7).collect::<Vec<_>>());
}

#[test]
fn a_slow_broker_is_no_error() {
    let (mock, brokers, topic) = start(1, 2);
    produce(&brokers, &topic, 1, rows(0..5));
    mock.broker_round_trip_time(-1, Duration::from_millis(300)).unwrap();
    let source = open(&brokers, &topic, &[]);
    let mut reading = Reading::of(&*source, "1", None);
    reading.until_rows(5);
    assert_eq!(reading.errors, Vec::<String>::new());
    let mut sink = taken_over(&brokers, &topic, &[AT_LEAST_ONCE]);
    assert_eq!(publish(&mut *sink, 1), Vec::<String>::new());
}
