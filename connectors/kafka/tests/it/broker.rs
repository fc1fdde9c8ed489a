//! What the broker must show before any test may claim that something is delivered exactly once.

use std::time::Duration;

use highwater_broker::Broker;
use rdkafka::producer::Producer;

use crate::support::{PATIENCE, send, topic, transactional, unique, values};

#[test]
fn a_reader_of_what_is_committed_sees_nothing_else() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "transactions", 1);
    let producer = transactional(&brokers, &unique("a"));
    for (value, commit) in [("committed", Some(true)), ("aborted", Some(false)), ("open", None)] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, 0, None, Some(value));
        producer.flush(PATIENCE).unwrap();
        match commit {
            Some(true) => producer.commit_transaction(PATIENCE).unwrap(),
            Some(false) => producer.abort_transaction(PATIENCE).unwrap(),
            None => {}
        }
    }
    assert_eq!(values(&brokers, &topic, "read_committed"), ["committed"]);
    assert_eq!(values(&brokers, &topic, "read_uncommitted"), ["committed", "aborted", "open"]);
}

#[test]
fn a_fenced_producer_cannot_commit() {
    let brokers = Broker::shared().bootstrap();
    let topic = topic(&brokers, "fenced", 1);
    let id = unique("b");
    let old = transactional(&brokers, &id);
    old.begin_transaction().unwrap();
    send(&old, &topic, 0, None, Some("old"));
    old.flush(PATIENCE).unwrap();
    let new = transactional(&brokers, &id);
    old.commit_transaction(Duration::from_secs(60)).expect_err("it is fenced");
    new.begin_transaction().unwrap();
    send(&new, &topic, 0, None, Some("new"));
    new.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&brokers, &topic, "read_committed"), ["new"]);
}
